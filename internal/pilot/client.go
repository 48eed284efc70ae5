package pilot

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// client follows a log and sends its lines to a netcat source, as tail and nc
// do; but a line that was not answered with OK it sends again.
type client struct {
	path, addr string
	answered   atomic.Int64 // lines that the source took
	cancel     context.CancelFunc
	done       chan struct{}
}

const (
	clientPause   = 50 * time.Millisecond  // at the end of the log
	clientRetry   = 200 * time.Millisecond // after a refusal or a broken connection
	clientTimeout = 10 * time.Second       // for an answer
)

func newClient(path, addr string) *client { return &client{path: path, addr: addr} }

func (c *client) start() {
	ctx, cancel := context.WithCancel(context.Background())
	c.cancel, c.done = cancel, make(chan struct{})
	go func() {
		defer close(c.done)
		c.run(ctx)
	}()
}

// stop ends the client and waits for it.
func (c *client) stop() {
	c.cancel()
	<-c.done
}

// run sends line after line until ctx ends.
func (c *client) run(ctx context.Context) {
	var log *os.File
	for log == nil { // the simulator makes it
		f, err := os.Open(c.path)
		if err == nil {
			log = f
		} else if !pause(ctx, clientPause) {
			return
		}
	}
	defer log.Close()
	var conn *answering
	defer func() { conn.close() }()
	in := bufio.NewReader(log)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		if err != nil && !errors.Is(err, bufio.ErrBufferFull) && !pause(ctx, clientPause) {
			return
		}
		if err != nil {
			continue
		}
		for ctx.Err() == nil {
			if conn == nil {
				conn, err = dial(ctx, c.addr)
			}
			if err == nil {
				if err = conn.ask(line); err == nil {
					break
				}
				conn.close()
				conn = nil
			}
			err = nil // said by the agent in its log; the line is sent again
			if !pause(ctx, clientRetry) {
				return
			}
		}
		if ctx.Err() != nil {
			return
		}
		c.answered.Add(1)
		line = line[:0]
	}
}

// answering is a connection to a netcat source.
type answering struct {
	net.Conn
	answers *bufio.Reader
}

func dial(ctx context.Context, addr string) (*answering, error) {
	d := net.Dialer{Timeout: clientTimeout}
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the netcat source: %w", err)
	}
	return &answering{c, bufio.NewReader(c)}, nil
}

// ask sends a line and waits for its answer.
func (a *answering) ask(line []byte) error {
	if err := a.SetDeadline(time.Now().Add(clientTimeout)); err != nil {
		return fmt.Errorf("send a line: %w", err)
	}
	if _, err := a.Write(line); err != nil {
		return fmt.Errorf("send a line: %w", err)
	}
	answer, err := a.answers.ReadSlice('\n')
	if err == nil && !bytes.Equal(answer, []byte("OK\n")) {
		err = fmt.Errorf("it was answered %q", answer)
	}
	if err == io.EOF {
		err = io.ErrUnexpectedEOF
	}
	if err != nil {
		return fmt.Errorf("read the answer to a line: %w", err)
	}
	return nil
}

func (a *answering) close() {
	if a != nil {
		_ = a.Close() // what was answered was answered
	}
}

// pause waits for d; it answers false when ctx ended first.
func pause(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-ctx.Done():
		return false
	}
}
