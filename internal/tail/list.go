package tail

import (
	"cmp"
	"errors"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/sluice-data/sluice/event"
)

// Group is a set of files by their names.
type Group struct {
	// Dir is an absolute path without a slash at the end. It may be a symbolic link.
	Dir string
	// Below says that directories below Dir count, but not links to directories.
	Below bool
	// Match says whether a name belongs to the group; nil: only the file Name does.
	Match func(name string) bool
	Name  string
	// Headers are set on every event, over those of the file.
	Headers []event.KV
}

// settled is how old the time of a directory's last change must be before it
// proves that the listing is complete: file systems count in steps of up to
// two seconds.
const settled = 2 * time.Second

// dirList is what a directory was found to hold.
type dirList struct {
	mtime int64
	at    time.Time
	files []string // paths of matching names
	dirs  []string
	round int64
}

// found is a file of a listing.
type found struct {
	stat
	path  string
	group *Group
}

// list looks at every file of every group. Each group's are in the order of
// their last change. ok is false for groups of which something could not be
// listed.
func (w *Follower) list(now time.Time) (files []found, ok map[*Group]bool) {
	files = w.found[:0]
	ok = make(map[*Group]bool, len(w.o.Groups))
	for i := range w.o.Groups {
		g := &w.o.Groups[i]
		from := len(files)
		ok[g] = true
		if g.Match == nil {
			w.notify.watch(g.Dir)
			files = w.look(files, g, join(g.Dir, g.Name))
		} else {
			files = w.listDir(files, g, g.Dir, now, ok)
		}
		slices.SortStableFunc(files[from:], func(a, b found) int {
			return cmp.Or(cmp.Compare(a.mtime, b.mtime), cmp.Compare(a.born, b.born), strings.Compare(a.path, b.path))
		})
	}
	for key, d := range w.dirs {
		if d.round != w.round {
			delete(w.dirs, key)
			w.notify.unwatched(key.path)
		}
	}
	w.found = files
	return files, ok
}

// dirKey is a directory in a group.
type dirKey struct {
	group *Group
	path  string
}

func (w *Follower) listDir(files []found, g *Group, dir string, now time.Time, ok map[*Group]bool) []found {
	key := dirKey{g, dir}
	st, err := statPath(dir)
	if err == nil && !st.dir {
		err = &os.PathError{Op: "list", Path: dir, Err: errors.New("not a directory")}
	}
	d := w.dirs[key]
	if err == nil {
		w.notify.watch(dir)
		if d == nil || !w.o.CacheDirs || d.mtime != st.mtime || d.at.UnixNano()-st.mtime < int64(settled) {
			d, err = w.readDir(g, dir)
			if err == nil {
				d.mtime, d.at = st.mtime, now
				w.dirs[key] = d
			}
		}
	}
	if err != nil {
		if dir != g.Dir && errors.Is(err, fs.ErrNotExist) {
			return files // a directory below that is gone, with its files
		}
		ok[g] = false
		w.fail(dir, err)
		return files
	}
	d.round = w.round
	for _, path := range d.files {
		files = w.look(files, g, path)
	}
	for _, sub := range d.dirs {
		files = w.listDir(files, g, sub, now, ok)
	}
	return files
}

func (w *Follower) readDir(g *Group, dir string) (*dirList, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	entries, err := f.ReadDir(-1)
	if err != nil {
		return nil, err
	}
	d := &dirList{}
	for _, e := range entries {
		switch name := e.Name(); {
		case e.IsDir():
			if g.Below {
				d.dirs = append(d.dirs, join(dir, name))
			}
		case g.Match(name):
			d.files = append(d.files, join(dir, name))
		}
	}
	return d, nil
}

func join(dir, name string) string { return strings.TrimSuffix(dir, "/") + "/" + name }

// look adds a file if it is there and one that can be followed.
func (w *Follower) look(files []found, g *Group, path string) []found {
	st, err := statPath(path)
	switch {
	case errors.Is(err, fs.ErrNotExist): // deleted since, or a link to nothing
	case err != nil:
		w.fail(path, err)
	case st.regular:
		files = append(files, found{st, path, g})
	}
	return files
}

// search looks for files that left the listing in the directory where they
// were, under any name: a file that was renamed away is still to be read to
// its end. It returns the paths by what want asks for.
func search(dir string, want func(st stat, path string) bool) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return // gone with its files, or told by the listing
	}
	for _, e := range entries {
		if e.IsDir() {
			continue
		}
		path := join(dir, e.Name())
		if st, err := statPath(path); err == nil && st.regular && want(st, path) {
			return
		}
	}
}
