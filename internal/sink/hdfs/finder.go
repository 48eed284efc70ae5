package hdfs

import (
	"context"
	"path"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/dfs"
)

// finder looks, in the background, for files that a process before this one left with their temporary names. Files of
// others that are at work stay theirs: dfs.FS.Recover sees to that, and what is younger than this sink is not looked at.
type finder struct {
	s      *sink
	before int64 // ms: the counter in the names of older files is below
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	found [][2]string // temporary name, last name without suffix
}

// maxDirs bounds how many directories are looked at.
const maxDirs = 20000

func (s *sink) newFinder(fs dfs.FS) *finder {
	ctx, cancel := context.WithCancel(context.Background())
	f := &finder{s: s, before: s.clock().UnixMilli(), cancel: cancel}
	if s.inUsePrefix == "" && s.inUseSuffix == "" {
		return f // they cannot be told from others
	}
	root, err := dfs.Resolve(fs, s.address)
	if err != nil {
		return f
	}
	f.wg.Go(func() { f.search(ctx, fs, constantDir(root)) })
	return f
}

func (f *finder) stop() {
	f.cancel()
	f.wg.Wait()
}

// search goes through the directories below root. It tries again later what fails: the cluster may be down.
func (f *finder) search(ctx context.Context, fs dfs.FS, root string) {
	todo, seen := []string{root}, 0
	for len(todo) > 0 {
		dir := todo[len(todo)-1]
		list, err := fs.List(dir)
		if err != nil {
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Second):
			}
			continue
		}
		todo = todo[:len(todo)-1]
		if seen++; seen > maxDirs {
			f.s.env.Log.Warn("not all directories were looked through for files that a process before this one left behind", "below", root, "directories", seen)
			return
		}
		for _, e := range list {
			if e.Dir {
				todo = append(todo, path.Join(dir, e.Name))
			} else if stem, ok := f.isOurs(e.Name); ok {
				f.mu.Lock()
				f.found = append(f.found, [2]string{path.Join(dir, e.Name), path.Join(dir, stem)})
				f.mu.Unlock()
			}
		}
		if ctx.Err() != nil {
			return
		}
	}
}

// isOurs takes PREFIX.COUNTERsuffix out of the name of a file that was being written.
func (f *finder) isOurs(name string) (stem string, ok bool) {
	stem, ok = strings.CutPrefix(name, f.s.inUsePrefix)
	if !ok {
		return "", false
	}
	if stem, ok = strings.CutSuffix(stem, f.s.inUseSuffix); !ok {
		return "", false
	}
	if stem, ok = strings.CutSuffix(stem, f.s.suffix); !ok {
		return "", false
	}
	dot := strings.LastIndexByte(stem, '.')
	if dot < 0 {
		return "", false
	}
	if prefix, constant := f.s.name.Constant(); constant && prefix != stem[:dot] {
		return "", false
	}
	n, err := strconv.ParseInt(stem[dot+1:], 10, 64)
	return stem, err == nil && n >= 1e12 && n < f.before
}

// adopt hands what was found over.
func (f *finder) adopt(to *bucket.Set) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, names := range f.found {
		f.s.env.Log.Info("a file that a process before this one left behind is closed", "file", names[0])
		to.Adopt(names[0], names[1])
	}
	f.found = nil
}
