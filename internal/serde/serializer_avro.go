package serde

import (
	"bytes"
	"compress/flate"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"strings"

	"github.com/klauspost/compress/snappy"
	"github.com/klauspost/compress/zstd"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// eventSchema is the schema text that Flume writes, byte for byte.
const eventSchema = `{"type":"record","name":"Event","fields":[{"name":"headers","type":{"type":"map","values":"string"}},{"name":"body","type":"bytes"}]}`

type avroConfig struct {
	interval int
	codec    string
}

var avroCodecs = []string{"null", "deflate", "snappy", "zstandard"}

func (c *avroConfig) Fields() []component.Field {
	codec := component.Value("compressionCodec", &c.codec, "enum", "null", func(s string) (string, error) {
		for _, k := range avroCodecs {
			if strings.EqualFold(k, strings.TrimSpace(s)) {
				return k, nil
			}
		}
		return "", fmt.Errorf("%q is not one of %s", s, strings.Join(avroCodecs, ", "))
	}).Lenient().Describe("Compression of the file's blocks.")
	codec.Values = avroCodecs
	return []component.Field{
		component.Int("syncIntervalBytes", &c.interval, 2048000).In("bytes").Min(32).Max(1 << 30).
			Describe("A block of the file ends when it holds so many bytes, and with every batch."),
		codec,
	}
}

func (c *avroConfig) NewSerializer() (Serializer, error) {
	s := &avroSerializer{interval: c.interval, codec: c.codec}
	if _, err := rand.Read(s.sync[:]); err != nil {
		return nil, fmt.Errorf("make the sync marker of an Avro file: %w", err)
	}
	var err error
	switch c.codec {
	case "deflate":
		s.deflate, err = flate.NewWriter(nil, flate.DefaultCompression)
	case "zstandard":
		s.zstd, err = zstd.NewWriter(nil, zstd.WithEncoderConcurrency(1))
	}
	if err != nil {
		return nil, fmt.Errorf("make the %s encoder of an Avro file: %w", c.codec, err)
	}
	return s, nil
}

// avroSerializer writes an Avro object container file: the header with schema
// and codec, then blocks of (record count, byte length, records, sync marker).
// https://avro.apache.org/docs/1.11.1/specification/#object-container-files
type avroSerializer struct {
	interval int
	codec    string
	sync     [16]byte
	block    []byte // records of the block at hand
	packed   bytes.Buffer
	scratch  []byte
	deflate  *flate.Writer
	zstd     *zstd.Encoder
}

func (s *avroSerializer) AppendHeader(dst []byte) ([]byte, error) {
	dst = append(dst, "Obj\x01"...)
	dst = appendLong(dst, 2)
	dst = AppendAvroBytes(dst, "avro.schema")
	dst = AppendAvroBytes(dst, eventSchema)
	dst = AppendAvroBytes(dst, "avro.codec")
	dst = AppendAvroBytes(dst, s.codec)
	dst = append(dst, 0)
	return append(dst, s.sync[:]...), nil
}

func (s *avroSerializer) AppendEvents(dst []byte, evs []event.Event) ([]byte, error) {
	n := 0
	var err error
	for i := range evs {
		s.block = AppendAvroEvent(s.block, &evs[i])
		n++
		if len(s.block) >= s.interval || i == len(evs)-1 {
			dst, err = s.appendBlock(dst, n)
			s.block, n = s.block[:0], 0
			if err != nil {
				return dst, err
			}
		}
	}
	return dst, nil
}

func (s *avroSerializer) appendBlock(dst []byte, n int) ([]byte, error) {
	data := s.block
	switch s.codec {
	case "deflate":
		s.packed.Reset()
		s.deflate.Reset(&s.packed)
		_, err := s.deflate.Write(data)
		if err = errors.Join(err, s.deflate.Close()); err != nil {
			return dst, fmt.Errorf("deflate an Avro block: %w", err)
		}
		data = s.packed.Bytes()
	case "snappy":
		// Avro's snappy blocks end with the CRC-32 of the plain bytes.
		s.scratch = snappy.Encode(s.scratch[:cap(s.scratch)], s.block)
		s.scratch = binary.BigEndian.AppendUint32(s.scratch, crc32.ChecksumIEEE(s.block))
		data = s.scratch
	case "zstandard":
		s.scratch = s.zstd.EncodeAll(s.block, s.scratch[:0])
		data = s.scratch
	}
	dst = appendLong(dst, int64(n))
	dst = appendLong(dst, int64(len(data)))
	dst = append(dst, data...)
	return append(dst, s.sync[:]...), nil
}
