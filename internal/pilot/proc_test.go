//go:build unix

package pilot

import (
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// The test binary is its own child: "child BEHAVIOUR".
func TestMain(m *testing.M) {
	if len(os.Args) > 2 && os.Args[1] == "child" {
		behave(os.Args[2])
		return
	}
	goleak.VerifyTestMain(m)
}

func behave(how string) {
	fmt.Println("child", how, "pid", os.Getpid())
	switch how {
	case "stay": // ends by SIGTERM
		time.Sleep(time.Minute)
	case "stubborn":
		signal.Ignore(syscall.SIGTERM)
		fmt.Println("ready")
		time.Sleep(time.Minute)
	case "finish":
	case "misconfigured":
		os.Exit(2)
	case "fail":
		fmt.Println("no luck")
		os.Exit(3)
	}
}

// told collects what a child's owner is told.
type told struct {
	mu    sync.Mutex
	lines []string
}

func (l *told) tell(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}

func (l *told) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func newChild(t *testing.T, how string) (*child, *told) {
	t.Helper()
	l := &told{}
	c := &child{name: how, exe: os.Args[0], args: func(int) []string { return []string{"child", how} }, log: filepath.Join(t.TempDir(), "log"), tell: l.tell}
	t.Cleanup(func() {
		if err := c.stop(time.Minute); err != nil && c.failure() == nil && how != "stubborn" {
			t.Error(err)
		}
	})
	return c, l
}

// until waits for a condition that must come.
func until(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(3 * time.Minute); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("%s never came", what)
}

func alive(pid int) bool { return syscall.Kill(pid, 0) == nil }

func TestChildIsStartedAgain(t *testing.T) {
	c, told := newChild(t, "stay")
	c.start()
	until(t, "a pid", func() bool { return c.process().PID != 0 })
	first := c.process().PID
	c.serving()
	if s := c.process().State; s != procUp {
		t.Errorf("state %s, want up", s)
	}
	if err := syscall.Kill(first, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "another pid", func() bool { p := c.process(); return p.PID != 0 && p.PID != first })
	if p := c.process(); p.Restarts != 1 || p.State != procStarting {
		t.Errorf("%+v", p)
	}
	if !strings.Contains(told.String(), "stay died (signal: killed); starting it again") {
		t.Errorf("told %q", told)
	}
	second := c.process().PID
	if err := c.stop(time.Minute); err != nil {
		t.Error(err)
	}
	if alive(second) {
		t.Error("the process is still there after stop")
	}
	if p := c.process(); p.State != procStopped || p.Restarts != 1 {
		t.Errorf("%+v", p)
	}
	if err := c.stop(time.Minute); err != nil {
		t.Errorf("a second stop: %v", err)
	}
}

func TestChildThatIgnoresSIGTERMIsKilled(t *testing.T) {
	c, _ := newChild(t, "stubborn")
	c.start()
	until(t, "its word", func() bool { data, _ := os.ReadFile(c.log); return strings.Contains(string(data), "ready") })
	pid := c.process().PID
	if err := c.stop(100 * time.Millisecond); err == nil || !strings.Contains(err.Error(), "was killed") {
		t.Errorf("stop: %v", err)
	}
	if alive(pid) {
		t.Error("the process is still there")
	}
}

func TestFiniteChildEnds(t *testing.T) {
	c, told := newChild(t, "finish")
	c.finite = true
	c.start()
	<-c.done
	if p := c.process(); p.State != procStopped || p.Restarts != 0 || told.String() != "" {
		t.Errorf("%+v, told %q", p, told)
	}
}

func TestChildThatDoesNotStayUp(t *testing.T) {
	c, told := newChild(t, "fail")
	c.finite = true // an end with failure is not the end meant
	c.start()
	<-c.done
	err := c.failure()
	if err == nil || !strings.Contains(err.Error(), "exit status 3") || !strings.Contains(err.Error(), "no luck") {
		t.Errorf("failure: %v", err)
	}
	if n := strings.Count(told.String(), "starting it again"); n != maxQuickDeaths-1 {
		t.Errorf("told of %d restarts, want %d", n, maxQuickDeaths-1)
	}
}

// What refuses its configuration is not tried again.
func TestChildWithBadConfiguration(t *testing.T) {
	c, told := newChild(t, "misconfigured")
	c.start()
	<-c.done
	if err := c.failure(); err == nil || told.String() != "" {
		t.Errorf("failure %v, told %q", err, told)
	}
}

// stop during the back-off must not wait for it, nor start another process.
func TestStopWhileRestarting(t *testing.T) {
	c, _ := newChild(t, "fail")
	c.down = time.Hour // a back-off that this test cannot sleep through
	c.start()
	until(t, "the back-off", func() bool { return c.process().State == procRestarting })
	if err := c.stop(time.Minute); err != nil {
		t.Error(err)
	}
	data, err := os.ReadFile(c.log)
	if err != nil {
		t.Fatal(err)
	}
	time.Sleep(2 * minBackoff)
	if again, _ := os.ReadFile(c.log); len(again) != len(data) {
		t.Error("a process was started after stop")
	}
}

// The address is read from what the present process wrote, not from its
// predecessor's lines.
func TestAnnounced(t *testing.T) {
	c, _ := newChild(t, "stay")
	c.announces = regexp.MustCompile(`pid (\d+)`)
	if _, err := c.announced(); err == nil {
		t.Error("a process that was not started has announced something")
	}
	c.start()
	var first, second string
	until(t, "the first address", func() bool { first, _ = c.announced(); return first != "" })
	if first != strconv.Itoa(c.process().PID) {
		t.Errorf("announced %s, pid %d", first, c.process().PID)
	}
	if err := syscall.Kill(c.process().PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	until(t, "the second address", func() bool { second, _ = c.announced(); return second != "" && second != first })
	if second != strconv.Itoa(c.process().PID) {
		t.Errorf("announced %s, pid %d", second, c.process().PID)
	}
}

func TestStopWithoutStart(t *testing.T) {
	c, _ := newChild(t, "stay")
	if err := c.stop(time.Minute); err != nil {
		t.Error(err)
	}
}

func TestTailOf(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	var all strings.Builder
	for i := range 2000 {
		all.WriteString("line " + strconv.Itoa(i) + "\n")
	}
	if err := os.WriteFile(path, []byte(all.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	if got := tailOf(path, 2); got != "line 1998\nline 1999\n" {
		t.Errorf("%q", got)
	}
	if got := tailOf(filepath.Join(path, "no"), 2); !strings.HasPrefix(got, "(") {
		t.Errorf("%q", got)
	}
}

// A child that the pilot kills itself stays away for as long as it is told to.
func TestKilledChildStaysAway(t *testing.T) {
	c, told := newChild(t, "stay")
	c.start()
	until(t, "a pid", func() bool { return c.process().PID != 0 })
	first, at := c.process().PID, time.Now()
	const down = 700 * time.Millisecond // more than the first back-off
	c.kill(down)
	until(t, "another pid", func() bool { p := c.process(); return p.PID != 0 && p.PID != first })
	if away := time.Since(at); away < down {
		t.Errorf("it was back after %v, want %v at least", away, down)
	}
	if !strings.Contains(told.String(), "killed") || !c.running() {
		t.Errorf("told %q, running %v", told, c.running())
	}
	if err := c.stop(time.Minute); err != nil || c.running() {
		t.Errorf("stop: %v, running %v", err, c.running())
	}
}
