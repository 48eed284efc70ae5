// Package hive is the sink that fills tables of Hive: rows in files of the
// table's own format, in the directories of its partitions, which the metastore
// knows. docs/hive-sink.md has what it promises.
package hive

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/metastore"
)

const notes = `**It is for other tables than Flume's.** Flume's sink wants a transactional (ACID) table in ORC with buckets, and streams into its transactions. This one wants a plain table,
` + "`STORED AS TEXTFILE` or `JSONFILE`" + `, and refuses transactional, bucketed and columnar ones with the way round: fill a text table, and ` + "`INSERT INTO … SELECT`" + ` from it. [The Hive sink](../hive-sink.md) has the statements.

- Rows are written to hidden files in the partition's directory, and can be queried when the file is complete: after ` + "`rollInterval`, `rollSize` or `hive.txnsPerBatchAsk × batchSize`" + ` rows.
- A batch counts as delivered when its rows are where the HDFS sink's would be: at all data nodes (hflush), on a local file system with the operating system.
- **At least once.** After an error, or the end of the process, rows may be there twice. Rows that were cut in the middle are removed, and hidden files of a killed process completed.
- A row that does not fit the table (no JSON, a value with the table's delimiter) fails alone; see dead letters. Flume logs it and drops it. An event without the ` + "`timestamp`" + ` header that a time escape needs does so, too.
- A table that is missing or not fit, a column that the table does not have, a metastore that is down: named once; the events wait, and go on when it is right.
- Kerberos and TLS of the metastore are refused.`

func init() {
	component.RegisterSink(component.Info{
		Name:    "hive",
		Classes: []string{"org.apache.flume.sink.hive.HiveSink"},
		Doc:     "Writes events into a plain (text or JSON) table of Hive, and registers its partitions.",
		Notes:   notes,
	}, func() component.SinkConfig { return new(config) })
}

type config struct {
	metastore, database, tableName string
	partition                      string
	txns, batchSize, maxOpen       int
	callTimeout, idle, roll        time.Duration
	rollSize                       int64
	autoCreate                     bool
	times                          escape.Properties
	serializer                     component.Config
}

// Fields implements component.Config.
func (c *config) Fields() []component.Field {
	return append([]component.Field{
		component.String("hive.metastore", &c.metastore, "").Require().AsType("url").Describe("The metastore, thrift://HOST:PORT; several with commas, of which the first that answers serves."),
		component.String("hive.database", &c.database, "").Require().Describe("The database."),
		component.String("hive.table", &c.tableName, "").Require().Describe("The table. It must exist."),
		component.String("hive.partition", &c.partition, "").AsType("list").Describe("The values of the columns that the table is partitioned by, in their order, with commas; with escapes, such as %Y-%m-%d."),
		component.Int("hive.txnsPerBatchAsk", &c.txns, 100).In("transactions").Min(1).Lenient().Describe("A file is complete when it has this many times batchSize rows. There are no transactions of Hive."),
		component.Int("batchSize", &c.batchSize, 15000).In("events").Min(1).Lenient().Describe("The most events taken in one transaction of the channel, and written between two flushes."),
		component.Int("maxOpenConnections", &c.maxOpen, 500).In("partitions").Min(1).Lenient().Describe("When more have an open file, the one that was used longest ago is completed."),
		component.Duration("callTimeout", &c.callTimeout, time.Millisecond, 10*time.Second).Min(0).Lenient().Describe("The longest that the metastore or a server of the file system may take to answer; 0: any time."),
		component.Duration("idleTimeout", &c.idle, time.Second, 0).Min(0).Lenient().Describe("A file without new rows for so long is complete; 0: any time."),
		component.Duration("rollInterval", &c.roll, time.Second, time.Minute).Min(0).Describe("A file is complete so long after it was begun, and its rows can be queried; 0: at any age. Flume has no such property."),
		component.Int64("rollSize", &c.rollSize, 128<<20).In("bytes").Min(0).Describe("A file is complete when it has so many bytes; 0: at any size. Flume has no such property."),
		component.Bool("autoCreatePartitions", &c.autoCreate, true).Describe("Register partitions that are not there yet. Else their events wait until somebody does."),
		component.Ignore("heartBeatInterval", "no transaction of Hive is open that would have to be kept alive"),
		component.Part("serializer", &c.serializer, KindSerializer, "serializer.", "").Require().Describe("What an event's body is: DELIMITED or JSON."),
	}, c.times.Fields("", "minute")...)
}

// NewSink implements component.SinkConfig.
func (c *config) NewSink(env component.Env) (component.Sink, error) {
	opts, err := c.times.Options()
	if err != nil {
		return nil, err
	}
	s := &sink{config: *c, env: env, clock: time.Now, open: openVolume}
	if s.meta, err = metastore.New(c.metastore, c.callTimeout); err != nil {
		return nil, &component.KeyError{Key: "hive.metastore", Err: err}
	}
	for _, p := range []struct{ key, value string }{{"hive.database", c.database}, {"hive.table", c.tableName}} {
		if p.value == "" || strings.ContainsAny(p.value, "/.") {
			return nil, &component.KeyError{Key: p.key, Err: fmt.Errorf("%q is no name", p.value)}
		}
	}
	if c.partition != "" {
		for v := range strings.SplitSeq(c.partition, ",") {
			if strings.TrimSpace(v) != v || v == "" {
				env.Warn("hive.partition", "remove the blanks around commas", "%q is taken as it is, with its blanks, as in Flume", v)
			}
			t, err := escape.Parse(v, opts)
			if err != nil {
				return nil, &component.KeyError{Key: "hive.partition", Err: err}
			}
			if u := t.Unknown(); len(u) > 0 {
				env.Warn("hive.partition", "", "the escape %s is not known and stands for nothing, as in Flume", strings.Join(u, ", "))
			}
			s.values = append(s.values, t)
		}
	}
	var ok bool
	if s.ser, ok = c.serializer.(serializer); !ok {
		return nil, fmt.Errorf("make serializer: %T is none of Hive's", c.serializer)
	}
	if err := s.ser.check(); err != nil {
		return nil, err
	}
	s.buckets = bucket.Config{
		Log: env.Log, NewEncoder: func(bucket.Target) (bucket.Encoder, error) { return rows{}, nil },
		InUsePrefix: hidden, Lines: true,
		RollInterval: c.roll, RollSize: c.rollSize, RollCount: int64(c.txns) * int64(c.batchSize), Idle: c.idle, MaxOpen: c.maxOpen,
		Retry: retryClose, Now: func() time.Time { return s.clock() },
		Created: env.Metrics.Counter("ConnectionCreatedCount"), Closed: env.Metrics.Counter("ConnectionClosedCount"), Failed: env.Metrics.Counter("ConnectionFailedCount"),
	}
	return s, nil
}

// KindSerializer is the kind of what takes an event's body apart into columns.
const KindSerializer component.Kind = "hive-serializer"

// serializer is a serializer's configuration.
type serializer interface {
	component.Config
	// check finds fault with the properties. A *component.KeyError names the sink's key.
	check() error
	// parser makes the parser for the columns that are kept in a partition's files.
	parser(cols []column) (parser, error)
}

func init() {
	component.RegisterPart(component.Info{
		Kind: KindSerializer, Name: "DELIMITED",
		Classes: []string{"org.apache.flume.sink.hive.HiveDelimitedTextSerializer"},
		Doc:     "A body is text with a delimiter between the columns.",
		Notes: "- Fields that the body lacks, and `\\N`, are NULL; more fields than names are left out, as in Flume.\n" +
			"- What the fields are is for Hive to see: a text in a column of numbers of a text table is NULL when it is queried. In a JSON table, where it would break queries, it is refused.\n" +
			"- Parts of arrays, maps and structs are separated by \\002, \\003 and so on.",
	}, func() component.Config { return new(delimitedConfig) })
	component.RegisterPart(component.Info{
		Kind: KindSerializer, Name: "JSON",
		Classes: []string{"org.apache.flume.sink.hive.HiveJsonSerializer"},
		Doc:     "A body is a JSON object with columns as its keys.",
		Notes:   "- Keys that are no column are left out, columns that are no key are NULL, as in Flume. Case does not matter.",
	}, func() component.Config { return new(jsonConfig) })
}

type delimitedConfig struct{ delimiter, fields string }

// Fields implements component.Config.
func (c *delimitedConfig) Fields() []component.Field {
	return []component.Field{
		component.String("delimiter", &c.delimiter, ",").Describe(`What is between two fields: one character or more. In double quotes blanks are kept: "\t".`),
		component.String("fieldnames", &c.fields, "").Require().AsType("list").Describe("The columns of the fields, in their order, with commas; an empty name leaves a field out."),
		component.Ignore("serdeSeparator", "rows are written with the delimiters of the table itself"),
	}
}

func (c *delimitedConfig) check() error {
	if n := len(c.delimiter); n > 1 && c.delimiter[0] == '"' && c.delimiter[n-1] == '"' {
		c.delimiter = c.delimiter[1 : n-1]
	}
	if c.delimiter == "" {
		return &component.KeyError{Key: "serializer.delimiter", Err: errors.New("it is empty")}
	}
	if !slices.ContainsFunc(strings.Split(c.fields, ","), func(s string) bool { return strings.TrimSpace(s) != "" }) {
		return &component.KeyError{Key: "serializer.fieldnames", Err: errors.New("it names no column")}
	}
	return nil
}

func (c *delimitedConfig) parser(cols []column) (parser, error) {
	return newDelimited(c.delimiter, strings.Split(c.fields, ","), cols)
}

type jsonConfig struct{}

// Fields implements component.Config.
func (jsonConfig) Fields() []component.Field { return nil }

func (jsonConfig) check() error                         { return nil }
func (jsonConfig) parser(cols []column) (parser, error) { return object{cols}, nil }
