package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// brokerRow is one line of the broker's matrix. Names that begin with
// broker-target are those that a promise is made for.
type brokerRow struct {
	Name string
	What string
	run  func(ctx context.Context, b *brokerBench, name string) error
}

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

const (
	mb = 1_000_000
	gb = 1_000_000_000

	mainRow    = "broker-target/1kB"
	latencyRow = "broker-target/latency"
	startRow   = "broker-target/start"
	restartRow = "broker-target/restart-10GB"
	partsRow   = "broker-target/partitions"
	sizeRow    = "broker-target/log-size"
)

func brokerRows() []brokerRow {
	rows := []brokerRow{
		throughputRow(mainRow, "1 kB records in 16 KiB batches, acks=all, no compression", shape{1000, 16 << 10, "none"}, 1*gb, 4),
		{latencyRow, "1,000 requests of one 1 kB record a second; a consumer at the tail for end to end", latency},
		{startRow, "from exec to the first answer, empty data directory", startTime},
		{partsRow, "1 kB records in 16 KiB batches over 1 and 2,000 partitions, 1 and 64 batches a request", partitions(1, 2000)},
		{restartRow, "kill -9 with 10 GB on disk; from exec to the first accepted produce. log-size: 0.5 GB at the end of that log and of a new one", restart(10 * gb)},
	}
	for _, size := range []struct {
		name string
		n    int
	}{{"100B", 100}, {"1kB", 1000}, {"10kB", 10_000}} {
		for _, codec := range []string{"none", "lz4", "zstd"} {
			if size.n == 1000 && codec == "none" {
				continue // it is the target row
			}
			s := shape{size.n, 16 << 10, codec}
			what := fmt.Sprintf("%s records in 16 KiB batches, %s", size.name, codec)
			rows = append(rows, throughputRow("broker/"+size.name+"-"+codec, what, s, gb/2, 2))
		}
	}
	return append(rows,
		throughputRow("broker/1kB-none-1MiB", "1 kB records in 1 MB batches", shape{1000, 1_000_000, "none"}, 1*gb, 2),
		brokerRow{"broker/producer-perf", "Apache Kafka's ProducerPerformance, 1 kB records, acks=all", producerPerf},
		brokerRow{"broker/partitions-100", "as above over 100 partitions", partitions(100)},
		brokerRow{"broker/consumers", "1 kB records read from the start by 1, 10 and 100 consumers", consumers},
		brokerRow{"broker/start-2000", "start with 2,000 partitions", startMany},
		brokerRow{"broker/restart-1GB", "kill -9 with 1 GB on disk", restart(1 * gb)},
	)
}

// broker runs the rows that match.
func (b *bench) runBroker(ctx context.Context, o options) (_ *brokerReport, err error) {
	bb := &brokerBench{bench: b, rounds: o.rounds, smoke: o.smoke, up: map[string]*brokerProcess{}}
	for _, name := range o.agents {
		switch name {
		case "sluice":
			bb.peers = append(bb.peers, sluiceBroker{o.binary})
		case "flume": // its place in the broker's rows is Apache Kafka's
			bb.peers = append(bb.peers, kafkaBroker{script: filepath.Join(o.peers, "kafka.sh"), heap: "1g"})
			bb.tools = filepath.Join(o.peers, "kafka-cli.sh")
		case "floor":
			bb.floor = true
		}
	}
	defer func() { err = errors.Join(err, bb.stopAll()) }()
	if err := touchMemory(b.touch); err != nil {
		return nil, err
	}
	rep := &brokerReport{}
	for _, row := range brokerRows() {
		if !o.only.MatchString(row.Name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", row.Name, row.What)
		begun := time.Now()
		if err := row.run(ctx, bb, row.Name); err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
		fmt.Printf("(%.0f s)\n", time.Since(begun).Seconds())
	}
	rep.Runs = bb.runs
	rep.summarise()
	return rep, nil
}

// touchMost is enough for the largest row but the 10 GB one, whose time is the
// disk's anyway.
const touchMost = 6 << 30

// touchMemory has the hypervisor back so many bytes of this machine's memory.
// Writing into a page cache that the guest never touched costs several times
// as much, and whoever runs first would pay for it.
func touchMemory(n int64) error {
	if n == 0 {
		return nil
	}
	m, err := syscall.Mmap(-1, 0, int(n), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return fmt.Errorf("touch memory: %w", err)
	}
	for i := 0; i < len(m); i += 4096 {
		m[i] = 1
	}
	return syscall.Munmap(m)
}

// available is MemAvailable of /proc/meminfo.
func available() (int64, error) {
	text, err := os.ReadFile("/proc/meminfo")
	if err != nil {
		return 0, fmt.Errorf("read free memory: %w", err)
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, "MemAvailable:"); ok {
			kb, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return kb << 10, err
		}
	}
	return 0, errors.New("read free memory: no MemAvailable")
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

func (b *brokerBench) stopAll() (err error) {
	for name, bp := range b.up {
		err = errors.Join(err, bp.stop())
		delete(b.up, name)
	}
	return err
}

// spent is what a piece of work took.
type spent struct{ wall, cpu float64 }

// measured runs f and reads the broker's clocks around it.
func (b *brokerBench) measured(bp *brokerProcess, f func() error) (spent, error) {
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

// sig prints a figure with three digits that matter.
func sig(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// peakMB is the most memory resident since resetPeak.
func peakMB(bp *brokerProcess) (float64, error) {
	kb, err := peakKB(bp.pid)
	return float64(kb) / 1024, err
}

// throughputRow produces payload bytes to a topic of one partition and reads
// it so many times.
func throughputRow(name, what string, s shape, payload int64, times int) brokerRow {
	return brokerRow{name, what, func(ctx context.Context, b *brokerBench, row string) error {
		t, err := newTemplate(s)
		if err != nil {
			return err
		}
		n := b.scaled(payload)
		batches := (n + t.payload - 1) / t.payload
		sent := float64(batches*t.payload) / mb
		fmt.Printf("  %.0f MB in batches of %d records, %d bytes; read %d times\n", sent, t.records, len(t.batch), times)
		return b.turns(ctx, true, func(p peer, round int) error {
			bp, err := b.running(ctx, p)
			if err != nil {
				return err
			}
			if err := resetPeak(bp.pid); err != nil {
				return err
			}
			var in, out spent
			if p.Name() == "floor" {
				if in, err = b.floorRun(ctx, bp, 1, t, n); err != nil {
					return err
				}
				st, err := os.Stat(filepath.Join(b.dir, "broker-floor", "floor.data"))
				if err != nil {
					return err
				}
				if out, err = b.measured(bp, func() error { return floorConsume(ctx, bp.addr, st.Size(), times) }); err != nil {
					return err
				}
				if err := os.Truncate(filepath.Join(b.dir, "broker-floor", "floor.data"), 0); err != nil {
					return err
				}
			} else if in, out, err = b.topicRun(ctx, bp, t, 1, 1, n, 1, times); err != nil {
				return err
			}
			f := map[string]float64{
				figProduce: sent / in.wall, figProduceCPU: sent / in.cpu,
				figConsume: float64(times) * sent / out.wall, figConsumeCPU: float64(times) * sent / out.cpu,
			}
			if f[figMemory], err = peakMB(bp); err != nil {
				return err
			}
			b.record(row, p, round, f)
			return nil
		})
	}}
}

// floorRun produces to the floor.
func (b *brokerBench) floorRun(ctx context.Context, bp *brokerProcess, parts int, t template, payload int64) (spent, error) {
	p, err := newFloorProducer(ctx, bp.addr, parts, t)
	if err != nil {
		return spent{}, err
	}
	defer p.Close()
	return b.measured(bp, func() error { return p.runFloor(payload) })
}

// topicRun produces to a new topic, counts what is there, reads partition 0 of
// it, and deletes it. times 0: nothing is read.
func (b *brokerBench) topicRun(ctx context.Context, bp *brokerProcess, t template, parts, producers int, payload int64, readers, times int) (in, out spent, err error) {
	topic := fmt.Sprintf("bench-%d", b.seq())
	if err := bp.createTopic(ctx, topic, parts); err != nil {
		return in, out, err
	}
	var records int64
	if in, err = b.measured(bp, func() (err error) {
		records, err = produceAll(ctx, bp.addr, topic, parts, producers, t, payload)
		return err
	}); err != nil {
		return in, out, err
	}
	n, err := bp.count(ctx, topic, parts)
	if err == nil && n != records {
		err = fmt.Errorf("topic %s holds %d records, %d were acknowledged", topic, n, records)
	}
	if err != nil {
		return in, out, err
	}
	if times > 0 {
		if out, err = b.measured(bp, func() error {
			_, err := consumeAll(ctx, bp.addr, topic, readers, times, 0, n)
			return err
		}); err != nil {
			return in, out, err
		}
	}
	return in, out, bp.deleteTopic(ctx, topic)
}

// partitions produces the same batches over topics with different numbers of
// partitions; the row's name gets the number.
func partitions(counts ...int) func(context.Context, *brokerBench, string) error {
	return func(ctx context.Context, b *brokerBench, row string) error {
		t, err := newTemplate(shape{1000, 16 << 10, "none"})
		if err != nil {
			return err
		}
		n := b.scaled(gb)
		batches := (n + t.payload - 1) / t.payload
		sent := float64(batches*t.payload) / mb
		return b.turns(ctx, true, func(p peer, round int) error {
			bp, err := b.running(ctx, p)
			if err != nil {
				return err
			}
			for _, parts := range counts {
				if b.smoke {
					parts = min(parts, 50)
				}
				if err := resetPeak(bp.pid); err != nil {
					return err
				}
				var in spent
				if p.Name() == "floor" {
					in, err = b.floorRun(ctx, bp, parts, t, n)
				} else {
					in, _, err = b.topicRun(ctx, bp, t, parts, 1, n, 0, 0)
				}
				if err != nil {
					return err
				}
				f := map[string]float64{figProduce: sent / in.wall, figProduceCPU: sent / in.cpu}
				if f[figMemory], err = peakMB(bp); err != nil {
					return err
				}
				name := row
				if len(counts) > 1 {
					name += "-" + strconv.Itoa(parts)
				}
				b.record(name, p, round, f)
			}
			return nil
		})
	}
}

// consumers reads one log with more and more consumers at a time; all together
// read the same number of bytes.
func consumers(ctx context.Context, b *brokerBench, row string) error {
	t, err := newTemplate(shape{1000, 16 << 10, "none"})
	if err != nil {
		return err
	}
	n := b.scaled(50 * mb)
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic := fmt.Sprintf("bench-%d", b.seq())
		if err := bp.createTopic(ctx, topic, 1); err != nil {
			return err
		}
		records, err := produceAll(ctx, bp.addr, topic, 1, 1, t, n)
		if err != nil {
			return err
		}
		for _, readers := range []int{1, 10, 100} {
			out, err := b.measured(bp, func() error {
				_, err := consumeAll(ctx, bp.addr, topic, readers, 100/readers, 0, records)
				return err
			})
			if err != nil {
				return err
			}
			read := float64(100*records*1000) / mb
			b.record(row+"-"+strconv.Itoa(readers), p, round, map[string]float64{figConsume: read / out.wall, figConsumeCPU: read / out.cpu})
		}
		return bp.deleteTopic(ctx, topic)
	})
}

// latency sends single records at a fixed rate, first alone and then with a
// consumer at the tail.
func latency(ctx context.Context, b *brokerBench, row string) error {
	const rate = 1000
	d := 5 * time.Second
	if b.smoke {
		d = 500 * time.Millisecond
	}
	t, err := newTemplate(shape{1000, 0, "none"})
	if err != nil {
		return err
	}
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic := fmt.Sprintf("bench-%d", b.seq())
		if err := bp.createTopic(ctx, topic, 1); err != nil {
			return err
		}
		pr, err := newProducer(ctx, bp.addr, topic, 1, t)
		if err != nil {
			return err
		}
		defer pr.Close()
		if _, err := pr.paced(ctx, rate, d/5, nil); err != nil { // settles
			return err
		}
		var acked, arrived []time.Duration
		if _, err := b.measured(bp, func() (err error) {
			acked, err = pr.paced(ctx, rate, d, nil)
			return err
		}); err != nil {
			return err
		}
		c, err := newConsumer(ctx, bp.addr, topic, 0, pr.acked)
		if err != nil {
			return err
		}
		defer c.Close()
		// The record's value ends one byte (its header count) before the batch
		// does; its last bytes are the time at which it was sent.
		origin := time.Now()
		at := len(t.batch) - 9
		c.seen = func(batch []byte, now time.Time) {
			sent := time.Duration(binary.BigEndian.Uint64(batch[at:]))
			arrived = append(arrived, now.Sub(origin)-sent)
		}
		end := pr.acked + int64(d.Seconds()*rate)
		done := make(chan error, 1)
		go func() { done <- c.until(ctx, end) }()
		_, err = pr.paced(ctx, rate, d, func(batch []byte, now time.Time) {
			binary.BigEndian.PutUint64(batch[at:], uint64(now.Sub(origin)))
		})
		if err != nil {
			c.Close()
			return errors.Join(err, <-done)
		}
		if err := <-done; err != nil {
			return err
		}
		slices.Sort(acked)
		slices.Sort(arrived)
		b.record(row, p, round, map[string]float64{
			figP50: quantile(acked, 0.5), figP99: quantile(acked, 0.99), figP999: quantile(acked, 0.999),
			figEnd50: quantile(arrived, 0.5), figEnd99: quantile(arrived, 0.99), figEnd999: quantile(arrived, 0.999),
		})
		return bp.deleteTopic(ctx, topic)
	})
}

// startTime starts a broker in an empty directory.
func startTime(ctx context.Context, b *brokerBench, row string) error {
	return b.turns(ctx, false, func(p peer, round int) error {
		dir := filepath.Join(b.dir, fmt.Sprintf("start-%s-%d", p.Name(), b.seq()))
		if err := os.Mkdir(dir, 0o755); err != nil {
			return err
		}
		bp, err := p.Start(ctx, dir)
		if err != nil {
			return err
		}
		took, err := bp.ready(ctx)
		if err != nil {
			return errors.Join(err, bp.kill())
		}
		f := map[string]float64{figReady: took.Seconds() * 1000}
		cpu0, err0 := cpuOf(bp.pid)
		idle := 2 * time.Second
		time.Sleep(idle)
		cpu1, err1 := cpuOf(bp.pid)
		f[figIdle] = 100 * (cpu1 - cpu0).Seconds() / idle.Seconds()
		b.record(row, p, round, f)
		return errors.Join(err0, err1, bp.stop(), os.RemoveAll(dir))
	})
}

// startMany starts a broker that has 2,000 partitions with something in each,
// after an orderly stop and after a kill.
func startMany(ctx context.Context, b *brokerBench, row string) error {
	parts := 2000
	if b.smoke {
		parts = 50
	}
	t, err := newTemplate(shape{1000, 16 << 10, "none"})
	if err != nil {
		return err
	}
	for _, p := range b.peers {
		dir := filepath.Join(b.dir, fmt.Sprintf("many-%s-%d", p.Name(), b.seq()))
		bp, err := b.fresh(ctx, p, dir)
		if err != nil {
			return err
		}
		if err := bp.createTopic(ctx, "many", parts); err != nil {
			return errors.Join(err, bp.kill())
		}
		if _, err := produceAll(ctx, bp.addr, "many", parts, 1, t, int64(parts)*t.payload*2); err != nil {
			return errors.Join(err, bp.kill())
		}
		for _, how := range []struct {
			name string
			end  func() error
		}{{"-stopped", bp.stop}, {"-killed", nil}} {
			end := how.end
			if end == nil {
				end = bp.kill
			}
			if err := end(); err != nil {
				return err
			}
			if bp, err = p.Start(ctx, dir); err != nil {
				return err
			}
			took, err := bp.ready(ctx)
			if err != nil {
				return errors.Join(err, bp.kill())
			}
			f := map[string]float64{figReady: took.Seconds() * 1000}
			accepted, err := firstAccepted(ctx, bp, "many", t)
			if err != nil {
				return errors.Join(err, bp.kill())
			}
			f[figAccepted] = accepted.Seconds() * 1000
			if f[figMemory], err = peakMB(bp); err != nil {
				return errors.Join(err, bp.kill())
			}
			b.record(row+how.name, p, 1, f)
		}
		if err := errors.Join(bp.kill(), os.RemoveAll(dir)); err != nil {
			return err
		}
	}
	return nil
}

// firstAccepted tries to produce until the broker takes it, and returns how
// long after its start that was.
func firstAccepted(ctx context.Context, bp *brokerProcess, topic string, t template) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	for {
		err := func() error {
			c, err := dialBroker(ctx, bp.addr)
			if err != nil {
				return err
			}
			// No producer id: getting one is another request, which a broker
			// may serve later than the first produce.
			p := &producer{kconn: c, t: t, topic: topic, parts: 1, seqs: []int32{-1}, pid: -1, epoch: -1}
			p.answer.Version = produceVersion
			defer p.Close()
			p.SetDeadline(time.Now().Add(ioTimeout))
			if err := p.send(1); err != nil {
				return err
			}
			return p.receive()
		}()
		if err == nil {
			return time.Since(bp.begun), nil
		}
		if ctx.Err() != nil {
			return 0, fmt.Errorf("nothing is accepted: %w\n--- the end of its log:\n%s", err, bp.Log())
		}
		time.Sleep(time.Millisecond)
	}
}

// logSize compares a new log with the long one of topic log: the same batches
// are produced to the end of each in turn, and what was produced is read. The
// machine's memory is full of the long log's pages for both.
func (b *brokerBench) logSize(ctx context.Context, p peer, bp *brokerProcess, t template) error {
	n := b.scaled(gb / 2)
	batches := (n + t.payload - 1) / t.payload
	sent := float64(batches*t.payload) / mb
	for round := 1; round <= b.rounds; round++ {
		for i, long := range []bool{true, false, false, true} {
			topic, name := "log", sizeRow+"-long"
			if !long {
				topic, name = fmt.Sprintf("short-%d-%d", round, i), sizeRow+"-short"
				if err := bp.createTopic(ctx, topic, 1); err != nil {
					return err
				}
			}
			from, err := bp.count(ctx, topic, 1)
			if err != nil {
				return err
			}
			in, err := b.measured(bp, func() error {
				_, err := produceAll(ctx, bp.addr, topic, 1, 1, t, n)
				return err
			})
			if err != nil {
				return err
			}
			const times = 4
			out, err := b.measured(bp, func() error {
				_, err := consumeAll(ctx, bp.addr, topic, 1, times, from, from+batches*int64(t.records))
				return err
			})
			if err != nil {
				return err
			}
			b.record(name, p, round, map[string]float64{
				figProduce: sent / in.wall, figProduceCPU: sent / in.cpu,
				figConsume: times * sent / out.wall, figConsumeCPU: times * sent / out.cpu,
			})
			if !long {
				if err := bp.deleteTopic(ctx, topic); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// restart fills a log, kills the broker and takes the time until it accepts a
// record again.
func restart(size int64) func(context.Context, *brokerBench, string) error {
	return func(ctx context.Context, b *brokerBench, row string) error {
		small, err := newTemplate(shape{1000, 16 << 10, "none"})
		if err != nil {
			return err
		}
		large, err := newTemplate(shape{1000, 1_000_000, "none"})
		if err != nil {
			return err
		}
		for _, p := range b.peers {
			dir := filepath.Join(b.dir, fmt.Sprintf("restart-%s-%d", p.Name(), b.seq()))
			bp, err := b.fresh(ctx, p, dir)
			if err != nil {
				return err
			}
			fail := func(err error) error { return errors.Join(err, bp.kill()) }
			if err := bp.createTopic(ctx, "log", 1); err != nil {
				return fail(err)
			}
			if _, err := produceAll(ctx, bp.addr, "log", 1, 1, large, b.scaled(size)); err != nil {
				return fail(err)
			}
			if strings.HasPrefix(row, "broker-target") {
				if err := b.logSize(ctx, p, bp, small); err != nil {
					return fail(err)
				}
			}
			for round := 1; round <= b.rounds; round++ {
				before, err := bp.count(ctx, "log", 1)
				if err != nil {
					return fail(err)
				}
				if err := bp.kill(); err != nil {
					return err
				}
				if bp, err = p.Start(ctx, dir); err != nil {
					return err
				}
				took, err := firstAccepted(ctx, bp, "log", small)
				if err != nil {
					return fail(err)
				}
				after, err := bp.count(ctx, "log", 1)
				if err != nil {
					return fail(err)
				}
				if after != before+int64(small.records) {
					return fail(fmt.Errorf("%d records were acknowledged before the kill, %d are there after one batch of %d more", before, after, small.records))
				}
				f := map[string]float64{figAccepted: took.Seconds() * 1000}
				if f[figMemory], err = peakMB(bp); err != nil {
					return fail(err)
				}
				b.record(row, p, round, f)
				// Something new to recover, too.
				if _, err := produceAll(ctx, bp.addr, "log", 1, 1, small, b.scaled(100*mb)); err != nil {
					return fail(err)
				}
			}
			if err := errors.Join(bp.kill(), os.RemoveAll(dir)); err != nil {
				return err
			}
		}
		return nil
	}
}

// producerPerf has Apache Kafka's own producer send, to show that the load
// generator's requests are like real ones.
func producerPerf(ctx context.Context, b *brokerBench, row string) error {
	if b.tools == "" {
		fmt.Println("  not run: it needs Apache Kafka's tools")
		return nil
	}
	n := b.scaled(1_000_000)
	rate := regexp.MustCompile(`(\d+) records sent, .*\(([0-9.]+) MB/sec\)`)
	return b.turns(ctx, false, func(p peer, round int) error {
		bp, err := b.running(ctx, p)
		if err != nil {
			return err
		}
		topic := fmt.Sprintf("bench-%d", b.seq())
		if err := bp.createTopic(ctx, topic, 1); err != nil {
			return err
		}
		var out []byte
		in, err := b.measured(bp, func() (err error) {
			out, err = exec.CommandContext(ctx, b.tools, "producer-perf", "--topic", topic, "--num-records", strconv.FormatInt(n, 10),
				"--record-size", "1000", "--throughput", "-1", "--producer-props", "acks=all", "bootstrap.servers="+bp.addr).CombinedOutput()
			return err
		})
		if err != nil {
			return fmt.Errorf("producer-perf: %w\n%s", err, out)
		}
		all := rate.FindAllSubmatch(out, -1)
		if len(all) == 0 {
			return fmt.Errorf("producer-perf: no result in %q", out)
		}
		mib, err := strconv.ParseFloat(string(all[len(all)-1][2]), 64)
		if err != nil {
			return fmt.Errorf("producer-perf: %w", err)
		}
		if got, err := bp.count(ctx, topic, 1); err != nil || got != n {
			return errors.Join(err, fmt.Errorf("topic %s holds %d records, %d were sent", topic, got, n))
		}
		b.record(row, p, round, map[string]float64{figProduce: mib * (1 << 20) / mb, figProduceCPU: float64(n) * 1000 / mb / in.cpu})
		return bp.deleteTopic(ctx, topic)
	})
}

// brokerReport is the broker's part of the result.
type brokerReport struct {
	Runs    []brokerRun                              `json:"runs"`
	Medians map[string]map[string]map[string]float64 `json:"medians"` // row → peer → figure
}

func (r *brokerReport) summarise() {
	r.Medians = map[string]map[string]map[string]float64{}
	all := map[[3]string][]float64{}
	for _, run := range r.Runs {
		for name, v := range run.Figures {
			k := [3]string{run.Row, run.Peer, name}
			all[k] = append(all[k], v)
		}
		k := [3]string{run.Row, run.Peer, "others_cpus"}
		all[k] = append(all[k], run.Others)
	}
	for k, v := range all {
		row := r.Medians[k[0]]
		if row == nil {
			row = map[string]map[string]float64{}
			r.Medians[k[0]] = row
		}
		if row[k[1]] == nil {
			row[k[1]] = map[string]float64{}
		}
		row[k[1]][k[2]] = median(v)
	}
}

// of returns a median, NaN where there is none.
func (r *brokerReport) of(row, peer, figure string) float64 {
	if v, ok := r.Medians[row][peer][figure]; ok {
		return v
	}
	return math.NaN()
}

// promise is one line of what Sluice's broker is held to.
type promise struct {
	What string `json:"what"`
	Got  string `json:"got"`
	Kept bool   `json:"kept"`
}

// promises judges the rows that ran. A comparison with NaN is false, so each
// is judged only when its figures are there.
func (r *brokerReport) promises() (l []promise) {
	add := func(what string, kept bool, figures ...float64) {
		if slices.ContainsFunc(figures, math.IsNaN) {
			return
		}
		var text []string
		for _, f := range figures {
			text = append(text, sig(f))
		}
		l = append(l, promise{what, strings.Join(text, ", "), kept})
	}
	ours := func(row, f string) float64 { return r.of(row, "sluice", f) }
	perKafka := func(row, f string) float64 { return ours(row, f) / r.of(row, "kafka", f) }
	perFloor := func(row, f string) float64 { return ours(row, f) / r.of(row, "floor", f) }

	k, f := perKafka(mainRow, figProduceCPU), perFloor(mainRow, figProduceCPU)
	add("produced MB per CPU second: 4 times Kafka's, or 0.85 of the floor", k >= 4 || f >= 0.85, k, f)
	k = perKafka(mainRow, figProduce)
	add("produced MB per second: not below Kafka's", k >= 1, k)
	k, f = perKafka(mainRow, figConsumeCPU), perFloor(mainRow, figConsumeCPU)
	add("consumed MB per CPU second: 1.3 times Kafka's, or 0.85 of a bare sendfile", k >= 1.3 || f >= 0.85, k, f)
	k = perKafka(latencyRow, figP99)
	add("p99 of an acknowledgement: at most half of Kafka's", k <= 0.5, k)
	m := ours(mainRow, figMemory)
	add("resident memory: below 100 MB", m < 100, m)
	m = ours(startRow, figReady)
	add("ready: in less than 200 ms", m < 200, m)
	m = ours(restartRow, figAccepted)
	add("first accepted produce after kill -9 with 10 GB: in less than 1000 ms", m < 1000, m)
	m = ours(partsRow+"-2000", figProduceCPU) / ours(partsRow+"-1", figProduceCPU)
	add("MB per CPU second with 2,000 partitions: at least 0.8 of those with one", m >= 0.8, m)
	m = ours(sizeRow+"-long", figProduceCPU) / ours(sizeRow+"-short", figProduceCPU)
	k = ours(sizeRow+"-long", figConsumeCPU) / ours(sizeRow+"-short", figConsumeCPU)
	add("MB per CPU second at the end of a long log: at least 0.95 of those of a new one, produced and consumed", m >= 0.95 && k >= 0.95, m, k)
	return l
}

func reversed(p []peer) []peer {
	r := slices.Clone(p)
	slices.Reverse(r)
	return r
}

// table writes medians and promises as Markdown.
func (r *brokerReport) table(w io.Writer) {
	var rows []string
	for _, run := range r.Runs {
		if !slices.Contains(rows, run.Row) {
			rows = append(rows, run.Row)
		}
	}
	tables := []struct {
		title string
		figs  []string
	}{
		{"throughput (MB of values)", []string{figProduce, figProduceCPU, figConsume, figConsumeCPU, figMemory}},
		{"latency", []string{figP50, figP99, figP999, figEnd50, figEnd99, figEnd999}},
		{"start", []string{figReady, figAccepted, figIdle}},
	}
	for _, t := range tables {
		head := false
		for _, row := range rows {
			for _, name := range []string{"floor", "kafka", "sluice"} {
				m := r.Medians[row][name]
				if _, ok := m[t.figs[0]]; !ok {
					if _, ok := m[t.figs[1]]; !ok {
						if _, ok := m[t.figs[2]]; !ok {
							continue
						}
					}
				}
				if !head {
					head = true
					fmt.Fprintf(w, "\n| %s | broker |", t.title)
					for _, f := range t.figs {
						fmt.Fprintf(w, " %s |", f)
					}
					fmt.Fprintf(w, " noise, CPUs |\n|---|---|%s---:|\n", strings.Repeat("---:|", len(t.figs)))
				}
				fmt.Fprintf(w, "| %s | %s |", row, name)
				for _, f := range t.figs {
					if v, ok := m[f]; ok {
						fmt.Fprintf(w, " %s |", sig(v))
					} else {
						fmt.Fprint(w, " |")
					}
				}
				fmt.Fprintf(w, " %.2f |\n", m["others_cpus"])
			}
		}
	}
	if ps := r.promises(); len(ps) > 0 {
		fmt.Fprint(w, "\n| promise | got | |\n|---|---:|---|\n")
		for _, p := range ps {
			verdict := "kept"
			if !p.Kept {
				verdict = "**missed**"
			}
			fmt.Fprintf(w, "| %s | %s | %s |\n", p.What, p.Got, verdict)
		}
	}
}
