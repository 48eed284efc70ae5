package sinkproc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
)

// fakeSink answers as it is told and writes down when it was asked.
type fakeSink struct {
	name    string
	channel string
	status  component.Status
	err     error
	log     *[]string
	begun   time.Time
	calls   int
}

func (s *fakeSink) Name() string    { return s.name }
func (s *fakeSink) Channel() string { return s.channel }
func (s *fakeSink) Process(context.Context) (component.Status, error) {
	s.calls++
	*s.log = append(*s.log, fmt.Sprintf("%s@%v", s.name, time.Since(s.begun)))
	return s.status, s.err
}

// fakes are the sinks named a, b, c, ….
func fakes(n int) ([]*fakeSink, *[]string) {
	log := new([]string)
	var sinks []*fakeSink
	for i := range n {
		sinks = append(sinks, &fakeSink{name: string(rune('a' + i)), log: log, begun: time.Now()})
	}
	return sinks, log
}

// build makes a processor out of properties "key=value".
func build(typ string, sinks []*fakeSink, props ...string) (component.SinkProcessor, []string, error) {
	t, ok := component.Default().Lookup(component.KindProcessor, typ)
	if !ok {
		return nil, nil, fmt.Errorf("no sink processor %s", typ)
	}
	var ps []component.Property
	for _, p := range props {
		k, v, _ := strings.Cut(p, "=")
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	cfg := t.New().(component.SinkProcessorConfig)
	var found []string
	note := func(f component.Finding) { found = append(found, f.Key+": "+f.Message) }
	for _, f := range component.Decode(component.Default(), cfg, ps) {
		note(f)
	}
	var gs []component.GroupSink
	for _, s := range sinks {
		gs = append(gs, s)
	}
	p, err := cfg.NewSinkProcessor(component.Env{Finding: note}, gs)
	slices.Sort(found)
	return p, found, err
}

func mustBuild(t *testing.T, typ string, sinks []*fakeSink, props ...string) component.SinkProcessor {
	t.Helper()
	p, found, err := build(typ, sinks, props...)
	if err != nil || len(found) > 0 {
		t.Fatalf("%v, findings %q", err, found)
	}
	return p
}

// every calls Process each step until the time is over.
func every(t *testing.T, p component.SinkProcessor, step, total time.Duration) {
	t.Helper()
	for end := time.Now().Add(total); !time.Now().After(end); time.Sleep(step) {
		_, _ = p.Process(t.Context())
	}
}

func wantLog(t *testing.T, log *[]string, want string) {
	t.Helper()
	if got := strings.Join(*log, " "); got != want {
		t.Errorf("the sinks were asked\n%s\nwant\n%s", got, want)
	}
	*log = nil
}

func TestDefault(t *testing.T) {
	sinks, _ := fakes(2)
	if _, _, err := build("DEFAULT", sinks); err == nil || !strings.Contains(err.Error(), "one sink, not 2") {
		t.Errorf("two sinks: %v", err)
	}
	p := mustBuild(t, "org.apache.flume.sink.DefaultSinkProcessor", sinks[:1])
	sinks[0].status = component.Backoff
	if st, err := p.Process(t.Context()); st != component.Backoff || err != nil || sinks[0].calls != 1 {
		t.Errorf("%v %v", st, err)
	}
}

func TestFailoverPriorities(t *testing.T) {
	sinks, log := fakes(4)
	p, found, err := build("failover", sinks, "priority.b=5", "priority.c=ten", "priority.d=5", "priority.e=1", "maxpenalty=soon")
	if err != nil {
		t.Fatal(err)
	}
	want := []string{`maxpenalty: "soon" is not a whole number of ms; using the default, 30000`,
		`priority.c: "ten" is not a whole number of 32 bits: the priority is -2`,
		`priority.d: sink d does not run: sink b has the same priority, 5`,
		`priority.e: sink "e" is not in the group: no effect`}
	if !slices.Equal(found, want) {
		t.Errorf("findings\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(want, "\n"))
	}
	for _, s := range sinks {
		s.err = errors.New("down")
	}
	if _, err := p.Process(t.Context()); err == nil || !strings.Contains(err.Error(), "nothing left to fail over to; the last was sink c: down") {
		t.Errorf("all down: %v", err)
	}
	var order []string
	for _, l := range *log {
		order = append(order, l[:1])
	}
	if got := strings.Join(order, " "); got != "b a c" { // 5, -1, -2
		t.Errorf("order %s", got)
	}
}

// Flume's cool-down: 2 s, 4 s, 8 s, … up to maxpenalty, and back to the live
// sinks after the first batch that goes through.
func TestFailoverPenalty(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sinks, log := fakes(2)
		p := mustBuild(t, "failover", sinks, "priority.a=10", "priority.b=5", "maxpenalty=10000")
		sinks[0].err = errors.New("down")
		every(t, p, time.Second, 40*time.Second)
		var tries []string
		for _, l := range *log {
			if at, ok := strings.CutPrefix(l, "a@"); ok {
				tries = append(tries, at)
			}
		}
		if got := strings.Join(tries, " "); got != "0s 2s 6s 14s 24s 34s" {
			t.Errorf("the failed sink was tried at %s", got)
		}
		if sinks[1].calls != 41 {
			t.Errorf("the other worked %d times, want 41", sinks[1].calls)
		}
		pen := p.(component.Penalizer)
		if d := time.Until(pen.FailedUntil(0)); d != 3*time.Second || !pen.FailedUntil(1).IsZero() {
			t.Errorf("left out for %v, and %v", d, pen.FailedUntil(1))
		}
		sinks[0].err = nil
		every(t, p, time.Second, 5*time.Second)
		*log = nil
		sinks[0].begun = time.Now()
		_, _ = p.Process(t.Context())
		wantLog(t, log, "a@0s")
		if !pen.FailedUntil(0).IsZero() {
			t.Error("a sink that delivers is still left out")
		}
		// The next failure is a first one again.
		sinks[0].err = errors.New("down")
		_, _ = p.Process(t.Context())
		if d := time.Until(pen.FailedUntil(0)); d != 2*time.Second {
			t.Errorf("left out for %v, want 2s", d)
		}
	})
}

// A sink on trial that has nothing to deliver stays on trial, is not punished,
// and does not keep the others from working on what it does not see.
func TestFailoverTrialWithoutEvents(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sinks, log := fakes(2)
		p := mustBuild(t, "failover", sinks)
		sinks[0].err = errors.New("down")
		_, _ = p.Process(t.Context())
		time.Sleep(3 * time.Second)
		sinks[0].err, sinks[0].status = nil, component.Empty
		*log = nil
		if st, err := p.Process(t.Context()); st != component.Empty || err != nil {
			t.Errorf("%v %v, want Empty", st, err)
		}
		wantLog(t, log, "a@3s") // b would find the same channel empty
		sinks[1].channel = "other"
		for range 2 {
			if st, err := p.Process(t.Context()); st != component.Ready || err != nil {
				t.Errorf("%v %v", st, err)
			}
		}
		wantLog(t, log, "a@3s b@3s a@3s b@3s")
		sinks[1].err = errors.New("down")
		if st, err := p.Process(t.Context()); st != component.Empty || err != nil {
			t.Errorf("%v %v, want Empty", st, err)
		}
		*log = nil
		sinks[0].status = component.Ready
		if st, err := p.Process(t.Context()); st != component.Ready || err != nil {
			t.Errorf("%v %v", st, err)
		}
		wantLog(t, log, "a@3s")
	})
}

// BACKOFF is no failure: the sink stays the active one.
func TestBackoffIsNoFailure(t *testing.T) {
	for _, typ := range []string{"failover", "load_balance"} {
		sinks, _ := fakes(2)
		p := mustBuild(t, typ, sinks)
		for _, s := range sinks {
			s.status = component.Backoff
		}
		if st, err := p.Process(t.Context()); st != component.Backoff || err != nil || sinks[0].calls+sinks[1].calls != 1 {
			t.Errorf("%s: %v %v after %d calls", typ, st, err, sinks[0].calls+sinks[1].calls)
		}
		if !p.(component.Penalizer).FailedUntil(0).IsZero() {
			t.Errorf("%s: left out", typ)
		}
	}
}

// What fails because the agent stops is no failure of the sink.
func TestStopIsNoFailure(t *testing.T) {
	for _, typ := range []string{"failover", "load_balance"} {
		sinks, _ := fakes(2)
		p := mustBuild(t, typ, sinks)
		ctx, stop := context.WithCancel(t.Context())
		stop()
		sinks[0].err = ctx.Err()
		if _, err := p.Process(ctx); !errors.Is(err, context.Canceled) || sinks[1].calls != 0 {
			t.Errorf("%s: %v", typ, err)
		}
		if !p.(component.Penalizer).FailedUntil(0).IsZero() {
			t.Errorf("%s: left out", typ)
		}
	}
}

func TestLoadBalanceIsEven(t *testing.T) {
	const rounds = 30000
	for _, selector := range []string{"round_robin", "RANDOM"} {
		sinks, _ := fakes(3)
		p := mustBuild(t, "load_balance", sinks, "selector="+selector)
		for range rounds {
			if st, err := p.Process(t.Context()); st != component.Ready || err != nil {
				t.Fatal(st, err)
			}
		}
		for _, s := range sinks {
			if even := rounds / 3; s.calls < even*95/100 || s.calls > even*105/100 {
				t.Errorf("%s: sink %s worked %d times of %d", selector, s.name, s.calls, rounds)
			}
		}
	}
}

// A batch that one sink cannot deliver goes to the next at once; without
// back-off the sink has its turn again the next time.
func TestLoadBalanceWithoutBackoff(t *testing.T) {
	sinks, log := fakes(3)
	p := mustBuild(t, "load_balance", sinks)
	sinks[1].err = errors.New("down")
	for range 6 {
		if _, err := p.Process(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	calls := map[string]int{}
	for _, l := range *log {
		calls[l[:1]]++
	}
	if !maps.Equal(calls, map[string]int{"a": 2, "b": 2, "c": 4}) {
		t.Errorf("calls %v", calls)
	}
	for _, s := range sinks {
		s.err = errors.New("down")
	}
	if _, err := p.Process(t.Context()); err == nil || !strings.Contains(err.Error(), "all sinks of the group have failed") {
		t.Errorf("all down: %v", err)
	}
}

// Flume's back-off: 2 s, 4 s, … up to maxTimeOut; a success does not begin
// anew, an hour without a failure does.
func TestLoadBalanceBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		sinks, _ := fakes(2)
		p := mustBuild(t, "load_balance", sinks, "backoff=true", "selector.maxTimeOut=10000")
		pen := p.(component.Penalizer)
		fail := func() time.Duration {
			sinks[0].err = errors.New("down")
			defer func() { sinks[0].err = nil }()
			for before := sinks[0].calls; sinks[0].calls == before; {
				if _, err := p.Process(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			return time.Until(pen.FailedUntil(0))
		}
		for _, want := range []time.Duration{2 * time.Second, 4 * time.Second, 8 * time.Second, 10 * time.Second, 10 * time.Second} {
			if got := fail(); got != want {
				t.Errorf("left out for %v, want %v", got, want)
			}
			before := sinks[0].calls
			every(t, p, time.Second, want-time.Millisecond)
			if sinks[0].calls != before {
				t.Error("a sink that is left out was asked")
			}
			time.Sleep(time.Second)
		}
		time.Sleep(time.Hour + 10*time.Second)
		if got := fail(); got != 2*time.Second {
			t.Errorf("after an hour: left out for %v, want 2s", got)
		}
		sinks[1].err = errors.New("down")
		_, err := p.Process(t.Context())
		if err == nil {
			t.Fatal("both down: no error")
		}
		calls := sinks[0].calls + sinks[1].calls
		if _, err = p.Process(t.Context()); err == nil || sinks[0].calls+sinks[1].calls != calls {
			t.Errorf("while both are left out: %v, and %d more calls", err, sinks[0].calls+sinks[1].calls-calls)
		}
	})
}

// Every bound that the property takes is kept, and the doubling does not run
// over.
func TestPenaltyBounds(t *testing.T) {
	for n, want := range map[int]time.Duration{1: 2 * time.Second, 16: 65536 * time.Second, 1000: 1 << 30 * time.Second} {
		if got := penalty(n, 1<<62); got != want {
			t.Errorf("penalty(%d) = %v, want %v", n, got, want)
		}
	}
	synctest.Test(t, func(t *testing.T) {
		sinks, _ := fakes(2)
		p := mustBuild(t, "load_balance", sinks, "backoff=true", "selector.maxTimeOut=9223372036854775807")
		sinks[0].err = errors.New("down")
		for range 40 {
			for before := sinks[0].calls; sinks[0].calls == before; time.Sleep(time.Minute) {
				_, _ = p.Process(t.Context())
			}
		}
		if d := time.Until(p.(component.Penalizer).FailedUntil(0)); d > 65536*time.Second || d < 65000*time.Second {
			t.Errorf("left out for %v after many failures", d)
		}
	})
}

func TestLoadBalanceConfig(t *testing.T) {
	sinks, _ := fakes(2)
	if _, _, err := build("load_balance", sinks[:1]); err == nil || !strings.Contains(err.Error(), "two sinks") {
		t.Errorf("one sink: %v", err)
	}
	if _, found, _ := build("load_balance", sinks, "selector=round_robin_backoff", "maxTimeOut=3"); len(found) != 2 ||
		!strings.Contains(found[1], `unknown sink-selector "round_robin_backoff"`) || !strings.Contains(found[0], "unknown property") {
		t.Errorf("findings %q", found)
	}
	p := mustBuild(t, "load_balance", sinks, "backoff=true", "selector.maxTimeOut=0").(*loadBalance)
	if p.maxTimeOut != defaultMaxTimeOut {
		t.Errorf("0 means %v, want the default", p.maxTimeOut)
	}
}

// onlyLast is a selector of one's own that only ever wants the last sink.
type onlyLast struct {
	what   string
	failed []int
}

func (o *onlyLast) Fields() []component.Field {
	return []component.Field{component.String("what", &o.what, "").Require()}
}
func (o *onlyLast) NewSinkSelector(_ component.Env, sinks []string) (component.SinkSelector, error) {
	switch o.what {
	case "refuse":
		return nil, &component.KeyError{Key: "what", Err: errors.New("told to")}
	case "overrun":
		return overrun{}, nil
	}
	return o, nil
}
func (o *onlyLast) Order(live []int) []int { return live[len(live)-1:] }
func (o *onlyLast) SinkFailed(sink int)    { o.failed = append(o.failed, sink) }

type overrun struct{}

func (overrun) Order([]int) []int { return []int{7} }

func TestSelectorOfOnesOwn(t *testing.T) {
	reg := &component.Registry{}
	own := new(onlyLast)
	reg.Add(component.Info{Kind: component.KindSinkSelector, Name: "only-last", Classes: []string{"com.example.OnlyLast"}}, func() component.Config { return own })
	sinks, _ := fakes(3)
	var gs []component.GroupSink
	for _, s := range sinks {
		gs = append(gs, s)
	}
	fresh := func(props ...component.Property) (component.SinkProcessor, error) {
		cfg := new(loadBalanceConfig)
		for _, f := range component.Decode(reg, cfg, append(props, component.Property{Key: "selector", Value: "com.example.OnlyLast"})) {
			return nil, errors.New(f.Key + ": " + f.Message)
		}
		return cfg.NewSinkProcessor(component.Env{}, gs)
	}
	p, err := fresh(component.Property{Key: "selector.what", Value: "last"}, component.Property{Key: "backoff", Value: "true"})
	if err != nil {
		t.Fatal(err)
	}
	sinks[2].err = errors.New("down")
	if _, err := p.Process(t.Context()); err == nil || sinks[0].calls+sinks[1].calls != 0 {
		t.Errorf("%v, and the sinks that it did not name were asked", err)
	}
	if st, err := p.Process(t.Context()); st != component.Ready || err != nil || sinks[1].calls != 1 || !slices.Equal(own.failed, []int{2}) {
		t.Errorf("%v %v, told of %v", st, err, own.failed)
	}
	if _, err := fresh(); err == nil || err.Error() != "selector.what: required, but not set" {
		t.Errorf("its required property: %v", err)
	}
	var ke *component.KeyError
	if _, err := fresh(component.Property{Key: "selector.what", Value: "refuse"}); !errors.As(err, &ke) || ke.Key != "selector.what" {
		t.Errorf("its constructor's error: %v", err)
	}
	p, err = fresh(component.Property{Key: "selector.what", Value: "overrun"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := p.Process(t.Context()); err == nil || !strings.Contains(err.Error(), "named sink 7 of 3") {
		t.Errorf("an index that is none: %v", err)
	}
}

func TestProcessDoesNotAllocate(t *testing.T) {
	sinks, log := fakes(3)
	for _, typ := range []string{"failover", "load_balance"} {
		p := mustBuild(t, typ, sinks)
		quiet := make([]component.GroupSink, len(sinks))
		for i := range quiet {
			quiet[i] = quietSink{}
		}
		switch p := p.(type) {
		case *failover:
			p.sinks = quiet
		case *loadBalance:
			p.sinks = quiet
		}
		_, _ = p.Process(t.Context())
		ctx := t.Context()
		if n := testing.AllocsPerRun(100, func() { _, _ = p.Process(ctx) }); n > 0 {
			t.Errorf("%s: %v allocations a step", typ, n)
		}
	}
	_ = log
}

type quietSink struct{}

func (quietSink) Channel() string                                   { return "c" }
func (quietSink) Name() string                                      { return "q" }
func (quietSink) Process(context.Context) (component.Status, error) { return component.Ready, nil }
