// Package refdoc writes the reference pages: one row per property that Flume
// has, with what Sluice does with it, and one page per component from its own
// declarations. The facts about Flume are in flume-properties.tsv; what Sluice
// does comes from the component registry, so the pages cannot drift from the
// code.
package refdoc

import (
	_ "embed"
	"fmt"
	"strings"

	"github.com/sluice-data/sluice/component"
)

//go:embed flume-properties.tsv
var flumeProperties string

// Row is one property of Apache Flume 1.11.
type Row struct {
	Kind     string // source, sink, …, agent, cli, jvm
	Alias    string // the type's short name or class; "*" for all of a kind
	Property string // <x> and a final * stand for any text
	Required bool
	Default  string
	Type     string
	Unit     string
	OldOf    string // the property of which this is a deprecated name
	Note     string
}

// Rows returns Flume's properties in the order of the file.
func Rows() ([]Row, error) {
	lines := strings.Split(strings.TrimSuffix(flumeProperties, "\n"), "\n")
	var rows []Row
	for i, line := range lines[1:] {
		f := strings.Split(line, "\t")
		if len(f) < 5 || len(f) > 9 {
			return nil, fmt.Errorf("read flume-properties.tsv: line %d has %d columns", i+2, len(f))
		}
		f = append(f, make([]string, 9-len(f))...)
		rows = append(rows, Row{Kind: f[0], Alias: f[1], Property: f[2], Required: f[3] == "yes", Default: f[4], Type: f[5], Unit: f[6], OldOf: f[7], Note: f[8]})
	}
	return rows, nil
}

// State is what Sluice does with a property.
type State string

// The states. Unknown is a defect: a component is built and says nothing
// about one of its properties.
const (
	Unknown     State = ""
	Honoured    State = "honoured"
	NoEffect    State = "no effect"
	Refused     State = "refused"
	NotThereYet State = "not there yet"
)

// Entry is a row with what Sluice does.
type Entry struct {
	Row
	State State
	// Remark is the reason of NoEffect and Refused, or what differs.
	Remark string
	// Type is the component of Sluice, nil where there is none.
	Type *component.Type
}

// Entries settles every row.
func Entries(reg *component.Registry) ([]Entry, error) {
	rows, err := Rows()
	if err != nil {
		return nil, err
	}
	var out []Entry
	for _, r := range rows {
		out = append(out, settle(reg, r))
	}
	return out, nil
}

func settle(reg *component.Registry, r Row) Entry {
	e := Entry{Row: r, State: NotThereYet}
	if s, ok := outside[outsideKey{r.Kind, r.Alias, r.Property}]; ok {
		e.State, e.Remark = s.state, s.remark
		return e
	}
	t, ok := reg.Lookup(component.Kind(r.Kind), r.Alias)
	if !ok {
		return e
	}
	e.Type = t
	f, how := find(t.New().Fields(), r.Property)
	if f == nil {
		e.State = Unknown
		return e
	}
	if n := below(t.New().Fields(), r.Property); how == byPrefix && f.Effect != component.Honoured && n > 0 {
		// What a wildcard stands for is declared one by one, and f is the rest.
		e.State, e.Remark = Honoured, fmt.Sprintf("%d of them, see the page of the component; others: %s, %s", n, f.Effect, f.Reason)
		return e
	}
	switch f.Effect {
	case component.NoEffect:
		e.State, e.Remark = NoEffect, f.Reason
	case component.Refused:
		e.State, e.Remark = Refused, f.Reason
	default:
		e.State = Honoured
		switch {
		case how == byOldName:
			e.Remark = "old name of `" + f.Key + "`"
		case how == byKey && differs(r.Default, f.Default):
			e.Remark = "default here: " + orNone(f.Default)
		}
	}
	return e
}

type match int

const (
	byKey match = iota
	byOldName
	byPrefix
)

// find looks for the declaration that covers a property of Flume's list. The
// most exact one wins, as in decoding.
func find(fields []component.Field, property string) (*component.Field, match) {
	for i := range fields {
		if f := &fields[i]; !f.IsPrefix() && f.Key == property {
			return f, byKey
		}
	}
	for i := range fields {
		for _, k := range fields[i].OldKeys {
			if k == property {
				return &fields[i], byOldName
			}
		}
	}
	stem := property
	if i := strings.IndexAny(stem, "<*"); i >= 0 {
		stem = stem[:i]
	}
	var best *component.Field
	for i := range fields {
		f := &fields[i]
		switch {
		case f.IsPrefix() && strings.HasPrefix(stem, f.Key):
		case f.Type == "class" && stem == f.Key+".": // the properties of a part
		default:
			continue
		}
		if best == nil || len(f.Key) > len(best.Key) {
			best = f
		}
	}
	return best, byPrefix
}

// below counts the honoured properties that a wildcard stands for.
func below(fields []component.Field, property string) int {
	i := strings.IndexAny(property, "<*")
	if i <= 0 {
		return 0
	}
	n := 0
	for _, f := range fields {
		if f.Effect == component.Honoured && !f.IsPrefix() && strings.HasPrefix(f.Key, property[:i]) {
			n++
		}
	}
	return n
}

// differs compares defaults where both sides state one in the same notation.
func differs(flume, ours string) bool {
	if strings.ContainsAny(flume, "( ") { // a description, not a value
		return false
	}
	if flume == "-" {
		flume = ""
	}
	return !strings.EqualFold(flume, ours)
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return "`" + s + "`"
}
