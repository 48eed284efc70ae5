package cli

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

type produceCmd struct {
	kafkaFlags
	Topic        string            `arg:"" help:"Topic to produce to."`
	Format       string            `default:"text" enum:"text,json" placeholder:"FORMAT" help:"What a line is. text: a record's value. json: an object as consume --format json writes it, with key, value, headers, timestamp and partition, all but the value optional. Default: text."`
	Partition    int32             `default:"-1" placeholder:"N" help:"Partition to produce to; -1 spreads by key, or over all. Default: -1."`
	Key          *string           `placeholder:"TEXT" help:"Key of every record."`
	KeySeparator string            `placeholder:"TEXT" help:"What is before its first occurrence in a line is the record's key."`
	Header       map[string]string `mapsep:"none" placeholder:"NAME=VALUE" help:"Header of every record. May be repeated."`
	Timestamp    string            `placeholder:"TIME" help:"Time of every record: milliseconds since 1970 or 2026-01-31T12:00:00. Without it, the time of sending."`
	Acks         string            `placeholder:"N" help:"Acknowledgements to wait for: all (-1), 1 or 0. Default: all."`
	Compression  string            `placeholder:"CODEC" help:"Codec: none, gzip, snappy, lz4 or zstd. Default: none."`
	Idempotence  *bool             `negatable:"" help:"Have the broker drop what arrives twice because it was sent again. Default: with acks=all."`
	Sync         bool              `help:"Send a record only after the one before was acknowledged."`

	lines *lineFormat // of kafka-console-producer
	role  []component.Property
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

// properties turns the command's own flags into the properties they stand for.
func (c *produceCmd) properties() error {
	add := func(k, v string) { c.own = append(c.own, component.Property{Key: k, Value: v}) }
	switch c.Acks {
	case "":
	case "all", "-1", "0", "1":
		add("acks", c.Acks)
	default:
		return fmt.Errorf("--acks %s: want all, 1 or 0", c.Acks)
	}
	switch c.Compression {
	case "":
	case "none", "gzip", "snappy", "lz4", "zstd":
		add("compression.type", c.Compression)
	default:
		return fmt.Errorf("--compression %s: want none, gzip, snappy, lz4 or zstd", c.Compression)
	}
	if c.Idempotence != nil {
		add("enable.idempotence", strconv.FormatBool(*c.Idempotence))
	}
	return nil
}

// dialProducer connects with Kafka's defaults for a producer: acks=all and, if
// nothing speaks against it, idempotence.
func (c *produceCmd) dialProducer(env *Env) (*kgo.Client, error) {
	if err := c.properties(); err != nil {
		return nil, usageError(err)
	}
	defaults := append([]component.Property{{Key: "acks", Value: "all"}}, c.role...)
	props, err := c.kafkaFlags.properties(defaults...)
	if err != nil {
		return nil, usageError(err)
	}
	acks, idempotence := "", ""
	for _, p := range props {
		switch p.Key {
		case "acks":
			acks = strings.TrimSpace(p.Value)
		case "enable.idempotence":
			idempotence = p.Value
		}
	}
	if idempotence == "" && (acks == "all" || acks == "-1") {
		defaults = append(defaults, component.Property{Key: "enable.idempotence", Value: "true"})
	}
	conf, err := c.client(env, kafkaconf.Produce, defaults...)
	if err != nil {
		return nil, err
	}
	opts := []kgo.Opt{kgo.DefaultProduceTopic(c.Topic)}
	if !c.ownTimes() {
		opts = append(opts, kgo.RecordDeliveryTimeout(c.Timeout))
	}
	if c.Partition >= 0 || c.Format == "json" {
		opts = append(opts, kgo.RecordPartitioner(chosenPartition{kgo.StickyKeyPartitioner(nil)}))
	}
	return c.dial(env.Ctx, conf, opts...)
}

// ownTimes reports whether records come with times of their own, from which
// the client would count the time for their delivery.
func (c *produceCmd) ownTimes() bool { return c.Timestamp != "" || c.Format == "json" }

// chosenPartition honours a partition that a record has already, which is
// anyPartition where it has none.
type chosenPartition struct{ kgo.Partitioner }

const anyPartition = -1

func (p chosenPartition) ForTopic(topic string) kgo.TopicPartitioner {
	return chosenTopicPartition{p.Partitioner.ForTopic(topic)}
}

type chosenTopicPartition struct{ kgo.TopicPartitioner }

func (p chosenTopicPartition) RequiresConsistency(r *kgo.Record) bool {
	return r.Partition != anyPartition || p.TopicPartitioner.RequiresConsistency(r)
}

func (p chosenTopicPartition) Partition(r *kgo.Record, n int) int {
	if r.Partition != anyPartition {
		return int(r.Partition) // beyond n the record fails
	}
	return p.TopicPartitioner.Partition(r, n)
}

// record makes a record of a line.
func (c *produceCmd) record(b []byte, headers []kgo.RecordHeader, at time.Time) (*kgo.Record, error) {
	if c.lines != nil {
		r, err := c.lines.record(b)
		if err != nil {
			return nil, fmt.Errorf("is no record: %w", err)
		}
		return r, nil
	}
	r := &kgo.Record{Value: b, Headers: headers, Partition: c.Partition, Timestamp: at}
	if c.Key != nil {
		r.Key = []byte(*c.Key)
	}
	if c.Format == "json" {
		if err := parseJSONRecord(b, r); err != nil {
			return nil, fmt.Errorf("is no record: %w", err)
		}
		return r, nil
	}
	if c.KeySeparator != "" {
		key, value, ok := strings.Cut(string(b), c.KeySeparator)
		if !ok {
			return nil, fmt.Errorf("has no %q between key and value", c.KeySeparator)
		}
		r.Key, r.Value = []byte(key), []byte(value)
	}
	return r, nil
}

// send produces the standard input's lines and returns how many were
// acknowledged.
func (c *produceCmd) send(env *Env) (int, error) {
	var at time.Time
	if c.Timestamp != "" {
		ms, err := offsetTime(c.Timestamp, time.Now())
		if err != nil || ms < 0 {
			return 0, usageError(fmt.Errorf("--timestamp %s: want milliseconds since 1970 or a date with a time", c.Timestamp))
		}
		at = time.UnixMilli(ms)
	}
	cl, err := c.dialProducer(env)
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
		r, err := c.record(b, headers, at)
		if err != nil {
			bad = fmt.Errorf("line %d %w", line, err)
			break
		}
		read++
		rctx, promise := context.WithoutCancel(ctx), done
		if c.ownTimes() {
			bounded, stop := context.WithTimeout(rctx, c.Timeout)
			rctx, promise = bounded, func(r *kgo.Record, err error) { stop(); done(r, err) }
		}
		if c.Sync {
			rs := cl.ProduceSync(rctx, r)
			promise(r, rs.FirstErr())
			continue
		}
		cl.Produce(rctx, r, promise)
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
