package flumeconf

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Text that would grow without bound is cut off with an error, not run into
// the ground.
func TestSubstitutionIsBounded(t *testing.T) {
	var b strings.Builder
	for i := range 30 { // 2^30 times ten bytes
		fmt.Fprintf(&b, "v%d=${v%d}${v%d}\n", i, i+1, i+1)
	}
	b.WriteString("v30=0123456789\n")
	// Each default is looked through twice, once inside its variable and once
	// on its own, because the name inside it is not found.
	defaults := func(n int) string {
		var b strings.Builder
		b.WriteString("a=")
		for i := range n {
			fmt.Fprintf(&b, "${x%d:-${u", i)
		}
		return b.String() + strings.Repeat("x", 100000) + strings.Repeat("}}", n)
	}
	for _, tt := range []struct{ name, text, want string }{
		{"laughs", b.String(), "grows over 1048576 bytes"},
		{"nested", "a=" + strings.Repeat("${", 100000) + strings.Repeat("}", 100000), "nests variables more than 32 deep"},
		{"defaults", defaults(14), "takes too many substitutions"},
		{"open", "a=" + strings.Repeat("${", 200000), "is not closed"},
		{"chain", func() string {
			var b strings.Builder
			for i := range 10000 {
				fmt.Fprintf(&b, "v%d=${v%d}\n", i, i+1)
			}
			return b.String()
		}(), "nests variables more than 32 deep"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			p, ds := Parse("f", []byte(tt.text))
			if len(ds) > 0 {
				t.Fatalf("parse: %v", ds[0])
			}
			out, ds := p.Substitute(Lookups{})
			if all := fmt.Sprint(ds); !strings.Contains(all, tt.want) {
				t.Errorf("findings: %s", all[:min(500, len(all))])
			}
			for _, e := range out.All() {
				if len(e.Value.Text) > 2*maxValue {
					t.Errorf("%s has %d bytes", e.Name, len(e.Value.Text))
				}
			}
		})
	}
}

func TestLoadRefusesEndlessFiles(t *testing.T) {
	if _, err := os.Stat("/dev/zero"); err != nil {
		t.Skipf("NOT CHECKED: that an endless file is refused, which needs /dev/zero: %v", err)
	}
	if _, _, err := Load([]string{"/dev/zero"}, Lookups{}); err == nil || !strings.Contains(err.Error(), "larger than 16 MiB") {
		t.Errorf("got %v", err)
	}
}

func TestLoadMergesFiles(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	one := write("one.conf", "a1.channels=c\na1.channels.c.type=memory\na1.channels.c.capacity=1\njunk\n")
	two := write("two.conf", "a1.channels.c.capacity=2\n")
	c, ds, err := Load([]string{one, two}, Lookups{})
	if err != nil {
		t.Fatal(err)
	}
	a, _, ok := c.Agent(t.Context(), "a1", FilterOptions{})
	if !ok || len(a.Channels) != 1 {
		t.Fatalf("agent: %+v", a)
	}
	v := a.Channels[0].Prop("capacity")
	if v.Text != "2" || v.File != two || v.Line != 1 || v.Key != "a1.channels.c.capacity" {
		t.Errorf("capacity: %+v", v)
	}
	missing := a.Channels[0].Prop("keep-alive")
	if missing.Text != "" || missing.Key != "a1.channels.c.keep-alive" || missing.Line != 2 || missing.File != one {
		t.Errorf("an absent property: %+v", missing)
	}
	if len(ds) != 1 || ds[0].File != one || ds[0].Line != 4 {
		t.Errorf("findings: %v", ds)
	}
	if _, _, err := Load([]string{one, filepath.Join(dir, "three.conf")}, Lookups{}); err == nil {
		t.Error("a missing file is no error")
	}
}

// A finding is one line, whatever the file holds: nobody forges a second one.
func TestFindingsAreSingleLines(t *testing.T) {
	d := Diagnostic{File: "f", Line: 3, Key: "a.b\nERROR fake", Message: "m\r\u2028\x1b[31m", Hint: "h"}
	want := `f:3: a.b\nERROR fake: m\r\u2028\u001b[31m (h)`
	if got := d.String(); got != want {
		t.Errorf("got  %q\nwant %q", got, want)
	}
}

func TestSortDiagnostics(t *testing.T) {
	ds := []Diagnostic{{File: "b", Line: 2}, {File: "b", Message: "sum"}, {File: "a", Line: 9}, {File: "b", Line: 1}, {File: "a", Line: 3}}
	SortDiagnostics(ds)
	got := ""
	for _, d := range ds {
		got += fmt.Sprintf("%s%d ", d.File, d.Line)
	}
	if got != "b1 b2 b0 a3 a9 " {
		t.Errorf("order %s", got)
	}
}
