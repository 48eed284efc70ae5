package e2e

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTornTail kills a broker again and again and leaves its log each time as a write that was cut short does: the next
// start cuts that off with one line that says where, serves what was acknowledged, and takes more.
func TestTornTail(t *testing.T) {
	data := t.TempDir()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	log := filepath.Join(data, "logs", "torn-0", "00000000000000000000.log")
	var kept [][]byte // the values that must be there
	var line string   // what the next start has to say
	batch := func(off int64, values ...[]byte) []byte {
		recs := make([]record.Record, len(values))
		for i, v := range values {
			recs[i] = record.Record{Timestamp: time.Now().UnixMilli(), Value: v}
		}
		return record.Append(nil, record.Header{BaseOffset: off, ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1}, recs...)
	}
	// Batches with offsets that could follow, as a copy of another log has them.
	copied := func() []byte {
		n := int64(len(kept))
		return bytes.Join([][]byte{batch(n+1, []byte("a")), batch(n+2, []byte("b"), []byte("c")), batch(n+4, []byte("d"))}, nil)
	}
	truncate := func(size int64) {
		t.Helper()
		if err := os.Truncate(log, size); err != nil {
			t.Fatal(err)
		}
	}
	whole := func() []byte {
		t.Helper()
		b, err := os.ReadFile(log)
		if err != nil {
			t.Fatal(err)
		}
		return b
	}
	grow := func(b []byte) {
		t.Helper()
		if err := os.WriteFile(log, append(whole(), b...), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	// padded writes b and the zeros that were there before it, and returns how much that is.
	padded := func(b []byte) int {
		at := len(whole())
		b = append(b, make([]byte, -(at+len(b))&(16<<10-1))...)
		grow(b)
		return len(b)
	}
	// last forgets the last value and returns how long its batch is.
	last := func() int {
		kept = kept[:len(kept)-1]
		b, n := whole(), 0
		for len(b) > 0 {
			h, err := record.Check(b)
			if err != nil {
				t.Fatal(err)
			}
			n = int(h.Size())
			b = b[n:]
		}
		return n
	}
	for _, tear := range []struct {
		name string
		do   func() (cut int) // how many bytes are left of what is torn
	}{
		{"nothing", func() int { return 0 }},
		{"the first byte of a batch", func() int { grow(batch(int64(len(kept)), []byte("x"))[:1]); return 1 }},
		{"half a header", func() int { grow(batch(int64(len(kept)), []byte("x"))[:30]); return 30 }},
		{"a header", func() int { grow(batch(int64(len(kept)), []byte("x"))[:record.HeaderSize]); return record.HeaderSize }},
		{"half a batch", func() int { grow(batch(int64(len(kept)), make([]byte, 1000))[:500]); return 500 }},
		{"a batch without its last byte", func() int { n := last(); truncate(int64(len(whole()) - 1)); return n - 1 }},
		{"a batch cut in its header", func() int { n := last(); truncate(int64(len(whole()) - n + 20)); return 20 }},
		{"a batch that holds others, cut behind them", func() int {
			b := batch(int64(len(kept)), append(copied(), make([]byte, 100)...))
			grow(b[:len(b)-50])
			return len(b) - 50
		}},
		{"a batch that holds others, cut in them", func() int {
			b := batch(int64(len(kept)), copied())
			grow(b[:len(b)-10])
			return len(b) - 10
		}},
		{"a whole batch and half of one", func() int {
			n := int64(len(kept))
			grow(batch(n, []byte("whole")))
			kept = append(kept, []byte("whole"))
			grow(batch(n+1, make([]byte, 200))[:100])
			return 100
		}},
		{"a header cut short where the file was padded", func() int { return padded(batch(int64(len(kept)), []byte("x"))[:30]) }},
		{"a batch that holds others, cut in them where the file was padded", func() int {
			b := batch(int64(len(kept)), copied())
			return padded(b[:len(b)-10])
		}},
		{"pages of zeros", func() int { // of a power cut
			n := 3*4096 + 100
			grow(make([]byte, n))
			return n
		}},
		{"the end", func() int { return 0 }},
	} {
		p := start(t, "sluice", "broker", "--data", data, "--listen", "127.0.0.1:0", "--max-disk", "none", "--min-free-disk", "none")
		addr := p.find(`listening on (\S+),`)
		cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("torn"),
			kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{"torn": {0: kgo.NewOffset().AtStart()}}),
			kgo.ProducerBatchCompression(kgo.NoCompression()), kgo.ProducerLinger(0))
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			v := fmt.Appendf(nil, "record %d", len(kept))
			r, err := cl.ProduceSync(ctx, kgo.SliceRecord(v)).First()
			if err != nil {
				t.Fatalf("before %q: %v", tear.name, err)
			}
			if r.Offset != int64(len(kept)) {
				t.Fatalf("before %q: a record got the offset %d, want %d", tear.name, r.Offset, len(kept))
			}
			kept = append(kept, v)
		}
		for n := 0; n < len(kept); {
			fs := cl.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatalf("before %q: %v", tear.name, err)
			}
			for _, r := range fs.Records() {
				if r.Offset != int64(n) || !bytes.Equal(r.Value, kept[n]) {
					t.Fatalf("before %q: offset %d has %.40q, want %.40q at %d", tear.name, r.Offset, r.Value, kept[n], n)
				}
				n++
			}
		}
		cl.Close()
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.done
		var said []string
		for l := range strings.Lines(p.stderr()) { // all of it: stdout, which said where it listens, is another pipe
			if strings.Contains(l, "cutting off") {
				said = append(said, l)
			}
		}
		if line == "" && len(said) > 0 || line != "" && (len(said) != 1 || !regexp.MustCompile(line).MatchString(said[0])) {
			t.Errorf("before %q: the broker said %q, want one line with %q", tear.name, said, line)
		}
		line = ""
		if cut := tear.do(); cut > 0 {
			line = fmt.Sprintf("%s.* at=%d bytes=%d ", regexp.QuoteMeta(log), len(whole())-cut, cut)
			t.Logf("%s: %d bytes to be cut at %d", tear.name, cut, len(whole())-cut)
		}
	}
}
