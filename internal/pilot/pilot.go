// Package pilot runs the smart-car collection pipeline as processes of one
// executable: simulator, the handbook's agent with its two flows, broker and a
// consumer agent. It shows them on a live page, keeps them up, drains them at
// the end and has the ledger compare what arrived with what was written.
package pilot

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
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
	broker string // its address, once it is known; under mu
	early  int    // restarts before the simulator ran
	page   *page
	col    *collector
	con    *console
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

	p.col = newCollector(p.layout, p.agentProc, p.consumerProc)
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
	p.plan()
	p.con.say("Page:   %s", p.page.url)
	if p.temporary && !p.Keep {
		p.con.say("Data:   %s (removed when the ledger balances; --keep or --dir keep them)", p.Dir)
	} else {
		p.con.say("Data:   %s", p.Dir)
	}
	return nil
}

// plan describes the children.
func (p *pilot) plan() {
	mk := func(name string) *child {
		return &child{name: name, exe: p.Exe, log: filepath.Join(p.layout.Logs, name+".log"), tell: p.tell}
	}
	p.brokerProc = mk("broker")
	p.brokerProc.announces = regexp.MustCompile(`listening on (\S+:\d+)`)
	p.brokerProc.args = func(n int) []string {
		// MaxData bounds the run as a whole.
		return []string{"broker", "--listen", p.brokerListen(n), "--data", p.layout.Broker, "--max-disk", "none"}
	}
	agent := func(name string, files ...string) *child {
		args := []string{"agent", "-n", name}
		for _, f := range files {
			args = append(args, "-f", f)
		}
		// The agent takes a free port and says which: a port that was free a
		// moment ago might now be another run's agent, which would answer too.
		// The position in the drivers' log is this run's, too.
		args = append(args, "-Duser.home="+p.Dir, "-Dflume.monitoring.type=http", "-Dflume.monitoring.host=127.0.0.1", "-Dflume.monitoring.port=0")
		c := mk(name)
		c.announces = regexp.MustCompile(`metrics="?(http://[^\s"]+)`)
		c.args = func(int) []string { return args }
		return c
	}
	conf := confPaths(p.layout)
	p.agentProc = agent(agentName, conf.agent, conf.audit)
	p.agentProc.out = p.layout.AgentLog
	p.agentProc.log = filepath.Join(p.layout.Logs, agentName+"-messages.log")
	p.consumerProc = agent(consumerName, conf.consumer)

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

// brokerListen is where the broker's n-th start listens: first where it was
// asked to; on a free port when that one is busy; and for good on the one that
// it came up on, which the agents' files name.
func (p *pilot) brokerListen(n int) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.broker != "" {
		return p.broker
	}
	if n == 0 {
		l, err := net.Listen("tcp", p.Broker)
		if err == nil {
			err = l.Close()
		}
		if err == nil {
			return p.Broker
		}
	}
	host, _, err := net.SplitHostPort(p.Broker)
	if err != nil {
		return p.Broker // which the broker will refuse, saying why
	}
	return net.JoinHostPort(host, "0")
}

func (p *pilot) children() []*child {
	return []*child{p.simProc, p.agentProc, p.consumerProc, p.brokerProc}
}

// startUp starts broker, agents and simulator in this order, each when what it
// needs serves.
func (p *pilot) startUp(ctx context.Context) error {
	if err := p.startBroker(ctx); err != nil {
		return err
	}
	p.agentProc.start()
	p.consumerProc.start()
	for _, a := range []struct {
		proc    *child
		sources []string
	}{{p.agentProc, []string{spoolSource, tailSource}}, {p.consumerProc, []string{topicSource}}} {
		err := p.await(ctx, a.proc.name+" to serve", a.proc, func(ctx context.Context) error {
			m, err := p.col.metrics(ctx, a.proc)
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
		m, err := p.col.metrics(ctx, p.agentProc)
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
	// Who died before there was anything to lose has doubled nothing.
	p.early = p.allRestarts()
	p.setPhase(phaseRunning, "")
	return nil
}

// startBroker starts the broker and, once its address is known, writes the
// agents' files, makes the topic and begins to watch.
func (p *pilot) startBroker(ctx context.Context) error {
	p.brokerProc.start()
	if err := p.await(ctx, "the broker to listen", p.brokerProc, func(context.Context) error {
		addr, err := p.brokerProc.announced()
		if err != nil {
			return err
		}
		p.mu.Lock()
		defer p.mu.Unlock()
		p.broker = addr
		return nil
	}); err != nil {
		return err
	}
	if _, want, err := net.SplitHostPort(p.Broker); err == nil && want != "0" && !strings.HasSuffix(p.broker, ":"+want) {
		p.tell("Port %s for the broker is busy; taking %s instead.", want, p.broker)
	}
	p.con.say("Broker: %s, topic %s", p.broker, p.layout.Topic)
	if err := writeConf(p.layout, p.broker); err != nil {
		return err
	}
	if err := p.col.setBroker(p.broker); err != nil {
		return err
	}
	return p.await(ctx, "the broker to make the topic", p.brokerProc, p.createTopic)
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
	_, err := p.col.kafka.Load().admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": never, "retention.bytes": never}, p.layout.Topic)
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
	p.tell("Port %s for the page is busy; taking %s instead.", port, l.Addr())
	return l, nil
}
