package agent

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/sluice-data/sluice/event"
)

const twoChannels = `
a.sources = r
a.channels = c d
a.sinks = k kd
a.sources.r.type = test-numbers
a.sources.r.channels = c d
a.channels.c.type = memory
a.channels.d.type = memory
a.sinks.k.type = test-collect
a.sinks.k.channel = c
a.sinks.k.into = first
a.sinks.kd.type = test-collect
a.sinks.kd.channel = d
a.sinks.kd.into = second
`

// Every event goes into one channel, in turn, whatever batches they come in
// and although their headers are the same.
func TestLoadBalancingSelector(t *testing.T) {
	a, diags := load(t, twoChannels+"a.sources.r.count = 1001\na.sources.r.batchSize = 7\na.sources.r.selector.type = load_balancing\n")
	if len(diags) > 0 {
		t.Fatal(diags)
	}
	c, d := into("first"), into("second")
	if err := runByClock(t, a, func() bool { return c.count()+d.count() == 1001 }); err != nil {
		t.Fatal(err)
	}
	wantNumbers(t, c.got, 1001, func(i int) bool { return i%2 == 0 })
	wantNumbers(t, d.got, 1001, func(i int) bool { return i%2 == 1 })
	if n := a.pool.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held", n)
	}
}

// An optional channel that is full, or too small for the batch, misses events;
// the required one gets them all, without waiting, and a line in the log says
// so.
func TestOptionalChannelIsFull(t *testing.T) {
	for _, selector := range []string{
		"a.sources.r.selector.optional = d\n",
		"a.sources.r.selector.type = multiplexing\na.sources.r.selector.header = mod\na.sources.r.selector.default = c\n" +
			"a.sources.r.selector.optional.0 = d\na.sources.r.selector.optional.1 = d\na.sources.r.selector.optional.2 = d\n",
	} {
		synctest.Test(t, func(t *testing.T) {
			a, diags := load(t, twoChannels+selector+"a.sources.r.count = 600\na.channels.d.capacity = 25\na.channels.d.transactionCapacity = 25\na.channels.d.keep-alive = 0\n")
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			var log bytes.Buffer
			a.log = slog.New(slog.NewTextHandler(&log, nil))
			c, d := into("first"), into("second")
			d.hook = func([]event.Event) error { return errors.New("down") }
			err := run(t, a, func() bool { return c.count() == 600 })
			if err == nil || !strings.Contains(err.Error(), "events were left in channel d") {
				t.Errorf("stop: %v", err)
			}
			wantNumbers(t, c.got, 600, nil)
			if n := a.sources[0].metrics.Counter("EventAcceptedCount").Load(); n != 600 {
				t.Errorf("%d events accepted", n)
			}
			if s := a.channels[1].ch.Stats().Size; s < 10 || s > 25 {
				t.Errorf("%d events in the optional channel", s)
			}
			if n := strings.Count(log.String(), "an optional channel refused events"); n != 1 || !strings.Contains(log.String(), "channel is full") {
				t.Errorf("%d lines in the log", n)
			}
		})
	}
}

// A batch larger than an optional channel's transactions goes in pieces there
// as well.
func TestOptionalChannelWithSmallTransactions(t *testing.T) {
	a, _ := load(t, twoChannels+"a.sources.r.selector.optional = d\na.sources.r.count = 0\na.channels.d.transactionCapacity = 10\na.channels.c.capacity = 100\na.channels.c.transactionCapacity = 100\n")
	b := a.pool.NewBatch()
	for range 95 {
		b.AppendEvent([]byte("x"), nil)
	}
	if err := a.sources[0].out.Emit(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	for _, n := range a.channels {
		if s := n.ch.Stats().Size; s != 95 {
			t.Errorf("%d events in channel %s", s, n.name)
		}
	}
}
