package broker

import (
	"io"
	"net"
	"net/netip"
	"testing"

	"github.com/twmb/franz-go/pkg/kadm"
)

func TestConnectionsPerIP(t *testing.T) {
	b := startBroker(t, nil)
	adm := kadm.NewClient(client(t, b))
	limit := func(name, value string) {
		t.Helper()
		rs, err := adm.AlterBrokerConfigs(ctxOf(t), []kadm.AlterConfig{{Name: name, Value: &value}})
		if err != nil || rs[0].Err != nil {
			t.Fatal(err, rs[0].Err)
		}
	}
	refused := func() bool {
		t.Helper()
		before := b.metrics.connectionsRefused.Load()
		c, err := net.Dial("tcp", b.Addr())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if _, err := c.Write(frame(18, 0, 1, false, nil)); err != nil {
			return true
		}
		_, err = io.ReadFull(c, make([]byte, 4))
		if (err != nil) != (b.metrics.connectionsRefused.Load() > before) {
			t.Errorf("the connection ended with %v, %d are counted", err, b.metrics.connectionsRefused.Load()-before)
		}
		return err != nil
	}
	if refused() {
		t.Error("refused without a limit")
	}
	limit("max.connections.per.ip", "1") // the client has that many
	if !refused() {
		t.Error("taken above the limit of one address")
	}
	limit("max.connections.per.ip.overrides", "127.0.0.1:100")
	if refused() {
		t.Error("refused below the limit of its own")
	}
}

func TestParseIPLimits(t *testing.T) {
	m, err := parseIPLimits("127.0.0.1:5, [::1]:6,::ffff:10.0.0.1:7")
	if err != nil || m[netip.MustParseAddr("127.0.0.1")] != 5 || m[netip.MustParseAddr("::1")] != 6 || m[netip.MustParseAddr("10.0.0.1")] != 7 {
		t.Errorf("%v, %v", m, err)
	}
	for _, s := range []string{"x", ":5", "127.0.0.1:-1", "127.0.0.1:x"} {
		if _, err := parseIPLimits(s); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
}
