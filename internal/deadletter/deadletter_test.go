package deadletter

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

func letter(body string) Letter {
	return Letter{Time: time.UnixMilli(1_800_000_000_123), Agent: "a", Component: "sink k", Channel: "c", Reason: "too large",
		Event: event.Event{Body: []byte(body), Headers: []event.KV{{Key: "k", Value: []byte("v\x00")}, {Key: "empty", Value: []byte{}}, {Key: "null"}}}}
}

// newStore is a store whose log is in the string.
func newStore(fsys vfs.FS, dir string, maxBytes int64) (*Store, *strings.Builder) {
	var log strings.Builder
	return NewStore(fsys, dir, maxBytes, slog.New(slog.NewTextHandler(&log, nil))), &log
}

func start(t *testing.T, dir string, maxBytes int64) *Store {
	t.Helper()
	s, _ := newStore(vfs.OS{}, dir, maxBytes)
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
	other, _ := newStore(vfs.OS{}, dir, 1<<30)
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another agent writes to it") {
		t.Errorf("a second store on the directory: %v", err)
	}
}

// What a crash left at the end is cut off.
func TestTorn(t *testing.T) {
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
}

// Damage in the last file is reported and passed over: the letters around it
// stay, and new ones go to another file.
func TestDamage(t *testing.T) {
	for _, tt := range []struct {
		name   string
		damage func(b []byte, frames []int) []byte
		read   string // once a new letter is written
		log    string
		intact bool // no damage is left in the file
	}{
		{"a byte", func(b []byte, f []int) []byte { b[f[1]+20] ^= 1; return b }, "1:one 3:three 4:new", "dead letters are damaged", false},
		{"a length", func(b []byte, f []int) []byte { b[f[1]+3] ^= 1; return b }, "1:one 3:three 4:new", "dead letters are damaged", false},
		{"the first", func(b []byte, f []int) []byte { clear(b[:20]); return b }, "2:inner 3:three 4:new", "dead letters are damaged", false},
		{"a hole", func(b []byte, f []int) []byte { return append(b[:f[1]+9:f[1]+9], b[f[2]-9:]...) }, "1:one 3:three 4:new", "dead letters are damaged", false},
		{"two places", func(b []byte, f []int) []byte { b[9] ^= 1; b[f[2]+20] ^= 1; return b }, "2:inner 3:new", "it is cut off and kept", false},
		{"the end", func(b []byte, f []int) []byte { b[len(b)-1] ^= 1; return b }, "1:one 2:inner 3:new", "it is cut off and kept", true},
		{"the end is missing", func(b []byte, f []int) []byte { return b[:len(b)-1] }, "1:one 2:inner 3:new", "did not come to its end", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			s := start(t, dir, 1<<30)
			put(t, s, "one")
			// The second holds a copy of a letter, which must never count.
			inner := letter("copy")
			inner.Number = 3
			copied, err := appendFrame([]byte("inner"), &inner)
			if err != nil {
				t.Fatal(err)
			}
			put(t, s, string(copied))
			put(t, s, "three")
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			path := seglog.Name(dir, 1, extension)
			b, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			var frames []int
			for at := 0; at < len(b); at += headerSize + int(binary.BigEndian.Uint32(b[at:])) {
				frames = append(frames, at)
			}
			b = tt.damage(b, frames)
			if err := os.WriteFile(path, b, 0o600); err != nil {
				t.Fatal(err)
			}
			s, log := newStore(vfs.OS{}, dir, 1<<30)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			put(t, s, "new")
			if bases, err := seglog.List(vfs.OS{}, dir, extension); err != nil || (len(bases) == 1) != tt.intact {
				t.Errorf("files %v, %v", bases, err)
			}
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), tt.log) || !strings.Contains(log.String(), path) {
				t.Errorf("log: %s", log)
			}
			got, err := read(t, dir)
			if i := strings.Index(got, "inner"); i >= 0 { // without the copy
				got = got[:i+5] + got[i+len(copied):]
			}
			if got != tt.read {
				t.Errorf("read %q, want %q", got, tt.read)
			}
			var ce *seglog.CorruptionError
			if errors.As(err, &ce) == tt.intact {
				t.Errorf("read: %v", err)
			}
			kept, err := filepath.Glob(filepath.Join(dir, "*"+damagedExt))
			if err != nil || (len(kept) == 1) != strings.Contains(tt.log, "and kept") {
				t.Errorf("kept: %v, %v", kept, err)
			}
		})
	}
}

// A number that a replay has seen is not used again, also when its letter is
// not there any more: a new letter would count as replayed.
func TestNumbersOfReplayedLetters(t *testing.T) {
	dir := t.TempDir()
	s := start(t, dir, 1<<30)
	put(t, s, "one", "two")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r, err := OpenReplay(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(r.Done(2), r.Close()); err != nil {
		t.Fatal(err)
	}
	path := seglog.Name(dir, 1, extension)
	b, err := os.ReadFile(path)
	if err == nil {
		err = os.WriteFile(path, b[:len(b)-1], 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
	s = start(t, dir, 1<<30)
	put(t, s, "new")
	if got, err := read(t, dir); got != "1:one 3:new" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
	// A list that cannot be read stops a replay and not the agent.
	if err := os.WriteFile(filepath.Join(dir, replayedFile), []byte("nonsense\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := OpenReplay(dir); err == nil || !strings.Contains(err.Error(), "delete the file") {
		t.Errorf("replay: %v", err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	s, log := newStore(vfs.OS{}, dir, 1<<30)
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	put(t, s, "more")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got, err := read(t, dir); got != "1:one 3:new 4:more" || err != nil || !strings.Contains(log.String(), "which dead letters were replayed") {
		t.Errorf("%s, %v, log %s", got, err, log)
	}
}

// A disk that fails in any way never makes a letter of an append that was
// refused, and one that was accepted is there after a power cut.
func TestFailingDisk(t *testing.T) {
	big := strings.Repeat("b", segmentBytes)
	for _, tt := range []struct {
		name  string
		op    memfs.Op
		err   error
		first bool // the file is not there yet
		full  bool // it is as long as it may get
	}{
		{"full", memfs.OpWrite, syscall.ENOSPC, false, false},
		{"write", memfs.OpWrite, syscall.EIO, false, false},
		{"sync", memfs.OpSync, syscall.EIO, false, false},
		{"sync of a new file", memfs.OpSync, syscall.EIO, true, false},
		{"full, a new file", memfs.OpOpen, syscall.ENOSPC, true, false},
		{"full, the next file", memfs.OpOpen, syscall.ENOSPC, false, true},
		{"directory", memfs.OpSyncDir, syscall.EIO, true, false},
		{"directory, the next file", memfs.OpSyncDir, syscall.EIO, false, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir() // of the lock
			fsys := memfs.New()
			s, log := newStore(fsys, dir, 1<<30)
			if err := s.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			want := ""
			switch {
			case tt.full:
				put(t, s, big)
				want = "1:" + big + " "
			case !tt.first:
				put(t, s, "kept")
				want = "1:kept "
			}
			fsys.SetHook(func(op memfs.Op, _ string) error {
				if op == tt.op {
					return tt.err
				}
				return nil
			})
			for range 2 {
				if err := s.Append([]Letter{letter("refused")}); !errors.Is(err, tt.err) || !strings.Contains(err.Error(), "append dead letters") {
					t.Fatalf("append: %v", err)
				}
			}
			fsys.SetHook(nil)
			put(t, s, "after")
			want += fmt.Sprintf("%d:after", strings.Count(want, ":")+1)
			if err := s.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			crashed := fsys.Crash()
			var got []string
			for _, name := range crashed.Names() {
				b, err := crashed.ReadFile(name)
				if err != nil {
					t.Fatal(err)
				}
				fr := framing{each: func(l *Letter) error {
					got = append(got, fmt.Sprintf("%d:%s", l.Number, l.Event.Body))
					return nil
				}}
				res, err := fr.scan(bytes.NewReader(b), name, int64(len(b)), func(ce *seglog.CorruptionError) { t.Error(ce) })
				if err != nil || res.End != int64(len(b)) {
					t.Errorf("%s: %+v, %v", name, res, err)
				}
			}
			if strings.Join(got, " ") != want {
				t.Errorf("after a power cut: %.100q, want %.100q", got, want)
			}
			if log.Len() > 0 {
				t.Errorf("log: %s", log)
			}
		})
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
