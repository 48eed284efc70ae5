package hbase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	client "github.com/sluice-data/sluice/internal/hbase"
)

// sink is used by one goroutine at a time.
type sink struct {
	config
	env    component.Env
	cfg    client.Config
	family []byte
	ser    Serializer
	count  func(row, qualifier []byte, delta int64) // counted, bound once

	cl    *client.Client // nil: not started
	fails int            // batches in a row

	// Of a batch, and used again by the next.
	puts, incs client.Batch
	owners     []int32 // put → event
	shares     []share
	sums       []sum
	counting   int // the event whose counts are being taken
	failed     map[int]error
}

// share says that an event counts in an increment.
type share struct{ event, inc int32 }

// sum is an increment of several events.
type sum struct {
	row, qualifier []byte
	delta          int64
	events         []int32
}

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return int(s.batchSize) }

// Start makes the client, which connects when it is first used.
func (s *sink) Start(context.Context) error {
	if s.cl != nil {
		return nil
	}
	cfg := s.cfg
	cfg.Opened = func() { s.env.Metrics.Counter("ConnectionCreatedCount").Add(1) }
	cfg.Closed = func() { s.env.Metrics.Counter("ConnectionClosedCount").Add(1) }
	cfg.Failed = func() { s.env.Metrics.Counter("ConnectionFailedCount").Add(1) }
	s.cl, s.fails = client.New(cfg), 0
	return nil
}

func (s *sink) Stop(context.Context) error {
	if s.cl != nil {
		s.cl.Close()
		s.cl = nil
	}
	return nil
}

// Write implements component.Sink.
func (s *sink) Write(ctx context.Context, evs []event.Event) error {
	if s.cl == nil {
		return errors.New("write events to HBase: the sink is not started")
	}
	s.failed = nil
	s.store(ctx, evs)
	s.countAll(ctx, evs)
	if len(s.failed) == 0 {
		s.fails = 0
		return nil
	}
	if s.fails++; s.maxFails > 0 && s.fails >= s.maxFails {
		s.env.Log.Info("connections to HBase are made anew after failures in a row", "batches", s.fails)
		s.cl.Forget()
		s.fails = 0
	}
	return s.verdict(len(evs))
}

// store writes the puts of all events.
func (s *sink) store(ctx context.Context, evs []event.Event) {
	s.puts.Reset()
	s.owners = s.owners[:0]
	for i := range evs {
		from := s.puts.Len()
		if err := s.ser.AppendPuts(&s.puts, s.family, &evs[i]); err != nil {
			for s.puts.Len() > from {
				s.puts.Drop()
			}
			s.fail(i, component.Permanent(fmt.Errorf("make a row: %w", err)))
			continue
		}
		for range s.puts.Len() - from {
			s.owners = append(s.owners, int32(i))
		}
	}
	if s.puts.Len() == 0 || s.cl.Do(ctx, s.table, &s.puts) == nil {
		return
	}
	for m, i := range s.owners {
		if err := s.puts.Err(m); err != nil {
			s.fail(int(i), s.explain(err))
		}
	}
}

// countAll sends the increments of the events that are stored.
func (s *sink) countAll(ctx context.Context, evs []event.Event) {
	s.incs.Reset()
	s.shares = s.shares[:0]
	s.sums = s.sums[:0]
	for i := range evs {
		if _, bad := s.failed[i]; bad {
			continue
		}
		s.counting = i
		s.ser.Counts(&evs[i], s.count)
	}
	for _, c := range s.sums {
		s.increment(c.row, c.qualifier, c.delta, c.events...)
	}
	if s.incs.Len() == 0 || s.cl.Do(ctx, s.table, &s.incs) == nil {
		return
	}
	for _, sh := range s.shares {
		if err := s.incs.Err(int(sh.inc)); err != nil {
			s.fail(int(sh.event), s.explain(err))
		}
	}
}

// counted takes a count of the event s.counting.
func (s *sink) counted(row, qualifier []byte, delta int64) {
	if !s.coalesce {
		s.increment(row, qualifier, delta, int32(s.counting))
		return
	}
	at := slices.IndexFunc(s.sums, func(c sum) bool { return bytes.Equal(c.row, row) && bytes.Equal(c.qualifier, qualifier) })
	if at < 0 {
		at = len(s.sums)
		s.sums = append(s.sums, sum{row: bytes.Clone(row), qualifier: bytes.Clone(qualifier)})
	}
	c := &s.sums[at]
	c.delta += delta
	c.events = append(c.events, int32(s.counting))
}

func (s *sink) increment(row, qualifier []byte, delta int64, events ...int32) {
	if err := s.incs.Increment(row, s.family, qualifier, delta); err != nil {
		for _, i := range events {
			s.fail(int(i), component.Permanent(fmt.Errorf("count an event: %w", err)))
		}
		return
	}
	for _, i := range events {
		s.shares = append(s.shares, share{i, int32(s.incs.Len() - 1)})
	}
}

func (s *sink) fail(event int, err error) {
	if s.failed == nil {
		s.failed = make(map[int]error)
	}
	s.failed[event] = err
}

// verdict is what Write returns for the failures of n events.
func (s *sink) verdict(n int) error {
	first := s.failed[slices.Min(slices.Collect(maps.Keys(s.failed)))]
	if len(s.failed) == n && !slices.ContainsFunc(slices.Collect(maps.Values(s.failed)), component.IsPermanent) {
		return fmt.Errorf("write %d events to HBase: %w", n, first)
	}
	return &component.PartialError{Failed: s.failed}
}

// explain says what an operator can do about an error, and marks those that
// will not change.
func (s *sink) explain(err error) error {
	switch {
	case client.IsPermanent(err):
		return component.Permanent(fmt.Errorf("HBase does not take the row: %w", err))
	case errors.Is(err, client.ErrNoTable):
		return fmt.Errorf("table %s does not exist: create it, with the column family %s", s.table, s.config.family)
	case client.Is(err, "NoSuchColumnFamilyException"):
		return fmt.Errorf("table %s has no column family %s: add it to the table, or correct columnFamily", s.table, s.config.family)
	case client.Is(err, "AccessDeniedException"):
		return fmt.Errorf("the user %s may not write to table %s: grant it in HBase: %w", s.cfg.User, s.table, err)
	case client.Is(err, "TableNotEnabledException"):
		return fmt.Errorf("table %s is disabled: enable it: %w", s.table, err)
	}
	return err
}
