package broker

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/twmb/franz-go/pkg/kerr"
	"golang.org/x/sys/unix"
)

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
		ts.notCreated(r.name, err)
		return nil, cfg, apiErrorf(kerr.KafkaStorageError, "%v", err)
	}
	next := set.with(t, nil)
	if err := ts.save(next); err != nil {
		ts.notCreated(r.name, err)
		return nil, cfg, errors.Join(apiErrorf(kerr.KafkaStorageError, "%v", err), t.close())
	}
	ts.set.Store(next)
	ts.logger.Info("topic created", "topic", r.name, "partitions", r.partitions)
	return t, t.state.Load().cfg, nil
}

// notCreated says why, once in a while: members of groups ask for their log
// again and again.
func (ts *topics) notCreated(topic string, err error) {
	if ts.uncreated.allow() {
		ts.logger.Error("topic could not be created", "topic", topic, "err", err)
	}
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
	if err := t.discard(); err != nil {
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
