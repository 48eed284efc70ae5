// Package seglog is what append-only logs in a directory of segment files have in common: files named by their first
// position, appends that are undone when they fail, deletion that waits for readers, recovery that tells a torn end from
// damage, and small files replaced atomically. How records are framed is the user's business.
//
// Crash model: a process may die at any instruction; whatever was written is then still there. On a power cut, only what
// was synced is sure to be there, and of the rest any part, page by page. After a failed sync nothing may be assumed
// about what was written since the last good one, so the error sticks.
package seglog

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

// CorruptionError says where a log is damaged in a way that no crash explains.
type CorruptionError struct {
	Path   string
	Offset int64 // position in the file
	// Next is where valid records go on, if Scan found that out; else 0.
	Next int64
	Err  error
}

func (e *CorruptionError) Error() string {
	return fmt.Sprintf("corruption in %s at byte %d: %v", e.Path, e.Offset, e.Err)
}

func (e *CorruptionError) Unwrap() error { return e.Err }

// ErrNoSpace is in the chain of errors of a write that found the disk (or the quota) full and was undone.
var ErrNoSpace = errors.New("no space left on device")

// ErrFailed is in the chain of errors of files that refuse writes after an earlier failure.
var ErrFailed = errors.New("file failed earlier and is not written until it is opened again")

// Suffixes of files that are on their way out or in; both are removed by Clean.
const (
	deletedSuffix = ".deleted"
	tempSuffix    = ".tmp"
)

// Name is the path of a segment's file: its first position in 20 digits, so that names sort as numbers.
func Name(dir string, base int64, ext string) string {
	return filepath.Join(dir, fmt.Sprintf("%020d%s", base, ext))
}

// List returns the first positions of the directory's files with the extension, ascending. Other names are passed over.
func List(fsys vfs.FS, dir, ext string) ([]int64, error) {
	entries, err := fsys.List(dir)
	if err != nil {
		return nil, fmt.Errorf("list segments: %w", err)
	}
	var out []int64
	for _, e := range entries {
		digits, ok := strings.CutSuffix(e.Name(), ext)
		if !ok || len(digits) != 20 {
			continue
		}
		if n, err := strconv.ParseInt(digits, 10, 64); err == nil && n >= 0 {
			out = append(out, n)
		}
	}
	slices.Sort(out)
	return out, nil
}

// Clean removes what an interrupted deletion or replacement left in the directory.
func Clean(fsys vfs.FS, dir string) error {
	entries, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), deletedSuffix) || strings.HasSuffix(e.Name(), tempSuffix) {
			if err := fsys.Remove(filepath.Join(dir, e.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove left-over file: %w", err)
			}
		}
	}
	return nil
}

// WriteFile replaces a small file so that after a crash either the old or the new contents are there, whole.
// The new contents are durable when it returns.
func WriteFile(fsys vfs.FS, path string, b []byte) error {
	if err := ReplaceFile(fsys, path, b); err != nil {
		return err
	}
	if err := fsys.SyncDir(filepath.Dir(path)); err != nil {
		return fmt.Errorf("write %s: %w", filepath.Base(path), err)
	}
	return nil
}

// ReplaceFile is WriteFile without the last step: until the directory is synced a power cut may bring the old contents
// back.
func ReplaceFile(fsys vfs.FS, path string, b []byte) error {
	if err := writeTemp(fsys, path, b); err != nil {
		_ = fsys.Remove(path + tempSuffix) // best effort: Clean removes it otherwise
		return fmt.Errorf("write %s: %w", filepath.Base(path), noSpace(err))
	}
	return nil
}

func writeTemp(fsys vfs.FS, path string, b []byte) error {
	f, err := fsys.Open(path+tempSuffix, os.O_RDWR|os.O_CREATE|os.O_TRUNC)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return err
	}
	return fsys.Rename(path+tempSuffix, path)
}

// ReadFile reads a whole file of at most limit bytes.
func ReadFile(fsys vfs.FS, path string, limit int64) ([]byte, error) {
	f, err := fsys.Open(path, os.O_RDONLY)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	if st.Size() > limit {
		return nil, fmt.Errorf("read %s: it has %d bytes, more than the %d it may have", path, st.Size(), limit)
	}
	b := make([]byte, st.Size())
	if n, err := f.ReadAt(b, 0); err != nil && !(err == io.EOF && n == len(b)) {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	return b, nil
}

// noSpace adds ErrNoSpace to the chain where the system says so.
func noSpace(err error) error {
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return fmt.Errorf("%w: %w", ErrNoSpace, err)
	}
	return err
}
