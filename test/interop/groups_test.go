//go:build interop

package interop

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// TestGroupScript asks the built-in broker and Apache Kafka the same questions
// about groups, request by request, and compares the answers. Then Apache
// Kafka's tool reads the built-in broker's group log.
func TestGroupScript(t *testing.T) {
	theirs := kafka.start(t)
	dir, ours := filepath.Join(t.TempDir(), "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	broker := startBroker(t, dir, ours)
	var got, want []string
	t.Run("ours", func(t *testing.T) { got = groupScript(t, ours) })
	t.Run("kafka", func(t *testing.T) { want = groupScript(t, theirs) })
	sameLines(t, "answers", got, want)

	broker.stop(t) // what is written has padding at its end, which Apache Kafka's tool does not understand
	segment := filepath.Join(dir, "logs", "__consumer_offsets-0", "00000000000000000000.log")
	out := kafkaTool(t, "", "dump-log", "--files", segment, "--offsets-decoder")
	for what, entry := range map[string]string{
		"offset": `"type":"1"`, "classic group": `"type":"2"`, "group": `"type":"3"`, "member": `"type":"5"`, "target epoch": `"type":"6"`,
		"target of a member": `"type":"7"`, "what a member has": `"assignmentEpochs":[`, "regular expression": `"type":"16"`,
		"member of the classic protocol": `"classicMemberMetadata":{"sessionTimeoutMs":30000,"supportedProtocols":[{"name":"cooperative-sticky"`,
	} {
		if !strings.Contains(out, entry) {
			t.Errorf("Apache Kafka's dump of the group log shows no %s, %s", what, entry)
		}
	}
	for _, l := range splitLines(out) {
		if strings.Contains(l, "| offset") && (!strings.Contains(l, `"type":`) || strings.Contains(l, "rror")) {
			t.Errorf("Apache Kafka cannot read an entry: %s", l)
		}
	}
}

// script is a list of requests and what came of them.
type script struct {
	t     *testing.T
	cl    *kgo.Client
	id    string // part of all names, so that a run finds nothing of another
	lines []string
	names map[[16]byte]string
	ids   map[string][16]byte
	alias map[string]string // member ids that the broker made
}

func groupScript(t *testing.T, addr string) []string {
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Minute)
	defer cancel()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	s := &script{t: t, cl: cl, id: fmt.Sprintf("s%d", time.Now().UnixNano()), names: map[[16]byte]string{}, ids: map[string][16]byte{}, alias: map[string]string{}}
	adm := kadm.NewClient(cl)
	for name, n := range map[string]int32{"a": 4, "b": 2} {
		r, err := adm.CreateTopic(ctx, n, 1, nil, s.id+name)
		if err != nil {
			t.Fatal(err)
		}
		s.names[r.ID], s.ids[name] = name, r.ID
	}
	// Apache Kafka makes its group log when the first coordinator is looked for.
	find := kmsg.NewPtrFindCoordinatorRequest()
	find.CoordinatorKeys = []string{"g"}
	request(s, ctx, find, func(r *kmsg.FindCoordinatorResponse) int16 { return r.Coordinators[0].ErrorCode })
	// And its coordinator hears of topics from the controller.
	m := &beat{group: "first", member: "m", topics: []string{"a", "b"}, owned: []string{}, rebalance: 60_000}
	m.epoch, m.owned, _ = s.beat(ctx, "", *m)
	s.settle(ctx, "the topics are known", []int{6}, m)
	s.beat(ctx, "leaves", beat{group: "first", member: "m", epoch: -1})
	s.consumers(ctx)
	s.statics(ctx)
	s.classics(ctx)
	s.classicStatics(ctx)
	s.migrate(ctx)
	s.settings(ctx)
	return s.lines
}

func (s *script) say(format string, args ...any) {
	line := strings.ReplaceAll(fmt.Sprintf(format, args...), s.id, "")
	for id, a := range s.alias {
		line = strings.ReplaceAll(line, id, a)
	}
	s.lines = append(s.lines, line)
	s.t.Log(line)
}

func errName(code int16) string {
	if err := kerr.ErrorForCode(code); err != nil {
		return strings.SplitN(err.Error(), ":", 2)[0]
	}
	return "ok"
}

// request sends one request to the broker. Codes that pass are tried again.
func request[R kmsg.Response](s *script, ctx context.Context, req kmsg.Request, code func(R) int16) R {
	s.t.Helper()
	for {
		resp, err := s.cl.Broker(1).Request(ctx, req)
		if err != nil {
			s.t.Fatalf("%T: %v", req, err)
		}
		r := resp.(R)
		switch kerr.ErrorForCode(code(r)) {
		case kerr.CoordinatorLoadInProgress, kerr.CoordinatorNotAvailable, kerr.NotCoordinator:
			time.Sleep(100 * time.Millisecond)
			continue
		}
		return r
	}
}

type beat struct {
	group, member, instance string
	epoch                   int32
	topics                  []string // nil: not said
	regex, assignor         *string
	owned                   []string // nil: not said; "a0" is partition 0 of a
	rebalance               int32    // 0: not said
}

// beat sends a heartbeat and returns the epoch and what is assigned.
func (s *script) beat(ctx context.Context, what string, b beat) (epoch int32, assigned []string, changed bool) {
	s.t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Group, req.MemberID, req.MemberEpoch = s.id+b.group, b.member, b.epoch
	if b.instance != "" {
		req.InstanceID = &b.instance
	}
	req.RebalanceTimeoutMillis = -1
	if b.rebalance > 0 {
		req.RebalanceTimeoutMillis = b.rebalance
	}
	if b.topics != nil {
		req.SubscribedTopicNames = []string{}
		for _, t := range b.topics {
			req.SubscribedTopicNames = append(req.SubscribedTopicNames, s.id+t)
		}
	}
	req.ServerAssignor = b.assignor
	if b.regex != nil {
		e := strings.ReplaceAll(*b.regex, "ID", s.id)
		req.SubscribedTopicRegex = &e
	}
	if b.owned != nil {
		req.Topics = []kmsg.ConsumerGroupHeartbeatRequestTopic{}
		by := map[string][]int32{}
		for _, o := range b.owned {
			by[o[:1]] = append(by[o[:1]], int32(o[1]-'0'))
		}
		for t, ps := range by {
			rt := kmsg.NewConsumerGroupHeartbeatRequestTopic()
			rt.TopicID, rt.Partitions = s.ids[t], ps
			req.Topics = append(req.Topics, rt)
		}
	}
	r := request(s, ctx, req, func(r *kmsg.ConsumerGroupHeartbeatResponse) int16 { return r.ErrorCode })
	if r.ErrorCode != 0 {
		if what != "" {
			s.say("%s: %s", what, errName(r.ErrorCode))
		}
		return b.epoch, b.owned, false
	}
	if r.Assignment != nil {
		changed = true
		assigned = []string{}
		for _, t := range r.Assignment.Topics {
			for _, p := range t.Partitions {
				assigned = append(assigned, fmt.Sprint(s.names[t.TopicID], p))
			}
		}
		slices.Sort(assigned)
	} else {
		assigned = b.owned
	}
	if what != "" {
		s.say("%s: epoch %d, %d partitions, heartbeat %d", what, r.MemberEpoch, len(assigned), r.HeartbeatIntervalMillis)
	}
	return r.MemberEpoch, assigned, changed
}

// settle lets members send heartbeats until they have come to rest with so many
// partitions each, in any order. Apache Kafka waits a second between assignments
// and looks for topics of a regular expression in the background.
func (s *script) settle(ctx context.Context, what string, want []int, ms ...*beat) {
	s.t.Helper()
	rest := func() bool {
		counts := []int{}
		for _, m := range ms {
			if counts = append(counts, len(m.owned)); m.epoch != ms[0].epoch {
				return false
			}
		}
		slices.Sort(counts)
		return slices.Equal(counts, want)
	}
	quiet := 0
	for deadline := time.Now().Add(3 * time.Minute); quiet < 8; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			for _, m := range ms {
				s.t.Logf("%s has %q in epoch %d", m.member, m.owned, m.epoch)
			}
			s.t.Fatalf("%s: no rest with %v partitions", what, want)
		}
		if quiet++; !rest() {
			quiet = 0
		}
		for _, m := range ms {
			now := *m
			now.topics, now.regex, now.assignor, now.rebalance = nil, nil, nil, 0
			epoch, owned, changed := s.beat(ctx, "", now)
			if epoch != m.epoch || changed {
				quiet = 0
			}
			m.epoch, m.owned = epoch, owned
		}
	}
	seen := map[string]bool{}
	for _, m := range ms {
		for _, o := range m.owned {
			if seen[o] {
				s.t.Errorf("%s: %s has two owners", what, o)
			}
			seen[o] = true
		}
	}
	s.say("%s: at rest with %v partitions, in one epoch", what, want)
}

// describe shows a group as the three APIs do.
func (s *script) describe(ctx context.Context, what, group string) {
	s.t.Helper()
	cr := kmsg.NewPtrConsumerGroupDescribeRequest()
	cr.Groups = []string{s.id + group}
	c := request(s, ctx, cr, func(r *kmsg.ConsumerGroupDescribeResponse) int16 { return r.Groups[0].ErrorCode }).Groups[0]
	types := []int8{}
	targets := 0
	for _, m := range c.Members {
		types = append(types, m.MemberType)
		for _, a := range m.TargetAssignment.TopicPartitions {
			targets += len(a.Partitions)
		}
	}
	slices.Sort(types)
	s.say("%s: as consumer group %s %s %q, member types %v, %d partitions targeted, in step %v", what, errName(c.ErrorCode), c.State, c.AssignorName, types, targets, c.Epoch == c.AssignmentEpoch)
	dr := kmsg.NewPtrDescribeGroupsRequest()
	dr.Groups = []string{s.id + group}
	d := request(s, ctx, dr, func(r *kmsg.DescribeGroupsResponse) int16 { return r.Groups[0].ErrorCode }).Groups[0]
	s.say("%s: as classic group %s %s %q %q %d members", what, errName(d.ErrorCode), d.State, d.ProtocolType, d.Protocol, len(d.Members))
	l := request(s, ctx, kmsg.NewPtrListGroupsRequest(), func(r *kmsg.ListGroupsResponse) int16 { return r.ErrorCode })
	for _, g := range l.Groups {
		if g.Group == s.id+group {
			s.say("%s: listed as %s %q %s", what, g.GroupType, g.ProtocolType, g.GroupState)
		}
	}
}

func ownedOf(b *beat, topic string) (parts []int32) {
	for _, o := range b.owned {
		if o[:1] == topic {
			parts = append(parts, int32(o[1]-'0'))
		}
	}
	return parts
}

func (s *script) commit(ctx context.Context, what, group, member string, epoch int32, topic string, n int32, version int16) {
	s.t.Helper()
	var parts []int32
	for p := range n {
		parts = append(parts, p)
	}
	s.commitOf(ctx, what, group, member, epoch, topic, parts, version)
}

func (s *script) commitOf(ctx context.Context, what, group, member string, epoch int32, topic string, parts []int32, version int16) {
	s.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Group, req.MemberID, req.Generation = s.id+group, member, epoch
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic, rt.TopicID = s.id+topic, s.ids[topic]
	for _, p := range parts {
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Offset = p, 5
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	versions := kversion.Stable()
	versions.SetMaxKeyVersion(req.Key(), version)
	cl, err := kgo.NewClient(append(s.cl.Opts(), kgo.MaxVersions(versions))...)
	if err != nil {
		s.t.Fatal(err)
	}
	defer cl.Close()
	r := request(&script{t: s.t, cl: cl}, ctx, req, func(r *kmsg.OffsetCommitResponse) int16 { return r.Topics[0].Partitions[0].ErrorCode })
	codes := map[string]int{}
	for _, p := range r.Topics[0].Partitions {
		codes[errName(p.ErrorCode)]++
	}
	s.say("%s: %v", what, codes)
}

func (s *script) fetch(ctx context.Context, what, group string, member *string, epoch int32) {
	s.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	rg := kmsg.NewOffsetFetchRequestGroup()
	rg.Group, rg.MemberID, rg.MemberEpoch = s.id+group, member, epoch
	rt := kmsg.NewOffsetFetchRequestGroupTopic()
	rt.Topic, rt.TopicID, rt.Partitions = s.id+"a", s.ids["a"], []int32{0, 1}
	rg.Topics = append(rg.Topics, rt)
	req.Groups = append(req.Groups, rg)
	r := request(s, ctx, req, func(r *kmsg.OffsetFetchResponse) int16 { return r.Groups[0].ErrorCode }).Groups[0]
	var got []string
	for _, t := range r.Topics {
		for _, p := range t.Partitions {
			got = append(got, fmt.Sprint(p.Partition, ":", p.Offset, " ", errName(p.ErrorCode)))
		}
	}
	s.say("%s: %s %v", what, errName(r.ErrorCode), got)
}

func (s *script) deleteOffsets(ctx context.Context, what, group, topic string) {
	s.t.Helper()
	req := kmsg.NewPtrOffsetDeleteRequest()
	req.Group = s.id + group
	rt := kmsg.NewOffsetDeleteRequestTopic()
	rt.Topic = s.id + topic
	rp := kmsg.NewOffsetDeleteRequestTopicPartition()
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	r := request(s, ctx, req, func(r *kmsg.OffsetDeleteResponse) int16 { return r.ErrorCode })
	code := r.ErrorCode
	for _, t := range r.Topics {
		code = max(code, t.Partitions[0].ErrorCode)
	}
	s.say("%s: %s", what, errName(code))
}

func (s *script) deleteGroup(ctx context.Context, what, group string) {
	s.t.Helper()
	req := kmsg.NewPtrDeleteGroupsRequest()
	req.Groups = []string{s.id + group}
	r := request(s, ctx, req, func(r *kmsg.DeleteGroupsResponse) int16 { return r.Groups[0].ErrorCode })
	s.say("%s: %s", what, errName(r.Groups[0].ErrorCode))
}

func ptr[T any](v T) *T { return &v }

func (s *script) consumers(ctx context.Context) {
	all := []string{}
	s.beat(ctx, "no group, epoch 1", beat{group: "c", member: "m", epoch: 1})
	s.beat(ctx, "no group, leave", beat{group: "c", member: "m", epoch: -1})
	s.beat(ctx, "no member id", beat{group: "c", topics: []string{"a"}, owned: all, rebalance: 60_000})
	s.beat(ctx, "no rebalance time-out", beat{group: "c", member: "m", topics: []string{"a"}, owned: all})
	s.beat(ctx, "no subscription", beat{group: "c", member: "m", owned: all, rebalance: 60_000})
	s.beat(ctx, "no owned", beat{group: "c", member: "m", topics: []string{"a"}, rebalance: 60_000})
	s.beat(ctx, "owned at once", beat{group: "c", member: "m", topics: []string{"a"}, owned: []string{"a0"}, rebalance: 60_000})
	s.beat(ctx, "epoch -3", beat{group: "c", member: "m", epoch: -3})
	s.beat(ctx, "epoch -2 without instance", beat{group: "c", member: "m", epoch: -2})
	s.beat(ctx, "strange assignor", beat{group: "c", member: "m", topics: []string{"a"}, owned: all, rebalance: 60_000, assignor: ptr("best")})
	s.beat(ctx, "bad regex", beat{group: "c", member: "m", regex: ptr("a["), owned: all, rebalance: 60_000})
	s.beat(ctx, "empty group id", beat{group: "", member: "m", epoch: -3})
	s.describe(ctx, "nothing", "c")
	s.fetch(ctx, "fetch without group", "c", nil, -1)
	s.fetch(ctx, "fetch without group as member", "c", ptr("m"), 1)
	s.commit(ctx, "commit without group as member", "c", "m", 1, "a", 1, 9)
	s.commit(ctx, "commit without group as member, v8", "c", "m", 1, "a", 1, 8)
	s.deleteGroup(ctx, "delete nothing", "c")
	s.deleteOffsets(ctx, "delete offsets of nothing", "c", "a")

	m := &beat{group: "c", member: "m", topics: []string{"a"}, owned: all, rebalance: 60_000}
	m.epoch, m.owned, _ = s.beat(ctx, "m joins", *m)
	s.settle(ctx, "one member", []int{4}, m)
	s.describe(ctx, "one member", "c")
	s.beat(ctx, "m, nothing new", beat{group: "c", member: "m", epoch: m.epoch, owned: m.owned})
	s.beat(ctx, "m, epoch too high", beat{group: "c", member: "m", epoch: m.epoch + 5, owned: m.owned})
	s.beat(ctx, "m, full request", beat{group: "c", member: "m", epoch: m.epoch, owned: m.owned, topics: []string{"a"}, rebalance: 60_000})
	s.beat(ctx, "stranger", beat{group: "c", member: "x", epoch: m.epoch, owned: all})
	s.beat(ctx, "stranger leaves", beat{group: "c", member: "x", epoch: -1})
	s.beat(ctx, "instance nobody has", beat{group: "c", member: "m", instance: "i", epoch: m.epoch, owned: m.owned})
	n := &beat{group: "c", member: "n", topics: []string{"a", "b", "none"}, owned: all, rebalance: 60_000, assignor: ptr("range")}
	n.epoch, n.owned, _ = s.beat(ctx, "", *n)
	before := m.epoch
	s.settle(ctx, "two members", []int{2, 4}, m, n)
	s.describe(ctx, "two members", "c")
	s.commit(ctx, "commit", "c", "m", m.epoch, "a", 4, 9)
	s.commit(ctx, "commit, higher epoch", "c", "m", m.epoch+1, "a", 1, 9)
	s.commit(ctx, "commit, older epoch", "c", "m", before, "a", 4, 9)
	// Only what it had then and has still.
	s.commitOf(ctx, "commit, older epoch, still its", "c", "m", before, "a", ownedOf(m, "a"), 9)
	s.commit(ctx, "commit, epoch before it had any", "c", "n", before, "a", 4, 9)
	s.commit(ctx, "commit, v8", "c", "m", m.epoch, "a", 1, 8)
	s.commit(ctx, "commit by an admin", "c", "", -1, "a", 1, 9)
	s.commit(ctx, "commit by a stranger", "c", "x", m.epoch, "a", 1, 9)
	s.fetch(ctx, "fetch", "c", ptr("m"), m.epoch)
	s.fetch(ctx, "fetch, wrong epoch", "c", ptr("m"), m.epoch+1)
	s.fetch(ctx, "fetch by a stranger", "c", ptr("x"), m.epoch)
	s.fetch(ctx, "fetch by an admin", "c", nil, -1)
	s.deleteGroup(ctx, "delete a live group", "c")
	s.deleteOffsets(ctx, "delete offsets of a subscribed topic", "c", "a")
	s.deleteOffsets(ctx, "delete offsets of another topic", "c", "none")
	s.beat(ctx, "m, older epoch, owns too much", beat{group: "c", member: "m", epoch: before, owned: []string{"a0", "a1", "a2", "a3"}})

	// Subscriptions.
	m.epoch, m.owned, _ = s.beat(ctx, "", beat{group: "c", member: "m", epoch: m.epoch, owned: m.owned, topics: []string{"b"}})
	s.settle(ctx, "m wants b", []int{1, 5}, m, n)
	m.epoch, m.owned, _ = s.beat(ctx, "", beat{group: "c", member: "m", epoch: m.epoch, owned: m.owned, topics: []string{}, regex: ptr("ID[ab]")})
	s.settle(ctx, "m wants a regex", []int{3, 3}, m, n)
	s.describe(ctx, "with a regex", "c")
	s.beat(ctx, "m, bad regex", beat{group: "c", member: "m", epoch: m.epoch, owned: m.owned, regex: ptr("(")})
	// The member loses its state and joins again.
	m.epoch, m.owned, _ = s.beat(ctx, "", beat{group: "c", member: "m", topics: []string{"a"}, regex: ptr(""), owned: all, rebalance: 60_000})
	s.settle(ctx, "m joins again", []int{2, 4}, m, n)
	s.beat(ctx, "n leaves", beat{group: "c", member: "n", epoch: -1})
	s.settle(ctx, "n has left", []int{4}, m)
	s.beat(ctx, "m leaves", beat{group: "c", member: "m", epoch: -1})
	s.describe(ctx, "empty", "c")
	s.commit(ctx, "commit by an admin, empty", "c", "", -1, "a", 1, 9)
	s.deleteOffsets(ctx, "delete offsets, empty", "c", "a")
	s.deleteGroup(ctx, "delete", "c")
	s.describe(ctx, "deleted", "c")
}

func (s *script) statics(ctx context.Context) {
	all := []string{}
	m := &beat{group: "st", member: "m", instance: "i", topics: []string{"a"}, owned: all, rebalance: 60_000}
	n := &beat{group: "st", member: "n", instance: "j", topics: []string{"a"}, owned: all, rebalance: 60_000}
	m.epoch, m.owned, _ = s.beat(ctx, "", *m)
	n.epoch, n.owned, _ = s.beat(ctx, "", *n)
	s.settle(ctx, "static", []int{2, 2}, m, n)
	s.beat(ctx, "its instance id is taken", beat{group: "st", member: "m2", instance: "i", topics: []string{"a"}, owned: all, rebalance: 60_000})
	s.beat(ctx, "it joins again itself", beat{group: "st", member: "m", instance: "i", topics: []string{"a"}, owned: all, rebalance: 60_000})
	s.beat(ctx, "a stranger with its instance id", beat{group: "st", member: "x", instance: "i", epoch: m.epoch, owned: all})
	s.beat(ctx, "without its instance id", beat{group: "st", member: "m", epoch: m.epoch, owned: m.owned})
	s.beat(ctx, "leaves for a while", beat{group: "st", member: "m", instance: "i", epoch: -2})
	s.describe(ctx, "static gone for a while", "st")
	m2 := &beat{group: "st", member: "m2", instance: "i", topics: []string{"a"}, owned: all, rebalance: 60_000}
	m2.epoch, m2.owned, _ = s.beat(ctx, "successor", *m2)
	s.say("successor has the same partitions: %v, in the same epoch: %v", slices.Equal(m2.owned, m.owned), m2.epoch == m.epoch)
	s.beat(ctx, "the former self", beat{group: "st", member: "m", instance: "i", epoch: m.epoch, owned: m.owned})
	s.beat(ctx, "the former self leaves", beat{group: "st", member: "m", instance: "i", epoch: -1})
	s.beat(ctx, "an unknown instance leaves", beat{group: "st", member: "m", instance: "k", epoch: -1})
	s.settle(ctx, "static again", []int{2, 2}, m2, n)
	s.beat(ctx, "leaves for good", beat{group: "st", member: "m2", instance: "i", epoch: -1})
	s.settle(ctx, "static alone", []int{4}, n)
	s.beat(ctx, "the last leaves", beat{group: "st", member: "n", instance: "j", epoch: -1})
}

// join sends a JoinGroup and returns the answer.
func (s *script) join(ctx context.Context, what, group, member, protocol string, owned []string, typ string) *kmsg.JoinGroupResponse {
	s.t.Helper()
	return s.joinStatic(ctx, what, group, member, "", protocol, owned, typ)
}

func (s *script) joinStatic(ctx context.Context, what, group, member, instance, protocol string, owned []string, typ string) *kmsg.JoinGroupResponse {
	s.t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	if instance != "" {
		req.InstanceID = &instance
	}
	req.Group, req.MemberID, req.ProtocolType = s.id+group, member, typ
	req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = 30_000, 30_000
	meta := kmsg.NewConsumerMemberMetadata()
	meta.Version, meta.Topics = 1, []string{s.id + "a"}
	for _, o := range owned {
		p := kmsg.NewConsumerMemberMetadataOwnedPartition()
		p.Topic, p.Partitions = s.id+o[:1], []int32{int32(o[1] - '0')}
		meta.OwnedPartitions = append(meta.OwnedPartitions, p)
	}
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name, jp.Metadata = protocol, meta.AppendTo(nil)
	req.Protocols = append(req.Protocols, jp)
	r := request(s, ctx, req, func(r *kmsg.JoinGroupResponse) int16 { return r.ErrorCode })
	if r.MemberID != "" {
		if _, ok := s.alias[r.MemberID]; !ok && member == "" {
			s.alias[r.MemberID] = fmt.Sprint("member", len(s.alias))
		}
	}
	if what != "" {
		name := "null"
		if r.Protocol != nil {
			name = *r.Protocol
		}
		s.say("%s: %s generation %d protocol %s, is leader %v of %d, skip %v", what, errName(r.ErrorCode), r.Generation, name, r.LeaderID == r.MemberID && r.MemberID != "", len(r.Members), r.SkipAssignment)
	}
	return r
}

func (s *script) sync(ctx context.Context, what, group, member string, generation int32, protocol string, give map[string][]int32) (owned []string, code int16) {
	s.t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = s.id+group, member, generation
	if typ, name, ok := strings.Cut(protocol, " "); ok {
		req.ProtocolType, req.Protocol = &typ, &name
	}
	for m, ps := range give {
		a := kmsg.NewConsumerMemberAssignment()
		a.Version = 1
		at := kmsg.NewConsumerMemberAssignmentTopic()
		at.Topic, at.Partitions = s.id+"a", ps
		a.Topics = append(a.Topics, at)
		ga := kmsg.NewSyncGroupRequestGroupAssignment()
		ga.MemberID, ga.MemberAssignment = m, a.AppendTo(nil)
		req.GroupAssignment = append(req.GroupAssignment, ga)
	}
	r := request(s, ctx, req, func(r *kmsg.SyncGroupResponse) int16 { return r.ErrorCode })
	if r.ErrorCode == 0 && len(r.MemberAssignment) > 0 {
		a := kmsg.NewConsumerMemberAssignment()
		if err := a.ReadFrom(r.MemberAssignment); err != nil {
			s.t.Fatal(err)
		}
		for _, t := range a.Topics {
			for _, p := range t.Partitions {
				owned = append(owned, fmt.Sprint(strings.TrimPrefix(t.Topic, s.id), p))
			}
		}
	}
	if what != "" {
		s.say("%s: %s, %d partitions", what, errName(r.ErrorCode), len(owned))
	}
	return owned, r.ErrorCode
}

func (s *script) heartbeat(ctx context.Context, what, group, member string, generation int32) int16 {
	s.t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = s.id+group, member, generation
	r := request(s, ctx, req, func(r *kmsg.HeartbeatResponse) int16 { return r.ErrorCode })
	if what != "" {
		s.say("%s: %s", what, errName(r.ErrorCode))
	}
	return r.ErrorCode
}

func (s *script) leave(ctx context.Context, what, group, member string) {
	s.t.Helper()
	req := kmsg.NewPtrLeaveGroupRequest()
	req.Group = s.id + group
	rm := kmsg.NewLeaveGroupRequestMember()
	rm.MemberID = member
	req.Members = append(req.Members, rm)
	r := request(s, ctx, req, func(r *kmsg.LeaveGroupResponse) int16 { return r.ErrorCode })
	code := r.ErrorCode
	for _, m := range r.Members {
		code = max(code, m.ErrorCode)
	}
	s.say("%s: %s", what, errName(code))
}

// alone makes a stable classic group of one and returns member and generation.
func (s *script) alone(ctx context.Context, what, group, protocol, typ string) (string, int32) {
	id := s.join(ctx, what+", id", group, "", protocol, nil, typ).MemberID
	r := s.join(ctx, what+", join", group, id, protocol, nil, typ)
	s.sync(ctx, what+", sync", group, id, r.Generation, typ+" "+protocol, map[string][]int32{id: {0, 1, 2, 3}})
	return id, r.Generation
}

func (s *script) classics(ctx context.Context) {
	s.join(ctx, "unknown member", "k", "x", "range", nil, "consumer")
	s.heartbeat(ctx, "heartbeat, no group", "k", "x", 1)
	s.sync(ctx, "sync, no group", "k", "x", 1, "consumer range", nil)
	s.sync(ctx, "sync without protocol", "k", "x", 1, "", nil)
	s.leave(ctx, "leave, no group", "k", "x")
	id, gen := s.alone(ctx, "classic", "k", "range", "consumer")
	s.describe(ctx, "classic", "k")
	s.heartbeat(ctx, "heartbeat", "k", id, gen)
	s.heartbeat(ctx, "heartbeat, wrong generation", "k", id, gen+1)
	s.heartbeat(ctx, "heartbeat of a stranger", "k", "x", gen)
	s.sync(ctx, "sync again", "k", id, gen, "consumer range", nil)
	s.sync(ctx, "sync with another protocol", "k", id, gen, "consumer other", nil)
	s.join(ctx, "join with another protocol", "k", "", "other", nil, "consumer")
	s.join(ctx, "join with another type", "k", "", "range", nil, "connect")
	s.commit(ctx, "commit", "k", id, gen, "a", 1, 9)
	s.commit(ctx, "commit, wrong generation", "k", id, gen+1, "a", 1, 9)
	s.commit(ctx, "commit by an admin", "k", "", -1, "a", 1, 9)
	s.commit(ctx, "commit by a stranger", "k", "x", gen, "a", 1, 9)
	s.fetch(ctx, "fetch as a consumer", "k", ptr(id), gen+7)
	s.beat(ctx, "a consumer's heartbeat", beat{group: "k", member: "x", epoch: 1})
	s.deleteOffsets(ctx, "delete offsets", "k", "a")
	s.deleteOffsets(ctx, "delete other offsets", "k", "b")
	s.deleteGroup(ctx, "delete a live group", "k")
	s.leave(ctx, "leave", "k", id)
	s.describe(ctx, "classic, empty", "k")
	s.deleteGroup(ctx, "delete", "k")
}

// classicStatics are static members of a classic group (KIP-345, KIP-814).
func (s *script) classicStatics(ctx context.Context) {
	const group, consumer = "ks", "consumer"
	s.joinStatic(ctx, "static, id without group", group, "x", "i", "range", nil, consumer)
	r := s.joinStatic(ctx, "static joins", group, "", "i", "range", nil, consumer)
	a := r.MemberID
	s.sync(ctx, "static syncs", group, a, r.Generation, "consumer range", map[string][]int32{a: {0, 1, 2, 3}})
	s.describe(ctx, "static", group)
	s.joinStatic(ctx, "another id with its instance", group, "x", "i", "range", nil, consumer)
	s.joinStatic(ctx, "an id with an unknown instance", group, "x", "j", "range", nil, consumer)
	again := s.joinStatic(ctx, "it comes back", group, "", "i", "range", nil, consumer)
	b := again.MemberID
	s.say("in the same generation %v, with a new id %v", again.Generation == r.Generation, a != b)
	s.sync(ctx, "it syncs", group, b, again.Generation, "consumer range", nil)
	s.heartbeat(ctx, "heartbeat of the new one", group, b, again.Generation)
	s.heartbeat(ctx, "heartbeat of the old one without instance", group, a, again.Generation)
	beat := kmsg.NewPtrHeartbeatRequest()
	beat.Group, beat.MemberID, beat.Generation, beat.InstanceID = s.id+group, a, again.Generation, ptr("i")
	h := request(s, ctx, beat, func(r *kmsg.HeartbeatResponse) int16 { return r.ErrorCode })
	s.say("heartbeat of the old one: %s", errName(h.ErrorCode))
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Group, sync.MemberID, sync.Generation, sync.InstanceID = s.id+group, a, again.Generation, ptr("i")
	sync.ProtocolType, sync.Protocol = ptr(consumer), ptr("range")
	y := request(s, ctx, sync, func(r *kmsg.SyncGroupResponse) int16 { return r.ErrorCode })
	s.say("sync of the old one: %s", errName(y.ErrorCode))
	s.commit(ctx, "commit of the new one", group, b, again.Generation, "a", 1, 9)
	s.commit(ctx, "commit of the old one", group, a, again.Generation, "a", 1, 9)
	// With another subscription a new generation begins.
	again = s.joinStatic(ctx, "it comes back with another protocol", group, "", "i", "other", nil, consumer)
	s.say("one generation on %v", again.Generation == r.Generation+1)
	s.describe(ctx, "static, joined", group)
	s.sync(ctx, "it syncs", group, again.MemberID, again.Generation, "consumer other", map[string][]int32{again.MemberID: {0, 1, 2, 3}})
	s.joinStatic(ctx, "the leader joins again", group, again.MemberID, "i", "other", nil, consumer)
	leave := kmsg.NewPtrLeaveGroupRequest()
	leave.Group = s.id + group
	for _, m := range [][2]string{{"", "i"}, {"x", "i"}, {"", "j"}, {"x", ""}} {
		rm := kmsg.NewLeaveGroupRequestMember()
		if rm.MemberID = m[0]; m[1] != "" {
			rm.InstanceID = ptr(m[1])
		}
		leave.Members = append(leave.Members, rm)
	}
	l := request(s, ctx, leave, func(r *kmsg.LeaveGroupResponse) int16 { return r.ErrorCode })
	for i, m := range l.Members {
		s.say("leave %d: %s", i, errName(m.ErrorCode))
	}
	s.describe(ctx, "static, empty", group)
}

func (s *script) migrate(ctx context.Context) {
	all := []string{}
	// Offsets only.
	s.commit(ctx, "offsets only", "o", "", -1, "a", 2, 9)
	s.describe(ctx, "offsets only", "o")
	m := &beat{group: "o", member: "m", topics: []string{"a"}, owned: all, rebalance: 60_000}
	m.epoch, m.owned, _ = s.beat(ctx, "offsets only, joined", *m)
	s.settle(ctx, "offsets only", []int{4}, m)
	s.describe(ctx, "offsets only, joined", "o")
	s.fetch(ctx, "offsets are there still", "o", ptr("m"), m.epoch)
	s.beat(ctx, "leaves", beat{group: "o", member: "m", epoch: -1})
	// The empty consumer group becomes a classic one.
	id, _ := s.alone(ctx, "empty consumer group", "o", "range", "consumer")
	s.describe(ctx, "empty consumer group, joined", "o")
	s.fetch(ctx, "and still", "o", nil, -1)
	s.leave(ctx, "leave", "o", id)

	// Other types of members do not mix.
	id, _ = s.alone(ctx, "connect", "w", "range", "connect")
	s.beat(ctx, "a consumer joins connect", beat{group: "w", member: "m", topics: []string{"a"}, owned: all, rebalance: 60_000})
	s.leave(ctx, "leave connect", "w", id)

	// Online, up and down.
	id, gen := s.alone(ctx, "old", "u", "cooperative-sticky", "consumer")
	m = &beat{group: "u", member: "m", topics: []string{"a"}, owned: all, rebalance: 60_000}
	m.epoch, m.owned, _ = s.beat(ctx, "new joins old", *m)
	s.describe(ctx, "mixed", "u")
	s.heartbeat(ctx, "old is told to rejoin", "u", id, gen)
	s.commit(ctx, "old commits", "u", id, gen, "a", 1, 9)
	owned := []string{"a0", "a1", "a2", "a3"}
	quiet := 0
	for deadline := time.Now().Add(3 * time.Minute); quiet < 8; time.Sleep(200 * time.Millisecond) {
		if time.Now().After(deadline) {
			s.t.Fatalf("mixed: no rest, but %q in generation %d and %q in epoch %d", owned, gen, m.owned, m.epoch)
		}
		if quiet++; len(owned) != 2 || len(m.owned) != 2 || gen != m.epoch {
			quiet = 0
		}
		if s.heartbeat(ctx, "", "u", id, gen) == kerr.RebalanceInProgress.Code {
			quiet = 0
			r := s.join(ctx, "", "u", id, "cooperative-sticky", owned, "consumer")
			if r.ErrorCode != 0 {
				s.t.Fatal(errName(r.ErrorCode))
			}
			gen = r.Generation
			if got, code := s.sync(ctx, "", "u", id, gen, "consumer cooperative-sticky", nil); code == 0 {
				owned = got
			}
		}
		now := *m
		now.topics, now.rebalance = nil, 0
		epoch, has, changed := s.beat(ctx, "", now)
		if epoch != m.epoch || changed {
			quiet = 0
		}
		m.epoch, m.owned = epoch, has
	}
	s.say("mixed, at rest: %d and %d partitions, one epoch %v", len(owned), len(m.owned), gen == m.epoch)
	s.describe(ctx, "mixed, at rest", "u")
	s.heartbeat(ctx, "new is no classic member", "u", "m", m.epoch)
	s.heartbeat(ctx, "old, wrong generation", "u", id, gen+1)
	s.sync(ctx, "old, sync, wrong generation", "u", id, gen+1, "consumer cooperative-sticky", nil)
	s.join(ctx, "another protocol", "u", "", "range", nil, "consumer")
	s.leave(ctx, "a stranger leaves", "u", "stranger")
	s.join(ctx, "another type", "u", "", "cooperative-sticky", nil, "connect")
	s.leave(ctx, "new leaves the classic way", "u", "m")
	s.beat(ctx, "new leaves", beat{group: "u", member: "m", epoch: -1})
	s.describe(ctx, "classic again", "u")
	s.heartbeat(ctx, "old is told to rejoin", "u", id, gen+1)
	r := s.join(ctx, "old rejoins", "u", id, "cooperative-sticky", owned, "consumer")
	s.sync(ctx, "old syncs", "u", id, r.Generation, "consumer cooperative-sticky", map[string][]int32{id: {0, 1, 2, 3}})
	s.leave(ctx, "old leaves", "u", id)
}

func (s *script) settings(ctx context.Context) {
	for _, c := range [][2]string{
		{"consumer.session.timeout.ms", "50000"}, {"consumer.session.timeout.ms", "1000"}, {"consumer.session.timeout.ms", "x"},
		{"consumer.heartbeat.interval.ms", "6000"}, {"consumer.heartbeat.interval.ms", "600000"}, {"no.such", "1"},
	} {
		req := kmsg.NewPtrIncrementalAlterConfigsRequest()
		rr := kmsg.NewIncrementalAlterConfigsRequestResource()
		rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, s.id+"c"
		rc := kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
		rc.Name, rc.Value = c[0], &c[1]
		rr.Configs = append(rr.Configs, rc)
		req.Resources = append(req.Resources, rr)
		r := request(s, ctx, req, func(r *kmsg.IncrementalAlterConfigsResponse) int16 { return r.Resources[0].ErrorCode })
		s.say("group setting %v: %s", c, errName(r.Resources[0].ErrorCode))
	}
	req := kmsg.NewPtrDescribeConfigsRequest()
	rr := kmsg.NewDescribeConfigsRequestResource()
	rr.ResourceType, rr.ResourceName = kmsg.ConfigResourceTypeGroupConfig, s.id+"c"
	rr.ConfigNames = []string{"consumer.session.timeout.ms", "consumer.heartbeat.interval.ms"}
	req.Resources = append(req.Resources, rr)
	var r *kmsg.DescribeConfigsResponse
	eventually(s.t, 3*time.Minute, "Apache Kafka's broker hears of it from the controller", func() error {
		r = request(s, ctx, req, func(r *kmsg.DescribeConfigsResponse) int16 { return r.Resources[0].ErrorCode })
		for _, c := range r.Resources[0].Configs {
			if c.IsDefault {
				return fmt.Errorf("%s has its default", c.Name)
			}
		}
		return nil
	})
	time.Sleep(500 * time.Millisecond) // its coordinator hears of it a moment later
	slices.SortFunc(r.Resources[0].Configs, func(a, b kmsg.DescribeConfigsResponseResourceConfig) int { return strings.Compare(a.Name, b.Name) })
	for _, c := range r.Resources[0].Configs {
		s.say("group setting %s is %s, source %d, default %v", c.Name, *c.Value, c.Source, c.IsDefault)
	}
	m := beat{group: "c", member: "m", topics: []string{"a"}, owned: []string{}, rebalance: 60_000}
	s.beat(ctx, "with its own interval", m)
}

// TestConsumerProtocol puts Apache Kafka's console consumer, librdkafka and
// franz-go into one group of the consumer protocol (KIP-848): they join and
// leave, the broker is killed and comes back, a member is killed. Every record
// arrives, no partition has two owners, and Apache Kafka's tool shows it all.
func TestConsumerProtocol(t *testing.T) {
	py := pythonWith(t, "confluent_kafka")
	fetched(t, "kafka.sh")
	dir, addr := filepath.Join(t.TempDir(), "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	broker := startBroker(t, dir, addr)
	const topic, group, parts = "t", "cp", 6
	admin, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		t.Fatal(err)
	}
	defer admin.Close()
	ctx := t.Context()
	if _, err := kadm.NewClient(admin).CreateTopic(ctx, parts, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	sent := 0
	produce := func(n int) {
		t.Helper()
		var recs []*kgo.Record
		for range n {
			recs = append(recs, &kgo.Record{Topic: topic, Value: fmt.Append(nil, "r", sent)})
			sent++
		}
		if err := admin.ProduceSync(ctx, recs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	// describe checks that nothing has two owners.
	describe := func() (*kmsg.ConsumerGroupDescribeResponseGroup, error) {
		req := kmsg.NewPtrConsumerGroupDescribeRequest()
		req.Groups = []string{group}
		resp, err := req.RequestWith(ctx, admin)
		if err != nil {
			return nil, err
		}
		g := &resp.Groups[0]
		owner := map[int32]string{}
		for _, m := range g.Members {
			for _, a := range m.Assignment.TopicPartitions {
				for _, p := range a.Partitions {
					if owner[p] != "" {
						t.Fatalf("partition %d is %s's and %s's", p, owner[p], m.MemberID)
					}
					owner[p] = m.MemberID
				}
			}
		}
		return g, kerr.ErrorForCode(g.ErrorCode)
	}
	shared := func(limit time.Duration, members int) *kmsg.ConsumerGroupDescribeResponseGroup {
		t.Helper()
		var g *kmsg.ConsumerGroupDescribeResponseGroup
		eventually(t, limit, fmt.Sprintf("%d members share the partitions", members), func() (err error) {
			if g, err = describe(); err != nil {
				return err
			}
			n := 0
			for _, m := range g.Members {
				for _, a := range m.Assignment.TopicPartitions {
					n += len(a.Partitions)
				}
			}
			if g.State != "Stable" || len(g.Members) != members || n != parts {
				return fmt.Errorf("%s, %d members, %d partitions", g.State, len(g.Members), n)
			}
			return nil
		})
		return g
	}
	var own output // of the member in this process
	fg, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.ServerSideBalancer(), kgo.ConsumerGroup(group), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.Balancers(kgo.StickyBalancer()), kgo.AutoCommitInterval(500*time.Millisecond))
	if err != nil {
		t.Fatal(err)
	}
	polled := make(chan struct{})
	go func() {
		defer close(polled)
		for {
			fs := fg.PollFetches(ctx)
			if fs.IsClientClosed() || ctx.Err() != nil {
				return
			}
			fs.EachRecord(func(r *kgo.Record) { fmt.Fprintf(&own, "%s\n", r.Value) })
		}
	}()
	produce(300)
	java := startMember(t, filepath.Join("peers", "kafka-cli.sh"), "console-consumer", "--bootstrap-server", addr, "--topic", topic,
		"--group", group, "--from-beginning", "--command-property", "group.protocol=consumer", "--command-property", "auto.commit.interval.ms=500")
	rdkafka := startMember(t, py, "-c", confluentMember, addr, topic, group)
	arrived := func(what string) {
		t.Helper()
		eventually(t, 5*time.Minute, what+": every record arrives", func() error {
			if _, err := describe(); err != nil {
				return err
			}
			seen := map[string]bool{}
			for _, o := range []*output{&own, java.out, rdkafka.out} {
				for _, l := range splitLines(o.String()) {
					seen[l] = true
				}
			}
			for i := range sent {
				if !seen[fmt.Sprint("r", i)] {
					return fmt.Errorf("record %d of %d is missing", i, sent)
				}
			}
			return nil
		})
	}
	epoch := shared(3*time.Minute, 3).Epoch
	produce(300)
	arrived("three members")

	broker.kill()
	broker = startBroker(t, dir, addr)
	produce(300)
	arrived("after kill -9 of the broker")
	if g := shared(3*time.Minute, 3); g.Epoch != epoch {
		t.Errorf("the group went from epoch %d to %d: a kill of the broker made it rebalance", epoch, g.Epoch)
	}
	broker.stop(t)
	startBroker(t, dir, addr)
	produce(300)
	arrived("after a restart of the broker")

	fg.Close()
	<-polled
	shared(3*time.Minute, 2)
	produce(300)
	arrived("a member has left")
	rdkafka.kill()
	produce(300)
	shared(5*time.Minute, 1) // after its session
	arrived("a member was killed")

	eventually(t, 3*time.Minute, "all is committed", func() error {
		out := kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--describe", "--group", group)
		lag, lines := 0, 0
		for _, l := range splitLines(out) {
			f := strings.Fields(l)
			if len(f) < 6 || f[0] != group {
				continue
			}
			n, err := strconv.Atoi(f[5])
			if err != nil {
				return fmt.Errorf("no lag in %q", l)
			}
			lag += n
			lines++
		}
		if lag != 0 || lines != parts {
			return fmt.Errorf("lag %d in %d partitions:\n%s", lag, lines, out)
		}
		return nil
	})
	out := kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--describe", "--group", group, "--state")
	if !strings.Contains(out, "Stable") || !strings.Contains(out, "uniform") {
		t.Errorf("--describe --state prints\n%s", out)
	}
	out = kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--describe", "--group", group, "--members", "--verbose")
	if !strings.Contains(out, "t:0,1,2,3,4,5") && !strings.Contains(out, "t(0,1,2,3,4,5)") {
		t.Errorf("--describe --members --verbose prints\n%s", out)
	}
	out = kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--list", "--type", "consumer", "--state", "stable")
	if !strings.Contains(out, group) {
		t.Errorf("--list prints\n%s", out)
	}
	if out = kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--delete", "--group", group); !strings.Contains(out, "NonEmpty") && !strings.Contains(out, "not empty") {
		t.Errorf("--delete of a live group prints\n%s", out)
	}
	java.stop()
	eventually(t, 3*time.Minute, "the group is empty", func() error {
		g, err := describe()
		if err == nil && len(g.Members) > 0 {
			err = fmt.Errorf("%d members", len(g.Members))
		}
		return err
	})
	kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--reset-offsets", "--to-earliest", "--execute", "--group", group, "--topic", topic)
	out = kafkaTool(t, "", "consumer-groups", "--bootstrap-server", addr, "--delete", "--group", group)
	if !strings.Contains(out, "successful") {
		t.Errorf("--delete prints\n%s", out)
	}
}

// confluentMember is a librdkafka consumer that prints what it gets.
const confluentMember = `
import sys, confluent_kafka
addr, topic, group = sys.argv[1:4]
c = confluent_kafka.Consumer({'bootstrap.servers': addr, 'group.id': group, 'group.protocol': 'consumer',
    'auto.offset.reset': 'earliest', 'auto.commit.interval.ms': 500})
c.subscribe([topic])
while True:
    m = c.poll(1)
    if m is None: continue
    if m.error():
        print(m.error(), file=sys.stderr, flush=True)
        continue
    print(m.value().decode(), flush=True)
`

// groupMember is a consumer in a process of its own.
type groupMember struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{}
}

func startMember(t *testing.T, name string, args ...string) *groupMember {
	t.Helper()
	m := &groupMember{cmd: exec.Command(name, args...), out: &output{}, done: make(chan struct{})}
	var stderr output
	m.cmd.Stdout, m.cmd.Stderr = m.out, &stderr
	if err := m.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { m.cmd.Wait(); close(m.done) }()
	t.Cleanup(func() {
		m.kill()
		if t.Failed() {
			t.Logf("%s printed on stderr (end):\n%s", filepath.Base(name), tail(stderr.String(), 2000))
		}
	})
	return m
}

func (m *groupMember) kill() { m.cmd.Process.Kill(); <-m.done }
func (m *groupMember) stop() { m.cmd.Process.Signal(syscall.SIGTERM); <-m.done }
