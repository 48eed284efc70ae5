package segment

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"os"
	"sort"
	"sync"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	indexExt = ".index"
	timeExt  = ".timeindex"

	posEntrySize  = 8
	timeEntrySize = 12
	footerSize    = 24
	indexMagic    = "SLIX"
	indexVersion  = 1
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// posEntry says that the batch with base offset segment base + rel starts at pos.
type posEntry struct{ rel, pos uint32 }

// timeEntry says that no record below segment base + rel has a timestamp above ts.
type timeEntry struct {
	ts  int64
	rel uint32
}

// index is a segment's sparse indexes in memory. Slices only grow, so a copy of them stays valid while batches are noted.
type index struct {
	pos   []posEntry
	times []timeEntry
	since int64 // bytes since the last entry
}

// note takes up one batch. maxBefore is the largest timestamp of the segment before it.
func (x *index) note(base int64, h *record.Header, pos, maxBefore, interval int64) {
	if len(x.pos) == 0 || x.since >= interval {
		rel := uint32(h.BaseOffset - base)
		x.pos = append(x.pos, posEntry{rel, uint32(pos)})
		if n := len(x.times); maxBefore >= 0 && (n == 0 || maxBefore > x.times[n-1].ts) {
			x.times = append(x.times, timeEntry{maxBefore, rel})
		}
		x.since = 0
	}
	x.since += h.Size()
}

// searcher finds positions in a segment; over memory or over a file.
type searcher interface {
	// before returns the position of the last indexed batch whose base offset is at most off.
	before(base, off int64) (pos int64, err error)
	// beforePos returns the position of the last indexed batch that starts at or before pos.
	beforePos(pos int64) (int64, error)
	// notAfter returns an offset below which no record has a timestamp of ts or more.
	notAfter(base, ts int64) (off int64, err error)
}

type memSearcher struct {
	pos   []posEntry
	times []timeEntry
}

func (m memSearcher) before(base, off int64) (int64, error) {
	i := sort.Search(len(m.pos), func(i int) bool { return base+int64(m.pos[i].rel) > off })
	if i == 0 {
		return 0, nil
	}
	return int64(m.pos[i-1].pos), nil
}

func (m memSearcher) beforePos(pos int64) (int64, error) {
	i := sort.Search(len(m.pos), func(i int) bool { return int64(m.pos[i].pos) > pos })
	if i == 0 {
		return 0, nil
	}
	return int64(m.pos[i-1].pos), nil
}

func (m memSearcher) notAfter(base, ts int64) (int64, error) {
	i := sort.Search(len(m.times), func(i int) bool { return m.times[i].ts >= ts })
	if i == 0 {
		return base, nil
	}
	return base + int64(m.times[i-1].rel), nil
}

// encode returns the two files of a segment whose log has size bytes. The last time entry covers the whole segment.
func (x *index) encode(base, next, maxTS, size int64) (pos, times []byte) {
	be := binary.BigEndian
	pos = make([]byte, 0, len(x.pos)*posEntrySize+footerSize)
	for _, e := range x.pos {
		pos = be.AppendUint32(pos, e.rel)
		pos = be.AppendUint32(pos, e.pos)
	}
	times = make([]byte, 0, (len(x.times)+1)*timeEntrySize+footerSize)
	for _, e := range x.times {
		times = be.AppendUint64(times, uint64(e.ts))
		times = be.AppendUint32(times, e.rel)
	}
	times = be.AppendUint64(times, uint64(maxTS))
	times = be.AppendUint32(times, uint32(next-base))
	return footer(pos, 0, posEntrySize, size), footer(times, 1, timeEntrySize, size)
}

func footer(b []byte, kind byte, entry int, logSize int64) []byte {
	n := len(b) / entry
	b = append(b, indexMagic...)
	b = append(b, indexVersion, kind, 0, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(n))
	b = binary.BigEndian.AppendUint64(b, uint64(logSize))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, castagnoli))
}

// errBadIndex says that an index must be rebuilt; it never leaves the package.
var errBadIndex = errors.New("index is unusable")

// checkFooter verifies what the last 24 bytes of an index file say about it, without the CRC.
func checkFooter(f []byte, fileSize int64, kind byte, entry int, logSize int64) (n int, err error) {
	be := binary.BigEndian
	if len(f) != footerSize || string(f[:4]) != indexMagic || f[4] != indexVersion || f[5] != kind {
		return 0, fmt.Errorf("%w: no footer", errBadIndex)
	}
	n = int(be.Uint32(f[8:]))
	if fileSize != int64(n)*int64(entry)+footerSize {
		return 0, fmt.Errorf("%w: %d bytes cannot hold %d entries", errBadIndex, fileSize, n)
	}
	if got := int64(be.Uint64(f[12:])); got != logSize {
		return 0, fmt.Errorf("%w: it was made for a log of %d bytes, which has %d", errBadIndex, got, logSize)
	}
	return n, nil
}

// readIndex reads and verifies one whole index file and returns its entries' bytes.
func readIndex(fsys vfs.FS, path string, kind byte, entry int, logSize int64) ([]byte, error) {
	f, err := fsys.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	defer f.Close() // read only: nothing can be lost
	return readIndexFile(f, kind, entry, logSize)
}

// readIndexFile is readIndex of a file that is open already.
func readIndexFile(f vfs.File, kind byte, entry int, logSize int64) ([]byte, error) {
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	if st.Size() > 1<<31 {
		return nil, fmt.Errorf("%w: %d bytes are too many", errBadIndex, st.Size())
	}
	b := make([]byte, st.Size())
	if n, err := f.ReadAt(b, 0); n < len(b) {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	if len(b) < footerSize {
		return nil, fmt.Errorf("%w: too short", errBadIndex)
	}
	n, err := checkFooter(b[len(b)-footerSize:], int64(len(b)), kind, entry, logSize)
	if err != nil {
		return nil, err
	}
	if crc32.Checksum(b[:len(b)-4], castagnoli) != binary.BigEndian.Uint32(b[len(b)-4:]) {
		return nil, fmt.Errorf("%w: CRC mismatch", errBadIndex)
	}
	return b[:n*entry], nil
}

// loadIndex reads both files of a segment into memory, to go on appending after a clean shutdown.
func loadIndex(fsys vfs.FS, dir string, base, logSize int64) (x *index, maxTS, next int64, err error) {
	pb, err := readIndex(fsys, seglog.Name(dir, base, indexExt), 0, posEntrySize, logSize)
	if err != nil {
		return nil, 0, 0, err
	}
	tb, err := readIndex(fsys, seglog.Name(dir, base, timeExt), 1, timeEntrySize, logSize)
	if err != nil {
		return nil, 0, 0, err
	}
	if len(tb) == 0 || (len(pb) == 0) != (logSize == 0) {
		return nil, 0, 0, fmt.Errorf("%w: entries are missing", errBadIndex)
	}
	be := binary.BigEndian
	x = &index{}
	for ; len(pb) > 0; pb = pb[posEntrySize:] {
		x.pos = append(x.pos, posEntry{be.Uint32(pb), be.Uint32(pb[4:])})
	}
	for ; len(tb) > timeEntrySize; tb = tb[timeEntrySize:] {
		x.times = append(x.times, timeEntry{int64(be.Uint64(tb)), be.Uint32(tb[8:])})
	}
	if n := len(x.pos); n > 0 {
		x.since = logSize - int64(x.pos[n-1].pos)
	}
	return x, int64(be.Uint64(tb)), base + int64(be.Uint32(tb[8:])), nil
}

// fileIndex searches the index files of a sealed segment. They are verified once, on first use, and then read a few
// bytes at a time, so that old segments cost no memory.
type fileIndex struct {
	fs      vfs.FS
	dir     string
	base    int64
	logSize int64

	mu  sync.Mutex
	f   vfs.File // the offset index, once verified
	n   int
	err error // sticky
}

// tail reads the last time entry: the segment's largest timestamp and its next offset. It is all that opening a log needs.
func (x *fileIndex) tail() (maxTS, next int64, err error) {
	if _, err := x.readTail(indexExt, 0, posEntrySize); err != nil {
		return 0, 0, err
	}
	e, err := x.readTail(timeExt, 1, timeEntrySize)
	if err != nil {
		return 0, 0, err
	}
	be := binary.BigEndian
	return int64(be.Uint64(e)), x.base + int64(be.Uint32(e[8:])), nil
}

func (x *fileIndex) readTail(ext string, kind byte, entry int) ([]byte, error) {
	f, err := x.fs.Open(seglog.Name(x.dir, x.base, ext), os.O_RDONLY)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	b := make([]byte, entry+footerSize)
	if st.Size() < int64(len(b)) {
		return nil, fmt.Errorf("%w: too short", errBadIndex)
	}
	if n, err := f.ReadAt(b, st.Size()-int64(len(b))); n < len(b) {
		return nil, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	if _, err := checkFooter(b[entry:], st.Size(), kind, entry, x.logSize); err != nil {
		return nil, err
	}
	return b[:entry], nil
}

// open verifies the offset index and keeps it open. close is called when the segment's last reader is gone.
func (x *fileIndex) open() (vfs.File, int, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.f != nil || x.err != nil {
		return x.f, x.n, x.err
	}
	// What is verified is what is kept: compaction may put another file under the name meanwhile.
	f, err := x.fs.Open(seglog.Name(x.dir, x.base, indexExt), os.O_RDONLY)
	if err != nil {
		x.err = fmt.Errorf("%w: %w", errBadIndex, err)
		return nil, 0, x.err
	}
	b, err := readIndexFile(f, 0, posEntrySize, x.logSize)
	if err != nil {
		f.Close() // read only: nothing can be lost
		x.err = err
		return nil, 0, err
	}
	x.f, x.n = f, len(b)/posEntrySize
	return x.f, x.n, nil
}

func (x *fileIndex) close() {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.f != nil {
		x.f.Close() // read only: nothing can be lost
		x.f = nil
	}
	x.err = errBadIndex
}

// search returns the last entry for which beyond is false, or the zero entry.
func (x *fileIndex) search(beyond func(posEntry) bool) (posEntry, error) {
	f, n, err := x.open()
	if err != nil {
		return posEntry{}, err
	}
	const block = 512
	var buf [block * posEntrySize]byte
	be := binary.BigEndian
	at := func(b []byte) posEntry { return posEntry{be.Uint32(b), be.Uint32(b[4:])} }
	lo, hi := 0, n // the first entry beyond is in [lo, hi]
	for hi-lo > block {
		mid := int(uint(lo+hi) / 2)
		if _, err := f.ReadAt(buf[:posEntrySize], int64(mid)*posEntrySize); err != nil {
			return posEntry{}, fmt.Errorf("%w: %w", errBadIndex, err)
		}
		if beyond(at(buf[:])) {
			hi = mid
		} else {
			lo = mid
		}
	}
	b := buf[:(hi-lo)*posEntrySize]
	if got, err := f.ReadAt(b, int64(lo)*posEntrySize); got < len(b) && !(err == nil || err == io.EOF && len(b) == 0) {
		return posEntry{}, fmt.Errorf("%w: %w", errBadIndex, err)
	}
	i := sort.Search(hi-lo, func(i int) bool { return beyond(at(b[i*posEntrySize:])) })
	if i == 0 {
		return posEntry{}, nil
	}
	return at(b[(i-1)*posEntrySize:]), nil
}

func (x *fileIndex) before(base, off int64) (int64, error) {
	e, err := x.search(func(e posEntry) bool { return base+int64(e.rel) > off })
	return int64(e.pos), err
}

func (x *fileIndex) beforePos(pos int64) (int64, error) {
	e, err := x.search(func(e posEntry) bool { return int64(e.pos) > pos })
	return int64(e.pos), err
}

// notAfter reads the whole time index: searches by time are rare.
func (x *fileIndex) notAfter(base, ts int64) (int64, error) {
	b, err := readIndex(x.fs, seglog.Name(x.dir, x.base, timeExt), 1, timeEntrySize, x.logSize)
	if err != nil {
		return 0, err
	}
	be := binary.BigEndian
	i := sort.Search(len(b)/timeEntrySize, func(i int) bool { return int64(be.Uint64(b[i*timeEntrySize:])) >= ts })
	if i == 0 {
		return base, nil
	}
	return base + int64(be.Uint32(b[(i-1)*timeEntrySize+8:])), nil
}
