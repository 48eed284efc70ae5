package segment

import (
	"bytes"
	"slices"
	"testing"
)

func TestParseIndex(t *testing.T) {
	x := &index{pos: []posEntry{{0, 0}, {7, 5000}}, times: []timeEntry{{1000, 7}}}
	pos, times := x.encode(100, 120, 2000, 9000)
	got, err := ParseIndex(pos, 100, false)
	if err != nil || !got.Ours || got.LogSize != 9000 || !slices.Equal(got.Entries, []IndexEntry{{Offset: 100}, {Offset: 107, Position: 5000}}) {
		t.Errorf("%+v %v", got, err)
	}
	got, err = ParseIndex(times, 100, true)
	if err != nil || !slices.Equal(got.Entries, []IndexEntry{{Offset: 107, Timestamp: 1000}, {Offset: 120, Timestamp: 2000}}) {
		t.Errorf("%+v %v", got, err)
	}
	for name, b := range map[string][]byte{"the other kind": times, "flipped": append([]byte{1}, pos[1:]...), "cut": pos[:len(pos)-footerSize-1]} {
		if got, err := ParseIndex(bytes.Clone(b), 100, false); err == nil {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func FuzzParseIndex(f *testing.F) {
	x := &index{pos: []posEntry{{0, 0}, {7, 5000}}, times: []timeEntry{{1000, 7}}}
	pos, times := x.encode(100, 120, 2000, 9000)
	f.Add(pos, false)
	f.Add(times, true)
	f.Add(pos[:16], false)
	f.Fuzz(func(t *testing.T, b []byte, times bool) {
		if x, err := ParseIndex(b, 100, times); err == nil && len(x.Entries) > len(b)/posEntrySize {
			t.Fatalf("%d entries of %d bytes", len(x.Entries), len(b))
		}
	})
}
