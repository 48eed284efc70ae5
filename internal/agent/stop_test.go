package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
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

func init() {
	component.RegisterSink(component.Info{Name: "test-down"}, func() component.SinkConfig { return new(downSink) })
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
