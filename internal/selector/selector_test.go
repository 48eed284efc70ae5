package selector

import (
	"errors"
	"fmt"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func build(typ string, channels []string, props ...component.Property) (component.Selector, error) {
	t, _ := component.Default().Lookup(component.KindSelector, typ)
	cfg := t.New().(component.SelectorConfig)
	for _, f := range component.Decode(component.Default(), cfg, props) {
		return nil, errors.New(f.Message)
	}
	return cfg.NewSelector(component.Env{}, channels)
}

func TestReplicating(t *testing.T) {
	s, err := build("replicating", []string{"a", "b", "c"}, component.Property{Key: "optional", Value: "b"})
	if err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(*s.(component.Uniform).Always(), *s.Select(&event.Event{})); got != "{[0 2] [1]} {[0 2] [1]}" {
		t.Errorf("routes %s", got)
	}
	var ke *component.KeyError
	if _, err := build("replicating", []string{"alpha"}, component.Property{Key: "optional", Value: "alpho"}); !errors.As(err, &ke) || ke.Hint != `did you mean "alpha"?` {
		t.Errorf("unknown optional channel: %v", err)
	}
}

func TestMultiplexing(t *testing.T) {
	p := component.Property{Key: "header", Value: "state"}
	s, err := build("multiplexing", []string{"a", "b", "c"}, p,
		component.Property{Key: "mapping.CZ", Value: "a"},
		component.Property{Key: "mapping.US", Value: "a  b"},
		component.Property{Key: "optional.US", Value: "b c"},
		component.Property{Key: "optional.FR", Value: "a c"},
		component.Property{Key: "default", Value: "c"})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct{ value, want string }{
		{"CZ", "{[0] []}"}, {"US", "{[0 1] [2]}"}, {"FR", "{[2] [0]}"}, {"cz", "{[2] []}"}, {"", "{[2] []}"}, {"-", "{[2] []}"},
	} {
		e := event.Event{Headers: []event.KV{{Key: "state", Value: []byte(tt.value)}}}
		if tt.value == "-" {
			e.Headers = nil
		}
		if got := fmt.Sprint(*s.Select(&e)); got != tt.want {
			t.Errorf("%q: route %s, want %s", tt.value, got, tt.want)
		}
	}
	e := event.Event{Headers: []event.KV{{Key: "state", Value: []byte("US")}}}
	if n := testing.AllocsPerRun(100, func() { s.Select(&e) }); n != 0 {
		t.Errorf("%v allocations per event", n)
	}
	if _, err := build("multiplexing", []string{"a"}, p); err == nil {
		t.Error("no mapping and no default was accepted")
	}
	if _, err := build("multiplexing", []string{"a"}, p, component.Property{Key: "mapping.x", Value: "b"}); err == nil {
		t.Error("a channel that is not the source's was accepted")
	}
}

func TestLoadBalancing(t *testing.T) {
	const events = 30000
	for _, policy := range []string{"", "Round_Robin", "random"} {
		var props []component.Property
		if policy != "" {
			props = append(props, component.Property{Key: "policy", Value: policy})
		}
		s, err := build("load_balancing", []string{"a", "b", "c"}, props...)
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := s.(component.PerEvent); !ok {
			t.Error("the agent would ask once for equal headers")
		}
		var got [3]int
		for range events {
			r := s.Select(&event.Event{})
			if len(r.Required) != 1 || len(r.Optional) != 0 {
				t.Fatalf("route %v", *r)
			}
			got[r.Required[0]]++
		}
		for i, n := range got {
			if even := events / 3; n < even*95/100 || n > even*105/100 || policy != "random" && n != even {
				t.Errorf("%q: channel %d gets %d of %d events", policy, i, n, events)
			}
		}
	}
	if _, err := build("load_balancing", []string{"a"}, component.Property{Key: "policy", Value: "best"}); err == nil {
		t.Error("an unknown policy was accepted")
	}
}
