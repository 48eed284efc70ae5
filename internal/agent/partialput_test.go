package agent

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// partial is a memory channel that takes some events of a batch at a time, as
// a topic of Kafka does, and some never.
type partial struct {
	component.Channel
	pool *event.Pool
	bad  string // bodies with it are never taken
	puts int
}

type partialConfig struct {
	memory component.Config
	bad    string
}

func (c *partialConfig) Fields() []component.Field {
	typ, _ := component.Default().Lookup(component.KindChannel, "memory")
	c.memory = typ.New()
	return append(c.memory.Fields(), component.String("bad", &c.bad, ""))
}

func (c *partialConfig) NewChannel(env component.Env) (component.Channel, error) {
	ch, err := c.memory.(component.ChannelConfig).NewChannel(env)
	return &partial{Channel: ch, pool: event.NewPool(), bad: c.bad}, err
}

func (p *partial) IsShared() {}

func (p *partial) Put(ctx context.Context, b *event.Batch) error {
	p.puts++
	failed := make(map[int]error)
	some := p.pool.NewBatch()
	defer some.Release()
	for i, e := range b.Events() {
		switch {
		case p.bad != "" && strings.Contains(string(e.Body), p.bad):
			failed[i] = component.Permanent(errors.New("too large"))
		case (i+p.puts)%3 == 0 && b.Len() > 1:
			failed[i] = errors.New("no answer")
		default:
			some.AppendEvent(e.Body, e.Headers)
		}
	}
	if some.Len() > 0 {
		if err := p.Channel.Put(ctx, some); err != nil {
			return err
		}
	}
	switch {
	case len(failed) == 0:
		return nil
	case b.Len() == 1:
		return failed[0]
	}
	return &component.PartialError{Failed: failed}
}

func init() {
	component.RegisterChannel(component.Info{Name: "test-partial"}, func() component.ChannelConfig { return new(partialConfig) })
}

// Of a batch that a channel took in part only the rest is put again.
func TestPartialPut(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, strings.Replace(flow, "memory", "test-partial", 1)+"a.sinks.k.into = partial\na.sources.r.count = 200\na.sources.r.batchSize = 20\n")
		c := into("partial")
		if err := run(t, a, func() bool { return c.count() >= 200 }); err != nil {
			t.Fatal(err)
		}
		slices.SortFunc(c.got, func(a, b string) int {
			if n := len(a) - len(b); n != 0 {
				return n
			}
			return strings.Compare(a, b)
		})
		wantNumbers(t, c.got, 200, nil)
		for _, m := range a.Metrics() {
			if n, ok := m.Counters["EventPutSuccessCount"]; ok && n != 200 {
				t.Errorf("EventPutSuccessCount %d", n)
			}
		}
		if h := a.Health(); len(h) != 0 {
			t.Errorf("health: %v", h)
		}
	})
}

// What such a channel never takes becomes a dead letter, and nothing else does.
func TestPartialPutDeadLetters(t *testing.T) {
	a, _ := load(t, strings.Replace(flow, "memory", "test-partial", 1)+"a.channels.c.bad = 7\na.sinks.k.into = partialdead\na.sources.r.count = 100\na.sources.r.batchSize = 20\n"+
		"a.sources.r.deadletter = file\na.sources.r.deadletter.directory = "+t.TempDir()+"\n")
	c := into("partialdead")
	if err := runByClock(t, a, func() bool { return c.count() >= 81 }); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	for _, b := range c.got {
		if seen[b] || strings.Contains(b, "7") {
			t.Errorf("%s came, or came twice", b)
		}
		seen[b] = true
	}
	if len(seen) != 81 {
		t.Errorf("%d events", len(seen))
	}
}

// A channel that others take from, or put into, is complete without a sink, or without a source.
func TestSharedChannel(t *testing.T) {
	for _, text := range []string{
		"a.sources = r\na.channels = c\na.sources.r.type = test-numbers\na.sources.r.channels = c\na.channels.c.type = test-partial\n",
		"a.sinks = k\na.channels = c\na.sinks.k.type = test-collect\na.sinks.k.into = x\na.sinks.k.channel = c\na.channels.c.type = test-partial\n",
	} {
		a, diags := load(t, text)
		if len(diags) > 0 || len(a.channels) != 1 {
			t.Errorf("%v, %d channels", diags, len(a.channels))
		}
	}
}
