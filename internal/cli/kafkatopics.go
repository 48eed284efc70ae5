package cli

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func kafkaTopics(env *Env, tool string, args []string) error {
	const oneBroker = "there is one broker, which has every partition"
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"create": optFlag, "list": optFlag, "describe": optFlag, "delete": optFlag, "alter": optFlag,
		"topic": optValue, "topic-id": optValue, "partitions": optValue, "replication-factor": optValue, "config": optValue,
		"if-not-exists": optFlag, "if-exists": optFlag, "exclude-internal": optFlag,
		"under-replicated-partitions": optFlag, "unavailable-partitions": optFlag, "under-min-isr-partitions": optFlag,
		"at-min-isr-partitions": optFlag, "topics-with-overrides": optFlag, "partition-size-limit-per-response": optValue,
		"replica-assignment": gone(true, oneBroker+": write --partitions N"),
		"delete-config":      gone(true, "write kafka-configs --alter --entity-type topics --entity-name TOPIC --delete-config NAME"),
		"force":              noEffect(false, "nothing is asked"), "disable-rack-aware": noEffect(false, oneBroker),
	}), args, nil)
	if err != nil {
		return err
	}
	action, err := a.one(tool, "create", "list", "describe", "delete", "alter")
	if err != nil {
		return err
	}
	for _, c := range []struct {
		option  string
		actions []string
	}{
		{"config", []string{"create"}}, {"partitions", []string{"create", "alter"}}, {"replication-factor", []string{"create"}},
		{"if-exists", []string{"alter", "delete", "describe"}}, {"if-not-exists", []string{"create"}}, {"exclude-internal", []string{"list", "describe"}},
		{"topic-id", []string{"describe"}}, {"under-replicated-partitions", []string{"describe"}}, {"unavailable-partitions", []string{"describe"}},
		{"under-min-isr-partitions", []string{"describe"}}, {"at-min-isr-partitions", []string{"describe"}}, {"topics-with-overrides", []string{"describe"}},
	} {
		if c.option == "config" && a.has("alter") && a.has("config") {
			return usageError(fmt.Errorf("%s: --config is for --create; to change a topic write kafka-configs --alter --entity-type topics --entity-name TOPIC --add-config NAME=VALUE", tool))
		}
		if err := a.only(tool, c.option, c.actions...); err != nil {
			return err
		}
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	if !a.has("topic") && (action == "create" || action == "delete" || action == "alter") {
		return usageError(fmt.Errorf("%s: --%s needs --topic NAME", tool, action))
	}
	t := topicTool{kafkaArgs: a, env: env, tool: tool}
	if t.parts, err = a.int("partitions", -1); err == nil && a.has("partitions") && (t.parts < 1 || t.parts > math.MaxInt32) {
		err = kafkaSays("The partitions must be greater than 0")
	}
	if err != nil {
		return usageError(err)
	}
	if t.replicas, err = a.int("replication-factor", -1); err == nil && a.has("replication-factor") && (t.replicas < 1 || t.replicas > math.MaxInt16) {
		err = kafkaSays("The replication factor must be between 1 and 32767 inclusive")
	}
	if err != nil {
		return usageError(err)
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	t.cl, t.adm = cl, kadm.NewClient(cl)
	err = map[string]func(context.Context) error{"create": t.create, "list": t.list, "describe": t.describe, "delete": t.delete, "alter": t.alter}[action](ctx)
	if err != nil && !errors.As(err, new(*exitError)) {
		// As Kafka's tool does; scripts look for it.
		fmt.Fprintf(env.Stdout, "Error while executing topic command : %v\n", err)
		return &exitError{Code: ExitFailed}
	}
	return err
}

// topicTool is one call of kafka-topics.
type topicTool struct {
	kafkaArgs
	env             *Env
	tool            string
	cl              *kgo.Client
	adm             *kadm.Client
	parts, replicas int64
}

// names finds the topics that --topic means. The name itself must not exist
// only where --if-exists allows that.
func (t *topicTool) names(ctx context.Context) ([]string, error) {
	filter := topicFilter{}
	if t.has("topic") {
		var err error
		if filter, err = newTopicFilter(t.tool, "topic", t.last("topic", "")); err != nil {
			return nil, err
		}
	}
	ts, err := t.adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, n := range ts.Names() {
		if filter.match(n) && !(t.has("exclude-internal") && internalTopic(n)) {
			names = append(names, n)
		}
	}
	if topic := t.last("topic", ""); topic != "" && len(names) == 0 && !t.has("if-exists") && !t.has("list") {
		return nil, kafkaSays("Topic '%s' does not exist as expected", topic)
	}
	return names, nil
}

func (t *topicTool) create(ctx context.Context) error {
	configs := map[string]*string{}
	for _, c := range t.kafkaArgs["config"] {
		k, v, ok := strings.Cut(c, "=")
		if v = strings.TrimSpace(v); !ok || v == "" {
			return kafkaSays(`Invalid topic config: all configs to be added must be in the format "key=val".`)
		}
		configs[strings.TrimSpace(k)] = &v
	}
	name := t.last("topic", "")
	if strings.ContainsAny(name, "._") {
		fmt.Fprintln(t.env.Stdout, "WARNING: Due to limitations in metric names, topics with a period ('.') or underscore ('_') could collide. To avoid issues it is best to use either, but not both.")
	}
	r, err := t.adm.CreateTopic(ctx, int32(t.parts), int16(t.replicas), configs, name)
	switch {
	case errors.Is(err, kerr.TopicAlreadyExists) && t.has("if-not-exists"):
		return nil
	case err != nil && r.ErrMessage != "":
		return errors.New(r.ErrMessage)
	case err != nil:
		return err
	}
	fmt.Fprintf(t.env.Stdout, "Created topic %s.\n", name)
	return nil
}

func (t *topicTool) list(ctx context.Context) error {
	names, err := t.names(ctx)
	if err == nil {
		fmt.Fprintln(t.env.Stdout, strings.Join(names, "\n"))
	}
	return err
}

func (t *topicTool) delete(ctx context.Context) error {
	names, err := t.names(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	rs, err := t.adm.DeleteTopics(ctx, names...)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range rs.Sorted() {
		errs = append(errs, brokerError(r.Err, r.ErrMessage))
	}
	return errors.Join(errs...)
}

func (t *topicTool) alter(ctx context.Context) error {
	if !t.has("partitions") {
		return usageError(fmt.Errorf(`%s: --alter needs --partitions N; settings are changed with kafka-configs --alter`, t.tool))
	}
	names, err := t.names(ctx)
	if err != nil || len(names) == 0 {
		return err
	}
	rs, err := t.adm.UpdatePartitions(ctx, int(t.parts), names...)
	if err != nil {
		return err
	}
	var errs []error
	for _, r := range rs.Sorted() {
		if r.Err != nil && r.ErrMessage != "" {
			r.Err = errors.New(r.ErrMessage)
		}
		errs = append(errs, r.Err)
	}
	return errors.Join(errs...)
}

func (t *topicTool) describe(ctx context.Context) error {
	names, err := t.names(ctx)
	if t.has("topic-id") {
		id := t.last("topic-id", "")
		if names, err = t.withID(ctx, id); err == nil && len(names) == 0 && !t.has("if-exists") {
			return fmt.Errorf("TopicId '%s' does not exist as expected", id)
		}
	}
	if err != nil || len(names) == 0 {
		return err
	}
	topics, err := t.partitions(ctx, names)
	if err != nil {
		return err
	}
	rcs, err := t.adm.DescribeTopicConfigs(ctx, names...)
	if err != nil {
		return err
	}
	meta, err := t.adm.BrokerMetadata(ctx)
	if err != nil {
		return err
	}
	live := meta.Brokers.NodeIDs()
	reports := t.has("under-replicated-partitions") || t.has("unavailable-partitions") || t.has("under-min-isr-partitions") || t.has("at-min-isr-partitions")
	out := t.env.Stdout
	for _, d := range topics {
		var own []string
		minISR := 1
		rc, err := rcs.On(*d.Topic, nil)
		if err != nil {
			return err
		}
		for _, c := range rc.Configs {
			if c.Source != kmsg.ConfigSourceDefaultConfig {
				own = append(own, c.Key+"="+c.MaybeValue())
			}
			if n, err := strconv.Atoi(c.MaybeValue()); c.Key == "min.insync.replicas" && err == nil {
				minISR = n
			}
		}
		if !reports && (!t.has("topics-with-overrides") || len(own) > 0) {
			replicas := 0
			if len(d.Partitions) > 0 {
				replicas = len(d.Partitions[0].Replicas)
			}
			fmt.Fprintf(out, "Topic: %s", *d.Topic)
			if id := kadm.TopicID(d.TopicID); id != (kadm.TopicID{}) {
				fmt.Fprintf(out, "\tTopicId: %s", topicIDText(id))
			}
			fmt.Fprintf(out, "\tPartitionCount: %d\tReplicationFactor: %d\tConfigs: %s\n", len(d.Partitions), replicas, strings.Join(own, ","))
		}
		if t.has("topics-with-overrides") {
			continue
		}
		for _, p := range d.Partitions {
			leads := p.LeaderID >= 0
			if reports && !(t.has("under-replicated-partitions") && len(p.ISR) < len(p.Replicas) ||
				t.has("unavailable-partitions") && (!leads || !slices.Contains(live, p.LeaderID)) ||
				t.has("under-min-isr-partitions") && (!leads || len(p.ISR) < minISR) ||
				t.has("at-min-isr-partitions") && len(p.ISR) == minISR) {
				continue
			}
			leader := "none"
			if leads {
				leader = strconv.Itoa(int(p.LeaderID))
			}
			fmt.Fprintf(out, "\tTopic: %s\tPartition: %d\tLeader: %s\tReplicas: %s\tIsr: %s\tElr: %s\tLastKnownElr: %s\n", *d.Topic, p.Partition, leader,
				joinIDs(p.Replicas), joinIDs(p.ISR), orNA(p.EligibleLeaderReplicas), orNA(p.LastKnownELR))
		}
	}
	return nil
}

func (t *topicTool) withID(ctx context.Context, id string) ([]string, error) {
	ts, err := t.adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return nil, err
	}
	for _, d := range ts {
		if topicIDText(d.ID) == id {
			return []string{d.Topic}, nil
		}
	}
	return nil, nil
}

// partitions describes topics page by page (KIP-966), or by their metadata
// where a broker does not serve that.
func (t *topicTool) partitions(ctx context.Context, names []string) ([]kmsg.DescribeTopicPartitionsResponseTopic, error) {
	limit, err := t.int("partition-size-limit-per-response", 2000)
	if err != nil {
		return nil, err
	}
	var all []kmsg.DescribeTopicPartitionsResponseTopic
	if ok, err := serves(ctx, t.cl, kmsg.DescribeTopicPartitions); err != nil {
		return nil, err
	} else if !ok {
		ts, err := t.adm.ListTopicsWithInternal(ctx, names...)
		if err != nil {
			return nil, err
		}
		for _, n := range ts.Names() {
			d := ts[n]
			if d.Err != nil {
				return nil, d.Err
			}
			dt := kmsg.NewDescribeTopicPartitionsResponseTopic()
			dt.Topic, dt.TopicID = &n, d.ID
			for _, p := range d.Partitions.Sorted() {
				dp := kmsg.NewDescribeTopicPartitionsResponseTopicPartition()
				dp.Partition, dp.LeaderID, dp.Replicas, dp.ISR = p.Partition, p.Leader, p.Replicas, p.ISR
				dt.Partitions = append(dt.Partitions, dp)
			}
			all = append(all, dt)
		}
		return all, nil
	}
	req := kmsg.NewPtrDescribeTopicPartitionsRequest()
	req.ResponsePartitionLimit = int32(limit)
	for _, n := range names {
		rt := kmsg.NewDescribeTopicPartitionsRequestTopic()
		rt.Topic = n
		req.Topics = append(req.Topics, rt)
	}
	for {
		resp, err := req.RequestWith(ctx, t.cl)
		if err != nil {
			return nil, err
		}
		for _, d := range resp.Topics {
			if err := kerr.ErrorForCode(d.ErrorCode); err != nil {
				return nil, err
			}
			if n := len(all); n > 0 && d.Topic != nil && *all[n-1].Topic == *d.Topic {
				all[n-1].Partitions = append(all[n-1].Partitions, d.Partitions...)
				continue
			}
			all = append(all, d)
		}
		if resp.NextCursor == nil {
			return all, nil
		}
		c := kmsg.NewDescribeTopicPartitionsRequestCursor()
		c.Topic, c.Partition = resp.NextCursor.Topic, resp.NextCursor.Partition
		req.Cursor = &c
	}
}

// serves reports whether the brokers serve an API.
func serves(ctx context.Context, cl *kgo.Client, key kmsg.Key) (bool, error) {
	vs, err := kadm.NewClient(cl).ApiVersions(ctx)
	if err != nil {
		return false, err
	}
	for _, v := range vs {
		if v.Err != nil {
			return false, v.Err
		}
		if _, ok := v.KeyMaxVersion(key.Int16()); !ok {
			return false, nil
		}
	}
	return true, nil
}

func joinIDs(ns []int32) string {
	s := make([]string, len(ns))
	for i, n := range ns {
		s[i] = strconv.Itoa(int(n))
	}
	return strings.Join(s, ",")
}

func orNA(ns []int32) string {
	if ns == nil {
		return "N/A"
	}
	return joinIDs(ns)
}
