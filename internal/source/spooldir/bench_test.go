package spooldir

import (
	"bytes"
	"context"
	"os"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func TestAllocations(t *testing.T) {
	dir := t.TempDir()
	line := []byte("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n")
	path := dir + "/f"
	write(t, path, string(bytes.Repeat(line, 50_000)))
	out := &nullOutput{pool: event.NewPool()}
	s := newBenchSource(t, dir, "batchSize=1000", "fileHeader=true", "basenameHeader=true")
	n := testing.AllocsPerRun(5, func() {
		if err := s.consume(context.Background(), out, path); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(path+".COMPLETED", path); err != nil {
			t.Fatal(err)
		}
	})
	if n > 500 { // for a file: none of 50,000 lines' own
		t.Errorf("%.0f allocations for 50,000 lines", n)
	}
}

func newBenchSource(tb testing.TB, dir string, props ...string) *source {
	tb.Helper()
	s := componenttest.Source(tb, componenttest.QuietEnv(), "spooldir", append([]string{"spoolDir=" + dir}, props...)...).(*source)
	if err := s.Start(context.Background()); err != nil {
		tb.Fatal(err)
	}
	return s
}

// nullOutput releases what it gets.
type nullOutput struct {
	pool   *event.Pool
	events int
}

func (o *nullOutput) Pool() *event.Pool      { return o.pool }
func (o *nullOutput) NewBatch() *event.Batch { return o.pool.NewBatch() }
func (o *nullOutput) Emit(_ context.Context, b *event.Batch) error {
	o.events += b.Len()
	b.Release()
	return nil
}

func BenchmarkSpoolDirLines(b *testing.B) {
	const lines = 300_000
	dir := b.TempDir()
	path := dir + "/day.log"
	write(b, path, strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", lines))
	out := &nullOutput{pool: event.NewPool()}
	s := newBenchSource(b, dir, "batchSize=1000")
	b.SetBytes(lines * 46)
	b.ReportAllocs()
	for b.Loop() {
		if err := s.consume(context.Background(), out, path); err != nil {
			b.Fatal(err)
		}
		if err := os.Rename(path+".COMPLETED", path); err != nil {
			b.Fatal(err)
		}
	}
	if out.events%lines != 0 {
		b.Fatalf("%d events", out.events)
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/lines, "ns/line")
}
