package kafkaconf

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/component"
)

// Watch is a hook of the client that counts connections and tells the operator
// once when no broker answers, and once when one does again.
type Watch struct {
	log     *slog.Logger
	health  func(error)
	now     func() time.Time
	created *atomic.Int64
	closed  *atomic.Int64
	failed  *atomic.Int64

	mu     sync.Mutex
	ever   bool      // a broker has answered
	since  time.Time // of the first problem after the last answer; zero: none
	silent bool      // it was told that none answers
}

// patience is how long all of a cluster may fail: a broker that is restarted,
// one of several that is down, or a connection that was closed while nobody
// used it, is not worth a word.
const patience = 5 * time.Second

// NewWatch returns a hook for kgo.WithHooks.
func NewWatch(env component.Env) *Watch {
	return &Watch{
		log: env.Log, health: env.Health, now: time.Now,
		created: env.Metrics.Counter("ConnectionCreatedCount"),
		closed:  env.Metrics.Counter("ConnectionClosedCount"),
		failed:  env.Metrics.Counter("ConnectionFailedCount"),
	}
}

var (
	_ kgo.HookBrokerConnect    = (*Watch)(nil)
	_ kgo.HookBrokerDisconnect = (*Watch)(nil)
	_ kgo.HookBrokerE2E        = (*Watch)(nil)
)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (w *Watch) OnBrokerConnect(b kgo.BrokerMetadata, _ time.Duration, _ net.Conn, err error) {
	if err == nil {
		w.created.Add(1)
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, kgo.ErrClientClosed) {
		return
	}
	w.failed.Add(1)
	w.problem(fmt.Errorf("connect to the Kafka broker %s: %w", net.JoinHostPort(b.Host, fmt.Sprint(b.Port)), err))
}

// OnBrokerDisconnect implements kgo.HookBrokerDisconnect.
func (w *Watch) OnBrokerDisconnect(kgo.BrokerMetadata, net.Conn) { w.closed.Add(1) }

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (w *Watch) OnBrokerE2E(b kgo.BrokerMetadata, key int16, e kgo.BrokerE2E) {
	err := errors.Join(e.WriteErr, e.ReadErr)
	if err == nil {
		switch kmsg.Key(key) {
		case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
			// A broker that refuses the password answers these.
		default:
			w.answered()
		}
		return
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, net.ErrClosed) {
		return
	}
	w.problem(fmt.Errorf("ask the Kafka broker %s: %w", net.JoinHostPort(b.Host, fmt.Sprint(b.Port)), err))
}

func (w *Watch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.ever, w.since = true, time.Time{}
	if w.silent {
		w.silent = false
		w.log.Info("Kafka answers")
		w.health(nil)
	}
}

func (w *Watch) problem(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.since.IsZero() {
		w.since = w.now()
	}
	if w.silent || w.ever && w.now().Sub(w.since) < patience {
		return
	}
	w.silent = true
	err = fmt.Errorf("no Kafka broker can be used: %w: check that it runs, the list of servers, and security.protocol with user and password; trying on", err)
	w.log.Error(err.Error())
	w.health(err)
}

// logger hands the client's messages to a component's log. They are for those
// who look into a problem: what an operator must know is told elsewhere, once.
type logger struct{ log *slog.Logger }

func (l logger) Level() kgo.LogLevel {
	if l.log.Enabled(context.Background(), slog.LevelDebug) {
		return kgo.LogLevelInfo
	}
	return kgo.LogLevelNone
}

func (l logger) Log(_ kgo.LogLevel, msg string, keyvals ...any) {
	l.log.Debug("kafka client: "+msg, keyvals...)
}
