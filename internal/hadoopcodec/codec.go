// Package hadoopcodec compresses as Hadoop's codecs do, so that its tools read
// the files.
package hadoopcodec

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/dsnet/compress/bzip2"
	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zlib"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codec compresses. It is safe for concurrent use.
type Codec struct {
	Class     string // of Java, with its package
	Extension string // of files, with the dot
	// Append compresses p, whole: what it appends can be read without what comes
	// after it, and the pieces of several calls may follow each other in a file.
	Append func(dst, p []byte) ([]byte, error)
}

// Simple is the class's name without its package.
func (c *Codec) Simple() string { return c.Class[strings.LastIndexByte(c.Class, '.')+1:] }

const pkg = "org.apache.hadoop.io.compress."

// Names are those that Find takes, besides the names of the classes.
var Names = []string{"gzip", "bzip2", "snappy", "lz4", "default", "deflate", "zstandard"}

// Find returns the codec of a class name, a simple class name or that without
// "Codec", in any case, as Flume does.
func Find(name string) (*Codec, error) {
	all := codecs()
	for _, c := range all {
		simple := c.Simple()
		if strings.EqualFold(name, c.Class) || strings.EqualFold(name, simple) || strings.EqualFold(name, strings.TrimSuffix(simple, "Codec")) {
			return c, nil
		}
	}
	if l := strings.ToLower(name[strings.LastIndexByte(name, '.')+1:]); strings.HasPrefix(l, "lzo") {
		return nil, fmt.Errorf("%q is not supported, as LZO has a licence of its own; lz4 and snappy are as fast", name)
	}
	return nil, fmt.Errorf("%q is no codec; there are %s", name, strings.Join(Names, ", "))
}

func codecs() []*Codec {
	deflate := func(dst, p []byte) ([]byte, error) { return member(&zlibs, dst, p) }
	return []*Codec{
		{pkg + "GzipCodec", ".gz", func(dst, p []byte) ([]byte, error) { return member(&gzips, dst, p) }},
		{pkg + "BZip2Codec", ".bz2", func(dst, p []byte) ([]byte, error) { return member(&bzip2s, dst, p) }},
		{pkg + "SnappyCodec", ".snappy", func(dst, p []byte) ([]byte, error) { return blocks(dst, p, snappyChunk, snappyBlock) }},
		{pkg + "Lz4Codec", ".lz4", func(dst, p []byte) ([]byte, error) { return blocks(dst, p, lz4Chunk, lz4Block) }},
		{pkg + "DefaultCodec", ".deflate", deflate},
		{pkg + "DeflateCodec", ".deflate", deflate},
		{pkg + "ZStandardCodec", ".zst", zstandard},
	}
}

type writer interface {
	io.WriteCloser
	Reset(io.Writer)
}

// The encoders hold no state between two uses; to make one costs more than a small batch.
var (
	gzips  = sync.Pool{New: func() any { return gzip.NewWriter(io.Discard) }}
	zlibs  = sync.Pool{New: func() any { return zlib.NewWriter(io.Discard) }}
	bzip2s = sync.Pool{New: func() any { return &bzip2Writer{} }}
	zstds  = sync.OnceValues(func() (*zstd.Encoder, error) { return zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1)) })
)

func member(pool *sync.Pool, dst, p []byte) ([]byte, error) {
	w := pool.Get().(writer)
	defer pool.Put(w)
	out := bytes.NewBuffer(dst)
	w.Reset(out)
	if _, err := w.Write(p); err != nil {
		return nil, err
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	return out.Bytes(), nil
}

// bzip2Writer gives the library's writer a Reset without an error.
type bzip2Writer struct{ *bzip2.Writer }

func (w *bzip2Writer) Reset(out io.Writer) {
	if w.Writer == nil {
		w.Writer, _ = bzip2.NewWriter(out, nil) // fails for an unknown level only
		return
	}
	_ = w.Writer.Reset(out) // never fails
}

func zstandard(dst, p []byte) ([]byte, error) {
	e, err := zstds()
	if err != nil {
		return nil, err
	}
	return e.EncodeAll(p, dst), nil
}

// Hadoop's decompressors have buffers of 256 KiB, for what comes in and for what goes out. A chunk is what its
// compressors fill these with: less than that by what the method may add to data that cannot be compressed.
const (
	buffer      = 256 << 10
	snappyChunk = buffer - (buffer/6 + 32)
	lz4Chunk    = buffer - (buffer/255 + 16)
)

// blocks is the format of BlockCompressorStream: the length of a block, then its chunks, each with its length. Ours have one chunk.
func blocks(dst, p []byte, size int, compress func(dst, p []byte) ([]byte, error)) ([]byte, error) {
	for len(p) > 0 {
		chunk := p[:min(len(p), size)]
		p = p[len(chunk):]
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(chunk)))
		at := len(dst)
		dst = append(dst, 0, 0, 0, 0)
		var err error
		if dst, err = compress(dst, chunk); err != nil {
			return nil, err
		}
		binary.BigEndian.PutUint32(dst[at:], uint32(len(dst)-at-4))
	}
	return dst, nil
}

func snappyBlock(dst, p []byte) ([]byte, error) {
	at := len(dst)
	dst = slices.Grow(dst, s2.MaxEncodedLen(len(p)))
	out := s2.EncodeSnappy(dst[at:cap(dst)], p)
	return dst[:at+len(out)], nil
}

func lz4Block(dst, p []byte) ([]byte, error) {
	at := len(dst)
	dst = slices.Grow(dst, lz4.CompressBlockBound(len(p)))
	n, err := lz4.CompressBlock(p, dst[at:cap(dst)], nil)
	if err != nil {
		return nil, err
	}
	if n == 0 && len(p) > 0 {
		return nil, fmt.Errorf("lz4: %d bytes were not compressed", len(p))
	}
	return dst[:at+n], nil
}
