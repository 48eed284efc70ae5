package wire

import (
	"io"
	"os"

	"golang.org/x/sys/unix"
)

// sendFile sends n bytes of f from off with sendfile(2). The offset is passed
// explicitly, because many responses read one file at the same time and
// (*net.TCPConn).ReadFrom would use and move the file's own position.
func sendFile(w *Writer, f *os.File, off, n int64) error {
	dst := w.raw
	if dst == nil {
		return copyFile(w, f, off, n)
	}
	src, err := f.SyscallConn()
	if err != nil {
		return err
	}
	for n > 0 {
		if err := w.arm(); err != nil {
			return err
		}
		var sent int
		var sendErr error
		err := src.Control(func(srcFD uintptr) {
			waitErr := dst.Write(func(dstFD uintptr) bool {
				for {
					o := off
					sent, sendErr = unix.Sendfile(int(dstFD), int(srcFD), &o, int(min(n, stallChunk)))
					if sendErr != unix.EINTR {
						return sendErr != unix.EAGAIN
					}
				}
			})
			if waitErr != nil {
				sent, sendErr = 0, waitErr
			}
		})
		switch {
		case err != nil:
			return err
		case sendErr == unix.EINVAL || sendErr == unix.ENOSYS:
			return copyFile(w, f, off, n) // a file system without sendfile
		case sendErr != nil:
			return os.NewSyscallError("sendfile", sendErr)
		case sent == 0:
			return io.ErrUnexpectedEOF // the file is shorter than promised
		}
		off += int64(sent)
		n -= int64(sent)
	}
	return nil
}

// cork holds back segments that are not full until it is lifted. It only saves
// work, so an error does not matter: a connection that is gone says so itself.
func (w *Writer) cork(on bool) {
	if w.raw == nil {
		return
	}
	v := 0
	if on {
		v = 1
	}
	_ = w.raw.Control(func(fd uintptr) {
		_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_CORK, v)
	})
}
