//go:build interop

package interop

import (
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"
)

// badFlow is a flow of an agent: a spooling directory, a file channel, and a
// sink that cannot deliver all of its events at first.
type badFlow struct {
	name   string
	source []string // more properties of the source
	sink   []string // the sink's properties
	lines  []string // the events

	says    []string // what the log has of the cause: words of one line
	waiting int      // events that stay in the channel while the fault lasts: all of the batch, also those that are delivered
	dead    int      // events that become dead letters
	heal    func()   // mends the cause; nil: it is in the agent file, or in the event
	start   bool     // it is the start that fails

	cut  func()   // once more, while the flow is at work; heal mends that, too
	more []string // the events then
}

// runBadFlows runs the flows in one agent and looks at what holds for each:
// what cannot be delivered stays in its channel, its cause is in the log once,
// the pauses between tries grow, and once the cause is mended it is delivered
// without a restart. It returns the agent's directory of dead letters.
func runBadFlows(t *testing.T, flows []badFlow) (dead string) {
	t.Helper()
	dir := t.TempDir()
	dead = filepath.Join(dir, "dead")
	var names []string
	var conf strings.Builder
	for _, f := range flows {
		names = append(names, f.name)
		line := func(format string, args ...any) { fmt.Fprintf(&conf, "a1."+format+"\n", args...) }
		line("sources.%s.type = spooldir", f.name)
		line("sources.%s.spoolDir = %s/%[1]s/spool", f.name, dir)
		line("sources.%s.channels = %[1]s", f.name)
		for _, p := range f.source {
			line("sources.%s.%s", f.name, p)
		}
		line("channels.%s.type = file", f.name)
		line("channels.%s.checkpointDir = %s/%[1]s/checkpoint", f.name, dir)
		line("channels.%s.dataDirs = %s/%[1]s/data", f.name, dir)
		line("sinks.%s.channel = %[1]s", f.name)
		for _, p := range f.sink {
			line("sinks.%s.%s", f.name, p)
		}
		if f.dead > 0 {
			line("sinks.%s.deadletter = file", f.name)
			line("sinks.%s.deadletter.directory = %s", f.name, dead)
		}
		spool := filepath.Join(dir, f.name, "spool")
		if err := os.MkdirAll(spool, 0o755); err != nil {
			t.Fatal(err)
		}
		spoolLines(t, spool, "a.log", f.lines)
	}
	list := strings.Join(names, " ")
	port := freePort(t)
	begin := time.Now()
	p := startSluice(t, "agent", "-n", "a1", "--stop-timeout", "3s", "-f", writeConf(t, dir, fmt.Sprintf("a1.sources = %s\na1.channels = %[1]s\na1.sinks = %[1]s\n%[2]s", list, conf.String())),
		"-Dflume.monitoring.type=http", fmt.Sprintf("-Dflume.monitoring.port=%d", port), "-Dflume.monitoring.host=127.0.0.1")
	// counter waits until the agent has come so far that it answers and knows the component.
	counter := func(what, name string) (n int) {
		t.Helper()
		eventually(t, 3*time.Minute, name+" of "+what, func() error {
			m, err := flumeMetrics(port)
			if err != nil {
				return err
			}
			n, err = strconv.Atoi(m[what][name])
			return err
		})
		return n
	}
	// said are the lines of the log about a flow's sink that have all words.
	said := func(f badFlow, words ...string) (lines []string) {
		for line := range strings.Lines(p.out.String()) {
			ok := strings.Contains(line, "sink="+f.name+" ") || strings.Contains(line, `component="sink `+f.name+`"`)
			for _, w := range words {
				ok = ok && strings.Contains(line, w)
			}
			if ok {
				lines = append(lines, strings.TrimSpace(line))
			}
		}
		return lines
	}

	for _, f := range flows {
		if len(f.says) > 0 {
			eventually(t, 3*time.Minute, f.name+": the log names the cause", func() error {
				if len(said(f, f.says...)) == 0 {
					return fmt.Errorf("it has %q", said(f))
				}
				return nil
			})
		}
		eventually(t, 3*time.Minute, f.name+": the events are in the channel, or dead letters", func() error {
			size, dead := counter("CHANNEL."+f.name, "ChannelSize"), 0
			if f.dead > 0 {
				dead = counter("SINK."+f.name, "EventDeadLetterCount")
			}
			if put := counter("CHANNEL."+f.name, "EventPutSuccessCount"); put != len(f.lines) || size != f.waiting || dead != f.dead {
				return fmt.Errorf("of %d events, %d were put, %d are in the channel, %d are dead letters; want %d and %d", len(f.lines), put, size, dead, f.waiting, f.dead)
			}
			return nil
		})
	}
	// Long enough that a loop without pauses would show.
	time.Sleep(time.Until(begin.Add(10 * time.Second)))
	for _, f := range flows {
		if f.waiting == 0 {
			continue
		}
		cause, errors, warnings := said(f, append([]string{"level=ERROR"}, f.says...)...), said(f, "level=ERROR"), said(f, "level=WARN")
		elapsed := time.Since(begin) // after the look, whatever came between
		minutes := 1 + int(elapsed/time.Minute)
		if len(cause) == 0 || len(cause) > minutes {
			t.Errorf("%s: the cause is in the log %d times after %v: %q", f.name, len(cause), elapsed, cause)
		}
		if len(errors) > minutes {
			t.Errorf("%s: %d errors in the log after %v: %q", f.name, len(errors), elapsed, errors)
		}
		if len(warnings) > minutes {
			t.Errorf("%s: %d warnings in the log after %v: %q", f.name, len(warnings), elapsed, warnings)
		}
		if f.start {
			continue
		}
		// 250 ms, doubled up to 5 s.
		tries := counter("SINK."+f.name, "EventDrainAttemptCount")
		elapsed = time.Since(begin)
		if most := f.waiting * (6 + int(elapsed/(4*time.Second))); tries > most+len(f.lines) {
			t.Errorf("%s: %d events were tried in %v, more than %d", f.name, tries, elapsed, most+len(f.lines))
		}
		if size := counter("CHANNEL."+f.name, "ChannelSize"); size != f.waiting {
			t.Errorf("%s: %d events are in the channel, want %d", f.name, size, f.waiting)
		}
	}
	for _, f := range flows {
		if f.heal != nil {
			f.heal()
		}
	}
	// delivered waits for all events, and a line about it besides those that were there; each has an error before it.
	delivered := func(f badFlow, events, before int) {
		t.Helper()
		eventually(t, 3*time.Minute, f.name+": delivered without a restart", func() error {
			if n := counter("CHANNEL."+f.name, "EventTakeSuccessCount"); n != events {
				return fmt.Errorf("%d of %d events are delivered", n, events)
			}
			if n := len(said(f, "delivers again")); n <= before {
				return fmt.Errorf("the log says so %d times: %q", n, said(f))
			}
			return nil
		})
		if n, errors := len(said(f, "delivers again")), len(said(f, "level=ERROR")); n > errors {
			t.Errorf("%s: the log says %d times that it delivers again, after %d errors: %q", f.name, n, errors, said(f))
		}
	}
	for _, f := range flows {
		if f.heal != nil {
			delivered(f, len(f.lines), 0)
		}
	}
	for _, f := range flows {
		if f.cut == nil {
			continue
		}
		had, again := len(said(f, "level=ERROR")), len(said(f, "delivers again"))
		f.cut()
		spoolLines(t, filepath.Join(dir, f.name, "spool"), "b.log", f.more)
		eventually(t, 3*time.Minute, f.name+": the log names the cause again", func() error {
			if n := len(said(f, "level=ERROR")); n <= had {
				return fmt.Errorf("it has %q", said(f))
			}
			return nil
		})
		f.heal()
		delivered(f, len(f.lines)+len(f.more), again)
	}
	p.stop(t) // file channels: what waits is not lost
	for _, f := range flows {
		t.Logf("%s: %d events, %d were left waiting, %d dead letters; it said: %s", f.name, len(f.lines), f.waiting, f.dead, firstOf(said(f, f.says...)))
	}
	return dead
}

func firstOf(lines []string) string {
	if len(lines) == 0 {
		return "nothing"
	}
	_, text, _ := strings.Cut(lines[0], " ")
	return text
}

// spoolLines puts a file into a spooling directory, whole.
func spoolLines(t *testing.T, spool, name string, lines []string) {
	t.Helper()
	whole := filepath.Join(filepath.Dir(spool), name)
	if err := os.WriteFile(whole, []byte(strings.Join(lines, "\n")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(whole, filepath.Join(spool, name)); err != nil {
		t.Fatal(err)
	}
}

// forwarder lets connections to a port through to another, while it is open:
// to its clients it is a server that comes and goes.
type forwarder struct {
	port int
	to   string

	mu    sync.Mutex
	l     net.Listener // nil: closed
	conns []net.Conn
	wg    sync.WaitGroup
}

func newForwarder(t *testing.T, port int, to string) *forwarder {
	f := &forwarder{port: port, to: to}
	t.Cleanup(f.close)
	return f
}

func (f *forwarder) open(t *testing.T) {
	t.Helper()
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", f.port))
	if err != nil {
		t.Fatal(err)
	}
	f.mu.Lock()
	f.l = l
	f.mu.Unlock()
	f.wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", f.to)
			if err != nil {
				in.Close()
				continue
			}
			f.mu.Lock()
			open := f.l == l
			if open {
				f.conns = append(f.conns, in, out)
			}
			f.mu.Unlock()
			if !open { // closed while this one came
				in.Close()
				out.Close()
				return
			}
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				f.wg.Go(func() {
					_, _ = io.Copy(c[0], c[1]) // an end is how it ends
					c[0].Close()
					c[1].Close()
				})
			}
		}
	})
}

func (f *forwarder) close() {
	f.mu.Lock()
	if f.l != nil {
		f.l.Close()
		f.l = nil
	}
	for _, c := range f.conns {
		c.Close()
	}
	f.conns = nil
	f.mu.Unlock()
	f.wg.Wait()
}

func deadLetters(t *testing.T, dir string) string {
	t.Helper()
	return clientOutput(t, "", binary, "deadletter", "list", dir)
}

// hdfsBadInput: what an operator gets wrong, and what an event may lack.
func hdfsBadInput(t *testing.T, h *realHDFS) {
	h.tool(t, "dfs", "-mkdir", "-p", "/shut")
	var next ports
	down := next.take(t)
	node := newForwarder(t, down, strings.TrimPrefix(h.uri, "hdfs://"))
	to := func(path string, more ...string) []string {
		return append([]string{"type = hdfs", "hdfs.path = " + path, "hdfs.fileType = DataStream", "hdfs.rollInterval = 0", "hdfs.rollSize = 0", "hdfs.rollCount = 100",
			"hdfs.batchSize = 100", "hdfs.callTimeout = 60000", "hdfs.retryInterval = 1"}, more...)
	}
	numbers := func(n int, format string) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf(format, i))
		}
		return lines
	}
	stamped := append(numbers(40, "1700000000000 %d"), numbers(7, "none %d")...)
	extract := []string{"interceptors = i1", "interceptors.i1.type = regex_extractor", "interceptors.i1.regex = ^(\\\\d{13})", "interceptors.i1.serializers = s1", "interceptors.i1.serializers.s1.name = timestamp"}
	large := strings.Repeat("0123456789", 2_000_000)
	dead := runBadFlows(t, []badFlow{
		{name: "port", sink: to(fmt.Sprintf("hdfs://127.0.0.1:%d/logs/bad/port", down)), lines: numbers(50, "%d"),
			says: []string{"connect to the name node", strconv.Itoa(down), "refused"}, waiting: 50, heal: func() { node.open(t) }, cut: node.close, more: numbers(300, "more %d")},
		{name: "user", sink: to(h.uri+"/shut/x", "hdfs.proxyUser = driver"), lines: numbers(50, "%d"),
			says: []string{"the user driver may not write to /shut", "hdfs.proxyUser"}, waiting: 50, heal: func() { h.tool(t, "dfs", "-chmod", "777", "/shut") }},
		{name: "host", sink: to("hdfs://no-such-name-node.invalid:8020/logs/x"), lines: numbers(50, "%d"), says: []string{"no-such-name-node.invalid"}, waiting: 50},
		{name: "keytab", sink: to(h.uri+"/logs/x", "hdfs.kerberosPrincipal = flume@REALM", "hdfs.kerberosKeytab = /no/such/keytab"), lines: numbers(5, "%d"),
			says: []string{"hdfs.kerberosKeytab"}, waiting: 5, start: true},
		{name: "stamp", source: extract, sink: to(h.uri + "/logs/bad/stamp/%Y"), lines: stamped, says: []string{"timestamp"}, waiting: 47},
		{name: "letters", source: extract, sink: to(h.uri + "/logs/bad/letters/%Y"), lines: stamped, dead: 7},
		{name: "large", source: []string{"deserializer.maxLineLength = 30000000"}, sink: to(h.uri + "/logs/bad/large"), lines: []string{"before", large, "behind"}},
	})
	// What a name node that went away interrupted may be there twice.
	_, contents, err := h.files("/logs/bad/port")
	if err != nil {
		t.Fatal(err)
	}
	got := splitLines(strings.Join(contents, ""))
	n := len(got)
	slices.Sort(got)
	want := append(numbers(50, "%d"), numbers(300, "more %d")...)
	slices.Sort(want)
	sameLines(t, "lines through a name node that came and went", slices.Compact(got), want)
	t.Logf("%d of %d lines twice, where the name node went away", n-len(want), len(want))
	for dir, want := range map[string][]string{"/shut/x": numbers(50, "%d"), "/logs/bad/stamp/2023": stamped[:40], "/logs/bad/letters/2023": stamped[:40],
		"/logs/bad/large": {"before", large, "behind"}} {
		names, contents, err := h.files(dir)
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(contents, ""); got != strings.Join(want, "\n")+"\n" {
			t.Errorf("%s: %d files with %d bytes, want %d: %.200q", dir, len(names), len(got), len(strings.Join(want, "\n"))+1, got)
		}
	}
	if list := deadLetters(t, dead); strings.Count(list, "expected a timestamp") != 7 {
		t.Errorf("dead letters:\n%s", list)
	}
}

// hbaseBadInput is the same for HBase.
func hbaseBadInput(t *testing.T, h *realHBase) {
	h.do(t, "create", "badGood", "cf")
	h.do(t, "create", "badFamily", "other")
	var next ports
	down := next.take(t)
	keeper := newForwarder(t, down, h.zk)
	to := func(table, quorum string, more ...string) []string {
		return append([]string{"type = hbase2", "table = " + table, "columnFamily = cf", "zookeeperQuorum = " + quorum, "batchSize = 100", "hbase.client.operation.timeout = 3000",
			"serializer = delimited", "serializer.colNames = k,v", "serializer.rowKey = {k}"}, more...)
	}
	rows := func(prefix string, n int) (lines []string) {
		for i := range n {
			lines = append(lines, fmt.Sprintf("%s%02d,%d", prefix, i, i))
		}
		return lines
	}
	large := "large," + strings.Repeat("x", 11<<20)
	unfit := append(append(rows("l", 3), large, "too few", ",no key", strings.Repeat("k", 40_000)+",long key"), rows("m", 3)...)
	dead := runBadFlows(t, []badFlow{
		{name: "quorum", sink: to("badGood", fmt.Sprintf("127.0.0.1:%d", down)), lines: rows("a", 50), says: []string{"ZooKeeper", strconv.Itoa(down), "refused"}, waiting: 50,
			heal: func() { keeper.open(t) }},
		{name: "host", sink: to("badGood", "no-such-quorum.invalid:2181"), lines: rows("b", 50), says: []string{"no-such-quorum.invalid"}, waiting: 50},
		{name: "node", sink: to("badGood", h.zk, "znodeParent = /elsewhere"), lines: rows("c", 50), says: []string{"/elsewhere"}, waiting: 50},
		{name: "table", sink: to("badTable", h.zk), lines: rows("d", 50), says: []string{"table badTable does not exist: create it, with the column family cf"}, waiting: 50,
			heal: func() { h.do(t, "create", "badTable", "cf") }},
		{name: "family", sink: to("badFamily", h.zk), lines: rows("e", 50), says: []string{"table badFamily has no column family cf: add it"}, waiting: 50,
			heal: func() { h.do(t, "family", "badFamily", "cf") }},
		{name: "letters", source: []string{"deserializer.maxLineLength = 30000000"}, sink: to("badGood", h.zk), lines: unfit, dead: 4},
		{name: "unfit", source: []string{"deserializer.maxLineLength = 30000000"}, sink: to("badGood", h.zk), lines: append(rows("n", 3), large), says: []string{"HBase does not take the row"}, waiting: 4},
	})
	for table, want := range map[string]int{"badGood": 50 + 6 + 3, "badTable": 50, "badFamily": 50} {
		if n := h.do(t, "count", table); n[0] != strconv.Itoa(want) {
			t.Errorf("table %s has %s rows, want %d", table, n[0], want)
		}
	}
	list := deadLetters(t, dead)
	for _, why := range []string{"exceeds", "fields", "row key"} {
		if !strings.Contains(list, why) {
			t.Errorf("no dead letter says %q:\n%s", why, list)
		}
	}
}
