package hive

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
)

// parser takes an event's body apart into the cells of a row, which it may leave as they are (NULL). They are valid until body is.
type parser interface {
	parse(body []byte, cells []cell) error
}

// delimited is a body with fields, as Flume's DELIMITED serializer takes it.
type delimited struct {
	sep    []byte
	target []int // of each field: the number of its column; -1: left out
	cols   []column
}

func newDelimited(sep string, names []string, cols []column) (*delimited, error) {
	d := &delimited{sep: []byte(sep), cols: cols}
	for _, name := range names {
		name = strings.ToLower(strings.TrimSpace(name))
		if name == "" {
			d.target = append(d.target, -1)
			continue
		}
		i := slices.IndexFunc(cols, func(c column) bool { return c.name == name })
		if i < 0 {
			return nil, fmt.Errorf("the table has no column %q that is kept in its files", name)
		}
		if slices.Contains(d.target, i) {
			return nil, fmt.Errorf("column %q is named twice", name)
		}
		d.target = append(d.target, i)
	}
	return d, nil
}

func (d *delimited) parse(body []byte, cells []cell) error {
	for _, i := range d.target {
		field, rest, more := bytes.Cut(body, d.sep)
		if i >= 0 {
			cells[i] = nested(field, d.cols[i].typ, 2)
		}
		if !more {
			break
		}
		body = rest
	}
	return nil
}

// nested takes apart a value whose parts are separated as LazySimpleSerDe does by itself: \002, \003 and so on by level. \N is NULL.
func nested(p []byte, t *typ, sep byte) cell {
	if string(p) == `\N` {
		return cell{}
	}
	if t.kind < list {
		return textCell(p)
	}
	c := cell{set: true}
	if len(p) == 0 && t.kind != structure {
		return c
	}
	for i, part := range bytes.Split(p, []byte{sep}) {
		switch t.kind {
		case list:
			c.parts = append(c.parts, nested(part, t.elems[0], sep+1))
		case mapping:
			k, v, _ := bytes.Cut(part, []byte{sep + 1})
			c.parts = append(c.parts, textCell(k), nested(v, t.elems[1], sep+2))
		case structure:
			if i < len(t.elems) {
				c.parts = append(c.parts, nested(part, t.elems[i], sep+1))
			}
		}
	}
	for t.kind == structure && len(c.parts) < len(t.elems) {
		c.parts = append(c.parts, cell{})
	}
	return c
}

// object is a body that is a JSON object. Keys that are no column are left out.
type object struct{ cols []column }

func (o object) parse(body []byte, cells []cell) error {
	var m map[string]json.RawMessage
	if err := json.Unmarshal(body, &m); err != nil {
		return fmt.Errorf("the body is no JSON object: %w", err)
	}
	for _, k := range keys(m) {
		i := slices.IndexFunc(o.cols, func(c column) bool { return strings.EqualFold(c.name, k) })
		if i < 0 {
			continue
		}
		c, err := fromJSON(m[k], o.cols[i].typ)
		if err != nil {
			return fmt.Errorf("column %s: %w", o.cols[i].name, err)
		}
		cells[i] = c
	}
	return nil
}

// keys are those of an object in an order of their own: of several that differ only in case the last one counts, and an
// event that is written again must make the same row.
func keys(m map[string]json.RawMessage) []string { return slices.Sorted(maps.Keys(m)) }

func fromJSON(raw json.RawMessage, t *typ) (c cell, err error) {
	if string(raw) == "null" {
		return c, nil
	}
	c.set = true
	mismatch := func() error { return fmt.Errorf("%.40s is no %s", raw, t.name) }
	switch t.kind {
	case list:
		var parts []json.RawMessage
		if json.Unmarshal(raw, &parts) != nil {
			return c, mismatch()
		}
		c.parts = make([]cell, len(parts))
		for i, p := range parts {
			if c.parts[i], err = fromJSON(p, t.elems[0]); err != nil {
				return c, err
			}
		}
		return c, nil
	case mapping, structure:
		var parts map[string]json.RawMessage
		if json.Unmarshal(raw, &parts) != nil {
			return c, mismatch()
		}
		if t.kind == mapping {
			return fromJSONMap(parts, t)
		}
		c.parts = make([]cell, len(t.elems))
		for _, k := range keys(parts) {
			i := slices.IndexFunc(t.names, func(n string) bool { return strings.EqualFold(n, k) })
			if i < 0 {
				continue
			}
			if c.parts[i], err = fromJSON(parts[k], t.elems[i]); err != nil {
				return c, err
			}
		}
		return c, nil
	}
	isString := raw[0] == '"'
	if isString {
		var s string
		if err := json.Unmarshal(raw, &s); err != nil {
			return c, err
		}
		raw = json.RawMessage(s)
	}
	switch {
	case t.kind == binary:
		if !isString {
			return c, mismatch()
		}
		return textCell(base64.StdEncoding.AppendEncode(nil, raw)), nil // the SerDe takes the bytes of the string itself
	case t.kind == number && !isString && raw[0] != '-' && (raw[0] < '0' || raw[0] > '9'),
		t.kind == boolean && !isString && raw[0] != 't' && raw[0] != 'f':
		return c, mismatch()
	}
	return textCell(raw), nil // of a text also what a number or an object looks like
}

func fromJSONMap(parts map[string]json.RawMessage, t *typ) (cell, error) {
	c := cell{set: true, parts: make([]cell, 0, 2*len(parts))}
	for _, k := range keys(parts) {
		v, err := fromJSON(parts[k], t.elems[1])
		if err != nil {
			return c, err
		}
		c.parts = append(c.parts, textCell([]byte(k)), v)
	}
	return c, nil
}
