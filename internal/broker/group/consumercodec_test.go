package group

import (
	"encoding/hex"
	"reflect"
	"testing"
	"time"
)

// TestConsumerEntriesAreKafkas: each value is what Apache Kafka 4.3's own classes (ConsumerGroupMemberMetadataValue and
// so on) make of the same, and is read back.
func TestConsumerEntriesAreKafkas(t *testing.T) {
	rack, at := "r", time.UnixMilli(1700000000123)
	id := topicID("t")
	member := consumerMember{
		rack: &rack, clientID: "c", clientHost: "/h", topics: []string{"t", "u"}, regex: "x.*",
		rebalance: 45 * time.Second, assignor: "range",
	}
	classic := member
	classic.classic = &classicMember{session: 10 * time.Second, protocols: []Protocol{{Name: "range", Metadata: []byte{1, 2, 3}}}}
	current := consumerMember{epoch: 7, prevEpoch: 6, state: 1, assigned: epochs{id: {0: 6, 3: 7}}, revoking: epochs{}}
	c := &consumerGroup{epoch: 7, hash: 0x1122334455667788, targetEpoch: 7, targetAt: at}
	target := partitions{id: {0, 3}}
	for _, tt := range []struct {
		name  string
		rec   Record
		value string
		want  consumerEntry
	}{
		{"member", memberRecord("g", &member),
			"00000002720263032f68030274027504782e2a0000afc80672616e676501000100", consumerEntry{member: member}},
		{"classic member", memberRecord("g", &classic),
			"00000002720263032f68030274027504782e2a0000afc80672616e67650100120100002710020672616e6765040102030000", consumerEntry{member: classic}},
		{"group", epochRecord("g", c), "0000000000070100081122334455667788", consumerEntry{epoch: 7, hash: c.hash}},
		{"target epoch", targetEpochRecord("g", c), "0000000000070100080000018bcfe5687b", consumerEntry{epoch: 7, at: at}},
		{"target", targetRecord("g", "", target),
			"000002740000000000000000000000000000000300000000000000030000", consumerEntry{target: target}},
		{"current", currentRecord("g", &current),
			"000000000007000000060102740000000000000000000000000000000300000000000000030100090300000006000000070100", consumerEntry{member: current}},
		{"regular expression", regexRecord("g", "", &resolvedRegex{topics: member.topics, version: 9, at: at}),
			"0000030274027500000000000000090000018bcfe5687b00", consumerEntry{topics: member.topics, version: 9, at: at}},
	} {
		if got := hex.EncodeToString(tt.rec.Value); got != tt.value {
			t.Errorf("%s: %s\nwant %s", tt.name, got, tt.value)
		}
		value, err := hex.DecodeString(tt.value)
		if err != nil {
			t.Fatal(err)
		}
		e, ok, err := ParseRecord(tt.rec.Key, value)
		if err != nil || !ok {
			t.Errorf("%s: read: %v, %v", tt.name, ok, err)
			continue
		}
		got := *e.consumer
		tt.want.kind = got.kind
		if !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%s: read\n%+v, want\n%+v", tt.name, got, tt.want)
		}
	}
}

// TestMemberWithoutClassicField: entries that Sluice wrote before it marked the absence.
func TestMemberWithoutClassicField(t *testing.T) {
	rec := memberRecord("g", &consumerMember{id: "m", clientID: "c"})
	old := append(rec.Value[:len(rec.Value)-4:len(rec.Value)-4], 0)
	e, ok, err := ParseRecord(rec.Key, old)
	if err != nil || !ok || e.consumer.member.classic != nil || e.consumer.member.clientID != "c" {
		t.Errorf("%+v, %v, %v", e, ok, err)
	}
}

func FuzzConsumerRecords(f *testing.F) {
	r := &crig{rig: &rig{g: New("g", t0, consumerLimits(), topicMap{"a": 3})}}
	for _, req := range []HeartbeatRequest{
		{MemberID: "m", Rebalance: time.Second, Topics: []string{"a"}, Regex: ptr("a.*"), Owned: []TopicPartitions{}, InstanceID: ptr("i")},
		{MemberID: "n", Rebalance: time.Second, Topics: []string{"a"}, Owned: []TopicPartitions{}, RackID: ptr("r"), Assignor: ptr("range")},
	} {
		r.g.ConsumerHeartbeat(t0, req)
	}
	r.g.Join(t0, JoinRequest{MemberID: "c", Session: 10 * time.Second, Rebalance: time.Second, ProtocolType: "consumer",
		Protocols: []Protocol{{Name: "range", Metadata: subscription(nil, "a")}}})
	for _, rec := range append(r.g.Records(), r.g.Tombstones()...) {
		f.Add(rec.Key, rec.Value)
	}
	f.Fuzz(func(t *testing.T, key, value []byte) {
		e, ok, err := ParseRecord(key, value)
		if err != nil || !ok {
			return
		}
		g := New(e.Group, t0, consumerLimits(), topicMap{"a": 3})
		g.Apply(t0, e)
		g.FinishRestore(t0, time.Second)
		// What was read is written the same way, and lives.
		for _, rec := range g.Snapshot() {
			if _, ok, err := ParseRecord(rec.Key, rec.Value); err != nil || !ok {
				t.Fatalf("written: %v", err)
			}
		}
		g.ConsumerHeartbeat(t0, HeartbeatRequest{MemberID: "x", Rebalance: time.Second, Topics: []string{"a"}, Owned: []TopicPartitions{}, Settings: settings})
		g.Tick(t0.Add(time.Hour))
		g.Tombstones()
	})
}
