package spillablememory

import (
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/channel/memory"
)

func init() {
	component.RegisterChannel(component.Info{
		Name:    "spillablememory",
		Classes: []string{"org.apache.flume.channel.SpillableMemoryChannel"},
		Doc:     "Holds events in memory, and in a file channel what does not fit there.",
		Notes: "- A stop in order loses nothing: what the sinks left in the memory is written to the disk, with the order of all events, and comes out after the next start (docs/file-channel.md). In Flume it is gone. " +
			"`kill -9` loses what is in the memory, as in Flume, and nothing that overflowed or that a stop wrote down. With `overflowCapacity = 0` nothing is ever on the disk.\n" +
			"- A batch goes to one of the parts as a whole. A take gets what is next out of both; Flume's ends where the other part begins.\n" +
			"- One that is too large for the memory altogether goes to the disk at once.\n" +
			"- A `transactionCapacity` above both capacities counts as the larger of them, because such a batch could never be put.\n" +
			"- The default of `byteCapacity` is that of the memory channel. Open takes count as memory in use, also for `overflowDeactivationThreshold`.",
	}, func() component.ChannelConfig { return new(config) })
}

const defaultOverflowCapacity = 100000000

type config struct {
	file                             file.Properties
	memoryCapacity, overflowCapacity int
	timeout                          time.Duration
	threshold                        int
	byteCapacity                     int64
	byteBuffer, avgEventSize         int
}

func (c *config) Fields() []component.Field {
	return append([]component.Field{
		component.Int("memoryCapacity", &c.memoryCapacity, 10000).In("events").Min(0).Lenient().
			Describe("How many events the memory holds, those of open takes included. 0: all go to the disk."),
		component.Int("overflowCapacity", &c.overflowCapacity, defaultOverflowCapacity).In("events").Lenient().
			Describe("How many events the file channel holds. Less than 1: there is none, and the properties of the file channel have no effect, except transactionCapacity."),
		component.Duration("overflowTimeout", &c.timeout, time.Second, 3*time.Second).Min(0).Lenient().
			Describe("How long a put waits for room in the memory before the overflow begins, and for room on the disk when that is full as well; how long a take waits for an event."),
		component.Int("overflowDeactivationThreshold", &c.threshold, 5).In("%").Min(0).Max(100).Lenient().
			Describe("How much of memoryCapacity must be free for the overflow to end. While it lasts a put does not wait for room in the memory, but takes it if it is there."),
		component.Int64("byteCapacity", &c.byteCapacity, memory.DefaultByteCapacity()).AsType("bytes").In("bytes").AsDefault(memory.DefaultByteCapacityText).Min(0).Lenient().
			Describe("Bound on the bytes of the bodies in the memory, counted in slots of avgEventSize. A result below one slot means no bound, as in Flume."),
		component.Int("byteCapacityBufferPercentage", &c.byteBuffer, 20).In("%").Min(0).Max(100).Lenient().
			Describe("The share of byteCapacity that is set aside for headers, which are not counted."),
		component.Int("avgEventSize", &c.avgEventSize, 500).In("bytes").Min(1).Lenient().
			Describe("The slot in which the bytes of a body are counted, rounded up."),
		component.Ignore("capacity", "the file channel's is overflowCapacity here, as in Flume"),
		component.Ignore("keep-alive", "overflowTimeout is what is waited"),
	}, c.file.Fields()...)
}

// NewChannel makes the channel.
func (c *config) NewChannel(env component.Env) (component.Channel, error) {
	overflow := max(c.overflowCapacity, 0)
	if c.memoryCapacity == 0 && overflow == 0 {
		overflow = defaultOverflowCapacity
		env.Warn("overflowCapacity", "set one of the two", "it is not above 0, and neither is memoryCapacity: it counts as %d, as in Flume", overflow)
	}
	tx := c.file.TransactionCapacity()
	if most := max(c.memoryCapacity, overflow); tx > most {
		if tx != file.DefaultTransactionCapacity {
			env.Warn("transactionCapacity", "lower it, or raise memoryCapacity or overflowCapacity", "%d events fit neither into the memory nor into the overflow: it counts as %d", tx, most)
		}
		tx = most
	}
	cfg := Config{
		MemoryCapacity: c.memoryCapacity, OverflowCapacity: overflow, TransactionCapacity: tx, Timeout: c.timeout, Threshold: c.threshold,
		SlotSize: c.avgEventSize, Slots: memory.Slots(c.byteCapacity, c.byteBuffer, c.avgEventSize),
	}
	if overflow > 0 {
		var err error
		if cfg.File, err = c.file.Config(env, overflow, c.timeout); err != nil {
			return nil, err
		}
	}
	cfg.File.Env = env
	return New(cfg), nil
}
