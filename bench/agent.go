package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// agent starts one of the two programs under test.
type agent interface {
	Name() string
	// Start runs the agent file conf in dir and returns when the process is there.
	Start(ctx context.Context, dir, conf string, port int) (process, error)
}

type process interface {
	PID() int
	Alive() bool
	Kill() error // kill -9
	Stop() error
	Log() string // the end of what it printed, for error messages
}

// flume runs Apache Flume through the script that the interop tests use too.
type flume struct {
	script string
	heap   string
	jars   string // FLUME_JARS
}

// agents are those that run a workload: Flume with the jars that it needs.
func (w workload) agents(turn []agent) []agent {
	var all []agent
	for _, a := range turn {
		if f, ok := a.(flume); ok {
			f.jars = w.sink.jars()
			a = f
		}
		all = append(all, a)
	}
	return all
}

func (flume) Name() string { return "flume" }

func (f flume) Start(ctx context.Context, dir, conf string, port int) (process, error) {
	home := filepath.Join(dir, "flume")
	cmd := exec.CommandContext(ctx, f.script, "start", home, conf, agentName)
	cmd.Env = append(os.Environ(), "FLUME_HTTP="+strconv.Itoa(port), "FLUME_HEAP="+f.heap, "FLUME_JARS="+f.jars)
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start flume: %w\n%s", err, out)
	}
	b, err := os.ReadFile(filepath.Join(home, "flume.pid"))
	if err != nil {
		return nil, fmt.Errorf("start flume: %w", err)
	}
	pid, _, _ := strings.Cut(string(b), " ")
	n, err := strconv.Atoi(pid)
	if err != nil {
		return nil, fmt.Errorf("start flume: read its pid file: %w", err)
	}
	return &flumeProcess{script: f.script, home: home, pid: n}, nil
}

type flumeProcess struct {
	script, home string
	pid          int
}

func (p *flumeProcess) PID() int    { return p.pid }
func (p *flumeProcess) Log() string { return tailOf(filepath.Join(p.home, "log")) }
func (p *flumeProcess) Alive() bool {
	_, err := cpuOf(p.pid)
	return err == nil
}

func (p *flumeProcess) Kill() error {
	if err := syscall.Kill(p.pid, syscall.SIGKILL); err != nil {
		return fmt.Errorf("kill flume: %w", err)
	}
	for p.Alive() {
		time.Sleep(time.Millisecond)
	}
	return nil
}

func (p *flumeProcess) Stop() error {
	if out, err := exec.Command(p.script, "stop", p.home).CombinedOutput(); err != nil {
		return fmt.Errorf("stop flume: %w\n%s", err, out)
	}
	return nil
}

// sluice runs the binary under test.
type sluice struct{ binary string }

func (sluice) Name() string { return "sluice" }

func (s sluice) Start(_ context.Context, dir, conf string, port int) (process, error) {
	log, err := os.Create(filepath.Join(dir, "sluice.log"))
	if err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	cmd := exec.Command(s.binary, "agent", "-n", agentName, "-f", conf,
		"-Dflume.monitoring.type=http", "-Dflume.monitoring.port="+strconv.Itoa(port))
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start sluice: %w", err)
	}
	p := &sluiceProcess{cmd: cmd, log: log.Name(), done: make(chan struct{})}
	go func() { p.err = cmd.Wait(); close(p.done) }()
	return p, nil
}

type sluiceProcess struct {
	cmd  *exec.Cmd
	log  string
	done chan struct{} // closed when the process has ended; err is set before
	err  error
}

func (p *sluiceProcess) PID() int    { return p.cmd.Process.Pid }
func (p *sluiceProcess) Log() string { return tailOf(p.log) }
func (p *sluiceProcess) Alive() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

func (p *sluiceProcess) Kill() error {
	if err := p.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill sluice: %w", err)
	}
	<-p.done
	return nil
}

// stopWait only ends a stop that hangs.
const stopWait = 2 * time.Minute

func (p *sluiceProcess) Stop() error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("stop sluice: %w", err)
	}
	select {
	case <-p.done:
	case <-time.After(stopWait):
		if err := p.cmd.Process.Kill(); err != nil {
			return fmt.Errorf("kill sluice: %w", err)
		}
		<-p.done
		return fmt.Errorf("stop sluice: not ended %v after SIGTERM, killed", stopWait)
	}
	if p.err != nil {
		return fmt.Errorf("stop sluice: %w\n%s", p.err, p.Log())
	}
	return nil
}

func tailOf(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	if len(b) > 3000 {
		b = b[len(b)-3000:]
	}
	return string(b)
}

// freePort asks the kernel for a port that nobody listens on now.
func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("find a free port: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// counters is /metrics: component → counter → value, every value a string.
type counters map[string]map[string]string

func (c counters) get(component, counter string) int64 {
	n, err := strconv.ParseInt(c[component][counter], 10, 64)
	if err != nil {
		return -1 // absent or not a number: never equal to what is awaited
	}
	return n
}

type metrics struct {
	url    string
	client http.Client
}

func newMetrics(port int) *metrics {
	return &metrics{url: fmt.Sprintf("http://127.0.0.1:%d/metrics", port), client: http.Client{Timeout: time.Minute}}
}

func (m *metrics) read(ctx context.Context) (counters, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, m.url, nil)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	resp, err := m.client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("read counters: %w", err)
	}
	var c counters
	if err := json.NewDecoder(bytes.NewReader(b)).Decode(&c); err != nil {
		return nil, fmt.Errorf("read counters: %w: %.200s", err, b)
	}
	return c, nil
}

// run is one measurement.
type run struct {
	Workload string  `json:"workload"`
	Agent    string  `json:"agent"`
	Round    int     `json:"round"`
	Events   int64   `json:"events"`        // lines that the source read
	Kept     int64   `json:"events_kept"`   // of them, passed on to the channel
	Wall     float64 `json:"wall_s"`        // from handing over the input until the last commit
	CPU      float64 `json:"cpu_s"`         // in that time, user and system, with waited-for children
	StartCPU float64 `json:"startup_cpu_s"` // before that time
	PeakKB   int64   `json:"rss_peak_kb"`   // most memory resident in that time
	Others   float64 `json:"others_cpus"`   // processors that everything else kept busy meanwhile: the noise
}

func (r run) perSecond() float64     { return float64(r.Events) / r.Wall }
func (r run) perCPU() float64        { return float64(r.Events) / r.CPU }
func (r run) perCPUStarted() float64 { return float64(r.Events) / (r.CPU + r.StartCPU) }

const settle = 500 * time.Millisecond

// measure starts a, hands it the corpus, waits until every event is through,
// checks the counts and stops it again.
func (b *bench) measure(ctx context.Context, a agent, w workload, c corpus, round int) (r run, err error) {
	ctx, cancel := context.WithTimeout(ctx, b.limit)
	defer cancel()
	r = run{Workload: w.Name, Agent: a.Name(), Round: round, Events: c.Lines, Kept: c.Kept}

	dir := filepath.Join(b.dir, fmt.Sprintf("%s-%s-%d", w.Name, a.Name(), b.seq()))
	if err := os.MkdirAll(filepath.Join(dir, "spool"), 0o755); err != nil {
		return r, fmt.Errorf("prepare run: %w", err)
	}
	defer func() {
		if err == nil {
			err = os.RemoveAll(dir)
		}
	}()
	in, err := b.input(ctx, w, dir, c)
	if err != nil {
		return r, err
	}
	defer func() {
		if err == nil && in.after != nil {
			err = in.after(ctx)
		}
	}()
	conf := filepath.Join(dir, "agent.conf")
	if err := os.WriteFile(conf, []byte(w.conf(in.place)), 0o644); err != nil {
		return r, fmt.Errorf("prepare run: %w", err)
	}
	port, err := freePort()
	if err != nil {
		return r, err
	}
	p, err := a.Start(ctx, dir, conf, port)
	if err != nil {
		return r, err
	}
	defer func() {
		if err != nil {
			err = fmt.Errorf("%w\n--- the end of its log:\n%s", err, p.Log())
		}
		err = errors.Join(err, p.Stop())
	}()

	m := newMetrics(port)
	want := w.takes(c)
	if err := waitFor(ctx, p, 50*time.Millisecond, func() (bool, error) {
		got, err := m.read(ctx)
		if err != nil {
			return false, nil // not listening yet
		}
		for ch := range want {
			if _, ok := got[ch]; !ok {
				return false, nil
			}
		}
		return true, nil
	}); err != nil {
		return r, fmt.Errorf("wait for %s to start: %w", a.Name(), err)
	}
	time.Sleep(settle)

	cpu0, err := cpuOf(p.PID())
	if err != nil {
		return r, err
	}
	if err := resetPeak(p.PID()); err != nil {
		return r, err
	}
	busy0, err := busyOf()
	if err != nil {
		return r, err
	}
	own0 := ownCPU()
	t0 := time.Now()
	if err := in.release(); err != nil {
		return r, err
	}
	if err := b.drained(ctx, p, m, w, c, dir, want); err != nil {
		return r, fmt.Errorf("%s: %w", a.Name(), err)
	}
	wall := time.Since(t0)
	own := ownCPU() - own0
	cpu1, err := cpuOf(p.PID())
	if err != nil {
		return r, err
	}
	busy1, err := busyOf()
	if err != nil {
		return r, err
	}
	if r.PeakKB, err = peakKB(p.PID()); err != nil {
		return r, err
	}
	r.Wall, r.CPU, r.StartCPU = wall.Seconds(), (cpu1 - cpu0).Seconds(), cpu0.Seconds()
	r.Others = max(0, (busy1-busy0-(cpu1-cpu0)-own).Seconds()/wall.Seconds())
	return r, in.check(ctx)
}

// drained waits for the flow's end. Asking an agent for its counters costs it
// CPU time, so a spool file is first watched until it is gone, and a pipe or a
// followed file is asked about rarely until it is nearly through.
func (b *bench) drained(ctx context.Context, p process, m *metrics, w workload, c corpus, dir string, want map[string]int64) error {
	if !w.kafka && !w.tail && !w.source {
		left := c.spoolNames()
		if err := waitFor(ctx, p, 2*time.Millisecond, func() (bool, error) {
			_, err := os.Lstat(filepath.Join(dir, "spool", left[0]))
			if errors.Is(err, os.ErrNotExist) {
				left, err = left[1:], nil
			}
			return len(left) == 0, err
		}); err != nil {
			return fmt.Errorf("wait for the spool files to be read (%d are left): %w", len(left), err)
		}
	}
	var last counters
	for {
		got, err := m.read(ctx)
		if err != nil {
			return fmt.Errorf("the process is gone or stuck (counters before: %v): %w", last, err)
		}
		last = got
		done, near := true, true
		for ch, n := range want {
			t := got.get(ch, "EventTakeSuccessCount")
			if t > n {
				return fmt.Errorf("%s handed over %d events, %d were put in", ch, t, n)
			}
			done, near = done && t == n, near && t >= n-n/10
		}
		if done && (!w.kafka || got.get("SINK.k1", "EventDrainSuccessCount") == c.Kept) {
			break
		}
		pause := 5 * time.Millisecond
		if w.sink != "" {
			pause = 20 * time.Millisecond // these flows take seconds, and near the end is long
		}
		if (w.kafka || w.tail || w.source) && !near {
			pause = 100 * time.Millisecond
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up waiting for the last event (awaited %v, counters %v): %w", want, last, context.Cause(ctx))
		case <-time.After(pause):
		}
	}
	// What a source reads again after its channel was full counts again as
	// received: in a hop, and before HDFS and HBase, the sink is slower than the source.
	counter := "EventReceivedCount"
	if w.hop != nil || w.sink != "" {
		counter = "EventAcceptedCount"
	}
	if got := last.get("SOURCE.r1", counter); got != c.Lines {
		return fmt.Errorf("source counted %d events (%s), the input has %d lines", got, counter, c.Lines)
	}
	return nil
}

func waitFor(ctx context.Context, p process, every time.Duration, ok func() (bool, error)) error {
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		done, err := ok()
		if err != nil || done {
			return err
		}
		if !p.Alive() {
			return errors.New("the process has ended")
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("gave up: %w", context.Cause(ctx))
		case <-t.C:
		}
	}
}

func ownCPU() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		slog.Warn("read own CPU time", "error", err)
		return 0
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
