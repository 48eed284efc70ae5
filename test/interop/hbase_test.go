//go:build interop

package interop

import (
	"bufio"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/hbase"
)

// realHBase is an Apache HBase, and its own Java client.
type realHBase struct {
	dir  string
	port int // of the master; the region server has the next but one, others those after it
	zk   string
	in   io.Writer
	out  *bufio.Reader
}

// newHBase starts it in one process.
func newHBase(t *testing.T) *realHBase { return startHBase(t, 5, "HBASE_HEAP=768m") }

// startHBase starts it with settings of its script's; it needs n ports.
func startHBase(t *testing.T, n int, env ...string) *realHBase {
	t.Helper()
	fetched(t, "hbase.sh")
	zk := new(ports).row(t, n)
	h := &realHBase{dir: t.TempDir(), port: zk + 1}
	h.zk = fmt.Sprintf("127.0.0.1:%d", zk)
	env = append([]string{fmt.Sprintf("HBASE_ZK_PORT=%d", zk), fmt.Sprintf("HBASE_PORT=%d", h.port)}, env...)
	if _, err := peer("hbase.sh", env, "start", h.dir); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			logs, _ := filepath.Glob(filepath.Join(h.dir, "*log"))
			for _, name := range logs {
				log, _ := os.ReadFile(name)
				t.Logf("HBase's %s (end):\n%s", filepath.Base(name), tail(string(log), 2000))
			}
		}
		h.stop(t)
	})
	cmd := exec.Command(filepath.Join("peers", "hbase-shell.sh"), h.zk)
	stderr := new(output)
	cmd.Stderr = stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	h.in, h.out = in, bufio.NewReader(out)
	t.Cleanup(func() {
		in.Close()
		if err := cmd.Wait(); err != nil && !t.Failed() {
			t.Errorf("HBase's client: %v\n%s", err, tail(stderr.String(), 2000))
		}
	})
	return h
}

func (h *realHBase) stop(t *testing.T) {
	t.Helper()
	if _, err := peer("hbase.sh", nil, "stop", h.dir); err != nil {
		t.Error(err)
	}
}

// start starts it again, with its data.
func (h *realHBase) start(t *testing.T) {
	t.Helper()
	if _, err := peer("hbase.sh", nil, "start", h.dir); err != nil {
		t.Fatal(err)
	}
}

// signal sends a signal to HBase's process.
func (h *realHBase) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	h.signalTo(t, "hbase", sig)
}

// signalTo sends one to a process of a cluster.
func (h *realHBase) signalTo(t *testing.T, name string, sig syscall.Signal) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(h.dir, name+".pid"))
	if err != nil {
		t.Fatal(err)
	}
	word, _, _ := strings.Cut(string(text), " ")
	pid, err := strconv.Atoi(word)
	if err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(pid, sig); err != nil {
		t.Fatal(err)
	}
}

// each gives a command to the Java client, and calls f for each line that it
// prints.
func (h *realHBase) each(f func(line string), words ...string) error {
	if _, err := fmt.Fprintln(h.in, strings.Join(words, "\t")); err != nil {
		return err
	}
	for {
		line, err := h.out.ReadString('\n')
		if err != nil {
			return fmt.Errorf("HBase's client ended: %w", err)
		}
		line = strings.TrimSuffix(line, "\n")
		switch text, ok := strings.CutPrefix(line, "\t"); {
		case ok:
			f(text)
		case line == "ok":
			return nil
		default:
			return fmt.Errorf("HBase's client: %s: %s", strings.Join(words, " "), line)
		}
	}
}

// try gives a command to the Java client, and returns what it prints.
func (h *realHBase) try(words ...string) (lines []string, err error) {
	err = h.each(func(line string) { lines = append(lines, line) }, words...)
	return lines, err
}

func (h *realHBase) do(t *testing.T, words ...string) []string {
	t.Helper()
	lines, err := h.try(words...)
	if err != nil {
		t.Fatal(err)
	}
	return lines
}

// TestHBase: the HBase sink against Apache HBase.
func TestHBase(t *testing.T) {
	h := newHBase(t)
	t.Run("client", func(t *testing.T) { hbaseClient(t, h) })
	t.Run("as Flume", func(t *testing.T) { hbaseAsFlume(t, h) })
	t.Run("bad input", func(t *testing.T) { hbaseBadInput(t, h) })
	t.Run("through what happens to a table", func(t *testing.T) { hbaseTrouble(t, h) })
}

// hbaseClient: what the client takes for granted about a server.
func hbaseClient(t *testing.T, h *realHBase) {
	h.do(t, "create", "client", "f", "m")
	cl := hbase.New(hbase.Config{Quorum: []string{h.zk}, User: "test", Timeout: 2 * time.Minute})
	defer cl.Close()
	add := func(b *hbase.Batch, row, value string) {
		t.Helper()
		if err := b.Put([]byte(row)); err != nil {
			t.Fatal(err)
		}
		if err := b.Add([]byte("f"), []byte("q"), []byte(value)); err != nil {
			t.Fatal(err)
		}
	}
	b := new(hbase.Batch)
	for i := range 10 {
		add(b, fmt.Sprint("row", i%5), fmt.Sprint("value ", i))
		if err := b.Increment([]byte("count"), []byte("f"), []byte("n"), 2); err != nil {
			t.Fatal(err)
		}
	}
	// Done twice with the same nonces, as after a lost answer.
	for range 2 {
		if err := cl.Do(t.Context(), "client", b); err != nil {
			t.Fatal(err)
		}
	}
	want := []string{fmt.Sprintf("%x %x %x %016x", "count", "f", "n", 20)}
	for i := range 5 {
		want = append(want, fmt.Sprintf("%x %x %x %x", fmt.Sprint("row", i), "f", "q", fmt.Sprint("value ", i+5)))
	}
	sameLines(t, "cells after two times the same", h.do(t, "scan", "client"), want)

	// One cell that is too large costs its neighbours nothing.
	b.Reset()
	add(b, "a", "1")
	add(b, "b", strings.Repeat("x", 10<<20+1))
	add(b, "z", "2")
	err := cl.Do(t.Context(), "client", b)
	if !hbase.IsPermanent(err) || b.Err(0) != nil || b.Err(1) != err || b.Err(2) != nil {
		t.Errorf("%v; %v, %v, %v", err, b.Err(0), b.Err(1), b.Err(2))
	}
	if n := h.do(t, "count", "client"); n[0] != "8" {
		t.Errorf("%s rows", n[0])
	}
}

// hbaseAsFlume: Flume's hbase2 sink and Sluice's write the same events by the
// same agent file but for the tables. With row keys from the events the tables
// are equal cell by cell; with made-up ones, but for those.
func hbaseAsFlume(t *testing.T, h *realHBase) {
	if _, err := peer("flume.sh", []string{"FLUME_JARS=flume-hbase"}, "fetch"); err != nil {
		t.Fatal(err)
	}
	const events = 3000
	run := func(who string, agent func(conf string)) (keyed, made []string) {
		dir := t.TempDir()
		spool := filepath.Join(dir, "spool")
		if err := os.Mkdir(spool, 0o755); err != nil {
			t.Fatal(err)
		}
		h.do(t, "create", who+"Keyed", "cf", "2", "5")
		h.do(t, "create", who+"Made", "cf")
		var b strings.Builder
		for i := range events {
			switch i % 10 {
			case 3: // does not match
				fmt.Fprintf(&b, "no number %d\n", i)
			case 5: // a row again, and an empty value
				fmt.Fprintf(&b, "%d;\n", keyOf(i, events))
			default:
				fmt.Fprintf(&b, "%d;값 %d; and; more \t%s\n", keyOf(i, events), i, strings.Repeat("x", i%50))
			}
		}
		if err := os.WriteFile(filepath.Join(spool, "one.log"), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		conf := filepath.Join(dir, "agent.conf")
		text := strings.NewReplacer("SPOOL", spool, "WHO", who, "ZK", h.zk).Replace(`
a1.sources = s
a1.channels = c1 c2
a1.sinks = keyed made
a1.sources.s.type = spooldir
a1.sources.s.channels = c1 c2
a1.sources.s.spoolDir = SPOOL
a1.sources.s.basenameHeader = true
a1.channels.c1.type = memory
a1.channels.c1.capacity = 10000
a1.channels.c1.transactionCapacity = 1000
a1.channels.c2.type = memory
a1.channels.c2.capacity = 10000
a1.channels.c2.transactionCapacity = 1000
a1.sinks.keyed.type = org.apache.flume.sink.hbase2.HBase2Sink
a1.sinks.keyed.channel = c1
a1.sinks.keyed.table = WHOKeyed
a1.sinks.keyed.columnFamily = cf
a1.sinks.keyed.zookeeperQuorum = ZK
a1.sinks.keyed.batchSize = 100
a1.sinks.keyed.serializer = org.apache.flume.sink.hbase2.RegexHBase2EventSerializer
a1.sinks.keyed.serializer.regex = (\\d+);([^;]*)(.*)
a1.sinks.keyed.serializer.colNames = ROW_KEY,value,rest
a1.sinks.keyed.serializer.rowKeyIndex = 0
a1.sinks.keyed.serializer.depositHeaders = true
a1.sinks.made.type = hbase2
a1.sinks.made.channel = c2
a1.sinks.made.table = WHOMade
a1.sinks.made.columnFamily = cf
a1.sinks.made.zookeeperQuorum = ZK
a1.sinks.made.batchSize = 100
a1.sinks.made.coalesceIncrements = true
a1.sinks.made.serializer.rowPrefix = p-
a1.sinks.made.serializer.incrementRow = counter
`)
		if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		agent(conf)
		eventually(t, 5*time.Minute, who+" has written all", func() error {
			// The last line has a row of its own in one table.
			if n := h.do(t, "count", who+"Made"); n[0] != fmt.Sprint(events+1) {
				return fmt.Errorf("%s rows", n[0])
			}
			if n := h.do(t, "count", who+"Keyed"); n[0] != fmt.Sprint(keyedRows(events)) {
				return fmt.Errorf("%s rows with keys, want %d", n[0], keyedRows(events))
			}
			// Flume adds to the counter after a batch's rows are there.
			counted := fmt.Sprintf("%x %x %x %016x", "counter", "cf", "iCol", events)
			if made := h.do(t, "scan", who+"Made"); !slices.Contains(made, counted) {
				return fmt.Errorf("no cell %s, the first is %s", counted, made[0])
			}
			return nil
		})
		keyed, made = h.do(t, "scan", who+"Keyed"), h.do(t, "scan", who+"Made")
		for i, cell := range made {
			row, rest, _ := strings.Cut(cell, " ")
			if name, err := hex.DecodeString(row); err != nil || string(name) != "counter" && (!strings.HasPrefix(string(name), "p-") || len(name) != 2+36) {
				t.Errorf("%s: row %q, %v", who, name, err)
			}
			made[i] = rest
		}
		slices.Sort(made)
		return keyed, made
	}
	flumeKeyed, flumeMade := run("Flume", func(conf string) {
		dir := t.TempDir()
		if _, err := peer("flume.sh", []string{"FLUME_JARS=flume-hbase", "FLUME_HEAP=256m"}, "start", dir, conf, "a1"); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if t.Failed() {
				log, _ := os.ReadFile(filepath.Join(dir, "log"))
				t.Logf("Flume's log (end):\n%s", tail(string(log), 2000))
			}
			if _, err := peer("flume.sh", nil, "stop", dir); err != nil {
				t.Error(err)
			}
		})
	})
	keyed, made := run("Sluice", func(conf string) { startSluice(t, "agent", "-n", "a1", "-f", conf) })
	sameLines(t, "cells of the table with keys from the events", keyed, flumeKeyed)
	sameLines(t, "cells of the table with made-up keys", made, flumeMade)
}

// keyOf is the row key of event i of hbaseAsFlume. A row comes again in another
// batch only: of two puts in one, Flume's sink has left the older behind as the
// last, on a busy machine.
func keyOf(i, events int) int {
	if i%10 == 5 && i > 200 {
		i -= 195
	}
	return i * 7919 % events
}

// keyedRows is how many rows the events of hbaseAsFlume have.
func keyedRows(events int) int {
	rows := map[int]bool{}
	for i := range events {
		if i%10 != 3 {
			rows[keyOf(i, events)] = true
		}
	}
	return len(rows)
}

// hbaseTrouble: driving records flow into the handbook's table, which is not
// there at first, gets its family later, is split and moved, disabled and
// enabled, and whose HBase freezes, is stopped and comes back. Each row is
// there in the end, cell by cell.
func hbaseTrouble(t *testing.T, h *realHBase) {
	const perFile = 500
	columns := strings.Split("date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number", ",")
	dir := t.TempDir()
	spool := filepath.Join(dir, "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	var want []string
	file := func(n int) {
		var b strings.Builder
		for i := range perFile {
			k := n*perFile + i
			at := time.Date(2016, 1, 3, 0, 0, 0, 0, time.UTC).Add(time.Duration(k/10) * 2 * time.Second).Format("20060102150405")
			fields := []string{at, fmt.Sprintf("%c%04d", 'A'+k%10, k%10), strconv.Itoa(k % 6), "0", "F", "N", strconv.Itoa(k % 250), fmt.Sprintf("A%02d", k%10)}
			fmt.Fprintln(&b, strings.Join(fields, ","))
			key := []byte(at)
			slices.Reverse(key)
			for c, f := range fields {
				want = append(want, fmt.Sprintf("%x %x %x %x", string(key)+"-"+fields[1], "cf1", columns[c], f))
			}
		}
		// Spooldir must not see a file that grows.
		tmp := filepath.Join(dir, "next")
		if err := os.WriteFile(tmp, []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(tmp, filepath.Join(spool, fmt.Sprintf("d%03d.log", n))); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(dir, "agent.conf")
	text := strings.NewReplacer("SPOOL", spool, "BOOT", fmt.Sprintf("127.0.0.1:%d,localhost:%d", h.port, h.port+2), "DIR", dir, "COLUMNS", strings.Join(columns, ",")).Replace(`
a1.sources = s
a1.channels = c
a1.sinks = k
a1.sources.s.type = spooldir
a1.sources.s.channels = c
a1.sources.s.spoolDir = SPOOL
a1.sources.s.deletePolicy = immediate
a1.channels.c.type = file
a1.channels.c.checkpointDir = DIR/checkpoint
a1.channels.c.dataDirs = DIR/data
a1.sinks.k.type = hbase2
a1.sinks.k.channel = c
a1.sinks.k.table = DriverCarInfo
a1.sinks.k.columnFamily = cf1
a1.sinks.k.hbase.client.registry.impl = org.apache.hadoop.hbase.client.RpcConnectionRegistry
a1.sinks.k.hbase.client.bootstrap.servers = BOOT
a1.sinks.k.hbase.rpc.timeout = 2000
a1.sinks.k.hbase.client.pause = 50
a1.sinks.k.hbase.client.operation.timeout = 4000
a1.sinks.k.batchSize = 100
a1.sinks.k.serializer = delimited
a1.sinks.k.serializer.colNames = COLUMNS
a1.sinks.k.serializer.rowKey = {date:reversed}-{car_number}
`)
	if err := os.WriteFile(conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	admin := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	_, adminPort, _ := strings.Cut(admin, ":")
	began := time.Now()
	p := startSluice(t, "agent", "-n", "a1", "-f", conf, "-Dflume.monitoring.type=http", "-Dflume.monitoring.port="+adminPort, "-Dflume.monitoring.host=127.0.0.1")
	// ill waits until health names a cause, which the log may have said less often.
	ill := func(what string) {
		t.Helper()
		eventually(t, 3*time.Minute, "health says "+what, func() error {
			resp, err := http.Get("http://" + admin + "/healthz")
			if err != nil {
				return err
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			if err == nil && !strings.Contains(string(body), what) {
				err = fmt.Errorf("health: %s", body)
			}
			return err
		})
	}
	said := func(what string) {
		t.Helper()
		eventually(t, 3*time.Minute, "the log says "+what, func() error {
			if !strings.Contains(p.out.String(), what) {
				return fmt.Errorf("the log ends with %s", tail(p.out.String(), 500))
			}
			return nil
		})
	}
	rows := func() int {
		t.Helper()
		n, err := strconv.Atoi(h.do(t, "count", "DriverCarInfo")[0])
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	// flows writes files for as long as something happens, so that the agent has
	// what to be ill of, and waits until rows have come that were written after it.
	n := 0
	flows := func(what string, happen func()) {
		t.Helper()
		done := make(chan struct{})
		stop := make(chan struct{})
		go func() {
			defer close(done)
			for i := 0; ; i++ {
				file(n)
				n++
				every := 200 * time.Millisecond
				if i >= 10 { // enough to look at in the end
					every = time.Second
				}
				select {
				case <-stop:
					if i >= 10 {
						return
					}
				case <-time.After(every):
				}
			}
		}()
		end := sync.OnceFunc(func() { close(stop); <-done })
		defer end() // if the test ends here
		happen()
		end()
		eventually(t, 5*time.Minute, "after "+what+", all rows are there", func() error {
			if got := rows(); got != n*perFile {
				return fmt.Errorf("%d of %d", got, n*perFile)
			}
			return nil
		})
	}
	var missing time.Duration
	flows("the table was made", func() {
		said("table DriverCarInfo does not exist: create it, with the column family cf1")
		h.do(t, "create", "DriverCarInfo", "other", "2", "4", "6")
		missing = time.Since(began)
		said("table DriverCarInfo has no column family cf1")
		h.do(t, "family", "DriverCarInfo", "cf1")
		said("delivers again")
	})
	flows("splits and moves", func() {
		for _, at := range []string{"1", "5", "8"} {
			h.do(t, "split", "DriverCarInfo", at)
		}
		move := func() {
			t.Helper()
			eventually(t, 3*time.Minute, "the regions move", func() error {
				_, err := h.try("move", "DriverCarInfo") // while one is split or opened it does not
				return err
			})
		}
		move()
		eventually(t, 3*time.Minute, "there are seven regions", func() error {
			if r := h.do(t, "regions", "DriverCarInfo"); len(r) != 7 {
				return fmt.Errorf("regions %q", r)
			}
			return nil
		})
		move()
	})
	flows("the table was disabled", func() {
		h.do(t, "disable", "DriverCarInfo")
		ill("the table is disabled")
		h.do(t, "enable", "DriverCarInfo")
	})
	flows("HBase was frozen", func() {
		h.signal(t, syscall.SIGSTOP)
		ill("no answer in time")
		h.signal(t, syscall.SIGCONT)
	})
	flows("HBase was stopped", func() {
		h.stop(t)
		ill("connection refused")
		h.start(t)
	})
	slices.Sort(want)
	got := h.do(t, "scan", "DriverCarInfo")
	slices.Sort(got)
	sameLines(t, "cells of DriverCarInfo", got, want)
	if causes := strings.Count(p.out.String(), "does not exist"); causes > 2+int(missing.Minutes()) { // it is named again after a minute
		t.Errorf("the missing table was named %d times in %v", causes, missing)
	}
	p.stop(t)
	t.Logf("%d rows, %d cells", n*perFile, len(got))
}
