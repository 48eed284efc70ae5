package jdbc

import (
	"bytes"
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// BenchmarkPutTake puts batches, and takes and commits them at the same time. An operation is an event.
func BenchmarkPutTake(b *testing.B) {
	for _, batch := range []int{100, 1000} {
		b.Run(fmt.Sprintf("sqlite/batch=%d", batch), func(b *testing.B) { benchmark(b, testStore(b.TempDir()), batch) })
		b.Run(fmt.Sprintf("postgres/batch=%d", batch), func(b *testing.B) { benchmark(b, freshPostgres(b), batch) })
	}
}

func benchmark(b *testing.B, s store, batch int) {
	c := newChannel(s, 0, time.Second, component.Env{})
	if err := c.Start(b.Context()); err != nil {
		b.Fatal(err)
	}
	defer c.Stop(context.Background())
	body := bytes.Repeat([]byte("x"), 200)
	hs := []event.KV{{Key: "host", Value: []byte("collector-1")}, {Key: "timestamp", Value: []byte("1700000000000")}}
	b.ReportAllocs()
	b.ResetTimer()
	taken := make(chan error, 1)
	go func() {
		tk := c.NewTaker()
		for n := 0; n < b.N; {
			l, err := tk.Take(context.Background(), batch)
			if err == nil && l != nil {
				n += len(l.Events())
				err = l.Commit()
			}
			if err != nil {
				taken <- err
				return
			}
		}
		taken <- nil
	}()
	p := event.NewPool()
	for n := 0; n < b.N; {
		bt := p.NewBatch()
		for range min(batch, b.N-n) {
			bt.AppendEvent(body, hs)
			n++
		}
		if err := c.Put(context.Background(), bt); err != nil {
			b.Fatal(err)
		}
		bt.Release()
	}
	if err := <-taken; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "events/s")
}
