package seq

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		props []string
		want  [][]string
	}{
		{[]string{"totalEvents=3"}, [][]string{{"0"}, {"1"}, {"2"}}},
		{[]string{"totalEvents=5", "batchSize=2"}, [][]string{{"0", "1"}, {"2", "3"}, {"4"}}},
		{[]string{"totalEvents=2", "batchSize=2"}, [][]string{{"0", "1"}}},
	} {
		out := componenttest.NewOutput()
		env, _ := componenttest.Env(t)
		r := componenttest.Run(t, componenttest.Source(t, env, "seq", tt.props...), out)
		n := 0
		for _, b := range tt.want {
			n += len(b)
		}
		out.Wait(t, n)
		r.Stop()
		var got [][]string
		for _, b := range out.Batches() {
			var bodies []string
			for _, e := range b {
				bodies = append(bodies, string(e.Body))
			}
			got = append(got, bodies)
		}
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%v: %q, want %q", tt.props, got, tt.want)
		}
	}
}

func TestNone(t *testing.T) {
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	componenttest.Run(t, componenttest.Source(t, env, "seq", "totalEvents=0"), out).Stop()
	if n := out.Emits(); n != 0 {
		t.Errorf("%d batches", n)
	}
}

// A refusal that Emit gives up on: the same numbers come again.
func TestRefused(t *testing.T) {
	out := componenttest.NewOutput()
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit%2 == 1 {
			return errors.New("no")
		}
		return nil
	})
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "org.apache.flume.source.SequenceGeneratorSource", "batchSize=3")
	for range 3 {
		if err := src.Run(context.Background(), out); err == nil || !strings.Contains(err.Error(), "put the numbers from ") {
			t.Fatalf("%v", err)
		}
	}
	var want []string
	for i := range 9 {
		want = append(want, fmt.Sprint(i))
	}
	if got := out.Bodies(); !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

func TestConfig(t *testing.T) {
	_, fs := componenttest.Decode(t, component.KindSource, "seq", "batchSize=0")
	if len(fs) != 1 || !fs[0].Error {
		t.Errorf("%+v", fs)
	}
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "seq", "backoffSleepIncrement=20", "maxBackoffSleep=10")
	if p := src.(component.Retrier).Retry(); p.Initial > p.Max || p.Once {
		t.Errorf("%+v", p)
	}
	src = componenttest.Source(t, env, "seq", "backoffSleepIncrement=0", "maxBackoffSleep=0")
	if p := src.(component.Retrier).Retry(); p.Initial <= 0 || p.Max <= 0 {
		t.Errorf("a busy loop: %+v", p)
	}
}

func TestAllocations(t *testing.T) {
	pool := event.NewPool()
	s := &source{cfg: &config{batchSize: 1000, total: 1 << 62}}
	n := testing.AllocsPerRun(20, func() {
		ctx, cancel := context.WithCancel(context.Background())
		if err := s.Run(ctx, &oneBatch{pool, cancel}); err != nil {
			t.Fatal(err)
		}
	})
	if n > 50 { // of 1,000 events; the context and, under the race detector, pools
		t.Errorf("%.1f allocations", n)
	}
}

type oneBatch struct {
	pool   *event.Pool
	cancel func()
}

func (o *oneBatch) Pool() *event.Pool      { return o.pool }
func (o *oneBatch) NewBatch() *event.Batch { return o.pool.NewBatch() }
func (o *oneBatch) Emit(_ context.Context, b *event.Batch) error {
	b.Release()
	o.cancel()
	return nil
}
