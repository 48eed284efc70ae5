package component

import (
	"errors"
	"fmt"
	"maps"
	"slices"
)

// ErrFull is what Put returns when there was no room within keep-alive.
var ErrFull = errors.New("channel is full: its sinks do not keep up with its sources, or its capacity is too small")

// ErrBackoff is Flume's BACKOFF: the sink asks to be called again later. A
// sink group's processor tells it apart from a failure.
var ErrBackoff = errors.New("back off")

// Fatal marks an error after which a source must not be run again.
func Fatal(err error) error { return &fatalError{err} }

type fatalError struct{ err error }

func (e *fatalError) Error() string { return e.err.Error() }
func (e *fatalError) Unwrap() error { return e.err }

// IsFatal says whether err, or an error it wraps, was marked by Fatal.
func IsFatal(err error) bool {
	var f *fatalError
	return errors.As(err, &f)
}

// Permanent marks an error that will be the same however often the same event
// is tried (it is too large for the broker, say).
func Permanent(err error) error { return &permanentError{err} }

type permanentError struct{ err error }

func (e *permanentError) Error() string { return e.err.Error() }
func (e *permanentError) Unwrap() error { return e.err }

// IsPermanent says whether err, or an error it wraps, was marked by Permanent.
func IsPermanent(err error) bool {
	var p *permanentError
	return errors.As(err, &p)
}

// PartialError is a Write of which some events were not delivered, or a Put of
// which some were not added. The runner offers those again and lets the others go.
type PartialError struct {
	Failed map[int]error // by index in the call's events; never empty
}

func (e *PartialError) Error() string {
	first := slices.Min(slices.Collect(maps.Keys(e.Failed)))
	return fmt.Sprintf("%d of the events were not delivered, the first of them: %v", len(e.Failed), e.Failed[first])
}

// Unwrap lets errors.Is see the causes.
func (e *PartialError) Unwrap() []error {
	return slices.Collect(maps.Values(e.Failed))
}

// KeyError is an error in the value of one property, found while a component
// is made; Key is the component's own key ("regex", not "agent.sources.s.regex").
// The agent adds file and line.
type KeyError struct {
	Key  string
	Err  error
	Hint string // what would be right; may be empty
}

func (e *KeyError) Error() string { return fmt.Sprintf("%s: %v", e.Key, e.Err) }
func (e *KeyError) Unwrap() error { return e.Err }
