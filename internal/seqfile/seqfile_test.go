package seqfile

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/hadoopcodec"
)

// reader reads what SequenceFile.java describes.
type reader struct {
	t *testing.T
	b []byte
}

func (r *reader) take(n int) []byte {
	r.t.Helper()
	if n < 0 || n > len(r.b) {
		r.t.Fatalf("%d bytes are wanted of %d", n, len(r.b))
	}
	p := r.b[:n]
	r.b = r.b[n:]
	return p
}

func (r *reader) int() int { return int(int32(binary.BigEndian.Uint32(r.take(4)))) }

// vint is WritableUtils.readVLong.
func (r *reader) vint() int64 {
	first := int8(r.take(1)[0])
	if first >= -112 {
		return int64(first)
	}
	n, negative := -112-int(first), false
	if first < -120 {
		n, negative = -120-int(first), true
	}
	var v int64
	for _, c := range r.take(n) {
		v = v<<8 | int64(c)
	}
	if negative {
		return ^v
	}
	return v
}

func (r *reader) text() string { return string(r.take(int(r.vint()))) }

func (r *reader) unzip() *reader {
	z, err := gzip.NewReader(bytes.NewReader(r.take(int(r.vint()))))
	if err != nil {
		r.t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		r.t.Fatal(err)
	}
	return &reader{r.t, b}
}

func value(r *reader, class string) string {
	if strings.HasSuffix(class, ".Text") {
		return r.text()
	}
	return string(r.take(r.int()))
}

// read returns the records, and how many marks or blocks there are.
func read(t *testing.T, file []byte) (class string, records []string, marks int) {
	t.Helper()
	r := &reader{t, file}
	if v := string(r.take(4)); v != "SEQ\x06" {
		t.Fatalf("%q", v)
	}
	if k := r.text(); k != "org.apache.hadoop.io.LongWritable" {
		t.Fatalf("keys are %s", k)
	}
	class = r.text()
	compressed, blocks := r.take(1)[0], r.take(1)[0]
	if compressed != blocks {
		t.Fatalf("compressed %d, blocks %d", compressed, blocks)
	}
	if blocks == 1 {
		if c := r.text(); c != "org.apache.hadoop.io.compress.GzipCodec" {
			t.Fatal(c)
		}
	}
	if n := r.int(); n != 0 {
		t.Fatalf("%d metadata", n)
	}
	mark := r.take(16)
	for len(r.b) > 0 {
		n := r.int()
		if n == -1 {
			if !bytes.Equal(r.take(16), mark) {
				t.Fatal("another mark")
			}
			if marks++; blocks == 0 {
				continue
			}
			count := r.vint()
			keyLens, keys, valueLens, values := r.unzip(), r.unzip(), r.unzip(), r.unzip()
			for range count {
				if n := keyLens.vint(); n != 8 {
					t.Fatalf("a key of %d bytes", n)
				}
				key := int64(binary.BigEndian.Uint64(keys.take(8)))
				v := &reader{t, values.take(int(valueLens.vint()))}
				records = append(records, fmt.Sprint(key, " ", value(v, class)))
				if len(v.b) > 0 {
					t.Fatal("more in a value")
				}
			}
			continue
		}
		rec := &reader{t, r.take(n + 4)}
		if k := rec.int(); k != 8 {
			t.Fatalf("a key of %d bytes", k)
		}
		key := int64(binary.BigEndian.Uint64(rec.take(8)))
		records = append(records, fmt.Sprint(key, " ", value(rec, class)))
		if len(rec.b) > 0 {
			t.Fatal("more in a record")
		}
	}
	return class, records, marks
}

func TestWriter(t *testing.T) {
	gz, err := hadoopcodec.Find("gzip")
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		value Value
		codec *hadoopcodec.Codec
		marks int // at least
	}{
		{"Writable", Bytes, nil, 20}, {"Text", Text, nil, 20}, {"Writable, blocks", Bytes, gz, 3}, {"Text, blocks", Text, gz, 3},
	} {
		t.Run(tt.name, func(t *testing.T) {
			w := NewWriter(tt.value, tt.codec)
			file := w.AppendHeader(nil)
			var want []string
			for i := range 2000 {
				key := []int64{int64(i), -1, math.MaxInt64, math.MinInt64}[i%4]
				v := strings.Repeat("x", i*17%2500)
				if file, err = w.Append(file, key, []byte(v)); err != nil {
					t.Fatal(err)
				}
				want = append(want, fmt.Sprint(key, " ", v))
				if i == 700 {
					if file, err = w.End(file); err != nil {
						t.Fatal(err)
					}
				}
			}
			if file, err = w.End(file); err != nil {
				t.Fatal(err)
			}
			class, got, marks := read(t, file)
			if class != tt.value.class() || marks < tt.marks {
				t.Errorf("%s, %d marks", class, marks)
			}
			if strings.Join(got, "\n") != strings.Join(want, "\n") {
				t.Errorf("%d records, want %d", len(got), len(want))
			}
		})
	}
}

// There may be thousands of open files: what a large batch needed is not kept for each.
func TestMemory(t *testing.T) {
	gz, err := hadoopcodec.Find("gzip")
	if err != nil {
		t.Fatal(err)
	}
	w := NewWriter(Bytes, gz)
	for _, size := range []int{1000, 20 << 20, 1000} {
		if _, err := w.Append(nil, 1, make([]byte, size)); err != nil {
			t.Fatal(err)
		}
		if _, err := w.End(nil); err != nil {
			t.Fatal(err)
		}
		if n := cap(w.keyLens) + cap(w.keys) + cap(w.valueLens) + cap(w.values); n > 4*maxKept {
			t.Errorf("%d bytes are kept", n)
		}
	}
}

func TestVInt(t *testing.T) {
	for _, v := range []int64{0, 1, 127, 128, 255, 256, 65535, 1 << 40, math.MaxInt64, -1, -112, -113, -256, -257, math.MinInt64} {
		r := &reader{t, appendVInt(nil, v)}
		if got := r.vint(); got != v || len(r.b) > 0 {
			t.Errorf("%d: %d, %d bytes left", v, got, len(r.b))
		}
	}
}
