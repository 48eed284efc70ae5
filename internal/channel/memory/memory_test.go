package memory

import (
	"bytes"
	"context"
	"errors"
	"math"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

func testConfig(capacity, txCapacity int, keepAlive time.Duration, slots int64) Config {
	return Config{Capacity: capacity, TransactionCapacity: txCapacity, KeepAlive: keepAlive, SlotSize: slotSize, Slots: slots}
}

func TestConformance(t *testing.T) {
	channeltest.Run(t, func(_ *testing.T, capacity, txCapacity int) component.Channel {
		return New(testConfig(capacity, txCapacity, 5*time.Millisecond, math.MaxInt32))
	})
}

func decode(t *testing.T, props ...component.Property) (*Channel, []component.Finding, error) {
	t.Helper()
	cfg := new(config)
	findings := component.Decode(component.Default(), cfg, props)
	ch, err := cfg.NewChannel(component.Env{})
	c, _ := ch.(*Channel)
	return c, findings, err
}

func TestConfig(t *testing.T) {
	// Flume falls back to 100 for what is not a positive number.
	c, findings, err := decode(t, component.Property{Key: "capacity", Value: "lots"}, component.Property{Key: "transactionCapacity", Value: "-1"})
	if err != nil || c.cfg.Capacity != 100 || c.cfg.TransactionCapacity != 100 || len(findings) != 2 {
		t.Errorf("bad numbers: %+v, findings %v, %v", c, findings, err)
	}
	var ke *component.KeyError
	if _, _, err := decode(t, component.Property{Key: "transactionCapacity", Value: "101"}); !errors.As(err, &ke) || ke.Key != "transactionCapacity" {
		t.Errorf("transactionCapacity above capacity: %v", err)
	}
	if c, _, _ := decode(t, component.Property{Key: "byteCapacity", Value: "0"}); c.cfg.Slots != math.MaxInt32 {
		t.Errorf("byteCapacity 0: %d slots", c.cfg.Slots)
	}
	if c, _, _ := decode(t, component.Property{Key: "byteCapacity", Value: "2000"}); c.cfg.Slots != 16 {
		t.Errorf("byteCapacity 2000: %d slots, want 16 (20 %% are set aside)", c.cfg.Slots)
	}
}

func TestByteCapacity(t *testing.T) {
	p := event.NewPool()
	c := New(testConfig(1000, 1000, time.Millisecond, 10))
	put := func(size int) error {
		b := p.NewBatch()
		defer b.Release()
		b.Append(make([]byte, size))
		return c.Put(context.Background(), b)
	}
	if err := put(1001); !component.IsPermanent(err) {
		t.Errorf("a body that can never fit: %v", err)
	}
	for _, size := range []int{0, 100, 101, 500} { // 1 + 1 + 2 + 5 slots
		if err := put(size); err != nil {
			t.Fatalf("put %d bytes: %v", size, err)
		}
	}
	if err := put(101); !errors.Is(err, component.ErrFull) {
		t.Errorf("put beyond the bytes: %v", err)
	}
	tk := c.NewTaker()
	l, _ := tk.Take(context.Background(), 4)
	if err := l.Rollback(); err != nil {
		t.Fatal(err)
	}
	if err := put(101); !errors.Is(err, component.ErrFull) {
		t.Errorf("a rollback must not free bytes: %v", err)
	}
	l, _ = tk.Take(context.Background(), 4)
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := put(1000); err != nil {
		t.Errorf("put into the emptied channel: %v", err)
	}
	if s := c.Stats(); s.Bytes <= 0 || s.Size != 1 {
		t.Errorf("stats: %+v", s)
	}
}

func TestPutTakeCommitDoNotAllocate(t *testing.T) {
	p := event.NewPool()
	c := New(testConfig(10000, 1000, time.Second, math.MaxInt32))
	tk := c.NewTaker()
	b := p.NewBatch()
	for range 1000 {
		b.Append(bytes.Repeat([]byte("x"), 48))
	}
	ctx := context.Background()
	round := func() {
		if err := c.Put(ctx, b); err != nil {
			t.Fatal(err)
		}
		for range 2 {
			l, err := tk.Take(ctx, 500)
			if err != nil || len(l.Events()) != 500 {
				t.Fatal(err)
			}
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
		}
	}
	round()
	if n := testing.AllocsPerRun(100, round); n != 0 {
		t.Errorf("%v allocations in a put and two takes", n)
	}
}

func BenchmarkPutTakeCommit(b *testing.B) {
	for _, n := range []int{1, 10, 100, 1000} {
		b.Run(map[int]string{1: "batch=1", 10: "batch=10", 100: "batch=100", 1000: "batch=1000"}[n], func(b *testing.B) {
			p := event.NewPool()
			c := New(testConfig(10000, 1000, time.Second, math.MaxInt32))
			tk := c.NewTaker()
			batch := p.NewBatch()
			for range n {
				batch.Append(bytes.Repeat([]byte("x"), 128))
			}
			ctx := context.Background()
			b.ReportAllocs()
			for b.Loop() {
				_ = c.Put(ctx, batch)
				l, _ := tk.Take(ctx, n)
				_ = l.Commit()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*n), "ns/event")
		})
	}
}
