package pilot

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"sync"
	"time"
)

// Phases of a child process, as the page shows them.
const (
	procStarting   = "starting"
	procUp         = "up"
	procRestarting = "restarting"
	procStopping   = "stopping"
	procStopped    = "stopped"
	procDead       = "dead"
)

// Process is a child's state.
type Process struct {
	Name     string `json:"name"`
	State    string `json:"state"`
	PID      int    `json:"pid,omitempty"`
	Restarts int    `json:"restarts"`
}

const (
	// A child that dies this often, each time within quickDeath of its start,
	// will not come up; the run ends.
	maxQuickDeaths = 6
	quickDeath     = 3 * time.Second

	minBackoff = 250 * time.Millisecond
	maxBackoff = 3 * time.Second
)

// child is a process that is kept running: when it dies without having been
// told to, it is named and started again.
type child struct {
	name string
	exe  string
	// args are the arguments of the n-th start, n from 0.
	args  func(n int) []string
	log   string   // file that its output is appended to
	out   string   // file for its standard output alone; empty: log
	stdin *os.File // may be nil
	// announces finds, in its first group, the address that the process says
	// it serves at.
	announces *regexp.Regexp
	// finite children may end by themselves with success.
	finite bool
	grace  time.Duration // for stop
	tell   func(format string, args ...any)

	mu       sync.Mutex
	state    string
	pid      int
	restarts int
	stopping bool
	logFrom  int64         // where the log of the present process begins
	address  string        // that it announced; empty until then
	down     time.Duration // after a kill of ours
	err      error
	wake     chan struct{} // closed by stop: ends a back-off
	done     chan struct{} // closed when the process is gone for good
}

func (c *child) start() {
	c.wake, c.done, c.state = make(chan struct{}), make(chan struct{}), procStarting
	go c.keep()
}

// keep runs the process until it is stopped, ends (when finite) or cannot be
// kept up. It holds its thread for its whole life: the death signal that
// Linux sends to children belongs to the thread that started them.
func (c *child) keep() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	defer close(c.done)
	quick, backoff := 0, minBackoff
	for n := 0; ; n++ {
		began := time.Now()
		err := c.once(n)
		c.mu.Lock()
		c.pid, c.address = 0, ""
		switch {
		case c.stopping:
			c.state = procStopped
			c.err = stopError(err)
			c.mu.Unlock()
			return
		case err == nil && c.finite:
			c.state = procStopped
			c.mu.Unlock()
			return
		}
		if err == nil {
			err = errors.New("exit status 0")
		}
		if time.Since(began) < quickDeath {
			quick++
		} else {
			quick, backoff = 1, minBackoff
		}
		if quick >= maxQuickDeaths || misconfigured(err) {
			c.state = procDead
			c.err = fmt.Errorf("%s does not stay up (%w); the end of its log, %s:\n%s", c.name, err, c.log, tailOf(c.log, 15))
			c.mu.Unlock()
			return
		}
		c.state = procRestarting
		c.restarts++
		pause := max(backoff, c.down)
		c.down = 0
		c.mu.Unlock()
		c.tell("%s died (%v); starting it again", c.name, err)
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-c.wake:
		}
		t.Stop()
		backoff = min(2*backoff, maxBackoff)
	}
}

// misconfigured says whether a command refused its flags or its file (exit code
// 2), which another start would not change.
func misconfigured(err error) bool {
	var exit *exec.ExitError
	return errors.As(err, &exit) && exit.ExitCode() == 2
}

// once runs the process and returns how it ended.
func (c *child) once(n int) error {
	log, from, err := openAppend(c.log)
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(c.exe, c.args(n)...)
	cmd.Stdout, cmd.Stderr = log, log
	if c.out != "" {
		out, _, err := openAppend(c.out)
		if err != nil {
			return err
		}
		defer out.Close()
		cmd.Stdout = out
	}
	if c.stdin != nil {
		cmd.Stdin = c.stdin
	}
	cmd.SysProcAttr = ChildAttr()

	c.mu.Lock()
	if c.stopping {
		c.mu.Unlock()
		return nil
	}
	if err := cmd.Start(); err != nil {
		c.mu.Unlock()
		return fmt.Errorf("start %s: %w", c.name, err)
	}
	c.pid = cmd.Process.Pid
	c.state = procStarting
	c.logFrom, c.address = from, ""
	c.mu.Unlock()

	err = cmd.Wait()
	// Whatever the process left behind in its group goes with it.
	killGroup(cmd.Process.Pid)
	return err
}

// openAppend opens a log and says how long it is.
func openAppend(path string) (*os.File, int64, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	st, err := f.Stat()
	if err != nil {
		f.Close()
		return nil, 0, fmt.Errorf("open log: %w", err)
	}
	return f, st.Size(), nil
}

// announceWithin is how much of a process's log is searched for its address.
const announceWithin = 64 << 10

// announced is the address that the present process says it serves at. Only
// what it has written itself counts: at an address that was chosen for it,
// somebody else might answer.
func (c *child) announced() (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid != 0 && c.address != "" {
		return c.address, nil
	}
	address, err := c.find(c.announces)
	if err == nil {
		c.address = address
	}
	return address, err
}

// said finds something else that the present process has announced.
func (c *child) said(what *regexp.Regexp) (string, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.find(what)
}

// find is for who holds mu.
func (c *child) find(what *regexp.Regexp) (string, error) {
	if c.pid == 0 {
		return "", errors.New("it is not running")
	}
	f, err := os.Open(c.log)
	if err != nil {
		return "", fmt.Errorf("read its log: %w", err)
	}
	defer f.Close()
	text, err := io.ReadAll(io.NewSectionReader(f, c.logFrom, announceWithin))
	if err != nil {
		return "", fmt.Errorf("read its log: %w", err)
	}
	// Whole lines only: the last one may still be being written.
	text = text[:bytes.LastIndexByte(text, '\n')+1]
	m := what.FindSubmatch(text)
	if m == nil {
		return "", errors.New("it has not said where it listens")
	}
	return string(m[1]), nil
}

// kill ends the process as a crash does. It is started again after down.
func (c *child) kill(down time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.down = down
	killGroup(c.pid)
}

// running says that the process has not ended for good.
func (c *child) running() bool {
	select {
	case <-c.done:
		return false
	default:
		return true
	}
}

// serving notes that the child answers.
func (c *child) serving() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == procStarting {
		c.state = procUp
	}
}

func (c *child) process() Process {
	c.mu.Lock()
	defer c.mu.Unlock()
	return Process{Name: c.name, State: c.state, PID: c.pid, Restarts: c.restarts}
}

// failure is why the child cannot be kept up, or nil.
func (c *child) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.state == procDead {
		return c.err
	}
	return nil
}

// stop asks the process to end and waits; after the grace it is killed and
// that is an error. Calling it again, or on a child never started, does
// nothing.
func (c *child) stop(grace time.Duration) error {
	if c == nil || c.done == nil {
		return nil
	}
	c.mu.Lock()
	if !c.stopping {
		c.stopping = true
		close(c.wake)
		if c.pid != 0 {
			c.state = procStopping
			terminate(c.pid)
		}
	}
	pid := c.pid
	c.mu.Unlock()
	t := time.NewTimer(grace)
	defer t.Stop()
	select {
	case <-c.done:
		return c.err
	case <-t.C:
		killGroup(pid)
		<-c.done
		return fmt.Errorf("%s did not stop within %v and was killed", c.name, grace)
	}
}

// stopError is what to make of the end of a process that was told to stop.
func stopError(err error) error {
	var exit *exec.ExitError
	if errors.As(err, &exit) && signalled(exit) {
		return nil // ended by our signal before it had a handler for it
	}
	return err
}

// tailOf is the last lines of a file, for a message.
func tailOf(path string, lines int) string {
	f, err := os.Open(path)
	if err != nil {
		return "(" + err.Error() + ")"
	}
	defer f.Close()
	const most = 4096
	if st, err := f.Stat(); err == nil && st.Size() > most {
		if _, err := f.Seek(-most, io.SeekEnd); err != nil {
			return "(" + err.Error() + ")"
		}
	}
	data, err := io.ReadAll(io.LimitReader(f, most))
	if err != nil {
		return "(" + err.Error() + ")"
	}
	at := len(data)
	for ; lines >= 0 && at > 0; at-- {
		if data[at-1] == '\n' {
			lines--
		}
		if lines < 0 {
			break
		}
	}
	return string(data[at:])
}
