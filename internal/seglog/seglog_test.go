package seglog

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// systems runs a test on the operating system's files and on those in memory, which must behave alike.
func systems(t *testing.T, f func(t *testing.T, fsys vfs.FS, dir string)) {
	t.Run("os", func(t *testing.T) { f(t, vfs.OS{}, t.TempDir()) })
	t.Run("memory", func(t *testing.T) {
		fsys := memfs.New()
		if err := fsys.MkdirAll("/d"); err != nil {
			t.Fatal(err)
		}
		f(t, fsys, "/d")
	})
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func names(t testing.TB, fsys vfs.FS, dir string) (out []string) {
	t.Helper()
	es, err := fsys.List(dir)
	must(t, err)
	for _, e := range es {
		out = append(out, e.Name())
	}
	return out
}

func TestFile(t *testing.T) {
	systems(t, func(t *testing.T, fsys vfs.FS, dir string) {
		path := Name(dir, 42, ".log")
		if filepath.Base(path) != "00000000000000000042.log" {
			t.Fatal(path)
		}
		if _, err := Open(fsys, path); !errors.Is(err, fs.ErrNotExist) {
			t.Fatalf("open what is not there: %v", err)
		}
		f, err := Create(fsys, path)
		must(t, err)
		if _, err := Create(fsys, path); !errors.Is(err, fs.ErrExist) {
			t.Fatalf("create what is there: %v", err)
		}
		for i, s := range []string{"one", "", "three"} {
			pos, err := f.Append([]byte(s))
			must(t, err)
			if want := []int64{0, 3, 3}[i]; pos != want {
				t.Fatalf("append %d at %d, want %d", i, pos, want)
			}
		}
		must(t, f.Sync())
		must(t, f.Truncate(5))
		if f.Size() != 5 {
			t.Fatal(f.Size())
		}
		bases, err := List(fsys, dir, ".log")
		must(t, err)
		if !slices.Equal(bases, []int64{42}) {
			t.Fatal(bases)
		}

		// Deleting leaves readers alone.
		closed := false
		f.OnClose(func() { closed = true })
		if !f.Acquire() {
			t.Fatal("no reference")
		}
		must(t, f.Delete())
		must(t, f.Delete())
		must(t, f.Release())
		b := make([]byte, 5)
		if _, err := f.ReadAt(b, 0); err != nil || string(b) != "oneth" {
			t.Fatalf("%q, %v", b, err)
		}
		if got := names(t, fsys, dir); !slices.Equal(got, []string{"00000000000000000042.log.deleted"}) || closed {
			t.Fatalf("with a reader: %q", got)
		}
		must(t, f.Release())
		if got := names(t, fsys, dir); len(got) != 0 || !closed || f.Acquire() {
			t.Fatalf("without readers: %q", got)
		}
	})
}

func TestReleaseTooOften(t *testing.T) {
	fsys := memfs.New()
	f, err := Create(fsys, "/d/x")
	must(t, err)
	must(t, f.Release())
	defer func() {
		if recover() == nil {
			t.Error("nobody noticed")
		}
	}()
	_ = f.Release()
}

func TestAppendFailures(t *testing.T) {
	for _, c := range []struct {
		name    string
		write   error
		undo    error
		noSpace bool
		sticks  bool
	}{
		{"full", syscall.ENOSPC, nil, true, false},
		{"quota", syscall.EDQUOT, nil, true, false},
		{"broken", syscall.EIO, nil, false, true},
		{"full and broken", syscall.ENOSPC, syscall.EIO, true, true},
	} {
		fsys := memfs.New()
		f, err := Create(fsys, "/d/x")
		must(t, err)
		_, err = f.Append([]byte("kept"))
		must(t, err)
		fsys.SetHook(func(op memfs.Op, _ string) error {
			switch op {
			case memfs.OpWrite:
				return c.write
			case memfs.OpTruncate:
				return c.undo
			}
			return nil
		})
		if _, err := f.Append([]byte("lost")); errors.Is(err, ErrNoSpace) != c.noSpace || !errors.Is(err, c.write) {
			t.Errorf("%s: %v", c.name, err)
		}
		fsys.SetHook(nil)
		if _, err := f.Append([]byte("!")); errors.Is(err, ErrFailed) != c.sticks || (err == nil) == c.sticks {
			t.Errorf("%s: the next append: %v", c.name, err)
		}
		if err := f.Sync(); (err != nil) != c.sticks {
			t.Errorf("%s: sync: %v", c.name, err)
		}
		want := "kept!"
		if c.sticks {
			want = "kept"
		}
		if b, _ := fsys.ReadFile("/d/x"); string(b) != want {
			t.Errorf("%s: %q", c.name, b)
		}
		must(t, f.Release())
	}
}

func TestPartialWriteIsUndone(t *testing.T) {
	fsys := memfs.New()
	f, err := Create(fsys, "/d/x")
	must(t, err)
	fsys.SetLimit(6)
	_, err = f.Append([]byte("four"))
	must(t, err)
	if _, err := f.Append([]byte("four")); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	if b, _ := fsys.ReadFile("/d/x"); string(b) != "four" {
		t.Fatalf("%q", b)
	}
	if _, err := f.Append([]byte("2x")); err != nil {
		t.Fatal(err)
	}
	must(t, f.Release())
}

func TestPadding(t *testing.T) {
	systems(t, func(t *testing.T, fsys vfs.FS, dir string) {
		path := filepath.Join(dir, "x")
		f, err := Create(fsys, path)
		must(t, err)
		f.Pad()
		var want []byte
		for i, c := range []struct{ n, file int }{
			{100, 100},                // small: as it is
			{padFrom, PadTo},          // padded
			{PadTo - 5000, PadTo},     // into the padding
			{1000, PadTo + 196},       // small again, across its end
			{padFrom, 2 * PadTo},      // padded
			{3 * PadTo, 5 * PadTo},    // several
			{PadTo - 4292, 5 * PadTo}, // exactly to the end
			{PadTo, 6 * PadTo},        // without zeros
		} {
			b := bytes.Repeat([]byte{byte('a' + i)}, c.n)
			pos, err := f.Append(b)
			must(t, err)
			if pos != int64(len(want)) {
				t.Fatalf("append %d: at %d, want %d", i, pos, len(want))
			}
			want = append(want, b...)
			onDisk, err := ReadFile(fsys, path, 1<<20)
			must(t, err)
			if len(onDisk) != c.file || f.Size() != int64(len(want)) ||
				!bytes.Equal(onDisk[:len(want)], want) || !allZero(onDisk[len(want):]) {
				t.Fatalf("append %d: the file has %d bytes, want %d; size is %d, want %d", i, len(onDisk), c.file, f.Size(), len(want))
			}
		}
		_, err = f.Append(make([]byte, padFrom))
		must(t, err)
		size := f.Size()
		for _, want := range []bool{true, false} {
			cut, err := f.Trim()
			must(t, err)
			if cut != want {
				t.Fatalf("padding: %v, want %v", cut, want)
			}
			if st, err := f.Stat(); err != nil || st.Size() != size || f.Size() != size {
				t.Fatalf("trimmed to %d, %d: want %d: %v", st.Size(), f.Size(), size, err)
			}
		}
		must(t, f.Release())
	})
}

// TestPaddingOnFullDisk is an append that would fit without its padding: it fails like one that does not.
func TestPaddingOnFullDisk(t *testing.T) {
	fsys := memfs.New()
	f, err := Create(fsys, "/d/x")
	must(t, err)
	f.Pad()
	fsys.SetLimit(PadTo - 1)
	if _, err := f.Append(make([]byte, padFrom)); !errors.Is(err, ErrNoSpace) {
		t.Fatal(err)
	}
	if b, _ := fsys.ReadFile("/d/x"); len(b) != 0 || f.Size() != 0 {
		t.Fatalf("%d bytes in the file, size %d", len(b), f.Size())
	}
	fsys.SetLimit(-1)
	_, err = f.Append(make([]byte, padFrom))
	must(t, err)
	if b, _ := fsys.ReadFile("/d/x"); len(b) != PadTo || f.Size() != padFrom {
		t.Fatalf("%d bytes in the file, size %d", len(b), f.Size())
	}
	must(t, f.Release())
}

func TestSyncErrorSticks(t *testing.T) {
	fsys := memfs.New()
	f, err := Create(fsys, "/d/x")
	must(t, err)
	fsys.SetHook(func(op memfs.Op, _ string) error {
		if op == memfs.OpSync {
			return syscall.EIO
		}
		return nil
	})
	if err := f.Sync(); !errors.Is(err, syscall.EIO) {
		t.Fatal(err)
	}
	fsys.SetHook(nil)
	if err := f.Sync(); !errors.Is(err, ErrFailed) {
		t.Fatalf("second sync: %v", err)
	}
	if _, err := f.Append([]byte("x")); !errors.Is(err, ErrFailed) {
		t.Fatalf("append: %v", err)
	}
	if err := f.Truncate(0); !errors.Is(err, ErrFailed) {
		t.Fatalf("truncate: %v", err)
	}
	must(t, f.Release())
}

func TestWriteFile(t *testing.T) {
	systems(t, func(t *testing.T, fsys vfs.FS, dir string) {
		path := filepath.Join(dir, "state")
		for _, s := range []string{"old", "new and longer", ""} {
			must(t, WriteFile(fsys, path, []byte(s)))
			b, err := ReadFile(fsys, path, 100)
			must(t, err)
			if string(b) != s {
				t.Fatalf("%q", b)
			}
		}
		if got := names(t, fsys, dir); !slices.Equal(got, []string{"state"}) {
			t.Fatal(got)
		}
		must(t, WriteFile(fsys, path, make([]byte, 101)))
		if _, err := ReadFile(fsys, path, 100); err == nil {
			t.Fatal("read more than the limit")
		}
	})
}

// TestWriteFileIsAtomic fails each operation of a replacement in turn and cuts the power: the old or the new contents are
// there, and the new ones if WriteFile said so.
func TestWriteFileIsAtomic(t *testing.T) {
	for n := 0; ; n++ {
		fsys := memfs.New()
		must(t, fsys.MkdirAll("/d"))
		must(t, WriteFile(fsys, "/d/s", []byte("old")))
		count, failed := 0, false
		fsys.SetHook(func(memfs.Op, string) error {
			if count++; count == n+1 {
				failed = true
				return syscall.EIO
			}
			return nil
		})
		err := WriteFile(fsys, "/d/s", []byte("new"))
		fsys.SetHook(nil)
		for _, img := range []*memfs.FS{fsys.Clone(), fsys.Crash()} {
			b, rerr := img.ReadFile("/d/s")
			if rerr != nil || string(b) != "old" && string(b) != "new" || err == nil && string(b) != "new" {
				t.Fatalf("operation %d failed (%v): %q, %v", n, err, b, rerr)
			}
			must(t, Clean(img, "/d"))
			if got := img.Names(); !slices.Equal(got, []string{"/d/s"}) {
				t.Fatal(got)
			}
		}
		if !failed {
			return
		}
	}
}

// toy frames records as length, CRC, sequence number and data.
type toy struct {
	next uint32
	got  int
}

func frame(seq uint32, data []byte) []byte {
	b := binary.BigEndian.AppendUint32(nil, uint32(12+len(data)))
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint32(b, seq)
	b = append(b, data...)
	binary.BigEndian.PutUint32(b[4:], crc32.ChecksumIEEE(b[8:]))
	return b
}

func (*toy) HeaderSize() int { return 12 }

func (*toy) FrameSize(h []byte) (int64, error) {
	n := int64(binary.BigEndian.Uint32(h))
	if n < 12 || n > 1<<24 {
		return 0, errors.New("bad length")
	}
	return n, nil
}

func (x *toy) ok(b []byte) bool { return crc32.ChecksumIEEE(b[8:]) == binary.BigEndian.Uint32(b[4:]) }

func (x *toy) Accept(_ int64, b []byte) error {
	if !x.ok(b) || binary.BigEndian.Uint32(b[8:]) != x.next {
		return errors.New("bad frame")
	}
	x.next++
	x.got++
	return nil
}

func (x *toy) After(b []byte) bool { return x.ok(b) && binary.BigEndian.Uint32(b[8:]) > x.next }

func (x *toy) Ends(h []byte) Ends {
	if binary.BigEndian.Uint32(h[8:]) != x.next {
		return nil
	}
	return &toyEnds{crc32.ChecksumIEEE(h[8:]), binary.BigEndian.Uint32(h[4:])}
}

type toyEnds struct{ sum, want uint32 }

func (x *toyEnds) Ends(b byte) bool {
	whole := x.sum == x.want
	x.sum = crc32.Update(x.sum, crc32.IEEETable, []byte{b})
	return whole
}

func TestScan(t *testing.T) {
	data := bytes.Repeat([]byte("data"), 2500) // frames of 10,012 bytes: each holds a whole page
	var log []byte
	for i := range uint32(10) {
		log = append(log, frame(i, data)...)
	}
	const size = 10_012
	mod := func(f func(b []byte) []byte) []byte { return f(bytes.Clone(log)) }
	// A record that holds frames which could follow, as the last one and before another.
	nested := append(bytes.Clone(log), frame(10, slices.Concat(frame(20, data), frame(21, data), []byte("end")))...)
	modNested := func(f func(b []byte)) []byte { b := bytes.Clone(nested); f(b); return b }
	followed := func(f func(b []byte)) []byte { return append(modNested(f), frame(11, data)...) }
	for name, c := range map[string]struct {
		b         []byte
		end       int
		torn      bool
		unwritten bool
		damaged   bool
	}{
		"whole":                    {log, 10 * size, false, false, false},
		"nothing":                  {nil, 0, false, false, false},
		"cut in the last":          {log[:10*size-1], 9 * size, true, true, false},
		"cut in a header":          {log[:9*size+5], 9 * size, true, true, false},
		"last flipped":             {mod(func(b []byte) []byte { b[10*size-1] ^= 1; return b }), 9 * size, true, false, false},
		"flip in the middle":       {mod(func(b []byte) []byte { b[4*size+500] ^= 1; return b }), 4 * size, true, false, true},
		"length in the middle":     {mod(func(b []byte) []byte { b[4*size+1] ^= 0x40; return b }), 4 * size, true, false, true},
		"no length":                {mod(func(b []byte) []byte { b[4*size] = 0xff; return b }), 4 * size, true, false, true},
		"page of zeros":            {mod(func(b []byte) []byte { clear(b[11*4096 : 12*4096]); return b }), 4 * size, true, true, false},
		"zeros at the end":         {append(bytes.Clone(log), make([]byte, 20_000)...), 10 * size, true, true, false},
		"padding":                  {append(bytes.Clone(log), make([]byte, 7*PadTo-len(log))...), 10 * size, false, false, false},
		"padding but for a byte":   {append(append(bytes.Clone(log), make([]byte, 7*PadTo-len(log)-1)...), 1), 10 * size, true, true, false},
		"rest of a page zeros":     {mod(func(b []byte) []byte { clear(b[4*size : 10*4096]); return b }), 4 * size, true, true, false},
		"few zeros at the end":     {append(bytes.Clone(log), make([]byte, 20)...), 10 * size, true, false, false},
		"old record, older number": {append(bytes.Clone(log), frame(3, data)...), 10 * size, true, false, false},
		"others in a torn one":     {nested[:10*size+15_000], 10 * size, true, true, false},
		"torn behind others":       {nested[:len(nested)-3], 10 * size, true, true, false},
		"others in a flipped one":  {modNested(func(b []byte) { b[len(b)-1] ^= 1 }), 10 * size, true, false, false},
		"others in a long one":     {modNested(func(b []byte) { b[10*size+1] ^= 0x40 }), 10 * size, true, true, false},
		"flip round others":        {followed(func(b []byte) { b[11*size] ^= 1 }), 10 * size, true, false, true},
		"too long round others":    {followed(func(b []byte) { b[10*size+1] ^= 0x40 }), 10 * size, true, false, true},
		"long round others":        {followed(func(b []byte) { b[10*size+2] ^= 0x10 }), 10 * size, true, false, true},
		"short round others":       {followed(func(b []byte) { b[10*size+2] ^= 0x40 }), 10 * size, true, false, true},
		"record left out":          {mod(func(b []byte) []byte { return append(b[:4*size], b[5*size:]...) }), 4 * size, true, false, true},
	} {
		x := &toy{}
		res, err := Scan(bytes.NewReader(c.b), "f", 0, int64(len(c.b)), x)
		ce := (*CorruptionError)(nil)
		if errors.As(err, &ce) != c.damaged || err != nil && !c.damaged {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if c.damaged && (ce.Offset != int64(c.end) || ce.Path != "f") {
			t.Errorf("%s: damage at %s:%d", name, ce.Path, ce.Offset)
		}
		if res.End != int64(c.end) || (res.Torn != nil) != c.torn || res.Unwritten != c.unwritten || x.got != c.end/size {
			t.Errorf("%s: %+v after %d frames", name, res, x.got)
		}
	}
	// From a position on.
	x := &toy{next: 5}
	if res, err := Scan(bytes.NewReader(log), "f", 5*size, int64(len(log)), x); err != nil || res.End != 10*size || x.got != 5 {
		t.Errorf("from the fifth: %+v, %v", res, err)
	}
	// A file that is shorter than it was.
	if _, err := Scan(bytes.NewReader(log[:len(log)-50]), "f", 0, int64(len(log)), &toy{}); err == nil {
		t.Error("reading beyond the end succeeded")
	}
}

// TestScanLargeFrames has frames larger than the scan's buffer.
func TestScanLargeFrames(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 1))
	var log []byte
	for i := range uint32(6) {
		log = append(log, frame(i, bytes.Repeat([]byte{byte(i + 1)}, rng.IntN(3<<20)))...)
	}
	x := &toy{}
	if res, err := Scan(bytes.NewReader(log), "f", 0, int64(len(log)), x); err != nil || res.End != int64(len(log)) || x.got != 6 {
		t.Fatalf("%+v, %v", res, err)
	}
}

func FuzzScan(f *testing.F) {
	log := append(append(frame(0, []byte("a")), frame(1, []byte("bc"))...), frame(2, nil)...)
	f.Add(log)
	f.Add(log[:20])
	f.Add(append(bytes.Clone(log[:13]), make([]byte, 9000)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		x := &toy{}
		res, err := Scan(bytes.NewReader(b), "f", 0, int64(len(b)), x)
		if err != nil && !errors.As(err, new(*CorruptionError)) {
			t.Fatal(err)
		}
		if res.End < 0 || res.End > int64(len(b)) || (res.Torn == nil) != (res.End == int64(len(b))) {
			t.Fatalf("%+v of %d bytes", res, len(b))
		}
		// What was accepted is accepted again, whole.
		y := &toy{}
		if again, err := Scan(bytes.NewReader(b[:res.End]), "f", 0, res.End, y); err != nil || again.Torn != nil || y.got != x.got {
			t.Fatalf("%+v, %v", again, err)
		}
	})
}

func TestOSFileForSendfile(t *testing.T) {
	f, err := Create(vfs.OS{}, filepath.Join(t.TempDir(), "x"))
	must(t, err)
	if _, ok := any(f.OS()).(*os.File); !ok || f.OS() == nil {
		t.Error("no file for sendfile")
	}
	must(t, f.Release())
}
