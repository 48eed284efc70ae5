// Package hbase is a thin client of HBase 2: puts and increments in batches, and
// scans, by HBase's own protocol. docs/hbase.md has the facts of the protocol
// and what the client promises.
package hbase

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"slices"
	"sync"
	"time"
)

// How the server of hbase:meta is found.
const (
	ZooKeeperRegistry = "zookeeper"
	RPCRegistry       = "rpc" // by asking masters or region servers
)

// Services of a server.
const (
	clientService = "ClientService"
	metaService   = "ClientMetaService"
)

// Config says where HBase is and how long to wait for it. New fills in what is
// zero.
type Config struct {
	Registry  string        // ZooKeeperRegistry unless set
	Quorum    []string      // ZooKeeper servers as HOST:PORT
	Parent    string        // HBase's node there; "/hbase"
	Bootstrap []string      // for RPCRegistry: masters or region servers as HOST:PORT
	User      string        // who the client says it is
	Pause     time.Duration // before the first retry, longer before others; 100 ms

	ConnectTimeout time.Duration // 10 s
	RPCTimeout     time.Duration // for one request; 60 s
	Timeout        time.Duration // for a whole Do, and for a Scan during which nothing comes; 60 s
	Late           time.Duration // after which an answer is late, and hbase:meta is asked whether the server is still that of the region; 2 s
	PerServer      int           // requests under way at one server; 4

	Log *slog.Logger
	// Trouble is told what holds a Do up for longer than a few retries, and
	// nil when it goes on. It may be nil.
	Trouble func(error)
	// Opened, Closed and Failed are called for connections. They may be nil.
	Opened, Closed, Failed func()
}

// Client writes to one HBase, and reads it. It is safe for concurrent use.
type Client struct {
	cfg   Config
	nonce uint64 // group

	mu     sync.Mutex
	meta   string // address of the server of hbase:meta; "": not known
	tables map[string]regions
	conns  map[connKey]*slot
	closed bool

	warned   bool // of trouble, since the last Do that went through
	warnedAt time.Time
}

type connKey struct{ addr, service string }

// slot is the place of a connection; its lock is held while dialling.
type slot struct {
	mu sync.Mutex
	c  *conn
}

// New returns a client. It connects when it is first used.
func New(cfg Config) *Client {
	def := func(d *time.Duration, v time.Duration) {
		if *d <= 0 {
			*d = v
		}
	}
	def(&cfg.Pause, 100*time.Millisecond)
	def(&cfg.ConnectTimeout, 10*time.Second)
	def(&cfg.RPCTimeout, time.Minute)
	def(&cfg.Timeout, time.Minute)
	def(&cfg.Late, 2*time.Second)
	cfg.Registry = cmp.Or(cfg.Registry, ZooKeeperRegistry)
	cfg.Parent = cmp.Or(cfg.Parent, "/hbase")
	cfg.User = cmp.Or(cfg.User, "nobody")
	cfg.PerServer = cmp.Or(cfg.PerServer, 4)
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	for _, f := range []*func(){&cfg.Opened, &cfg.Closed, &cfg.Failed} {
		if *f == nil {
			*f = func() {}
		}
	}
	if cfg.Trouble == nil {
		cfg.Trouble = func(error) {}
	}
	return &Client{cfg: cfg, nonce: rand.Uint64() | 1, tables: map[string]regions{}, conns: map[connKey]*slot{}}
}

var errClientClosed = errors.New("the HBase client was closed")

// Close ends all connections and waits for their goroutines. A Do under way
// fails.
func (c *Client) Close() { c.hangUp(true) }

// Forget drops connections and all that is known of servers and regions, for a
// fresh start.
func (c *Client) Forget() { c.hangUp(false) }

func (c *Client) hangUp(closing bool) {
	c.mu.Lock()
	conns := c.conns
	c.closed = c.closed || closing
	c.conns, c.tables, c.meta = map[connKey]*slot{}, map[string]regions{}, ""
	c.mu.Unlock()
	for _, s := range conns {
		s.mu.Lock()
		c.drop(s)
		s.mu.Unlock()
	}
}

func (c *Client) drop(s *slot) {
	if s.c != nil {
		s.c.close()
		s.c = nil
		c.cfg.Closed()
	}
}

// conn returns a connection that works, as far as is known.
func (c *Client) conn(ctx context.Context, addr, service string) (*conn, error) {
	key := connKey{addr, service}
	c.mu.Lock()
	if c.closed {
		c.mu.Unlock()
		return nil, errClientClosed
	}
	s := c.conns[key]
	if s == nil {
		s = new(slot)
		c.conns[key] = s
	}
	c.mu.Unlock()

	s.mu.Lock()
	defer s.mu.Unlock()
	if s.c != nil && s.c.failed() == nil {
		return s.c, nil
	}
	c.drop(s)
	cn, err := dial(ctx, &c.cfg, addr, service)
	if err != nil {
		if ctx.Err() == nil {
			c.cfg.Failed()
		}
		return nil, err
	}
	c.mu.Lock()
	mine := c.conns[key] == s
	c.mu.Unlock()
	if !mine { // closed meanwhile
		cn.close()
		return nil, errClosed
	}
	c.cfg.Opened()
	s.c = cn
	return cn, nil
}

func (c *Client) known(table string) regions {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tables[table]
}

// remember adds a region to those known of a table, and returns these.
func (c *Client) remember(table string, r *region) regions {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables[table] = c.tables[table].add(r)
	return c.tables[table]
}

// forgetRegion drops what is known of r, unless it was replaced already.
func (c *Client) forgetRegion(table string, r *region) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tables[table] = slices.DeleteFunc(slices.Clone(c.tables[table]), func(o *region) bool { return o == r })
}

// forgetServer drops what is known of all regions of a server.
func (c *Client) forgetServer(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for t, rs := range c.tables {
		c.tables[t] = slices.DeleteFunc(slices.Clone(rs), func(o *region) bool { return o.addr == addr })
	}
	if c.meta == addr {
		c.meta = ""
	}
}

// The most of one request. Java's client has 4 MiB as well; a server takes 256.
const (
	maxRequest   = 4 << 20
	maxMutations = 2000 // an answer may have a stack trace for each
)

// minShare is how many mutations a request has before there is another one
// beside it for other regions of the same server.
const minShare = 100

// quiet is for how many of Config.Pause a Do without any progress goes
// unmentioned, and warnEvery how often the log has a warning at most: regions
// that are moved one after the other hold up one Do after the other.
const (
	quiet     = 20
	warnEvery = time.Minute
)

// Do sends b's mutations and waits until the servers have confirmed each, or
// it has failed for good, or Config.Timeout is over. It returns nil when all
// are confirmed; otherwise an error, and Batch.Err tells those that are not:
// such a mutation may have been done all the same where the answer was lost.
// Done again, a put changes nothing, and an increment counts twice unless it
// is by Do itself, whose repetitions a server recognizes.
func (c *Client) Do(ctx context.Context, table string, b *Batch) error {
	b.pending = b.pending[:0]
	for i := range b.muts {
		b.muts[i].err, b.muts[i].done, b.muts[i].alone, b.muts[i].region = nil, false, false, nil
		b.pending = append(b.pending, int32(i))
	}
	b.trouble = &trouble{c: c, table: table, progress: time.Now()}
	defer b.trouble.end()
	deadline := time.Now().Add(c.cfg.Timeout)
	for idle := 0; len(b.pending) > 0; {
		before := len(b.pending)
		err := c.round(ctx, table, b)
		if err == nil {
			err = b.settle()
		}
		if ctx.Err() != nil {
			b.failPending(ctx.Err())
		} else if errors.Is(err, errClientClosed) {
			b.failPending(err)
		}
		if len(b.pending) == 0 {
			break
		}
		if idle++; len(b.pending) < before {
			idle = 0
			b.trouble.progressed()
		}
		pause := c.pause(idle)
		if moves(err) {
			pause = min(pause, c.pause(movingIdle))
		}
		if time.Now().Add(pause).After(deadline) {
			b.giveUp(c.cfg.Timeout)
			break
		}
		b.trouble.tell(err)
		if !sleep(ctx, pause) {
			b.failPending(ctx.Err())
			break
		}
	}
	err := b.first()
	if err == nil {
		c.mu.Lock()
		c.warned = false
		c.mu.Unlock()
	}
	return err
}

// trouble tells what holds a Do up, once that has lasted. Requests that wait
// for late answers tell it side by side.
type trouble struct {
	c     *Client
	table string

	mu       sync.Mutex
	progress time.Time // when a mutation was done last
	told     bool
}

func (t *trouble) progressed() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.progress = time.Now()
}

func (t *trouble) tell(err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if time.Since(t.progress) < quiet*t.c.cfg.Pause {
		return
	}
	if !t.told {
		t.told = true
		t.c.cfg.Trouble(err)
	}
	t.c.warn(t.table, err)
}

// end is called when nobody tells any more.
func (t *trouble) end() {
	if t.told {
		t.c.cfg.Trouble(nil)
	}
}

func (c *Client) warn(table string, err error) {
	c.mu.Lock()
	now := time.Now()
	say := !c.warned && now.Sub(c.warnedAt) >= warnEvery
	if say {
		c.warned, c.warnedAt = true, now
	}
	c.mu.Unlock()
	if say {
		c.cfg.Log.Warn("HBase does not take the events yet; trying on", "table", table, "err", err)
	}
}

// movingIdle is the number of the retry behind which pauses do not grow where
// a server has said that the region is elsewhere: that lasts a second or so.
const movingIdle = 4

// moves says whether the server knows the region, or knew it.
func moves(err error) bool {
	var e *RemoteError
	return errors.As(err, &e) && (e.remedy() == lookUpAgain || e.simple() == "RegionOpeningException")
}

// pause grows as that of Java's client does, but not as far: what waits for an
// HBase that was away should not wait long when it is back.
func (c *Client) pause(idle int) time.Duration {
	steps := []time.Duration{1, 1, 2, 3, 5, 10, 20}
	d := steps[min(idle, len(steps)-1)] * c.cfg.Pause
	return d - rand.N(d/10+1)
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}

// failPending ends what is still pending.
func (b *Batch) failPending(err error) {
	for _, i := range b.pending {
		b.muts[i].err = err
	}
	b.pending = b.pending[:0]
}

// giveUp does so with the errors of the last round.
func (b *Batch) giveUp(after time.Duration) {
	var last, said error
	for _, i := range b.pending {
		m := &b.muts[i]
		if said == nil || m.err != last {
			last, said = m.err, fmt.Errorf("tried for %v: %w", after, m.err)
		}
		m.err = said
	}
	b.pending = b.pending[:0]
}

func (b *Batch) first() error {
	for i := range b.muts {
		if b.muts[i].err != nil {
			return b.muts[i].err
		}
	}
	return nil
}

// round tries everything pending once. An error is about all of it.
func (c *Client) round(ctx context.Context, table string, b *Batch) error {
	ready, err := c.locate(ctx, table, b)
	if err != nil {
		if errors.Is(err, ErrNoTable) {
			b.failPending(err)
			return err
		}
		if len(ready) == 0 {
			for _, i := range b.pending {
				b.muts[i].err = err
			}
			return err
		}
	}
	var wg sync.WaitGroup
	for len(ready) > 0 {
		addr := b.muts[ready[0]].region.addr
		n := 1
		for n < len(ready) && b.muts[ready[n]].region.addr == addr {
			n++
		}
		list := ready[:n]
		if ready = ready[n:]; len(ready) == 0 {
			c.server(ctx, table, addr, b, list) // the last, mostly the only one
		} else {
			wg.Go(func() { c.server(ctx, table, addr, b, list) })
		}
	}
	wg.Wait()
	return nil
}

// locate finds the regions of what is pending and returns what has one, sorted
// by server and region; within a region the order is kept. The error is that
// of the others.
func (c *Client) locate(ctx context.Context, table string, b *Batch) (ready []int32, failed error) {
	known := c.known(table)
	several := false
	var last *region
	ready = make([]int32, 0, len(b.pending))
	for _, i := range b.pending {
		m, row := &b.muts[i], b.row(i)
		if last == nil || !last.has(row) {
			r := known.find(row)
			if r == nil && failed == nil {
				var err error
				if r, err = c.lookUp(ctx, table, row, b.trouble.tell); err != nil {
					failed = err
					if errors.Is(err, ErrNoTable) || ctx.Err() != nil {
						return nil, err
					}
				} else {
					known = c.remember(table, r)
				}
			}
			if r == nil {
				m.err = failed
				continue
			}
			several = several || last != nil
			last = r
		}
		m.region = last
		ready = append(ready, i)
	}
	if several {
		slices.SortStableFunc(ready, func(x, y int32) int {
			r, s := b.muts[x].region, b.muts[y].region
			if r == s {
				return 0
			}
			return cmp.Or(cmp.Compare(r.addr, s.addr), slices.Compare(r.start, s.start))
		})
	}
	return ready, failed
}

// server sends what one server has to get, in requests of a bounded size.
// Requests for the same region go one after the other, so that writes to a row
// stay in order; others go side by side.
func (c *Client) server(ctx context.Context, table, addr string, b *Batch, list []int32) {
	cn, err := c.conn(ctx, addr, clientService)
	if err != nil {
		c.lost(addr, b, list, err)
		return
	}
	limit := make(chan struct{}, c.cfg.PerServer)
	// A server works on a request with one thread, region by region.
	share := max(minShare, (len(list)+c.cfg.PerServer-1)/c.cfg.PerServer)
	var lanes sync.WaitGroup
	for len(list) > 0 {
		lane := b.lane(list, share)
		list = list[len(lane):]
		if len(list) == 0 && len(limit) == 0 {
			c.lane(ctx, table, cn, b, lane)
			break
		}
		limit <- struct{}{}
		lanes.Go(func() {
			c.lane(ctx, table, cn, b, lane)
			<-limit
		})
	}
	lanes.Wait()
}

// chunk is the longest start of list that fits a request.
func (b *Batch) chunk(list []int32) []int32 {
	bytes := 0
	for n, i := range list {
		bytes += b.muts[i].cellEnd - b.muts[i].cells
		if n > 0 && (n == maxMutations || bytes > maxRequest) {
			return list[:n]
		}
	}
	return list
}

// lane is the shortest start of list that ends with a region and has share
// mutations, or fills a request.
func (b *Batch) lane(list []int32, share int) []int32 {
	full := len(b.chunk(list))
	for n := min(share, full); n < len(list); n++ {
		if b.muts[list[n]].region != b.muts[list[n-1]].region {
			return list[:n]
		}
	}
	return list
}

func (c *Client) lane(ctx context.Context, table string, cn *conn, b *Batch, list []int32) {
	for len(list) > 0 {
		part := b.chunk(list)
		err := c.send(ctx, table, cn, b, part)
		switch {
		case err == nil:
			c.heed(table, cn.addr, b, part)
		case b.tooBig(part, err):
		default:
			c.lost(cn.addr, b, list, err)
			return
		}
		list = list[len(part):]
	}
}

// tooBig says whether a server refused a request because its one mutation is
// larger than any request may be, and settles that.
func (b *Batch) tooBig(part []int32, err error) bool {
	var e *RemoteError
	m := &b.muts[part[0]]
	if len(part) > 1 || m.cellEnd-m.cells <= maxRequest || !errors.As(err, &e) || e.remedy() != giveUp {
		return false
	}
	m.err, m.alone = e, true
	return true
}

var errUnanswered = errors.New("the server's answer leaves it out")

// errGone ends a connection to a server that HBase has given up, as may we.
var errGone = errors.New("no answer, and what it had is at other servers now")

// watch is begun with a request and ended with its answer. While that is late it asks gone again and again, and
// when the server has lost all that the request is for the connection fails. A server that is frozen, or behind a cut, would else
// be waited for until Config.RPCTimeout is over, long after HBase itself has given it up. tell is told of the wait; it may be nil.
func (c *Client) watch(ctx context.Context, cn *conn, tell func(error), gone func(context.Context) (bool, error)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	begin := time.Now()
	timer := time.AfterFunc(c.cfg.Late, func() {
		defer close(done)
		for {
			// Where it cannot be known the answer is still waited for.
			if lost, err := gone(ctx); err == nil && lost {
				cn.fail(errGone)
				return
			}
			if tell != nil && ctx.Err() == nil {
				tell(&connError{cn.addr, fmt.Errorf("no answer for %v", time.Since(begin).Round(time.Second))})
			}
			if !sleep(ctx, c.cfg.Late) {
				return
			}
		}
	})
	return func() {
		cancel()
		if !timer.Stop() {
			<-done
		}
	}
}

// send is one request. The error is that of all of it.
func (c *Client) send(ctx context.Context, table string, cn *conn, b *Batch, part []int32) error {
	for _, i := range part {
		b.muts[i].err = errUnanswered
	}
	q := multi{b: b, list: part, nonceGroup: c.nonce}
	q.plan()
	defer c.watch(ctx, cn, b.trouble.tell, func(ctx context.Context) (gone bool, err error) {
		var last *region
		for _, i := range part {
			if m := &b.muts[i]; m.region != last {
				last = m.region
				r, err := c.lookUp(ctx, table, b.row(i), nil)
				if err != nil || r.addr == cn.addr {
					return false, err
				}
			}
		}
		return true, nil
	})()
	return cn.do(ctx, requestHeader{method: "Multi", cells: q.cellBytes()}, q.paramSize(), q.appendParam, q.appendCells,
		func(param, _ []byte) error { return q.parse(param) })
}

// lost settles what a whole request has met.
func (c *Client) lost(addr string, b *Batch, list []int32, err error) {
	for _, i := range list {
		if m := &b.muts[i]; !m.done {
			m.err = err
		}
	}
	var remote *RemoteError
	if errors.As(err, &remote) {
		remote.region = true // of the request, that is: not of a mutation
		if r := remote.remedy(); r == waitAndRetry || r == giveUp {
			return
		}
	}
	c.forgetServer(addr)
}

// heed draws the conclusions from the errors of single mutations.
func (c *Client) heed(table, addr string, b *Batch, part []int32) {
	var forgotten *region
	for _, i := range part {
		var e *RemoteError
		if m := &b.muts[i]; m.done || !errors.As(m.err, &e) {
			continue
		} else if r := e.remedy(); r == hangUp {
			c.forgetServer(addr)
			return
		} else if r == lookUpAgain && m.region != forgotten {
			forgotten = m.region
			c.forgetRegion(table, forgotten)
		}
	}
}

// settle keeps what must be tried again pending. Errors that end a mutation
// stay with it. The error returned is one of those that remain.
func (b *Batch) settle() error {
	var again error
	left := b.pending[:0]
	for _, i := range b.pending {
		m := &b.muts[i]
		if m.done {
			continue
		}
		var e *RemoteError
		if errors.As(m.err, &e) && e.remedy() == giveUp {
			// A server refuses all that a region was to get for one cell that
			// is too large, so each is tried by itself.
			if m.alone || !IsPermanent(m.err) {
				continue
			}
			m.alone = true
		}
		left = append(left, i)
		again = cmp.Or(m.err, again)
	}
	b.pending = left
	return again
}
