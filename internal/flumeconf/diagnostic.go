package flumeconf

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Severity orders findings.
type Severity uint8

const (
	// Info is worth knowing and changes nothing.
	Info Severity = iota
	// Warning: the agent starts, perhaps not as its author meant.
	Warning
	// Error: a component is dropped or the agent cannot start.
	Error
)

func (s Severity) String() string {
	switch s {
	case Info:
		return "info"
	case Warning:
		return "warning"
	case Error:
		return "error"
	}
	return "severity " + strconv.Itoa(int(s))
}

// Diagnostic is one finding about a configuration: where, what is wrong, and
// what would be right. Line 0 means that the finding belongs to the file as a
// whole, an empty File to no file at all.
type Diagnostic struct {
	Severity Severity
	File     string
	Line     int
	Key      string // the full key as the file spells it, or empty
	Message  string
	Hint     string // what would be right, or empty
}

// String is the line that the operator sees, without the severity:
// "file:line: key: message (hint)". It never holds a line break.
func (d Diagnostic) String() string {
	var b strings.Builder
	if d.File != "" {
		b.WriteString(d.File)
		if d.Line > 0 {
			b.WriteByte(':')
			b.WriteString(strconv.Itoa(d.Line))
		}
		b.WriteString(": ")
	}
	if d.Key != "" {
		b.WriteString(d.Key)
		b.WriteString(": ")
	}
	b.WriteString(d.Message)
	if d.Hint != "" {
		b.WriteString(" (")
		b.WriteString(d.Hint)
		b.WriteByte(')')
	}
	return oneLine(b.String())
}

// Error makes a Diagnostic usable as an error.
func (d Diagnostic) Error() string { return d.String() }

// oneLine escapes control characters: keys and values come from a file that
// may hold anything, and a finding must not forge a second line of a log.
func oneLine(s string) string {
	clean := true
	for _, r := range s {
		if r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029 {
			clean = false
			break
		}
	}
	if clean {
		return s
	}
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n':
			b.WriteString(`\n`)
		case r == '\r':
			b.WriteString(`\r`)
		case r == '\t':
			b.WriteString(`\t`)
		case r < 0x20 || r == 0x7f || r == 0x2028 || r == 0x2029:
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return b.String()
}

// Worst returns the highest severity in ds, Info where ds is empty.
func Worst(ds []Diagnostic) Severity {
	w := Info
	for _, d := range ds {
		w = max(w, d.Severity)
	}
	return w
}

// SortDiagnostics orders ds by file in order of appearance, then by line;
// findings of one line keep their order. Findings without a line come last in
// their file: they sum up.
func SortDiagnostics(ds []Diagnostic) {
	rank := make(map[string]int)
	for _, d := range ds {
		if _, ok := rank[d.File]; !ok {
			rank[d.File] = len(rank)
		}
	}
	line := func(d Diagnostic) int {
		if d.Line == 0 {
			return int(^uint(0) >> 1)
		}
		return d.Line
	}
	slices.SortStableFunc(ds, func(a, b Diagnostic) int {
		return cmp.Or(cmp.Compare(rank[a.File], rank[b.File]), cmp.Compare(line(a), line(b)))
	})
}
