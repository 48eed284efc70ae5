//go:build unix && !linux

package pilot

import "syscall"

// ChildAttr puts a child into a process group of its own, so that Ctrl-C on
// the terminal reaches the pilot alone. These systems have no signal for the
// death of the parent: after a kill -9 of the pilot the children stay.
func ChildAttr() *syscall.SysProcAttr { return &syscall.SysProcAttr{Setpgid: true} }
