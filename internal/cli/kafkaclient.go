package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

// kafkaFlags are what every command needs that talks to a broker, ours or
// another.
type kafkaFlags struct {
	Bootstrap       []string      `sep:"," placeholder:"HOST:PORT" help:"Broker to ask first; several with commas. Default: bootstrap.servers of --command-config, or 127.0.0.1:9092."`
	Timeout         time.Duration `default:"10s" help:"How long to wait for a broker to answer."`
	CommandConfig   string        `type:"existingfile" placeholder:"FILE" help:"Properties of the client by their names in Kafka: security.protocol, sasl.jaas.config, ssl.truststore.location, client.id, …"`
	CommandProperty []string      `sep:"none" placeholder:"NAME=VALUE" help:"One such property; goes before the file. May be repeated."`

	option string // by which the broker was named, if not by --bootstrap
	own    []component.Property
}

const defaultBroker = "127.0.0.1:9092"

// properties are the client's: what the command needs by default, then the
// file's, then those of the command line.
func (f *kafkaFlags) properties(defaults ...component.Property) ([]component.Property, error) {
	props := defaults
	if f.CommandConfig != "" {
		more, err := readProperties(f.CommandConfig)
		if err != nil {
			return nil, err
		}
		props = append(props, more...)
	}
	for _, s := range f.CommandProperty {
		k, v, ok := strings.Cut(s, "=")
		if !ok {
			return nil, fmt.Errorf("--command-property %s: want NAME=VALUE", s)
		}
		props = append(props, component.Property{Key: strings.TrimSpace(k), Value: v})
	}
	return append(props, f.own...), nil
}

// readProperties reads a file as java.util.Properties does.
func readProperties(path string) ([]component.Property, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read properties: %w", err)
	}
	parsed, findings := flumeconf.Parse(path, b)
	for _, d := range findings {
		if d.Severity == flumeconf.Error {
			return nil, fmt.Errorf("read properties: %s", d.String())
		}
	}
	var props []component.Property
	for _, p := range parsed.All() {
		props = append(props, component.Property{Key: p.Name, Value: p.Value.Text})
	}
	return props, nil
}

// client reads the properties of a client in its role, and says what of them
// has no effect. defaults count where neither file nor command line says
// otherwise.
func (f *kafkaFlags) client(env *Env, role kafkaconf.Role, defaults ...component.Property) (*kafkaconf.Command, error) {
	props, err := f.properties(defaults...)
	if err != nil {
		return nil, usageError(err)
	}
	conf, err := kafkaconf.NewCommand(role, props)
	if err != nil {
		return nil, usageError(fmt.Errorf("client property %w", err))
	}
	for _, n := range conf.Notes {
		fmt.Fprintf(env.Stderr, "client property %s\n", n)
	}
	if conf.Timeout > 0 {
		f.Timeout = conf.Timeout
	}
	return conf, nil
}

// dial makes a client and checks that a broker answers, so that a wrong
// address is one clear line and not a wait.
func (f *kafkaFlags) dial(ctx context.Context, conf *kafkaconf.Command, opts ...kgo.Opt) (*kgo.Client, error) {
	list := conf.Servers
	if len(f.Bootstrap) > 0 {
		list = nil
		for _, s := range f.Bootstrap {
			for s := range strings.SplitSeq(s, ",") {
				if s = strings.TrimSpace(s); s != "" {
					list = append(list, s)
				}
			}
		}
	}
	if len(list) == 0 {
		list = []string{defaultBroker}
	}
	seeds, err := kafkaconf.Servers(list)
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", cmp.Or(f.option, "--bootstrap"), err))
	}
	where := strings.Join(seeds, ", ")
	all := append(slices.Clip(conf.Opts), kgo.SeedBrokers(seeds...), kgo.RetryTimeout(f.Timeout))
	cl, err := kgo.NewClient(append(all, opts...)...)
	if err != nil {
		return nil, usageError(fmt.Errorf("connect to %s: %w", where, err))
	}
	pctx, cancel := context.WithTimeout(ctx, f.Timeout)
	defer cancel()
	if err := cl.Ping(pctx); err != nil {
		cl.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, fmt.Errorf("no broker answers at %s: %w: start one with: sluice broker --data DIR, or give another address with %s HOST:PORT", where, err, cmp.Or(f.option, "--bootstrap"))
	}
	return cl, nil
}

// deadline bounds one request.
func (f *kafkaFlags) deadline(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, f.Timeout)
}

// session is what an administrative command needs: a client, a context that
// bounds its requests, and what ends both.
func (f *kafkaFlags) session(env *Env) (*kgo.Client, context.Context, func(), error) {
	conf, err := f.client(env, kafkaconf.Administer)
	if err != nil {
		return nil, nil, nil, err
	}
	cl, err := f.dial(env.Ctx, conf)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := f.deadline(env.Ctx)
	return cl, ctx, func() { cancel(); cl.Close() }, nil
}

// describeTopic looks a topic up and says what to do when it is not there.
func (f *kafkaFlags) describeTopic(ctx context.Context, cl *kgo.Client, name string) (kadm.TopicDetail, error) {
	ctx, cancel := f.deadline(ctx)
	defer cancel()
	ts, err := kadm.NewClient(cl).ListTopicsWithInternal(ctx, name)
	if err != nil {
		return kadm.TopicDetail{}, fmt.Errorf("look up topic %s: %w", name, err)
	}
	t := ts[name]
	if errors.Is(t.Err, kerr.UnknownTopicOrPartition) {
		return t, &noTopicError{name}
	}
	if t.Err != nil {
		return t, fmt.Errorf("look up topic %s: %w", name, t.Err)
	}
	return t, nil
}

// checkTopics says of the first topic that does not exist what to do.
func (f *kafkaFlags) checkTopics(ctx context.Context, cl *kgo.Client, names []string) error {
	for _, name := range names {
		if _, err := f.describeTopic(ctx, cl, name); err != nil {
			return err
		}
	}
	return nil
}

// noTopicError says that a topic does not exist.
type noTopicError struct{ name string }

func (e *noTopicError) Error() string {
	return fmt.Sprintf("topic %s does not exist: create it with: sluice topics create %s, or see what there is with: sluice topics list", e.name, e.name)
}

// topicIDText is the form in which Kafka's tools show ids.
func topicIDText(id kadm.TopicID) string { return base64.RawURLEncoding.EncodeToString(id[:]) }

// brokerError joins a broker's code with the message it sent.
func brokerError(err error, message string) error {
	if err == nil || message == "" {
		return err
	}
	return fmt.Errorf("%s (%w)", message, err)
}
