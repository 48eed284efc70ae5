package hive

import (
	"errors"
	"fmt"
	"strings"
)

// kind is what a type is to a writer of text.
type kind uint8

const (
	text    kind = iota // string, varchar, char, date, timestamp, …: as it is
	number              // tinyint … bigint, float, double, decimal
	boolean             // true or false
	binary              // base64
	list
	mapping
	structure
)

// typ is a column's type.
type typ struct {
	kind  kind
	name  string // as the table has it
	elems []*typ // of a list one, of a mapping its key and value, of a structure its fields
	names []string
}

var primitives = map[string]kind{
	"string": text, "varchar": text, "char": text, "date": text, "timestamp": text, "timestamp with local time zone": text,
	"interval_year_month": text, "interval_day_time": text,
	"tinyint": number, "smallint": number, "int": number, "integer": number, "bigint": number, "float": number, "double": number, "decimal": number,
	"boolean": boolean, "binary": binary,
}

// parseType understands Hive's type strings, such as map<string,array<int>>.
func parseType(s string) (*typ, error) {
	p := typeParser{rest: strings.ToLower(s)}
	t, err := p.parse(0)
	if err == nil && p.rest != "" {
		err = fmt.Errorf("%q is left over", p.rest)
	}
	if err != nil {
		return nil, fmt.Errorf("type %s: %w", s, err)
	}
	return t, nil
}

type typeParser struct{ rest string }

// Separators of nested types end at the eighth level.
const maxDepth = 7

func (p *typeParser) parse(depth int) (*typ, error) {
	if depth > maxDepth {
		return nil, errors.New("it is nested too deep for a text table")
	}
	end := strings.IndexAny(p.rest, "<>,:(")
	if end < 0 {
		end = len(p.rest)
	}
	name := strings.TrimSpace(p.rest[:end])
	all := p.rest
	p.rest = p.rest[end:]
	t := &typ{name: name}
	switch name {
	case "array":
		t.kind = list
	case "map":
		t.kind = mapping
	case "struct":
		t.kind = structure
	default:
		k, ok := primitives[name]
		if !ok {
			return nil, fmt.Errorf("%q is not supported", name)
		}
		t.kind = k
		if strings.HasPrefix(p.rest, "(") {
			close := strings.IndexByte(p.rest, ')')
			if close < 0 {
				return nil, errors.New("a ) is missing")
			}
			p.rest = p.rest[close+1:]
		}
		return t, nil
	}
	if !p.skip('<') {
		return nil, errors.New("a < is missing")
	}
	for {
		if t.kind == structure {
			colon := strings.IndexByte(p.rest, ':')
			if colon < 0 {
				return nil, errors.New("a : is missing")
			}
			t.names = append(t.names, strings.TrimSpace(p.rest[:colon]))
			p.rest = p.rest[colon+1:]
		}
		e, err := p.parse(depth + 1)
		if err != nil {
			return nil, err
		}
		t.elems = append(t.elems, e)
		if !p.skip(',') {
			break
		}
	}
	if !p.skip('>') {
		return nil, errors.New("a > is missing")
	}
	if t.kind == list && len(t.elems) != 1 || t.kind == mapping && (len(t.elems) != 2 || t.elems[0].kind >= list) {
		return nil, fmt.Errorf("%s has the wrong number or kind of parts", name)
	}
	t.name = all[:len(all)-len(p.rest)]
	return t, nil
}

func (p *typeParser) skip(c byte) bool {
	if len(p.rest) > 0 && p.rest[0] == c {
		p.rest = p.rest[1:]
		return true
	}
	return false
}
