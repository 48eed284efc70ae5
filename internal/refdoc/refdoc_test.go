package refdoc

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	_ "github.com/sluice-data/sluice/standard"
)

var update = flag.Bool("update", false, "rewrite docs/reference")

const reference = "../../docs/reference"

// Every property that Flume gives a component which is built is declared: it
// is honoured, refused, or without effect for a reason.
func TestNoRowIsEmpty(t *testing.T) {
	entries, err := Entries(component.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.State == Unknown {
			t.Errorf("%s %s does not declare %q (Flume: default %q, %s)", e.Kind, e.Alias, e.Property, e.Default, e.Note)
		}
		if (e.State == Refused || e.State == NoEffect) && e.Remark == "" {
			t.Errorf("%s %s: %q is %s without a reason", e.Kind, e.Alias, e.Property, e.State)
		}
	}
}

// What Sluice requires is what Flume requires: a file that Flume takes must not
// fail for a property it never needed.
func TestRequiredAgrees(t *testing.T) {
	entries, err := Entries(component.Default())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Type == nil || e.Required {
			continue
		}
		if f, how := find(e.Type.New().Fields(), e.Property); f != nil && how == byKey && f.Required {
			t.Errorf("%s %s requires %q, Flume has the default %q", e.Kind, e.Alias, e.Property, e.Default)
		}
	}
}

func TestOutsideNamesRows(t *testing.T) {
	rows, err := Rows()
	if err != nil {
		t.Fatal(err)
	}
	known := make(map[outsideKey]bool)
	for _, r := range rows {
		known[outsideKey{r.Kind, r.Alias, r.Property}] = true
	}
	for k := range outside {
		if !known[k] {
			t.Errorf("no row of flume-properties.tsv is %+v", k)
		}
	}
	if len(rows) < 750 {
		t.Errorf("only %d rows", len(rows))
	}
}

// The committed pages are those of this code.
func TestPagesAreCurrent(t *testing.T) {
	pages, err := Pages(component.Default())
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.MkdirAll(reference, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	have, err := filepath.Glob(filepath.Join(reference, "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range have {
		if _, ok := pages[filepath.Base(path)]; ok {
			continue
		}
		if *update {
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		t.Errorf("%s belongs to no component: run go test ./internal/refdoc -update", path)
	}
	for name, text := range pages {
		path := filepath.Join(reference, name)
		if *update {
			if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if got, err := os.ReadFile(path); err != nil || string(got) != text {
			t.Errorf("%s is not current (%v): run go test ./internal/refdoc -update", path, err)
		}
	}
}

type fakeConfig struct {
	s    string
	d    time.Duration
	m    map[string]string
	part component.Config
}

func (c *fakeConfig) Fields() []component.Field {
	return []component.Field{
		component.String("kafka.topic", &c.s, "here").Old("topic"),
		component.Duration("wait", &c.d, time.Second, 3*time.Second),
		component.Map("kafka.producer.", &c.m),
		component.Part("serializer", &c.part, component.KindSerializer, "serializer.", "TEXT"),
		component.Refuse("zookeeper", "give brokers | instead"),
		component.Ignore("mystery.", "nobody knows"),
		component.Ignore("half.", "the rest"),
		component.String("half.known", &c.s, ""),
	}
}

func TestSettle(t *testing.T) {
	reg := &component.Registry{}
	reg.Add(component.Info{Kind: component.KindSink, Name: "fake", Doc: "is a sink"}, func() component.Config { return &fakeConfig{} })
	for _, tt := range []struct {
		alias, property, dflt string
		state                 State
		remark                string
	}{
		{"fake", "kafka.topic", "there", Honoured, "default here: `here`"},
		{"FAKE", "kafka.topic", "(any)", Honoured, ""},
		{"fake", "topic", "-", Honoured, "old name of `kafka.topic`"},
		{"fake", "wait", "3", Honoured, ""},
		{"fake", "kafka.producer.acks", "1", Honoured, ""},
		{"fake", "kafka.producer.<prop>", "-", Honoured, ""},
		{"fake", "serializer", "text", Honoured, ""},
		{"fake", "serializer.*", "-", Honoured, ""},
		{"fake", "zookeeper", "-", Refused, "give brokers | instead"},
		{"fake", "mystery.<x>", "-", NoEffect, "nobody knows"},
		{"fake", "half.<x>", "-", Honoured, "1 of them, see the page of the component; others: no effect, the rest"},
		{"fake", "half.unknown", "-", NoEffect, "the rest"},
		{"fake", "kafka.other", "-", Unknown, ""},
		{"fake", "serial", "-", Unknown, ""},
		{"other", "topic", "-", NotThereYet, ""},
	} {
		e := settle(reg, Row{Kind: "sink", Alias: tt.alias, Property: tt.property, Default: tt.dflt})
		if e.State != tt.state || e.Remark != tt.remark {
			t.Errorf("%s %s: %q %q, want %q %q", tt.alias, tt.property, e.State, e.Remark, tt.state, tt.remark)
		}
	}
	page := componentPage(reg.Types("")[0])
	for _, want := range []string{"Is a sink.", "`kafka.producer.*`", "Refused: Give brokers \\| instead.", "Old names: `topic`."} {
		if !strings.Contains(page, want) {
			t.Errorf("the page lacks %q:\n%s", want, page)
		}
	}
}
