//go:build interop

package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// feed drops files with numbered lines into a spooling directory, one after the other, until its end is called. That returns
// how many lines there are.
type feed struct{ end func() int }

const feedLines = 200 // of one file

func startFeed(t *testing.T, dir string, every time.Duration) *feed {
	t.Helper()
	stop, done := make(chan struct{}), make(chan int, 1)
	if err := os.MkdirAll(filepath.Join(dir, "spool"), 0o755); err != nil {
		t.Fatal(err)
	}
	go func() {
		n := 0
		defer func() { done <- n }()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			numbered(t, filepath.Join(dir, "spool"), fmt.Sprintf("%06d.log", n/feedLines), n, n+feedLines)
			n += feedLines
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	f := &feed{sync.OnceValue(func() int { close(stop); return <-done })}
	t.Cleanup(func() { f.end() })
	return f
}

// spooled waits until the agent has read all files.
func spooled(t *testing.T, dir string) {
	t.Helper()
	eventually(t, 5*time.Minute, "all files are read", func() error {
		left, err := filepath.Glob(filepath.Join(dir, "spool", "*.log"))
		if err == nil && len(left) > 0 {
			err = fmt.Errorf("%d are left", len(left))
		}
		return err
	})
}

// copied are the files of a directory as Hadoop's own client copies them.
func (h *realHDFS) copied(t *testing.T, dir string) (names, contents []string) {
	t.Helper()
	to := filepath.Join(t.TempDir(), "copy")
	h.tool(t, "dfs", "-get", dir, to)
	files, err := os.ReadDir(to)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(filepath.Join(to, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		names, contents = append(names, f.Name()), append(contents, string(b))
	}
	return names, contents
}

// troubles are the warnings and errors of a log.
func troubles(log string) (lines []string) {
	for line := range strings.Lines(log) {
		if strings.Contains(line, "level=WARN") || strings.Contains(line, "level=ERROR") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// Two name nodes share their edits. The active one hands over in order, the next is killed, while an agent writes to the
// name service; the one that is listed first is standby in the beginning, and dead in the end.
func TestHDFSFailover(t *testing.T) {
	t.Parallel() // it waits for Java most of the time
	fetched(t, "hdfs.sh")
	h := &realHDFS{dir: t.TempDir(), uri: "hdfs://cluster"}
	port := (&ports{}).row(t, 7)
	h.env = []string{fmt.Sprintf("HDFS_PORT=%d", port), "HDFS_NAMENODES=2", "HDFS_CONF=" + filepath.Join(h.dir, "conf")}
	h.start(t)
	active := func(nn int) { h.web = fmt.Sprintf("http://127.0.0.1:%d/webhdfs/v1", port+1+5*(nn-1)) }
	ha := func(args ...string) {
		t.Helper()
		if _, err := peer("hdfs.sh", h.env, append([]string{"ha"}, args...)...); err != nil {
			t.Fatal(err)
		}
	}
	ha("-transitionToActive", "nn2")
	active(2)

	dir := t.TempDir()
	conf := hdfsAgent(t, dir, h.uri+"/logs", "hdfs.rollCount = 1000")
	lines := startFeed(t, dir, 100*time.Millisecond)
	p := startSluiceIn(t, []string{"HADOOP_CONF_DIR=" + filepath.Join(h.dir, "conf")}, "agent", "-n", "a1", "-f", conf)
	written := func(what string) {
		t.Helper()
		had := -1
		eventually(t, 3*time.Minute, "files are closed "+what, func() error {
			list, err := h.list("/logs")
			closed := 0
			for _, f := range list {
				if !strings.HasSuffix(f.name, ".tmp") {
					closed++
				}
			}
			if had < 0 {
				had = closed
			}
			if err == nil && closed < had+3 {
				err = fmt.Errorf("%d more", closed-had)
			}
			return err
		})
	}
	said := 0
	say := func(what string) {
		written(what)
		all := troubles(p.out.String())
		t.Logf("%s: %d lines in the log: %s", what, len(all)-said, strings.Join(all[said:], "\n"))
		said = len(all)
	}
	say("by nn2, nn1 is standby")
	ha("-failover", "nn2", "nn1")
	active(1)
	say("by nn1 after a failover in order")
	h.signal(t, "namenode", syscall.SIGKILL)
	eventually(t, 3*time.Minute, "it says that a name node is to be active", func() error {
		if !strings.Contains(p.out.String(), "haadmin -getAllServiceState") {
			return errors.New(tail(p.out.String(), 1500))
		}
		return nil
	})
	ha("-transitionToActive", "--forceactive", "nn2")
	active(2)
	say("by nn2 after nn1 was killed")

	if said > 30 {
		t.Errorf("it said %d lines", said)
	}

	n := lines.end()
	spooled(t, dir)
	p.stop(t) // drains and closes
	t.Log(h.allThere(t, n))
}

// allThere checks what the sink has left of n fed lines, and says it.
func (h *realHDFS) allThere(t *testing.T, n int) string {
	t.Helper()
	names, contents := h.copied(t, "/logs")
	missing, double, strange := tally(n, contents)
	if missing > 0 || len(strange) > 1 {
		t.Errorf("of %d lines %d are missing, %d double, strange: %.200q", n, missing, double, strange)
	}
	if strings.Contains(strings.Join(names, " "), ".tmp") {
		t.Errorf("files are left open: %v", names)
	}
	return fmt.Sprintf("%d lines in %d files: %d missing, %d double, %d cut", n, len(names), missing, double, len(strange))
}
