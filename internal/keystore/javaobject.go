package keystore

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// What of Java's serialization (Java Object Serialization Specification, chapter 6) a key needs: objects with fields, byte
// arrays, strings, enums.
const (
	javaStream = "\xAC\xED\x00\x05" // magic and version
	javaHandle = 0x7E0000           // number of the first object in a stream

	tcNull      = 0x70
	tcReference = 0x71
	tcClassDesc = 0x72
	tcObject    = 0x73
	tcString    = 0x74
	tcArray     = 0x75
	tcBlockData = 0x77
	tcEndBlock  = 0x78
	tcEnum      = 0x7E

	scWriteMethod  = 1 // the class wrote something of its own behind its fields
	scSerializable = 2
)

// maxJavaDepth bounds how deep objects, and superclasses, may be nested.
const maxJavaDepth = 32

var errJava = errors.New("malformed Java data")

// javaClass is a class's description.
type javaClass struct {
	name   string
	flags  byte
	fields []javaField
	super  *javaClass
}

type javaField struct {
	typ  byte
	name string
}

// javaObject is an object: its fields, those of superclasses included, are nil, string, []byte, javaEnum or *javaObject;
// primitive ones are left out.
type javaObject struct {
	class  *javaClass
	fields map[string]any
}

// javaEnum is an enum's constant.
type javaEnum string

// javaReader reads one stream.
type javaReader struct {
	b       []byte
	handles []any
	depth   int
}

// readJavaObject reads the stream of one object at the beginning of b, and returns what follows it.
func readJavaObject(b []byte) (*javaObject, []byte, error) {
	if len(b) < len(javaStream) || string(b[:len(javaStream)]) != javaStream {
		return nil, nil, fmt.Errorf("%w: it does not begin as one", errJava)
	}
	r := javaReader{b: b[len(javaStream):]}
	v, err := r.content()
	if err != nil {
		return nil, nil, err
	}
	o, ok := v.(*javaObject)
	if !ok {
		return nil, nil, fmt.Errorf("%w: a %T", errJava, v)
	}
	return o, r.b, nil
}

func (r *javaReader) take(n int) ([]byte, error) {
	if n < 0 || n > len(r.b) {
		return nil, fmt.Errorf("%w: %d bytes where %d are left", errJava, n, len(r.b))
	}
	b := r.b[:n:n]
	r.b = r.b[n:]
	return b, nil
}

// number reads an unsigned number of n bytes.
func (r *javaReader) number(n int) (int, error) {
	b, err := r.take(n)
	if err != nil {
		return 0, err
	}
	var v [8]byte
	copy(v[8-n:], b)
	return int(binary.BigEndian.Uint64(v[:])), nil
}

// utf reads a string. What of it is not ASCII nobody asks for, so that it may be Java's own UTF-8.
func (r *javaReader) utf() (string, error) {
	n, err := r.number(2)
	if err != nil {
		return "", err
	}
	b, err := r.take(n)
	return string(b), err
}

// content reads the next object, class, string or reference.
func (r *javaReader) content() (any, error) {
	if r.depth++; r.depth > maxJavaDepth {
		return nil, fmt.Errorf("%w: nested deeper than %d", errJava, maxJavaDepth)
	}
	defer func() { r.depth-- }()
	tc, err := r.number(1)
	if err != nil {
		return nil, err
	}
	switch tc {
	case tcNull:
		return nil, nil
	case tcReference:
		n, err := r.number(4)
		if err == nil && (n < javaHandle || n-javaHandle >= len(r.handles)) {
			err = fmt.Errorf("%w: reference to object %x", errJava, n)
		}
		if err != nil {
			return nil, err
		}
		return r.handles[n-javaHandle], nil
	case tcClassDesc:
		return r.class()
	case tcObject:
		return r.object()
	case tcString:
		s, err := r.utf()
		r.handles = append(r.handles, s)
		return s, err
	case tcArray:
		return r.array()
	case tcEnum:
		if _, err := r.classDesc(); err != nil {
			return nil, err
		}
		at := len(r.handles)
		r.handles = append(r.handles, nil)
		name, err := r.content()
		if err != nil {
			return nil, err
		}
		s, ok := name.(string)
		if !ok {
			return nil, fmt.Errorf("%w: an enum named by a %T", errJava, name)
		}
		r.handles[at] = javaEnum(s)
		return javaEnum(s), nil
	}
	return nil, fmt.Errorf("%w: element of type %02x", errJava, tc)
}

func (r *javaReader) class() (*javaClass, error) {
	c := new(javaClass)
	var err error
	if c.name, err = r.utf(); err != nil {
		return nil, err
	}
	if _, err = r.take(8); err != nil { // serialVersionUID
		return nil, err
	}
	r.handles = append(r.handles, c)
	flags, err := r.number(1)
	if err != nil {
		return nil, err
	}
	c.flags = byte(flags)
	n, err := r.number(2)
	if err != nil {
		return nil, err
	}
	for range n {
		typ, err := r.number(1)
		if err != nil {
			return nil, err
		}
		f := javaField{typ: byte(typ)}
		if f.name, err = r.utf(); err != nil {
			return nil, err
		}
		if f.typ == '[' || f.typ == 'L' {
			if _, err := r.content(); err != nil { // the type's name
				return nil, err
			}
		}
		c.fields = append(c.fields, f)
	}
	if err := r.annotation(); err != nil {
		return nil, err
	}
	c.super, err = r.classDesc()
	return c, err
}

// classDesc reads a class, a reference to one, or null.
func (r *javaReader) classDesc() (*javaClass, error) {
	v, err := r.content()
	if err != nil || v == nil {
		return nil, err
	}
	c, ok := v.(*javaClass)
	if !ok {
		return nil, fmt.Errorf("%w: a %T for a class", errJava, v)
	}
	return c, nil
}

// annotation passes over what a class wrote of its own.
func (r *javaReader) annotation() error {
	for {
		switch {
		case len(r.b) > 0 && r.b[0] == tcEndBlock:
			r.b = r.b[1:]
			return nil
		case len(r.b) > 1 && r.b[0] == tcBlockData:
			if _, err := r.take(2 + int(r.b[1])); err != nil {
				return err
			}
		default:
			if _, err := r.content(); err != nil {
				return err
			}
		}
	}
}

func (r *javaReader) object() (*javaObject, error) {
	c, err := r.classDesc()
	if err != nil {
		return nil, err
	}
	o := &javaObject{class: c, fields: map[string]any{}}
	r.handles = append(r.handles, o)
	var chain []*javaClass
	for ; c != nil; c = c.super {
		if chain = append(chain, c); len(chain) > maxJavaDepth {
			return nil, fmt.Errorf("%w: more than %d superclasses", errJava, maxJavaDepth)
		}
	}
	for i := len(chain) - 1; i >= 0; i-- { // superclasses first
		c := chain[i]
		if c.flags&scSerializable == 0 {
			return nil, fmt.Errorf("%w: class %q is written in a way of its own", errJava, c.name)
		}
		for _, f := range c.fields {
			if err := r.field(o, f); err != nil {
				return nil, err
			}
		}
		if c.flags&scWriteMethod != 0 {
			if err := r.annotation(); err != nil {
				return nil, err
			}
		}
	}
	return o, nil
}

func (r *javaReader) field(o *javaObject, f javaField) error {
	size := 0
	switch f.typ {
	case '[', 'L':
		v, err := r.content()
		o.fields[f.name] = v
		return err
	case 'B', 'Z':
		size = 1
	case 'C', 'S':
		size = 2
	case 'F', 'I':
		size = 4
	case 'D', 'J':
		size = 8
	default:
		return fmt.Errorf("%w: field of type %02x", errJava, f.typ)
	}
	_, err := r.take(size)
	return err
}

func (r *javaReader) array() ([]byte, error) {
	c, err := r.classDesc()
	if err != nil {
		return nil, err
	}
	if c == nil || c.name != "[B" {
		return nil, fmt.Errorf("%w: an array of something else than bytes", errJava)
	}
	at := len(r.handles)
	r.handles = append(r.handles, nil)
	n, err := r.number(4)
	if err != nil {
		return nil, err
	}
	b, err := r.take(n)
	if err == nil {
		r.handles[at] = b
	}
	return b, err
}
