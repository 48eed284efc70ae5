package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type topicsCmd struct {
	Create        topicsCreateCmd        `cmd:"" help:"Create topics."`
	List          topicsListCmd          `cmd:"" help:"List topics."`
	Describe      topicsDescribeCmd      `cmd:"" help:"Show partitions, offsets and settings."`
	Offsets       topicsOffsetsCmd       `cmd:"" help:"Show offsets: the first, the next, or that of a time."`
	Alter         topicsAlterCmd         `cmd:"" help:"Add partitions. Settings are changed with: sluice configs set."`
	DeleteRecords topicsDeleteRecordsCmd `cmd:"" help:"Delete the records below an offset."`
	Delete        topicsDeleteCmd        `cmd:"" help:"Delete topics and all their records."`
}

type topicsCreateCmd struct {
	kafkaFlags
	Names       []string          `arg:"" name:"topic" help:"Topics to create."`
	Partitions  int32             `short:"p" default:"-1" placeholder:"N" help:"Number of partitions; -1 leaves it to the broker."`
	Replication int16             `short:"r" default:"-1" placeholder:"N" help:"Replication factor; -1 leaves it to the broker. Sluice's own has 1."`
	Config      map[string]string `short:"c" mapsep:"none" placeholder:"NAME=VALUE" help:"Setting of the topics, by Kafka's name. May be repeated."`
	IfNotExists bool              `help:"A topic that exists already is no error."`
}

func (c *topicsCreateCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	configs := map[string]*string{}
	for k, v := range c.Config {
		configs[k] = &v
	}
	rs, err := kadm.NewClient(cl).CreateTopics(ctx, c.Partitions, c.Replication, configs, c.Names...)
	if err != nil {
		return fmt.Errorf("create topics: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rs)) { // rs.Sorted puts the topics' random IDs first
		r := rs[name]
		switch {
		case r.Err == nil:
			fmt.Fprintf(env.Stdout, "created topic %s with %d partition(s)\n", r.Topic, r.NumPartitions)
		case errors.Is(r.Err, kerr.TopicAlreadyExists) && c.IfNotExists:
			fmt.Fprintf(env.Stdout, "topic %s exists already\n", r.Topic)
		default:
			errs = append(errs, fmt.Errorf("create topic %s: %w", r.Topic, brokerError(r.Err, r.ErrMessage)))
		}
	}
	return errors.Join(errs...)
}

const noTopics = "there are no topics yet; create one with: sluice topics create NAME"

type topicsListCmd struct {
	kafkaFlags
	Internal bool `help:"Show the broker's own topics too."`
}

func (c *topicsListCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	list := kadm.NewClient(cl).ListTopics
	if c.Internal {
		list = kadm.NewClient(cl).ListTopicsWithInternal
	}
	ts, err := list(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	for _, name := range ts.Names() {
		fmt.Fprintln(env.Stdout, name)
	}
	if len(ts) == 0 {
		fmt.Fprintln(env.Stderr, noTopics)
	}
	return nil
}

type topicsDescribeCmd struct {
	kafkaFlags
	Names []string `arg:"" optional:"" name:"topic" help:"Topics to show; all without a name."`
}

func (c *topicsDescribeCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	if err := c.checkTopics(ctx, cl, c.Names); err != nil {
		return err
	}
	ts, err := adm.ListTopics(ctx, c.Names...)
	if err != nil {
		return fmt.Errorf("describe topics: %w", err)
	}
	names := ts.Names()
	if len(names) == 0 {
		fmt.Fprintln(env.Stderr, noTopics)
		return nil
	}
	starts, ends, err := startsAndEnds(ctx, adm, names...)
	if err != nil {
		return err
	}
	own, err := ownConfigs(ctx, adm, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		t := ts[name]
		fmt.Fprintf(env.Stdout, "topic %s: %d partition(s), id %s\n", name, len(t.Partitions), topicIDText(t.ID))
		if len(own[name]) > 0 {
			fmt.Fprintf(env.Stdout, "  settings: %s\n", strings.Join(own[name], ", "))
		}
		w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', tabwriter.AlignRight)
		fmt.Fprintln(w, "  partition\tleader\tfirst offset\tnext offset\trecords\t")
		for _, p := range t.Partitions.Sorted() {
			s, _ := starts.Lookup(name, p.Partition)
			e, _ := ends.Lookup(name, p.Partition)
			fmt.Fprintf(w, "%d\t%d\t%d\t%d\t%d\t\n", p.Partition, p.Leader, s.Offset, e.Offset, e.Offset-s.Offset)
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	return nil
}

// ownConfigs lists the settings that are the topics' own, as NAME=VALUE.
func ownConfigs(ctx context.Context, adm *kadm.Client, names []string) (map[string][]string, error) {
	own := map[string][]string{}
	rcs, err := adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return nil, fmt.Errorf("look up settings: %w", err)
	}
	for _, rc := range rcs {
		for _, c := range rc.Configs {
			if c.Source == kmsg.ConfigSourceDynamicTopicConfig {
				own[rc.Name] = append(own[rc.Name], c.Key+"="+c.MaybeValue())
			}
		}
		slices.Sort(own[rc.Name])
	}
	return own, nil
}

type topicsDeleteCmd struct {
	kafkaFlags
	Names    []string `arg:"" name:"topic" help:"Topics to delete."`
	IfExists bool     `help:"A topic that does not exist is no error."`
}

func (c *topicsDeleteCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	rs, err := kadm.NewClient(cl).DeleteTopics(ctx, c.Names...)
	if err != nil {
		return fmt.Errorf("delete topics: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rs)) {
		r := rs[name]
		switch {
		case r.Err == nil:
			fmt.Fprintf(env.Stdout, "deleted topic %s\n", name)
		case errors.Is(r.Err, kerr.UnknownTopicOrPartition) && c.IfExists:
			fmt.Fprintf(env.Stdout, "topic %s does not exist\n", name)
		default:
			errs = append(errs, fmt.Errorf("delete topic %s: %w", name, brokerError(r.Err, r.ErrMessage)))
		}
	}
	return errors.Join(errs...)
}

type topicsAlterCmd struct {
	kafkaFlags
	Names      []string `arg:"" name:"topic" help:"Topics to alter."`
	Partitions int      `short:"p" required:"" placeholder:"N" help:"Number of partitions to have; more than now. Records with a key that come later may go to another partition than those before."`
}

func (c *topicsAlterCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	if err := c.checkTopics(ctx, cl, c.Names); err != nil {
		return err
	}
	rs, err := kadm.NewClient(cl).UpdatePartitions(ctx, c.Partitions, c.Names...)
	if err != nil {
		return fmt.Errorf("add partitions: %w", err)
	}
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(rs)) {
		if r := rs[name]; r.Err != nil {
			errs = append(errs, fmt.Errorf("add partitions to topic %s: %w", name, brokerError(r.Err, r.ErrMessage)))
			continue
		}
		fmt.Fprintf(env.Stdout, "topic %s has %d partition(s)\n", name, c.Partitions)
	}
	return errors.Join(errs...)
}

type topicsOffsetsCmd struct {
	kafkaFlags
	Names []string `arg:"" optional:"" name:"topic" help:"Topics to show; all without a name."`
	At    string   `default:"latest" placeholder:"WHEN" help:"earliest, latest, max-timestamp (the record with the largest time), or a time: milliseconds since 1970, 2026-01-31T12:00:00, or an age such as 10m. A time gives the first record that is not older. Default: latest."`
	JSON  bool     `help:"Write JSON, a line for each partition."`
}

func (c *topicsOffsetsCmd) Run(env *Env) error {
	at, err := offsetTime(c.At, time.Now())
	if err != nil {
		return usageError(fmt.Errorf("--at: %w", err))
	}
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	if err := c.checkTopics(ctx, cl, c.Names); err != nil {
		return err
	}
	list, err := listOffsets(ctx, kadm.NewClient(cl), at, c.Names...)
	if err != nil {
		return fmt.Errorf("look up offsets: %w", err)
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "topic\tpartition\toffset")
	}
	var errs []error
	for _, o := range sortedOffsets(list) {
		switch {
		case o.Err != nil:
			errs = append(errs, fmt.Errorf("look up offset of %s-%d: %w", o.Topic, o.Partition, o.Err))
		case c.JSON:
			if at >= 0 && o.Timestamp < 0 {
				o.Offset = -1 // no record is that young
			}
			writeJSON(env.Stdout, struct {
				Topic     string `json:"topic"`
				Partition int32  `json:"partition"`
				Offset    int64  `json:"offset"`
				Timestamp int64  `json:"timestamp"`
			}{o.Topic, o.Partition, o.Offset, o.Timestamp})
		case o.Offset < 0 || at >= 0 && o.Timestamp < 0:
			fmt.Fprintf(w, "%s\t%d\tnone\n", o.Topic, o.Partition)
		default:
			fmt.Fprintf(w, "%s\t%d\t%d\n", o.Topic, o.Partition, o.Offset)
		}
	}
	return errors.Join(append(errs, w.Flush())...)
}

// Times with a meaning of their own (ListOffsets).
const (
	atLatest   int64 = -1
	atEarliest int64 = -2
	atMaxTime  int64 = -3
)

// offsetTime reads WHEN of the offsets commands.
func offsetTime(s string, now time.Time) (int64, error) {
	switch s {
	case "latest":
		return atLatest, nil
	case "earliest":
		return atEarliest, nil
	case "max-timestamp":
		return atMaxTime, nil
	}
	if n, err := strconv.ParseInt(s, 10, 64); err == nil && n >= 0 {
		return n, nil
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d).UnixMilli(), nil
	}
	t, err := parseDateTime(s)
	if err != nil {
		return 0, fmt.Errorf("%q is none of earliest, latest, max-timestamp, milliseconds, a date with a time, and an age", s)
	}
	return t.UnixMilli(), nil
}

// parseDateTime reads a date with a time; without a zone it is this machine's.
func parseDateTime(s string) (time.Time, error) {
	for _, layout := range []string{time.RFC3339Nano, "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04:05.999999999Z07", "2006-01-02T15:04:05.999999999"} {
		if t, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not a date with a time: want 2026-01-31T12:00:00.000, with a zone such as +09:00 or Z, or without", s)
}

// listOffsets lists the offset at a time, or at one of its special values, of
// every partition of the topics, or of all topics.
func listOffsets(ctx context.Context, adm *kadm.Client, at int64, topics ...string) (kadm.ListedOffsets, error) {
	if len(topics) == 0 {
		ts, err := adm.ListTopics(ctx)
		if err != nil {
			return nil, err
		}
		if topics = ts.Names(); len(topics) == 0 {
			return nil, nil
		}
	}
	switch at {
	case atLatest:
		return adm.ListEndOffsets(ctx, topics...)
	case atEarliest:
		return adm.ListStartOffsets(ctx, topics...)
	case atMaxTime:
		return adm.ListMaxTimestampOffsets(ctx, topics...)
	}
	return adm.ListOffsetsAfterMilli(ctx, at, topics...)
}

// startsAndEnds lists the first and the next offset of the topics' partitions.
func startsAndEnds(ctx context.Context, adm *kadm.Client, topics ...string) (starts, ends kadm.ListedOffsets, err error) {
	if starts, err = adm.ListStartOffsets(ctx, topics...); err == nil {
		ends, err = adm.ListEndOffsets(ctx, topics...)
	}
	if err != nil {
		return nil, nil, fmt.Errorf("look up offsets: %w", err)
	}
	return starts, ends, nil
}

func sortedOffsets(list kadm.ListedOffsets) []kadm.ListedOffset {
	var all []kadm.ListedOffset
	list.Each(func(o kadm.ListedOffset) { all = append(all, o) })
	slices.SortFunc(all, func(a, b kadm.ListedOffset) int {
		return cmp.Or(strings.Compare(a.Topic, b.Topic), cmp.Compare(a.Partition, b.Partition))
	})
	return all
}

type topicsDeleteRecordsCmd struct {
	kafkaFlags
	Topic     string `arg:"" help:"Topic to delete from."`
	Partition int32  `default:"-1" placeholder:"N" help:"Partition to delete from; -1 for all. Default: -1."`
	Before    string `required:"" placeholder:"OFFSET" help:"The first offset to keep; latest deletes all records that are there."`
	DryRun    bool   `help:"Only show what would be deleted."`
}

func (c *topicsDeleteRecordsCmd) Run(env *Env) error {
	before := int64(-1) // DeleteRecords reads it as the end
	if c.Before != "latest" {
		n, err := strconv.ParseInt(c.Before, 10, 64)
		if err != nil || n < 0 {
			return usageError(fmt.Errorf("--before %s: want an offset or latest", c.Before))
		}
		before = n
	}
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	t, err := c.describeTopic(ctx, cl, c.Topic)
	if err != nil {
		return err
	}
	adm := kadm.NewClient(cl)
	starts, ends, err := startsAndEnds(ctx, adm, c.Topic)
	if err != nil {
		return err
	}
	var plan kadm.Offsets
	var errs []error
	found := false
	for _, p := range t.Partitions.Sorted() {
		if c.Partition >= 0 && p.Partition != c.Partition {
			continue
		}
		found = true
		s, _ := starts.Lookup(c.Topic, p.Partition)
		e, _ := ends.Lookup(c.Topic, p.Partition)
		to := before
		switch {
		case to < 0:
			to = e.Offset
		case to > e.Offset:
			errs = append(errs, fmt.Errorf("partition %d ends at offset %d, before %d", p.Partition, e.Offset, to))
			continue
		}
		if c.DryRun {
			fmt.Fprintf(env.Stdout, "would delete %d record offset(s) of %s-%d, which then begins at %d\n", max(to-s.Offset, 0), c.Topic, p.Partition, max(to, s.Offset))
		}
		plan.AddOffset(c.Topic, p.Partition, to, -1)
	}
	if !found {
		return fmt.Errorf("topic %s has no partition %d: it has 0 to %d", c.Topic, c.Partition, len(t.Partitions)-1)
	}
	if c.DryRun || len(plan) == 0 {
		return errors.Join(errs...)
	}
	rs, err := adm.DeleteRecords(ctx, plan)
	if err != nil {
		return fmt.Errorf("delete records: %w", err)
	}
	for _, r := range rs.Sorted() {
		if r.Err != nil {
			errs = append(errs, fmt.Errorf("delete records of %s-%d: %w", r.Topic, r.Partition, r.Err))
			continue
		}
		fmt.Fprintf(env.Stdout, "%s-%d begins at offset %d\n", r.Topic, r.Partition, r.LowWatermark)
	}
	return errors.Join(errs...)
}
