package kafka

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// What is taken in any order, by any pieces, is what a map of all offsets says.
func TestPartTakes(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 1))
		const n = 60
		p := &part{low: 10, pos: n}
		taken := make(map[int64]bool)
		for len(taken) < n-10 {
			from := 10 + rng.Int64N(n-10)
			to := min(n, from+1+rng.Int64N(6))
			for at := from; at < to; at++ { // an event is taken once
				if taken[at] {
					to = at
				}
			}
			if from >= to {
				continue
			}
			for at := from; at < to; at++ {
				taken[at] = true
			}
			p.dirty = false
			p.take(span{from, to})
			low := int64(10)
			for taken[low] {
				low++
			}
			if p.low != low || !p.dirty {
				t.Fatalf("seed %d: low is %d, want %d: %v", seed, p.low, low, p.done)
			}
			for at := range int64(n + 3) {
				if got := p.isTaken(at); got != (at < 10 || taken[at]) {
					t.Fatalf("seed %d: offset %d taken: %v; low %d, %v", seed, at, got, p.low, p.done)
				}
			}
			last := p.low
			for _, d := range p.done {
				if d.from <= last || d.to <= d.from {
					t.Fatalf("seed %d: low %d, %v", seed, p.low, p.done)
				}
				last = d.to
			}
			again, err := parseMetadata(p.metadata(), p.low)
			if err != nil || fmt.Sprint(again) != fmt.Sprint(p.done) {
				t.Fatalf("seed %d: %q: %v, %v, want %v", seed, p.metadata(), again, err, p.done)
			}
			if beyond := (&part{low: p.low, pos: p.low, end: n, done: p.done}).behind(); beyond != int64(n-10-len(taken)) {
				t.Fatalf("seed %d: %d events are behind, want %d", seed, beyond, n-10-len(taken))
			}
		}
	}
}

func TestMetadata(t *testing.T) {
	p := &part{low: 100, done: []span{{110, 115}, {120, 121}}}
	if got := p.metadata(); got != "sluice:10+5 5+1" {
		t.Errorf("%q", got)
	}
	// What does not fit is left out, from the end.
	p = &part{low: 0}
	for i := range int64(3000) {
		p.done = append(p.done, span{1000*i + 1, 1000*i + 2})
	}
	m := p.metadata()
	if len(m) > maxMeta {
		t.Errorf("%d bytes", len(m))
	}
	done, err := parseMetadata(m, 0)
	if err != nil || len(done) < 300 || fmt.Sprint(done) != fmt.Sprint(p.done[:len(done)]) {
		t.Errorf("%d ranges, %v", len(done), err)
	}
	for _, s := range []string{"", "3f2504e0-4f89-11d3-9a0c-0305e82c3301"} { // as Flume's
		if done, err := parseMetadata(s, 7); err != nil || done != nil {
			t.Errorf("%q: %v, %v", s, done, err)
		}
	}
	for _, s := range []string{"sluice:", "sluice:1", "sluice:0+1", "sluice:1+0", "sluice:1+1 ", "sluice:-1+2", "sluice:9223372036854775807+1", "sluice:1+9223372036854775807"} {
		if done, err := parseMetadata(s, 7); err == nil || done != nil || !strings.Contains(err.Error(), "metadata") {
			t.Errorf("%q: %v, %v", s, done, err)
		}
	}
}

func FuzzMetadata(f *testing.F) {
	f.Add("sluice:10+5 5+1", int64(100))
	f.Add("sluice:1+9223372036854775807", int64(1))
	f.Add("other", int64(0))
	f.Fuzz(func(t *testing.T, s string, low int64) {
		done, err := parseMetadata(s, low)
		if err != nil && done != nil {
			t.Fatal("ranges and an error")
		}
		last := low
		for _, d := range done {
			if d.from <= last || d.to <= d.from {
				t.Fatalf("%v", done)
			}
			last = d.to
		}
	})
}

func TestQueue(t *testing.T) {
	for seed := range uint64(200) {
		rng := rand.New(rand.NewPCG(seed, 2))
		var q queue
		parts := []*part{{id: 0}, {id: 1}}
		var next int64
		var held [][]entry
		gone := make(map[int64]bool)
		for range 100 {
			switch rng.IntN(5) {
			case 0, 1:
				for range rng.IntN(20) {
					q.push(entry{seq: next, size: int(next % 7), part: parts[next%2]})
					next++
				}
			case 2:
				if n := min(q.len(), rng.IntN(15)); n > 0 {
					held = append(held, q.pop(nil, n))
				}
			case 3:
				if len(held) > 0 {
					i := rng.IntN(len(held))
					q.giveBack(held[i])
					held = append(held[:i], held[i+1:]...)
				}
			default:
				if rng.IntN(10) == 0 {
					for _, e := range q.buf[q.head:] {
						gone[e.seq] = gone[e.seq] || e.part == parts[0]
					}
					q.drop(parts[0])
				}
			}
			bytes := 0
			last := int64(-1)
			for _, e := range q.buf[q.head:] {
				if e.seq <= last || gone[e.seq] {
					t.Fatalf("seed %d: %d after %d, dropped %v", seed, e.seq, last, gone[e.seq])
				}
				last = e.seq
				bytes += e.size
			}
			if bytes != q.bytes {
				t.Fatalf("seed %d: %d bytes, want %d", seed, q.bytes, bytes)
			}
		}
		for _, h := range held {
			q.giveBack(h)
		}
		want := 0
		for seq := range next {
			if !gone[seq] {
				want++
			}
		}
		if q.len() != want {
			t.Errorf("seed %d: %d entries, want %d", seed, q.len(), want)
		}
	}
}
