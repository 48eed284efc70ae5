package log

import (
	"errors"
	"fmt"
)

// The kinds of error that storage reports. Test with errors.Is; KafkaCode gives the number for a response.
var (
	ErrCorruptMessage       = errors.New("corrupt message")
	ErrMessageTooLarge      = errors.New("message too large")
	ErrBatchTooLarge        = errors.New("record batch larger than a segment")
	ErrInvalidTimestamp     = errors.New("invalid timestamp")
	ErrInvalidRecord        = errors.New("invalid record")
	ErrUnsupportedFormat    = errors.New("unsupported message format")
	ErrOutOfOrderSequence   = errors.New("out of order sequence number")
	ErrInvalidProducerEpoch = errors.New("invalid producer epoch")
	ErrInvalidTxnState      = errors.New("invalid transaction state")
	ErrOffsetOutOfRange     = errors.New("offset out of range")
	ErrFencedEpoch          = errors.New("fenced leader epoch")
	ErrStorage              = errors.New("storage error")
	// ErrNoSpace is an ErrStorage that ends when there is space again; nothing of the append was kept.
	ErrNoSpace = fmt.Errorf("no space left on device: %w", ErrStorage)
	ErrClosed  = errors.New("partition is closed")
)

// OffsetOutOfRangeError is an ErrOffsetOutOfRange with the numbers.
type OffsetOutOfRangeError struct {
	Offset, Start, High int64
}

func (e *OffsetOutOfRangeError) Error() string {
	return fmt.Sprintf("offset %d out of range: the partition has %d to %d", e.Offset, e.Start, e.High)
}

// Unwrap makes errors.Is(err, ErrOffsetOutOfRange) true.
func (e *OffsetOutOfRangeError) Unwrap() error { return ErrOffsetOutOfRange }

// RecordsError is an error of single records, for which the whole batch is refused (KIP-467).
type RecordsError struct {
	Err     error
	Records []RecordError
}

// RecordError says what is wrong with a record.
type RecordError struct {
	Index   int32  // in the batch, from 0
	Message string // "" when it is one of many
}

func (e *RecordsError) Error() string {
	return fmt.Sprintf("%v (%d such records)", e.Err, len(e.Records))
}

// Unwrap gives the error that all of them have.
func (e *RecordsError) Unwrap() error { return e.Err }

var codes = []struct {
	err  error
	code int16
}{
	{ErrOffsetOutOfRange, 1},
	{ErrCorruptMessage, 2},
	{ErrMessageTooLarge, 10},
	{ErrBatchTooLarge, 18},
	{ErrInvalidTimestamp, 32},
	{ErrUnsupportedFormat, 43},
	{ErrOutOfOrderSequence, 45},
	{ErrInvalidProducerEpoch, 47},
	{ErrInvalidTxnState, 48},
	{ErrStorage, 56},
	{ErrFencedEpoch, 74},
	{ErrInvalidRecord, 87},
	{ErrClosed, 6}, // NOT_LEADER_OR_FOLLOWER: the client refreshes its metadata
}

// KafkaCode returns the Kafka error code of a storage error: 0 for nil, -1 (UNKNOWN_SERVER_ERROR) for others.
func KafkaCode(err error) int16 {
	if err == nil {
		return 0
	}
	for _, c := range codes {
		if errors.Is(err, c.err) {
			return c.code
		}
	}
	return -1
}
