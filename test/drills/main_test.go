// Package drills kills brokers, agents, and a process with a file channel, again and again and accounts for everything
// that they had acknowledged.
package drills

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/sluice-data/sluice/internal/seglog/vfs/forgetfs"
)

// childEnv makes the test binary a broker; its value is a childConfig.
const childEnv = "SLUICE_DRILL_CHILD"

type childConfig struct {
	Listen, Data, Shadow string
	Lie                  bool // the log files' fsync does nothing
	Slow                 bool // fsync takes a disk's time
	Topics               map[string]string
	CompactionCheck      time.Duration // 0: the broker's own
}

func TestMain(m *testing.M) {
	for name, child := range map[string]func(string) error{childEnv: runChild, channelEnv: runChannelChild} {
		if s := os.Getenv(name); s != "" {
			if err := child(s); err != nil {
				fmt.Println("error:", err)
				os.Exit(1)
			}
			return
		}
	}
	if conf := os.Getenv(agentEnv); conf != "" {
		os.Exit(runAgent(conf))
	}
	os.Exit(m.Run())
}

func runChild(env string) error {
	var c childConfig
	if err := json.Unmarshal([]byte(env), &c); err != nil {
		return err
	}
	var lie func(string) bool
	if c.Lie {
		lie = func(name string) bool { return strings.HasSuffix(name, ".log") }
	}
	forgets, err := forgetfs.New(c.Data, c.Shadow, lie)
	if err != nil {
		return err
	}
	var fsys vfs.FS = forgets
	if c.Slow {
		fsys = slowSync{fsys}
	}
	b, err := broker.Start(context.Background(), broker.Config{
		Listen: c.Listen, DataDir: c.Data, FS: fsys, MaxDisk: -1, TopicDefaults: c.Topics, NumPartitions: partitions, CompactionCheck: c.CompactionCheck,
		Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		return err
	}
	fmt.Println("listening", b.Addr())
	// The test kills this process; should the test die first, its end of the pipe closes.
	if _, err := io.Copy(io.Discard, os.Stdin); err != nil {
		return err
	}
	return b.Close(context.Background())
}

// child is a broker in a process of its own.
type child struct {
	cmd  *exec.Cmd
	addr string
}

func startChild(t *testing.T, c childConfig, log *os.File) (*child, error) {
	t.Helper()
	env, err := json.Marshal(c)
	if err != nil {
		return nil, err
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), childEnv+"="+string(env))
	cmd.Stderr = log
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	ch := &child{cmd: cmd}
	t.Cleanup(ch.kill)
	line, err := bufio.NewReader(out).ReadString('\n')
	addr, ok := strings.CutPrefix(strings.TrimSpace(line), "listening ")
	if err != nil || !ok {
		text, _ := os.ReadFile(log.Name()) // only to explain
		return nil, fmt.Errorf("broker did not start: %q (%v)\n%s", line, err, text)
	}
	ch.addr = addr
	return ch, nil
}

// kill is kill -9. It is idempotent.
func (c *child) kill() {
	if c != nil && c.cmd.ProcessState == nil {
		if err := c.cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			panic(err)
		}
		_ = c.cmd.Wait() // it was killed
	}
}

// hang is for what must come to pass on the slowest machine.
const hang = 3 * time.Minute

func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}
