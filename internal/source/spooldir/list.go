package spooldir

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sort"
	"strings"
	"time"
)

// Suffixes of what was set aside.
const (
	badSuffix    = ".BAD"
	reasonSuffix = ".BAD.reason"
)

// candidate is a file that waits.
type candidate struct {
	path   string
	millis int64 // of the last change; Java knows milliseconds
}

// listing is what a look at the directories found.
type listing struct {
	files []candidate // in reverse order of reading
	bad   []string    // files set aside, by their path
	at    time.Time

	failed map[string]failure // directories that cannot be listed
}

// list looks for candidates.
func (s *source) list(now time.Time) (*listing, error) {
	l := &listing{at: now, failed: map[string]failure{}}
	done, err := s.marks(l)
	if err != nil {
		return nil, err
	}
	if err := s.listDir(l, s.dir, done); err != nil {
		return nil, err
	}
	// Reading goes from the end of the list, so that taking one is cheap.
	byName := func(a, b *candidate) bool {
		if x, y := filepath.Base(a.path), filepath.Base(b.path); x != y {
			return x > y
		}
		return a.path > b.path
	}
	switch s.cfg.order {
	case "oldest":
		sort.Slice(l.files, func(i, j int) bool {
			a, b := &l.files[i], &l.files[j]
			return a.millis > b.millis || a.millis == b.millis && byName(a, b)
		})
	case "youngest":
		sort.Slice(l.files, func(i, j int) bool {
			a, b := &l.files[i], &l.files[j]
			return a.millis < b.millis || a.millis == b.millis && byName(a, b)
		})
	}
	return l, nil
}

func (s *source) listDir(l *listing, dir string, done map[string]bool) error {
	f, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("list spool directory: %w", err)
	}
	entries, err := f.ReadDir(-1)
	f.Close()
	if err != nil {
		return fmt.Errorf("list spool directory: %w", err)
	}
	for _, e := range entries {
		name := e.Name()
		path := dir + "/" + name
		switch {
		case strings.HasPrefix(name, "."):
		case e.IsDir():
			if !s.cfg.recursive || path == s.trackerDir || s.cfg.ignore.FullMatch([]byte(name)) {
				continue
			}
			// Flume, too, goes on with what can be listed.
			if err := s.listDir(l, path, done); err != nil && !errors.Is(err, fs.ErrNotExist) {
				l.failed[path] = failure{err, s.polls.Load()}
			}
		case strings.HasSuffix(name, s.cfg.suffix) || strings.HasSuffix(name, reasonSuffix):
		case strings.HasSuffix(name, badSuffix):
			l.bad = append(l.bad, path)
		case done[path[len(s.dir)+1:]] || !s.cfg.include.FullMatch([]byte(name)) || s.cfg.ignore.FullMatch([]byte(name)):
		default:
			fi, err := os.Stat(path) // follows a link to a file
			if err != nil || !fi.Mode().IsRegular() {
				continue // gone again, or nothing that ends
			}
			l.files = append(l.files, candidate{path, fi.ModTime().UnixMilli()})
		}
	}
	return nil
}

// marks returns the relative paths that the tracker directory marks as
// delivered or set aside.
func (s *source) marks(l *listing) (map[string]bool, error) {
	if s.cfg.tracking != "tracker_dir" {
		return nil, nil
	}
	done := make(map[string]bool)
	err := filepath.WalkDir(s.trackerDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return nil
		}
		rel := strings.TrimPrefix(path[len(s.trackerDir):], "/")
		if r, ok := strings.CutSuffix(rel, s.cfg.suffix); ok {
			done[r] = true
		} else if r, ok := strings.CutSuffix(rel, badSuffix); ok {
			done[r] = true
			l.bad = append(l.bad, path)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list tracker directory: %w", err)
	}
	return done, nil
}

// longList is how many candidates may wait before a listing is used for more
// than one file: with more, listing would cost more than reading.
const longList = 1000

// next returns the file to read now, or "" when none waits.
func (s *source) next(now time.Time) (string, error) {
	for {
		l := s.listing
		fresh := false
		if l == nil || len(l.files) == 0 ||
			s.cfg.order != "random" && (len(l.files) <= longList || now.Sub(l.at) >= s.cfg.pollDelay) {
			var err error
			if l, err = s.list(now); err != nil {
				return "", err
			}
			s.listing, fresh = l, true
			s.bad = l.bad
			for _, c := range l.files { // what is gone is no longer a failure
				if f, ok := s.skipped[c.path]; ok {
					l.failed[c.path] = f
				}
			}
			s.skipped = l.failed
			// A file that was begun comes first: its position is only of
			// use now.
			for i, c := range l.files {
				if _, begun := s.progress[c.path]; begun {
					l.files = append(append(l.files[:i:i], l.files[i+1:]...), c)
					break
				}
			}
		}
		for len(l.files) > 0 {
			c := l.files[len(l.files)-1]
			l.files = l.files[:len(l.files)-1]
			if f, failed := s.skipped[c.path]; !failed || f.pass < s.polls.Load() {
				return c.path, nil
			}
		}
		if fresh {
			return "", nil
		}
	}
}
