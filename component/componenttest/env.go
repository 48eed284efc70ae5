package componenttest

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/component"
)

// Health records what a component reports through Env.Health.
type Health struct {
	mu  sync.Mutex
	all []error
}

func (h *Health) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.all = append(h.all, err)
}

// Last is the condition that holds now; nil means well.
func (h *Health) Last() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.all) == 0 {
		return nil
	}
	return h.all[len(h.all)-1]
}

// All returns every report in order.
func (h *Health) All() []error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return slices.Clone(h.all)
}

// Env returns an environment whose log goes to the test and whose health
// reports are recorded.
func Env(t testing.TB) (component.Env, *Health) {
	h := &Health{}
	w := &testWriter{t: t}
	t.Cleanup(w.close)
	return component.Env{
		Agent:   "a1",
		Name:    "c1",
		Log:     slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Metrics: component.NewMetrics(),
		Health:  h.report,
	}, h
}

// QuietEnv is Env without a log and without a test: for benchmarks.
func QuietEnv() component.Env {
	return component.Env{Agent: "a1", Name: "c1", Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Metrics: component.NewMetrics(), Health: func(error) {}}
}

// testWriter drops what is logged after the end of the test, where t.Log panics.
type testWriter struct {
	mu sync.Mutex
	t  testing.TB
}

func (w *testWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSuffix(string(p), "\n"))
	}
	return len(p), nil
}

func (w *testWriter) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.t = nil
}

// Config decodes the properties ("key=value" each) of the named type from the
// default registry. Errors fail the test; warnings are returned.
func Config(t testing.TB, kind component.Kind, name string, props ...string) (component.Config, []component.Finding) {
	t.Helper()
	cfg, fs := Decode(t, kind, name, props...)
	for _, f := range fs {
		if f.Error {
			t.Fatalf("%s %s: %s: %s (%s)", kind, name, f.Key, f.Message, f.Hint)
		}
	}
	return cfg, fs
}

// Decode is Config that returns errors as well.
func Decode(t testing.TB, kind component.Kind, name string, props ...string) (component.Config, []component.Finding) {
	t.Helper()
	typ, ok := component.Default().Lookup(kind, name)
	if !ok {
		t.Fatalf("no %s %q is registered", kind, name)
	}
	cfg := typ.New()
	var ps []component.Property
	for _, p := range props {
		k, v, ok := strings.Cut(p, "=")
		if !ok {
			t.Fatalf("property %q has no =", p)
		}
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	return cfg, component.Decode(component.Default(), cfg, ps)
}

// Source makes a source of the named type.
func Source(t testing.TB, env component.Env, name string, props ...string) component.Source {
	t.Helper()
	cfg, _ := Config(t, component.KindSource, name, props...)
	s, err := cfg.(component.SourceConfig).NewSource(env)
	if err != nil {
		t.Fatalf("make source %s: %v", name, err)
	}
	return s
}

// Running is a source that Run has started.
type Running struct {
	t      testing.TB
	src    component.Source
	cancel context.CancelFunc
	done   chan struct{}
	err    error
}

// Run starts src and runs it in a goroutine until Stop (or the test's end).
func Run(t testing.TB, src component.Source, out component.Output) *Running {
	t.Helper()
	if err := src.Start(context.Background()); err != nil {
		t.Fatalf("start: %v", err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r := &Running{t: t, src: src, cancel: cancel, done: make(chan struct{})}
	go func() {
		defer close(r.done)
		r.err = src.Run(ctx, out)
	}()
	t.Cleanup(func() {
		cancel()
		<-r.done
		if err := src.Stop(context.Background()); err != nil {
			t.Errorf("stop: %v", err)
		}
	})
	return r
}

// Stop ends Run's context, waits for Run, stops the source and fails the test
// when either returned an error.
func (r *Running) Stop() {
	r.t.Helper()
	r.cancel()
	<-r.done
	if err := errors.Join(r.err, r.src.Stop(context.Background())); err != nil {
		r.t.Errorf("stop: %v", err)
	}
}

// Err waits for Run to return by itself and gives its error.
func (r *Running) Err() error {
	<-r.done
	return r.err
}
