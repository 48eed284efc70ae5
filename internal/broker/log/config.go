package log

import (
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
)

// TimestampType is message.timestamp.type.
type TimestampType uint8

const (
	CreateTime    TimestampType = 0
	LogAppendTime TimestampType = 1
)

// TopicConfig are the topic settings that the storage layers honour. Names in comments are Kafka's.
type TopicConfig struct {
	// What every append asks comes first: with thousands of partitions each cache line of it counts.

	SegmentBytes    int64         // segment.bytes: roll before a segment grows beyond it
	SegmentAge      time.Duration // segment.ms: roll when the records span more time
	MaxMessageBytes int32         // max.message.bytes: largest record batch
	IndexInterval   int32         // index.interval.bytes: bytes between entries of the sparse indexes
	IndexBytes      int32         // segment.index.bytes: a segment is rolled when its offset index has this size
	// SyncAcks acknowledges an append only after an fsync that covers it; appends that wait together share one. Consumers
	// then see synced records only. It has no Kafka name (flush.messages=1 comes close, at one fsync for each append).
	SyncAcks      bool
	Compact       bool          // cleanup.policy has compact: the latest record of each key is kept
	Recompress    bool          // compression.type is not producer
	FlushMessages int64         // flush.messages: sync after this many records; 0 or MaxInt64 leaves it to the OS
	FlushAge      time.Duration // flush.ms: sync at the latest this long after an append; 0 leaves it to the OS

	TimestampType      TimestampType // message.timestamp.type
	TimestampBeforeMax time.Duration // message.timestamp.before.max.ms: negative for no limit
	TimestampAfterMax  time.Duration // message.timestamp.after.max.ms: negative for no limit

	RetentionBytes int64         // retention.bytes: -1 for no limit
	RetentionAge   time.Duration // retention.ms: negative for no limit

	// MinInsyncReplicas is min.insync.replicas. With one replica, more than 1 refuses appends with acks=all.
	MinInsyncReplicas int32

	KeepExpired      bool          // cleanup.policy has no delete: retention does not apply
	DeleteRetention  time.Duration // delete.retention.ms: how long a tombstone is kept after the first compaction
	MinCompactionLag time.Duration // min.compaction.lag.ms: younger records are not compacted
	MaxCompactionLag time.Duration // max.compaction.lag.ms: older ones are compacted whatever the ratio; 0 for no limit
	MinDirtyRatio    float64       // min.cleanable.dirty.ratio: compact when so much of the log is new

	Compression   record.Codec  // compression.type: what batches are brought to, if Recompress
	GzipLevel     int32         // compression.gzip.level
	LZ4Level      int32         // compression.lz4.level
	ZstdLevel     int32         // compression.zstd.level
	SegmentJitter time.Duration // segment.jitter.ms: segments are rolled up to so much earlier
	// Without are settings that say nothing on one machine; what was set is shown. Never changed in place.
	Without map[string]string
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
		DeleteRetention:    24 * time.Hour,
		MinDirtyRatio:      0.5,
		GzipLevel:          -1,
		LZ4Level:           9,
		ZstdLevel:          3,
		IndexBytes:         10 << 20,
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
	case c.MinInsyncReplicas < 1:
		return fmt.Errorf("min.insync.replicas is %d: want 1 or more", c.MinInsyncReplicas)
	case c.MinDirtyRatio < 0 || c.MinDirtyRatio > 1:
		return fmt.Errorf("min.cleanable.dirty.ratio is %v: want 0 to 1", c.MinDirtyRatio)
	case c.DeleteRetention < 0 || c.MinCompactionLag < 0 || c.MaxCompactionLag < 0:
		return errors.New("a time of the compaction is negative")
	case c.MaxCompactionLag > 0 && c.MaxCompactionLag < c.MinCompactionLag:
		return fmt.Errorf("max.compaction.lag.ms (%d) is less than min.compaction.lag.ms (%d)", c.MaxCompactionLag.Milliseconds(), c.MinCompactionLag.Milliseconds())
	case c.GzipLevel != -1 && (c.GzipLevel < 1 || c.GzipLevel > 9):
		return fmt.Errorf("compression.gzip.level is %d: want 1 to 9, or -1", c.GzipLevel)
	case c.LZ4Level < 1 || c.LZ4Level > 17:
		return fmt.Errorf("compression.lz4.level is %d: want 1 to 17", c.LZ4Level)
	case c.ZstdLevel < -131072 || c.ZstdLevel > 22:
		return fmt.Errorf("compression.zstd.level is %d: want -131072 to 22", c.ZstdLevel)
	case c.SegmentJitter < 0:
		return fmt.Errorf("segment.jitter.ms is %v: want 0 or more", c.SegmentJitter)
	case c.IndexBytes < 4:
		return fmt.Errorf("segment.index.bytes is %d: want 4 or more", c.IndexBytes)
	case c.TimestampType > LogAppendTime:
		return fmt.Errorf("message.timestamp.type is %d: want CreateTime or LogAppendTime", c.TimestampType)
	}
	return nil
}

// CompressionOf is what a batch in codec c is brought to; false when it stays as it is.
func (c *TopicConfig) CompressionOf(codec record.Codec) (record.Compression, bool) {
	if !c.Recompress || codec == c.Compression {
		return record.Compression{}, false
	}
	r := record.Compression{Codec: c.Compression}
	switch c.Compression {
	case record.Gzip:
		r.Level = int(max(c.GzipLevel, 0))
	case record.LZ4:
		r.Level = int(c.LZ4Level)
	case record.Zstd:
		r.Level = int(c.ZstdLevel)
	}
	return r, true
}
