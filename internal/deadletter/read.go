package deadletter

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Dirs are the directories of components at or below dir.
func Dirs(dir string) ([]string, error) {
	has := func(d string) (bool, error) {
		bases, err := seglog.List(vfs.OS{}, d, extension)
		if err != nil {
			return false, err
		}
		_, err = os.Stat(filepath.Join(d, lockFile))
		return len(bases) > 0 || err == nil, nil
	}
	own, err := has(dir)
	if err != nil {
		return nil, err
	}
	if own {
		return []string{dir}, nil
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	var dirs []string
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		sub := filepath.Join(dir, e.Name())
		if ok, err := has(sub); err != nil {
			return nil, err
		} else if ok {
			dirs = append(dirs, sub)
		}
	}
	return dirs, nil
}

// Read calls each with every letter of a component's directory, in order; a
// letter is void after the call. It goes on behind what is damaged, and returns
// that at the end. The agent may run: what it is writing is passed
// over.
func Read(dir string, each func(*Letter) error) error {
	bases, err := seglog.List(vfs.OS{}, dir, extension)
	if err != nil {
		return err
	}
	var damage []error
	for i, base := range bases {
		path := seglog.Name(dir, base, extension)
		fr := framing{next: base, each: each}
		res, err := scanFile(path, &fr, func(ce *seglog.CorruptionError) { damage = append(damage, ce) })
		switch {
		case errors.Is(err, fs.ErrNotExist): // a replay has deleted it
		case err != nil:
			damage = append(damage, err)
		case res.Torn != nil && i < len(bases)-1:
			damage = append(damage, &seglog.CorruptionError{Path: path, Offset: res.End, Err: res.Torn})
		}
		if fr.err != nil {
			return fr.err
		}
	}
	return errors.Join(damage...)
}

func scanFile(path string, fr *framing, damage func(*seglog.CorruptionError)) (seglog.ScanResult, error) {
	f, err := os.Open(path)
	if err != nil {
		return seglog.ScanResult{}, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return seglog.ScanResult{}, err
	}
	return fr.scan(f, path, st.Size(), damage)
}

const (
	replayedFile    = "replayed"
	maxReplayedFile = 64 << 20
)

// Ranges are sets of numbers: ascending, apart from each other.
type Ranges []Range

// Range is the numbers from First to Last.
type Range struct{ First, Last int64 }

// Has says whether n is in the set.
func (r Ranges) Has(n int64) bool {
	_, ok := r.find(n)
	return ok
}

func (r Ranges) find(n int64) (int, bool) {
	return slices.BinarySearchFunc(r, n, func(e Range, n int64) int {
		switch {
		case e.Last < n:
			return -1
		case e.First > n:
			return 1
		}
		return 0
	})
}

// add puts n into the set.
func (r Ranges) add(n int64) Ranges {
	i, ok := r.find(n)
	if ok {
		return r
	}
	below := i > 0 && r[i-1].Last == n-1
	above := i < len(r) && r[i].First == n+1
	switch {
	case below && above:
		r[i-1].Last = r[i].Last
		return slices.Delete(r, i, i+1)
	case below:
		r[i-1].Last = n
	case above:
		r[i].First = n
	default:
		return slices.Insert(r, i, Range{n, n})
	}
	return r
}

// end is the first number behind the set, at least 1.
func (r Ranges) end() int64 {
	if len(r) == 0 {
		return 1
	}
	return r[len(r)-1].Last + 1
}

func (r Ranges) text() []byte {
	var b bytes.Buffer
	for _, e := range r {
		fmt.Fprintf(&b, "%d-%d\n", e.First, e.Last)
	}
	return b.Bytes()
}

// Replayed are the numbers of a component's letters that were replayed.
func Replayed(dir string) (Ranges, error) { return readReplayed(vfs.OS{}, dir) }

func readReplayed(fsys vfs.FS, dir string) (Ranges, error) {
	path := filepath.Join(dir, replayedFile)
	b, err := seglog.ReadFile(fsys, path, maxReplayedFile)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read which letters were replayed: %w", err)
	}
	r, err := parseRanges(b)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w (delete the file: every letter then counts as not replayed)", path, err)
	}
	return r, nil
}

func parseRanges(b []byte) (Ranges, error) {
	var r Ranges
	for sc := bufio.NewScanner(bytes.NewReader(b)); sc.Scan(); {
		var e Range
		var more string
		if n, _ := fmt.Sscanf(strings.TrimSpace(sc.Text()), "%d-%d%s", &e.First, &e.Last, &more); n != 2 || e.First < r.end() || e.Last < e.First {
			return nil, fmt.Errorf("%q is no range of numbers that follows those before", sc.Text())
		}
		r = append(r, e)
	}
	return r, nil
}

// Replay notes which letters of a directory were replayed.
type Replay struct {
	dir    string
	lock   *os.File
	ranges Ranges
}

// OpenReplay begins a replay. There is one at a time for a directory.
func OpenReplay(dir string) (*Replay, error) {
	l, err := lock(filepath.Join(dir, replayLockFile), "another replay is running")
	if err != nil {
		return nil, fmt.Errorf("replay: %w", err)
	}
	r := &Replay{dir: dir, lock: l}
	if r.ranges, err = Replayed(dir); err != nil {
		l.Close()
		return nil, err
	}
	return r, nil
}

// Has says whether a letter was replayed.
func (r *Replay) Has(n int64) bool { return r.ranges.Has(n) }

// Done notes that a letter was replayed; it is durable when Done returns.
func (r *Replay) Done(n int64) error {
	r.ranges = r.ranges.add(n)
	return seglog.WriteFile(vfs.OS{}, filepath.Join(r.dir, replayedFile), r.ranges.text())
}

// Close deletes the files all of whose letters were replayed, but for the
// last, and ends the replay.
func (r *Replay) Close() error {
	defer r.lock.Close()
	bases, err := seglog.List(vfs.OS{}, r.dir, extension)
	if err != nil {
		return err
	}
	for i := 0; i+1 < len(bases); i++ {
		at, ok := r.ranges.find(bases[i])
		if !ok || r.ranges[at].Last < bases[i+1]-1 {
			continue
		}
		if err := os.Remove(seglog.Name(r.dir, bases[i], extension)); err != nil {
			return fmt.Errorf("delete replayed letters: %w", err)
		}
	}
	return nil
}
