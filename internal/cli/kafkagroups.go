package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func kafkaConsumerGroups(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"list": optFlag, "describe": optFlag, "delete": optFlag, "reset-offsets": optFlag, "delete-offsets": optFlag, "validate-regex": optValue,
		"group": optValue, "all-groups": optFlag, "topic": optValue, "all-topics": optFlag, "timeout": optValue,
		"members": optFlag, "offsets": optFlag, "verbose": optFlag, "state": {value: true, optional: "*"}, "type": {value: true, optional: "*"},
		"dry-run": optFlag, "execute": optFlag, "export": optFlag,
		"to-offset": optValue, "shift-by": optValue, "to-datetime": optValue, "by-duration": optValue,
		"to-earliest": optFlag, "to-latest": optFlag, "to-current": optFlag, "from-file": optValue,
		"new-consumer": noEffect(false, "there is no other"),
	}), args, nil)
	if err != nil {
		return err
	}
	action, err := a.one(tool, "list", "describe", "delete", "reset-offsets", "delete-offsets", "validate-regex")
	if err != nil {
		return err
	}
	if action == "validate-regex" {
		re := a.last("validate-regex", "")
		if _, err := regexp.Compile(re); err != nil {
			fmt.Fprintf(env.Stdout, "The regular expression `%s` is invalid: %v.\n", re, err)
			return nil
		}
		fmt.Fprintf(env.Stdout, "The regular expression `%s` is valid.\n", re)
		return nil
	}
	for _, c := range []struct {
		option  string
		actions []string
	}{
		{"members", []string{"describe"}}, {"offsets", []string{"describe"}}, {"verbose", []string{"describe"}}, {"state", []string{"describe", "list"}},
		{"type", []string{"list"}}, {"topic", []string{"reset-offsets", "delete-offsets"}}, {"all-topics", []string{"reset-offsets"}},
		{"dry-run", []string{"reset-offsets"}}, {"execute", []string{"reset-offsets"}}, {"export", []string{"reset-offsets"}},
		{"group", []string{"describe", "delete", "reset-offsets", "delete-offsets"}}, {"all-groups", []string{"describe", "delete", "reset-offsets"}},
	} {
		if err := a.only(tool, c.option, c.actions...); err != nil {
			return err
		}
	}
	if action != "list" && a.has("group") == a.has("all-groups") {
		return usageError(fmt.Errorf("%s: --%s takes one of --group NAME and --all-groups", tool, action))
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	g := groupTool{kafkaArgs: a, env: env, tool: tool}
	if action == "reset-offsets" {
		if g.plan, g.specs, err = g.reset(time.Now()); err != nil {
			return usageError(fmt.Errorf("%s: %w", tool, err))
		}
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	g.cl, g.adm = cl, kadm.NewClient(cl)
	return map[string]func(context.Context) error{"list": g.list, "describe": g.describe, "delete": g.delete, "reset-offsets": g.resetOffsets, "delete-offsets": g.deleteOffsets}[action](ctx)
}

// groupTool is one call of kafka-consumer-groups.
type groupTool struct {
	kafkaArgs
	env   *Env
	tool  string
	cl    *kgo.Client
	adm   *kadm.Client
	plan  *resetPlan
	specs []partitionSpec
}

// failed writes an error where and how Kafka's tool does.
func (g *groupTool) failed(format string, args ...any) error {
	fmt.Fprintf(g.env.Stdout, "\nError: "+format+"\n", args...)
	return &exitError{Code: ExitFailed}
}

func (g *groupTool) failedBy(err error) error {
	return g.failed("Executing consumer group command failed due to %v", err)
}

func (g *groupTool) filter(option string) []string {
	v := g.last(option, "*")
	if v == "*" || v == "" {
		return nil
	}
	list := strings.Split(v, ",")
	for i := range list {
		list[i] = strings.TrimSpace(list[i])
	}
	return list
}

// listed are the groups of consumers, not those of other users of the
// protocol such as Connect.
func (g *groupTool) listed(ctx context.Context, states, types []string) ([]kmsg.ListGroupsResponseGroup, error) {
	gs, err := listGroups(ctx, g.cl, states, types)
	return slices.DeleteFunc(gs, func(g kmsg.ListGroupsResponseGroup) bool { return g.ProtocolType != "consumer" && g.ProtocolType != "" }), err
}

func (g *groupTool) list(ctx context.Context) error {
	gs, err := g.listed(ctx, g.filter("state"), g.filter("type"))
	if err != nil {
		return g.failedBy(err)
	}
	width := 15
	for _, l := range gs {
		width = max(width, len(l.Group))
	}
	width += 10
	row := func(name, typ, state string) {
		if !g.has("type") && !g.has("state") {
			fmt.Fprintln(g.env.Stdout, name)
			return
		}
		line := fmt.Sprintf("%-*s", width, name)
		if g.has("type") {
			line += fmt.Sprintf(" %-20s", typ)
		}
		if g.has("state") {
			line += fmt.Sprintf(" %-20s", state)
		}
		fmt.Fprintln(g.env.Stdout, line)
	}
	if g.has("type") || g.has("state") {
		row("GROUP", "TYPE", "STATE")
	}
	for _, l := range gs {
		row(l.Group, groupTypeName(l.GroupType), l.GroupState)
	}
	return nil
}

func groupTypeName(s string) string {
	switch strings.ToLower(s) {
	case "classic":
		return "Classic"
	case "consumer":
		return "Consumer"
	case "":
		return "Unknown"
	}
	return s
}

func (g *groupTool) groups(ctx context.Context) ([]string, error) {
	if !g.has("all-groups") {
		return g.kafkaArgs["group"], nil
	}
	gs, err := g.listed(ctx, nil, nil)
	var names []string
	for _, l := range gs {
		names = append(names, l.Group)
	}
	return names, err
}

func (g *groupTool) describe(ctx context.Context) error {
	subs := 0
	for _, o := range []string{"members", "offsets", "state"} {
		if g.has(o) {
			subs++
		}
	}
	if subs > 1 {
		return usageError(fmt.Errorf("%s: --describe takes at most one of --members, --offsets and --state", g.tool))
	}
	if g.has("state") && g.last("state", "*") != "*" {
		return usageError(fmt.Errorf("%s: --describe does not take a value for --state", g.tool))
	}
	names, err := g.groups(ctx)
	if err != nil {
		return g.failedBy(err)
	}
	names = slices.Compact(slices.Sorted(slices.Values(names)))
	var states []*groupState
	for _, name := range names {
		s, err := describeGroup(ctx, g.cl, name)
		if errors.Is(err, errNoGroup) {
			return g.failed("Consumer group '%s' does not exist.", name)
		}
		if err != nil {
			return g.failedBy(err)
		}
		states = append(states, s)
	}
	for _, s := range states {
		switch {
		case g.has("members"):
			err = g.members(s)
		case g.has("state"):
			err = g.state(s)
		default:
			err = g.offsets(ctx, s)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// shows says what a group's state means, and whether its rows are shown.
func (g *groupTool) shows(s *groupState, rows int) bool {
	switch s.state {
	case "Empty":
		fmt.Fprintf(g.env.Stderr, "\nConsumer group '%s' has no active members.\n", s.name)
	case "PreparingRebalance", "CompletingRebalance", "Assigning", "Reconciling":
		fmt.Fprintf(g.env.Stderr, "\nWarning: Consumer group '%s' is rebalancing.\n", s.name)
	}
	return rows > 0
}

func (g *groupTool) offsets(ctx context.Context, s *groupState) error {
	rows, err := lagRows(ctx, g.adm, s)
	if err != nil {
		return g.failedBy(err)
	}
	if !g.shows(s, len(rows)) {
		return nil
	}
	groupLen, topicLen, idLen, hostLen := max(15, len(s.name)), 15, 15, 15
	for _, r := range rows {
		topicLen = max(topicLen, len(r.topic))
		if r.member != nil {
			idLen, hostLen = max(idLen, len(r.member.id)), max(hostLen, len(r.member.host))
		}
	}
	row := func(c ...string) {
		epoch := ""
		if g.has("verbose") {
			epoch = fmt.Sprintf(" %-15s", c[3])
		}
		fmt.Fprintf(g.env.Stdout, "\n%-*s %-*s %-10s%s %-15s %-15s %-15s %-*s %-*s %s", groupLen, c[0], topicLen, c[1], c[2], epoch, c[4], c[5], c[6], idLen, c[7], hostLen, c[8], c[9])
	}
	row("GROUP", "TOPIC", "PARTITION", "LEADER-EPOCH", "CURRENT-OFFSET", "LOG-END-OFFSET", "LAG", "CONSUMER-ID", "HOST", "CLIENT-ID")
	for i := range rows {
		r := &rows[i]
		id, host, client, epoch := "-", "-", "-", "-"
		if r.member != nil {
			id, host, client = r.member.id, r.member.host, r.member.client
		}
		if r.epoch >= 0 {
			epoch = strconv.Itoa(int(r.epoch))
		}
		row(s.name, r.topic, strconv.Itoa(int(r.partition)), epoch, numberOr(r.at, "-"), numberOr(r.end, "-"), numberOr(r.lag(), "-"), id, host, client)
	}
	fmt.Fprintln(g.env.Stdout)
	return nil
}

func (g *groupTool) members(s *groupState) error {
	g.shows(s, len(s.members)) // the heading comes in any case
	groupLen, idLen, instLen, hostLen, clientLen, curLen, tgtLen := 15, 15, 17, 15, 15, 20, 20
	static, older, newer := false, false, false
	for _, m := range s.members {
		groupLen, idLen, instLen = max(groupLen, len(s.name)), max(idLen, len(m.id)), max(instLen, len(m.instance))
		hostLen, clientLen = max(hostLen, len(m.host)), max(clientLen, len(m.client))
		curLen, tgtLen = max(curLen, len(assignment(m.assigned))), max(tgtLen, len(assignment(m.target)))
		static = static || m.instance != ""
		older, newer = older || m.upgraded != nil && !*m.upgraded, newer || m.upgraded != nil && *m.upgraded
	}
	row := func(c ...string) {
		out := g.env.Stdout
		fmt.Fprintf(out, "%-*s %-*s ", groupLen, c[0], idLen, c[1])
		if static {
			fmt.Fprintf(out, "%-*s ", instLen, c[2])
		}
		fmt.Fprintf(out, "%-*s %-*s %-15s ", hostLen, c[3], clientLen, c[4], c[5])
		if g.has("verbose") {
			fmt.Fprintf(out, "%-15s %-*s %-15s %-*s", c[6], curLen, c[7], c[8], tgtLen, c[9])
			if older && newer {
				fmt.Fprintf(out, " %s", c[10])
			}
		}
		fmt.Fprintln(out)
	}
	fmt.Fprintln(g.env.Stdout)
	row("GROUP", "CONSUMER-ID", "GROUP-INSTANCE-ID", "HOST", "CLIENT-ID", "#PARTITIONS", "CURRENT-EPOCH", "CURRENT-ASSIGNMENT", "TARGET-EPOCH", "TARGET-ASSIGNMENT", "UPGRADED")
	for _, m := range s.members {
		upgraded := "-"
		if m.upgraded != nil {
			upgraded = strconv.FormatBool(*m.upgraded)
		}
		row(s.name, m.id, m.instance, m.host, m.client, strconv.Itoa(m.partitions()), epochOr(m.epoch), orDash(assignment(m.assigned)), epochOr(s.targetEpoch), orDash(assignment(m.target)), upgraded)
	}
	return nil
}

func epochOr(n *int32) string {
	if n == nil {
		return "-"
	}
	return strconv.Itoa(int(*n))
}

func (g *groupTool) state(s *groupState) error {
	if !g.shows(s, 1) {
		return nil
	}
	at := fmt.Sprintf("%s:%d  (%d)", s.coordinator.Host, s.coordinator.Port, s.coordinator.NodeID)
	row := func(c ...string) {
		epochs := ""
		if g.has("verbose") {
			epochs = fmt.Sprintf(" %-15s %-25s", c[4], c[5])
		}
		fmt.Fprintf(g.env.Stdout, "\n%-*s %-*s %-20s %-20s%s %s", max(15, len(s.name)), c[0], max(25, len(at)), c[1], c[2], c[3], epochs, c[6])
	}
	row("GROUP", "COORDINATOR (ID)", "ASSIGNMENT-STRATEGY", "STATE", "GROUP-EPOCH", "TARGET-ASSIGNMENT-EPOCH", "#MEMBERS")
	row(s.name, at, orDash(s.assignor), s.state, epochOr(s.epoch), epochOr(s.targetEpoch), strconv.Itoa(len(s.members)))
	fmt.Fprintln(g.env.Stdout)
	return nil
}

func (g *groupTool) delete(ctx context.Context) error {
	names, err := g.groups(ctx)
	if err != nil {
		return g.failedBy(err)
	}
	rs, err := g.adm.DeleteGroups(ctx, names...)
	if err != nil {
		return g.failedBy(err)
	}
	var ok, bad []string
	for _, r := range rs.Sorted() {
		switch {
		case r.Err == nil:
			ok = append(ok, "'"+r.Group+"'")
		default:
			bad = append(bad, fmt.Sprintf("* Group '%s' could not be deleted due to: %s", r.Group, kafkaText(r.Err, true)))
		}
	}
	if len(bad) == 0 {
		fmt.Fprintf(g.env.Stdout, "Deletion of requested consumer groups (%s) was successful.\n", strings.Join(ok, ", "))
		return nil
	}
	fmt.Fprintf(g.env.Stdout, "\nError: Deletion of some consumer groups failed:\n%s\n", strings.Join(bad, "\n"))
	if len(ok) > 0 {
		fmt.Fprintf(g.env.Stdout, "\nThese consumer groups were deleted successfully: %s\n", strings.Join(ok, ", "))
	}
	return &exitError{Code: ExitFailed}
}

func (g *groupTool) deleteOffsets(ctx context.Context) error {
	if !g.has("topic") {
		return usageError(fmt.Errorf("%s: --delete-offsets takes --group NAME and --topic TOPIC", g.tool))
	}
	group := g.last("group", "")
	set := kadm.TopicsSet{}
	result := map[string]map[int32]error{}
	note := func(t string, p int32, err error) {
		if result[t] == nil {
			result[t] = map[int32]error{}
		}
		result[t][p] = err
	}
	for _, s := range g.kafkaArgs["topic"] {
		spec, err := parsePartitionSpec(s)
		if err != nil {
			return usageError(fmt.Errorf("%s: %w", g.tool, err))
		}
		if spec.partitions == nil {
			ts, err := g.adm.ListTopicsWithInternal(ctx, spec.topic)
			if err == nil {
				err = ts[spec.topic].Err
			}
			if err != nil {
				note(spec.topic, -1, err)
				continue
			}
			spec.partitions = ts[spec.topic].Partitions.Numbers()
		}
		set.Add(spec.topic, spec.partitions...)
	}
	rs, err := g.adm.DeleteOffsets(ctx, group, set)
	partial := false
	for _, s := range set.Sorted() {
		for _, p := range s.Partitions {
			perr := rs[s.Topic][p]
			if err != nil {
				perr = err
			}
			partial = partial || perr != nil
			note(s.Topic, p, perr)
		}
	}
	var bad error
	switch {
	case err != nil:
		bad = g.failed("%s", kafkaText(err, false))
	case partial:
		bad = g.failed("Encountered some partition-level error, see the follow-up details.")
	default:
		fmt.Fprintf(g.env.Stdout, "Request succeeded for deleting offsets from group %s.\n", group)
	}
	width := 15
	for t := range result {
		width = max(width, len(t))
	}
	row := func(topic, partition, status string) {
		fmt.Fprintf(g.env.Stdout, "\n%-*s %-10s %-15s", width, topic, partition, status)
	}
	row("TOPIC", "PARTITION", "STATUS")
	for _, t := range slices.Sorted(maps.Keys(result)) {
		for _, p := range slices.Sorted(maps.Keys(result[t])) {
			status, part := "Successful", "-"
			if e := result[t][p]; e != nil {
				status = "Error: " + kafkaText(e, true)
			}
			if p >= 0 {
				part = strconv.Itoa(int(p))
			}
			row(t, part, status)
		}
	}
	fmt.Fprintln(g.env.Stdout)
	return bad
}

// kafkaErrors are errors as the Java client has them: class and text.
var kafkaErrors = []struct {
	err         error
	class, text string
}{
	{kerr.GroupSubscribedToTopic, "GroupSubscribedToTopicException", "Deleting offsets of a topic is forbidden while the consumer group is actively subscribed to it."},
	{kerr.UnknownTopicOrPartition, "UnknownTopicOrPartitionException", "This server does not host this topic-partition."},
	{kerr.NonEmptyGroup, "GroupNotEmptyException", "The group is not empty."},
	{kerr.GroupIDNotFound, "GroupIdNotFoundException", "The group id does not exist."},
}

// kafkaText is an error's text in the Java client, with the class or without.
func kafkaText(err error, class bool) string {
	for _, k := range kafkaErrors {
		switch {
		case errors.Is(err, k.err) && class:
			return "org.apache.kafka.common.errors." + k.class + ": " + k.text
		case errors.Is(err, k.err):
			return k.text
		}
	}
	return err.Error()
}

// kafkaGroups is Kafka's list of groups of every kind.
func kafkaGroups(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"list": optFlag, "group-type": optValue, "protocol": optValue, "consumer": optFlag, "share": optFlag, "streams": optFlag,
	}), args, nil)
	if err != nil {
		return err
	}
	if _, err := a.one(tool, "list"); err != nil {
		return err
	}
	cl, ctx, done, err := a.session(env, tool)
	if err != nil {
		return err
	}
	defer done()
	gs, err := listGroups(ctx, cl, nil, nil)
	if err != nil {
		return fmt.Errorf("list groups: %w", err)
	}
	width := 20
	gs = slices.DeleteFunc(gs, func(g kmsg.ListGroupsResponseGroup) bool {
		return a.has("share") && !strings.EqualFold(g.GroupType, "share") || a.has("streams") && !strings.EqualFold(g.GroupType, "streams") ||
			a.has("group-type") && !strings.EqualFold(g.GroupType, a.last("group-type", "")) || a.has("protocol") && g.ProtocolType != a.last("protocol", "") ||
			a.has("consumer") && g.ProtocolType != "consumer" && g.ProtocolType != ""
	})
	if len(gs) == 0 {
		return nil
	}
	for _, g := range gs {
		width = max(width, len(g.Group), len(groupTypeName(g.GroupType)), len(g.ProtocolType))
	}
	fmt.Fprintf(env.Stdout, "%-*s %-*s %-*s\n", width, "GROUP", width, "TYPE", width, "PROTOCOL")
	for _, g := range gs {
		fmt.Fprintf(env.Stdout, "%-*s %-*s %-*s \n", width, g.Group, width, groupTypeName(g.GroupType), width, g.ProtocolType)
	}
	return nil
}
