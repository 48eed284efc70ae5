package exec

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/tail"
)

const (
	// killGrace is how long a command has to end after SIGTERM.
	killGrace = 2 * time.Second
	// stopTime bounds the whole stop of a command: killGrace, and reading
	// and delivering what it had written.
	stopTime = 5 * time.Second
	// exitGrace is how long a command may go on after it closed its output,
	// before it is terminated as Flume does.
	exitGrace = time.Second
	// maxEmitPause bounds the pause after an error of Emit.
	maxEmitPause = 5 * time.Second
)

type source struct {
	cfg  *config
	env  component.Env
	argv []string
	tail *followed // not nil: the command is tail -F

	lockedSince time.Time // when somebody else was first found to use the position

	mu        sync.Mutex
	running   chan struct{} // closed when Run has returned; nil before the first
	hard      chan struct{} // closed by Stop: end at once
	following *tail.Source  // what takes the place of the command
}

// BatchSize implements component.Sizer.
func (s *source) BatchSize() int { return s.cfg.batchSize }

// Start checks that there is such a command; Run starts it, when there is
// somebody to take its lines.
func (s *source) Start(ctx context.Context) (err error) {
	var f *tail.Source
	if s.tail != nil {
		if f, err = s.startFollowing(ctx); err != nil {
			return err
		}
	}
	s.mu.Lock()
	s.following = f
	s.mu.Unlock()
	if f == nil {
		_, err = s.resolve()
	}
	return err
}

// Stop ends a Run that did not end by its context in time.
func (s *source) Stop(ctx context.Context) error {
	s.mu.Lock()
	running, f := s.running, s.following
	select {
	case <-s.hard:
	default:
		close(s.hard)
	}
	s.mu.Unlock()
	if f != nil {
		if err := f.Stop(ctx); err != nil {
			return err
		}
	}
	if running == nil {
		return nil
	}
	select {
	case <-running:
		return nil
	case <-ctx.Done():
		// The command is dead by now, but Emit has not returned.
		return fmt.Errorf("stop command %q: %w", s.cfg.command, ctx.Err())
	}
}

func (s *source) Run(ctx context.Context, out component.Output) error {
	s.mu.Lock()
	done := make(chan struct{})
	hard := make(chan struct{})
	s.running, s.hard = done, hard
	f := s.following
	s.mu.Unlock()
	defer close(done)
	if f != nil {
		return runFollowing(ctx, hard, f, out)
	}
	for {
		last, code, err := s.once(ctx, hard, out)
		if stopped := ctx.Err() != nil || closed(hard); stopped {
			return err
		}
		ended := fmt.Errorf("command [%s] exited with %s%s", s.cfg.command, code, last)
		switch {
		case err != nil && !s.cfg.restart:
			return err // nothing has run: the agent tries again
		case err != nil:
			ended = err
			s.env.Log.Error("cannot start the command", "command", s.cfg.command, "restart_in", s.cfg.throttle, "err", err)
		case s.cfg.restart:
			s.env.Log.Info("the command exited and will be restarted", "command", s.cfg.command, "code", code, "restart_in", s.cfg.throttle)
		default:
			s.env.Log.Warn("the command exited; the source idles", "command", s.cfg.command, "code", code)
			s.env.Health(fmt.Errorf("%w; the source idles (restart = true would start it again)", ended))
			select {
			case <-ctx.Done():
			case <-hard:
			}
			return nil
		}
		if err != nil || code != "0" {
			s.env.Health(ended)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-hard:
			return nil
		case <-time.After(s.cfg.throttle):
		}
	}
}

func closed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// once runs the command to its end. last is what it said to its standard
// error at last, for messages.
func (s *source) once(ctx context.Context, hard <-chan struct{}, out component.Output) (last, code string, err error) {
	argv, err := s.resolve()
	if err != nil {
		return "", "", err
	}
	p, err := launch(argv)
	if err != nil {
		return "", "", fmt.Errorf("start command [%s]: %w", s.cfg.command, err)
	}
	s.env.Log.Info("command started", "command", s.cfg.command)
	s.env.Health(nil)

	r := &reading{s: s, p: p, out: out}
	// Events of a command that is being stopped are still delivered, so they
	// do not end with ctx.
	r.emit, r.cancel = context.WithCancel(context.WithoutCancel(ctx))
	defer r.cancel()

	var helpers sync.WaitGroup
	finished := make(chan struct{})
	helpers.Go(func() { r.supervise(ctx, hard, finished) })
	var said string
	helpers.Go(func() { said = s.readStderr(p.stderr) })

	err = r.run()
	if err == nil && ctx.Err() == nil { // the output has ended, the command perhaps not
		for _, step := range []func(){func() {}, p.terminate} {
			step()
			select {
			case <-p.exited:
			case <-time.After(exitGrace):
			case <-ctx.Done():
			}
		}
	}
	close(finished)
	code = p.end()
	// Its writers are dead, so stderr has an end, unless one of them left
	// the group.
	_ = p.stderr.SetReadDeadline(time.Now().Add(exitGrace))
	helpers.Wait()
	p.closeFiles()
	if said != "" {
		last = "; it said: " + said
	}
	if err != nil {
		err = fmt.Errorf("%d lines of command [%s] could not be delivered before the stop: %w", r.left, s.cfg.command, err)
	}
	return last, code, err
}

// reading is the delivery of one command's output.
type reading struct {
	s      *source
	p      *process
	out    component.Output
	emit   context.Context
	cancel context.CancelFunc
	left   int // lines not delivered when run failed

	stopAt atomic.Int64 // Unix nanoseconds; 0 while there is no end to reading
}

// supervise ends the command when ctx ends, first gently, and everything when
// hard is closed.
func (r *reading) supervise(ctx context.Context, hard, finished <-chan struct{}) {
	select {
	case <-finished:
		return
	case <-hard:
	case <-ctx.Done():
		end := time.Now().Add(stopTime)
		r.stopAt.Store(end.UnixNano())
		_ = r.p.stdout.SetReadDeadline(end)
		r.p.terminate()
		for _, step := range []struct {
			wait time.Duration
			then func()
		}{{killGrace, r.p.kill}, {stopTime - killGrace, func() {}}} {
			select {
			case <-finished:
				return
			case <-hard:
			case <-time.After(step.wait):
				step.then()
				continue
			}
			break
		}
	}
	r.p.kill()
	r.stopAt.Store(1)
	_ = r.p.stdout.SetReadDeadline(time.Unix(0, 1))
	r.cancel()
}

// run reads until the output ends or has to be left, and delivers all of it.
// An error is one of Emit, after the end of r.emit.
func (r *reading) run() error {
	long := sync.OnceFunc(func() {
		r.s.env.Log.Warn("a line is too long and becomes several events", "command", r.s.cfg.command, "bytes", maxLine)
	})
	l := newLines(r.out.Pool(), r.s.cfg.charset, long)
	defer l.close()
	wait := r.s.cfg.batchTimeout
	var due time.Time // when the lines that are ready must go
	for {
		r.setDeadline(due)
		n, err := r.p.stdout.Read(l.room())
		had := len(l.ready)
		l.filled(n)
		if had == 0 && len(l.ready) > 0 && wait >= 0 {
			due = time.Now().Add(wait)
		}
		now := wait < 0 || l.pinned > maxHeld || errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(due)
		ended := err != nil && (!errors.Is(err, os.ErrDeadlineExceeded) || r.expired())
		if ended {
			l.end()
			now = true
			if err != io.EOF && !errors.Is(err, os.ErrDeadlineExceeded) {
				r.s.env.Log.Error("read the command's output", "command", r.s.cfg.command, "err", err)
			}
		}
		if err := r.flush(l, now); err != nil {
			r.left = len(l.ready)
			return err
		}
		if len(l.ready) == 0 {
			due = time.Time{}
		}
		if ended {
			return nil
		}
	}
}

// setDeadline wakes the next read up when lines are due, or the stop is.
func (r *reading) setDeadline(due time.Time) {
	if r.s.cfg.batchTimeout < 0 {
		return // supervise's is the only one
	}
	_ = r.p.stdout.SetReadDeadline(due)
	// supervise stores before it sets its deadline, so one of the two sees
	// the other's.
	if at := r.stopAt.Load(); at != 0 && (due.IsZero() || at < due.UnixNano()) {
		_ = r.p.stdout.SetReadDeadline(time.Unix(0, at))
	}
}

func (r *reading) expired() bool {
	at := r.stopAt.Load()
	return at != 0 && time.Now().UnixNano() >= at
}

// flush delivers full batches and, where all is true, what is left. Lines
// cannot be read again, so an error of Emit (a channel that is full is waited
// for inside it) is only final when the stop is.
func (r *reading) flush(l *lines, all bool) error {
	pause := 250 * time.Millisecond
	failed := false
	for len(l.ready) >= r.s.cfg.batchSize || all && len(l.ready) > 0 {
		n := min(len(l.ready), r.s.cfg.batchSize)
		b := r.out.NewBatch()
		l.fill(b, n)
		err := r.out.Emit(r.emit, b)
		if err == nil {
			l.drop(n)
			if failed {
				failed = false
				r.s.env.Health(nil)
			}
			continue
		}
		if r.emit.Err() != nil {
			return err
		}
		if !failed {
			r.s.env.Log.Error("events are not accepted; they are tried again", "events", n, "err", err)
		}
		failed = true
		r.s.env.Health(fmt.Errorf("events are not accepted and tried again: %w", err))
		select {
		case <-r.emit.Done():
		case <-time.After(pause):
			pause = min(2*pause, maxEmitPause)
		}
	}
	return nil
}

// readStderr reads the command's standard error to its end and returns the
// last line.
func (s *source) readStderr(f *os.File) string {
	r := bufio.NewReaderSize(f, 4<<10) // longer lines come in pieces
	last := ""
	for n := 1; ; n++ {
		line, err := r.ReadSlice('\n')
		for len(line) > 0 && (line[len(line)-1] == '\n' || line[len(line)-1] == '\r') {
			line = line[:len(line)-1]
		}
		if len(line) > 0 {
			last = string(line[:min(len(line), 200)])
		}
		if s.cfg.logStdErr && (len(line) > 0 || err == nil) {
			s.env.Log.Info(fmt.Sprintf("StderrLogger[%d] = '%s'", n, line))
		}
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) {
			return last
		}
	}
}
