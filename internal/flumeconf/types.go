// Package flumeconf reads Apache Flume's agent files: the Java properties
// grammar with the position of every key, several files merged, ${…}
// substitution, config filters, and the model of an agent with Flume's rules
// about which components stand. It knows nothing about component types; the
// agent package resolves them and uses the positions kept here to say where a
// property is wrong.
package flumeconf

import "fmt"

// Value is the text of one property with its full key and where that stands.
// The zero Value is an absent property.
type Value struct {
	Text string // after substitution and config filters, blanks trimmed
	// Raw is the value as the file has it, escapes decoded. Show this one to
	// people: Text may hold a password that came out of the environment or a
	// config filter.
	Raw  string
	Key  string // full key, for example a1.sources.r1.batchSize
	File string
	Line int // line of the key, counted from 1; 0 where the value was not read from a file
}

// At makes a finding about this property.
func (v Value) At(s Severity, hint, format string, args ...any) Diagnostic {
	return Diagnostic{Severity: s, File: v.File, Line: v.Line, Key: v.Key, Message: fmt.Sprintf(format, args...), Hint: hint}
}

// Errorf makes a finding of severity Error about this property.
func (v Value) Errorf(format string, args ...any) Diagnostic {
	return v.At(Error, "", format, args...)
}

// Warnf makes a finding of severity Warning about this property.
func (v Value) Warnf(format string, args ...any) Diagnostic {
	return v.At(Warning, "", format, args...)
}

// WithHint returns d with the hint set.
func (d Diagnostic) WithHint(hint string) Diagnostic {
	d.Hint = hint
	return d
}

// Property is a name (relative to the component or prefix it was taken from)
// and its value.
type Property struct {
	Name  string
	Value Value
}

// Props are properties in the order in which their keys first stand in the
// files. Names are unique.
type Props []Property

// Get returns the value of the property with exactly this name.
func (p Props) Get(name string) (Value, bool) {
	for i := range p {
		if p[i].Name == name {
			return p[i].Value, true
		}
	}
	return Value{}, false
}

// Text returns the value's text, or "" where the property is absent; an empty
// value cannot be set in Flume's grammar, so nothing is lost by it.
func (p Props) Text(name string) string {
	v, _ := p.Get(name)
	return v.Text
}

// Sub returns the properties below prefix (which ends in a dot) with the
// prefix cut from their names; the values keep their full keys.
func (p Props) Sub(prefix string) Props {
	var out Props
	for _, e := range p {
		if len(e.Name) > len(prefix) && e.Name[:len(prefix)] == prefix {
			out = append(out, Property{Name: e.Name[len(prefix):], Value: e.Value})
		}
	}
	return out
}

// Names lists the names in order.
func (p Props) Names() []string {
	out := make([]string, len(p))
	for i := range p {
		out[i] = p[i].Name
	}
	return out
}

// Map returns name → text.
func (p Props) Map() map[string]string {
	m := make(map[string]string, len(p))
	for _, e := range p {
		m[e.Name] = e.Value.Text
	}
	return m
}

// Kind is a sort of component as the second word of a key names it, in the
// singular.
type Kind string

// The sorts of component.
const (
	KindSource       Kind = "source"
	KindChannel      Kind = "channel"
	KindSink         Kind = "sink"
	KindSinkGroup    Kind = "sinkgroup"
	KindConfigFilter Kind = "configfilter"
)

// Component is one named component of an agent.
type Component struct {
	Kind Kind
	Name string
	// Type is the value of the property "type". A sink group has none; its
	// processor.type is an ordinary property and may be absent.
	Type Value
	// Listed is the list property that names the component, for example
	// a1.sources.
	Listed Value
	// Prefix is the full key up to and including the dot before a property's
	// name, for example "a1.sources.r1.".
	Prefix string
	// Props holds every property of the component, "type" and the channel
	// connections among them.
	Props Props
}

// Pos returns the value that best says where the component stands: its type,
// else its first property, else the list that names it.
func (c *Component) Pos() Value {
	if c.Type.Key != "" {
		return c.Type
	}
	if len(c.Props) > 0 {
		return c.Props[0].Value
	}
	return c.Listed
}

// Prop returns the property's value; for an absent one a Value without text
// whose key and position say where it would have to stand, for a finding.
func (c *Component) Prop(name string) Value {
	if v, ok := c.Props.Get(name); ok {
		return v
	}
	at := c.Pos()
	return Value{Key: c.Prefix + name, File: at.File, Line: at.Line}
}

// Agent is one agent of the configuration: the components that are listed,
// have a section of their own and (save for sink groups) a type, each in the
// order of its list. Whether types exist and channels connect is for the
// agent package to find out.
type Agent struct {
	Name     string
	Sources  []Component
	Channels []Component
	Sinks    []Component
	Groups   []Component
	Filters  []Component
	// Lists holds the list properties: sources, channels, sinks, sinkgroups,
	// configfilters.
	Lists Props
	// First is the first property of the agent, for findings about the agent
	// as a whole.
	First Value
}
