// Package ports reserves ports for the processes of a test.
package ports

import (
	"fmt"
	"os"
	"syscall"
	"testing"
)

// Reserve returns an address on the loopback interface whose port is kept for the test until it ends: a process can listen
// there, end, and another listen there again, and meanwhile the kernel gives the port to nobody who asks for any. A socket
// that is bound with SO_REUSEADDR and does not listen does that, if the process sets it as well, as Go and Java do. The
// ports that lie so far above it are kept with it.
func Reserve(t testing.TB, above ...int) string {
	t.Helper()
	var err error
	for range 100 { // what is above may be taken
		var port int
		if port, err = reserve(t, 0); err == nil {
			for _, n := range above {
				if _, err = reserve(t, port+n); err != nil {
					break
				}
			}
		}
		if err == nil {
			return fmt.Sprintf("127.0.0.1:%d", port)
		}
	}
	t.Fatalf("reserve a port, and those above it by %v: %v", above, err)
	return ""
}

// reserve binds a socket to a port, 0 for any, until the test ends.
func reserve(t testing.TB, port int) (int, error) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, os.NewSyscallError("socket", err)
	}
	t.Cleanup(func() { syscall.Close(fd) })
	if err := syscall.SetsockoptInt(fd, syscall.SOL_SOCKET, syscall.SO_REUSEADDR, 1); err != nil {
		return 0, os.NewSyscallError("setsockopt", err)
	}
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}, Port: port}); err != nil {
		return 0, os.NewSyscallError("bind", err)
	}
	sa, err := syscall.Getsockname(fd)
	if err != nil {
		return 0, os.NewSyscallError("getsockname", err)
	}
	return sa.(*syscall.SockaddrInet4).Port, nil
}
