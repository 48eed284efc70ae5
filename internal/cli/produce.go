package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

type produceCmd struct {
	kafkaFlags
	Topic        string            `arg:"" help:"Topic to produce to."`
	Partition    int32             `default:"-1" placeholder:"N" help:"Partition to produce to; -1 spreads by key, or over all."`
	KeySeparator string            `placeholder:"TEXT" help:"What is before its first occurrence in a line is the record's key."`
	Acks         string            `default:"all" enum:"all,1,0" help:"Acknowledgements to wait for: all, 1 or 0."`
	Compression  string            `default:"none" enum:"none,gzip,snappy,lz4,zstd" help:"Codec: none, gzip, snappy, lz4 or zstd."`
	Header       map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"Header of every record. May be repeated."`
}

func (c *produceCmd) Help() string {
	return "Reads lines from the standard input and sends each as a record, without its line end.\nExit code 1 if a record was not acknowledged within --timeout."
}

func (c *produceCmd) Run(env *Env) error {
	n, err := c.send(env)
	if err == nil {
		fmt.Fprintf(env.Stderr, "%d record(s) acknowledged\n", n)
	}
	return err
}

// send produces the standard input's lines and returns how many were
// acknowledged.
func (c *produceCmd) send(env *Env) (int, error) {
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression(),
	}[c.Compression]
	opts := []kgo.Opt{kgo.AllowAutoTopicCreation(), kgo.ProducerBatchCompression(codec), kgo.DefaultProduceTopic(c.Topic), kgo.RecordDeliveryTimeout(c.Timeout)}
	switch c.Acks {
	case "0":
		opts = append(opts, kgo.RequiredAcks(kgo.NoAck()), kgo.DisableIdempotentWrite())
	case "1":
		opts = append(opts, kgo.RequiredAcks(kgo.LeaderAck()), kgo.DisableIdempotentWrite())
	}
	if c.Partition >= 0 {
		opts = append(opts, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	}
	cl, err := c.dial(env.Ctx, opts...)
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	var headers []kgo.RecordHeader
	for k, v := range c.Header {
		headers = append(headers, kgo.RecordHeader{Key: k, Value: []byte(v)})
	}

	var mu sync.Mutex
	var failed error
	var bad error // in what was read; the lines before it count
	acked, read := 0, 0
	ctx, cancel := context.WithCancel(env.Ctx)
	defer cancel()
	done := func(_ *kgo.Record, err error) {
		mu.Lock()
		defer mu.Unlock()
		switch {
		case err == nil:
			acked++
		case failed == nil:
			failed = err
			cancel() // no use in reading on
		}
	}
	lines := newLineReader(env)
	for line := 1; ctx.Err() == nil; line++ {
		b, err := lines.next(ctx)
		if err != nil && !errors.Is(err, io.EOF) && ctx.Err() == nil {
			bad = fmt.Errorf("read standard input, line %d: %w", line, err)
		}
		if err != nil {
			break
		}
		r := &kgo.Record{Value: b, Headers: headers, Partition: max(c.Partition, 0)}
		if c.KeySeparator != "" {
			key, value, ok := strings.Cut(string(b), c.KeySeparator)
			if !ok {
				bad = fmt.Errorf("line %d has no %q between key and value", line, c.KeySeparator)
				break
			}
			r.Key, r.Value = []byte(key), []byte(value)
		}
		read++
		cl.Produce(context.WithoutCancel(ctx), r, done)
	}
	// After Ctrl-C what was read is still sent, within the bound.
	fctx, stop := context.WithTimeout(context.WithoutCancel(env.Ctx), c.Timeout)
	defer stop()
	flushErr := cl.Flush(fctx)
	mu.Lock()
	defer mu.Unlock()
	if failed == nil {
		failed = flushErr
	}
	if failed == nil && bad != nil {
		return acked, fmt.Errorf("%w; the %d record(s) before it were acknowledged", bad, acked)
	}
	if failed != nil {
		return acked, fmt.Errorf("produce to topic %s: %w: %d of %d record(s) were acknowledged; the broker's log may say why", c.Topic, failed, acked, read)
	}
	return acked, nil
}

// lineReader reads lines in a goroutine of its own, so that a signal ends the
// command although nobody types.
type lineReader struct {
	lines chan lineOrError
}

type lineOrError struct {
	b   []byte
	err error
}

// maxLine is Kafka's default bound of a record, so that a line without end
// is an error and not all of the memory.
const maxLine = 1 << 20

func newLineReader(env *Env) *lineReader {
	if f, ok := env.Stdin.(*os.File); ok {
		if fi, err := f.Stat(); err == nil && fi.Mode()&os.ModeCharDevice != 0 {
			fmt.Fprintln(env.Stderr, "type a record a line; Ctrl-D ends")
		}
	}
	r := &lineReader{lines: make(chan lineOrError, 256)}
	go func() {
		defer close(r.lines)
		br := bufio.NewReaderSize(env.Stdin, 64<<10)
		for {
			b, err := readLine(br)
			if len(b) > 0 || err == nil {
				select {
				case r.lines <- lineOrError{b: b}:
				case <-env.Ctx.Done():
					return
				}
			}
			if err != nil {
				if !errors.Is(err, io.EOF) {
					r.lines <- lineOrError{err: err}
				}
				return
			}
		}
	}()
	return r
}

// readLine returns a line without its end; the last one may lack it.
func readLine(br *bufio.Reader) ([]byte, error) {
	var line []byte
	for {
		b, err := br.ReadSlice('\n')
		line = append(line, b...)
		if len(line) > maxLine {
			return nil, fmt.Errorf("the line is longer than %d bytes", maxLine)
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			continue
		}
		if n := len(line); n > 0 && line[n-1] == '\n' {
			line = line[:n-1]
			if n > 1 && line[n-2] == '\r' {
				line = line[:n-2]
			}
		}
		return line, err
	}
}

func (r *lineReader) next(ctx context.Context) ([]byte, error) {
	select {
	case l, ok := <-r.lines:
		if !ok {
			return nil, io.EOF
		}
		return l.b, l.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
