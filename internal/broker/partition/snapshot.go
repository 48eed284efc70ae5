package partition

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"maps"
	"slices"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// A snapshot of the producer state is named by the log offset up to which it goes. See docs/segment-log.md.
const (
	snapshotExt     = ".snapshot"
	snapshotMagic   = "SLPS"
	snapshotVersion = 1
	snapshotHead    = 20 // magic, version, offset, count
	producerHead    = 27
	batchEntry      = 24
	snapshotLimit   = 1 << 30
	// keptSnapshots leaves one to fall back on when the log lost its end behind the newest.
	keptSnapshots = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func (ps producers) encode(offset int64) []byte {
	be := binary.BigEndian
	b := append(make([]byte, 0, snapshotHead+len(ps)*(producerHead+keptBatches*batchEntry)+4), snapshotMagic...)
	b = be.AppendUint32(b, snapshotVersion)
	b = be.AppendUint64(b, uint64(offset))
	b = be.AppendUint32(b, uint32(len(ps)))
	for _, id := range slices.Sorted(maps.Keys(ps)) {
		p := ps[id]
		b = be.AppendUint64(b, uint64(id))
		b = be.AppendUint16(b, uint16(p.epoch))
		b = be.AppendUint64(b, uint64(p.lastTime))
		b = be.AppendUint64(b, uint64(p.seen))
		b = append(b, byte(p.n))
		for _, a := range p.batches[:p.n] {
			b = be.AppendUint32(b, uint32(a.firstSeq))
			b = be.AppendUint32(b, uint32(a.lastSeq))
			b = be.AppendUint64(b, uint64(a.first))
			b = be.AppendUint64(b, uint64(a.last))
		}
	}
	return be.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

func decodeSnapshot(b []byte) (ps producers, offset int64, err error) {
	be := binary.BigEndian
	if len(b) < snapshotHead+4 || string(b[:4]) != snapshotMagic {
		return nil, 0, errors.New("it is no snapshot of producers")
	}
	if v := be.Uint32(b[4:]); v != snapshotVersion {
		return nil, 0, fmt.Errorf("its version is %d: want %d", v, snapshotVersion)
	}
	body, sum := b[:len(b)-4], be.Uint32(b[len(b)-4:])
	if crc32.Checksum(body, castagnoli) != sum {
		return nil, 0, errors.New("CRC mismatch")
	}
	offset = int64(be.Uint64(b[8:]))
	count := be.Uint32(b[16:])
	body = body[snapshotHead:]
	if uint64(count)*producerHead > uint64(len(body)) {
		return nil, 0, fmt.Errorf("%d bytes cannot hold %d producers", len(body), count)
	}
	ps = make(producers, count)
	for range count {
		if len(body) < producerHead {
			return nil, 0, errors.New("a producer is cut short")
		}
		p := &producer{
			epoch:    int16(be.Uint16(body[8:])),
			lastTime: int64(be.Uint64(body[10:])),
			seen:     int64(be.Uint64(body[18:])),
			n:        int(body[26]),
		}
		id := int64(be.Uint64(body))
		body = body[producerHead:]
		if p.n > keptBatches || len(body) < p.n*batchEntry || id < 0 || ps[id] != nil {
			return nil, 0, fmt.Errorf("producer %d is malformed", id)
		}
		for i := range p.n {
			p.batches[i] = appended{int32(be.Uint32(body)), int32(be.Uint32(body[4:])), int64(be.Uint64(body[8:])), int64(be.Uint64(body[16:]))}
			body = body[batchEntry:]
		}
		ps[id] = p
	}
	if len(body) != 0 {
		return nil, 0, fmt.Errorf("%d bytes are left over", len(body))
	}
	return ps, offset, nil
}

// loadSnapshot returns the newest usable snapshot that does not go beyond end, or nothing and offset -1. Those that
// cannot be used are removed: they describe what is not there.
func (p *Partition) loadSnapshot(end int64) (producers, int64, error) {
	offs, err := seglog.List(p.fs, p.dir, snapshotExt)
	if err != nil {
		return nil, 0, err
	}
	for _, off := range slices.Backward(offs) {
		path := seglog.Name(p.dir, off, snapshotExt)
		why := error(nil)
		if off > end {
			why = fmt.Errorf("the log ends before it, at %d", end)
		} else {
			b, err := seglog.ReadFile(p.fs, path, snapshotLimit)
			if err != nil {
				return nil, 0, err
			}
			ps, got, err := decodeSnapshot(b)
			if err == nil && got == off {
				return ps, off, nil
			}
			why = errors.Join(err, fmt.Errorf("it says offset %d", got))
		}
		p.logger.Warn("removing a snapshot of producers", "file", path, "why", why)
		if err := p.fs.Remove(path); err != nil {
			return nil, 0, fmt.Errorf("remove snapshot: %w", err)
		}
	}
	return producers{}, -1, nil
}

// writeSnapshot writes the encoded state as of offset and removes older ones.
func writeSnapshot(fsys vfs.FS, dir string, offset int64, b []byte) error {
	if err := seglog.WriteFile(fsys, seglog.Name(dir, offset, snapshotExt), b); err != nil {
		return err
	}
	offs, err := seglog.List(fsys, dir, snapshotExt)
	if err != nil {
		return err
	}
	for _, off := range offs[:max(len(offs)-keptSnapshots, 0)] {
		if err := fsys.Remove(seglog.Name(dir, off, snapshotExt)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove old snapshot: %w", err)
		}
	}
	return nil
}
