//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/test/ports"
)

// spillable is an agent with 50 events of memory before its overflow.
type spillable struct{ dir, sinkTo string }

// agent starts it, with a netcat source if it listens. Its sink has the time to the end of a stop.
func (s spillable) agent(t *testing.T, listens bool, stop time.Duration) *proc {
	t.Helper()
	host, port, err := net.SplitHostPort(s.sinkTo)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf("a1.sinks = k1\na1.sinks.k1.type = avro\na1.sinks.k1.hostname = %s\na1.sinks.k1.port = %s\na1.sinks.k1.batch-size = 7\na1.sinks.k1.channel = c1\n", host, port)
	text += fmt.Sprintf("a1.channels = c1\na1.channels.c1.type = spillablememory\na1.channels.c1.memoryCapacity = 50\na1.channels.c1.overflowCapacity = 10000\na1.channels.c1.overflowTimeout = 0\n"+
		"a1.channels.c1.checkpointDir = %[1]s/c\na1.channels.c1.dataDirs = %[1]s/d\n", s.dir)
	if listens {
		text += "a1.sources = r1\na1.sources.r1.type = netcat\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = 0\na1.sources.r1.channels = c1\n"
	}
	conf := filepath.Join(s.dir, "a1.conf")
	writeFile(t, conf, text)
	return start(t, "sluice", "agent", "-n", "a1", "-f", conf, "--stop-timeout", stop.String())
}

// send gives lines to the netcat source and wants an OK for each.
func send(t *testing.T, p *proc, from, to int) {
	t.Helper()
	conn, err := net.Dial("tcp", p.find(`msg=listening.* address=(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	for i := from; i < to; i++ {
		fmt.Fprintf(conn, "line %d\n", i)
		if answer, err := answers.ReadString('\n'); err != nil || answer != "OK\n" {
			t.Fatalf("line %d: %q, %v", i, answer, err)
		}
	}
}

// arrived are the lines in the files of the collector, in order.
func arrived(t *testing.T, dir string) (lines []string) {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		b, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, strings.Fields(strings.ReplaceAll(string(b), "line ", ""))...)
	}
	return lines
}

// collect starts the agent that the sink waits for, and wants these lines in it, in order and no others.
func (s spillable) collect(t *testing.T, sender *proc, want []int) {
	t.Helper()
	files := filepath.Join(s.dir, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	host, port, err := net.SplitHostPort(s.sinkTo)
	if err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.dir, "a2.conf")
	writeFile(t, conf, fmt.Sprintf("a2.sources = r1\na2.channels = c1\na2.sinks = k1\na2.sources.r1.type = avro\na2.sources.r1.bind = %s\na2.sources.r1.port = %s\na2.sources.r1.channels = c1\n"+
		"a2.channels.c1.type = org.apache.flume.channel.PseudoTxnMemoryChannel\na2.sinks.k1.type = file_roll\na2.sinks.k1.sink.directory = %s\na2.sinks.k1.sink.rollInterval = 0\na2.sinks.k1.channel = c1\n", host, port, files))
	collector := start(t, "sluice", "agent", "-n", "a2", "-f", conf)
	collector.await("the last line", func() bool { return len(arrived(t, files)) >= len(want) })
	if code := sender.term(); code != 0 {
		t.Errorf("exit code %d of the sender", code)
	}
	if code := collector.term(); code != 0 {
		t.Errorf("exit code %d of the collector", code)
	}
	got := arrived(t, files)
	if len(got) != len(want) {
		t.Fatalf("%d lines arrived, want %d", len(got), len(want))
	}
	for i, line := range got {
		if line != fmt.Sprint(want[i]) {
			t.Fatalf("line %s arrived where %d is due", line, want[i])
		}
	}
}

// TestSpillableMemory holds the sink up until the channel has overflowed, ends the agent in different ways, and lets the
// sink go on: what must be there arrives in order, once.
func TestSpillableMemory(t *testing.T) {
	stop := func(t *testing.T, p *proc) {
		t.Helper()
		if code := p.term(); code != 0 {
			t.Errorf("exit code %d", code)
		}
	}
	kill := func(t *testing.T, p *proc) {
		t.Helper()
		if err := p.cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		<-p.done
	}
	for _, tt := range []struct {
		name string
		ends []func(*testing.T, *proc) // after 400 lines, and after 100 more
		want []int
	}{
		{"runs on", nil, lines(0, 500)},
		{"stopped", []func(*testing.T, *proc){stop, stop}, lines(0, 500)},
		// What the stop kept counts as memory, so that all that comes behind it overflows.
		{"stopped and killed", []func(*testing.T, *proc){stop, kill}, lines(0, 500)},
		// 50 lines were in the memory each time.
		{"killed", []func(*testing.T, *proc){kill, kill}, append(lines(50, 400), lines(450, 500)...)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := spillable{t.TempDir(), ports.Reserve(t)}
			inVain := 3 * time.Second // nobody takes what the sink has
			if tt.ends == nil {
				inVain = patience
			}
			p := s.agent(t, true, inVain)
			send(t, p, 0, 400)
			if tt.ends != nil {
				tt.ends[0](t, p)
				p = s.agent(t, true, inVain)
			}
			send(t, p, 400, 500)
			if tt.ends != nil {
				tt.ends[1](t, p)
				p = s.agent(t, false, patience)
			}
			s.collect(t, p, tt.want)
		})
	}
}

func lines(from, to int) (ns []int) {
	for i := from; i < to; i++ {
		ns = append(ns, i)
	}
	return ns
}
