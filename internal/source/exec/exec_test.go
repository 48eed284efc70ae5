//go:build unix

package exec

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	osexec "os/exec"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

// victimEnv makes the test binary run a source until it is killed.
const victimEnv = "EXEC_TEST_COMMAND"

func TestMain(m *testing.M) {
	if cmd := os.Getenv(victimEnv); cmd != "" {
		cfg := new(config)
		cfg.Fields()
		cfg.shell, cfg.command = "/bin/sh -c", cmd
		src, err := cfg.NewSource(componenttest.QuietEnv())
		if err == nil {
			err = src.Run(context.Background(), componenttest.NewOutput())
		}
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	os.Exit(m.Run())
}

func start(t *testing.T, props ...string) (*componenttest.Output, *componenttest.Health, *componenttest.Running) {
	t.Helper()
	out := componenttest.NewOutput()
	env, h := componenttest.Env(t)
	r := componenttest.Run(t, componenttest.Source(t, env, "exec", props...), out)
	return out, h, r
}

func stop(t *testing.T, out *componenttest.Output, r *componenttest.Running) {
	t.Helper()
	r.Stop()
	if n := out.Pool().Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

func TestCommands(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(dir+"/in", []byte("a b\nc\n\nd"), 0o666); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		props []string
		want  []string
		code  string
	}{
		{"plain", []string{"command=cat   " + dir + "/in"}, []string{"a b", "c", "", "d"}, "0"},
		{"no quoting", []string{"command=printf %s\\n 'a b' $HOME"}, []string{"'a", "b'", "$HOME"}, "0"},
		{"shell", []string{"shell=/bin/sh -c", "command=for i in 1 2 3; do echo \"line  $i\"; done | grep -v 2; exit 7"}, []string{"line  1", "line  3"}, "7"},
		{"line ends", []string{"shell=/bin/sh -c", `command=printf 'a\r\nb\rc\n\rd\n'`}, []string{"a", "b", "c", "", "d"}, "0"},
		{"malformed", []string{"shell=/bin/sh -c", `command=printf 'a\377b\n'`}, []string{"a�b"}, "0"},
		{"Latin 1", []string{"shell=/bin/sh -c", `command=printf 'a\351\n'`, "charset=latin1"}, []string{"a\xe9"}, "0"},
		{"signal", []string{"shell=/bin/sh -c", "command=echo x; kill -9 $$"}, []string{"x"}, "137"},
		{"background writer", []string{"shell=/bin/sh -c", "command=(sleep 0.1; echo late) & echo early"}, []string{"early", "late"}, "0"},
		{"standard error", []string{"shell=/bin/sh -c", "command=echo x; echo no such luck >&2; exit 3"}, []string{"x"}, "3; it said: no such luck"},
		{"batchTimeout", []string{"command=cat " + dir + "/in", "batchTimeout=60000"}, []string{"a b", "c", "", "d"}, "0"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out, h, r := start(t, tt.props...)
			out.WaitFor(t, "the command's end", func() bool { return h.Last() != nil })
			if got := out.Bodies(); !reflect.DeepEqual(got, tt.want) {
				t.Errorf("events %q, want %q", got, tt.want)
			}
			if !strings.Contains(h.Last().Error(), "exited with "+tt.code+"; the source idles") {
				t.Errorf("health: %v", h.Last())
			}
			stop(t, out, r)
		})
	}
}

// Lines arrive while the command runs, without waiting for a batch.
func TestLowLatency(t *testing.T) {
	out, _, r := start(t, "shell=/bin/sh -c", "command=echo one; sleep 1000", "batchSize=100")
	out.Wait(t, 1)
	stop(t, out, r)
}

// With batchTimeout lines wait for the batch to fill, or that long.
func TestBatchTimeout(t *testing.T) {
	for _, wait := range []string{"50", "0"} {
		out, _, r := start(t, "shell=/bin/sh -c", "command=echo one; sleep 1000", "batchSize=100", "batchTimeout="+wait)
		out.Wait(t, 1)
		stop(t, out, r)
	}
	out, _, r := start(t, "shell=/bin/sh -c", "command=for i in 1 2 3 4 5; do echo $i; sleep 0.01; done; sleep 1000", "batchSize=2", "batchTimeout=10000000")
	out.Wait(t, 4)
	if n := len(out.Batches()); n != 2 {
		t.Errorf("%d batches", n)
	}
	// The stop does not wait.
	stop(t, out, r)
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"1", "2", "3", "4", "5"}) && !reflect.DeepEqual(got, []string{"1", "2", "3", "4"}) {
		t.Errorf("events %q", got)
	}
}

// Lines that wait for their batch wait no longer than there is memory for them.
func TestBatchTimeoutIsBoundedInBytes(t *testing.T) {
	out, _, r := start(t, "shell=/bin/sh -c", "batchSize=10000", "batchTimeout=10000000",
		"command=for i in 1 2 3 4 5 6 7 8 9 10; do head -c 4000000 /dev/zero | tr '\\0' x; echo; done; sleep 1000")
	out.Wait(t, 4)
	stop(t, out, r)
}

func TestRestart(t *testing.T) {
	dir := t.TempDir()
	out, h, r := start(t, "shell=/bin/sh -c", "command=echo x >> "+dir+"/n; cat "+dir+"/n | wc -l; exit 4", "restart=true", "restartThrottle=1")
	out.Wait(t, 3)
	got := out.Bodies()
	for i, b := range got[:3] {
		if strings.TrimSpace(b) != fmt.Sprint(i+1) {
			t.Errorf("run %d: %q", i, b)
		}
	}
	stop(t, out, r)
	found := false
	for _, err := range h.All() {
		found = found || err != nil && strings.Contains(err.Error(), "exited with 4")
	}
	if !found {
		t.Errorf("health: %v", h.All())
	}
}

func TestMissingCommand(t *testing.T) {
	env, _ := componenttest.Env(t)
	for _, props := range [][]string{
		{"command=tial -F /x"},
		{"command=echo", "shell=/no/such/shell -c"},
	} {
		src := componenttest.Source(t, env, "exec", props...)
		err := src.Start(context.Background())
		if err == nil || !strings.Contains(err.Error(), `find command "`) {
			t.Errorf("%v: %v", props, err)
		}
		if err := src.Run(context.Background(), componenttest.NewOutput()); err == nil || !strings.Contains(err.Error(), `find command "`) {
			t.Errorf("%v: run: %v", props, err)
		}
		if err := src.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	}
	// A program that cannot be executed.
	bad := t.TempDir() + "/bad"
	if err := os.WriteFile(bad, []byte("\x7fELF but not really"), 0o777); err != nil {
		t.Fatal(err)
	}
	src := componenttest.Source(t, env, "exec", "command="+bad)
	if err := src.Run(context.Background(), componenttest.NewOutput()); err == nil || !strings.Contains(err.Error(), "start command ["+bad+"]") {
		t.Errorf("%v", err)
	}
}

func TestConfig(t *testing.T) {
	for _, tt := range []struct {
		props []string
		want  string
	}{
		{nil, "command: required"},
		{[]string{"command=x", "batchSize=0"}, "at least 1"},
		{[]string{"command=x", "charset=UTF-16"}, "not supported on streams"},
	} {
		_, fs := componenttest.Decode(t, component.KindSource, "org.apache.flume.source.ExecSource", tt.props...)
		got := ""
		for _, f := range fs {
			got += f.Key + ": " + f.Message + "\n"
		}
		if !strings.Contains(got, tt.want) {
			t.Errorf("%v: %q", tt.props, got)
		}
	}
	// The tab is what Java's \s+ splits at, the no-break space is not.
	if got := fields(" a\tb\u00a0c  d "); !reflect.DeepEqual(got, []string{"a", "b\u00a0c", "d"}) {
		t.Errorf("%q", got)
	}
}

// A full channel makes the command wait, and nothing is lost.
func TestBackPressure(t *testing.T) {
	const lines = 200_000 // far more than a pipe and a block hold
	dir := t.TempDir()
	out := componenttest.NewOutput()
	out.Pause()
	env, h := componenttest.Env(t)
	r := componenttest.Run(t, componenttest.Source(t, env, "exec", "shell=/bin/sh -c",
		fmt.Sprintf("command=i=0; seq 1 %d; touch %s/done", lines, dir), "batchSize=1000"), out)
	out.WaitFor(t, "a batch that waits", func() bool { return out.Emits() == 1 })
	if _, err := os.Stat(dir + "/done"); err == nil {
		t.Error("the command ended though nobody takes its lines")
	}
	out.Resume()
	out.WaitFor(t, "the command's end", func() bool { return h.Last() != nil })
	got := out.Bodies()
	for i, b := range got {
		if b != fmt.Sprint(i+1) {
			t.Fatalf("line %d: %q", i, b)
		}
	}
	if len(got) != lines {
		t.Errorf("%d lines", len(got))
	}
	stop(t, out, r)
}

// An error of Emit is tried again with the same lines.
func TestEmitFails(t *testing.T) {
	out := componenttest.NewOutput()
	out.FailWith(func(emit int, _ *event.Batch) error {
		if emit == 0 {
			return errors.New("an interceptor failed")
		}
		return nil
	})
	env, h := componenttest.Env(t)
	r := componenttest.Run(t, componenttest.Source(t, env, "exec", "shell=/bin/sh -c", "command=echo a; echo b; sleep 1000", "batchSize=1"), out)
	out.Wait(t, 2)
	if got := out.Bodies(); !reflect.DeepEqual(got, []string{"a", "b"}) {
		t.Errorf("events %q", got)
	}
	out.WaitFor(t, "health", func() bool { return h.Last() == nil && len(h.All()) > 1 })
	stop(t, out, r)
}

// What the pipe holds when the agent stops is delivered, and what a command
// says on its way out.
func TestStopDrains(t *testing.T) {
	up := t.TempDir() + "/up"
	out := componenttest.NewOutput()
	out.Pause()
	env, _ := componenttest.Env(t)
	r := componenttest.Run(t, componenttest.Source(t, env, "exec", "shell=/bin/sh -c",
		"command=trap 'echo bye; exit 0' TERM; seq 1 500; touch "+up+"; while :; do sleep 0.01; done"), out)
	out.WaitFor(t, "the command", func() bool { _, err := os.Stat(up); return err == nil })
	stopped := make(chan struct{})
	go func() {
		defer close(stopped)
		r.Stop()
	}()
	out.Resume()
	<-stopped
	got := out.Bodies()
	if len(got) != 501 || got[499] != "500" || got[500] != "bye" {
		t.Errorf("%d events, the last of them %q", len(got), got[max(0, len(got)-2):])
	}
}

// A command that ignores SIGTERM is killed, with all that it started.
func TestStopKills(t *testing.T) {
	if testing.Short() {
		t.Skip("NOT CHECKED in short mode: that a command which ignores SIGTERM is killed")
	}
	mark := t.TempDir() + "/followed"
	if err := os.WriteFile(mark, []byte("x\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	// Ignored signals stay ignored in what the shell starts.
	out, _, r := start(t, "shell=/bin/sh -c", "command=trap '' TERM; tail -F "+mark+" | cat")
	out.Wait(t, 1)
	stop(t, out, r)
	waitGone(t, mark)
}

// Stop ends a Run whose lines nobody takes.
func TestStopWithoutContext(t *testing.T) {
	out := componenttest.NewOutput()
	out.Pause()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "exec", "command=cat /dev/zero")
	done := make(chan error, 1)
	src2 := componenttest.Source(t, env, "exec", "shell=/bin/sh -c", "command=seq 1 100000; sleep 1000")
	go func() { done <- src2.Run(context.Background(), out) }()
	out.WaitFor(t, "a batch that waits", func() bool { return out.Emits() == 1 })
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := src2.Stop(ctx); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil || !strings.Contains(err.Error(), "could not be delivered before the stop") {
		t.Errorf("%v", err)
	}
	if err := src.Stop(ctx); err != nil {
		t.Errorf("stop without a run: %v", err)
	}
}

// alive lists the processes whose command line has mark in it.
func alive(t *testing.T, mark string) []string {
	t.Helper()
	var found []string
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Skip("NOT CHECKED: that no process is left behind, which needs /proc")
	}
	for _, e := range entries {
		p, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && bytes.Contains(p, []byte(mark)) {
			found = append(found, e.Name()+" "+string(bytes.ReplaceAll(p, []byte{0}, []byte(" "))))
		}
	}
	return found
}

func waitGone(t *testing.T, mark string) {
	t.Helper()
	for deadline := time.Now().Add(3 * time.Minute); ; time.Sleep(10 * time.Millisecond) {
		left := alive(t, mark)
		if len(left) == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("left behind: %q", left)
		}
	}
}

// The processes of a pipeline that says nothing, so that no SIGPIPE can end
// it, are gone after the agent was killed with SIGKILL.
func TestNoOrphans(t *testing.T) {
	mark := t.TempDir() + "/followed"
	if err := os.WriteFile(mark, nil, 0o666); err != nil {
		t.Fatal(err)
	}
	cmd := osexec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), victimEnv+"=tail -F "+mark+" | cat")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	tail := func() bool {
		for _, p := range alive(t, mark) {
			if strings.Contains(p, " tail -F") {
				return true
			}
		}
		return false
	}
	for deadline := time.Now().Add(3 * time.Minute); !tail(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("tail did not come up")
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	waitGone(t, mark)
}

// When only the guard is killed the command does not go on either, and the
// source says so.
func TestGuardKilled(t *testing.T) {
	mark := t.TempDir() + "/followed"
	if err := os.WriteFile(mark, []byte("x\n"), 0o666); err != nil {
		t.Fatal(err)
	}
	out, h, r := start(t, "shell=/bin/sh -c", "command=tail -F "+mark+" | cat")
	out.Wait(t, 1)
	killed := false
	for _, p := range alive(t, mark) {
		if pid, cmdline, _ := strings.Cut(p, " "); strings.HasPrefix(cmdline, guardName) {
			if err := osexec.Command("kill", "-9", pid).Run(); err != nil {
				t.Fatal(err)
			}
			killed = true
		}
	}
	if !killed {
		t.Fatal("no guard found")
	}
	out.WaitFor(t, "health", func() bool { return h.Last() != nil })
	if !strings.Contains(h.Last().Error(), "guard was killed") {
		t.Errorf("health: %v", h.Last())
	}
	waitGone(t, mark)
	stop(t, out, r)
}

func TestLogStdErr(t *testing.T) {
	var log bytes.Buffer
	env := componenttest.QuietEnv()
	env.Log = slog.New(slog.NewTextHandler(&log, nil))
	health := make(chan error, 10)
	env.Health = func(err error) { health <- err }
	r := componenttest.Run(t, componenttest.Source(t, env, "exec", "shell=/bin/sh -c", "command=printf 'one\\n\\ntwo' >&2", "logStdErr=true"), componenttest.NewOutput())
	for err := range health {
		if err != nil {
			break
		}
	}
	r.Stop()
	for _, want := range []string{"StderrLogger[1] = 'one'", "StderrLogger[2] = ''", "StderrLogger[3] = 'two'"} {
		if !strings.Contains(log.String(), want) {
			t.Errorf("log has no %q:\n%s", want, log.String())
		}
	}
}

// cut feeds the pieces to a fresh reader and returns the lines.
func cut(max int, pieces ...[]byte) []string {
	l := newLines(event.NewPool(), charset.UTF8(), func() {})
	l.max = max
	got := []string{}
	take := func() {
		for _, line := range l.ready {
			got = append(got, string(line))
		}
		l.drop(len(l.ready))
	}
	for _, p := range pieces {
		for len(p) > 0 {
			n := copy(l.room(), p)
			l.filled(n)
			p = p[n:]
			take()
		}
	}
	l.end()
	take()
	l.close()
	if n := l.pool.Outstanding(); n != 0 {
		panic(fmt.Sprint(n, " blocks leaked"))
	}
	return got
}

func TestCut(t *testing.T) {
	long := strings.Repeat("x", 300_000)
	for _, tt := range []struct {
		max  int
		in   []string
		want []string
	}{
		{maxLine, []string{"a\nb"}, []string{"a", "b"}},
		{maxLine, []string{"a\r", "\nb\r", "c\n"}, []string{"a", "b", "c"}},
		{maxLine, []string{"\r\r\n\n\r"}, []string{"", "", "", ""}},
		{maxLine, []string{"a\r", "\r\n"}, []string{"a", ""}},
		{maxLine, []string{long, long + "\n", "y"}, []string{long + long, "y"}},
		{5, []string{"abcdefgh\nij"}, []string{"abcdefgh", "ij"}},
		{5, []string{"abcdefgh", "\nij"}, []string{"abcde", "fgh", "ij"}},
	} {
		var pieces [][]byte
		for _, p := range tt.in {
			pieces = append(pieces, []byte(p))
		}
		if got := cut(tt.max, pieces...); !reflect.DeepEqual(got, tt.want) {
			t.Errorf("%.30q: %.60q, want %.60q", tt.in, got, tt.want)
		}
	}
}

// javaLines is BufferedReader.readLine over the whole.
func javaLines(p string) []string {
	p = strings.ReplaceAll(p, "\r\n", "\n")
	p = strings.ReplaceAll(p, "\r", "\n")
	ls := strings.Split(p, "\n")
	if ls[len(ls)-1] == "" {
		ls = ls[:len(ls)-1]
	}
	return ls
}

func FuzzCut(f *testing.F) {
	f.Add([]byte("a\r\nb\rc\n\n"), uint8(2), uint16(1))
	f.Add([]byte("abc\r"), uint8(4), uint16(30_000))
	f.Fuzz(func(t *testing.T, p []byte, piece uint8, repeat uint16) {
		if piece == 0 || len(p)*int(repeat) > 200_000 {
			return
		}
		p = bytes.Repeat(p, int(repeat))
		var pieces [][]byte
		step := int(piece) * (1 + len(p)/1000)
		for i := 0; i < len(p); i += step {
			pieces = append(pieces, p[i:min(i+step, len(p))])
		}
		if got, want := cut(maxLine, pieces...), javaLines(string(p)); !reflect.DeepEqual(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
	})
}

// Blocks go when their lines have gone, also when some line always waits, and
// a batch holds the blocks of its own lines only.
func TestBlocksAreLetGo(t *testing.T) {
	pool := event.NewPool()
	chunk := []byte(strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", 3000))
	l := newLines(pool, charset.UTF8(), func() {})
	given, taken := 0, 0
	for range 50 {
		for p := chunk; len(p) > 0; {
			n := copy(l.room(), p)
			l.filled(n)
			given += bytes.Count(p[:n], []byte{'\n'})
			p = p[n:]
			for len(l.ready) > 10 { // as under a flood with batchTimeout
				b := pool.NewBatch()
				l.fill(b, 10)
				if n := len(b.Blocks()); n > 2 {
					t.Fatalf("10 lines hold %d blocks", n)
				}
				for _, e := range b.Events() {
					if string(e.Body) != string(chunk[:45]) {
						t.Fatalf("line %d is %q", taken, e.Body)
					}
					taken++
				}
				l.drop(10)
				b.Release()
			}
			if n := pool.Outstanding(); n > 3 {
				t.Fatalf("%d blocks are held for %d lines", n, len(l.ready))
			}
		}
	}
	if taken+len(l.ready) != given {
		t.Errorf("%d lines given, %d taken and %d wait", given, taken, len(l.ready))
	}
	l.close()
	if n := pool.Outstanding(); n != 0 || l.pinned != 0 {
		t.Errorf("%d blocks, %d bytes leaked", n, l.pinned)
	}
}

func TestLinesDoNotAllocate(t *testing.T) {
	pool := event.NewPool()
	chunk := []byte(strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", 1000))
	l := newLines(pool, charset.UTF8(), func() {})
	defer l.close()
	pass := func() {
		for p := chunk; len(p) > 0; {
			n := copy(l.room(), p)
			l.filled(n)
			p = p[n:]
			b := pool.NewBatch()
			l.fill(b, len(l.ready))
			l.drop(len(l.ready))
			b.Release()
		}
	}
	pass()
	if n := testing.AllocsPerRun(20, pass); n > 20 { // under the race detector pools lose things
		t.Errorf("%.1f allocations for 1,000 lines", n)
	}
}

func BenchmarkLines(b *testing.B) {
	pool := event.NewPool()
	chunk := []byte(strings.Repeat("20260101000000,X0001,60,60,60,60,A,1,1,1,1,80\n", 1000))
	l := newLines(pool, charset.UTF8(), func() {})
	defer l.close()
	b.SetBytes(int64(len(chunk)))
	b.ReportAllocs()
	for b.Loop() {
		for p := chunk; len(p) > 0; {
			n := copy(l.room(), p)
			l.filled(n)
			p = p[n:]
			batch := pool.NewBatch()
			l.fill(batch, len(l.ready))
			l.drop(len(l.ready))
			batch.Release()
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/line")
}
