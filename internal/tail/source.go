package tail

import (
	"context"
	"errors"
	"sync"

	"github.com/sluice-data/sluice/component"
)

// Source is what the sources that follow files have in common.
type Source struct {
	options Options
	path    string // of the position file

	mu  sync.Mutex
	pos *Positions // between Start and Run
}

// NewSource makes a source that keeps its positions in the file of that path.
func NewSource(o Options, path string) *Source { return &Source{options: o, path: path} }

// BatchSize implements component.Sizer.
func (s *Source) BatchSize() int { return s.options.BatchSize }

// Start reads the position file and locks it.
func (s *Source) Start(context.Context) error {
	pos, err := OpenPositions(s.path)
	if err == nil {
		s.swap(pos)
	}
	return err
}

// swap takes what Start has left.
func (s *Source) swap(pos *Positions) *Positions {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.pos
	s.pos = pos
	return was
}

// Stop gives the position file free where Run has not.
func (s *Source) Stop(context.Context) error {
	if pos := s.swap(nil); pos != nil {
		return pos.Close()
	}
	return nil
}

// Run follows until ctx ends.
func (s *Source) Run(ctx context.Context, out component.Output) error {
	pos := s.swap(nil)
	if pos == nil {
		return errors.New("follow files: the source was not started")
	}
	return NewFollower(s.options, pos).Run(ctx, out)
}
