package rpc

import (
	"context"
	"errors"
	"net"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// SinkConfig is what the avro and the thrift sink have in common.
type SinkConfig struct {
	Client ClientConfig

	hostname string
	port     int
}

// Fields declares the common properties. The interval's second name is
// Flume's guide's.
func (c *SinkConfig) Fields() []component.Field {
	return append([]component.Field{
		component.String("hostname", &c.hostname, "").Require().Describe("The host of the source to send to."),
		component.Int("port", &c.port, 0).Require().Min(1).Max(65535).Describe("Its port."),
		component.Duration("reset-connection-interval", &c.Client.ResetTime, time.Second, 0).Min(0).
			Describe("The age at which a connection is made anew, so that a load balancer on the way can send it elsewhere; 0: never."),
	}, c.Client.CommonFields()...)
}

// NewSink makes the sink.
func (c *SinkConfig) NewSink(env component.Env, thrift bool) (*Sink, error) {
	s := &Sink{env: env, batch: c.Client.BatchSize}
	s.connect = func() (Client, error) {
		return c.Client.New(env, net.JoinHostPort(c.hostname, strconv.Itoa(c.port)), thrift)
	}
	// What is wrong with the properties shows now; the client connects when
	// it is first used.
	var err error
	if s.client, err = s.connect(); err != nil {
		return nil, err
	}
	return s, nil
}

// Sink sends events to a source of another agent. It implements
// component.Sink.
type Sink struct {
	env     component.Env
	batch   int
	connect func() (Client, error)
	client  Client // nil after a Stop
}

// BatchSize implements component.Sizer.
func (s *Sink) BatchSize() int { return s.batch }

// Start makes the client ready; it connects with the first batch.
func (s *Sink) Start(context.Context) (err error) {
	if s.client == nil {
		s.client, err = s.connect()
	}
	return err
}

// Stop ends the connections.
func (s *Sink) Stop(context.Context) error {
	if s.client != nil {
		s.client.Close()
		s.client = nil
	}
	return nil
}

// Write implements component.Sink: the events are delivered when the peer has
// answered OK.
func (s *Sink) Write(ctx context.Context, evs []event.Event) error {
	if s.client == nil {
		return errors.New("send events: the sink was not started")
	}
	return s.client.AppendBatch(ctx, evs)
}
