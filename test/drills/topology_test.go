//go:build linux

package drills

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// topology is several agents by the agent files of examples/, each on a host of its own, with shorter times.
type topology struct {
	name      string
	example   string
	files     []string      // of agents 1, 2, …
	senders   int           // so many of them follow a log; the others are the ends, which write files
	batch     int           // events of a call
	window    int           // how many lines of a sender are under way at most
	replicate bool          // each end must have every line, not one of them
	failover  bool          // to the first of the ends; the second stands by
	selector  string        // of the load balance; "": the example's
	unsynced  bool          // the channels' fsyncs are left to a timer
	call      time.Duration // connect-timeout, request-timeout
}

var (
	loadBalance = topology{name: "3 load balance", example: "3-fan-out", files: []string{"a1-load-balance", "a2", "a3"}, senders: 1, batch: 25, window: 2500, call: callTime}
	replication = topology{name: "3 replication", example: "3-fan-out", files: []string{"a1-replication", "a2", "a3"}, senders: 1, batch: 25, window: 2500, call: callTime, replicate: true}
	failover    = topology{name: "3 failover", example: "3-fan-out", files: []string{"a1-failover", "a2", "a3"}, senders: 1, batch: 25, window: 2500, call: callTime, failover: true}
	aggregation = topology{name: "4 aggregation", example: "4-aggregation", files: []string{"a1", "a2", "a3", "a4", "a5", "a6"}, senders: 4, batch: 10, window: 1000, call: callTime, failover: true}
)

const (
	// The times of the drill, in place of the examples' 5 s and 10 s. (A second is the least that connect-timeout and
	// request-timeout take.)
	callTime   = time.Second // connect-timeout, request-timeout
	maxPenalty = time.Second
	stopTime   = 3 * time.Second
	// lineLength is that of every line, so that a position says how many there are before it.
	lineLength   = 64
	channelRoom  = 3000 // events: the channels of topology 4's ends can be full
	endBatch     = 100  // of the file_roll sinks
	failoverTime = 2*callTime + maxPenalty
)

// TestTopologies has agents killed, frozen, cut off and restarted, and accounts for every line: it must be in the files of
// the ends (in a replication of each), and nothing that nobody wrote. SLUICE_DRILL_SEED with the seed of a round makes it
// the first one; SLUICE_DRILL_FAULT is a regular expression for the names of the faults that are wanted.
func TestTopologies(t *testing.T) {
	t.Parallel()
	binary := buildSluice(t)
	only, err := regexp.Compile(os.Getenv("SLUICE_DRILL_FAULT"))
	if err != nil {
		t.Fatalf("SLUICE_DRILL_FAULT: %v", err)
	}
	for _, top := range []topology{loadBalance, replication, failover, aggregation} {
		t.Run(top.name, func(t *testing.T) {
			t.Parallel()
			n := rounds(t)
			if top.senders == 1 {
				n = (n + 2) / 3 // the three forms of topology 3 together
			}
			seed := rand.Uint64()
			if s := os.Getenv("SLUICE_DRILL_SEED"); s != "" {
				var err error
				if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
					t.Fatalf("SLUICE_DRILL_SEED: %v", err)
				}
			}
			d := newTopologyDrill(t, top, binary)
			d.only = only
			counted := 0
			for tries := 0; counted < n; tries++ {
				if tries > 2*n+5 {
					t.Fatalf("only %d of %d rounds counted", counted, tries)
				}
				r, err := d.round(seed + uint64(tries))
				if err != nil {
					t.Fatalf("round %d, seed %d, %s: %v\n%s", tries, seed+uint64(tries), r.fault, err, d.logs())
				}
				t.Logf("round %d, seed %d: %v", tries, seed+uint64(tries), r)
				if r.underWay > 0 {
					counted++
				}
			}
			if err := d.finish(); err != nil {
				t.Fatalf("%v\n%s", err, d.logs())
			}
			d.report(counted)
		})
	}
}

// TestTopologyBalance counts what each of two agents gets by load balancing: half of it, within 5 %, also after one was
// away and is back.
func TestTopologyBalance(t *testing.T) {
	t.Parallel()
	binary := buildSluice(t)
	for _, p := range []struct {
		selector string
		batch    int
		lines    int
	}{
		{"round_robin", 25, 5000},
		// A share of 0.475 to 0.525 is five standard deviations of so many batches.
		{"random", 5, 50_000},
	} {
		t.Run(p.selector, func(t *testing.T) {
			t.Parallel()
			top := loadBalance
			top.batch = p.batch
			top.selector, top.unsynced = p.selector, true
			top.call = hang // a pause of the machine is no failure; one that is killed refuses connections at once
			d := newTopologyDrill(t, top, binary)
			count := func(when string) {
				before := [2]int{d.ends[0].lines, d.ends[1].lines}
				from := d.flows[0].written
				if err := errors.Join(d.flow(true), d.await("the lines that are counted", func() bool { return d.flows[0].written >= from+p.lines }),
					d.flow(false), d.await("an empty pipe", d.drained)); err != nil {
					t.Fatalf("%v\n%s", err, d.logs())
				}
				d.mu.Lock()
				defer d.mu.Unlock()
				got := [2]int{d.ends[0].lines - before[0], d.ends[1].lines - before[1]}
				all := got[0] + got[1]
				t.Logf("%s: %d lines, %d to agent 2, %d to agent 3: %+.2f %% of even", when, all, got[0], got[1], 200*float64(got[0])/float64(all)-100)
				if diff := 2*got[0] - all; max(diff, -diff)*20 > all {
					t.Errorf("%s: agent 2 has %d of %d lines, which is not within 5 %% of even", when, got[0], all)
				}
			}
			count("undisturbed")
			a2 := d.agents[1]
			err := errors.Join(d.flow(true), d.kill(a2), d.comes(1, 0), a2.start(), d.comes(0, 0), d.flow(false), d.await("an empty pipe", d.drained))
			if err != nil {
				t.Fatalf("%v\n%s", err, d.logs())
			}
			count("after agent 2 was away")
			if err := d.finish(); err != nil {
				t.Fatalf("%v\n%s", err, d.logs())
			}
		})
	}
}

func buildSluice(t *testing.T) string {
	t.Helper()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("build sluice: %v\n%s", err, out)
	}
	return binary
}

// topologyDrill is a topology that runs, and the account of its lines.
type topologyDrill struct {
	topology
	t       *testing.T
	net     *network
	dir     string
	agents  []*agentProcess
	only    *regexp.Regexp // names of faults
	faults  []string       // of each round
	took    map[string][]time.Duration
	counted map[string]int // rounds by fault that count
	excused map[int]bool   // rounds in which the log says why lines may have come twice
	tickers sync.WaitGroup
	ended   chan struct{}

	mu     sync.Mutex
	flows  []*flow
	ends   []*endFiles
	feeds  bool
	late   time.Duration // by how much the account came too late, all in all: the machine was busy, or paused
	failed error         // of the account or of what it reads
}

// flow is the numbered lines that one sender follows.
type flow struct {
	name      string
	log       *os.File
	positions string // file
	committed int    // lines that are in the sender's channel at least
	written   int
	delivered int        // lines that are wherever they must be
	came      [2][]uint8 // by end: how often each line did
	rounds    []int      // the first line of each
}

func (f *flow) line(n int) []byte {
	return fmt.Appendf(make([]byte, 0, lineLength), "%s %09d %050x\n", f.name, n, uint32(n)*2654435761)
}

// endFiles follows the files of an end.
type endFiles struct {
	number  int
	dir     string
	file    string // the one that is read
	at      int64
	rest    []byte
	lines   int
	awaited []int       // by flow: the line that is awaited, or any after it
	seen    []time.Time // by flow: when it came
}

// agentProcess is an agent on a host of its own.
type agentProcess struct {
	name string
	host *host
	args []string
	log  *os.File
	from int64 // where in the log the process begins
	cmd  *exec.Cmd
}

func newTopologyDrill(t *testing.T, top topology, binary string) *topologyDrill {
	t.Helper()
	net, err := newNetwork(t, len(top.files))
	if err != nil {
		t.Skipf("NOT CHECKED: agents that are killed, frozen and cut off from each other: %v", err)
	}
	d := &topologyDrill{topology: top, t: t, net: net, dir: t.TempDir(), took: map[string][]time.Duration{}, counted: map[string]int{}, excused: map[int]bool{}, ended: make(chan struct{})}
	define := []string{"-Ddir=" + d.dir, "-Dbind=0.0.0.0"}
	for i := range top.files {
		define = append(define, fmt.Sprintf("-Dhost%d=%s", i+1, net.hosts[i].addr()))
	}
	for i, file := range top.files {
		name := file[:2]
		conf := filepath.Join(d.dir, file+".conf")
		if err := d.rewrite(filepath.Join("../../examples", top.example, file+".conf"), conf, i < top.senders); err != nil {
			t.Fatal(err)
		}
		log, err := os.Create(filepath.Join(d.dir, name+".log"))
		if err != nil {
			t.Fatal(err)
		}
		a := &agentProcess{name: name, host: net.hosts[i], log: log,
			args: append([]string{binary, "agent", "--strict", "-n", name, "-f", conf, "--stop-timeout", stopTime.String()}, define...)}
		d.agents = append(d.agents, a)
		if i < top.senders {
			err = d.addFlow(name)
		} else {
			e := &endFiles{number: i - top.senders, dir: filepath.Join(d.dir, "out", name), awaited: make([]int, top.senders), seen: make([]time.Time, top.senders)}
			d.ends = append(d.ends, e)
			err = os.MkdirAll(e.dir, 0o755)
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if a.cmd != nil && a.cmd.ProcessState == nil {
				a.cmd.Process.Kill() // where the test ends early
				a.cmd.Wait()
			}
			a.log.Close()
		})
	}
	for _, a := range slices.Backward(d.agents) { // the ends first, so that none counts as failed yet
		if err := errors.Join(a.start(), a.isUp()); err != nil {
			t.Fatalf("%v\n%s", err, d.logs())
		}
	}
	d.tickers.Go(d.account)
	t.Cleanup(func() {
		if d.ended != nil {
			close(d.ended)
			d.tickers.Wait()
		}
	})
	return d
}

// rewrite makes the drill's agent file of an example's.
func (d *topologyDrill) rewrite(from, to string, sender bool) error {
	text, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	change := func(pattern, with string) {
		re := regexp.MustCompile(`(?m)` + pattern)
		if !re.Match(text) && err == nil {
			err = fmt.Errorf("agent file %s has nothing like %s", from, pattern)
		}
		text = re.ReplaceAll(text, []byte(with))
	}
	change(`^(\w+\.channels\.\w+)\.type = file$`, fmt.Sprintf("$0\n$1.capacity = %d\n$1.transactionCapacity = 1000\n"+
		"$1.maxFileSize = 1048576\n$1.checkpointInterval = 1000\n$1.minimumRequiredSpace = 1048576\n$1.fsyncPerTransaction = %v", channelRoom, !d.unsynced))
	if sender {
		change(`(connect-timeout|request-timeout) = \d+$`, fmt.Sprintf("$1 = %d", d.call.Milliseconds()))
		change(`\.batch-size = \d+$`, fmt.Sprintf(".batch-size = %d", d.batch))
		if !d.replicate {
			change(`(maxpenalty|maxTimeOut) = \d+$`, fmt.Sprintf("$1 = %d", maxPenalty.Milliseconds()))
		}
		if d.selector != "" {
			change(`(processor\.selector) = \w+$`, "$1 = "+d.selector)
		}
	} else {
		change(`(sink\.batchSize) = \d+$`, fmt.Sprintf("$1 = %d", endBatch))
	}
	if err != nil {
		return err
	}
	return os.WriteFile(to, text, 0o644)
}

func (d *topologyDrill) addFlow(name string) error {
	dir := filepath.Join(d.dir, "logs")
	if d.senders > 1 {
		dir = filepath.Join(dir, name)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	log, err := os.Create(filepath.Join(dir, "app.log"))
	d.flows = append(d.flows, &flow{name: name, log: log, positions: filepath.Join(d.dir, name, "position.json")})
	return err
}

func (a *agentProcess) start() (err error) {
	if a.from, err = a.log.Seek(0, io.SeekEnd); err != nil {
		return err
	}
	a.cmd = a.host.command(a.args[0], a.args[1:]...)
	a.cmd.Stdout, a.cmd.Stderr = a.log, a.log
	return a.cmd.Start()
}

// isUp waits until the agent's sources have started.
func (a *agentProcess) isUp() error {
	for began := time.Now(); time.Since(began) < hang; time.Sleep(5 * time.Millisecond) {
		b, err := a.said(a.from)
		if err != nil {
			return err
		}
		if bytes.Contains(b, []byte(`msg="source started"`)) {
			return nil
		}
	}
	return fmt.Errorf("agent %s does not start", a.name)
}

// said is the log from a place on.
func (a *agentProcess) said(from int64) ([]byte, error) {
	return io.ReadAll(io.NewSectionReader(a.log, from, 1<<40))
}

func (a *agentProcess) signal(s syscall.Signal) error {
	if err := a.cmd.Process.Signal(s); err != nil {
		return fmt.Errorf("%v to agent %s: %w", s, a.name, err)
	}
	return nil
}

// stopped waits for the end of an agent that was told to stop when d.late was late. It may run out of its time where the
// machine was paused, or too busy, for as long as the shortest part of the stop takes.
func (d *topologyDrill) stopped(a *agentProcess, late time.Duration) error {
	err := a.cmd.Wait()
	if err == nil {
		return nil
	}
	said, rerr := a.said(a.from)
	if rerr == nil && bytes.Contains(said, []byte("did not end in time")) && d.delays()-late >= stopTime/6 {
		return nil
	}
	return errors.Join(fmt.Errorf("agent %s did not stop in order: %w", a.name, err), rerr)
}

// account feeds the logs and reads what comes out, every few milliseconds.
func (d *topologyDrill) account() {
	for {
		d.mu.Lock()
		d.failed = errors.Join(d.failed, d.look())
		failed := d.failed != nil
		d.mu.Unlock()
		if failed {
			return
		}
		due := time.Now().Add(5 * time.Millisecond)
		select {
		case <-d.ended:
			return
		case <-time.After(time.Until(due)):
		}
		d.mu.Lock()
		d.late += time.Since(due)
		d.mu.Unlock()
	}
}

func (d *topologyDrill) look() error {
	for _, e := range d.ends {
		if err := d.read(e); err != nil {
			return err
		}
	}
	for _, f := range d.flows {
		n := min(d.window-(f.written-f.delivered), 500)
		if !d.feeds || n <= 0 {
			continue
		}
		var lines []byte
		for range n {
			lines = append(lines, f.line(f.written)...)
			f.written++
		}
		for e := range f.came {
			f.came[e] = append(f.came[e], make([]uint8, n)...)
		}
		if _, err := f.log.Write(lines); err != nil {
			return err
		}
	}
	return nil
}

// read takes what is new in an end's files. Each run of the agent begins a file, and none goes on with an older one.
func (d *topologyDrill) read(e *endFiles) error {
	files, err := os.ReadDir(e.dir)
	if err != nil {
		return err
	}
	for _, f := range files { // named by time, so in order
		if f.Name() < e.file {
			continue
		}
		if f.Name() != e.file {
			e.file, e.at, e.rest = f.Name(), 0, nil // half a line was left by a kill, and comes again
		}
		file, err := os.Open(filepath.Join(e.dir, e.file))
		if err != nil {
			return err
		}
		b, err := io.ReadAll(io.NewSectionReader(file, e.at, 1<<40))
		file.Close()
		if err != nil {
			return err
		}
		e.at += int64(len(b))
		e.rest = append(e.rest, b...)
		for {
			line, rest, whole := bytes.Cut(e.rest, []byte("\n"))
			if !whole {
				break
			}
			if err := d.arrived(e, line); err != nil {
				return err
			}
			e.rest = rest
		}
	}
	return nil
}

func (d *topologyDrill) arrived(e *endFiles, line []byte) error {
	if d.senders > 1 {
		header, rest, _ := bytes.Cut(line, []byte("} "))
		if !bytes.HasPrefix(rest, bytes.TrimPrefix(header, []byte("{origin="))) {
			return fmt.Errorf("agent %s wrote %.90q: its header is not that of its body", filepath.Base(e.dir), line)
		}
		line = rest
	}
	name, rest, _ := bytes.Cut(line, []byte(" "))
	number, _, _ := bytes.Cut(rest, []byte(" "))
	n, err := strconv.Atoi(string(number))
	i := slices.IndexFunc(d.flows, func(f *flow) bool { return f.name == string(name) })
	if err != nil || i < 0 || n < 0 || n >= d.flows[i].written || string(d.flows[i].line(n)) != string(line)+"\n" {
		return fmt.Errorf("agent %s wrote %.90q, which nobody sent", filepath.Base(e.dir), line)
	}
	f := d.flows[i]
	e.lines++
	first := f.came[e.number][n] == 0
	if f.came[e.number][n]++; f.came[e.number][n] == 255 {
		return fmt.Errorf("line %d of %s comes again and again", n, f.name)
	}
	if first && (f.came[1-e.number][n] > 0) == d.replicate {
		f.delivered++
	}
	if e.seen[i].IsZero() && n >= e.awaited[i] {
		e.seen[i] = time.Now()
	}
	return nil
}

// await waits until so is true.
func (d *topologyDrill) await(what string, so func() bool) error {
	began := time.Now()
	for {
		d.mu.Lock()
		ok, err := so(), d.failed
		d.mu.Unlock()
		switch {
		case err != nil:
			return err
		case ok:
			return nil
		case time.Since(began) > hang:
			return fmt.Errorf("%w: waited %v for %s; %s", errLost, hang, what, d.state())
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func (d *topologyDrill) drained() bool {
	return !slices.ContainsFunc(d.flows, func(f *flow) bool { return f.delivered < f.written })
}

func (d *topologyDrill) state() string {
	d.mu.Lock()
	defer d.mu.Unlock()
	var s strings.Builder
	for _, f := range d.flows {
		fmt.Fprintf(&s, "%s: %d lines written, %d delivered. ", f.name, f.written, f.delivered)
		for n := range f.written {
			if at := [2]uint8{f.came[0][n], f.came[1][n]}; at[0] == 0 && at[1] == 0 || d.replicate && (at[0] == 0 || at[1] == 0) {
				fmt.Fprintf(&s, "The first that is missing is %d (came %v). ", n, at)
				break
			}
		}
	}
	return s.String()
}

// flow turns the feeding of the logs on or off.
func (d *topologyDrill) flow(on bool) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.feeds = on
	return d.failed
}

// watch makes ready for comes.
func (d *topologyDrill) watch(end int, from func(*flow) int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for i, f := range d.flows {
		d.ends[end].awaited[i], d.ends[end].seen[i] = from(f), time.Time{}
	}
}

// comes waits until a line of each sender that is written after now has come to an end. It needs the logs to be fed.
func (d *topologyDrill) comes(end int, later time.Duration) error {
	time.Sleep(later)
	d.watch(end, func(f *flow) int { return f.written })
	return d.came(end)
}

func (d *topologyDrill) came(end int) error {
	return d.await(fmt.Sprintf("lines of all at %s", d.agents[d.senders+end].name), func() bool {
		return !slices.ContainsFunc(d.ends[end].seen, time.Time.IsZero)
	})
}

// delays is d.late.
func (d *topologyDrill) delays() time.Duration {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.late
}

// note notes how long after then what was awaited came.
func (d *topologyDrill) note(what string, end int, then time.Time) (longest time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, at := range d.ends[end].seen {
		d.took[what] = append(d.took[what], at.Sub(then))
		longest = max(longest, at.Sub(then))
	}
	return longest
}

var position = regexp.MustCompile(`"pos":(\d+)`)

// underWay is how many lines are in the senders' channels, or further, and not where they must be. What is in the
// channels is read from the position files, and before what is delivered: it is never too much.
func (d *topologyDrill) underWay() (n int, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, f := range d.flows {
		for _, name := range []string{f.positions, f.positions + ".recent"} {
			b, err := os.ReadFile(name)
			if err != nil && !errors.Is(err, os.ErrNotExist) {
				return 0, err
			}
			b = b[:bytes.LastIndexByte(b, '\n')+1] // whole lines
			for _, m := range position.FindAllSubmatch(b, -1) {
				at, err := strconv.Atoi(string(m[1]))
				if err != nil {
					return 0, err
				}
				f.committed = max(f.committed, at/lineLength)
			}
		}
		n += f.committed
	}
	d.failed = errors.Join(d.failed, d.look())
	for _, f := range d.flows {
		n -= f.delivered
	}
	return n, d.failed
}

// somethingUnderWay waits until lines are, as they must be for a round to count.
func (d *topologyDrill) somethingUnderWay() error {
	for began := time.Now(); time.Since(began) < hang; time.Sleep(2 * time.Millisecond) {
		if n, err := d.underWay(); n > 0 || err != nil {
			return err
		}
	}
	return fmt.Errorf("no lines are under way; %s", d.state())
}

// fault is what is done to the agents.
type fault struct {
	name  string
	lasts time.Duration
	loses *agentProcess // an end that the senders lose by it: they must turn to the other
	begin func(struck func()) error
	end   func() error
}

// draw draws a fault.
func (d *topologyDrill) draw(rng *rand.Rand) *fault {
	a := d.agents[rng.IntN(len(d.agents))]
	role := "a sender"
	if i := slices.Index(d.agents, a) - d.senders; i >= 0 {
		role = []string{"the first end", "the second end"}[i]
		if !d.failover {
			role = "an end"
		}
	}
	between := func(least, most int) time.Duration {
		return time.Duration(least+rng.IntN(most-least)) * time.Millisecond
	}
	long := rng.IntN(2) == 0
	length := func() (string, time.Duration) {
		if long {
			return "longer than the time-outs", callTime + between(200, 800)
		}
		return "shortly", between(50, 400)
	}
	switch p := rng.IntN(100); {
	case p < 35:
		return &fault{name: role + ": kill -9", lasts: between(0, 400), loses: a,
			begin: func(struck func()) error { err := d.kill(a); struck(); return err }, end: a.start}
	case p < 55:
		name, lasts := length()
		f := &fault{name: role + ": frozen " + name, lasts: lasts,
			begin: func(struck func()) error { err := a.signal(syscall.SIGSTOP); struck(); return err },
			end:   func() error { return a.signal(syscall.SIGCONT) }}
		if long {
			f.loses = a
		}
		return f
	case p < 80:
		name, lasts := length()
		way := []string{unplugged, unheard, deaf}[rng.IntN(3)]
		f := &fault{name: role + ": " + way + " " + name, lasts: lasts,
			begin: func(struck func()) error { err := d.net.cut(a.host, way); struck(); return err },
			end:   func() error { return d.net.mend(a.host, way) }}
		if long {
			f.loses = a
		}
		return f
	case p < 90:
		return d.restart(rng, between)
	default:
		return d.restartInTurn(rng, between)
	}
}

// restart stops all agents in an order and starts them in another.
func (d *topologyDrill) restart(rng *rand.Rand, between func(least, most int) time.Duration) *fault {
	f := &fault{name: "all: stopped in any order, started in any order", lasts: between(0, 100)}
	down, up := rng.Perm(len(d.agents)), rng.Perm(len(d.agents))
	pause := make([]time.Duration, len(d.agents))
	for i := range pause {
		pause[i] = between(0, 150)
	}
	f.begin = func(struck func()) error {
		late := d.delays()
		for i, k := range down {
			if err := d.agents[k].signal(syscall.SIGTERM); err != nil {
				return err
			}
			if i == 0 {
				struck()
			}
			time.Sleep(pause[i])
		}
		var errs []error
		for _, a := range d.agents {
			errs = append(errs, d.stopped(a, late))
		}
		return errors.Join(errs...)
	}
	f.end = func() error {
		for i, k := range up {
			if err := d.agents[k].start(); err != nil {
				return err
			}
			time.Sleep(pause[i])
		}
		return nil
	}
	return f
}

// restartInTurn stops and starts one agent after the other, in any order.
func (d *topologyDrill) restartInTurn(rng *rand.Rand, between func(least, most int) time.Duration) *fault {
	order, pause := rng.Perm(len(d.agents)), between(0, 150)
	return &fault{name: "all: restarted one after the other in any order", end: func() error { return nil }, begin: func(struck func()) error {
		for i, k := range order {
			a, late := d.agents[k], d.delays()
			if err := a.signal(syscall.SIGTERM); err != nil {
				return err
			}
			if i == 0 {
				struck()
			}
			if err := errors.Join(d.stopped(a, late), a.start()); err != nil {
				return err
			}
			time.Sleep(pause)
		}
		return nil
	}}
}

// kill is kill -9.
func (d *topologyDrill) kill(a *agentProcess) error {
	if err := a.cmd.Process.Kill(); err != nil {
		return fmt.Errorf("kill agent %s: %w", a.name, err)
	}
	a.cmd.Wait() // it was killed
	return nil
}

// topologyRound is what a round saw.
type topologyRound struct {
	fault             string
	lasted, took      time.Duration
	underWay          int           // committed lines that were not delivered at the fault
	failover, return_ time.Duration // 0: there was none
}

func (r topologyRound) String() string {
	s := fmt.Sprintf("%s, for %v: %d lines were under way", r.fault, r.lasted.Round(time.Millisecond), r.underWay)
	if r.failover > 0 {
		s += fmt.Sprintf("; the other took over after %v and gave back after %v", r.failover.Round(time.Millisecond), r.return_.Round(time.Millisecond))
	}
	return fmt.Sprintf("%s; the round took %v", s, r.took.Round(time.Millisecond))
}

// round feeds the logs, does something to the agents, and waits until every line is delivered.
func (d *topologyDrill) round(seed uint64) (r topologyRound, err error) {
	rng := rand.New(rand.NewPCG(seed, 1))
	f := d.draw(rng)
	for !d.only.MatchString(f.name) {
		f = d.draw(rng)
	}
	r.fault = f.name
	began := time.Now()
	d.mu.Lock()
	for _, fl := range d.flows {
		fl.rounds = append(fl.rounds, fl.written)
	}
	d.mu.Unlock()
	d.faults = append(d.faults, f.name)
	logs := make([]int64, len(d.agents))
	for i, a := range d.agents {
		if logs[i], err = a.log.Seek(0, io.SeekEnd); err != nil {
			return r, err
		}
	}
	if err := d.flow(true); err != nil {
		return r, err
	}
	time.Sleep(time.Duration(50+rng.IntN(200)) * time.Millisecond)
	if err := d.somethingUnderWay(); err != nil {
		return r, err
	}

	d.watch(1, func(*flow) int { return 0 })
	var then time.Time
	var struckErr error
	late := d.delays()
	if err := f.begin(func() {
		then = time.Now()
		r.underWay, struckErr = d.underWay()
	}); err != nil || struckErr != nil {
		return r, errors.Join(err, struckErr)
	}
	time.Sleep(time.Until(then.Add(f.lasts)))
	turns := d.failover && f.loses == d.agents[d.senders]
	if turns { // the fault lasts until all senders have turned to the other end
		if err := d.came(1); err != nil {
			return r, err
		}
		if r.failover = d.note("failover, "+f.name, 1, then); r.failover-(d.delays()-late) > failoverTime+10*time.Second {
			return r, fmt.Errorf("the other agent took over after %v; connect-timeout, request-timeout and maxpenalty are %v together", r.failover, failoverTime)
		}
	}
	if err := f.end(); err != nil {
		return r, err
	}
	r.lasted = time.Since(then)
	for _, a := range d.agents { // what ends one next must not find it before it is one
		if err := a.isUp(); err != nil {
			return r, err
		}
	}
	if d.failover { // all must turn back to the first end
		back, late := time.Now(), d.delays()
		if err := d.comes(0, 0); err != nil {
			return r, err
		}
		if turns {
			if r.return_ = d.note("return", 0, back); r.return_-(d.delays()-late) > failoverTime+10*time.Second {
				return r, fmt.Errorf("the first agent was used again after %v; connect-timeout, request-timeout and maxpenalty are %v together", r.return_, failoverTime)
			}
		}
	}
	if err := errors.Join(d.flow(false), d.await("an empty pipe", d.drained)); err != nil {
		return r, err
	}
	if r.took = time.Since(began); r.underWay > 0 {
		d.counted[f.name]++
	}
	return r, d.excuse(logs)
}

// repeats is what an agent says when it may send lines again that have arrived.
var repeats = regexp.MustCompile(`did not answer in time|is given up|did not end in time`)

// excuse looks for it in what the agents have said since the round began. What they say of the end of the round before, whose
// last calls may still have been under way, excuses that too.
func (d *topologyDrill) excuse(from []int64) error {
	for i, a := range d.agents {
		b, err := a.said(from[i])
		if err != nil {
			return err
		}
		if repeats.Match(b) {
			d.excused[len(d.faults)-1], d.excused[len(d.faults)-2] = true, true
		}
	}
	return nil
}

// finish stops all, the senders first, and looks at the account once more.
func (d *topologyDrill) finish() error {
	for _, a := range d.agents {
		late := d.delays()
		if err := errors.Join(a.signal(syscall.SIGTERM), d.stopped(a, late)); err != nil {
			return err
		}
	}
	close(d.ended)
	d.tickers.Wait()
	d.ended = nil
	if err := d.look(); err != nil {
		return err
	}
	for _, f := range d.flows {
		if f.delivered != f.written {
			return fmt.Errorf("%w: %s", errLost, d.state())
		}
	}
	return nil
}

// report says what came twice, and by which fault, how long what took, and how many rounds count.
func (d *topologyDrill) report(counted int) {
	type sum struct{ rounds, counted, lines, same, other int }
	sums := map[string]*sum{}
	var all sum
	again := 0 // by restarts in order
	for i, fault := range d.faults {
		s := sums[fault]
		if s == nil {
			s = &sum{counted: d.counted[fault]}
			sums[fault] = s
		}
		s.rounds++
		for _, f := range d.flows {
			to := f.written
			if i+1 < len(f.rounds) {
				to = f.rounds[i+1]
			}
			for n := f.rounds[i]; n < to; n++ {
				a, b := int(f.came[0][n]), int(f.came[1][n])
				same, other := max(a-1, 0)+max(b-1, 0), 0
				if !d.replicate && a > 0 && b > 0 {
					other = 1
				}
				s.lines, s.same, s.other = s.lines+1, s.same+same, s.other+other
				if strings.HasPrefix(fault, "all: ") && !d.excused[i] {
					again += same + other
				}
			}
		}
	}
	for _, name := range slices.Sorted(maps.Keys(sums)) {
		s := sums[name]
		all = sum{all.rounds + s.rounds, all.counted + s.counted, all.lines + s.lines, all.same + s.same, all.other + s.other}
		d.t.Logf("%s: %d rounds, %d count; of %d lines %d came again to the same end, %d to the other", name, s.rounds, s.counted, s.lines, s.same, s.other)
	}
	// A stop in order repeats nothing, but for a write that it had no time for, or a call that a pause of the machine ended.
	if again > 0 {
		d.t.Errorf("%d lines came again by restarts in order\n%s", again, d.logs())
	}
	for _, what := range slices.Sorted(maps.Keys(d.took)) {
		t := slices.Sorted(slices.Values(d.took[what]))
		d.t.Logf("%s: %d times; least %v, median %v, most %v", what, len(t), t[0].Round(time.Millisecond), t[len(t)/2].Round(time.Millisecond), t[len(t)-1].Round(time.Millisecond))
	}
	d.t.Logf("%d rounds, %d count: %d lines, none lost, none invented; %d came again to the same end, %d to the other", all.rounds, counted, all.lines, all.same, all.other)
}

// logs is the end of what the agents said.
func (d *topologyDrill) logs() string {
	var s strings.Builder
	for _, a := range d.agents {
		b, err := os.ReadFile(a.log.Name())
		if err != nil {
			fmt.Fprintf(&s, "%v\n", err)
		}
		fmt.Fprintf(&s, "--- agent %s ends with\n%s\n", a.name, b[max(0, len(b)-4000):])
	}
	return s.String()
}
