package cli

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/broker/grouplog"
)

func kafkaConsoleConsumer(env *Env, tool string, args []string) error {
	a, err := parseKafka(env, tool, options(map[string]kafkaOpt{
		"topic": optValue, "include": optValue, "whitelist": alias("include"), "from-beginning": optFlag, "partition": optValue, "offset": optValue,
		"max-messages": optValue, "timeout-ms": optValue, "group": optValue, "isolation-level": optValue,
		"property": optValue, "formatter-property": optValue, "formatter": optValue, "formatter-config": optValue,
		"key-deserializer": optValue, "value-deserializer": optValue, "skip-message-on-error": optFlag, "enable-systest-events": optFlag,
		"consumer-property": optValue, "command-property": optValue, "consumer.config": alias("command-config"),
		"new-consumer":            noEffect(false, "there is no other"),
		"old-consumer":            gone(false, "there is one consumer; leave it out"),
		"blacklist":               gone(true, "write --include with a regular expression of the topics to read"),
		"delete-consumer-offsets": gone(false, "write kafka-consumer-groups --delete --group NAME"),
		"csv-reporter-enabled":    gone(false, "a command has no metrics; leave it out"), "metrics-dir": gone(true, "a command has no metrics; leave it out"),
	}), args, nil)
	if err != nil {
		return err
	}
	c := consumeCmd{Topic: a.last("topic", ""), include: a.last("include", ""), FromBeginning: a.has("from-beginning"), Group: a.last("group", ""), Offset: -1, EndOffset: -1, wait: true}
	if c.kafkaFlags, err = a.broker(tool); err != nil {
		return err
	}
	if (c.Topic == "") == (c.include == "") {
		return usageError(fmt.Errorf("%s: give one of --topic NAME and --include REGEX", tool))
	}
	c.CommandProperty = append(c.CommandProperty, a["consumer-property"]...)
	c.role = []component.Property{clientProperty("client.id", "console-consumer"), clientProperty("session.timeout.ms", "45000"), clientProperty("allow.auto.create.topics", "true")}
	c.Isolation = a.last("isolation-level", "")
	part, err := a.int("partition", -1)
	if err != nil {
		return err
	}
	if a.has("partition") && (part < 0 || part > math.MaxInt32) {
		return usageError(fmt.Errorf("%s: --partition %d: there is no such partition", tool, part))
	}
	most, err := a.int("max-messages", -1)
	if err != nil {
		return err
	}
	if c.IdleTimeout, err = a.millis("timeout-ms", 0); err != nil {
		return err
	}
	if a.has("timeout-ms") && c.IdleTimeout == 0 {
		c.IdleTimeout = time.Nanosecond
	}
	c.IdleTimeout = max(c.IdleTimeout, 0)
	c.Partition, c.MaxMessages = int32(part), int(max(most, 0))
	switch off := a.last("offset", ""); {
	case off == "":
	case c.Partition < 0:
		return usageError(fmt.Errorf("%s: The partition is required when offset is specified", tool))
	case c.FromBeginning:
		return usageError(fmt.Errorf("%s: Options from-beginning and offset cannot be specified together", tool))
	case strings.EqualFold(off, "latest"):
	case strings.EqualFold(off, "earliest"):
		c.FromBeginning = true
	default:
		if c.Offset, err = strconv.ParseInt(off, 10, 64); err != nil || c.Offset < 0 {
			return usageError(fmt.Errorf("%s: --offset %s: want earliest, latest or a number", tool, off))
		}
	}
	if c.formatter, err = newKafkaFormatter(env, tool, a); err != nil {
		return err
	}
	n := 0
	if !a.has("max-messages") || most != 0 {
		n, err = c.show(env)
	}
	if err == nil || errors.Is(err, context.Canceled) {
		fmt.Fprintf(env.Stderr, "Processed a total of %d messages\n", n)
	}
	if a.has("enable-systest-events") {
		fmt.Fprintln(env.Stdout, "shutdown_complete")
	}
	return err
}

// kafkaFormatter writes records as Kafka's DefaultMessageFormatter does.
type kafkaFormatter struct {
	timestamp, key, offset, epoch, partition, headers, value, delivery bool
	keySeparator, lineSeparator, headersSeparator, null                string
	decodeKey, decodeValue, decodeHeader                               func([]byte) (string, error) // nil: as it is
	skipErrors                                                         func(error)                  // nil: an error ends the command
	groupLog                                                           func(*kgo.Record) (string, error)
	nothing                                                            bool
}

func newKafkaFormatter(env *Env, tool string, a kafkaArgs) (*kafkaFormatter, error) {
	f := &kafkaFormatter{value: true, keySeparator: "\t", lineSeparator: "\n", headersSeparator: ",", null: "null"}
	switch name := a.last("formatter", "DefaultMessageFormatter"); name[strings.LastIndexAny(name, ".$")+1:] {
	case "DefaultMessageFormatter":
	case "NoOpMessageFormatter":
		f.nothing = true
	case "OffsetsMessageFormatter":
		f.groupLog = func(r *kgo.Record) (string, error) { return grouplog.JSON(r.Key, r.Value, grouplog.Offsets) }
	case "GroupMetadataMessageFormatter":
		f.groupLog = func(r *kgo.Record) (string, error) { return grouplog.JSON(r.Key, r.Value, grouplog.Groups) }
	default:
		return nil, usageError(fmt.Errorf("%s: --formatter %s: Java classes cannot be loaded; there are DefaultMessageFormatter, NoOpMessageFormatter, OffsetsMessageFormatter and GroupMetadataMessageFormatter", tool, name))
	}
	if a.has("property") && a.has("formatter-property") {
		return nil, usageError(fmt.Errorf("%s: Options --property and --formatter-property cannot be specified together", tool))
	}
	props, err := a.formatProperties("formatter-config", "property", "formatter-property")
	if err != nil {
		return nil, usageError(fmt.Errorf("%s: %w", tool, err))
	}
	for option, key := range map[string]string{"key-deserializer": "key.deserializer", "value-deserializer": "value.deserializer"} {
		if a.has(option) {
			props = append([]component.Property{{Key: key, Value: a.last(option, "")}}, props...)
		}
	}
	flags := map[string]*bool{"print.timestamp": &f.timestamp, "print.key": &f.key, "print.offset": &f.offset, "print.epoch": &f.epoch,
		"print.partition": &f.partition, "print.headers": &f.headers, "print.value": &f.value, "print.delivery": &f.delivery}
	texts := map[string]*string{"key.separator": &f.keySeparator, "line.separator": &f.lineSeparator, "headers.separator": &f.headersSeparator, "null.literal": &f.null}
	decoders := map[string]*func([]byte) (string, error){"key.deserializer": &f.decodeKey, "value.deserializer": &f.decodeValue, "headers.deserializer": &f.decodeHeader}
	for _, p := range props {
		switch {
		case flags[p.Key] != nil:
			*flags[p.Key] = strings.EqualFold(strings.TrimSpace(p.Value), "true")
		case texts[p.Key] != nil:
			*texts[p.Key] = p.Value
		case decoders[p.Key] != nil:
			if *decoders[p.Key], err = javaDeserializer(p.Value); err != nil {
				return nil, usageError(fmt.Errorf("%s: %s: %w", tool, p.Key, err))
			}
		default:
			fmt.Fprintf(env.Stderr, "%s: property %s has no effect; known are print.timestamp, print.key, print.offset, print.epoch, print.partition, print.headers, print.value, key.separator, line.separator, headers.separator, null.literal, key.deserializer, value.deserializer, headers.deserializer\n", tool, p.Key)
		}
	}
	if a.has("skip-message-on-error") {
		f.skipErrors = func(err error) { fmt.Fprintf(env.Stderr, "%s: skipped: %v\n", tool, err) }
	}
	return f, nil
}

// javaDeserializer reads values as Kafka's deserializers do and writes them as
// Java prints them.
func javaDeserializer(class string) (func([]byte) (string, error), error) {
	size := func(n int, f func([]byte) string) func([]byte) (string, error) {
		return func(b []byte) (string, error) {
			if len(b) != n {
				return "", fmt.Errorf("size of data is %d bytes, not %d", len(b), n)
			}
			return f(b), nil
		}
	}
	be := binary.BigEndian
	switch class[strings.LastIndexByte(class, '.')+1:] {
	case "StringDeserializer", "ByteArrayDeserializer", "BytesDeserializer", "ByteBufferDeserializer":
		return nil, nil
	case "LongDeserializer":
		return size(8, func(b []byte) string { return strconv.FormatInt(int64(be.Uint64(b)), 10) }), nil
	case "IntegerDeserializer":
		return size(4, func(b []byte) string { return strconv.FormatInt(int64(int32(be.Uint32(b))), 10) }), nil
	case "ShortDeserializer":
		return size(2, func(b []byte) string { return strconv.FormatInt(int64(int16(be.Uint16(b))), 10) }), nil
	case "DoubleDeserializer":
		return size(8, func(b []byte) string { return javaFloat(math.Float64frombits(be.Uint64(b)), 64) }), nil
	case "FloatDeserializer":
		return size(4, func(b []byte) string { return javaFloat(float64(math.Float32frombits(be.Uint32(b))), 32) }), nil
	case "BooleanDeserializer":
		return size(1, func(b []byte) string { return strconv.FormatBool(b[0] == 1) }), nil
	case "UUIDDeserializer":
		return func(b []byte) (string, error) { return string(b), nil }, nil // its bytes are the text
	case "VoidDeserializer":
		return func([]byte) (string, error) { return "null", nil }, nil
	}
	return nil, fmt.Errorf("%s cannot be loaded; there are String, ByteArray, Long, Integer, Short, Double, Float, Boolean and UUIDDeserializer", class)
}

// javaFloat writes a number as Double.toString and Float.toString do.
func javaFloat(v float64, bits int) string {
	switch {
	case math.IsNaN(v):
		return "NaN"
	case math.IsInf(v, 0):
		return map[bool]string{true: "Infinity", false: "-Infinity"}[v > 0]
	case v == 0:
		return strconv.FormatFloat(v, 'f', 1, bits)
	}
	if m := math.Abs(v); m >= 1e-3 && m < 1e7 {
		s := strconv.FormatFloat(v, 'f', -1, bits)
		if !strings.Contains(s, ".") {
			s += ".0"
		}
		return s
	}
	mantissa, exp, _ := strings.Cut(strconv.FormatFloat(v, 'e', -1, bits), "e")
	if !strings.Contains(mantissa, ".") {
		mantissa += ".0"
	}
	n, _ := strconv.Atoi(exp) // strconv wrote it
	return mantissa + "E" + strconv.Itoa(n)
}

func (f *kafkaFormatter) write(out *bufio.Writer, r *kgo.Record) error {
	line, err := f.line(r)
	if err != nil && f.skipErrors != nil {
		f.skipErrors(fmt.Errorf("offset %d of %s-%d: %w", r.Offset, r.Topic, r.Partition, err))
		return nil
	}
	if err != nil {
		return err
	}
	_, err = out.Write(line)
	return err
}

func (f *kafkaFormatter) line(r *kgo.Record) ([]byte, error) {
	if f.nothing {
		return nil, nil
	}
	if f.groupLog != nil {
		s, err := f.groupLog(r)
		if s == "" || err != nil {
			return nil, err
		}
		return append([]byte(s), '\n'), nil
	}
	var b []byte
	separate := func(more bool) {
		if more {
			b = append(b, f.keySeparator...)
		} else {
			b = append(b, f.lineSeparator...)
		}
	}
	var failed error
	decode := func(d func([]byte) (string, error), v []byte) {
		if v == nil {
			v = []byte(f.null)
		}
		if d == nil {
			b = append(b, v...)
			return
		}
		s, err := d(v)
		failed = errors.Join(failed, err)
		b = append(b, s...)
	}
	if f.timestamp {
		b = append(b, timestampType(r)...)
		if r.Attrs.TimestampType() >= 0 {
			b = append(b, ':')
			b = strconv.AppendInt(b, r.Timestamp.UnixMilli(), 10)
		}
		separate(f.partition || f.offset || f.delivery || f.epoch || f.headers || f.key || f.value)
	}
	if f.partition {
		b = append(b, "Partition:"...)
		b = strconv.AppendInt(b, int64(r.Partition), 10)
		separate(f.offset || f.delivery || f.epoch || f.headers || f.key || f.value)
	}
	if f.offset {
		b = append(b, "Offset:"...)
		b = strconv.AppendInt(b, r.Offset, 10)
		separate(f.delivery || f.epoch || f.headers || f.key || f.value)
	}
	if f.delivery { // counted for share groups only
		b = append(b, "Delivery:NOT_PRESENT"...)
		separate(f.epoch || f.headers || f.key || f.value)
	}
	if f.epoch { // Kafka's tool drops it on the way to its formatter
		b = append(b, "Epoch:NOT_PRESENT"...)
		separate(f.headers || f.key || f.value)
	}
	if f.headers {
		if len(r.Headers) == 0 {
			b = append(b, "NO_HEADERS"...)
		}
		for i, h := range r.Headers {
			if i > 0 {
				b = append(b, f.headersSeparator...)
			}
			b = append(b, h.Key...)
			b = append(b, ':')
			decode(f.decodeHeader, h.Value)
		}
		separate(f.key || f.value)
	}
	if f.key {
		decode(f.decodeKey, r.Key)
		separate(f.value)
	}
	if f.value {
		decode(f.decodeValue, r.Value)
		b = append(b, f.lineSeparator...)
	}
	return b, failed
}
