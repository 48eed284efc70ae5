//go:build interop

package interop

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// tailSite is a directory that a taildir source follows. What it delivers goes
// to a directory of each agent's own.
type tailSite struct {
	site
	logs, position string
}

func newTailSite(t *testing.T) tailSite {
	t.Helper()
	dir := t.TempDir()
	s := tailSite{site{dir: dir, conf: filepath.Join(dir, "agent.conf")}, filepath.Join(dir, "logs"), filepath.Join(dir, "position", "taildir.json")}
	for _, d := range []string{s.logs, filepath.Join(dir, "flume-out"), filepath.Join(dir, "sluice-out")} {
		if err := os.Mkdir(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return s
}

// start runs one of the two agents on the same settings, but for where the
// events go.
func (s tailSite) start(t *testing.T, name string) runningAgent {
	t.Helper()
	text := `
SmartCar_Agent.sources = SmartCarInfo_SpoolSource
SmartCar_Agent.channels = c
SmartCar_Agent.sinks = k
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.type = TAILDIR
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.filegroups = f1 f2
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.filegroups.f1 = @LOGS@/app\\..*
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.filegroups.f2 = @LOGS@/single.log
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.headers.f1.kind = app
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.headers.f1.a.b = c
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.headers.f2.kind = single
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.byteOffsetHeader = true
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.fileHeader = true
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.batchSize = 7
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.maxBatchCount = 3
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.positionFile = @POSITION@
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.backoffSleepIncrement = 50
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.maxBackoffSleep = 100
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.channels = c
SmartCar_Agent.channels.c.type = memory
SmartCar_Agent.channels.c.capacity = 10000
SmartCar_Agent.channels.c.transactionCapacity = 1000
SmartCar_Agent.sinks.k.type = file_roll
SmartCar_Agent.sinks.k.sink.directory = @OUT@
SmartCar_Agent.sinks.k.sink.rollInterval = 0
SmartCar_Agent.sinks.k.sink.serializer = HEADER_AND_TEXT
SmartCar_Agent.sinks.k.channel = c
`
	text = strings.NewReplacer("@LOGS@", s.logs, "@POSITION@", s.position, "@OUT@", filepath.Join(s.dir, name+"-out")).Replace(text)
	if err := os.WriteFile(s.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return agents()[name](t, s.site)
}

func (s tailSite) write(t *testing.T, name, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(s.logs, name), os.O_APPEND|os.O_WRONLY|os.O_CREATE, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// events is what an agent has delivered, by the file it comes from, with the
// headers in alphabetic order.
func (s tailSite) events(t *testing.T, name string) map[string][]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(s.dir, name+"-out", "*"))
	if err != nil {
		t.Fatal(err)
	}
	slices.Sort(files)
	got := map[string][]string{}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range splitLines(string(b)) {
			text, body, ok := strings.Cut(strings.TrimPrefix(line, "{"), "}")
			if !ok {
				continue // not written to its end yet
			}
			headers := strings.Split(text, ", ")
			slices.Sort(headers)
			from := "?"
			for _, h := range headers {
				if p, ok := strings.CutPrefix(h, "file="); ok {
					from = filepath.Base(p)
				}
			}
			got[from] = append(got[from], strings.ReplaceAll(strings.Join(headers, ", "), s.dir, "DIR")+" "+body)
		}
	}
	return got
}

func count(events map[string][]string) (n int) {
	for _, e := range events {
		n += len(e)
	}
	return n
}

func (s tailSite) await(t *testing.T, a runningAgent, name string, n int) map[string][]string {
	t.Helper()
	eventually(t, 3*time.Minute, fmt.Sprintf("%s delivers %d events", name, n), func() error {
		if !a.alive() {
			t.Fatalf("the agent has ended:\n%s", tail(a.log(), 3000))
		}
		if k := count(s.events(t, name)); k < n {
			return fmt.Errorf("%d", k)
		}
		return nil
	})
	return s.events(t, name)
}

// TestTaildir has Flume's taildir source and Sluice's follow the same files on
// the same settings: the events are equal, headers and bodies, file by file.
func TestTaildir(t *testing.T) {
	got := map[string]map[string][]string{}
	for name := range agents() {
		s := newTailSite(t)
		var b strings.Builder
		for i := range 100 {
			fmt.Fprintf(&b, "line %d\n", i)
		}
		b.WriteString("\n\r\ncr at the end\r\ntwo\r\r\ncr\rin the middle\n서울 \xff\xfe malformed\n" + strings.Repeat("long ", 10_000) + "\nunfinished")
		s.write(t, "app.1", b.String())
		s.write(t, "single.log", "one\n")
		s.write(t, "other.log", "not of any group\n")
		a := s.start(t, name)
		s.await(t, a, name, 108)
		s.write(t, "app.1", " and finished\nnext\n")
		s.write(t, "app.new", "a new file\n")
		s.await(t, a, name, 111)
		if err := os.WriteFile(filepath.Join(s.logs, "single.log"), []byte("1\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		s.await(t, a, name, 112)
		time.Sleep(time.Second) // for what must not come
		a.stop(t)
		got[name] = s.events(t, name)
	}
	for _, f := range slices.Sorted(maps.Keys(got["flume"])) {
		sameLines(t, "events of "+f, got["sluice"][f], got["flume"][f])
	}
	if f, s := count(got["flume"]), count(got["sluice"]); f != s || s != 112 {
		t.Errorf("Flume delivered %d events, Sluice %d, want 112", f, s)
	}
}

// TestTaildirHandOver lets Flume and Sluice take turns on one position file:
// each goes on where the other has stopped.
func TestTaildirHandOver(t *testing.T) {
	s := newTailSite(t)
	written := 0
	write := func(name string, n int) {
		var b strings.Builder
		for range n {
			fmt.Fprintf(&b, "line %d\n", written)
			written++
		}
		s.write(t, name, b.String())
	}
	for turn := range 3 {
		for _, name := range []string{"flume", "sluice"} {
			write("app.log", 20)
			write(fmt.Sprintf("app.%s.%d", name, turn), 10)
			before := count(s.events(t, "flume")) + count(s.events(t, "sluice"))
			had := count(s.events(t, name))
			a := s.start(t, name)
			s.await(t, a, name, had+written-before)
			write("app.log", 15)
			s.await(t, a, name, had+written-before)
			a.stop(t)
			if log := a.log(); strings.Contains(log, "Failed loading positionFile") {
				t.Errorf("Flume cannot read the position file:\n%s", tail(log, 3000))
			}
			b, err := os.ReadFile(s.position)
			if err != nil {
				t.Fatal(err)
			}
			t.Logf("%s, turn %d: %d events so far; position file %.300s", name, turn, count(s.events(t, name)), b)
		}
	}
	seen := map[string]int{}
	for _, name := range []string{"flume", "sluice"} {
		for _, events := range s.events(t, name) {
			for _, e := range events {
				seen[e[strings.LastIndex(e, "line "):]]++
			}
		}
	}
	for i := range written {
		if n := seen[fmt.Sprintf("line %d", i)]; n != 1 {
			t.Errorf("line %d was delivered %d times", i, n)
		}
	}
}
