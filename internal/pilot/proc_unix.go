//go:build unix

package pilot

import (
	"os/exec"
	"syscall"
)

// terminate asks a process to end. That it is gone already is no fault.
func terminate(pid int) { _ = syscall.Kill(pid, syscall.SIGTERM) }

// killGroup ends what is left of a child's process group.
func killGroup(pid int) {
	if pid > 0 {
		_ = syscall.Kill(-pid, syscall.SIGKILL)
	}
}

// signalled says whether a process was ended by SIGTERM.
func signalled(e *exec.ExitError) bool {
	st, ok := e.Sys().(syscall.WaitStatus)
	return ok && st.Signaled() && st.Signal() == syscall.SIGTERM
}
