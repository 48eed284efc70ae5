// Package pseudotxnmemory is Flume's pseudo-transaction memory channel: the memory channel with two properties. In Flume a
// commit and a rollback do nothing there; here they are those of the memory channel.
package pseudotxnmemory

import (
	"math"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/memory"
)

func init() {
	component.RegisterChannel(component.Info{
		Classes: []string{"org.apache.flume.channel.PseudoTxnMemoryChannel"},
		Doc:     "Holds events in memory, bounded by their number: the memory channel with fewer properties.",
		Notes: "- Transactions are real: what a sink could not deliver is given back, in order, and a put adds all of a batch or nothing. In Flume a commit and a rollback do nothing, so an event is gone once it was taken.\n" +
			"- A put waits `keep-alive` for room, then the source tries again; Flume's waits for ever.\n" +
			"- There is no limit on batches. One that is larger than `capacity` is put once the channel is empty.",
	}, func() component.ChannelConfig { return new(config) })
}

type config struct {
	capacity  int
	keepAlive time.Duration
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("capacity", &c.capacity, 50).In("events").Min(1).
			Describe("How many events the channel holds, those of open takes included."),
		component.Duration("keep-alive", &c.keepAlive, time.Second, 3*time.Second).Min(0).
			Describe("How long a put waits for room and a take for an event."),
	}
}

// NewChannel makes the channel.
func (c *config) NewChannel(component.Env) (component.Channel, error) {
	return memory.New(memory.Config{Capacity: c.capacity, KeepAlive: c.keepAlive, SlotSize: 1, Slots: math.MaxInt64}), nil
}
