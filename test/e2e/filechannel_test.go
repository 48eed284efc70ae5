package e2e

import (
	"bufio"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestFileChannelOnFullDisk: while the disk is nearly full an agent's puts are refused and go on by themselves when there
// is space. On one that is full to the last byte an agent starts, and takes go on.
func TestFileChannelOnFullDisk(t *testing.T) {
	disk := t.TempDir()
	if err := syscall.Mount("tmpfs", disk, "tmpfs", 0, "size=8m"); err != nil {
		t.Skipf("NOT CHECKED: a full disk needs a small file system, and mounting one failed: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	out := t.TempDir()
	conf := func(name, text string) string {
		path := filepath.Join(out, name)
		text = fmt.Sprintf("a1.channels = c1\na1.channels.c1.type = file\na1.channels.c1.checkpointDir = %[1]s/c\na1.channels.c1.dataDirs = %[1]s/d\n"+
			"a1.channels.c1.minimumRequiredSpace = 1048576\n%[2]s", disk, text)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	filler := func() string {
		name := filepath.Join(disk, "filler")
		f, err := os.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		for size := 1 << 20; size > 0; {
			if _, err := f.Write(make([]byte, size)); err != nil {
				size /= 2
			}
		}
		return name
	}
	p := start(t, "sluice", "agent", "-n", "a1", "-f", conf("fill.conf", "a1.sources = r1\na1.sources.r1.type = netcat\na1.sources.r1.bind = 127.0.0.1\na1.sources.r1.port = 0\na1.sources.r1.max-line-length = 100000\na1.sources.r1.channels = c1\n"))
	conn, err := net.Dial("tcp", p.find(`msg=listening.* address=(\S+)`))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	answers := bufio.NewReader(conn)
	sent := 0
	put := func() bool {
		fmt.Fprintf(conn, "%06d %s\n", sent, strings.Repeat("x", 20_000))
		answer, err := answers.ReadString('\n')
		if err != nil {
			t.Fatal(err)
		}
		if answer == "OK\n" {
			sent++
			return true
		}
		return false
	}
	for range 50 {
		if !put() {
			t.Fatal("refused with space on the disk")
		}
	}
	name := filler()
	for put() {
		if sent > 500 {
			t.Fatal("a full disk took everything")
		}
	}
	p.find(`(usable space exhausted)`)
	if err := os.Remove(name); err != nil {
		t.Fatal(err)
	}
	for before := sent; sent < before+50; {
		put() // refused until the agent has seen that there is space
	}
	p.find(`(the disk has space again)`)
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}

	filler()
	files := filepath.Join(out, "files")
	if err := os.Mkdir(files, 0o755); err != nil {
		t.Fatal(err)
	}
	p = start(t, "sluice", "agent", "-n", "a1", "-f", conf("drain.conf", "a1.sinks = k1\na1.sinks.k1.type = file_roll\na1.sinks.k1.sink.directory = "+files+"\na1.sinks.k1.sink.rollInterval = 0\na1.sinks.k1.channel = c1\n"))
	p.find(`(sink started)`)
	if code := p.term(); code != 0 { // it drains first
		t.Errorf("exit code %d", code)
	}
	got := 0
	names, err := filepath.Glob(filepath.Join(files, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range names {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if want := fmt.Sprintf("%06d ", got); !strings.HasPrefix(line, want) {
				t.Fatalf("line %d is %.20q", got, line)
			}
			got++
		}
	}
	if got != sent {
		t.Errorf("%d lines came out, %d were taken in", got, sent)
	}
}
