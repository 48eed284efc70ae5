package bucket

import (
	"context"
	"errors"
	"io/fs"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// leftovers are files that a process before this one left with their temporary names, as far as they have been found. Files
// of others that are at work stay theirs: dfs.FS.Recover sees to that, and what is younger than this process is not looked at.
type leftovers struct {
	cfg    *Config
	before int64 // ms: the counter in the names of older files is below
	ctx    context.Context
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	found [][2]string // temporary name, last name without suffix
}

func (l *leftovers) stop() {
	l.cancel()
	l.wg.Wait()
}

const (
	maxDirs     = 20000 // how many directories are looked at
	searchAgain = 10 * time.Second
)

// Reclaim looks, in the background, below a directory for files that a process before this one left with their temporary
// names; Tick closes what was found and gives it its last name. ours says whether what stands before the counter in
// a name (without its directory) is from the files that this set would write. Without an in-use prefix and suffix such files cannot be told from
// others, and stay.
func (s *Set) Reclaim(root string, ours func(prefix string) bool) {
	if s.cfg.InUsePrefix != "" || s.cfg.InUseSuffix != "" {
		s.left.wg.Go(func() { s.left.search(root, ours) })
	}
}

// search goes through the directories below root. It tries again later what fails: the cluster may be down.
func (l *leftovers) search(root string, ours func(prefix string) bool) {
	todo, seen, told := []string{root}, 0, map[string]bool{}
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		todo = todo[:len(todo)-1]
		list, err := l.cfg.FS.List(dir)
		if err != nil {
			// What is wrong with the cluster is said where events are written.
			if seen > 0 && errors.Is(err, fs.ErrPermission) && !told[dir] {
				told[dir] = true
				l.cfg.Log.Warn("a directory cannot be looked through for files that a process before this one left behind; it is tried again", "directory", dir, "err", err)
			}
			todo = slices.Insert(todo, 0, dir) // after all others: it may be this one that is at fault
			select {
			case <-l.ctx.Done():
				return
			case <-time.After(searchAgain):
			}
			continue
		}
		if seen++; seen > maxDirs {
			l.cfg.Log.Warn("not all directories were looked through for files that a process before this one left behind", "below", root, "directories", seen)
			return
		}
		for _, e := range list {
			if e.Dir {
				todo = append(todo, path.Join(dir, e.Name))
			} else if stem, ok := l.isOurs(e.Name, ours); ok {
				l.mu.Lock()
				l.found = append(l.found, [2]string{path.Join(dir, e.Name), path.Join(dir, stem)})
				l.mu.Unlock()
			}
		}
		if l.ctx.Err() != nil {
			return
		}
	}
}

// isOurs takes PREFIX.COUNTERsuffix out of the name of a file that was being written.
func (l *leftovers) isOurs(name string, ours func(prefix string) bool) (stem string, ok bool) {
	stem, ok = strings.CutPrefix(name, l.cfg.InUsePrefix)
	if !ok {
		return "", false
	}
	if stem, ok = strings.CutSuffix(stem, l.cfg.InUseSuffix); !ok {
		return "", false
	}
	if stem, ok = strings.CutSuffix(stem, l.cfg.Suffix); !ok {
		return "", false
	}
	dot := strings.LastIndexByte(stem, '.')
	if dot < 0 || !ours(stem[:dot]) {
		return "", false
	}
	n, err := strconv.ParseInt(stem[dot+1:], 10, 64)
	return stem, err == nil && n >= 1e12 && n < l.before
}

// take hands over what was found.
func (l *leftovers) take() [][2]string {
	l.mu.Lock()
	defer l.mu.Unlock()
	found := l.found
	l.found = nil
	return found
}
