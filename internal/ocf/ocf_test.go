package ocf

import (
	"bytes"
	"errors"
	"io"
	"testing"
)

var sync16 = [SyncLen]byte{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}

func file(codec string) []byte {
	p := AppendHeader(nil, []KV{{"avro.schema", []byte(`"long"`)}, {"avro.codec", []byte(codec)}}, sync16)
	p = AppendBlock(p, 1, []byte{2}, sync16)
	return AppendBlock(p, 2, []byte{4, 6}, sync16)
}

func TestReadBack(t *testing.T) {
	p := file("null")
	r, size := bytes.NewReader(p), int64(len(p))
	h, err := ReadHeader(r, size)
	if err != nil || string(h.Meta["avro.schema"]) != `"long"` || h.Codec() != "null" || h.Sync != sync16 {
		t.Fatalf("%+v, %v", h, err)
	}
	b1, err := h.ReadBlock(r, size, h.Len)
	if err != nil || b1.Count != 1 || b1.Marker() != h.Len-SyncLen {
		t.Fatalf("%+v, %v", b1, err)
	}
	b2, err := h.ReadBlock(r, size, b1.Next)
	if err != nil || b2.Count != 2 || b2.Next != size {
		t.Fatalf("%+v, %v", b2, err)
	}
	data := make([]byte, b2.Size)
	if err := b2.ReadData(r, data); err != nil || data[1] != 6 {
		t.Errorf("% x, %v", data, err)
	}
	if _, err := h.ReadBlock(r, size, b2.Next); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	for _, s := range []struct{ from, want int64 }{
		{0, h.Len}, {h.Len - 16, h.Len}, {h.Len, b1.Next}, {b2.Marker(), b2.Start}, {b2.Marker() + 1, size}, {size, size},
	} {
		if got, err := h.Seek(r, size, s.from); got != s.want || err != nil {
			t.Errorf("Seek(%d) = %d, %v; want %d", s.from, got, err, s.want)
		}
	}
	if _, err := h.ReadBlock(r, size-1, b2.Start); !errors.Is(err, ErrTorn) {
		t.Errorf("torn block: %v", err)
	}
	p[b2.Next-1]++
	if _, err := h.ReadBlock(r, size, b2.Start); err == nil {
		t.Error("a damaged marker went unnoticed")
	}
}

func TestReadHeaderErrors(t *testing.T) {
	whole := file("null")
	for _, p := range [][]byte{{}, []byte("Ob"), []byte("text, not Avro"), whole[:20], append([]byte(magic), 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01)} {
		if _, err := ReadHeader(bytes.NewReader(p), int64(len(p))); err == nil {
			t.Errorf("%q: no error", p)
		}
	}
}

func TestUnknownCodec(t *testing.T) {
	if err := CheckCodec("xz"); err == nil {
		t.Error("xz is known")
	}
	if _, err := Decompress("xz", nil, nil); err == nil {
		t.Error("xz was decompressed")
	}
}

func FuzzFile(f *testing.F) {
	for _, c := range []string{"null", "deflate", "snappy", "zstandard", "bzip2"} {
		f.Add(file(c))
	}
	f.Fuzz(func(t *testing.T, p []byte) {
		r, size := bytes.NewReader(p), int64(len(p))
		h, err := ReadHeader(r, size)
		if err != nil {
			return
		}
		for at := h.Len; ; {
			b, err := h.ReadBlock(r, size, at)
			if err != nil {
				break
			}
			if b.Next <= at || b.Next > size {
				t.Fatalf("block at %d goes on at %d of %d", at, b.Next, size)
			}
			data := make([]byte, b.Size)
			if err := b.ReadData(r, data); err != nil {
				t.Fatal(err)
			}
			if len(data) < 1<<12 { // the library's own limits are not ours to test
				_, _ = Decompress(h.Codec(), data, func(n int) []byte { return make([]byte, n) })
			}
			at = b.Next
		}
	})
}
