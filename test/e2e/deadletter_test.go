//go:build linux

package e2e

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A topic that takes small records only: the agent sets the large ones aside
// and goes on; when the topic takes them a replay brings them in.
func TestDeadLetters(t *testing.T) {
	dir := t.TempDir()
	addr, stop := startBroker(t, filepath.Join(dir, "broker"))
	defer stop()
	tool := func(want int, args ...string) (string, string) {
		t.Helper()
		var stdout, stderr strings.Builder
		cmd := exec.Command(sluice, args...)
		cmd.Stdout, cmd.Stderr = &stdout, &stderr
		err := cmd.Run()
		if code := cmd.ProcessState.ExitCode(); code != want {
			t.Fatalf("sluice %s: exit code %d, want %d (%v)\n%s%s", strings.Join(args, " "), code, want, err, stdout.String(), stderr.String())
		}
		return stdout.String(), stderr.String()
	}
	tool(0, "topics", "create", "--bootstrap", addr, "small", "-c", "max.message.bytes=2000")

	spool, dead := filepath.Join(dir, "spool"), filepath.Join(dir, "dead")
	conf := filepath.Join(dir, "flume.conf")
	writeFile(t, conf, `
a1.sources = r
a1.channels = c
a1.sinks = k
a1.sources.r.type = spooldir
a1.sources.r.spoolDir = `+spool+`
a1.sources.r.channels = c
a1.sources.r.basenameHeader = true
a1.sources.r.deserializer.maxLineLength = 100000
a1.channels.c.type = memory
a1.sinks.k.type = org.apache.flume.sink.kafka.KafkaSink
a1.sinks.k.channel = c
a1.sinks.k.kafka.topic = small
a1.sinks.k.kafka.bootstrap.servers = `+addr+`
a1.sinks.k.deadletter = file
a1.sinks.k.deadletter.directory = `+dead+`
`)
	large := strings.Repeat("L", 5000)
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	writeFile(t, filepath.Join(spool, "in"), "one\n"+large+"\ntwo\n"+large+large+"\nthree\n")
	p := start(t, "sluice", "agent", "-n", "a1", "-f", conf)
	one := filepath.Join(dead, "a1.sink.k")
	p.await("two dead letters", func() bool {
		out, err := exec.Command(sluice, "deadletter", "list", dead).Output()
		return err == nil && strings.Count(string(out), "\n") == 3
	})
	consume := func(n string) string {
		out, _ := tool(0, "consume", "--bootstrap", addr, "small", "--from-beginning", "-n", n)
		return out
	}
	if got := consume("3"); got != "one\ntwo\nthree\n" {
		t.Errorf("the topic has %q", got)
	}
	out, _ := tool(0, "deadletter", "list", one) // while the agent runs
	if !strings.Contains(out, "a1 sink k") || !strings.Contains(out, "5000") || !strings.Contains(out, "10000") || !strings.Contains(out, "too large") {
		t.Errorf("list:\n%s", out)
	}
	out, _ = tool(0, "deadletter", "show", one, "2")
	if !strings.Contains(out, `"basename" = "in"`) || !strings.Contains(out, "channel    c\n") || !strings.Contains(out, large+large) {
		t.Errorf("show:\n%s", out)
	}
	if out, _ = tool(0, "deadletter", "show", one, "1", "--body"); out != large {
		t.Errorf("the body has %d bytes", len(out))
	}
	tool(1, "deadletter", "show", one, "3")

	// The cause is still there: the letters stay.
	out, errs := tool(1, "deadletter", "replay", one, "-f", conf, "-n", "a1")
	if !strings.Contains(out, "0 replayed, 2 failed") || !strings.Contains(errs, "letter 1: sink k: ") {
		t.Errorf("a replay in vain: %s%s", out, errs)
	}
	// One replay at a time.
	lock, err := os.OpenFile(filepath.Join(one, "replay.lock"), os.O_RDWR|os.O_CREATE, 0o640)
	if err == nil {
		err = syscall.Flock(int(lock.Fd()), syscall.LOCK_EX)
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, errs = tool(1, "deadletter", "replay", one, "-f", conf, "-n", "a1"); !strings.Contains(errs, "is in use: another replay is running") {
		t.Errorf("a second replay: %s", errs)
	}
	if err := lock.Close(); err != nil {
		t.Fatal(err)
	}
	tool(0, "configs", "set", "--bootstrap", addr, "--topic", "small", "max.message.bytes=100000")
	if out, _ = tool(0, "deadletter", "replay", one, "-f", conf, "-n", "a1"); out != "2 replayed, 0 failed\n" {
		t.Errorf("replay: %s", out)
	}
	if got := consume("5"); got != "one\ntwo\nthree\n"+large+"\n"+large+large+"\n" {
		t.Errorf("the topic has %d bytes after the replay", len(got))
	}
	if out, _ = tool(0, "deadletter", "replay", one, "-f", conf, "-n", "a1"); out != "0 replayed, 0 failed\n" {
		t.Errorf("a second replay: %s", out)
	}
	if out, _ = tool(0, "deadletter", "list", one); strings.Count(out, "\n") != 1 {
		t.Errorf("list after the replay:\n%s", out)
	}
	if out, _ = tool(0, "deadletter", "list", "--all", one); strings.Count(out, "(replayed)") != 2 {
		t.Errorf("list --all:\n%s", out)
	}
	tool(2, "deadletter", "replay", one, "-f", conf, "-n", "other")
	tool(1, "deadletter", "replay", one, "1", "-f", conf, "-n", "a1", "--sink", "x")
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
