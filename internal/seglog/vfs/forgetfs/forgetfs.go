// Package forgetfs is a file system for drills: the operating system's, with a second copy beside it that holds only what
// was synced. After a kill -9 the page cache still has everything that a process wrote; Restore puts the second copy in
// its place, and then un-synced writes and names are gone as after a power cut.
//
// It forgets all that may be forgotten: of a file every byte since its last Sync, of a directory every created, renamed
// or removed name since its last SyncDir. (A real power cut may spare any part of that.)
package forgetfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	objectsDir = "objects" // synced contents, one file for each live file
	treeDir    = "tree"    // synced names: hard links to objects
	countFile  = "unsynced"
)

// FS is the file system. All files that matter must lie below Live.
type FS struct {
	vfs.OS
	live, shadow string
	lie          func(name string) bool
	count        *os.File

	mu       sync.Mutex
	nodes    map[uint64]*node // by inode of the live file
	nextID   int
	unsynced int64
}

// node is one live file.
type node struct {
	mu     sync.Mutex // one sync at a time
	object string     // where its synced contents are
	dirty  []span     // FS.mu: written since the last sync
	cut    bool       // FS.mu: truncated since then
}

type span struct{ from, to int64 }

// New returns a file system for the directory live, which need not exist. What is durable is kept in the directory shadow,
// which must be on the same disk and outside live. If lie is not nil, a Sync of the files that it picks reports success
// and does nothing, as a program that forgot the fsync: a drill that passes then is worth nothing.
func New(live, shadow string, lie func(name string) bool) (*FS, error) {
	f := &FS{live: filepath.Clean(live), shadow: shadow, lie: lie, nodes: map[uint64]*node{}}
	for _, d := range []string{objectsDir, treeDir} {
		if err := os.MkdirAll(filepath.Join(shadow, d), 0o750); err != nil {
			return nil, fmt.Errorf("make shadow: %w", err)
		}
	}
	// Objects of an earlier process have other inodes as their live files.
	entries, err := os.ReadDir(filepath.Join(shadow, objectsDir))
	if err != nil {
		return nil, fmt.Errorf("list shadow: %w", err)
	}
	for _, e := range entries {
		if n, err := strconv.Atoi(e.Name()); err == nil && n >= f.nextID {
			f.nextID = n + 1
		}
	}
	if f.count, err = os.OpenFile(filepath.Join(shadow, countFile), os.O_RDWR|os.O_CREATE, 0o640); err != nil {
		return nil, fmt.Errorf("make counter: %w", err)
	}
	f.note(0)
	return f, f.adopt()
}

// Unsynced reads how many bytes the last process on a shadow directory had written and not synced.
func Unsynced(shadow string) (int64, error) {
	b, err := os.ReadFile(filepath.Join(shadow, countFile))
	if err != nil || len(b) < 8 {
		return 0, fmt.Errorf("read counter of %d bytes: %w", len(b), err)
	}
	return int64(binary.LittleEndian.Uint64(b)), nil
}

// adopt takes what Restore put into live for synced.
func (f *FS) adopt() error {
	tree := filepath.Join(f.shadow, treeDir)
	return filepath.WalkDir(tree, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		rel, err := filepath.Rel(tree, path)
		if err != nil {
			return err
		}
		st, err := os.Stat(filepath.Join(f.live, rel))
		if err != nil {
			return err
		}
		n, err := f.newNode()
		if err != nil {
			return err
		}
		if err := errors.Join(os.Remove(n.object), os.Link(path, n.object)); err != nil {
			return err
		}
		f.nodes[inode(st)] = n
		return nil
	})
}

// Restore makes live what the last process on it had made durable, and returns how many bytes were forgotten. No process
// may have it open.
func Restore(live, shadow string) (forgotten int64, err error) {
	if forgotten, err = Unsynced(shadow); err != nil {
		return 0, err
	}
	if err := os.RemoveAll(live); err != nil {
		return forgotten, err
	}
	if err := os.RemoveAll(filepath.Join(shadow, objectsDir)); err != nil { // names keep what they need
		return forgotten, err
	}
	return forgotten, os.CopyFS(live, os.DirFS(filepath.Join(shadow, treeDir)))
}

func inode(st fs.FileInfo) uint64 { return st.Sys().(*syscall.Stat_t).Ino }

// newNode makes an object. mu is held, or f is not yet shared.
func (f *FS) newNode() (*node, error) {
	n := &node{object: filepath.Join(f.shadow, objectsDir, strconv.Itoa(f.nextID))}
	f.nextID++
	o, err := os.OpenFile(n.object, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640)
	if err != nil {
		return nil, fmt.Errorf("make object: %w", err)
	}
	return n, o.Close()
}

// below is the path's place below live; ok is false outside.
func (f *FS) below(path string) (rel string, ok bool) {
	rel, err := filepath.Rel(f.live, path)
	return rel, err == nil && rel != ".." && !strings.HasPrefix(rel, "../")
}

// Open implements vfs.FS.
func (f *FS) Open(name string, flag int) (vfs.File, error) {
	if _, ok := f.below(name); !ok {
		return nil, fmt.Errorf("open %s: it is not below %s", name, f.live)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	_, statErr := os.Stat(name)
	o, err := f.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	st, err := o.Stat()
	if err != nil {
		return nil, errors.Join(err, o.Close())
	}
	n := f.nodes[inode(st)]
	if n == nil || errors.Is(statErr, fs.ErrNotExist) { // new, perhaps with a removed file's inode
		if n, err = f.newNode(); err != nil {
			return nil, errors.Join(err, o.Close())
		}
		f.nodes[inode(st)] = n
	}
	if flag&os.O_TRUNC != 0 {
		n.cut = true
	}
	return &file{File: o, fs: f, n: n, lies: f.lie != nil && f.lie(name)}, nil
}

// SyncDir implements vfs.FS: the shadow's names become those of live.
func (f *FS) SyncDir(dir string) error {
	rel, ok := f.below(dir)
	if !ok {
		return nil
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	to := filepath.Join(f.shadow, treeDir, rel)
	if err := os.MkdirAll(to, 0o750); err != nil {
		return err
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	here := map[string]bool{}
	for _, e := range entries {
		here[e.Name()] = true
		path := filepath.Join(to, e.Name())
		if e.IsDir() {
			if err := os.MkdirAll(path, 0o750); err != nil {
				return err
			}
			continue
		}
		st, err := e.Info()
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return err
		}
		n := f.nodes[inode(st)]
		if n == nil {
			continue // not written through this file system: the lock
		}
		// Linked under another name first, so that a kill finds the old or the new one.
		tmp := filepath.Join(f.shadow, "link")
		if err := errors.Join(ignoreAbsent(os.Remove(tmp)), os.Link(n.object, tmp), os.Rename(tmp, path)); err != nil {
			return err
		}
	}
	old, err := os.ReadDir(to)
	if err != nil {
		return err
	}
	for _, e := range old {
		if !here[e.Name()] {
			if err := os.RemoveAll(filepath.Join(to, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

func ignoreAbsent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// note counts bytes that are not synced. mu is held. The counter is in a file, where the one who kills finds it.
func (f *FS) note(n int64) {
	f.unsynced += n
	var b [8]byte
	binary.LittleEndian.PutUint64(b[:], uint64(f.unsynced))
	_, _ = f.count.WriteAt(b[:], 0) // only what is printed depends on it
}

type file struct {
	vfs.File
	fs   *FS
	n    *node
	lies bool
}

// WriteAt implements vfs.File.
func (f *file) WriteAt(b []byte, off int64) (int, error) {
	n, err := f.File.WriteAt(b, off)
	// Noted afterwards: a sync that runs at the same time must not take it for copied.
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.n.dirty = append(f.n.dirty, span{off, off + int64(n)})
	f.fs.note(int64(n))
	return n, err
}

// WritePadded implements vfs.Padder.
func (f *file) WritePadded(b []byte, zeros int, off int64) (int, error) {
	return vfs.CopyPadded(f, b, zeros, off)
}

// Truncate implements vfs.File.
func (f *file) Truncate(size int64) error {
	err := f.File.Truncate(size)
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.n.cut = true
	return err
}

// Sync implements vfs.File.
func (f *file) Sync() error {
	if f.lies {
		return nil
	}
	f.n.mu.Lock()
	defer f.n.mu.Unlock()
	f.fs.mu.Lock()
	dirty, cut := f.n.dirty, f.n.cut
	f.n.dirty, f.n.cut = nil, false
	f.fs.mu.Unlock()
	if len(dirty) == 0 && !cut {
		return nil
	}
	o, err := os.OpenFile(f.n.object, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer o.Close()
	var done int64
	var buf []byte
	for _, s := range dirty {
		done += s.to - s.from
		if int64(cap(buf)) < s.to-s.from {
			buf = make([]byte, s.to-s.from)
		}
		b := buf[:s.to-s.from]
		n, err := f.File.ReadAt(b, s.from)
		if err != nil && err != io.EOF { // shorter: cut off meanwhile
			return err
		}
		if _, err := o.WriteAt(b[:n], s.from); err != nil {
			return err
		}
	}
	if cut {
		st, err := f.File.Stat()
		if err == nil {
			err = o.Truncate(st.Size())
		}
		if err != nil {
			return err
		}
	}
	f.fs.mu.Lock()
	f.fs.note(-done)
	f.fs.mu.Unlock()
	return nil
}
