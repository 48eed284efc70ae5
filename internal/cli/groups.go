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
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

type groupsCmd struct {
	List          groupsListCmd          `cmd:"" help:"List groups with state and type."`
	Describe      groupsDescribeCmd      `cmd:"" help:"Show state, members, assignments, committed offsets and lag."`
	Reset         groupsResetCmd         `cmd:"" help:"Set the committed offsets of a group without members."`
	Delete        groupsDeleteCmd        `cmd:"" help:"Delete groups without members, and their offsets."`
	DeleteOffsets groupsDeleteOffsetsCmd `cmd:"" help:"Delete the committed offsets of topics that no member reads."`
}

// groupState is a group as both kinds show it: classic ones, and those of the
// protocol of KIP-848.
type groupState struct {
	name, kind, state, assignor string
	coordinator                 kadm.BrokerDetail
	epoch, targetEpoch          *int32 // of KIP-848 groups
	members                     []groupMember
}

type groupMember struct {
	id, instance, client, host string
	epoch                      *int32
	upgraded                   *bool // speaks KIP-848, in a group that does
	assigned, target           kadm.TopicsSet
}

func (m *groupMember) partitions() int {
	n := 0
	for _, ps := range m.assigned {
		n += len(ps)
	}
	return n
}

// active reports whether the group's offsets are its members' business.
func (g *groupState) active() bool { return g.state != "Empty" && g.state != "Dead" }

// errNoGroup says that a group does not exist.
var errNoGroup = errors.New("the group does not exist")

// describeGroup looks a group up, of whichever kind it is.
func describeGroup(ctx context.Context, cl *kgo.Client, name string) (*groupState, error) {
	adm := kadm.NewClient(cl)
	newer, err := serves(ctx, cl, kmsg.ConsumerGroupDescribe)
	if err != nil {
		return nil, err
	}
	if newer {
		gs, err := adm.DescribeConsumerGroups(ctx, name)
		if err != nil {
			return nil, err
		}
		switch g := gs[name]; {
		case g.Err == nil && g.Group == name:
			s := &groupState{name: name, kind: "Consumer", state: g.State, assignor: g.AssignorName, coordinator: g.Coordinator, epoch: &g.Epoch, targetEpoch: &g.AssignmentEpoch}
			for _, m := range g.Members {
				gm := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost, epoch: &m.MemberEpoch, assigned: m.Assignment, target: m.TargetAssignment}
				if m.InstanceID != nil {
					gm.instance = *m.InstanceID
				}
				if m.MemberType >= 0 {
					is := m.MemberType == 1
					gm.upgraded = &is
				}
				s.members = append(s.members, gm)
			}
			return s, nil
		case errors.Is(g.Err, kerr.GroupIDNotFound), errors.Is(g.Err, kerr.UnsupportedVersion): // a classic one, or none
		case g.Err != nil:
			return nil, g.Err
		}
	}
	gs, err := adm.DescribeGroups(ctx, name)
	if err != nil {
		return nil, err
	}
	g, ok := gs[name]
	switch {
	case !ok, errors.Is(g.Err, kerr.GroupIDNotFound), g.Err == nil && g.State == "Dead":
		return nil, errNoGroup
	case g.Err != nil:
		return nil, brokerError(g.Err, g.ErrMessage)
	}
	s := &groupState{name: name, kind: "Classic", state: g.State, assignor: g.Protocol, coordinator: g.Coordinator}
	for _, m := range g.Members {
		gm := groupMember{id: m.MemberID, client: m.ClientID, host: m.ClientHost, assigned: kadm.TopicsSet{}}
		if m.InstanceID != nil {
			gm.instance = *m.InstanceID
		}
		if a, ok := m.Assigned.AsConsumer(); ok {
			for _, t := range a.Topics {
				gm.assigned.Add(t.Topic, t.Partitions...)
			}
		}
		s.members = append(s.members, gm)
	}
	return s, nil
}

// listGroups lists groups of consumers, by their states and types; none of
// either means all.
func listGroups(ctx context.Context, cl *kgo.Client, states, types []string) ([]kmsg.ListGroupsResponseGroup, error) {
	req := kmsg.NewPtrListGroupsRequest()
	req.StatesFilter, req.TypesFilter = states, types
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return nil, err
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return nil, err
	}
	slices.SortFunc(resp.Groups, func(a, b kmsg.ListGroupsResponseGroup) int { return strings.Compare(a.Group, b.Group) })
	return resp.Groups, nil
}

// committed are the offsets that a group has committed.
func committed(ctx context.Context, adm *kadm.Client, group string) (kadm.Offsets, error) {
	rs, err := adm.FetchOffsets(ctx, group)
	if errors.Is(err, kerr.GroupIDNotFound) {
		return kadm.Offsets{}, nil
	}
	if err != nil {
		return nil, err
	}
	if err := rs.Error(); err != nil {
		return nil, err
	}
	rs.KeepFunc(func(o kadm.OffsetResponse) bool { return o.At >= 0 })
	return rs.Offsets(), nil
}

// lagRow is a partition that a group reads or has read.
type lagRow struct {
	topic     string
	partition int32
	at        *int64 // nil: nothing committed
	epoch     int32  // leader epoch of the commit; -1 for none
	end       *int64 // nil: the partition is not there
	member    *groupMember
}

func (r *lagRow) lag() *int64 {
	if r.at == nil || r.end == nil {
		return nil
	}
	n := *r.end - *r.at
	return &n
}

// lagRows are a group's partitions: first those of the members with the most
// of them, then those without a member, each by topic and partition.
func lagRows(ctx context.Context, adm *kadm.Client, g *groupState) ([]lagRow, error) {
	offsets, err := committed(ctx, adm, g.name)
	if err != nil {
		return nil, fmt.Errorf("look up committed offsets: %w", err)
	}
	topics := map[string]bool{}
	for t := range offsets {
		topics[t] = true
	}
	for i := range g.members {
		for t := range g.members[i].assigned {
			topics[t] = true
		}
	}
	var ends kadm.ListedOffsets
	if len(topics) > 0 {
		if ends, err = adm.ListEndOffsets(ctx, slices.Sorted(maps.Keys(topics))...); err != nil {
			return nil, fmt.Errorf("look up offsets: %w", err)
		}
	}
	var rows []lagRow
	taken := kadm.TopicsSet{}
	add := func(m *groupMember, set kadm.TopicsSet) {
		start := len(rows)
		for _, s := range set.Sorted() {
			for _, p := range s.Partitions {
				r := lagRow{topic: s.Topic, partition: p, member: m, epoch: -1}
				if o, ok := offsets.Lookup(s.Topic, p); ok {
					r.at, r.epoch = &o.At, o.LeaderEpoch
				}
				if e, ok := ends.Lookup(s.Topic, p); ok && e.Err == nil {
					r.end = &e.Offset
				}
				rows = append(rows, r)
				taken.Add(s.Topic, p)
			}
		}
		slices.SortFunc(rows[start:], func(a, b lagRow) int {
			return cmp.Or(strings.Compare(a.topic, b.topic), cmp.Compare(a.partition, b.partition))
		})
	}
	byCount := make([]*groupMember, len(g.members))
	for i := range g.members {
		byCount[i] = &g.members[i]
	}
	slices.SortStableFunc(byCount, func(a, b *groupMember) int { return cmp.Compare(b.partitions(), a.partitions()) })
	for _, m := range byCount {
		add(m, m.assigned)
	}
	rest := kadm.TopicsSet{}
	offsets.Each(func(o kadm.Offset) {
		if !taken.Lookup(o.Topic, o.Partition) {
			rest.Add(o.Topic, o.Partition)
		}
	})
	add(nil, rest)
	return rows, nil
}

// assignment writes a set as topic:0,1;other:0.
func assignment(set kadm.TopicsSet) string {
	var s []string
	for _, t := range set.Sorted() {
		s = append(s, t.Topic+":"+joinIDs(t.Partitions))
	}
	return strings.Join(s, ";")
}

type groupsListCmd struct {
	kafkaFlags
	State []string `sep:"," placeholder:"STATE" help:"Only groups in these states: Stable, Empty, PreparingRebalance, …"`
	Type  []string `sep:"," placeholder:"TYPE" help:"Only groups of these types: classic, consumer (KIP-848)."`
	JSON  bool     `help:"Write JSON, a line for each group."`
}

func (c *groupsListCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	gs, err := listGroups(ctx, cl, c.State, c.Type)
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	if len(gs) == 0 {
		fmt.Fprintln(env.Stderr, "there are no groups; a consumer makes one: sluice consume TOPIC --group NAME")
		return nil
	}
	w := tabwriter.NewWriter(env.Stdout, 0, 0, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "group\ttype\tstate\tprotocol")
	}
	for _, g := range gs {
		if c.JSON {
			writeJSON(env.Stdout, struct {
				Group    string `json:"group"`
				Type     string `json:"type"`
				State    string `json:"state"`
				Protocol string `json:"protocol"`
			}{g.Group, g.GroupType, g.GroupState, g.ProtocolType})
			continue
		}
		fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", g.Group, orDash(g.GroupType), orDash(g.GroupState), orDash(g.ProtocolType))
	}
	return w.Flush()
}

type groupsDescribeCmd struct {
	kafkaFlags
	Names []string `arg:"" optional:"" name:"group" help:"Groups to show; all without a name."`
	JSON  bool     `help:"Write JSON, a line for each group."`
}

type jsonGroup struct {
	Group      string           `json:"group"`
	Type       string           `json:"type"`
	State      string           `json:"state"`
	Assignor   string           `json:"assignor,omitempty"`
	Epoch      *int32           `json:"epoch,omitempty"`
	Members    []jsonMember     `json:"members"`
	Partitions []jsonGroupEntry `json:"partitions"`
	TotalLag   int64            `json:"totalLag"`
}

type jsonMember struct {
	ID       string `json:"id"`
	Instance string `json:"instance,omitempty"`
	Client   string `json:"client"`
	Host     string `json:"host"`
	Assigned string `json:"assigned"`
}

type jsonGroupEntry struct {
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
	Committed *int64 `json:"committed"`
	End       *int64 `json:"end"`
	Lag       *int64 `json:"lag"`
	Member    string `json:"member,omitempty"`
}

func (c *groupsDescribeCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	names := c.Names
	if len(names) == 0 {
		gs, err := listGroups(ctx, cl, nil, nil)
		if err != nil {
			return fmt.Errorf("list groups: %w", err)
		}
		for _, g := range gs {
			names = append(names, g.Group)
		}
	}
	var errs []error
	for i, name := range names {
		g, err := describeGroup(ctx, cl, name)
		var rows []lagRow
		if err == nil {
			rows, err = lagRows(ctx, kadm.NewClient(cl), g)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("describe group %s: %w", name, err))
			continue
		}
		if c.JSON {
			errs = append(errs, g.json(env.Stdout, rows))
			continue
		}
		if i > 0 {
			fmt.Fprintln(env.Stdout)
		}
		errs = append(errs, g.text(env.Stdout, rows))
	}
	return errors.Join(errs...)
}

func (g *groupState) json(w io.Writer, rows []lagRow) error {
	j := jsonGroup{Group: g.name, Type: g.kind, State: g.state, Assignor: g.assignor, Epoch: g.epoch, Members: []jsonMember{}, Partitions: []jsonGroupEntry{}}
	for _, m := range g.members {
		j.Members = append(j.Members, jsonMember{m.id, m.instance, m.client, m.host, assignment(m.assigned)})
	}
	for _, r := range rows {
		e := jsonGroupEntry{Topic: r.topic, Partition: r.partition, Committed: r.at, End: r.end, Lag: r.lag()}
		if r.member != nil {
			e.Member = r.member.id
		}
		if e.Lag != nil {
			j.TotalLag += *e.Lag
		}
		j.Partitions = append(j.Partitions, e)
	}
	return writeJSON(w, j)
}

func numberOr(n *int64, other string) string {
	if n == nil {
		return other
	}
	return strconv.FormatInt(*n, 10)
}

func (g *groupState) text(out io.Writer, rows []lagRow) error {
	fmt.Fprintf(out, "group %s: %s, type %s, %d member(s)", g.name, g.state, strings.ToLower(g.kind), len(g.members))
	if g.assignor != "" {
		fmt.Fprintf(out, ", assignor %s", g.assignor)
	}
	if g.epoch != nil {
		fmt.Fprintf(out, ", epoch %d", *g.epoch)
	}
	fmt.Fprintln(out)
	if len(g.members) > 0 {
		w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
		fmt.Fprintln(w, "  member\tinstance\tclient\thost\tassigned")
		for _, m := range g.members {
			fmt.Fprintf(w, "  %s\t%s\t%s\t%s\t%s\n", m.id, orDash(m.instance), m.client, m.host, orDash(assignment(m.assigned)))
		}
		if err := w.Flush(); err != nil {
			return err
		}
	}
	if len(rows) == 0 {
		_, err := fmt.Fprintln(out, "  no offsets are committed")
		return err
	}
	total, unknown := int64(0), 0
	w := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(w, "  topic\tpartition\tcommitted\tend\tlag\tmember")
	for i := range rows {
		r := &rows[i]
		member := "-"
		if r.member != nil {
			member = r.member.id
		}
		lag := r.lag()
		if lag == nil {
			unknown++
		} else {
			total += *lag
		}
		fmt.Fprintf(w, "  %s\t%d\t%s\t%s\t%s\t%s\n", r.topic, r.partition, numberOr(r.at, "-"), numberOr(r.end, "gone"), numberOr(lag, "-"), member)
	}
	if err := w.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(out, "  total lag: %d", total)
	if unknown > 0 {
		fmt.Fprintf(out, ", and %d partition(s) without a committed offset or that are gone", unknown)
	}
	_, err := fmt.Fprintln(out)
	return err
}

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

// scope resolves what is to be reset: the given partitions, or with none those
// for which the group has committed.
func scope(ctx context.Context, adm *kadm.Client, group string, specs []partitionSpec, all bool) (kadm.TopicsSet, error) {
	set := kadm.TopicsSet{}
	if all {
		os, err := committed(ctx, adm, group)
		if err != nil {
			return nil, fmt.Errorf("look up committed offsets: %w", err)
		}
		return os.TopicsSet(), nil
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
	if plan.file != nil {
		set = kadm.TopicsSet{}
		lines := plan.file[group]
		if lines == nil {
			lines = plan.file[""]
		}
		if lines == nil {
			return nil, kafkaSays("No reset plan for group %s found", group)
		}
		for t, ps := range lines {
			set.Add(t, slices.Collect(maps.Keys(ps))...)
		}
	}
	topics := set.Topics()
	if len(topics) == 0 {
		return kadm.Offsets{}, nil
	}
	starts, err := adm.ListStartOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("look up offsets: %w", err)
	}
	ends, err := adm.ListEndOffsets(ctx, topics...)
	if err != nil {
		return nil, fmt.Errorf("look up offsets: %w", err)
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
			return nil, fmt.Errorf("look up committed offsets: %w", err)
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
				lines := plan.file[group]
				if lines == nil {
					lines = plan.file[""]
				}
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
	var specs []partitionSpec
	for _, s := range c.Topic {
		spec, err := parsePartitionSpec(s)
		if err != nil {
			return usageError(fmt.Errorf("--topic: %w", err))
		}
		specs = append(specs, spec)
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

type groupsDeleteCmd struct {
	kafkaFlags
	Names []string `arg:"" name:"group" help:"Groups to delete."`
}

func (c *groupsDeleteCmd) Run(env *Env) error {
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	rs, err := kadm.NewClient(cl).DeleteGroups(ctx, c.Names...)
	if err != nil {
		return fmt.Errorf("delete groups: %w", err)
	}
	var errs []error
	for _, r := range rs.Sorted() {
		switch {
		case r.Err == nil:
			fmt.Fprintf(env.Stdout, "deleted group %s\n", r.Group)
		case errors.Is(r.Err, kerr.NonEmptyGroup):
			errs = append(errs, fmt.Errorf("delete group %s: it has members: stop its consumers first (sluice groups describe %s)", r.Group, r.Group))
		case errors.Is(r.Err, kerr.GroupIDNotFound):
			errs = append(errs, fmt.Errorf("delete group %s: %w", r.Group, errNoGroup))
		default:
			errs = append(errs, fmt.Errorf("delete group %s: %w", r.Group, r.Err))
		}
	}
	return errors.Join(errs...)
}

type groupsDeleteOffsetsCmd struct {
	kafkaFlags
	Group string   `arg:"" help:"Group whose offsets to delete."`
	Topic []string `required:"" sep:"none" placeholder:"TOPIC[:0,1]" help:"A topic, or some of its partitions. May be repeated."`
}

func (c *groupsDeleteOffsetsCmd) Run(env *Env) error {
	var specs []partitionSpec
	for _, s := range c.Topic {
		spec, err := parsePartitionSpec(s)
		if err != nil {
			return usageError(fmt.Errorf("--topic: %w", err))
		}
		specs = append(specs, spec)
	}
	cl, ctx, done, err := c.session(env)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	// Offsets of a deleted topic can be deleted as well.
	set := kadm.TopicsSet{}
	now, err := committed(ctx, adm, c.Group)
	if err != nil {
		return fmt.Errorf("look up committed offsets: %w", err)
	}
	for _, s := range specs {
		if s.partitions == nil {
			for p := range now[s.topic] {
				s.partitions = append(s.partitions, p)
			}
		}
		if len(s.partitions) == 0 {
			return fmt.Errorf("group %s has committed no offsets for topic %s", c.Group, s.topic)
		}
		set.Add(s.topic, s.partitions...)
	}
	rs, err := adm.DeleteOffsets(ctx, c.Group, set)
	if err != nil {
		return fmt.Errorf("delete offsets of group %s: %w", c.Group, err)
	}
	var errs []error
	for _, s := range set.Sorted() {
		for _, p := range s.Partitions {
			if err := rs[s.Topic][p]; err != nil {
				errs = append(errs, fmt.Errorf("delete offset of %s-%d: %w", s.Topic, p, err))
				continue
			}
			fmt.Fprintf(env.Stdout, "deleted the offset of %s-%d\n", s.Topic, p)
		}
	}
	return errors.Join(errs...)
}
