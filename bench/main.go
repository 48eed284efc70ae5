// Command bench runs Sluice in turn with Apache Flume on the same agent files,
// and with Apache Kafka under the same load, and prints their ratios. See
// README.md in this directory.
package main

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"
)

type bench struct {
	dir    string
	broker string        // bootstrap address of Apache Kafka; empty until needed
	limit  time.Duration // of one run
	runs   int           // started so far, for directory and topic names
	touch  int64         // bytes of memory to touch before the broker's rows
	hadoop hadoop
}

func (b *bench) seq() int { b.runs++; return b.runs }

type options struct {
	smoke, check   bool
	rounds         int
	only           *regexp.Regexp
	agents         []string
	binary, peers  string
	heap, jsonFile string
	lines          int64
	times          int
	broker         string
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		stop()
		os.Exit(1)
	}
}

func start(ctx context.Context) error {
	var o options
	var only, agents, floorServer string
	flag.BoolVar(&o.smoke, "smoke", false, "one short round: shows that everything runs, the figures mean nothing")
	flag.BoolVar(&o.check, "check", false, "fail when a promised ratio is not reached")
	flag.IntVar(&o.rounds, "rounds", 3, "rounds; each runs the agents in the order A B B A")
	flag.StringVar(&only, "only", "", "regular expression: workloads to run, such as broker or broker-target")
	flag.StringVar(&agents, "agents", "sluice,flume,floor", "what to run; in the broker's rows flume stands for Apache Kafka")
	flag.StringVar(&o.binary, "sluice", "", "the sluice binary (default: built from this tree)")
	flag.StringVar(&o.peers, "peers", "", "directory of flume.sh and kafka.sh (default: test/interop/peers of this tree)")
	flag.StringVar(&o.heap, "heap", "512m", "Flume's heap, fixed")
	flag.StringVar(&o.jsonFile, "json", "", "write every run and the medians to this file")
	flag.Int64Var(&o.lines, "lines", 0, "lines of each input (default: the workload's own number)")
	flag.IntVar(&o.times, "times", 1, "hand each input over so many times: the longer the flow, the less it shows of the warming up of a JVM")
	flag.StringVar(&o.broker, "kafka", "", "bootstrap address of an Apache Kafka that runs already (default: start one)")
	flag.StringVar(&floorServer, "floor-server", "", "internal: be the floor of the broker's rows at ADDRESS,FILE")
	flag.Parse()
	if floorServer != "" {
		return serveFloor(floorServer)
	}
	if flag.NArg() > 0 {
		return fmt.Errorf("unknown argument %q", flag.Arg(0))
	}
	if o.rounds < 1 || o.times < 1 {
		return errors.New("-rounds and -times are 1 or more")
	}
	re, err := regexp.Compile(only)
	if err != nil {
		return fmt.Errorf("-only: %w", err)
	}
	o.only, o.agents = re, strings.Split(agents, ",")
	if o.smoke {
		o.rounds = 1
		if o.lines == 0 {
			o.lines = 200_000
		}
	}

	dir, err := os.MkdirTemp("", "sluice-bench-")
	if err != nil {
		return fmt.Errorf("make work directory: %w", err)
	}
	b := &bench{dir: dir, broker: o.broker, limit: 5 * time.Minute}
	if !o.smoke {
		if b.touch, err = available(); err != nil {
			return err
		}
		b.touch = min(b.touch/2, touchMost)
	}
	r, err := b.all(ctx, o)
	if err != nil {
		return fmt.Errorf("%w\n(what the runs wrote is in %s)", err, dir)
	}
	if err := os.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove work directory: %w", err)
	}
	fmt.Println()
	if len(r.Summary) > 0 {
		r.table(os.Stdout)
	}
	backlogTable(os.Stdout, r.Backlog)
	if o.jsonFile != "" {
		if err := r.writeJSON(o.jsonFile); err != nil {
			return err
		}
	}
	if r.Broker != nil {
		r.Broker.table(os.Stdout)
	}
	if m := r.missed(); o.check && len(m) > 0 {
		return fmt.Errorf("promises not kept:\n%s", strings.Join(m, "\n"))
	}
	return nil
}

func (b *bench) all(ctx context.Context, o options) (_ report, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return report{}, err
	}
	if o.peers == "" {
		o.peers = filepath.Join(root, "test", "interop", "peers")
	}
	var turn []agent
	floor := false
	javaVersion, sluiceVersion := "", ""
	for _, name := range o.agents {
		switch name {
		case "sluice":
			if o.binary == "" {
				o.binary = filepath.Join(b.dir, "sluice")
				if err := build(ctx, root, o.binary); err != nil {
					return report{}, err
				}
			}
			sluiceVersion, _ = firstLine(ctx, o.binary, "version")
			turn = append(turn, sluice{o.binary})
		case "flume":
			javaVersion, _ = firstLine(ctx, "java", "-version")
			f := flume{script: filepath.Join(o.peers, "flume.sh"), heap: o.heap}
			if out, err := exec.CommandContext(ctx, f.script, "fetch").CombinedOutput(); err != nil {
				return report{}, fmt.Errorf("fetch flume: %w\n%s", err, out)
			}
			turn = append(turn, f)
		case "floor":
			floor = true
		default:
			return report{}, fmt.Errorf("-agents: unknown %q, there are sluice, flume and floor", name)
		}
	}
	rep := report{Time: time.Now().UTC().Truncate(time.Second), Smoke: o.smoke, Times: o.times, Heap: o.heap, Machine: thisMachine(javaVersion, sluiceVersion)}

	b.hadoop = hadoop{scripts: o.peers, dir: b.dir}
	defer func() { err = errors.Join(err, b.hadoop.stop()) }()
	ran := 0
	for _, w := range workloads() {
		if !o.only.MatchString(w.Name) {
			continue
		}
		if o.smoke && o.only.String() == "" && !w.inSmoke() {
			fmt.Printf("\n%s: NOT RUN in a smoke run that does not name it; -only '^%s$' does\n", w.Name, w.Name)
			continue
		}
		ran++
		if err := b.hadoop.need(ctx, w.sink); err != nil {
			return rep, err
		}
		if (w.kafka || w.source) && b.broker == "" {
			stop, err := b.startKafka(ctx, filepath.Join(o.peers, "kafka.sh"))
			if err != nil {
				return rep, err
			}
			defer func() { err = errors.Join(err, stop()) }()
		}
		n := w.Lines
		if o.lines > 0 {
			n = o.lines
		}
		data := filepath.Join(b.dir, "corpus-"+w.Name)
		if err := os.Mkdir(data, 0o755); err != nil {
			return rep, fmt.Errorf("make corpus: %w", err)
		}
		c, err := w.corpus(ctx, data, n)
		if err != nil {
			return rep, err
		}
		if w.all {
			c.Kept = c.Lines
		}
		fmt.Printf("\n%s: %s\n%d lines, %.1f MB, %d kept\n", w.Name, w.What, c.Lines, float64(c.Bytes)/1e6, c.Kept)
		for round := 1; round <= o.rounds; round++ {
			if floor {
				r, err := b.floor(ctx, w, c, round)
				if err != nil {
					return rep, err
				}
				printRun(os.Stdout, r)
				rep.Runs = append(rep.Runs, r)
			}
			for _, a := range order(w.agents(turn), o.smoke) {
				r, err := b.measure(ctx, a, w, c.times(o.times), round)
				if err != nil {
					return rep, fmt.Errorf("%s, round %d: %w", w.Name, round, err)
				}
				printRun(os.Stdout, r)
				rep.Runs = append(rep.Runs, r)
			}
		}
		rep.Summary = append(rep.Summary, summarise(w, rep.Runs))
		if err := os.RemoveAll(data); err != nil {
			return rep, fmt.Errorf("remove corpus: %w", err)
		}
	}
	if o.only.MatchString(backlogName) {
		ran++
		if rep.Backlog, err = b.backlogs(ctx, turn, o); err != nil {
			return rep, err
		}
	}
	if slices.ContainsFunc(brokerRows(), func(w brokerRow) bool { return o.only.MatchString(w.Name) }) {
		ran++
		if rep.Broker, err = b.runBroker(ctx, o); err != nil {
			return rep, err
		}
	}
	if ran == 0 {
		return rep, fmt.Errorf("-only %s: no such workload", o.only)
	}
	return rep, nil
}

// order is A B B A, so that a machine that gets slower or faster over a round
// favours neither; a smoke round is A B.
func order(a []agent, smoke bool) []agent {
	if smoke {
		return a
	}
	o := append([]agent(nil), a...)
	for i := len(a) - 1; i >= 0; i-- {
		o = append(o, a[i])
	}
	return o
}

func (b *bench) startKafka(ctx context.Context, script string) (stop func() error, err error) {
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	home := filepath.Join(b.dir, "kafka")
	cmd := exec.CommandContext(ctx, script, "start", home)
	cmd.Env = append(os.Environ(), fmt.Sprintf("KAFKA_PORT=%d", port))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("start kafka: %w\n%s", err, out)
	}
	b.broker = fmt.Sprintf("127.0.0.1:%d", port)
	return func() error {
		if out, err := exec.Command(script, "stop", home).CombinedOutput(); err != nil {
			return fmt.Errorf("stop kafka: %w\n%s", err, out)
		}
		return nil
	}, nil
}

func moduleRoot(ctx context.Context) (string, error) {
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	mod := strings.TrimSpace(string(out))
	if filepath.Base(mod) != "go.mod" {
		return "", errors.New("find the module: run bench inside the source tree")
	}
	return filepath.Dir(mod), nil
}

func build(ctx context.Context, root, binary string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", binary, "./cmd/sluice")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build sluice: %w\n%s", err, out)
	}
	return nil
}

// firstLine is what a program says of its own version, on either stream.
func firstLine(ctx context.Context, name string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, name, args...).CombinedOutput()
	line, _, _ := bytes.Cut(out, []byte("\n"))
	return string(line), err
}
