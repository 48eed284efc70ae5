// Package host is the interceptor that names the machine that the agent runs on.
package host

import (
	"net"
	"os"
	"strings"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "host",
		Classes: []string{"org.apache.flume.interceptor.HostInterceptor$Builder", "org.apache.flume.interceptor.HostInterceptor"},
		Doc:     "Sets a header to the address or the name of the agent's machine.",
		Notes: "The address is the first one of this machine that its host name resolves to, else the first of its interfaces that is up. " +
			"It is looked up once, when the agent starts.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	preserve, useIP bool
	header          string
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Bool("preserveExisting", &c.preserve, false).Describe("Leave a header alone that the event has already."),
		component.Bool("useIP", &c.useIP, true).Describe("The address; false gives the canonical host name."),
		component.String("hostHeader", &c.header, "host").Describe("The header to set."),
	}
}

func (c *config) NewInterceptor(env component.Env) (component.Interceptor, error) {
	value, err := address()
	if !c.useIP {
		value, err = canonicalName()
	}
	if err != nil || value == "" {
		// As in Flume: events go on without the header.
		env.Log.Warn("cannot tell the name or address of this machine: events get no such header", "header", c.header, "err", err)
		return nothing{}, nil
	}
	return &interceptor{c.header, []byte(value), c.preserve}, nil
}

type interceptor struct {
	header   string
	value    []byte // never changes: all events share it
	preserve bool
}

func (h *interceptor) Intercept(b *event.Batch) error {
	b.SetHeaderAll(h.header, h.value, h.preserve)
	return nil
}

type nothing struct{}

func (nothing) Intercept(*event.Batch) error { return nil }

// address is what Java's InetAddress.getLocalHost gives: the address of the
// host name; where the name does not resolve, that of an interface.
func address() (string, error) {
	if name, err := os.Hostname(); err == nil {
		if ips, err := net.LookupIP(name); err == nil {
			for _, ip := range ips {
				if v4 := ip.To4(); v4 != nil {
					return v4.String(), nil
				}
			}
			if len(ips) > 0 {
				return ips[0].String(), nil
			}
		}
	}
	addrs, err := net.InterfaceAddrs()
	if err != nil {
		return "", err
	}
	loopback := ""
	for _, a := range addrs {
		if n, ok := a.(*net.IPNet); ok && n.IP.To4() != nil {
			if !n.IP.IsLoopback() {
				return n.IP.String(), nil
			}
			loopback = n.IP.String()
		}
	}
	return loopback, nil
}

// canonicalName is the fully qualified name where a reverse look-up knows one.
func canonicalName() (string, error) {
	name, err := os.Hostname()
	if err != nil {
		return "", err
	}
	if ips, err := net.LookupIP(name); err == nil {
		for _, ip := range ips {
			if names, err := net.LookupAddr(ip.String()); err == nil {
				for _, n := range names {
					if n = strings.TrimSuffix(n, "."); strings.HasPrefix(n, name+".") {
						return n, nil
					}
				}
			}
		}
	}
	return name, nil
}
