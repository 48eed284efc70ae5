package pseudotxnmemory

import (
	"context"
	"errors"
	"strconv"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

func open(t *testing.T, capacity int, keepAlive string) component.Channel {
	t.Helper()
	cfg := new(config)
	if f := component.Decode(component.Default(), cfg, []component.Property{
		{Key: "capacity", Value: strconv.Itoa(capacity)}, {Key: "keep-alive", Value: keepAlive}}); len(f) > 0 {
		t.Fatal(f)
	}
	ch, err := cfg.NewChannel(component.Env{})
	if err != nil {
		t.Fatal(err)
	}
	return ch
}

func TestConformance(t *testing.T) {
	channeltest.Run(t, func(t *testing.T, capacity, _ int) component.Channel { return open(t, capacity, "5ms") })
}

func TestDefaults(t *testing.T) {
	cfg := new(config)
	if f := component.Decode(component.Default(), cfg, nil); len(f) > 0 {
		t.Fatal(f)
	}
	ch, err := cfg.NewChannel(component.Env{})
	if err != nil || ch.Stats().Capacity != 50 || ch.TransactionCapacity() != 0 {
		t.Errorf("%+v, transaction capacity %d, %v", ch.Stats(), ch.TransactionCapacity(), err)
	}
	cfg = new(config)
	if f := component.Decode(component.Default(), cfg, []component.Property{{Key: "capacity", Value: "0"}}); len(f) != 1 || !f[0].Error {
		t.Errorf("capacity 0: %v", f)
	}
}

// A batch that is larger than the channel waits until that is empty, and then goes in as a whole.
func TestLargeBatch(t *testing.T) {
	ch := open(t, 2, "0")
	p := event.NewPool()
	b := p.NewBatch()
	defer b.Release()
	for i := range 7 {
		b.Append([]byte(strconv.Itoa(i)))
	}
	one := p.NewBatch()
	defer one.Release()
	one.Append([]byte("first"))
	ctx := context.Background()
	if err := ch.Put(ctx, one); err != nil {
		t.Fatal(err)
	}
	if err := ch.Put(ctx, b); !errors.Is(err, component.ErrFull) {
		t.Fatalf("put beside another event: %v", err)
	}
	tk := ch.NewTaker()
	l, err := tk.Take(ctx, 10)
	if err != nil || len(l.Events()) != 1 {
		t.Fatal(l, err)
	}
	if err := ch.Put(ctx, b); !errors.Is(err, component.ErrFull) {
		t.Fatalf("put beside an open take: %v", err)
	}
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	if err := ch.Put(ctx, b); err != nil {
		t.Fatal(err)
	}
	if l, err = tk.Take(ctx, 10); err != nil || len(l.Events()) != 7 {
		t.Fatal(l, err)
	}
	if err := l.Rollback(); err != nil {
		t.Fatal(err)
	}
	if l, err = tk.Take(ctx, 10); err != nil || len(l.Events()) != 7 || string(l.Events()[6].Body) != "6" {
		t.Fatal(l, err)
	}
}
