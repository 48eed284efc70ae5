// Package flumelog reads the files of Apache Flume's file channel, versions 1.4 to 1.11 (format 3): the log files with their
// .meta, and the checkpoint with its queue and the transactions that were open. Only MarkNoop writes.
package flumelog

import (
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
)

const formatVersion = 3

// Operations, the byte before a record.
const (
	opNoop   = 0x00
	opRecord = 0x7F
	opEOF    = 0x80
)

// maxMeta bounds the small files.
const maxMeta = 1 << 20

// Meta is a log file's .meta.
type Meta struct {
	ID                            int32
	Position, Order               int64 // of the last checkpoint
	BackupPosition, BackupOrder   int64 // of the one before
	Encrypted                     bool
	CipherProvider, EncryptionKey string
	CipherParameters              []byte // AES/CTR: the first counter block, of every record
}

// ParseMeta decodes a .meta.
func ParseMeta(b []byte) (m Meta, err error) {
	msg, _, err := delimited(b)
	if err != nil {
		return m, err
	}
	version, seen := int32(0), uint(0)
	err = fields(msg, func(f field) error {
		seen |= 1 << min(f.id, 31)
		switch {
		case f.id == 1 && f.wire == wireFixed32:
			version = int32(f.num)
		case f.id == 2 && f.wire == wireFixed32:
			m.ID = int32(f.num)
		case f.id == 3 && f.wire == wireFixed64:
			m.Position = int64(f.num)
		case f.id == 4 && f.wire == wireFixed64:
			m.Order = int64(f.num)
		case f.id == 5 && f.wire == wireBytes:
			m.Encrypted = true
			return fields(f.data, func(f field) error {
				switch f.id {
				case 1:
					m.CipherProvider = string(f.data)
				case 2:
					m.EncryptionKey = string(f.data)
				case 3:
					m.CipherParameters = f.data
				}
				return nil
			})
		case f.id == 6 && f.wire == wireFixed64:
			m.BackupPosition = int64(f.num)
		case f.id == 7 && f.wire == wireFixed64:
			m.BackupOrder = int64(f.num)
		}
		return nil
	})
	if err == nil {
		err = need(seen, 1<<1|1<<2|1<<3|1<<4)
	}
	if err == nil && version != formatVersion {
		err = fmt.Errorf("format %d, this program reads %d", version, formatVersion)
	}
	if err == nil && (m.ID < 0 || m.Position < 0 || m.BackupPosition < 0) {
		err = errProto
	}
	return m, err
}

// File is an open log file.
type File struct {
	Path string
	Meta Meta
	f    *os.File
	size int64

	cipher cipher.Block // nil: it is not encrypted, or Unlock was not called
}

var logName = regexp.MustCompile(`^log-(\d+)$`)

// Logs lists the log files of a directory, by number.
func Logs(dir string) ([]string, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil, fmt.Errorf("look for Flume's log files: %w", err)
	}
	var paths []string
	for _, e := range entries {
		if logName.MatchString(e.Name()) && !e.IsDir() {
			paths = append(paths, filepath.Join(dir, e.Name()))
		}
	}
	slices.SortFunc(paths, func(a, b string) int { return number(a) - number(b) })
	return paths, nil
}

// number is the one in a log file's name.
func number(path string) int {
	n, _ := strconv.Atoi(logName.FindStringSubmatch(filepath.Base(path))[1]) // one that is too large is found wrong by its meta
	return n
}

// ErrEmpty: Flume was killed when it had just begun the file.
var ErrEmpty = errors.New("nothing was written to it")

// Open opens a log file and reads its meta. As in Flume, that may still have the name it had while it was replaced.
func Open(path string) (*File, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	l := &File{Path: path, f: f}
	if err := l.open(); err != nil {
		f.Close()
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return l, nil
}

func (l *File) open() error {
	st, err := l.f.Stat()
	if err != nil {
		return err
	}
	l.size = st.Size()
	for _, ext := range []string{".meta", ".meta.tmp", ".meta.old"} {
		b, err := readSmall(l.Path + ext)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		if len(b) == 0 && l.size == 0 {
			return ErrEmpty
		}
		if l.Meta, err = ParseMeta(b); err != nil {
			return fmt.Errorf("%s: %w", filepath.Base(l.Path+ext), err)
		}
		if int(l.Meta.ID) != number(l.Path) {
			return fmt.Errorf("%s is of log file %d", filepath.Base(l.Path+ext), l.Meta.ID)
		}
		return nil
	}
	if l.size < 4 {
		return ErrEmpty
	}
	return errors.New("it has no .meta: if a Flume before 1.4 wrote it, let a newer one start on it once")
}

func readSmall(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxMeta+1))
	if err == nil && len(b) > maxMeta {
		err = fmt.Errorf("%s is larger than %d bytes", path, maxMeta)
	}
	return b, err
}

// Close closes the file.
func (l *File) Close() error { return l.f.Close() }

// CorruptError is a record that cannot be read.
type CorruptError struct {
	Path   string
	Offset int64
	Err    error
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("record at byte %d of %s cannot be read: %v", e.Offset, e.Path, e.Err)
}

func (e *CorruptError) Unwrap() error { return e.Err }

// Scanner reads a log file's records in order.
type Scanner struct {
	l       *File
	pos     int64 // of the next operation
	buf     []byte
	bufAt   int64
	Offset  int64 // of the last record
	Payload []byte
	Noops   int // records passed over because the integrity tool has marked them

	plain []byte // Payload, if that is encrypted
}

// Scan returns a scanner from a position on.
func (l *File) Scan(from int64) *Scanner { return &Scanner{l: l, pos: from} }

const scanBuffer = 1 << 20

// window returns n bytes at pos, which are valid until the next call.
func (s *Scanner) window(pos, n int64) ([]byte, error) {
	if pos+n > s.l.size {
		return nil, io.ErrUnexpectedEOF
	}
	if pos < s.bufAt || pos+n > s.bufAt+int64(len(s.buf)) {
		want := min(max(n, scanBuffer), s.l.size-pos)
		if int64(cap(s.buf)) < want {
			s.buf = make([]byte, want)
		}
		s.buf, s.bufAt = s.buf[:want], pos
		if got, err := s.l.f.ReadAt(s.buf, pos); int64(got) < want {
			s.buf = s.buf[:0]
			if err == nil || err == io.EOF {
				err = io.ErrUnexpectedEOF
			}
			return nil, err
		}
	}
	return s.buf[pos-s.bufAt:][:n:n], nil
}

// Next reads the next record; false at the end. A *CorruptError can be passed over: the next call goes on behind it, or
// ends if nobody knows where that is. Payload is valid until the next call.
func (s *Scanner) Next() (bool, error) {
	for {
		op, err := s.window(s.pos, 1)
		if errors.Is(err, io.ErrUnexpectedEOF) || err == nil && op[0] == opEOF {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s at byte %d: %w", s.l.Path, s.pos, err)
		}
		if op[0] != opRecord && op[0] != opNoop {
			return false, nil // so does Flume: the rest of the file is not looked at
		}
		noop := op[0] == opNoop
		s.Offset = s.pos
		length, err := s.window(s.pos+1, 4)
		if errors.Is(err, io.ErrUnexpectedEOF) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("read %s at byte %d: %w", s.l.Path, s.pos, err)
		}
		n := int64(int32(binary.BigEndian.Uint32(length)))
		if n < 0 || n > s.l.size-s.pos-5 {
			at := s.pos
			s.pos = s.l.size
			return true, &CorruptError{s.l.Path, at, fmt.Errorf("its length is %d", n)}
		}
		payload, err := s.window(s.pos+5, n)
		if err != nil {
			return false, fmt.Errorf("read %s at byte %d: %w", s.l.Path, s.pos, err)
		}
		s.pos += 5 + n
		if noop {
			s.Noops++
			continue
		}
		if s.l.cipher != nil {
			s.plain = slices.Grow(s.plain[:0], len(payload))[:len(payload)]
			s.l.decrypt(s.plain, payload)
			payload = s.plain
		}
		s.Payload = payload
		return true, nil
	}
}

// noopError says that the integrity tool has marked a record.
var errNoop = errors.New("it is marked as of no use by fcintegritytool")

// At reads the record at a position into buf.
func (l *File) At(pos int64, buf []byte) ([]byte, error) {
	var head [5]byte
	if _, err := l.f.ReadAt(head[:], pos); err != nil {
		return buf, l.corrupt(pos, err)
	}
	n := int64(int32(binary.BigEndian.Uint32(head[1:])))
	switch {
	case head[0] == opNoop:
		return buf, &CorruptError{l.Path, pos, errNoop}
	case head[0] != opRecord:
		return buf, &CorruptError{l.Path, pos, fmt.Errorf("there is no record but the byte %02x", head[0])}
	case n < 0 || n > l.size-pos-5:
		return buf, &CorruptError{l.Path, pos, fmt.Errorf("its length is %d", n)}
	}
	buf = slices.Grow(buf[:0], int(n))[:n]
	if _, err := l.f.ReadAt(buf, pos+5); err != nil {
		return buf, l.corrupt(pos, err)
	}
	if l.cipher != nil {
		l.decrypt(buf, buf)
	}
	return buf, nil
}

func (l *File) corrupt(pos int64, err error) error {
	if errors.Is(err, io.EOF) {
		return &CorruptError{l.Path, pos, io.ErrUnexpectedEOF}
	}
	return fmt.Errorf("read %s at byte %d: %w", l.Path, pos, err)
}

// MarkNoop marks the record at a position of a log file, so that Flume passes over it.
func MarkNoop(path string, pos int64) error {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	var op [1]byte
	_, err = f.ReadAt(op[:], pos)
	if err == nil && op[0] != opRecord && op[0] != opNoop {
		err = fmt.Errorf("there is no record but the byte %02x", op[0])
	}
	if err == nil {
		_, err = f.WriteAt([]byte{opNoop}, pos)
	}
	if err == nil {
		err = f.Sync()
	}
	if err = errors.Join(err, f.Close()); err != nil {
		return fmt.Errorf("mark the record at byte %d of %s: %w", pos, path, err)
	}
	return nil
}
