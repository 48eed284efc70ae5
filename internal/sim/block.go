package sim

import "github.com/cespare/xxhash/v2"

// Sort tells a record from the kinds of garbage.
type Sort int

// The sorts of line. None of the garbage sorts matches ^\d{14}, so the
// handbook's filter drops every one of them.
const (
	Record   Sort = iota
	Heading       // the column names, once per car
	Text          // a message of a device
	Cut           // a record cut off inside its first 14 digits
	Indented      // a whole record behind a blank
	UTF8          // a message in Korean
	Empty         // nothing but the line feed
	numSorts
)

// sortNames are the keys of the manifest's "garbage" object.
var sortNames = [numSorts]string{"record", "heading", "text", "cut", "indented", "utf8", "empty"}

// HashLine is the hash of the manifest's side files: XXH64 with seed 0 of the
// line without its line feed.
func HashLine(line []byte) uint64 { return xxhash.Sum64(line) }

// block collects generated lines before they are written. Its slices are
// reused, so that a line costs no allocation.
type block struct {
	buf     []byte
	records []uint64 // hashes, in written order
	garbage []uint64
	sorts   [numSorts]int64
}

func (b *block) reset() {
	b.buf, b.records, b.garbage = b.buf[:0], b.records[:0], b.garbage[:0]
	b.sorts = [numSorts]int64{}
}

// end closes the line that began at start: buf's last byte is its line feed.
func (b *block) end(start int, s Sort) {
	h := xxhash.Sum64(b.buf[start : len(b.buf)-1])
	if s == Record {
		b.records = append(b.records, h)
	} else {
		b.garbage = append(b.garbage, h)
	}
	b.sorts[s]++
}

// room makes space for n more bytes and returns the buffer at full reach with
// the position to write at.
func (b *block) room(n int) ([]byte, int) {
	at := len(b.buf)
	if cap(b.buf)-at < n {
		grown := make([]byte, at, 2*cap(b.buf)+n)
		copy(grown, b.buf)
		b.buf = grown
	}
	return b.buf[:cap(b.buf)], at
}

// numTab holds ",N" for N of 0 to 255, padded to four bytes so that one store
// writes it; numLen is its true length.
var numTab, numLen = func() (tab [256][4]byte, n [256]uint8) {
	for i := range tab {
		s := []byte{','}
		if i >= 100 {
			s = append(s, byte('0'+i/100))
		}
		if i >= 10 {
			s = append(s, byte('0'+i/10%10))
		}
		s = append(s, byte('0'+i%10))
		n[i] = uint8(copy(tab[i][:], s))
	}
	return tab, n
}()

// putNum writes ",N" at b[n:] and returns the position behind it; it may touch
// up to four bytes.
func putNum(b []byte, n int, v uint8) int {
	*(*[4]byte)(b[n:]) = numTab[v]
	return n + int(numLen[v])
}

// stamp renders time14 and keeps the last second it rendered.
type stamp struct {
	sec  int64
	day  int64
	text [14]byte
}

func (s *stamp) set(sec int64) {
	if s.sec == sec && s.day != 0 {
		return
	}
	if day := sec/secondsPerDay + 1; day != s.day { // +1: the zero value holds no day
		s.day = day
		copy(s.text[:8], FormatStamp(sec))
	}
	s.sec = sec
	in := int(sec % secondsPerDay)
	put2(s.text[8:], in/3600)
	put2(s.text[10:], in/60%60)
	put2(s.text[12:], in%60)
}

func put2(b []byte, v int) { b[0], b[1] = byte('0'+v/10), byte('0'+v%10) }
