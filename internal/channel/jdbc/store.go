package jdbc

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-data/sluice/event"
)

// span is the events with the ids from first up to, and without, end.
type span struct{ first, end int64 }

func (s span) String() string { return fmt.Sprintf("%d to %d", s.first, s.end-1) }

// change is what a put or the commit of a take does to the table.
type change struct {
	first  int64         // id of the first of put
	put    []event.Event // the ids are consecutive
	remove []span
}

// store is a table in a database.
type store interface {
	// open connects, makes the table if that is wanted, and makes sure that nobody else works on it. All that an earlier
	// session of whatever process began is done or undone when it returns. again is after a session that was lost: then
	// the table must not have been anybody else's since.
	open(ctx context.Context, again bool) (session, error)
	// String names the database, without a password.
	String() string
}

// session is a connection to the table that only one process at a time has. write and read may be called at the same time
// from two goroutines.
type session interface {
	// census returns how many events are there, the lowest id, and the highest.
	census(ctx context.Context) (n, lowest, highest int64, err error)
	// write makes all changes in one transaction; they are durable when it returns nil. After a lostError it is not known
	// whether they were made; after any other error none was.
	write(ctx context.Context, changes []*change) error
	// has says whether the event is there.
	has(ctx context.Context, id int64) (bool, error)
	// read appends events with ids in s to b and their ids to ids, ascending, until there are limit of them or about
	// readBytes bytes.
	read(ctx context.Context, s span, limit int, b *event.Batch, ids []int64) ([]int64, error)
	// idle is called every idlePause in which nothing is written. An error ends the session.
	idle(ctx context.Context) error
	close() error
}

// lostError says that the session is of no use any more.
type lostError struct{ err error }

func (e *lostError) Error() string { return e.err.Error() }
func (e *lostError) Unwrap() error { return e.err }

func isLost(err error) bool {
	var l *lostError
	return errors.As(err, &l)
}

// againError says that the same transaction may well succeed if it is tried again at once.
type againError struct{ err error }

func (e *againError) Error() string { return e.err.Error() }
func (e *againError) Unwrap() error { return e.err }

func isAgain(err error) bool {
	var a *againError
	return errors.As(err, &a)
}

// errOtherOwner says that the table was somebody else's for a time.
var errOtherOwner = errors.New("another process worked on the table while this one was cut off from the database: start the agent again, so that the channel begins with what is there now")

const (
	// readBytes is about how much is read at once.
	readBytes = 1 << 20
	// maxEvent is how large an event may be, in bytes: neither database takes a value of 1 GB.
	maxEvent = 512 << 20
	// formatVersion is of the tables.
	formatVersion = 1
)

// errFormat says what to do about a table that a newer version made.
func errFormat(v int64) error {
	return fmt.Errorf("the tables have format %d, this binary knows %d: use the newer version that made them", v, formatVersion)
}

// size is the bytes of an event in a table, about.
func size(e *event.Event) int {
	n := len(e.Body)
	for i := range e.Headers {
		n += len(e.Headers[i].Key) + len(e.Headers[i].Value)
	}
	return n
}
