package agent

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// groupFlow is an agent with a group g of three sinks on channel c, which
// write into NAME0, NAME1 and NAME2.
func groupFlow(name, processor string, more ...string) string {
	text := `
a.sources = r
a.channels = c
a.sinks = k0 k1 k2
a.sinkgroups = g
a.sinkgroups.g.sinks = k0 k1 k2
a.sinkgroups.g.processor.type = ` + processor + `
a.sources.r.type = test-numbers
a.sources.r.channels = c
a.channels.c.type = memory
`
	for i := range 3 {
		text += fmt.Sprintf("a.sinks.k%d.type = test-collect\na.sinks.k%d.channel = c\na.sinks.k%d.into = %s%d\n", i, i, i, name, i)
	}
	return text + strings.Join(more, "\n") + "\n"
}

func groupMetric(a *Agent) Metric {
	ms := a.Metrics()
	i := slices.IndexFunc(ms, func(m Metric) bool { return m.Kind == "SINKGROUP" })
	return ms[i]
}

// The sink with the highest priority works; when it fails the next one takes
// over at once, and gives the work back when the penalty is over.
func TestFailoverGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, diags := load(t, groupFlow("fo", "failover", "a.sinkgroups.g.processor.priority.k0 = 1", "a.sinkgroups.g.processor.priority.k1 = 3",
			"a.sinkgroups.g.processor.priority.k2 = 2", "a.sinkgroups.g.processor.maxpenalty = 10000", "a.sources.r.count = 0"))
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		sinks := []*collector{into("fo0"), into("fo1"), into("fo2")}
		down := false
		sinks[1].hook = func([]event.Event) error {
			if down {
				return errors.New("peer is down")
			}
			return nil
		}
		set := func(d bool) {
			sinks[1].mu.Lock()
			defer sinks[1].mu.Unlock()
			down = d
		}
		ctx, stop := context.WithCancel(t.Context())
		res := make(chan error, 1)
		go func() { res <- a.Run(ctx) }()
		n := 0
		emit := func(events int) {
			t.Helper()
			for range events {
				b := a.pool.NewBatch()
				b.AppendEvent(fmt.Appendf(nil, "%d", n), nil)
				n++
				if err := a.sources[0].out.Emit(ctx, b); err != nil {
					t.Fatal(err)
				}
			}
			synctest.Wait()
		}
		counts := func() string {
			return fmt.Sprint(sinks[0].count(), sinks[1].count(), sinks[2].count())
		}
		time.Sleep(time.Second)
		emit(10)
		if got := counts(); got != "0 10 0" {
			t.Errorf("with all up: %s", got)
		}
		set(true)
		at := time.Now()
		emit(10)
		if got := counts(); got != "0 10 10" {
			t.Errorf("after a failure: %s", got)
		}
		if !time.Now().Equal(at) {
			t.Errorf("the failover took %v", time.Since(at))
		}
		if h := fmt.Sprint(a.Health()); !strings.Contains(h, "sink k1") || !strings.Contains(h, "left out of its group until") || !strings.Contains(h, "peer is down") {
			t.Errorf("health: %s", h)
		}
		m := groupMetric(a)
		if m.Name != "g" || !m.Sinks[2].Active || m.Sinks[1].Active || m.Sinks[1].FailedUntil.Sub(at) != 2*time.Second || m.Counters["SinkSwitchCount"] != 2 {
			t.Errorf("metrics: %+v", m)
		}
		set(false)
		time.Sleep(4 * time.Second) // the penalty, and the rest of the take that is waiting
		emit(10)
		if got := counts(); got != "0 20 10" {
			t.Errorf("after the penalty: %s", got)
		}
		if h := a.Health(); len(h) > 0 {
			t.Errorf("health: %v", h)
		}
		stop()
		if err := <-res; err != nil {
			t.Fatal(err)
		}
		all := slices.Concat(sinks[1].got[:10], sinks[2].got, sinks[1].got[10:])
		wantNumbers(t, all, 30, nil)
		if n := a.pool.Outstanding(); n != 0 {
			t.Errorf("%d blocks still held", n)
		}
	})
}

func TestLoadBalanceGroup(t *testing.T) {
	for _, selector := range []string{"round_robin", "random"} {
		synctest.Test(t, func(t *testing.T) {
			const count = 30000
			a, diags := load(t, groupFlow("lb", "load_balance", "a.sinkgroups.g.processor.selector = "+selector, fmt.Sprintf("a.sources.r.count = %d", count)))
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			sinks := []*collector{into("lb0"), into("lb1"), into("lb2")}
			for _, n := range a.sinks {
				n.batch = 1 // so that a turn is an event
			}
			var all []string
			if err := run(t, a, func() bool { return sinks[0].count()+sinks[1].count()+sinks[2].count() >= count }); err != nil {
				t.Fatal(err)
			}
			for i, s := range sinks {
				if even := count / 3; s.count() < even*95/100 || s.count() > even*105/100 {
					t.Errorf("%s: sink k%d got %d of %d", selector, i, s.count(), count)
				}
				all = append(all, s.got...)
			}
			slices.SortFunc(all, func(x, y string) int {
				if len(x) != len(y) {
					return len(x) - len(y)
				}
				return strings.Compare(x, y)
			})
			wantNumbers(t, all, count, nil)
		})
	}
}

// A sink that does not come up, and one that was left out, cost the others
// nothing; the one joins in when it comes up.
func TestGroupWithASinkThatIsDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		text := strings.Replace(groupFlow("dn", "load_balance", "a.sinks.k0.tries = 20", "a.sources.r.count = 0"), "k0.type = test-collect", "k0.type = test-down", 1)
		text = strings.Replace(text, "k1.channel = c", "k1.channel = d", 1)
		a, diags := load(t, text)
		if len(diags) != 1 || !strings.Contains(diags[0].String(), `channel "d" is not there: the sink is left out`) {
			t.Fatal(diags)
		}
		ctx, stop := context.WithCancel(t.Context())
		res := make(chan error, 1)
		go func() { res <- a.Run(ctx) }()
		time.Sleep(startPause + time.Second)
		emit := func() {
			b := a.pool.NewBatch()
			b.AppendEvent([]byte("x"), nil)
			if err := a.sources[0].out.Emit(ctx, b); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
		}
		for range 5 {
			emit()
		}
		if n := into("dn2").count(); n != 5 {
			t.Errorf("%d events through the sink that is up, want 5", n)
		}
		if h := fmt.Sprint(a.Health()); !strings.Contains(h, "sink k0") || strings.Contains(h, "sink k2") {
			t.Errorf("health: %s", h)
		}
		time.Sleep(time.Minute)
		for range 6 {
			emit()
		}
		if into("dn0").count() == 0 || into("dn2").count() == 5 {
			t.Errorf("after it came up: %d and %d events", into("dn0").count(), into("dn2").count())
		}
		stop()
		if err := <-res; err != nil {
			t.Fatal(err)
		}
	})
}

// When all sinks are left out the group waits for the first of them, and for
// no more.
func TestAllSinksFail(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, groupFlow("af", "failover", "a.sources.r.count = 1"))
		var tries []time.Duration
		var begun time.Time
		for i := range 3 {
			into(fmt.Sprintf("af%d", i)).hook = func([]event.Event) error {
				if i == 0 {
					if begun.IsZero() {
						begun = time.Now()
					}
					tries = append(tries, time.Since(begun))
				}
				if time.Since(begun) < 20*time.Second {
					return errors.New("down")
				}
				return nil
			}
		}
		done := func() bool { return into("af0").count()+into("af1").count()+into("af2").count() == 1 }
		seen := false
		if err := run(t, a, func() bool {
			if !seen && len(a.groups) == 1 && groupMetric(a).Counters["AllSinksFailedCount"] > 0 {
				h := fmt.Sprint(a.Health())
				seen = strings.Contains(h, "sinkgroup g") && strings.Contains(h, "nothing left to fail over to")
			}
			return done()
		}); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(tries); got != "[0s 2s 6s 14s 30s]" {
			t.Errorf("the first sink was tried at %s", got)
		}
		if !seen {
			t.Error("health did not name the group")
		}
		if h := fmt.Sprint(a.Health()); strings.Contains(h, "sinkgroup g") || strings.Contains(h, "sink k0") {
			t.Errorf("health: %v", h) // the others have yet to show that they work
		}
	})
}

// Each sink takes from its own channel. One that is empty does not hold the
// others up, and a stop drains also what the processor would leave.
func TestGroupOverSeveralChannels(t *testing.T) {
	for _, processor := range []string{"load_balance", "failover"} {
		synctest.Test(t, func(t *testing.T) {
			text := groupFlow("sc", processor, "a.sources.r.count = 600", "a.channels.c1.type = memory", "a.channels.c2.type = memory",
				"a.channels.c1.capacity = 1000", "a.channels.c2.capacity = 1000")
			text = strings.Replace(text, "a.channels = c\n", "a.channels = c c1 c2\n", 1)
			text = strings.Replace(text, "r.channels = c\n", "r.channels = c1 c2\n", 1)
			text = strings.Replace(text, "k1.channel = c\n", "k1.channel = c1\n", 1)
			text = strings.Replace(text, "k2.channel = c\n", "k2.channel = c2\n", 1)
			a, _ := load(t, text)
			took, err := runFor(t, a, 20*time.Second)
			if err != nil {
				t.Fatal(err)
			}
			if took > time.Second {
				t.Errorf("%s: the stop took %v", processor, took)
			}
			wantNumbers(t, into("sc1").got, 600, nil)
			wantNumbers(t, into("sc2").got, 600, nil)
		})
	}
}

// A batch that fails in part is given back whole: the next sink gets all of it.
func TestPartialFailureInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, groupFlow("pf", "failover", "a.sources.r.count = 10"))
		into("pf0").hook = func(evs []event.Event) error {
			return &component.PartialError{Failed: map[int]error{len(evs) - 1: errors.New("this one")}}
		}
		if err := run(t, a, func() bool { return into("pf1").count() == 10 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, into("pf1").got, 10, nil)
	})
}

// ErrBackoff of a sink in a group: the group waits as a sink would.
func TestBackoffInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, groupFlow("bo", "failover", "a.sources.r.count = 10"))
		var at []time.Duration
		var begun time.Time
		into("bo0").hook = func([]event.Event) error {
			if begun.IsZero() {
				begun = time.Now()
			}
			at = append(at, time.Since(begun))
			if len(at) < 4 {
				return component.ErrBackoff
			}
			return nil
		}
		if err := run(t, a, func() bool { return into("bo0").count() == 10 }); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(at); got != "[0s 1s 3s 6s]" {
			t.Errorf("tried at %s", got)
		}
	})
}

// lastFirst is a processor of one's own.
type lastFirst struct {
	mode  string
	sinks []component.GroupSink
}

func (p *lastFirst) Fields() []component.Field {
	return []component.Field{component.String("mode", &p.mode, "")}
}
func (p *lastFirst) NewSinkProcessor(env component.Env, sinks []component.GroupSink) (component.SinkProcessor, error) {
	switch p.mode {
	case "refuse":
		return nil, &component.KeyError{Key: "mode", Err: errors.New("told to")}
	case "warn":
		env.Warn("mode", "do not", "told to")
	}
	p.sinks = sinks
	return p, nil
}
func (p *lastFirst) Process(ctx context.Context) (component.Status, error) {
	if p.mode == "panic" {
		p.mode = ""
		panic("a bug in the processor")
	}
	return p.sinks[len(p.sinks)-1].Process(ctx)
}

func init() {
	component.RegisterSinkProcessor(component.Info{Name: "test-last", Classes: []string{"com.example.LastFirst"}}, func() component.SinkProcessorConfig { return new(lastFirst) })
}

func TestProcessorOfOnesOwn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, diags := load(t, groupFlow("own", "com.example.LastFirst", "a.sinkgroups.g.processor.mode = panic", "a.sources.r.count = 100"))
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		if err := run(t, a, func() bool { return into("own2").count() == 100 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, into("own2").got, 100, nil)
		if into("own0").count()+into("own1").count() > 0 {
			t.Error("sinks of a group ran by themselves")
		}
	})
}

func TestGroupFindings(t *testing.T) {
	const noSink = `test.conf:10: a.channels.c.type: channel "c" has no sink that stands: what goes in stays there (its sources will wait when it is full)`
	for _, tt := range []struct {
		name, old, new string // replaced in the flow
		more           string
		want           []string
		sinks          int // that stand
		groups         int
	}{
		{name: "as it is", sinks: 3, groups: 1},
		{name: "class name", old: "= failover", new: "= org.apache.flume.sink.FailoverSinkProcessor", sinks: 3, groups: 1},
		{name: "no type", old: "a.sinkgroups.g.processor.type = failover\n", new: "\n",
			want: []string{`test.conf:6: a.sinkgroups.g.processor.type: required, but not set: the group and its sinks are left out (write default for one sink)`, noSink}},
		{name: "unknown type", old: "= failover", new: "= fail_over",
			want: []string{`test.conf:7: a.sinkgroups.g.processor.type: unknown sink processor type "fail_over": the group and its sinks are left out (did you mean "failover"?)`, noSink}},
		{name: "default with three", old: "= failover", new: "= default",
			want: []string{`test.conf:7: a.sinkgroups.g.processor.type: the default sink processor takes one sink, not 3 (use load_balance or failover for several)`, noSink}},
		{name: "load_balance with one", old: "g.sinks = k0 k1 k2\na.sinkgroups.g.processor.type = failover", new: "g.sinks = k1\na.sinkgroups.g.processor.type = load_balance",
			want: []string{`test.conf:7: a.sinkgroups.g.processor.type: load_balance takes two sinks at least (use default for one)`}, sinks: 2},
		{name: "failover with one", old: "g.sinks = k0 k1 k2", new: "g.sinks = k1", sinks: 3, groups: 1},
		{name: "unknown sink", old: "g.sinks = k0 k1 k2", new: "g.sinks = k0 sink k0 k2",
			want: []string{`test.conf:6: a.sinkgroups.g.sinks: the agent has no sink "sink": the group goes without it (the agent's sinks: k0 k1 k2)`,
				`test.conf:6: a.sinkgroups.g.sinks: sink "k0" is named twice`}, sinks: 3, groups: 1},
		{name: "no sink that is there", old: "g.sinks = k0 k1 k2", new: "g.sinks = x",
			want: []string{`test.conf:6: a.sinkgroups.g.sinks: the agent has no sink "x": the group goes without it (the agent's sinks: k0 k1 k2)`,
				`test.conf:6: a.sinkgroups.g.sinks: none of its sinks is there: the sink group is left out`}, sinks: 3},
		{name: "no list", old: "a.sinkgroups.g.sinks = k0 k1 k2", new: "",
			want: []string{`test.conf:7: a.sinkgroups.g.sinks: required, but not set: the sink group is left out`}, sinks: 3},
		{name: "two groups", old: "a.sinkgroups = g\n", new: "a.sinkgroups = g h\n", more: "a.sinkgroups.h.sinks = k2 k1\na.sinkgroups.h.processor.type = failover\n",
			want: []string{`test.conf:20: a.sinkgroups.h.sinks: sink "k2" is in group "g" already: the group goes without it`,
				`test.conf:20: a.sinkgroups.h.sinks: sink "k1" is in group "g" already: the group goes without it`,
				`test.conf:20: a.sinkgroups.h.sinks: none of its sinks is there: the sink group is left out`}, sinks: 3, groups: 1},
		{name: "unknown properties", more: "a.sinkgroups.g.sink = k0\na.sinkgroups.g.processor.maxPenalty = 3\n",
			want: []string{`test.conf:20: a.sinkgroups.g.sink: unknown property of a sink group, ignored (did you mean "sinks"?)`,
				`test.conf:21: a.sinkgroups.g.processor.maxPenalty: unknown property, ignored (did you mean "maxpenalty"?)`}, sinks: 3, groups: 1},
		{name: "what the constructor says", old: "= failover", new: "= test-last", more: "a.sinkgroups.g.processor.mode = warn\n",
			want: []string{`test.conf:20: a.sinkgroups.g.processor.mode: told to (do not)`}, sinks: 3, groups: 1},
		{name: "what the constructor refuses", old: "= failover", new: "= test-last", more: "a.sinkgroups.g.processor.mode = refuse\n",
			want: []string{`test.conf:20: a.sinkgroups.g.processor.mode: told to`, noSink}},
		{name: "no sink that stands", old: ".into = gf", new: ".onto = gf",
			want: []string{`test.conf:6: a.sinkgroups.g.sinks: none of its sinks stands: the sink group is left out`, noSink}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			text := groupFlow("gf", "failover")
			if tt.old != "" {
				if !strings.Contains(text, tt.old) {
					t.Fatalf("the flow lacks %q", tt.old)
				}
				text = strings.ReplaceAll(text, tt.old, tt.new)
			}
			a, diags := load(t, text[:len(text)-1]+tt.more)
			var got []string
			for _, d := range diags {
				if !strings.Contains(d.Key, "a.sinks.") {
					got = append(got, d.String())
				}
			}
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
			if len(a.sinks) != tt.sinks || len(a.groups) != tt.groups {
				t.Errorf("%d sinks and %d groups stand, want %d and %d", len(a.sinks), len(a.groups), tt.sinks, tt.groups)
			}
		})
	}
}

// A sink that has started is up for its group before the group begins: else it
// would be left out for a failure that was none.
func TestGroupMemberIsUpBeforeItsGroupBegins(t *testing.T) {
	a, diags := load(t, groupFlow("up", "load_balance", "a.sinkgroups.g.processor.backoff = true", "a.sources.r.count = 0"))
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	close(a.channels[0].up)
	for _, n := range a.sinks {
		told := false
		n.up(t.Context(), a, func() {
			told = true
			select {
			case <-n.member.up:
			default:
				t.Errorf("the group hears that %s has started, and would not let it work", n.name)
			}
		})
		if !told {
			t.Errorf("%s: the group hears nothing", n.name)
		}
	}
}
