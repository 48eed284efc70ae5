package kafkaclient

import (
	"context"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// transact sends a batch as one Kafka transaction. Events that can never be
// delivered are left out, in a second try, so that they do not hold up the others.
func (s *Sender) transact(ctx context.Context, evs []event.Event) error {
	var index []int
	for {
		dead := s.failed // of the tries before
		s.failed = nil
		if err := s.tryTransaction(ctx, evs, index); err != nil {
			return err
		}
		retry := len(s.failed) > 0
		for i, err := range s.failed {
			retry = retry && component.IsPermanent(err)
			if dead == nil {
				dead = make(map[int]error)
			}
			dead[i] = err
		}
		if len(s.failed) > 0 && !retry {
			return fmt.Errorf("send a transaction of %d events to Kafka: %w", len(evs), First(s.failed))
		}
		s.failed = dead
		if !retry {
			return nil
		}
		index = index[:0]
		for i := range evs {
			if dead[i] == nil {
				index = append(index, i)
			}
		}
		if len(index) == 0 {
			return nil
		}
	}
}

// tryTransaction sends and commits, or aborts when a record failed.
func (s *Sender) tryTransaction(ctx context.Context, evs []event.Event, index []int) error {
	if s.cl == nil {
		return fmt.Errorf("send a transaction to Kafka: %w", cancelled(ctx))
	}
	if err := s.cl.BeginTransaction(); err != nil {
		s.renew()
		return fmt.Errorf("begin a Kafka transaction (kafka.producer.transactional.id %s): %w", s.cfg.Producer.TransactionalID, err)
	}
	s.deliver(ctx, evs, index)
	if s.cl == nil { // ctx ended; the broker aborts what is open when the next client comes
		return fmt.Errorf("send a transaction to Kafka: %w", cancelled(ctx))
	}
	how := kgo.TryCommit
	if len(s.failed) > 0 {
		how = kgo.TryAbort
	}
	if err := s.cl.EndTransaction(ctx, how); err != nil {
		// The outcome is not known, or the producer is fenced: a new client
		// with the same id settles it.
		s.renew()
		if len(s.failed) > 0 {
			err = errors.Join(First(s.failed), err)
		}
		return fmt.Errorf("end a Kafka transaction (kafka.producer.transactional.id %s; it must not be used elsewhere): %w", s.cfg.Producer.TransactionalID, err)
	}
	return nil
}

// renew leaves the client; the next Write makes a new one.
func (s *Sender) renew() {
	s.cl.Close()
	s.cl = nil
}
