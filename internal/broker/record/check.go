package record

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// CheckCompressed is CheckPlain for a compressed batch, which may grow to limit bytes; one that grows further is an
// ErrTooLarge. The batch is decompressed a piece at a time: what it takes in memory is a decoder's window (8 MiB at
// most) and 64 KiB, with snappy the largest block.
func CheckCompressed(h *Header, batch []byte, limit int64) (minTS, maxTS int64, err error) {
	c := checkers.Get().(*checker)
	minTS, maxTS, err = c.check(h, batch[HeaderSize:h.Size()], limit)
	if errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return checkWide(h, batch[HeaderSize:h.Size()], limit)
	}
	if err == nil { // a decoder that failed is not worth to be trusted again
		c.release()
		checkers.Put(c)
	}
	return minTS, maxTS, err
}

// checkers keeps decoders: to make one costs more than to decompress a batch.
var checkers = sync.Pool{New: func() any { return &checker{buf: make([]byte, 64<<10)} }}

// checkWide checks a zstd batch with a large window.
func checkWide(h *Header, body []byte, limit int64) (minTS, maxTS int64, err error) {
	b, err := decodeWide(body, limit)
	if err != nil {
		return 0, 0, err
	}
	return checkBody(h, b)
}

// checker walks decompressed records through a window.
type checker struct {
	src    bytes.Reader
	gzip   *gzip.Reader
	lz4    *lz4.Reader
	zstd   *zstd.Decoder
	snappy snappyReader

	r     io.Reader // one of these
	buf   []byte
	lo    int // buf[lo:hi] was read and not yet looked at
	hi    int
	total int64 // decompressed so far
	limit int64
}

// keepSnappy is the largest block whose memory is kept.
const keepSnappy = 1 << 20

// release lets go of the batch.
func (c *checker) release() {
	c.src.Reset(nil)
	buf := c.snappy.buf
	if cap(buf) > keepSnappy {
		buf = nil
	}
	c.snappy = snappyReader{buf: buf}
}

func (c *checker) reset(codec Codec, body []byte, limit int64) (err error) {
	c.lo, c.hi, c.total, c.limit = 0, 0, 0, limit
	c.src.Reset(body)
	switch codec {
	case Gzip:
		if c.gzip == nil {
			c.gzip = new(gzip.Reader)
		}
		c.r, err = c.gzip, c.gzip.Reset(&c.src)
	case Snappy:
		c.snappy = snappyReader{in: body, framed: bytes.HasPrefix(body, xerialHeader), buf: c.snappy.buf, limit: limit}
		c.r = &c.snappy
	case LZ4:
		if c.lz4 == nil {
			c.lz4 = lz4.NewReader(nil)
		}
		c.lz4.Reset(&c.src)
		c.r = c.lz4
	case Zstd:
		if c.zstd == nil {
			c.zstd, err = newZstd(nil)
		}
		if err == nil {
			c.r, err = c.zstd, c.zstd.Reset(&c.src)
		}
	default:
		err = errors.New("unknown codec")
	}
	if err != nil {
		return fmt.Errorf("%w: open codec %d: %w", ErrInvalid, codec, err)
	}
	return nil
}

// fill reads on. At the stream's end it returns io.EOF, and io.ErrUnexpectedEOF only for one that was cut.
func (c *checker) fill() error {
	if c.lo > 0 {
		c.hi = copy(c.buf, c.buf[c.lo:c.hi])
		c.lo = 0
	}
	for range 100 {
		n, err := c.r.Read(c.buf[c.hi:])
		c.hi += n
		c.total += int64(n)
		switch {
		case c.total > c.limit:
			return tooLarge(c.limit)
		case n > 0:
			return nil // an error comes again
		case err == io.EOF:
			return err
		case err != nil:
			return fmt.Errorf("%w: decompress: %w", ErrInvalid, err)
		}
	}
	return fmt.Errorf("%w: decompress: %w", ErrInvalid, io.ErrNoProgress)
}

// ended says why fill did not help record i.
func ended(i int32, err error, what string) error {
	if err == io.EOF {
		return recordError(i, what)
	}
	return err
}

func (c *checker) check(h *Header, body []byte, limit int64) (minTS, maxTS int64, err error) {
	if err := c.reset(h.Codec(), body, limit); err != nil {
		return 0, 0, err
	}
	s := span{NoTimestamp, NoTimestamp}
	for i := int32(0); i < h.Count; i++ {
		size, err := c.varint()
		if err != nil {
			return 0, 0, ended(i, err, "its length leaves the batch")
		}
		if size < 1 {
			return 0, 0, recordError(i, "its length leaves the batch")
		}
		var delta int64
		if size <= int64(len(c.buf)) {
			for int64(c.hi-c.lo) < size {
				if err := c.fill(); err != nil {
					return 0, 0, ended(i, err, "its length leaves the batch")
				}
			}
			if delta, err = checkRecord(c.buf[c.lo:c.lo+int(size)], i); err != nil {
				return 0, 0, err
			}
			c.lo += int(size)
		} else if delta, err = c.large(size, i); err != nil {
			return 0, 0, err
		}
		s.add(i, h.BaseTimestamp+delta)
	}
	if c.lo == c.hi {
		switch err := c.fill(); err {
		case io.EOF:
			return s.low, s.high, nil
		case nil:
		default:
			return 0, 0, err
		}
	}
	return 0, 0, fmt.Errorf("%w: bytes are left after the last of %d records", ErrInvalid, h.Count)
}

// varint reads a number.
func (c *checker) varint() (int64, error) {
	for {
		u, w := uvarint(c.buf[c.lo:c.hi])
		switch {
		case w > 0:
			c.lo += w
			return unzigzag(u), nil
		case w < 0 || c.hi-c.lo >= binary.MaxVarintLen64:
			return 0, fmt.Errorf("%w: number is too long", ErrInvalid)
		}
		if err := c.fill(); err != nil {
			return 0, err
		}
	}
}

// skip passes n bytes.
func (c *checker) skip(n int64) error {
	for n > int64(c.hi-c.lo) {
		n -= int64(c.hi - c.lo)
		c.lo = c.hi
		if err := c.fill(); err != nil {
			return err
		}
	}
	c.lo += int(n)
	return nil
}

// at is where in the stream the checker is.
func (c *checker) at() int64 { return c.total - int64(c.hi-c.lo) }

// large is checkRecord for a record that does not fit the window.
func (c *checker) large(size int64, i int32) (tsDelta int64, err error) {
	if c.at()+size > c.limit {
		return 0, fmt.Errorf("%w: record %d of %d bytes goes beyond %d", ErrTooLarge, i, size, c.limit)
	}
	end := c.at() + size
	var bad string
	fail := func(err error) (int64, error) {
		if bad != "" {
			return 0, recordError(i, bad)
		}
		return 0, ended(i, err, "its length leaves the batch")
	}
	field := func(nullable bool, what string) error {
		n, err := c.varint()
		switch {
		case err != nil:
			return err
		case n == -1 && nullable:
			n = 0
		}
		if n < 0 || n > end-c.at() {
			bad = what
			return ErrInvalid
		}
		return c.skip(n)
	}
	if err := c.skip(1); err != nil { // attributes
		return fail(err)
	}
	if tsDelta, err = c.varint(); err != nil {
		return fail(err)
	}
	off, err := c.varint()
	if err != nil {
		return fail(err)
	}
	if off != int64(i) {
		return 0, recordError(i, "offset deltas do not count up from 0")
	}
	for range 2 {
		if err := field(true, "key or value leaves the record"); err != nil {
			return fail(err)
		}
	}
	n, err := c.varint()
	if err != nil {
		return fail(err)
	}
	if n < 0 {
		return 0, recordError(i, "bad header count")
	}
	for ; n > 0; n-- {
		if err := field(false, "a header leaves the record"); err != nil {
			return fail(err)
		}
		if err := field(true, "a header leaves the record"); err != nil {
			return fail(err)
		}
	}
	if c.at() != end {
		return 0, recordError(i, "it does not fill its length")
	}
	return tsDelta, nil
}
