// Package thrift is Flume's thrift source: it takes events from the thrift
// sinks of other agents and from programs with a Thrift client.
package thrift

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/rpc"
)

const notes = `- ` + "`OK`" + ` is answered when every required channel has the events of the call, ` + "`FAILED`" + ` otherwise; the client sends them again. A full channel is waited for as long as the channel's own keep-alive and no longer.
- A client of the other protocol is told so by Thrift's own exception, in its protocol, and in the log.
- ` + "`protocol`" + ` is taken in any case; in Flume ` + "`Binary`" + ` means compact.
- A single event (` + "`append`" + `) counts in the batch counters as well, as a batch of one.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "thrift",
		Classes: []string{"org.apache.flume.source.ThriftSource"},
		Doc:     "Takes events from thrift sinks and clients.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	server   rpc.ServerConfig
	protocol string
}

func (c *config) Fields() []component.Field {
	return append(append(c.server.Fields(),
		component.Enum("protocol", &c.protocol, "compact", "compact", "binary").
			Describe("The Thrift protocol; clients must have the same."),
		component.Int("threads", &c.server.Calls, 0).AsDefault("unlimited").Lenient().
			Describe("How many calls are handled at a time; 0 or less: any number."),
	), rpc.KerberosSource()...)
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	c.server.Protocol = rpc.ThriftCompact
	if c.protocol == "binary" {
		c.server.Protocol = rpc.ThriftBinary
	}
	s, err := c.server.NewSource(env)
	if err != nil {
		return nil, err
	}
	return s, nil
}
