package cli

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

// kafkaFlags are what every command needs that talks to a broker, ours or
// another.
type kafkaFlags struct {
	Bootstrap []string      `default:"127.0.0.1:9092" sep:"," placeholder:"HOST:PORT" help:"Broker to ask first; several with commas."`
	Timeout   time.Duration `default:"10s" help:"How long to wait for a broker to answer."`

	option string // by which the broker was named, if not by --bootstrap
}

// dial makes a client and checks that a broker answers, so that a wrong
// address is one clear line and not a wait.
func (f *kafkaFlags) dial(ctx context.Context, opts ...kgo.Opt) (*kgo.Client, error) {
	var seeds []string
	for _, s := range f.Bootstrap {
		for s := range strings.SplitSeq(s, ",") {
			if s = strings.TrimSpace(s); s != "" {
				seeds = append(seeds, s)
			}
		}
	}
	where := strings.Join(seeds, ", ")
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(seeds...), kgo.ClientID("sluice"), kgo.DialTimeout(f.Timeout), kgo.RetryTimeout(f.Timeout),
	}, opts...)...)
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
func (f *kafkaFlags) session(ctx context.Context) (*kgo.Client, context.Context, func(), error) {
	cl, err := f.dial(ctx)
	if err != nil {
		return nil, nil, nil, err
	}
	ctx, cancel := f.deadline(ctx)
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
		return t, fmt.Errorf("topic %s does not exist: create it with: sluice topics create %s, or see what there is with: sluice topics list", name, name)
	}
	if t.Err != nil {
		return t, fmt.Errorf("look up topic %s: %w", name, t.Err)
	}
	return t, nil
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
