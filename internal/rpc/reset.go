package rpc

import (
	"errors"
	"syscall"
)

// isReset says that the peer cut the connection.
func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
