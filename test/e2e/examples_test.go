//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/test/ports"
)

// example starts an agent of an example as its README does.
func example(t *testing.T, conf, agent string, opts ...string) *proc {
	t.Helper()
	return start(t, "sluice", append([]string{"agent", "--strict", "-n", agent, "-f", filepath.Join("../../examples", conf)}, opts...)...)
}

// makeDirs makes directories that a README has its reader make.
func makeDirs(t *testing.T, dir string, subs ...string) {
	t.Helper()
	for _, sub := range subs {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
}

// rolled are all whole lines of a sink's files, sorted. One that is being written, or was when the agent was killed, is none.
func rolled(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var all []string
	for _, f := range files {
		for l := range strings.Lines(read(t, f)) {
			if whole, ok := strings.CutSuffix(l, "\n"); ok {
				all = append(all, whole)
			}
		}
	}
	slices.Sort(all)
	return all
}

func TestExampleSimple(t *testing.T) {
	_, port, err := net.SplitHostPort(ports.Reserve(t))
	if err != nil {
		t.Fatal(err)
	}
	p := example(t, "1-simple/flume.conf", "a1", "-Dport="+port)
	p.await("the source", func() bool { return strings.Contains(p.stderr(), `msg="source started"`) })
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewScanner(conn)
	for _, line := range []string{"hello", "world"} {
		fmt.Fprintln(conn, line)
		if !answers.Scan() || answers.Text() != "OK" {
			t.Fatalf("the answer to %q: %q, %v", line, answers.Text(), answers.Err())
		}
	}
	p.await("both lines", func() bool {
		log := p.stdout() + p.stderr()
		return strings.Contains(log, "68 65 6C 6C 6F") && strings.Contains(log, "77 6F 72 6C 64")
	})
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestExampleMultiplexing(t *testing.T) {
	dir := t.TempDir()
	makeDirs(t, dir, "status", "driving", "out/alarms", "out/normal", "out/driving")
	lines := func(sink string) []string { return rolled(t, filepath.Join(dir, "out", sink)) }
	p := example(t, "2-multiplexing/flume.conf", "a1", "-Ddir="+dir)
	var status, driving, alarms []string
	for i := range 1000 {
		engine := []string{"A", "B", "D", "C", "b"}[i%5]
		line := fmt.Sprintf("20260101%06d,A%04d,97,98,99,%d,1,1,1,1,%s,A,93", i, i%7, i%101, engine)
		status = append(status, line)
		if engine == "B" || engine == "C" {
			alarms = append(alarms, fmt.Sprintf("{car=A%04d, engine=%s, brakes=A, origin=status} %s", i%7, engine, line))
		}
		driving = append(driving, fmt.Sprintf("20260101%06d,A%04d,2,0,F,N,%d,D08", i, i%7, i%120))
	}
	status = append(status, "no record at all")
	writeFile(t, filepath.Join(dir, "records.csv"), strings.Join(status, "\n")+"\n")
	if err := os.Rename(filepath.Join(dir, "records.csv"), filepath.Join(dir, "status", "records.csv")); err != nil {
		t.Fatal(err)
	}
	half := len(driving) / 2
	writeFile(t, filepath.Join(dir, "driving", "driving.log"), strings.Join(driving[:half], "\n")+"\n")
	p.await("the first half of the driving records", func() bool { return len(lines("driving")) == half })
	appendFile(t, filepath.Join(dir, "driving", "driving.log"), strings.Join(driving[half:], "\n")+"\n")
	p.await("all records", func() bool {
		return len(lines("driving")) == len(driving) && len(lines("normal")) == len(status) && len(lines("alarms")) == len(alarms)
	})
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for sink, want := range map[string][]string{"driving": driving, "normal": status, "alarms": alarms} {
		slices.Sort(want)
		if got := lines(sink); !slices.Equal(got, want) {
			t.Errorf("%s: %d lines, the first %.300q; want %d, the first %.300q", sink, len(got), got[:min(2, len(got))], len(want), want[:2])
		}
	}
}

// chain is a topology of several agents at work.
type chain struct {
	t     *testing.T
	opts  []string // of every agent
	dir   string
	lines int // written so far
}

func newChain(t *testing.T, dirs []string, properties ...string) *chain {
	t.Helper()
	c := &chain{t: t, dir: t.TempDir()}
	c.opts = []string{"-Ddir=" + c.dir}
	for _, name := range properties {
		_, port, err := net.SplitHostPort(ports.Reserve(t))
		if err != nil {
			t.Fatal(err)
		}
		c.opts = append(c.opts, "-D"+name+"="+port)
	}
	makeDirs(t, c.dir, dirs...)
	return c
}

// start starts an agent and waits until its source is at work. It has patience with the next one: to the examples an agent
// that does not answer for five seconds has failed, which a pause of the machine must not be. One that was killed answers
// nothing either, and that is known at once.
func (c *chain) start(conf, agent string) *proc {
	c.t.Helper()
	path := filepath.Join(c.dir, filepath.Base(conf))
	timeouts := regexp.MustCompile(`(?m)-timeout = 5000$`)
	text := read(c.t, filepath.Join("../../examples", conf))
	if sends := strings.Contains(text, "connect-timeout"); sends != timeouts.MatchString(text) {
		c.t.Fatalf("%s has time-outs that this test does not know", conf)
	}
	writeFile(c.t, path, timeouts.ReplaceAllString(text, fmt.Sprintf("-timeout = %d", patience.Milliseconds())))
	p := start(c.t, "sluice", append([]string{"agent", "--strict", "-n", agent, "-f", path}, c.opts...)...)
	p.await("the source of "+agent, func() bool { return strings.Contains(p.stderr(), `msg="source started"`) })
	return p
}

// write appends n more lines to a log.
func (c *chain) write(log string, n int) {
	c.t.Helper()
	var b strings.Builder
	for range n {
		fmt.Fprintf(&b, "%s line %07d\n", log, c.lines)
		c.lines++
	}
	path := filepath.Join(c.dir, "logs", log)
	if _, err := os.Stat(path); os.IsNotExist(err) {
		writeFile(c.t, path, "")
	}
	appendFile(c.t, path, b.String())
}

// out are the lines that have arrived at an agent's sink.
func (c *chain) out(agent string) []string { return rolled(c.t, filepath.Join(c.dir, "out", agent)) }

// has says whether a line with this number or a higher one has arrived at an agent's sink: one that was written later than
// what the agent may find in its channel.
func (c *chain) has(agent string, number int) bool {
	return slices.ContainsFunc(c.out(agent), func(line string) bool {
		n, err := strconv.Atoi(line[strings.LastIndexByte(line, ' ')+1:])
		return err == nil && n >= number
	})
}

// kill ends an agent as a crash does.
func kill(p *proc) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGKILL); err != nil {
		p.t.Fatal(err)
	}
	<-p.done
}

// stop ends agents in order: what they hold has been delivered.
func stop(t *testing.T, agents ...*proc) {
	t.Helper()
	for _, p := range agents {
		if code := p.term(); code != 0 {
			t.Errorf("%s: exit code %d", p.cmd, code)
		}
	}
}

// different is how many different lines there are.
func different(lists ...[]string) int {
	all := slices.Concat(lists...)
	slices.Sort(all)
	return len(slices.Compact(all))
}

// Agents of the same job have the same file, but for their number.
func TestExampleFilesAgree(t *testing.T) {
	for _, c := range []struct {
		first  string
		others []string
	}{
		{"3-fan-out/a2", []string{"3-fan-out/a3"}},
		{"4-aggregation/a1", []string{"4-aggregation/a2", "4-aggregation/a3", "4-aggregation/a4"}},
		{"4-aggregation/a5", []string{"4-aggregation/a6"}},
	} {
		number := func(name string) string { return name[len(name)-1:] }
		// properties are those of a file, with N in place of the agent's number.
		properties := func(name string) string {
			r := strings.NewReplacer("a"+number(name), "aN", "port"+number(name), "portN", "4200"+number(name), "4200N")
			var b strings.Builder
			for line := range strings.Lines(read(t, filepath.Join("../../examples", name+".conf"))) {
				if !strings.HasPrefix(line, "#") {
					b.WriteString(r.Replace(line))
				}
			}
			return b.String()
		}
		for _, other := range c.others {
			if properties(c.first) != properties(other) {
				t.Errorf("%s.conf and %s.conf differ in more than the number", c.first, other)
			}
		}
	}
}

func TestExampleFanOut(t *testing.T) {
	const ex = "3-fan-out/"
	fanOut := func(t *testing.T) *chain {
		t.Parallel()
		return newChain(t, []string{"logs", "out/a2", "out/a3"}, "port2", "port3")
	}
	t.Run("load balancing", func(t *testing.T) {
		c := fanOut(t)
		a2, a3 := c.start(ex+"a2.conf", "a2"), c.start(ex+"a3.conf", "a3")
		c.write("app.log", 40_000)
		a1 := c.start(ex+"a1-load-balance.conf", "a1")
		a1.await("all lines", func() bool { return len(c.out("a2"))+len(c.out("a3")) >= c.lines })
		stop(t, a1, a2, a3)
		got2, got3 := c.out("a2"), c.out("a3")
		if n := different(got2, got3); n != c.lines || len(got2)+len(got3) != c.lines {
			t.Errorf("%d and %d lines arrived, %d different ones, of %d", len(got2), len(got3), n, c.lines)
		}
		// In turn: the last batch and one that was not full may differ.
		if d := len(got2) - len(got3); d > 2000 || d < -2000 {
			t.Errorf("%d lines at agent 2, %d at agent 3", len(got2), len(got3))
		}
	})
	t.Run("replication", func(t *testing.T) {
		c := fanOut(t)
		a3 := c.start(ex+"a3.conf", "a3")
		a1 := c.start(ex+"a1-replication.conf", "a1")
		c.write("app.log", 20_000)
		a1.await("all lines at agent 3, while agent 2 is away", func() bool { return len(c.out("a3")) >= c.lines })
		a2 := c.start(ex+"a2.conf", "a2")
		a1.await("all lines at agent 2", func() bool { return len(c.out("a2")) >= c.lines })
		stop(t, a1, a2, a3)
		for _, agent := range []string{"a2", "a3"} {
			if got := c.out(agent); different(got) != c.lines || len(got) != c.lines {
				t.Errorf("%s has %d lines, %d different ones, of %d", agent, len(got), different(got), c.lines)
			}
		}
	})
	t.Run("failover", func(t *testing.T) {
		c := fanOut(t)
		a2, a3 := c.start(ex+"a2.conf", "a2"), c.start(ex+"a3.conf", "a3")
		a1 := c.start(ex+"a1-failover.conf", "a1")
		c.write("app.log", 20_000)
		a1.await("all lines at agent 2", func() bool { return len(c.out("a2")) == c.lines })
		if got := c.out("a3"); len(got) > 0 {
			t.Errorf("%d lines at agent 3, although agent 2 was there", len(got))
		}
		kill(a2)
		c.write("app.log", 20_000)
		a1.await("lines at agent 3", func() bool { return different(c.out("a2"), c.out("a3")) == c.lines })
		a2 = c.start(ex+"a2.conf", "a2")
		later := c.lines
		a1.await("later lines at agent 2 again", func() bool {
			c.write("app.log", 100)
			return c.has("a2", later)
		})
		a1.await("the rest", func() bool { return different(c.out("a2"), c.out("a3")) == c.lines })
		stop(t, a1, a2, a3)
		got2, got3 := c.out("a2"), c.out("a3")
		if n := different(got2, got3); n != c.lines {
			t.Errorf("%d of %d lines arrived", n, c.lines)
		}
		t.Logf("%d lines at agent 2, %d at agent 3, %d written", len(got2), len(got3), c.lines)
	})
}

func TestExampleAggregation(t *testing.T) {
	t.Parallel()
	const ex = "4-aggregation/"
	collectors := []string{"a1", "a2", "a3", "a4"}
	c := newChain(t, []string{"logs/a1", "logs/a2", "logs/a3", "logs/a4", "out/a5", "out/a6"}, "port5", "port6")
	a5, a6 := c.start(ex+"a5.conf", "a5"), c.start(ex+"a6.conf", "a6")
	var agents []*proc
	writeAll := func(n int) {
		for _, a := range collectors {
			c.write(a+"/app.log", n)
		}
	}
	for _, a := range collectors {
		agents = append(agents, c.start(ex+a+".conf", a))
	}
	writeAll(5000)
	a6.await("all lines at agent 5", func() bool { return len(c.out("a5")) == c.lines })
	if got := c.out("a6"); len(got) > 0 {
		t.Errorf("%d lines at agent 6, although agent 5 was there", len(got))
	}
	kill(a5)
	kill(agents[1])
	writeAll(5000)
	agents[1] = c.start(ex+"a2.conf", "a2")
	a6.await("lines of all four at agent 6", func() bool { return different(c.out("a5"), c.out("a6")) == c.lines })
	a5 = c.start(ex+"a5.conf", "a5")
	later := c.lines
	a5.await("later lines at agent 5 again", func() bool {
		writeAll(100)
		return c.has("a5", later)
	})
	a5.await("the rest", func() bool { return different(c.out("a5"), c.out("a6")) == c.lines })
	stop(t, append(agents, a5, a6)...)
	got5, got6 := c.out("a5"), c.out("a6")
	if n := different(got5, got6); n != c.lines {
		t.Errorf("%d of %d lines arrived", n, c.lines)
	}
	for _, l := range slices.Concat(got5, got6) {
		// {origin=a1} a1/app.log line 0000000
		if origin, line, ok := strings.Cut(l, "} "); !ok || origin != "{origin="+line[:min(2, len(line))] {
			t.Fatalf("a line that nobody sent: %.200q", l)
		}
	}
	t.Logf("%d lines at agent 5, %d at agent 6, %d written", len(got5), len(got6), c.lines)
}
