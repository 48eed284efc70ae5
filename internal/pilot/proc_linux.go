package pilot

import "syscall"

// ChildAttr puts a child into a process group of its own, so that Ctrl-C on
// the terminal reaches the pilot alone, which then stops the children in
// order; and has the kernel kill it when the pilot is gone, however that went.
func ChildAttr() *syscall.SysProcAttr {
	return &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
}
