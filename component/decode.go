package component

import (
	"fmt"
	"sort"
	"strings"

	"github.com/sluice-data/sluice/internal/suggest"
)

// Property is one property of a component as the agent file has it, without
// the component's own prefix.
type Property struct{ Key, Value string }

// Finding is what Decode has to say about a property.
type Finding struct {
	Error   bool // the component cannot be used; otherwise a warning
	Key     string
	Message string
	Hint    string // what would be right
}

// Decode fills cfg from props by its declared fields. Unknown keys are
// warnings with the nearest known one; bad values, missing required keys and
// refused keys are errors. reg resolves parts.
func Decode(reg *Registry, cfg Config, props []Property) []Finding {
	d := decoder{reg: reg}
	d.decode("", cfg, props)
	return d.findings
}

type decoder struct {
	reg      *Registry
	findings []Finding
}

func (d *decoder) errorf(key, hint, format string, args ...any) {
	d.findings = append(d.findings, Finding{true, key, fmt.Sprintf(format, args...), hint})
}

func (d *decoder) warnf(key, hint, format string, args ...any) {
	d.findings = append(d.findings, Finding{false, key, fmt.Sprintf(format, args...), hint})
}

// decode handles the properties below prefix, which is only for messages.
func (d *decoder) decode(prefix string, cfg Config, props []Property) {
	fields := cfg.Fields()
	exact := make(map[string]*Field, len(fields))
	old := make(map[string]*Field)
	var prefixes []*Field
	for i := range fields {
		f := &fields[i]
		if f.prefix {
			prefixes = append(prefixes, f)
		} else {
			exact[f.Key] = f
		}
		for _, k := range f.OldKeys {
			old[k] = f
		}
	}
	sort.SliceStable(prefixes, func(i, j int) bool { return len(prefixes[i].Key) > len(prefixes[j].Key) })

	set := make(map[*Field]bool)
	parts := make(map[*Field]string)
	var deprecated, rest []Property
	for _, p := range props {
		switch f := exact[p.Key]; {
		case f == nil && old[p.Key] != nil:
			deprecated = append(deprecated, p)
		case f == nil:
			rest = append(rest, p)
		default:
			set[f] = true
			if f.partKind != "" {
				parts[f] = p.Value
			} else {
				d.one(prefix, f, p)
			}
		}
	}
	for _, p := range deprecated {
		f := old[p.Key]
		if set[f] {
			d.warnf(prefix+p.Key, "remove it", "deprecated, and without effect because %s is set", f.Key)
			continue
		}
		set[f] = true
		d.warnf(prefix+p.Key, "write "+f.Key, "deprecated name, still honoured")
		d.one(prefix, f, p)
	}

	// Properties of parts, of maps, and what nobody knows.
	sub := make(map[*Field][]Property)
next:
	for _, p := range rest {
		for i := range fields {
			f := &fields[i]
			if f.partKind != "" && strings.HasPrefix(p.Key, f.partKeys) {
				sub[f] = append(sub[f], Property{p.Key[len(f.partKeys):], p.Value})
				continue next
			}
		}
		for _, f := range prefixes {
			if len(p.Key) > len(f.Key) && strings.HasPrefix(p.Key, f.Key) {
				d.one(prefix, f, p)
				set[f] = true
				continue next
			}
		}
		d.warnf(prefix+p.Key, d.hint(p.Key, fields), "unknown property, ignored")
	}
	for i := range fields {
		f := &fields[i]
		if f.partKind != "" {
			d.part(prefix, f, parts[f], sub[f])
		}
		if f.Required && !set[f] && f.Effect == Honoured {
			hint := f.Doc
			if len(f.OldKeys) > 0 {
				hint += " (old name: " + strings.Join(f.OldKeys, ", ") + ")"
			}
			for _, p := range rest {
				if suggest.Suggest(p.Key, []string{f.Key}) != "" {
					hint = fmt.Sprintf("is %q meant to be it?", prefix+p.Key)
				}
			}
			d.errorf(prefix+f.Key, hint, "required, but not set")
		}
	}
}

func (d *decoder) hint(key string, fields []Field) string {
	var known []string
	for i := range fields {
		known = append(known, fields[i].Key)
	}
	return suggest.Hint(key, known)
}

// one sets a field from a property and checks its limits.
func (d *decoder) one(prefix string, f *Field, p Property) {
	switch f.Effect {
	case Refused:
		d.errorf(prefix+p.Key, "", "not supported: %s", f.Reason)
		return
	case NoEffect:
		d.warnf(prefix+p.Key, "", "no effect: %s", f.Reason)
		return
	}
	if f.prefix {
		if err := f.setMap(p.Key[len(f.Key):], p.Value); err != nil {
			d.errorf(prefix+p.Key, "", "%v", err)
		}
		return
	}
	err := f.limits(p.Value)
	if err == nil {
		err = f.set(p.Value)
	}
	switch {
	case err == nil:
	case f.lenient:
		d.warnf(prefix+p.Key, "", "%v; using the default, %s", err, f.Default)
		return
	default:
		d.errorf(prefix+p.Key, f.expects(), "%v", err)
		return
	}
	if f.Type == "bool" && !strings.EqualFold(p.Value, "true") && !strings.EqualFold(p.Value, "false") {
		d.warnf(prefix+p.Key, "write true or false", "%q counts as false", p.Value)
	}
	if f.Type == "regex" {
		if meant := backslashed(p.Value); meant != "" {
			d.warnf(prefix+p.Key, "write "+meant, "the expression has slashes where backslashes seem to be meant")
		}
	}
}

// limits checks the range before the value is set, so that a lenient field
// keeps its default.
func (f *Field) limits(text string) error {
	if f.min == nil && f.max == nil {
		return nil
	}
	n, err := parseInt(text, 64)
	if err != nil {
		return nil // set says it better, or reads it (a duration with a unit)
	}
	if f.min != nil && n < *f.min || f.max != nil && n > *f.max {
		return fmt.Errorf("%d is out of range: %s", n, f.Limits())
	}
	return nil
}

// expects says what a right value looks like.
func (f *Field) expects() string {
	s := "expects " + f.Type
	if len(f.Values) > 0 {
		s = "expects one of " + strings.Join(f.Values, ", ")
	}
	if f.Unit != "" {
		s += " in " + f.Unit
	}
	if l := f.Limits(); l != "" {
		s += ", " + l
	}
	if f.Default != "" {
		s += "; default " + f.Default
	}
	return s
}

// part resolves the type that a Part property names and decodes its properties.
func (d *decoder) part(prefix string, f *Field, name string, props []Property) {
	if name == "" {
		name = f.Default
	}
	if name == "" {
		return // optional and not set
	}
	t, ok := d.reg.Lookup(f.partKind, strings.TrimSpace(name))
	if !ok {
		hint := suggest.Hint(name, d.reg.Names(f.partKind))
		if hint == "" {
			hint = "known: " + strings.Join(d.reg.labels(f.partKind), ", ")
		}
		d.errorf(prefix+f.Key, hint, "unknown %s %q", f.partKind, name)
		return
	}
	cfg := t.New()
	d.decode(prefix+f.partKeys, cfg, props)
	f.setPart(cfg)
}

func (r *Registry) labels(kind Kind) []string {
	var ls []string
	for _, t := range r.Types(kind) {
		ls = append(ls, t.Label())
	}
	return ls
}
