package broker

import (
	"math/rand/v2"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch sessions (KIP-227): the broker remembers which partitions a client
// fetches, so that a request names only what changed and a response only what
// is new.

const (
	maxFetchSessions = 1000 // max.incremental.fetch.session.cache.slots
	// maxFetchSessionParts bounds the partitions that all sessions remember
	// together, some 300 bytes each. A request may name partitions that do not
	// exist, so the number of those that do is no bound.
	maxFetchSessionParts = 250_000
	// A session that was silent so long may be evicted for a new one. While
	// all are busy, new clients go without, which costs bytes and nothing else.
	fetchSessionIdle = 2 * time.Minute
)

type fetchSessions struct {
	mu       sync.Mutex
	byID     map[int32]*fetchSession
	parts    int // remembered by all of them
	maxParts int
}

func newFetchSessions() *fetchSessions {
	return &fetchSessions{byID: map[int32]*fetchSession{}, maxParts: maxFetchSessionParts}
}

// fetchSession is a session, or with id 0 the partitions of a single fetch.
type fetchSession struct {
	id      int32
	used    time.Time // guarded by fetchSessions.mu, and so is:
	counted int       // its share of fetchSessions.parts

	mu    sync.Mutex
	epoch int32 // that the next request must have
	byTID bool  // partitions are named by topic id (version 13 and up)
	// parts in the order of reading. Partitions that had data go to the end,
	// so that a busy one cannot starve the others when a response is full.
	parts []*fetchPartition
	index map[fetchKey]*fetchPartition
	full  bool // this response names all partitions
}

type fetchKey struct {
	topic string
	id    topicID
	part  int32
}

type fetchPartition struct {
	fetchKey
	offset   int64
	maxBytes int32
	epoch    int32
	// fetched is the epoch of the last record that the client has, -1 for
	// none (version 12 and up).
	fetched int32

	sent      bool // was in a response, with:
	sentHigh  int64
	sentStart int64
}

// find looks the partition up; it may have been deleted since the last fetch.
func (p *fetchPartition) find(ts *topics) (*part, int16) {
	var t *topic
	missing := kerr.UnknownTopicOrPartition.Code
	if p.topic == "" {
		t = ts.byID(p.id)
		missing = kerr.UnknownTopicID.Code
	} else {
		t = ts.byName(p.topic)
	}
	if t == nil {
		return nil, missing
	}
	if part := t.part(p.fetchKey.part); part != nil {
		return part, 0
	}
	return nil, kerr.UnknownTopicOrPartition.Code
}

// resolve finds or makes the session of a request, brings its partitions up
// to date and returns it locked; or it returns an error code.
func (fs *fetchSessions) resolve(ts *topics, req *kmsg.FetchRequest) (*fetchSession, int16) {
	byID := req.Version >= 13
	if req.Version < 7 {
		return oneFetch(req, byID), 0
	}
	switch {
	case req.SessionEpoch == -1, req.SessionEpoch == 0:
		// A full request ends the session that it names.
		fs.mu.Lock()
		fs.drop(fs.byID[req.SessionID])
		fs.mu.Unlock()
		s := oneFetch(req, byID)
		if req.SessionEpoch == 0 && len(s.parts) > 0 {
			fs.keep(s)
		}
		return s, 0
	}
	fs.mu.Lock()
	s := fs.byID[req.SessionID]
	if s != nil {
		s.used = time.Now()
	}
	fs.mu.Unlock()
	if s == nil {
		return nil, kerr.FetchSessionIDNotFound.Code
	}
	s.mu.Lock()
	switch {
	case req.SessionEpoch != s.epoch:
		s.mu.Unlock()
		return nil, kerr.InvalidFetchSessionEpoch.Code
	case s.byTID != byID:
		s.mu.Unlock()
		return nil, kerr.FetchSessionTopicIDError.Code
	}
	if s.epoch++; s.epoch < 0 { // past the largest number
		s.epoch = 1
	}
	s.full = false
	s.forget(req)
	s.update(req)
	if !fs.grew(s) {
		s.mu.Unlock()
		return nil, kerr.FetchSessionIDNotFound.Code // the client names all of them again
	}
	return s, 0
}

// drop forgets a session, nil for none. fs.mu is held.
func (fs *fetchSessions) drop(s *fetchSession) {
	if s != nil && fs.byID[s.id] == s {
		delete(fs.byID, s.id)
		fs.parts -= s.counted
	}
}

// grew counts what a session remembers now. A session that would be above the
// bound on all of them is dropped.
func (fs *fetchSessions) grew(s *fetchSession) bool {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	if fs.byID[s.id] != s {
		return true // evicted meanwhile: this fetch is its last
	}
	n := len(s.parts) - s.counted
	if n > 0 && fs.parts+n > fs.maxParts {
		fs.drop(s)
		return false
	}
	s.counted += n
	fs.parts += n
	return true
}

func oneFetch(req *kmsg.FetchRequest, byID bool) *fetchSession {
	s := &fetchSession{byTID: byID, full: true, index: map[fetchKey]*fetchPartition{}}
	s.mu.Lock()
	s.update(req)
	return s
}

// keep gives a session its id, if there is room.
func (fs *fetchSessions) keep(s *fetchSession) {
	fs.mu.Lock()
	defer fs.mu.Unlock()
	now := time.Now()
	for len(fs.byID) >= maxFetchSessions || fs.parts+len(s.parts) > fs.maxParts {
		var oldest *fetchSession
		for _, o := range fs.byID {
			if oldest == nil || o.used.Before(oldest.used) {
				oldest = o
			}
		}
		if oldest == nil || now.Sub(oldest.used) < fetchSessionIdle {
			return
		}
		fs.drop(oldest)
	}
	for {
		// Random, so that a client of the broker before a restart does not
		// hit another's session.
		if id := rand.Int32(); id > 0 && fs.byID[id] == nil {
			s.id, s.used, s.epoch = id, now, 1
			fs.byID[id] = s
			s.counted = len(s.parts)
			fs.parts += s.counted
			return
		}
	}
}

func (s *fetchSession) update(req *kmsg.FetchRequest) {
	for i := range req.Topics {
		rt := &req.Topics[i]
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			k := fetchKey{part: rp.Partition}
			if s.byTID {
				k.id = rt.TopicID
			} else {
				k.topic = rt.Topic
			}
			p := s.index[k]
			if p == nil {
				p = &fetchPartition{fetchKey: k}
				s.index[k] = p
				s.parts = append(s.parts, p)
			}
			p.offset, p.maxBytes, p.epoch, p.fetched = rp.FetchOffset, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch, rp.LastFetchedEpoch
		}
	}
}

func (s *fetchSession) forget(req *kmsg.FetchRequest) {
	dropped := false
	for _, ft := range req.ForgottenTopics {
		for _, p := range ft.Partitions {
			k := fetchKey{part: p}
			if s.byTID {
				k.id = ft.TopicID
			} else {
				k.topic = ft.Topic
			}
			if _, ok := s.index[k]; ok {
				delete(s.index, k)
				dropped = true
			}
		}
	}
	if !dropped {
		return
	}
	keep := s.parts[:0]
	for _, p := range s.parts {
		if s.index[p.fetchKey] == p {
			keep = append(keep, p)
		}
	}
	clear(s.parts[len(keep):])
	s.parts = keep
}

// respond fills the response: all partitions, or in an incremental one those
// with records, an error or new marks. committed says that the client reads
// what is committed only.
func (s *fetchSession) respond(resp *wire.FetchResponse, parts []fetching, committed bool) {
	resp.Topics = make([]wire.FetchTopic, 0, 1)
	at := map[fetchKey]int{}
	withData := 0
	for i := range parts {
		f := &parts[i]
		out := wire.FetchPartition{Partition: f.want.fetchKey.part, ErrorCode: f.code, HighWatermark: -1, LastStable: -1, LogStart: -1,
			Aborted: f.part == nil || committed && f.code == 0, Diverged: f.diverged, DivergingEnd: f.end}
		if f.code == 0 {
			o := f.res.Offsets
			out.HighWatermark, out.LastStable, out.LogStart = o.High, o.Stable, o.Start
			out.Records, out.RecordBytes = f.res.Sections, f.res.Size
		}
		w := f.want
		news := f.code != 0 || f.diverged || f.res.Size > 0 || !w.sent || w.sentHigh != out.HighWatermark || w.sentStart != out.LogStart
		// An error is news again every time it is there.
		w.sent, w.sentHigh, w.sentStart = f.code == 0, out.HighWatermark, out.LogStart
		if f.res.Size > 0 {
			withData++
		}
		if !s.full && !news {
			continue
		}
		k := fetchKey{topic: w.topic, id: w.id}
		j, ok := at[k]
		if !ok {
			j = len(resp.Topics)
			at[k] = j
			resp.Topics = append(resp.Topics, wire.FetchTopic{Name: w.topic, ID: w.id})
		}
		resp.Topics[j].Partitions = append(resp.Topics[j].Partitions, out)
	}
	if s.id != 0 && withData > 0 && withData < len(parts) {
		order := make([]*fetchPartition, 0, len(s.parts))
		for pass := range 2 {
			for i := range parts {
				if (parts[i].res.Size > 0) == (pass == 1) {
					order = append(order, parts[i].want)
				}
			}
		}
		s.parts = order
	}
}
