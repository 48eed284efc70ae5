package agent

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// downSink is a test-collect sink that comes up only after some tries.
type downSink struct {
	testSink
	tries int
}

func (s *downSink) Fields() []component.Field {
	return append(s.testSink.Fields(), component.Int("tries", &s.tries, 1<<30))
}

func (s *downSink) NewSink(env component.Env) (component.Sink, error) {
	_, err := s.testSink.NewSink(env)
	return s, err
}

func (s *downSink) Start(context.Context) error {
	if s.tries--; s.tries >= 0 {
		return errors.New("still down")
	}
	return nil
}

// slowSink is a test-collect sink whose peer has the events at once and answers after some time.
type slowSink struct {
	testSink
	takes time.Duration
}

func (s *slowSink) Fields() []component.Field {
	return append(s.testSink.Fields(), component.Duration("takes", &s.takes, time.Millisecond, 0))
}

func (s *slowSink) NewSink(env component.Env) (component.Sink, error) {
	_, err := s.testSink.NewSink(env)
	return s, err
}

func (s *slowSink) BatchSize() int { return 1 }

func (s *slowSink) Write(ctx context.Context, evs []event.Event) error {
	if err := s.testSink.Write(ctx, evs); err != nil {
		return err
	}
	if !sleep(ctx, s.takes) {
		return ctx.Err()
	}
	return nil
}

func init() {
	component.RegisterSink(component.Info{Name: "test-down"}, func() component.SinkConfig { return new(downSink) })
	component.RegisterSink(component.Info{Name: "test-slow"}, func() component.SinkConfig { return new(slowSink) })
}

const downFlow = `
a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = test-numbers
a.sources.r.channels = c
a.channels.c.type = memory
a.sinks.k.type = test-down
a.sinks.k.channel = c
`

// runFor runs the agent for some time and says how long its stop took.
func runFor(t *testing.T, a *Agent, d time.Duration) (time.Duration, error) {
	t.Helper()
	ctx, stop := context.WithCancel(t.Context())
	res := make(chan error, 1)
	go func() { res <- a.Run(ctx) }()
	time.Sleep(d)
	stop()
	began := time.Now()
	err := <-res
	return time.Since(began), err
}

// A sink that does not come up holds the stop up while its channel has events,
// and not when there is nothing to wait for.
func TestStopWithASinkThatIsDown(t *testing.T) {
	for _, tt := range []struct {
		name, props string
		after       time.Duration // of the stop
		took        time.Duration // at most
		got         int
		fails       bool
	}{
		{"empty channel", "a.sources.r.count = 0\n", 10 * time.Second, 100 * time.Millisecond, 0, false},
		{"before the sources start", "a.sources.r.count = 30\n", 10 * time.Millisecond, 100 * time.Millisecond, 0, false},
		{"comes up in time", "a.sources.r.count = 30\na.sinks.k.tries = 2\n", 5 * time.Second, 2 * time.Second, 30, false},
		{"stays down", "a.sources.r.count = 30\n", 10 * time.Second, 3 * time.Second, 0, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := load(t, downFlow+tt.props+"a.sinks.k.into = "+t.Name()+"\n")
				took, err := runFor(t, a, tt.after)
				if took > tt.took {
					t.Errorf("the stop took %v, want %v at most", took, tt.took)
				}
				if (err != nil) != tt.fails {
					t.Errorf("stop: %v", err)
				}
				if n := into(t.Name()).count(); n != tt.got {
					t.Errorf("%d events delivered, want %d", n, tt.got)
				}
				if n := a.pool.Outstanding(); n != 0 && !tt.fails {
					t.Errorf("%d blocks still held", n)
				}
			})
		})
	}
}

// What a channel holds when its time is up stays there; the write that is under way is not cut off then, because what was
// delivered by it would be delivered again after the next start. One that hangs is.
func TestStopWithABacklog(t *testing.T) {
	for _, tt := range []struct {
		name, group string
		takes       time.Duration
		took        time.Duration // of the stop, at most
		repeats     bool
	}{
		{"alone", "", 300 * time.Millisecond, 2300 * time.Millisecond, false},
		{"in a group", "failover", 300 * time.Millisecond, 2300 * time.Millisecond, false},
		{"in turn", "load_balance", 300 * time.Millisecond, 2600 * time.Millisecond, false},
		{"hangs", "", time.Hour, 3 * time.Second, true},
		{"hangs in a group", "failover", time.Hour, 3 * time.Second, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				text := groupFlow(t.Name(), tt.group)
				if tt.group == "" {
					text = downFlow + "a.sinks.k.into = " + t.Name() + "0\n"
				}
				text = strings.NewReplacer("test-collect", "test-slow", "test-down", "test-slow").Replace(text)
				for _, m := range regexp.MustCompile(`\S+\.into`).FindAllString(text, -1) {
					text += fmt.Sprintf("%stakes = %d\n", strings.TrimSuffix(m, "into"), tt.takes.Milliseconds())
				}
				a, diags := load(t, text+"a.sources.r.count = 100000\n")
				if len(diags) > 0 {
					t.Fatal(diags)
				}
				took, err := runFor(t, a, 5*time.Second)
				if took > tt.took {
					t.Errorf("the stop took %v, want %v at most", took, tt.took)
				}
				if err == nil {
					t.Error("nothing was left in the channel")
				}
				arrived, given := 0, int64(0)
				for i, n := range a.sinks {
					arrived += into(fmt.Sprint(t.Name(), i)).count()
					given += n.success.Load()
				}
				if arrived == 0 || (int64(arrived) > given) != tt.repeats {
					t.Errorf("%d events arrived, %d were delivered", arrived, given)
				}
			})
		})
	}
}

// A channel that does not wait for events does not make its sinks spin.
func TestEmptyChannelWithoutKeepAlive(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = idle\na.sources.r.count = 30\na.channels.c.keep-alive = 0\n")
		if _, err := runFor(t, a, 10*time.Second); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, into("idle").got, 30, nil)
		if n := a.sinks[0].empty.Load(); n > 1100 {
			t.Errorf("%d empty takes in 10 s", n)
		}
	})
}
