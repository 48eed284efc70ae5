package broker

import (
	"bufio"
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestListenerPlan(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  Config
		want string // listeners and what they advertise
		err  string
	}{
		{name: "one", cfg: Config{Listen: "127.0.0.1:9092"}, want: "PLAINTEXT://127.0.0.1:9092"},
		{name: "advertised", cfg: Config{Listen: "0.0.0.0:9092", Advertise: "k.example:19092"}, want: "PLAINTEXT://0.0.0.0:9092=k.example:19092"},
		{name: "by name", cfg: Config{Listen: "IN://:9092, OUT://:9093", Advertise: "OUT://k.example:9093,IN://kafka:9092"},
			want: "IN://:9092=kafka:9092 OUT://:9093=k.example:9093"},
		{name: "by order", cfg: Config{Listen: "127.0.0.1:9092,127.0.0.2:9092", Advertise: "a:1,b:2"},
			want: "PLAINTEXT://127.0.0.1:9092=a:1 LISTENER2://127.0.0.2:9092=b:2"},
		{name: "IPv6", cfg: Config{Listen: "[::1]:9092"}, want: "PLAINTEXT://[::1]:9092"},
		{name: "KRaft", cfg: Config{Listen: "PLAINTEXT://:9092,CONTROLLER://:9093", Advertise: "PLAINTEXT://localhost:9092,CONTROLLER://localhost:9093",
			ControllerListeners: []string{"CONTROLLER"}, InterBrokerListener: "PLAINTEXT",
			ProtocolMap: "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT,SSL:SSL"}, want: "PLAINTEXT://:9092=localhost:9092"},
		{name: "SSL", cfg: Config{Listen: "SSL://:9093"}, err: "only PLAINTEXT is"},
		{name: "SASL by map", cfg: Config{Listen: "OUT://:9093", ProtocolMap: "OUT:SASL_SSL"}, err: "security protocol SASL_SSL"},
		{name: "not in the map", cfg: Config{Listen: "OUT://:9093", ProtocolMap: "IN:PLAINTEXT"}, err: "add OUT:PLAINTEXT"},
		{name: "name twice", cfg: Config{Listen: "A://:1,A://:2"}, err: "have the name A"},
		{name: "address twice", cfg: Config{Listen: "A://:1,B://:1"}, err: "have the address :1"},
		{name: "meta address", cfg: Config{Listen: ":9092", Advertise: "0.0.0.0:9092"}, err: "clients cannot connect to it"},
		{name: "no such listener", cfg: Config{Listen: "A://:9092", Advertise: "B://x:1"}, err: "belongs to no listener"},
		{name: "too many", cfg: Config{Listen: ":9092", Advertise: "x:1,y:2"}, err: "belongs to no listener"},
		{name: "controllers only", cfg: Config{Listen: "C://:9092", ControllerListeners: []string{"C"}}, err: "no listener for clients"},
		{name: "inter broker", cfg: Config{Listen: ":9092", InterBrokerListener: "X"}, err: "inter.broker.listener.name is X"},
		{name: "no port", cfg: Config{Listen: "localhost"}, err: "is not HOST:PORT"},
		{name: "bad map", cfg: Config{Listen: ":1", ProtocolMap: "A:TLS"}, err: "is not NAME:PROTOCOL"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			plan, err := tt.cfg.listenerPlan()
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Fatalf("error %v, want one with %q", err, tt.err)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			var got []string
			for _, l := range plan {
				s := l.Endpoint.String()
				if l.advertise != nil {
					s += "=" + l.advertise.addr()
				}
				got = append(got, s)
			}
			if g := strings.Join(got, " "); g != tt.want {
				t.Errorf("plan is %s, want %s", g, tt.want)
			}
		})
	}
}

// brokerSeenThrough asks for the broker's address in the three ways that
// there are.
func brokerSeenThrough(t *testing.T, addr string) (host string, port int32) {
	t.Helper()
	nc, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	c := &rawConn{t: t, Conn: nc}
	ask := func(req kmsg.Request, resp kmsg.Response) {
		c.send(1, req)
		_, body := c.receive()
		resp.SetVersion(req.GetVersion())
		if resp.IsFlexible() {
			body = body[1:]
		}
		if err := resp.ReadFrom(body); err != nil {
			t.Fatal(err)
		}
	}
	meta := kmsg.NewPtrMetadataResponse()
	mreq := kmsg.NewPtrMetadataRequest()
	mreq.Version = 12
	ask(mreq, meta)
	host, port = meta.Brokers[0].Host, meta.Brokers[0].Port
	coord := kmsg.NewPtrFindCoordinatorResponse()
	creq := kmsg.NewPtrFindCoordinatorRequest()
	creq.Version, creq.CoordinatorKeys = 4, []string{"g"}
	ask(creq, coord)
	cluster := kmsg.NewPtrDescribeClusterResponse()
	dreq := kmsg.NewPtrDescribeClusterRequest()
	ask(dreq, cluster)
	if h := coord.Coordinators[0]; h.Host != host || h.Port != port {
		t.Errorf("FindCoordinator says %s:%d, Metadata %s:%d", h.Host, h.Port, host, port)
	}
	if h := cluster.Brokers[0]; h.Host != host || h.Port != port {
		t.Errorf("DescribeCluster says %s:%d, Metadata %s:%d", h.Host, h.Port, host, port)
	}
	return host, port
}

func TestListenersAdvertiseTheirOwnAddress(t *testing.T) {
	b := startBroker(t, func(c *Config) {
		c.Listen = "IN://127.0.0.1:0,OUT://127.0.0.1:0,SAME://0.0.0.0:0"
		c.Advertise = "OUT://kafka.example.invalid:19092,IN://localhost:0"
	})
	ls := b.Listeners()
	for i, want := range []Endpoint{{Host: "localhost", Port: ls[0].Port}, {Host: "kafka.example.invalid", Port: 19092}, {Host: "127.0.0.1", Port: ls[2].Port}} {
		host, port := brokerSeenThrough(t, net.JoinHostPort("127.0.0.1", portText(ls[i].Port)))
		if host != want.Host || port != want.Port {
			t.Errorf("listener %s tells %s:%d, want %s:%d", ls[i].Name, host, port, want.Host, want.Port)
		}
	}
}

func portText(p int32) string {
	_, s, _ := net.SplitHostPort(Endpoint{Port: p}.addr())
	return s
}

func TestContainerClientsOfTheHost(t *testing.T) {
	var logs logBuffer
	b := &Broker{logger: slog.New(slog.NewTextHandler(&logs, nil))}
	listen := func(addr string) *listener {
		es, err := ParseEndpoints(addr)
		if err != nil {
			t.Fatal(err)
		}
		l := &listener{Endpoint: es[0]}
		if err := l.bind(t.Context()); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { l.Close() })
		b.listeners = []*listener{l}
		return l
	}
	l := listen("0.0.0.0:0")
	_, port, err := splitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	nc, err := net.Dial("tcp", net.JoinHostPort("127.0.0.1", portText(port)))
	if err != nil {
		t.Fatal(err)
	}
	defer nc.Close()
	b.adviseListeners(container{in: true, gateway: netip.MustParseAddr("172.17.0.1")})
	if s := logs.String(); !strings.Contains(s, "--advertise HOST:PORT") {
		t.Errorf("the log names no flag:\n%s", s)
	}
	for remote, want := range map[string]string{"172.17.0.1:40000": "localhost", "[::ffff:172.17.0.1]:40000": "localhost", "172.17.0.3:40000": "127.0.0.1"} {
		if host, _ := (&conn{ln: l, nc: nc, remote: remote}).advertised(); host != want {
			t.Errorf("a client from %s is told %q, want %q", remote, host, want)
		}
	}
	listen("127.0.0.1:0")
	b.adviseListeners(container{in: true})
	if s := logs.String(); !strings.Contains(s, "--listen 0.0.0.0:") {
		t.Errorf("the log names no flag:\n%s", s)
	}
}

func TestBridgeGateway(t *testing.T) {
	const head = "Iface\tDestination\tGateway \tFlags\n"
	for text, want := range map[string]string{
		head + "eth0\t00000000\t010011AC\t0003\neth0\t000011AC\t00000000\t0001\n":    "172.17.0.1",
		head + "eth0\t00000000\t0100A8C0\t0003\ndocker0\t000011AC\t00000000\t0001\n": "invalid IP", // the host's network
		head: "invalid IP",
		"x":  "invalid IP",
	} {
		if got := bridgeGateway(bufio.NewScanner(strings.NewReader(text))); got.String() != want {
			t.Errorf("gateway %s, want %s in\n%s", got, want, text)
		}
	}
}

func TestListenErrorsSayWhatToDo(t *testing.T) {
	b := startBroker(t, nil)
	for listen, want := range map[string]string{
		b.Addr():                             "port is in use",
		"192.0.2.1:9092":                     "--advertise 192.0.2.1:9092",
		"127.0.0.1:0,B://" + b.Addr():        "port is in use",
		"127.0.0.1:0,127.0.0.1:0,C://nohost": "is not HOST:PORT",
	} {
		_, err := Start(context.Background(), Config{Listen: listen, DataDir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("listen on %s: %v, want an error with %q", listen, err, want)
		}
	}
	_, err := Start(context.Background(), Config{Listen: "SSL://127.0.0.1:0", DataDir: t.TempDir()})
	if !errors.As(err, new(*ConfigError)) {
		t.Errorf("a listener with TLS: %v, want a *ConfigError", err)
	}
}

func FuzzParseEndpoints(f *testing.F) {
	for _, s := range []string{"127.0.0.1:9092", "A://:1,B://[::1]:2", "://", ",", "A://h:p"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		es, err := ParseEndpoints(s)
		if err != nil {
			return
		}
		var texts []string
		for _, e := range es {
			texts = append(texts, e.String())
		}
		again, err := ParseEndpoints(strings.Join(texts, ","))
		if err != nil || len(again) != len(es) {
			t.Fatalf("%q reads as %q, which does not read: %v", s, texts, err)
		}
	})
}
