package drills

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice"
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/standard"
)

// agentEnv makes the test binary the sluice command; its value is the agent file.
const agentEnv = "SLUICE_DRILL_AGENT"

// runAgent is a build of sluice with a component of its own: the account.
func runAgent(conf string) int {
	component.RegisterChannel(component.Info{Name: "account", Doc: "writes down what it takes"},
		func() component.ChannelConfig { return new(account) })
	os.Args = []string{"sluice", "agent", "-n", "a", "-f", conf}
	return sluice.Main()
}

// account is a channel that writes down every event that it has accepted, with one write(2) for a put: what a SIGKILL
// leaves in its file is exactly what was acknowledged to the source.
type account struct {
	path string
	f    *os.File
	mu   sync.Mutex
	buf  []byte
}

func (a *account) Fields() []component.Field {
	return []component.Field{component.String("path", &a.path, "").Require()}
}

func (a *account) NewChannel(component.Env) (component.Channel, error) { return a, nil }

func (a *account) Start(context.Context) (err error) {
	a.f, err = os.OpenFile(a.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	return err
}

func (a *account) Stop(context.Context) error {
	if a.f == nil {
		return nil
	}
	return a.f.Close()
}

func (a *account) Put(_ context.Context, b *event.Batch) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.buf = a.buf[:0]
	for _, e := range b.Events() {
		a.buf = append(append(a.buf, e.Body...), '\n')
	}
	_, err := a.f.Write(a.buf)
	return err
}

func (a *account) NewTaker() component.Taker     { return a }
func (a *account) Stats() component.ChannelStats { return component.ChannelStats{Durable: true} }
func (a *account) TransactionCapacity() int      { return 0 }
func (a *account) Take(ctx context.Context, _ int) (component.Lease, error) {
	select {
	case <-ctx.Done():
	case <-time.After(time.Second):
	}
	return nil, nil
}

const (
	linesPerWrite = 100
	writeEvery    = 2 * time.Millisecond // 50,000 lines a second
	linePad       = ",A0001,100,79,71,87,1,1,1,1,A,A,94"
	lineBytes     = 10 + len(linePad) + 1
)

// rotated is a log that is written to all the time, and an agent that follows it.
type rotated struct {
	dir, log, conf, account string
	out                     *os.File
	agent                   *exec.Cmd

	mu      sync.Mutex // between a write and a rotation by renaming
	f       *os.File
	written atomic.Int64 // lines
	rate    float64
}

func newRotated(t *testing.T) *rotated {
	t.Helper()
	dir := t.TempDir()
	r := &rotated{dir: dir, log: filepath.Join(dir, "log", "app.log"), conf: filepath.Join(dir, "agent.conf"), account: filepath.Join(dir, "account")}
	if err := os.MkdirAll(filepath.Join(dir, "log", "copies"), 0o755); err != nil {
		t.Fatal(err)
	}
	conf := `
a.sources = s
a.channels = c
a.sinks = k
a.sources.s.type = taildir
a.sources.s.filegroups = g
a.sources.s.filegroups.g = ` + r.log + `.*
a.sources.s.positionFile = ` + filepath.Join(dir, "position.json") + `
a.sources.s.batchSize = 1000
a.sources.s.channels = c
a.channels.c.type = account
a.channels.c.path = ` + r.account + `
a.sinks.k.type = null
a.sinks.k.channel = c
`
	if err := os.WriteFile(r.conf, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	var err error
	if r.out, err = os.Create(filepath.Join(dir, "agent.log")); err != nil {
		t.Fatal(err)
	}
	if r.f, err = os.OpenFile(r.log, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.end(syscall.SIGKILL)
		r.f.Close()
		r.out.Close()
		if t.Failed() {
			text, _ := os.ReadFile(r.out.Name()) // only to explain
			t.Logf("the agents said (end):\n%s", text[max(0, len(text)-4000):])
		}
	})
	return r
}

// start starts an agent and waits until its source is at work: one that has only just begun is ended by SIGTERM at once, as
// any program.
func (r *rotated) start(t *testing.T) {
	t.Helper()
	said, err := r.out.Seek(0, io.SeekEnd)
	if err != nil {
		t.Fatal(err)
	}
	r.agent = exec.Command(os.Args[0])
	r.agent.Env = append(os.Environ(), agentEnv+"="+r.conf)
	r.agent.Stdout, r.agent.Stderr = r.out, r.out
	if err := r.agent.Start(); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(hang); ; time.Sleep(5 * time.Millisecond) {
		text, err := io.ReadAll(io.NewSectionReader(r.out, said, 1<<40))
		if err != nil {
			t.Fatal(err)
		}
		if bytes.Contains(text, []byte(`msg="source started"`)) {
			return
		}
		if time.Now().After(end) {
			t.Fatal("the agent does not start")
		}
	}
}

// end is idempotent; it returns how the agent ended.
func (r *rotated) end(sig syscall.Signal) error {
	if r.agent == nil || r.agent.ProcessState != nil {
		return nil
	}
	if err := r.agent.Process.Signal(sig); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return err
	}
	return r.agent.Wait()
}

// write appends numbered lines until stop is closed.
func (r *rotated) write(t *testing.T, stop chan struct{}) {
	var buf []byte
	began := time.Now()
	n := int64(0)
	for due := began; ; due = due.Add(writeEvery) {
		select {
		case <-stop:
			r.rate = float64(n) / time.Since(began).Seconds()
			return
		case <-time.After(time.Until(due)):
		}
		buf = buf[:0]
		for range linesPerWrite {
			buf = fmt.Appendf(buf, "%010d%s\n", n, linePad)
			n++
		}
		r.mu.Lock()
		_, err := r.f.Write(buf)
		r.mu.Unlock()
		if err != nil {
			t.Error(err)
			return
		}
		r.written.Store(n)
	}
}

// rename rotates as a logging library does.
func (r *rotated) rename(i int) error {
	f, err := os.OpenFile(r.log+".new", os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	old := r.f
	r.f = f
	return errors.Join(os.Rename(r.log, fmt.Sprintf("%s.%d", r.log, i)), os.Rename(r.log+".new", r.log), old.Close())
}

// cut is where in the sequence of lines a truncation fell: after from lines, before to.
type cut struct{ from, to int64 }

// copyTruncate rotates as logrotate does with copytruncate: the writer knows nothing of it.
func (r *rotated) copyTruncate(i int) (cut, error) {
	src, err := os.Open(r.log)
	if err != nil {
		return cut{}, err
	}
	defer src.Close()
	dst, err := os.Create(filepath.Join(filepath.Dir(r.log), "copies", strconv.Itoa(i)))
	if err != nil {
		return cut{}, err
	}
	_, err = io.Copy(dst, src)
	c := cut{from: r.written.Load()}
	err = errors.Join(err, dst.Close(), os.Truncate(r.log, 0))
	// A write may have happened that is not counted yet.
	c.to = r.written.Load() + linesPerWrite
	return c, err
}

// taken returns how often each line was acknowledged, and whether lines came in order at their first appearance.
func (r *rotated) taken(total int64) (times []uint16, inOrder bool, err error) {
	times = make([]uint16, total)
	f, err := os.Open(r.account)
	if err != nil {
		return nil, false, err
	}
	defer f.Close()
	inOrder = true
	last := int64(-1)
	in := bufio.NewScanner(f)
	for in.Scan() {
		num, pad, _ := bytes.Cut(in.Bytes(), []byte{','})
		n, err := strconv.ParseInt(string(num), 10, 64)
		if err != nil || n >= total || len(num) != 10 || string(pad) != linePad[1:] {
			return nil, false, fmt.Errorf("an event that nobody wrote: %.80q", in.Bytes())
		}
		if times[n]++; times[n] == 1 {
			inOrder = inOrder && n > last
			last = n
		}
	}
	return times, inOrder, in.Err()
}

// caughtUp waits until the last line was acknowledged.
func (r *rotated) caughtUp(t *testing.T, total int64) {
	t.Helper()
	last := fmt.Sprintf("%010d", total-1)
	for end := time.Now().Add(hang); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		f, err := os.Open(r.account)
		if err != nil {
			continue // not begun yet
		}
		tail := make([]byte, 16<<10)
		size, err := f.Seek(0, io.SeekEnd)
		if err == nil {
			var n int
			n, err = f.ReadAt(tail, max(0, size-int64(len(tail))))
			tail = tail[:n]
		}
		f.Close()
		if err != nil && err != io.EOF {
			t.Fatal(err)
		}
		if strings.Contains(string(tail), "\n"+last) {
			return
		}
	}
	t.Fatalf("line %s was never acknowledged", last)
}

// TestRotation has a log of 50,000 lines a second rotated under an agent that is stopped and killed, and accounts for
// every line.
func TestRotation(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		truncate bool
		restart  syscall.Signal // 0: the agent stays up
	}{
		{"renamed, agent stopped", false, syscall.SIGTERM},
		{"renamed, agent killed", false, syscall.SIGKILL},
		{"copied and truncated", true, 0},
		{"copied and truncated, agent stopped", true, syscall.SIGTERM},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRotated(t)
			stop := make(chan struct{})
			var load sync.WaitGroup
			var cuts []cut
			rotations := 0
			load.Go(func() { r.write(t, stop) })
			load.Go(func() {
				for i := 1; ; i++ {
					select {
					case <-stop:
						return
					case <-time.After(time.Duration(100+rand.IntN(300)) * time.Millisecond):
					}
					if !tt.truncate {
						if err := r.rename(i); err != nil {
							t.Error(err)
						}
					} else if c, err := r.copyTruncate(i); err != nil {
						t.Error(err)
					} else {
						cuts = append(cuts, c)
					}
					rotations++
				}
			})
			n := rounds(t)
			for range n {
				r.start(t)
				time.Sleep(time.Duration(300+rand.IntN(600)) * time.Millisecond)
				if tt.restart == 0 {
					for range n - 1 {
						time.Sleep(600 * time.Millisecond)
					}
					break
				}
				if err := r.end(tt.restart); tt.restart == syscall.SIGTERM && err != nil {
					t.Fatalf("the agent ended with %v", err)
				}
				time.Sleep(time.Duration(rand.IntN(100)) * time.Millisecond)
			}
			if tt.restart != 0 {
				r.start(t)
			}
			close(stop)
			load.Wait()
			total := r.written.Load()
			if tt.truncate { // a truncation after the last line would take it away
				appendLines(t, r, total)
				total += linesPerWrite
			}
			r.caughtUp(t, total)
			if err := r.end(syscall.SIGTERM); err != nil {
				t.Errorf("the agent ended with %v", err)
			}

			times, inOrder, err := r.taken(total)
			if err != nil {
				t.Fatal(err)
			}
			if !inOrder {
				t.Error("lines are not in order at their first appearance")
			}
			lost, repeated := 0, 0
			var runs []cut // of lost lines
			for i, k := range times {
				if k > 1 {
					repeated += int(k) - 1
				}
				if k > 0 {
					continue
				}
				lost++
				if i == 0 || times[i-1] > 0 {
					runs = append(runs, cut{from: int64(i)})
				}
				runs[len(runs)-1].to = int64(i + 1)
			}
			ends := 0
			if tt.restart != 0 {
				ends = n
			}
			t.Logf("%d lines at %.0f a second, %d rotations, %d times the agent ended: %d lines lost in %d places, %d repeated",
				total, r.rate, rotations, ends, lost, len(runs), repeated)
			if tt.restart != syscall.SIGKILL && repeated > 0 {
				t.Errorf("%d lines were repeated, and the agent was never killed", repeated)
			}
			// Positions are written every 1 MiB at least; a batch and a block may be under way.
			if most := n * ((1<<20+64<<10)/lineBytes + 1000); repeated > most {
				t.Errorf("%d lines were repeated, more than the %d that positions may be behind", repeated, most)
			}
			if !tt.truncate {
				if lost > 0 {
					t.Errorf("%d lines were lost, the first run is %+v", lost, runs[0])
				}
				return
			}
			longest := int64(0)
			for _, run := range runs {
				longest = max(longest, run.to-run.from)
				// Only what stood before a truncation may be missing, up to it.
				if !slices.ContainsFunc(cuts, func(c cut) bool { return run.to >= c.from && run.to <= c.to }) {
					t.Errorf("lines %d to %d are lost, and no truncation was at their end", run.from, run.to)
				}
			}
			t.Logf("the window of copying and truncating: %d lines lost per rotation on average, %d at most (%.1f ms of writing)",
				lost/max(1, len(cuts)), longest, float64(longest)/max(1, r.rate)*1000)
		})
	}
}

// appendLines writes the lines after the first total ones.
func appendLines(t *testing.T, r *rotated, total int64) {
	t.Helper()
	var buf []byte
	for i := range int64(linesPerWrite) {
		buf = fmt.Appendf(buf, "%010d%s\n", total+i, linePad)
	}
	if _, err := r.f.Write(buf); err != nil {
		t.Fatal(err)
	}
}
