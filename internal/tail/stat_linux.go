package tail

import (
	"os"

	"golang.org/x/sys/unix"
)

const statMask = unix.STATX_TYPE | unix.STATX_INO | unix.STATX_SIZE | unix.STATX_MTIME | unix.STATX_BTIME

// statPath follows symbolic links.
func statPath(path string) (stat, error) {
	return statx(unix.AT_FDCWD, path, 0, path)
}

func statFile(f *os.File) (stat, error) {
	return statx(int(f.Fd()), "", unix.AT_EMPTY_PATH, f.Name())
}

func statx(fd int, path string, flags int, name string) (stat, error) {
	var s unix.Statx_t
	for {
		err := unix.Statx(fd, path, flags, statMask, &s)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return stat{}, &os.PathError{Op: "stat", Path: name, Err: err}
		}
		break
	}
	st := stat{
		id:      id{dev: unix.Mkdev(s.Dev_major, s.Dev_minor), ino: s.Ino},
		size:    int64(s.Size),
		mtime:   s.Mtime.Sec*1e9 + int64(s.Mtime.Nsec),
		regular: s.Mode&unix.S_IFMT == unix.S_IFREG,
		dir:     s.Mode&unix.S_IFMT == unix.S_IFDIR,
	}
	if s.Mask&unix.STATX_BTIME != 0 {
		st.born = s.Btime.Sec*1e9 + int64(s.Btime.Nsec)
	}
	return st, nil
}
