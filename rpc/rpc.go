// Package rpc sends events to Flume and Sluice agents: to their avro sources
// or, with client.type = thrift, to their thrift sources. It takes the
// properties of Flume's own clients:
//
//	client, err := rpc.New(map[string]string{
//		"client.type": "default_failover",
//		"hosts":       "h1 h2",
//		"hosts.h1":    "collector1:41414",
//		"hosts.h2":    "collector2:41414",
//		"batch-size":  "1000",
//	})
//	…
//	defer client.Close()
//	err = client.AppendBatch(ctx, []event.Event{{Body: []byte("hello")}})
//
// An append returns nil when the source has the events in all of its required
// channels. After an error some of them may have arrived: send them again, and
// they may be there twice.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"slices"
	"strconv"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/rpc"
)

// Client sends events. It is safe for concurrent use, connects when it is
// first used and, unlike Flume's, connects anew after an error.
type Client struct {
	client    rpc.Client
	batchSize int
}

// Option is a choice beside the properties.
type Option func(*options)

type options struct {
	log *slog.Logger
	jvm map[string]string
}

// WithLogger makes the client say what it thinks of the properties (unknown ones,
// say) to log. Without it that is dropped.
func WithLogger(log *slog.Logger) Option { return func(o *options) { o.log = log } }

// WithSystemProperties gives the client the JVM-style properties
// javax.net.ssl.trustStore, …Password and flume.ssl.…, which hold where its own
// properties say nothing. The environment's FLUME_SSL_… hold in any case.
func WithSystemProperties(properties map[string]string) Option {
	return func(o *options) { o.jvm = properties }
}

// config is the client's part of an agent file.
type config struct{ rpc.ClientConfig }

// Fields implements component.Config.
func (c *config) Fields() []component.Field {
	return slices.Concat(c.CommonFields(), c.HostFields(), c.AvroFields(), c.ThriftFields(), []component.Field{c.PoolField()})
}

// Properties lists the properties that New takes, with their types, defaults
// and documentation.
func Properties() []component.Field { return new(config).Fields() }

// New makes a client of Flume's client properties. A bad or missing value is
// an error, an unknown property only a warning.
func New(properties map[string]string, opts ...Option) (*Client, error) {
	o := options{log: slog.New(slog.DiscardHandler)}
	for _, opt := range opts {
		opt(&o)
	}
	var props []component.Property
	for _, k := range slices.Sorted(maps.Keys(properties)) {
		props = append(props, component.Property{Key: k, Value: properties[k]})
	}
	var cfg config
	var errs []error
	for _, f := range component.Decode(component.Default(), &cfg, props) {
		if !f.Error {
			o.log.Warn("client property", "key", f.Key, "finding", f.Message, "hint", f.Hint)
			continue
		}
		err := fmt.Errorf("%s: %s", f.Key, f.Message)
		if f.Hint != "" {
			err = fmt.Errorf("%w (%s)", err, f.Hint)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("configure RPC client: %w", err)
	}
	env := component.Env{Name: "rpc", Log: o.log, Metrics: component.NewMetrics(), Health: func(error) {}, Properties: o.jvm}
	cl, err := cfg.New(env, "", false)
	if err != nil {
		return nil, fmt.Errorf("configure RPC client: %w", err)
	}
	return &Client{client: cl, batchSize: cfg.BatchSize}, nil
}

// Default makes a client of one avro source with the default properties.
func Default(host string, port int, opts ...Option) (*Client, error) {
	return New(map[string]string{"hosts": "h1", "hosts.h1": net.JoinHostPort(host, strconv.Itoa(port))}, opts...)
}

// Thrift makes a client of one thrift source with the default properties.
func Thrift(host string, port int, opts ...Option) (*Client, error) {
	return New(map[string]string{"client.type": "thrift", "hosts": "h1", "hosts.h1": net.JoinHostPort(host, strconv.Itoa(port))}, opts...)
}

// AppendBatch sends events, BatchSize at a time. It keeps nothing of them. A
// header whose value is nil is left out.
func (c *Client) AppendBatch(ctx context.Context, events []event.Event) error {
	return c.client.AppendBatch(ctx, events)
}

// Append sends one event. AppendBatch is much faster for several.
func (c *Client) Append(ctx context.Context, e event.Event) error { return c.client.Append(ctx, e) }

// BatchSize is the most events of one call to the source.
func (c *Client) BatchSize() int { return c.batchSize }

// Close ends the connections. The client must not be used after that.
func (c *Client) Close() error {
	c.client.Close()
	return nil
}
