//go:build interop

package interop

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// clusterEnv gives TestHBaseCluster its long form: how many times each thing
// happens to the servers, such as 3.
const clusterEnv = "SLUICE_DRILL_HBASE"

// hbaseCluster is an HBase of several region servers, and an agent that writes
// counted rows into a table of it.
type hbaseCluster struct {
	*realHBase
	t       *testing.T
	servers int
	agent   *sluiceProcess
	monitor string

	written   atomic.Int64 // lines in the agent's file
	endWriter func()
	sayable   int // so many lines of the agent's log may be about what happened

	mu    sync.Mutex
	taken []progress // by the sink, and confirmed by HBase
}

// progress is how many rows HBase had confirmed at a moment.
type progress struct {
	at time.Time
	n  int64
}

const (
	clusterTable = "Counted"
	clusterRate  = 2000             // rows a second
	clusterLead  = 60 * clusterRate // so many rows may wait for HBase
)

// clusterAgent is with all time-outs at their defaults.
const clusterAgent = `
a1.sources = s
a1.channels = c
a1.sinks = k
a1.sources.s.type = TAILDIR
a1.sources.s.filegroups = f
a1.sources.s.filegroups.f = @dir@/in/.*
a1.sources.s.positionFile = @dir@/position.json
a1.sources.s.channels = c
a1.channels.c.type = file
a1.channels.c.checkpointDir = @dir@/checkpoint
a1.channels.c.dataDirs = @dir@/data
a1.sinks.k.type = hbase2
a1.sinks.k.channel = c
a1.sinks.k.table = Counted
a1.sinks.k.columnFamily = cf1
a1.sinks.k.zookeeperQuorum = @zookeeper@
a1.sinks.k.batchSize = 1000
a1.sinks.k.serializer = delimited
a1.sinks.k.serializer.colNames = key,n,value
a1.sinks.k.serializer.rowKey = {key}
`

// TestHBaseCluster: an agent writes counted rows into an HBase of several
// region servers, while regions move between them and they are killed. HBase's
// own client finds each row in the end, and nothing else.
func TestHBaseCluster(t *testing.T) {
	rounds := 0
	if s := os.Getenv(clusterEnv); s != "" {
		var err error
		if rounds, err = strconv.Atoi(s); err != nil || rounds < 1 {
			t.Fatalf("%s: %q is no number of rounds", clusterEnv, s)
		}
	}
	if rounds == 0 {
		c := newHBaseCluster(t, 2)
		c.happens("three times each region moves", func() { c.storm(3) })
		c.happens("kill -9 of the server of hbase:meta", func() { c.kill(c.of("hbase:meta")) })
		c.account()
		return
	}
	t.Run("local files", func(t *testing.T) { newHBaseCluster(t, 3).everything(rounds) })
	t.Run("HDFS", func(t *testing.T) {
		fs := startHDFS(t, 1)
		newHBaseCluster(t, 3, "HBASE_ROOT="+fs.uri+"/hbase").everything(rounds)
	})
}

// everything is the long form.
func (c *hbaseCluster) everything(rounds int) {
	for round := range rounds {
		c.happens("five times each region moves, with splits and merges in the first round", func() {
			for i := range 5 {
				c.storm(1)
				if round == 0 { // HBase merges no region that has been split of late
					c.patiently("split", clusterTable, fmt.Sprintf("%x8", i*3))
					c.patiently("merge", clusterTable, fmt.Sprintf("%x", i*3+1))
				}
			}
		})
		c.happens("the balancer, after all regions moved to one server", func() {
			c.patiently("gather", clusterTable, c.address(1))
			c.do(c.t, "balance")
		})
		c.happens("a server is stopped in order", func() {
			s := c.of(clusterTable)
			c.do(c.t, "halt", "-", c.address(s))
			c.gone(s)
		})
		c.again()
		c.happens("kill -9 of a server with regions", func() { c.kill(c.holder()) })
		c.again()
		c.happens("hbase:meta moves, six times", func() {
			for i := range 6 {
				c.patiently("gather", "hbase:meta", c.address(1+i%c.servers))
				time.Sleep(300 * time.Millisecond)
			}
		})
		c.happens("kill -9 of the server of hbase:meta", func() { c.kill(c.of("hbase:meta")) })
		c.again()
		c.happens("a server is frozen for two seconds", func() {
			s := c.holder()
			c.signalServer(s, syscall.SIGSTOP)
			time.Sleep(2 * time.Second)
			c.signalServer(s, syscall.SIGCONT)
		})
		c.happens("a server with regions is frozen until it counts as dead", func() { c.freeze(c.holder()) })
		c.again()
		c.happens("the server of hbase:meta is frozen until it counts as dead", func() { c.freeze(c.of("hbase:meta")) })
		c.again()
		c.happens("kill -9 of the master, which comes back", func() {
			c.signalTo(c.t, "master", syscall.SIGKILL)
			time.Sleep(time.Second)
			c.again()
		})
	}
	c.account()
}

func newHBaseCluster(t *testing.T, servers int, env ...string) *hbaseCluster {
	c := &hbaseCluster{t: t, servers: servers}
	c.realHBase = startHBase(t, 3+servers, append(env, "HBASE_HEAP=384m", fmt.Sprintf("HBASE_SERVERS=%d", servers))...)
	args := []string{"create", clusterTable, "cf1"}
	for i := 1; i < 16; i++ {
		args = append(args, fmt.Sprintf("%x", i))
	}
	c.do(t, args...)
	c.do(t, "keep", clusterTable, "cf1", "5") // so that a row that comes again can be told

	dir := t.TempDir()
	conf := filepath.Join(dir, "agent.conf")
	if err := os.WriteFile(conf, []byte(strings.NewReplacer("@dir@", dir, "@zookeeper@", c.zk).Replace(clusterAgent)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(filepath.Join(dir, "in"), 0o755); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	c.monitor = fmt.Sprintf("127.0.0.1:%d", port)
	c.write(filepath.Join(dir, "in", "rows"))
	c.agent = startSluice(t, "agent", "-n", "a1", "-f", conf, "-Dflume.monitoring.type=http", "-Dflume.monitoring.host=127.0.0.1", fmt.Sprintf("-Dflume.monitoring.port=%d", port))
	c.watch()
	c.flows("rows arrive")
	return c
}

// countedRow is row n: its key, which is anywhere in the table, and its value.
func countedRow(n int64) (key, value string) {
	h := fnv.New64a()
	fmt.Fprint(h, n)
	sum := h.Sum64()
	return fmt.Sprintf("%08x-%09d", uint32(sum*0x9E3779B97F4A7C15>>32), n), fmt.Sprintf("%x", sum)
}

// write appends rows to the agent's file until the test has called account.
func (c *hbaseCluster) write(name string) {
	f, err := os.Create(name)
	if err != nil {
		c.t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan struct{})
	c.endWriter = sync.OnceFunc(func() {
		close(stop)
		<-done
		f.Close()
	})
	c.t.Cleanup(c.endWriter)
	go func() {
		defer close(done)
		const tick = 20 * time.Millisecond
		var b []byte
		for begin := time.Now(); ; {
			n := c.written.Load()
			b = b[:0]
			for due := min(int64(time.Since(begin).Seconds()*clusterRate), c.confirmed()+clusterLead); n < due; n++ {
				key, value := countedRow(n)
				b = fmt.Appendf(b, "%s,%d,%s\n", key, n, value)
			}
			if _, err := f.Write(b); err != nil {
				c.t.Errorf("write rows: %v", err)
				return
			}
			c.written.Store(n)
			select {
			case <-stop:
				return
			case <-time.After(tick):
			}
		}
	}()
}

// watch takes down how many rows the sink has delivered until the test ends.
func (c *hbaseCluster) watch() {
	stop, done := make(chan struct{}), make(chan struct{})
	c.t.Cleanup(func() { close(stop); <-done })
	go func() {
		defer close(done)
		for {
			if n, err := c.delivered(); err == nil {
				c.mu.Lock()
				c.taken = append(c.taken, progress{time.Now(), n})
				c.mu.Unlock()
			}
			select {
			case <-stop:
				return
			case <-time.After(25 * time.Millisecond):
			}
		}
	}()
}

// metrics are the counters of the agent, Flume's or ours, that has its monitoring at an address.
func metrics(address string) (m map[string]map[string]string, err error) {
	resp, err := http.Get("http://" + address + "/metrics")
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	err = json.NewDecoder(resp.Body).Decode(&m)
	return m, err
}

func (c *hbaseCluster) delivered() (int64, error) {
	m, err := metrics(c.monitor)
	if err != nil {
		return 0, err
	}
	return strconv.ParseInt(m["CHANNEL.c"]["EventTakeSuccessCount"], 10, 64)
}

func (c *hbaseCluster) confirmed() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.taken) == 0 {
		return 0
	}
	return c.taken[len(c.taken)-1].n
}

// flows waits until HBase has confirmed what is written now.
func (c *hbaseCluster) flows(what string) {
	c.t.Helper()
	want := c.written.Load() + 1
	eventually(c.t, 5*time.Minute, what, func() error {
		if !c.agent.alive() {
			c.t.Fatalf("the agent has ended: %v", c.agent.err)
		}
		if n := c.confirmed(); n < want {
			return fmt.Errorf("HBase has confirmed %d rows, and %d were written", n, want)
		}
		return nil
	})
}

// happens does something to the servers, waits until rows that were written after
// it are confirmed, and says for how long none were.
func (c *hbaseCluster) happens(what string, f func()) {
	c.t.Helper()
	begin, from := time.Now(), c.confirmed()
	lines := len(c.complaints())
	f()
	did := time.Since(begin)
	c.flows("after " + what + ", rows arrive")
	// The log has five causes a minute at most, and that the sink delivers again.
	c.sayable += 5*(1+int(time.Since(begin).Minutes())) + 1
	var longest time.Duration
	c.mu.Lock()
	last := begin
	for _, p := range c.taken {
		if p.at.After(begin) && p.n > from {
			longest = max(longest, p.at.Sub(last))
			from, last = p.n, p.at
		}
	}
	c.mu.Unlock()
	c.t.Logf("%-65s %5.1f s, all there after %5.1f s; no row confirmed for %5.2f s at most; lines logged: %d",
		what, did.Seconds(), time.Since(begin).Seconds(), longest.Seconds(), len(c.complaints())-lines)
}

func (c *hbaseCluster) address(server int) string {
	return fmt.Sprintf("localhost:%d", c.port+1+server)
}

func (c *hbaseCluster) signalServer(server int, sig syscall.Signal) {
	c.t.Helper()
	c.signalTo(c.t, fmt.Sprintf("server%d", server), sig)
}

// of is the server of a table's first region.
func (c *hbaseCluster) of(table string) int {
	c.t.Helper()
	server := 0
	eventually(c.t, 3*time.Minute, "the first region of "+table+" is open", func() error {
		where, err := c.try("where", table)
		for i := range c.servers {
			if len(where) > 0 && where[0] == c.address(i+1) {
				server = i + 1
				return nil
			}
		}
		return cmp.Or(err, fmt.Errorf("regions are at %q", where))
	})
	return server
}

// holder is a server that has regions of the table, and not hbase:meta.
func (c *hbaseCluster) holder() int {
	c.t.Helper()
	meta, where := c.of("hbase:meta"), c.do(c.t, "where", clusterTable)
	for i := range c.servers {
		if s := i + 1; s != meta && slices.Contains(where, c.address(s)) {
			return s
		}
	}
	c.t.Fatalf("hbase:meta is at server %d, and the regions are at %q", meta, where)
	return 0
}

// storm moves each region so many times.
func (c *hbaseCluster) storm(times int) {
	c.t.Helper()
	for range times {
		c.patiently("move", clusterTable)
	}
}

// patiently gives a command until HBase can do it: regions may be on the move.
func (c *hbaseCluster) patiently(words ...string) {
	c.t.Helper()
	eventually(c.t, 3*time.Minute, strings.Join(words, " "), func() error {
		_, err := c.try(words...)
		return err
	})
}

// kill is kill -9, and waits until the regions are elsewhere.
func (c *hbaseCluster) kill(server int) {
	c.t.Helper()
	c.signalServer(server, syscall.SIGKILL)
	c.gone(server)
}

// freeze holds a server until its regions are elsewhere and rows arrive there;
// when it goes on it finds itself dead.
func (c *hbaseCluster) freeze(server int) {
	c.t.Helper()
	c.signalServer(server, syscall.SIGSTOP)
	c.t.Cleanup(func() {
		if c.runs(server) {
			c.signalServer(server, syscall.SIGCONT)
		}
	})
	c.gone(server)
	c.flows("while a server is frozen, rows arrive")
	c.signalServer(server, syscall.SIGCONT)
	eventually(c.t, 3*time.Minute, "the server finds itself dead", func() error {
		if c.runs(server) {
			return fmt.Errorf("server %d still runs", server)
		}
		return nil
	})
}

// runs says whether the process of a server has not ended.
func (c *hbaseCluster) runs(server int) bool {
	status, _ := peer("hbase.sh", nil, "status", c.dir) // fails when one has ended
	return strings.Contains(status, fmt.Sprintf("server%d: running", server))
}

// gone waits until a server has no region.
func (c *hbaseCluster) gone(server int) {
	c.t.Helper()
	eventually(c.t, 5*time.Minute, fmt.Sprintf("regions are not at server %d any more", server), func() error {
		for _, table := range []string{"hbase:meta", clusterTable} {
			where, err := c.try("where", table)
			if err != nil {
				return err
			}
			if slices.Contains(where, c.address(server)) || slices.Contains(where, "none") {
				return fmt.Errorf("regions of %s are at %q", table, where)
			}
		}
		return nil
	})
}

// again starts the servers that have ended.
func (c *hbaseCluster) again() {
	c.t.Helper()
	c.start(c.t)
	eventually(c.t, 3*time.Minute, "all servers are there", func() error {
		servers, err := c.try("servers")
		if err == nil && len(servers) != c.servers {
			err = fmt.Errorf("servers %q", servers)
		}
		return err
	})
}

// complaints are the agent's warnings and errors.
func (c *hbaseCluster) complaints() (lines []string) {
	for line := range strings.Lines(c.agent.out.String()) {
		if !strings.Contains(line, "level=INFO") || strings.Contains(line, "delivers again") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	return lines
}

// account ends the writer and compares the table with what was written.
func (c *hbaseCluster) account() {
	t := c.t
	t.Helper()
	c.endWriter()
	total := c.written.Load()
	eventually(t, 5*time.Minute, "everything is confirmed", func() error {
		if n := c.confirmed(); n != total {
			return fmt.Errorf("%d of %d", n, total)
		}
		return nil
	})
	c.agent.stop(t)
	seen := make([]bool, total)
	var rows, again, bad int
	complain := func(format string, args ...any) {
		if bad++; bad <= 5 {
			t.Errorf(format, args...)
		}
	}
	err := c.each(func(line string) {
		rows++
		w := strings.Split(line, " ") // key, times written, cells, values
		if len(w) != 4 {
			t.Fatalf("a row like %q", line)
		}
		fields := strings.Split(w[3], ",")
		n, err := strconv.ParseInt(fields[min(1, len(fields)-1)], 10, 64)
		if err != nil || n < 0 || n >= total {
			complain("row %q is of no line", line)
			return
		}
		if key, value := countedRow(n); w[0] != key || w[2] != "3" || w[3] != fmt.Sprintf("%s,%d,%s", key, n, value) {
			complain("row %d is %q", n, line)
		}
		if seen[n] {
			complain("row %d is there twice", n)
		}
		seen[n] = true
		if w[1] != "1" {
			again++
		}
	}, "rows", clusterTable, "key", "n", "value")
	if err != nil {
		t.Fatal(err)
	}
	for n, ok := range seen {
		if !ok {
			complain("row %d is lost", n)
		}
	}
	if bad > 0 {
		t.Errorf("%d rows are wrong or lost", bad)
	}
	said := c.complaints()
	t.Logf("%d lines, %d rows; written more than once %d. The agent said of it:\n%s", total, rows, again, strings.Join(said, "\n"))
	if len(said) > c.sayable {
		t.Errorf("the agent's log has %d lines about what happened, want %d at most", len(said), c.sayable)
	}
}
