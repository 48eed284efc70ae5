package spooldir

import (
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/internal/ocf"
	"github.com/sluice-data/sluice/internal/serde"
)

// metaName is the tracker file's name in trackerDir, lockName that of a file
// which is locked while a source uses it (ours).
const (
	metaName = ".flumespool-main.meta"
	lockName = ".flumespool-main.lock"
)

// Flume's DurablePositionTracker: an Avro container file with the path of the
// spooled file in its header and one record per stored position, of which the
// last one counts.
const (
	trackerSchema = `{"type":"record","name":"TransferStateFileMeta","namespace":"org.apache.flume.serialization","fields":[{"name":"offset","type":"long"}]}`
	fileKey       = "file"
	// recordsKey is ours: how many records of the Avro block at the offset
	// were delivered. It holds for the first position in the file only, and
	// Flume passes over it.
	recordsKey = "sluice.records"
	// identityKey is ours, too: which file of that name was begun.
	identityKey = "sluice.identity"
)

const (
	// storeEvery and storeBytes bound what a crash repeats. Flume stores
	// every batch, which at our speed would be a third of the work.
	storeEvery = 20 * time.Millisecond
	storeBytes = 1 << 20
	// syncEvery bounds what a power cut repeats.
	syncEvery = time.Second
	// rollSize is where the file is begun anew.
	rollSize = 1 << 20
)

// tracker stores how far a file was delivered.
type tracker struct {
	path   string
	f      *os.File
	sync   [ocf.SyncLen]byte
	size   int64
	disk   string // the target that the file on disk is for
	target string
	of     string // target's identity; empty: not known
	stored serde.Position
	at     time.Time // of the last store
	synced time.Time
	dirty  bool // written and not synced
	buf    []byte
}

// entry is what a tracker file holds.
type entry struct {
	target string
	of     string // target's identity; empty in a file of Flume's
	pos    serde.Position
}

// readTracker returns what a tracker file holds; fs.ErrNotExist where there is
// none. A last record that was torn by a crash does not count.
func readTracker(path string) (entry, error) {
	f, err := os.Open(path)
	if err != nil {
		return entry{}, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return entry{}, err
	}
	return parseTracker(f, fi.Size())
}

func parseTracker(r io.ReaderAt, size int64) (entry, error) {
	if size == 0 {
		return entry{}, fs.ErrNotExist
	}
	h, err := ocf.ReadHeader(r, size)
	if err != nil {
		return entry{}, err
	}
	e := entry{target: string(h.Meta[fileKey]), of: string(h.Meta[identityKey])}
	if e.target == "" {
		return entry{}, errors.New("its header does not name a file")
	}
	if h.Codec() != "null" {
		return entry{}, fmt.Errorf("its codec is %s", h.Codec())
	}
	blocks := 0
	for at := h.Len; ; blocks++ {
		b, err := h.ReadBlock(r, size, at)
		if err != nil {
			break // the end, or what a crash left of the last block
		}
		// A record is one number of at most ten bytes; the last one counts.
		tail := make([]byte, min(b.Size, 10))
		if err := b.ReadTail(r, tail); err != nil {
			return entry{}, err
		}
		if off, ok := lastVarint(tail); ok && off >= 0 && b.Count > 0 {
			e.pos.Offset = off
		}
		at = b.Next
	}
	if blocks == 1 {
		n, err := strconv.ParseInt(string(h.Meta[recordsKey]), 10, 64)
		if err == nil && n > 0 {
			e.pos.Records = n
		}
	}
	return e, nil
}

// lastVarint decodes the number that p ends with.
func lastVarint(p []byte) (int64, bool) {
	i := len(p) - 1
	if i < 0 || p[i] >= 0x80 {
		return 0, false
	}
	for i > 0 && p[i-1] >= 0x80 {
		i--
	}
	v, n := binary.Varint(p[i:])
	return v, n > 0
}

// begin makes target the file that positions are about to be stored for.
func (t *tracker) begin(target, of string, now time.Time) {
	if t.target != target || t.of != of {
		t.close()
		t.target, t.of, t.stored = target, of, serde.Position{}
	}
	t.at = now
}

// due says whether a position should be stored now.
func (t *tracker) due(pos serde.Position, now time.Time) bool {
	return pos.Offset-t.stored.Offset >= storeBytes || now.Sub(t.at) >= storeEvery
}

// store stores a position of target. exact, which begins the file anew where
// it must, keeps the records of the block as well.
func (t *tracker) store(target string, pos serde.Position, now time.Time, exact bool) error {
	if t.f == nil || t.target != target || t.size >= rollSize || exact && pos.Records > 0 {
		if err := t.create(target, pos, exact); err != nil {
			return fmt.Errorf("write tracker %s: %w", t.path, err)
		}
	} else if pos != t.stored {
		if err := t.append(pos); err != nil {
			t.close() // it may be torn: the next time begins it anew
			return fmt.Errorf("write tracker %s: %w", t.path, err)
		}
	}
	t.target, t.stored, t.at = target, pos, now
	if t.dirty && (exact || now.Sub(t.synced) >= syncEvery) {
		if err := t.f.Sync(); err != nil {
			return fmt.Errorf("sync tracker %s: %w", t.path, err)
		}
		t.synced, t.dirty = now, false
	}
	return nil
}

func (t *tracker) block(pos serde.Position) []byte {
	var rec [binary.MaxVarintLen64]byte
	n := binary.PutVarint(rec[:], pos.Offset)
	return ocf.AppendBlock(t.buf[:0], 1, rec[:n], t.sync)
}

func (t *tracker) append(pos serde.Position) error {
	t.buf = t.block(pos)
	n, err := t.f.WriteAt(t.buf, t.size)
	if err != nil {
		return err
	}
	t.size += int64(n)
	t.dirty = true
	return nil
}

// create writes a new file beside the old one and puts it in its place, so
// that there is a whole one at any time.
func (t *tracker) create(target string, pos serde.Position, exact bool) error {
	t.close()
	rand.Read(t.sync[:])
	meta := []ocf.KV{{Key: fileKey, Value: []byte(target)}}
	if t.of != "" && t.target == target {
		meta = append(meta, ocf.KV{Key: identityKey, Value: []byte(t.of)})
	}
	if exact && pos.Records > 0 {
		meta = append(meta, ocf.KV{Key: recordsKey, Value: strconv.AppendInt(nil, pos.Records, 10)})
	}
	meta = append(meta, ocf.KV{Key: "avro.codec", Value: []byte("null")}, ocf.KV{Key: "avro.schema", Value: []byte(trackerSchema)})
	p := ocf.AppendHeader(nil, meta, t.sync)
	p = append(p, t.block(pos)...)
	tmp := t.path + ".tmp"
	f, err := os.OpenFile(tmp, os.O_RDWR|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(p); err == nil {
		err = os.Rename(tmp, t.path)
	}
	if err != nil {
		f.Close()
		os.Remove(tmp) // best effort: the next create truncates it
		return err
	}
	t.f, t.size, t.dirty, t.disk = f, int64(len(p)), true, target
	return nil
}

func (t *tracker) close() {
	if t.f != nil {
		t.f.Close() // written and, where it matters, synced before
		t.f = nil
	}
}

// remove deletes the tracker file: its target is done with.
func (t *tracker) remove() error {
	t.close()
	t.disk, t.target, t.of, t.stored = "", "", "", serde.Position{}
	if err := os.Remove(t.path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("delete tracker: %w", err)
	}
	return nil
}
