package drills

import (
	"bufio"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// TestFileChannelAgentKill9 kills agents with a file channel.
func TestFileChannelAgentKill9(t *testing.T) {
	agentKill9(t, `type = file
checkpointDir = DIR/checkpoint
dataDirs = DIR/data1, DIR/data2
checkpointInterval = 1000
maxFileSize = 65536
minimumRequiredSpace = 1048576`, channelRounds(t))
}

// TestDatabaseChannelAgentKill9 kills agents with a database channel on SQLite.
func TestDatabaseChannelAgentKill9(t *testing.T) {
	agentKill9(t, `type = jdbc
driver.url = jdbc:sqlite:DIR/c1.sqlite`, rounds(t))
}

// agentKill9 kills the real binary: an agent with a netcat source, whose clients get an answer for each line that is in the
// channel, and an agent with a file_roll sink on the same channel, in turn. Every line that was answered must be in the
// sink's files in the end, each client's in order, and none that was not sent.
func agentKill9(t *testing.T, channel string, n int) {
	t.Parallel()
	binary := filepath.Join(t.TempDir(), "sluice")
	if out, err := exec.Command("go", "build", "-o", binary, "../../cmd/sluice").CombinedOutput(); err != nil {
		t.Fatalf("build sluice: %v\n%s", err, out)
	}
	d := &agentDrill{t: t, binary: binary, dir: t.TempDir(), log: &strings.Builder{}}
	for line := range strings.Lines(strings.ReplaceAll(channel, "DIR", d.dir)) {
		d.channel += "a1.channels.c1." + line
	}
	if err := os.MkdirAll(filepath.Join(d.dir, "out"), 0o755); err != nil {
		t.Fatal(err)
	}
	for range n {
		d.fill() // and what it got an answer for waits in the channel, where no sink is
		d.drain(time.Duration(20+rand.IntN(150)) * time.Millisecond)
	}
	d.drain(0)
	seen, last, doubled := map[string]bool{}, map[string]int{}, 0
	for _, line := range d.delivered() {
		var client, number int
		if _, err := fmt.Sscanf(line, "%d:%d ", &client, &number); err != nil || line != agentLine(client, number) {
			t.Fatalf("nobody sent %.60q", line)
		}
		if seen[line] {
			doubled++
			continue
		}
		key := fmt.Sprint(client)
		if prev, ok := last[key]; ok && number <= prev {
			t.Errorf("line %d of client %d came behind %d", number, client, prev)
		}
		last[key], seen[line] = number, true
	}
	lost := 0
	for _, line := range d.acked {
		if !seen[line] {
			lost++
		}
	}
	if lost > 0 || len(d.acked) == 0 {
		t.Errorf("%d of %d lines that were answered are lost\n%s", lost, len(d.acked), d.log.String())
	}
	t.Logf("%d rounds, %d kills: %d lines were answered, none lost; %d were delivered twice", n, d.kills, len(d.acked), doubled)
}

type agentDrill struct {
	t           *testing.T
	binary, dir string
	channel     string // its properties
	log         *strings.Builder
	kills       int
	clients     int // so far: each round has new ones
	answered    atomic.Int64
	mu          sync.Mutex
	acked       []string
}

func agentLine(client, n int) string { return fmt.Sprintf("%d:%d %s", client, n, pad[:n%200]) }

func (d *agentDrill) start(conf string) (*exec.Cmd, *bufio.Reader) {
	d.t.Helper()
	path := filepath.Join(d.dir, "agent.conf")
	text := "a1.channels = c1\n" + d.channel + "\n" + conf
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(d.binary, "agent", "-n", "a1", "-f", path)
	out, err := cmd.StderrPipe()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd.Stdout = cmd.Stderr
	if err := cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { cmd.Process.Kill() }) // where the test ends early
	return cmd, bufio.NewReader(out)
}

// find reads the agent's log until a line matches.
func (d *agentDrill) find(r *bufio.Reader, pattern string) string {
	d.t.Helper()
	re := regexp.MustCompile(pattern)
	for {
		line, err := r.ReadString('\n')
		d.log.WriteString(line)
		if m := re.FindStringSubmatch(line); m != nil {
			return m[len(m)-1]
		}
		if err != nil {
			d.t.Fatalf("the agent ended: %v\n%s", err, d.log.String())
		}
	}
}

// fill lets clients send until the agent is killed, which is not before a line was answered.
func (d *agentDrill) fill() {
	cmd, log := d.start(`a1.sources = r1
a1.sources.r1.type = netcat
a1.sources.r1.bind = 127.0.0.1
a1.sources.r1.port = 0
a1.sources.r1.channels = c1
`)
	addr := d.find(log, `msg=listening.* address=(\S+)`)
	before := d.answered.Load()
	var senders sync.WaitGroup
	for range 4 {
		client := d.clients
		d.clients++
		senders.Go(func() {
			conn, err := net.Dial("tcp", addr)
			if err != nil {
				return // killed already
			}
			defer conn.Close()
			answers := bufio.NewReader(conn)
			for n := 0; ; n++ {
				line := agentLine(client, n)
				if _, err := fmt.Fprintln(conn, line); err != nil {
					return
				}
				answer, err := answers.ReadString('\n')
				if err != nil || answer != "OK\n" {
					return
				}
				d.answered.Add(1)
				d.mu.Lock()
				d.acked = append(d.acked, line)
				d.mu.Unlock()
			}
		})
	}
	time.Sleep(time.Duration(30+rand.IntN(300)) * time.Millisecond)
	for end := time.Now().Add(hang); d.answered.Load() == before; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("no line was answered in %v\n%s", hang, d.log.String())
		}
	}
	d.kill(cmd)
	senders.Wait()
}

func (d *agentDrill) kill(cmd *exec.Cmd) {
	if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		d.t.Error(err)
	}
	cmd.Wait() // it was killed
	d.kills++
}

// drain lets the sink work, for a while or until it is done.
func (d *agentDrill) drain(after time.Duration) {
	cmd, log := d.start(fmt.Sprintf(`a1.sinks = k1
a1.sinks.k1.type = file_roll
a1.sinks.k1.sink.directory = %s/out
a1.sinks.k1.sink.rollInterval = 0
a1.sinks.k1.channel = c1
`, d.dir))
	d.find(log, `msg="sink started"`)
	if after > 0 {
		time.Sleep(after)
		d.kill(cmd)
		return
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		d.t.Fatal(err)
	}
	rest, err := log.ReadString(0) // to the end
	d.log.WriteString(rest)
	if werr := cmd.Wait(); werr != nil {
		d.t.Errorf("the agent ended with %v (%v)\n%s", werr, err, d.log.String())
	}
}

// delivered are the whole lines in the sink's files, in order. A line that was cut by a kill comes again.
func (d *agentDrill) delivered() (lines []string) {
	files, err := filepath.Glob(filepath.Join(d.dir, "out", "*"))
	if err != nil {
		d.t.Fatal(err)
	}
	for _, name := range files { // named by time, so in order
		b, err := os.ReadFile(name)
		if err != nil {
			d.t.Fatal(err)
		}
		for line := range strings.Lines(string(b)) {
			if whole, ok := strings.CutSuffix(line, "\n"); ok {
				lines = append(lines, whole)
			}
		}
	}
	return lines
}
