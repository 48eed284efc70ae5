//go:build linux

package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// example starts the agent of an example as its README does.
func example(t *testing.T, name string, opts ...string) *proc {
	t.Helper()
	p := start(t, "sluice", append([]string{"agent", "--strict", "-n", "a1", "-f", filepath.Join("../../examples", name, "flume.conf")}, opts...)...)
	return p
}

func TestExampleSimple(t *testing.T) {
	_, port, err := net.SplitHostPort(freePort(t))
	if err != nil {
		t.Fatal(err)
	}
	p := example(t, "1-simple", "-Dport="+port)
	p.await("the source", func() bool { return strings.Contains(p.stderr(), `msg="source started"`) })
	conn, err := net.Dial("tcp", "127.0.0.1:"+port)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewScanner(conn)
	for _, line := range []string{"hello", "world"} {
		fmt.Fprintln(conn, line)
		if !answers.Scan() || answers.Text() != "OK" {
			t.Fatalf("the answer to %q: %q, %v", line, answers.Text(), answers.Err())
		}
	}
	p.await("both lines", func() bool {
		log := p.stdout() + p.stderr()
		return strings.Contains(log, "68 65 6C 6C 6F") && strings.Contains(log, "77 6F 72 6C 64")
	})
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}

func TestExampleMultiplexing(t *testing.T) {
	dir := t.TempDir()
	for _, sub := range []string{"status", "driving", "out/alarms", "out/normal", "out/driving"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	// lines are all lines of a sink's files, sorted.
	lines := func(sink string) []string {
		files, err := filepath.Glob(filepath.Join(dir, "out", sink, "*"))
		if err != nil {
			t.Fatal(err)
		}
		var all []string
		for _, f := range files {
			for l := range strings.Lines(read(t, f)) {
				all = append(all, strings.TrimSuffix(l, "\n"))
			}
		}
		slices.Sort(all)
		return all
	}
	p := example(t, "2-multiplexing", "-Ddir="+dir)
	var status, driving, alarms []string
	for i := range 1000 {
		tire := []string{"GOOD", "FLAT", "NEW", "WORN", "flat"}[i%5]
		line := fmt.Sprintf("20260101%06d,A%04d,ON,%s", i, i%7, tire)
		status = append(status, line)
		if tire == "FLAT" || tire == "WORN" {
			alarms = append(alarms, fmt.Sprintf("{car=A%04d, origin=status, tire=%s} %s", i%7, tire, line))
		}
		driving = append(driving, fmt.Sprintf("20260101%06d,A%04d,%d", i, i%7, i%120))
	}
	status = append(status, "no record at all")
	writeFile(t, filepath.Join(dir, "records.csv"), strings.Join(status, "\n")+"\n")
	if err := os.Rename(filepath.Join(dir, "records.csv"), filepath.Join(dir, "status", "records.csv")); err != nil {
		t.Fatal(err)
	}
	half := len(driving) / 2
	writeFile(t, filepath.Join(dir, "driving", "driving.log"), strings.Join(driving[:half], "\n")+"\n")
	p.await("the first half of the driving records", func() bool { return len(lines("driving")) == half })
	appendFile(t, filepath.Join(dir, "driving", "driving.log"), strings.Join(driving[half:], "\n")+"\n")
	p.await("all records", func() bool {
		return len(lines("driving")) == len(driving) && len(lines("normal")) == len(status) && len(lines("alarms")) == len(alarms)
	})
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	for sink, want := range map[string][]string{"driving": driving, "normal": status, "alarms": alarms} {
		slices.Sort(want)
		if got := lines(sink); !slices.Equal(got, want) {
			t.Errorf("%s: %d lines, the first %.300q; want %d, the first %.300q", sink, len(got), got[:min(2, len(got))], len(want), want[:2])
		}
	}
}
