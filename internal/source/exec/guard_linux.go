package exec

import "syscall"

func dieWithParent() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
}

// self is this binary, also when its file was replaced by another version.
func self() (string, error) { return "/proc/self/exe", nil }
