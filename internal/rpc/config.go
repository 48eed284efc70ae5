package rpc

import (
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"time"

	"github.com/klauspost/compress/zlib"

	"github.com/sluice-data/sluice/component"
)

// ClientConfig are the properties of Flume's RPC clients: of the avro and
// thrift sinks, and of programs (package rpc).
type ClientConfig struct {
	BatchSize int
	ResetTime time.Duration // of a sink: the age at which a connection is made anew

	clientType     string
	hosts          []string
	hostAddr       map[string]string
	connectTimeout time.Duration
	requestTimeout time.Duration
	maxAttempts    int
	selector       string
	backoff        bool
	maxBackoff     time.Duration
	compression    string
	level          int
	order          string
	protocol       string
	maxConnections int
	tls            ClientTLS
}

// Types of clients.
const (
	typeDefault     = "default"
	typeFailover    = "default_failover"
	typeLoadBalance = "default_loadbalance"
	typeThrift      = "thrift"
)

// clientClasses are the types by Flume's Java classes.
var clientClasses = map[string]string{
	"org.apache.flume.api.NettyAvroRpcClient":     typeDefault,
	"org.apache.flume.api.FailoverRpcClient":      typeFailover,
	"org.apache.flume.api.LoadBalancingRpcClient": typeLoadBalance,
	"org.apache.flume.api.ThriftRpcClient":        typeThrift,
}

func parseType(s string) (string, error) {
	s = strings.TrimSpace(s)
	if t, ok := clientClasses[s]; ok {
		return t, nil
	}
	t := strings.ToLower(s)
	if slices.Contains([]string{typeDefault, typeFailover, typeLoadBalance, typeThrift}, t) {
		return t, nil
	}
	return "", fmt.Errorf("%q is not one of default, default_failover, default_loadbalance, thrift (Java classes cannot be loaded)", s)
}

// CommonFields declares what all clients have.
func (c *ClientConfig) CommonFields() []component.Field {
	return append([]component.Field{
		component.Int("batch-size", &c.BatchSize, 100).In("events").Min(1).Lenient().
			Describe("The most events in one call. Larger batches are much faster."),
		component.Duration("connect-timeout", &c.connectTimeout, time.Millisecond, 20*time.Second).Min(1000).Lenient().
			Describe("How long connecting may take, with the TLS handshake."),
		component.Duration("request-timeout", &c.requestTimeout, time.Millisecond, 20*time.Second).Min(1000).Lenient().
			Describe("How long the answer to a call may take. Then the connection is given up and the events are sent again."),
	}, c.tls.Fields()...)
}

// AvroFields declares what only clients of the Avro protocol have.
func (c *ClientConfig) AvroFields() []component.Field {
	return []component.Field{
		component.Enum("compression-type", &c.compression, "none", "none", "deflate").
			Describe("deflate compresses what is sent; the source must have the same."),
		component.Int("compression-level", &c.level, 6).Min(0).Max(9).
			Describe("From 1, fast, to 9, small; 0 does not compress. For compression-type = deflate."),
		component.Enum("compression-order", &c.order, "outside", "outside", "inside").
			Describe("With ssl and deflate together (ours): outside compresses the encrypted bytes, as Flume 1.10 and 1.11 do; inside compresses first and encrypts then, as Flume 1.9 does and as makes sense. Sluice's source takes both."),
	}
}

// HostFields declares how several hosts are used.
func (c *ClientConfig) HostFields() []component.Field {
	return []component.Field{
		component.Value("client.type", &c.clientType, "enum", typeDefault, parseType).
			Describe("default: the first of hosts; default_failover: one of them until it fails; default_loadbalance: all in turn; thrift: the first one, by Thrift."),
		component.List("hosts", &c.hosts).Describe("Reference names of hosts."),
		component.Map("hosts.", &c.hostAddr).Describe("hosts.NAME = HOST:PORT is the address of a reference name."),
		component.Int("max-attempts", &c.maxAttempts, 0).Min(0).AsDefault("the number of hosts").
			Describe("How many hosts may fail on a batch before it counts as failed, for default_failover."),
		component.Enum("host-selector", &c.selector, "round_robin", "round_robin", "random").
			Describe("The order of hosts for default_loadbalance."),
		component.Bool("backoff", &c.backoff, false).
			Describe("Leave a host alone for a while after it failed, for default_loadbalance: 2 s, doubling with each failure."),
		component.Duration("maxBackoff", &c.maxBackoff, time.Millisecond, 30*time.Second).Min(0).
			Describe("The longest such while."),
		component.Ignore("maxIoWorkers", "as in Flume since 1.10: there are no such threads"),
	}
}

// ThriftFields declares what only Thrift has.
func (c *ClientConfig) ThriftFields() []component.Field {
	return append([]component.Field{
		component.Enum("protocol", &c.protocol, "compact", "compact", "binary").
			Describe("The Thrift protocol; the source must have the same."),
		NoKerberos(),
	}, kerberosIgnored("client-principal", "client-keytab", "server-principal")...)
}

// PoolField declares the connections of a Thrift client.
func (c *ClientConfig) PoolField() component.Field {
	return component.Int("maxConnections", &c.maxConnections, 5).Min(1).Lenient().
		Describe("Thrift: how many calls may be under way at a time, each on a connection of its own.")
}

// NoKerberos declares the switch that cannot be turned on.
func NoKerberos() component.Field {
	var on bool
	return component.Value("kerberos", &on, "bool", "false", func(s string) (bool, error) {
		if strings.EqualFold(strings.TrimSpace(s), "true") {
			return false, errors.New("it is not supported: use ssl = true, and client-auth = required on the source")
		}
		return false, nil
	}).Describe("Only false: Kerberos is not supported.")
}

func kerberosIgnored(keys ...string) []component.Field {
	var fs []component.Field
	for _, k := range keys {
		fs = append(fs, component.Ignore(k, "it is Kerberos's, which is not supported"))
	}
	return fs
}

// KerberosSource declares the Kerberos properties of the thrift source.
func KerberosSource() []component.Field {
	return append([]component.Field{NoKerberos()}, kerberosIgnored("agent-principal", "agent-keytab")...)
}

// New makes the client of the hosts in the configuration, of which addr is one
// more, first, unless it is empty or hosts names others. Nothing is connected yet.
func (c *ClientConfig) New(env component.Env, addr string, thrift bool) (Client, error) {
	conf, verify, err := c.tls.config(env)
	if err != nil {
		return nil, err
	}
	hosts, err := c.addresses(addr)
	if err != nil {
		return nil, err
	}
	set := &settings{layers: layers{tls: conf, verify: verify}, batchSize: c.BatchSize, connectTimeout: c.connectTimeout, requestTimeout: c.requestTimeout,
		maxAge: c.ResetTime, connections: 1,
		created: env.Metrics.Counter("ConnectionCreatedCount"), closed: env.Metrics.Counter("ConnectionClosedCount"), failed: env.Metrics.Counter("ConnectionFailedCount")}
	if thrift || c.clientType == typeThrift {
		set.protocol = ThriftCompact
		if c.protocol == "binary" {
			set.protocol = ThriftBinary
		}
		set.connections = max(c.maxConnections, 1)
	} else if c.compression == "deflate" {
		set.layers.deflate, set.layers.level, set.layers.inside = true, c.level, c.order == "inside"
		if _, err := zlib.NewWriterLevel(nil, c.level); err != nil {
			return nil, &component.KeyError{Key: "compression-level", Err: err}
		}
	}
	var all []*endpoint
	for _, h := range hosts {
		all = append(all, newEndpoint(set, h))
	}
	switch c.clientType {
	case typeFailover:
		attempts := c.maxAttempts
		if attempts == 0 {
			attempts = len(all)
		}
		return &failover{hosts: all, attempts: attempts}, nil
	case typeLoadBalance:
		if len(all) < 2 {
			return nil, &component.KeyError{Key: "hosts", Err: errors.New("client.type = default_loadbalance needs two hosts at least")}
		}
		most := c.maxBackoff
		if most == 0 {
			most = 30 * time.Second
		}
		return &balancer{hosts: all, order: &order{random: c.selector == "random", backoff: c.backoff, maxBackoff: most, hosts: make([]failState, len(all))}}, nil
	}
	if len(all) > 1 {
		env.Log.Warn("several hosts are given, and the client of this type uses the first alone", "hosts", c.hosts, "used", all[0].name)
	}
	return all[0], nil
}

// addresses resolves the reference names.
func (c *ClientConfig) addresses(addr string) ([]string, error) {
	names := c.hosts
	if len(names) == 0 && addr != "" {
		names = []string{"h1"}
	}
	var out []string
	for _, n := range names {
		a := c.hostAddr[n]
		if a == "" && n == "h1" {
			a = addr // what Flume's sinks call their hostname and port
		}
		if a == "" {
			return nil, &component.KeyError{Key: "hosts." + n, Err: errors.New("it must be set, as hosts names it"), Hint: "HOST:PORT"}
		}
		if _, _, err := net.SplitHostPort(a); err != nil {
			return nil, &component.KeyError{Key: "hosts." + n, Err: fmt.Errorf("%q is no address: %w", a, err), Hint: "HOST:PORT"}
		}
		out = append(out, a)
	}
	if len(out) == 0 {
		return nil, &component.KeyError{Key: "hosts", Err: errors.New("no host is given"), Hint: "hosts = h1, and hosts.h1 = HOST:PORT"}
	}
	return out, nil
}
