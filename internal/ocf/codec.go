package ocf

import (
	"bytes"
	"compress/bzip2"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/klauspost/compress/flate"
	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"
)

// CheckCodec says whether Decompress knows the codec of that name.
func CheckCodec(name string) error {
	switch name {
	case "null", "deflate", "snappy", "zstandard", "bzip2":
		return nil
	}
	return fmt.Errorf("codec %q is not supported: null, deflate, snappy, zstandard and bzip2 are", name)
}

// Decompress returns the records of a block, in memory that alloc provides
// (null returns data itself).
func Decompress(name string, data []byte, alloc func(n int) []byte) ([]byte, error) {
	switch name {
	case "null":
		return data, nil
	case "snappy":
		if len(data) < 4 {
			return nil, errors.New("decompress block: too short for snappy with a checksum")
		}
		data, sum := data[:len(data)-4], binary.BigEndian.Uint32(data[len(data)-4:])
		n, err := snappy.DecodedLen(data)
		if err != nil {
			return nil, fmt.Errorf("decompress block: %w", err)
		}
		if n > maxData {
			return nil, fmt.Errorf("decompress block: %d bytes are too many", n)
		}
		out, err := snappy.Decode(alloc(n), data)
		if err != nil {
			return nil, fmt.Errorf("decompress block: %w", err)
		}
		if got := crc32.ChecksumIEEE(out); got != sum {
			return nil, fmt.Errorf("decompress block: checksum %08x, want %08x", got, sum)
		}
		return out, nil
	}
	var r io.Reader = bytes.NewReader(data)
	switch name {
	case "deflate":
		r = flate.NewReader(r)
	case "bzip2":
		r = bzip2.NewReader(r)
	case "zstandard":
		z, err := zstd.NewReader(r, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxMemory(maxData))
		if err != nil {
			return nil, fmt.Errorf("decompress block: %w", err)
		}
		defer z.Close()
		r = z
	default:
		return nil, CheckCodec(name)
	}
	var buf bytes.Buffer
	if _, err := io.Copy(&buf, io.LimitReader(r, maxData+1)); err != nil {
		return nil, fmt.Errorf("decompress block: %w", err)
	}
	if buf.Len() > maxData {
		return nil, fmt.Errorf("decompress block: more than %d bytes", maxData)
	}
	out := alloc(buf.Len())
	copy(out, buf.Bytes())
	return out, nil
}
