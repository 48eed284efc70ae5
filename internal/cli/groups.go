package cli

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"text/tabwriter"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
)

type groupsCmd struct {
	List          groupsListCmd          `cmd:"" help:"List groups with state and type."`
	Describe      groupsDescribeCmd      `cmd:"" help:"Show state, members, assignments, committed offsets and lag."`
	Reset         groupsResetCmd         `cmd:"" help:"Set the committed offsets of a group without members."`
	Delete        groupsDeleteCmd        `cmd:"" help:"Delete groups without members, and their offsets."`
	DeleteOffsets groupsDeleteOffsetsCmd `cmd:"" help:"Delete the committed offsets of topics that no member reads."`
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
	specs, err := parsePartitionSpecs(c.Topic)
	if err != nil {
		return usageError(fmt.Errorf("--topic: %w", err))
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
		return err
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
