package record

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"runtime"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/race"

	"github.com/klauspost/compress/s2"
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

// wide compresses with a window of 128 MiB, which zstd's highest levels announce.
func wide(t *testing.T, plain []byte) []byte {
	t.Helper()
	b := compress(t, plain, Zstd, func(b []byte) []byte {
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
	})
	var f zstd.Header
	if err := f.Decode(b[HeaderSize:]); err != nil || f.WindowSize <= maxWindow {
		t.Fatalf("window of %d, %v", f.WindowSize, err)
	}
	return b
}

// TestWideWindow: a batch with a window larger than a stream's decoder keeps is checked, searched, opened and read like
// any other, also behind a frame with a small one.
func TestWideWindow(t *testing.T) {
	plain := sample(100)
	small := codecs(t)["4 zstd"](plain[HeaderSize:][:500])
	rest := bytes.Clone(plain[:HeaderSize])
	two := compress(t, plain, Zstd, func([]byte) []byte {
		return append(bytes.Clone(small), wide(t, append(rest, plain[HeaderSize+500:]...))[HeaderSize:]...)
	})
	for name, b := range map[string][]byte{"one frame": wide(t, plain), "behind another": two} {
		h, err := Check(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := CheckCompressed(&h, b, testLimit); err != nil {
			t.Errorf("%s: check: %v", name, err)
		}
		n := 0
		if err := Stamps(t.Context(), b, func(int64, int64) bool { n++; return true }); err != nil || n != 100 {
			t.Errorf("%s: %d stamps, %v", name, n, err)
		}
		if o, _, err := Open(b, nil, testLimit); err != nil || !bytes.Equal(o.body, plain[HeaderSize:]) {
			t.Errorf("%s: open: %v", name, err)
		}
		n = 0
		if err := Each(b, func(*Full) error { n++; return nil }); err != nil || n != 100 {
			t.Errorf("%s: %d records, %v", name, n, err)
		}
	}
	b := wide(t, Append(nil, Header{}, Record{Value: make([]byte, testLimit)}))
	h, err := Check(b)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err = CheckCompressed(&h, b, testLimit); !errors.Is(err, ErrTooLarge) {
		t.Errorf("check: %v, want %v", err, ErrTooLarge)
	}
	if _, _, err = Open(b, nil, testLimit); !errors.Is(err, ErrTooLarge) {
		t.Errorf("open: %v, want %v", err, ErrTooLarge)
	}
}

// TestOpenStopsAtItsLimit: what a bomb takes in memory goes by the limit, not by what the bomb holds.
func TestOpenStopsAtItsLimit(t *testing.T) {
	const limit = 1 << 20
	bomb := Append(nil, Header{}, Record{Value: make([]byte, 64<<20)})
	for name, c := range codecs(t) {
		b := compress(t, bomb, Codec(name[0]-'0'), c)
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		_, _, err := Open(b, nil, limit)
		runtime.ReadMemStats(&after)
		if !errors.Is(err, ErrTooLarge) {
			t.Errorf("%s: %v, want %v", name, err, ErrTooLarge)
		}
		if grown := after.TotalAlloc - before.TotalAlloc; grown > 16*limit+2*maxWindow {
			t.Errorf("%s: %d bytes for a limit of %d", name, grown, limit)
		}
	}
}

// TestStampsEndWithTheirContext: also within a record that goes on for ever.
func TestStampsEndWithTheirContext(t *testing.T) {
	plain := Append(nil, Header{}, Record{Value: []byte("small")}, Record{Value: make([]byte, 20<<20)}, Record{Value: []byte("small")})
	for name, c := range codecs(t) {
		ctx, cancel := context.WithCancel(t.Context())
		n := 0
		err := Stamps(ctx, compress(t, plain, Codec(name[0]-'0'), c), func(int64, int64) bool {
			if n++; n == 2 {
				cancel()
			}
			return true
		})
		cancel()
		if !errors.Is(err, context.Canceled) || n != 2 {
			t.Errorf("%s: %v after %d records", name, err, n)
		}
	}
}

// TestS2IsNotSnappy: S2's encoder writes copies that Kafka's snappy and its clients take for corrupt.
func TestS2IsNotSnappy(t *testing.T) {
	recs := make([]Record, 200)
	for i := range recs {
		recs[i] = Record{Timestamp: int64(i), Key: fmt.Appendf(nil, "key %d", i*i*7919), Value: []byte(strings.Repeat("some value ", 20))}
	}
	plain := Append(nil, Header{}, recs...)
	for name, tt := range map[string]struct {
		encode func(dst, src []byte) []byte
		ok     bool
	}{
		"snappy": {s2.EncodeSnappy, true}, "snappy, better": {s2.EncodeSnappyBetter, true}, "snappy, best": {s2.EncodeSnappyBest, true},
		"s2": {s2.Encode, false}, "s2, better": {s2.EncodeBetter, false}, "s2, best": {s2.EncodeBest, false},
	} {
		bare := compress(t, plain, Snappy, func(b []byte) []byte { return tt.encode(nil, b) })
		framed := compress(t, plain, Snappy, func(b []byte) []byte {
			block := tt.encode(nil, b)
			out := append(bytes.Clone(xerialHeader), 0, 0, 0, 1, 0, 0, 0, 1)
			out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
			return append(out, block...)
		})
		for _, b := range [][]byte{bare, framed} {
			h, err := Check(b)
			if err != nil {
				t.Fatal(err)
			}
			if _, _, err = CheckCompressed(&h, b, testLimit); tt.ok != (err == nil) || !tt.ok && !errors.Is(err, ErrInvalid) {
				t.Errorf("%s: %v", name, err)
			}
		}
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
			t.Fatalf("taken, and cannot be opened: %v", oerr)
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
