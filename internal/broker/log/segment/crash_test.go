package segment

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

const dir = "/data/topic-0"

func openMem(t testing.TB, fs *memfs.FS, c log.TopicConfig) *Log {
	t.Helper()
	return store{fs, dir}.Open(t, c).(*Log)
}

// lastLog is the file that is being written.
func lastLog(t testing.TB, fs *memfs.FS) string {
	t.Helper()
	last := ""
	for _, n := range fs.Names() {
		if strings.HasSuffix(n, logExt) {
			last = n
		}
	}
	return last
}

// abandon stops a log's goroutines without letting it write to the file system that the test goes on with.
func abandon(t testing.TB, l *Log, images ...*memfs.FS) {
	t.Helper()
	_ = images // taken before: a close must not change them
	if err := l.Close(); err != nil && !errors.Is(err, log.ErrStorage) {
		t.Fatalf("close: %v", err)
	}
}

func TestTornTailIsCut(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	var want []byte
	for i := range 12 {
		b := logtest.Batch(int64(i), 2, 200)
		logtest.MustAppend(t, l, b)
		want = append(want, b...)
	}
	killed := fs.Clone()
	abandon(t, l)
	name := lastLog(t, killed)
	whole, err := killed.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	size := len(logtest.Batch(0, 2, 200))
	for cut := 0; cut <= size; cut++ {
		img := killed.Clone()
		img.WriteFile(name, whole[:len(whole)-cut])
		l := openMem(t, img, logtest.Config())
		end, keep := int64(24), want
		if cut > 0 {
			end, keep = 22, want[:len(want)-size]
		}
		if o := l.Offsets(); o.End != end || o.High != end {
			t.Fatalf("cut %d: %+v, want end %d", cut, o, end)
		}
		if got := logtest.ReadAll(t, l); !bytes.Equal(got, keep) {
			t.Fatalf("cut %d: contents differ", cut)
		}
		if p := logtest.MustAppend(t, l, logtest.Batch(99, 1, 10)); p.Base != end {
			t.Fatalf("cut %d: append at %d", cut, p.Base)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
		if o := openAndClose(t, img); o.End != end+1 {
			t.Fatalf("cut %d: reopened %+v", cut, o)
		}
	}
}

func openAndClose(t testing.TB, fs *memfs.FS) log.Offsets {
	t.Helper()
	l := openMem(t, fs, logtest.Config())
	o := l.Offsets()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return o
}

// TestBitFlips flips each byte of a log that was not shut down cleanly. What is damaged before the last batch must be
// reported, never cut off; only in the last batch it cannot be told from a torn write.
func TestBitFlips(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	for i := range 6 {
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 2, 40))
	}
	killed := fs.Clone()
	abandon(t, l)
	name := lastLog(t, killed)
	whole, err := killed.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	size := len(whole) / 6
	for i := range whole {
		for _, mask := range []byte{0x01, 0x80} {
			img := killed.Clone()
			b := bytes.Clone(whole)
			b[i] ^= mask
			img.WriteFile(name, b)
			l, err := Open(t.Context(), Options{FS: img, Dir: dir, Config: logtest.Config(), Logger: quiet})
			inEpoch := i%size >= 12 && i%size < 16 // not covered by the CRC, and any epoch is as good as another
			switch ce := (*seglog.CorruptionError)(nil); {
			case err == nil && i >= 5*size:
				if end := l.Offsets().End; end != 10 && !(inEpoch && end == 12) {
					t.Fatalf("byte %d: end %d", i, end)
				}
			case err == nil && inEpoch:
				if end := l.Offsets().End; end != 12 {
					t.Fatalf("byte %d (epoch): end %d", i, end)
				}
			case err == nil:
				t.Fatalf("byte %d ^ %02x: damage in the middle was accepted, end %d", i, mask, l.Offsets().End)
			case !errors.As(err, &ce) || !errors.Is(err, log.ErrStorage):
				t.Fatalf("byte %d: %v", i, err)
			case ce.Path != name || ce.Offset != int64(i/size*size):
				t.Fatalf("byte %d: reported at %s:%d", i, ce.Path, ce.Offset)
			default:
				// Repair cuts it off there and says so.
				l, err = Open(t.Context(), Options{FS: img, Dir: dir, Config: logtest.Config(), Logger: quiet, Repair: true})
				if err != nil {
					t.Fatalf("byte %d: repair: %v", i, err)
				}
				if end := l.Offsets().End; end != int64(i/size*2) {
					t.Fatalf("byte %d: repaired end %d", i, end)
				}
			}
			if l != nil {
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

// TestPowerCut appends with and without waiting for the sync and cuts the power at random moments: what was acknowledged
// is there, in order, and what is there is a prefix of what was sent.
func TestPowerCut(t *testing.T) {
	for seed := range uint64(20) {
		rng := rand.New(rand.NewPCG(seed, 2))
		fs := memfs.New()
		c := logtest.Config()
		c.SyncAcks = true
		l := openMem(t, fs, c)
		var sent, acked []byte
		for range 30 {
			b := logtest.Batch(rng.Int64N(1e6), 1+rng.IntN(3), rng.IntN(600))
			p, err := l.Append(t.Context(), b, log.AppendOpts{})
			if err != nil {
				t.Fatal(err)
			}
			sent = append(sent, b...)
			if rng.IntN(2) == 0 {
				if err := p.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				acked = sent[:len(sent):len(sent)]
			}
		}
		cut := fs.Crash()
		abandon(t, l)
		l = openMem(t, cut, c)
		got := logtest.ReadAll(t, l)
		if !bytes.HasPrefix(got, acked) || !bytes.HasPrefix(sent, got) {
			t.Fatalf("seed %d: sent %d bytes, acknowledged %d, found %d", seed, len(sent), len(acked), len(got))
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// TestPowerCutLosesAcksWithoutSync shows that TestPowerCut can fail: without SyncAcks the same cut loses the tail.
func TestPowerCutLosesAcksWithoutSync(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	logtest.MustAppend(t, l, logtest.Batch(1, 1, 100))
	cut := fs.Crash()
	abandon(t, l)
	if o := openAndClose(t, cut); o.End != 0 {
		t.Fatalf("an append that was never synced survived: %+v", o)
	}
}

// TestUnsyncedHole is a power cut after which an unsynced page is zeros though later ones were written.
func TestUnsyncedHole(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	c.SegmentBytes = 1 << 20
	l := openMem(t, fs, c)
	for range 20 {
		logtest.MustAppend(t, l, logtest.Batch(1, 10, 1000))
	}
	img := fs.Clone()
	abandon(t, l)
	name := lastLog(t, img)
	b, err := img.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	size := int(l.active().size) / 20
	clear(b[4096*10 : 4096*11])
	img.WriteFile(name, b)
	if o := openAndClose(t, img); o.End != int64(4096*10/size*10) {
		t.Fatalf("hole at byte 40960, batches of %d bytes and 10 records: %+v", size, o)
	}
}

// nested is a log of three records in a batch and one that holds batches with offsets that could follow, and the positions
// where the second batch begins and ends.
func nested(inner ...[]byte) (b []byte, from, to int64) {
	b = logtest.Batch(1, 3, 10)
	from = int64(len(b))
	h := record.Header{BaseOffset: 3, ProducerID: -1, BaseSequence: -1}
	b = record.Append(b, h, record.Record{Value: bytes.Join(inner, nil)})
	return b, from, int64(len(b))
}

// at is a batch at an offset.
func at(off int64, b []byte) []byte {
	record.SetBaseOffset(b, off)
	return b
}

func openBytes(t *testing.T, b []byte) (*Log, error) {
	t.Helper()
	fs := memfs.New()
	if err := fs.MkdirAll(dir); err != nil {
		t.Fatal(err)
	}
	fs.WriteFile(seglog.Name(dir, 0, logExt), b)
	c := logtest.Config()
	c.SegmentBytes = 1 << 20
	return Open(t.Context(), Options{FS: fs, Dir: dir, Config: c, Logger: quiet})
}

// cutOff wants b to open with the first batch only: the other was torn.
func cutOff(t *testing.T, what string, b []byte, keep int64) {
	t.Helper()
	l, err := openBytes(t, b)
	if err != nil {
		t.Fatalf("%s: %v", what, err)
	}
	defer abandon(t, l)
	if o := l.Offsets(); o.End != 3 {
		t.Fatalf("%s: %+v, want the end 3", what, o)
	}
	if !bytes.Equal(logtest.ReadAll(t, l), b[:keep]) {
		t.Fatalf("%s: the first batch is not what it was", what)
	}
	if p := logtest.MustAppend(t, l, logtest.Batch(9, 1, 10)); p.Base != 3 {
		t.Fatalf("%s: append at %d", what, p.Base)
	}
}

// padded is b[:cut] as a write leaves it that was cut short where the file had padding.
func padded(b []byte, cut int64) []byte {
	return append(bytes.Clone(b[:cut]), make([]byte, -cut&(seglog.PadTo-1))...)
}

// onlyZeros says that to a file with padding it makes no difference whether b was written.
func onlyZeros(b []byte) bool { return len(bytes.Trim(b, "\x00")) == 0 }

// damagedAt wants b not to open, with the damage at pos.
func damagedAt(t *testing.T, what string, b []byte, pos int64) {
	t.Helper()
	l, err := openBytes(t, b)
	if err == nil {
		defer abandon(t, l)
		t.Fatalf("%s: damage in the middle was accepted: %+v", what, l.Offsets())
	}
	if ce := (*seglog.CorruptionError)(nil); !errors.As(err, &ce) || ce.Offset != pos {
		t.Fatalf("%s: %v, want damage at %d", what, err, pos)
	}
}

// TestEmbeddedBatches has a batch whose value holds whole batches, as of someone who stores raw segments. Cut off
// anywhere it is a torn end. Damaged and followed by another batch it is damage, wherever the bit is.
func TestEmbeddedBatches(t *testing.T) {
	for name, inner := range map[string][][]byte{
		"as producers send them": {logtest.Batch(1, 1, 10), logtest.Batch(1, 1, 10)},
		"offsets that follow":    {at(4, logtest.Batch(1, 1, 10)), at(5, logtest.Batch(1, 2, 10)), at(7, logtest.Batch(1, 1, 10))},
		"the same offset":        {at(3, logtest.Batch(1, 1, 10)), at(4, logtest.Batch(1, 1, 10)), []byte("end")},
	} {
		b, from, to := nested(inner...)
		for cut := from + 1; cut < to; cut++ {
			what := fmt.Sprintf("%s, cut at %d of %d to %d", name, cut, from, to)
			cutOff(t, what, b[:cut], from)
			if !onlyZeros(b[cut:to]) {
				cutOff(t, what+", in padding", padded(b, cut), from)
			}
		}
		followed := append(bytes.Clone(b), at(4, logtest.Batch(5, 1, 10))...)
		for i := from; i < to; i++ {
			if i-from >= 12 && i-from < 16 {
				continue // the epoch, which no checksum covers
			}
			for bit := range 8 {
				flipped := bytes.Clone(followed)
				flipped[i] ^= 1 << bit
				damagedAt(t, fmt.Sprintf("%s, byte %d of %d to %d, bit %d", name, i, from, to, bit), flipped, from)
			}
		}
	}
}

// FuzzTornTail: a batch that holds anything, a batch included, is a torn end wherever it is cut, and damage if its length
// is wrong and another batch follows.
func FuzzTornTail(f *testing.F) {
	f.Add([]byte("before"), []byte("value"), []byte("after"), int64(4), uint32(100), int32(1<<20))
	f.Add([]byte{}, []byte{}, []byte{}, int64(4), uint32(1), int32(60))
	raw, _, _ := nested(at(4, logtest.Batch(1, 2, 10)))
	f.Add(raw, raw, raw, int64(5), uint32(400), int32(250))
	f.Fuzz(func(t *testing.T, before, value, after []byte, off int64, cut uint32, length int32) {
		if len(before)+len(value)+len(after) > 4000 { // so that there is no page that could be zeros
			return
		}
		embedded := record.Append(nil, record.Header{BaseOffset: off, ProducerID: -1}, record.Record{Value: value})
		b, from, to := nested(before, embedded, after)
		end := from + 1 + int64(cut)%(to-from-1)
		cutOff(t, "cut", b[:end], from)
		if !onlyZeros(b[end:]) {
			cutOff(t, "cut, in padding", padded(b, end), from)
		}
		b = append(b, at(4, logtest.Batch(5, 1, 10))...)
		is := binary.BigEndian.Uint32(b[from+8:])
		if uint32(length) == is {
			return
		}
		binary.BigEndian.PutUint32(b[from+8:], uint32(length))
		damagedAt(t, fmt.Sprintf("length %d for %d", length, is), b, from)
	})
}

func TestSegmentCountAndScanAfterKill(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	for i := range 50 {
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 500))
	}
	if err := l.Sync(t.Context()); err != nil { // the sealed segments' syncs are done
		t.Fatal(err)
	}
	img := fs.Clone()
	abandon(t, l)
	var reads atomic.Int64
	last := lastLog(t, img)
	img.SetHook(func(op memfs.Op, path string) error {
		if op == memfs.OpRead && strings.HasSuffix(path, logExt) && path != last {
			reads.Add(1)
		}
		return nil
	})
	l = openMem(t, img, logtest.Config())
	if n := len(l.segs); n < 7 {
		t.Fatalf("%d segments", n)
	}
	if n := reads.Load(); n != 0 {
		t.Fatalf("recovery read sealed segments %d times", n)
	}
	if o := l.Offsets(); o.End != 50 {
		t.Fatalf("%+v", o)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	// After the clean shutdown not even the last segment is scanned: one read for its first header.
	reads.Store(0)
	last = ""
	if o := openAndClose(t, img); o.End != 50 || reads.Load() != 1 {
		t.Fatalf("%+v after %d reads", o, reads.Load())
	}
}

func TestMissingAndLyingIndexes(t *testing.T) {
	for name, spoil := range map[string]func(fs *memfs.FS, path string, b []byte){
		"missing": func(fs *memfs.FS, path string, b []byte) { _ = fs.Remove(path) },
		"empty":   func(fs *memfs.FS, path string, b []byte) { fs.WriteFile(path, nil) },
		"cut":     func(fs *memfs.FS, path string, b []byte) { fs.WriteFile(path, b[:len(b)/2]) },
		"flipped": func(fs *memfs.FS, path string, b []byte) { b[0] ^= 1; fs.WriteFile(path, b) },
		"zeros":   func(fs *memfs.FS, path string, b []byte) { clear(b); fs.WriteFile(path, b) },
		"other":   func(fs *memfs.FS, path string, b []byte) { fs.WriteFile(path, bytes.Repeat(b, 2)) },
		"text":    func(fs *memfs.FS, path string, b []byte) { fs.WriteFile(path, []byte("sluice-log 1\ncrc 00000000\n")) },
	} {
		for _, clean := range []bool{true, false} {
			for _, ext := range []string{indexExt, timeExt, stateName, epochsName} {
				fs := memfs.New()
				l := openMem(t, fs, logtest.Config())
				var want []byte
				for i := range 60 {
					b := logtest.Batch(int64(100*i), 1, 300)
					logtest.MustAppend(t, l, b)
					want = append(want, b...)
				}
				if err := l.Sync(t.Context()); err != nil {
					t.Fatal(err)
				}
				img := fs.Clone()
				abandon(t, l)
				if clean {
					img = fs
				}
				for _, n := range img.Names() {
					if strings.HasSuffix(n, ext) {
						b, _ := img.ReadFile(n)
						spoil(img, n, b)
					}
				}
				l = openMem(t, img, logtest.Config())
				if got := logtest.ReadAll(t, l); !bytes.Equal(got, want) {
					t.Fatalf("%s %s: contents differ", name, ext)
				}
				for _, i := range []int64{3, 31, 58} {
					if st, err := l.OffsetFor(t.Context(), 100*i); err != nil || st.Offset != i {
						t.Fatalf("%s %s: OffsetFor(%d) = %+v, %v", name, ext, 100*i, st, err)
					}
					r, err := l.Read(log.ReadReq{Offset: i, MaxBytes: 500})
					if err != nil || r.Next != i+1 {
						t.Fatalf("%s %s: read at %d: %+v, %v", name, ext, i, r, err)
					}
					r.Release()
				}
				if e, off := l.EpochEnd(0); e != 0 || off != 60 {
					t.Fatalf("%s %s: epoch 0 ends at %d, %d", name, ext, e, off)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
			}
		}
	}
}

func TestFailedSyncSticks(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	c.SyncAcks = true
	l := openMem(t, fs, c)
	logtest.MustAppend(t, l, logtest.Batch(1, 1, 10))
	var fail atomic.Bool
	fs.SetHook(func(op memfs.Op, path string) error {
		if op == memfs.OpSync && fail.Load() {
			return syscall.EIO
		}
		return nil
	})
	fail.Store(true)
	p, err := l.Append(t.Context(), logtest.Batch(2, 1, 10), log.AppendOpts{})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Wait(t.Context()); !errors.Is(err, log.ErrStorage) || !errors.Is(err, syscall.EIO) || log.KafkaCode(err) != 56 {
		t.Fatalf("wait for a failed sync: %v", err)
	}
	fail.Store(false) // the disk says it is fine again, and must not be believed
	if _, err := l.Append(t.Context(), logtest.Batch(3, 1, 10), log.AppendOpts{}); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("append after a failed sync: %v", err)
	}
	if err := l.Sync(t.Context()); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("sync after a failed sync: %v", err)
	}
	if o := l.Offsets(); o.High != 1 {
		t.Fatalf("high watermark %d shows what was never synced", o.High)
	}
	if hs := logtest.Headers(t, logtest.ReadAll(t, l)); len(hs) != 1 {
		t.Fatalf("%d batches can be read", len(hs))
	}
	cut := fs.Crash()
	if err := l.Close(); !errors.Is(err, log.ErrStorage) {
		t.Fatalf("close of a failed log: %v", err)
	}
	if o := openAndClose(t, cut); o.End != 1 {
		t.Fatalf("after the power cut: %+v", o)
	}
}

func TestFailedWriteSticks(t *testing.T) {
	for _, undo := range []bool{true, false} {
		fs := memfs.New()
		l := openMem(t, fs, logtest.Config())
		logtest.MustAppend(t, l, logtest.Batch(1, 1, 10))
		fs.SetHook(func(op memfs.Op, path string) error {
			if op == memfs.OpWrite || op == memfs.OpTruncate && !undo {
				return syscall.EIO
			}
			return nil
		})
		if _, err := l.Append(t.Context(), logtest.Batch(2, 1, 10), log.AppendOpts{}); !errors.Is(err, log.ErrStorage) {
			t.Fatalf("append: %v", err)
		}
		fs.SetHook(nil)
		if _, err := l.Append(t.Context(), logtest.Batch(3, 1, 10), log.AppendOpts{}); !errors.Is(err, log.ErrStorage) || errors.Is(err, log.ErrNoSpace) {
			t.Fatalf("append after a failed write: %v", err)
		}
		abandon(t, l)
		if o := openAndClose(t, fs); o.End != 1 {
			t.Fatalf("%+v", o)
		}
	}
}

func TestNoSpace(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	l := openMem(t, fs, c)
	var want []byte
	add := func() error {
		b := logtest.Batch(1, 1, 700)
		_, err := l.Append(t.Context(), b, log.AppendOpts{})
		if err == nil {
			want = append(want, b...)
		}
		return err
	}
	for range 20 {
		if err := add(); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.Sync(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Whatever number of bytes is left, a failed append leaves nothing and the log goes on when there is space.
	for room := range int64(40) {
		fs.SetLimit(fs.Used() + room*20)
		for i := 0; ; i++ {
			err := add()
			if errors.Is(err, log.ErrNoSpace) {
				break
			}
			if err != nil || i > 10 {
				t.Fatalf("room for %d bytes, append %d: %v", room*20, i, err)
			}
		}
		fs.SetLimit(-1)
		if err := add(); err != nil {
			t.Fatalf("append with space again: %v", err)
		}
	}
	if got := logtest.ReadAll(t, l); !bytes.Equal(got, want) {
		t.Fatal("contents differ")
	}
	// Retention works on a full disk.
	fs.SetLimit(fs.Used())
	before := fs.Used()
	if err := l.DeleteTo(t.Context(), l.Extents()[3].Base); err != nil {
		t.Fatalf("delete on a full disk: %v", err)
	}
	if fs.Used() >= before {
		t.Fatal("deleting freed nothing")
	}
	fs.SetLimit(-1)
	img := fs.Clone()
	start := l.Offsets().Start
	abandon(t, l)
	if o := openAndClose(t, img); o.Start != start || o.End != int64(len(want)/len(logtest.Batch(1, 1, 700))) {
		t.Fatalf("after a kill: %+v, start was %d", o, start)
	}
}

// TestFaultsEverywhere fails the n-th operation on the disk, for every n, then cuts the power: whatever was acknowledged
// before is there, and the log opens.
func TestFaultsEverywhere(t *testing.T) {
	for _, kind := range []memfs.Op{memfs.OpWrite, memfs.OpSync, memfs.OpSyncDir, memfs.OpOpen, memfs.OpRename, memfs.OpTruncate} {
		for n := int64(1); n < 60; n++ {
			fs := memfs.New()
			c := logtest.Config()
			c.SyncAcks = true
			c.SegmentBytes = 1500
			var count atomic.Int64
			fs.SetHook(func(op memfs.Op, path string) error {
				if op == kind && count.Add(1) == n {
					return syscall.EIO
				}
				return nil
			})
			var acked []byte
			l, err := Open(t.Context(), Options{FS: fs, Dir: dir, Config: c, Logger: quiet})
			if err == nil {
				for i := range 12 {
					b := logtest.Batch(int64(i), 1, 300)
					p, err := l.Append(t.Context(), b, log.AppendOpts{})
					if err == nil {
						err = p.Wait(t.Context())
					}
					if err != nil {
						break
					}
					acked = append(acked, b...)
				}
				if n%2 == 0 {
					_ = l.Close() // may fail with the fault; what counts is what the next open finds
				}
			}
			fs.SetHook(nil)
			cut := fs.Crash()
			if err == nil {
				_ = l.Close()
			}
			l = openMem(t, cut, c)
			if got := logtest.ReadAll(t, l); !bytes.HasPrefix(got, acked) {
				t.Fatalf("%s %d failed: %d bytes acknowledged, %d found", kind, n, len(acked), len(got))
			}
			logtest.MustAppend(t, l, logtest.Batch(1, 1, 10))
			if err := l.Close(); err != nil {
				t.Fatal(err)
			}
		}
	}
}

func TestRoll(t *testing.T) {
	now := time.Now().UnixMilli()
	add := func(l *Log, ts, at int64) {
		t.Helper()
		b := record.Append(nil, record.Header{ProducerID: -1, BaseSequence: -1}, record.Record{Timestamp: ts, Value: []byte("x")})
		if _, err := l.Append(t.Context(), b, log.AppendOpts{AppendTime: at}); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name string
		ts   []int64 // record time and append time
		at   []int64
		want int
	}{
		{"record time", []int64{1000, 61_000, 61_001, 61_002}, []int64{now, now, now, now}, 2},
		{"no record time", []int64{-1, -1, -1}, []int64{now, now + 60_000, now + 200_000}, 2},
		{"old records", []int64{5, 5, 5}, []int64{now, now, now + 600_000}, 1},
	} {
		fs := memfs.New()
		cfg := logtest.Config()
		cfg.SegmentAge = time.Minute
		l := openMem(t, fs, cfg)
		for i := range c.ts {
			add(l, c.ts[i], c.at[i])
		}
		if n := len(l.Extents()); n != c.want {
			t.Errorf("%s: %d segments, want %d", c.name, n, c.want)
		}
		abandon(t, l)
	}
}

func TestFlushPolicies(t *testing.T) {
	for _, c := range []struct {
		name string
		set  func(*log.TopicConfig)
		want string // appended 5 times: how many are durable after each
	}{
		{"os", func(c *log.TopicConfig) {}, "00000"},
		{"every 2", func(c *log.TopicConfig) { c.FlushMessages = 2 }, "02244"},
		{"every 1", func(c *log.TopicConfig) { c.FlushMessages = 1 }, "12345"},
		{"acks", func(c *log.TopicConfig) { c.SyncAcks = true }, "12345"},
	} {
		fs := memfs.New()
		cfg := logtest.Config()
		c.set(&cfg)
		l := openMem(t, fs, cfg)
		got := ""
		for i := range 5 {
			logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 10))
			got += fmt.Sprint(openAndClose(t, fs.Crash()).End)
		}
		if got != c.want {
			t.Errorf("%s: durable after each append: %s, want %s", c.name, got, c.want)
		}
		abandon(t, l)
	}
}

func TestFlushAge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		fs := memfs.New()
		cfg := logtest.Config()
		cfg.FlushAge = 10 * time.Second
		l := openMem(t, fs, cfg)
		for i := range 3 {
			logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 10))
			time.Sleep(9 * time.Second)
			synctest.Wait()
			if end := openAndClose(t, fs.Crash()).End; end != int64(i) {
				t.Fatalf("9 s after append %d: end %d", i, end)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			if end := openAndClose(t, fs.Crash()).End; end != int64(i+1) {
				t.Fatalf("11 s after append %d: end %d", i, end)
			}
		}
		logtest.MustAppend(t, l, logtest.Batch(9, 1, 10)) // the clock runs while the log is closed
		abandon(t, l)
	})
}

// TestGroupCommit appends much while one sync is under way: the waiting appends share the next one.
func TestGroupCommit(t *testing.T) {
	fs := memfs.New()
	c := logtest.Config()
	c.SyncAcks = true
	c.SegmentBytes = 1 << 20
	l := openMem(t, fs, c)
	entered, gate := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	slow := &slowSync{FS: fs, before: func() {
		if once.CompareAndSwap(false, true) {
			close(entered)
			<-gate
		}
	}}
	abandon(t, l)
	l = store{slow, dir}.Open(t, c).(*Log)
	once.Store(false)
	first, err := l.Append(t.Context(), logtest.Batch(0, 1, 10), log.AppendOpts{})
	if err != nil {
		t.Fatal(err)
	}
	<-entered
	before := fs.Syncs()
	var ps []log.Pending
	for i := range 100 {
		p, err := l.Append(t.Context(), logtest.Batch(int64(i), 1, 10), log.AppendOpts{})
		if err != nil {
			t.Fatal(err)
		}
		ps = append(ps, p)
	}
	close(gate)
	for _, p := range append(ps, first) {
		if err := p.Wait(context.Background()); err != nil {
			t.Fatal(err)
		}
	}
	if n := fs.Syncs() - before; n != 2 {
		t.Fatalf("101 appends took %d syncs: want 2", n)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
}

func TestLeftOvers(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	logtest.MustAppend(t, l, logtest.Batch(1, 1, 10))
	abandon(t, l)
	for _, n := range []string{"00000000000000000007.log.deleted", "log-state.tmp", "00000000000000000777.index", "00000000000000000777.timeindex"} {
		fs.WriteFile(filepath.Join(dir, n), []byte("left over"))
	}
	openAndClose(t, fs)
	for _, n := range fs.Names() {
		if strings.Contains(n, "deleted") || strings.Contains(n, "tmp") || strings.Contains(n, "777") {
			t.Errorf("%s was left", n)
		}
	}
}

// TestStaleCleanMarker cuts the log below what its clean shutdown left and grows it to the same size again: the marker must
// not be believed then.
func TestStaleCleanMarker(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	for i := range 4 {
		logtest.MustAppend(t, l, logtest.Batch(int64(i), 1, 100))
	}
	abandon(t, l)
	name := lastLog(t, fs)
	whole, _ := fs.ReadFile(name)
	fs.WriteFile(name, whole[:len(whole)-1])
	l = openMem(t, fs, logtest.Config())
	if o := l.Offsets(); o.End != 3 {
		t.Fatalf("%+v", o)
	}
	logtest.MustAppend(t, l, logtest.Batch(3, 1, 100))
	img := fs.Clone()
	abandon(t, l)
	b, _ := img.ReadFile(name)
	if len(b) != len(whole) {
		t.Fatalf("%d bytes, want %d", len(b), len(whole))
	}
	b[len(b)-3] ^= 1
	img.WriteFile(name, b)
	if o := openAndClose(t, img); o.End != 3 {
		t.Fatalf("the torn end was believed: %+v", o)
	}
}

// TestDiscard ends a log whose files are deleted next: it does not wait for the disk, not even for a broken one.
func TestDiscard(t *testing.T) {
	fs := memfs.New()
	l := openMem(t, fs, logtest.Config())
	logtest.MustAppend(t, l, logtest.Batch(1, 1, 100))
	fs.SetHook(func(op memfs.Op, name string) error {
		t.Errorf("%s %s", op, name)
		return syscall.EIO
	})
	if err := l.Discard(); err != nil {
		t.Fatal(err)
	}
}
