package pilot

import (
	"fmt"
	"net"
	"strconv"
)

// portPicker finds ports for children. A port is free when it was asked for;
// nothing holds it until the child listens, so another program can still take
// it. Then the child does not come up, and says why.
type portPicker struct {
	tell func(format string, args ...any)
	// held keeps the ports that were picked in one go distinct.
	taken map[string]bool
}

// pick returns want when its port is free, and a free port of the same host
// when it is not.
func (p *portPicker) pick(what, want string) (string, error) {
	host, port, err := net.SplitHostPort(want)
	if err != nil {
		return "", fmt.Errorf("address of the %s %q: %w; give HOST:PORT", what, want, err)
	}
	addr, err := p.try(want)
	if err == nil {
		return addr, nil
	}
	for range 10 {
		free, ferr := p.try(net.JoinHostPort(host, "0"))
		if ferr == nil {
			p.tell("Port %s for the %s is busy; taking %s instead.", port, what, free)
			return free, nil
		}
	}
	return "", fmt.Errorf("find a port for the %s: %w", what, err)
}

// port is pick for a child that is given the number alone.
func (p *portPicker) port(what, want string) (int, error) {
	addr, err := p.pick(what, want)
	if err != nil {
		return 0, err
	}
	_, port, err := net.SplitHostPort(addr)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(port)
}

func (p *portPicker) try(addr string) (string, error) {
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return "", err
	}
	got := l.Addr().String()
	if err := l.Close(); err != nil {
		return "", err
	}
	if p.taken[got] {
		return "", fmt.Errorf("port of %s is taken", got)
	}
	if p.taken == nil {
		p.taken = map[string]bool{}
	}
	p.taken[got] = true
	return got, nil
}

func portOf(a net.Addr) string {
	_, port, err := net.SplitHostPort(a.String())
	if err != nil {
		return a.String()
	}
	return port
}
