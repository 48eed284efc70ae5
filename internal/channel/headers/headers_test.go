package headers

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/sluice-data/sluice/event"
)

func TestRoundTrip(t *testing.T) {
	var names Names
	for _, hs := range [][]event.KV{
		nil,
		{{Key: "a", Value: []byte("1")}},
		{{Key: "", Value: nil}, {Key: "empty", Value: []byte{}}, {Key: "\xff\x00", Value: []byte{0, 0xff}}},
		{{Key: "long", Value: bytes.Repeat([]byte("x"), 1<<20)}},
	} {
		got, rest, err := Parse(append(Append(nil, hs), "tail"...), &names, nil)
		if err != nil || string(rest) != "tail" || fmt.Sprintf("%q", got) != fmt.Sprintf("%q", hs) {
			t.Errorf("%.60q: %.60q, rest %q, %v", hs, got, rest, err)
		}
		for i := range got {
			if (got[i].Value == nil) != (hs[i].Value == nil) {
				t.Errorf("header %d: null %v, want %v", i, got[i].Value == nil, hs[i].Value == nil)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add(Append(nil, []event.KV{{Key: "k", Value: []byte("v")}, {Key: "null"}}))
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x01})
	f.Fuzz(func(t *testing.T, b []byte) {
		var names Names
		hs, rest, err := Parse(b, &names, nil)
		if err != nil {
			return
		}
		again, _, err := Parse(Append(nil, hs), &names, nil)
		if err != nil || fmt.Sprintf("%q", again) != fmt.Sprintf("%q", hs) {
			t.Fatalf("%q with %q left: encoded again it is %q, %v", hs, rest, again, err)
		}
	})
}
