package cli

import (
	"bytes"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
)

func kafkaConsoleProducer(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"broker-list": optValue, // gone in Kafka 4, and in every book
		"topic":       optValue, "property": optValue, "reader-property": optValue, "reader-config": optValue, "request-required-acks": optValue,
		"compression-codec": {value: true, optional: "gzip"}, "sync": optFlag, "timeout": optValue,
		"message-send-max-retries": optValue, "request-timeout-ms": optValue, "retry-backoff-ms": optValue, "metadata-expiry-ms": optValue,
		"max-memory-bytes": optValue, "producer-property": optValue, "command-property": optValue,
		"producer.config": alias("command-config"), "line-reader": optValue,
		"batch-size":                 noEffect(true, "a batch takes what has been read"),
		"max-partition-memory-bytes": noEffect(true, "a batch takes what has been read"),
		"max-block-ms":               noEffect(true, "what has been read waits for room as long as for its acknowledgement (--command-property delivery.timeout.ms=N)"),
		"socket-buffer-size":         noEffect(true, "the operating system sizes socket buffers as the connection needs them"),
		"new-producer":               gone(false, "there is no other producer; leave it out"), "old-producer": gone(false, "there is one producer; leave it out"),
		"queue-size": gone(true, "write --max-memory-bytes N"), "queue-enqueuetimeout-ms": gone(true, "write --max-block-ms N"),
		"key-serializer":   gone(true, "a key is the text that stands in the line; leave it out"),
		"value-serializer": gone(true, "a value is the text that stands in the line; leave it out"),
	}), args, nil)
	if err != nil {
		return err
	}
	c := produceCmd{Topic: a.last("topic", ""), Partition: anyPartition, Sync: a.has("sync")}
	if c.kafkaFlags, err = a.broker(tool, "broker-list"); err != nil {
		return err
	}
	if c.Topic == "" {
		return usageError(fmt.Errorf("%s: --topic NAME is missing", tool))
	}
	if r := a.last("line-reader", ""); r != "" && !strings.HasSuffix(r, ".LineMessageReader") && !strings.HasSuffix(r, "$LineMessageReader") {
		return usageError(fmt.Errorf("%s: --line-reader %s: Java classes cannot be loaded; there is LineMessageReader", tool, r))
	}
	c.CommandProperty = append(c.CommandProperty, a["producer-property"]...)
	c.role = []component.Property{clientProperty("client.id", "console-producer"), clientProperty("delivery.timeout.ms", "120000"), clientProperty("linger.ms", "0")}
	for option, key := range map[string]string{
		"request-required-acks": "acks", "timeout": "linger.ms", "message-send-max-retries": "retries", "request-timeout-ms": "request.timeout.ms",
		"retry-backoff-ms": "retry.backoff.ms", "metadata-expiry-ms": "metadata.max.age.ms", "max-memory-bytes": "buffer.memory", "compression-codec": "compression.type",
	} {
		if a.has(option) {
			c.own = append(c.own, clientProperty(key, a.last(option, "")))
		}
	}
	if c.lines, err = newLineFormat(env, tool, a); err != nil {
		return err
	}
	_, err = c.send(env)
	return err
}

// lineFormat is Kafka's LineMessageReader.
type lineFormat struct {
	parseKey, parseHeaders, ignoreError                         bool
	keySeparator, headersDelimiter, headersSeparator, headerKey string
	separator                                                   *regexp.Regexp // headersSeparator is one
	nullMarker                                                  string
	hasNull                                                     bool
}

func newLineFormat(env *Env, tool string, a kafkaArgs) (*lineFormat, error) {
	l := &lineFormat{keySeparator: "\t", headersDelimiter: "\t", headersSeparator: ",", headerKey: ":"}
	props, err := a.formatProperties("reader-config", "property", "reader-property")
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", tool, err))
	}
	isTrue := func(s string) bool { return strings.EqualFold(strings.TrimSpace(s), "true") }
	for _, p := range props {
		switch p.Key {
		case "topic":
		case "parse.key":
			l.parseKey = isTrue(p.Value)
		case "parse.headers":
			l.parseHeaders = isTrue(p.Value)
		case "ignore.error":
			l.ignoreError = isTrue(p.Value)
		case "key.separator":
			l.keySeparator = p.Value
		case "headers.delimiter":
			l.headersDelimiter = p.Value
		case "headers.separator":
			l.headersSeparator = p.Value
		case "headers.key.separator":
			l.headerKey = p.Value
		case "null.marker":
			l.nullMarker, l.hasNull = p.Value, true
		default:
			fmt.Fprintf(env.Stderr, "%s: property %s has no effect; known are parse.key, key.separator, parse.headers, headers.delimiter, headers.separator, headers.key.separator, ignore.error, null.marker\n", tool, p.Key)
		}
	}
	for _, pair := range [][4]string{
		{"headers.delimiter", l.headersDelimiter, "headers.separator", l.headersSeparator},
		{"headers.delimiter", l.headersDelimiter, "headers.key.separator", l.headerKey},
		{"headers.separator", l.headersSeparator, "headers.key.separator", l.headerKey},
	} {
		if pair[1] == pair[3] {
			return nil, usageError(fmt.Errorf("%s: %s and %s may not be equal", tool, pair[0], pair[2]))
		}
	}
	if l.hasNull {
		for name, s := range map[string]string{"key.separator": l.keySeparator, "headers.separator": l.headersSeparator, "headers.delimiter": l.headersDelimiter, "headers.key.separator": l.headerKey} {
			if s == l.nullMarker {
				return nil, usageError(fmt.Errorf("%s: null.marker and %s may not be equal", tool, name))
			}
		}
	}
	if l.separator, err = regexp.Compile(l.headersSeparator); err != nil {
		return nil, usageError(fmt.Errorf("%s: headers.separator: %w", tool, err))
	}
	return l, nil
}

// formatProperties are the NAME=VALUE of options, after those of a file.
func (a kafkaArgs) formatProperties(file string, names ...string) ([]component.Property, error) {
	var props []component.Property
	if path := a.last(file, ""); path != "" {
		var err error
		if props, err = readProperties(path); err != nil {
			return nil, fmt.Errorf("--%s: %w", file, err)
		}
	}
	for _, n := range names {
		for _, v := range a[n] {
			k, val, _ := strings.Cut(v, "=")
			props = append(props, component.Property{Key: k, Value: val})
		}
	}
	return props, nil
}

func (l *lineFormat) record(line []byte) (*kgo.Record, error) {
	cut := func(enabled bool, b []byte, sep, name string) (field, rest []byte, ok bool, err error) {
		if !enabled {
			return nil, b, false, nil
		}
		field, rest, ok = bytes.Cut(b, []byte(sep))
		if !ok && !l.ignoreError {
			return nil, nil, false, kafkaSays("No %s found: '%s'", name, line)
		}
		if !ok {
			return nil, b, false, nil
		}
		return field, rest, true, nil
	}
	r := &kgo.Record{Partition: anyPartition}
	headers, rest, hasHeaders, err := cut(l.parseHeaders, line, l.headersDelimiter, "headers delimiter")
	if err != nil {
		return nil, err
	}
	key, rest, hasKey, err := cut(l.parseKey, rest, l.keySeparator, "key separator")
	if err != nil {
		return nil, err
	}
	null := func(b []byte) []byte {
		switch {
		case l.hasNull && string(b) == l.nullMarker:
			return nil
		case b == nil:
			return []byte{}
		}
		return b
	}
	r.Value = null(rest)
	if hasKey {
		r.Key = null(key)
	}
	if !hasHeaders || null(headers) == nil {
		return r, nil
	}
	pairs := l.separator.Split(string(headers), -1)
	for n := len(pairs); n > 1 && pairs[n-1] == ""; n-- { // as Java's split does
		pairs = pairs[:n-1]
	}
	for _, pair := range pairs {
		k, v, ok := strings.Cut(pair, l.headerKey)
		switch {
		case !ok && !l.ignoreError:
			return nil, kafkaSays("No header key separator found in pair '%s'", pair)
		case !ok:
			r.Headers = append(r.Headers, kgo.RecordHeader{Key: pair})
			continue
		case l.hasNull && k == l.nullMarker:
			return nil, errors.New("Header keys should not be equal to the null marker '" + l.nullMarker + "' as they can't be null")
		}
		r.Headers = append(r.Headers, kgo.RecordHeader{Key: k, Value: null([]byte(v))})
	}
	return r, nil
}

// duration of an option in milliseconds.
func (a kafkaArgs) millis(name string, def time.Duration) (time.Duration, error) {
	n, err := a.int(name, def.Milliseconds())
	return time.Duration(n) * time.Millisecond, err
}
