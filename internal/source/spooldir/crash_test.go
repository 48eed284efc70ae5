package spooldir

import (
	"bytes"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// The test binary runs itself as the process that is killed.
const victimEnv = "SPOOLDIR_TEST_VICTIM"

func TestMain(m *testing.M) {
	if dir := os.Getenv(victimEnv); dir != "" {
		victim(dir)
		return
	}
	os.Exit(m.Run())
}

// victim spools dir/spool into the file dir/out, one write a batch, until it
// is killed or nothing is left.
func victim(dir string) {
	f, err := os.OpenFile(dir+"/out", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o666)
	if err != nil {
		panic(err)
	}
	// A kill may have cut the last write in two.
	if p, err := os.ReadFile(dir + "/out"); err != nil {
		panic(err)
	} else if err := f.Truncate(int64(bytes.LastIndexByte(p, '\n') + 1)); err != nil {
		panic(err)
	}
	env := componenttest.QuietEnv()
	cfg := new(config)
	cfg.Fields()
	cfg.spoolDir, cfg.pollDelay = dir+"/spool", time.Millisecond
	part, _ := componenttest.Config(panicTB{}, "deserializer", "LINE")
	cfg.deserializer = part
	src, err := cfg.NewSource(env)
	if err != nil {
		panic(err)
	}
	if err := src.Start(context.Background()); err != nil {
		panic(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		for src.(*source).polls.Load() == 0 {
			time.Sleep(time.Millisecond)
		}
		cancel()
	}()
	if err := src.Run(ctx, &fileOutput{f: f, pool: event.NewPool()}); err != nil {
		panic(err)
	}
}

// panicTB is for code that wants a test outside of one.
type panicTB struct{ testing.TB }

func (panicTB) Helper()                      {}
func (panicTB) Fatalf(f string, args ...any) { panic(fmt.Sprintf(f, args...)) }

// fileOutput writes every batch with one write, as a channel that commits it.
type fileOutput struct {
	f    *os.File
	pool *event.Pool
	buf  []byte
}

func (o *fileOutput) Pool() *event.Pool      { return o.pool }
func (o *fileOutput) NewBatch() *event.Batch { return o.pool.NewBatch() }
func (o *fileOutput) Emit(_ context.Context, b *event.Batch) error {
	defer b.Release()
	o.buf = o.buf[:0]
	for _, e := range b.Events() {
		o.buf = append(append(o.buf, e.Body...), '\n')
	}
	_, err := o.f.Write(o.buf)
	return err
}

// Killed at random moments and started again, the source delivers every line,
// in order but for repetitions, and these go back no further than storeBytes
// or storeEvery.
func TestKill(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT CHECKED in short mode: that kill -9 loses no line")
	}
	dir := t.TempDir()
	const files, lines = 4, 100_000
	for f := range files {
		var sb strings.Builder
		for i := range lines {
			fmt.Fprintf(&sb, "file %d line %06d of a length that is usual for a log, more or less\n", f, i)
		}
		write(t, fmt.Sprintf("%s/spool/f%d", dir, f), sb.String())
		age(t, fmt.Sprintf("%s/spool/f%d", dir, f), time.Duration(files-f)*time.Hour)
	}
	kills := 0
	for round := 0; ; round++ {
		cmd := exec.Command(os.Args[0], "-test.run=^$")
		cmd.Env = append(os.Environ(), victimEnv+"="+dir)
		cmd.Stderr = os.Stderr
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		if round < 6 {
			// Let it deliver something first, wherever it stands by then.
			before := size(dir + "/out")
			for size(dir+"/out") == before && len(tree(t, dir+"/spool")) > 0 && !allDone(t, dir+"/spool") {
				time.Sleep(time.Millisecond)
			}
			time.Sleep(time.Duration(rand.IntN(15)) * time.Millisecond)
			_ = cmd.Process.Kill()
			if err := cmd.Wait(); err != nil {
				kills++
			}
			continue
		}
		if err := cmd.Wait(); err != nil {
			t.Fatal(err)
		}
		break
	}
	if got := tree(t, dir+"/spool"); len(got) != files || !allDone(t, dir+"/spool") {
		t.Errorf("files left: %q", got)
	}
	repeated := 0
	next := 0 // the next new line: file*lines + number
	for l := range strings.Lines(read(t, dir+"/out")) {
		var f, i int
		if _, err := fmt.Sscanf(l, "file %d line %d of", &f, &i); err != nil {
			t.Fatalf("%q: %v", l, err)
		}
		switch at := f*lines + i; {
		case at == next:
			next++
		case at > next:
			t.Fatalf("line %d of file %d is missing", next%lines, next/lines)
		default:
			repeated++
		}
	}
	if next != files*lines {
		t.Errorf("%d lines of %d", next, files*lines)
	}
	t.Logf("%d kills, %d lines repeated", kills, repeated)
}

func size(path string) int64 {
	fi, err := os.Stat(path)
	if err != nil {
		return 0
	}
	return fi.Size()
}

func allDone(t *testing.T, dir string) bool {
	for _, f := range tree(t, dir) {
		if !strings.HasSuffix(f, ".COMPLETED") {
			return false
		}
	}
	return true
}

// copyTree is what a crash leaves of dir at this moment.
func copyTree(t testing.TB, dir, to string) {
	t.Helper()
	for _, f := range tree(t, dir) {
		fi, err := os.Stat(dir + "/" + f)
		if err != nil {
			t.Fatal(err)
		}
		write(t, to+"/"+f, read(t, dir+"/"+f))
		if err := os.Chtimes(to+"/"+f, fi.ModTime(), fi.ModTime()); err != nil {
			t.Fatal(err)
		}
	}
}

// A crash at any Emit: nothing is lost, and where every position was due
// nothing comes twice that was taken before.
func TestCrashAtEveryEmit(t *testing.T) {
	dir := t.TempDir()
	var want []string
	for f := range 3 {
		var sb strings.Builder
		for i := range 10 {
			line := fmt.Sprintf("file %d line %d", f, i)
			want = append(want, line)
			fmt.Fprintln(&sb, line)
		}
		write(t, fmt.Sprintf("%s/f%d", dir, f), sb.String())
		age(t, fmt.Sprintf("%s/f%d", dir, f), time.Duration(3-f)*time.Hour)
	}
	snaps := t.TempDir()
	out := componenttest.NewOutput()
	n := 0
	delivered := 0
	var before []int // events delivered at each snapshot
	out.FailWith(func(emit int, b *event.Batch) error {
		copyTree(t, dir, fmt.Sprintf("%s/%d", snaps, n))
		n++
		before = append(before, delivered)
		delivered += b.Len()
		return nil
	})
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "spooldir", "spoolDir="+dir, "batchSize=3", "pollDelay=1").(*source)
	clock := time.Unix(1e9, 0)
	src.now = func() time.Time { clock = clock.Add(storeEvery); return clock } // every position is due
	r := componenttest.Run(t, src, out)
	out.Wait(t, len(want))
	r.Stop()

	for i := range n {
		snap := fmt.Sprintf("%s/%d", snaps, i)
		// The tracker names the path it was made for.
		if meta := snap + "/.flumespool/" + metaName; exists(meta) {
			e, err := readTracker(meta)
			if err != nil {
				t.Fatal(err)
			}
			tr := tracker{path: meta}
			if err := tr.store(strings.Replace(e.target, dir, snap, 1), e.pos, time.Now(), false); err != nil {
				t.Fatal(err)
			}
			tr.close()
		}
		again, _ := drain(t, snap, "batchSize=3")
		got := again.Bodies()
		if !reflect.DeepEqual(got, want[before[i]:]) {
			t.Errorf("after a crash at emit %d: %q, want %q", i, got, want[before[i]:])
		}
	}
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}
