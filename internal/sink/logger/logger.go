// Package logger is the sink that writes a line for every event: its headers
// and a hex dump of the first bytes of its body, in the shape of Flume's log.
package logger

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

func init() {
	component.RegisterSink(component.Info{
		Name:    "logger",
		Classes: []string{"org.apache.flume.sink.LoggerSink"},
		Doc:     "Writes a line for every event: headers and a hex dump of the body.",
		Notes: "Lines go to standard output in Flume's console pattern, whatever else the agent logs and where. " +
			"With `-Dflume.root.logger=LEVEL,LOGFILE` they are appended to `${flume.log.dir}/${flume.log.file}` (default `./logs/flume.log`) in the pattern " +
			"of Flume's file; nothing rolls that file, so let logrotate do it (`copytruncate`). A LEVEL above INFO silences the sink, as in Flume. " +
			"`maxBytesToLog` works; Flume 1.9 to 1.11 never reads it. A batch is written with one call and its lines share one time. " +
			"A line that cannot be written (disk full, reader gone) fails the batch, which is then offered again.",
	}, func() component.SinkConfig { return new(config) })
}

type config struct{ maxBytes int }

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.Int("maxBytesToLog", &c.maxBytes, 16).In("bytes").Min(0).Lenient().
			Describe("How many bytes of the body are shown: 16 a row."),
	}
}

// Where the line comes from, in log4j's terms.
const (
	thread = "SinkRunner-PollingRunner-DefaultSinkProcessor"
	class  = "org.apache.flume.sink.LoggerSink"
)

func (c *config) NewSink(env component.Env) (component.Sink, error) {
	s := &sink{maxBytes: c.maxBytes, log: env.Log, now: time.Now}
	console := false
	level, appenders, _ := strings.Cut(env.Properties["flume.root.logger"], ",")
	switch level = strings.ToUpper(strings.TrimSpace(level)); level {
	case "WARN", "ERROR", "FATAL", "OFF":
		s.silent = true
		env.Log.Warn("events are taken and not shown, because the level of flume.root.logger is above INFO", "level", level)
	}
	for a := range strings.SplitSeq(appenders, ",") {
		switch a = strings.TrimSpace(a); {
		case a == "":
		case strings.EqualFold(a, "console"):
			console = true
		case strings.EqualFold(a, "LOGFILE"), strings.EqualFold(a, "DAILY"):
			dir, file := env.Properties["flume.log.dir"], env.Properties["flume.log.file"]
			if dir == "" {
				dir = "logs"
			}
			if file == "" {
				file = "flume.log"
			}
			s.path = filepath.Join(dir, file)
		default:
			env.Log.Warn("unknown appender in flume.root.logger: known are console and LOGFILE", "appender", a)
		}
	}
	if s.path != "" && console {
		env.Log.Warn("flume.root.logger names the console and a file: lines go to the file", "file", s.path)
	}
	if s.path != "" {
		// %d{dd MMM yyyy HH:mm:ss,SSS} %-5p [%t] (%C.%M:%L) - %m%n
		s.layout, s.prefix = "02 Jan 2006 15:04:05,000", " INFO  ["+thread+"] ("+class+".process:95) - Event: { headers:"
	} else {
		// %d (%t) [%p - %l] %m%n
		s.layout, s.prefix = "2006-01-02 15:04:05,000", " ("+thread+") [INFO - "+class+".process(LoggerSink.java:95)] Event: { headers:"
	}
	return s, nil
}

type sink struct {
	maxBytes int
	log      *slog.Logger
	now      func() time.Time
	silent   bool
	path     string // the log file; empty: standard output
	layout   string // of the time
	prefix   string // between time and headers

	out    io.Writer // nil until Start
	file   *os.File  // to be closed
	buf    []byte
	midway bool // the last write ended within a line
}

func (s *sink) Start(context.Context) error {
	if s.path == "" {
		s.out = os.Stdout
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(s.path), 0o755); err != nil {
		return fmt.Errorf("open the log file of flume.log.dir: %w", err)
	}
	f, err := os.OpenFile(s.path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return fmt.Errorf("open the log file of flume.log.dir and flume.log.file: %w", err)
	}
	s.out, s.file = f, f
	return nil
}

func (s *sink) Stop(context.Context) error {
	f := s.file
	s.out, s.file = nil, nil
	if f == nil {
		return nil
	}
	if err := f.Close(); err != nil {
		return fmt.Errorf("close the log file: %w", err)
	}
	return nil
}

// maxWrite is when a batch is written in pieces: events may be large, and
// the buffer is kept.
const maxWrite = 1 << 20

// Write implements component.Sink.
func (s *sink) Write(ctx context.Context, evs []event.Event) error {
	if s.silent {
		return nil
	}
	if s.out == nil {
		return errors.New("write log lines: the sink is not started")
	}
	if cap(s.buf) > 4*maxWrite { // after some huge event
		s.buf = nil
	}
	var stamp [32]byte
	now := s.now().AppendFormat(stamp[:0], s.layout)
	buf := s.buf[:0]
	if s.midway {
		buf = append(buf, '\n') // never glue a line to a torn one
	}
	from, to := 0, 0 // where buf has the headers of the event before
	for i := range evs {
		e := &evs[i]
		buf = append(buf, now...)
		buf = append(buf, s.prefix...)
		if to > 0 && event.SameHeaders(e, &evs[i-1]) {
			buf = append(buf, buf[from:to]...)
		} else {
			from = len(buf)
			buf = serde.AppendHeaders(buf, e.Headers)
			to = len(buf)
		}
		buf = append(buf, " body:"...)
		buf = appendBody(buf, e.Body, s.maxBytes)
		buf = append(buf, " }\n"...)
		if len(buf) >= maxWrite {
			if err := s.write(buf); err != nil {
				return err
			}
			buf, to = buf[:0], 0
			if err := ctx.Err(); err != nil && i < len(evs)-1 {
				return err
			}
		}
	}
	err := s.write(buf)
	s.buf = buf
	return err
}

func (s *sink) write(buf []byte) error {
	if len(buf) == 0 {
		return nil
	}
	n, err := s.out.Write(buf)
	if n > 0 {
		s.midway = buf[n-1] != '\n'
	}
	switch {
	case err == nil:
		return nil
	case errors.Is(err, syscall.EPIPE):
		return fmt.Errorf("write log lines: whoever read them has gone: %w", err)
	case errors.Is(err, syscall.ENOSPC):
		return fmt.Errorf("write log lines: make room on the disk: %w", err)
	}
	return fmt.Errorf("write log lines: %w", err)
}

const hex = "0123456789ABCDEF"

// cells has " XX" for every byte.
var cells = func() (c [256][3]byte) {
	for i := range c {
		c[i] = [3]byte{' ', hex[i>>4], hex[i&15]}
	}
	return c
}()

// shown has what a byte looks like at the end of a row.
var shown = func() (c [256]byte) {
	for i := range c {
		c[i] = '.'
		if i >= ' ' && i < 0x7f {
			c[i] = byte(i)
		}
	}
	return c
}()

// appendBody appends the first limit bytes of body as commons-io's HexDump
// prints them: rows of offset, 16 cells and the characters. Flume takes the
// offset off the first row.
func appendBody(dst, body []byte, limit int) []byte {
	if body == nil {
		return append(dst, "null"...)
	}
	body = body[:min(len(body), limit)]
	for off := 0; off < len(body); off += 16 {
		if off > 0 {
			dst = append(dst, '\n')
			for shift := 28; shift >= 0; shift -= 4 {
				dst = append(dst, hex[off>>shift&15])
			}
		}
		row := body[off:min(off+16, len(body))]
		for _, c := range row {
			dst = append(dst, cells[c][:]...)
		}
		dst = append(dst, "                                                "[3*len(row):]...)
		dst = append(dst, ' ')
		for _, c := range row {
			dst = append(dst, shown[c])
		}
	}
	return dst
}
