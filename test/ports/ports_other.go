//go:build !linux

// Package ports reserves ports for the processes of a test.
package ports

import (
	"fmt"
	"net"
	"testing"
)

// Reserve returns an address on the loopback interface that was free a moment ago, as were the ports that lie so far above
// it: only Linux can keep them so.
func Reserve(t testing.TB, above ...int) string {
	t.Helper()
	var err error
	for range 100 {
		var addr string
		if addr, err = free(above); err == nil {
			return addr
		}
	}
	t.Fatalf("find free ports: %v", err)
	return ""
}

func free(above []int) (string, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", err
	}
	defer l.Close()
	for _, n := range above {
		other, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", l.Addr().(*net.TCPAddr).Port+n))
		if err != nil {
			return "", err
		}
		defer other.Close()
	}
	return l.Addr().String(), nil
}
