package segment

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/log/logtest"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const childDir = "SLUICE_TEST_APPEND_UNTIL_KILLED"

// TestAppendUntilKilled is not a test: TestKill runs it as a process of its own. It says the end of the log after each
// acknowledged append.
func TestAppendUntilKilled(t *testing.T) {
	dir := os.Getenv(childDir)
	if dir == "" {
		t.Skip("no test by itself, nothing is left unchecked: TestKill runs it as its child")
	}
	c := logtest.Config()
	c.SegmentBytes = 64 << 10
	l := store{vfs.OS{}, dir}.Open(t, c)
	for i := 0; ; i++ {
		p, err := l.Append(context.Background(), logtest.Batch(int64(i), 1+i%7, i%900), log.AppendOpts{})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("acked %d\n", p.Last+1)
	}
}

// TestKill kills a process that appends, at no chosen moment, again and again over the same log.
func TestKill(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "topic-0")
	end := int64(0)
	for round := range 5 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestAppendUntilKilled$")
		cmd.Env = append(os.Environ(), childDir+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acked := int64(0)
		lines := bufio.NewScanner(out)
		for n := 0; lines.Scan(); n++ {
			line := lines.Text()
			if len(line) < 7 || line[:6] != "acked " {
				continue
			}
			if v, err := strconv.ParseInt(line[6:], 10, 64); err == nil {
				acked = v
			}
			if n == 300*(round+1) {
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		if acked <= end {
			t.Fatalf("round %d: the child acknowledged nothing", round)
		}
		l := store{vfs.OS{}, dir}.Open(t, logtest.Config())
		o := l.Offsets()
		if o.End < acked {
			t.Fatalf("round %d: %d acknowledged, the log ends at %d", round, acked, o.End)
		}
		next := int64(0)
		for _, h := range logtest.Headers(t, logtest.ReadAll(t, l)) {
			if h.BaseOffset != next {
				t.Fatalf("round %d: batch at %d, want %d", round, h.BaseOffset, next)
			}
			next = h.LastOffset() + 1
		}
		if next != o.End {
			t.Fatalf("round %d: read up to %d of %d", round, next, o.End)
		}
		end = o.End
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
