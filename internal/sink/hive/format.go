package hive

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/sluice-data/sluice/internal/metastore"
)

// column is a column that is kept in the files.
type column struct {
	name string // in lower case, as Hive has it
	*typ
}

// cell is a value; the zero cell is NULL.
type cell struct {
	set   bool
	text  []byte // of a primitive type; base64 for binary
	parts []cell // of a nested type: the elements of an array, the keys and values of a map in turn, the fields of a struct
}

func textCell(p []byte) cell { return cell{set: true, text: p} }

// format writes rows as the table's SerDe reads them.
type format interface {
	// appendRow appends a row, with its line end. cells are in the order of the columns.
	appendRow(dst []byte, cells []cell) ([]byte, error)
}

const (
	lazySimple = "org.apache.hadoop.hive.serde2.lazy.LazySimpleSerDe"
	hiveJSON   = "org.apache.hadoop.hive.serde2.JsonSerDe"
	hcatJSON   = "org.apache.hive.hcatalog.data.JsonSerDe"
	textInput  = "org.apache.hadoop.mapred.TextInputFormat"
)

// newFormat finds out how rows of a table or a partition are written.
func newFormat(s *metastore.Storage) ([]column, format, error) {
	if s.InputFormat != textInput {
		return nil, nil, fmt.Errorf("its files are read by %s, and only tables STORED AS TEXTFILE or JSONFILE can be written: %s", short(s.InputFormat), wayRound)
	}
	cols := make([]column, len(s.Columns))
	for i, f := range s.Columns {
		t, err := parseType(f.Type)
		if err != nil {
			return nil, nil, fmt.Errorf("column %s: %w", f.Name, err)
		}
		cols[i] = column{strings.ToLower(f.Name), t}
	}
	switch s.SerDe {
	case lazySimple:
		f, err := newTextFormat(cols, s.Parameters)
		return cols, f, err
	case hiveJSON, hcatJSON:
		return cols, jsonFormat{cols}, nil
	}
	return nil, nil, fmt.Errorf("its rows are read by %s, and only Hive's text (ROW FORMAT DELIMITED) and JSON tables can be written: %s", short(s.SerDe), wayRound)
}

func short(class string) string {
	return class[strings.LastIndexByte(class, '.')+1:]
}

// textFormat is that of LazySimpleSerDe: separators for each level of nesting, \N for NULL.
type textFormat struct {
	cols    []column
	seps    [maxDepth + 2]byte
	null    []byte
	escape  byte // 0: nothing is escaped
	crlf    bool // with escape: line ends are escaped as well
	special [256]bool
}

func newTextFormat(cols []column, params map[string]string) (*textFormat, error) {
	f := &textFormat{cols: cols, null: []byte(`\N`)}
	for i := range f.seps {
		f.seps[i] = byte(i + 1)
	}
	// LazyUtils.getByte: a character, or its number.
	byteOf := func(p *byte, keys ...string) error {
		for _, k := range keys {
			v, ok := params[k]
			if !ok || v == "" {
				continue
			}
			if n, err := strconv.ParseInt(v, 10, 8); err == nil {
				*p = byte(n)
			} else if c, size := utf8.DecodeRuneInString(v); size == len(v) && c < 0x80 {
				*p = v[0]
			} else {
				return fmt.Errorf("its %s %q is not one byte", k, v)
			}
			return nil
		}
		return nil
	}
	if err := errors.Join(
		byteOf(&f.seps[0], "field.delim", "serialization.format"),
		byteOf(&f.seps[1], "collection.delim", "colelction.delim"), // misspelt in Hive before 3
		byteOf(&f.seps[2], "mapkey.delim"),
		byteOf(&f.escape, "escape.delim"),
	); err != nil {
		return nil, err
	}
	if v, ok := params["serialization.null.format"]; ok {
		f.null = []byte(v)
	}
	if v := params["serialization.encoding"]; v != "" && !strings.EqualFold(v, "utf-8") {
		return nil, fmt.Errorf("its serialization.encoding %q is not UTF-8", v)
	}
	if v := params["line.delim"]; v != "" && v != "\n" && v != "10" {
		return nil, fmt.Errorf("its line.delim %q is not a line end", v)
	}
	if strings.EqualFold(params["serialization.last.column.takes.rest"], "true") {
		return nil, errors.New("serialization.last.column.takes.rest is not supported")
	}
	f.crlf = f.escape != 0 && strings.EqualFold(params["serialization.escape.crlf"], "true")
	f.special['\n'], f.special['\r'] = true, true
	if f.escape != 0 {
		f.special[f.escape] = true
	}
	depth := 0
	for _, c := range cols {
		depth = max(depth, c.depth())
	}
	if depth >= len(f.seps) {
		return nil, errors.New("its columns are nested too deep for a text table")
	}
	for _, sep := range f.seps[:depth+1] {
		if f.special[sep] {
			return nil, fmt.Errorf("two of its delimiters are the same (%q)", sep)
		}
		f.special[sep] = true
	}
	return f, nil
}

// depth is the number of separators that a value of the type needs.
func (t *typ) depth() int {
	d := 0
	for _, e := range t.elems {
		d = max(d, e.depth())
	}
	switch t.kind {
	case list, structure:
		d++
	case mapping:
		d += 2
	}
	return d
}

func (f *textFormat) appendRow(dst []byte, cells []cell) ([]byte, error) {
	for i, c := range cells {
		if i > 0 {
			dst = append(dst, f.seps[0])
		}
		var err error
		if dst, err = f.append(dst, c, f.cols[i].typ, 1); err != nil {
			return nil, fmt.Errorf("column %s: %w", f.cols[i].name, err)
		}
	}
	return append(dst, '\n'), nil
}

func (f *textFormat) append(dst []byte, c cell, t *typ, level int) (_ []byte, err error) {
	if !c.set {
		return append(dst, f.null...), nil
	}
	if t.kind < list {
		return f.primitive(dst, c.text)
	}
	sep, next := f.seps[level], level+1
	if t.kind == mapping {
		next++
	}
	for i, e := range c.parts {
		elem := t.elems[0]
		switch t.kind {
		case mapping:
			elem = t.elems[i%2]
		case structure:
			elem = t.elems[i]
		}
		if i > 0 {
			s := sep
			if t.kind == mapping && i%2 == 1 {
				s = f.seps[level+1]
			}
			dst = append(dst, s)
		}
		if dst, err = f.append(dst, e, elem, next); err != nil {
			return nil, err
		}
	}
	return dst, nil
}

func (f *textFormat) primitive(dst, p []byte) ([]byte, error) {
	i := slices.IndexFunc(p, func(b byte) bool { return f.special[b] })
	if i < 0 {
		return append(dst, p...), nil
	}
	for _, b := range p {
		switch {
		case !f.special[b]:
		case f.escape == 0:
			return nil, fmt.Errorf("the value has a %q, which ends a field or a line of the table, and the table has no ESCAPED BY", b)
		case (b == '\n' || b == '\r') && !f.crlf:
			return nil, fmt.Errorf("the value has a line end, and the table has no serialization.escape.crlf = true")
		case b == '\n':
			dst, b = append(dst, f.escape), 'n'
		case b == '\r':
			dst, b = append(dst, f.escape), 'r'
		default:
			dst = append(dst, f.escape)
		}
		dst = append(dst, b)
	}
	return dst, nil
}

// jsonFormat is an object in a line.
type jsonFormat struct{ cols []column }

func (f jsonFormat) appendRow(dst []byte, cells []cell) (_ []byte, err error) {
	sep := byte('{')
	for i, c := range cells {
		if !c.set {
			continue // a column that is not there is NULL
		}
		dst = appendJSONString(append(dst, sep), []byte(f.cols[i].name))
		sep = ','
		if dst, err = appendJSON(append(dst, ':'), c, f.cols[i].typ); err != nil {
			return nil, fmt.Errorf("column %s: %w", f.cols[i].name, err)
		}
	}
	if sep == '{' {
		dst = append(dst, sep)
	}
	return append(dst, "}\n"...), nil
}

func appendJSON(dst []byte, c cell, t *typ) (_ []byte, err error) {
	if !c.set {
		return append(dst, "null"...), nil
	}
	switch t.kind {
	case number:
		p := c.text
		// White space around it is valid, but a line end would cut the row.
		if !json.Valid(p) || p[0] != '-' && (p[0] < '0' || p[0] > '9') || p[len(p)-1] <= ' ' {
			return nil, fmt.Errorf("%.40q is no %s", p, t.name)
		}
		return append(dst, p...), nil
	case boolean:
		p := strings.ToLower(string(c.text))
		if p != "true" && p != "false" {
			return nil, fmt.Errorf("%.40q is no boolean", p)
		}
		return append(dst, p...), nil
	case text:
		return appendJSONString(dst, c.text), nil
	case binary: // the SerDe takes the bytes of the string itself
		p, err := base64.StdEncoding.DecodeString(string(c.text))
		if err != nil {
			return nil, fmt.Errorf("the binary value is not base64: %w", err)
		}
		return appendJSONString(dst, p), nil
	}
	first, last := byte('['), byte(']')
	if t.kind != list {
		first, last = '{', '}'
	}
	dst = append(dst, first)
	for i, e := range c.parts {
		elem := t.elems[0]
		if i > 0 && (t.kind != mapping || i%2 == 0) {
			dst = append(dst, ',')
		}
		switch t.kind {
		case mapping:
			if elem = t.elems[i%2]; i%2 == 0 { // a key is always a string
				if !e.set {
					return nil, errors.New("a map has a key that is null")
				}
				dst = append(appendJSONString(dst, e.text), ':')
				continue
			}
		case structure:
			elem = t.elems[i]
			dst = append(appendJSONString(dst, []byte(t.names[i])), ':')
		}
		if dst, err = appendJSON(dst, e, elem); err != nil {
			return nil, err
		}
	}
	return append(dst, last), nil
}

// appendJSONString replaces what is no UTF-8, for which JSON has no form.
func appendJSONString(dst, p []byte) []byte {
	const hex = "0123456789abcdef"
	dst = append(dst, '"')
	for len(p) > 0 {
		c, size := rune(p[0]), 1
		if c >= utf8.RuneSelf {
			c, size = utf8.DecodeRune(p)
		}
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', byte(c))
		case c == '\n':
			dst = append(dst, `\n`...)
		case c < 0x20:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		default:
			dst = utf8.AppendRune(dst, c)
		}
		p = p[size:]
	}
	return append(dst, '"')
}
