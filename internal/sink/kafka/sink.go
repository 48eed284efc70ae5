package kafka

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/kafkaclient"
)

// sink is used by one goroutine at a time. It is its sender's encoder.
type sink struct {
	config
	env       component.Env
	sender    *kafkaclient.Sender
	template  *escape.Template // nil: the topic is s.topic
	mapped    []mapping
	sendTimer *atomic.Int64 // ms
	rollbacks *atomic.Int64

	started bool
	spent   time.Duration

	// Of a batch, and used again by the next: what records view.
	recHeaders []kgo.RecordHeader
	values     []byte
	scratch    []byte

	topics     map[string]string // names of topics by themselves
	lastTopic  string
	warnedTime bool
}

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return s.batchSize }

func (s *sink) Start(context.Context) error {
	if s.started {
		return nil
	}
	if err := s.sender.Connect(); err != nil {
		return err
	}
	s.started, s.spent = true, 0
	return nil
}

func (s *sink) Stop(context.Context) error {
	s.started = false
	s.sender.Close()
	return nil
}

// Write implements component.Sink: it sends all events and returns when each
// of them is acknowledged or has failed. Nothing of them is held after that.
func (s *sink) Write(ctx context.Context, evs []event.Event) error {
	if !s.started {
		return fmt.Errorf("send events to Kafka: %w", errStopped)
	}
	begin := time.Now()
	failed, err := s.sender.Send(ctx, evs)
	s.spent += time.Since(begin)
	s.sendTimer.Store(s.spent.Milliseconds())
	if err == nil {
		err = verdict(failed, len(evs))
	}
	if err != nil {
		s.rollbacks.Add(1)
	}
	return err
}

// verdict is what Write returns for the failures of n events.
func verdict(failed map[int]error, n int) error {
	if len(failed) == 0 {
		return nil
	}
	permanent := false
	for _, err := range failed {
		permanent = permanent || component.IsPermanent(err)
	}
	if len(failed) == n && !permanent {
		return fmt.Errorf("send %d events to Kafka: %w", n, kafkaclient.First(failed))
	}
	return &component.PartialError{Failed: failed}
}
