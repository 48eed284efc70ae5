package main

import (
	"slices"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
)

// TestTemplate reads the batches that are sent with the broker's own decoder.
func TestTemplate(t *testing.T) {
	for _, s := range []shape{{100, 16 << 10, "none"}, {1000, 16 << 10, "lz4"}, {1000, 16 << 10, "zstd"}, {10_000, 16 << 10, "none"}, {1000, 0, "none"}} {
		tp, err := newTemplate(s)
		if err != nil {
			t.Fatal(err)
		}
		const now = 1_700_000_000_000
		tp.stamp(tp.batch, 42, 3, 17, now)
		h, err := record.Check(tp.batch)
		if err != nil {
			t.Fatalf("%+v: %v", s, err)
		}
		if h.Size() != int64(len(tp.batch)) || int(h.Count) != tp.records || h.ProducerID != 42 || h.ProducerEpoch != 3 || h.BaseSequence != 17 || h.MaxTimestamp != now {
			t.Errorf("%+v: header is %+v", s, h)
		}
		if s.Codec == "none" && s.Batch > 0 && (len(tp.batch) > s.Batch || len(tp.batch) < s.Batch*4/10) {
			t.Errorf("%+v: the batch has %d bytes", s, len(tp.batch))
		}
		n := 0
		if err := record.Stamps(t.Context(), tp.batch, func(off, ts int64) bool {
			if off != int64(n) || ts != now {
				t.Errorf("%+v: record %d has offset %d, time %d", s, n, off, ts)
			}
			n++
			return true
		}); err != nil || n != tp.records {
			t.Errorf("%+v: %d records, want %d: %v", s, n, tp.records, err)
		}
	}
}

// TestTakeNoticesAGap: the consumer must not count what is not there.
func TestTakeNoticesAGap(t *testing.T) {
	tp, err := newTemplate(shape{1000, 4000, "none"})
	if err != nil {
		t.Fatal(err)
	}
	at := func(off int64) []byte {
		b := slices.Clone(tp.batch)
		record.SetBaseOffset(b, off)
		return b
	}
	c := &consumer{offset: 6}
	both := append(at(6), at(9)...)
	if err := c.take(both, time.Now()); err != nil || c.offset != 12 || c.bytes != int64(len(both)) {
		t.Errorf("two batches: offset %d, %d bytes, %v", c.offset, c.bytes, err)
	}
	if err := c.take(at(12)[:70], time.Now()); err != nil || c.offset != 12 {
		t.Errorf("a batch cut short: offset %d, %v", c.offset, err)
	}
	if c.take(at(15), time.Now()) == nil {
		t.Error("a gap of three records was not noticed")
	}
}

func TestPromises(t *testing.T) {
	add := func(r *brokerReport, row, peer string, f map[string]float64) {
		r.Runs = append(r.Runs, brokerRun{Row: row, Peer: peer, Round: 1, Figures: f})
	}
	r := &brokerReport{}
	add(r, mainRow, "sluice", map[string]float64{figProduceCPU: 780, figProduce: 100, figConsumeCPU: 1290, figConsume: 1, figMemory: 30})
	add(r, mainRow, "kafka", map[string]float64{figProduceCPU: 200, figProduce: 90, figConsumeCPU: 1000, figConsume: 1})
	add(r, mainRow, "floor", map[string]float64{figProduceCPU: 900, figConsumeCPU: 2000})
	r.summarise()
	var kept []bool
	for _, p := range r.promises() {
		kept = append(kept, p.Kept)
	}
	// Produce: 3.9 times Kafka's, but within 15 % of the floor. Consume: neither.
	if want := []bool{true, true, false, true}; !slices.Equal(kept, want) {
		t.Errorf("kept = %v, want %v; %+v", kept, want, r.promises())
	}
	if m := (report{Broker: r}).missed(); len(m) != 1 {
		t.Errorf("missed = %q, want one line", m)
	}
}

func TestQuantile(t *testing.T) {
	d := make([]time.Duration, 1000)
	for i := range d {
		d[i] = time.Duration(i+1) * time.Millisecond
	}
	if p50, p999 := quantile(d, 0.5), quantile(d, 0.999); p50 != 501 || p999 != 1000 {
		t.Errorf("quantiles are %v and %v", p50, p999)
	}
}
