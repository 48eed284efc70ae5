package tail

import (
	"context"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// notifier ends pauses early when something changes in a directory. It is a
// hint and no more: where it does not work, files are found by looking.
type notifier struct {
	f    *os.File // nil: does not work
	dirs map[string]bool
	buf  [16 << 10]byte
}

const watchMask = unix.IN_MODIFY | unix.IN_CREATE | unix.IN_MOVED_TO | unix.IN_MOVED_FROM | unix.IN_DELETE

func newNotifier() *notifier {
	n := &notifier{dirs: map[string]bool{}}
	if fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK); err == nil {
		n.f = os.NewFile(uintptr(fd), "inotify")
	}
	return n
}

// watch is idempotent.
func (n *notifier) watch(dir string) {
	if n.f == nil || n.dirs[dir] {
		return
	}
	c, err := n.f.SyscallConn()
	if err != nil {
		return
	}
	// Without a watch (there is a limit on their number) the directory is
	// looked at as often as without inotify.
	_ = c.Control(func(fd uintptr) {
		_, err := unix.InotifyAddWatch(int(fd), dir, watchMask)
		n.dirs[dir] = err == nil
	})
}

// unwatched forgets a directory that is gone, so that a new one is watched.
func (n *notifier) unwatched(dir string) { delete(n.dirs, dir) }

// interrupt ends a wait; from then on ctx must have ended.
func (n *notifier) interrupt() {
	if n.f != nil {
		_ = n.f.SetReadDeadline(time.Unix(1, 0)) // it fails only when closed
	}
}

// wait returns true as soon as something has changed, false after d or when
// ctx has ended and interrupt was called.
func (n *notifier) wait(ctx context.Context, d time.Duration) bool {
	if n.f == nil || n.f.SetReadDeadline(time.Now().Add(d)) != nil {
		pause(ctx, d)
		return false
	}
	if ctx.Err() != nil { // interrupt may have come before SetReadDeadline
		return false
	}
	k, err := n.f.Read(n.buf[:])
	return err == nil && k > 0
}

// drain drops what is reported already.
func (n *notifier) drain() {
	if n.f == nil {
		return
	}
	c, err := n.f.SyscallConn()
	if err != nil {
		return
	}
	_ = c.Control(func(fd uintptr) {
		for {
			if k, err := unix.Read(int(fd), n.buf[:]); err != nil || k <= 0 {
				return
			}
		}
	})
}

func (n *notifier) close() {
	if n.f != nil {
		_ = n.f.Close() // nothing was written
	}
}
