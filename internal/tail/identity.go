package tail

import (
	"hash/crc32"
	"io"
	"os"
)

// id names a file while it exists.
type id struct{ dev, ino uint64 }

// stat is what the file system says of a file.
type stat struct {
	id
	born    int64 // when the inode was taken into use, in ns; 0: not known
	size    int64
	mtime   int64 // ns
	regular bool
	dir     bool
}

// sameBirth says that nothing speaks against both being the same inode.
func sameBirth(a, b int64) bool { return a == 0 || b == 0 || a == b }

const (
	headMax = 1024
	tailMax = 64
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// marks tell a file by its contents: what was delivered of its first bytes and
// of those before the position.
type marks struct {
	headLen int
	headSum uint32
	tailLen int
	tail    [tailMax]byte
}

// add notes that p, which begins at pos, was read.
func (m *marks) add(p []byte, pos int64) {
	if m.headLen < headMax && pos == int64(m.headLen) {
		n := min(len(p), headMax-m.headLen)
		m.headSum = crc32.Update(m.headSum, castagnoli, p[:n])
		m.headLen += n
	}
	if len(p) >= tailMax {
		m.tailLen = copy(m.tail[:], p[len(p)-tailMax:])
		return
	}
	keep := min(m.tailLen, tailMax-len(p))
	copy(m.tail[:], m.tail[m.tailLen-keep:m.tailLen])
	m.tailLen = keep + copy(m.tail[keep:], p)
}

// last is the byte before the position; 0 if there is none.
func (m *marks) last() byte {
	if m.tailLen == 0 {
		return 0
	}
	return m.tail[m.tailLen-1]
}

func (m *marks) tailSum() uint32 { return crc32.Checksum(m.tail[:m.tailLen], castagnoli) }

// headAgrees reads the file's head and compares.
func (m *marks) headAgrees(f io.ReaderAt, buf *[headMax]byte) (bool, error) {
	n, err := f.ReadAt(buf[:m.headLen], 0)
	if err != nil && err != io.EOF {
		return false, err
	}
	return n == m.headLen && crc32.Checksum(buf[:n], castagnoli) == m.headSum, nil
}

// markAt makes the marks of a file for a position that is taken on trust.
func markAt(f io.ReaderAt, pos int64) (marks, error) {
	var m marks
	var buf [headMax]byte
	n, err := f.ReadAt(buf[:min(pos, headMax)], 0)
	if err != nil && err != io.EOF {
		return m, err
	}
	m.add(buf[:n], 0)
	at := max(0, pos-tailMax)
	n, err = f.ReadAt(m.tail[:pos-at], at)
	if err != nil && err != io.EOF {
		return m, err
	}
	m.tailLen = n
	return m, nil
}

// adopt says whether the file is the one of an entry, and with which marks it
// is read on from the entry's position.
func adopt(f *os.File, st stat, path string, e *Entry, anyPath bool) (marks, bool, error) {
	if st.ino != e.Inode || !sameBirth(st.born, e.born) || e.path != path && (!anyPath || !e.known) || st.size < e.Pos {
		return marks{}, false, nil
	}
	m, err := markAt(f, e.Pos)
	if err != nil || !e.known {
		return m, err == nil, err
	}
	head := marks{headLen: e.headLen, headSum: e.headSum}
	var buf [headMax]byte
	if same, err := head.headAgrees(f, &buf); err != nil || !same {
		return marks{}, false, err
	}
	if e.tailLen >= 0 {
		last := marks{tailLen: min(e.tailLen, m.tailLen)}
		copy(last.tail[:], m.tail[m.tailLen-last.tailLen:m.tailLen])
		if last.tailLen != e.tailLen || last.tailSum() != e.tailSum {
			return marks{}, false, nil
		}
	}
	return m, true, nil
}
