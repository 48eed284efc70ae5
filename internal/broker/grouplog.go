package broker

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// groupLog is the log of the group coordinator: an internal topic with one
// partition, on the same layers as every other. It does not grow for ever:
// from time to time everything that is in force is written again at its end
// and what lies before is deleted.
type groupLog struct {
	part   *part
	logger *slog.Logger

	snapshot atomic.Int64 // bytes of the last snapshot
	buf      sync.Pool
}

// The group log is compacted when it is larger than compactMin and than
// compactFactor times what was in force at the last time.
const (
	compactMin    = 8 << 20
	compactFactor = 4
	// groupBatchBytes bounds one batch of the group log.
	groupBatchBytes = 512 << 10
)

// groupTopicConfig are the settings of the group log. Retention is the
// coordinator's: age and size say nothing about what is in force. How commits
// are made durable follows the broker's defaults.
func groupTopicConfig(defaults log.TopicConfig) log.TopicConfig {
	c := log.DefaultTopicConfig()
	c.FlushMessages, c.FlushAge, c.SyncAcks = defaults.FlushMessages, defaults.FlushAge, defaults.SyncAcks
	c.SegmentBytes = 4 << 20
	c.RetentionAge, c.RetentionBytes = -1, -1
	c.MaxMessageBytes = 16 << 20
	c.TimestampBeforeMax, c.TimestampAfterMax = -1, -1
	return c
}

func newGroupLog(p *part, logger *slog.Logger) *groupLog {
	return &groupLog{part: p, logger: logger, buf: sync.Pool{New: func() any { return new([]byte) }}}
}

// append writes records, in as many batches as their size asks for. The
// Pending is the last one's, which covers those before it.
func (l *groupLog) append(ctx context.Context, now time.Time, recs ...group.Record) (pending log.Pending, err error) {
	if len(recs) == 0 {
		return log.Pending{}, nil
	}
	buf := l.buf.Get().(*[]byte)
	defer l.buf.Put(buf)
	batch := make([]record.Record, 0, len(recs))
	for len(recs) > 0 {
		batch = batch[:0]
		size := 0
		for len(recs) > 0 && (size == 0 || size+len(recs[0].Key)+len(recs[0].Value) < groupBatchBytes) {
			size += len(recs[0].Key) + len(recs[0].Value)
			batch = append(batch, record.Record{Timestamp: now.UnixMilli(), Key: recs[0].Key, Value: recs[0].Value})
			recs = recs[1:]
		}
		h := record.Header{ProducerID: record.NoProducerID, ProducerEpoch: -1, BaseSequence: -1, LeaderEpoch: leaderEpoch}
		*buf = record.Append((*buf)[:0], h, batch...)
		if _, pending, err = l.part.AppendAsync(ctx, *buf, partition.AppendOpts{Acks: -1, Origin: log.OriginCoordinator}); err != nil {
			// Clients try again on this code; on a storage error they do not.
			return pending, errors.Join(apiErrorf(kerr.CoordinatorNotAvailable, "write the group log: %v", err), err)
		}
	}
	return pending, nil
}

// replay calls f for every record of the log, in order.
func (l *groupLog) replay(ctx context.Context, f func(key, value []byte)) error {
	off := l.part.Offsets()
	for next := off.Start; next < off.High; {
		if err := ctx.Err(); err != nil {
			return err
		}
		res, err := l.part.Read(log.ReadReq{Offset: next, MaxBytes: 4 << 20, MinOne: true})
		if err != nil {
			return err
		}
		last, err := eachRecord(res, next, f)
		res.Release()
		if err != nil {
			return fmt.Errorf("offset %d: %w", next, err)
		}
		if last < next {
			return fmt.Errorf("offset %d: no batch there", next)
		}
		next = last + 1
	}
	return nil
}

// eachRecord walks the batches of a read and returns the last offset seen.
func eachRecord(res log.ReadResult, from int64, f func(key, value []byte)) (last int64, err error) {
	last = from - 1
	b := make([]byte, 0, res.Size)
	for _, s := range res.Sections {
		if s.File == nil {
			b = append(b, s.Bytes...)
			continue
		}
		n := len(b)
		b = b[:n+int(s.N)]
		if _, err := s.File.ReadAt(b[n:], s.Off); err != nil {
			return last, err
		}
	}
	for len(b) > 0 {
		h, err := record.Check(b)
		if err != nil {
			return last, err
		}
		if h.Size() > int64(len(b)) || h.Codec() != 0 {
			return last, errors.New("not a batch of the group log")
		}
		body := b[record.HeaderSize:h.Size()]
		for i := range h.Count {
			n, k := binary.Varint(body)
			if k <= 0 || n < 0 || n > int64(len(body)-k) {
				return last, fmt.Errorf("record %d is cut short", i)
			}
			var r kmsg.Record
			if err := r.ReadFrom(body[:int64(k)+n]); err != nil {
				return last, fmt.Errorf("record %d: %w", i, err)
			}
			if h.BaseOffset+int64(i) >= from {
				f(r.Key, r.Value)
			}
			body = body[int64(k)+n:]
		}
		last = h.LastOffset()
		b = b[h.Size():]
	}
	return last, nil
}

func (l *groupLog) grown() bool {
	return l.part.Size() > max(compactMin, compactFactor*l.snapshot.Load())
}

// compact lets write put everything that is in force at the end of the log,
// makes it durable, and deletes what is before it. Changes may go on
// meanwhile: one that is made before its group is written is part of what is
// written, a later one follows it in the log.
func (l *groupLog) compact(ctx context.Context, all func(write func(...group.Record) error) error) error {
	from := l.part.Offsets().High
	var size int64
	err := all(func(recs ...group.Record) error {
		for _, r := range recs {
			size += int64(len(r.Key) + len(r.Value) + 16)
		}
		_, err := l.append(ctx, time.Now(), recs...)
		return err
	})
	if err != nil {
		return err
	}
	if err := l.part.log.Sync(ctx); err != nil {
		return err
	}
	before := l.part.Size()
	if _, err := l.part.DeleteRecords(ctx, from); err != nil {
		return err
	}
	l.snapshot.Store(size)
	l.logger.Debug("group log compacted", "bytes_before", before, "bytes", l.part.Size())
	return nil
}
