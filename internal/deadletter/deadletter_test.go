package deadletter

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

func letter(body string) Letter {
	return Letter{Time: time.UnixMilli(1_800_000_000_123), Agent: "a", Component: "sink k", Channel: "c", Reason: "too large",
		Event: event.Event{Body: []byte(body), Headers: []event.KV{{Key: "k", Value: []byte("v\x00")}, {Key: "empty", Value: []byte{}}, {Key: "null"}}}}
}

func start(t *testing.T, dir string, maxBytes int64) *Store {
	t.Helper()
	s := NewStore(vfs.OS{}, dir, maxBytes)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Stop(t.Context()) })
	return s
}

func put(t *testing.T, s *Store, bodies ...string) {
	t.Helper()
	var ls []Letter
	for _, b := range bodies {
		ls = append(ls, letter(b))
	}
	if err := s.Append(ls); err != nil {
		t.Fatal(err)
	}
}

// read returns "number:body" of each letter.
func read(t *testing.T, dir string) (string, error) {
	t.Helper()
	var got []string
	err := Read(dir, func(l *Letter) error {
		got = append(got, fmt.Sprintf("%d:%s", l.Number, l.Event.Body))
		return nil
	})
	return strings.Join(got, " "), err
}

// Golden bytes: the format is what docs/dead-letters.md says.
func TestFormat(t *testing.T) {
	l := Letter{Number: 258, Time: time.UnixMilli(1), Agent: "a", Component: "sink k", Channel: "c", Reason: "r",
		Event: event.Event{Body: []byte("xyz"), Headers: []event.KV{{Key: "h", Value: []byte("v")}, {Key: "n"}, {Key: "e", Value: []byte{}}}}}
	b, err := appendFrame(nil, &l)
	if err != nil {
		t.Fatal(err)
	}
	want := "\x00\x00\x00\x2d" + string(b[4:8]) + "\x01" + "\x00\x00\x00\x00\x00\x00\x01\x02" + "\x00\x00\x00\x00\x00\x00\x00\x01" +
		"\x01a" + "\x06sink k" + "\x01c" + "\x01r" + "\x03" + "\x01h\x02v" + "\x01n\x00" + "\x01e\x01" + "\x03xyz"
	if string(b) != want {
		t.Errorf("frame\n%q\nwant\n%q", b, want)
	}
	got, err := parseFrame(b)
	if err != nil || !reflect.DeepEqual(*got, l) {
		t.Errorf("%+v, %v", got, err)
	}
	for i := range b {
		bad := bytes.Clone(b)
		bad[i] ^= 0x10
		if _, err := parseFrame(bad); err == nil {
			t.Errorf("a changed byte %d was not noticed", i)
		}
		if _, err := parseFrame(b[:i]); err == nil {
			t.Errorf("a frame cut at %d was accepted", i)
		}
	}
}

func TestStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "deep", "down")
	s := start(t, dir, 1<<30)
	put(t, s, "one", "two")
	put(t, s, "three")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := s.Append([]Letter{letter("x")}); err == nil {
		t.Error("a stopped store takes letters")
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "four")
	if got, err := read(t, dir); got != "1:one 2:two 3:three 4:four" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	other := NewStore(vfs.OS{}, dir, 1<<30)
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent writes to it") {
		t.Errorf("a second store on the directory: %v", err)
	}
}

// What a crash left at the end is cut off; damage in the middle is not written
// behind.
func TestTornAndDamaged(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, 1<<30)
	put(t, s, "one")
	put(t, s, "two")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	path := seglog.Name(dir, 1, extension)
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for cut := len(whole) / 2; cut < len(whole); cut++ {
		if err := os.WriteFile(path, whole[:cut], 0o600); err != nil {
			t.Fatal(err)
		}
		if got, err := read(t, dir); got != "1:one" || err != nil {
			t.Fatalf("cut at %d: read %s, %v", cut, got, err)
		}
		s := start(t, dir, 1<<30)
		put(t, s, "new")
		if got, err := read(t, dir); got != "1:one 2:new" || err != nil {
			t.Fatalf("cut at %d: %s, %v", cut, got, err)
		}
		if err := s.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	bad := bytes.Clone(whole)
	bad[20] ^= 1
	if err := os.WriteFile(path, bad, 0o600); err != nil {
		t.Fatal(err)
	}
	var ce *seglog.CorruptionError
	if _, err := read(t, dir); !errors.As(err, &ce) || ce.Offset != 0 {
		t.Errorf("read: %v", err)
	}
	if err := NewStore(vfs.OS{}, dir, 1<<30).Start(t.Context()); !errors.As(err, &ce) {
		t.Errorf("start: %v", err)
	}
}

func TestMaxBytes(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, 500)
	put(t, s, strings.Repeat("x", 300))
	err := s.Append([]Letter{letter(strings.Repeat("y", 300))})
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "deadletter.maxBytes") {
		t.Errorf("full: %v", err)
	}
	put(t, s, "small")
	if got, err := read(t, dir); !strings.HasSuffix(got, " 2:small") || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

// A new file begins at 16 MiB; a replay deletes those that are done with, and
// their numbers are not used again.
func TestSegmentsAndReplay(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, 1<<30)
	big := strings.Repeat("b", segmentBytes)
	put(t, s, big)
	put(t, s, "two", "three")
	put(t, s, big)
	put(t, s, "five")
	files := func() int {
		bases, err := seglog.List(vfs.OS{}, dir, extension)
		if err != nil {
			t.Fatal(err)
		}
		return len(bases)
	}
	if files() != 3 {
		t.Fatalf("%d files", files())
	}
	replay := func(numbers ...int64) {
		t.Helper()
		r, err := OpenReplay(dir)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := OpenReplay(dir); err == nil || !strings.Contains(err.Error(), "another replay") {
			t.Errorf("two replays: %v", err)
		}
		for _, n := range numbers {
			if err := r.Done(n); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	replay(1, 2, 4)
	if files() != 2 {
		t.Errorf("%d files after the first was replayed", files())
	}
	if err := Read(dir, func(l *Letter) error { return nil }); err != nil {
		t.Error(err)
	}
	replay(3, 5)
	if files() != 1 {
		t.Errorf("%d files after all were replayed", files())
	}
	done, err := Replayed(dir)
	if err != nil || fmt.Sprint(done) != "[{1 5}]" {
		t.Errorf("replayed: %v, %v", done, err)
	}
	put(t, s, "six")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(seglog.Name(dir, 5, extension)); err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, 1<<30)
	put(t, s, "next")
	if got, err := read(t, dir); got != "6:next" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}

func TestRanges(t *testing.T) {
	var r Ranges
	for _, n := range []int64{5, 3, 4, 9, 1, 5, 8, 2} {
		r = r.add(n)
	}
	if fmt.Sprint(r) != "[{1 5} {8 9}]" || !r.Has(4) || r.Has(6) || r.Has(10) || r.end() != 10 {
		t.Errorf("%v", r)
	}
	got, err := parseRanges(r.text())
	if err != nil || !reflect.DeepEqual(got, r) {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"x", "3-2", "1-2\n2-3", "0-1", "1-2 3", "-"} {
		if _, err := parseRanges([]byte(bad)); err == nil {
			t.Errorf("%q was accepted", bad)
		}
	}
}

func TestDirs(t *testing.T) {
	root := t.TempDir()
	if got := Dir("d", "a.b", "sink", "k/é ."); got != filepath.Join("d", "a%2Eb.sink.k%2F%C3%A9%20%2E") {
		t.Errorf("directory %s", got)
	}
	for _, name := range []string{"a.sink.k", "a.sink.j"} {
		s := start(t, filepath.Join(root, name), 1<<30)
		put(t, s, name)
	}
	dirs, err := Dirs(root)
	if err != nil || len(dirs) != 2 {
		t.Errorf("%v, %v", dirs, err)
	}
	if one, err := Dirs(dirs[0]); err != nil || len(one) != 1 || one[0] != dirs[0] {
		t.Errorf("%v, %v", one, err)
	}
}

func FuzzParseFrame(f *testing.F) {
	l := letter("body")
	l.Number = 7
	b, err := appendFrame(nil, &l)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(b[headerSize:])
	f.Add([]byte{1})
	f.Fuzz(func(t *testing.T, payload []byte) {
		// With the right length and checksum, so that the decoder is reached.
		frame := append(make([]byte, headerSize), payload...)
		seal(frame)
		l, err := parseFrame(frame)
		if err != nil {
			return
		}
		again, err := appendFrame(nil, l)
		if err != nil {
			t.Fatal(err)
		}
		l2, err := parseFrame(again)
		if err != nil || !reflect.DeepEqual(l, l2) {
			t.Fatalf("%+v became %+v, %v", l, l2, err)
		}
	})
}
