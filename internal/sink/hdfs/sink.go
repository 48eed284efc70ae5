package hdfs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync/atomic"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/dfs"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/javapath"
)

// sink is used by one goroutine at a time.
type sink struct {
	config
	env       component.Env
	address   string // hdfs.path with its scheme
	dir, name *escape.Template
	foreign   bool // headers are in the names of files
	dots      int  // elements .. that hdfs.path and hdfs.filePrefix have of their own
	clock     func() time.Time

	created, closed, failed *atomic.Int64

	fs      dfs.FS // nil: not started
	root    string // the part of hdfs.path before the first directory with an escape
	buckets *bucket.Set

	// Of a batch, and used again by the next.
	groups  []group
	targets []int // of each event: the number of its group; -1: it has none
	scratch []byte
	gather  []event.Event

	bad bucket.Penalties[bucket.Target]
}

// group is the events of a batch with one target.
type group struct {
	bucket.Target
	first, last, n int
}

// BatchSize implements component.Sizer.
func (s *sink) BatchSize() int { return s.batchSize }

// Start implements component.Component. It does not connect yet: a cluster that is down is waited for.
func (s *sink) Start(context.Context) error {
	if s.fs != nil {
		return nil
	}
	buffer := ""
	if home, err := javapath.Home(s.env.Properties); err == nil {
		buffer = filepath.Join(home, ".flume", "s3a")
	}
	fs, err := dfs.Open(s.address, dfs.Options{Log: s.env.Log, CallTimeout: s.callTimeout, User: s.proxyUser, Principal: s.principal, Keytab: s.keytab,
		Krb5Conf: s.env.Properties["java.security.krb5.conf"], S3: s.s3, BufferDir: buffer})
	if err != nil {
		return fmt.Errorf("open hdfs.path: %w", err)
	}
	if _, ok := fs.(*dfs.S3); ok && s.inUsePrefix == "" && s.inUseSuffix == "" {
		s.inUseSuffix = ".tmp" // by which a file on the local disk is known
	}
	s.start(fs)
	return nil
}

func (s *sink) start(fs dfs.FS) {
	tries := max(s.closeTries, 0)
	retry := max(s.retryInterval, 0)
	s.fs, s.bad = fs, bucket.NewPenalties[bucket.Target](s.clock)
	s.buckets = bucket.New(bucket.Config{
		FS: fs, Log: s.env.Log, NewEncoder: func(bucket.Target) (bucket.Encoder, error) { return s.newEncoder(s.clock) },
		InUsePrefix: s.inUsePrefix, InUseSuffix: s.inUseSuffix, Suffix: s.suffix,
		RollInterval: s.rollInterval, RollSize: s.rollSize, RollCount: s.rollCount, Idle: s.idle, MaxOpen: s.maxOpen,
		Retry: retry, Tries: tries, Now: s.clock, Created: s.created, Closed: s.closed, Failed: s.failed,
	})
	if root, err := dfs.Resolve(fs, s.address); err == nil {
		s.root = constantDir(root)
		prefix, constant := s.name.Constant()
		prefix = prefix[strings.LastIndexByte(prefix, '/')+1:]
		s.buckets.Reclaim(s.root, func(p string) bool { return !constant || p == prefix })
	}
}

// Stop implements component.Component.
func (s *sink) Stop(ctx context.Context) error {
	if s.fs == nil {
		return nil
	}
	err := errors.Join(s.buckets.Stop(ctx), s.fs.Close())
	s.fs, s.buckets = nil, nil
	return err
}

// Idle implements component.Idler.
func (s *sink) Idle(context.Context) error {
	if s.fs == nil {
		return nil
	}
	s.buckets.Tick()
	return nil
}

// Write implements component.Sink.
func (s *sink) Write(ctx context.Context, evs []event.Event) error {
	if s.fs == nil {
		return errors.New("write events to files: the sink is not started")
	}
	if err := s.Idle(ctx); err != nil {
		return err
	}
	failed := s.assign(evs)
	alone := failed == nil && len(s.groups) == 1 // what is said of the group is said of all events
	for i := range s.groups {
		g := &s.groups[i]
		err := s.writeGroup(g, evs, i)
		if err == nil {
			continue
		}
		if alone {
			return err
		}
		if failed == nil {
			failed = map[int]error{}
		}
		for j := g.first; j <= g.last; j++ {
			if s.targets[j] == i {
				failed[j] = err
			}
		}
	}
	if len(failed) == 0 {
		return nil
	}
	return &component.PartialError{Failed: failed}
}

// assign finds out each event's target. Those without one are in what it returns.
func (s *sink) assign(evs []event.Event) (failed map[int]error) {
	s.groups, s.targets = s.groups[:0], s.targets[:0]
	last := -1
	for i := range evs {
		all, n, err := s.target(&evs[i])
		if err != nil {
			err = fmt.Errorf("find the file for an event: %w", err)
		} else if s.fileType == sequenceFile {
			_, err = recordKey(&evs[i], s.clock)
		}
		if err != nil {
			if failed == nil {
				failed = map[int]error{}
			}
			failed[i] = component.Permanent(err)
			s.targets = append(s.targets, -1)
			continue
		}
		if last < 0 || s.groups[last].Dir != string(all[:n]) || s.groups[last].Prefix != string(all[n+1:]) {
			last = s.group(string(all[:n]), string(all[n+1:]))
		}
		g := &s.groups[last]
		if g.n == 0 {
			g.first = i
		}
		g.last = i
		g.n++
		s.targets = append(s.targets, last)
	}
	return failed
}

// HDFS takes paths of so many characters and directories. Targets are kept, so it bounds memory as well.
const (
	maxName  = 8000
	maxDepth = 1000
)

// target expands an event's directory (of n bytes), a slash and its prefix, until the next call. What headers bring into them
// may have slashes, but not lead out of the directories that hdfs.path names.
func (s *sink) target(e *event.Event) (all []byte, n int, err error) {
	if all, err = s.dir.Append(s.scratch[:0], e); err != nil {
		return nil, 0, err
	}
	n = len(all)
	if all, err = s.name.Append(append(all, '/'), e); err != nil {
		return nil, 0, err
	}
	if s.scratch = all; cap(all) > 64<<10 { // after some huge header
		s.scratch = nil
	}
	switch {
	case !s.foreign:
	case len(all) > maxName, bytes.Count(all, []byte("/")) > maxDepth:
		err = fmt.Errorf("its path would have %d bytes and %d slashes with the event's headers: %.100q…", len(all), bytes.Count(all, []byte("/")), all)
	case bytes.IndexByte(all, 0) >= 0:
		err = fmt.Errorf("%.200q has a byte 0 of a header", all)
	case upwards(all) > s.dots:
		err = fmt.Errorf("%.200q has a .. of a header, which would lead to another directory", all)
	}
	return all, n, err
}

// upwards is how many directories of a path are "..".
func upwards(p []byte) (n int) {
	for len(p) > 0 {
		dir, rest, ok := bytes.Cut(p, []byte("/"))
		if ok && string(dir) == ".." {
			n++
		}
		p = rest
	}
	return n
}

func (s *sink) group(dir, prefix string) int {
	for i := range s.groups {
		if g := &s.groups[i]; g.Dir == dir && g.Prefix == prefix {
			return i
		}
	}
	s.groups = append(s.groups, group{Target: bucket.Target{Dir: dir, Prefix: prefix}})
	return len(s.groups) - 1
}

func (s *sink) writeGroup(g *group, evs []event.Event, number int) error {
	t := g.Target
	var err error
	if t.Dir, err = dfs.Resolve(s.fs, t.Dir); err != nil {
		return component.Permanent(err)
	}
	mine := evs[g.first : g.last+1]
	if g.n < len(mine) { // others are between them
		s.gather = s.gather[:0]
		for j := g.first; j <= g.last; j++ {
			if s.targets[j] == number {
				s.gather = append(s.gather, evs[j])
			}
		}
		mine = s.gather
	}
	err = s.bad.Try(t, len(s.groups) > 1, func(since time.Time) error {
		err := s.buckets.Write(t, mine)
		if s.foreign && errors.Is(err, dfs.ErrName) {
			if _, own := s.fs.List(s.root); own == nil { // else it is hdfs.path that is wrong
				return component.Permanent(err)
			}
		}
		if d := s.clock().Sub(since); s.refused > 0 && d >= s.refused && (errors.Is(err, fs.ErrPermission) || errors.Is(err, dfs.ErrQuota)) {
			return component.Permanent(fmt.Errorf("refused for %v (hdfs.refusedTimeout): %w", d.Round(time.Second), err))
		}
		return err
	})
	clear(s.gather)
	return err
}
