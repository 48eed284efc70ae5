package tail

import (
	"errors"
	"io"
	"os"

	"github.com/sluice-data/sluice/event"
)

const (
	blockSize = 64 << 10
	// lineMax bounds the memory of an event.
	lineMax = 16 << 20
	// batchBytes bounds what a batch of large events pins.
	batchBytes = 8 << 20
)

// errReplaced: the file's contents are not those that were read before.
var errReplaced = errors.New("the contents were replaced")

// reader reads one file after the other, and each only as far as it was asked.
type reader struct {
	cut  Cutter
	pool *event.Pool
	long func() // told when an event was cut at lineMax
	max  int    // lineMax, or less in tests

	f     *os.File
	blk   *event.Block
	buf   []byte // what blk has that is not used yet
	next  int64  // where the file goes on after buf
	limit int64  // where reading ends this time
	marks marks  // at the start of buf
	head  [headMax]byte
	begin []int // where the batch's events begin, in the file
	at    []int64
}

// open begins at pos, of which m tells.
func (r *reader) open(f *os.File, pos, limit int64, m *marks) {
	r.f, r.next, r.limit, r.marks = f, pos, limit, *m
}

func (r *reader) close() {
	if r.blk != nil {
		r.blk.Release()
	}
	r.f, r.blk, r.buf = nil, nil, nil
}

// pos is where the next event begins.
func (r *reader) pos() int64 { return r.next - int64(len(r.buf)) }

// read fills b with up to most events. io.EOF: there is no more up to limit,
// but for what mode leaves. offsets says that r.at is wanted.
func (r *reader) read(b *event.Batch, most int, mode Mode, offsets bool) error {
	r.at = r.at[:0]
	start := r.next
	for b.Len() < most {
		if len(r.buf) > 0 {
			m := More
			if r.next >= r.limit {
				m = mode
			}
			if r.use(b, r.buf, most-b.Len(), m, offsets) == 0 && b.Len() < most && len(r.buf) >= r.max {
				r.long()
				r.use(b, r.buf[:r.max], 1, All, offsets)
				continue
			}
		}
		if b.Len() == most || r.next-start > batchBytes && b.Len() > 0 {
			return nil
		}
		if r.next >= r.limit {
			return io.EOF
		}
		if err := r.fill(); err != nil {
			return err
		}
	}
	return nil
}

// use cuts events from p, which is the start of buf.
func (r *reader) use(b *event.Batch, p []byte, most int, mode Mode, offsets bool) int {
	b.Attach(r.blk)
	c := Chunk{P: p, Prev: r.marks.last(), Mode: mode, Max: most}
	if offsets {
		r.begin = r.begin[:0]
		c.Begin = &r.begin
	}
	pos := r.pos()
	used := r.cut.Cut(b, c)
	if offsets {
		for _, i := range r.begin {
			r.at = append(r.at, pos+int64(i))
		}
	}
	r.marks.add(r.buf[:used], pos)
	r.buf = r.buf[used:]
	return used
}

// fill reads on into a new block, which begins with what is left of the old
// one, and finds out whether the file is still the one that was read before.
func (r *reader) fill() error {
	// The bytes before the position are compared when reading begins; after
	// that what is left in buf, and the head, stand for them.
	look := 0
	if r.blk == nil {
		look = r.marks.tailLen
	}
	rest := len(r.buf)
	want := int(min(r.limit-r.next, int64(max(blockSize, rest)-look), int64(r.max-rest)))
	blk := r.pool.Block(look + rest + want)
	copy(blk.Extend(rest), r.buf)
	p := blk.Free()[:look+want]
	n, err := r.f.ReadAt(p, r.next-int64(look))
	if err != nil && err != io.EOF {
		blk.Release()
		return err
	}
	if err == io.EOF { // it has become shorter since it was looked at
		r.limit = r.next + int64(max(0, n-look))
	}
	same := n >= look && string(p[:look]) == string(r.marks.tail[:look])
	if same {
		same, err = r.marks.headAgrees(r.f, &r.head)
		if err != nil {
			blk.Release()
			return err
		}
	}
	if !same {
		blk.Release()
		return errReplaced
	}
	blk.Extend(n)
	if r.blk != nil {
		r.blk.Release()
	}
	r.blk, r.buf = blk, blk.Bytes()[look:]
	r.next += int64(n - look)
	return nil
}

// verify is fill without anything to read.
func (r *reader) verify() error {
	var last [tailMax]byte
	p := last[:r.marks.tailLen]
	if _, err := r.f.ReadAt(p, r.next-int64(len(p))); err == io.EOF {
		return errReplaced
	} else if err != nil {
		return err
	}
	if string(p) != string(r.marks.tail[:len(p)]) {
		return errReplaced
	}
	if same, err := r.marks.headAgrees(r.f, &r.head); err != nil {
		return err
	} else if !same {
		return errReplaced
	}
	return nil
}
