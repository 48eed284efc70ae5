//go:build unix

package exec

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// startTime bounds how long the guard may take to come up.
const startTime = 30 * time.Second

// process is a command below its guard.
type process struct {
	cmd     *osexec.Cmd // the guard
	control *os.File
	status  *os.File
	stdin   *os.File // never written to and never closed: as in Flume, reading it blocks
	stdout  *os.File
	stderr  *os.File
	exited  chan struct{} // closed when code is known
	code    string
}

// launch starts a command. argv[0] is its path.
func launch(argv []string) (_ *process, err error) {
	exe, err := self()
	if err != nil {
		return nil, fmt.Errorf("find this binary to run it as a guard: %w", err)
	}
	p := &process{exited: make(chan struct{})}
	var theirs []*os.File
	defer func() {
		for _, f := range theirs {
			f.Close()
		}
		if err != nil {
			p.closeFiles()
		}
	}()
	pipe := func(ours **os.File, weRead bool) {
		if err != nil {
			return
		}
		var r, w *os.File
		if r, w, err = os.Pipe(); err != nil {
			return
		}
		if weRead {
			*ours = r
			theirs = append(theirs, w)
		} else {
			*ours = w
			theirs = append(theirs, r)
		}
	}
	pipe(&p.control, false)
	pipe(&p.status, true)
	pipe(&p.stdin, false)
	pipe(&p.stdout, true)
	pipe(&p.stderr, true)
	if err != nil {
		return nil, fmt.Errorf("make pipes: %w", err)
	}
	p.cmd = &osexec.Cmd{
		Path:        exe,
		Args:        append([]string{guardName}, argv...),
		ExtraFiles:  theirs,
		SysProcAttr: &syscall.SysProcAttr{Setpgid: true},
	}
	if err = p.cmd.Start(); err != nil {
		return nil, fmt.Errorf("start the command's guard: %w", err)
	}
	status := bufio.NewReader(p.status)
	_ = p.status.SetReadDeadline(time.Now().Add(startTime)) // pipes have deadlines
	line, err := status.ReadString('\n')
	switch text, bad := strings.CutPrefix(line, "error "); {
	case bad:
		err = errors.New(strings.TrimSuffix(text, "\n"))
	case err != nil:
		err = fmt.Errorf("the command's guard did not report: %w", err)
	}
	if err != nil {
		p.kill()
		_ = p.cmd.Wait()
		return nil, err
	}
	_ = p.status.SetReadDeadline(time.Time{})
	go func() {
		defer close(p.exited)
		line, _ := status.ReadString('\n')
		p.code = strings.TrimSuffix(strings.TrimPrefix(line, "exit "), "\n")
		if _, err := strconv.Atoi(p.code); err != nil {
			p.code = "unknown (its guard was killed)"
			p.kill()
		}
	}()
	return p, nil
}

// terminate asks the whole group to end.
func (p *process) terminate() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGTERM) }

// kill ends the whole group. The group's number cannot be anybody else's as
// long as the guard was not waited for.
func (p *process) kill() { _ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL) }

// end kills what is left of the group, waits for the guard and returns the
// command's exit code. closeFiles is left to be called.
func (p *process) end() string {
	p.kill()
	<-p.exited       // before Wait, which gives the group's number free
	_ = p.cmd.Wait() // the guard's own status says nothing
	return p.code
}

func (p *process) closeFiles() {
	for _, f := range []*os.File{p.control, p.status, p.stdin, p.stdout, p.stderr} {
		if f != nil {
			f.Close()
		}
	}
}
