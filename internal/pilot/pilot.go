// Package pilot runs the smart-car collection pipeline as processes of one
// executable: simulator, the handbook's agent with its two flows, broker and a
// consumer agent, with ends on this machine or in Hadoop; or the simulator's data through one of the four topologies of
// examples. It shows them on a live page, keeps them up, drains them at the end
// and has the ledger compare what arrived with what was written.
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
	"sync"
	"time"

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
	// Hadoop is where the flows end in place of the agent's log and the
	// consumer's files.
	Hadoop ledger.Hadoop
	// Topology is that of examples to run, 1 to 4, in place of the handbook's
	// pipeline; 0 for that. Form is the form of topology 3.
	Topology int
	Form     string
	// Kill has the pilot kill the agent that others fail over from, and start
	// it again.
	Kill   bool
	Stdout io.Writer
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
	if o.Topology != 0 {
		if err := o.validateTopology(); err != nil {
			return err
		}
	}
	if err := o.Hadoop.Validate(); err != nil {
		return err
	}
	if o.Hadoop.HBase != "" && o.RecordBytes > 0 {
		return errors.New("record-bytes makes a ninth field, for which the handbook's table has no column: leave it out, or hbase")
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
	readyTimeout   = 2 * time.Minute
	brokerGrace    = 20 * time.Second
	agentGrace     = 40 * time.Second
	simGrace       = 30 * time.Second
	collectEvery   = 500 * time.Millisecond
	drainStalled   = 45 * time.Second
	drainQuiet     = 3 * time.Second
	sizeCheckEvery = 5 * time.Second
)

// pipeline is what a run consists of: the handbook's pipeline, or a topology.
type pipeline interface {
	// prepare makes what is needed below the run's directory and plans the
	// children.
	prepare() error
	// children are the processes, in the order in which they are stopped.
	children() []*child
	// simulators are those of them that end by themselves.
	simulators() []*child
	// startUp starts the children, each when what it needs serves.
	startUp(ctx context.Context) error
	// tick is called several times a second while the simulators write.
	tick(running time.Duration)
	// collect takes a sample of all numbers.
	collect(ctx context.Context) State
	progress(s State) string
	// account drains, stops the agents and has the ledger drawn up.
	account(ctx context.Context) error
	close()
}

// pilot is a run.
type pilot struct {
	Options
	pipe  pipeline
	began time.Time
	page  *page
	con   *console
	// temporary says that the directory is the run's own.
	temporary bool

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
	if err := p.prepare(ctx); err != nil {
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
		p.pipe.close()
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
	if err := p.pipe.startUp(ctx); err != nil {
		if ctx.Err() != nil {
			return errors.New("interrupted before the simulator ran; there is nothing to account for")
		}
		return err
	}
	if err := p.running(ctx); err != nil {
		return err
	}
	// From here on the end is orderly, whatever ctx says.
	return p.pipe.account(context.WithoutCancel(ctx))
}

// removeAll removes the temporary directory.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove the run's data: %w", err)
	}
	return nil
}

// prepare makes the directories, takes the ports and opens the page.
func (p *pilot) prepare(ctx context.Context) error {
	if err := p.Validate(); err != nil {
		return err
	}
	if h := p.Hadoop; h.HDFS != "" || h.HBase != "" {
		p.con.say("Ends:   %s", h)
		if err := h.Check(ctx); err != nil {
			return err
		}
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
	if p.Topology != 0 {
		p.pipe = newTopology(p)
	} else {
		p.pipe = newSmartCar(p)
	}
	if err := p.pipe.prepare(); err != nil {
		return err
	}
	listener, err := p.listen()
	if err != nil {
		return err
	}
	p.page = newPage(listener)
	p.con.say("Page:   %s", p.page.url)
	if p.temporary && !p.Keep {
		p.con.say("Data:   %s (removed when the ledger balances; --keep or --dir keep them)", p.Dir)
	} else {
		p.con.say("Data:   %s", p.Dir)
	}
	return nil
}

// newChild is a process of the run that has its output in a directory.
func (p *pilot) newChild(name, logs string) *child {
	return &child{name: name, exe: p.Exe, log: filepath.Join(logs, name+".log"), tell: p.tell, grace: agentGrace}
}

// newAgent is an agent with its files and, from opts, what it is told beside
// them at each start.
func (p *pilot) newAgent(name, logs string, opts func() []string, files ...string) *child {
	c := p.newChild(name, logs)
	c.announces = metricsAddress
	c.args = func(int) []string {
		args := []string{"agent", "-n", name}
		for _, f := range files {
			args = append(args, "-f", f)
		}
		// The agent takes a free port and says which: a port that was free a
		// moment ago might now be another run's agent, which would answer too.
		// The position in the drivers' log is this run's, too.
		args = append(args, "-Duser.home="+p.Dir, "-Dflume.monitoring.type=http", "-Dflume.monitoring.host=127.0.0.1", "-Dflume.monitoring.port=0")
		if opts != nil {
			args = append(args, opts()...)
		}
		return args
	}
	return c
}

// metricsAddress finds where an agent says that its numbers are.
var metricsAddress = regexp.MustCompile(`metrics="?(http://[^\s"]+)`)

// newSimulator is a simulator that writes into dir; first are flags of its
// first start alone.
func (p *pilot) newSimulator(name, logs, dir, spool string, c sim.Config, first ...string) *child {
	proc := p.newChild(name, logs)
	proc.finite, proc.grace = true, simGrace
	proc.args = func(n int) []string {
		args := []string{"sim", "--dir", dir, "--start", c.Start,
			"--speed", strconv.FormatFloat(p.Speed, 'g', -1, 64), "--days", strconv.Itoa(c.Days), "--cars", strconv.Itoa(c.Cars),
			"--seed", strconv.FormatUint(c.Seed, 10), "--garbage", strconv.FormatFloat(c.Garbage, 'g', -1, 64),
			"--record-bytes", strconv.Itoa(c.RecordBytes), "--rotate-bytes", strconv.FormatInt(c.RotateBytes, 10),
			"--burst-every", strconv.Itoa(c.BurstEvery) + "s"}
		if spool != "" {
			args = append(args, "--spool", spool)
		}
		if !c.Status {
			args = append(args, "--no-status")
		}
		if p.For > 0 {
			// By the simulated clock, not the real one: a slow machine takes
			// longer and writes the same bytes.
			end := clockStart(p.For, p.Speed) + int64(c.Days)*86400 + int64(p.For.Seconds()*p.Speed)
			args = append(args, "--until", sim.FormatStamp(end))
		}
		if n == 0 {
			return append(args, first...)
		}
		return append(args, "--resume")
	}
	return proc
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
	s := p.pipe.collect(ctx)
	if ctx.Err() != nil {
		return
	}
	p.mu.Lock()
	p.newest = s
	if p.phase != phaseStarting {
		point := Point{ElapsedMS: time.Since(p.began).Milliseconds()}
		for _, sr := range s.Series {
			point.Rates = append(point.Rates, sr.Rate)
		}
		p.history = append(p.history, point)
		if len(p.history) > maxHistory {
			p.history = p.history[1:]
		}
	}
	phase := p.phase
	p.mu.Unlock()
	if err := p.publish(); err != nil {
		p.con.say("%v", err)
	}
	p.con.progress(time.Since(p.began), phase, s.Clock, p.pipe.progress(s))
}

// publish sends the state to the open pages.
func (p *pilot) publish() error {
	p.mu.Lock()
	s := p.newest
	s.Phase, s.Message, s.Notes, s.Ledger = p.phase, p.message, p.notes, p.result
	s.History = append([]Point{}, p.history...)
	p.mu.Unlock()
	s.ElapsedMS, s.ForMS, s.Speed, s.Cars = time.Since(p.began).Milliseconds(), p.For.Milliseconds(), p.Speed, p.Cars
	for _, c := range p.pipe.children() {
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
