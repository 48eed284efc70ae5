package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/race"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// sequenced is an idempotent producer's batch of three records.
func sequenced(pid int64, seq int32) []byte {
	var recs []record.Record
	for i := range 3 {
		recs = append(recs, record.Record{Timestamp: 1_700_000_000_000, Value: fmt.Appendf(nil, "%d/%d", pid, int(seq)+i)})
	}
	return record.Append(nil, record.Header{ProducerID: pid, BaseSequence: seq}, recs...)
}

// packed is a batch in a codec, and the same cut short under a header that is
// right.
func packed(t *testing.T, codec record.Codec, batch []byte) (whole, broken []byte) {
	t.Helper()
	o, _, err := record.Open(batch, nil, 1<<20)
	if err != nil {
		t.Fatal(err)
	}
	if whole, _, err = o.Rewrite(nil, record.Compression{Codec: codec}, nil); err != nil {
		t.Fatal(err)
	}
	h, err := record.ParseHeader(whole)
	if err != nil {
		t.Fatal(err)
	}
	broken = bytes.Clone(whole[:len(whole)-5])
	record.Put(broken, h)
	return whole, broken
}

func produceTo(topic string, part int32, acks int16, batch []byte) *kmsg.ProduceRequest {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, acks, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Partition, rp.Records = part, batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return req
}

// TestProduceTogether sends requests in one piece, so that the broker gets
// them together, and compares with what they would be one by one.
func TestProduceTogether(t *testing.T) {
	b := startBroker(t, nil)
	for _, name := range []string{"together", "other", "synced"} {
		r := createRequest{name: name, partitions: 2}
		if name == "synced" {
			r.configs = map[string]string{"sluice.sync.acks": "true"}
		}
		if _, _, err := b.topics.create(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	damaged := sequenced(7, 18)
	damaged[len(damaged)-1] ^= 1
	type step struct {
		topic string
		part  int32
		acks  int16
		batch []byte
		base  int64
		code  int16
	}
	var compressed []step
	for i, codec := range []record.Codec{record.Gzip, record.Snappy, record.LZ4, record.Zstd} {
		seq, base := int32(15+6*i), int64(39+6*i)
		one, broken := packed(t, codec, sequenced(9, seq))
		two, _ := packed(t, codec, sequenced(9, seq+3))
		compressed = append(compressed, step{"together", 0, -1, one, base, 0},
			step{"together", 0, -1, broken, -1, kerr.InvalidRecord.Code}, step{"together", 0, -1, two, base + 3, 0})
	}
	for _, tt := range []struct {
		name  string
		steps []step
	}{
		{"in sequence", []step{{"together", 0, -1, sequenced(7, 0), 0, 0}, {"together", 0, -1, sequenced(7, 3), 3, 0}, {"together", 0, 1, sequenced(7, 6), 6, 0}}},
		{"sent again", []step{{"together", 0, -1, sequenced(7, 3), 3, 0}, {"together", 0, -1, sequenced(7, 6), 6, 0}, {"together", 0, -1, sequenced(7, 9), 9, 0}}},
		{"a gap", []step{{"together", 0, -1, sequenced(7, 12), 12, 0}, {"together", 0, -1, sequenced(7, 30), -1, kerr.OutOfOrderSequenceNumber.Code}, {"together", 0, -1, sequenced(7, 15), 15, 0}}},
		{"damage", []step{{"together", 0, -1, damaged, -1, kerr.CorruptMessage.Code}, {"together", 0, -1, sequenced(7, 18), 18, 0}}},
		{"two producers", []step{{"together", 0, -1, sequenced(8, 0), 21, 0}, {"together", 0, -1, sequenced(9, 0), 24, 0}, {"together", 0, -1, sequenced(9, 3), 27, 0}}},
		{"two partitions", []step{{"together", 0, -1, sequenced(9, 6), 30, 0}, {"together", 1, -1, sequenced(9, 0), 0, 0}, {"together", 1, -1, sequenced(9, 3), 3, 0}, {"together", 0, -1, sequenced(9, 9), 33, 0}}},
		{"two topics", []step{{"other", 0, -1, sequenced(9, 0), 0, 0}, {"together", 0, -1, sequenced(9, 12), 36, 0}, {"nowhere", 0, -1, sequenced(9, 0), -1, kerr.UnknownTopicOrPartition.Code}}},
		{"waiting for the disk", []step{{"synced", 0, -1, sequenced(9, 0), 0, 0}, {"synced", 0, -1, sequenced(9, 3), 3, 0}, {"other", 0, -1, sequenced(9, 3), 3, 0}, {"other", 0, -1, sequenced(9, 6), 6, 0}}},
		{"compressed and broken", compressed},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := rawDial(t, b)
			var all []byte
			for i, s := range tt.steps {
				all = append(all, frame(0, 9, int32(i), true, produceTo(s.topic, s.part, s.acks, s.batch).AppendTo(nil))...)
			}
			if _, err := c.Write(all); err != nil {
				t.Fatal(err)
			}
			for i, s := range tt.steps {
				corr, body := c.receive()
				resp := kmsg.ProduceResponse{Version: 9}
				if err := resp.ReadFrom(body[1:]); err != nil {
					t.Fatal(err)
				}
				p := resp.Topics[0].Partitions[0]
				if corr != int32(i) || resp.Topics[0].Topic != s.topic || p.Partition != s.part || p.ErrorCode != s.code || p.BaseOffset != s.base {
					t.Errorf("request %d: answer to %d: %s-%d code %d at %d; want %s-%d code %d at %d", i, corr,
						resp.Topics[0].Topic, p.Partition, p.ErrorCode, p.BaseOffset, s.topic, s.part, s.code, s.base)
				}
			}
		})
	}
	// What is in the log is whole, in order and once.
	part := b.topics.byName("together").part(0)
	if o := part.Offsets(); o.High != 63 {
		t.Errorf("the log ends at %d, want 63", o.High)
	}
	seen := map[int64]int32{}
	for _, p := range part.Producers() {
		seen[p.ID] = p.LastSequence
	}
	if seen[7] != 20 || seen[8] != 2 || seen[9] != 38 {
		t.Errorf("last sequences are %v", seen)
	}
}

// TestProduceAllocations is the budget of the hot path.
func TestProduceAllocations(t *testing.T) {
	b := startBroker(t, nil)
	if _, _, err := b.topics.create(t.Context(), createRequest{name: "budget", partitions: 1}); err != nil {
		t.Fatal(err)
	}
	server, client := net.Pipe()
	defer server.Close()
	defer client.Close()
	c := &conn{b: b, nc: server, in: newInput(server), out: make([]byte, 0, maxOut)}
	defer c.in.drop()
	one := frame(0, 9, 1, true, produceTo("budget", 0, -1, benchBatch(1000)).AppendTo(nil))
	fill := func(n int) {
		if c.in.buf == nil {
			c.in.buf = inputBuffers.Get().(*[inputBuffer]byte)
		}
		c.in.r, c.in.w = 0, 0
		for range n {
			c.in.w += copy(c.in.buf[c.in.w:], one)
		}
		c.out = c.out[:0]
	}
	got := testing.AllocsPerRun(100, func() {
		fill(5)
		if took, err := c.produceTogether(context.Background()); !took || err != nil {
			t.Fatalf("not taken together: %v", err)
		}
	})
	if len(c.in.buffered()) != 0 || len(c.out) == 0 || int(binary.BigEndian.Uint32(c.out))+4 != len(c.out)/5 {
		t.Fatalf("%d bytes are left and %d are the answers", len(c.in.buffered()), len(c.out))
	}
	if got > 2 && !race.Enabled { // the index grows now and then
		t.Errorf("five requests together allocate %v objects: want at most 2", got)
	}
	got = testing.AllocsPerRun(100, func() {
		fill(1)
		r, err := c.next()
		if err != nil {
			t.Fatal(err)
		}
		out, err := b.run(context.Background(), r)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.answerNow(r, out); err != nil {
			t.Fatal(err)
		}
		r.release()
	})
	if got > 4 && !race.Enabled { // the request, the answer's closure, the index
		t.Errorf("one request allocates %v objects: want at most 4", got)
	}
}
