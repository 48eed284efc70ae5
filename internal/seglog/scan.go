package seglog

import (
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"slices"
)

// Framing tells Scan how records lie in a file.
type Framing interface {
	// HeaderSize is how many bytes FrameSize needs.
	HeaderSize() int
	// FrameSize reads a whole frame's length, at least HeaderSize, from its header, or says why it is none.
	FrameSize(header []byte) (int64, error)
	// Accept verifies the frame that follows the last accepted one and takes note of it. It does not keep frame.
	Accept(pos int64, frame []byte) error
	// After reports whether frame, somewhere behind the last accepted one, is a valid frame that belongs to this log.
	After(frame []byte) bool
	// Ends returns what tells where else the bad frame with this header may end, if its length is what is wrong with it. It
	// is nil if the header is not one that the log would have written behind the last accepted frame.
	Ends(header []byte) Ends
}

// Ends is given the bytes of a frame behind its header, one after the other.
type Ends interface {
	// Ends reports whether the frame is whole when it ends before b, and takes b.
	Ends(b byte) bool
}

// CRCEnds is the Ends of frames with a CRC-32C of all that is behind it. covered is the part of it that the header has, and
// want what the header says.
func CRCEnds(covered []byte, want uint32) Ends {
	return &crcEnds{sum: ^crc32.Checksum(covered, castagnoli), want: want}
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

type crcEnds struct{ sum, want uint32 }

func (e *crcEnds) Ends(b byte) bool {
	whole := ^e.sum == e.want
	e.sum = castagnoli[byte(e.sum)^b] ^ e.sum>>8
	return whole
}

// ScanResult is what Scan found.
type ScanResult struct {
	End int64 // where the last valid frame ends: truncate there
	// Torn is why the bytes after End are no frame, or nil if there are none or they are an append's padding.
	Torn error
	// Unwritten says that the bytes after End were never written out: the file ends too early or has a page of zeros.
	// A bad frame that is not Unwritten is damage if anything in another file follows it.
	Unwritten bool
}

const (
	scanBuffer = 1 << 20
	page       = 4096
	// resyncBudget bounds the bytes that the search for a valid frame behind damage may verify, because bytes that only
	// look like headers could make it quadratic.
	resyncBudget = 256 << 20
)

// Scan verifies the frames of r from position from to size, after an unclean stop. It stops at the first bytes that are no
// valid frame. If they can be the torn end of the last writes, the result says where to cut. They cannot if a valid frame
// lies behind them: then they are damage, and the error is a *CorruptionError; the result still says where the damage
// starts. A frame with a whole page of zeros counts as torn even so: such pages are what a power cut leaves of
// writes that were never synced, and nothing behind them was synced either.
//
// What looks like a valid frame may be part of a record: a record can hold a copy of a log. So a frame whose header is right
// reaches as far as it says, and only what lies behind that counts, unless its own checksum says that it ended earlier,
// where another frame begins: then its length is what is damaged.
func Scan(r io.ReaderAt, path string, from, size int64, fr Framing) (ScanResult, error) {
	s := scanner{r: r, size: size}
	hs := int64(fr.HeaderSize())
	pos := from
	for pos < size {
		h, err := s.window(pos, min(hs, size-pos))
		if err != nil {
			return ScanResult{End: pos}, fmt.Errorf("scan %s: %w", path, err)
		}
		if padding, err := s.padding(pos); err != nil {
			return ScanResult{End: pos}, fmt.Errorf("scan %s: %w", path, err)
		} else if padding {
			return ScanResult{End: pos}, nil
		}
		if int64(len(h)) < hs {
			return ScanResult{End: pos, Torn: io.ErrUnexpectedEOF, Unwritten: true}, nil
		}
		n, bad := fr.FrameSize(h)
		switch {
		case bad != nil:
			n = 2 * page // no length to go by: enough to hold one whole page
		case n > size-pos:
			// Nothing can lie behind this frame if its length is right; if it is not, zeros further on say nothing.
			bad = fmt.Errorf("frame of %d bytes where %d are left: %w", n, size-pos, io.ErrUnexpectedEOF)
			n = 0
		default:
			frame, err := s.window(pos, n)
			if err != nil {
				return ScanResult{End: pos}, fmt.Errorf("scan %s: %w", path, err)
			}
			if bad = fr.Accept(pos, frame); bad == nil {
				pos += n
				continue
			}
		}
		return s.judge(path, pos, n, bad, fr)
	}
	return ScanResult{End: pos}, nil
}

// padding reports whether the file ends in zeros from pos on as File.Append leaves them. No frame begins like that.
func (s *scanner) padding(pos int64) (bool, error) {
	n := s.size - pos
	if n >= PadTo || s.size%PadTo != 0 {
		return false, nil
	}
	b, err := s.window(pos, n)
	return err == nil && allZero(b), err
}

// judge decides what the invalid bytes at pos are. n is the length in which a page of zeros tells.
func (s *scanner) judge(path string, pos, n int64, bad error, fr Framing) (ScanResult, error) {
	res := ScanResult{End: pos, Torn: bad}
	zero, err := s.zeroPage(pos, min(pos+n, s.size))
	if err != nil {
		return res, fmt.Errorf("scan %s: %w", path, err)
	}
	// The page that pos is in may have been written out with what is before pos, and not again.
	if rest := (pos/page+1)*page - pos; !zero && rest >= int64(fr.HeaderSize()) && rest <= s.size-pos {
		b, err := s.window(pos, rest)
		if err != nil {
			return res, fmt.Errorf("scan %s: %w", path, err)
		}
		zero = allZero(b)
	}
	if zero {
		res.Unwritten = true
		return res, nil
	}
	at, err := s.behind(pos, fr)
	switch {
	case errors.Is(err, errBudget):
		return res, &CorruptionError{Path: path, Offset: pos, Err: fmt.Errorf("%w (gave up looking for valid records behind it)", bad)}
	case err != nil:
		return res, fmt.Errorf("scan %s: %w", path, err)
	case at >= 0:
		return res, &CorruptionError{Path: path, Offset: pos, Next: at, Err: fmt.Errorf("%w (valid records follow at byte %d)", bad, at)}
	}
	res.Unwritten = errors.Is(bad, io.ErrUnexpectedEOF)
	return res, nil
}

// Resume returns where valid frames go on behind the bytes at pos, which are none, or -1 if there are none before size.
func Resume(r io.ReaderAt, pos, size int64, fr Framing) (int64, error) {
	if size-pos < int64(fr.HeaderSize()) {
		return -1, nil
	}
	s := scanner{r: r, size: size}
	at, err := s.behind(pos, fr)
	if errors.Is(err, errBudget) {
		return -1, nil
	}
	return at, err
}

type scanner struct {
	r    io.ReaderAt
	size int64
	buf  []byte
	at   int64 // position of buf

	frame []byte // a buffer of its own, so that the window stays where it is
}

// window returns n bytes from pos, which must be there. They are valid until the next call.
func (s *scanner) window(pos, n int64) ([]byte, error) {
	if pos >= s.at && pos+n <= s.at+int64(len(s.buf)) {
		return s.buf[pos-s.at:][:n], nil
	}
	want := min(max(n, scanBuffer), s.size-pos)
	if int64(cap(s.buf)) < want {
		s.buf = make([]byte, want)
	}
	s.buf, s.at = s.buf[:want], pos
	got, err := s.r.ReadAt(s.buf, pos)
	if int64(got) < want {
		s.buf = s.buf[:0]
		if err == nil || err == io.EOF {
			err = io.ErrUnexpectedEOF // shorter than its size said: someone else truncates it
		}
		return nil, err
	}
	return s.buf[:n], nil
}

// zeroPage reports whether [from, to) holds a whole aligned page of zeros.
func (s *scanner) zeroPage(from, to int64) (bool, error) {
	for p := (from + page - 1) / page * page; p+page <= to; p += page {
		b, err := s.window(p, page)
		if err != nil {
			return false, err
		}
		if allZero(b) {
			return true, nil
		}
	}
	return false, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

var errBudget = errors.New("search budget is spent")

// behind returns the position of the first valid frame behind the bad one at pos, or -1.
func (s *scanner) behind(pos int64, fr Framing) (int64, error) {
	hs := int64(fr.HeaderSize())
	h, err := s.window(pos, min(hs, s.size-pos))
	if err != nil {
		return -1, err
	}
	n, err := fr.FrameSize(h)
	if err != nil {
		return s.resync(pos+1, fr) // no length to go by
	}
	ends := fr.Ends(h)
	if ends == nil {
		return s.resync(pos+1, fr)
	}
	if at, err := s.ends(pos+hs, min(pos+n, s.size), ends, fr); err != nil || at >= 0 {
		return at, err
	}
	return s.resync(pos+n, fr)
}

// ends returns the position in [from, to) where the frame that goes on at from may end and a valid one begins, or -1.
func (s *scanner) ends(from, to int64, ends Ends, fr Framing) (int64, error) {
	hs := int64(fr.HeaderSize())
	for from < to {
		b, err := s.window(from, min(scanBuffer, to-from))
		if err != nil {
			return -1, err
		}
		for i, c := range b {
			at := from + int64(i)
			if !ends.Ends(c) || at+hs > s.size {
				continue
			}
			// Not through the window, which holds b.
			h := make([]byte, hs)
			if got, err := s.r.ReadAt(h, at); int64(got) < hs {
				return -1, err
			}
			n, err := fr.FrameSize(h)
			if err != nil || n > s.size-at {
				continue
			}
			if ok, err := s.after(at, n, fr); err != nil || ok {
				return at, err
			}
		}
		from += int64(len(b))
	}
	return -1, nil
}

// after reports whether the n bytes at pos are a valid frame.
func (s *scanner) after(pos, n int64, fr Framing) (bool, error) {
	s.frame = slices.Grow(s.frame[:0], int(n))[:n]
	if got, err := s.r.ReadAt(s.frame, pos); int64(got) < n {
		return false, err
	}
	return fr.After(s.frame), nil
}

// resync returns the position of the first valid frame at or after pos, or -1.
func (s *scanner) resync(pos int64, fr Framing) (int64, error) {
	hs := int64(fr.HeaderSize())
	budget := int64(resyncBudget)
	for ; pos+hs <= s.size; pos++ {
		h, err := s.window(pos, hs)
		if err != nil {
			return -1, err
		}
		n, err := fr.FrameSize(h)
		if err != nil || n > s.size-pos {
			continue
		}
		if budget -= n; budget < 0 {
			return -1, errBudget
		}
		if ok, err := s.after(pos, n, fr); err != nil {
			return -1, err
		} else if ok {
			return pos, nil
		}
	}
	return -1, nil
}
