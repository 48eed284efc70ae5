package refdoc

import (
	"fmt"
	"strings"
	"unicode"

	"github.com/sluice-data/sluice/component"
)

const head = "<!-- Generated from the declarations in the code: go test ./internal/refdoc -update -->\n\n"

// Pages returns the reference pages by file name: properties.md, index.md and
// one page per component.
func Pages(reg *component.Registry) (map[string]string, error) {
	entries, err := Entries(reg)
	if err != nil {
		return nil, err
	}
	pages := map[string]string{"properties.md": propertiesPage(entries)}
	var index strings.Builder
	index.WriteString(head + "# Components\n\nEach page lists every property with type, default and limits. What Flume has beside it is in [properties.md](properties.md).\n")
	var kind component.Kind
	for _, t := range reg.Types("") {
		if t.Kind != kind {
			kind = t.Kind
			fmt.Fprintf(&index, "\n## %s\n\n", title(string(kind)))
		}
		file := pageName(t)
		if _, twice := pages[file]; twice {
			return nil, fmt.Errorf("two components would have the page %s", file)
		}
		pages[file] = componentPage(t)
		fmt.Fprintf(&index, "- [%s](%s): %s\n", t.Label(), file, t.Doc)
	}
	pages["index.md"] = index.String()
	return pages, nil
}

// pageName is kind and label in letters that every file system takes.
func pageName(t *component.Type) string {
	label := t.Label()
	if i := strings.LastIndexByte(label, '.'); i >= 0 { // a Java class
		label = strings.TrimSuffix(label[i+1:], "$Builder")
	}
	clean := func(r rune) rune {
		if r == '_' || r == '-' || unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return '-'
	}
	return strings.Map(clean, string(t.Kind)+"-"+label) + ".md"
}

// propertiesPage is the table of all of Flume's properties.
func propertiesPage(entries []Entry) string {
	var b strings.Builder
	b.WriteString(head + `# Every property of Flume 1.11, and what Sluice does with it

- **honoured**: does what Flume's guide says; the remark says what differs.
- **no effect**: accepted with a warning; the remark says why.
- **refused**: an error; the remark says why and what to do instead.
- **not there yet**: the component, or the command, is not built. Naming it in an agent file is a warning and leaves that component out.

`)
	count := make(map[State]int)
	for _, e := range entries {
		count[e.State]++
	}
	fmt.Fprintf(&b, "%d properties: %d honoured, %d without effect, %d refused, %d not there yet.\n",
		len(entries), count[Honoured], count[NoEffect], count[Refused], count[NotThereYet])
	section := ""
	for _, e := range entries {
		if s := e.Kind + " " + e.Alias; s != section {
			section = s
			fmt.Fprintf(&b, "\n## %s\n\n", strings.TrimSuffix(strings.TrimSuffix(s, " -"), " *"))
			if e.Type != nil {
				fmt.Fprintf(&b, "[Page of the component](%s)\n\n", pageName(e.Type))
			}
			b.WriteString("| property | Flume's default | in Sluice | remark |\n|---|---|---|---|\n")
		}
		dflt := e.Default
		if dflt == "-" {
			dflt = ""
		}
		if e.Required {
			dflt = "required"
		}
		if dflt != "" && e.Unit != "" && !e.Required {
			dflt += " " + e.Unit
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", e.Property, cell(dflt), e.State, cell(e.Remark))
	}
	return b.String()
}

// componentPage is the page of one component, from its declarations alone.
func componentPage(t *component.Type) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s# %s: %s\n\n%s\n\n", head, title(string(t.Kind)), t.Label(), sentence(t.Doc))
	var names []string
	for _, n := range append([]string{t.Name}, append(t.Aliases, t.Classes...)...) {
		if n != "" {
			names = append(names, "`"+n+"`")
		}
	}
	fmt.Fprintf(&b, "Names, in any case: %s\n", strings.Join(names, ", "))
	fields := t.New().Fields()
	if len(fields) == 0 {
		b.WriteString("\nIt has no properties.\n")
	} else {
		b.WriteString("\n| property | type | default | limits | |\n|---|---|---|---|---|\n")
	}
	for _, f := range fields {
		key := f.Key
		if f.IsPrefix() {
			key += "*"
		}
		typ, dflt := f.Type, f.Default
		if f.Unit != "" {
			typ += ", " + f.Unit
		}
		if dflt != "" {
			dflt = "`" + dflt + "`"
		}
		if f.Required {
			dflt = "required"
		}
		limits := f.Limits()
		if len(f.Values) > 0 {
			limits = strings.Join(f.Values, ", ")
		}
		var text []string
		switch f.Effect {
		case component.Refused:
			typ, dflt = "", ""
			text = append(text, "Refused: "+sentence(f.Reason))
		case component.NoEffect:
			typ, dflt = "", ""
			text = append(text, "No effect: "+sentence(f.Reason))
		}
		if f.Doc != "" {
			text = append(text, sentence(f.Doc))
		}
		if len(f.OldKeys) > 0 {
			text = append(text, "Old names: `"+strings.Join(f.OldKeys, "`, `")+"`.")
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s | %s |\n", key, typ, cell(dflt), cell(limits), cell(strings.Join(text, " ")))
	}
	if t.Notes != "" {
		fmt.Fprintf(&b, "\n## Differences to Flume\n\n%s\n", strings.TrimSpace(t.Notes))
	}
	return b.String()
}

// cell makes s fit into a table.
func cell(s string) string {
	return strings.NewReplacer("|", `\|`, "\n", " ", "<", "&lt;").Replace(s)
}

func title(s string) string {
	if s == "" {
		return s
	}
	return strings.ToUpper(s[:1]) + s[1:]
}

func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" || strings.HasSuffix(s, ".") {
		return title(s)
	}
	return title(s) + "."
}
