package component

import (
	"fmt"
	"slices"
	"strings"
)

// Kind is a kind of component, in flume.conf's terms.
type Kind string

// The kinds. The first three are an agent's components; the others belong to
// one of these and are named by a property of it.
const (
	KindSource       Kind = "source"
	KindChannel      Kind = "channel"
	KindSink         Kind = "sink"
	KindInterceptor  Kind = "interceptor"
	KindSelector     Kind = "selector"
	KindProcessor    Kind = "sinkprocessor" // of a sink group
	KindSinkSelector Kind = "sink-selector" // of the sink processor load_balance
	KindSerializer   Kind = "serializer"
	KindDeserializer Kind = "deserializer"
)

// Config is a component's configuration: a pointer to a struct whose fields
// the declared properties fill in. Fields is called on a fresh value; it binds
// each property to a field, and is the one place where a property is declared:
// decoding, validation, suggestions and the reference pages all come from it.
type Config interface{ Fields() []Field }

// The configurations by kind. The constructor is called after decoding; a
// *KeyError names the property that is wrong.
type (
	SourceConfig interface {
		Config
		NewSource(env Env) (Source, error)
	}
	ChannelConfig interface {
		Config
		NewChannel(env Env) (Channel, error)
	}
	SinkConfig interface {
		Config
		NewSink(env Env) (Sink, error)
	}
	InterceptorConfig interface {
		Config
		NewInterceptor(env Env) (Interceptor, error)
	}
	SelectorConfig interface {
		Config
		// NewSelector gets the source's channels, by which Route counts.
		NewSelector(env Env, channels []string) (Selector, error)
	}
	SinkProcessorConfig interface {
		Config
		// NewSinkProcessor gets the group's sinks in the order of its list.
		// What it drives is the processor's choice: a sink that it never
		// processes does not run.
		NewSinkProcessor(env Env, sinks []GroupSink) (SinkProcessor, error)
	}
	SinkSelectorConfig interface {
		Config
		// NewSinkSelector gets the names of the group's sinks, by which Order
		// counts.
		NewSinkSelector(env Env, sinks []string) (SinkSelector, error)
	}
)

// Info describes a component type.
type Info struct {
	Kind    Kind
	Name    string   // the alias in flume.conf; any case matches
	Aliases []string // further short names of ours
	Classes []string // Java class names that mean this component; the first is Flume's own
	Doc     string   // one sentence, shown by `sluice components`
	Notes   string   // differences to Flume, in Markdown; may be empty
}

// Type is a registered component type.
type Type struct {
	Info
	New func() Config // a fresh configuration
}

// Registry finds component types by the names that agent files use.
type Registry struct {
	types []*Type
	index map[Kind]map[string]*Type // lower-case name → type
}

// builtin is filled by the init functions of component packages, before main
// runs, and never changed after that.
var builtin = &Registry{}

// Default is the registry that the Register functions add to.
func Default() *Registry { return builtin }

// RegisterSource adds a source type. Like the other Register functions it is
// called from init and panics on an empty or duplicate name.
func RegisterSource(info Info, fresh func() SourceConfig) {
	info.Kind = KindSource
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterChannel adds a channel type.
func RegisterChannel(info Info, fresh func() ChannelConfig) {
	info.Kind = KindChannel
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterSink adds a sink type.
func RegisterSink(info Info, fresh func() SinkConfig) {
	info.Kind = KindSink
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterInterceptor adds an interceptor type.
func RegisterInterceptor(info Info, fresh func() InterceptorConfig) {
	info.Kind = KindInterceptor
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterSelector adds a channel selector type.
func RegisterSelector(info Info, fresh func() SelectorConfig) {
	info.Kind = KindSelector
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterSinkProcessor adds a type of sink group processor.
func RegisterSinkProcessor(info Info, fresh func() SinkProcessorConfig) {
	info.Kind = KindProcessor
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterSinkSelector adds an order in which load_balance tries its sinks.
func RegisterSinkSelector(info Info, fresh func() SinkSelectorConfig) {
	info.Kind = KindSinkSelector
	builtin.Add(info, func() Config { return fresh() })
}

// RegisterPart adds a type of a kind that components define among themselves
// (serializers, deserializers); they assert the interface they need.
func RegisterPart(info Info, fresh func() Config) { builtin.Add(info, fresh) }

// Add adds a type to r. It panics on an empty or duplicate name.
func (r *Registry) Add(info Info, fresh func() Config) {
	if info.Kind == "" || info.Name == "" && len(info.Classes) == 0 {
		panic(fmt.Sprintf("BUG: component registered without kind or name: %+v", info))
	}
	if r.index == nil {
		r.index = make(map[Kind]map[string]*Type)
	}
	byName := r.index[info.Kind]
	if byName == nil {
		byName = make(map[string]*Type)
		r.index[info.Kind] = byName
	}
	t := &Type{Info: info, New: fresh}
	for _, n := range t.names() {
		n = strings.ToLower(n)
		if byName[n] != nil {
			panic(fmt.Sprintf("BUG: %s %q is registered twice", info.Kind, n))
		}
		byName[n] = t
	}
	r.types = append(r.types, t)
}

func (t *Type) names() []string {
	var ns []string
	if t.Name != "" {
		ns = append(ns, t.Name)
	}
	ns = append(ns, t.Aliases...)
	return append(ns, t.Classes...)
}

// Label is the shortest name of the type.
func (t *Type) Label() string { return t.names()[0] }

// Lookup finds the type that an agent file calls name: an alias or a Java
// class, in any case.
func (r *Registry) Lookup(kind Kind, name string) (*Type, bool) {
	t, ok := r.index[kind][strings.ToLower(name)]
	return t, ok
}

// Names lists every name of a kind, sorted: what a suggestion is made from.
func (r *Registry) Names(kind Kind) []string {
	var ns []string
	for _, t := range r.types {
		if t.Kind == kind {
			ns = append(ns, t.names()...)
		}
	}
	slices.Sort(ns)
	return ns
}

// Types lists the types of a kind (all for ""), sorted by kind and label.
func (r *Registry) Types(kind Kind) []*Type {
	var ts []*Type
	for _, t := range r.types {
		if kind == "" || t.Kind == kind {
			ts = append(ts, t)
		}
	}
	slices.SortFunc(ts, func(a, b *Type) int {
		if c := strings.Compare(string(a.Kind), string(b.Kind)); c != 0 {
			return c
		}
		return strings.Compare(strings.ToLower(a.Label()), strings.ToLower(b.Label()))
	})
	return ts
}
