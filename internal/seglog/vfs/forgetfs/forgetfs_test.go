package forgetfs

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

func write(t *testing.T, f vfs.File, text string, at int64) {
	t.Helper()
	if _, err := f.WriteAt([]byte(text), at); err != nil {
		t.Fatal(err)
	}
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// TestForgets: what was synced is there after Restore, what was not is not, over two lives of the file system.
func TestForgets(t *testing.T) {
	live, shadow := filepath.Join(t.TempDir(), "live"), t.TempDir()
	fsys, err := New(live, shadow, nil)
	must(t, err)
	must(t, fsys.MkdirAll(live))
	at := func(name string) string { return filepath.Join(live, name) }
	open := func(name string) vfs.File {
		f, err := fsys.Open(at(name), os.O_RDWR|os.O_CREATE)
		must(t, err)
		t.Cleanup(func() { f.Close() })
		return f
	}
	a := open("a")
	write(t, a, "synced", 0)
	must(t, a.Sync())
	b := open("b") // its name will not be synced
	must(t, fsys.SyncDir(live))
	must(t, b.Sync())
	c := open("c")
	write(t, c, "content of c", 0)
	must(t, seglog.WriteFile(fsys, at("d"), []byte("old")))
	must(t, fsys.Remove(at("b")))
	write(t, a, " and not synced", 6)
	must(t, seglog.ReplaceFile(fsys, at("d"), []byte("new")))
	// ReplaceFile does not sync the directory: the old d comes back.

	for life := range 2 {
		n, err := Restore(live, shadow)
		must(t, err)
		if want := []int64{int64(len(" and not synced") + len("content of c")), 0}[life]; n != want {
			t.Errorf("life %d: %d bytes were forgotten, want %d", life, n, want)
		}
		for name, want := range map[string]string{"a": "synced", "c": "", "d": "old"} {
			if got, err := os.ReadFile(at(name)); err != nil || string(got) != want {
				t.Errorf("life %d: %s is %q (%v), want %q", life, name, got, err, want)
			}
		}
		if fsys, err = New(live, shadow, nil); err != nil {
			t.Fatal(err)
		}
	}
	// The second life goes on where the first one ended.
	a = open("a")
	must(t, a.Truncate(2))
	write(t, a, "mmer", 2)
	must(t, a.Sync())
	must(t, fsys.Rename(at("a"), at("e")))
	must(t, fsys.Remove(at("d")))
	must(t, fsys.SyncDir(live))
	if _, err := Restore(live, shadow); err != nil {
		t.Fatal(err)
	}
	if got, err := os.ReadFile(at("e")); err != nil || string(got) != "symmer" {
		t.Errorf("e is %q (%v)", got, err)
	}
	for _, gone := range []string{"a", "d"} {
		if _, err := os.Stat(at(gone)); !errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s is there: %v", gone, err)
		}
	}
}

func TestLies(t *testing.T) {
	live, shadow := filepath.Join(t.TempDir(), "live"), t.TempDir()
	fsys, err := New(live, shadow, func(name string) bool { return strings.HasSuffix(name, ".log") })
	must(t, err)
	must(t, fsys.MkdirAll(live))
	for _, name := range []string{"x.log", "x.index"} {
		f, err := fsys.Open(filepath.Join(live, name), os.O_RDWR|os.O_CREATE)
		must(t, err)
		write(t, f, "text", 0)
		must(t, f.Sync())
		must(t, f.Close())
	}
	must(t, fsys.SyncDir(live))
	if n, err := Restore(live, shadow); err != nil || n != 4 {
		t.Errorf("forgotten %d, %v", n, err)
	}
	for name, want := range map[string]string{"x.log": "", "x.index": "text"} {
		if got, err := os.ReadFile(filepath.Join(live, name)); err != nil || string(got) != want {
			t.Errorf("%s is %q (%v), want %q", name, got, err, want)
		}
	}
}
