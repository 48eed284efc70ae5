//go:build interop

// Package interop runs the sluice binary against programs that this project
// did not write: Apache Kafka and its tools, kcat, kafka-python, Apache Flume.
//
//	go test -tags interop ./test/interop
//
// A program that cannot be had skips the tests that need it, with a line that
// says what was not checked. With CI=true in the environment they fail instead.
package interop

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

var binary string // the sluice under test, built once

func TestMain(m *testing.M) { os.Exit(runMain(m)) }

func runMain(m *testing.M) int {
	dir, err := os.MkdirTemp("", "sluice-interop-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	defer os.RemoveAll(dir)
	binary = filepath.Join(dir, "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/sluice").CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build sluice: %v\n%s", err, out)
		return 1
	}
	code := m.Run()
	if err := kafka.stop(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return max(code, 1)
	}
	return code
}

// missing ends the test: what it needs is not there.
func missing(t *testing.T, format string, args ...any) {
	t.Helper()
	why := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s (CI=true demands it)", why)
	}
	t.Skipf("NOT CHECKED: %s needs %s", t.Name(), why)
}

// program finds a command on the PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	p, err := exec.LookPath(name)
	if err != nil {
		missing(t, "the program %s", name)
	}
	return p
}

// python finds an interpreter that has kafka-python.
func python(t *testing.T) string { return pythonWith(t, "kafka") }

// pythonWith finds an interpreter that has a module.
func pythonWith(t *testing.T, module string) string {
	t.Helper()
	for _, p := range []string{os.Getenv("SLUICE_PYTHON"), "python3"} {
		if p != "" && exec.Command(p, "-c", "import "+module).Run() == nil {
			return p
		}
	}
	missing(t, "a Python with the module %s (SLUICE_PYTHON names the interpreter)", module)
	return ""
}

// peer runs one of the scripts in peers/.
func peer(script string, env []string, args ...string) (string, error) {
	cmd := exec.Command(filepath.Join("peers", script), args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("%s %s: %w\n%s", script, strings.Join(args, " "), err, stderr.String())
	}
	return stdout.String(), nil
}

// fetched makes sure that the jars of a peer are there.
func fetched(t *testing.T, script string, env ...string) {
	t.Helper()
	for _, p := range []string{"bash", "java", "mvn"} {
		program(t, p)
	}
	_, err := peer(script, env, "fetch")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 { // the script's word for a registry out of reach
		missing(t, "the jars of %s, which cannot be fetched: %v", script, err)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// freePort is a port for a server. It stays free while who listens there is
// down: it is below those that the system gives to connections.
func freePort(t *testing.T) int {
	t.Helper()
	return new(ports).take(t)
}

// realKafka is one Apache Kafka for all tests; each uses topics of its own.
type realKafka struct {
	once sync.Once
	dir  string
	addr string
	err  error
}

var kafka realKafka

// suiteProperties are what kafka-python's own broker settings say as far as its
// tests depend on them; the others do not mind.
const suiteProperties = `
node.id=0
controller.quorum.voters=0@127.0.0.1:%d
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
allow.everyone.if.no.acl.found=true
super.users=User:ANONYMOUS
group.min.session.timeout.ms=1000
num.partitions=4
`

func (k *realKafka) start(t *testing.T) string {
	t.Helper()
	fetched(t, "kafka.sh")
	k.once.Do(func() {
		port := new(ports).row(t, 101) // the controller has the last
		if k.dir, k.err = os.MkdirTemp("", "sluice-kafka-"); k.err != nil {
			return
		}
		props := ""
		if onKafka() { // the suites are run against it; the other tests want its own defaults
			props = filepath.Join(k.dir, "suites.properties")
			if k.err = os.WriteFile(props, fmt.Appendf(nil, suiteProperties, port+100), 0o644); k.err != nil {
				return
			}
		}
		_, k.err = peer("kafka.sh", []string{fmt.Sprintf("KAFKA_PORT=%d", port), "KAFKA_HEAP=512m", "KAFKA_PROPS=" + props}, "start", k.dir)
		k.addr = fmt.Sprintf("127.0.0.1:%d", port)
	})
	if k.err != nil {
		t.Fatal(k.err)
	}
	return k.addr
}

// topics counts those of ownTopic.
var topics atomic.Int32

// ownTopic is a name that no test has used, nor an earlier run of the same
// one: all share one Apache Kafka.
func ownTopic(name string) string { return fmt.Sprintf("%s-%d", name, topics.Add(1)) }

func (k *realKafka) stop() error {
	if k.dir == "" {
		return nil
	}
	_, err := peer("kafka.sh", nil, "stop", k.dir)
	return errors.Join(err, os.RemoveAll(k.dir))
}

// peerPID reads the file in which a script keeps the process of a peer.
func peerPID(t *testing.T, file string) int {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	var pid int
	if _, err := fmt.Sscan(string(b), &pid); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	return pid
}

// killPeer is kill -9 of such a process. Until it is gone its script would take it for one that runs.
func killPeer(t *testing.T, file string) {
	t.Helper()
	pid := peerPID(t, file)
	if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, fmt.Sprintf("process %d is gone", pid), func() error {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
			return nil
		}
		if err != nil {
			return err
		}
		zombie := bytes.HasPrefix(b[bytes.LastIndexByte(b, ')')+1:], []byte(" Z")) // nobody asks for its exit code
		if threads, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid)); zombie && (err != nil || len(threads) <= 1) {
			return nil
		}
		return errors.New("it is there")
	})
}

// sluiceProcess is the binary under test at work.
type sluiceProcess struct {
	cmd  *exec.Cmd
	out  *output
	done chan struct{} // closed after Wait; err is set before
	err  error
}

// output keeps what a process prints, safe to read while it runs.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

func startSluice(t *testing.T, args ...string) *sluiceProcess {
	t.Helper()
	return startSluiceIn(t, nil, args...)
}

// startSluiceIn has more in its environment.
func startSluiceIn(t *testing.T, env []string, args ...string) *sluiceProcess {
	t.Helper()
	p := &sluiceProcess{cmd: exec.Command(binary, args...), out: &output{}, done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env...)
	p.cmd.Dir, p.cmd.Stdout, p.cmd.Stderr = t.TempDir(), p.out, p.out
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.err = p.cmd.Wait(); close(p.done) }()
	t.Cleanup(func() {
		p.kill()
		if t.Failed() {
			t.Logf("sluice %s printed (end):\n%s", args[0], tail(p.out.String(), 4000))
		}
	})
	return p
}

func (p *sluiceProcess) alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// kill is kill -9.
func (p *sluiceProcess) kill() {
	p.cmd.Process.Kill() // the only error is that it has ended already
	<-p.done
}

// stop asks for an orderly end and wants exit code 0.
func (p *sluiceProcess) stop(t *testing.T) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatalf("stop sluice: %v\n%s", err, tail(p.out.String(), 4000))
	}
	select {
	case <-p.done:
		if p.err != nil {
			t.Fatalf("sluice %s ended with %v", p.cmd.Args[1], p.err)
		}
	case <-time.After(3 * time.Minute):
		t.Fatalf("sluice %s does not end on SIGTERM", p.cmd.Args[1])
	}
}

// startBroker runs the built-in broker; dir keeps its data, addr may be one
// that an earlier broker had.
func startBroker(t *testing.T, dir, addr string, args ...string) *sluiceProcess {
	t.Helper()
	p := startSluice(t, append([]string{"broker", "--listen", addr, "--data", dir}, args...)...)
	eventually(t, 3*time.Minute, "the broker listens", func() error {
		if !p.alive() {
			t.Fatalf("the broker ended: %v\n%s", p.err, p.out)
		}
		c, err := net.DialTimeout("tcp", addr, time.Second)
		if err == nil {
			err = c.Close()
		}
		return err
	})
	return p
}

// newBroker is a built-in broker for one test. With SLUICE_INTEROP_BROKER=kafka
// it is an Apache Kafka instead: a test that fails there too is itself wrong.
func newBroker(t *testing.T) (addr string) { return newBrokerWith(t, nil) }

// newBrokerWith is the same with flags for the built-in broker, if any.
func newBrokerWith(t *testing.T, flags func(addr string) []string) (addr string) {
	t.Helper()
	if os.Getenv("SLUICE_INTEROP_BROKER") == "kafka" {
		return kafka.start(t)
	}
	addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
	var args []string
	if flags != nil {
		args = flags(addr)
	}
	startBroker(t, filepath.Join(t.TempDir(), "data"), addr, args...)
	return addr
}

// eventually calls f until it returns nil, for at most limit. The limit is
// there to end a hung test, not to measure: it is generous, and a pause of the
// machine counts little.
func eventually(t *testing.T, limit time.Duration, what string, f func() error) {
	t.Helper()
	for waited := time.Duration(0); ; {
		begin := time.Now()
		err := f()
		if err == nil {
			return
		}
		if waited >= limit {
			t.Fatalf("%s: not within %v: %v", what, limit, err)
		}
		time.Sleep(50 * time.Millisecond)
		waited += min(time.Since(begin), 10*time.Second)
	}
}

// flumeMetrics asks an agent, Flume's or ours, for its counters by component and name.
func flumeMetrics(port int) (m map[string]map[string]string, err error) {
	resp, err := http.Get(fmt.Sprintf("http://127.0.0.1:%d/metrics", port))
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&m)
	return m, err
}

// clientOutput runs a client and returns its standard output.
func clientOutput(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		t.Fatalf("%s %s: %v\nstdout (end): %s\nstderr (end): %s", filepath.Base(name), strings.Join(args, " "), err,
			tail(stdout.String(), 1000), tail(stderr.String(), 3000))
	}
	return stdout.String()
}

func tail(s string, n int) string {
	if len(s) > n {
		return "…" + s[len(s)-n:]
	}
	return s
}

// sameLines compares two sequences and shows the first difference.
func sameLines(t *testing.T, what string, got, want []string) {
	t.Helper()
	if slices.Equal(got, want) {
		return
	}
	for i := range max(len(got), len(want)) {
		g, w := "(end)", "(end)"
		if i < len(got) {
			g = got[i]
		}
		if i < len(want) {
			w = want[i]
		}
		if g != w {
			t.Errorf("%s: %d lines, want %d; line %d is\n  %q, want\n  %q", what, len(got), len(want), i+1, g, w)
			return
		}
	}
}

func splitLines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}
