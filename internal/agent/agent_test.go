package agent

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/channel/memory"
	"github.com/sluice-data/sluice/internal/flumeconf"
	_ "github.com/sluice-data/sluice/internal/selector"
	_ "github.com/sluice-data/sluice/internal/sinkproc"
)

// testSource emits the numbers below count, ten a batch, again after a failure.
type testSource struct {
	count   int
	perTake int
	tag     string
	fail    string
	mu      sync.Mutex
	next    int
}

func (s *testSource) Fields() []component.Field {
	return []component.Field{
		component.Int("count", &s.count, 100),
		component.Int("batchSize", &s.perTake, 10).Min(1),
		component.String("tag", &s.tag, ""),
		component.String("fail", &s.fail, ""),
		component.String("must", new(string), "x"),
		component.Refuse("old", "write new instead"),
	}
}
func (s *testSource) NewSource(component.Env) (component.Source, error) {
	if s.fail == "new" {
		return nil, &component.KeyError{Key: "fail", Err: errors.New("told to"), Hint: "do not"}
	}
	return s, nil
}
func (s *testSource) BatchSize() int              { return s.perTake }
func (s *testSource) Start(context.Context) error { return nil }
func (s *testSource) Stop(context.Context) error  { return nil }
func (s *testSource) Run(ctx context.Context, out component.Output) error {
	for ctx.Err() == nil {
		s.mu.Lock()
		from := s.next
		s.mu.Unlock()
		if from >= s.count {
			<-ctx.Done()
			return nil
		}
		b := out.NewBatch()
		n := min(s.perTake, s.count-from)
		for i := from; i < from+n; i++ {
			b.AppendEvent(fmt.Appendf(nil, "%s%d", s.tag, i), []event.KV{{Key: "mod", Value: fmt.Appendf(nil, "%d", i%3)}})
		}
		if out.Emit(ctx, b) == nil {
			s.mu.Lock()
			s.next += n
			s.mu.Unlock()
		}
	}
	return nil
}

// collector is where test sinks write.
type collector struct {
	mu   sync.Mutex
	got  []string
	hook func(evs []event.Event) error
}

var collectors sync.Map // name → *collector, one per test

type testSink struct {
	into string
	c    *collector
}

func (s *testSink) Fields() []component.Field {
	return []component.Field{component.String("into", &s.into, "").Require()}
}
func (s *testSink) NewSink(component.Env) (component.Sink, error) {
	c, _ := collectors.LoadOrStore(s.into, &collector{})
	s.c = c.(*collector)
	return s, nil
}
func (s *testSink) Start(context.Context) error { return nil }
func (s *testSink) Stop(context.Context) error  { return nil }
func (s *testSink) Write(_ context.Context, evs []event.Event) error {
	s.c.mu.Lock()
	defer s.c.mu.Unlock()
	if s.c.hook != nil {
		if err := s.c.hook(evs); err != nil {
			return err
		}
	}
	for _, e := range evs {
		s.c.got = append(s.c.got, string(e.Body))
	}
	return nil
}

type dropConfig struct{ last string }

func (c *dropConfig) Fields() []component.Field {
	return []component.Field{component.String("last", &c.last, "").Require()}
}
func (c *dropConfig) NewInterceptor(component.Env) (component.Interceptor, error) {
	return &drop{last: c.last[0]}, nil
}

type drop struct{ last byte }

func (d *drop) Intercept(b *event.Batch) error {
	b.Keep(func(e *event.Event) bool { return e.Body[len(e.Body)-1] != d.last })
	return nil
}

func init() {
	component.RegisterSource(component.Info{Name: "test-numbers"}, func() component.SourceConfig { return new(testSource) })
	component.RegisterSink(component.Info{Name: "test-collect"}, func() component.SinkConfig { return new(testSink) })
	component.RegisterInterceptor(component.Info{Name: "test-drop"}, func() component.InterceptorConfig { return new(dropConfig) })
}

func load(t *testing.T, text string) (*Agent, []flumeconf.Diagnostic) {
	t.Helper()
	t.Cleanup(collectors.Clear) // so that -count works
	props, diags := flumeconf.Parse("test.conf", []byte(text))
	conf, more := flumeconf.NewConfig(props)
	diags = append(diags, more...)
	ag, more, ok := conf.Agent(t.Context(), "a", flumeconf.FilterOptions{})
	diags = append(diags, more...)
	if !ok {
		t.Fatalf("no agent a: %v", diags)
	}
	a, more := Build(ag, Options{StopTimeout: 3 * time.Second})
	return a, append(diags, more...)
}

const flow = `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = test-numbers
a.sources.r.channels = c
a.channels.c.type = memory
a.sinks.k.type = test-collect
a.sinks.k.channel = c
`

// run runs the agent until done answers true, then stops it.
func run(t *testing.T, a *Agent, done func() bool) error {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	res := make(chan error, 1)
	go func() { res <- a.Run(ctx) }()
	for !done() {
		select {
		case err := <-res:
			t.Fatalf("the agent ended by itself: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
	stop()
	return <-res
}

// runByClock is run outside a synctest bubble, where a stop may be held up by the machine.
func runByClock(t *testing.T, a *Agent, done func() bool) error {
	t.Helper()
	a.stopTime = time.Minute
	return run(t, a, done)
}

func into(name string) *collector {
	c, _ := collectors.LoadOrStore(name, &collector{})
	return c.(*collector)
}

func (c *collector) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.got)
}

func wantNumbers(t *testing.T, got []string, count int, keep func(i int) bool) {
	t.Helper()
	j := 0
	for i := range count {
		if keep != nil && !keep(i) {
			continue
		}
		if j >= len(got) || got[j] != fmt.Sprint(i) {
			t.Fatalf("event %d is missing or out of order: %d events, around here %q", i, len(got), got[max(0, j-2):min(len(got), j+3)])
		}
		j++
	}
	if j != len(got) {
		t.Fatalf("%d events more than expected: %q", len(got)-j, got[j:])
	}
}

func TestFlow(t *testing.T) {
	a, diags := load(t, flow+"a.sinks.k.into = flow\na.sources.r.count = 1000\na.sources.r.interceptors = i\na.sources.r.interceptors.i.type = test-drop\na.sources.r.interceptors.i.last = 7\n")
	if len(diags) != 0 {
		t.Fatalf("findings: %v", diags)
	}
	c := into("flow")
	if err := runByClock(t, a, func() bool { return c.count() == 900 }); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, c.got, 1000, func(i int) bool { return i%10 != 7 })
	want := map[string]int64{"EventReceivedCount": 1000, "EventAcceptedCount": 1000, "AppendBatchReceivedCount": 100,
		"EventPutSuccessCount": 900, "EventTakeSuccessCount": 900, "EventDrainSuccessCount": 900, "EventInCount": 1000, "EventDroppedCount": 100}
	for _, m := range a.Metrics() {
		for n, v := range m.Counters {
			if w, ok := want[n]; ok {
				if v != w {
					t.Errorf("%s %s = %d, want %d", m.Kind, n, v, w)
				}
				delete(want, n)
			}
		}
	}
	if len(want) != 0 {
		t.Errorf("counters not there: %v", want)
	}
	if n := a.pool.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held after the stop", n)
	}
	if h := a.Health(); len(h) != 0 {
		t.Errorf("health: %v", h)
	}
}

// A sink that fails in every way there is delivers everything in the end, in
// order, and what it took is never counted as lost.
func TestSinkFailures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = failing\na.sources.r.count = 300\n")
		c := into("failing")
		calls := 0
		c.hook = func(evs []event.Event) error {
			calls++
			switch calls {
			case 1:
				return errors.New("peer is down")
			case 2:
				return component.ErrBackoff
			case 3:
				panic("a bug in the sink")
			case 5: // all but the last event get through
				for _, e := range evs[:len(evs)-1] {
					c.got = append(c.got, string(e.Body))
				}
				return &component.PartialError{Failed: map[int]error{len(evs) - 1: errors.New("too large")}}
			}
			return nil
		}
		if err := run(t, a, func() bool { return c.count() >= 300 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 300, nil)
		if calls < 6 {
			t.Errorf("the hook was called %d times only", calls)
		}
	})
}

// A stopped sink fills the channel; the source waits and nothing is lost.
func TestFullChannelSlowsTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = blocked\na.sources.r.count = 500\na.channels.c.capacity = 50\na.channels.c.transactionCapacity = 10\n")
		c := into("blocked")
		var open atomic.Bool
		c.hook = func([]event.Event) error {
			if !open.Load() {
				return errors.New("closed")
			}
			return nil
		}
		begun := time.Now()
		err := run(t, a, func() bool {
			if time.Since(begun) > time.Minute {
				open.Store(true)
			} else if time.Since(begun) > 30*time.Second {
				if h := fmt.Sprint(a.Health()); !strings.Contains(h, "channel is full") || !strings.Contains(h, "closed") {
					t.Fatalf("health does not say what is wrong: %s", h)
				}
			}
			return c.count() >= 500
		})
		if err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 500, nil)
		if h := a.Health(); len(h) != 0 {
			t.Errorf("health after the recovery: %v", h)
		}
	})
}

// What cannot be drained within the bound is named, and the stop ends.
func TestStopIsBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = hanging\na.sources.r.count = 30\n")
		c := into("hanging")
		c.hook = func([]event.Event) error { return errors.New("never") }
		full := func() bool { return a.channels[0].ch.Stats().Size == 30 }
		err := run(t, a, full)
		if err == nil || !strings.Contains(err.Error(), "30 events were left in channel c") {
			t.Errorf("stop: %v", err)
		}
	})
}

func TestDrainAtStop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = draining\na.sources.r.count = 60\n")
		c := into("draining")
		var open atomic.Bool
		c.hook = func([]event.Event) error {
			if !open.Load() {
				return errors.New("not yet")
			}
			return nil
		}
		if err := run(t, a, func() bool {
			if a.channels[0].ch.Stats().Size == 60 {
				open.Store(true)
				return true
			}
			return false
		}); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 60, nil)
	})
}

func TestMultiplexingAndReplicating(t *testing.T) {
	a, diags := load(t, `
a.sources = r
a.channels = c0 c1 all
a.sinks = k0 k1 kall
a.sources.r.type = test-numbers
a.sources.r.count = 990
a.sources.r.channels = c0 c1 all
a.sources.r.selector.type = multiplexing
a.sources.r.selector.header = mod
a.sources.r.selector.mapping.0 = c0 all
a.sources.r.selector.mapping.1 = c1 all
a.sources.r.selector.default = all
a.channels.c0.type = memory
a.channels.c1.type = memory
a.channels.all.type = memory
a.sinks.k0.type = test-collect
a.sinks.k0.into = mux0
a.sinks.k0.channel = c0
a.sinks.k1.type = test-collect
a.sinks.k1.into = mux1
a.sinks.k1.channel = c1
a.sinks.kall.type = test-collect
a.sinks.kall.into = muxall
a.sinks.kall.channel = all
`)
	if len(diags) != 0 {
		t.Fatalf("findings: %v", diags)
	}
	c0, c1, all := into("mux0"), into("mux1"), into("muxall")
	if err := runByClock(t, a, func() bool { return c0.count() == 330 && c1.count() == 330 && all.count() == 990 }); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, all.got, 990, nil)
	wantNumbers(t, c0.got, 990, func(i int) bool { return i%3 == 0 })
	wantNumbers(t, c1.got, 990, func(i int) bool { return i%3 == 1 })
	if n := a.pool.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held after the stop", n)
	}
}

// What the selector sends nowhere is counted.
func TestUnroutedEventsAreCounted(t *testing.T) {
	a, _ := load(t, flow+"a.sinks.k.into = unrouted\na.sources.r.count = 99\na.sources.r.selector.type = multiplexing\na.sources.r.selector.header = mod\na.sources.r.selector.mapping.0 = c\n")
	c := into("unrouted")
	if err := runByClock(t, a, func() bool { return c.count() == 33 && a.sources[0].metrics.Counter("EventAcceptedCount").Load() == 99 }); err != nil {
		t.Fatal(err)
	}
	if n := a.sources[0].metrics.Counter("EventUnroutedCount").Load(); n != 66 {
		t.Errorf("%d events counted, want 66", n)
	}
}

// A filter that passes one event in a thousand must not keep the memory of
// the other 999 in the channel.
func TestSurvivorsDoNotPinTheirBatch(t *testing.T) {
	a, _ := load(t, flow+"a.sinks.k.into = pinned\na.sources.r.count = 0\na.channels.c.capacity = 1000\n")
	p, ch := a.sources[0].out, a.channels[0]
	line := bytes.Repeat([]byte("x"), 100)
	for range 500 {
		blk := a.pool.Block(256 << 10)
		b := a.pool.NewBatch()
		b.Attach(blk)
		for range 1000 {
			n := copy(blk.Free(), line)
			b.Add(blk.Extend(n))
		}
		blk.Release()
		i := 0
		b.Keep(func(*event.Event) bool { i++; return i == 500 })
		if err := p.Emit(t.Context(), b); err != nil {
			t.Fatal(err)
		}
	}
	if s := ch.ch.Stats(); s.Size != 500 {
		t.Fatalf("%d events in the channel", s.Size)
	}
	if n := a.pool.Outstanding(); n > 5 { // 500 × 100 bytes in blocks of 32 KiB
		t.Errorf("%d blocks held by 500 events of 100 bytes", n)
	}
}

func TestEmitDoesNotAllocate(t *testing.T) {
	a, _ := load(t, flow+"a.sinks.k.into = alloc\na.sources.r.count = 0\na.channels.c.capacity = 10000\na.channels.c.transactionCapacity = 1000\na.sources.r.interceptors = i\na.sources.r.interceptors.i.type = test-drop\na.sources.r.interceptors.i.last = 7\n")
	p, tk := a.sources[0].out, a.channels[0].ch.NewTaker()
	line := []byte("20160101000000,A0001,100,79,71,87,1,1,1,1,A,A,94")
	garbage := []byte("garbage 7")
	ctx := t.Context()
	round := func() {
		b := p.NewBatch()
		for i := range 1000 {
			if i%10 == 0 {
				b.Append(garbage)
			} else {
				b.Append(line)
			}
		}
		if err := p.Emit(ctx, b); err != nil {
			t.Fatal(err)
		}
		l, _ := tk.Take(ctx, 1000)
		if len(l.Events()) != 900 {
			t.Fatalf("took %d events", len(l.Events()))
		}
		_ = l.Commit()
	}
	round()
	if n := testing.AllocsPerRun(50, round); n > 20 { // the race detector drops pooled things at random, and so may a GC
		t.Errorf("%v allocations for 1000 events", n)
	}
}

func TestFindings(t *testing.T) {
	tests := []struct {
		name, text string
		want       []string // of each finding, in order
		runnable   bool
	}{
		{"unknown source type", strings.Replace(flow, "test-numbers", "test-number", 1) + "a.sinks.k.into = x\n",
			[]string{`test.conf:5: a.sources.r.type: unknown source type "test-number" (did you mean "test-numbers"?)`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, false},
		{"type not built", strings.Replace(flow, "test-numbers", "jms", 1) + "a.sinks.k.into = x\n",
			[]string{`test.conf:5: a.sources.r.type: Flume's source "jms" is not there yet in Sluice: the source is left out`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"unknown key", flow + "a.sinks.k.into = x\na.sources.r.batchsize = 3\n",
			[]string{`test.conf:11: a.sources.r.batchsize: unknown property, ignored (did you mean "batchSize"?)`}, true},
		{"missing required key", flow,
			[]string{`test.conf:8: a.sinks.k.into: required, but not set`,
				`test.conf:7: a.channels.c.type: channel "c" has no sink that stands: what goes in stays there (its sources will wait when it is full)`}, true},
		{"bad number", flow + "a.sinks.k.into = x\na.sources.r.count = many\n",
			[]string{`test.conf:11: a.sources.r.count: "many" is not a whole number of 32 bits (expects int; default 100)`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"a sink without its channel", strings.Replace(flow, "a.sinks.k.channel = c", "a.sinks.k.channel = d", 1) + "a.sinks.k.into = x\n",
			[]string{`test.conf:9: a.sinks.k.channel: channel "d" is not there: the sink is left out (the agent's channels: c)`,
				`test.conf:7: a.channels.c.type: channel "c" has no sink that stands: what goes in stays there (its sources will wait when it is full)`}, true},
		{"batch larger than the transaction capacity", flow + "a.sinks.k.into = x\na.sources.r.batchSize = 101\n",
			[]string{`test.conf:11: a.sources.r.batchSize: batch size 101 is larger than the transactionCapacity of channel "c", 100 (lower it to 100, or raise the channel's transactionCapacity)`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"constructor error", flow + "a.sinks.k.into = x\na.sources.r.fail = new\n",
			[]string{`test.conf:11: a.sources.r.fail: told to (do not)`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"interceptor without type", flow + "a.sinks.k.into = x\na.sources.r.interceptors = i\n",
			[]string{`test.conf:5: a.sources.r.interceptors.i.type: required, but not set: the source is left out`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"interceptor not listed", flow + "a.sinks.k.into = x\na.sources.r.interceptors.i.type = test-drop\n",
			[]string{`test.conf:11: a.sources.r.interceptors.i.type: interceptor "i" is not in the source's list: ignored (add it to a.sources.r.interceptors)`}, true},
		{"selector error", flow + "a.sinks.k.into = x\na.sources.r.selector.type = multiplexing\na.sources.r.selector.mapping.x = d\n",
			[]string{`test.conf:12: a.sources.r.selector.mapping.x: channel "d" is not one of the source's (the source's channels: c)`,
				`test.conf:7: a.channels.c.type: channel "c" has no source that stands: nothing will come out of it`}, true},
		{"default group", flow + "a.sinks.k.into = x\na.sinkgroups = g\na.sinkgroups.g.sinks = k\na.sinkgroups.g.processor.type = default\n", nil, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, diags := load(t, tt.text)
			var got []string
			for _, d := range diags {
				got = append(got, d.String())
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if a.Runnable() != tt.runnable {
				t.Errorf("runnable: %v", a.Runnable())
			}
		})
	}
}
