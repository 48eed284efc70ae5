package partition

import (
	"errors"
	"fmt"
	"math"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// checked is what validation learned about an append.
type checked struct {
	first   record.Header // of the first batch; a client's append has no other
	records int
	opened  record.Opened // the compressed batch, if transform needs it
}

// validate checks the batches of one append as Kafka's LogValidator does and applies the timestamp rules, in place. It
// needs no lock. Difference from Kafka: offset deltas must count up from 0.
func validate(b []byte, o AppendOpts, c *log.TopicConfig, now int64) (checked, error) {
	var out checked
	if len(b) == 0 {
		return out, fmt.Errorf("%w: no record batch", log.ErrInvalidRecord)
	}
	for n, pos := 0, int64(0); pos < int64(len(b)); n++ {
		h, err := record.Check(b[pos:])
		if err != nil {
			return out, headerError(&h, err)
		}
		batch := b[pos : pos+h.Size()]
		pos += h.Size()
		if n == 0 {
			out.first = h
			if o.Origin == log.OriginClient && pos < int64(len(b)) {
				// Since magic 2 exactly one (KIP-98); it is what makes sequence numbers checkable.
				return out, fmt.Errorf("%w: more than one record batch for the partition", log.ErrInvalidRecord)
			}
		}
		if h.Size() > int64(c.MaxMessageBytes) && o.Origin == log.OriginClient {
			return out, fmt.Errorf("%w: record batch of %d bytes, max.message.bytes is %d", log.ErrMessageTooLarge, h.Size(), c.MaxMessageBytes)
		}
		if err := checkHeader(&h, o.Origin); err != nil {
			return out, err
		}
		low, high, err := out.checkRecords(&h, batch, o, c)
		if err != nil {
			return out, err
		}
		if err := checkTimes(&h, batch, low, high, c, now); err != nil {
			return out, err
		}
		out.records += int(h.Count)
	}
	if int64(len(b)) > c.SegmentBytes {
		return out, fmt.Errorf("%w: %d bytes, segment.bytes is %d", log.ErrBatchTooLarge, len(b), c.SegmentBytes)
	}
	return out, nil
}

// headerError gives a batch that cannot be read Kafka's code.
func headerError(h *record.Header, err error) error {
	switch {
	case errors.Is(err, record.ErrMagic) && h.Magic < 2:
		return fmt.Errorf("%w: %w (only format v2 is taken: use a client of Kafka 0.11 or later)", log.ErrInvalidRecord, err)
	case errors.Is(err, record.ErrShort):
		return fmt.Errorf("%w: %w", log.ErrInvalidRecord, err)
	default:
		return fmt.Errorf("%w: %w", log.ErrCorruptMessage, err)
	}
}

func checkHeader(h *record.Header, origin log.Origin) error {
	invalid := func(format string, args ...any) error {
		return fmt.Errorf("%w: "+format, append([]any{log.ErrInvalidRecord}, args...)...)
	}
	if h.Count < 1 || int64(h.Count) != int64(h.LastOffsetDelta)+1 {
		return invalid("batch of %d records with last offset delta %d", h.Count, h.LastOffsetDelta)
	}
	if h.Codec() > record.Zstd {
		return invalid("unknown compression codec %d", h.Codec())
	}
	if origin != log.OriginClient {
		return nil
	}
	switch {
	case h.BaseOffset != 0:
		return invalid("base offset is %d, a producer's is 0", h.BaseOffset)
	case h.Control():
		return invalid("a producer cannot write control records")
	case h.Transactional():
		return fmt.Errorf("%w: this broker has no transactions yet", log.ErrInvalidTxnState)
	case h.Idempotent() && (h.ProducerID < 0 || h.ProducerEpoch < 0 || h.BaseSequence < 0):
		return invalid("producer id %d with epoch %d and sequence %d", h.ProducerID, h.ProducerEpoch, h.BaseSequence)
	}
	return nil
}

// checkRecords checks what is in a batch and returns the smallest and the largest timestamp. A batch that transform will
// look into is opened for both.
func (out *checked) checkRecords(h *record.Header, batch []byte, o AppendOpts, c *log.TopicConfig) (low, high int64, err error) {
	switch {
	case h.Codec() == record.None:
		low, high, err = record.CheckPlain(h, batch)
	case o.Origin == log.OriginClient && transforms(h, c):
		if out.opened, _, err = record.Open(batch, nil, maxOpened(c)); err == nil {
			low, high, err = out.opened.Check()
		}
	default:
		low, high, err = record.CheckCompressed(h, batch, maxOpened(c))
	}
	if err != nil {
		return 0, 0, recordsError(err)
	}
	return low, high, nil
}

// recordsError gives a batch whose records cannot be taken Kafka's code.
func recordsError(err error) error {
	if errors.Is(err, record.ErrTooLarge) {
		return fmt.Errorf("%w: %w (raise max.message.bytes or send smaller batches)", log.ErrMessageTooLarge, err)
	}
	return fmt.Errorf("%w: %w", log.ErrInvalidRecord, err)
}

// The answer to a batch with faulty records names so many of them, and says of so many what it is.
const (
	maxFaulty     = 10_000
	maxFaultyText = 100
)

// faulty lists the records that fault, which says what it is, finds something wrong with.
func faulty(o *record.Opened, fault func(*record.View) string) (list []log.RecordError, err error) {
	n := int32(0)
	err = o.Each(func(v record.View) bool {
		if why := fault(&v); why != "" {
			if len(list) >= maxFaultyText {
				why = ""
			}
			list = append(list, log.RecordError{Index: n, Message: why})
		}
		n++
		return len(list) < maxFaulty
	})
	return list, err
}

// timesError names the records whose timestamps are outside low to high.
func timesError(batch []byte, low, high int64, c *log.TopicConfig, cause error) error {
	o, _, err := record.Open(batch, nil, maxOpened(c))
	if err != nil {
		return recordsError(err)
	}
	list, err := faulty(&o, func(v *record.View) string {
		if v.Timestamp == record.NoTimestamp || v.Timestamp >= low && v.Timestamp <= high {
			return ""
		}
		return fmt.Sprintf("the timestamp %d is not between %d and %d", v.Timestamp, low, high)
	})
	if err != nil {
		return recordsError(err)
	}
	return &log.RecordsError{Err: cause, Records: list}
}

// checkTimes applies message.timestamp.type and its limits. low and high are the records' smallest and largest timestamp.
func checkTimes(h *record.Header, batch []byte, low, high int64, c *log.TopicConfig, now int64) error {
	if c.TimestampType == log.LogAppendTime {
		record.SetMaxTimestamp(batch, now, true)
		h.MaxTimestamp = now
		return nil
	}
	if high != record.NoTimestamp {
		least, most := int64(math.MinInt64), int64(math.MaxInt64)
		if c.TimestampBeforeMax >= 0 {
			least = now - c.TimestampBeforeMax.Milliseconds()
		}
		if c.TimestampAfterMax >= 0 {
			most = now + c.TimestampAfterMax.Milliseconds()
		}
		switch {
		case low < least && low != record.NoTimestamp:
			return timesError(batch, least, most, c, fmt.Errorf("%w: %d is more than %d ms before now (message.timestamp.before.max.ms)", log.ErrInvalidTimestamp, low, now-least))
		case high > most:
			return timesError(batch, least, most, c, fmt.Errorf("%w: %d is more than %d ms after now (message.timestamp.after.max.ms)", log.ErrInvalidTimestamp, high, most-now))
		}
	}
	// Indexes and retention rely on the header; Kafka sets it right too.
	if high != h.MaxTimestamp || h.LogAppendTime() {
		record.SetMaxTimestamp(batch, high, false)
		h.MaxTimestamp = high
	}
	return nil
}
