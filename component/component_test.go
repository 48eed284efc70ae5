package component

import (
	"fmt"
	"reflect"
	"testing"
	"time"
)

type partConfig struct{ newline bool }

func (c *partConfig) Fields() []Field {
	return []Field{Bool("appendNewline", &c.newline, true)}
}

type testConfig struct {
	dir   string
	batch int
	wait  time.Duration
	order string
	on    bool
	names []string
	extra map[string]string
	part  Config
}

func (c *testConfig) Fields() []Field {
	return []Field{
		String("dir", &c.dir, "").Require().Describe("the directory to read"),
		Int("batchSize", &c.batch, 100).In("events").Min(1).Old("batch"),
		Duration("wait", &c.wait, time.Millisecond, 500*time.Millisecond),
		Enum("order", &c.order, "oldest", "oldest", "youngest"),
		Bool("on", &c.on, false),
		List("names", &c.names),
		Map("kafka.", &c.extra),
		Part("serializer", &c.part, KindSerializer, "serializer.", "TEXT"),
		Ignore("bufferMaxLines", "Flume never reads it either"),
		Refuse("zookeeperConnect", "give the brokers instead"),
	}
}

func testRegistry() *Registry {
	r := &Registry{}
	r.Add(Info{Kind: KindSerializer, Name: "TEXT", Classes: []string{"org.example.Text$Builder"}}, func() Config { return &partConfig{} })
	return r
}

func TestDecode(t *testing.T) {
	tests := []struct {
		name  string
		props []Property
		want  string
		check func(c *testConfig) bool
	}{
		{"defaults", []Property{{"dir", "/d"}}, "",
			func(c *testConfig) bool {
				return c.batch == 100 && c.wait == 500*time.Millisecond && c.order == "oldest" && c.part.(*partConfig).newline
			}},
		{"all", []Property{{"dir", "/d"}, {"batchSize", " 7 "}, {"wait", "9"}, {"order", "YOUNGEST"}, {"on", "TRUE"}, {"names", "a  b"}, {"kafka.acks", "1"}, {"serializer", "ORG.example.Text$Builder"}, {"serializer.appendNewline", "false"}}, "",
			func(c *testConfig) bool {
				return c.batch == 7 && c.wait == 9*time.Millisecond && c.order == "youngest" && c.on &&
					reflect.DeepEqual(c.names, []string{"a", "b"}) && c.extra["acks"] == "1" && !c.part.(*partConfig).newline
			}},
		{"missing", nil, "E dir: required, but not set (the directory to read)", nil},
		{"misspelt required", []Property{{"Dir", "x"}}, `W Dir: unknown property, ignored (did you mean "dir"?)|E dir: required, but not set (is "Dir" meant to be it?)`, nil},
		{"bad number", []Property{{"dir", "x"}, {"batchSize", "many"}}, `E batchSize: "many" is not a whole number of 32 bits (expects int in events, at least 1; default 100)`, nil},
		{"out of range", []Property{{"dir", "x"}, {"batchSize", "0"}}, `E batchSize: 0 is out of range: at least 1 (expects int in events, at least 1; default 100)`, nil},
		{"bad enum", []Property{{"dir", "x"}, {"order", "new"}}, `E order: "new" is not one of oldest, youngest (expects one of oldest, youngest; default oldest)`, nil},
		{"not quite a bool", []Property{{"dir", "x"}, {"on", "yes"}}, `W on: "yes" counts as false (write true or false)`, nil},
		{"old key", []Property{{"dir", "x"}, {"batch", "3"}}, `W batch: deprecated name, still honoured (write batchSize)`,
			func(c *testConfig) bool { return c.batch == 3 }},
		{"old and new key", []Property{{"dir", "x"}, {"batch", "3"}, {"batchSize", "4"}}, `W batch: deprecated, and without effect because batchSize is set (remove it)`,
			func(c *testConfig) bool { return c.batch == 4 }},
		{"ignored and refused", []Property{{"dir", "x"}, {"bufferMaxLines", "1"}, {"zookeeperConnect", "z"}},
			"W bufferMaxLines: no effect: Flume never reads it either|E zookeeperConnect: not supported: give the brokers instead", nil},
		{"unknown part", []Property{{"dir", "x"}, {"serializer", "TXT"}}, `E serializer: unknown serializer "TXT" (did you mean "TEXT"?)`, nil},
		{"unknown key of a part", []Property{{"dir", "x"}, {"serializer.appendNewlines", "1"}}, `W serializer.appendNewlines: unknown property, ignored (did you mean "appendNewline"?)`, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var c testConfig
			got := ""
			for i, f := range Decode(testRegistry(), &c, tt.props) {
				if i > 0 {
					got += "|"
				}
				sev := "W"
				if f.Error {
					sev = "E"
				}
				got += fmt.Sprintf("%s %s: %s", sev, f.Key, f.Message)
				if f.Hint != "" {
					got += " (" + f.Hint + ")"
				}
			}
			if got != tt.want {
				t.Errorf("findings:\n%s\nwant:\n%s", got, tt.want)
			}
			if tt.check != nil && !tt.check(&c) {
				t.Errorf("decoded: %+v", c)
			}
		})
	}
}

func TestRegistry(t *testing.T) {
	r := testRegistry()
	for _, n := range []string{"text", "TEXT", "org.example.text$builder"} {
		if _, ok := r.Lookup(KindSerializer, n); !ok {
			t.Errorf("%q not found", n)
		}
	}
	if _, ok := r.Lookup(KindSink, "text"); ok {
		t.Error("found under another kind")
	}
	defer func() {
		if recover() == nil {
			t.Error("a duplicate name did not panic")
		}
	}()
	r.Add(Info{Kind: KindSerializer, Name: "Text"}, nil)
}
