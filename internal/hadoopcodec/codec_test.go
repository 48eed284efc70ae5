package hadoopcodec

import (
	"bytes"
	"compress/bzip2"
	"compress/gzip"
	"compress/zlib"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Readers that we did not write: those of the standard library, and Hadoop's block framing by hand around the block decoders.
var readers = map[string]func(io.Reader) ([]byte, error){
	"gzip":      func(r io.Reader) ([]byte, error) { return readAll(gzip.NewReader(r)) },
	"bzip2":     func(r io.Reader) ([]byte, error) { return io.ReadAll(bzip2.NewReader(r)) },
	"default":   readZlib,
	"deflate":   readZlib,
	"zstandard": func(r io.Reader) ([]byte, error) { return readAll(zstd.NewReader(r)) },
	"snappy": func(r io.Reader) ([]byte, error) {
		return readBlocks(r, func(dst, p []byte) (int, error) {
			out, err := s2.Decode(dst, p)
			return len(out), err
		})
	},
	"lz4": func(r io.Reader) ([]byte, error) {
		return readBlocks(r, func(dst, p []byte) (int, error) { return lz4.UncompressBlock(p, dst) })
	},
}

func readAll[R io.Reader](r R, err error) ([]byte, error) {
	if err != nil {
		return nil, err
	}
	return io.ReadAll(r)
}

// readZlib reads streams one after the other, as Hadoop does.
func readZlib(r io.Reader) (all []byte, err error) {
	b, err := io.ReadAll(r)
	for in := bytes.NewReader(b); err == nil && in.Len() > 0; {
		var p []byte
		p, err = readAll(zlib.NewReader(in))
		all = append(all, p...)
	}
	return all, err
}

func readBlocks(r io.Reader, decode func(dst, p []byte) (int, error)) ([]byte, error) {
	b, err := io.ReadAll(r)
	if err != nil {
		return nil, err
	}
	var all []byte
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, io.ErrUnexpectedEOF
		}
		size, n := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
		if b = b[8:]; size > buffer || n > buffer || int(n) > len(b) {
			return nil, errors.New("a chunk does not fit into Hadoop's buffer")
		}
		dst := make([]byte, size)
		if got, err := decode(dst, b[:n]); err != nil || got != int(size) {
			return nil, errors.Join(errors.New("a chunk has another length"), err)
		}
		all, b = append(all, dst...), b[n:]
	}
	return all, nil
}

func TestCodecs(t *testing.T) {
	rnd := rand.New(rand.NewPCG(1, 2))
	noise := make([]byte, 1<<20)
	for i := range noise {
		noise[i] = byte(rnd.Uint32())
	}
	text := bytes.Repeat([]byte("a line of a log\n"), 50_000)
	for _, name := range Names {
		c, err := Find(name)
		if err != nil {
			t.Fatal(err)
		}
		t.Run(name, func(t *testing.T) {
			var file, want []byte
			for _, piece := range [][]byte{[]byte("x"), text, noise, text[:77]} {
				before := len(file)
				if file, err = c.Append(file, piece); err != nil {
					t.Fatal(err)
				}
				want = append(want, piece...)
				got, err := readers[name](bytes.NewReader(file)) // after each piece
				if err != nil || !bytes.Equal(got, want) {
					t.Fatalf("%d bytes, want %d; %v", len(got), len(want), err)
				}
				if len(piece) == len(text) && len(file)-before > len(text)/4 {
					t.Errorf("%d bytes of text have become %d", len(text), len(file)-before)
				}
			}
		})
	}
}

func TestFind(t *testing.T) {
	for _, name := range []string{"gzip", "GZIP", "GzipCodec", "gzipcodec", "org.apache.hadoop.io.compress.GzipCodec"} {
		if c, err := Find(name); err != nil || c.Extension != ".gz" || c.Simple() != "GzipCodec" {
			t.Errorf("%s: %v, %v", name, c, err)
		}
	}
	for name, want := range map[string]string{"lzop": "LZO", "com.hadoop.compression.lzo.LzoCodec": "LZO", "zip": "there are gzip", "": "no codec"} {
		if _, err := Find(name); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
