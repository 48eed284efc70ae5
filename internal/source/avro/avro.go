// Package avro is Flume's avro source: it takes events from the avro sinks of
// other agents, from flume-ng avro-client and from programs with an RPC client.
package avro

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/rpc"
)

const notes = `- ` + "`OK`" + ` is answered when every required channel has the events of the call, ` + "`FAILED`" + ` otherwise; the client sends them again. A full channel is waited for as long as the channel's own keep-alive and no longer.
- With ` + "`ssl`" + ` and ` + "`compression-type = deflate`" + ` together the source takes both orders, that of Flume 1.10 and 1.11 (compressed TLS records) and that of 1.9 (compressed events in TLS).
- Bytes that are no call cost the client its connection and one line in the log, which says what they look like and which property to check. Memory is taken as bytes arrive, never for a length that is only announced.
- ` + "`ipFilterRules`" + `: the first rule that matches decides, and without one the client may connect. A ` + "`name`" + ` rule looks the client's name up, for 5 s at most.
- A single event (` + "`append`" + `) counts in the batch counters as well, as a batch of one.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "avro",
		Classes: []string{"org.apache.flume.source.AvroSource"},
		Doc:     "Takes events from avro sinks and clients over Avro IPC.",
		Notes:   notes,
	}, func() component.SourceConfig { return &config{server: rpc.ServerConfig{Protocol: rpc.Avro}} })
}

type config struct {
	server      rpc.ServerConfig
	compression string
}

func (c *config) Fields() []component.Field {
	return append(c.server.Fields(),
		component.Enum("compression-type", &c.compression, "none", "none", "deflate").Lenient().
			Describe("deflate: clients compress what they send; their sinks must have the same."),
		component.Bool("ipFilter", &c.server.Filter, false).Describe("Whether ipFilterRules hold."),
		component.CommaList("ipFilterRules", &c.server.FilterRules).
			Describe("Which clients may connect: allow or deny, ip or name, and a pattern with * and ?, as in allow:ip:127.*,allow:name:localhost,deny:ip:*."),
		component.Ignore("threads", "as in Flume since 1.10: every connection is served by itself"),
	)
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	c.server.Deflate = c.compression == "deflate"
	s, err := c.server.NewSource(env)
	if err != nil {
		return nil, err
	}
	return s, nil
}
