package sim

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"
)

// ManifestFormat is the version written into Manifest.Format.
const ManifestFormat = 1

// ManifestName is the manifest's file name in the simulator's directory.
const ManifestName = "manifest.json"

// Manifest says what a simulator run wrote. It is replaced atomically twice a
// second and at the end. The hashes of the lines lie in side files beside it,
// eight bytes little-endian each, in written order.
type Manifest struct {
	Format int `json:"format"`
	// Complete is false while the run lasts and after a kill. Then the side
	// files may be ahead of the counts: hashes are written before their
	// lines, so that no line is ever in a log without its hash here.
	Complete bool      `json:"complete"`
	Config   Config    `json:"config"`
	Updated  time.Time `json:"updated"`
	// Clock is the simulated time reached, as time14.
	Clock  string `json:"clock"`
	Status *Log   `json:"status,omitempty"`
	Driver *Log   `json:"driver,omitempty"`
}

// Log is the account of one of the two logs.
type Log struct {
	Lines   int64            `json:"lines"`
	Records int64            `json:"records"`
	Garbage map[string]int64 `json:"garbage"` // lines by sort
	Bytes   int64            `json:"bytes"`
	Files   []File           `json:"files"` // in written order
	// RecordHashes and GarbageHashes name the side files, relative to the
	// manifest.
	RecordHashes  string `json:"record_hashes"`
	GarbageHashes string `json:"garbage_hashes"`
}

// GarbageLines is the number of lines that are no records.
func (l *Log) GarbageLines() int64 { return l.Lines - l.Records }

// File is one file of a log.
type File struct {
	Name    string `json:"name"`
	Lines   int64  `json:"lines"`
	Records int64  `json:"records"`
	Bytes   int64  `json:"bytes"`
	// Complete files get no more lines: a finished day, a rotated log.
	Complete bool `json:"complete"`
}

// LoadManifest reads a manifest.
func LoadManifest(path string) (*Manifest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, fmt.Errorf("read manifest %s: %w", path, err)
	}
	if m.Format != ManifestFormat {
		return nil, fmt.Errorf("read manifest %s: its format is %d and this program reads %d", path, m.Format, ManifestFormat)
	}
	return &m, nil
}

// store writes the manifest beside the target and renames it over it, so that
// a reader or a kill never sees half of it.
func (m *Manifest) store(path string) error {
	data, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return fmt.Errorf("encode manifest: %w", err)
	}
	tmp := path + ".tmp"
	if err := os.WriteFile(tmp, append(data, '\n'), 0o644); err != nil {
		return fmt.Errorf("write manifest: %w", err)
	}
	if err := os.Rename(tmp, path); err != nil {
		return fmt.Errorf("replace manifest: %w", err)
	}
	return nil
}

// ReadHashes reads a side file. A torn last entry, which a kill can leave, is
// left out.
func ReadHashes(path string) ([]uint64, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read hashes: %w", err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read hashes: %w", err)
	}
	out := make([]uint64, 0, st.Size()/8)
	r := bufio.NewReaderSize(f, 1<<16)
	var b [8]byte
	for {
		_, err := io.ReadFull(r, b[:])
		if err == io.EOF || errors.Is(err, io.ErrUnexpectedEOF) {
			return out, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read hashes %s: %w", path, err)
		}
		out = append(out, binary.LittleEndian.Uint64(b[:]))
	}
}

// hashFile appends to a side file. After a resume it swallows as many hashes
// as are already there, because the generator starts over from the beginning.
type hashFile struct {
	f    *os.File
	skip int64 // hashes still to swallow
	buf  []byte
}

func openHashFile(path string, resume bool) (*hashFile, error) {
	flags := os.O_CREATE | os.O_WRONLY
	if !resume {
		flags |= os.O_TRUNC
	}
	f, err := os.OpenFile(path, flags, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open hash file: %w", err)
	}
	h := &hashFile{f: f}
	size, err := f.Seek(0, io.SeekEnd)
	if err == nil && size%8 != 0 {
		size -= size % 8
		if err = f.Truncate(size); err == nil {
			_, err = f.Seek(size, io.SeekStart)
		}
	}
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open hash file %s: %w", filepath.Base(path), err)
	}
	h.skip = size / 8
	return h, nil
}

func (h *hashFile) write(hashes []uint64) error {
	if n := min(h.skip, int64(len(hashes))); n > 0 {
		h.skip -= n
		hashes = hashes[n:]
	}
	if len(hashes) == 0 {
		return nil
	}
	h.buf = h.buf[:0]
	for _, v := range hashes {
		h.buf = binary.LittleEndian.AppendUint64(h.buf, v)
	}
	if _, err := h.f.Write(h.buf); err != nil {
		return fmt.Errorf("write hash file: %w", err)
	}
	return nil
}

// Kind names one of the two logs.
type Kind string

// The kinds of log.
const (
	StatusKind Kind = "status"
	DriverKind Kind = "driver"
)

// Of is the manifest's account of a log, nil when it was not written.
func (m *Manifest) Of(k Kind) *Log {
	if k == StatusKind {
		return m.Status
	}
	return m.Driver
}

// Texts generates a log's records again and returns those at the wanted
// positions (0 is the first record). The manifest keeps hashes only; this puts
// a text to a hash that nothing arrived for.
func Texts(c Config, k Kind, want []int64) (map[int64]string, error) {
	out := make(map[int64]string, len(want))
	last := int64(-1)
	for _, at := range want {
		out[at], last = "", max(last, at)
	}
	err := generate(c, k, last+1, func(from, n int64) bool { return wantsAny(out, from, n) }, func(at int64, line []byte) {
		if _, ok := out[at]; ok {
			out[at] = string(line)
		}
	})
	return out, err
}

// EachText generates the first n records of a log again and calls each for
// them, in written order. The line is valid during the call.
func EachText(c Config, k Kind, n int64, each func(at int64, line []byte)) error {
	return generate(c, k, n, func(int64, int64) bool { return true }, func(at int64, line []byte) {
		if at < n {
			each(at, line)
		}
	})
}

// generate calls each for the records of a log, at least n of them and none of
// the blocks of which nothing is wanted.
func generate(c Config, k Kind, n int64, wanted func(from, n int64) bool, each func(at int64, line []byte)) error {
	if err := c.Validate(); err != nil {
		return err
	}
	var b block
	var emit func()
	if k == StatusKind {
		g := newStatusGen(c)
		emit = func() { g.tick(&b) }
	} else {
		g := newDriverGen(c)
		g.headings(&b)
		emit = func() { g.unit(&b) }
	}
	for next := int64(0); next < n; {
		emit()
		if wanted(next, int64(len(b.records))) {
			at, i := next, 0
			for line := range bytes.Lines(b.buf) {
				line = line[:len(line)-1]
				if i == len(b.records) || HashLine(line) != b.records[i] {
					continue // garbage
				}
				each(at, line)
				at, i = at+1, i+1
			}
		}
		next += int64(len(b.records))
		b.reset()
	}
	return nil
}

// wantsAny says whether m has a key within [from, from+n).
func wantsAny(m map[int64]string, from, n int64) bool {
	for i := from; i < from+n; i++ {
		if _, ok := m[i]; ok {
			return true
		}
	}
	return false
}
