// Package pilot runs the smart-car collection pipeline as processes of one
// executable: simulator, the handbook's agent with its two flows, broker and a
// consumer agent. It shows them on a live page, keeps them up, drains them at
// the end and has the ledger compare what arrived with what was written.
package pilot

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

// Options of a run.
type Options struct {
	// Exe is the executable whose commands broker, agent, sim and ledger are
	// run.
	Exe string
	// For is how long the simulated clock runs; 0 runs until ctx ends.
	For time.Duration
	// Speed is simulated seconds per second.
	Speed float64
	// Dir keeps the run's data and must be empty or absent; empty makes a
	// temporary directory, which is removed after a balanced run unless Keep
	// is set.
	Dir  string
	Keep bool
	// Days whole days of status are written first, as fast as possible.
	Days        int
	Seed        uint64
	Garbage     float64
	Cars        int
	RecordBytes int
	RotateBytes int64
	BurstEvery  int // simulated seconds
	// Listen is the page's address, Broker the broker's; a busy port is
	// replaced by a free one.
	Listen, Broker string
	// MaxData ends the run in order when its directory has grown to this many
	// bytes.
	MaxData int64
	Stdout  io.Writer
	// TTY says that Stdout is a terminal, on which the progress line is
	// redrawn in place.
	TTY bool
}

// Validate names the first option that is out of its limits.
func (o *Options) Validate() error {
	switch {
	case !(o.Speed > 0) || math.IsInf(o.Speed, 0):
		return fmt.Errorf("speed is %v: give simulated seconds per second, more than 0", o.Speed)
	case o.For < 0:
		return fmt.Errorf("for is %v: give a duration, or leave it out to run until Ctrl-C", o.For)
	case o.For > 0 && o.For.Seconds()*o.Speed < 1:
		return fmt.Errorf("%v at speed %v is less than a simulated second: nothing would happen", o.For, o.Speed)
	}
	return o.simConfig().Validate()
}

// simConfig is what the simulator is to write.
func (o *Options) simConfig() sim.Config {
	return sim.Config{
		Start: sim.FormatStamp(clockStart(o.For, o.Speed)), Days: o.Days, Cars: o.Cars, Seed: o.Seed, Garbage: o.Garbage,
		RecordBytes: o.RecordBytes, RotateBytes: o.RotateBytes, BurstEvery: o.BurstEvery, Status: true, Driver: true,
	}
}

// ErrUnbalanced is returned by Run when the ledger, which has been printed,
// does not balance.
var ErrUnbalanced = errors.New("the ledger does not balance")

const (
	readyTimeout   = 30 * time.Second
	brokerGrace    = 20 * time.Second
	agentGrace     = 40 * time.Second
	simGrace       = 30 * time.Second
	collectEvery   = 500 * time.Millisecond
	drainStalled   = 45 * time.Second
	drainQuiet     = 3 * time.Second
	sizeCheckEvery = 5 * time.Second
)

// pilot is a run.
type pilot struct {
	Options
	layout ledger.Layout
	began  time.Time
	start  int64 // simulated second of the clock's start
	broker string
	page   *page
	col    *collector
	con    *console
	conf   confFiles
	// temporary says that the directory is the run's own.
	temporary bool

	brokerProc, agentProc, consumerProc, simProc *child

	mu      sync.Mutex
	phase   string
	message string
	notes   []string
	result  *ledger.Result
	history []Point
	newest  State
}

// Run runs a pilot to its end and returns nil when the ledger balances.
func Run(ctx context.Context, o Options) (err error) {
	p := &pilot{Options: o, phase: phaseStarting, began: time.Now(), con: newConsole(o.Stdout, o.TTY), temporary: o.Dir == ""}
	if err := p.prepare(); err != nil {
		if p.page != nil {
			err = errors.Join(err, p.page.close())
		}
		if p.temporary && p.Dir != "" {
			err = errors.Join(err, removeAll(p.Dir))
		}
		return err
	}
	defer func() {
		// Whatever happened, nothing is left running.
		p.stopAll()
		p.col.close()
		phase, message := phaseDone, ""
		if err != nil {
			phase, message = phaseFailed, err.Error()
		}
		p.setPhase(phase, message)
		err = errors.Join(err, p.publish(), p.page.close())
		if p.temporary && err == nil && !o.Keep {
			err = removeAll(p.Dir)
		} else {
			p.con.say("The run's data are in %s", p.Dir)
		}
	}()

	stop := p.watch()
	defer stop()
	if err := p.startUp(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before the simulator ran; there is nothing to account for")
		}
		return err
	}
	if err := p.running(ctx); err != nil {
		return err
	}
	// From here on the end is orderly, whatever ctx says.
	return p.account(context.WithoutCancel(ctx))
}

// removeAll removes the temporary directory.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the run's data: %w", err)
	}
	return nil
}

// prepare makes the directories, takes the ports and opens the page.
func (p *pilot) prepare() error {
	if err := p.Validate(); err != nil {
		return err
	}
	var err error
	if p.Dir == "" {
		if p.Dir, err = os.MkdirTemp("", "sluice-pilot-"); err != nil {
			return fmt.Errorf("make the run's directory: %w", err)
		}
	} else if p.Dir, err = filepath.Abs(p.Dir); err != nil {
		return fmt.Errorf("find the run's directory: %w", err)
	}
	if entries, err := os.ReadDir(p.Dir); err == nil && len(entries) > 0 {
		return fmt.Errorf("%s is not empty: an earlier run's data would be counted with this one's; give another --dir", p.Dir)
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("read the run's directory: %w", err)
	}
	p.layout = ledger.LayoutOf(p.Dir)
	// The driver log's directory must be there before tail -F watches it.
	for _, d := range []string{p.layout.Conf, p.layout.Logs, p.layout.Broker, p.layout.Files, p.layout.Spool, filepath.Join(p.layout.Working, sim.DriverDir)} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return fmt.Errorf("make the run's directory: %w", err)
		}
	}
	// So must the log itself: GNU tail 9.1, when it began without the file,
	// loses it at the first rename.
	if err := os.WriteFile(filepath.Join(p.layout.Working, sim.DriverDir, sim.DriverLogName), nil, 0o644); err != nil {
		return fmt.Errorf("make the driver log: %w", err)
	}
	listener, err := p.listen()
	if err != nil {
		return err
	}
	p.page = newPage(listener)
	ports := &portPicker{tell: p.tell}
	brokerAddr, err := ports.pick("broker", p.Broker)
	if err != nil {
		return err
	}
	p.broker = brokerAddr
	agentPort, err := ports.port("metrics of "+agentName, "127.0.0.1:34545")
	if err != nil {
		return err
	}
	consumerPort, err := ports.port("metrics of "+consumerName, "127.0.0.1:34546")
	if err != nil {
		return err
	}
	if p.conf, err = writeConf(p.layout, p.broker); err != nil {
		return err
	}
	if p.col, err = newCollector(p.layout, p.broker, agentPort, consumerPort); err != nil {
		return err
	}
	p.plan(agentPort, consumerPort)
	p.con.say("Page:   %s", p.page.url)
	p.con.say("Broker: %s, topic %s", p.broker, p.layout.Topic)
	if p.temporary && !p.Keep {
		p.con.say("Data:   %s (removed when the ledger balances; --keep or --dir keep them)", p.Dir)
	} else {
		p.con.say("Data:   %s", p.Dir)
	}
	return nil
}

// plan describes the children.
func (p *pilot) plan(agentPort, consumerPort int) {
	mk := func(name string, args ...string) *child {
		return &child{name: name, exe: p.Exe, args: func(int) []string { return args }, log: filepath.Join(p.layout.Logs, name+".log"), tell: p.tell}
	}
	monitor := func(port int) []string {
		return []string{"-Dflume.monitoring.type=http", "-Dflume.monitoring.port=" + strconv.Itoa(port)}
	}
	p.brokerProc = mk("broker", "broker", "--listen", p.broker, "--data", p.layout.Broker, "--max-disk", "none") // MaxData bounds the run as a whole
	p.agentProc = mk(agentName, append([]string{"agent", "-n", agentName, "-f", p.conf.agent, "-f", p.conf.audit}, monitor(agentPort)...)...)
	p.agentProc.log = p.layout.AgentLog
	p.consumerProc = mk(consumerName, append([]string{"agent", "-n", consumerName, "-f", p.conf.consumer}, monitor(consumerPort)...)...)

	p.simProc = mk("simulator")
	p.simProc.finite = true
	p.simProc.args = func(n int) []string {
		c := p.simConfig()
		args := []string{"sim", "--dir", p.layout.Working, "--spool", p.layout.Spool, "--start", c.Start,
			"--speed", strconv.FormatFloat(p.Speed, 'g', -1, 64), "--days", strconv.Itoa(c.Days), "--cars", strconv.Itoa(c.Cars),
			"--seed", strconv.FormatUint(c.Seed, 10), "--garbage", strconv.FormatFloat(c.Garbage, 'g', -1, 64),
			"--record-bytes", strconv.Itoa(c.RecordBytes), "--rotate-bytes", strconv.FormatInt(c.RotateBytes, 10),
			"--burst-every", strconv.Itoa(c.BurstEvery) + "s"}
		if p.For > 0 {
			// By the simulated clock, not the real one: a slow machine takes
			// longer and writes the same bytes.
			end := clockStart(p.For, p.Speed) + int64(p.Days)*86400 + int64(p.For.Seconds()*p.Speed)
			args = append(args, "--until", sim.FormatStamp(end))
		}
		if n == 0 {
			return append(args, "--hold")
		}
		return append(args, "--resume")
	}
}

// clockStart puts a simulated midnight into the middle of the run, so that a
// day's file is completed in it at any speed. An open-ended run has its first
// midnight after half a minute.
func clockStart(run time.Duration, speed float64) int64 {
	if run == 0 {
		run = time.Minute
	}
	const day = 86400
	first, err := sim.ParseStamp("20160101")
	if err != nil {
		panic("pilot: " + err.Error())
	}
	half := int64(run.Seconds() * speed / 2)
	midnight := first + (half+day-1)/day*day
	if half == 0 {
		midnight = first + day
	}
	return midnight - half
}

func (p *pilot) children() []*child {
	return []*child{p.simProc, p.agentProc, p.consumerProc, p.brokerProc}
}

// startUp starts broker, agents and simulator in this order, each when what it
// needs serves.
func (p *pilot) startUp(ctx context.Context) error {
	p.brokerProc.start()
	if err := p.await(ctx, "the broker to answer", p.brokerProc, p.createTopic); err != nil {
		return err
	}
	p.agentProc.start()
	p.consumerProc.start()
	for _, a := range []struct {
		proc    *child
		url     string
		sources []string
	}{{p.agentProc, p.col.agent, []string{spoolSource, tailSource}}, {p.consumerProc, p.col.consumer, []string{topicSource}}} {
		err := p.await(ctx, a.proc.name+" to serve", a.proc, func(ctx context.Context) error {
			m, err := p.col.metrics(ctx, a.url)
			if err != nil {
				return err
			}
			for _, s := range a.sources {
				if !m.started(s) {
					return fmt.Errorf("source %s has not started", s)
				}
			}
			return nil
		})
		if err != nil {
			return err
		}
	}

	held, release, err := os.Pipe()
	if err != nil {
		return fmt.Errorf("make the simulator's pipe: %w", err)
	}
	p.simProc.stdin = held
	p.simProc.start()
	// tail -F begins with the last ten lines of what it finds. The simulator
	// writes its headings, which are garbage, and waits: once the source has
	// read one of them, tail is following and no record can be missed.
	err = p.await(ctx, tailSource+" to follow the driver log", p.simProc, func(ctx context.Context) error {
		m, err := p.col.metrics(ctx, p.col.agent)
		if err != nil {
			return err
		}
		if n, ok := m.num("SOURCE."+tailSource, "EventReceivedCount"); !ok || n == 0 {
			return errors.New("it has read nothing yet")
		}
		return nil
	})
	if err == nil {
		_, err = release.WriteString("go\n")
	}
	err = errors.Join(err, release.Close(), held.Close())
	if err != nil {
		return fmt.Errorf("start the simulator: %w", err)
	}
	p.setPhase(phaseRunning, "")
	return nil
}

// await repeats ask until it succeeds, and marks the child as serving.
func (p *pilot) await(ctx context.Context, what string, c *child, ask func(context.Context) error) error {
	p.setPhase(phaseStarting, "waiting for "+what)
	ctx, cancel := context.WithTimeout(ctx, readyTimeout)
	defer cancel()
	for {
		err := ask(ctx)
		if err == nil {
			c.serving()
			return nil
		}
		if dead := c.failure(); dead != nil {
			return dead
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w; the end of its log, %s:\n%s", what, err, c.log, tailOf(c.log, 15))
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// createTopic makes the handbook's topic: one partition, and no retention,
// which must not bite during a run.
func (p *pilot) createTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	never := kadm.StringPtr("-1")
	_, err := p.col.admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": never, "retention.bytes": never}, p.layout.Topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// watch collects and publishes the state until the returned function is
// called, which waits for it.
func (p *pilot) watch() (stop func()) {
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() {
		defer close(done)
		t := time.NewTicker(collectEvery)
		defer t.Stop()
		for {
			p.sample(ctx)
			select {
			case <-ctx.Done():
				return
			case <-t.C:
			}
		}
	}()
	return func() { cancel(); <-done }
}

// sample takes one sample, publishes it and moves the progress line.
func (p *pilot) sample(ctx context.Context) {
	s := p.col.collect(ctx)
	if ctx.Err() != nil {
		return
	}
	for i, c := range []*child{p.agentProc, p.consumerProc, p.brokerProc, p.simProc} {
		if p.col.answered[i] {
			c.serving()
		}
	}
	p.mu.Lock()
	p.newest = s
	if p.phase != phaseStarting {
		p.history = append(p.history, Point{time.Since(p.began).Milliseconds(), s.Status.OutRate, s.Topic.Rate, s.Consumer.OutRate})
		if len(p.history) > maxHistory {
			p.history = p.history[1:]
		}
	}
	phase := p.phase
	p.mu.Unlock()
	if err := p.publish(); err != nil {
		p.con.say("%v", err)
	}
	p.con.progress(time.Since(p.began), phase, s)
}

// publish sends the state to the open pages.
func (p *pilot) publish() error {
	p.mu.Lock()
	s := p.newest
	s.Phase, s.Message, s.Notes, s.Ledger = p.phase, p.message, p.notes, p.result
	s.History = append([]Point{}, p.history...)
	p.mu.Unlock()
	s.ElapsedMS, s.ForMS, s.Speed, s.Cars = time.Since(p.began).Milliseconds(), p.For.Milliseconds(), p.Speed, p.Cars
	for _, c := range p.children() {
		s.Processes = append(s.Processes, c.process())
	}
	return p.page.publish(&s)
}

func (p *pilot) setPhase(phase, message string) {
	p.mu.Lock()
	p.phase, p.message = phase, message
	p.mu.Unlock()
}

// maxNotes bounds what the page lists of deaths and busy ports.
const maxNotes = 20

// tell prints a line and shows it on the page.
func (p *pilot) tell(format string, args ...any) {
	line := fmt.Sprintf(format, args...)
	p.con.say("%s", line)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.notes = append(p.notes, time.Now().Format("15:04:05 ")+line)
	if len(p.notes) > maxNotes {
		p.notes = p.notes[1:]
	}
}

// running waits for the end of the run: the simulator's own, the signal, a
// child that cannot be kept up, or a full directory.
func (p *pilot) running(ctx context.Context) error {
	t := time.NewTicker(250 * time.Millisecond)
	defer t.Stop()
	sized := time.Now()
	for {
		select {
		case <-p.simProc.done:
			return p.simProc.failure()
		case <-ctx.Done():
			p.con.say("Stopping: the simulator first, then the rest once it is drained.")
			return p.simProc.stop(simGrace)
		case <-t.C:
		}
		for _, c := range p.children() {
			if err := c.failure(); err != nil {
				return err
			}
		}
		if p.MaxData > 0 && time.Since(sized) > sizeCheckEvery {
			sized = time.Now()
			if n := dirSize(p.Dir); n > p.MaxData {
				p.tell("the run's data have grown to %d MB: stopping in order before the disk is full", n>>20)
				return p.simProc.stop(simGrace)
			}
		}
	}
}

// dirSize adds up what a directory holds. Files that vanish meanwhile do not
// count.
func dirSize(dir string) (n int64) {
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return nil
		}
		if info, err := d.Info(); err == nil {
			n += info.Size()
		}
		return nil
	})
	return n
}

// account drains, stops the agents and has the ledger drawn up.
func (p *pilot) account(ctx context.Context) error {
	p.setPhase(phaseDraining, "waiting until everything has arrived")
	if err := p.drain(ctx); err != nil {
		return err
	}
	// Agent 1 may still hand over what its sources had in hand; only then is
	// the topic's end fixed and the consumer has it all.
	errAgent := p.agentProc.stop(agentGrace)
	if errAgent != nil {
		p.tell("%v", errAgent)
	}
	if err := p.drain(ctx); err != nil {
		return err
	}
	errConsumer := p.consumerProc.stop(agentGrace)
	if errConsumer != nil {
		p.tell("%v", errConsumer)
	}
	p.setPhase(phaseChecking, "comparing what arrived with what was written")
	if err := p.ledger(ctx); err != nil {
		return err
	}
	return errors.Join(errAgent, errConsumer)
}

// drain waits until the ends agree with what was written, or nothing moves any
// more. It is the ledger that judges; drain only waits.
func (p *pilot) drain(ctx context.Context) error {
	var before [8]int64
	moved := time.Now()
	for {
		for _, c := range p.children() {
			if err := c.failure(); err != nil {
				return err
			}
		}
		p.mu.Lock()
		s := p.newest
		p.mu.Unlock()
		now := [8]int64{s.Status.Received, s.Status.Delivered, s.Driver.Received, s.Driver.Delivered, s.Topic.End, s.Topic.Lag, s.Consumer.Received, s.Consumer.Delivered}
		if now != before {
			before, moved = now, time.Now()
		}
		quiet := time.Since(moved)
		idle := s.SpoolFiles == 0 && s.Status.ChannelSize == 0 && s.Driver.ChannelSize == 0 && s.Consumer.ChannelSize == 0 && s.Topic.Known && s.Topic.Lag == 0
		agree := s.Status.Delivered >= s.Sim.Status.Records && s.Topic.End >= s.Sim.Driver.Records && s.Consumer.Delivered >= s.Topic.End
		switch {
		case idle && agree && p.restarted() == 0 && quiet > 2*collectEvery:
			return nil
		case idle && quiet > drainQuiet:
			// After a restart, doubles can hide what is still under way.
			return nil
		case quiet > drainStalled:
			p.tell("nothing has moved for %v and not all is delivered: drawing up the ledger as it is", drainStalled)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(collectEvery / 2):
		}
	}
}

// restarted counts the restarts that may double events.
func (p *pilot) restarted() int {
	n := 0
	for _, c := range []*child{p.brokerProc, p.agentProc, p.consumerProc} {
		n += c.process().Restarts
	}
	return n
}

// ledger runs the ledger as a process of its own and reads its result back.
func (p *pilot) ledger(ctx context.Context) error {
	path := filepath.Join(p.Dir, "ledger.json")
	args := []string{"ledger", "--dir", p.Dir, "--bootstrap", p.broker, "--json", path}
	if p.restarted() > 0 {
		args = append(args, "--allow-duplicates")
	}
	p.con.endLine()
	// See child.keep: the death signal belongs to the thread.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.CommandContext(ctx, p.Exe, args...)
	cmd.Stdout, cmd.Stderr = p.Stdout, p.Stdout
	cmd.SysProcAttr = ChildAttr()
	err := cmd.Run()
	if data, rerr := os.ReadFile(path); rerr == nil {
		res := &ledger.Result{}
		if jerr := json.Unmarshal(data, res); jerr != nil {
			return fmt.Errorf("read the ledger's result: %w", jerr)
		}
		p.mu.Lock()
		p.result = res
		p.mu.Unlock()
		if err != nil && !res.Balanced {
			return ErrUnbalanced
		}
	}
	if err != nil {
		return fmt.Errorf("draw up the ledger: %w", err)
	}
	return nil
}

// stopAll stops what still runs, the broker last.
func (p *pilot) stopAll() {
	for _, c := range p.children() {
		grace := agentGrace
		if c == p.brokerProc {
			grace = brokerGrace
		}
		if err := c.stop(grace); err != nil && c.failure() == nil {
			p.con.say("%v", err)
		}
	}
}

// listen opens the page's port.
func (p *pilot) listen() (net.Listener, error) {
	l, err := net.Listen("tcp", p.Listen)
	if err == nil {
		return l, nil
	}
	host, port, serr := net.SplitHostPort(p.Listen)
	if serr != nil {
		return nil, fmt.Errorf("page address %q: %w; give HOST:PORT", p.Listen, serr)
	}
	l, ferr := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if ferr != nil {
		return nil, fmt.Errorf("open the page's port: %w", err)
	}
	p.con.say("Port %s for the page is busy; taking %s instead.", port, portOf(l.Addr()))
	return l, nil
}
