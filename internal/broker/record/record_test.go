package record

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"math"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func sample(n int) []byte {
	recs := make([]Record, n)
	for i := range recs {
		recs[i] = Record{Timestamp: 1000 + int64(10*i), Key: []byte("k"), Value: bytes.Repeat([]byte{'v'}, i)}
	}
	return Append(nil, Header{BaseOffset: 7, LeaderEpoch: 3, ProducerID: 99, ProducerEpoch: 4, BaseSequence: 50}, recs...)
}

// TestAgainstKmsg parses the same bytes with an independent implementation.
func TestAgainstKmsg(t *testing.T) {
	b := sample(5)
	h, err := Check(b)
	if err != nil {
		t.Fatal(err)
	}
	var k kmsg.RecordBatch
	if err := k.ReadFrom(b); err != nil {
		t.Fatal(err)
	}
	want := Header{k.FirstOffset, k.Length, k.PartitionLeaderEpoch, k.Magic, uint32(k.CRC), k.Attributes, k.LastOffsetDelta,
		k.FirstTimestamp, k.MaxTimestamp, k.ProducerID, k.ProducerEpoch, k.FirstSequence, k.NumRecords}
	if h != want {
		t.Fatalf("got %+v\nkmsg %+v", h, want)
	}
	if h.LastOffset() != 11 || h.LastSequence() != 54 || h.Size() != int64(len(b)) || h.MaxTimestamp != 1040 {
		t.Fatalf("%+v", h)
	}
	raw := k.Records
	for i := range 5 {
		var r kmsg.Record
		n, w := binary.Varint(raw)
		if err := r.ReadFrom(raw[:int(n)+w]); err != nil {
			t.Fatal(err)
		}
		raw = raw[int(n)+w:]
		if r.OffsetDelta != int32(i) || r.TimestampDelta64 != int64(10*i) || string(r.Key) != "k" || len(r.Value) != i {
			t.Fatalf("record %d: %+v", i, r)
		}
	}
}

func TestParseErrors(t *testing.T) {
	b := sample(2)
	mod := func(f func(b []byte)) []byte { c := bytes.Clone(b); f(c); return c }
	for name, c := range map[string]struct {
		b    []byte
		want error
	}{
		"empty":           {nil, ErrShort},
		"60 bytes":        {b[:60], ErrShort},
		"one byte short":  {b[:len(b)-1], ErrShort},
		"magic 1":         {mod(func(b []byte) { b[16] = 1 }), ErrMagic},
		"magic 0, short":  {mod(func(b []byte) { b[16] = 0 })[:34], ErrMagic},
		"magic 3":         {mod(func(b []byte) { b[16] = 3 }), ErrMagic},
		"length too low":  {mod(func(b []byte) { binary.BigEndian.PutUint32(b[8:], 48) }), ErrCorrupt},
		"length negative": {mod(func(b []byte) { b[8] = 0xff }), ErrCorrupt},
		"length too high": {mod(func(b []byte) { b[8] = 0x7f }), ErrShort},
		"offset negative": {mod(func(b []byte) { b[0] = 0x80 }), ErrCorrupt},
		"offset overflow": {mod(func(b []byte) { binary.BigEndian.PutUint64(b, math.MaxInt64) }), ErrCorrupt},
		"delta negative":  {mod(func(b []byte) { b[23] = 0x80 }), ErrCorrupt},
		"crc":             {mod(func(b []byte) { b[17] ^= 1 }), ErrCorrupt},
		"attributes":      {mod(func(b []byte) { b[22] ^= 1 }), ErrCorrupt},
		"last byte":       {mod(func(b []byte) { b[len(b)-1] ^= 1 }), ErrCorrupt},
	} {
		if _, err := Check(c.b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestPatch(t *testing.T) {
	b := sample(3)
	SetBaseOffset(b, 1<<40)
	SetLeaderEpoch(b, 12)
	h, err := Check(b)
	if err != nil || h.BaseOffset != 1<<40 || h.LeaderEpoch != 12 {
		t.Fatalf("%+v, %v", h, err)
	}
	SetMaxTimestamp(b, 5555, true)
	if h, err = Check(b); err != nil || h.MaxTimestamp != 5555 || !h.LogAppendTime() {
		t.Fatalf("%+v, %v", h, err)
	}
	n := 0
	err = Stamps(t.Context(), b, func(o, ts int64) bool {
		if o != 1<<40+int64(n) || ts != 5555 {
			t.Errorf("record %d: offset %d, timestamp %d", n, o, ts)
		}
		n++
		return true
	})
	if err != nil || n != 3 {
		t.Fatalf("%d records, %v", n, err)
	}
	SetMaxTimestamp(b, 1020, false)
	if h, err = Check(b); err != nil || h.LogAppendTime() {
		t.Fatalf("%+v, %v", h, err)
	}
}

func TestSequenceWraps(t *testing.T) {
	for _, c := range []struct{ base, delta, want int32 }{
		{0, 0, 0}, {5, 4, 9}, {math.MaxInt32, 0, math.MaxInt32}, {math.MaxInt32, 1, 0}, {math.MaxInt32 - 1, 5, 3}, {-1, 4, -1},
	} {
		h := Header{BaseSequence: c.base, LastOffsetDelta: c.delta}
		if got := h.LastSequence(); got != c.want {
			t.Errorf("base %d + %d = %d, want %d", c.base, c.delta, got, c.want)
		}
	}
}

// compress rewrites a batch with its records compressed by f.
func compress(t testing.TB, b []byte, c Codec, f func([]byte) []byte) []byte {
	t.Helper()
	h, err := ParseHeader(b)
	if err != nil {
		t.Fatal(err)
	}
	out := append(bytes.Clone(b[:HeaderSize]), f(b[HeaderSize:])...)
	h.Attributes |= int16(c)
	Put(out, h)
	return out
}

func through(t testing.TB, b []byte, w io.WriteCloser, buf *bytes.Buffer) []byte {
	t.Helper()
	if _, err := w.Write(b); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return buf.Bytes()
}

func codecs(t testing.TB) map[string]func([]byte) []byte {
	xerial := func(b []byte) []byte {
		out := append([]byte{}, xerialHeader...)
		out = append(out, 0, 0, 0, 1, 0, 0, 0, 1)
		for len(b) > 0 {
			n := min(len(b), 100)
			block := s2.EncodeSnappy(nil, b[:n])
			b = b[n:]
			out = binary.BigEndian.AppendUint32(out, uint32(len(block)))
			out = append(out, block...)
		}
		return out
	}
	return map[string]func([]byte) []byte{
		"1 gzip":          func(b []byte) []byte { var w bytes.Buffer; return through(t, b, gzip.NewWriter(&w), &w) },
		"2 snappy":        func(b []byte) []byte { return s2.EncodeSnappy(nil, b) },
		"2 snappy xerial": xerial,
		"3 lz4":           func(b []byte) []byte { var w bytes.Buffer; return through(t, b, lz4.NewWriter(&w), &w) },
		"4 zstd": func(b []byte) []byte {
			e, err := zstd.NewWriter(nil)
			if err != nil {
				t.Fatal(err)
			}
			defer e.Close()
			return e.EncodeAll(b, nil)
		},
	}
}

func TestStampsOfEveryCodec(t *testing.T) {
	plain := sample(200)
	all := codecs(t)
	all["0 none"] = func(b []byte) []byte { return b }
	for name, f := range all {
		b := compress(t, plain, Codec(name[0]-'0'), f)
		if _, err := Check(b); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		n := int64(0)
		err := Stamps(t.Context(), b, func(o, ts int64) bool {
			if o != 7+n || ts != 1000+10*n {
				t.Fatalf("%s: record %d has offset %d, timestamp %d", name, n, o, ts)
			}
			n++
			return true
		})
		if err != nil || n != 200 {
			t.Fatalf("%s: %d records, %v", name, n, err)
		}
		n = 0
		if err := Stamps(t.Context(), b, func(int64, int64) bool { n++; return n < 3 }); err != nil || n != 3 {
			t.Fatalf("%s: stopping after %d, %v", name, n, err)
		}
		if name[0] == '0' {
			continue
		}
		cut := compress(t, plain, Codec(name[0]-'0'), func(p []byte) []byte { c := f(p); return c[:len(c)/2] })
		if err := Stamps(t.Context(), cut, func(int64, int64) bool { return true }); !errors.Is(err, ErrInvalid) {
			t.Errorf("%s cut in half: %v", name, err)
		}
	}
	if err := Stamps(t.Context(), compress(t, plain, 7, func(b []byte) []byte { return b }), nil); !errors.Is(err, ErrInvalid) {
		t.Errorf("codec 7: %v", err)
	}
}

func TestSnappyBomb(t *testing.T) {
	bomb := binary.AppendUvarint(nil, 1<<31) // a block that claims 2 GiB
	b := compress(t, sample(1), Snappy, func([]byte) []byte { return bomb })
	if err := Stamps(t.Context(), b, func(int64, int64) bool { return true }); !errors.Is(err, ErrInvalid) {
		t.Fatalf("%v", err)
	}
}

func TestCheckPlain(t *testing.T) {
	good := sample(3)
	h, _ := ParseHeader(good)
	if lo, hi, err := CheckPlain(&h, good); err != nil || lo != 1000 || hi != 1020 {
		t.Fatalf("%d, %d, %v", lo, hi, err)
	}
	// Each byte of the records, changed, must not get past both checks unnoticed where it is structure.
	rec := func(body ...byte) []byte { return append(binary.AppendVarint(nil, int64(len(body))), body...) }
	for name, c := range map[string]struct {
		body  []byte
		count int32
		ok    bool
	}{
		"no records":          {nil, 0, true},
		"null key and value":  {rec(0, 0, 0, 1, 1, 0), 1, true},
		"header, null value":  {rec(0, 0, 0, 1, 1, 2, 2, 'h', 1), 1, true},
		"one too few":         {rec(0, 0, 0, 1, 1, 0), 2, false},
		"one too many":        {rec(0, 0, 0, 1, 1, 0), 0, false},
		"offset delta 1":      {rec(0, 0, 2, 1, 1, 0), 1, false},
		"key leaves":          {rec(0, 0, 0, 40, 1, 0), 1, false},
		"value leaves":        {rec(0, 0, 0, 1, 40, 0), 1, false},
		"negative key":        {rec(0, 0, 0, 5, 1, 0), 1, false},
		"header count":        {rec(0, 0, 0, 1, 1, 1), 1, false},
		"many headers":        {rec(0, 0, 0, 1, 1, 0xfe, 0xff, 0xff, 0xff, 0x0f), 1, false},
		"null header key":     {rec(0, 0, 0, 1, 1, 2, 1, 1), 1, false},
		"left over":           {rec(0, 0, 0, 1, 1, 0, 9), 1, false},
		"empty record":        {rec(), 1, false},
		"length leaves":       {[]byte{100, 0, 0}, 1, false},
		"negative length":     {[]byte{1, 0, 0}, 1, false},
		"endless varint":      {bytes.Repeat([]byte{0xff}, 20), 1, false},
		"record without rest": {rec(0, 0, 0), 1, false},
	} {
		b := append(make([]byte, HeaderSize), c.body...)
		Put(b, Header{Count: c.count, BaseSequence: -1})
		h, err := Check(b)
		if err != nil {
			t.Fatal(err)
		}
		if _, _, err := CheckPlain(&h, b); (err == nil) != c.ok || err != nil && !errors.Is(err, ErrInvalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func FuzzHeader(f *testing.F) {
	f.Add(sample(3))
	f.Add(sample(1)[:70])
	for name, c := range codecs(f) {
		f.Add(compress(f, sample(20), Codec(name[0]-'0'), c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h, err := ParseHeader(b)
		if err != nil {
			return
		}
		if h.Size() < HeaderSize || h.LastOffset() < h.BaseOffset {
			t.Fatalf("%+v", h)
		}
		if h.Size() > int64(len(b)) {
			if _, err := Check(b); !errors.Is(err, ErrShort) {
				t.Fatalf("%v", err)
			}
			return
		}
		b = bytes.Clone(b[:h.Size()])
		if h.Codec() == None {
			_, _, perr := CheckPlain(&h, b)
			n := int32(0)
			serr := Stamps(t.Context(), b, func(int64, int64) bool { n++; return true })
			if perr == nil && (serr != nil || n != max(h.Count, 0)) {
				t.Fatalf("checked, but %d of %d records, %v", n, h.Count, serr)
			}
		} else {
			n := 0
			_ = Stamps(t.Context(), b, func(int64, int64) bool { n++; return n < 1000 })
		}
		SetMaxTimestamp(b, 77, true)
		SetBaseOffset(b, 5)
		if h, err := Check(b); err != nil || h.MaxTimestamp != 77 || h.BaseOffset != 5 {
			t.Fatalf("patched: %+v, %v", h, err)
		}
	})
}

func BenchmarkCheckPlain(b *testing.B) {
	recs := make([]Record, 1000)
	for i := range recs {
		recs[i] = Record{Timestamp: int64(i), Value: make([]byte, 100)}
	}
	batch := Append(nil, Header{ProducerID: -1, BaseSequence: -1}, recs...)
	b.SetBytes(int64(len(batch)))
	b.ReportAllocs()
	for b.Loop() {
		h, err := Check(batch)
		if err != nil {
			b.Fatal(err)
		}
		if _, _, err := CheckPlain(&h, batch); err != nil {
			b.Fatal(err)
		}
	}
}
