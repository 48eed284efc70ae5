package sim

import "math/bits"

// rng is wyrand: one multiplication a draw, small enough to be inlined, and,
// unlike math/rand's top-level functions, the same on every machine and in
// every Go release, which the repeatable bytes need.
type rng struct{ s uint64 }

func (r *rng) next() uint64 {
	r.s += 0xa0761d6478bd642f
	hi, lo := bits.Mul64(r.s, r.s^0xe7037ed1a0b428db)
	return hi ^ lo
}

// below draws from [0, n), n > 0. The bias (n/2^32) is far under what any
// distribution here can show.
func (r *rng) below(n uint32) uint32 { return uint32((r.next() >> 32) * uint64(n) >> 32) }

// newRNG makes the stream of one purpose and day: a day's bytes do not depend
// on which days were written before it.
func newRNG(seed uint64, purpose, day int64) rng {
	r := rng{s: seed}
	a := r.next() ^ uint64(purpose)*0x9e3779b97f4a7c15
	r.s = a
	b := r.next() ^ uint64(day)*0xd6e8feb86659fd93
	r.s = b
	r.next()
	return r
}

// Purposes of the random streams.
const (
	purposeCars = iota + 1
	purposeStatus
	purposeStatusGarbage
	purposeDriver
	purposeDriverGarbage
)

// share32 is the fraction p of the range of a 32-bit draw.
func share32(p float64) uint64 { return uint64(p * (1 << 32)) }
