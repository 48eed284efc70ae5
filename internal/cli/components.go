package cli

import (
	"fmt"
	"strings"
	"text/tabwriter"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/agent"
	"github.com/sluice-data/sluice/internal/suggest"
)

// componentsCmd lists what agent files can name, out of the registry that
// runs them.
type componentsCmd struct {
	Name string `arg:"" optional:"" help:"A type, by short name or Java class, or a kind (source, sink, …): its properties, or its types. Without it all types are listed."`
}

func (c *componentsCmd) Run(env *Env) error {
	reg := component.Default()
	if c.Name == "" {
		return listComponents(env, reg.Types(""))
	}
	if ts := reg.Types(component.Kind(strings.ToLower(c.Name))); len(ts) > 0 {
		return listComponents(env, ts)
	}
	found := false
	seen := make(map[component.Kind]bool)
	var names []string
	for _, t := range reg.Types("") {
		if seen[t.Kind] {
			continue
		}
		seen[t.Kind] = true
		names = append(names, reg.Names(t.Kind)...)
		match, ok := reg.Lookup(t.Kind, c.Name)
		if !ok {
			continue
		}
		if found {
			fmt.Fprintln(env.Stdout)
		}
		found = true
		if err := describeComponent(env, match); err != nil {
			return err
		}
	}
	if found {
		return nil
	}
	var notBuilt []string
	for _, k := range []component.Kind{component.KindSource, component.KindChannel, component.KindSink, component.KindInterceptor} {
		for _, n := range agent.NotBuilt(k) {
			if strings.EqualFold(n, c.Name) {
				return usageError(fmt.Errorf("%s: Flume's %s of this name is not there yet", c.Name, k))
			}
			notBuilt = append(notBuilt, n)
		}
	}
	hint := suggest.Hint(c.Name, append(names, notBuilt...))
	if hint == "" {
		hint = "all: sluice components"
	}
	return usageError(fmt.Errorf("no component is called %q (%s)", c.Name, hint))
}

// listComponents prints one line per type.
func listComponents(env *Env, ts []*component.Type) error {
	w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	var kind component.Kind
	for _, t := range ts {
		if t.Kind != kind {
			kind = t.Kind
			fmt.Fprintf(w, "%s\n", kind)
		}
		fmt.Fprintf(w, "  %s\t%s\n", t.Label(), t.Doc)
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the list: %w", err)
	}
	return nil
}

// describeComponent prints a type with its properties.
func describeComponent(env *Env, t *component.Type) error {
	var names []string
	if t.Name != "" {
		names = append(names, t.Name)
	}
	names = append(append(names, t.Aliases...), t.Classes...)
	fmt.Fprintf(env.Stdout, "%s %s: %s\n  type = %s\n", t.Kind, t.Label(), t.Doc, strings.Join(names, " | "))
	w := tabwriter.NewWriter(env.Stdout, 0, 8, 2, ' ', 0)
	for _, f := range t.New().Fields() {
		key := f.Key
		if f.IsPrefix() {
			key += "*"
		}
		fmt.Fprintf(w, "  %s\t%s\t%s\n", key, fieldType(f), fieldText(f))
	}
	if err := w.Flush(); err != nil {
		return fmt.Errorf("write the properties: %w", err)
	}
	return nil
}

// fieldType is "int, events, at least 1" and the like.
func fieldType(f component.Field) string {
	if f.Effect != component.Honoured {
		return f.Effect.String()
	}
	parts := []string{f.Type}
	if len(f.Values) > 0 {
		parts = []string{strings.Join(f.Values, "|")}
	}
	if f.Unit != "" {
		parts = append(parts, f.Unit)
	}
	if l := f.Limits(); l != "" {
		parts = append(parts, l)
	}
	return strings.Join(parts, ", ")
}

func fieldText(f component.Field) string {
	if f.Effect != component.Honoured {
		return f.Reason
	}
	var parts []string
	switch {
	case f.Required:
		parts = append(parts, "required")
	case f.Default != "":
		parts = append(parts, "default "+f.Default)
	}
	if f.Doc != "" {
		parts = append(parts, f.Doc)
	}
	if len(f.OldKeys) > 0 {
		parts = append(parts, "old names "+strings.Join(f.OldKeys, ", "))
	}
	return strings.Join(parts, "; ")
}
