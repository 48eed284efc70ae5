package record

import (
	"bytes"
	"errors"
	"fmt"
	"io"

	"github.com/klauspost/compress/zstd"
)

const (
	// maxWindow bounds what a decoder may allocate for a hostile batch. It is the window of zstd's highest ordinary level, and
	// what RFC 8878 wants every decoder to take.
	maxWindow = 8 << 20
	// maxWideWindow is what zstd itself takes, and so Kafka and its clients. The highest levels write frames with such
	// windows, with little in them.
	maxWideWindow = 128 << 20
)

// newZstd makes a decoder for a stream, which has memory for the window.
func newZstd(r io.Reader) (*zstd.Decoder, error) {
	return zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderLowmem(true), zstd.WithDecoderMaxWindow(maxWindow))
}

// zstdReader decodes a stream. From where a frame has a large window on, all of it was decoded at once.
type zstdReader struct {
	d     *zstd.Decoder
	body  []byte
	limit int64 // of what is decoded at once

	n    int64 // read so far
	wide *bytes.Reader
}

func (z *zstdReader) Read(p []byte) (int, error) {
	if z.wide != nil {
		return z.wide.Read(p)
	}
	n, err := z.d.Read(p)
	z.n += int64(n)
	if !errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return n, err
	}
	b, err := decodeWide(z.body, z.limit)
	if err != nil {
		return n, err
	}
	z.wide = bytes.NewReader(b[min(z.n, int64(len(b))):])
	if n > 0 {
		return n, nil
	}
	return z.wide.Read(p)
}

// decodeWide decodes frames with large windows. They are opened whole, as the decoder then uses its output for window and
// takes no more memory than there is.
func decodeWide(body []byte, limit int64) ([]byte, error) {
	var f zstd.Header
	if err := f.Decode(body); err == nil && f.HasFCS && f.FrameContentSize > uint64(limit) {
		return nil, tooLarge(limit)
	}
	// The limit on memory would be one on the window too.
	d, err := zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(maxWideWindow),
		zstd.WithDecoderMaxMemory(uint64(max(limit, maxWideWindow))))
	if err != nil {
		return nil, fmt.Errorf("%w: open zstd: %w", ErrInvalid, err)
	}
	defer d.Close()
	b, err := d.DecodeAll(body, nil)
	switch {
	case errors.Is(err, zstd.ErrDecoderSizeExceeded) || int64(len(b)) > limit:
		return nil, tooLarge(limit)
	case err != nil:
		return nil, fmt.Errorf("%w: decompress: %w", ErrInvalid, err)
	}
	return b, nil
}
