package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

type consumeCmd struct {
	kafkaFlags
	Topic         string        `arg:"" help:"Topic to consume."`
	FromBeginning bool          `help:"Start with the oldest record. Without it only records that come from now on are shown (with --group: where the group stopped)."`
	Partition     int32         `default:"-1" placeholder:"N" help:"Consume this partition only."`
	Offset        int64         `default:"-1" placeholder:"N" help:"Start at this offset; needs --partition."`
	Group         string        `short:"g" placeholder:"NAME" help:"Share the topic with the other members of this consumer group, and commit what was shown."`
	MaxMessages   int           `short:"n" placeholder:"N" help:"End after this many records."`
	IdleTimeout   time.Duration `placeholder:"TIME" help:"End when no record came for this time."`
	Keys          bool          `help:"Show the key and a tab before the value."`
	Meta          bool          `help:"Show partition, offset and time before the record."`
}

func (c *consumeCmd) Help() string {
	return "Writes each record's value and a line end to the standard output, until Ctrl-C, --max-messages or --idle-timeout."
}

func (c *consumeCmd) Run(env *Env) error {
	n, err := c.show(env)
	if err == nil {
		fmt.Fprintf(env.Stderr, "%d record(s)\n", n)
	}
	return err
}

func (c *consumeCmd) check() error {
	switch {
	case c.Offset >= 0 && c.Partition < 0:
		return errors.New("--offset needs --partition: offsets are a partition's own")
	case c.Group != "" && c.Partition >= 0:
		return errors.New("--group and --partition exclude each other: a group decides itself who reads which partition")
	}
	return nil
}

// show writes the records and returns how many there were.
func (c *consumeCmd) show(env *Env) (int, error) {
	if err := c.check(); err != nil {
		return 0, usageError(err)
	}
	start := kgo.NewOffset().AtEnd()
	if c.FromBeginning {
		start = kgo.NewOffset().AtStart()
	}
	opts := []kgo.Opt{kgo.ConsumeResetOffset(start), kgo.FetchMaxWait(500 * time.Millisecond)}
	switch {
	case c.Partition >= 0:
		if c.Offset >= 0 {
			start = kgo.NewOffset().At(c.Offset)
		}
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {c.Partition: start}}))
	case c.Group != "":
		opts = append(opts, kgo.ConsumerGroup(c.Group), kgo.ConsumeTopics(c.Topic), kgo.DisableAutoCommit(), kgo.SessionTimeout(10*time.Second),
			// What was shown is committed before another member may get the partition.
			kgo.BlockRebalanceOnPoll())
	default:
		opts = append(opts, kgo.ConsumeTopics(c.Topic))
	}
	// The topic is looked up before the client starts to consume it, because
	// a consumer waits for a topic that is not there.
	probe, err := c.dial(env.Ctx)
	if err != nil {
		return 0, err
	}
	t, err := c.describeTopic(env.Ctx, probe, c.Topic)
	probe.Close()
	if err != nil {
		return 0, err
	}
	if c.Partition >= int32(len(t.Partitions)) {
		return 0, fmt.Errorf("topic %s has no partition %d: it has 0 to %d", c.Topic, c.Partition, len(t.Partitions)-1)
	}
	life, kill := context.WithCancel(context.WithoutCancel(env.Ctx))
	defer kill()
	cl, err := c.dial(env.Ctx, append(opts, kgo.WithContext(life))...)
	if err != nil {
		return 0, err
	}
	defer func() {
		if c.Group != "" {
			ctx, cancel := c.deadline(life)
			defer cancel()
			cl.AllowRebalance()
			if err := cl.LeaveGroupContext(ctx); err != nil {
				// It waits for the rebalance under way, and Close would too.
				fmt.Fprintf(env.Stderr, "group %s was not left: its other members wait until the session of this one ends: %v\n", c.Group, err)
				kill()
			}
		}
		cl.Close()
	}()
	return c.loop(env, cl)
}

func (c *consumeCmd) loop(env *Env, cl *kgo.Client) (int, error) {
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	n := 0
	for {
		ctx, cancel := env.Ctx, context.CancelFunc(func() {})
		if c.IdleTimeout > 0 {
			ctx, cancel = context.WithTimeout(env.Ctx, c.IdleTimeout)
		}
		// PollRecords gives no more than is shown, so that what a group
		// commits is what was shown.
		most := 10_000
		if c.MaxMessages > 0 {
			most = min(most, c.MaxMessages-n)
		}
		fs := cl.PollRecords(ctx, most)
		idle := ctx.Err() != nil
		cancel()
		for _, fe := range fs.Errors() {
			if !errors.Is(fe.Err, context.Canceled) && !errors.Is(fe.Err, context.DeadlineExceeded) {
				return n, errors.Join(out.Flush(), fmt.Errorf("consume topic %s, partition %d: %w", c.Topic, fe.Partition, fe.Err))
			}
		}
		for _, r := range fs.Records() {
			if c.Meta {
				fmt.Fprintf(out, "%d\t%d\t%s\t", r.Partition, r.Offset, r.Timestamp.Format(time.RFC3339Nano))
			}
			if c.Keys {
				out.Write(r.Key)
				out.WriteByte('\t')
			}
			out.Write(r.Value)
			out.WriteByte('\n')
			n++
		}
		// Shown first, then committed: nothing is lost to a closed pipe.
		if err := out.Flush(); err != nil {
			return n, fmt.Errorf("write standard output: %w", err)
		}
		if c.Group != "" && fs.NumRecords() > 0 {
			cctx, stop := context.WithTimeout(context.WithoutCancel(env.Ctx), c.Timeout)
			err := cl.CommitRecords(cctx, fs.Records()...)
			stop()
			if err != nil {
				return n, fmt.Errorf("commit offsets of group %s: %w", c.Group, err)
			}
		}
		cl.AllowRebalance()
		if env.Ctx.Err() != nil || idle && fs.NumRecords() == 0 || c.MaxMessages > 0 && n >= c.MaxMessages {
			return n, nil
		}
	}
}
