//go:build unix

package exec

import (
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
)

// A command must not outlive the agent, not even one that was killed with
// SIGKILL, and a shell pipeline is several processes. So a command runs below
// a guard: this binary, started again under another name, which leads a
// process group of its own, holds the read end of a pipe whose write end only
// the agent has, and kills the whole group when that pipe ends. The guard
// watches before the command exists, so there is no moment to slip through.
const guardName = "sluice-exec-guard"

// The guard's file descriptors.
const (
	fdControl = 3 + iota // ends with the agent
	fdStatus             // "started", "error TEXT", "exit CODE"
	fdStdin
	fdStdout
	fdStderr
)

// The guard takes over before main does: every binary that links this package
// (tests and custom builds among them) is able to be one.
func init() {
	if len(os.Args) > 1 && os.Args[0] == guardName {
		guard(os.Args[1], os.Args[1:])
	}
}

// guard runs the command and never returns.
func guard(path string, argv []string) {
	// On Linux the command is killed when the thread that started it ends:
	// this one, in init, is the process's first and stays.
	runtime.LockOSThread()
	for fd := fdControl; fd <= fdStderr; fd++ {
		syscall.CloseOnExec(fd)
	}
	// The group's signals are for the command. A handler, unlike ignoring
	// them, is not inherited by it.
	signal.Notify(make(chan os.Signal, 1), syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	go func() {
		_, _ = io.Copy(io.Discard, os.NewFile(fdControl, "control")) // the end, however it comes
		if syscall.Getpgrp() == os.Getpid() {
			_ = syscall.Kill(0, syscall.SIGKILL)
		}
		os.Exit(1)
	}()
	status := os.NewFile(fdStatus, "status")
	tell := func(format string, args ...any) {
		_, _ = fmt.Fprintf(status, format+"\n", args...) // without the agent there is nobody to tell
	}
	files := []*os.File{os.NewFile(fdStdin, "stdin"), os.NewFile(fdStdout, "stdout"), os.NewFile(fdStderr, "stderr")}
	p, err := os.StartProcess(path, argv, &os.ProcAttr{Files: files, Sys: dieWithParent()})
	for _, f := range files {
		f.Close() // or the agent would not see the end of the output
	}
	if err != nil {
		tell("error %v", err)
		select {}
	}
	tell("started")
	st, err := p.Wait()
	switch ws, _ := st.Sys().(syscall.WaitStatus); {
	case err != nil:
		tell("exit -1")
	case ws.Signaled():
		tell("exit %d", 128+int(ws.Signal())) // as a shell and Java say it
	default:
		tell("exit %d", st.ExitCode())
	}
	select {} // background processes of the command may go on writing
}
