package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

type consumeCmd struct {
	kafkaFlags
	Topic         string        `arg:"" help:"Topic to consume."`
	FromBeginning bool          `help:"Start with the oldest record. Without it only records that come from now on are shown (with --group: where the group stopped)."`
	From          string        `placeholder:"WHEN" help:"Start with the first record that is not older: milliseconds since 1970, 2026-01-31T12:00:00, or an age such as 10m."`
	Partition     int32         `default:"-1" placeholder:"N" help:"Consume this partition only."`
	Offset        int64         `default:"-1" placeholder:"N" help:"Start at this offset; needs --partition."`
	EndOffset     int64         `default:"-1" placeholder:"N" help:"End before this offset; needs --partition."`
	ExitAtEnd     bool          `help:"End when all records that were there at the start have been shown."`
	Group         string        `short:"g" placeholder:"NAME" help:"Share the topic with the other members of this consumer group, and commit what was shown."`
	MaxMessages   int           `short:"n" placeholder:"N" help:"End after this many records."`
	IdleTimeout   time.Duration `placeholder:"TIME" help:"End when no record came for this time."`
	Isolation     string        `placeholder:"LEVEL" help:"read_uncommitted or read_committed: whether records of transactions are shown before they are committed. Default: read_uncommitted."`
	Format        string        `default:"text" enum:"text,json" placeholder:"FORMAT" help:"text: the value and a line end. json: an object a line with topic, partition, offset, timestamp, key, headers and value. Default: text."`
	Keys          bool          `help:"Show the key and a tab before the value."`
	Meta          bool          `help:"Show partition, offset and time before the record."`

	formatter *kafkaFormatter      // of kafka-console-consumer
	include   string               // topics by regular expression, instead of Topic
	wait      bool                 // for a topic that is not there
	role      []component.Property // defaults of the client
}

func (c *consumeCmd) Help() string {
	return "Writes the records to the standard output until Ctrl-C, --max-messages, --idle-timeout, --end-offset or --exit-at-end."
}

func (c *consumeCmd) Run(env *Env) error {
	n, err := c.show(env)
	if err == nil {
		fmt.Fprintf(env.Stderr, "%d record(s)\n", n)
	}
	return err
}

func (c *consumeCmd) check() error {
	starts := 0
	for _, is := range []bool{c.FromBeginning, c.From != "", c.Offset >= 0} {
		if is {
			starts++
		}
	}
	switch {
	case c.Offset >= 0 && c.Partition < 0:
		return errors.New("--offset needs --partition: offsets are a partition's own")
	case c.EndOffset >= 0 && c.Partition < 0:
		return errors.New("--end-offset needs --partition: offsets are a partition's own")
	case starts > 1:
		return errors.New("--from-beginning, --from and --offset exclude each other")
	case c.Group != "" && c.Partition >= 0:
		return errors.New("--group and --partition exclude each other: a group decides itself who reads which partition")
	case c.Group != "" && (c.From != "" || c.ExitAtEnd):
		return errors.New("--group excludes --from and --exit-at-end: a group goes on where it stopped (sluice groups reset sets that), and other members may have the end")
	}
	return nil
}

// show writes the records and returns how many there were.
func (c *consumeCmd) show(env *Env) (int, error) {
	if c.Isolation != "" {
		c.own = append(c.own, component.Property{Key: "isolation.level", Value: c.Isolation})
	}
	reset := "latest"
	if c.FromBeginning {
		reset = "earliest"
	}
	conf, err := c.client(env, kafkaconf.Consume, append([]component.Property{
		{Key: "auto.offset.reset", Value: reset}, {Key: "session.timeout.ms", Value: "10000"}, {Key: "fetch.max.wait.ms", Value: "500"},
		{Key: "allow.auto.create.topics", Value: "false"},
	}, c.role...)...)
	if err != nil {
		return 0, err
	}
	if c.Group == "" && c.Partition < 0 {
		c.Group = conf.Group
	}
	if err := c.check(); err != nil {
		return 0, usageError(err)
	}
	at := atLatest
	switch {
	case c.FromBeginning:
		at = atEarliest
	case c.From != "":
		if at, err = offsetTime(c.From, time.Now()); err != nil || at == atMaxTime {
			return 0, usageError(fmt.Errorf("--from %s: want earliest, latest, milliseconds since 1970, a date with a time, or an age", c.From))
		}
	}
	start := map[int64]kgo.Offset{atLatest: kgo.NewOffset().AtEnd(), atEarliest: kgo.NewOffset().AtStart()}[at]
	if at >= 0 {
		start = kgo.NewOffset().AfterMilli(at)
	}
	if c.Offset >= 0 {
		start = kgo.NewOffset().At(c.Offset)
	}
	var opts []kgo.Opt
	if c.From != "" {
		opts = append(opts, kgo.ConsumeStartOffset(start))
	}
	var ends kadm.ListedOffsets
	if c.include == "" {
		if ends, err = c.look(env, conf); err != nil {
			return 0, err
		}
	}
	switch {
	case c.Partition >= 0:
		opts = append(opts, kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{c.Topic: {c.Partition: start}}))
	case c.include != "":
		opts = append(opts, kgo.ConsumeRegex(), kgo.ConsumeTopics(c.include))
	default:
		opts = append(opts, kgo.ConsumeTopics(c.Topic))
	}
	if c.ExitAtEnd || c.EndOffset >= 0 {
		// The last offset may be a transaction's marker.
		opts = append(opts, kgo.KeepControlRecords())
	}
	if c.Group != "" {
		opts = append(append(opts, conf.GroupOpts...), kgo.ConsumerGroup(c.Group),
			// What was shown is committed before another member may get the partition.
			kgo.BlockRebalanceOnPoll())
	}
	stop := &stopAt{end: map[int32]int64{}}
	if c.ExitAtEnd {
		ends.Each(func(o kadm.ListedOffset) {
			if c.Partition < 0 || o.Partition == c.Partition {
				stop.end[o.Partition] = o.Offset
			}
		})
	}
	if c.EndOffset >= 0 {
		stop.end = map[int32]int64{c.Partition: c.EndOffset}
	}
	life, kill := context.WithCancel(context.WithoutCancel(env.Ctx))
	defer kill()
	cl, err := c.dial(env.Ctx, conf, append(opts, kgo.WithContext(life))...)
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
	if len(stop.end) > 0 {
		if err := c.skipEmpty(env, cl, at, stop); err != nil {
			return 0, err
		}
	}
	return c.loop(env, cl, stop)
}

// look finds the topic before the client starts to consume it, because a
// consumer waits for a topic that is not there. It returns where the
// partitions end, if that is asked for.
func (c *consumeCmd) look(env *Env, conf *kafkaconf.Command) (kadm.ListedOffsets, error) {
	probe, err := c.dial(env.Ctx, conf)
	if err != nil {
		return nil, err
	}
	defer probe.Close()
	t, err := c.describeTopic(env.Ctx, probe, c.Topic)
	if c.wait && errors.As(err, new(*noTopicError)) {
		fmt.Fprintf(env.Stderr, "topic %s does not exist yet; waiting for it\n", c.Topic)
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	if c.Partition >= int32(len(t.Partitions)) {
		return nil, fmt.Errorf("topic %s has no partition %d: it has 0 to %d", c.Topic, c.Partition, len(t.Partitions)-1)
	}
	if !c.ExitAtEnd {
		return nil, nil
	}
	ctx, cancel := c.deadline(env.Ctx)
	defer cancel()
	ends, err := kadm.NewClient(probe).ListEndOffsets(ctx, c.Topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return nil, fmt.Errorf("look up offsets: %w", err)
	}
	return ends, nil
}

// stopAt is where partitions end for this command; those that are through are
// taken out. It is empty when none has an end.
type stopAt struct {
	end  map[int32]int64
	done bool // all are through
}

// skipEmpty takes out partitions from which nothing will come: those that have
// nothing from the start on.
func (c *consumeCmd) skipEmpty(env *Env, cl *kgo.Client, at int64, stop *stopAt) error {
	ctx, cancel := c.deadline(env.Ctx)
	defer cancel()
	var from kadm.ListedOffsets
	var err error
	adm := kadm.NewClient(cl)
	switch {
	case c.Offset >= 0:
		from = kadm.ListedOffsets{c.Topic: {c.Partition: {Topic: c.Topic, Partition: c.Partition, Offset: c.Offset}}}
	case at != atLatest:
		from, err = listOffsets(ctx, adm, at, c.Topic)
	case c.ExitAtEnd: // from the end to the end
		stop.done = true
		return nil
	default:
		return nil
	}
	if err != nil {
		return fmt.Errorf("look up offsets: %w", err)
	}
	for p, end := range stop.end {
		if o, ok := from.Lookup(c.Topic, p); ok && (o.Offset < 0 || o.Offset >= end) {
			delete(stop.end, p)
		}
	}
	stop.done = len(stop.end) == 0
	return nil
}

func (c *consumeCmd) loop(env *Env, cl *kgo.Client, stop *stopAt) (int, error) {
	out := bufio.NewWriterSize(env.Stdout, 64<<10)
	n := 0
	bounded := len(stop.end) > 0
	for !stop.done {
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
				return n, errors.Join(out.Flush(), fmt.Errorf("consume topic %s, partition %d: %w", fe.Topic, fe.Partition, fe.Err))
			}
		}
		for _, r := range fs.Records() {
			if bounded {
				end, ok := stop.end[r.Partition]
				if ok && r.Offset >= end-1 {
					delete(stop.end, r.Partition)
				}
				if !ok || r.Offset >= end || r.Attrs.IsControl() {
					continue
				}
			}
			if err := c.write(out, r); err != nil {
				return n, errors.Join(out.Flush(), fmt.Errorf("show offset %d of %s-%d: %w", r.Offset, r.Topic, r.Partition, err))
			}
			n++
		}
		stop.done = bounded && len(stop.end) == 0
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
	return n, nil
}

func (c *consumeCmd) write(out *bufio.Writer, r *kgo.Record) error {
	switch {
	case c.formatter != nil:
		return c.formatter.write(out, r)
	case c.Format == "json":
		return writeJSONRecord(out, r)
	}
	if c.Meta {
		fmt.Fprintf(out, "%d\t%d\t%s\t", r.Partition, r.Offset, r.Timestamp.Format(time.RFC3339Nano))
	}
	if c.Keys {
		out.Write(r.Key)
		out.WriteByte('\t')
	}
	out.Write(r.Value)
	return out.WriteByte('\n')
}
