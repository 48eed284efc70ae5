package broker

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"golang.org/x/sys/unix"
)

func openTopics(ctx context.Context, dir *dataDir, defaults log.TopicConfig, cfg *Config, synced func(time.Duration)) (*topics, error) {
	ts := &topics{dir: dir, synced: synced, maxParts: cfg.MaxPartitions, opening: make(chan struct{}, maxOpening()), repair: cfg.Repair, logger: cfg.Logger, write: writeJSON}
	ts.defaults.Store(&defaults)
	var st storedTopics
	if _, err := readJSON(dir.file(topicsFile), &st); err != nil {
		return nil, err
	}
	ts.set.Store(&topicSet{byName: map[string]*topic{}, byID: map[topicID]*topic{}})
	for _, s := range st.Deleting {
		if err := ts.removeFiles(s); err != nil {
			return nil, err
		}
	}
	set := &topicSet{byName: map[string]*topic{}, byID: map[topicID]*topic{}}
	opened, err := ts.openAll(ctx, st.Topics)
	if err != nil {
		return nil, err
	}
	for _, t := range opened {
		set.add(t)
	}
	ts.set.Store(set)
	if len(st.Deleting) > 0 {
		if err := ts.save(set); err != nil {
			return nil, errors.Join(err, closeAll(set))
		}
	}
	ts.warnStrangers(set)
	return ts, nil
}

func closeAll(s *topicSet) error {
	var parts []*part
	for _, t := range s.sorted() {
		parts = append(parts, t.state.Load().parts...)
	}
	return closeParts(parts)
}

func (t *topic) close() error { return closeParts(t.state.Load().parts) }

// discard closes a topic whose files are deleted next.
func (t *topic) discard() error {
	return endParts(t.state.Load().parts, (*partition.Partition).Discard)
}

// closers is how many partitions are closed at a time. Each needs some fsyncs
// one after the other; those of several partitions share the disk's time.
const closers = 16

func closeParts(parts []*part) error { return endParts(parts, (*partition.Partition).Close) }

func endParts(parts []*part, end func(*partition.Partition) error) error {
	errs := make([]error, len(parts))
	var next atomic.Int64
	var wg sync.WaitGroup
	for range min(closers, len(parts)) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(parts) {
					return
				}
				if err := end(parts[i].Partition); err != nil {
					errs[i] = fmt.Errorf("close partition %s-%d: %w", parts[i].topic.name, parts[i].id, err)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

// open opens a stored topic's partitions.
func (ts *topics) open(ctx context.Context, s storedTopic) (*topic, error) {
	l, err := ts.openAll(ctx, []storedTopic{s})
	if err != nil {
		return nil, err
	}
	return l[0], nil
}

// openers is how many partitions are opened at a time. After a crash each is
// read from the disk and synced; those of several share the disk's time.
const openers = 16

// openAll opens stored topics, their partitions side by side. If one fails none
// stays open.
func (ts *topics) openAll(ctx context.Context, list []storedTopic) ([]*topic, error) {
	type job struct {
		t *topic
		i int32
	}
	opened := make([]*topic, 0, len(list))
	var jobs []job
	for _, s := range list {
		id, err := parseTopicID(s.ID)
		if err != nil {
			return nil, fmt.Errorf("open topic %q: %w", s.Name, err)
		}
		t := &topic{name: s.Name, id: id, internal: s.Name == groupTopic}
		cfg, err := applyTopicConfigs(*ts.defaults.Load(), s.Configs)
		if err != nil {
			return nil, fmt.Errorf("open topic %q: %w", s.Name, err)
		}
		if t.internal {
			cfg = groupTopicConfig(*ts.defaults.Load())
		}
		t.state.Store(&topicState{configs: s.Configs, cfg: cfg, parts: make([]*part, s.Partitions)})
		opened = append(opened, t)
		for i := range s.Partitions {
			jobs = append(jobs, job{t, i})
		}
	}
	errs := make([]error, len(jobs))
	var next atomic.Int64
	var failed atomic.Bool
	var wg sync.WaitGroup
	for range min(openers, len(jobs)) {
		wg.Go(func() {
			for !failed.Load() {
				n := int(next.Add(1)) - 1
				if n >= len(jobs) {
					return
				}
				j := jobs[n]
				st := j.t.state.Load()
				st.parts[j.i], errs[n] = ts.openPart(ctx, j.t, j.i, st.cfg)
				if damaged(errs[n]) && ctx.Err() == nil {
					st.parts[j.i], errs[n] = ts.offline(j.t, j.i, st.cfg, errs[n]), nil
				}
				if errs[n] != nil {
					failed.Store(true)
				}
			}
		})
	}
	wg.Wait()
	err := errors.Join(errs...)
	if err == nil {
		return opened, nil
	}
	for _, t := range opened {
		parts := slices.DeleteFunc(t.state.Load().parts, func(p *part) bool { return p == nil })
		err = errors.Join(err, closeParts(parts))
	}
	return nil, err
}

func (ts *topics) openPart(ctx context.Context, t *topic, id int32, cfg log.TopicConfig) (*part, error) {
	dir := ts.dir.partition(t.name, id)
	logger := ts.logger.With("topic", t.name, "partition", id)
	l, err := segment.Open(ctx, segment.Options{FS: ts.dir.fs, Dir: dir, Config: cfg, Logger: logger, Repair: ts.repair, Synced: ts.synced})
	if err != nil {
		return nil, fmt.Errorf("open partition %s-%d: %w", t.name, id, err)
	}
	p, err := partition.Open(ctx, partition.Options{Topic: t.name, ID: id, Log: l, Config: cfg, FS: ts.dir.fs, Dir: dir, Logger: logger, Opening: ts.opening})
	if err != nil {
		return nil, fmt.Errorf("open partition %s-%d: %w", t.name, id, err)
	}
	return &part{Partition: p, topic: t, id: id, log: l}, nil
}

// damaged reports whether a partition's files cannot be used as they are. Of
// other errors (no more file descriptors, no permission) nothing may be taken
// for lost: they end the start.
func damaged(err error) bool {
	return errors.As(err, new(*seglog.CorruptionError)) || errors.Is(err, unix.EIO) ||
		errors.Is(err, record.ErrCorrupt) || errors.Is(err, record.ErrMagic) || errors.Is(err, record.ErrShort)
}

// offline stands for a damaged partition: it is named, and the others are
// served.
func (ts *topics) offline(t *topic, id int32, cfg log.TopicConfig, reason error) *part {
	dir := ts.dir.partition(t.name, id)
	logger := ts.logger.With("topic", t.name, "partition", id)
	size, err := dirSize(dir)
	if err != nil {
		logger.Warn("the size of an offline partition is not known", "err", err)
	}
	logger.Error("partition is offline: its files are damaged; restore them from a copy, or start with --repair, which cuts it off at the damage and loses what follows", "err", reason)
	p := partition.Offline(partition.Options{Topic: t.name, ID: id, Config: cfg, Dir: dir, Logger: logger}, reason, size)
	return &part{Partition: p, topic: t, id: id, log: &log.Offline{Reason: reason, Bytes: size}, offline: reason}
}

// warnStrangers names directories that belong to no topic. They are left
// alone: deleting them would turn a lost topics.json into lost data.
func (ts *topics) warnStrangers(set *topicSet) {
	known := map[string]bool{}
	for _, t := range set.byName {
		for i := range t.state.Load().parts {
			known[filepath.Base(ts.dir.partition(t.name, int32(i)))] = true
		}
	}
	entries, err := os.ReadDir(ts.dir.file(logsDir))
	if err != nil {
		ts.logger.Warn("cannot list the partitions' directory", "err", err)
		return
	}
	for _, e := range entries {
		if !known[e.Name()] {
			ts.logger.Warn("a directory in the data directory belongs to no topic; it is left alone", "dir", e.Name())
		}
	}
}

func (ts *topics) close() error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
	return closeAll(ts.set.Load())
}
