package hive

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/escape"
)

const (
	hidden     = "_" // files whose names begin so are none of the table's
	filePrefix = "sluice"
	retryClose = 30 * time.Second // between tries to close a file
	// fresh is how long what the metastore said is believed.
	fresh = time.Minute
)

// sink is used by one goroutine at a time.
type sink struct {
	config
	env     component.Env
	meta    catalog
	values  []*escape.Template // of the partition
	ser     serializer
	buckets bucket.Config // of each volume
	open    func(address string, s *sink) (*volume, error)
	clock   func() time.Time

	started bool
	volumes map[string]*volume
	warehouse

	// Of a batch, and used again by the next.
	groups  []*group
	byKey   map[string]*group
	key     []byte
	cells   []cell
	text    []byte
	ends    []int
	rows    []event.Event
	failed  map[int]error
	trouble bucket.Penalties[string]
}

// group is the events of a batch that belong to one partition.
type group struct {
	key    string // the values of the partition, each with a 0 after it
	events []int
}

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return s.batchSize }

// Start implements component.Component. A table that cannot be written is refused here.
func (s *sink) Start(ctx context.Context) error {
	if s.started {
		return nil
	}
	s.volumes, s.warehouse = map[string]*volume{}, warehouse{}
	s.trouble = bucket.NewPenalties[string](s.clock)
	if err := s.look(ctx); err != nil {
		return errors.Join(err, s.closeAll(ctx))
	}
	s.started = true
	return nil
}

// Stop implements component.Component.
func (s *sink) Stop(ctx context.Context) error {
	if !s.started {
		return nil
	}
	s.started = false
	return s.closeAll(ctx)
}

func (s *sink) closeAll(ctx context.Context) error {
	s.stopSearch()
	var errs []error
	for _, v := range s.volumes {
		errs = append(errs, v.Stop(ctx), v.fs.Close())
	}
	s.volumes = nil
	return errors.Join(append(errs, s.meta.Close())...)
}

// Idle implements component.Idler.
func (s *sink) Idle(context.Context) error {
	if !s.started {
		return nil
	}
	s.searchFound()
	for _, v := range s.volumes {
		v.Tick()
	}
	return nil
}

// Write implements component.Sink.
func (s *sink) Write(ctx context.Context, evs []event.Event) error {
	if !s.started {
		return errors.New("write events to Hive: the sink is not started")
	}
	if err := s.Idle(ctx); err != nil {
		return err
	}
	if err := s.look(ctx); err != nil {
		return err
	}
	s.failed = nil
	s.assign(evs)
	for _, g := range s.groups {
		err := s.trouble.Try(g.key, len(s.groups) > 1, func(time.Time) error { return s.writeGroup(ctx, g, evs) })
		if err != nil {
			if len(g.events) == len(evs) && s.failed == nil {
				return err
			}
			for _, i := range g.events {
				if s.failed[i] == nil { // a bad row says more
					s.fail(i, err)
				}
			}
		}
	}
	if s.failed == nil {
		return nil
	}
	return &component.PartialError{Failed: s.failed}
}

func (s *sink) fail(i int, err error) {
	if s.failed == nil {
		s.failed = map[int]error{}
	}
	s.failed[i] = err
}

// maxElement is how long the name of a directory may be, in bytes, on HDFS and local file systems.
const maxElement = 255

// assign finds out which partition each event belongs to.
func (s *sink) assign(evs []event.Event) {
	s.groups = s.groups[:0]
	s.byKey = map[string]*group{}
	var last *group
next:
	for i := range evs {
		key := s.key[:0]
		for n, t := range s.values {
			from := len(key)
			var err error
			if key, err = t.Append(key, &evs[i]); err == nil && len(key) == from {
				err = fmt.Errorf("the partition's column %s has no value: a header that hive.partition names is missing", s.table.Keys[n].Name)
			} else if err == nil && bytes.IndexByte(key[from:], 0) >= 0 {
				err = fmt.Errorf("the value %.100q of the partition's column %s has a byte 0", key[from:], s.table.Keys[n].Name)
			} else if err == nil && len(key)-from > maxElement {
				err = fmt.Errorf("the value %.100q… of the partition's column %s has %d bytes, more than the name of a directory can have", key[from:], s.table.Keys[n].Name, len(key)-from)
			}
			if err != nil {
				s.fail(i, component.Permanent(fmt.Errorf("find the partition for an event: %w", err)))
				continue next
			}
			key = append(key, 0)
		}
		if s.key = key; cap(key) > 64<<10 { // after some huge header
			s.key = nil
		}
		if last == nil || last.key != string(key) {
			if last = s.byKey[string(key)]; last == nil {
				last = &group{key: string(key)}
				s.byKey[last.key] = last
				s.groups = append(s.groups, last)
			}
		}
		last.events = append(last.events, i)
	}
}

// writeGroup writes the rows of one partition. Those that cannot be made are failed one by one.
func (s *sink) writeGroup(ctx context.Context, g *group, evs []event.Event) error {
	p, err := s.place(ctx, g.key)
	if err != nil {
		return err
	}
	s.text, s.ends = s.text[:0], s.ends[:0]
	for _, i := range g.events {
		if text, err := s.appendRow(p, evs[i].Body); err != nil {
			s.fail(i, component.Permanent(fmt.Errorf("make a row of %s.%s: %w", s.database, s.tableName, err)))
		} else {
			s.text = text
			s.ends = append(s.ends, len(text))
		}
	}
	if len(s.ends) == 0 {
		return nil
	}
	s.rows = s.rows[:0]
	from := 0
	for _, end := range s.ends {
		s.rows = append(s.rows, event.Event{Body: s.text[from:end]})
		from = end
	}
	err = p.volume.Write(p.target, s.rows)
	if clear(s.rows); cap(s.text) > maxText { // after some huge batch
		s.text = nil
	}
	return err
}

// maxText is what is kept for the rows of the next batch.
const maxText = 32 << 20

func (s *sink) appendRow(p *place, body []byte) ([]byte, error) {
	if cap(s.cells) < len(p.cols) {
		s.cells = make([]cell, len(p.cols))
	}
	cells := s.cells[:len(p.cols)]
	clear(cells)
	if err := p.parser.parse(body, cells); err != nil {
		return nil, err
	}
	return p.format.appendRow(s.text, cells)
}

// rows is the encoder of files: events are rows with their line ends.
type rows struct{}

func (rows) AppendHeader(dst []byte) ([]byte, error) { return dst, nil }

func (rows) AppendEvents(dst []byte, evs []event.Event) ([]byte, error) {
	for i := range evs {
		dst = append(dst, evs[i].Body...)
	}
	return dst, nil
}
