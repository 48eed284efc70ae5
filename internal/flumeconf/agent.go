package flumeconf

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"unicode"

	"github.com/sluice-data/sluice/internal/suggest"
)

// sections are the second words of a key.
var sections = []struct {
	word string
	kind Kind
}{
	{"configfilters", KindConfigFilter},
	{"sources", KindSource},
	{"channels", KindChannel},
	{"sinks", KindSink},
	{"sinkgroups", KindSinkGroup},
}

var sectionWords = []string{"sources", "channels", "sinks", "sinkgroups", "configfilters"}

// Config is a whole configuration: every agent of the merged files.
type Config struct {
	names  []string
	agents map[string]*rawAgent
}

// rawAgent is what the files say of one agent before its lists are applied.
type rawAgent struct {
	first    Value
	lists    Props
	sections map[string][]rawComponent // by section word, in order of appearance
}

type rawComponent struct {
	name   string
	prefix string
	props  Props
}

// NewConfig sorts properties into agents. Its findings are those of Flume's
// parser: keys that belong to no agent or to nothing an agent has, and empty
// values; both are ignored.
func NewConfig(p *Properties) (*Config, []Diagnostic) {
	c := &Config{agents: make(map[string]*rawAgent)}
	var ds []Diagnostic
	at := make(map[string]map[string]int) // "agent.section." → component → index
	for _, e := range p.entries {
		v := e.Value
		v.Key = trim(v.Key)
		v.Text = trim(v.Text)
		if d, odd := oddBlank(v); odd {
			ds = append(ds, d)
		}
		name, rest, dotted := strings.Cut(v.Key, ".")
		if !dotted && p.used[e.Name] {
			continue // a variable of the file's author
		}
		if !dotted || name == "" || rest == "" {
			ds = append(ds, v.At(Warning, notAProperty(v), "ignored: %q is not a property of an agent", abbreviate(strings.TrimSpace(v.Key+" "+v.Raw))))
			continue
		}
		if v.Text == "" {
			ds = append(ds, v.At(Warning, "remove the line or give it a value", "ignored: the value is empty"))
			continue
		}
		a := c.agents[name]
		if a == nil {
			a = &rawAgent{first: v, sections: make(map[string][]rawComponent)}
			c.agents[name] = a
			c.names = append(c.names, name)
		}
		if slices.Contains(sectionWords, rest) {
			if old, again := a.lists.Get(rest); again { // keys that differ in outer blanks only
				ds = append(ds, v.Warnf("ignored: already set on line %d", old.Line))
				continue
			}
			a.lists = append(a.lists, Property{Name: rest, Value: v})
			continue
		}
		word, below, _ := strings.Cut(rest, ".")
		if !slices.Contains(sectionWords, word) {
			ds = append(ds, v.At(Warning, orElse(suggest.Hint(word, sectionWords), "after the agent's name stands one of "+strings.Join(sectionWords, ", ")), "ignored: an agent has no %q", word))
			continue
		}
		comp, prop, ok := cutComponent(below)
		if !ok {
			ds = append(ds, v.At(Warning, fmt.Sprintf("write %s.%s.NAME.PROPERTY", name, word), "ignored: no property name after the component's name"))
			continue
		}
		section := name + "." + word + "."
		if at[section] == nil {
			at[section] = make(map[string]int)
		}
		i, known := at[section][comp]
		if !known {
			i = len(a.sections[word])
			at[section][comp] = i
			a.sections[word] = append(a.sections[word], rawComponent{name: comp, prefix: section + comp + "."})
		}
		rc := &a.sections[word][i]
		rc.props = append(rc.props, Property{Name: prop, Value: v})
	}
	return c, ds
}

// cutComponent cuts NAME.PROPERTY. As in Flume a dot at the very start belongs
// to the name.
func cutComponent(s string) (name, prop string, ok bool) {
	if s == "" {
		return "", "", false
	}
	i := strings.IndexByte(s[1:], '.')
	if i < 0 || i+2 == len(s) {
		return "", "", false
	}
	return s[:i+1], s[i+2:], true
}

// notAProperty is the hint for a line that belongs to no agent.
func notAProperty(v Value) string {
	switch {
	case strings.HasPrefix(v.Key, "//") || strings.HasPrefix(v.Key, "--") || strings.HasPrefix(v.Key, ";"):
		return "comments start with #"
	case strings.ContainsAny(v.Key, "<>"):
		return "this is not properties text"
	}
	return "a key is AGENT.sources, AGENT.sources.NAME.PROPERTY and so on"
}

// abbreviate keeps the beginning of a line for a message.
func abbreviate(s string) string {
	const most = 60
	if r := []rune(s); len(r) > most {
		return string(r[:most]) + "…"
	}
	return s
}

// trim is Java's String.trim: control characters and the blank.
func trim(s string) string { return strings.TrimFunc(s, isTrimmed) }

func isTrimmed(r rune) bool { return r <= ' ' }

// oddBlank finds blanks that Java does not take for blanks. They come with
// text copied from web pages and are invisible.
func oddBlank(v Value) (Diagnostic, bool) {
	odd := func(r rune) bool { return r > ' ' && unicode.IsSpace(r) || r == '\u200b' || r == '\ufeff' }
	if strings.ContainsFunc(v.Key, odd) {
		return v.At(Warning, "type the line anew", "the key holds a no-break or other special blank, which is part of its name"), true
	}
	if strings.TrimFunc(v.Text, odd) != v.Text {
		return v.At(Warning, "type the value anew", "the value begins or ends with a no-break or other special blank, which is part of it"), true
	}
	return Diagnostic{}, false
}

// List splits a value at white space, as Flume splits the lists of names.
func List(v Value) []string {
	return strings.FieldsFunc(v.Text, func(r rune) bool {
		return r == ' ' || '\t' <= r && r <= '\r' // Java's \s
	})
}

// Agents returns the names of the agents in order of appearance. A name that
// only occurs by a typing mistake is among them, as it is in Flume; Runnable
// tells the two apart.
func (c *Config) Agents() []string { return slices.Clone(c.names) }

// Runnable returns the agents that name channels. Flume discards any other at
// once, so a prefix without that list is most likely a misspelt name.
func (c *Config) Runnable() []string {
	var out []string
	for _, n := range c.names {
		if _, ok := c.agents[n].lists.Get("channels"); ok {
			out = append(out, n)
		}
	}
	return out
}

// UnknownAgent is the finding for a name that the configuration does not have;
// file is what was asked to hold it.
func (c *Config) UnknownAgent(file, name string) Diagnostic {
	d := Diagnostic{Severity: Error, File: file, Message: fmt.Sprintf("no agent is named %q", name)}
	known := c.Runnable()
	if len(known) == 0 {
		known = c.names
	}
	switch {
	case len(known) == 0:
		d.Hint = "the file names no agent at all"
	case suggest.Suggest(name, known) != "":
		d.Hint = suggest.Hint(name, known)
	default:
		d.Hint = "it has " + strings.Join(known, ", ")
	}
	return d
}

// Agent assembles one agent: its config filters are applied and the listed
// components with a section and a type are kept, each other one dropped with a
// finding. ok is false where the configuration has no such name.
func (c *Config) Agent(ctx context.Context, name string, o FilterOptions) (a *Agent, ds []Diagnostic, ok bool) {
	raw := c.agents[name]
	if raw == nil {
		return nil, nil, false
	}
	a = &Agent{Name: name, Lists: raw.lists, First: raw.first}
	for _, s := range sections {
		comps, found := raw.assemble(name, s.word, s.kind)
		ds = append(ds, found...)
		switch s.kind {
		case KindConfigFilter:
			a.Filters = comps
		case KindSource:
			a.Sources = comps
		case KindChannel:
			a.Channels = comps
		case KindSink:
			a.Sinks = comps
		case KindSinkGroup:
			a.Groups = comps
		}
	}
	ds = append(ds, applyFilters(ctx, a, o)...)
	ds = append(ds, c.agentFindings(a)...)
	return a, ds, true
}

// agentFindings are about the agent as a whole. Whether enough is left to run
// is for the caller to say, who knows what became of the components.
func (c *Config) agentFindings(a *Agent) []Diagnostic {
	channels, ok := a.Lists.Get("channels")
	if ok && len(List(channels)) > 0 {
		return nil
	}
	var others []string
	for _, n := range c.Runnable() {
		if n != a.Name {
			others = append(others, n)
		}
	}
	first := a.First
	return []Diagnostic{{Severity: Error, File: first.File, Line: first.Line, Key: a.Name + ".channels",
		Message: fmt.Sprintf("agent %q has no list of channels and cannot run", a.Name), Hint: agentHint(a.Name, others)}}
}

// assemble keeps the components of one section that the agent's list names.
func (r *rawAgent) assemble(agent, word string, kind Kind) ([]Component, []Diagnostic) {
	var ds []Diagnostic
	list, hasList := r.lists.Get(word)
	names := List(list)
	raws := r.sections[word]
	have := make(map[string]*rawComponent, len(raws))
	for i := range raws {
		have[raws[i].name] = &raws[i]
	}
	listed := make(map[string]bool, len(names))
	var comps []Component
	for i, name := range names {
		if strings.HasPrefix(name, "#") && have[name] == nil {
			ds = append(ds, list.At(Warning, "comments stand on lines of their own", "%q and what follows is taken for names", strings.Join(names[i:], " ")))
			break
		}
		if listed[name] {
			ds = append(ds, list.Warnf("%q is listed twice", name))
			continue
		}
		listed[name] = true
		rc := have[name]
		if rc == nil {
			var orphans []string
			for _, o := range raws {
				if !slices.Contains(names, o.name) {
					orphans = append(orphans, o.name)
				}
			}
			hint := orElse(suggest.Hint(name, orphans), r.elsewhere(agent, word, name))
			if strings.Contains(name, ",") {
				hint = commaHint
			}
			ds = append(ds, list.At(Error, hint,
				"%s %q is listed but has no properties; it is left out", kind, name))
			continue
		}
		comp := Component{Kind: kind, Name: name, Listed: list, Prefix: rc.prefix, Props: slices.Clone(rc.props)}
		if kind != KindSinkGroup {
			typ, ok := comp.Props.Get("type")
			if !ok {
				ds = append(ds, comp.Prop("type").At(Error, orElse(typoOfType(comp.Props), "write "+rc.prefix+"type = …"), "%s %q has no type; it is left out", kind, name))
				continue
			}
			comp.Type = typ
		}
		comps = append(comps, comp)
	}
	for i := range raws {
		rc := &raws[i]
		if listed[rc.name] {
			continue
		}
		hint := suggest.Hint(rc.name, missing(names, have))
		if hint == "" {
			hint = r.elsewhere(agent, word, rc.name)
		}
		if hint == "" {
			hint = suggest.Hint(rc.name, names)
		}
		if strings.Contains(hint, ",") {
			hint = commaHint
		}
		first := rc.props[0].Value
		if hint == "" {
			hint = fmt.Sprintf("add it to %s.%s", agent, word)
		}
		what := fmt.Sprintf("%s.%s does not list it", agent, word)
		if !hasList {
			what = fmt.Sprintf("there is no %s.%s", agent, word)
		}
		ds = append(ds, first.At(Warning, hint, "%s %q is configured but does not run: %s", kind, rc.name, what))
	}
	return comps, ds
}

const commaHint = "the names of a list are separated by blanks, not by commas"

// elsewhere is the hint for a name that another section knows: the key's
// second word is wrong.
func (r *rawAgent) elsewhere(agent, word, name string) string {
	for _, s := range sections {
		if s.word == word {
			continue
		}
		if list, ok := r.lists.Get(s.word); ok && slices.Contains(List(list), name) {
			return fmt.Sprintf("%s lists %q: write %s.%s.%s", list.Key, name, agent, s.word, name)
		}
	}
	for _, s := range sections {
		if s.word == word {
			continue
		}
		for _, rc := range r.sections[s.word] {
			if rc.name == name {
				return fmt.Sprintf("line %d configures a %s of this name: write %s.%s.%s", rc.props[0].Value.Line, s.kind, agent, word, name)
			}
		}
	}
	return ""
}

// missing are the listed names that have no section: a section that is not
// listed most likely means one of them.
func missing(names []string, have map[string]*rawComponent) []string {
	var out []string
	for _, n := range names {
		if have[n] == nil {
			out = append(out, n)
		}
	}
	return out
}

// typoOfType finds a property that was meant to be "type".
func typoOfType(p Props) string {
	for _, e := range p {
		if suggest.Suggest(e.Name, []string{"type"}) != "" {
			return fmt.Sprintf("is %q meant to be \"type\"?", e.Name)
		}
	}
	return ""
}
