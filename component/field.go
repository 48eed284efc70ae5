package component

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Effect says what a declared property does here.
type Effect uint8

// The effects.
const (
	Honoured Effect = iota
	// NoEffect: accepted, because agent files have it, and says so.
	NoEffect
	// Refused: setting it is an error that gives the reason.
	Refused
)

func (e Effect) String() string {
	return [...]string{"honoured", "no effect", "refused"}[e]
}

// Field is the declaration of one property. Make one with String, Int, Bool
// and so on, which bind it to a variable and set that to the default.
type Field struct {
	Key      string // or, for Map and Part, the prefix with its last dot
	Type     string // string, int, long, bool, duration, bytes, enum, list, map, regex, path, class
	Default  string // as it would stand in the file; "" where there is none
	Unit     string // ms, s, events, bytes, …
	Doc      string // one sentence or two
	Required bool
	OldKeys  []string // deprecated names, which still work and warn
	Values   []string // of an enum
	Effect   Effect
	Reason   string // why Refused or NoEffect

	min, max *int64
	lenient  bool
	prefix   bool
	partKind Kind                         // Part: the kind that the value names
	partKeys string                       // Part: the prefix of its own properties
	setPart  func(Config)                 //
	set      func(text string) error      // nil: nothing to set
	setMap   func(key, text string) error // Map
}

// Required marks the property as one without which the component is dropped.
func (f Field) Require() Field { f.Required = true; return f }

// Describe sets the documentation.
func (f Field) Describe(doc string) Field { f.Doc = doc; return f }

// In sets the unit.
func (f Field) In(unit string) Field { f.Unit = unit; return f }

// Old names deprecated keys of the same property. The key itself wins where
// both are set.
func (f Field) Old(keys ...string) Field { f.OldKeys = append(f.OldKeys, keys...); return f }

// AsType overrides the documented type (a String that holds a path, say).
func (f Field) AsType(t string) Field { f.Type = t; return f }

// AsDefault describes a default that is computed from the machine, where the
// number itself would be another one elsewhere.
func (f Field) AsDefault(text string) Field { f.Default = text; return f }

// Min sets the smallest value of a number.
func (f Field) Min(n int64) Field { f.min = &n; return f }

// Max sets the largest value of a number.
func (f Field) Max(n int64) Field { f.max = &n; return f }

// Lenient makes a bad value fall back to the default with a warning, where
// Flume does so; otherwise a bad value drops the component.
func (f Field) Lenient() Field { f.lenient = true; return f }

// IsPrefix says whether Key is a prefix.
func (f Field) IsPrefix() bool { return f.prefix }

// Limits describes the allowed range, or is empty.
func (f Field) Limits() string {
	switch {
	case f.min != nil && f.max != nil:
		return fmt.Sprintf("%d to %d", *f.min, *f.max)
	case f.min != nil:
		return fmt.Sprintf("at least %d", *f.min)
	case f.max != nil:
		return fmt.Sprintf("at most %d", *f.max)
	}
	return ""
}

// String declares a property taken as it is.
func String(key string, p *string, def string) Field {
	return Value(key, p, "string", def, func(s string) (string, error) { return s, nil })
}

// Value declares a property of any type, decoded by parse, which is also
// applied to a default that is not empty.
func Value[T any](key string, p *T, typ, def string, parse func(string) (T, error)) Field {
	set := func(s string) error {
		v, err := parse(s)
		if err == nil {
			*p = v
		}
		return err
	}
	if def != "" {
		if err := set(def); err != nil {
			panic(fmt.Sprintf("BUG: the default of %s: %v", key, err))
		}
	}
	return Field{Key: key, Type: typ, Default: def, set: set}
}

// Int declares a whole number.
func Int(key string, p *int, def int) Field {
	*p = def
	return Field{Key: key, Type: "int", Default: strconv.Itoa(def), set: func(s string) error {
		n, err := parseInt(s, 32)
		if err == nil {
			*p = int(n)
		}
		return err
	}}
}

// Int64 declares a whole number of 64 bits.
func Int64(key string, p *int64, def int64) Field {
	*p = def
	return Field{Key: key, Type: "long", Default: strconv.FormatInt(def, 10), set: func(s string) error {
		n, err := parseInt(s, 64)
		if err == nil {
			*p = n
		}
		return err
	}}
}

func parseInt(s string, bits int) (int64, error) {
	n, err := strconv.ParseInt(strings.TrimSpace(s), 10, bits)
	if err != nil {
		return 0, fmt.Errorf("%q is not a whole number of %d bits", s, bits)
	}
	return n, nil
}

// Bool declares a switch. As in Flume "true" in any case is true and
// everything else is false; anything but true and false draws a warning.
func Bool(key string, p *bool, def bool) Field {
	*p = def
	return Field{Key: key, Type: "bool", Default: strconv.FormatBool(def), set: func(s string) error {
		*p = strings.EqualFold(strings.TrimSpace(s), "true")
		return nil
	}}
}

// Duration declares a time given as a whole number of unit (Flume has no
// suffixes; "500ms" and "3s" are accepted as well).
func Duration(key string, p *time.Duration, unit, def time.Duration) Field {
	*p = def
	name := map[time.Duration]string{time.Millisecond: "ms", time.Second: "s"}[unit]
	return Field{Key: key, Type: "duration", Unit: name, Default: strconv.FormatInt(int64(def/unit), 10), set: func(s string) error {
		s = strings.TrimSpace(s)
		if n, err := strconv.ParseInt(s, 10, 64); err == nil {
			d := time.Duration(n) * unit
			if d/unit != time.Duration(n) { // more than 292 years
				d = 1<<63 - 1
			}
			*p = d
			return nil
		}
		d, err := time.ParseDuration(s)
		if err != nil {
			return fmt.Errorf("%q is not a whole number of %s", s, name)
		}
		*p = d
		return nil
	}}
}

// Enum declares a property with a fixed set of values, in any case; p gets
// the spelling of values.
func Enum(key string, p *string, def string, values ...string) Field {
	*p = def
	return Field{Key: key, Type: "enum", Default: def, Values: values, set: func(s string) error {
		for _, v := range values {
			if strings.EqualFold(v, strings.TrimSpace(s)) {
				*p = v
				return nil
			}
		}
		return fmt.Errorf("%q is not one of %s", s, strings.Join(values, ", "))
	}}
}

// List declares a list separated by white space.
func List(key string, p *[]string) Field {
	return Value(key, p, "list", "", func(s string) ([]string, error) { return strings.Fields(s), nil })
}

// CommaList declares a list separated by commas, blanks around them dropped.
func CommaList(key string, p *[]string) Field {
	return Value(key, p, "list", "", func(s string) ([]string, error) {
		var l []string
		for e := range strings.SplitSeq(s, ",") {
			if e = strings.TrimSpace(e); e != "" {
				l = append(l, e)
			}
		}
		return l, nil
	})
}

// Map declares all properties below prefix (which ends in a dot); p gets them
// without the prefix. A property that another field declares exactly does not
// get here.
func Map(prefix string, p *map[string]string) Field {
	*p = map[string]string{}
	return Field{Key: prefix, Type: "map", prefix: true, setMap: func(k, v string) error {
		(*p)[k] = v
		return nil
	}}
}

// Part declares a property that names a component type of another kind (a
// serializer, say), whose own properties stand below prefix. p gets its
// configuration, decoded.
func Part(key string, p *Config, kind Kind, prefix, def string) Field {
	return Field{Key: key, Type: "class", Default: def, partKind: kind,
		setPart: func(c Config) { *p = c }, set: func(string) error { return nil },
		partKeys: prefix}
}

// Ignore declares a Flume property that has no effect here, and why.
func Ignore(key, reason string) Field {
	return Field{Key: key, Type: "string", Effect: NoEffect, Reason: reason, prefix: strings.HasSuffix(key, ".")}
}

// Refuse declares a Flume property that cannot be honoured: setting it is an
// error that gives the reason and, best of all, the way round.
func Refuse(key, reason string) Field {
	return Field{Key: key, Type: "string", Effect: Refused, Reason: reason, prefix: strings.HasSuffix(key, ".")}
}
