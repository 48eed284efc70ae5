package cli

import (
	"bytes"
	"cmp"
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// A resetPlan says where a group's offsets are to go. One of its fields is set.
type resetPlan struct {
	toEarliest, toLatest, toCurrent bool
	toOffset, shiftBy               *int64
	toTime                          *time.Time
	file                            map[string]map[string]map[int32]int64 // group ("" for any), topic, partition
}

// partitionSpec is --topic TOPIC or TOPIC:0,1.
type partitionSpec struct {
	topic      string
	partitions []int32 // nil: all
}

func parsePartitionSpec(s string) (partitionSpec, error) {
	topic, list, ok := strings.Cut(s, ":")
	spec := partitionSpec{topic: topic}
	if topic == "" || ok && list == "" || strings.Contains(list, ":") {
		return spec, fmt.Errorf("%q is not TOPIC or TOPIC:0,1", s)
	}
	if !ok {
		return spec, nil
	}
	for _, p := range strings.Split(list, ",") {
		n, err := strconv.ParseInt(p, 10, 32)
		if err != nil || n < 0 {
			return spec, kafkaSays("Invalid partition '%s' specified in topic arg '%s'", p, s)
		}
		spec.partitions = append(spec.partitions, int32(n))
	}
	return spec, nil
}

func parsePartitionSpecs(list []string) ([]partitionSpec, error) {
	var specs []partitionSpec
	for _, s := range list {
		spec, err := parsePartitionSpec(s)
		if err != nil {
			return nil, err
		}
		specs = append(specs, spec)
	}
	return specs, nil
}

// scope resolves what is to be reset: the given partitions, or with none those
// for which the group has committed.
func scope(ctx context.Context, adm *kadm.Client, group string, specs []partitionSpec, all bool) (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	if all {
		os, err := committed(ctx, adm, group)
		return os.TopicsSet(), err
	}
	for _, s := range specs {
		ts, err := adm.ListTopicsWithInternal(ctx, s.topic)
		if err != nil {
			return nil, fmt.Errorf("look up topic %s: %w", s.topic, err)
		}
		t := ts[s.topic]
		if t.Err != nil {
			return nil, fmt.Errorf("topic %s: %w", s.topic, t.Err)
		}
		if s.partitions == nil {
			set.Add(s.topic, t.Partitions.Numbers()...)
			continue
		}
		for _, p := range s.partitions {
			if _, ok := t.Partitions[p]; !ok {
				return nil, kafkaSays(`The partitions "%s-%d" do not exist`, s.topic, p)
			}
			set.Add(s.topic, p)
		}
	}
	return set, nil
}

// resetWarning hears of offsets that are not those asked for: outside says that
// they lie outside the log, otherwise no record is as young as asked for.
type resetWarning func(outside bool, text string)

// newOffsets works out the offsets of a reset. What lies outside the log is
// moved to its nearer end, and said.
func newOffsets(ctx context.Context, adm *kadm.Client, group string, set kadm.TopicsSet, plan *resetPlan, warn resetWarning) (kadm.Offsets, error) {
	var lines map[string]map[int32]int64 // of the file
	if plan.file != nil {
		if lines = plan.file[group]; lines == nil {
			lines = plan.file[""]
		}
		if lines == nil {
			return nil, kafkaSays("No reset plan for group %s found", group)
		}
		set = kadm.TopicsSet{}
		for t, ps := range lines {
			set.Add(t, slices.Collect(maps.Keys(ps))...)
		}
	}
	topics := set.Topics()
	if len(topics) == 0 {
		return kadm.Offsets{}, nil
	}
	starts, ends, err := startsAndEnds(ctx, adm, topics...)
	if err != nil {
		return nil, err
	}
	var at kadm.ListedOffsets
	if plan.toTime != nil {
		if at, err = adm.ListOffsetsAfterMilli(ctx, plan.toTime.UnixMilli(), topics...); err != nil {
			return nil, fmt.Errorf("look up offsets: %w", err)
		}
	}
	now := kadm.Offsets{}
	if plan.toCurrent || plan.shiftBy != nil {
		if now, err = committed(ctx, adm, group); err != nil {
			return nil, err
		}
	}
	out := kadm.Offsets{}
	for _, s := range set.Sorted() {
		for _, p := range s.Partitions {
			start, ok1 := starts.Lookup(s.Topic, p)
			end, ok2 := ends.Lookup(s.Topic, p)
			if err := errors.Join(start.Err, end.Err); !ok1 || !ok2 || err != nil {
				return nil, kafkaSays(`The partitions "%s-%d" do not exist`, s.Topic, p)
			}
			cur, has := now.Lookup(s.Topic, p)
			var to int64
			switch {
			case plan.file != nil:
				to = lines[s.Topic][p]
			case plan.toEarliest:
				to = start.Offset
			case plan.toLatest:
				to = end.Offset
			case plan.toCurrent:
				if to = end.Offset; has {
					to = cur.At
				}
				out.AddOffset(s.Topic, p, to, -1) // wherever that is
				continue
			case plan.toTime != nil:
				o, ok := at.Lookup(s.Topic, p)
				if !ok || o.Err != nil {
					return nil, fmt.Errorf("look up the offset of %s-%d at a time: %w", s.Topic, p, cmp.Or(o.Err, errors.New("the broker says nothing about it")))
				}
				if to = o.Offset; o.Timestamp < 0 { // the end then
					warn(false, fmt.Sprintf("Partition %d from topic %s is empty. Falling back to latest known offset.", p, s.Topic))
				}
			case plan.shiftBy != nil:
				if !has {
					return nil, kafkaSays("Cannot shift offset for partition %s-%d since there is no current committed offset", s.Topic, p)
				}
				to = cur.At + *plan.shiftBy
			case plan.toOffset != nil:
				to = *plan.toOffset
			}
			switch {
			case to > end.Offset:
				warn(true, fmt.Sprintf("New offset (%d) is higher than latest offset for topic partition %s-%d. Value will be set to %d", to, s.Topic, p, end.Offset))
				to = end.Offset
			case to < start.Offset:
				warn(true, fmt.Sprintf("New offset (%d) is lower than earliest offset for topic partition %s-%d. Value will be set to %d", to, s.Topic, p, start.Offset))
				to = start.Offset
			}
			out.AddOffset(s.Topic, p, to, -1)
		}
	}
	return out, nil
}

// readPlan reads the CSV that --export writes: topic,partition,offset or, for
// several groups, group,topic,partition,offset.
func readPlan(path string) (map[string]map[string]map[int32]int64, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read plan: %w", err)
	}
	r := csv.NewReader(bytes.NewReader(b))
	r.FieldsPerRecord = -1
	lines, err := r.ReadAll()
	if err != nil {
		return nil, fmt.Errorf("read plan %s: %w", path, err)
	}
	plan := map[string]map[string]map[int32]int64{}
	for i, f := range lines {
		group := ""
		if len(f) == 4 {
			group, f = f[0], f[1:]
		}
		if len(f) != 3 {
			return nil, fmt.Errorf("read plan %s: line %d has %d fields: want topic,partition,offset or group,topic,partition,offset", path, i+1, len(f))
		}
		p, err1 := strconv.ParseInt(strings.TrimSpace(f[1]), 10, 32)
		o, err2 := strconv.ParseInt(strings.TrimSpace(f[2]), 10, 64)
		if err := errors.Join(err1, err2); err != nil || p < 0 || o < 0 {
			return nil, fmt.Errorf("read plan %s: line %d: %s is no partition or %s no offset", path, i+1, f[1], f[2])
		}
		if plan[group] == nil {
			plan[group] = map[string]map[int32]int64{}
		}
		if plan[group][f[0]] == nil {
			plan[group][f[0]] = map[int32]int64{}
		}
		plan[group][f[0]][int32(p)] = o
	}
	return plan, nil
}

// exportPlan writes offsets as the CSV that readPlan reads.
func exportPlan(out io.Writer, group string, os kadm.Offsets) error {
	w := csv.NewWriter(out)
	for _, o := range os.Sorted() {
		line := []string{o.Topic, strconv.Itoa(int(o.Partition)), strconv.FormatInt(o.At, 10)}
		if group != "" {
			line = append([]string{group}, line...)
		}
		if err := w.Write(line); err != nil {
			return err
		}
	}
	w.Flush()
	return w.Error()
}

type groupsResetCmd struct {
	kafkaFlags
	Groups     []string       `arg:"" name:"group" help:"Groups to reset. None may have members: stop its consumers first."`
	Topic      []string       `sep:"none" placeholder:"TOPIC[:0,1]" help:"What to reset: a topic, or some of its partitions. May be repeated."`
	AllTopics  bool           `help:"Reset every partition for which the group has committed."`
	ToEarliest bool           `group:"Where to" help:"To the oldest record."`
	ToLatest   bool           `group:"Where to" help:"To the end, so that only new records are read."`
	ToCurrent  bool           `group:"Where to" help:"To where the group is: useful with --export."`
	ToOffset   *int64         `group:"Where to" placeholder:"N" help:"To this offset."`
	ShiftBy    *int64         `group:"Where to" placeholder:"N" help:"By so many records on, or back if below 0."`
	ToDatetime string         `group:"Where to" placeholder:"TIME" help:"To the first record that is not older: 2026-01-31T12:00:00.000, with a zone such as +09:00 or Z, or without for this machine's."`
	ByDuration *time.Duration `group:"Where to" placeholder:"AGE" help:"To the first record that is not older than this, such as 90m."`
	FromFile   string         `group:"Where to" type:"existingfile" placeholder:"FILE" help:"To the offsets of a CSV file as --export writes it."`
	DryRun     bool           `help:"Only show what would be done."`
	Execute    bool           `help:"Do it. Without it, nothing is changed, as with Kafka's tool."`
	Export     bool           `help:"Write the offsets as CSV."`
}

func (c *groupsResetCmd) Help() string {
	return "Shows the offsets as they would be. Only --execute changes them; --dry-run says expressly that nothing is to change."
}

func (c *groupsResetCmd) plan(now time.Time) (*resetPlan, error) {
	p := &resetPlan{toEarliest: c.ToEarliest, toLatest: c.ToLatest, toCurrent: c.ToCurrent, toOffset: c.ToOffset, shiftBy: c.ShiftBy}
	n := 0
	for _, is := range []bool{c.ToEarliest, c.ToLatest, c.ToCurrent, c.ToOffset != nil, c.ShiftBy != nil, c.ToDatetime != "", c.ByDuration != nil, c.FromFile != ""} {
		if is {
			n++
		}
	}
	if n != 1 {
		return nil, errors.New("give one of --to-earliest, --to-latest, --to-current, --to-offset, --shift-by, --to-datetime, --by-duration and --from-file")
	}
	var err error
	switch {
	case c.ToDatetime != "":
		t, err := parseDateTime(c.ToDatetime)
		if err != nil {
			return nil, fmt.Errorf("--to-datetime: %w", err)
		}
		p.toTime = &t
	case c.ByDuration != nil:
		t := now.Add(-*c.ByDuration)
		p.toTime = &t
	case c.FromFile != "":
		if p.file, err = readPlan(c.FromFile); err != nil {
			return nil, err
		}
	}
	if p.file == nil && len(c.Topic) == 0 && !c.AllTopics {
		return nil, errors.New("say what to reset: --topic TOPIC, --topic TOPIC:0,1 or --all-topics")
	}
	if c.DryRun && c.Execute {
		return nil, errors.New("--dry-run and --execute exclude each other")
	}
	return p, nil
}

func (c *groupsResetCmd) Run(env *Env) error {
	plan, err := c.plan(time.Now())
	if err != nil {
		return usageError(err)
	}
	specs, err := parsePartitionSpecs(c.Topic)
	if err != nil {
		return usageError(fmt.Errorf("--topic: %w", err))
	}
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	warn := func(outside bool, s string) {
		if outside {
			fmt.Fprintln(env.Stderr, s)
		}
	}
	var errs []error
	changed := false
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	for _, group := range c.Groups {
		to, err := resetGroup(ctx, cl, group, specs, c.AllTopics, plan, warn, c.Execute)
		if err != nil {
			errs = append(errs, fmt.Errorf("reset group %s: %w", group, err))
			continue
		}
		if !c.Export && !changed && len(to.new) > 0 {
			fmt.Fprintln(w, "group\ttopic\tpartition\tnow\tnew offset")
		}
		changed = changed || len(to.new) > 0
		if c.Export {
			name := group
			if len(c.Groups) == 1 {
				name = ""
			}
			errs = append(errs, exportPlan(env.Stdout, name, to.new))
			continue
		}
		for _, o := range to.new.Sorted() {
			now := "-"
			if cur, ok := to.old.Lookup(o.Topic, o.Partition); ok {
				now = strconv.FormatInt(cur.At, 10)
			}
			fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\n", group, o.Topic, o.Partition, now, o.At)
		}
	}
	errs = append(errs, w.Flush())
	if !c.Execute && changed {
		fmt.Fprintln(env.Stderr, "nothing was changed; --execute does it")
	}
	return errors.Join(errs...)
}

// activeGroupError says that members hold a group's offsets.
type activeGroupError struct {
	group, state string
	members      int
}

func (e *activeGroupError) Error() string {
	return fmt.Sprintf("the group is %s with %d member(s): its offsets can only be set while it has none; stop its consumers and try again", e.state, e.members)
}

type resetResult struct{ old, new kadm.Offsets }

// resetGroup works out a group's new offsets and, with execute, commits them.
func resetGroup(ctx context.Context, cl *kgo.Client, group string, specs []partitionSpec, all bool, plan *resetPlan, warn resetWarning, execute bool) (resetResult, error) {
	adm := kadm.NewClient(cl)
	var res resetResult
	g, err := describeGroup(ctx, cl, group)
	switch {
	case errors.Is(err, errNoGroup): // the commit makes it
	case err != nil:
		return res, err
	case g.active():
		return res, &activeGroupError{group, g.state, len(g.members)}
	}
	set, err := scope(ctx, adm, group, specs, all)
	if err != nil {
		return res, err
	}
	if res.new, err = newOffsets(ctx, adm, group, set, plan, warn); err != nil {
		return res, err
	}
	if res.old, err = committed(ctx, adm, group); err != nil {
		return res, err
	}
	if !execute || len(res.new) == 0 {
		return res, nil
	}
	if err := adm.CommitAllOffsets(ctx, group, res.new); err != nil {
		return res, fmt.Errorf("commit offsets: %w", err)
	}
	return res, nil
}
