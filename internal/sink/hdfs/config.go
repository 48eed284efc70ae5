// Package hdfs is Flume's HDFS sink: events in rolled files, in directories
// that depend on the events, on HDFS, the local file system or S3.
package hdfs

import (
	"errors"
	"path"
	"slices"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/dfs"
	"github.com/sluice-data/sluice/internal/escape"
	"github.com/sluice-data/sluice/internal/hadoopcodec"
	"github.com/sluice-data/sluice/internal/serde"
)

const notes = `Which file systems there are, what is guaranteed and the formats are explained in [the HDFS sink](../hdfs-sink.md).

- A batch counts as delivered when all data nodes of the block have it (hflush), on a local file system when the operating system has it, with S3 when the local disk has it.
- After an error in the middle of a file the sink closes that file (by lease recovery), opens another and writes the batch that was not acknowledged again: events may be there twice.
- Files with a temporary name that a killed agent left behind are closed and get their last name. Flume leaves them.
- A file whose last name is taken gets ` + "`-1`" + `, ` + "`-2`" + ` … before its suffix.
- An event without the ` + "`timestamp`" + ` header that a time escape needs stays in the channel, as in Flume, unless dead letters are on; the others of its batch are written.
- Kerberos with data that is encrypted or checked (` + "`dfs.data.transfer.protection`" + ` above ` + "`authentication`" + `): a flush closes the file and the next batch appends to it, as acknowledgements cannot be seen then.`

func init() {
	component.RegisterSink(component.Info{
		Name:    "hdfs",
		Classes: []string{"org.apache.flume.sink.hdfs.HDFSEventSink"},
		Doc:     "Writes events to rolled files on HDFS, a local file system or S3, in directories that depend on the events.",
		Notes:   notes,
	}, func() component.SinkConfig { return new(config) })
}

type config struct {
	path, prefix, suffix         string
	inUsePrefix, inUseSuffix     string
	emptyInUse                   bool
	rollInterval, idle           time.Duration
	rollSize                     int64
	rollCount                    int64
	batchSize, maxOpen           int
	codec                        *hadoopcodec.Codec
	fileType, writeFormat        string
	principal, keytab, proxyUser string
	times                        escape.Properties
	closeTries                   int
	retryInterval, callTimeout   time.Duration
	refused                      time.Duration
	serializer                   component.Config
	s3                           map[string]string
}

const (
	sequenceFile     = "SequenceFile"
	dataStream       = "DataStream"
	compressedStream = "CompressedStream"
)

// Fields implements component.Config.
func (c *config) Fields() []component.Field {
	codec := component.Value("hdfs.codeC", &c.codec, "enum", "", func(s string) (*hadoopcodec.Codec, error) {
		if s == "" || strings.EqualFold(s, "none") {
			return nil, nil
		}
		return hadoopcodec.Find(s)
	}).Describe("How files are compressed: the class of a Hadoop codec, or its name without Codec, in any case.")
	codec.Values = hadoopcodec.Names
	return append([]component.Field{
		component.String("hdfs.path", &c.path, "").Require().AsType("path").Describe("The directory, with escapes such as %Y-%m-%d."),
		component.String("hdfs.filePrefix", &c.prefix, "FlumeData").Describe("What file names start with, with escapes."),
		component.String("hdfs.fileSuffix", &c.suffix, "").Describe("What file names end with, in place of the codec's extension."),
		component.String("hdfs.inUsePrefix", &c.inUsePrefix, "").Describe("What the name of a file that is being written starts with."),
		component.String("hdfs.inUseSuffix", &c.inUseSuffix, ".tmp").Describe("What the name of a file that is being written ends with."),
		component.Bool("hdfs.emptyInUseSuffix", &c.emptyInUse, false).Describe("No suffix while a file is written, whatever hdfs.inUseSuffix says."),
		component.Duration("hdfs.rollInterval", &c.rollInterval, time.Second, 30*time.Second).Describe("A file is closed so long after it was opened; 0: at any age."),
		component.Int64("hdfs.rollSize", &c.rollSize, 1024).In("bytes").Describe("A file is closed when so many bytes of bodies are in it; 0: at any size."),
		component.Int64("hdfs.rollCount", &c.rollCount, 10).In("events").Describe("A file is closed when so many events are in it; 0: any number."),
		component.Duration("hdfs.idleTimeout", &c.idle, time.Second, 0).Describe("A file without events for so long is closed; 0: never."),
		component.Int("hdfs.batchSize", &c.batchSize, 100).In("events").Min(1).Describe("The most events taken in one transaction, and written between two flushes."),
		codec,
		component.Enum("hdfs.fileType", &c.fileType, sequenceFile, sequenceFile, dataStream, compressedStream).
			Describe("SequenceFile; DataStream, for what the serializer makes; CompressedStream, for that with hdfs.codeC."),
		component.Int("hdfs.maxOpenFiles", &c.maxOpen, 5000).In("files").Min(1).Describe("When there are more, the one that was used longest ago is closed."),
		component.Ignore("hdfs.minBlockReplicas", "the client library does not tell how many data nodes are left in a pipeline: with an error in one of them the file is closed and another begun"),
		component.Enum("hdfs.writeFormat", &c.writeFormat, "Writable", "Writable", "Text").Describe("With SequenceFile: values are BytesWritable or Text."),
		component.Ignore("writeFormat.", "classes of Java that make records cannot be loaded"),
		component.Ignore("hdfs.threadsPoolSize", "calls are made one after another"),
		component.Ignore("hdfs.rollTimerPoolSize", "there is no thread for timers"),
		component.String("hdfs.kerberosPrincipal", &c.principal, "").Describe("Kerberos: who logs in; _HOST stands for the host's name."),
		component.String("hdfs.kerberosKeytab", &c.keytab, "").AsType("path").Describe("Kerberos: the file with the key."),
		component.String("hdfs.proxyUser", &c.proxyUser, "").Describe("Who the files belong to. Not with Kerberos."),
	}, slices.Concat(c.times.Fields("hdfs.", "second"), []component.Field{
		component.Int("hdfs.closeTries", &c.closeTries, 0).Describe("A file that cannot be closed is tried so many times; 0: for ever."),
		component.Duration("hdfs.retryInterval", &c.retryInterval, time.Second, 180*time.Second).Describe("And so often; 0: once."),
		component.Duration("hdfs.callTimeout", &c.callTimeout, time.Millisecond, 30*time.Second).Describe("The longest that a server may take to answer; 0: any time."),
		component.Duration("hdfs.refusedTimeout", &c.refused, time.Second, 0).Describe("Events of a bucket that no permission or a quota has refused for so long become dead letters, where these are on; 0: they are tried for ever."),
		component.Part("serializer", &c.serializer, component.KindSerializer, "serializer.", "TEXT").Describe("With DataStream and CompressedStream: how events are written."),
		component.Map("hdfs.fs.s3a.", &c.s3).Describe("Settings of Hadoop's S3A, with s3a://BUCKET/PATH: hdfs.fs.s3a.endpoint, hdfs.fs.s3a.access.key …; they go before those of core-site.xml."),
		component.Ignore("hdfs.useRawLocalFileSystem", "on a local file system no checksum files are written"),
	})...)
}

// validate finds fault with properties that do not go together.
func (c *config) validate(env component.Env) error {
	switch {
	case c.fileType == dataStream && c.codec != nil:
		return &component.KeyError{Key: "hdfs.codeC", Err: errors.New("a DataStream is not compressed"), Hint: "set hdfs.fileType = CompressedStream, or remove hdfs.codeC"}
	case c.fileType == compressedStream && c.codec == nil:
		return &component.KeyError{Key: "hdfs.codeC", Err: errors.New("it must be set with hdfs.fileType = CompressedStream"), Hint: "for example gzip"}
	case c.proxyUser != "" && c.principal != "":
		return &component.KeyError{Key: "hdfs.proxyUser", Err: errors.New("it is not supported together with Kerberos"), Hint: "use a keytab of that user"}
	case strings.ContainsRune(c.inUsePrefix, '/'):
		return &component.KeyError{Key: "hdfs.inUsePrefix", Err: errors.New("it has a slash")}
	}
	if c.emptyInUse {
		if c.inUseSuffix != ".tmp" && c.inUseSuffix != "" {
			env.Warn("hdfs.inUseSuffix", "remove one of the two", "no effect with hdfs.emptyInUseSuffix = true")
		}
		c.inUseSuffix = ""
	}
	if c.rollInterval == 30*time.Second && c.rollSize == 1024 && c.rollCount == 10 {
		env.Warn("hdfs.rollCount", "set hdfs.rollInterval, hdfs.rollSize and hdfs.rollCount, for example 600, 134217728 and 0",
			"hdfs.rollInterval, hdfs.rollSize and hdfs.rollCount have their defaults: a new file every 10 events, 1 kB or 30 s, which a name node cannot bear for long")
	}
	if err := dfs.Check(c.path); err != nil {
		return &component.KeyError{Key: "hdfs.path", Err: err}
	}
	if err := dfs.CheckS3(c.s3); err != nil {
		return &component.KeyError{Key: "hdfs.fs.s3a.", Err: err}
	}
	for _, k := range dfs.UnknownS3(c.s3) {
		env.Warn("hdfs.fs.s3a."+k, "remove it", "fs.s3a.%s has no effect here", k)
	}
	return nil
}

// NewSink implements component.SinkConfig.
func (c *config) NewSink(env component.Env) (component.Sink, error) {
	if err := c.validate(env); err != nil {
		return nil, err
	}
	opts, err := c.times.Options()
	if err != nil {
		return nil, err
	}
	s := &sink{config: *c, env: env, address: c.path, clock: time.Now,
		created: env.Metrics.Counter("ConnectionCreatedCount"), closed: env.Metrics.Counter("ConnectionClosedCount"), failed: env.Metrics.Counter("ConnectionFailedCount")}
	if s.dir, err = escape.Parse(c.path, opts); err != nil {
		return nil, &component.KeyError{Key: "hdfs.path", Err: err}
	}
	if s.name, err = escape.Parse(c.prefix, opts); err != nil {
		return nil, &component.KeyError{Key: "hdfs.filePrefix", Err: err}
	}
	for key, t := range map[string]*escape.Template{"hdfs.path": s.dir, "hdfs.filePrefix": s.name} {
		if u := t.Unknown(); len(u) > 0 {
			env.Warn(key, "", "the escape %s is not known and stands for nothing, as in Flume", strings.Join(u, ", "))
		}
	}
	s.foreign, s.dots = s.dir.Headers() || s.name.Headers(), upwards([]byte(c.path+"/"+c.prefix))
	if c.fileType != sequenceFile {
		if _, err := serde.NewSerializer(c.serializer); err != nil {
			return nil, &component.KeyError{Key: "serializer", Err: err}
		}
	}
	if c.suffix == "" && c.codec != nil { // of a SequenceFile, too, as in Flume
		s.suffix = c.codec.Extension
	}
	return s, nil
}

// constantDir is the part of a path before the first directory with an escape.
func constantDir(p string) string {
	if i := strings.IndexByte(p, '%'); i >= 0 {
		p = p[:i]
		p = p[:strings.LastIndexByte(p, '/')+1]
	}
	return path.Clean(p)
}

var _ bucket.Encoder = (*stream)(nil)
