//go:build interop

package interop

import (
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// topology is an example under test: where its agents keep their
// things and the ports at which they find each other.
type topology struct {
	example string
	dir     string
	opts    []string
}

func newTopology(t *testing.T, example string, dirs []string, opts ...string) *topology {
	t.Helper()
	p := &topology{example: example, dir: t.TempDir()}
	p.opts = append([]string{"-Ddir=" + p.dir}, opts...)
	for _, d := range dirs {
		if err := os.MkdirAll(filepath.Join(p.dir, d), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

// exampleAgent is one agent of a topology.
type exampleAgent struct {
	*topology
	conf, name string
}

func (a exampleAgent) path(t *testing.T) string {
	t.Helper()
	path, err := filepath.Abs(filepath.Join("../../examples", a.example, a.conf))
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// sluice runs the agent in the binary under test.
func (a exampleAgent) sluice(t *testing.T) *sluiceProcess {
	t.Helper()
	p := startSluice(t, append([]string{"agent", "--strict", "-n", a.name, "-f", a.path(t)}, a.opts...)...)
	eventually(t, time.Minute, a.name+" works", func() error {
		if !strings.Contains(p.out.String(), `msg="source started"`) {
			return fmt.Errorf("%s has not started its source", a.name)
		}
		return nil
	})
	return p
}

// flumes runs agents in Apache Flume, all at once.
func flumes(t *testing.T, agents ...exampleAgent) []flumeAgent {
	t.Helper()
	fetched(t, "flume.sh")
	started := make([]flumeAgent, len(agents))
	errs := make([]error, len(agents))
	var wg sync.WaitGroup
	for i, a := range agents {
		f, conf := flumeAgent{filepath.Join(t.TempDir(), "flume")}, a.path(t)
		started[i] = f
		t.Cleanup(func() {
			if t.Failed() {
				t.Logf("log of %s in Flume (end):\n%s", a.conf, tail(f.log(), 3000))
			}
			f.kill(t)
		})
		wg.Go(func() {
			_, errs[i] = peer("flume.sh", []string{"FLUME_HEAP=128m", "FLUME_OPTS=" + strings.Join(a.opts, " ")}, "start", f.dir, conf, a.name)
		})
	}
	wg.Wait()
	for i, err := range errs {
		if err != nil {
			t.Fatalf("%s: %v", agents[i].conf, err)
		}
	}
	return started
}

// write appends n lines "PREFIX NUMBER" to a log.
func (p *topology) write(t *testing.T, log, prefix string, from, n int) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(p.dir, "logs", log), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "%s %d\n", prefix, from+i)
	}
	_, err = f.WriteString(b.String())
	if cerr := f.Close(); err != nil || cerr != nil {
		t.Fatal(err, cerr)
	}
}

// out are the different lines with a prefix that an agent has written.
func (p *topology) out(t *testing.T, agent, prefix string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(p.dir, "out", agent, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		data, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(data)) {
			if strings.HasPrefix(line, prefix+" ") && strings.HasSuffix(line, "\n") {
				got = append(got, line)
			}
		}
	}
	slices.Sort(got)
	return slices.Compact(got)
}

func (p *topology) arrive(t *testing.T, what, prefix string, n int, agents ...string) {
	t.Helper()
	eventually(t, 90*time.Second, what, func() error {
		var all []string
		for _, a := range agents {
			all = append(all, p.out(t, a, prefix)...)
		}
		slices.Sort(all)
		if got := len(slices.Compact(all)); got != n {
			return fmt.Errorf("%d of %d lines", got, n)
		}
		return nil
	})
}

// share appends n lines to an agent's log, and n more as long as one of ends has
// none of them: an agent that failed once, if only for a pause of the machine,
// is left out for some seconds. They have all arrived when it returns how many
// they are; sent is their prefix at the ends.
func (p *topology) share(t *testing.T, log, prefix string, n int, to *topology, sent string, ends ...string) int {
	t.Helper()
	lines := 0
	eventually(t, 3*time.Minute, "part of "+prefix+" at each end", func() error {
		p.write(t, log, prefix, lines, n)
		lines += n
		to.arrive(t, prefix, sent, lines, "a2", "a3", "a5", "a6")
		for _, end := range ends {
			if len(to.out(t, end, sent)) == 0 {
				return fmt.Errorf("agent %s has none of %d lines", end, lines)
			}
		}
		return nil
	})
	return lines
}

// listening waits for the ports of agents that Flume runs.
func listening(t *testing.T, ports ...int) {
	t.Helper()
	for _, port := range ports {
		eventually(t, time.Minute, "flume listens", func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
}

// TestExampleTopologies runs the agent files of examples/3-fan-out and
// examples/4-aggregation, unchanged, in Apache Flume and in Sluice side by
// side, and kills the agent that the others fail over from.
func TestExampleTopologies(t *testing.T) {
	t.Run("fan-out", func(t *testing.T) {
		const example, n = "3-fan-out", 5000
		var free ports
		port2, port3 := free.take(t), free.take(t)
		opts := []string{fmt.Sprintf("-Dport2=%d", port2), fmt.Sprintf("-Dport3=%d", port3)}
		ends := newTopology(t, example, []string{"out/a2", "out/a3"}, opts...)
		exampleAgent{ends, "a3.conf", "a3"}.sluice(t)
		// Agent 2 listens before agent 1 starts, which leaves out a sink that it cannot connect.
		a2 := flumes(t, exampleAgent{ends, "a2.conf", "a2"})[0]
		listening(t, port2)
		var agents []exampleAgent
		forms := map[string]*topology{}
		for _, form := range []string{"load-balance", "replication", "failover"} {
			forms[form] = newTopology(t, example, []string{"logs"}, opts...)
			agents = append(agents, exampleAgent{forms[form], "a1-" + form + ".conf", "a1"})
		}
		flumes(t, agents...)
		lines := map[string]int{}
		for form, shared := range map[string][]string{"load-balance": {"a2", "a3"}, "replication": {"a2", "a3"}, "failover": {"a2"}} {
			lines[form] = forms[form].share(t, "app.log", form, n, ends, form, shared...)
		}
		ends.arrive(t, "replicated lines at agent 2", "replication", lines["replication"], "a2")
		ends.arrive(t, "replicated lines at agent 3", "replication", lines["replication"], "a3")
		for _, a := range []string{"a2", "a3"} {
			t.Logf("agent %s: %d lines by load balancing, %d by failover", a, len(ends.out(t, a, "load-balance")), len(ends.out(t, a, "failover")))
		}
		a2.kill(t)
		for form, p := range forms {
			p.write(t, "app.log", form, lines[form], n)
		}
		ends.arrive(t, "failover's lines without agent 2", "failover", lines["failover"]+n, "a2", "a3")
		ends.arrive(t, "balanced lines without agent 2", "load-balance", lines["load-balance"]+n, "a2", "a3")
		ends.arrive(t, "replicated lines without agent 2", "replication", lines["replication"]+n, "a3")
	})
	t.Run("aggregation", func(t *testing.T) {
		const example, n = "4-aggregation", 2000
		var free ports
		port5, port6 := free.take(t), free.take(t)
		collectors := []string{"a1", "a2", "a3", "a4"}
		p := newTopology(t, example, []string{"logs/a1", "logs/a2", "logs/a3", "logs/a4", "out/a5", "out/a6"},
			fmt.Sprintf("-Dport5=%d", port5), fmt.Sprintf("-Dport6=%d", port6))
		exampleAgent{p, "a6.conf", "a6"}.sluice(t)
		// Agent 5 listens before the others start: whoever cannot reach it sends to agent 6 for a while.
		a5 := flumes(t, exampleAgent{p, "a5.conf", "a5"})[0]
		listening(t, port5)
		flumes(t, exampleAgent{p, "a1.conf", "a1"}, exampleAgent{p, "a2.conf", "a2"})
		exampleAgent{p, "a3.conf", "a3"}.sluice(t)
		exampleAgent{p, "a4.conf", "a4"}.sluice(t)
		lines := map[string]int{}
		sent := func(a string) string { return "{origin=" + a + "} line of " + a }
		for _, a := range collectors {
			lines[a] = p.share(t, a+"/app.log", "line of "+a, n, p, sent(a), "a5")
		}
		a5.kill(t)
		for _, a := range collectors {
			p.write(t, a+"/app.log", "line of "+a, lines[a], n)
		}
		for _, a := range collectors {
			p.arrive(t, "lines of "+a, sent(a), lines[a]+n, "a5", "a6")
			t.Logf("%s: %d lines at agent 5, %d at agent 6", a, len(p.out(t, "a5", sent(a))), len(p.out(t, "a6", sent(a))))
			if len(p.out(t, "a6", sent(a))) < n {
				t.Errorf("%s has not failed over", a)
			}
		}
	})
}
