package rpc

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"path"
	"slices"
	"strings"
	"time"
)

// ipRule is one rule of ipFilterRules.
type ipRule struct {
	allow   bool
	byName  bool
	pattern string // with * and ?
}

// parseRules reads rules such as "allow:ip:127.*", "allow:name:localhost" and
// "deny:ip:*", separated by commas.
func parseRules(list []string) ([]ipRule, error) {
	var rules []ipRule
	for _, text := range list {
		access, rest, ok1 := strings.Cut(text, ":")
		kind, pattern, ok2 := strings.Cut(rest, ":")
		if !ok1 || !ok2 || access != "allow" && access != "deny" || kind != "ip" && kind != "name" {
			return nil, fmt.Errorf("%q is no rule: it should look like allow:ip:192.168.* or deny:name:*.example.com", text)
		}
		// Only * and ? mean something; path.Match has more.
		pattern = strings.NewReplacer(`\`, `\\`, `[`, `\[`, `/`, `\/`).Replace(pattern)
		rules = append(rules, ipRule{allow: access == "allow", byName: kind == "name", pattern: pattern})
	}
	return rules, nil
}

// lookupTime bounds the look-up of a client's name.
const lookupTime = 5 * time.Second

// filter decides on clients.
type filter struct {
	rules  []ipRule
	lookup func(ctx context.Context, addr string) ([]string, error)
}

// allows says whether a client may connect: the first rule that matches
// decides, and without one it may.
func (f *filter) allows(ctx context.Context, addr net.Addr) bool {
	ip := addrOf(addr)
	var names []string
	asked := false
	for _, r := range f.rules {
		match := false
		switch {
		case !r.byName:
			match = glob(r.pattern, ip.String())
		case r.pattern == "localhost":
			match = ip.IsLoopback() || isOwn(ip)
		default:
			if !asked {
				asked = true
				ctx, cancel := context.WithTimeout(ctx, lookupTime)
				names, _ = f.lookup(ctx, ip.String()) // without a name it has its address, as in Java
				cancel()
				if len(names) == 0 {
					names = []string{ip.String()}
				}
			}
			match = slices.ContainsFunc(names, func(n string) bool { return glob(r.pattern, strings.TrimSuffix(n, ".")) })
		}
		if match {
			return r.allow
		}
	}
	return true
}

func glob(pattern, s string) bool {
	ok, err := path.Match(pattern, s)
	return ok && err == nil
}

func addrOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		ip, _ := netip.AddrFromSlice(t.IP)
		return ip.Unmap()
	}
	return netip.Addr{}
}

// isOwn says whether ip is an address of this machine.
func isOwn(ip netip.Addr) bool {
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	return slices.ContainsFunc(addrs, func(a net.Addr) bool {
		n, ok := a.(*net.IPNet)
		own, _ := netip.AddrFromSlice(n.IP)
		return ok && own.Unmap() == ip
	})
}
