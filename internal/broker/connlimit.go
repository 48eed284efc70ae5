package broker

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// parseIPLimits reads max.connections.per.ip.overrides: HOST:COUNT, separated
// by commas. A name is looked up, as in Apache Kafka.
func parseIPLimits(s string) (map[netip.Addr]int, error) {
	m := map[netip.Addr]int{}
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		i := strings.LastIndexByte(e, ':')
		if i < 1 {
			return nil, fmt.Errorf("%q: want HOST:COUNT", e)
		}
		n, err := strconv.ParseUint(e[i+1:], 10, 31)
		if err != nil {
			return nil, fmt.Errorf("%q: want HOST:COUNT with a whole number", e)
		}
		host := strings.Trim(e[:i], "[]")
		if a, err := netip.ParseAddr(host); err == nil {
			m[a.Unmap()] = int(n)
			continue
		}
		addrs, err := net.LookupIP(host)
		if err != nil {
			return nil, fmt.Errorf("%q: %w", e, err)
		}
		for _, ip := range addrs {
			if a, ok := netip.AddrFromSlice(ip); ok {
				m[a.Unmap()] = int(n)
			}
		}
	}
	return m, nil
}

func clientAddr(nc net.Conn) netip.Addr {
	ap, err := netip.ParseAddrPort(nc.RemoteAddr().String())
	if err != nil { // not TCP
		return netip.Addr{}
	}
	return ap.Addr().Unmap().WithZone("")
}

// refuses says why a new connection is one too many, "" if it is not. The
// caller holds b.mu.
func (b *Broker) refuses(a netip.Addr) (why string, limit int) {
	cfg := b.configs.live.Load()
	if len(b.conns) >= cfg.MaxConnections {
		return "as many are open as allowed (max.connections)", cfg.MaxConnections
	}
	limit = cfg.MaxConnectionsPerIP
	if n, ok := cfg.ipLimits[a]; ok {
		limit = n
	}
	if b.perIP[a] >= limit {
		return "as many are open from this address as allowed (max.connections.per.ip)", limit
	}
	return "", 0
}
