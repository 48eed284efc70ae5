package broker

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func fetchOf(id, epoch int32, first, n int) *kmsg.FetchRequest {
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.SessionID, req.SessionEpoch = 12, id, epoch
	t := kmsg.NewFetchRequestTopic()
	t.Topic = "not-there"
	for i := range n {
		p := kmsg.NewFetchRequestTopicPartition()
		p.Partition = int32(first + i)
		t.Partitions = append(t.Partitions, p)
	}
	req.Topics = append(req.Topics, t)
	return req
}

// TestFetchSessionsAreBounded: sessions outlive their connections and may name
// partitions that do not exist, so what all of them remember has a bound.
func TestFetchSessionsAreBounded(t *testing.T) {
	fs := newFetchSessions()
	fs.maxParts = 100
	open := func(id, epoch int32, first, n int) (int32, int16) {
		s, code := fs.resolve(nil, fetchOf(id, epoch, first, n))
		if code != 0 {
			return 0, code
		}
		defer s.mu.Unlock()
		return s.id, 0
	}
	a, _ := open(0, 0, 0, 60)
	if a == 0 {
		t.Fatal("a session that fits is not kept")
	}
	if id, code := open(0, 0, 0, 60); id != 0 || code != 0 {
		t.Fatalf("session %d, code %d: want a fetch without a session", id, code)
	}
	b, _ := open(0, 0, 0, 30)
	if b == 0 || fs.parts != 90 {
		t.Fatalf("session %d, %d partitions remembered", b, fs.parts)
	}
	if _, code := open(b, 1, 30, 10); code != 0 || fs.parts != 100 {
		t.Fatalf("code %d, %d partitions remembered", code, fs.parts)
	}
	// One that grows beyond the bound is dropped, and its client begins anew.
	if _, code := open(b, 2, 40, 1); code != kerr.FetchSessionIDNotFound.Code || fs.parts != 60 {
		t.Fatalf("code %d, %d partitions remembered", code, fs.parts)
	}
	req := fetchOf(a, 1, 0, 0)
	req.Topics = nil
	ft := kmsg.NewFetchRequestForgottenTopic()
	ft.Topic, ft.Partitions = "not-there", []int32{0, 1, 2, 3, 4}
	req.ForgottenTopics = append(req.ForgottenTopics, ft)
	s, code := fs.resolve(nil, req)
	if code != 0 || fs.parts != 55 {
		t.Fatalf("code %d, %d partitions remembered", code, fs.parts)
	}
	s.mu.Unlock()
	// The idle ones make room.
	s.used = time.Now().Add(-2 * fetchSessionIdle)
	if id, _ := open(0, 0, 0, 90); id == 0 || len(fs.byID) != 1 || fs.parts != 90 {
		t.Fatalf("session %d, %d sessions, %d partitions remembered", id, len(fs.byID), fs.parts)
	}
	if _, code := open(0, -1, 0, 1); code != 0 || fs.parts != 90 {
		t.Fatal("a fetch that wants no session counts")
	}
}
