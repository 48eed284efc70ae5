package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

// Topics are what a consumer reads, and how it is told.
type Topics struct {
	Names    []string          // without a pattern
	Key      string            // the property that has them
	Pattern  *javaregex.Regexp // kafka.topics.regex; nil: the names
	Internal bool              // the pattern takes Kafka's own topics, too
	Every    time.Duration     // between two looks
	Log      *slog.Logger
	Cond     *kafkaconf.Conditions
}

// Subscription keeps what the client reads in step with the topics that there
// are: it finds those that match a pattern, names those that are missing, and
// begins anew with one that was deleted and made again, which the client by
// itself would wait for without end.
type Subscription struct {
	Topics
	wake chan struct{} // asks for a look now

	// Of the goroutine in Watch.
	known   map[string]kadm.TopicID // what is read, with the id that it had
	absent  map[string]time.Time    // what is not there, and since when
	nothing bool                    // it was told that the pattern matches nothing

	mu         sync.Mutex
	broken     map[string]bool // topics whose fetches fail, as if they were others than those that the client knows
	add, purge []string        // to be done by Apply
}

const (
	lookTime  = 10 * time.Second // for a broker to answer
	lookAgain = time.Second      // after a look that failed, or that found a topic missing
	// patience is how long a topic may be missing: a broker that starts, or
	// makes the topic right now, may not know it yet.
	patience = 3 * time.Second
	// forgetAfter is how long a topic that matched must be gone before it is
	// given up.
	forgetAfter = 15 * time.Second
)

// Subscribe returns a subscription that has not looked yet.
func Subscribe(t Topics) *Subscription {
	return &Subscription{Topics: t, wake: make(chan struct{}, 1), known: map[string]kadm.TopicID{}, absent: map[string]time.Time{}, broken: map[string]bool{}}
}

// Doubt asks for a look now, as the broker does not know a topic that is read:
// it is gone, or another one of that name is there.
func (s *Subscription) Doubt(topic string) {
	s.mu.Lock()
	s.broken[topic] = true
	s.mu.Unlock()
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Watch looks at the broker's topics, for the first time after a wait, until
// ctx ends.
func (s *Subscription) Watch(ctx context.Context, adm *kadm.Client, wait time.Duration) {
	for ; ctx.Err() == nil; wait = s.Look(ctx, adm) {
		t := time.NewTimer(wait)
		select {
		case <-ctx.Done():
			t.Stop()
			return
		case <-t.C:
		case <-s.wake:
			t.Stop()
			Sleep(ctx, lookAgain) // a broken topic asks again and again
		}
	}
}

// Look asks once and answers when to ask again.
func (s *Subscription) Look(ctx context.Context, adm *kadm.Client) time.Duration {
	lctx, cancel := context.WithTimeout(ctx, lookTime)
	defer cancel()
	var names []string
	if s.Pattern == nil {
		names = s.Names
	}
	details, err := adm.ListTopicsWithInternal(lctx, names...)
	if err != nil { // the client's hook tells when no broker can be used
		s.Log.Debug("looking up topics failed", "error", err)
		return lookAgain
	}
	now := time.Now()
	here := map[string]kadm.TopicID{}
	for name, d := range details {
		switch {
		case errors.Is(d.Err, kerr.UnknownTopicOrPartition), errors.Is(d.Err, kerr.UnknownTopicID):
		case s.Pattern == nil:
			here[name] = d.ID
		case d.IsInternal && !s.Internal || d.Err != nil && !kerr.IsRetriable(d.Err):
		case s.Pattern.FullMatchString(name):
			here[name] = d.ID
		}
	}
	return s.compare(here, now)
}

// compare notes what has changed since the look before.
func (s *Subscription) compare(here map[string]kadm.TopicID, now time.Time) time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	var add, purge, again []string
	for name, id := range here {
		old, read := s.known[name]
		switch {
		case !read && s.Pattern != nil:
			add = append(add, name)
		case s.broken[name], read && id != old && id != (kadm.TopicID{}) && old != (kadm.TopicID{}):
			again = append(again, name)
		}
		delete(s.broken, name)
		s.known[name] = id
		delete(s.absent, name)
		s.Cond.Set("topic "+name, nil)
	}
	expected := s.Names
	if s.Pattern != nil {
		expected = slices.Collect(maps.Keys(s.known))
	}
	missing := false
	for _, name := range expected {
		if _, ok := here[name]; ok {
			continue
		}
		missing = true
		since, ok := s.absent[name]
		if !ok {
			s.absent[name] = now
			continue
		}
		switch gone := now.Sub(since); {
		case s.Pattern != nil && gone >= forgetAfter:
			purge = append(purge, name)
			delete(s.known, name)
			delete(s.absent, name)
			delete(s.broken, name)
			s.Log.Info("a topic that matched kafka.topics.regex is gone", "topic", name)
		case s.Pattern == nil && gone >= patience:
			err := fmt.Errorf("topic %s does not exist: create it, or correct %s; it is read as soon as it is there", name, s.Key)
			if s.Cond.Set("topic "+name, err) {
				s.Log.Error(err.Error())
			}
		}
	}
	for _, names := range [][]string{add, purge, again} {
		slices.Sort(names)
	}
	if len(add) > 0 {
		s.Log.Info("topics match kafka.topics.regex", "topics", add)
	}
	if len(again) > 0 {
		s.Log.Warn("topics were deleted and made again: they are read as new ones", "topics", again)
	}
	if s.Pattern != nil && len(s.known) == 0 && !s.nothing {
		s.nothing = true
		s.Log.Warn("no topic matches kafka.topics.regex yet; it is looked for again after kafka.consumer.metadata.max.age.ms", "regex", s.Pattern.String(), "pause", s.Every)
	}
	s.add = append(append(s.add, add...), again...)
	s.purge = append(append(s.purge, purge...), again...)
	if missing {
		return min(lookAgain, s.Every)
	}
	return s.Every
}

// Apply does what the looks found necessary, between two batches. drop is told
// before which topics are not read any more, or from now on as new ones: what
// is known of their offsets is void, and must not be committed to what has
// their names now.
func (s *Subscription) Apply(cl *kgo.Client, drop func(topics []string)) {
	s.mu.Lock()
	add, purge := s.add, s.purge
	s.add, s.purge = nil, nil
	s.mu.Unlock()
	if len(purge) > 0 {
		drop(purge)
		cl.PurgeTopicsFromConsuming(purge...)
	}
	if len(add) > 0 {
		cl.AddConsumeTopics(add...)
	}
}
