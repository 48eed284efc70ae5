package partition

import (
	"context"
	"fmt"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// maxOpened bounds a decompressed batch: a few KiB can claim to be gigabytes.
func maxOpened(c *log.TopicConfig) int64 { return max(32*int64(c.MaxMessageBytes), 16<<20) }

// transforms says whether transform looks into a batch.
func transforms(h *record.Header, c *log.TopicConfig) bool {
	_, change := c.CompressionOf(h.Codec())
	return change || c.Compact
}

// check is validate and transform; it returns the batches to store. Batches that must be decompressed wait for their turn,
// which bounds memory.
func (p *Partition) check(ctx context.Context, batch []byte, o AppendOpts, c *log.TopicConfig, now int64) (checked, []byte, error) {
	if h, err := record.ParseHeader(batch); err == nil && h.Codec() != record.None && p.opening != nil {
		select {
		case p.opening <- struct{}{}:
			defer func() { <-p.opening }()
		case <-ctx.Done():
			return checked{}, nil, ctx.Err()
		}
	}
	out, err := validate(batch, o, c, now)
	if err == nil && o.Origin == log.OriginClient {
		batch, err = transform(batch, &out, c)
	}
	return out, batch, err
}

// transform looks into a client's batch where the topic's settings ask for it: a compacted topic takes no records without
// a key, and compression.type may want another codec. It returns the batch to store. in is what validate found.
func transform(batch []byte, in *checked, c *log.TopicConfig) ([]byte, error) {
	first := &in.first
	if !transforms(first, c) {
		return batch, nil
	}
	target, change := c.CompressionOf(first.Codec())
	fail := func(err error) ([]byte, error) { return nil, recordsError(err) }
	o := in.opened
	var err error
	if first.Codec() == record.None {
		o, _, err = record.Open(batch, nil, maxOpened(c))
	} else {
		o.Header, err = record.ParseHeader(batch) // with the times as validate left them
	}
	if err != nil {
		return fail(err)
	}
	if c.Compact {
		keyless, err := faulty(&o, func(v *record.View) string {
			if v.Key == nil {
				return "the record has no key, and the topic is compacted"
			}
			return ""
		})
		if err != nil {
			return fail(err)
		}
		if len(keyless) > 0 {
			return nil, &log.RecordsError{Err: fmt.Errorf("%w: a record has no key, and the topic is compacted", log.ErrInvalidRecord), Records: keyless}
		}
	}
	if !change {
		return batch, nil
	}
	out, _, err := o.Rewrite(nil, target, nil)
	if err != nil {
		return fail(err)
	}
	if len(out) > int(c.MaxMessageBytes) {
		return nil, fmt.Errorf("%w: record batch of %d bytes after compression.type was applied, max.message.bytes is %d", log.ErrMessageTooLarge, len(out), c.MaxMessageBytes)
	}
	if int64(len(out)) > c.SegmentBytes {
		return nil, fmt.Errorf("%w: %d bytes, segment.bytes is %d", log.ErrBatchTooLarge, len(out), c.SegmentBytes)
	}
	if *first, err = record.ParseHeader(out); err != nil {
		return fail(err)
	}
	return out, nil
}

// Compact compacts the log if the topic asks for it, there is enough to do, and the store can. It returns what was done.
// Close ends it early.
func (p *Partition) Compact(ctx context.Context) (log.Compacted, error) {
	p.compactMu.Lock()
	defer p.compactMu.Unlock()
	p.mu.Lock()
	cfg, closed := p.cfg, p.closed
	p.mu.Unlock()
	c, ok := p.log.(log.Compactor)
	if closed || !cfg.Compact || !ok {
		return log.Compacted{}, nil
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(p.closing, cancel)()
	return c.Compact(ctx, log.CompactOptions{
		Now: p.now(), MinLag: cfg.MinCompactionLag, MaxLag: cfg.MaxCompactionLag, MinDirtyRatio: cfg.MinDirtyRatio,
		DeleteRetention: cfg.DeleteRetention, MaxOpened: maxOpened(cfg), KeepEmpty: p.lastOfProducer,
	})
}

// lastOfProducer says whether a batch is the last one of its producer, whose sequence number must not be lost.
func (p *Partition) lastOfProducer(h *record.Header) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	x := p.producers[h.ProducerID]
	return x != nil && x.n > 0 && x.batches[x.n-1].last <= h.LastOffset()
}
