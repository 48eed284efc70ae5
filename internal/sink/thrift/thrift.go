// Package thrift is Flume's thrift sink: it sends events to the thrift source
// of another agent.
package thrift

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/rpc"
)

const notes = `- A batch is one call, and is delivered when the source answers ` + "`OK`" + `. After anything else the connection is closed, the events stay in the channel, and the log says what to look at. A batch whose answer was lost may arrive twice.
- Flume's source takes calls of 16,384,000 bytes at most: lower ` + "`batch-size`" + ` for large events.
- Thrift has no null: a header with the value null is left out.
- ` + "`connect-timeout`" + ` works; Flume's sink ignores it.`

func init() {
	component.RegisterSink(component.Info{
		Name:    "thrift",
		Classes: []string{"org.apache.flume.sink.ThriftSink"},
		Doc:     "Sends events to a thrift source.",
		Notes:   notes,
	}, func() component.SinkConfig { return new(config) })
}

type config struct{ sink rpc.SinkConfig }

func (c *config) Fields() []component.Field {
	fields := append(c.sink.Fields(), c.sink.Client.ThriftFields()...)
	for i := range fields {
		if fields[i].Key == "reset-connection-interval" {
			fields[i] = fields[i].Old("connection-reset-interval") // what Flume's guide prints
		}
	}
	return append(fields,
		component.Ignore("maxConnections", "a sink makes one call at a time, as in Flume"))
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	s, err := c.sink.NewSink(env, true)
	if err != nil {
		return nil, err
	}
	return s, nil
}
