package pilot

import (
	"context"
	_ "embed"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"
)

//go:embed ui/index.html
var indexHTML []byte

// page serves the live page: the HTML at /, the state as JSON at /api/state,
// and the same as Server-Sent Events at /api/events.
type page struct {
	server *http.Server
	url    string
	served chan error

	mu      sync.Mutex
	state   []byte
	changed chan struct{} // closed when state is replaced
	closing chan struct{} // closed when the last state has been published
}

func newPage(l net.Listener) *page {
	p := &page{
		url: "http://" + l.Addr().String(), served: make(chan error, 1), state: []byte("{}"),
		changed: make(chan struct{}), closing: make(chan struct{}),
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", p.index)
	mux.HandleFunc("GET /api/state", p.apiState)
	mux.HandleFunc("GET /api/events", p.apiEvents)
	p.server = &http.Server{Handler: onlyLocal(mux), ReadHeaderTimeout: 5 * time.Second, MaxHeaderBytes: 16 << 10}
	go func() { p.served <- p.server.Serve(l) }()
	return p
}

// onlyLocal refuses requests under a foreign host name: a web page elsewhere
// must not read this one by pointing its own name at the loopback address.
func onlyLocal(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		host, _, err := net.SplitHostPort(r.Host)
		if err != nil {
			host = r.Host
		}
		if ip := net.ParseIP(host); host != "localhost" && ip == nil {
			http.Error(w, "ask by address, or as localhost", http.StatusForbidden)
			return
		}
		h := w.Header()
		h.Set("Cache-Control", "no-store")
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:")
		next.ServeHTTP(w, r)
	})
}

func (p *page) publish(s *State) error {
	data, err := json.Marshal(s)
	if err != nil {
		return fmt.Errorf("encode state: %w", err)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.state = data
	close(p.changed)
	p.changed = make(chan struct{})
	return nil
}

func (p *page) current() ([]byte, chan struct{}) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.state, p.changed
}

func (p *page) index(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_, _ = w.Write(indexHTML) // an error is the browser's going away
}

func (p *page) apiState(w http.ResponseWriter, _ *http.Request) {
	data, _ := p.current()
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(data)
}

func (p *page) apiEvents(w http.ResponseWriter, r *http.Request) {
	rc := http.NewResponseController(w)
	w.Header().Set("Content-Type", "text/event-stream")
	for {
		data, changed := p.current()
		if _, err := fmt.Fprintf(w, "data: %s\n\n", data); err != nil {
			return
		}
		if rc.Flush() != nil {
			return
		}
		select {
		case <-changed:
		case <-p.closing:
			if last, _ := p.current(); string(last) != string(data) {
				_, _ = fmt.Fprintf(w, "data: %s\n\n", last)
			}
			return
		case <-r.Context().Done():
			return
		}
	}
}

// close lets the open pages have the last state and ends the server.
func (p *page) close() error {
	close(p.closing)
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	err := p.server.Shutdown(ctx)
	if errors.Is(err, context.DeadlineExceeded) {
		err = p.server.Close()
	}
	if serr := <-p.served; !errors.Is(serr, http.ErrServerClosed) {
		err = errors.Join(err, serr)
	}
	if err != nil {
		return fmt.Errorf("stop the page: %w", err)
	}
	return nil
}
