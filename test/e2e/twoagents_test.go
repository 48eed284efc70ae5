package e2e

import (
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// Two agents on one spool directory, one position file, one file channel: the
// second is refused all of them, says so, and takes over when the first ends.
// Every line comes once.
func TestTwoAgents(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	spool, logs := filepath.Join(dir, "spool"), filepath.Join(dir, "logs")
	lines := func() (got []string) {
		files, err := filepath.Glob(filepath.Join(dir, "out-*", "*"))
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range files {
			b, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, strings.Fields(string(b))...)
		}
		slices.Sort(got)
		return got
	}
	conf := func(name string) string {
		out := filepath.Join(dir, "out-"+name)
		for _, d := range []string{spool, logs, out} {
			if err := os.MkdirAll(d, 0o755); err != nil {
				t.Fatal(err)
			}
		}
		text := fmt.Sprintf(`
a.sources = spool tail net
a.channels = c1 c2
a.sinks = k1 k2
a.sources.spool.type = spooldir
a.sources.spool.spoolDir = %[1]s/spool
a.sources.spool.channels = c1
a.sources.tail.type = TAILDIR
a.sources.tail.filegroups = f
a.sources.tail.filegroups.f = %[1]s/logs/.*
a.sources.tail.positionFile = %[1]s/positions.json
a.sources.tail.channels = c1
a.sources.net.type = netcat
a.sources.net.bind = 127.0.0.1
a.sources.net.port = 0
a.sources.net.channels = c2
a.channels.c1.type = memory
a.channels.c2.type = file
a.channels.c2.checkpointDir = %[1]s/checkpoint
a.channels.c2.dataDirs = %[1]s/data
`, dir)
		for _, n := range []string{"1", "2"} {
			text += strings.ReplaceAll("a.sinks.kN.type = file_roll\na.sinks.kN.channel = cN\na.sinks.kN.sink.rollInterval = 0\na.sinks.kN.sink.directory = "+out+"\na.sinks.kN.sink.pathManager.prefix = kN-\n", "N", n)
		}
		return text
	}
	feed := func(p *proc, round int) {
		t.Helper()
		whole := filepath.Join(dir, fmt.Sprint("f", round)) // a file in the spool directory is complete when it appears
		writeFile(t, whole, fmt.Sprintf("spool%d\n", round))
		if err := os.Rename(whole, filepath.Join(spool, filepath.Base(whole))); err != nil {
			t.Fatal(err)
		}
		appendFile(t, filepath.Join(logs, "log"), fmt.Sprintf("tail%d\n", round))
		addr := p.find(`msg=listening.* address=(\S+)`)
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := fmt.Fprintf(c, "net%d\n", round); err != nil {
			t.Fatal(err)
		}
	}
	var want []string
	expect := func(p *proc, round int) {
		t.Helper()
		want = append(want, fmt.Sprint("spool", round), fmt.Sprint("tail", round), fmt.Sprint("net", round))
		slices.Sort(want)
		p.await(fmt.Sprint("the lines of round ", round), func() bool { return len(lines()) >= len(want) })
		if got := lines(); !slices.Equal(got, want) {
			t.Errorf("round %d: lines %q, want %q", round, got, want)
		}
	}
	first, _ := agent(t, conf("first"))
	feed(first, 1)
	expect(first, 1)

	second, url := agent(t, conf("second"))
	for _, refused := range []string{
		`(tracker directory \S+/spool/\.flumespool is in use by another source or another agent)`,
		`(lock position file \S+/positions\.json: another source or another agent uses it)`,
		`(directory \S+/(checkpoint|data) is in use: another channel)`,
	} {
		second.find(refused)
	}
	second.await("health of the second to say so", func() bool {
		code, body := httpGet(t, url+"/healthz")
		return code == http.StatusServiceUnavailable && strings.Contains(string(body), "in use")
	})
	feed(first, 2)
	expect(first, 2)
	if code := first.term(); code != 0 {
		t.Errorf("exit code %d of the first", code)
	}
	feed(second, 3) // by itself it goes on where the first ended
	expect(second, 3)
	if code := second.term(); code != 0 {
		t.Errorf("exit code %d of the second", code)
	}
	for _, what := range []string{"tracker directory", "lock position file", "is in use: another channel"} {
		if n := strings.Count(second.stderr(), what); n != 1 {
			t.Errorf("%q is in the log %d times", what, n)
		}
	}
}
