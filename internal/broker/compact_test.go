package broker

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestCompactedTopic: the latest value of each key is left, over a restart too, and the producer goes on.
func TestCompactedTopic(t *testing.T) {
	dir := t.TempDir()
	change := func(c *Config) { c.DataDir, c.CompactionCheck = dir, 20*time.Millisecond }
	b := startBroker(t, change)
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.NoCompression()))
	adm := kadm.NewClient(cl)
	str := func(s string) *string { return &s }
	if _, err := adm.CreateTopic(ctxOf(t), 1, 1, map[string]*string{"cleanup.policy": str("compact"), "segment.bytes": str("20000"),
		"min.cleanable.dirty.ratio": str("0.01"), "retention.ms": str("1")}, "c"); err != nil {
		t.Fatal(err)
	}
	err := cl.ProduceSync(ctxOf(t), &kgo.Record{Topic: "c", Value: []byte("no key")}).FirstErr()
	if !errors.Is(err, kerr.InvalidRecord) {
		t.Errorf("a record without a key: %v, want INVALID_RECORD", err)
	}
	const keys, rounds = 10, 60
	put := func(cl *kgo.Client, round int) {
		t.Helper()
		for k := range keys {
			r := &kgo.Record{Topic: "c", Key: fmt.Appendf(nil, "k%d", k), Value: fmt.Appendf(nil, "%d %s", round, strings.Repeat("v", 300))}
			if err := cl.ProduceSync(ctxOf(t), r).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for round := range rounds {
		put(cl, round)
	}
	part := b.topics.byName("c").part(0)
	read := func(b *Broker) map[string][]string {
		t.Helper()
		got := map[string][]string{}
		cons := client(t, b, kgo.ConsumeTopics("c"))
		defer cons.Close()
		last := b.topics.byName("c").part(0).Offsets().High - 1
		for seen := int64(-1); seen < last; {
			fs := cons.PollFetches(ctxOf(t))
			if err := fs.Err(); err != nil {
				t.Fatal(err)
			}
			fs.EachRecord(func(r *kgo.Record) {
				v, _, _ := strings.Cut(string(r.Value), " ")
				got[string(r.Key)] = append(got[string(r.Key)], v)
				seen = r.Offset
			})
		}
		return got
	}
	check := func(b *Broker, last int) {
		t.Helper()
		got := read(b)
		for k := range keys {
			vs := got[fmt.Sprintf("k%d", k)]
			if len(vs) == 0 || vs[len(vs)-1] != fmt.Sprint(last) {
				t.Errorf("key %d: %v: want %d at the end", k, vs, last)
			}
			if len(vs) > rounds/2 {
				t.Errorf("key %d has %d records of %d", k, len(vs), rounds)
			}
		}
	}
	for end := time.Now().Add(patience); part.Size() > 60_000 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	check(b, rounds-1)
	var del kadm.Offsets
	del.Add(kadm.Offset{Topic: "c", Partition: 0, At: 5})
	rs, err := adm.DeleteRecords(ctxOf(t), del)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := rs.Lookup("c", 0); !errors.Is(r.Err, kerr.PolicyViolation) {
		t.Errorf("DeleteRecords: %v, want POLICY_VIOLATION", r.Err)
	}
	addr := b.Addr()
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, func(c *Config) { change(c); c.Listen = addr })
	put(cl, rounds) // the same producer
	check(b, rounds)
}

// TestCompressionType: batches are brought to the topic's codec, whatever the producer sent.
func TestCompressionType(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, func(c *Config) { c.DataDir = dir })
	adm := kadm.NewClient(client(t, b))
	codecs := []kgo.CompressionCodec{kgo.NoCompression(), kgo.GzipCompression(), kgo.SnappyCompression(), kgo.Lz4Compression(), kgo.ZstdCompression()}
	value := strings.Repeat("compress me ", 100)
	for i, name := range compressionNames() {
		if _, err := adm.CreateTopic(ctxOf(t), 1, 1, map[string]*string{"compression.type": &name}, name); err != nil {
			t.Fatal(err)
		}
		n := 0
		for _, codec := range codecs {
			cl := client(t, b, kgo.ProducerBatchCompression(codec))
			produce(t, cl, name, value, value)
			n += 2
		}
		for _, v := range consume(t, client(t, b, kgo.ConsumeTopics(name)), n) {
			if v != value {
				t.Errorf("%s: read %.20q", name, v)
			}
		}
		file, err := os.ReadFile(filepath.Join(dir, "logs", name+"-0", "00000000000000000000.log"))
		if err != nil {
			t.Fatal(err)
		}
		for len(file) > 0 {
			h, err := record.Check(file)
			if err != nil {
				t.Fatal(err)
			}
			if h.Codec() != record.Codec(i) {
				t.Errorf("%s: a batch has codec %d, want %d", name, h.Codec(), i)
			}
			file = file[h.Size():]
		}
	}
}

// TestCompressionBomb: a batch that would need too much memory is refused where it has to be opened.
func TestCompressionBomb(t *testing.T) {
	b := startBroker(t, nil)
	gz := "gzip"
	if _, err := kadm.NewClient(client(t, b)).CreateTopic(ctxOf(t), 1, 1, map[string]*string{"compression.type": &gz}, "z"); err != nil {
		t.Fatal(err)
	}
	cl := client(t, b, kgo.ProducerBatchCompression(kgo.ZstdCompression()), kgo.ProducerBatchMaxBytes(100<<20), kgo.RecordRetries(0), kgo.DisableIdempotentWrite())
	err := cl.ProduceSync(ctxOf(t), &kgo.Record{Topic: "z", Value: make([]byte, 60<<20)}).FirstErr()
	if !errors.Is(err, kerr.MessageTooLarge) {
		t.Errorf("%v: want MESSAGE_TOO_LARGE", err)
	}
}

// TestGroupLogIsNotCompacted: the group log compacts itself; that topics are compacted unless they say otherwise does
// not change it, and nobody can change it.
func TestGroupLogIsNotCompacted(t *testing.T) {
	dir := t.TempDir()
	change := func(c *Config) {
		c.DataDir, c.CompactionCheck = dir, 5*time.Millisecond
		c.TopicDefaults = map[string]string{"cleanup.policy": "compact", "min.cleanable.dirty.ratio": "0", "max.compaction.lag.ms": "1", "segment.bytes": "20000"}
	}
	b := startBroker(t, change)
	adm := kadm.NewClient(client(t, b))
	if _, err := adm.CreateTopic(ctxOf(t), 1, 1, nil, "c"); err != nil {
		t.Fatal(err)
	}
	for at := range int64(300) {
		var os kadm.Offsets
		os.Add(kadm.Offset{Topic: "c", At: at, LeaderEpoch: -1})
		if err := adm.CommitAllOffsets(ctxOf(t), "g", os); err != nil {
			t.Fatal(err)
		}
	}
	policy := "compact"
	rs, err := adm.AlterTopicConfigs(ctxOf(t), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "cleanup.policy", Value: &policy}}, groupTopic)
	if err != nil {
		t.Fatal(err)
	}
	if r, _ := rs.On(groupTopic, nil); r.Err == nil {
		t.Error("the group log's settings were changed")
	}
	check := func(b *Broker) {
		t.Helper()
		topic := b.topics.byName(groupTopic)
		if topic.state.Load().cfg.Compact {
			t.Error("the group log is compacted")
		}
		if _, err := os.Stat(filepath.Join(dir, "logs", groupTopic+"-0", "compaction-checkpoint")); err == nil {
			t.Error("the group log was compacted")
		}
		got, err := kadm.NewClient(client(t, b)).FetchOffsets(ctxOf(t), "g")
		if err != nil {
			t.Fatal(err)
		}
		if o, ok := got.Lookup("c", 0); !ok || o.At != 299 {
			t.Errorf("the group is at %d (%t), want 299", o.At, ok)
		}
	}
	check(b)
	if err := b.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	check(startBroker(t, change))
}
