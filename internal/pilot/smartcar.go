package pilot

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"

	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

// smartCar is the handbook's pipeline: simulator, the handbook's agent with
// its two flows, broker and a consumer agent.
type smartCar struct {
	*pilot
	layout ledger.Layout
	broker string // its address, once it is known; under mu
	early  int    // restarts before the simulator ran
	col    *collector

	brokerProc, agentProc, consumerProc, simProc *child
}

var _ pipeline = (*smartCar)(nil)

func newSmartCar(p *pilot) *smartCar { return &smartCar{pilot: p, layout: ledger.LayoutOf(p.Dir)} }

func (p *smartCar) prepare() error {
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
	p.plan()
	p.col = newCollector(p.layout, p.agentProc, p.consumerProc)
	return nil
}

// plan describes the children.
func (p *smartCar) plan() {
	p.brokerProc = p.newChild("broker", p.layout.Logs)
	p.brokerProc.grace = brokerGrace
	p.brokerProc.announces = regexp.MustCompile(`listening on (\S+:\d+)`)
	p.brokerProc.args = func(n int) []string {
		// MaxData bounds the run as a whole.
		return []string{"broker", "--listen", p.brokerListen(n), "--data", p.layout.Broker, "--max-disk", "none"}
	}
	conf := confPaths(p.layout, p.Hadoop)
	p.agentProc = p.newAgent(agentName, p.layout.Logs, p.properties, conf.agent...)
	p.agentProc.out = p.layout.AgentLog
	p.agentProc.log = filepath.Join(p.layout.Logs, agentName+"-messages.log")
	p.consumerProc = p.newAgent(consumerName, p.layout.Logs, p.properties, conf.consumer...)

	p.simProc = p.newSimulator("simulator", p.layout.Logs, p.layout.Working, p.layout.Spool, p.simConfig(), "--hold")
}

// properties are what the files of examples are told with -D.
func (p *smartCar) properties() []string {
	h := p.Hadoop
	if h == (ledger.Hadoop{}) {
		return nil
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	opts := []string{"-Ddir=" + p.Dir, "-Dbroker=" + p.broker}
	if h.HDFS != "" {
		opts = append(opts, "-Dhdfs="+strings.TrimRight(h.HDFS, "/"))
	}
	if h.HBase != "" {
		opts = append(opts, "-Dhbase="+h.HBase)
		if h.Table != "" {
			opts = append(opts, "-Dtable="+h.Table)
		}
	}
	return opts
}

// ends are the last parts of the two flows.
func (p *smartCar) ends() Ends {
	e := Ends{
		Status: End{Interceptors: "regex_filter", Channel: "memory channel", Sink: "logger", Arrived: "logged"},
		Driver: End{Interceptors: "regex_filter", Channel: "memory channel", Sink: "file_roll", Arrived: "in files"},
	}
	if p.Hadoop.HDFS != "" {
		e.Status.Interceptors, e.Status.Sink, e.Status.Arrived, e.Status.Place = "4 interceptors", "HDFS sink", "in HDFS", p.Hadoop.HDFS
	}
	if p.Hadoop.HBase != "" {
		e.Driver.Channel, e.Driver.Sink, e.Driver.Arrived, e.Driver.Place = "file channel", "HBase sink", "in HBase", cmp.Or(p.Hadoop.Table, ledger.DefaultTable)
	}
	return e
}

// brokerListen is where the broker's n-th start listens: first where it was
// asked to; on a free port when that one is busy; and for good on the one that
// it came up on, which the agents' files name.
func (p *smartCar) brokerListen(n int) string {
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

func (p *smartCar) children() []*child {
	return []*child{p.simProc, p.agentProc, p.consumerProc, p.brokerProc}
}

func (p *smartCar) simulators() []*child { return []*child{p.simProc} }

func (p *smartCar) tick(time.Duration) {}

func (p *smartCar) close() { p.col.close() }

// startUp starts broker, agents and simulator in this order, each when what it
// needs serves.
func (p *smartCar) startUp(ctx context.Context) error {
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
	p.early = restarts(p)
	p.setPhase(phaseRunning, "")
	return nil
}

// startBroker starts the broker and, once its address is known, writes the
// agents' files, makes the topic and begins to watch.
func (p *smartCar) startBroker(ctx context.Context) error {
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
	if err := writeConf(p.layout, p.Hadoop, p.broker); err != nil {
		return err
	}
	if err := p.col.setBroker(p.broker); err != nil {
		return err
	}
	return p.await(ctx, "the broker to make the topic", p.brokerProc, p.createTopic)
}

// createTopic makes the handbook's topic: one partition, and no retention,
// which must not bite during a run.
func (p *smartCar) createTopic(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	never := kadm.StringPtr("-1")
	_, err := p.col.kafka.Load().admin.CreateTopic(ctx, 1, 1, map[string]*string{"retention.ms": never, "retention.bytes": never}, p.layout.Topic)
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return nil
	}
	return err
}

// collect asks all processes for their numbers.
func (p *smartCar) collect(ctx context.Context) State {
	s := p.col.collect(ctx)
	for i, c := range []*child{p.agentProc, p.consumerProc, p.brokerProc, p.simProc} {
		if p.col.answered[i] {
			c.serving()
		}
	}
	e := p.ends()
	s.Ends = &e
	s.Series = []Series{
		{"status → log", "status", s.Status.OutRate},
		{"drivers → topic", "driver", s.Topic.Rate},
		{"topic → files", "consumer", s.Consumer.OutRate},
	}
	if p.Hadoop.HDFS != "" {
		s.Series[0].Name = "status → HDFS"
	}
	if p.Hadoop.HBase != "" {
		s.Series[2].Name = "topic → HBase"
	}
	return s
}

func (p *smartCar) progress(s State) string {
	e := p.ends()
	return fmt.Sprintf("status %s of %s %s  driver %s written, %s in the topic, %s %s  dropped %s  lag %s",
		group(s.Status.Delivered), group(s.Sim.Status.Records), e.Status.Arrived, group(s.Sim.Driver.Records), group(s.Topic.End),
		group(s.Consumer.Delivered), e.Driver.Arrived, group(s.Status.Dropped+s.Driver.Dropped), group(s.Topic.Lag))
}

// account drains, stops the agents and has the ledger drawn up.
func (p *smartCar) account(ctx context.Context) error {
	p.setPhase(phaseDraining, "waiting until everything has arrived")
	if err := p.drain(ctx); err != nil {
		return err
	}
	// Agent 1 may still hand over what its sources had in hand; only then is
	// the topic's end fixed and the consumer has it all.
	errAgent := p.end(p.agentProc)
	if p.Hadoop.HDFS != "" && p.agentProc.process().Restarts > 0 {
		// It may have had no time to end the file of the one that died, which HDFS keeps for
		// it for a minute. The ledger does, and counts what is in it.
		errAgent = nil
	}
	if err := p.drain(ctx); err != nil {
		return err
	}
	errConsumer := p.end(p.consumerProc)
	p.setPhase(phaseChecking, "comparing what arrived with what was written")
	flags := []string{"--bootstrap", p.broker}
	if h := p.Hadoop; h.HDFS != "" {
		flags = append(flags, "--hdfs", h.HDFS)
	}
	if h := p.Hadoop; h.HBase != "" {
		flags = append(flags, "--hbase", h.HBase, "--hbase-table", cmp.Or(h.Table, ledger.DefaultTable))
	}
	if err := p.ledger(ctx, p.restarted() > 0, flags...); err != nil {
		return err
	}
	return errors.Join(errAgent, errConsumer)
}

// end stops an agent, and tells when it did not end as it should.
func (p *smartCar) end(agent *child) error {
	err := agent.stop(agentGrace)
	if err != nil {
		err = fmt.Errorf("stop %s: %w; the end of its log, %s:\n%s", agent.name, err, agent.log, tailOf(agent.log, 3))
		p.tell("%v", err)
	}
	return err
}

// drain waits until the ends agree with what was written, or nothing moves any
// more. It is the ledger that judges; drain only waits.
func (p *smartCar) drain(ctx context.Context) error {
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

// restarted counts the restarts that may have doubled events.
func (p *smartCar) restarted() int { return restarts(p) - p.early }
