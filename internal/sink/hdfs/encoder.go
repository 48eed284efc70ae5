package hdfs

import (
	"fmt"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/hadoopcodec"
	"github.com/sluice-data/sluice/internal/seqfile"
	"github.com/sluice-data/sluice/internal/serde"
)

// newEncoder makes the encoder of a new file.
func (c *config) newEncoder(now func() time.Time) (bucket.Encoder, error) {
	if c.fileType == sequenceFile {
		v := seqfile.Bytes
		if c.writeFormat == "Text" {
			v = seqfile.Text
		}
		return &sequence{w: seqfile.NewWriter(v, c.codec), now: now}, nil
	}
	ser, err := serde.NewSerializer(c.serializer)
	if err != nil {
		return nil, err
	}
	if c.codec == nil {
		return ser, nil
	}
	return &stream{ser: ser, codec: c.codec}, nil
}

// maxKept is what an open file keeps of a batch's memory for the next: there may be hdfs.maxOpenFiles of them.
const maxKept = 64 << 10

// stream compresses what a serializer makes, each piece by itself.
type stream struct {
	ser   serde.Serializer
	codec *hadoopcodec.Codec
	buf   []byte
}

func (s *stream) AppendHeader(dst []byte) ([]byte, error) {
	plain, err := s.ser.AppendHeader(s.buf[:0])
	if err != nil || len(plain) == 0 {
		return dst, err
	}
	return s.codec.Append(dst, plain)
}

func (s *stream) AppendEvents(dst []byte, evs []event.Event) ([]byte, error) {
	plain, err := s.ser.AppendEvents(s.buf[:0], evs)
	if err != nil {
		return nil, err
	}
	if s.buf = plain; cap(s.buf) > maxKept {
		s.buf = nil
	}
	return s.codec.Append(dst, plain)
}

// sequence makes records of events, whose key is the timestamp header, or the time of the write.
type sequence struct {
	w   *seqfile.Writer
	now func() time.Time
}

// recordKey is the key of an event's record.
func recordKey(e *event.Event, now func() time.Time) (int64, error) {
	v, ok := e.Header("timestamp")
	if !ok || len(v) == 0 {
		return now().UnixMilli(), nil
	}
	ms, err := escape.ParseMillis(v)
	if err != nil {
		return 0, fmt.Errorf("make the key of a record: the event's timestamp header: %w", err)
	}
	return ms, nil
}

func (s *sequence) AppendHeader(dst []byte) ([]byte, error) { return s.w.AppendHeader(dst), nil }

func (s *sequence) AppendEvents(dst []byte, evs []event.Event) (_ []byte, err error) {
	for i := range evs {
		key, err := recordKey(&evs[i], s.now)
		if err != nil {
			return nil, err
		}
		if dst, err = s.w.Append(dst, key, evs[i].Body); err != nil {
			return nil, err
		}
	}
	return s.w.End(dst)
}
