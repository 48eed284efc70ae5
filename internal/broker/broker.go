package broker

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/partition"
)

// Broker is a running broker.
type Broker struct {
	cfg    Config
	logger *slog.Logger
	dir    *dataDir
	topics *topics
	groups *coordinator
	// groupConfigs are the settings of single groups.
	groupConfigs *groupConfigs
	quotas       *clientQuotas
	pids         *producerIDs
	fetches      *fetchSessions
	configs      *brokerConfigs
	disk         *diskGuard
	metrics      *metrics
	decoder      decoder
	apis         map[int16]*api

	listeners []*listener
	http      *metricsServer

	stopping chan struct{}
	stopOnce sync.Once
	connCtx  context.Context // ends when answers are no longer waited for
	connKill context.CancelFunc
	connWG   sync.WaitGroup
	loopWG   sync.WaitGroup
	mu       sync.Mutex
	conns    map[net.Conn]struct{}
	perIP    map[netip.Addr]int // connections of each client address
	memory   *memoryGate        // of requests under way
	closed   burstLimit         // of lines about connections that were closed
	done     chan struct{}
	closeErr error
}

// Start opens the data directory and serves until ctx ends or Close is
// called; then the broker stops as Close describes. When Start returns, the
// listener is open. An error that lies in cfg is a *ConfigError.
func Start(ctx context.Context, cfg Config) (*Broker, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, &ConfigError{err}
	}
	b := &Broker{
		cfg: cfg, logger: cfg.Logger, stopping: make(chan struct{}), done: make(chan struct{}),
		conns: map[net.Conn]struct{}{}, perIP: map[netip.Addr]int{}, apis: map[int16]*api{}, fetches: newFetchSessions(), memory: newMemoryGate(cfg.MaxInflightBytes),
	}
	list := apis()
	for i := range list {
		list[i].flexibleFrom = flexibleFrom(list[i].key)
		list[i].stats = new(apiStats)
		b.apis[list[i].key] = &list[i]
	}
	b.metrics = newMetrics(b)
	b.connCtx, b.connKill = context.WithCancel(context.WithoutCancel(ctx))
	if err := b.open(ctx); err != nil {
		b.connKill()
		return nil, err
	}
	b.adviseListeners(detectContainer())
	for _, l := range b.listeners {
		b.loopWG.Go(func() { b.acceptLoop(l) })
	}
	b.loopWG.Go(b.housekeeping)
	b.loopWG.Go(b.cleaner)
	go func() {
		select {
		case <-ctx.Done():
			// The bound on the stop is Close's own.
			b.Close(context.WithoutCancel(ctx))
		case <-b.done:
		}
	}()
	return b, nil
}

// open acquires everything, and gives back what it has when it fails.
func (b *Broker) open(ctx context.Context) (err error) {
	var undo []func()
	defer func() {
		if err != nil {
			for i := len(undo) - 1; i >= 0; i-- {
				undo[i]()
			}
		}
	}()
	// The ports first: a busy port is found before recovery has read the disk.
	plan, err := b.cfg.listenerPlan()
	if err != nil {
		return &ConfigError{fmt.Errorf("start broker: %w", err)}
	}
	for _, l := range plan {
		if err := l.bind(ctx); err != nil {
			return err
		}
		undo = append(undo, func() { l.Close() })
	}
	b.listeners = plan
	if b.dir, err = openDataDir(b.cfg.FS, b.cfg.DataDir); err != nil {
		return err
	}
	undo = append(undo, func() { b.dir.close(false) })
	if !b.dir.wasClean {
		b.logger.Info("the last broker on this data directory did not stop in order; its logs are checked")
	}
	if b.disk, err = newDiskGuard(b); err != nil {
		return err
	}
	if b.configs, err = openBrokerConfigs(b); err != nil {
		return err
	}
	live := b.configs.live.Load()
	defaults, err := live.topicDefaults(b.disk.limit)
	if err != nil {
		return &ConfigError{err}
	}
	if b.pids, err = openProducerIDs(b.cfg.FS, b.dir.file(pidsFile)); err != nil {
		return err
	}
	if b.topics, err = openTopics(ctx, b.dir, defaults, &b.cfg, func(d time.Duration) { b.metrics.flushes.add(d, 1) }); err != nil {
		return err
	}
	undo = append(undo, func() { b.topics.close() })
	b.disk.topics = b.topics
	if b.groupConfigs, err = openGroupConfigs(b.dir.file(groupsFile), &b.cfg); err != nil {
		return err
	}
	if b.quotas, err = openClientQuotas(b.dir.file(quotasFile), &b.cfg); err != nil {
		return err
	}
	if b.groups, err = openCoordinator(ctx, b); err != nil {
		return err
	}
	undo = append(undo, b.groups.close)
	if b.cfg.Metrics != "" {
		if b.http, err = startMetricsServer(b.cfg.Metrics, b.metrics, b.logger); err != nil {
			return err
		}
	}
	b.logger.Info("retention", "topics_together", sizeText(b.disk.limit), "each_topic", ageText(defaults.RetentionAge),
		"produce_refused_below_free", sizeText(b.cfg.MinFreeDisk))
	return nil
}

// Addr is the address that the broker listens on, the first of them.
func (b *Broker) Addr() string { return b.listeners[0].Addr().String() }

// Listeners are all addresses that the broker listens on, with their names.
func (b *Broker) Listeners() []Endpoint {
	var es []Endpoint
	for _, l := range b.listeners {
		host, port, err := splitHostPort(l.Addr().String())
		if err != nil { // it is an address of the net package
			panic(err)
		}
		es = append(es, Endpoint{Name: l.Name, Host: host, Port: port})
	}
	return es
}

// MetricsAddr is the address of the metrics page, "" without one.
func (b *Broker) MetricsAddr() string {
	if b.http == nil {
		return ""
	}
	return b.http.addr
}

// DiskLimit is the bound on all topics together in bytes, -1 for none.
func (b *Broker) DiskLimit() int64 { return b.disk.limit }

// Done is closed when the broker has stopped.
func (b *Broker) Done() <-chan struct{} { return b.done }

func (b *Broker) isStopping() bool {
	select {
	case <-b.stopping:
		return true
	default:
		return false
	}
}

// Close stops the broker: no new connections and requests, long polls are
// answered at once, what was asked is answered within Config.StopTimeout or
// until ctx ends, then connections are cut, the partitions are written and
// closed, and the directory is released. It is idempotent; every call waits
// and returns the same error.
func (b *Broker) Close(ctx context.Context) error {
	b.stopOnce.Do(func() { go b.shutdown(ctx) })
	<-b.done
	return b.closeErr
}

func (b *Broker) shutdown(ctx context.Context) {
	defer close(b.done)
	close(b.stopping)
	for _, l := range b.listeners {
		l.Close()
	}
	b.mu.Lock()
	for c := range b.conns {
		c.SetReadDeadline(time.Unix(1, 0))
	}
	b.mu.Unlock()
	b.groups.stop()

	answered := make(chan struct{})
	go func() { b.connWG.Wait(); close(answered) }()
	timer := time.NewTimer(b.cfg.StopTimeout)
	defer timer.Stop()
	select {
	case <-answered:
	case <-timer.C:
		b.logger.Warn("stop: connections are cut, their clients did not take the answers in time", "limit", b.cfg.StopTimeout)
	case <-ctx.Done():
	}
	b.connKill()
	b.mu.Lock()
	for c := range b.conns {
		c.Close()
	}
	b.mu.Unlock()
	<-answered
	b.loopWG.Wait()
	var errs []error
	if b.http != nil {
		errs = append(errs, b.http.close())
	}
	b.groups.close()
	errs = append(errs, b.topics.close())
	clean := errors.Join(errs...) == nil
	errs = append(errs, b.dir.close(clean))
	if b.closeErr = errors.Join(errs...); b.closeErr != nil {
		b.closeErr = fmt.Errorf("stop broker: %w", b.closeErr)
		b.logger.Error("broker did not stop in order", "err", b.closeErr)
		return
	}
	b.logger.Info("broker stopped")
}

func (b *Broker) acceptLoop(l *listener) {
	var refused logLimit
	for {
		nc, err := l.Accept()
		if err != nil {
			if b.isStopping() || errors.Is(err, net.ErrClosed) {
				return
			}
			// Out of file descriptors, for instance: it passes.
			if refused.allow() {
				b.logger.Error("accept failed", "err", err)
			}
			select {
			case <-time.After(100 * time.Millisecond):
			case <-b.stopping:
				return
			}
			continue
		}
		from := clientAddr(nc)
		b.mu.Lock()
		why, limit := b.refuses(from)
		if b.isStopping() || why != "" {
			b.mu.Unlock()
			if !b.isStopping() {
				b.metrics.connectionsRefused.Add(1)
			}
			nc.Close()
			if !b.isStopping() && refused.allow() {
				b.logger.Warn("connection refused: "+why, "limit", limit, "remote", nc.RemoteAddr().String())
			}
			continue
		}
		b.conns[nc] = struct{}{}
		b.metrics.connections.Add(1)
		l.conns.Add(1)
		b.perIP[from]++
		b.connWG.Add(1)
		b.mu.Unlock()
		go func() {
			defer b.connWG.Done()
			defer func() {
				nc.Close()
				b.mu.Lock()
				delete(b.conns, nc)
				l.conns.Add(-1)
				if b.perIP[from]--; b.perIP[from] == 0 {
					delete(b.perIP, from)
				}
				b.mu.Unlock()
			}()
			b.serveConn(b.connCtx, l, nc)
		}()
	}
}

// upkeepEvery is how often the disk and the groups are looked after.
const upkeepEvery = 10 * time.Second

// housekeeping runs retention, the disk guard, and the group log's upkeep.
func (b *Broker) housekeeping() {
	b.disk.sweep(b.connCtx) // the disk may be full already
	// The disk and the groups do not wait for a rare retention.
	every := min(b.cfg.RetentionCheck, upkeepEvery)
	tick := time.NewTicker(every)
	defer tick.Stop()
	retention := time.Now()
	for {
		select {
		case <-b.stopping:
			return
		case now := <-tick.C:
			if now.Sub(retention) > b.cfg.RetentionCheck-every/2 {
				retention = now
				b.tickPartitions(func(p *partition.Partition) error { _, err := p.Tick(b.connCtx); return err })
			} else {
				b.tickPartitions((*partition.Partition).Upkeep)
			}
			b.groups.upkeep(b.connCtx, time.Now())
			b.disk.sweep(b.connCtx)
		case <-b.disk.kick:
			b.disk.sweep(b.connCtx)
		}
	}
}

// cleaner compacts the topics whose cleanup.policy says so, one partition
// after the other.
func (b *Broker) cleaner() {
	tick := time.NewTimer(b.configs.live.Load().CompactionCheck)
	defer tick.Stop()
	for {
		select {
		case <-b.stopping:
			return
		case <-tick.C:
		}
		for _, t := range b.topics.all() {
			if !t.state.Load().cfg.Compact {
				continue
			}
			for _, p := range t.state.Load().parts {
				if b.isStopping() {
					return
				}
				if p.offline != nil {
					continue
				}
				done, err := p.Compact(b.connCtx)
				switch {
				case err != nil && (b.isStopping() || errors.Is(err, log.ErrClosed) || errors.Is(err, context.Canceled)):
					// The broker stops or the topic is deleted.
				case err != nil:
					b.logger.Error("partition could not be compacted; it grows until it can", "topic", t.name, "partition", p.id, "err", err)
				case done.Segments > 0:
					b.logger.Info("partition compacted", "topic", t.name, "partition", p.id, "segments", done.Segments,
						"bytes_before", done.Before, "bytes_after", done.After, "records_removed", done.Records)
				}
			}
		}
		tick.Reset(b.configs.live.Load().CompactionCheck)
	}
}

func (b *Broker) tickPartitions(tick func(*partition.Partition) error) {
	for _, t := range b.topics.all() {
		for _, p := range t.state.Load().parts {
			if p.offline != nil {
				continue
			}
			// A partition may be deleted meanwhile.
			if err := tick(p.Partition); err != nil && !b.isStopping() && !errors.Is(err, log.ErrClosed) {
				b.logger.Error("upkeep of a partition failed", "topic", t.name, "partition", p.id, "err", err)
			}
		}
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

// closedWarning says why a connection was closed. A client that comes back at
// once with the same fault must not fill the disk with these lines.
func (b *Broker) closedWarning(remote string, err error) {
	ok, dropped := b.closed.allow(time.Now())
	if dropped > 0 {
		b.logger.Warn("more connections were closed for such reasons than are logged", "not_logged", dropped)
	}
	if ok {
		b.logger.Warn("connection closed", "remote", remote, "err", err)
	}
}

// burstLimit lets burstLines lines through in each burstTime and counts the
// others.
type burstLimit struct {
	mu      sync.Mutex
	began   time.Time
	n       int
	dropped int
}

const (
	burstLines = 20
	burstTime  = 10 * time.Second
)

// allow also returns, once, how many it did not let through before.
func (l *burstLimit) allow(now time.Time) (ok bool, dropped int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if now.Sub(l.began) >= burstTime {
		l.began, l.n = now, 0
		dropped, l.dropped = l.dropped, 0
	}
	if l.n++; l.n > burstLines {
		l.dropped++
		return false, 0
	}
	return true, dropped
}

// logLimit lets one line through in a while, so that an event which repeats
// at the speed of a network cannot fill a log.
type logLimit struct{ last atomic.Int64 }

func (l *logLimit) allow() bool {
	now, last := time.Now().UnixNano(), l.last.Load()
	return (last == 0 || now-last > int64(10*time.Second)) && l.last.CompareAndSwap(last, now)
}
