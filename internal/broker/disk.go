package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
)

// diskGuard keeps the broker within its share of the disk: it deletes the
// oldest segments over all topics when they are together above the limit, and
// refuses to produce when the disk is nearly full, whoever filled it.
type diskGuard struct {
	b      *Broker
	topics *topics
	limit  int64 // bytes of all topics; -1: none
	kick   chan struct{}
	since  atomic.Int64 // bytes appended since the last kick

	written  atomic.Int64 // bytes appended
	surveyed struct {     // the last survey, which looks into every partition
		at      time.Time
		written int64
		room    int64 // below the limit
	}
	low    atomic.Bool
	warned logLimit
}

func newDiskGuard(b *Broker) (*diskGuard, error) {
	d := &diskGuard{b: b, limit: b.cfg.MaxDisk, kick: make(chan struct{}, 1)}
	if d.limit == 0 {
		free, err := b.cfg.FreeDisk(b.dir.path)
		if err != nil {
			return nil, err
		}
		own, err := dirSize(b.dir.file(logsDir))
		if err != nil {
			return nil, fmt.Errorf("measure the data directory: %w", err)
		}
		// What is ours already counts as free, or the limit would sink with
		// every start.
		d.limit = min(maxAutoDisk, (free+own)/autoDiskShare)
	}
	return d, nil
}

// appended counts produced bytes and wakes the sweep early: a fast producer
// can write gigabytes between two regular ones.
func (d *diskGuard) appended(n int) {
	step := int64(64 << 20)
	if d.limit >= 0 {
		step = min(step, max(d.limit/16, 1<<20))
	}
	d.written.Add(int64(n))
	if d.since.Add(int64(n)) >= step {
		d.since.Store(0)
		select {
		case d.kick <- struct{}{}:
		default:
		}
	}
}

// full reports whether produce has to be refused.
func (d *diskGuard) full() bool { return d.low.Load() }

// surveyAge is when a survey is not trusted any more, for all that grows without producers.
const surveyAge = 10 * time.Second

func (d *diskGuard) sweep(ctx context.Context) {
	d.checkFree()
	if d.limit < 0 {
		return
	}
	written := d.written.Load()
	if last := &d.surveyed; written-last.written < last.room/2 && time.Since(last.at) < surveyAge {
		return
	}
	for ctx.Err() == nil {
		total, oldest, ext := d.survey()
		d.surveyed.at, d.surveyed.written, d.surveyed.room = time.Now(), written, d.limit-total
		if total <= d.limit || oldest == nil {
			return
		}
		before := oldest.Size()
		if _, err := oldest.DeleteRecords(ctx, min(ext.Next, oldest.Offsets().High)); err != nil {
			if !errors.Is(err, log.ErrClosed) {
				d.b.logger.Error("old records could not be deleted to stay under the disk limit", "topic", oldest.topic.name, "partition", oldest.id, "err", err)
			}
			return
		}
		if d.warned.allow() {
			d.b.logger.Warn("oldest records deleted: the topics are above the disk limit together", "limit", sizeText(d.limit), "have", sizeText(total),
				"topic", oldest.topic.name, "partition", oldest.id, "up_to_offset", ext.Next)
		}
		if oldest.Size() >= before {
			return // nothing was freed; do not spin
		}
	}
}

// survey adds up all partitions and finds the oldest segment that can go. The
// newest segment of a partition is taken only when there is no other.
func (d *diskGuard) survey() (total int64, oldest *part, ext log.Extent) {
	var active *part
	var activeExt log.Extent
	for _, t := range d.topics.all() {
		for _, p := range t.state.Load().parts {
			total += p.Size()
			if t.internal || t.state.Load().cfg.KeepExpired {
				continue // the group log has its own upkeep; in a compacted topic old does not mean dispensable
			}
			es := p.log.Extents()
			switch {
			case len(es) > 1:
				if oldest == nil || es[0].MaxTimestamp < ext.MaxTimestamp {
					oldest, ext = p, es[0]
				}
			case len(es) == 1 && es[0].Next > es[0].Base:
				if active == nil || es[0].MaxTimestamp < activeExt.MaxTimestamp {
					active, activeExt = p, es[0]
				}
			}
		}
	}
	if oldest == nil {
		return total, active, activeExt
	}
	return total, oldest, ext
}

func (d *diskGuard) checkFree() {
	if d.b.cfg.MinFreeDisk < 0 {
		return
	}
	free, err := d.b.cfg.FreeDisk(d.b.dir.path)
	if err != nil {
		d.b.logger.Error("free disk space is not known", "err", err)
		return
	}
	low := free < d.b.cfg.MinFreeDisk
	if was := d.low.Swap(low); was != low {
		if low {
			d.b.logger.Error("disk is nearly full: produce is refused until there is space; free some, or lower --min-free-disk", "free", sizeText(free), "threshold", sizeText(d.b.cfg.MinFreeDisk))
		} else {
			d.b.logger.Info("disk has space again: produce is accepted", "free", sizeText(free))
		}
	}
}

func dirSize(dir string) (int64, error) {
	var n int64
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		if e.IsDir() {
			k, err := dirSize(dir + string(os.PathSeparator) + e.Name())
			if err != nil {
				return 0, err
			}
			n += k
			continue
		}
		fi, err := e.Info()
		if err != nil {
			return 0, err
		}
		n += fi.Size()
	}
	return n, nil
}

func sizeText(n int64) string {
	switch {
	case n < 0:
		return "no limit"
	case n >= 1<<30:
		return fmt.Sprintf("%.1f GiB", float64(n)/(1<<30))
	case n >= 1<<20:
		return fmt.Sprintf("%.1f MiB", float64(n)/(1<<20))
	}
	return fmt.Sprintf("%d bytes", n)
}

func ageText(d time.Duration) string {
	switch {
	case d < 0:
		return "no limit"
	case d >= 24*time.Hour && d%(24*time.Hour) == 0:
		return fmt.Sprintf("%d days", d/(24*time.Hour))
	}
	return d.String()
}
