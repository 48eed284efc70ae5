//go:build !linux

// Package ports reserves ports for the processes of a test.
package ports

import (
	"net"
	"testing"
)

// Reserve returns an address on the loopback interface that was free a moment ago: only Linux can keep it so.
func Reserve(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("find a free port: %v", err)
	}
	defer l.Close()
	return l.Addr().String()
}
