package segment

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/seglog"
)

// syncState is the group commit: many appends wait for one sync. The goroutine that syncs lives only while there is
// something to sync.
type syncState struct {
	mu      sync.Mutex
	synced  int64         // everything below this offset is durable
	running bool          // the goroutine is alive
	again   bool          // it has to go round once more
	done    chan struct{} // closed when synced or err changed; nil when nobody waits
	err     error         // sticky
}

func (s *syncState) advance(to int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.synced = max(s.synced, to)
	s.broadcast()
}

func (s *syncState) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err == nil {
		s.err = err
	}
	s.broadcast()
}

func (s *syncState) broadcast() {
	if s.done != nil {
		close(s.done)
		s.done = nil
	}
}

// wait returns when everything below end is durable.
func (s *syncState) wait(ctx context.Context, end int64) error {
	for {
		s.mu.Lock()
		if s.synced >= end || s.err != nil {
			var err error
			if s.synced < end {
				err = s.err
			}
			s.mu.Unlock()
			return err
		}
		if s.done == nil {
			s.done = make(chan struct{})
		}
		done := s.done
		s.mu.Unlock()
		select {
		case <-done:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// mustSync is the Durability of appends that wait for a sync under way.
type mustSync Log

func (m *mustSync) WaitDurable(ctx context.Context, end int64) error {
	return (*Log)(m).sync.wait(ctx, end)
}

// WaitDurable implements log.Log.
func (l *Log) WaitDurable(ctx context.Context, end int64) error {
	l.mu.RLock()
	syncAcks := l.cfg.SyncAcks
	l.mu.RUnlock()
	if !syncAcks {
		return nil
	}
	return l.sync.wait(ctx, end)
}

// Sync implements log.Log.
func (l *Log) Sync(ctx context.Context) error {
	l.appendMu.Lock()
	if l.closed {
		l.appendMu.Unlock()
		return log.ErrClosed
	}
	end := l.end.off
	l.kick()
	l.appendMu.Unlock()
	return l.sync.wait(ctx, end)
}

// kick has the log synced in the background. appendMu is held, or Close has not begun.
func (l *Log) kick() {
	s := &l.sync
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.running {
		s.again = true
		return
	}
	s.running = true
	l.wg.Add(1)
	go l.syncLoop()
}

func (l *Log) syncLoop() {
	defer l.wg.Done()
	for {
		l.passMu.Lock()
		err := l.pass()
		l.passMu.Unlock()
		if err != nil {
			_ = l.fail(err) // kept: every waiter and every later append gets it
		}
		s := &l.sync
		s.mu.Lock()
		if !s.again || err != nil {
			s.running = false
			s.mu.Unlock()
			return
		}
		s.again = false
		s.mu.Unlock()
	}
}

// arm starts the clock of flush.ms with the first append after a sync. appendMu is held.
func (l *Log) arm(d time.Duration) {
	if l.armed {
		return
	}
	l.armed = true
	l.wg.Add(1)
	if l.timer != nil {
		l.timer.Reset(d)
		return
	}
	l.timer = time.AfterFunc(d, func() {
		defer l.wg.Done()
		l.appendMu.Lock()
		defer l.appendMu.Unlock()
		l.armed = false
		if !l.closed {
			l.kick()
		}
	})
}

func (l *Log) syncFile(s *segment) error {
	if l.synced == nil {
		return s.file.Sync()
	}
	began := time.Now()
	err := s.file.Sync()
	l.synced(time.Since(began))
	return err
}

// pass makes everything appended so far durable, oldest first, and writes the indexes of sealed segments. passMu is held.
func (l *Log) pass() error {
	l.mu.RLock()
	segs, end, err := l.segs, l.end, l.err
	l.mu.RUnlock()
	if err != nil {
		return err
	}
	sealed := false
	for _, s := range segs[:len(segs)-1] {
		if !s.synced {
			if err := l.syncFile(s); err != nil {
				return err
			}
			s.synced, sealed = true, true
		}
		l.persistIndex(s)
	}
	if l.dirDirty.Swap(false) {
		if err := l.fs.SyncDir(l.dir); err != nil {
			return err
		}
	}
	l.sync.mu.Lock()
	behind := l.sync.synced < end.off
	l.sync.mu.Unlock()
	if behind {
		if err := l.syncFile(segs[len(segs)-1]); err != nil {
			return err
		}
	}
	if sealed {
		l.mu.RLock()
		st := state{start: l.start, recovery: segs[len(segs)-1].base}
		l.mu.RUnlock()
		// Without it recovery scans more than it must; a full disk shall not fail the log for that.
		if err := l.writeState(st); err != nil {
			l.logger.Warn("could not move the recovery point; the next start after a crash scans more", "dir", l.dir, "err", err)
		}
	}
	l.mu.Lock()
	if l.cfg.SyncAcks {
		l.raise(end)
	}
	l.mu.Unlock()
	l.sync.advance(end.off)
	return nil
}

// persistIndex writes a sealed segment's index and lets go of the memory. passMu is held. A failure costs memory only and
// is tried again.
func (l *Log) persistIndex(s *segment) {
	if s.indexed {
		return
	}
	if err := l.writeIndex(s, s.mem); err != nil {
		l.logger.Warn("could not write an index; it stays in memory", "dir", l.dir, "err", err)
		return
	}
	s.indexed = true
	fidx := &fileIndex{fs: l.fs, dir: l.dir, base: s.base, logSize: s.size}
	s.file.OnClose(fidx.close)
	l.mu.Lock()
	s.fidx, s.mem = fidx, nil
	l.mu.Unlock()
}

// writeIndex leaves the directory to the state file, which is written after it: an index that a power cut takes away is
// rebuilt.
func (l *Log) writeIndex(s *segment, x *index) error {
	pos, times := x.encode(s.base, s.next, s.maxTS, s.size)
	return errors.Join(
		seglog.ReplaceFile(l.fs, seglog.Name(l.dir, s.base, indexExt), pos),
		seglog.ReplaceFile(l.fs, seglog.Name(l.dir, s.base, timeExt), times))
}

// writeState writes the epochs and the state file. passMu is held. The epochs go first: once the recovery point has moved,
// nobody finds them again by a scan.
func (l *Log) writeState(st state) error {
	l.mu.RLock()
	ep := l.epochs
	l.mu.RUnlock()
	if !l.epochsSaved || !slices.Equal(ep, l.savedEpochs) {
		if err := seglog.WriteFile(l.fs, filepath.Join(l.dir, epochsName), ep.encode()); err != nil {
			return err
		}
		l.savedEpochs, l.epochsSaved = ep, true
	}
	if err := seglog.WriteFile(l.fs, filepath.Join(l.dir, stateName), st.encode()); err != nil {
		return err
	}
	l.state = st
	return nil
}
