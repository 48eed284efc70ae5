// Package memfs is a file system in memory that fails on demand, for tests: it forgets what was not synced, runs out of
// space, and fails any operation that a hook picks.
package memfs

import (
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// Op is an operation that the hook may fail.
type Op string

// The operations.
const (
	OpOpen     Op = "open"
	OpRead     Op = "read"
	OpWrite    Op = "write"
	OpTruncate Op = "truncate"
	OpSync     Op = "sync"
	OpSyncDir  Op = "syncdir"
	OpRename   Op = "rename"
	OpRemove   Op = "remove"
	OpChtimes  Op = "chtimes"
)

// FS is the file system. The zero value is not usable; see New.
type FS struct {
	mu     sync.Mutex
	nodes  map[string]*node             // what a process sees
	synced map[string]*node             // names that survive a crash
	last   func(names map[string]*node) // the last change of names, if it was not synced
	dirs   map[string]bool
	used   int64
	limit  int64 // -1: none
	hook   func(Op, string) error
	syncs  int
}

type node struct {
	data   []byte
	synced []byte // contents as of the last Sync
	mod    time.Time
}

var _ vfs.FS = (*FS)(nil)

// New returns an empty file system without limits.
func New() *FS {
	return &FS{nodes: map[string]*node{}, synced: map[string]*node{}, dirs: map[string]bool{}, limit: -1}
}

// SetHook sets a function that is asked before each operation; an error of it is the operation's. It is called with the
// file system locked.
func (f *FS) SetHook(h func(op Op, path string) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.hook = h
}

// SetLimit sets how many bytes fit; -1 for no limit. A write that does not fit writes what does and fails with ENOSPC.
func (f *FS) SetLimit(n int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.limit = n
}

// Used returns the bytes in all files.
func (f *FS) Used() int64 {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.used
}

// Syncs counts the file syncs that succeeded.
func (f *FS) Syncs() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.syncs
}

// Crash returns the file system as a power cut leaves it: only synced contents under synced names. The old one lives on.
func (f *FS) Crash() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copyOf(f.synced, func(nd *node) []byte { return nd.synced })
}

// CrashUnordered is Crash with a disk that had begun with the last change: of all creations, renames and removals that
// were not synced that one is there and none before it.
func (f *FS) CrashUnordered() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	names := maps.Clone(f.synced)
	if f.last != nil {
		f.last(names)
	}
	return f.copyOf(names, func(nd *node) []byte { return nd.synced })
}

// Clone returns a copy of what a process sees, as a kill without a power cut leaves it.
func (f *FS) Clone() *FS {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.copyOf(f.nodes, func(nd *node) []byte { return nd.data })
}

// copyOf makes a file system of those nodes and contents, all of it synced. The caller holds f.mu.
func (f *FS) copyOf(nodes map[string]*node, contents func(*node) []byte) *FS {
	n := New()
	for name, nd := range nodes {
		data := contents(nd)
		c := &node{data: slices.Clone(data), synced: slices.Clone(data), mod: nd.mod}
		n.nodes[name], n.synced[name] = c, c
		n.used += int64(len(c.data))
	}
	for d := range f.dirs {
		n.dirs[d] = true
	}
	return n
}

// ReadFile returns a copy of a file's contents.
func (f *FS) ReadFile(name string) ([]byte, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	nd := f.nodes[filepath.Clean(name)]
	if nd == nil {
		return nil, notExist("read", name)
	}
	return slices.Clone(nd.data), nil
}

// WriteFile sets a file's contents, durably.
func (f *FS) WriteFile(name string, b []byte) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if old := f.nodes[name]; old != nil {
		f.used -= int64(len(old.data))
	}
	nd := &node{data: slices.Clone(b), synced: slices.Clone(b), mod: time.Now()}
	f.nodes[name], f.synced[name] = nd, nd
	f.used += int64(len(b))
}

// Names lists all files, sorted.
func (f *FS) Names() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	var out []string
	for n := range f.nodes {
		out = append(out, n)
	}
	slices.Sort(out)
	return out
}

func notExist(op, name string) error { return &fs.PathError{Op: op, Path: name, Err: fs.ErrNotExist} }

func (f *FS) ask(op Op, name string) error {
	if f.hook != nil {
		if err := f.hook(op, name); err != nil {
			return &fs.PathError{Op: string(op), Path: name, Err: err}
		}
	}
	return nil
}

// Open implements vfs.FS.
func (f *FS) Open(name string, flag int) (vfs.File, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if err := f.ask(OpOpen, name); err != nil {
		return nil, err
	}
	nd := f.nodes[name]
	switch {
	case nd == nil && flag&os.O_CREATE == 0:
		return nil, notExist("open", name)
	case nd == nil:
		if f.limit >= 0 && f.used >= f.limit {
			return nil, &fs.PathError{Op: "open", Path: name, Err: syscall.ENOSPC}
		}
		nd = &node{mod: time.Now()}
		f.nodes[name] = nd
		f.last = func(names map[string]*node) { names[name] = nd }
	case flag&os.O_EXCL != 0:
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrExist}
	case flag&os.O_TRUNC != 0:
		f.used -= int64(len(nd.data))
		nd.data = nil
	}
	return &file{fs: f, n: nd, name: name}, nil
}

// Rename implements vfs.FS, for files and for directories.
func (f *FS) Rename(from, to string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	from, to = filepath.Clean(from), filepath.Clean(to)
	if err := f.ask(OpRename, from); err != nil {
		return err
	}
	if f.dirs[from] {
		pre := from + string(filepath.Separator)
		for name, nd := range f.nodes {
			if strings.HasPrefix(name, pre) {
				delete(f.nodes, name)
				f.nodes[filepath.Join(to, name[len(pre):])] = nd
			}
		}
		delete(f.dirs, from)
		f.dirs[to] = true
		return nil
	}
	nd := f.nodes[from]
	if nd == nil {
		return notExist("rename", from)
	}
	if old := f.nodes[to]; old != nil {
		f.used -= int64(len(old.data))
	}
	f.last = func(names map[string]*node) {
		delete(names, from)
		names[to] = nd
	}
	f.last(f.nodes)
	return nil
}

// Remove implements vfs.FS.
func (f *FS) Remove(name string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if err := f.ask(OpRemove, name); err != nil {
		return err
	}
	if f.dirs[name] {
		delete(f.dirs, name)
		return nil
	}
	nd := f.nodes[name]
	if nd == nil {
		return notExist("remove", name)
	}
	f.used -= int64(len(nd.data))
	f.last = func(names map[string]*node) { delete(names, name) }
	f.last(f.nodes)
	return nil
}

// Chtimes implements vfs.FS.
func (f *FS) Chtimes(name string, mod time.Time) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	name = filepath.Clean(name)
	if err := f.ask(OpChtimes, name); err != nil {
		return err
	}
	nd := f.nodes[name]
	if nd == nil {
		return notExist("chtimes", name)
	}
	nd.mod = mod
	return nil
}

// MkdirAll implements vfs.FS. Directories survive crashes.
func (f *FS) MkdirAll(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.dirs[filepath.Clean(dir)] = true
	return nil
}

// List implements vfs.FS. It lists files only.
func (f *FS) List(dir string) ([]fs.DirEntry, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = filepath.Clean(dir)
	if !f.dirs[dir] {
		return nil, notExist("list", dir)
	}
	var out []fs.DirEntry
	for name, nd := range f.nodes {
		if filepath.Dir(name) == dir {
			out = append(out, fs.FileInfoToDirEntry(info{filepath.Base(name), int64(len(nd.data)), nd.mod}))
		}
	}
	slices.SortFunc(out, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return out, nil
}

// SyncDir implements vfs.FS.
func (f *FS) SyncDir(dir string) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	dir = filepath.Clean(dir)
	if err := f.ask(OpSyncDir, dir); err != nil {
		return err
	}
	f.last = nil
	for name := range f.synced {
		if filepath.Dir(name) == dir && f.nodes[name] == nil {
			delete(f.synced, name)
		}
	}
	for name, nd := range f.nodes {
		if filepath.Dir(name) == dir {
			f.synced[name] = nd
		}
	}
	return nil
}

type info struct {
	name string
	size int64
	mod  time.Time
}

func (i info) Name() string       { return i.name }
func (i info) Size() int64        { return i.size }
func (i info) Mode() fs.FileMode  { return 0o640 }
func (i info) ModTime() time.Time { return i.mod }
func (i info) IsDir() bool        { return false }
func (i info) Sys() any           { return nil }

type file struct {
	fs     *FS
	n      *node
	name   string
	closed bool
}

func (h *file) check(op Op) error {
	if h.closed {
		return &fs.PathError{Op: string(op), Path: h.name, Err: fs.ErrClosed}
	}
	return h.fs.ask(op, h.name)
}

func (h *file) ReadAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check(OpRead); err != nil {
		return 0, err
	}
	if off >= int64(len(h.n.data)) {
		return 0, io.EOF
	}
	n := copy(p, h.n.data[off:])
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (h *file) WriteAt(p []byte, off int64) (int, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check(OpWrite); err != nil {
		return 0, err
	}
	n := len(p)
	grow := max(off+int64(n)-int64(len(h.n.data)), 0)
	var err error
	if f := h.fs; f.limit >= 0 && grow > 0 && f.used+grow > f.limit {
		n = int(max(int64(n)-(f.used+grow-f.limit), 0))
		grow = max(off+int64(n)-int64(len(h.n.data)), 0)
		err = &fs.PathError{Op: "write", Path: h.name, Err: syscall.ENOSPC}
	}
	if grow > 0 {
		h.n.data = append(h.n.data, make([]byte, grow)...)
		h.fs.used += grow
	}
	copy(h.n.data[min(off, int64(len(h.n.data))):], p[:n])
	h.n.mod = time.Now()
	return n, err
}

// WritePadded implements vfs.Padder.
func (h *file) WritePadded(p []byte, zeros int, off int64) (int, error) {
	return vfs.CopyPadded(h, p, zeros, off)
}

func (h *file) Truncate(size int64) error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check(OpTruncate); err != nil {
		return err
	}
	if size < 0 {
		return fmt.Errorf("truncate %s to %d: %w", h.name, size, fs.ErrInvalid)
	}
	d := size - int64(len(h.n.data))
	if d > 0 {
		h.n.data = append(h.n.data, make([]byte, d)...)
	} else {
		// A new array: a crash image may share the old one.
		h.n.data = slices.Clone(h.n.data[:size])
	}
	h.fs.used += d
	return nil
}

func (h *file) Sync() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if err := h.check(OpSync); err != nil {
		return err
	}
	h.n.synced = slices.Clone(h.n.data)
	h.fs.syncs++
	return nil
}

func (h *file) Stat() (fs.FileInfo, error) {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	return info{filepath.Base(h.name), int64(len(h.n.data)), h.n.mod}, nil
}

func (h *file) Close() error {
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	if h.closed {
		return &fs.PathError{Op: "close", Path: h.name, Err: fs.ErrClosed}
	}
	h.closed = true
	return nil
}

func (h *file) OS() *os.File { return nil }
