package hbase

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"
	"unicode/utf8"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
	client "github.com/sluice-data/sluice/internal/hbase"
	"github.com/sluice-data/sluice/internal/javaregex"
)

// KindSerializer is the kind of what turns an event into rows.
const KindSerializer component.Kind = "hbase-serializer"

// Serializer turns events into puts and increments. It is used by one
// goroutine at a time.
type Serializer interface {
	// AppendPuts adds the event's puts, if any. After an error, what it
	// added is taken back; the same event will fail again.
	AppendPuts(b *client.Batch, family []byte, e *event.Event) error
	// Counts calls add for each cell that the event counts in.
	Counts(e *event.Event, add func(row, qualifier []byte, delta int64))
}

// SerializerConfig is a Serializer's configuration. A *component.KeyError of
// the constructor names the key without the sink's prefix "serializer.".
type SerializerConfig interface {
	component.Config
	NewSerializer(env component.Env) (Serializer, error)
}

func init() {
	component.RegisterPart(component.Info{
		Kind: KindSerializer, Name: "simple",
		Classes: []string{"org.apache.flume.sink.hbase2.SimpleHBase2EventSerializer", "org.apache.flume.sink.hbase.SimpleHbaseEventSerializer", "org.apache.flume.sink.hbase.SimpleAsyncHbaseEventSerializer"},
		Doc:     "The body in one cell of a row of its own, and a counter of events.",
		Notes: "- The short name is ours; Flume has the class names only, and each for one type of sink. Here every sink takes every one.\n" +
			"- Row keys are made anew whenever an event is tried again after a failure that the sink gave up on, so such an event may be there in two rows, and be counted twice.\n" +
			"- `suffix = timestamp`: events of one millisecond have one row, and the last of them stays, as in Flume. A faster sink has more of these.\n" +
			"- `suffix = nano`: Flume counts from some moment, mostly the machine's start; here it is nanoseconds since 1970, and no number comes twice.",
	}, func() component.Config { return new(simpleConfig) })
	component.RegisterPart(component.Info{
		Kind: KindSerializer, Name: "regex",
		Classes: []string{"org.apache.flume.sink.hbase2.RegexHBase2EventSerializer", "org.apache.flume.sink.hbase.RegexHbaseEventSerializer"},
		Doc:     "The groups of a regular expression, which must match the whole body, in a column each.",
		Notes: "- The short name is ours; Flume has the class names only.\n" +
			"- An event that does not match is delivered nowhere, as in Flume; it is counted in EventUnmatchedCount, and the log says so when the first one comes.\n" +
			"- A group of the match that took no part in it, an empty row key, and a row without any cell are errors of that event alone (see dead letters). In Flume its whole batch fails for ever.\n" +
			"- Without `rowKeyIndex` the row key is the time in ms, ten letters and digits that each sink draws once, and a counter: `1700000000000-Ab3dE6gH9k-17`.\n" +
			"- With `depositHeaders`, headers with the value null are left out; Flume fails on them.",
	}, func() component.Config { return new(regexConfig) })
	component.RegisterPart(component.Info{
		Kind: KindSerializer, Name: "delimited",
		Doc: "The fields of a line in a column each; the row key is made of them.",
		Notes: "An addition to Flume. The handbook's driving records land in its table DriverCarInfo, family cf1, with\n\n" +
			"    a1.sinks.k1.serializer = delimited\n" +
			"    a1.sinks.k1.serializer.colNames = date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number\n" +
			"    a1.sinks.k1.serializer.rowKey = {date:reversed}-{car_number}\n\n" +
			"The record `20160103221000,X0005,…` gets the row key `00012230106102-X0005`. A record that comes twice gets the same row key, so it is there once.",
	}, func() component.Config { return new(delimitedConfig) })
}

type simpleConfig struct {
	payload, counter, prefix, counterRow, suffix string
}

func (c *simpleConfig) Fields() []component.Field {
	return []component.Field{
		component.String("payloadColumn", &c.payload, "pCol").Describe("The column of the body."),
		component.String("incrementColumn", &c.counter, "iCol").Describe("The column of the counter, which every event adds 1 to."),
		component.String("rowPrefix", &c.prefix, "default").Describe("What row keys begin with."),
		component.String("incrementRow", &c.counterRow, "incRow").Describe("The row of the counter."),
		component.Enum("suffix", &c.suffix, "uuid", "uuid", "random", "timestamp", "nano").Lenient().
			Describe("What row keys end with: a random UUID, a random number of 64 bits, the time in ms, or in ns."),
	}
}

func (c *simpleConfig) NewSerializer(env component.Env) (Serializer, error) {
	if c.suffix == "timestamp" {
		env.Warn("serializer.suffix", "write uuid", "events of one millisecond get the same row key, and only the last of them stays")
	}
	return &simple{simpleConfig: *c, payload: []byte(c.payload), counter: []byte(c.counter), row: []byte(c.counterRow)}, nil
}

type simple struct {
	simpleConfig
	payload, counter, row []byte
	key                   []byte
	last                  int64
}

func (s *simple) AppendPuts(b *client.Batch, family []byte, e *event.Event) error {
	s.key = s.appendKey(append(s.key[:0], s.prefix...))
	if err := b.Put(s.key); err != nil {
		return err
	}
	return b.Add(family, s.payload, e.Body)
}

func (s *simple) appendKey(dst []byte) []byte {
	switch s.suffix {
	case "timestamp":
		return strconv.AppendInt(dst, time.Now().UnixMilli(), 10)
	case "nano":
		s.last = max(s.last+1, time.Now().UnixNano())
		return strconv.AppendInt(dst, s.last, 10)
	case "random":
		return strconv.AppendInt(dst, int64(rand.Uint64()), 10)
	}
	// RFC 9562: version 4, variant 1.
	hi, lo := rand.Uint64()&^0xf000|0x4000, rand.Uint64()&^(3<<62)|2<<62
	for _, part := range []struct {
		v      uint64
		digits int
	}{{hi >> 32, 8}, {hi >> 16, 4}, {hi, 4}, {lo >> 48, 4}, {lo, 12}} {
		if part.digits != 8 {
			dst = append(dst, '-')
		}
		for d := part.digits - 1; d >= 0; d-- {
			dst = append(dst, "0123456789abcdef"[part.v>>(4*d)&15])
		}
	}
	return dst
}

func (s *simple) Counts(_ *event.Event, add func(row, qualifier []byte, delta int64)) {
	add(s.row, s.counter, 1)
}

// uncounted is the part of a serializer that has no counters.
type uncounted struct{}

func (uncounted) Counts(*event.Event, func(row, qualifier []byte, delta int64)) {}

// rowKeyName is what the column of the row key is called.
const rowKeyName = "ROW_KEY"

type regexConfig struct {
	expr       string
	ignoreCase bool
	columns    string
	keyIndex   int
	headers    bool
	charset    *charset.Charset
}

func (c *regexConfig) Fields() []component.Field {
	return []component.Field{
		component.String("regex", &c.expr, "(.*)").AsType("regex").Describe("Java regular expression that must match the whole body; a dot matches line ends, too. Mind that a backslash is written twice in an agent file."),
		component.Bool("regexIgnoreCase", &c.ignoreCase, false).Describe("Whether letters of ASCII match in any case."),
		component.String("colNames", &c.columns, "payload").AsType("list").Describe("The columns of the groups, separated by commas; blanks belong to the name. There must be as many as groups."),
		component.Int("rowKeyIndex", &c.keyIndex, -1).Describe("Which of the columns, counted from 0, is the row key; it must be called ROW_KEY. Negative: row keys are made up."),
		component.Bool("depositHeaders", &c.headers, false).Describe("Whether each header becomes a column, too."),
		component.Value("charset", &c.charset, "string", "UTF-8", charset.Lookup).Describe("What the body is written in, and what names of columns, headers and made-up row keys are written in. Values of groups are stored as UTF-8 in any case."),
	}
}

func (c *regexConfig) NewSerializer(env component.Env) (Serializer, error) {
	flags := javaregex.DotAll
	if c.ignoreCase {
		flags |= javaregex.CaseInsensitive
	}
	re, err := javaregex.CompileFull(c.expr, flags)
	if err != nil {
		return nil, &component.KeyError{Key: "regex", Err: err}
	}
	names := strings.Split(c.columns, ",")
	for len(names) > 0 && names[len(names)-1] == "" { // as String.split
		names = names[:len(names)-1]
	}
	if c.keyIndex >= len(names) {
		return nil, &component.KeyError{Key: "rowKeyIndex", Err: fmt.Errorf("%d: there are %d columns, counted from 0", c.keyIndex, len(names))}
	}
	if c.keyIndex >= 0 && !strings.EqualFold(names[c.keyIndex], rowKeyName) {
		return nil, &component.KeyError{Key: "rowKeyIndex", Err: fmt.Errorf("column %d is called %q", c.keyIndex, names[c.keyIndex]), Hint: "the column of the row key must be called " + rowKeyName}
	}
	if n := re.NumGroups(); n != len(names) {
		env.Warn("serializer.colNames", "", "the expression has %d groups and there are %d columns, so no event is stored, as in Flume", n, len(names))
	}
	if len(names) == 1 && c.keyIndex == 0 && !c.headers {
		env.Warn("serializer.colNames", "", "rows would have no cells but the row key, so every event fails")
	}
	s := &regex{regexConfig: *c, re: re, unmatched: unmatched{env: env, count: env.Metrics.Counter("EventUnmatchedCount")}}
	for _, n := range names {
		s.names = append(s.names, c.charset.AppendText(nil, []byte(n)))
	}
	const letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
	for i := range s.random {
		s.random[i] = letters[rand.IntN(len(letters))]
	}
	return s, nil
}

// unmatched counts the events that a serializer has no rows for.
type unmatched struct {
	env   component.Env
	count *atomic.Int64
}

func (u *unmatched) add(why string, e *event.Event) {
	if u.count.Add(1) == 1 {
		u.env.Log.Warn("an event is not stored; further ones are only counted in EventUnmatchedCount", "why", why, "body", fmt.Sprintf("%.200q", e.Body))
	}
}

type regex struct {
	regexConfig
	uncounted
	unmatched unmatched
	re        *javaregex.Regexp
	names     [][]byte
	random    [10]byte
	nonce     int64

	loc               []int
	text, key, header []byte
}

var errNoGroup = errors.New("a group of the expression took no part in the match")

func (s *regex) AppendPuts(b *client.Batch, family []byte, e *event.Event) error {
	text := e.Body
	if !s.charset.IsUTF8() || !utf8.Valid(text) {
		var err error
		if s.text, err = s.charset.AppendUTF8(s.text[:0], text, charset.Replace); err != nil {
			return err
		}
		text = s.text
	}
	if s.re.NumGroups() != len(s.names) {
		s.unmatched.add("the number of groups is not that of columns", e)
		return nil
	}
	loc, decided := s.re.TryFindSubmatch(text, s.loc[:0])
	if !decided {
		return errors.New("the expression takes too long on the body")
	}
	if loc == nil {
		s.unmatched.add("the body does not match the expression", e)
		return nil
	}
	s.loc = loc
	if slices.Contains(loc, -1) {
		return errNoGroup
	}
	group := func(i int) []byte { return text[loc[2*i+2]:loc[2*i+3]] }
	if s.keyIndex >= 0 {
		s.key = append(s.key[:0], group(s.keyIndex)...)
	} else {
		s.key = s.appendKey(s.key[:0])
	}
	if err := b.Put(s.key); err != nil {
		return err
	}
	for i, name := range s.names {
		if i == s.keyIndex {
			continue
		}
		if err := b.Add(family, name, group(i)); err != nil {
			return err
		}
	}
	if s.headers {
		for _, h := range e.Headers {
			if h.Value == nil {
				continue
			}
			s.header = s.charset.AppendText(s.header[:0], []byte(h.Key))
			at := len(s.header)
			s.header = s.charset.AppendText(s.header, h.Value)
			if err := b.Add(family, s.header[:at], s.header[at:]); err != nil {
				return err
			}
		}
	}
	if b.Cells() == 0 {
		return errNoCells
	}
	return nil
}

var errNoCells = errors.New("the row has no cells")

func (s *regex) appendKey(dst []byte) []byte {
	dst = strconv.AppendInt(dst, time.Now().UnixMilli(), 10)
	dst = append(dst, '-')
	dst = append(dst, s.random[:]...)
	dst = append(dst, '-')
	dst = strconv.AppendInt(dst, s.nonce, 10)
	s.nonce++
	if s.charset.IsUTF8() {
		return dst
	}
	s.header = s.charset.AppendText(s.header[:0], dst)
	return append(dst[:0], s.header...)
}

type delimitedConfig struct {
	separator string
	columns   []string
	key       []keyPart
	malformed string
}

func (c *delimitedConfig) Fields() []component.Field {
	return []component.Field{
		component.String("separator", &c.separator, ",").Describe("What stands between two fields."),
		component.Value("colNames", &c.columns, "list", "", parseColumns).Require().
			Describe("The columns of the fields, separated by commas. A field whose name is left empty is not stored."),
		component.Value("rowKey", &c.key, "string", "", parseKey).Require().
			Describe("The row key: text in which `{NAME}` stands for the field of that column, and `{NAME:reversed}` for its characters from last to first."),
		component.Enum("malformed", &c.malformed, "fail", "fail", "drop").
			Describe("What happens to an event that has another number of fields, or an empty row key: fail keeps it (see dead letters), drop counts it in EventUnmatchedCount and lets it go."),
	}
}

func parseColumns(s string) ([]string, error) {
	names := strings.Split(s, ",")
	for i := range names {
		names[i] = strings.TrimSpace(names[i])
		if n := names[i]; n != "" && slices.Contains(names[:i], n) {
			return nil, fmt.Errorf("the column %q is there twice", n)
		}
	}
	return names, nil
}

// keyPart is a text, or the field of a column.
type keyPart struct {
	text     string
	column   string
	reversed bool
	field    int
}

func parseKey(s string) ([]keyPart, error) {
	var parts []keyPart
	for s != "" {
		text, rest, found := strings.Cut(s, "{")
		if text != "" {
			parts = append(parts, keyPart{text: text})
		}
		if !found {
			break
		}
		name, after, closed := strings.Cut(rest, "}")
		if !closed {
			return nil, fmt.Errorf("%q lacks a closing brace", "{"+rest)
		}
		name, how, modified := strings.Cut(name, ":")
		if modified && how != "reversed" {
			return nil, fmt.Errorf("%q is not known: only reversed is", how)
		}
		parts = append(parts, keyPart{column: name, reversed: modified})
		s = after
	}
	return parts, nil
}

func (c *delimitedConfig) NewSerializer(env component.Env) (Serializer, error) {
	s := &delimited{delimitedConfig: *c, separator: []byte(c.separator), unmatched: unmatched{env: env, count: env.Metrics.Counter("EventUnmatchedCount")}}
	stored := false
	for _, n := range c.columns {
		s.names = append(s.names, []byte(n))
		stored = stored || n != ""
	}
	if !stored {
		return nil, &component.KeyError{Key: "colNames", Err: errors.New("no field has a name, so nothing would be stored")}
	}
	s.key = slices.Clone(c.key)
	for i := range s.key {
		p := &s.key[i]
		if p.text != "" {
			continue
		}
		if p.field = slices.Index(c.columns, p.column); p.field < 0 || p.column == "" {
			return nil, &component.KeyError{Key: "rowKey", Err: fmt.Errorf("there is no column %q", p.column), Hint: "the names in colNames are " + strings.Join(c.columns, ", ")}
		}
	}
	return s, nil
}

type delimited struct {
	delimitedConfig
	uncounted
	unmatched unmatched
	separator []byte
	names     [][]byte

	fields [][]byte
	row    []byte
}

func (s *delimited) AppendPuts(b *client.Batch, family []byte, e *event.Event) error {
	err := s.cut(e.Body)
	if err == nil {
		if err = b.Put(s.row); err == nil {
			return s.appendCells(b, family)
		}
	}
	if s.malformed == "drop" {
		s.unmatched.add(err.Error(), e)
		return nil
	}
	return err
}

// cut finds the fields and makes the row key.
func (s *delimited) cut(body []byte) error {
	s.fields = s.fields[:0]
	for rest, more := body, true; more; {
		var f []byte
		f, rest, more = bytes.Cut(rest, s.separator)
		if len(s.fields) == len(s.names) {
			return fmt.Errorf("the event has more than the %d fields that have a column: %.200q", len(s.names), body)
		}
		s.fields = append(s.fields, f)
	}
	if n := len(s.fields); n < len(s.names) {
		return fmt.Errorf("the event has %d fields for %d columns: %.200q", n, len(s.names), body)
	}
	s.row = s.row[:0]
	for i := range s.key {
		switch p := &s.key[i]; {
		case p.text != "":
			s.row = append(s.row, p.text...)
		case p.reversed:
			s.row = appendReversed(s.row, s.fields[p.field])
		default:
			s.row = append(s.row, s.fields[p.field]...)
		}
	}
	return nil
}

// appendReversed appends the characters of UTF-8 text from last to first.
func appendReversed(dst, text []byte) []byte {
	for len(text) > 0 {
		_, n := utf8.DecodeLastRune(text)
		dst = append(dst, text[len(text)-n:]...)
		text = text[:len(text)-n]
	}
	return dst
}

func (s *delimited) appendCells(b *client.Batch, family []byte) error {
	for i, name := range s.names {
		if len(name) == 0 {
			continue
		}
		if err := b.Add(family, name, s.fields[i]); err != nil {
			return err
		}
	}
	return nil
}
