package log

import (
	"fmt"
	"math"
	"time"
)

// TimestampType is message.timestamp.type.
type TimestampType uint8

const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// TopicConfig are the topic settings that the storage layers honour. Names in comments are Kafka's.
type TopicConfig struct {
	SegmentBytes    int64         // segment.bytes: roll before a segment grows beyond it
	SegmentAge      time.Duration // segment.ms: roll when the records span more time
	RetentionBytes  int64         // retention.bytes: -1 for no limit
	RetentionAge    time.Duration // retention.ms: negative for no limit
	MaxMessageBytes int32         // max.message.bytes: largest record batch
	IndexInterval   int32         // index.interval.bytes: bytes between entries of the sparse indexes

	// MinInsyncReplicas is min.insync.replicas. With one replica, more than 1 refuses appends with acks=all.
	MinInsyncReplicas int32

	FlushMessages int64         // flush.messages: sync after this many records; 0 or MaxInt64 leaves it to the OS
	FlushAge      time.Duration // flush.ms: sync at the latest this long after an append; 0 leaves it to the OS
	// SyncAcks acknowledges an append only after an fsync that covers it; appends that wait together share one. Consumers
	// then see synced records only. It has no Kafka name (flush.messages=1 comes close, at one fsync for each append).
	SyncAcks bool

	TimestampType      TimestampType // message.timestamp.type
	TimestampBeforeMax time.Duration // message.timestamp.before.max.ms: negative for no limit
	TimestampAfterMax  time.Duration // message.timestamp.after.max.ms: negative for no limit
}

// DefaultTopicConfig returns Kafka 4's defaults, except that segments are 128 MiB so that retention works in finer steps.
func DefaultTopicConfig() TopicConfig {
	return TopicConfig{
		SegmentBytes:       128 << 20,
		SegmentAge:         7 * 24 * time.Hour,
		RetentionBytes:     -1,
		RetentionAge:       7 * 24 * time.Hour,
		MaxMessageBytes:    1048588,
		IndexInterval:      4096,
		MinInsyncReplicas:  1,
		TimestampBeforeMax: -1,
		TimestampAfterMax:  time.Hour,
	}
}

// Validate says which setting is wrong and what would be right.
func (c TopicConfig) Validate() error {
	switch {
	case c.SegmentBytes < 1024 || c.SegmentBytes > math.MaxInt32:
		return fmt.Errorf("segment.bytes is %d: want 1024 to %d", c.SegmentBytes, math.MaxInt32)
	case c.SegmentAge < time.Millisecond:
		return fmt.Errorf("segment.ms is %v: want at least 1 ms", c.SegmentAge)
	case c.RetentionBytes < -1:
		return fmt.Errorf("retention.bytes is %d: want a size, or -1 for no limit", c.RetentionBytes)
	case c.MaxMessageBytes < 0:
		return fmt.Errorf("max.message.bytes is %d: want 0 or more", c.MaxMessageBytes)
	case c.IndexInterval < 0:
		return fmt.Errorf("index.interval.bytes is %d: want 0 or more", c.IndexInterval)
	case c.FlushMessages < 0:
		return fmt.Errorf("flush.messages is %d: want 1 or more, or 0 to leave it to the operating system", c.FlushMessages)
	case c.FlushAge < 0:
		return fmt.Errorf("flush.ms is %v: want a time, or 0 to leave it to the operating system", c.FlushAge)
	case c.TimestampType > LogAppendTime:
		return fmt.Errorf("message.timestamp.type is %d: want CreateTime or LogAppendTime", c.TimestampType)
	}
	return nil
}
