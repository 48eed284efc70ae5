package cli

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/source/spooldir" // --dirname
	"github.com/sluice-data/sluice/rpc"
)

// avroClientCmd sends lines to an avro source. Its options are flume-ng's.
type avroClientCmd struct {
	Host       string   `short:"H" help:"Host of the avro source." placeholder:"HOST"`
	Port       int      `short:"p" help:"Its port." placeholder:"PORT"`
	RPCProps   string   `short:"P" name:"rpcProps" help:"File with the properties of Flume's RPC client, in place of --host and --port (see docs/rpc.md)." placeholder:"FILE"`
	Filename   string   `short:"F" name:"filename" help:"File to send, one event per line. Without it: the standard input." placeholder:"FILE"`
	Dirname    string   `name:"dirname" help:"Directory whose files are sent and renamed to NAME.COMPLETED, by the rules of the spooldir source. It ends when there are no more." placeholder:"DIR"`
	HeaderFile string   `short:"R" name:"headerFile" help:"File with headers for every event, one NAME=VALUE a line." placeholder:"FILE"`
	Define     []string `short:"D" sep:"none" help:"Property as of a JVM: javax.net.ssl.trustStore, …" placeholder:"NAME=VALUE"`

	Conf      string   `short:"c" hidden:""`
	JVM       []string `short:"X" sep:"none" hidden:"" name:"jvm"`
	Classpath string   `short:"C" hidden:""`
	Plugins   string   `hidden:"" name:"plugins-path"`
}

func (c *avroClientCmd) Help() string {
	return "An event is a line without its end (LF, CR or CR LF). It ends with exit code 1 when events could not be sent."
}

func (c *avroClientCmd) Run(env *Env) error {
	props, err := c.properties()
	if err != nil {
		return usageError(err)
	}
	headers, err := c.headers()
	if err != nil {
		return usageError(err)
	}
	log, closeLog, err := newLog(defines(c.Define), env.Stderr)
	if err != nil {
		return usageError(err)
	}
	defer closeLog()
	client, err := rpc.New(props, rpc.WithLogger(log), rpc.WithSystemProperties(defines(c.Define)))
	if err != nil {
		return usageError(err)
	}
	s := &avroSender{client: client, headers: headers, pool: event.NewPool()}
	err = c.send(env, s)
	if err = errors.Join(err, client.Close()); err != nil {
		return fmt.Errorf("%w (%d events were sent)", err, s.sent)
	}
	return nil
}

// properties are the client's.
func (c *avroClientCmd) properties() (map[string]string, error) {
	switch {
	case c.Filename != "" && c.Dirname != "":
		return nil, errors.New("--filename and --dirname cannot be used together")
	case c.RPCProps != "":
		list, err := readProperties(c.RPCProps)
		m := make(map[string]string)
		for _, p := range list {
			m[p.Key] = p.Value
		}
		return m, err
	case c.Host == "" && c.Port == 0:
		return nil, errors.New("give --host and --port, or --rpcProps")
	case c.Host == "":
		return nil, errors.New("give the host to connect to with --host")
	case c.Port == 0:
		return nil, errors.New("give the port to connect to with --port")
	}
	return map[string]string{"hosts": "h1", "hosts.h1": net.JoinHostPort(strings.Trim(c.Host, "[]"), strconv.Itoa(c.Port))}, nil
}

func (c *avroClientCmd) headers() ([]event.KV, error) {
	if c.HeaderFile == "" {
		return nil, nil
	}
	list, err := readProperties(c.HeaderFile)
	if err != nil {
		return nil, err
	}
	var hs []event.KV
	for _, p := range list {
		hs = append(hs, event.KV{Key: p.Key, Value: []byte(p.Value)})
	}
	return hs, nil
}

func (c *avroClientCmd) send(env *Env, s *avroSender) error {
	if c.Dirname != "" {
		return s.dir(env, c.Dirname)
	}
	in := env.Stdin
	if c.Filename != "" {
		f, err := os.Open(c.Filename)
		if err != nil {
			return fmt.Errorf("open the file to send: %w", err)
		}
		defer f.Close()
		in = f
	}
	return s.lines(env.Ctx, in)
}

// avroSender sends events. It is a component.Output for the spooldir source.
type avroSender struct {
	client  *rpc.Client
	headers []event.KV
	pool    *event.Pool
	sent    int
	evs     []event.Event
	fail    func(error) // of a directory
}

func (s *avroSender) Pool() *event.Pool      { return s.pool }
func (s *avroSender) NewBatch() *event.Batch { return s.pool.NewBatch() }

// Emit implements component.Output.
func (s *avroSender) Emit(ctx context.Context, b *event.Batch) error {
	defer b.Release()
	for i := range b.Events() {
		s.evs = append(s.evs, event.Event{Body: b.Events()[i].Body, Headers: s.headers})
	}
	err := s.flush(ctx)
	if err != nil {
		s.fail(err)
	}
	return err
}

func (s *avroSender) flush(ctx context.Context) error {
	if len(s.evs) == 0 {
		return nil
	}
	err := s.client.AppendBatch(ctx, s.evs)
	if err == nil {
		s.sent += len(s.evs)
	}
	clear(s.evs)
	s.evs = s.evs[:0]
	return err
}

// maxAvroLine bounds a line, so that a file without line ends does not fill the
// memory.
const maxAvroLine = 64 << 20

// lines sends the lines of in: a full batch, or what is there when in has
// nothing more for now.
func (s *avroSender) lines(ctx context.Context, in io.Reader) error {
	r := bufio.NewReaderSize(in, 64<<10)
	var line []byte
	var pending bool // a CR ended the last line: an LF that follows belongs to it
	add := func(part []byte) error {
		if len(line)+len(part) > maxAvroLine {
			return fmt.Errorf("read lines: a line of more than %d bytes", maxAvroLine)
		}
		line = append(line, part...)
		return nil
	}
	end := func() error {
		s.evs = append(s.evs, event.Event{Body: bytes.Clone(line), Headers: s.headers})
		line = line[:0]
		if len(s.evs) >= s.client.BatchSize() {
			return s.flush(ctx)
		}
		return nil
	}
	for {
		if r.Buffered() == 0 {
			if err := s.flush(ctx); err != nil {
				return err
			}
		}
		if _, err := r.Peek(1); err != nil {
			if len(line) > 0 {
				if eerr := end(); eerr != nil {
					return eerr
				}
			}
			if ferr := s.flush(ctx); ferr != nil {
				return ferr
			}
			if errors.Is(err, io.EOF) {
				return nil
			}
			return fmt.Errorf("read lines: %w", err)
		}
		p, _ := r.Peek(r.Buffered())
		if pending && p[0] == '\n' {
			_, _ = r.Discard(1) // it is buffered
			pending = false
			continue
		}
		pending = false
		i := bytes.IndexAny(p, "\r\n")
		if i < 0 {
			if err := add(p); err != nil {
				return err
			}
			_, _ = r.Discard(len(p))
			continue
		}
		err := add(p[:i])
		pending = p[i] == '\r'
		_, _ = r.Discard(i + 1)
		if err == nil {
			err = end()
		}
		if err != nil {
			return err
		}
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
}

// dirLook is how often a directory is looked at for the end of its files.
const dirLook = 20 * time.Millisecond

// dir sends the files of a directory.
func (s *avroSender) dir(env *Env, dir string) error {
	typ, ok := component.Default().Lookup(component.KindSource, "spooldir")
	if !ok {
		return errors.New("BUG: there is no spooldir source")
	}
	cfg := typ.New()
	for _, f := range component.Decode(component.Default(), cfg, []component.Property{
		{Key: "spoolDir", Value: dir}, {Key: "batchSize", Value: strconv.Itoa(s.client.BatchSize())}, {Key: "pollDelay", Value: "10"},
	}) {
		if f.Error {
			return fmt.Errorf("BUG: %s: %s", f.Key, f.Message)
		}
	}
	log, closeLog, err := newLog(nil, env.Stderr)
	if err != nil {
		return err
	}
	defer closeLog()
	ctx, cancel := context.WithCancelCause(env.Ctx)
	defer cancel(nil)
	s.fail = func(err error) { cancel(err) }
	var mu sync.Mutex
	var health error // files that were set aside, or cannot be read
	src, err := cfg.(component.SourceConfig).NewSource(component.Env{Name: "avro-client", Log: log, Metrics: component.NewMetrics(), Health: func(err error) {
		mu.Lock()
		defer mu.Unlock()
		health = err
	}})
	if err != nil {
		return err
	}
	if err := src.Start(ctx); err != nil {
		return err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for ctx.Err() == nil {
			left, err := filesLeft(dir)
			if err != nil || !left {
				cancel(err)
				return
			}
			select {
			case <-ctx.Done():
			case <-time.After(dirLook):
			}
		}
	}()
	err = src.Run(ctx, s)
	cancel(err)
	<-done
	err = errors.Join(err, src.Stop(context.WithoutCancel(env.Ctx)))
	if cause := context.Cause(ctx); cause != nil && !errors.Is(cause, context.Canceled) {
		return cause
	}
	mu.Lock()
	defer mu.Unlock()
	return errors.Join(err, health, env.Ctx.Err())
}

// filesLeft says whether dir has a file that the spooldir source reads.
func filesLeft(dir string) (bool, error) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return false, err
	}
	for _, e := range entries {
		n := e.Name()
		if !e.Type().IsRegular() || strings.HasPrefix(n, ".") || strings.HasSuffix(n, ".COMPLETED") || strings.HasSuffix(n, ".BAD") || strings.HasSuffix(n, ".BAD.reason") {
			continue
		}
		if f, err := os.Open(filepath.Join(dir, n)); err == nil { // one that cannot be read is told of by the source
			f.Close()
			return true, nil
		}
	}
	return false, nil
}
