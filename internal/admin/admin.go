// Package admin serves an agent's monitoring port: Flume's JSON counters,
// the same for Prometheus, and health.
package admin

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/sluice-data/sluice/internal/agent"
)

// Agent is what the port shows.
type Agent interface {
	Metrics() []agent.Metric
	Health() []agent.Condition
}

// Server is the monitoring port.
type Server struct {
	http *http.Server
	addr net.Addr
	done chan struct{}
}

// Start listens on addr (host:port; without a host on all addresses, as Flume
// does) and serves until Close.
func Start(ctx context.Context, addr string, a Agent, log *slog.Logger) (*Server, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for monitoring on %s: %w (choose another with -Dflume.monitoring.port)", addr, err)
	}
	s := &Server{addr: ln.Addr(), done: make(chan struct{}),
		http: &http.Server{Handler: Handler(a), ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute, MaxHeaderBytes: 16 << 10,
			ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug)}}
	go func() {
		defer close(s.done)
		if err := s.http.Serve(ln); !errors.Is(err, http.ErrServerClosed) {
			log.Error("the monitoring port stopped serving", "err", err)
		}
	}()
	return s, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.addr }

// Close ends the server, within ctx.
func (s *Server) Close(ctx context.Context) error {
	err := s.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(err, s.http.Close())
	}
	<-s.done
	return err
}

// Handler answers /metrics, /prometheus, /healthz and /, and nothing else.
// TRACE and OPTIONS are refused as Flume refuses them.
func Handler(a Agent) http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{a}, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.Handle("/prometheus", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	mux.HandleFunc("/metrics", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		writeJSON(w, FlumeJSON(a.Metrics()))
	})
	mux.HandleFunc("/healthz", func(w http.ResponseWriter, _ *http.Request) {
		h := a.Health()
		w.Header().Set("Content-Type", "application/json;charset=utf-8")
		if len(h) > 0 {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
		if h == nil {
			h = []agent.Condition{}
		}
		writeJSON(w, struct {
			OK         bool              `json:"ok"`
			Conditions []agent.Condition `json:"conditions"`
		}{len(h) == 0, h})
	})
	mux.HandleFunc("/{$}", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/html;charset=utf-8")
		fmt.Fprint(w, `<!DOCTYPE html><title>Sluice agent</title><p>For Flume's counters see <a href="/metrics">/metrics</a>, `+
			`for Prometheus <a href="/prometheus">/prometheus</a>, for health <a href="/healthz">/healthz</a>.`)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodTrace || r.Method == http.MethodOptions {
			http.Error(w, "forbidden", http.StatusForbidden)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func writeJSON(w http.ResponseWriter, v any) {
	// An error here is the client's going away.
	_ = json.NewEncoder(w).Encode(v)
}

// FlumeJSON is the shape of Flume's /metrics: an object per component, every
// value a string. Interceptors and sink groups are ours.
func FlumeJSON(ms []agent.Metric) map[string]map[string]string {
	out := make(map[string]map[string]string, len(ms))
	for _, m := range ms {
		o := map[string]string{
			"Type":      m.Kind,
			"StartTime": strconv.FormatInt(m.Start, 10),
			"StopTime":  strconv.FormatInt(m.Stop, 10),
		}
		for n, v := range m.Counters {
			o[n] = strconv.FormatInt(v, 10)
		}
		if m.Kind == "CHANNEL" {
			o["ChannelSize"] = strconv.FormatInt(m.Size, 10)
			o["ChannelCapacity"] = strconv.FormatInt(m.Capacity, 10)
			o["ChannelFillPercentage"] = fillPercentage(m.Size, m.Capacity)
		}
		if m.Kind == "SINKGROUP" {
			o["ActiveSink"] = ""
			for _, s := range m.Sinks {
				if s.Active {
					o["ActiveSink"] = s.Name
				}
				if !s.FailedUntil.IsZero() {
					o["FailedUntil."+s.Name] = strconv.FormatInt(s.FailedUntil.UnixMilli(), 10)
				}
			}
		}
		out[m.Kind+"."+m.Name] = o
	}
	return out
}

// fillPercentage prints as Java prints a double, whose largest value stands
// for an unknown capacity.
func fillPercentage(size, capacity int64) string {
	if capacity <= 0 {
		return "1.7976931348623157E308"
	}
	s := strconv.FormatFloat(float64(size)/float64(capacity)*100, 'f', -1, 64)
	for _, c := range s {
		if c == '.' {
			return s
		}
	}
	return s + ".0"
}
