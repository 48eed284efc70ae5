package metastore

import (
	"cmp"
	"context"
	"fmt"

	"github.com/apache/thrift/lib/go/thrift"
)

// writer is a struct that is only sent.
type writer struct{ fields func(*out) }

func (w writer) Write(ctx context.Context, p thrift.TProtocol) error {
	o := &out{ctx: ctx, p: p}
	o.body(func() { w.fields(o) })
	return o.err
}

func (w writer) Read(context.Context, thrift.TProtocol) error {
	return fmt.Errorf("BUG: a request is read")
}

// out writes fields. Its first error stays.
type out struct {
	ctx context.Context
	p   thrift.TProtocol
	err error
}

func (o *out) do(err error) bool {
	if o.err == nil {
		o.err = err
	}
	return o.err == nil
}

func (o *out) body(fields func()) {
	if o.do(o.p.WriteStructBegin(o.ctx, "")) {
		fields()
	}
	o.do(o.p.WriteFieldStop(o.ctx))
	o.do(o.p.WriteStructEnd(o.ctx))
}

func (o *out) structure(id int16, fields func()) {
	if o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.STRUCT, id)) {
		o.body(fields)
		o.do(o.p.WriteFieldEnd(o.ctx))
	}
}

func (o *out) str(id int16, s string) {
	if o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.STRING, id)) {
		o.do(o.p.WriteString(o.ctx, s))
		o.do(o.p.WriteFieldEnd(o.ctx))
	}
}

func (o *out) i16(id int16, n int16) {
	if o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.I16, id)) {
		o.do(o.p.WriteI16(o.ctx, n))
		o.do(o.p.WriteFieldEnd(o.ctx))
	}
}

func (o *out) list(id int16, list []string) {
	if !o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.LIST, id)) || !o.do(o.p.WriteListBegin(o.ctx, thrift.STRING, len(list))) {
		return
	}
	for _, s := range list {
		o.do(o.p.WriteString(o.ctx, s))
	}
	o.do(o.p.WriteListEnd(o.ctx))
	o.do(o.p.WriteFieldEnd(o.ctx))
}

// result is the answer to a call: field 0 is its value, the others are the exceptions that the method declares, all of
// which have their message in field 1.
type result struct {
	value            func(*in)
	kind             thrift.TType // of the value; 0: a struct
	notFound, exists int16        // which exception says so; 0: none
	err              error
	seen             bool
}

func (r *result) Write(context.Context, thrift.TProtocol) error {
	return fmt.Errorf("BUG: an answer is sent")
}

func (r *result) Read(ctx context.Context, p thrift.TProtocol) error {
	i := &in{ctx: ctx, p: p}
	i.fields(func(id int16, typ thrift.TType) bool {
		if id == 0 && typ == cmp.Or(r.kind, thrift.STRUCT) {
			r.seen = true
			r.value(i)
			return true
		}
		if id == 0 || typ != thrift.STRUCT {
			return false
		}
		r.seen = true
		var message string
		i.structure(map[at]func(){{1, thrift.STRING}: func() { message = i.str() }})
		switch id {
		case r.notFound:
			r.err = fmt.Errorf("%w: %s", ErrNotFound, message)
		case r.exists:
			r.err = fmt.Errorf("%w: %s", ErrExists, message)
		default:
			r.err = fmt.Errorf("the metastore refuses: %s", message)
		}
		return true
	})
	if i.err == nil && !r.seen {
		return fmt.Errorf("the metastore's answer is empty")
	}
	return i.err
}

// in reads fields. Its first error stays, and ends all loops.
type in struct {
	ctx context.Context
	p   thrift.TProtocol
	err error
}

func (i *in) do(err error) bool {
	if i.err == nil {
		i.err = err
	}
	return i.err == nil
}

// fields calls read for each field; those that it does not read are skipped.
func (i *in) fields(read func(id int16, typ thrift.TType) bool) {
	if _, err := i.p.ReadStructBegin(i.ctx); !i.do(err) {
		return
	}
	for i.err == nil {
		_, typ, id, err := i.p.ReadFieldBegin(i.ctx)
		if !i.do(err) || typ == thrift.STOP {
			break
		}
		if !read(id, typ) {
			i.do(i.p.Skip(i.ctx, typ))
		}
		i.do(i.p.ReadFieldEnd(i.ctx))
	}
	i.do(i.p.ReadStructEnd(i.ctx))
}

// at is a field: its number and its type.
type at struct {
	id  int16
	typ thrift.TType
}

// structure reads the fields that by knows.
func (i *in) structure(by map[at]func()) {
	i.fields(func(id int16, typ thrift.TType) bool {
		f := by[at{id, typ}]
		if f == nil {
			return false
		}
		f()
		return true
	})
}

func (i *in) str() string {
	s, err := i.p.ReadString(i.ctx)
	i.do(err)
	return s
}

func (i *in) strings() map[string]string {
	_, _, n, err := i.p.ReadMapBegin(i.ctx)
	if !i.do(err) || !i.bound(n) {
		return nil
	}
	m := map[string]string{}
	for ; n > 0 && i.err == nil; n-- {
		k := i.str()
		m[k] = i.str()
	}
	i.do(i.p.ReadMapEnd(i.ctx))
	return m
}

// maxItems is how many elements a list or a map may have. An element may be a byte on the wire and much more in memory.
const maxItems = 1 << 20

func (i *in) bound(n int) bool {
	if n > maxItems {
		return i.do(fmt.Errorf("the metastore's answer has a list of %d elements", n))
	}
	return true
}

func list[T any](i *in, read func() T) (all []T) {
	_, n, err := i.p.ReadListBegin(i.ctx)
	_ = i.do(err) && i.bound(n)
	for ; n > 0 && i.err == nil; n-- {
		all = append(all, read())
	}
	i.do(i.p.ReadListEnd(i.ctx))
	return all
}

func (i *in) columns() []Field {
	return list(i, func() (f Field) {
		i.structure(map[at]func(){{1, thrift.STRING}: func() { f.Name = i.str() }, {2, thrift.STRING}: func() { f.Type = i.str() }})
		return f
	})
}

func (i *in) storage(s *Storage) {
	i.structure(map[at]func(){
		{1, thrift.LIST}:   func() { s.Columns = i.columns() },
		{2, thrift.STRING}: func() { s.Location = i.str() },
		{3, thrift.STRING}: func() { s.InputFormat = i.str() },
		{4, thrift.STRING}: func() { s.OutputFormat = i.str() },
		{7, thrift.STRUCT}: func() {
			i.structure(map[at]func(){
				{2, thrift.STRING}: func() { s.SerDe = i.str() },
				{3, thrift.MAP}:    func() { s.Parameters = i.strings() },
			})
		},
		{8, thrift.LIST}: func() { s.Buckets = list(i, i.str) },
	})
}

func (i *in) table(t *Table) {
	i.structure(map[at]func(){
		{7, thrift.STRUCT}:  func() { i.storage(&t.Storage) },
		{8, thrift.LIST}:    func() { t.Keys = i.columns() },
		{9, thrift.MAP}:     func() { t.Properties = i.strings() },
		{12, thrift.STRING}: func() { t.Type = i.str() },
	})
}

func (i *in) partition(s *Storage) {
	i.structure(map[at]func(){{6, thrift.STRUCT}: func() { i.storage(s) }})
}
