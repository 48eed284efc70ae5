package tail

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/filelock"
)

// Entry is how far a file was delivered.
type Entry struct {
	Inode uint64
	Pos   int64
	path  string

	// What Flume's entries do not have; known says that it is there.
	known   bool
	born    int64
	headLen int
	headSum uint32
	tailLen int // -1: Pos was set by somebody else
	tailSum uint32
}

// ErrLocked means that somebody else uses the position file.
var ErrLocked = errors.New("another source or another agent uses it")

// Suffixes of the files beside the position file.
const (
	recentSuffix = ".recent"
	badSuffix    = ".BAD"
	tmpSuffix    = ".tmp"
)

const recentHead = "sluice positions 1 "

// Positions is a position file and the file of recent changes beside it.
type Positions struct {
	path   string
	recent *os.File // locked
	size   int64    // of what recent holds
	buf    []byte

	// Entries are those that were found, until they are taken over.
	Entries []Entry
	// Aside is where a position file that could not be parsed is now.
	Aside string
}

// OpenPositions reads the position file of that path, if there is one, and
// locks it until Close. A file that cannot be parsed is set aside.
func OpenPositions(path string) (_ *Positions, err error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o777); err != nil {
		return nil, fmt.Errorf("make the directory of the position file: %w", err)
	}
	p := &Positions{path: path}
	if p.recent, err = os.OpenFile(path+recentSuffix, os.O_RDWR|os.O_CREATE, 0o644); err != nil {
		return nil, fmt.Errorf("open position file: %w", err)
	}
	defer func() {
		if err != nil {
			p.recent.Close()
		}
	}()
	if err := filelock.Lock(p.recent); errors.Is(err, filelock.ErrHeld) {
		return nil, fmt.Errorf("lock position file %s: %w (give each source a positionFile of its own)", path, ErrLocked)
	} else if err != nil {
		return nil, fmt.Errorf("lock position file %s: %w", path, err)
	}
	text, err := os.ReadFile(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read position file: %w (grant the right to read it, or remove it to begin anew)", err)
	}
	var bad error
	p.Entries, bad = parsePositions(text)
	recent, err := os.ReadFile(path + recentSuffix)
	if err != nil {
		return nil, fmt.Errorf("read position file: %w", err)
	}
	changes, size := parseRecent(recent, crc32.Checksum(text, castagnoli))
	p.Entries, p.size = merge(p.Entries, changes), int64(size)
	if bad != nil {
		if p.Aside, err = setAside(path); err != nil {
			return nil, fmt.Errorf("parse position file %s: %w; and it cannot be set aside: %w", path, bad, err)
		}
		text, p.size = nil, 0
	}
	if p.size > 0 { // it goes on after the last whole line
		err = p.recent.Truncate(p.size)
	} else {
		err = p.begin(text)
	}
	if err != nil {
		return nil, fmt.Errorf("write recent positions: %w", err)
	}
	return p, nil
}

func setAside(path string) (string, error) {
	for i := 1; ; i++ {
		to := path + badSuffix
		if i > 1 {
			to = fmt.Sprintf("%s.%d%s", path, i, badSuffix)
		}
		if _, err := os.Lstat(to); errors.Is(err, fs.ErrNotExist) {
			return to, os.Rename(path, to)
		} else if err != nil {
			return "", err
		}
	}
}

// merge lets later entries take the place of earlier ones of the same inode.
func merge(old, recent []Entry) []Entry {
	at := make(map[uint64][]int, len(old))
	for i := range old {
		at[old[i].Inode] = append(at[old[i].Inode], i)
	}
next:
	for _, e := range recent {
		for _, i := range at[e.Inode] {
			if sameBirth(old[i].born, e.born) {
				old[i] = e
				continue next
			}
		}
		at[e.Inode] = append(at[e.Inode], len(old))
		old = append(old, e)
	}
	return old
}

// Write stores entries as the whole position file, synced.
func (p *Positions) Write(entries []Entry) error {
	p.buf = appendEntries(p.buf[:0], entries)
	if err := p.replace(p.buf); err != nil {
		return fmt.Errorf("write position file: %w", err)
	}
	return p.begin(p.buf)
}

// begin makes the recent changes those since a position file of that text.
func (p *Positions) begin(text []byte) error {
	p.size = 0
	if err := p.recent.Truncate(0); err != nil {
		return fmt.Errorf("write recent positions: %w", err)
	}
	return p.write(fmt.Appendf(nil, "%s%08x\n", recentHead, crc32.Checksum(text, castagnoli)))
}

func (p *Positions) replace(text []byte) (err error) {
	tmp := p.path + tmpSuffix
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	if _, err = f.Write(text); err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(tmp, p.path)
	}
	if err != nil {
		os.Remove(tmp) // best effort: the next write truncates it
		return err
	}
	d, err := os.Open(filepath.Dir(p.path))
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// Append notes entries that have changed since the last Write.
func (p *Positions) Append(entries []Entry) error {
	p.buf = append(p.buf[:0], "........ "...)
	p.buf = appendEntries(p.buf, entries)
	const sum = 9 // where the array begins
	copy(p.buf, fmt.Appendf(nil, "%08x", crc32.Checksum(p.buf[sum:], castagnoli)))
	p.buf = append(p.buf, '\n')
	return p.write(p.buf)
}

func (p *Positions) write(b []byte) error {
	if _, err := p.recent.WriteAt(b, p.size); err != nil {
		return fmt.Errorf("write recent positions: %w", err)
	}
	p.size += int64(len(b))
	return nil
}

// Close gives the position file free. It is idempotent.
func (p *Positions) Close() error {
	if p.recent == nil {
		return nil
	}
	err := p.recent.Close()
	p.recent = nil
	return err
}

func appendEntries(b []byte, entries []Entry) []byte {
	b = append(b, '[')
	for i := range entries {
		e := &entries[i]
		if i > 0 {
			b = append(b, ',')
		}
		b = appendObject(b, int64(e.Inode), e.Pos, e.path)
		if e.known {
			x := fmt.Sprintf("sluice born=%d head=%d:%08x", e.born, e.headLen, e.headSum)
			if e.tailLen >= 0 {
				x += fmt.Sprintf(" tail=%d:%08x", e.tailLen, e.tailSum)
			}
			b = append(b, ',')
			b = appendObject(b, 0, e.Pos, x)
		}
	}
	return append(b, ']')
}

func appendObject(b []byte, inode, pos int64, file string) []byte {
	b = append(b, `{"inode":`...)
	b = strconv.AppendInt(b, inode, 10)
	b = append(b, `,"pos":`...)
	b = strconv.AppendInt(b, pos, 10)
	b = append(b, `,"file":`...)
	name, _ := json.Marshal(file) // strings have no errors
	b = append(b, name...)
	return append(b, '}')
}

// parsePositions returns the entries of a position file, Flume's or ours, and
// with an error those before the damage.
func parsePositions(text []byte) ([]Entry, error) {
	if len(text) == 0 { // Flume's file when it has seen nothing
		return nil, nil
	}
	var entries []Entry
	d := json.NewDecoder(bytes.NewReader(text))
	if t, err := d.Token(); err != nil {
		return nil, err
	} else if t != json.Delim('[') {
		return nil, fmt.Errorf("it does not begin with [ but with %v", t)
	}
	for d.More() {
		var o struct {
			Inode *int64  `json:"inode"`
			Pos   *int64  `json:"pos"`
			File  *string `json:"file"`
		}
		if err := d.Decode(&o); err != nil {
			return entries, err
		}
		if o.Inode == nil || o.Pos == nil || o.File == nil || *o.Pos < 0 {
			return entries, fmt.Errorf("the object that ends at byte %d has no inode, no pos or no file", d.InputOffset())
		}
		if x, ours := strings.CutPrefix(*o.File, "sluice "); ours && *o.Inode == 0 {
			if n := len(entries); n > 0 {
				entries[n-1].learn(x, *o.Pos)
			}
			continue
		}
		entries = append(entries, Entry{Inode: uint64(*o.Inode), Pos: *o.Pos, path: *o.File})
	}
	_, err := d.Token() // what follows the array nobody reads
	return entries, err
}

// learn takes what an object of ours says of the entry before it.
func (e *Entry) learn(text string, pos int64) {
	x := Entry{Inode: e.Inode, Pos: e.Pos, path: e.path, known: true, tailLen: -1}
	for f := range strings.FieldsSeq(text) {
		k, v, _ := strings.Cut(f, "=")
		var err error
		switch k {
		case "born":
			x.born, err = strconv.ParseInt(v, 10, 64)
		case "head":
			x.headLen, x.headSum, err = parseMark(v, headMax)
		case "tail":
			x.tailLen, x.tailSum, err = parseMark(v, tailMax)
		}
		if err != nil {
			return // not ours after all
		}
	}
	if pos != e.Pos {
		x.tailLen, x.tailSum = -1, 0
	}
	*e = x
}

func parseMark(s string, most int) (n int, sum uint32, err error) {
	l, c, _ := strings.Cut(s, ":")
	if n, err = strconv.Atoi(l); err != nil || n < 0 || n > most {
		return 0, 0, fmt.Errorf("%q is no mark", s)
	}
	u, err := strconv.ParseUint(c, 16, 32)
	return n, uint32(u), err
}

// parseRecent returns what was noted since the position file whose checksum is
// base, and how much of text that is; nothing if it is another one's.
func parseRecent(text []byte, base uint32) (entries []Entry, size int) {
	head, rest, ok := bytes.Cut(text, []byte{'\n'})
	if !ok || string(head) != fmt.Sprintf("%s%08x", recentHead, base) {
		return nil, 0
	}
	for {
		line, next, ok := bytes.Cut(rest, []byte{'\n'})
		sum, array, _ := bytes.Cut(line, []byte{' '})
		want, err := strconv.ParseUint(string(sum), 16, 32)
		if !ok || err != nil || crc32.Checksum(array, castagnoli) != uint32(want) {
			break
		}
		es, err := parsePositions(array)
		if err != nil {
			break
		}
		entries = append(entries, es...)
		rest = next
	}
	return entries, len(text) - len(rest)
}
