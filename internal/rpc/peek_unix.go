//go:build unix

package rpc

import (
	"net"
	"syscall"
)

// peeker looks at what a connection has to be read, without reading it and
// without waiting for it.
type peeker struct {
	raw  syscall.RawConn // nil: cannot look
	look func(fd uintptr) bool
	b    [1]byte
	n    int
	err  error
}

// watch begins to look at c.
func (p *peeker) watch(c net.Conn) {
	sc, ok := c.(syscall.Conn)
	if !ok {
		return
	}
	raw, err := sc.SyscallConn()
	if err != nil {
		return // it shows at the next read
	}
	p.raw = raw
	p.look = func(fd uintptr) bool {
		p.n, _, p.err = syscall.Recvfrom(int(fd), p.b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		return true
	}
}

// ended says that the peer has closed the connection, and reset that it takes
// no answer any more either. Nothing else is known to be wrong otherwise.
func (p *peeker) ended() (ended, reset bool) {
	if p.raw == nil || p.raw.Read(p.look) != nil {
		return false, false
	}
	reset = isReset(p.err)
	return reset || p.err == nil && p.n == 0, reset
}
