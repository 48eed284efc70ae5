package broker

import (
	"bufio"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
)

// Endpoint is an address in the form of Kafka's listeners: NAME://HOST:PORT.
// The name may be missing.
type Endpoint struct {
	Name string
	Host string // "" and the unspecified addresses mean every address of the machine
	Port int32
}

// ParseEndpoints reads a list of endpoints that are separated by commas, as
// listeners and advertised.listeners have it.
func ParseEndpoints(list string) ([]Endpoint, error) {
	var es []Endpoint
	for _, s := range strings.Split(list, ",") {
		s = strings.TrimSpace(s)
		if s == "" {
			continue
		}
		name, addr, named := strings.Cut(s, "://")
		if !named {
			name, addr = "", s
		} else if name == "" {
			return nil, fmt.Errorf("%q has no listener name: want NAME://HOST:PORT", s)
		}
		host, port, err := splitHostPort(addr)
		if err != nil {
			return nil, err
		}
		es = append(es, Endpoint{Name: strings.ToUpper(name), Host: host, Port: port})
	}
	return es, nil
}

func (e Endpoint) addr() string { return net.JoinHostPort(e.Host, strconv.Itoa(int(e.Port))) }

func (e Endpoint) String() string {
	if e.Name == "" {
		return e.addr()
	}
	return e.Name + "://" + e.addr()
}

// wildcard reports whether the host means every address of the machine.
func (e Endpoint) wildcard() bool {
	if e.Host == "" {
		return true
	}
	ip, err := netip.ParseAddr(e.Host)
	return err == nil && ip.IsUnspecified()
}

func (e Endpoint) loopback() bool {
	if strings.EqualFold(e.Host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(e.Host)
	return err == nil && ip.Unmap().IsLoopback()
}

// securityProtocols are the values that a listener's protocol may have in
// Apache Kafka. Only the first is served.
var securityProtocols = []string{"PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"}

// listener is one address that the broker listens on, with what clients that
// come through it are told.
type listener struct {
	Endpoint
	net.Listener
	advertise *Endpoint // nil: the address through which the client came
	conns     atomic.Int64
	gateway   netip.Addr // see containerGateway; invalid where it does not apply
}

// listenerPlan checks the settings of the listeners and brings listeners and
// advertised addresses together. Listeners of controllers are left out: there
// is no controller to talk to.
func (c *Config) listenerPlan() ([]*listener, error) {
	listen, err := ParseEndpoints(c.Listen)
	if err != nil {
		return nil, fmt.Errorf("address to listen on: %w", err)
	}
	adv, err := ParseEndpoints(c.Advertise)
	if err != nil {
		return nil, fmt.Errorf("advertised address: %w", err)
	}
	protocols, err := parseProtocolMap(c.ProtocolMap)
	if err != nil {
		return nil, err
	}
	var plan []*listener
	names := map[string]bool{}
	addrs := map[string]bool{}
	for i, e := range listen {
		if slices.Contains(c.ControllerListeners, e.Name) {
			continue
		}
		if e.Name == "" {
			e.Name = "PLAINTEXT"
			if len(listen) > 1 && i > 0 {
				e.Name = fmt.Sprintf("LISTENER%d", i+1)
			}
		}
		protocol, ok := protocols[e.Name]
		switch {
		case ok:
		case slices.Contains(securityProtocols, e.Name):
			protocol = e.Name
		case c.ProtocolMap != "":
			return nil, fmt.Errorf("listener %s: listener.security.protocol.map has no protocol for it: add %s:PLAINTEXT", e.Name, e.Name)
		default:
			protocol = "PLAINTEXT"
		}
		switch {
		case protocol != "PLAINTEXT":
			return nil, fmt.Errorf("listener %s has the security protocol %s, which is not served yet: only PLAINTEXT is", e.Name, protocol)
		case names[e.Name]:
			return nil, fmt.Errorf("two listeners have the name %s: give each its own, as in --listen LAN://%s", e.Name, e.addr())
		case e.Port != 0 && addrs[e.addr()]:
			return nil, fmt.Errorf("two listeners have the address %s", e.addr())
		}
		names[e.Name], addrs[e.addr()] = true, true
		plan = append(plan, &listener{Endpoint: e})
	}
	if len(plan) == 0 {
		return nil, errors.New("no listener for clients is left: --listen HOST:PORT (or listeners=PLAINTEXT://HOST:PORT) sets one")
	}
	for i, a := range adv {
		if slices.Contains(c.ControllerListeners, a.Name) {
			continue
		}
		var l *listener
		if a.Name == "" {
			if i < len(plan) {
				l = plan[i]
			}
		} else if j := slices.IndexFunc(plan, func(l *listener) bool { return l.Name == a.Name }); j >= 0 {
			l = plan[j]
		}
		switch {
		case l == nil:
			return nil, fmt.Errorf("advertised address %s belongs to no listener: the listeners are %s", a, planText(plan))
		case l.advertise != nil:
			return nil, fmt.Errorf("listener %s has two advertised addresses, %s and %s", l.Name, l.advertise.addr(), a.addr())
		case a.wildcard():
			return nil, fmt.Errorf("advertised address %s: clients cannot connect to it; name the host by which they reach this machine", a.addr())
		}
		l.advertise = &a
	}
	if n := c.InterBrokerListener; n != "" && !names[n] {
		return nil, fmt.Errorf("inter.broker.listener.name is %s, and the listeners are %s", n, planText(plan))
	}
	return plan, nil
}

func planText(plan []*listener) string {
	var s []string
	for _, l := range plan {
		s = append(s, l.Endpoint.String())
	}
	return strings.Join(s, ", ")
}

// parseProtocolMap reads listener.security.protocol.map: NAME:PROTOCOL,…
func parseProtocolMap(s string) (map[string]string, error) {
	m := map[string]string{}
	for _, e := range strings.Split(s, ",") {
		if e = strings.TrimSpace(e); e == "" {
			continue
		}
		name, protocol, ok := strings.Cut(e, ":")
		name, protocol = strings.ToUpper(strings.TrimSpace(name)), strings.ToUpper(strings.TrimSpace(protocol))
		if !ok || name == "" || !slices.Contains(securityProtocols, protocol) {
			return nil, fmt.Errorf("listener.security.protocol.map: %q is not NAME:PROTOCOL with one of the protocols %s", e, strings.Join(securityProtocols, ", "))
		}
		if _, twice := m[name]; twice {
			return nil, fmt.Errorf("listener.security.protocol.map: %s is there twice", name)
		}
		m[name] = protocol
	}
	return m, nil
}

// bind opens the listener's port.
func (l *listener) bind(ctx context.Context) error {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", l.addr())
	var dns *net.DNSError
	switch {
	case err == nil:
	case errors.Is(err, syscall.EADDRINUSE):
		return fmt.Errorf("listen on %s: the port is in use: stop the other program or choose another port (port 0 takes a free one): %w", l.addr(), err)
	case errors.Is(err, syscall.EADDRNOTAVAIL), errors.As(err, &dns):
		return fmt.Errorf("listen on %s: this is no address of this machine: listen on 0.0.0.0:%d or one of the machine's own, and give the address that clients use with --advertise %s: %w", l.addr(), l.Port, l.addr(), err)
	case errors.Is(err, syscall.EACCES):
		return fmt.Errorf("listen on %s: this port needs more rights: choose one from 1024 on: %w", l.addr(), err)
	default:
		return fmt.Errorf("listen on %s: %w", l.addr(), err)
	}
	l.Listener = ln
	if a := l.advertise; a != nil && a.Port == 0 { // as in Apache Kafka: the port that was taken
		_, a.Port, _ = splitHostPort(ln.Addr().String())
	}
	return nil
}

// advertised is the address under which a client is to connect: the
// configured one, or the one through which the client came, which is one it
// can reach. A client that came into a container through a published port is
// the exception: it came to the host, under an address that is not seen here.
func (c *conn) advertised() (string, int32) {
	l := c.ln
	if l.advertise != nil {
		return l.advertise.Host, l.advertise.Port
	}
	host, port, err := splitHostPort(c.nc.LocalAddr().String())
	if err != nil { // it is an address of the net package
		panic(err)
	}
	if l.gateway.IsValid() {
		if from, err := netip.ParseAddrPort(c.remote); err == nil && from.Addr().Unmap() == l.gateway {
			return "localhost", port
		}
	}
	return host, port
}

// adviseListeners says at the start what will not work and which flag mends
// it.
func (b *Broker) adviseListeners(box container) {
	for _, l := range b.listeners {
		_, port, _ := splitHostPort(l.Addr().String())
		if !l.loopback() {
			b.logger.Warn("the broker can be reached from other machines and asks nobody who they are", "listener", l.Endpoint.String())
		}
		switch {
		case l.advertise != nil:
			b.loopWG.Go(func() { b.checkResolves(*l.advertise) })
		case box.in && l.loopback():
			b.logger.Info("the broker runs in a container and listens on its loopback: nothing outside the container reaches it, published ports included",
				"listener", l.Endpoint.String(), "say", fmt.Sprintf("--listen 0.0.0.0:%d", l.Port))
		case box.in && l.wildcard() && box.gateway.IsValid():
			l.gateway = box.gateway
			b.logger.Info(fmt.Sprintf("the broker runs in a container: clients on the host are told to connect to localhost:%d, other containers to this one's address; "+
				"for clients on other machines, or when the port is published under another number, say --advertise HOST:PORT", port), "listener", l.Endpoint.String())
		case box.in && l.wildcard():
			b.logger.Info("the broker runs in a container: clients are told to connect to the address at which they reached the container; "+
				"when they come from outside its network, say --advertise HOST:PORT with what they use", "listener", l.Endpoint.String())
		}
	}
}

// checkResolves warns of an advertised name that this machine does not know.
// Clients may know it, so it is no error.
func (b *Broker) checkResolves(e Endpoint) {
	// A stop ends connCtx, so it does not wait for a name server.
	ctx, cancel := context.WithTimeout(b.connCtx, 5*time.Second)
	defer cancel()
	if _, err := net.DefaultResolver.LookupHost(ctx, e.Host); err != nil && !b.isStopping() {
		b.logger.Warn("the advertised host is not known on this machine; clients that do not know it either cannot connect", "advertise", e.String(), "err", err)
	}
}

// container is what is known of the container around the process.
type container struct {
	in bool
	// gateway is the address from which connections through a published port
	// come; invalid where that is not so (Kubernetes, the host's network).
	gateway netip.Addr
}

// detectContainer looks for the marks that Docker, Podman and Kubernetes leave.
func detectContainer() container {
	exists := func(name string) bool { _, err := os.Stat(name); return err == nil }
	switch {
	case os.Getenv("KUBERNETES_SERVICE_HOST") != "":
		return container{in: true}
	case exists("/.dockerenv"), exists("/run/.containerenv"), os.Getenv("container") != "":
		f, err := os.Open("/proc/net/route")
		if err != nil {
			return container{in: true}
		}
		defer f.Close()
		return container{in: true, gateway: bridgeGateway(bufio.NewScanner(f))}
	}
	return container{}
}

// bridgeGateway finds the default gateway in the kernel's table of routes. In
// the network of the host there are the bridges themselves: no published
// ports, so no gateway.
func bridgeGateway(lines *bufio.Scanner) netip.Addr {
	var gw netip.Addr
	for lines.Scan() {
		f := strings.Fields(lines.Text()) // Iface Destination Gateway …
		if len(f) < 3 {
			continue
		}
		if strings.HasPrefix(f[0], "docker") || strings.HasPrefix(f[0], "br-") || strings.HasPrefix(f[0], "cni") {
			return netip.Addr{}
		}
		b, err := hex.DecodeString(f[2])
		if f[1] != "00000000" || err != nil || len(b) != 4 || gw.IsValid() {
			continue
		}
		slices.Reverse(b) // it is little-endian on every machine that has containers
		if a, _ := netip.AddrFromSlice(b); !a.IsUnspecified() {
			gw = a
		}
	}
	return gw
}
