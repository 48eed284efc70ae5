package cli

import (
	"fmt"
	"maps"
	"math"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// terse is an error as several of Kafka's tools write it.
func terse(err error) error { return fmt.Errorf("Error occurred: %w", err) }

func kafkaGetOffsets(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"topic": optValue, "partitions": optValue, "topic-partitions": optValue, "time": optValue, "exclude-internal-topics": optFlag,
		"offsets":     gone(true, "one offset is shown for each partition; leave it out"),
		"max-wait-ms": noEffect(true, "the broker answers at once"),
	}), args, nil)
	if err != nil {
		return err
	}
	if a.has("topic-partitions") && (a.has("topic") || a.has("partitions")) {
		return usageError(fmt.Errorf("%s: --topic-partitions cannot be used with --topic or --partitions", tool))
	}
	var rules []offsetRule
	if a.has("topic-partitions") {
		for r := range strings.SplitSeq(a.last("topic-partitions", ""), ",") {
			rule, err := parseOffsetRule(tool, r)
			if err != nil {
				return err
			}
			rules = append(rules, rule)
		}
	} else {
		r := offsetRule{to: math.MaxInt32}
		if a.has("topic") {
			if r.topic, err = newTopicFilter(tool, "topic", a.last("topic", "")); err != nil {
				return err
			}
		}
		if list := a.last("partitions", ""); list != "" {
			for s := range strings.SplitSeq(list, ",") {
				n, err := strconv.ParseInt(s, 10, 32)
				if err != nil {
					return usageError(terse(fmt.Errorf("--partitions expects a comma separated list of numeric partition ids, but received: %s", list)))
				}
				r.set = append(r.set, int32(n))
			}
		}
		rules = append(rules, r)
	}
	special := map[string]int64{"latest": -1, "earliest": -2, "max-timestamp": -3, "earliest-local": -4, "latest-tiered": -5, "earliest-pending-upload": -6}
	at, ok := special[a.last("time", "latest")]
	if !ok {
		if at, err = strconv.ParseInt(a.last("time", ""), 10, 64); err != nil {
			return usageError(terse(kafkaSays("Malformed time argument %s. Please use -1 or latest / -2 or earliest / -3 or max-timestamp / -4 or earliest-local / -5 or latest-tiered / -6 or earliest-pending-upload, or a specified long format timestamp", a.last("time", ""))))
		}
	}
	cl, ctx, done, err := a.session(env, tool)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	ts, err := adm.ListTopicsWithInternal(ctx)
	if err != nil {
		return fmt.Errorf("list topics: %w", err)
	}
	req := kmsg.NewPtrListOffsetsRequest()
	req.ReplicaID = -1
	for _, name := range ts.Names() {
		if a.has("exclude-internal-topics") && internalTopic(name) {
			continue
		}
		rt := kmsg.NewListOffsetsRequestTopic()
		rt.Topic = name
		for _, p := range ts[name].Partitions.Numbers() {
			if slices.ContainsFunc(rules, func(r offsetRule) bool { return r.match(name, p) }) {
				rp := kmsg.NewListOffsetsRequestTopicPartition()
				rp.Partition, rp.Timestamp, rp.CurrentLeaderEpoch = p, at, -1
				rt.Partitions = append(rt.Partitions, rp)
			}
		}
		if len(rt.Partitions) > 0 {
			req.Topics = append(req.Topics, rt)
		}
	}
	if len(req.Topics) == 0 {
		return terse(kafkaSays("Could not match any topic-partitions with the specified filters"))
	}
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		return terse(err)
	}
	lines := map[string]string{}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			name := fmt.Sprintf("%s-%d", t.Topic, p.Partition)
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				fmt.Fprintf(env.Stderr, "Skip getting offsets for topic-partition %s due to error: %v\n", name, err)
			} else if p.Offset >= 0 {
				lines[name] = fmt.Sprintf("%s:%d:%d", t.Topic, p.Partition, p.Offset)
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(lines)) { // as text, as Kafka's tool does
		fmt.Fprintln(env.Stdout, lines[name])
	}
	return nil
}

// offsetRule selects partitions of kafka-get-offsets.
type offsetRule struct {
	topic    topicFilter
	from, to int32 // to is excluded
	set      []int32
}

func (r offsetRule) match(topic string, p int32) bool {
	return r.topic.match(topic) && (r.set == nil && p >= r.from && p < r.to || slices.Contains(r.set, p))
}

var offsetRuleForm = regexp.MustCompile(`^([^:,]*)(?::(?:([0-9]*)|(?:([0-9]*)-([0-9]*))))?$`)

func parseOffsetRule(tool, s string) (offsetRule, error) {
	r := offsetRule{to: math.MaxInt32}
	m := offsetRuleForm.FindStringSubmatch(s)
	if m == nil {
		return r, usageError(terse(kafkaSays("Invalid rule specification: %s", s)))
	}
	var err error
	if m[1] != "" {
		if r.topic, err = newTopicFilter(tool, "topic-partitions", m[1]); err != nil {
			return r, err
		}
	}
	number := func(s string, to *int32) {
		if s == "" {
			return
		}
		n, perr := strconv.ParseInt(s, 10, 32)
		if perr != nil {
			err = usageError(terse(kafkaSays("Invalid rule specification: %s", s)))
		}
		*to = int32(n)
	}
	if m[2] != "" {
		number(m[2], &r.from)
		r.set = []int32{r.from}
	}
	number(m[3], &r.from)
	number(m[4], &r.to)
	return r, err
}
