package broker

import (
	"encoding/binary"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// quotaFor is an entity from pairs of type and name; "-" is the default.
func quotaFor(pairs ...string) quotaEntity {
	e := quotaEntity{}
	for i := 0; i < len(pairs); i += 2 {
		e[pairs[i]] = &pairs[i+1]
		if pairs[i+1] == "-" {
			e[pairs[i]] = nil
		}
	}
	return e
}

// TestQuotaOrder: the most specific quota counts, in Apache Kafka's order.
func TestQuotaOrder(t *testing.T) {
	stored := []storedQuota{
		{quotaFor("user", "ANONYMOUS", "client-id", "a"), map[string]float64{"producer_byte_rate": 1}},
		{quotaFor("user", "ANONYMOUS", "client-id", "-"), map[string]float64{"producer_byte_rate": 2}},
		{quotaFor("user", "ANONYMOUS"), map[string]float64{"producer_byte_rate": 3}},
		{quotaFor("user", "-", "client-id", "a"), map[string]float64{"producer_byte_rate": 4}},
		{quotaFor("user", "-", "client-id", "-"), map[string]float64{"producer_byte_rate": 5}},
		{quotaFor("user", "-"), map[string]float64{"producer_byte_rate": 6}},
		{quotaFor("client-id", "a"), map[string]float64{"producer_byte_rate": 7}},
		{quotaFor("client-id", "-"), map[string]float64{"producer_byte_rate": 8}},
	}
	for i := range stored {
		rates := ratesOf(stored[i:])
		rate, shared := rates[quotaProduce].find("a")
		if want := float64(i + 1); rate != want || shared != (i == 2 || i == 5) {
			t.Errorf("without the first %d: %v, shared %v, want %v", i, rate, shared, want)
		}
		if rate, _ := rates[quotaConsume].find("a"); rate != 0 {
			t.Errorf("a rate of %v for consumers, who have none", rate)
		}
	}
	for _, e := range []quotaEntity{quotaFor("user", "alice"), quotaFor("user", "alice", "client-id", "a"), quotaFor("ip", "-")} {
		if ratesOf([]storedQuota{{e, map[string]float64{"producer_byte_rate": 1}}}) != nil {
			t.Errorf("%v has a rate here, where everybody is anonymous", e)
		}
	}
}

// TestQuotaBucket: ten seconds of the rate at once, and then no more than the
// rate on average.
func TestQuotaBucket(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	var b quotaBucket
	if d := b.take(1000, 100, now); d != 0 {
		t.Errorf("ten seconds' worth: wait %v", d)
	}
	if !b.full(now.Add(10*time.Second)) || b.full(now.Add(9*time.Second)) {
		t.Error("the bucket fills up in another time than ten seconds")
	}
	var used, waited int64
	for used < 100_000 {
		d := b.take(700, 100, now)
		now, used, waited = now.Add(d), used+700, waited+d.Milliseconds()
	}
	if rate := used * 1000 / waited; rate < 99 || rate > 101 {
		t.Errorf("%d bytes in %d ms are %d bytes a second, want 100", used, waited, rate)
	}
	if d := b.take(1, 1000, now); d != 0 {
		t.Errorf("a new rate begins with a wait of %v", d)
	}
	if d := b.take(1<<62, 1, now); d <= 0 || d.Milliseconds() > 1<<31-1 {
		t.Errorf("a wait of %v cannot be told to a client", d)
	}
}

// TestClientQuotas: quotas are kept, described, enforced and removed, also
// across a restart.
func TestClientQuotas(t *testing.T) {
	dir := t.TempDir()
	start := func() (*Broker, *kgo.Client) {
		b := startBroker(t, func(c *Config) { c.DataDir = dir })
		return b, client(t, b, kgo.ClientID("admin"))
	}
	b, adm := start()
	alter := func(cl *kgo.Client, e quotaEntity, key string, value float64, dryRun bool) (int16, string) {
		t.Helper()
		req := kmsg.NewPtrAlterClientQuotasRequest()
		req.ValidateOnly = dryRun
		entry := kmsg.NewAlterClientQuotasRequestEntry()
		for typ, name := range e {
			ee := kmsg.NewAlterClientQuotasRequestEntryEntity()
			ee.Type, ee.Name = typ, name
			entry.Entity = append(entry.Entity, ee)
		}
		op := kmsg.NewAlterClientQuotasRequestEntryOp()
		op.Key, op.Value, op.Remove = key, value, value == 0
		entry.Ops = append(entry.Ops, op)
		req.Entries = append(req.Entries, entry)
		resp, err := req.RequestWith(ctxOf(t), cl)
		if err != nil {
			t.Fatal(err)
		}
		msg := ""
		if m := resp.Entries[0].ErrorMessage; m != nil {
			msg = *m
		}
		return resp.Entries[0].ErrorCode, msg
	}
	described := func(cl *kgo.Client, strict bool, components ...kmsg.DescribeClientQuotasRequestComponent) string {
		t.Helper()
		req := kmsg.NewPtrDescribeClientQuotasRequest()
		req.Components, req.Strict = components, strict
		resp, err := req.RequestWith(ctxOf(t), cl)
		if err != nil || resp.ErrorCode != 0 {
			t.Fatal(err, resp)
		}
		var list []string
		for _, e := range resp.Entries {
			s := ""
			for _, n := range e.Entity {
				name := "-"
				if n.Name != nil {
					name = *n.Name
				}
				s += n.Type + " " + name + " "
			}
			for _, v := range e.Values {
				s += v.Key + " "
			}
			list = append(list, strings.TrimSpace(s))
		}
		return strings.Join(list, "; ")
	}
	component := func(typ string, match kmsg.QuotasMatchType, name string) kmsg.DescribeClientQuotasRequestComponent {
		c := kmsg.NewDescribeClientQuotasRequestComponent()
		c.EntityType, c.MatchType = typ, match
		if match == kmsg.QuotasMatchTypeExact {
			c.Match = &name
		}
		return c
	}
	slow := quotaFor("client-id", "slow")
	if code, msg := alter(adm, slow, "producer_byte_rate", 5000, true); code != 0 || described(adm, false) != "" {
		t.Fatalf("a dry run: %d %s, then %s", code, msg, described(adm, false))
	}
	for _, e := range []quotaEntity{slow, quotaFor("client-id", "-", "user", "alice"), quotaFor("user", "-")} {
		if code, msg := alter(adm, e, "consumer_byte_rate", 1<<40, false); code != 0 {
			t.Fatal(e, code, msg)
		}
	}
	if code, msg := alter(adm, slow, "producer_byte_rate", 5000, false); code != 0 {
		t.Fatal(code, msg)
	}
	for _, c := range []struct {
		want   string
		strict bool
		parts  []kmsg.DescribeClientQuotasRequestComponent
	}{
		{"client-id slow consumer_byte_rate producer_byte_rate; client-id - user alice consumer_byte_rate; user - consumer_byte_rate", false, nil},
		{"client-id slow consumer_byte_rate producer_byte_rate", true, []kmsg.DescribeClientQuotasRequestComponent{component("client-id", kmsg.QuotasMatchTypeAny, "")}},
		{"client-id slow consumer_byte_rate producer_byte_rate", false, []kmsg.DescribeClientQuotasRequestComponent{component("client-id", kmsg.QuotasMatchTypeExact, "slow")}},
		{"client-id - user alice consumer_byte_rate; user - consumer_byte_rate", false, []kmsg.DescribeClientQuotasRequestComponent{component("user", kmsg.QuotasMatchTypeAny, "")}},
		{"user - consumer_byte_rate", false, []kmsg.DescribeClientQuotasRequestComponent{component("user", kmsg.QuotasMatchTypeDefault, "")}},
	} {
		if got := described(adm, c.strict, c.parts...); got != c.want {
			t.Errorf("strict %v, %v: %s, want %s", c.strict, c.parts, got, c.want)
		}
	}
	for _, c := range []struct {
		e     quotaEntity
		key   string
		value float64
		want  *kerr.Error
	}{
		{quotaFor("planet", "earth"), "producer_byte_rate", 1, kerr.InvalidRequest},
		{quotaFor("client-id", ""), "producer_byte_rate", 1, kerr.InvalidRequest},
		{slow, "producer_byte_rate", -1, kerr.InvalidRequest},
		{slow, "producer_byte_rate", 1.5, kerr.InvalidRequest},
		{slow, "bytes", 1, kerr.InvalidRequest},
		{slow, "connection_creation_rate", 1, kerr.InvalidRequest},
		{slow, "request_percentage", 1, kerr.UnsupportedVersion},
		{quotaFor("ip", "127.0.0.1"), "connection_creation_rate", 1, kerr.UnsupportedVersion},
		{quotaFor("ip", "127.0.0.1", "user", "u"), "connection_creation_rate", 1, kerr.InvalidRequest},
		{quotaFor("ip", "nowhere"), "connection_creation_rate", 1, kerr.InvalidRequest},
	} {
		if code, msg := alter(adm, c.e, c.key, c.value, false); code != c.want.Code || msg == "" {
			t.Errorf("%v %s=%v: %d %q, want %v", c.e, c.key, c.value, code, msg, c.want)
		}
	}

	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b, adm = start()
	if _, _, err := b.topics.create(t.Context(), createRequest{name: "raw", partitions: 1}); err != nil {
		t.Fatal(err)
	}
	// as sends a request with a client id and returns the answer.
	as := func(c *rawConn, id string, req kmsg.Request) kmsg.Response {
		t.Helper()
		f := frame(req.Key(), req.GetVersion(), 1, req.IsFlexible(), req.AppendTo(nil))
		binary.BigEndian.PutUint16(f[12:], uint16(len(id)))
		f = slices.Insert(f, 14, []byte(id)...)
		wire.PutSize(f, len(f)-4)
		if _, err := c.Write(f); err != nil {
			t.Fatal(err)
		}
		_, body := c.receive()
		if req.IsFlexible() {
			body = body[1:]
		}
		resp := req.ResponseKind()
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
		return resp
	}
	put := func(c *rawConn, id string, bytes int) (wait time.Duration) {
		t.Helper()
		batch := record.Append(nil, record.Header{ProducerID: -1, BaseSequence: -1}, record.Record{Value: make([]byte, bytes)})
		resp := as(c, id, produceTo("raw", 0, -1, batch)).(*kmsg.ProduceResponse)
		if code := resp.Topics[0].Partitions[0].ErrorCode; code != 0 {
			t.Fatal(kerr.ErrorForCode(code))
		}
		return time.Duration(resp.ThrottleMillis) * time.Millisecond
	}
	// 5 kB a second, of which the first 50 kB are free.
	c := rawDial(t, b)
	if wait := put(c, "fast", 60_000); wait != 0 {
		t.Errorf("a client without a quota is to wait %v", wait)
	}
	if code, msg := alter(adm, quotaFor("client-id", "burst"), "producer_byte_rate", 5000, false); code != 0 {
		t.Fatal(code, msg)
	}
	if wait := put(c, "burst", 40_000); wait != 0 {
		t.Errorf("within ten seconds' worth: wait %v", wait)
	}
	// More than there can be at once, however much time went by before.
	began := time.Now()
	wait := put(c, "slow", 52_000)
	if wait == 0 {
		t.Error("over the quota, and no wait was told")
	}
	put(rawDial(t, b), "fast", 1) // is not concerned
	put(c, "fast", 1)             // on the muted connection: read after the wait
	if spent := time.Since(began); spent < wait {
		t.Errorf("the client was told to wait %v, and was read from after %v", wait, spent)
	}
	for _, key := range []string{"producer_byte_rate", "consumer_byte_rate"} {
		if code, msg := alter(adm, slow, key, 0, false); code != 0 {
			t.Fatal(code, msg)
		}
	}
	if got := described(adm, false); strings.Contains(got, "slow") {
		t.Errorf("still there after it was removed: %s", got)
	}
	if wait := put(c, "slow", 60_000); wait != 0 {
		t.Errorf("without a quota any more: wait %v", wait)
	}

	// Consumers: more than ten seconds' worth in one answer.
	if code, msg := alter(adm, quotaFor("user", "-"), "consumer_byte_rate", 10_000, false); code != 0 {
		t.Fatal(code, msg)
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.SessionEpoch = 11, 1<<20, -1
	topic, part := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	topic.Topic, part.PartitionMaxBytes = "raw", 1<<20
	topic.Partitions = append(topic.Partitions, part)
	req.Topics = append(req.Topics, topic)
	resp := as(c, "reader", req).(*kmsg.FetchResponse)
	if n := len(resp.Topics[0].Partitions[0].RecordBatches); n == 0 || resp.ThrottleMillis == 0 {
		t.Errorf("a fetch of %d bytes is told to wait %d ms", n, resp.ThrottleMillis)
	}
}
