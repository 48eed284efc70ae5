//go:build !unix

package rpc

import "net"

// peeker would look at what a connection has to be read; it cannot here, and
// what it would see shows at the next read.
type peeker struct{}

func (*peeker) watch(net.Conn) {}

func (*peeker) ended() (ended, reset bool) { return false, false }
