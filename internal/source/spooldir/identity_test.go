package spooldir

import (
	"errors"
	"os"
	"reflect"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// A file that was begun is replaced while the agent is down: the new one of
// that name is read from its start. One that stayed is gone on with.
func TestReplacedWhileDown(t *testing.T) {
	for _, tc := range []struct {
		name   string
		change func(t *testing.T, path string)
		want   []string
	}{
		{"stayed", func(*testing.T, string) {}, []string{"c", "d"}},
		{"replaced", func(t *testing.T, path string) { write(t, path, "1\n2\n3\n4\n") }, []string{"1", "2", "3", "4"}},
		{"touched", func(t *testing.T, path string) { age(t, path, time.Minute) }, []string{"c", "d"}},
		{"replaced by a longer one", func(t *testing.T, path string) { write(t, path, "a\nb\nc\nd\ne\n") }, []string{"a", "b", "c", "d", "e"}},
	} {
		t.Run(tc.name, func(t *testing.T) {
			dir := t.TempDir()
			write(t, dir+"/f", "a\nb\nc\nd\n")
			age(t, dir+"/f", time.Hour)
			out := componenttest.NewOutput()
			out.FailWith(func(emit int, _ *event.Batch) error {
				if emit >= 1 {
					return errors.New("the agent stops")
				}
				return nil
			})
			env, _ := componenttest.Env(t)
			src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "batchSize=2")
			if err := src.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := src.Run(t.Context(), out); err == nil {
				t.Fatal("Run ended without an error")
			}
			stop(t, src)
			if got := out.Bodies(); !reflect.DeepEqual(got, []string{"a", "b"}) {
				t.Fatalf("before the stop %q", got)
			}
			tc.change(t, dir+"/f")
			again, _ := drain(t, dir, "deletePolicy=immediate")
			if got := again.Bodies(); !reflect.DeepEqual(got, tc.want) {
				t.Errorf("after it %q, want %q", got, tc.want)
			}
		})
	}
}

// The event of an empty file that cannot be marked as delivered does not come
// again with every try.
func TestEmptyFileOnce(t *testing.T) {
	dir := t.TempDir()
	marks := t.TempDir()
	write(t, dir+"/f", "")
	write(t, marks+"/sub", "") // where the mark's directory would have to be
	if err := os.Mkdir(dir+"/sub", 0o777); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(dir+"/f", dir+"/sub/f"); err != nil {
		t.Fatal(err)
	}
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "trackerDir="+marks, "trackingPolicy=tracker_dir", "recursiveDirectorySearch=true")
	for range 3 {
		if err := src.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := src.Run(t.Context(), out); err == nil {
			t.Fatal("the mark was made")
		}
	}
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{""}) {
		t.Errorf("events %q", got)
	}
}
