package pilot

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/examples"
	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

// validateTopology names what does not go with the topology.
func (o *Options) validateTopology() error {
	if err := (ledger.Topology{Number: o.Topology, Form: o.Form}).Validate(); err != nil {
		return err
	}
	switch {
	case o.Topology == 1 && o.RotateBytes > 0:
		return errors.New("the client of topology 1 does not follow a log that is renamed: leave rotate-bytes out")
	case o.Topology != 2 && o.Days > 0:
		return fmt.Errorf("topology %d has no status log, of which days are; topology 2 has", o.Topology)
	case o.Topology == 4 && o.Cars < 4:
		return fmt.Errorf("cars is %d: topology 4 shares them out to four simulators, give 4 at least", o.Cars)
	case o.Kill && planOf(o.Topology, o.Form).victim == "":
		return errors.New("there is no agent that another stands in for: only topology 3 by failover and topology 4 show a kill")
	}
	return nil
}

// ShowsKill says whether a topology has an agent that another stands in for.
func ShowsKill(number int, form string) bool { return planOf(number, form).victim != "" }

// topology is a run of one of the four examples.
type topology struct {
	*pilot
	*plan
	prober
	layout ledger.Topology

	agents map[string]*child
	sims   map[string]*simulator
	client *client // of topology 1

	// ports are those of the agents' sources: any free one at the first
	// start, and from then on the one that was announced. Under mu.
	bound map[string]string

	diagram *Diagram
	live    map[string]*live // by the part's id

	killed int
	early  int // restarts before the simulators ran
}

var _ pipeline = (*topology)(nil)

// simulator is one of the run's, with what its manifest said last.
type simulator struct {
	*child
	dir            string
	clock          string
	status, driver LogState
	rates          [2]counter
}

// live are the numbers of a part.
type live struct {
	total    int64
	rate     float64
	size     int64 // of a channel
	capacity int64
	left     time.Duration // a sink is left out of its group for so long
	failed   int64         // batches that a sink could not deliver, and sends again
	active   string        // of a group: the sink that delivered last
}

// sourceAddress finds where a source says that it listens.
var sourceAddress = regexp.MustCompile(`msg=listening source=\S+ address="?\S+:(\d+)`)

func newTopology(p *pilot) *topology {
	t := &topology{
		pilot: p, plan: planOf(p.Topology, p.Form), prober: newProber(),
		layout: ledger.Topology{Number: p.Topology, Form: p.Form, Dir: p.Dir},
		agents: map[string]*child{}, sims: map[string]*simulator{}, bound: map[string]string{}, live: map[string]*live{},
	}
	t.diagram = t.draw()
	for _, n := range t.parts {
		t.live[n.id()] = &live{}
	}
	for _, w := range t.wires {
		if t.live[w.by] == nil {
			t.live[w.by] = &live{}
		}
	}
	return t
}

// simpleAuditFile is read after the agent file of topology 1.
const simpleAuditFile = `# The logger sink shows 16 bytes of an event. The ledger compares whole lines.
a1.sinks.k1.maxBytesToLog = 4096
# The longest driving record.
a1.sources.r1.max-line-length = 4096
`

// prepare makes the directories of the example's README, and the agent files.
func (t *topology) prepare() error {
	conf, logs := filepath.Join(t.Dir, "conf"), filepath.Join(t.Dir, "log")
	dirs := []string{conf, logs}
	links := map[string]string{} // to where a simulator writes its drivers' log
	working := t.layout.Simulators()
	switch t.Topology {
	case 2:
		dirs = append(dirs, filepath.Join(t.Dir, "status"))
		links[filepath.Join(t.Dir, "driving")] = working["simulator"]
	case 3:
		links[filepath.Join(t.Dir, "logs")] = working["simulator"]
	case 4:
		for name, dir := range working {
			links[filepath.Join(t.Dir, "logs", "a"+strings.TrimPrefix(name, "simulator "))] = dir
		}
	}
	for _, e := range t.ends {
		dirs = append(dirs, t.layout.Out(t.outOf(e)))
	}
	for _, dir := range working {
		dirs = append(dirs, filepath.Join(dir, sim.DriverDir))
	}
	for link := range links {
		dirs = append(dirs, filepath.Dir(link))
	}
	for _, d := range dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make the run's directory: %w", err)
		}
	}
	for link, dir := range links {
		if err := os.Symlink(filepath.Join(dir, sim.DriverDir), link); err != nil {
			return fmt.Errorf("make the run's directory: %w", err)
		}
	}
	for _, a := range t.plan.agents {
		text, err := examples.Files.ReadFile(t.example + "/" + a.file)
		if err != nil {
			return fmt.Errorf("read the example's agent file: %w", err)
		}
		files := []string{filepath.Join(conf, a.file)}
		texts := [][]byte{text}
		if t.Topology == 1 {
			files, texts = append(files, filepath.Join(conf, "audit.conf")), append(texts, []byte(simpleAuditFile))
		}
		for i, path := range files {
			if err := os.WriteFile(path, texts[i], 0o644); err != nil {
				return fmt.Errorf("write agent file: %w", err)
			}
		}
		c := t.newAgent(a.name, logs, t.properties, files...)
		if t.Topology == 1 { // the logger's lines, for the ledger, in a file of their own
			c.out, c.log = t.layout.Log(a.name), t.layout.Log(a.name+"-messages")
		}
		t.agents[a.name] = c
	}
	t.planSimulators(logs, working)
	return nil
}

// outOf is the directory below out/ of a sink at the end: named by the agent,
// or by the sink where one agent has several.
func (t *topology) outOf(e end) string {
	agent, sink, _ := strings.Cut(e.id, "."+string(sinkPart)+".")
	if t.Topology == 2 {
		return sink
	}
	return agent
}

// planSimulators plans one simulator, or one for each collecting agent.
func (t *topology) planSimulators(logs string, working map[string]string) {
	names := simulatorNames(working)
	for i, name := range names {
		c := t.simConfig()
		c.Status = t.Topology == 2
		if len(names) > 1 {
			c.Cars = t.Cars / len(names)
			if i < t.Cars%len(names) {
				c.Cars++
			}
			c.Seed = t.Seed + uint64(i)
		}
		spool := ""
		if c.Status {
			spool = filepath.Join(t.Dir, "status")
		}
		t.sims[name] = &simulator{child: t.newSimulator(name, logs, working[name], spool, c), dir: working[name]}
	}
}

func simulatorNames(working map[string]string) []string {
	var names []string
	for name := range working {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}

// properties are what the agents are told with -D.
func (t *topology) properties() []string {
	opts := []string{"-Ddir=" + t.Dir}
	t.mu.Lock()
	defer t.mu.Unlock()
	for agent, property := range t.ports {
		port := t.bound[agent]
		if port == "" {
			port = "0"
		}
		opts = append(opts, "-D"+property+"="+port)
	}
	return opts
}

// children end in the order in which events go.
func (t *topology) children() []*child {
	list := t.simulators()
	for _, a := range t.plan.agents {
		list = append(list, t.agents[a.name])
	}
	return list
}

func (t *topology) simulators() (list []*child) {
	for _, name := range simulatorNames(t.layout.Simulators()) {
		list = append(list, t.sims[name].child)
	}
	return list
}

func (t *topology) close() {
	if t.client != nil {
		t.client.stop()
	}
	t.http.CloseIdleConnections()
}

// startUp starts the agents, those at the ends first, then the simulators.
func (t *topology) startUp(ctx context.Context) error {
	for _, a := range slices.Backward(t.plan.agents) {
		c := t.agents[a.name]
		c.start()
		err := t.await(ctx, t.titles[a.name]+" to serve", c, func(ctx context.Context) error {
			m, err := t.metrics(ctx, c)
			if err != nil {
				return err
			}
			for _, n := range t.parts {
				if n.process == a.name && n.kind == sourcePart && !m.started(n.component) {
					return fmt.Errorf("source %s has not started", n.component)
				}
			}
			if t.ports[a.name] == "" {
				return nil
			}
			port, err := c.said(sourceAddress)
			t.mu.Lock()
			defer t.mu.Unlock()
			t.bound[a.name] = port
			return err
		})
		if err != nil {
			return err
		}
	}
	t.early = restarts(t)
	for _, c := range t.simulators() {
		c.start()
	}
	if t.Topology == 1 {
		log := filepath.Join(t.sims["simulator"].dir, sim.DriverDir, sim.DriverLogName)
		t.client = newClient(log, "127.0.0.1:"+t.bound["a1"])
		t.client.start()
	}
	t.setPhase(phaseRunning, "")
	return nil
}

const (
	// killEvery is the time between the kills of a run without an end, the
	// first of which comes after firstKill.
	killEvery = time.Minute
	firstKill = 15 * time.Second
	// longestDown is how long a killed agent stays away at most.
	longestDown = 6 * time.Second
)

// killAt is when the n-th kill is due, if there is one.
func (t *topology) killAt(n int) (time.Duration, bool) {
	switch {
	case !t.Kill:
		return 0, false
	case t.For > 0:
		return t.For / 3, n == 0
	}
	return firstKill + time.Duration(n)*killEvery, true
}

// tick kills the agent that another stands in for, when it is time.
func (t *topology) tick(running time.Duration) {
	at, ok := t.killAt(t.killed)
	if !ok || running < at {
		return
	}
	t.killed++
	down := longestDown
	if t.For > 0 {
		down = min(down, t.For/5)
	}
	t.tell("kill -9 of %s, to show the failover; it comes back in %v", t.titles[t.victim], down.Round(100*time.Millisecond))
	t.agents[t.victim].kill(down)
}

// account drains, stops the agents one after the other, as events go, and has
// the ledger drawn up.
func (t *topology) account(ctx context.Context) error {
	t.setPhase(phaseDraining, "waiting until everything has arrived")
	if err := t.drain(ctx); err != nil {
		return err
	}
	if t.client != nil {
		t.client.stop()
	}
	var errs []error
	for _, c := range t.children() {
		if err := c.stop(c.grace); err != nil {
			t.tell("%v", err)
			errs = append(errs, err)
		}
	}
	t.setPhase(phaseChecking, "comparing what arrived with what was written")
	flags := []string{"--topology", strconv.Itoa(t.Topology)}
	if t.Form != "" {
		flags = append(flags, "--form", t.Form)
	}
	if err := t.ledger(ctx, t.repeated(), flags...); err != nil {
		return err
	}
	return errors.Join(errs...)
}

// repeated says that events may have been sent twice: an agent was started
// again, or a sink did not hear in time that a batch had arrived.
func (t *topology) repeated() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return restarts(t) > t.early || t.newest.sum.failed > 0
}

// drain waits until the agents have read everything and hold nothing more, or
// nothing moves any more. It is the ledger that judges; drain only waits.
func (t *topology) drain(ctx context.Context) error {
	var before flowSum
	moved := time.Now()
	for {
		up := true
		for _, c := range t.children() {
			if err := c.failure(); err != nil {
				return err
			}
			up = up && (c.finite || c.process().State == procUp)
		}
		t.mu.Lock()
		s := t.newest
		t.mu.Unlock()
		if s.sum != before {
			before, moved = s.sum, time.Now()
		}
		quiet := time.Since(moved)
		switch {
		case up && s.sum.read >= s.sum.written && s.sum.waiting == 0 && quiet > 2*collectEvery && restarts(t) == t.early:
			return nil
		case up && s.sum.waiting == 0 && quiet > drainQuiet:
			// After a restart, counters do not tell what is still under way.
			return nil
		case quiet > drainStalled:
			t.tell("nothing has moved for %v and not all is delivered: drawing up the ledger as it is", drainStalled)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(collectEvery / 2):
		}
	}
}
