package spillablememory

import (
	"slices"
	"testing"
)

func TestOrder(t *testing.T) {
	var o order
	for _, r := range []run{{inMemory, 0, 3}, {inMemory, 0, 2}, {onDisk, 0, 4}, {inMemory, 0, 1}, {kept, 0, 2}} {
		o.push(r.part, r.n)
	}
	// A plan is on the memory and one other part.
	if p := o.plan(nil, 100); !slices.Equal(p, []run{{inMemory, 0, 5}, {onDisk, 5, 4}, {inMemory, 9, 1}}) {
		t.Fatal(p)
	}
	first := o.plan(nil, 7)
	if !slices.Equal(first, []run{{inMemory, 0, 5}, {onDisk, 5, 2}}) {
		t.Fatal(first)
	}
	o.drop(7)
	second := o.plan(nil, 3)
	o.drop(3)
	o.giveBack(first)
	o.giveBack(second)
	if w := o.waiting(); !slices.Equal(w, []run{{inMemory, 0, 5}, {onDisk, 5, 4}, {inMemory, 9, 1}, {kept, 10, 2}}) {
		t.Fatal(w)
	}
	o.forget(onDisk, 4)
	if w := o.waiting(); !slices.Equal(w, []run{{inMemory, 0, 5}, {inMemory, 9, 1}, {kept, 10, 2}}) {
		t.Fatal(w)
	}
}

// The list of runs does not grow with what went through it.
func TestOrderStaysSmall(t *testing.T) {
	var o order
	for i := range 100000 {
		o.push(part(i%2), 1)
		if i > 10 {
			o.drop(1)
		}
	}
	if n := cap(o.runs); n > 64 {
		t.Errorf("room for %d runs, 11 wait", n)
	}
}

func FuzzDecodeOrder(f *testing.F) {
	b, err := encodeOrder([]run{{kept, 0, 3}, {onDisk, 3, 5}, {kept, 8, 1}})
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b, int64(5), int64(4))
	f.Add([]byte(`{"format":1,"runs":[{"part":"memory","events":1}]}`), int64(1), int64(0))
	f.Add([]byte(`{"format":2}`), int64(0), int64(0))
	f.Fuzz(func(t *testing.T, b []byte, overflow, set int64) {
		o, err := decodeOrder(b, overflow, set)
		if err != nil {
			return
		}
		if d, k := int64(count(o.waiting(), onDisk)), int64(count(o.waiting(), kept)); d != overflow || k != set || count(o.waiting(), inMemory) != 0 {
			t.Fatalf("%d and %d events, want %d and %d", d, k, overflow, set)
		}
		again, err := encodeOrder(o.waiting())
		if err != nil {
			t.Fatal(err)
		}
		if o2, err := decodeOrder(again, overflow, set); err != nil || !slices.Equal(o.waiting(), o2.waiting()) {
			t.Fatalf("%v came back as %v, %v", o.waiting(), o2.waiting(), err)
		}
	})
}
