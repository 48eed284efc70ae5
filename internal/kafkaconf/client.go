// Package kafkaconf turns the properties of Kafka's Java clients, as agent
// files have them below kafka.producer. and kafka.consumer., into options of
// franz-go. Every property is declared: honoured, without effect or refused,
// each with its reason.
package kafkaconf

import (
	"fmt"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
)

// ms declares a duration in milliseconds that must be at least min.
func ms(key string, p *time.Duration, def time.Duration, min int64) component.Field {
	return component.Duration(key, p, time.Millisecond, def).Min(min)
}

// client is what producers and consumers have in common.
type client struct {
	prefix string // of the keys, with its last dot

	id             string
	idle           time.Duration
	metadataAge    time.Duration
	backoff        time.Duration
	backoffMax     time.Duration
	requestTimeout time.Duration
	dialTimeout    time.Duration
	security       security
}

const (
	metricsReason = "this agent has its own metrics"
	bufferReason  = "the operating system sizes socket buffers as the connection needs them"
	forcedReason  = "it is set from the component's own properties"
)

func (c *client) fields(prefix string) []component.Field {
	c.prefix = prefix
	k := func(s string) string { return prefix + s }
	return append([]component.Field{
		component.String(k("client.id"), &c.id, "").Describe("The name that brokers log; unset: sluice-AGENT-COMPONENT."),
		ms(k("connections.max.idle.ms"), &c.idle, 9*time.Minute, 100).Max(900000).Describe("An idle connection is closed after this time."),
		ms(k("metadata.max.age.ms"), &c.metadataAge, 5*time.Minute, 250).Max(3600000).Describe("Topics and leaders are looked up again after this time."),
		ms(k("retry.backoff.ms"), &c.backoff, 100*time.Millisecond, 1).Describe("The pause before a failed request is tried again; it doubles with every failure."),
		ms(k("retry.backoff.max.ms"), &c.backoffMax, time.Second, 1).Describe("The longest such pause."),
		component.Ignore(k("reconnect.backoff.ms"), "retry.backoff.ms rules the pauses between connections, too"),
		component.Ignore(k("reconnect.backoff.max.ms"), "retry.backoff.max.ms rules the pauses between connections, too"),
		ms(k("request.timeout.ms"), &c.requestTimeout, 30*time.Second, 100).Max(900000).Describe("How long a broker may take to answer before the connection is given up."),
		ms(k("socket.connection.setup.timeout.ms"), &c.dialTimeout, 10*time.Second, 1).Describe("How long making a connection may take."),
		component.Ignore(k("socket.connection.setup.timeout.max.ms"), "every try gets socket.connection.setup.timeout.ms"),
		component.Ignore(k("bootstrap.servers"), forcedReason+" (kafka.bootstrap.servers), as in Flume"),
		component.Ignore(k("client.dns.lookup"), "all addresses of a broker's name are tried in any case"),
		component.Ignore(k("send.buffer.bytes"), bufferReason),
		component.Ignore(k("receive.buffer.bytes"), bufferReason),
		component.Ignore(k("default.api.timeout.ms"), "requests are tried again until the batch succeeds or the agent stops"),
		component.Ignore(k("metric.reporters"), metricsReason),
		component.Ignore(k("metrics.num.samples"), metricsReason),
		component.Ignore(k("metrics.recording.level"), metricsReason),
		component.Ignore(k("metrics.sample.window.ms"), metricsReason),
		component.Ignore(k("auto.include.jmx.reporter"), metricsReason),
		component.Ignore(k("enable.metrics.push"), metricsReason),
		component.Refuse(k("interceptor.classes"), "Java classes cannot be loaded; remove it, or use the agent's interceptors"),
		component.Ignore(k("security.providers"), "there are no Java security providers here"),
	}, c.security.fields(prefix)...)
}

// Unknown declares every other property below the prefix, so that one that
// does not exist, or that has no meaning here, is named in a warning.
func (c *client) unknown() component.Field {
	return component.Ignore(c.prefix, "not a property that Kafka's client has, or none with a meaning here; see the page on Kafka properties")
}

// Env is what the options need to know of their component.
type Env struct {
	Component  component.Env
	Servers    []string // kafka.bootstrap.servers
	ServersKey string   // that key, for errors
}

func (c *client) options(env Env) ([]kgo.Opt, error) {
	seeds, err := Servers(env.Servers)
	if err != nil {
		return nil, &component.KeyError{Key: env.ServersKey, Err: err, Hint: "HOST:PORT, several separated by commas"}
	}
	id := c.id
	if id == "" {
		id = "sluice-" + env.Component.Agent + "-" + env.Component.Name
	}
	base, limit := c.backoff, max(c.backoffMax, c.backoff)
	opts := []kgo.Opt{
		kgo.SeedBrokers(seeds...),
		kgo.ClientID(id),
		kgo.ConnIdleTimeout(c.idle),
		kgo.MetadataMaxAge(c.metadataAge),
		// Its default of 5 s would be the time to find a restarted broker's
		// partitions, or those of a topic just made.
		kgo.MetadataMinAge(min(250*time.Millisecond, c.metadataAge)),
		kgo.RequestTimeoutOverhead(c.requestTimeout),
		kgo.RetryBackoffFn(func(fails int) time.Duration { return backoff(base, limit, fails, rand.Float64()) }),
		kgo.DisableClientMetrics(),
		kgo.WithLogger(logger{env.Component.Log}),
		kgo.SoftwareNameAndVersion("sluice", "1"),
	}
	tls, mechanism, err := c.security.build(c.prefix, env.Component.Properties)
	if err != nil {
		return nil, err
	}
	if tls != nil {
		opts = append(opts, kgo.DialTLSConfig(tls))
	}
	if mechanism != nil {
		opts = append(opts, kgo.SASL(mechanism))
	}
	return append(opts, kgo.DialTimeout(c.dialTimeout)), nil
}

// backoff is Kafka's: exponential, with 20 % of jitter (r is in [0, 1)).
func backoff(base, limit time.Duration, fails int, r float64) time.Duration {
	d := base
	for ; fails > 1 && d < limit; fails-- {
		d *= 2
	}
	return min(time.Duration(float64(d)*(0.8+0.4*r)), limit)
}

// Servers checks a list of brokers: HOST:PORT, where Kafka's client also takes
// PROTOCOL://HOST:PORT. Without a port it is 9092.
func Servers(list []string) ([]string, error) {
	var seeds []string
	for _, s := range list {
		if _, rest, ok := strings.Cut(s, "://"); ok {
			s = rest
		}
		host, port, err := net.SplitHostPort(s)
		if err != nil {
			if strings.Contains(s, ":") && !strings.HasPrefix(s, "[") || strings.ContainsAny(s, " \t/") {
				return nil, fmt.Errorf("%q is not HOST:PORT", s)
			}
			host, port = strings.Trim(s, "[]"), "9092"
		}
		if n, err := strconv.ParseUint(port, 10, 16); err != nil || n == 0 || host == "" {
			return nil, fmt.Errorf("%q is not HOST:PORT", s)
		}
		seeds = append(seeds, net.JoinHostPort(host, port))
	}
	if len(seeds) == 0 {
		return nil, fmt.Errorf("no broker is named")
	}
	return seeds, nil
}

// class declares a property that names a Java class, where only those that
// are the default, or that have an equal here, can be honoured.
func class(key string, p *string, def string, equal map[string]string, reason string) component.Field {
	return component.Value(key, p, "class", def, func(s string) (string, error) {
		s = strings.TrimSpace(s)
		if v, ok := equal[s]; ok {
			return v, nil
		}
		if v, ok := equal[s[strings.LastIndexByte(s, '.')+1:]]; ok && strings.HasPrefix(s, "org.apache.kafka.") {
			return v, nil
		}
		return "", fmt.Errorf("%s cannot be loaded: %s", s, reason)
	})
}
