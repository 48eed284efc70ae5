package sim

import "testing"

func BenchmarkStatusLines(b *testing.B) {
	g := newStatusGen(Config{Start: "20160101", Cars: 100, Seed: 1, Garbage: 0.01, Status: true})
	var blk block
	b.ReportAllocs()
	for n := 0; n < b.N; n += 100 {
		if len(blk.buf) > flushBytes {
			blk.reset()
		}
		g.tick(&blk)
	}
}

func BenchmarkDriverLines(b *testing.B) {
	g := newDriverGen(Config{Start: "20160101", Cars: 100, Seed: 1, Garbage: 0.01, Driver: true})
	var blk block
	b.ReportAllocs()
	for b.Loop() {
		if len(blk.buf) > flushBytes {
			blk.reset()
		}
		g.unit(&blk)
	}
}
