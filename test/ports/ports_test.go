package ports

import (
	"net"
	"runtime"
	"testing"
)

// A reserved port can be listened on again and again, and nobody gets it who asks for any port.
func TestReserve(t *testing.T) {
	addr := Reserve(t, 100)
	for range 3 {
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Errorf("somebody listens on %s", addr)
	}
	if runtime.GOOS != "linux" {
		t.Skip("NOT CHECKED: that nobody else gets the port, which only Linux can promise")
	}
	seen := map[string]bool{}
	for range 500 {
		other := Reserve(t)
		if other == addr || seen[other] {
			t.Fatalf("%s was given away twice", other)
		}
		seen[other] = true
	}
}
