// Package spooldir is Flume's spooling directory source: it delivers the files
// that are dropped into a directory, each of which must not change any more.
package spooldir

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/serde"
)

const notes = `- **One source for each trackerDir**: a second source, of this agent or another, does not start and says so. Sources that share a spoolDir need a trackerDir each, and patterns that do not overlap.
- **Bad files.** A file with a byte that is not in ` + "`inputCharset`" + ` (under ` + "`decodeErrorPolicy = FAIL`" + `), a file that grows or changes after it was dropped, and a file whose name was used before stop Flume's source for good. Here the events before the fault are delivered, the file is renamed to ` + "`NAME.BAD`" + ` beside a ` + "`NAME.BAD.reason`" + ` that says what was wrong and how far it was delivered, health says so until the ` + "`.BAD`" + ` file is gone, and the source goes on with the next file. With ` + "`trackingPolicy = tracker_dir`" + ` the file stays where it is and ` + "`<trackerDir>/<relative path>.BAD`" + ` holds the reason. Names that end in ` + "`.BAD` or `.BAD.reason`" + ` are never read. ` + "`onBadFile = stop`" + ` gives Flume's behaviour.
- **Position.** The tracker file has Flume's format, both ways: an agent of either kind goes on where the other was stopped. A file that was begun is finished first, whatever ` + "`consumeOrder`" + ` says; Flume forgets its position when another file is picked. The position is stored every 20 ms or 1 MiB, whichever comes first, and synced to disk once a second, so a crash repeats at most that much; an orderly stop repeats nothing. It only moves when the channels have taken the events. A file that gets the name of one that was begun and is gone is read from its start; Flume passes over as much of it as it had read of the other.
- **Order.** Directories of up to 1,000 waiting files are listed anew for every file, as in Flume; longer lists are renewed every ` + "`pollDelay`" + `.
- **Unreadable files** (permissions, I/O errors) are passed over until the next poll, and health names them; in Flume the oldest of them blocks the others.
- A file that is empty, or whose text is empty after malformed bytes were ignored, gives one event with an empty body, in every order (Flume: not always with ` + "`random`" + `).
- ` + "`EUC-KR` is read as its superset `x-windows-949`, `Shift_JIS` as `windows-31j`, `GB2312` as `GBK`" + `. ISO-2022 and EBCDIC character sets are refused.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "spooldir",
		Classes: []string{"org.apache.flume.source.SpoolDirectorySource"},
		Doc:     "Reads files that are dropped into a directory, then renames, marks or deletes them.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	spoolDir     string
	suffix       string
	deletePolicy string
	tracking     string
	fileHeader   bool
	fileKey      string
	baseHeader   bool
	baseKey      string
	include      *javaregex.Regexp
	ignore       *javaregex.Regexp
	trackerDir   string
	order        string
	pollDelay    time.Duration
	recursive    bool
	maxBackoff   time.Duration
	batchSize    int
	charset      *charset.Charset
	decodeErrors string
	deserializer component.Config
	oldMaxLine   int
	onBadFile    string
}

func compile(s string) (*javaregex.Regexp, error) { return javaregex.Compile(s, 0) }

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("spoolDir", &c.spoolDir, "").AsType("path").Require().
			Describe("The directory to read from. It must exist when the source starts. Files must be complete when they appear in it: write them elsewhere on the same file system and move them in."),
		component.String("fileSuffix", &c.suffix, ".COMPLETED").
			Describe("What is appended to the name of a file that was delivered. Names that end in it are not read."),
		component.Enum("deletePolicy", &c.deletePolicy, "never", "never", "immediate").
			Describe("What becomes of a file that was delivered: it is kept (see trackingPolicy) or deleted."),
		component.Enum("trackingPolicy", &c.tracking, "rename", "rename", "tracker_dir").
			Describe("How a kept file is marked: by its name, or by an empty file of the same relative path in trackerDir, which needs no right to write to spoolDir. Used with deletePolicy = never."),
		component.Bool("fileHeader", &c.fileHeader, false).
			Describe("Set a header with the absolute path of the file."),
		component.String("fileHeaderKey", &c.fileKey, "file").
			Describe("The name of that header."),
		component.Bool("basenameHeader", &c.baseHeader, false).
			Describe("Set a header with the name of the file."),
		component.String("basenameHeaderKey", &c.baseKey, "basename").
			Describe("The name of that header."),
		component.Value("includePattern", &c.include, "regex", "^.*$", compile).
			Describe("Only files whose whole name matches are read."),
		component.Value("ignorePattern", &c.ignore, "regex", "^$", compile).
			Describe("Files, and with recursiveDirectorySearch directories, whose whole name matches are not read. It wins over includePattern."),
		component.String("trackerDir", &c.trackerDir, ".flumespool").AsType("path").
			Describe("Where the position in the current file is kept, and the marks of trackingPolicy = tracker_dir. A relative path is below spoolDir. It is made if its parent exists."),
		component.Enum("consumeOrder", &c.order, "oldest", "oldest", "youngest", "random").
			Describe("Which file is next: by the time of the last change, in milliseconds, and among equals the smaller name; or any."),
		component.Duration("pollDelay", &c.pollDelay, time.Millisecond, 500*time.Millisecond).Min(1).
			Describe("The pause before the directory is listed again when there is nothing left to read."),
		component.Bool("recursiveDirectorySearch", &c.recursive, false).
			Describe("Read files of subdirectories too, except those whose name starts with a dot. Symbolic links to directories are not followed."),
		component.Duration("maxBackoff", &c.maxBackoff, time.Millisecond, 4*time.Second).Min(1).
			Describe("The longest pause before a batch is offered again to a channel that is full. The first is 250 ms, and it doubles."),
		component.Int("batchSize", &c.batchSize, 100).In("events").Min(1).
			Describe("The most events that are put into the channels at once. A batch never has events of two files."),
		component.Value("inputCharset", &c.charset, "string", "UTF-8", charset.Lookup).
			Describe("The character set of the files, by any of Java's names for it. Used by text deserializers."),
		component.Enum("decodeErrorPolicy", &c.decodeErrors, "FAIL", "FAIL", "REPLACE", "IGNORE").
			Describe("What happens to bytes that are malformed in inputCharset: the file is a bad file (see onBadFile), they become U+FFFD, or they are dropped."),
		component.Part("deserializer", &c.deserializer, component.KindDeserializer, "deserializer.", "LINE").
			Describe("How a file becomes events."),
		component.Ignore("bufferMaxLines", "Flume declares it and never reads it."),
		component.Value("bufferMaxLineLength", &c.oldMaxLine, "int", "", parseLength).In("characters").
			Describe("The old name of deserializer.maxLineLength, over which it wins. Only used by LINE."),
		component.Enum("onBadFile", &c.onBadFile, "setaside", "setaside", "stop").
			Describe("What happens to a file with malformed bytes, one that changes while it is read, and one whose name was used before: it is set aside with the reason and the source goes on, or the source stops for good, as in Flume. Not a property of Flume."),
	}
}

func parseLength(s string) (n int, err error) {
	if _, err := fmt.Sscanf(strings.TrimSpace(s), "%d", &n); err != nil || n < 1 {
		return 0, fmt.Errorf("%q is not a positive whole number", s)
	}
	return n, nil
}

// lineLimiter is the LINE deserializer.
type lineLimiter interface{ SetMaxLineLength(n int) }

func (c *config) NewSource(env component.Env) (component.Source, error) {
	d, ok := c.deserializer.(serde.DeserializerConfig)
	if !ok {
		return nil, &component.KeyError{Key: "deserializer", Err: fmt.Errorf("%T is no deserializer", c.deserializer)}
	}
	if l, ok := c.deserializer.(lineLimiter); ok && c.oldMaxLine > 0 {
		l.SetMaxLineLength(c.oldMaxLine)
	}
	if strings.HasSuffix(c.suffix, badSuffix) || strings.HasSuffix(c.suffix, reasonSuffix) {
		return nil, &component.KeyError{Key: "fileSuffix", Err: errors.New("names that end in it mark files that were set aside"), Hint: "choose another suffix, the default is .COMPLETED"}
	}
	return newSource(c, d, env), nil
}
