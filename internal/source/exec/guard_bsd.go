//go:build unix && !linux

package exec

import (
	"os"
	"syscall"
)

func dieWithParent() *syscall.SysProcAttr { return nil }

func self() (string, error) { return os.Executable() }
