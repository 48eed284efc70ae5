// Package netcat is Flume's netcat source: it listens on a TCP port and makes
// an event of every line that a client sends.
package netcat

import (
	"context"
	"net"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/tcpserver"
)

const notes = `- Every line is answered, in order: ` + "`OK`" + ` when all required channels took it, ` + "`FAILED: reason`" + ` when one did not; the client decides whether to send it again. A full channel is waited for as long as the channel's own keep-alive and no longer.
- Lines that arrive together are put into the channels together, up to 100 at once; Flume puts each alone. If such a batch is refused its lines are tried one by one, so a channel with room for some of them takes these. After the first line that finds a channel full, the others of that batch fail without being tried. With several channels a line that one of them took before another refused it is a duplicate when it is tried again, as in Flume.
- A line longer than ` + "`max-line-length`" + ` is answered with ` + "`FAILED`" + ` and the connection is closed, after the lines before it were handled. What follows the last line feed when a client hangs up is dropped.
- A client that does not read its answers for a minute is disconnected.
- ` + "`encoding`" + ` must be a character set in which a line feed is one byte (not UTF-16). Malformed bytes become U+FFFD.
- On a stop the lines that were read are still delivered and answered; a channel that stays full is waited for 5 s at most, and a client that does not read its answers 1 s. Flume's source has no counters, this one has.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "netcat",
		Classes: []string{"org.apache.flume.source.NetcatSource"},
		Doc:     "Listens on a TCP port, makes an event of every line and answers it.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	bind    string
	port    int
	maxLine int
	ack     bool
	charset *charset.Charset
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("bind", &c.bind, "").Require().
			Describe("The host name or address to listen on; 0.0.0.0 for all."),
		component.Int("port", &c.port, 0).Require().Min(0).Max(65535).
			Describe("The TCP port. 0 takes a free one and logs it."),
		component.Int("max-line-length", &c.maxLine, 512).In("characters").Min(1).
			Describe("The longest line, counted in UTF-16 units and with its line feed."),
		component.Bool("ack-every-event", &c.ack, true).
			Describe("Answer OK for every line that was accepted. FAILED is answered either way."),
		component.Value("encoding", &c.charset, "string", "utf-8", charset.Narrow).
			Describe("The character set that clients send and get answers in. Bodies are always UTF-8."),
	}
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	return &source{cfg: c, env: env, port: tcpserver.New(env)}, nil
}

type source struct {
	cfg  *config
	env  component.Env
	port *tcpserver.Server
}

// Retry implements component.Retrier: the client waits for an answer.
func (s *source) Retry() component.RetryPolicy { return component.RetryPolicy{Once: true} }

func (s *source) Start(ctx context.Context) error {
	return s.port.Listen(ctx, s.cfg.bind, s.cfg.port, "lines")
}

// Stop closes the port and all connections and waits for their goroutines.
func (s *source) Stop(ctx context.Context) error { return s.port.Stop(ctx) }

// Run serves clients. What was read before a stop is still delivered and
// answered.
func (s *source) Run(ctx context.Context, out component.Output) error {
	return s.port.Run(ctx, func(emit context.Context, c net.Conn) {
		(&session{s: s, conn: c, out: out, stop: ctx, emitCtx: emit}).serve()
	})
}
