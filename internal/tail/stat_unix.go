//go:build unix && !linux

package tail

import (
	"fmt"
	"os"
	"syscall"
)

// statPath follows symbolic links.
func statPath(path string) (stat, error) {
	fi, err := os.Stat(path)
	if err != nil {
		return stat{}, err
	}
	return statOf(fi)
}

func statFile(f *os.File) (stat, error) {
	fi, err := f.Stat()
	if err != nil {
		return stat{}, err
	}
	return statOf(fi)
}

func statOf(fi os.FileInfo) (stat, error) {
	s, ok := fi.Sys().(*syscall.Stat_t)
	if !ok {
		return stat{}, fmt.Errorf("stat %s: no inode number", fi.Name())
	}
	return stat{
		id:      id{dev: uint64(s.Dev), ino: uint64(s.Ino)},
		size:    fi.Size(),
		mtime:   fi.ModTime().UnixNano(),
		regular: fi.Mode().IsRegular(),
		dir:     fi.IsDir(),
	}, nil
}
