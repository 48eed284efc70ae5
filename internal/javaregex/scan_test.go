package javaregex

import (
	"bytes"
	"math/rand/v2"
	"testing"
)

// The searches for literals against those of package bytes.
func TestLiteral(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	letters := []byte("ab:/\x00\x01\x7f\x80\x81\xff")
	text := func(n int) []byte {
		b := make([]byte, n)
		for i := range b {
			b[i] = letters[r.IntN(len(letters))]
		}
		return b
	}
	for range 20000 {
		b := text(r.IntN(40))
		l := newLiteral(string(text(1 + r.IntN(3))))
		lo := r.IntN(len(b) + 1)
		hi := lo + r.IntN(len(b)-lo+1) // the last start that counts
		wantNext, wantLast := -1, -1
		if end := min(len(b), hi+len(l.s)); end >= lo {
			if wantNext = bytes.Index(b[lo:end], []byte(l.s)); wantNext >= 0 {
				wantNext += lo
			}
			if wantLast = bytes.LastIndex(b[lo:end], []byte(l.s)); wantLast >= 0 {
				wantLast += lo
			}
		}
		if got := l.last(b, lo, hi); got != wantLast {
			t.Fatalf("last %q in %q from %d to %d: %d, want %d", l.s, b, lo, hi, got, wantLast)
		}
		if got := l.next(b, lo, hi); got != wantNext {
			t.Fatalf("next %q in %q from %d to %d: %d, want %d", l.s, b, lo, hi, got, wantNext)
		}
	}
}
