package record

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// full makes a batch with keys, nulls and headers, by franz-go's encoder.
func full(t testing.TB) []byte {
	t.Helper()
	var body []byte
	for i := range 3 {
		r := kmsg.NewRecord()
		r.OffsetDelta, r.TimestampDelta64 = int32(i), int64(i*10)
		switch i {
		case 0:
			r.Key, r.Value = []byte("k"), []byte("v")
		case 1:
			r.Value = []byte{}
			r.Headers = []kmsg.Header{{Key: "h", Value: []byte("1")}, {Key: "n"}, {Key: "h", Value: []byte{}}}
		case 2:
			r.Key = []byte{}
		}
		var b []byte
		b = r.AppendTo(b)
		r.Length = int32(len(b) - 1) // the length 0 takes a byte
		body = r.AppendTo(body)
	}
	b := append(make([]byte, HeaderSize), body...)
	Put(b, Header{BaseOffset: 100, LastOffsetDelta: 2, BaseTimestamp: 1000, MaxTimestamp: 1020, ProducerID: 7, BaseSequence: 1<<31 - 2, Count: 3})
	return b
}

func lines(t testing.TB, b []byte) []string {
	t.Helper()
	var got []string
	if err := Each(b, func(r *Full) error {
		got = append(got, fmt.Sprintf("%d %d %d %q %t %q %t %q", r.Offset, r.Timestamp, r.Sequence, r.Key, r.Key == nil, r.Value, r.Value == nil, r.Headers))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestEach(t *testing.T) {
	plain := full(t)
	want := []string{
		`100 1000 2147483646 "k" false "v" false []`,
		`101 1010 2147483647 "" true "" false [{"h" "1"} {"n" ""} {"h" ""}]`,
		`102 1020 0 "" false "" true []`,
	}
	if got := lines(t, plain); !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	for name, c := range codecs(t) {
		if got := lines(t, compress(t, plain, Codec(name[0]-'0'), c)); !slices.Equal(got, want) {
			t.Errorf("%s: %q\nwant %q", name, got, want)
		}
	}
	stop := errors.New("stop")
	if err := Each(plain, func(*Full) error { return stop }); !errors.Is(err, stop) {
		t.Error(err)
	}
}

func TestEachRefuses(t *testing.T) {
	for name, change := range map[string]func(b []byte) []byte{
		"cut":             func(b []byte) []byte { return b[:len(b)-1] },
		"more":            func(b []byte) []byte { return append(b, 0) },
		"count too small": func(b []byte) []byte { b[posCount+3]--; return b },
		"count too large": func(b []byte) []byte { b[posCount+3]++; return b },
		"record too long": func(b []byte) []byte { b[HeaderSize] += 2; return b },
		"key too long":    func(b []byte) []byte { b[HeaderSize+4] = 0x7e; return b },
	} {
		if err := Each(change(full(t)), func(*Full) error { return nil }); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// FuzzEach: a batch that the broker would take can be read, and no batch makes Each panic.
func FuzzEach(f *testing.F) {
	f.Add(full(f))
	for name, c := range codecs(f) {
		f.Add(compress(f, full(f), Codec(name[0]-'0'), c))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n := int32(0)
		err := Each(b, func(*Full) error { n++; return nil })
		h, herr := ParseHeader(b)
		if herr != nil || h.Size() != int64(len(b)) || h.Codec() != None {
			return
		}
		if _, _, cerr := CheckPlain(&h, bytes.Clone(b)); cerr == nil && (err != nil || n != max(h.Count, 0)) {
			t.Fatalf("CheckPlain takes it, Each says %v after %d of %d records", err, n, h.Count)
		}
	})
}
