package flumeconf

import (
	"context"
	"strings"
	"testing"
	"unicode/utf8"
)

// FuzzLoad takes any text through every step: nothing panics, keys are unique,
// positions lie within the text, findings are single lines of valid UTF-8.
func FuzzLoad(f *testing.F) {
	for _, s := range []string{
		"a1.channels=c1\na1.channels.c1.type=memory\na1.sources=r1 r2\na1.sources.r3.type=x\n",
		"a=${b}\nb=${a}\n", "a=${env:X:-${${", "a=\\u12", "a\\\r\n\r=b", "\xef\xbb\xbfa:b", "\xff\xfe", "a\xe9=\\\xe9",
		"a.configfilters=f\na.configfilters.f.type=env\na.channels=c\na.channels.c.type=${f[x]}",
		"a=${b}${b}${b}\nb=${c}${c}${c}\nc=${d}${d}${d}\nd=${e}\n",
	} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, ds := Parse("f", data)
		lines := 1 + strings.Count(string(data), "\n") + strings.Count(string(data), "\r")
		seen := make(map[string]bool)
		for _, e := range p.All() {
			if seen[e.Name] {
				t.Fatalf("key %q twice", e.Name)
			}
			seen[e.Name] = true
			if e.Value.Line < 1 || e.Value.Line > lines {
				t.Fatalf("key %q on line %d of %d", e.Name, e.Value.Line, lines)
			}
			if !utf8.ValidString(e.Name) || !utf8.ValidString(e.Value.Raw) {
				t.Fatalf("%q = %q is not UTF-8", e.Name, e.Value.Raw)
			}
		}
		env := func(k string) (string, bool) { return "<" + k + "${" + k + "}>", len(k) < 3 }
		sub, found := p.Substitute(Lookups{Env: env, Sys: map[string]string{"a": "${sys:b}", "b": "x"}})
		ds = append(ds, found...)
		if sub.Len() != p.Len() {
			t.Fatalf("%d keys became %d", p.Len(), sub.Len())
		}
		c, found := NewConfig(sub)
		ds = append(ds, found...)
		ds = append(ds, c.strays()...)
		for _, n := range c.Agents() {
			_, found, ok := c.Agent(context.Background(), n, FilterOptions{Env: env})
			if !ok {
				t.Fatalf("agent %q is named but not there", n)
			}
			ds = append(ds, found...)
		}
		for _, d := range ds {
			if s := d.String(); strings.ContainsAny(s, "\n\r") || !utf8.ValidString(s) {
				t.Fatalf("finding %q", s)
			}
		}
	})
}
