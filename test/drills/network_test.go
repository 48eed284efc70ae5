//go:build linux

package drills

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
)

// network is a switch with a cable to each host, in network namespaces of their own. They end with the test, however
// that ends.
type network struct {
	at    *namespace // of the switch
	hosts []*host
}

// namespace is a network namespace: that of a process that waits.
type namespace struct{ pid int }

// host has the address 10.83.0.NUMBER and a cable to the switch.
type host struct {
	*namespace
	number int
}

func (h *host) addr() string { return fmt.Sprintf("10.83.0.%d", h.number) }
func (h *host) mac() string  { return fmt.Sprintf("02:00:00:00:00:%02x", h.number) }
func (h *host) port() string { return fmt.Sprintf("port%d", h.number) }

// nobody is an Ethernet address that no host has: what goes there is lost without a word, as on a bad line.
const nobody = "02:00:00:00:00:ff"

func newNamespace(t *testing.T) (*namespace, error) {
	cmd := exec.Command("cat") // to the end of its input, which comes with the end of the test
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		in.Close()
		cmd.Wait()
	})
	return &namespace{cmd.Process.Pid}, nil
}

// command is a command in the namespace. It takes nsenter's place, so that its process is the command's.
func (n *namespace) command(name string, args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", n.pid), name}, args...)...)
}

// ip runs commands of ip(8).
func (n *namespace) ip(commands ...string) error {
	cmd := n.command("ip", "-batch", "-")
	cmd.Stdin = strings.NewReader(strings.Join(commands, "\n") + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("ip %q: %w: %s", commands, err, bytes.TrimSpace(out))
	}
	return nil
}

func newNetwork(t *testing.T, hosts int) (*network, error) {
	if os.Getuid() != 0 {
		return nil, fmt.Errorf("network namespaces need root")
	}
	at, err := newNamespace(t)
	if err != nil {
		return nil, fmt.Errorf("make a network namespace: %w", err)
	}
	n := &network{at: at}
	wires := []string{"link add switch type bridge", "link set switch up"}
	for i := range hosts {
		ns, err := newNamespace(t)
		if err != nil {
			return nil, fmt.Errorf("make a network namespace: %w", err)
		}
		h := &host{ns, i + 1}
		n.hosts = append(n.hosts, h)
		wires = append(wires,
			fmt.Sprintf("link add %s type veth peer name eth0 address %s netns %d", h.port(), h.mac(), ns.pid),
			fmt.Sprintf("link set %s master switch up", h.port()))
	}
	if err := at.ip(wires...); err != nil {
		return nil, err
	}
	for _, h := range n.hosts {
		if err := h.ip("link set lo up", "addr add "+h.addr()+"/24 dev eth0", "link set eth0 up"); err != nil {
			return nil, err
		}
		if err := n.reach(h, nil); err != nil {
			return nil, err
		}
	}
	return n, nil
}

// reach sets what Ethernet addresses h has for the others: their own, or nobody's for those that lost says.
func (n *network) reach(h *host, lost func(*host) bool) error {
	var set []string
	for _, o := range n.hosts {
		mac := o.mac()
		if lost != nil && lost(o) {
			mac = nobody
		}
		if o != h {
			set = append(set, fmt.Sprintf("neigh replace %s lladdr %s dev eth0 nud permanent", o.addr(), mac))
		}
	}
	return h.ip(set...)
}

// Ways to cut a host off. Nobody is told: packets are lost.
const (
	unplugged = "unplugged" // in both directions
	unheard   = "unheard"   // what it sends is lost, and it hears the others
	deaf      = "deaf"      // what is sent to it is lost, and the others hear it
)

// cut cuts h off from all others, in one direction or in both.
func (n *network) cut(h *host, way string) error {
	switch way {
	case unplugged:
		return n.at.ip("link set " + h.port() + " down")
	case unheard:
		return n.reach(h, func(*host) bool { return true })
	}
	for _, o := range n.hosts {
		if o != h {
			if err := n.reach(o, func(to *host) bool { return to == h }); err != nil {
				return err
			}
		}
	}
	return nil
}

// mend undoes cut.
func (n *network) mend(h *host, way string) error {
	switch way {
	case unplugged:
		return n.at.ip("link set " + h.port() + " up")
	case unheard:
		return n.reach(h, nil)
	}
	for _, o := range n.hosts {
		if o != h {
			if err := n.reach(o, nil); err != nil {
				return err
			}
		}
	}
	return nil
}
