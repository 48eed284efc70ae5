package broker

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/segment"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sys/unix"
)

// groupTopic keeps the state of consumer groups; clients may read it, not
// write it.
const groupTopic = "__consumer_offsets"

// maxOpening is how many batches are decompressed at a time, over all topics: memory and CPU for hostile ones.
func maxOpening() int { return max(4, runtime.GOMAXPROCS(0)) }

// leaderEpoch is that of every partition: there is one broker, so the leader
// never changes.
const leaderEpoch = 0

type topicID = [16]byte

// topic is one topic. Its fields do not change but for parts, configs and
// cfg, which are replaced as a whole.
type topic struct {
	name     string
	id       topicID
	internal bool
	state    atomic.Pointer[topicState]
	stats    topicStats
}

type topicState struct {
	parts   []*part
	configs map[string]string // set by users, by Kafka's names
	cfg     log.TopicConfig   // in force: the broker's defaults with configs
}

func (t *topic) part(id int32) *part {
	ps := t.state.Load().parts
	if id < 0 || int(id) >= len(ps) {
		return nil
	}
	return ps[id]
}

// part is one open partition.
type part struct {
	*partition.Partition
	topic   *topic
	id      int32
	log     log.Log // the store below Partition, for the units in which it frees space
	offline error   // why it is not served; then Partition answers everything with that
}

// topicSet is an immutable view of all topics, so that look-ups take no lock.
type topicSet struct {
	byName map[string]*topic
	byID   map[topicID]*topic
	parts  int
	// version is another one in every set: what depends on the topics and
	// their numbers of partitions is computed again when it has changed.
	version uint64
}

// topics owns the topics and what is written of them.
type topics struct {
	dir      *dataDir
	defaults atomic.Pointer[log.TopicConfig]
	maxParts int
	opening  chan struct{} // batches that are decompressed at a time
	repair   bool
	logger   *slog.Logger
	synced   func(time.Duration)

	set   atomic.Pointer[topicSet]
	write func(fsys vfs.FS, name string, v any) error // writeJSON; a field for tests of the full disk

	mu       sync.Mutex // held for changes
	deleting []storedTopic
	closed   bool
}

// storedTopics is topics.json.
type storedTopics struct {
	Topics []storedTopic `json:"topics"`
	// Deleting are topics whose files may still be there after a crash.
	Deleting []storedTopic `json:"deleting,omitempty"`
}

type storedTopic struct {
	Name       string            `json:"name"`
	ID         string            `json:"id"` // hexadecimal
	Partitions int32             `json:"partitions"`
	Configs    map[string]string `json:"configs,omitempty"`
}

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

func (s *topicSet) add(t *topic) {
	s.byName[t.name] = t
	s.byID[t.id] = t
	s.parts += len(t.state.Load().parts)
}

// with returns a copy of s without drop and with add; either may be nil.
func (s *topicSet) with(add, drop *topic) *topicSet {
	n := &topicSet{byName: maps.Clone(s.byName), byID: maps.Clone(s.byID), parts: s.parts, version: s.version + 1}
	if drop != nil {
		delete(n.byName, drop.name)
		delete(n.byID, drop.id)
		n.parts -= len(drop.state.Load().parts)
	}
	if add != nil {
		n.add(add)
	}
	return n
}

// sorted lists the topics by name.
func (s *topicSet) sorted() []*topic {
	l := make([]*topic, 0, len(s.byName))
	for _, t := range s.byName {
		l = append(l, t)
	}
	slices.SortFunc(l, func(a, b *topic) int { return strings.Compare(a.name, b.name) })
	return l
}

func closeAll(s *topicSet) error {
	var parts []*part
	for _, t := range s.sorted() {
		parts = append(parts, t.state.Load().parts...)
	}
	return closeParts(parts)
}

func (t *topic) close() error { return closeParts(t.state.Load().parts) }

// closers is how many partitions are closed at a time. Each needs some fsyncs
// one after the other; those of several partitions share the disk's time.
const closers = 16

func closeParts(parts []*part) error {
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
				if err := parts[i].Close(); err != nil {
					errs[i] = fmt.Errorf("close partition %s-%d: %w", parts[i].topic.name, parts[i].id, err)
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (ts *topics) byName(name string) *topic { return ts.set.Load().byName[name] }
func (ts *topics) byID(id topicID) *topic    { return ts.set.Load().byID[id] }
func (ts *topics) all() []*topic             { return ts.set.Load().sorted() }

func parseTopicID(s string) (id topicID, err error) {
	b, err := hex.DecodeString(s)
	if err != nil || copy(id[:], b) != len(b) || len(b) != len(id) {
		return id, fmt.Errorf("topic id %q is not 32 hexadecimal digits", s)
	}
	return id, nil
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

// offlineCount is how many partitions are not served.
func (ts *topics) offlineCount() (n int) {
	for _, t := range ts.all() {
		for _, p := range t.state.Load().parts {
			if p.offline != nil {
				n++
			}
		}
	}
	return n
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

func (ts *topics) stored(set *topicSet) storedTopics {
	st := storedTopics{Topics: []storedTopic{}, Deleting: ts.deleting}
	for _, t := range set.sorted() {
		st.Topics = append(st.Topics, t.stored())
	}
	return st
}

func (t *topic) stored() storedTopic {
	st := t.state.Load()
	return storedTopic{Name: t.name, ID: fmt.Sprintf("%x", t.id), Partitions: int32(len(st.parts)), Configs: st.configs}
}

func (ts *topics) save(set *topicSet) error {
	return ts.write(ts.dir.fs, ts.dir.file(topicsFile), ts.stored(set))
}

// saveChanged writes the topics down with a change to one of them.
func (ts *topics) saveChanged(set *topicSet, name string, change func(*storedTopic)) error {
	st := ts.stored(set)
	for i := range st.Topics {
		if st.Topics[i].Name == name {
			change(&st.Topics[i])
		}
	}
	return ts.write(ts.dir.fs, ts.dir.file(topicsFile), st)
}

// newTopicID makes a version 4 UUID, so it is never one of Kafka's reserved ids.
func newTopicID() (id topicID) {
	rand.Read(id[:])
	id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80
	return id
}

// createRequest is one topic to be made.
type createRequest struct {
	name       string
	partitions int32
	configs    map[string]string
	dryRun     bool
}

// create makes a topic: its directories first, then the entry that makes it
// exist. Errors are *apiError.
func (ts *topics) create(ctx context.Context, r createRequest) (*topic, log.TopicConfig, error) {
	if err := checkTopicName(r.name); err != nil {
		return nil, log.TopicConfig{}, apiErrorf(kerr.InvalidTopicException, "%v", err)
	}
	cfg, err := applyTopicConfigs(*ts.defaults.Load(), r.configs)
	if err != nil {
		return nil, cfg, apiErrorf(kerr.InvalidConfig, "%v", err)
	}
	if r.partitions < 1 {
		return nil, cfg, apiErrorf(kerr.InvalidPartitions, "a topic has 1 partition or more, not %d", r.partitions)
	}
	ts.mu.Lock()
	defer ts.mu.Unlock()
	set := ts.set.Load()
	switch {
	case ts.closed:
		return nil, cfg, apiErrorf(kerr.CoordinatorNotAvailable, "the broker is stopping")
	case set.byName[r.name] != nil:
		return set.byName[r.name], cfg, apiErrorf(kerr.TopicAlreadyExists, "Topic '%s' already exists.", r.name) // scripts look for Kafka's words
	case int64(set.parts)+int64(r.partitions) > int64(ts.maxParts):
		return nil, cfg, apiErrorf(kerr.PolicyViolation, "%d partitions more would be above the broker's limit of %d", r.partitions, ts.maxParts)
	}
	for _, t := range set.byName {
		if t.name != r.name && collisionName(t.name) == collisionName(r.name) {
			return nil, cfg, apiErrorf(kerr.InvalidTopicException, "topic %q collides with %q: '.' and '_' count as the same", r.name, t.name)
		}
	}
	if r.dryRun {
		return nil, cfg, nil
	}
	s := storedTopic{Name: r.name, Partitions: r.partitions, Configs: r.configs}
	s.ID = fmt.Sprintf("%x", newTopicID())
	// Files of an earlier attempt that crashed before the topic existed, and
	// of a deleted namesake, which must not be removed again at the next start.
	for _, old := range append(ts.deletingAs(r.name), s) {
		if err := ts.removeFiles(old); err != nil {
			return nil, cfg, apiErrorf(kerr.KafkaStorageError, "%v", err)
		}
	}
	ts.deleting = slices.DeleteFunc(ts.deleting, func(d storedTopic) bool { return d.Name == r.name })
	t, err := ts.open(ctx, s)
	if err != nil {
		ts.logger.Error("topic could not be created", "topic", r.name, "err", err)
		return nil, cfg, apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	next := set.with(t, nil)
	if err := ts.save(next); err != nil {
		ts.logger.Error("topic could not be created", "topic", r.name, "err", err)
		return nil, cfg, errors.Join(apiErrorf(kerr.KafkaStorageError, "%v", err), t.close())
	}
	ts.set.Store(next)
	ts.logger.Info("topic created", "topic", r.name, "partitions", r.partitions)
	return t, t.state.Load().cfg, nil
}

// changeable finds a topic that clients may change. The caller holds ts.mu.
func (ts *topics) changeable(set *topicSet, name string) (*topic, error) {
	t := set.byName[name]
	switch {
	case ts.closed:
		return nil, apiErrorf(kerr.CoordinatorNotAvailable, "the broker is stopping")
	case t == nil:
		return nil, apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", name)
	case t.internal:
		return nil, apiErrorf(kerr.InvalidTopicException, "topic %q is the broker's own", name)
	}
	return t, nil
}

// grow adds partitions up to count.
func (ts *topics) grow(ctx context.Context, name string, count int32, dryRun bool) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	set := ts.set.Load()
	t, err := ts.changeable(set, name)
	if err != nil {
		return err
	}
	old := t.state.Load()
	have := int32(len(old.parts))
	switch {
	case count <= have:
		return apiErrorf(kerr.InvalidPartitions, "topic %q has %d partitions; the new number %d must be higher", name, have, count)
	case int64(set.parts)+int64(count-have) > int64(ts.maxParts):
		return apiErrorf(kerr.PolicyViolation, "%d partitions more would be above the broker's limit of %d", count-have, ts.maxParts)
	case dryRun:
		return nil
	}
	st := &topicState{parts: slices.Clone(old.parts), configs: old.configs, cfg: old.cfg}
	undo := func(err error) error {
		for _, p := range st.parts[have:] {
			err = errors.Join(err, p.Close())
		}
		ts.logger.Error("partitions could not be added", "topic", name, "err", err)
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	for i := have; i < count; i++ {
		if err := os.RemoveAll(ts.dir.partition(name, i)); err != nil {
			return undo(err)
		}
		p, err := ts.openPart(ctx, t, i, st.cfg)
		if err != nil {
			return undo(err)
		}
		st.parts = append(st.parts, p)
	}
	if err := ts.saveChanged(set, name, func(s *storedTopic) { s.Partitions = count }); err != nil {
		return undo(err)
	}
	t.state.Store(st)
	next := set.with(nil, nil)
	next.parts += int(count - have)
	ts.set.Store(next)
	ts.logger.Info("partitions added", "topic", name, "partitions", count)
	return nil
}

// configure replaces a topic's own settings by what change makes of them.
func (ts *topics) configure(name string, change func(map[string]string) error, dryRun bool) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	set := ts.set.Load()
	t, err := ts.changeable(set, name)
	if err != nil {
		return err
	}
	old := t.state.Load()
	own := maps.Clone(old.configs)
	if own == nil {
		own = map[string]string{}
	}
	if err := change(own); err != nil {
		return err
	}
	cfg, err := applyTopicConfigs(*ts.defaults.Load(), own)
	if err != nil {
		return apiErrorf(kerr.InvalidConfig, "%v", err)
	}
	if dryRun {
		return nil
	}
	if err := ts.saveChanged(set, name, func(s *storedTopic) { s.Configs = own }); err != nil {
		ts.logger.Error("topic settings could not be written", "topic", name, "err", err)
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	t.state.Store(&topicState{parts: old.parts, configs: own, cfg: cfg})
	for _, p := range old.parts {
		if err := p.Reconfigure(cfg); err != nil {
			ts.logger.Error("partition did not take its new settings; they are in force after a restart", "topic", name, "partition", p.id, "err", err)
			return apiErrorf(kerr.KafkaStorageError, "%v", err)
		}
	}
	return nil
}

// setDefaults puts other defaults in force. Nothing has changed when it
// returns an error that is an *apiError with INVALID_CONFIG.
func (ts *topics) setDefaults(def log.TopicConfig) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	all := ts.all()
	cfgs := make([]log.TopicConfig, len(all))
	for i, t := range all {
		var err error
		if cfgs[i], err = applyTopicConfigs(def, t.state.Load().configs); err != nil {
			return apiErrorf(kerr.InvalidConfig, "topic %q: %v", t.name, err)
		}
		if t.internal {
			cfgs[i] = groupTopicConfig(def)
		}
	}
	ts.defaults.Store(&def)
	for i, t := range all {
		st := t.state.Load()
		t.state.Store(&topicState{parts: st.parts, configs: st.configs, cfg: cfgs[i]})
		for _, p := range st.parts {
			if err := p.Reconfigure(cfgs[i]); err != nil && !errors.Is(err, log.ErrClosed) {
				ts.logger.Error("partition did not take its new settings; they are in force after a restart", "topic", t.name, "partition", p.id, "err", err)
				return apiErrorf(kerr.KafkaStorageError, "%v", err)
			}
		}
	}
	return nil
}

// remove deletes a topic. The entry goes first and says that files are to be
// removed, so that a crash in between is finished at the next start.
func (ts *topics) remove(ctx context.Context, t *topic) error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	set := ts.set.Load()
	if set.byID[t.id] != t {
		return apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", t.name)
	}
	next := set.with(nil, t)
	s := t.stored()
	ts.deleting = append(ts.deleting, s)
	err := ts.save(next)
	if errors.Is(err, unix.ENOSPC) || errors.Is(err, unix.EDQUOT) {
		// The topic may be what fills the disk. Its records are not wanted
		// any more, and deleting them takes no space.
		ts.logger.Warn("disk is full: the records of a topic are deleted before the topic", "topic", t.name, "err", err)
		for _, p := range t.state.Load().parts {
			if _, err := p.DeleteRecords(ctx, -1); err != nil {
				ts.logger.Error("records could not be deleted", "topic", t.name, "partition", p.id, "err", err)
			}
		}
		err = ts.save(next)
	}
	if err != nil {
		ts.deleting = ts.deleting[:len(ts.deleting)-1]
		return apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	ts.set.Store(next)
	// Waiting fetches are woken by Close; reads under way keep their files.
	if err := t.close(); err != nil {
		ts.logger.Warn("a partition of a deleted topic did not close in order", "topic", t.name, "err", err)
	}
	if err := ts.removeFiles(s); err != nil {
		// The topic is gone for clients; its files go at the next start.
		ts.logger.Error("files of a deleted topic stay until the next start", "topic", t.name, "err", err)
		return nil
	}
	ts.deleting = slices.DeleteFunc(ts.deleting, func(d storedTopic) bool { return d.ID == s.ID })
	if err := ts.save(next); err != nil {
		ts.logger.Error("the list of deleted topics could not be written; it is at the next start", "err", err)
	}
	ts.logger.Info("topic deleted", "topic", t.name)
	return nil
}

func (ts *topics) deletingAs(name string) []storedTopic {
	var l []storedTopic
	for _, d := range ts.deleting {
		if d.Name == name {
			l = append(l, d)
		}
	}
	return l
}

func (ts *topics) removeFiles(s storedTopic) error {
	for i := range s.Partitions {
		if err := os.RemoveAll(ts.dir.partition(s.Name, i)); err != nil {
			return fmt.Errorf("remove files of topic %q: %w", s.Name, err)
		}
	}
	return nil
}

func (ts *topics) close() error {
	ts.mu.Lock()
	defer ts.mu.Unlock()
	ts.closed = true
	return closeAll(ts.set.Load())
}

const maxTopicName = 249

// checkTopicName follows Apache Kafka's rules, which also keep the name fit
// for a directory.
func checkTopicName(name string) error {
	switch {
	case name == "":
		return errors.New("a topic name must not be empty")
	case name == "." || name == "..":
		return fmt.Errorf("a topic name must not be %q", name)
	case len(name) > maxTopicName:
		return fmt.Errorf("a topic name has at most %d characters, not %d", maxTopicName, len(name))
	}
	for _, c := range name {
		if !(c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c >= '0' && c <= '9' || c == '.' || c == '_' || c == '-') {
			return fmt.Errorf("topic name %q has the character %q; allowed are letters, digits, '.', '_' and '-'", name, c)
		}
	}
	return nil
}

// collisionName is equal for names that collide in Apache Kafka's metrics.
func collisionName(name string) string { return strings.ReplaceAll(name, ".", "_") }
