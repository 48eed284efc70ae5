//go:build interop

package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// postgres is a PostgreSQL of one test.
type postgres struct {
	t    *testing.T
	dir  string
	conf string // file of settings
	port int
}

// startPostgres starts one with these settings.
func startPostgres(t *testing.T, settings string) *postgres {
	t.Helper()
	program(t, "bash")
	_, err := peer("postgres.sh", nil, "fetch")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 { // it cannot be had here
		missing(t, "PostgreSQL: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	dir, err := os.MkdirTemp("", "sluice-postgres-") // not t.TempDir, into which only its owner can look
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	p := &postgres{t, dir, filepath.Join(dir, "conf"), freePort(t)}
	if err := os.WriteFile(p.conf, []byte(settings), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if _, err := peer("postgres.sh", nil, "stop", dir); err != nil {
			t.Error(err)
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	if err := p.start(); err != nil {
		t.Fatal(err)
	}
	return p
}

func (p *postgres) start() error {
	_, err := peer("postgres.sh", []string{fmt.Sprintf("PG_PORT=%d", p.port), "PG_CONF=" + p.conf}, "start", p.dir)
	return err
}

func (p *postgres) stop() {
	p.t.Helper()
	if _, err := peer("postgres.sh", nil, "stop", p.dir); err != nil {
		p.t.Fatal(err)
	}
}

// kill is kill -9 of the server. Its processes for connections end by themselves when they see that; until then another
// one does not start.
func (p *postgres) kill() {
	p.t.Helper()
	killPeer(p.t, filepath.Join(p.dir, "postgres.pid"))
}

// TestDatabaseChannel: the channel's own tests against a real PostgreSQL: the suites that every channel passes, connections
// that end, what the server refuses, two owners.
func TestDatabaseChannel(t *testing.T) {
	t.Parallel()                           // with each other: they wait most of the time
	p := startPostgres(t, "fsync = off\n") // this test is not about the server's disk
	cmd := exec.Command("go", "test", "-count=1", "-short", "-v", "-run", "^TestPostgres", "../../internal/channel/jdbc")
	cmd.Env = append(os.Environ(), fmt.Sprintf("SLUICE_POSTGRES=postgresql://peer:peer@127.0.0.1:%d/peer?sslmode=disable", p.port))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	passed := 0
	for line := range strings.Lines(string(out)) {
		if strings.HasPrefix(line, "--- PASS") {
			passed++
			t.Log(strings.TrimSpace(line))
		}
	}
	if passed < 6 || strings.Contains(string(out), "--- SKIP: TestPostgres") && !strings.Contains(string(out), "no limit") {
		t.Errorf("%d tests passed:\n%s", passed, out)
	}
}

// TestDatabaseChannelKilled: an agent follows a file that grows, through a channel on PostgreSQL, into another file. The
// server is killed, is stopped and started, and the agent is killed, all in the middle of puts and takes: every line arrives.
func TestDatabaseChannelKilled(t *testing.T) {
	t.Parallel() // with each other: they wait most of the time
	p := startPostgres(t, "")
	dir := t.TempDir()
	out := filepath.Join(dir, "out")
	if err := os.Mkdir(out, 0o755); err != nil {
		t.Fatal(err)
	}
	in, err := os.Create(filepath.Join(dir, "in.log"))
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	conf := writeConf(t, filepath.Join(dir, "conf"), fmt.Sprintf(`a1.sources = r1
a1.channels = c1
a1.sinks = k1 k2
a1.sources.r1.type = TAILDIR
a1.sources.r1.positionFile = %[1]s/positions.json
a1.sources.r1.filegroups = g
a1.sources.r1.filegroups.g = %[1]s/in.log
a1.sources.r1.batchSize = 50
a1.sources.r1.channels = c1
a1.channels.c1.type = jdbc
a1.channels.c1.db.type = POSTGRESQL
a1.channels.c1.driver.class = org.postgresql.Driver
a1.channels.c1.driver.url = jdbc:postgresql://127.0.0.1:%[2]d/peer
a1.channels.c1.db.username = peer
a1.channels.c1.db.password = peer
a1.channels.c1.maximum.capacity = 100000
a1.sinks.k1.type = file_roll
a1.sinks.k1.sink.directory = %[3]s
a1.sinks.k1.sink.rollInterval = 0
a1.sinks.k1.sink.batchSize = 20
a1.sinks.k1.sink.pathManager.prefix = k1-
a1.sinks.k1.channel = c1
a1.sinks.k2.type = file_roll
a1.sinks.k2.sink.directory = %[3]s
a1.sinks.k2.sink.rollInterval = 0
a1.sinks.k2.sink.batchSize = 30
a1.sinks.k2.sink.pathManager.prefix = k2-
a1.sinks.k2.channel = c1
`, dir, p.port, out))
	agent := func() *sluiceProcess { return startSluice(t, "agent", "-n", "a1", "-f", conf) }
	a := agent()
	lines := 0
	write := func(d time.Duration) {
		t.Helper()
		for end, some := time.Now().Add(d), false; !some || time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
			some = true // also when the machine had a pause
			var b strings.Builder
			for range 40 {
				fmt.Fprintf(&b, "line %06d %s\n", lines, strings.Repeat("x", lines%97))
				lines++
			}
			if _, err := in.WriteString(b.String()); err != nil {
				t.Fatal(err)
			}
		}
	}
	arrived := func() (all int, distinct map[int]bool) {
		distinct = map[int]bool{}
		for _, l := range outLines(t, out) {
			var n int
			if _, err := fmt.Sscanf(l, "line %06d ", &n); err == nil && l == fmt.Sprintf("line %06d %s", n, strings.Repeat("x", n%97)) {
				all++
				distinct[n] = true
			}
		}
		return all, distinct
	}
	// flows waits until what is written now arrives: before a kill there is something to lose, and after it the agent has recovered.
	flows := func() {
		t.Helper()
		want := lines
		write(50 * time.Millisecond)
		eventually(t, 3*time.Minute, "lines arrive", func() error {
			if _, got := arrived(); !got[want] {
				return fmt.Errorf("line %d of %d does not\n%s", want, lines, tail(a.out.String(), 1500))
			}
			return nil
		})
	}
	flows()
	kills := 0
	for range 2 {
		write(200 * time.Millisecond)
		p.kill()
		kills++
		write(200 * time.Millisecond)
		eventually(t, 3*time.Minute, "PostgreSQL starts again", p.start)
		flows()

		write(200 * time.Millisecond)
		p.stop()
		write(100 * time.Millisecond)
		eventually(t, 3*time.Minute, "PostgreSQL starts again after its stop", p.start)
		flows()

		write(200 * time.Millisecond)
		a.kill()
		kills++
		write(100 * time.Millisecond)
		a = agent()
		flows()
	}
	eventually(t, 3*time.Minute, "all lines arrive", func() error {
		if _, got := arrived(); len(got) < lines {
			return fmt.Errorf("%d of %d", len(got), lines)
		}
		return nil
	})
	a.stop(t)
	all, distinct := arrived()
	if len(distinct) != lines {
		t.Errorf("%d of %d lines arrived", len(distinct), lines)
	}
	t.Logf("%d kills: %d lines, none lost, %d arrived twice", kills, lines, all-len(distinct))
}
