package cli

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
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
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	cl, ctx, done, err := f.session(env)
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

func kafkaDeleteRecords(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{"offset-json-file": optValue}), args, nil)
	if err != nil {
		return err
	}
	if !a.has("offset-json-file") {
		return usageError(fmt.Errorf("%s: --offset-json-file FILE is missing", tool))
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	plan, err := readDeletePlan(a.last("offset-json-file", ""))
	if err != nil {
		return usageError(err)
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	fmt.Fprintln(env.Stdout, "Executing records delete operation")
	rs, err := kadm.NewClient(cl).DeleteRecords(ctx, plan)
	if err != nil {
		return fmt.Errorf("delete records: %w", err)
	}
	fmt.Fprintln(env.Stdout, "Records delete operation completed:")
	var bad error
	for _, o := range plan.Sorted() {
		r, ok := rs.Lookup(o.Topic, o.Partition)
		if !ok {
			r.Err = errors.New("the broker says nothing about it")
		}
		if r.Err != nil {
			fmt.Fprintf(env.Stdout, "partition: %s-%d\terror: %v\n", o.Topic, o.Partition, r.Err)
			bad = &exitError{Code: ExitFailed}
			continue
		}
		fmt.Fprintf(env.Stdout, "partition: %s-%d\tlow_watermark: %d\n", o.Topic, o.Partition, r.LowWatermark)
	}
	return bad
}

// readDeletePlan reads {"partitions": [{"topic", "partition", "offset"}], "version": 1}.
func readDeletePlan(path string) (kadm.Offsets, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read offsets: %w", err)
	}
	var j struct {
		Version    *int `json:"version"`
		Partitions []struct {
			Topic     string `json:"topic"`
			Partition *int32 `json:"partition"`
			Offset    *int64 `json:"offset"`
		} `json:"partitions"`
	}
	if err := json.Unmarshal(b, &j); err != nil {
		return nil, fmt.Errorf("read offsets %s: %w", path, err)
	}
	if j.Version != nil && *j.Version != 1 {
		return nil, fmt.Errorf("read offsets %s: Not supported version field value %d", path, *j.Version)
	}
	if j.Partitions == nil {
		return nil, fmt.Errorf("read offsets %s: Missing partitions field", path)
	}
	plan := kadm.Offsets{}
	for i, p := range j.Partitions {
		if p.Topic == "" || p.Partition == nil || p.Offset == nil {
			return nil, fmt.Errorf("read offsets %s: entry %d lacks topic, partition or offset", path, i+1)
		}
		if _, twice := plan.Lookup(p.Topic, *p.Partition); twice {
			return nil, fmt.Errorf("read offsets %s: Offset json file contains duplicate topic partitions: %s-%d", path, p.Topic, *p.Partition)
		}
		plan.AddOffset(p.Topic, *p.Partition, *p.Offset, -1)
	}
	return plan, nil
}

func kafkaLogDirs(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"describe": optFlag, "topic-list": optValue, "broker-list": optValue, // here it means numbers of brokers
	}), args, nil)
	if err != nil {
		return err
	}
	if _, err := a.one(tool, "describe"); err != nil {
		return err
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	topics := splitNonEmpty(a.last("topic-list", ""))
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	bs, err := adm.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	ids := bs.NodeIDs()
	if list := splitNonEmpty(a.last("broker-list", "")); len(list) > 0 {
		var want []int32
		for _, s := range list {
			n, err := strconv.ParseInt(s, 10, 32)
			if err != nil {
				return usageError(fmt.Errorf("%s: --broker-list %s: want numbers of brokers", tool, a.last("broker-list", "")))
			}
			if !slices.Contains(ids, int32(n)) {
				return fmt.Errorf("ERROR: The given brokers do not exist from --broker-list: %d. Current existent brokers: %s", n, joinIDs(ids))
			}
			want = append(want, int32(n))
		}
		ids = want
	}
	type replica struct {
		Partition string `json:"partition"`
		Size      int64  `json:"size"`
		OffsetLag int64  `json:"offsetLag"`
		IsFuture  bool   `json:"isFuture"`
	}
	type logDir struct {
		Partitions []replica `json:"partitions"`
		Error      *string   `json:"error"`
		LogDir     string    `json:"logDir"`
	}
	type onBroker struct {
		Broker  int32    `json:"broker"`
		LogDirs []logDir `json:"logDirs"`
	}
	fmt.Fprintln(env.Stdout, "Querying brokers for log directories information")
	var answer struct {
		Brokers []onBroker `json:"brokers"`
		Version int        `json:"version"`
	}
	answer.Version = 1
	for _, id := range ids {
		dirs, err := adm.DescribeBrokerLogDirs(ctx, id, nil)
		if err != nil {
			return fmt.Errorf("describe log directories: %w", err)
		}
		b := onBroker{Broker: id, LogDirs: []logDir{}}
		for _, d := range dirs.Sorted() {
			ld := logDir{LogDir: d.Dir, Partitions: []replica{}}
			if d.Err != nil {
				text := d.Err.Error()
				ld.Error = &text
			}
			for _, p := range d.Topics.Sorted() {
				if len(topics) == 0 || slices.Contains(topics, p.Topic) {
					ld.Partitions = append(ld.Partitions, replica{fmt.Sprintf("%s-%d", p.Topic, p.Partition), p.Size, p.OffsetLag, p.IsFuture})
				}
			}
			b.LogDirs = append(b.LogDirs, ld)
		}
		answer.Brokers = append(answer.Brokers, b)
	}
	fmt.Fprintf(env.Stdout, "Received log directory information from brokers %s\n", joinIDs(ids))
	return writeJSON(env.Stdout, answer)
}

func splitNonEmpty(s string) []string {
	return slices.DeleteFunc(strings.Split(s, ","), func(s string) bool { return s == "" })
}

func kafkaBrokerAPIVersions(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(nil), args, nil)
	if err != nil {
		return err
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	adm := kadm.NewClient(cl)
	bs, err := adm.ListBrokers(ctx)
	if err != nil {
		return fmt.Errorf("list brokers: %w", err)
	}
	vs, err := adm.ApiVersions(ctx)
	if err != nil {
		return fmt.Errorf("ask for versions: %w", err)
	}
	for _, b := range bs {
		rack := "null"
		if b.Rack != nil {
			rack = *b.Rack
		}
		v := vs[b.NodeID]
		if v.Err != nil {
			fmt.Fprintf(env.Stdout, "%s:%d (id: %d rack: %s isFenced: false) -> ERROR: %v\n", b.Host, b.Port, b.NodeID, rack, v.Err)
			continue
		}
		var lines []string
		for key := range int16(lastClientKey + 1) {
			low, high, ok := v.KeyVersions(key)
			if !ok && brokersKeys[key] {
				continue
			}
			name := javaKeyName(key)
			if !ok {
				lines = append(lines, fmt.Sprintf("\t%s(%d): UNSUPPORTED", name, key))
				continue
			}
			span := fmt.Sprintf("%d to %d", low, high)
			if low == high {
				span = strconv.Itoa(int(low))
			}
			usable := "UNKNOWN"
			if req := kmsg.RequestForKey(key); req != nil {
				usable = strconv.Itoa(int(min(high, req.MaxVersion())))
			}
			lines = append(lines, fmt.Sprintf("\t%s(%d): %s [usable: %s]", name, key, span, usable))
		}
		fmt.Fprintf(env.Stdout, "%s:%d (id: %d rack: %s isFenced: false) -> (\n%s\n)\n", b.Host, b.Port, b.NodeID, rack, strings.Join(lines, ",\n"))
	}
	return nil
}

func kafkaCluster(env *Env, tool string, args []string) error {
	var positional []string
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"config": alias("command-config"), "id": optValue, "include-fenced-brokers": noEffect(false, "no broker is fenced"),
		"b": {value: true, same: "bootstrap-server"}, "c": {value: true, same: "command-config"},
	}), args, &positional)
	if err != nil {
		return err
	}
	if len(positional) != 1 || !slices.Contains([]string{"cluster-id", "list-endpoints", "unregister"}, positional[0]) {
		return usageError(fmt.Errorf("%s: give one of cluster-id and list-endpoints", tool))
	}
	if positional[0] == "unregister" {
		return usageError(fmt.Errorf("%s: there is one broker, which cannot be unregistered", tool))
	}
	f, err := a.broker(tool)
	if err != nil {
		return err
	}
	cl, ctx, done, err := f.session(env)
	if err != nil {
		return err
	}
	defer done()
	meta, err := kadm.NewClient(cl).BrokerMetadata(ctx)
	if err != nil {
		return fmt.Errorf("ask for the cluster: %w", err)
	}
	if positional[0] == "cluster-id" {
		fmt.Fprintf(env.Stdout, "Cluster ID: %s\n", meta.Cluster)
		return nil
	}
	hostLen, rackLen := 0, 10
	for _, b := range meta.Brokers {
		hostLen = max(hostLen, len(b.Host))
		if b.Rack != nil {
			rackLen = len(*b.Rack)
		}
	}
	row := func(id, host, port, rack, state string) {
		fmt.Fprintf(env.Stdout, "%-10s %-*s %-10s %-*s %-10s %-15s\n", id, hostLen, host, port, rackLen, rack, state, map[bool]string{true: "ENDPOINT_TYPE", false: "broker"}[id == "ID"])
	}
	row("ID", "HOST", "PORT", "RACK", "STATE")
	for _, b := range meta.Brokers {
		rack := "null"
		if b.Rack != nil {
			rack = *b.Rack
		}
		row(strconv.Itoa(int(b.NodeID)), b.Host, strconv.Itoa(int(b.Port)), rack, "unfenced")
	}
	return nil
}

// lastClientKey is the last API that Kafka 4.3's client knows; those below it
// that are only between brokers and controllers are not listed.
const lastClientKey = 92

var brokersKeys = map[int16]bool{4: true, 5: true, 6: true, 7: true, 52: true, 53: true, 54: true, 56: true, 58: true, 59: true, 62: true, 63: true, 67: true, 70: true, 73: true, 82: true}

// javaKeyName is an API's name as Kafka writes it.
func javaKeyName(key int16) string {
	name := kmsg.NameForKey(key)
	return cmp.Or(map[string]string{
		"InitProducerID": "InitProducerId", "SASLHandshake": "SaslHandshake", "SASLAuthenticate": "SaslAuthenticate",
		"DescribeACLs": "DescribeAcls", "CreateACLs": "CreateAcls", "DeleteACLs": "DeleteAcls",
		"DescribeUserSCRAMCredentials": "DescribeUserScramCredentials", "AlterUserSCRAMCredentials": "AlterUserScramCredentials",
		"AlterPartitionAssignments": "AlterPartitionReassignments",
	}[name], name)
}
