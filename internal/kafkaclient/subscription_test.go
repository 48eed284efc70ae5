package kafkaclient

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"

	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

func TestCompare(t *testing.T) {
	id := func(b byte) kadm.TopicID { return kadm.TopicID{b} }
	var said error
	var log bytes.Buffer
	mk := func(pattern string, names ...string) *Subscription {
		said = nil
		log.Reset()
		s := Subscribe(Topics{Names: names, Key: "kafka.topics", Every: time.Minute, Cond: kafkaconf.NewConditions(func(err error) { said = err }), Log: slog.New(slog.NewTextHandler(&log, nil))})
		if pattern != "" {
			s.Pattern = javaregex.MustCompile(pattern, 0)
		}
		return s
	}
	take := func(s *Subscription) (string, string) {
		add, purge := strings.Join(s.add, ","), strings.Join(s.purge, ",")
		s.add, s.purge = nil, nil
		return add, purge
	}
	now := time.Now()

	s := mk("", "a", "b")
	if wait := s.compare(map[string]kadm.TopicID{"a": id(1)}, now); wait != lookAgain || said != nil {
		t.Errorf("a topic may be about to be made: %v, %v", wait, said)
	}
	s.compare(map[string]kadm.TopicID{"a": id(1)}, now.Add(patience))
	s.compare(map[string]kadm.TopicID{"a": id(1)}, now.Add(2*patience))
	if said == nil || !strings.Contains(said.Error(), "topic b does not exist") || strings.Count(log.String(), "does not exist") != 1 {
		t.Errorf("%v, %s", said, &log)
	}
	if wait := s.compare(map[string]kadm.TopicID{"a": id(1), "b": id(2)}, now.Add(3*patience)); wait != time.Minute || said != nil {
		t.Errorf("%v, %v", wait, said)
	}
	if add, purge := take(s); add != "" || purge != "" { // the client asks for it by itself
		t.Errorf("%q %q", add, purge)
	}
	s.compare(map[string]kadm.TopicID{"a": id(3), "b": {}}, now.Add(4*patience)) // a broker that knows no ids says nothing
	if add, purge := take(s); add != "a" || purge != "a" {
		t.Errorf("%q %q", add, purge)
	}

	// Deleted and made again before a look saw it: the fetches tell.
	s.Doubt("b")
	s.compare(map[string]kadm.TopicID{"a": id(3)}, now.Add(4*patience))
	if add, purge := take(s); add != "" || purge != "" {
		t.Errorf("%q %q", add, purge)
	}
	for _, want := range []string{"b", ""} {
		s.compare(map[string]kadm.TopicID{"a": id(3), "b": id(4)}, now.Add(5*patience))
		if add, purge := take(s); add != want || purge != want {
			t.Errorf("%q %q", add, purge)
		}
	}

	s = mk("x.*")
	s.compare(nil, now)
	s.compare(nil, now)
	if strings.Count(log.String(), "no topic matches") != 1 {
		t.Errorf("%s", &log)
	}
	s.compare(map[string]kadm.TopicID{"x2": id(1), "x1": id(2)}, now)
	if add, _ := take(s); add != "x1,x2" {
		t.Errorf("%q", add)
	}
	s.compare(map[string]kadm.TopicID{"x2": id(1)}, now) // a broker that starts may not know all of them
	s.compare(map[string]kadm.TopicID{"x2": id(1)}, now.Add(forgetAfter-1))
	if add, purge := take(s); add != "" || purge != "" {
		t.Errorf("%q %q", add, purge)
	}
	s.compare(map[string]kadm.TopicID{"x2": id(1)}, now.Add(forgetAfter))
	if add, purge := take(s); add != "" || purge != "x1" {
		t.Errorf("%q %q", add, purge)
	}
	s.compare(map[string]kadm.TopicID{"x2": id(1), "x1": id(9)}, now.Add(2*forgetAfter))
	if add, purge := take(s); add != "x1" || purge != "" {
		t.Errorf("%q %q", add, purge)
	}
}
