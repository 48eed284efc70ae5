package broker

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
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

	uncreated logLimit

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
