package file

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func putFrame(seq, ev int64, evs ...event.Event) []byte {
	b := make([]byte, frameHead)
	for i := range evs {
		b = appendEvent(b, &evs[i])
	}
	seal(b, framePut, len(evs), seq, ev)
	return b
}

func takeFrame(seq, ev int64, ss ...span) []byte {
	b := make([]byte, frameHead)
	for _, s := range ss {
		b = appendSpan(b, s)
	}
	seal(b, frameTake, len(ss), seq, ev)
	return b
}

func someEvents() []event.Event {
	return []event.Event{
		{Body: []byte("one")},
		{Body: []byte{}, Headers: []event.KV{{Key: "null"}, {Key: "empty", Value: []byte{}}, {Key: "", Value: []byte("nameless")}}},
		{Body: bytes.Repeat([]byte("long "), 100), Headers: []event.KV{{Key: strings.Repeat("k", 200), Value: bytes.Repeat([]byte("v"), 300)}}},
	}
}

func FuzzFrame(f *testing.F) {
	f.Add(putFrame(7, 3, someEvents()...))
	f.Add(takeFrame(8, 6, span{1, 2}, span{4, 6}))
	f.Fuzz(func(t *testing.T, b []byte) {
		// What is behind a CRC that fits is as arbitrary as before.
		if len(b) >= frameHead {
			if h, err := parseHeader(b); err == nil {
				b = bytes.Clone(b)
				seal(b, h.typ, int(h.count), h.seq, h.event)
			}
		}
		h, err := parseFrame(b)
		if err != nil {
			return
		}
		if h.typ == frameTake {
			ss, err := parseSpans(nil, b[frameHead:], int(h.count))
			if err == nil && !bytes.Equal(takeFrame(h.seq, h.event, ss...), b) {
				t.Fatal("a take frame that is another when it is written again")
			}
			return
		}
		var names headers.Names
		var evs []event.Event
		rest := b[frameHead:]
		for range h.count {
			var body []byte
			var hs []event.KV
			if body, hs, rest, err = parseEvent(rest, &names, nil); err != nil {
				return
			}
			evs = append(evs, event.Event{Body: body, Headers: hs})
		}
		// Lengths may be written longer than need be, so the bytes may differ; the events must not.
		again := putFrame(h.seq, h.event, evs...)[frameHead:]
		for i := range evs {
			var body []byte
			var hs []event.KV
			if body, hs, again, err = parseEvent(again, &names, nil); err != nil || fmt.Sprintf("%q", event.Event{Body: body, Headers: hs}) != fmt.Sprintf("%q", evs[i]) {
				t.Fatalf("event %d: %q %q, want %q (%v)", i, body, hs, evs[i], err)
			}
		}
	})
}

func FuzzCheckpoint(f *testing.F) {
	c := checkpoint{seq: 9, event: 50, segment: 3, offset: 640, low: 10, lowSegment: 0, lowOffset: 64, done: spans{{12, 13}, {20, 30}}}
	f.Add(c.encode())
	f.Add((&checkpoint{offset: 64, lowOffset: 64}).encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		c, err := parseCheckpoint(b)
		if err == nil && !bytes.Equal(c.encode(), b) {
			t.Fatalf("%+v is another when it is written again", c)
		}
	})
}

func FuzzSegmentHeader(f *testing.F) {
	f.Add(segmentInfo{seq: 3, event: 5, prev: 0, low: 4, importing: true}.encode())
	f.Add(segmentInfo{prev: -1}.encode())
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := parseSegment(b)
		if err == nil && !bytes.Equal(s.encode(), b[:segmentHead]) {
			t.Fatalf("%+v is another when it is written again", s)
		}
	})
}

// FuzzRecover recovers a channel from a segment with any bytes behind its header, and takes what comes.
func FuzzRecover(f *testing.F) {
	evs := someEvents()
	log := append(append(putFrame(0, 0, evs...), takeFrame(1, 3, span{0, 1})...), putFrame(2, 3, evs[:1]...)...)
	f.Add(log, true)
	f.Add(log[:len(log)-5], true)
	f.Add(log[:len(log)-5], false)
	bad := bytes.Clone(log)
	bad[40] ^= 1
	f.Add(bad, true)
	f.Add(append(bytes.Clone(log), make([]byte, 5000)...), false)
	f.Fuzz(func(t *testing.T, b []byte, last bool) {
		s := &memStore{fs: memfs.New()}
		info := segmentInfo{id: channelID{1}, prev: -1}
		s.fs.WriteFile(seglog.Name("/c/data1", 0, segmentExt), append(info.encode(), b...))
		if !last {
			info.seq, info.event, info.prev = 1000, 1000, 0
			s.fs.WriteFile(seglog.Name("/c/data2", 1000, segmentExt), info.encode())
		}
		c := New(s.config())
		// Without goroutines and timers: they would make the coverage another each time.
		r, size, err := c.recover(t.Context())
		if err != nil {
			return
		}
		c.size = size
		l := &lease{c: c, batch: c.pool.NewBatch()}
		for {
			if _, err := r.collect(l, 50); err != nil || l.batch.Len() == 0 {
				break
			}
			size -= int64(l.batch.Len())
			if err := r.commit(l); err != nil {
				t.Fatal(err)
			}
			l.reset()
		}
		if size < 0 {
			t.Fatalf("%d events more than there are", -size)
		}
		if err := r.close(); err != nil {
			t.Fatal(err)
		}
	})
}

func TestAllocations(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.MaxFileSize, cfg.KeepAlive, cfg.TransactionCapacity, cfg.Capacity = 1<<30, 0, 1000, 10000
	// A put of 1000 events and two takes: nothing of it may grow with the events.
	componenttest.NoMoreAllocs(t, 12, putAndTake(t, start(t, cfg)))
}

// putAndTake is a round of a put of 1000 events and two takes, after some to warm up.
func putAndTake(t *testing.T, c *Channel) (round func()) {
	b := c.pool.NewBatch()
	for i := range 1000 {
		var hs []event.KV
		if i%2 == 0 {
			hs = []event.KV{{Key: "host", Value: []byte("a")}, {Key: "n", Value: []byte("b")}}
		}
		b.AppendEvent(bytes.Repeat([]byte("x"), 48), hs)
	}
	tk := c.NewTaker()
	round = func() {
		if err := c.Put(t.Context(), b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := tk.Take(t.Context(), 500)
			if err != nil || len(l.Events()) != 500 {
				t.Fatal(err)
			}
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	for range 5 {
		round()
	}
	return round
}

func BenchmarkPutTakeCommit(b *testing.B) {
	for _, n := range []int{1, 100, 1000} {
		b.Run(fmt.Sprintf("batch=%d", n), func(b *testing.B) {
			cfg := testConfig(b.TempDir())
			cfg.MaxFileSize, cfg.KeepAlive, cfg.TransactionCapacity, cfg.Capacity = 1<<30, 0, 1000, 10000
			c := start(b, cfg)
			batch := c.pool.NewBatch()
			for range n {
				batch.Append(bytes.Repeat([]byte("x"), 48))
			}
			tk := c.NewTaker()
			b.ReportAllocs()
			for b.Loop() {
				if err := c.Put(b.Context(), batch); err != nil {
					b.Fatal(err)
				}
				l, err := tk.Take(b.Context(), n)
				if err != nil {
					b.Fatal(err)
				}
				if err := l.Commit(); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}
