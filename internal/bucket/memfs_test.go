package bucket

import (
	"fmt"
	"io/fs"
	"path"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-data/sluice/internal/dfs"
)

// memFS is a file system in memory, with the faults that a test asks for. What was not flushed is lost by Abort.
type memFS struct {
	mu    sync.Mutex
	files map[string]*memFile
	fail  func(op, name string) error
	ops   []string // "op name", in their order
}

type memFile struct {
	fs      *memFS
	name    string
	flushed string
	pending string
	open    bool
}

func (m *memFS) do(op, name string) error {
	m.ops = append(m.ops, op+" "+name)
	if m.fail == nil {
		return nil
	}
	return m.fail(op, name)
}

// set changes what fails.
func (m *memFS) set(fail func(op, name string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fail = fail
}

// count is how often an operation was tried.
func (m *memFS) count(op string) (n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, o := range m.ops {
		if strings.HasPrefix(o, op+" ") {
			n++
		}
	}
	return n
}

// put makes a file that a process before this one left.
func (m *memFS) put(name, text string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.files[name] = &memFile{fs: m, name: name, flushed: text}
}

func (m *memFS) Create(name string) (dfs.File, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("create", name); err != nil {
		return nil, err
	}
	if m.files[name] != nil {
		return nil, &fs.PathError{Op: "create", Path: name, Err: fs.ErrExist}
	}
	f := &memFile{fs: m, name: name, open: true}
	m.files[name] = f
	return f, nil
}

func (m *memFS) Rename(from, to string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("rename", from); err != nil {
		return err
	}
	f := m.files[from]
	switch {
	case from == to:
		return nil
	case m.files[to] != nil:
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	case f == nil || path.Dir(from) != path.Dir(to): // no directories are made
		return &fs.PathError{Op: "rename", Path: from, Err: fs.ErrNotExist}
	}
	delete(m.files, from)
	m.files[to] = f
	f.name = to
	return nil
}

func (m *memFS) Remove(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("remove", name); err != nil {
		return err
	}
	if m.files[name] == nil {
		return &fs.PathError{Op: "remove", Path: name, Err: fs.ErrNotExist}
	}
	delete(m.files, name)
	return nil
}

func (m *memFS) List(dir string) ([]dfs.Entry, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("list", dir); err != nil {
		return nil, err
	}
	var list []dfs.Entry
	for name := range m.files {
		rest, ok := strings.CutPrefix(name, strings.TrimSuffix(dir, "/")+"/")
		if !ok {
			continue
		}
		first, _, isDir := strings.Cut(rest, "/")
		if e := (dfs.Entry{Name: first, Dir: isDir}); !slices.Contains(list, e) {
			list = append(list, e)
		}
	}
	return list, nil
}

func (m *memFS) MkdirAll(string) error { return nil }
func (m *memFS) Home() string          { return "/home" }
func (m *memFS) Close() error          { return nil }

func (m *memFS) Recover(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("recover", name); err != nil {
		return err
	}
	switch f := m.files[name]; {
	case f == nil:
		return &fs.PathError{Op: "recover", Path: name, Err: fs.ErrNotExist}
	case f.open:
		return fmt.Errorf("recover %s: %w", name, dfs.ErrBusy)
	}
	return nil
}

func (m *memFS) Trim(name string) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if err := m.do("trim", name); err != nil {
		return err
	}
	f := m.files[name]
	f.flushed = f.flushed[:strings.LastIndexByte(f.flushed, '\n')+1]
	return nil
}

func (f *memFile) Write(p []byte) (int, error) {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.do("write", f.name); err != nil {
		return 0, err
	}
	f.pending += string(p)
	return len(p), nil
}

func (f *memFile) Flush() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.do("flush", f.name); err != nil {
		return err
	}
	f.flushed, f.pending = f.flushed+f.pending, ""
	return nil
}

func (f *memFile) Err() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	return f.fs.do("err", f.name)
}

func (f *memFile) Close() error {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	if err := f.fs.do("close", f.name); err != nil {
		return err
	}
	f.flushed, f.pending, f.open = f.flushed+f.pending, "", false
	return nil
}

func (f *memFile) Abort() {
	f.fs.mu.Lock()
	defer f.fs.mu.Unlock()
	f.pending, f.open = "", false
}
