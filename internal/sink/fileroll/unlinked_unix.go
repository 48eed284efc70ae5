//go:build unix

package fileroll

import (
	"os"
	"syscall"
)

// osFile is a file of the operating system's.
type osFile struct {
	*os.File
	stat syscall.Stat_t // kept, so that asking allocates nothing
}

// Unlinked says that the file has no name any more: what is written to it
// nobody will ever read.
func (f *osFile) Unlinked() bool {
	return syscall.Fstat(int(f.Fd()), &f.stat) == nil && f.stat.Nlink == 0
}
