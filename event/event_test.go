package event

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
)

// fill adds n events, every other one with two headers, by copy.
func fill(b *Batch, n int) {
	for i := range n {
		var hs []KV
		if i%2 == 1 {
			hs = []KV{{"a", fmt.Appendf(nil, "a%d", i)}, {"null", nil}}
		}
		b.AppendEvent(fmt.Appendf(nil, "body %d", i), hs)
	}
}

func dump(evs []Event) string {
	var sb bytes.Buffer
	for _, e := range evs {
		fmt.Fprintf(&sb, "%s", e.Body)
		for _, h := range e.Headers {
			if h.Value == nil {
				fmt.Fprintf(&sb, " %s=<null>", h.Key)
			} else {
				fmt.Fprintf(&sb, " %s=%s", h.Key, h.Value)
			}
		}
		sb.WriteByte('\n')
	}
	return sb.String()
}

func TestBatchHeaders(t *testing.T) {
	p := NewPool()
	b := p.NewBatch()
	fill(b, 4)
	b.SetHeaderAll("s", []byte("1"), false)
	b.SetHeaderAll("s", []byte("2"), true) // preserved
	b.SetHeader(0, "x", []byte("x0"))      // must not show up in event 2, which shared the list
	b.SetHeader(0, "y", []byte("y0"))      // grows in place
	b.SetHeader(0, "x", []byte("x1"))
	b.SetHeader(3, "a", []byte("new"))
	b.DelHeader(1, "a")
	b.DelHeader(2, "s")
	if b.DelHeader(2, "missing") {
		t.Error("DelHeader of a header that is not set answered true")
	}
	want := "body 0 s=1 x=x1 y=y0\nbody 1 null=<null> s=1\nbody 2\nbody 3 a=new null=<null> s=1\n"
	if got := dump(b.Events()); got != want {
		t.Errorf("got:\n%swant:\n%s", got, want)
	}
	b.Release()
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held", n)
	}
}

// Random edits on a batch must equal the same edits on plain maps.
func TestBatchEditsAgainstModel(t *testing.T) {
	p := NewPool()
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 1))
		b := p.NewBatch()
		var model []Event
		set := func(e *Event, k string, v []byte) {
			for i := range e.Headers {
				if e.Headers[i].Key == k {
					e.Headers[i].Value = v
					return
				}
			}
			e.Headers = append(e.Headers, KV{k, v})
		}
		for range 60 {
			k, v := string(rune('a'+r.IntN(5))), fmt.Appendf(nil, "%d", r.Uint32())
			switch op := r.IntN(9); {
			case op <= 1 || len(model) == 0:
				body := bytes.Repeat([]byte{byte('A' + r.IntN(26))}, r.IntN(3000))
				b.Append(body)
				model = append(model, Event{Body: body})
			case op == 2:
				b.SetHeaderAll(k, v, r.IntN(2) == 0)
				// The model cannot see preserve: read the outcome per event.
				for i := range model {
					got, _ := b.Events()[i].Header(k)
					set(&model[i], k, bytes.Clone(got))
				}
			case op == 3:
				i := r.IntN(len(model))
				b.DelHeader(i, k)
				hs := model[i].Headers[:0:0]
				for _, h := range model[i].Headers {
					if h.Key != k {
						hs = append(hs, h)
					}
				}
				model[i].Headers = hs
			case op == 4:
				i := r.IntN(len(model))
				b.SetBody(i, v)
				model[i].Body = v
			case op == 5 && r.IntN(4) == 0:
				cut := byte('A' + r.IntN(26))
				keep := func(e *Event) bool { return len(e.Body) == 0 || e.Body[0] != cut }
				b.Keep(keep)
				w := model[:0:0]
				for _, e := range model {
					if keep(&e) {
						w = append(w, e)
					}
				}
				model = w
			case op == 6 && r.IntN(4) == 0:
				tail := NewTail(p)
				tail.Compact(b)
				tail.Close()
			case op == 7:
				i := r.IntN(len(model))
				var hs []KV
				for _, j := range r.Perm(5)[:r.IntN(4)] {
					hs = append(hs, KV{string(rune('a' + j)), v[:1+j]})
					set(&model[i], hs[len(hs)-1].Key, hs[len(hs)-1].Value)
				}
				b.SetHeaders(i, hs)
			default:
				i := r.IntN(len(model))
				b.SetHeader(i, k, v)
				set(&model[i], k, v)
			}
			if got, want := dump(b.Events()), dump(model); got != want {
				t.Fatalf("seed %d: got:\n%.600s\nwant:\n%.600s", seed, got, want)
			}
		}
		b.Release()
	}
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held", n)
	}
}

func TestBlockSharedByBatches(t *testing.T) {
	p := NewPool()
	blk := p.Block(100)
	n := copy(blk.Free(), "one\ntwo\n")
	data := blk.Extend(n)
	b1, b2 := p.NewBatch(), p.NewBatch()
	b1.Attach(blk)
	b1.Attach(blk)
	b1.Add(data[:3])
	b2.Share(b1, 0)
	b1.Release()
	blk.Release()
	if got := string(b2.Events()[0].Body); got != "one" {
		t.Errorf("shared body = %q", got)
	}
	if cap(b2.Events()[0].Body) != 3 {
		t.Error("an append to a body could overwrite its neighbour")
	}
	b2.Release()
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held", n)
	}
}

func TestSparse(t *testing.T) {
	p := NewPool()
	b := p.NewBatch()
	for range 1000 {
		b.Append(bytes.Repeat([]byte("x"), 48))
	}
	if b.Sparse() {
		t.Error("a full batch is not sparse")
	}
	i := 0
	b.Keep(func(*Event) bool { i++; return i%10 == 0 })
	if !b.Sparse() {
		t.Error("a tenth of a batch is sparse")
	}
	tail := NewTail(p)
	tail.Compact(b)
	if b.Sparse() {
		t.Error("a compacted batch is not sparse")
	}
	b.Release()
	tail.Close()
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks still held", n)
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	p := NewPool()
	line := bytes.Repeat([]byte("0123456789"), 5)
	value := []byte("car-batch-log")
	odd := 0
	keep := func(*Event) bool { odd++; return odd&1 == 0 }
	round := func() {
		b := p.NewBatch()
		for range 1000 {
			b.Append(line)
		}
		b.SetHeaderAll("logType", value, true)
		for i := range b.Events() {
			b.SetHeader(i, "n", line[:4])
		}
		b.Keep(keep)
		b.Release()
	}
	round()
	if n := testing.AllocsPerRun(50, round); n > 20 { // the race detector drops pooled things at random, and so may a GC
		t.Errorf("%.1f allocations per batch of 1000 events", n)
	}
}

func BenchmarkAppendHeaderKeep(b *testing.B) {
	p := NewPool()
	line := bytes.Repeat([]byte("0123456789"), 5)
	keep := func(e *Event) bool { return e.Body[0] == '0' }
	b.ReportAllocs()
	for b.Loop() {
		batch := p.NewBatch()
		for range 1000 {
			batch.Append(line)
		}
		batch.SetHeaderAll("logType", line[:3], true)
		batch.Keep(keep)
		batch.Release()
	}
}

// A batch that is compacted again holds the tail's block from the first time
// already: it must go on holding it when its old blocks go.
func TestCompactedTwice(t *testing.T) {
	p := NewPool()
	tail := NewTail(p)
	b := p.NewBatch()
	for i := range 20 {
		b.AppendEvent(fmt.Appendf(nil, "body %d", i), []KV{{Key: "n", Value: fmt.Appendf(nil, "%d", i)}})
	}
	tail.Compact(b)
	part := p.NewBatch()
	part.Share(b, 3)
	part.Share(b, 17)
	tail.Compact(part) // as a selector does with a small share
	b.Release()
	tail.Close()
	if p.Outstanding() == 0 {
		t.Fatal("nobody holds what the events view")
	}
	for range 3 { // whoever takes the block now writes over it
		o := p.NewBatch()
		for range 20 {
			o.AppendEvent([]byte("XXXXXXXXXXXXXXXX"), []KV{{Key: "X", Value: []byte("XXXX")}})
		}
		tail := NewTail(p)
		tail.Compact(o)
		tail.Close()
		o.Release()
	}
	for i, want := range []string{"3", "17"} {
		e := &part.Events()[i]
		if n, _ := e.Header("n"); string(n) != want || string(e.Body) != "body "+want {
			t.Errorf("event %d has become %q, header n = %q", i, e.Body, n)
		}
	}
	part.Release()
	if n := p.Outstanding(); n != 0 {
		t.Errorf("%d blocks are never given back", n)
	}
}
