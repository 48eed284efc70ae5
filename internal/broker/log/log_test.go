package log

import (
	"errors"
	"fmt"
	"sync"
	"testing"
)

func TestWaiterFiresOnce(t *testing.T) {
	fired := func(w *Waiter) bool {
		select {
		case <-w.C():
			return true
		default:
			return false
		}
	}
	w := NewWaiter(10)
	for _, n := range []int64{4, 0, -5, 5} {
		w.Add(n)
		if fired(w) {
			t.Fatalf("fired after adding %d", n)
		}
	}
	w.Add(1)
	if !fired(w) {
		t.Fatal("did not fire")
	}
	w.Add(1 << 62)
	w.Add(1 << 62)
	w.Wake()

	w = NewWaiter(0)
	if fired(w) {
		t.Fatal("fired without a byte")
	}
	w.Wake()
	w.Add(5)
	w.Wake()
	if !fired(w) {
		t.Fatal("was not woken")
	}

	for range 100 { // all at once: a second close would panic
		w := NewWaiter(50)
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				for range 10 {
					w.Add(1)
				}
				if i == 0 {
					w.Wake()
				}
			})
		}
		wg.Wait()
		if !fired(w) {
			t.Fatal("did not fire")
		}
	}
}

func TestKafkaCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		code int16
	}{
		{nil, 0},
		{errors.New("other"), -1},
		{&OffsetOutOfRangeError{}, 1},
		{fmt.Errorf("x: %w", ErrNoSpace), 56},
		{fmt.Errorf("x: %w", ErrCorruptMessage), 2},
		{errors.Join(ErrInvalidRecord), 87},
		{ErrClosed, 6},
	} {
		if got := KafkaCode(c.err); got != c.code {
			t.Errorf("%v: %d, want %d", c.err, got, c.code)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := DefaultTopicConfig().Validate(); err != nil {
		t.Fatal(err)
	}
	for name, f := range map[string]func(*TopicConfig){
		"segment.bytes":          func(c *TopicConfig) { c.SegmentBytes = 100 },
		"segment.bytes large":    func(c *TopicConfig) { c.SegmentBytes = 1 << 31 },
		"segment.ms":             func(c *TopicConfig) { c.SegmentAge = 0 },
		"retention.bytes":        func(c *TopicConfig) { c.RetentionBytes = -2 },
		"max.message.bytes":      func(c *TopicConfig) { c.MaxMessageBytes = -1 },
		"index.interval.bytes":   func(c *TopicConfig) { c.IndexInterval = -1 },
		"flush.messages":         func(c *TopicConfig) { c.FlushMessages = -1 },
		"flush.ms":               func(c *TopicConfig) { c.FlushAge = -1 },
		"message.timestamp.type": func(c *TopicConfig) { c.TimestampType = 2 },
	} {
		c := DefaultTopicConfig()
		f(&c)
		if c.Validate() == nil {
			t.Errorf("%s: no error", name)
		}
	}
}
