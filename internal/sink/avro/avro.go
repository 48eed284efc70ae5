// Package avro is Flume's avro sink: it sends events to the avro source of
// another agent.
package avro

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/rpc"
)

const notes = `- A batch is one call, and is delivered when the source answers ` + "`OK`" + `. After anything else (` + "`FAILED`" + `, a reset, no answer within ` + "`request-timeout`" + `, an answer that is none) the connection is closed, the events stay in the channel, and the log says what to look at. A batch whose answer was lost may arrive twice.
- Avro has no null: a header with the value null is left out. Flume's sink fails on such an event for ever.
- With ` + "`client.type = default_failover`" + ` or ` + "`default_loadbalance`" + ` and ` + "`hosts`" + ` the sink has several sources; ` + "`hostname`" + ` and ` + "`port`" + ` must be set all the same, as in Flume, and are the host ` + "`h1`" + ` unless ` + "`hosts.h1`" + ` is set.
- The connection is made with the first batch, not at the start.`

func init() {
	component.RegisterSink(component.Info{
		Name:    "avro",
		Classes: []string{"org.apache.flume.sink.AvroSink"},
		Doc:     "Sends events to an avro source over Avro IPC.",
		Notes:   notes,
	}, func() component.SinkConfig { return new(config) })
}

type config struct{ sink rpc.SinkConfig }

func (c *config) Fields() []component.Field {
	fields := append(c.sink.Fields(), c.sink.Client.AvroFields()...)
	return append(fields, c.sink.Client.HostFields()...)
}

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	s, err := c.sink.NewSink(env, false)
	if err != nil {
		return nil, err
	}
	return s, nil
}
