//go:build !unix

package pilot

import (
	"os"
	"os/exec"
	"syscall"
)

// ChildAttr is empty: there is neither a group nor a death signal to set.
func ChildAttr() *syscall.SysProcAttr { return nil }

// terminate ends a process: there is no signal to ask it.
func terminate(pid int) { killGroup(pid) }

func killGroup(pid int) {
	if p, err := os.FindProcess(pid); err == nil && pid > 0 {
		_ = p.Kill()
	}
}

func signalled(*exec.ExitError) bool { return true }
