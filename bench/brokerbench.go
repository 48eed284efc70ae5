package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// The figures of a run. A row has those that apply.
const (
	figProduce    = "produce_mb_s"
	figProduceCPU = "produce_mb_cpu_s"
	figConsume    = "consume_mb_s"
	figConsumeCPU = "consume_mb_cpu_s"
	figMemory     = "rss_mb"
	figP50        = "acked_p50_ms"
	figP99        = "acked_p99_ms"
	figP999       = "acked_p99.9_ms"
	figEnd50      = "end_to_end_p50_ms"
	figEnd99      = "end_to_end_p99_ms"
	figEnd999     = "end_to_end_p99.9_ms"
	figReady      = "ready_ms"
	figAccepted   = "first_accepted_ms"
	figIdle       = "idle_cpu_percent"
)

var figures = []string{figProduce, figProduceCPU, figConsume, figConsumeCPU, figMemory, figP50, figP99, figP999,
	figEnd50, figEnd99, figEnd999, figReady, figAccepted, figIdle}

// brokerRun is one measurement.
type brokerRun struct {
	Row     string             `json:"row"`
	Peer    string             `json:"peer"`
	Round   int                `json:"round"`
	Figures map[string]float64 `json:"figures"`
	Others  float64            `json:"others_cpus"` // processors that neither the broker nor the load kept busy
}

type brokerBench struct {
	*bench
	peers  []peer // those that take turns
	floor  bool
	rounds int
	smoke  bool
	tools  string // kafka-cli.sh; empty: no Kafka here

	up     map[string]*brokerProcess // brokers that stay up from row to row
	runs   []brokerRun
	others float64 // of the measurement under way, the highest of its parts
}

// scaled shrinks an amount for a smoke run.
func (b *brokerBench) scaled(n int64) int64 {
	if b.smoke {
		return max(n/100, 1)
	}
	return n
}

// turns calls f for the floor, if it runs, and for the peers A B B A.
func (b *brokerBench) turns(ctx context.Context, floor bool, f func(p peer, round int) error) error {
	for round := 1; round <= b.rounds; round++ {
		var order []peer
		if floor && b.floor {
			order = append(order, floorBroker{})
		}
		order = append(order, b.peers...)
		if !b.smoke {
			order = append(order, reversed(b.peers)...)
		}
		for _, p := range order {
			if err := ctx.Err(); err != nil {
				return err
			}
			if err := f(p, round); err != nil {
				return fmt.Errorf("%s, round %d: %w", p.Name(), round, err)
			}
		}
	}
	return nil
}

// running returns a peer's broker, started and warmed up at its first use.
func (b *brokerBench) running(ctx context.Context, p peer) (*brokerProcess, error) {
	if bp := b.up[p.Name()]; bp != nil {
		return bp, nil
	}
	dir := filepath.Join(b.dir, "broker-"+p.Name())
	bp, err := b.fresh(ctx, p, dir)
	if err != nil {
		return nil, err
	}
	b.up[p.Name()] = bp
	if p.Name() == "floor" {
		return bp, nil
	}
	// A JVM compiles what it runs often; that is not part of what is compared.
	t, err := newTemplate(shape{1000, 16 << 10, "none"})
	if err != nil {
		return nil, err
	}
	if err := bp.createTopic(ctx, "warm-up", 1); err != nil {
		return nil, err
	}
	n, err := produceAll(ctx, bp.addr, "warm-up", 1, 1, t, b.scaled(600*mb))
	if err != nil {
		return nil, err
	}
	if _, err := consumeAll(ctx, bp.addr, "warm-up", 1, 6, 0, n); err != nil {
		return nil, err
	}
	return bp, bp.deleteTopic(ctx, "warm-up")
}

// fresh starts a broker in dir and waits until it is ready.
func (b *brokerBench) fresh(ctx context.Context, p peer, dir string) (*brokerProcess, error) {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", p.Name(), err)
	}
	bp, err := p.Start(ctx, dir)
	if err != nil || p.Name() == "floor" {
		return bp, err
	}
	if _, err := bp.ready(ctx); err != nil {
		return nil, errors.Join(err, bp.kill())
	}
	return bp, nil
}

// newTopic creates a topic that no other measurement uses.
func (b *brokerBench) newTopic(ctx context.Context, bp *brokerProcess, parts int) (string, error) {
	topic := fmt.Sprintf("bench-%d", b.seq())
	return topic, bp.createTopic(ctx, topic, parts)
}

func (b *brokerBench) stopAll() (err error) {
	for name, bp := range b.up {
		err = errors.Join(err, bp.stop())
		delete(b.up, name)
	}
	return err
}

// spent is what a piece of work took.
type spent struct{ wall, cpu float64 }

// settle has what the run before wrote written out, whoever wrote it, and waits until the machine has nothing else to do.
// The system would do it at any time later, at the cost of the broker that happens to run then.
func (b *brokerBench) settle() error {
	if b.smoke {
		return nil
	}
	unix.Sync()
	const look, longest = 500 * time.Millisecond, 20 * time.Second
	for began := time.Now(); time.Since(began) < longest; {
		busy0, err := busyOf()
		if err != nil {
			return err
		}
		time.Sleep(look)
		busy1, err := busyOf()
		if err != nil {
			return err
		}
		if (busy1 - busy0).Seconds() < 0.08*look.Seconds() {
			return nil
		}
	}
	return nil // what else goes on is printed with the run
}

// measured runs f and reads the broker's clocks around it.
func (b *brokerBench) measured(bp *brokerProcess, f func() error) (spent, error) {
	if err := b.settle(); err != nil {
		return spent{}, err
	}
	busy0, err := busyOf()
	if err != nil {
		return spent{}, err
	}
	own0 := ownCPU()
	cpu0, err := cpuOf(bp.pid)
	if err != nil {
		return spent{}, err
	}
	t0 := time.Now()
	if err := f(); err != nil {
		return spent{}, fmt.Errorf("%w\n--- the end of its log:\n%s", err, bp.Log())
	}
	wall := time.Since(t0)
	cpu1, err := cpuOf(bp.pid)
	if err != nil {
		return spent{}, err
	}
	busy1, err := busyOf()
	if err != nil {
		return spent{}, err
	}
	others := (busy1 - busy0 - (cpu1 - cpu0) - (ownCPU() - own0)).Seconds() / wall.Seconds()
	b.others = max(b.others, others)
	return spent{wall.Seconds(), (cpu1 - cpu0).Seconds()}, nil
}

// record notes and prints a run.
func (b *brokerBench) record(row string, p peer, round int, f map[string]float64) {
	r := brokerRun{Row: row, Peer: p.Name(), Round: round, Figures: f, Others: b.others}
	b.others = 0
	b.runs = append(b.runs, r)
	fmt.Printf("  round %d  %-6s", round, p.Name())
	for _, name := range figures {
		if v, ok := f[name]; ok {
			fmt.Printf("  %s %s", name, sig(v))
		}
	}
	fmt.Printf("  others %.2f\n", r.Others)
}

// peakMB is the most memory resident since resetPeak.
func peakMB(bp *brokerProcess) (float64, error) {
	kb, err := peakKB(bp.pid)
	return float64(kb) / 1024, err
}

func reversed(p []peer) []peer {
	r := slices.Clone(p)
	slices.Reverse(r)
	return r
}
