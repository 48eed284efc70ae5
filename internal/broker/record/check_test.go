package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"

	"github.com/sluice-data/sluice/internal/race"

	"github.com/klauspost/compress/zstd"
)

const testLimit = 4 << 20

// TestCheckCompressed breaks batches before they are compressed, and after it. Small records lie in the checker's window,
// large ones do not.
func TestCheckCompressed(t *testing.T) {
	large := Append(nil, Header{}, Record{Timestamp: 5000, Key: []byte("k"), Value: bytes.Repeat([]byte("large"), 40_000)},
		Record{Timestamp: 4000, Value: make([]byte, 70_000)})
	for name, c := range codecs(t) {
		codec := Codec(name[0] - '0')
		for size, plain := range map[string][]byte{"small": full(t), "many": sample(400), "large": large} {
			t.Run(name+"/"+size, func(t *testing.T) {
				ph, err := ParseHeader(plain)
				if err != nil {
					t.Fatal(err)
				}
				low, high, err := CheckPlain(&ph, plain)
				if err != nil {
					t.Fatal(err)
				}
				check := func(b []byte) (int64, int64, error) {
					h, err := Check(b)
					if err != nil {
						t.Fatal(err)
					}
					return CheckCompressed(&h, b, testLimit)
				}
				// Broken and whole ones in turn: a decoder that is used again must not remember.
				refuse := func(what string, b []byte, want error) {
					t.Helper()
					if _, _, err := check(b); !errors.Is(err, want) {
						t.Errorf("%s: %v, want %v", what, err, want)
					}
					l, h, err := check(compress(t, plain, codec, c))
					if err != nil || l != low || h != high {
						t.Fatalf("whole, after %s: %d to %d, want %d to %d: %v", what, l, h, low, high, err)
					}
				}
				inner := func(f func(b []byte) []byte) []byte {
					return compress(t, plain, codec, func(b []byte) []byte { return c(f(bytes.Clone(b))) })
				}
				outer := func(f func(b []byte) []byte) []byte {
					return compress(t, plain, codec, func(b []byte) []byte { return f(c(b)) })
				}
				count := func(n int32) []byte {
					b := compress(t, plain, codec, c)
					h, err := ParseHeader(b)
					if err != nil {
						t.Fatal(err)
					}
					h.Count, h.LastOffsetDelta = h.Count+n, h.LastOffsetDelta+n
					Put(b, h)
					return b
				}
				refuse("one more in the header", count(1), ErrInvalid)
				refuse("one less in the header", count(-1), ErrInvalid)
				refuse("not compressed", compress(t, plain, codec, func(b []byte) []byte { return b }), ErrInvalid)
				refuse("nothing", compress(t, plain, codec, func([]byte) []byte { return nil }), ErrInvalid)
				refuse("cut records", inner(func(b []byte) []byte { return b[:len(b)-1] }), ErrInvalid)
				refuse("a byte more", inner(func(b []byte) []byte { return append(b, 0) }), ErrInvalid)
				refuse("cut stream", outer(func(b []byte) []byte { return b[:len(b)/2] }), ErrInvalid)
				refuse("stream without its last byte", outer(func(b []byte) []byte { return b[:len(b)-1] }), ErrInvalid)
				refuse("last record's header count", inner(func(b []byte) []byte { b[len(b)-1] ^= 0x55; return b }), ErrInvalid)
				refuse("first record's length", inner(func(b []byte) []byte { b[0] ^= 2; return b }), ErrInvalid)
				refuse("first record's offset delta", inner(func(b []byte) []byte {
					_, w := binary.Varint(b)
					_, w2 := binary.Varint(b[w+1:])
					b[w+1+w2] = 2
					return b
				}), ErrInvalid)
				refuse("bomb", inner(func(b []byte) []byte {
					return append(binary.AppendVarint(nil, 2*testLimit), make([]byte, 2*testLimit)...)
				}), ErrTooLarge)
			})
		}
	}
}

// TestCheckWideWindow: zstd's highest levels announce a window larger than the checker keeps.
func TestCheckWideWindow(t *testing.T) {
	encode := func(b []byte) []byte {
		var out bytes.Buffer
		w, err := zstd.NewWriter(&out, zstd.WithWindowSize(maxWideWindow), zstd.WithEncoderConcurrency(1), zstd.WithSingleSegment(false))
		if err != nil {
			t.Fatal(err)
		}
		// Written in pieces, so that the frame does not tell its size and needs its window.
		for len(b) > 0 {
			n := min(len(b), 1000)
			if _, err := w.Write(b[:n]); err != nil {
				t.Fatal(err)
			}
			if err := w.Flush(); err != nil {
				t.Fatal(err)
			}
			b = b[n:]
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	check := func(plain []byte) error {
		b := compress(t, plain, Zstd, encode)
		var f zstd.Header
		if err := f.Decode(b[HeaderSize:]); err != nil || f.WindowSize <= maxWindow {
			t.Fatalf("window of %d, %v", f.WindowSize, err)
		}
		h, err := Check(b)
		if err != nil {
			t.Fatal(err)
		}
		_, _, err = CheckCompressed(&h, b, testLimit)
		return err
	}
	if err := check(sample(100)); err != nil {
		t.Error(err)
	}
	if err := check(Append(nil, Header{}, Record{Value: make([]byte, testLimit)})); !errors.Is(err, ErrTooLarge) {
		t.Errorf("%v, want %v", err, ErrTooLarge)
	}
}

// TestCheckCompressedAllocates: what a batch may cost once the decoders are there.
func TestCheckCompressedAllocates(t *testing.T) {
	if race.Enabled {
		t.Skip("NOT CHECKED: allocations per batch, as pools forget under the race detector; a run without it checks them")
	}
	plain := sample(180)
	for name, c := range codecs(t) {
		b := compress(t, plain, Codec(name[0]-'0'), c)
		h, err := Check(b)
		if err != nil {
			t.Fatal(err)
		}
		// Our own pool is left out; the libraries' cannot be.
		ck := &checker{buf: make([]byte, 64<<10)}
		got := testing.AllocsPerRun(100, func() {
			if _, _, err := ck.check(&h, b[HeaderSize:], testLimit); err != nil {
				t.Fatal(err)
			}
			ck.release()
		})
		if got > 1 {
			t.Errorf("%s: %v allocations", name, got)
		}
	}
}

// FuzzCheckCompressed: the checker says of a batch what CheckPlain says of its opened records.
func FuzzCheckCompressed(f *testing.F) {
	for name, c := range codecs(f) {
		f.Add(compress(f, full(f), Codec(name[0]-'0'), c))
		f.Add(compress(f, sample(400), Codec(name[0]-'0'), c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil || h.Size() != int64(len(b)) || h.Codec() == None || h.Codec() > Zstd {
			return
		}
		low, high, err := CheckCompressed(&h, b, testLimit)
		if err != nil {
			return
		}
		o, _, oerr := Open(b, nil, testLimit)
		if oerr != nil {
			if !errors.Is(oerr, zstd.ErrWindowSizeExceeded) {
				t.Fatalf("taken, and cannot be opened: %v", oerr)
			}
			return
		}
		if l, hi, err := o.Check(); err != nil || l != low || hi != high {
			t.Fatalf("taken with times %d to %d; opened %d to %d, %v", low, high, l, hi, err)
		}
	})
}

func BenchmarkCheckCompressed(b *testing.B) {
	recs := make([]Record, 160)
	for i := range recs {
		v := make([]byte, 95)
		for j := range v { // half of it compresses
			v[j] = "0123456789abcdef"[(i*j*j+j*7)%16]
		}
		recs[i] = Record{Timestamp: int64(i), Value: v}
	}
	plain := Append(nil, Header{}, recs...)
	for name, c := range codecs(b) {
		b.Run(name, func(b *testing.B) {
			batch := compress(b, plain, Codec(name[0]-'0'), c)
			h, err := Check(batch)
			if err != nil {
				b.Fatal(err)
			}
			b.SetBytes(int64(len(plain)))
			b.ReportAllocs()
			for b.Loop() {
				if _, _, err := CheckCompressed(&h, batch, testLimit); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
