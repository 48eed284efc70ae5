package vfs

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// FreeSpace is what an unprivileged process may still write.
func FreeSpace(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
