package jdbc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/wait"
)

const (
	// groupBytes and groupEvents are where a transaction that several share ends.
	groupBytes  = 8 << 20
	groupEvents = 20000
	// retries is how often a transaction is tried again that failed only because of another one.
	retries = 6
	// idlePause is when an idle session is looked at.
	idlePause = 10 * time.Second
	// refusedPause is after how long a change is tried again that must be made and that the database refused.
	refusedPause = time.Second
	// patience is how long is waited for a database that is there and does not answer.
	patience = 30 * time.Second
)

// errStopped is what those get who come too late.
var errStopped = errors.New("the channel was stopped before")

// running is what a started channel has and a stopped one has not.
type running struct {
	c    *Channel
	done sync.WaitGroup
	kick chan struct{} // one token: there is something to do
	// going ends when the channel stops: what is queued is still written. life ends when even that takes too long.
	going, life  context.Context
	stop, cancel context.CancelFunc

	mu      sync.Mutex
	queue   []*op
	puts    []*op // whose ids are given and whose events takers must not pass, ascending
	next    int64 // id of the next event
	sess    session
	suspect bool               // a taker found the database gone
	abort   context.CancelFunc // of the transaction under way
	trouble [3]error           // by kind
	owed    int64              // events that are delivered and still in the table
	ended   bool               // nothing is queued any more

	window
}

// op is a change that waits for its transaction. Its fields are guarded by running.mu, except for change.
type op struct {
	change
	n       int64 // events that a commit removes
	bytes   int
	busy    bool       // in a transaction just now
	doubt   bool       // a transaction with it ended without an answer
	late    error      // its put waits no longer, and gets this
	owed    bool       // its commit waits no longer
	retryAt time.Time  // the database refused it
	answer  chan error // room for one
}

func newRunning(c *Channel, s session, first, next int64) *running {
	r := &running{c: c, kick: make(chan struct{}, 1), sess: s, next: next}
	r.life, r.cancel = context.WithCancel(context.Background())
	r.going, r.stop = context.WithCancel(r.life)
	r.cursor = first
	return r
}

// put has the events written, and waits until they are. While the database is not there it waits keep-alive.
func (r *running) put(ctx context.Context, evs []event.Event) error {
	o := &op{change: change{put: evs}, answer: make(chan error, 1)}
	for i := range evs {
		o.bytes += size(&evs[i])
	}
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return errStopped
	}
	o.first = r.next
	r.next += int64(len(evs))
	r.puts = append(r.puts, o)
	r.queue = append(r.queue, o)
	r.mu.Unlock()
	wait.Signal(r.kick)
	if err, done := r.await(ctx, o); done {
		return err
	}

	// The events are the caller's again when this returns: not while a transaction has them.
	r.mu.Lock()
	o.late = ctx.Err()
	if o.late == nil {
		o.late = r.absent()
	}
	if !o.busy && slices.Contains(r.queue, o) {
		r.drop(o)
		r.mu.Unlock()
		return o.late
	}
	r.mu.Unlock()
	timer := time.NewTimer(max(r.c.keepAlive, time.Second))
	defer timer.Stop()
	select {
	case err := <-o.answer:
		return err
	case <-timer.C:
	}
	r.mu.Lock()
	if o.busy && r.abort != nil {
		r.abort()
	}
	r.mu.Unlock()
	return <-o.answer
}

// await waits for the answer: for keep-alive while the database is not there or does not want the change, and otherwise as
// long as it may take to answer.
func (r *running) await(ctx context.Context, o *op) (err error, done bool) {
	timer := time.NewTimer(r.c.keepAlive)
	defer timer.Stop()
	for began := time.Now(); ; timer.Reset(max(r.c.keepAlive, 50*time.Millisecond)) {
		select {
		case err := <-o.answer:
			return err, true
		case <-timer.C:
		case <-ctx.Done():
			return nil, false
		}
		r.mu.Lock()
		goes := r.sess != nil && o.retryAt.IsZero()
		r.mu.Unlock()
		if !goes || time.Since(began) > patience {
			return nil, false
		}
	}
}

// kind is what does not go.
type kind int

const (
	noSession kind = iota
	noPut
	noRemove
)

// absent is the error of those who cannot wait any longer. mu is held.
func (r *running) absent() error {
	for _, err := range r.trouble {
		if err != nil {
			return fmt.Errorf("%s: %w", r.c.store, err)
		}
	}
	return fmt.Errorf("%s does not answer", r.c.store)
}

// drop takes a put out of the queue whose caller has gone. What became of it is unknown if it was tried before: then its ids
// are cleared before takers come to them. mu is held.
func (r *running) drop(o *op) {
	if i := slices.Index(r.queue, o); i >= 0 {
		r.queue = slices.Delete(r.queue, i, i+1)
	}
	i := slices.Index(r.puts, o)
	if !o.doubt {
		r.puts = slices.Delete(r.puts, i, i+1)
		wait.Signal(r.c.some) // takers may go on
		return
	}
	undo := &op{change: change{first: o.first, remove: []span{{o.first, o.first + int64(len(o.put))}}}, owed: true, answer: make(chan error, 1)}
	r.puts[i] = undo
	r.queue = slices.Insert(r.queue, 0, undo)
}

// horizon is the id that takers must not pass yet. mu is held.
func (r *running) horizon() int64 {
	if len(r.puts) > 0 {
		return r.puts[0].first
	}
	return r.next
}

// remove has events taken out of the table, and waits until they are. They are delivered: if the database does not get
// to know now it does later, and only the end of the process before that repeats them.
func (r *running) remove(spans []span, n int64) error {
	o := &op{change: change{remove: slices.Clone(spans)}, n: n, answer: make(chan error, 1)}
	r.mu.Lock()
	if r.ended {
		r.mu.Unlock()
		return errStopped
	}
	r.queue = append(r.queue, o)
	r.mu.Unlock()
	wait.Signal(r.kick)
	if err, done := r.await(context.Background(), o); done {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	select {
	case err := <-o.answer: // just now
		return err
	default:
	}
	o.owed = true
	if r.owed == 0 {
		r.c.log.Warn("events are delivered and cannot be taken out of the table: nothing more is taken until they are; the end of the process before that repeats them", "events", n, "err", r.absent())
	}
	r.owed += n
	return nil
}

// work makes the changes.
func (r *running) work() {
	pause := 250 * time.Millisecond
	idle := time.NewTimer(idlePause)
	defer idle.Stop()
	ending := false
	for {
		r.mu.Lock()
		s, suspect := r.sess, r.suspect
		r.suspect = false
		group := r.pick()
		wait := r.due()
		r.mu.Unlock()
		switch {
		case s == nil && ending:
			return
		case s == nil:
			if r.reopen() {
				pause = 250 * time.Millisecond
				continue
			}
			wait = pause
			pause = min(2*pause, 5*time.Second)
		case len(group) > 0:
			r.settle(s, group, r.write(s, group))
			continue
		case ending:
			return
		case suspect:
			r.look(s)
			continue
		}
		if wait <= 0 {
			wait = idlePause
		}
		idle.Reset(wait)
		select {
		case <-r.kick:
			if s == nil { // the pause is to be kept, whoever waits
				select {
				case <-idle.C:
				case <-r.going.Done():
				}
			}
		case <-idle.C:
			if s != nil && wait == idlePause {
				r.look(s)
			}
		case <-r.going.Done():
			ending = true
		}
	}
}

// due is how long to wait for the first change that the database refused; 0 if there is none. mu is held.
func (r *running) due() (wait time.Duration) {
	for _, o := range r.queue {
		if left := time.Until(o.retryAt); !o.retryAt.IsZero() && (wait == 0 || left < wait) {
			wait = max(left, time.Millisecond)
		}
	}
	return wait
}

// pick takes from the queue what goes into the next transaction. mu is held.
func (r *running) pick() (group []*op) {
	if r.sess == nil {
		return nil
	}
	bytes, events := 0, 0
	var left []*op
	for i, o := range r.queue {
		if !o.retryAt.IsZero() && time.Until(o.retryAt) > 0 {
			left = append(left, o)
			continue
		}
		if len(group) > 0 && (bytes+o.bytes > groupBytes || events+len(o.put) > groupEvents) {
			left = append(left, r.queue[i:]...)
			break
		}
		o.busy = true
		group = append(group, o)
		bytes += o.bytes
		events += len(o.put)
	}
	r.queue = left
	return group
}

// write makes the changes of a group in one transaction.
func (r *running) write(s session, group []*op) error {
	ctx, cancel := context.WithCancel(r.life)
	defer cancel()
	r.mu.Lock()
	r.abort = cancel
	r.mu.Unlock()
	for try, pause := 0, 5*time.Millisecond; ; try, pause = try+1, 2*pause {
		var changes []*change
		for _, o := range group {
			if o.doubt && len(o.put) > 0 { // what became of it?
				there, err := s.has(ctx, o.first)
				if err != nil {
					return err
				}
				if there {
					continue
				}
			}
			changes = append(changes, &o.change)
		}
		if len(changes) == 0 {
			return nil
		}
		err := s.write(ctx, changes)
		if !isAgain(err) || try == retries {
			return err
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			return err
		}
	}
}

// settle tells everybody how the transaction ended.
func (r *running) settle(s session, group []*op, err error) {
	switch {
	case isLost(err):
		r.report(noSession, err) // before anybody gives up waiting, and asks why
		r.requeue(group, true)
		r.mu.Lock()
		r.sess = nil
		r.mu.Unlock()
		if cerr := s.close(); cerr != nil {
			r.c.log.Debug("a connection that was lost could not be closed", "err", cerr)
		}
		return
	case err != nil && len(group) > 1: // whose fault is it?
		for i := range group {
			oerr := r.write(s, group[i:i+1])
			r.settle(s, group[i:i+1], oerr)
			if isLost(oerr) {
				r.requeue(group[i+1:], false)
				return
			}
		}
		return
	}
	// Whoever gets his answer finds the health of it.
	isPut := func(o *op) bool { return len(o.put) > 0 }
	if slices.ContainsFunc(group, isPut) {
		r.report(noPut, err)
	}
	if slices.ContainsFunc(group, func(o *op) bool { return !isPut(o) }) {
		r.report(noRemove, err)
	}
	r.mu.Lock()
	for _, o := range group {
		if o.busy = false; isPut(o) {
			o.doubt = false
		} else if err != nil {
			o.retryAt = time.Now().Add(refusedPause)
			r.queue = slices.Insert(r.queue, 0, o)
			continue
		}
		if o.owed && o.n > 0 {
			if r.owed -= o.n; r.owed == 0 {
				r.c.log.Info("all events that are delivered are taken out of the table")
			}
		}
		if i := slices.Index(r.puts, o); i >= 0 {
			r.puts = slices.Delete(r.puts, i, i+1)
		}
		o.answer <- err
	}
	r.abort = nil
	r.mu.Unlock()
	wait.Signal(r.c.some)
}

// requeue puts back what is not done; of what is in doubt it is not known whether it is.
func (r *running) requeue(group []*op, doubt bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.abort = nil
	r.queue = slices.Insert(r.queue, 0, group...)
	for _, o := range group {
		o.busy, o.doubt = false, o.doubt || doubt
		if o.late != nil {
			r.drop(o)
			o.answer <- o.late
		}
	}
}

// report makes it known, once, that something does not go, or goes again.
func (r *running) report(what kind, err error) {
	if r.life.Err() != nil {
		return
	}
	r.mu.Lock()
	was := r.trouble[what]
	r.trouble[what] = err
	all := errors.Join(r.trouble[:]...)
	r.mu.Unlock()
	switch {
	case err == nil && was == nil:
		return
	case err == nil:
		r.c.log.Info("the database is written to again", "database", r.c.store.String())
	case was == nil || was.Error() != err.Error():
		r.c.log.Error("the database cannot be written to; no event is lost by that, and the channel goes on by itself", "database", r.c.store.String(), "err", err)
	}
	if all != nil {
		all = fmt.Errorf("%s: %w", r.c.store, all)
	}
	r.c.health(all)
}

// reopen makes a new session.
func (r *running) reopen() bool {
	s, err := r.c.store.open(r.going, true)
	if err != nil {
		if r.going.Err() == nil {
			r.report(noSession, err)
		}
		return false
	}
	r.mu.Lock()
	r.sess = s
	r.mu.Unlock()
	r.report(noSession, nil)
	wait.Signal(r.c.some)
	return true
}

// look finds out whether an idle session is still there.
func (r *running) look(s session) {
	if err := s.idle(r.life); err != nil && r.life.Err() == nil {
		r.settle(s, nil, &lostError{err})
	}
}

// session returns the session for a taker, if one is there and takers may go on.
func (r *running) session() (s session, horizon int64, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.ended:
		return nil, 0, errStopped
	case r.sess == nil:
		return nil, 0, r.absent()
	case r.owed > 0:
		return nil, 0, fmt.Errorf("%d events are delivered and not yet taken out of the table: %w", r.owed, r.absent())
	}
	return r.sess, r.horizon(), nil
}

// halt ends everything. What is queued is written first, as long as ctx lasts.
func (r *running) halt(ctx context.Context) error {
	r.mu.Lock()
	r.ended = true
	r.mu.Unlock()
	r.stop()
	finished := make(chan struct{})
	go func() { r.done.Wait(); close(finished) }()
	select {
	case <-finished:
	case <-ctx.Done():
	}
	r.cancel()
	<-finished
	r.mu.Lock()
	owed := r.owed
	for _, o := range r.queue {
		if o.answer <- errStopped; len(o.put) == 0 && !o.owed {
			owed += o.n
		}
	}
	r.queue = nil
	s := r.sess
	r.sess = nil
	r.mu.Unlock()
	if owed > 0 {
		r.c.log.Warn("events were delivered and could not be taken out of the table: they come again after the next start", "events", owed)
	}
	r.tk.Lock()
	r.forget()
	r.tk.Unlock()
	if s == nil {
		return nil
	}
	if err := s.close(); err != nil {
		return fmt.Errorf("close %s: %w", r.c.store, err)
	}
	return nil
}
