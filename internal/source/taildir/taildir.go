// Package taildir is Flume's taildir source: it follows the files of
// directories by their names, and remembers how far it has read each.
package taildir

import (
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javapath"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/tail"
)

const notes = `[Following files](../taildir.md) says what a file is, what the position file holds and what happens at each kind of rotation.

- **Renamed files** are the same files: they are not read again, and what was written to them before and after the renaming is read, also when no pattern matches the new name. Flume reads a file from its start that a pattern finds under another name; ` + "`rereadRenamed = true`" + ` does so here.
- **Replaced files.** A file whose contents were replaced is read from its start even where it is as long as before, or longer. Flume only sees that it has become shorter.
- **Positions** have Flume's format, both ways, and are written to a temporary file that is synced and renamed. A crash repeats milliseconds instead of ` + "`writePosInterval`" + `. A position file that cannot be parsed is set aside, and health says so. Two sources with the same position file: the second does not start, where in Flume they overwrite each other's positions.
- **Pauses.** New lines are noticed at once on Linux. The pause between two looks is ` + "`backoffSleepIncrement`" + ` after lines were read and grows to ` + "`maxBackoffSleep`" + `; in Flume it grows while lines are read as well, so that they come up to five seconds late.
- **One file that cannot be opened**, or a directory that is not there, holds nothing else up; it is tried again at every look, and health names it. In Flume it keeps the source from starting, and later from reading anything. In a directory that appears later ` + "`skipToEnd`" + ` does not count.
- **A file with two names** (links, two groups) is read once, for the first group in the order of ` + "`filegroups`" + `. Flume reads it again and again.
- ` + "`skipToEnd`" + ` counts for files whose path and inode the position file does not name. Flume also passes over a file that has taken the place of one it knew.
- A carriage return in the middle of a line stays, wherever it stands; Flume drops one that ends a piece of 8 KiB as it reads.
- Only regular files are read. Sockets, pipes and devices are passed over.
- The source needs a Unix system, as in Flume.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "taildir",
		Classes: []string{"org.apache.flume.source.taildir.TaildirSource"},
		Doc:     "Follows files as they grow, across rotation and restarts.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	groups       []string
	patterns     map[string]string
	headers      map[string]string
	positionFile string
	offsetHeader bool
	skipToEnd    bool
	idle         time.Duration
	writeEvery   time.Duration
	batchSize    int
	maxBatches   int64
	pauseStep    time.Duration
	pauseMax     time.Duration
	cache        bool
	fileHeader   bool
	fileKey      string
	reread       bool
	start        *javaregex.Regexp
	flushAfter   time.Duration
	maxOpen      int
}

func compile(s string) (*javaregex.Regexp, error) { return javaregex.Compile(s, 0) }

const defaultPositionFile = "/.flume/taildir_position.json"

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.List("filegroups", &c.groups).Require().
			Describe("The names of the file groups. A name without a path is passed over."),
		component.Map("filegroups.", &c.patterns).AsType("path").
			Describe("`filegroups.<group>`: the files of the group, as a directory and, after the last slash, a regular expression that whole names match. `/dir/**/expression` means the directories below as well, without links to directories; that is not a property of Flume."),
		component.String("positionFile", &c.positionFile, "").AsType("path").AsDefault("${user.home}" + defaultPositionFile).
			Describe("Where positions are kept. Its directory is made."),
		component.Map("headers.", &c.headers).
			Describe("`headers.<group>.<header>`: a header that every event of the group gets."),
		component.Bool("byteOffsetHeader", &c.offsetHeader, false).
			Describe("Set a header byteoffset with the offset in the file at which the event begins."),
		component.Bool("skipToEnd", &c.skipToEnd, false).
			Describe("Begin at the end of files that are there at the start and that the position file does not know."),
		component.Duration("idleTimeout", &c.idle, time.Millisecond, 120*time.Second).Min(0).
			Describe("A file that has not changed for so long is closed, and a last line without a line end is delivered. It is opened again when it changes."),
		component.Duration("writePosInterval", &c.writeEvery, time.Millisecond, 3*time.Second).Min(1).
			Describe("The time between two writes of the position file."),
		component.Int("batchSize", &c.batchSize, 100).In("events").Min(1).
			Describe("The most events that are put into the channels at once. A batch never has events of two files."),
		component.Int64("maxBatchCount", &c.maxBatches, tail.NoLimit).In("batches").Min(1).Lenient().
			Describe("After so many batches of one file the others have their turn."),
		component.Duration("backoffSleepIncrement", &c.pauseStep, time.Millisecond, time.Second).Min(0).
			Describe("What the pause grows by with every look that found nothing to read."),
		component.Duration("maxBackoffSleep", &c.pauseMax, time.Millisecond, 5*time.Second).Min(0).
			Describe("The longest pause between two looks."),
		component.Bool("cachePatternMatching", &c.cache, true).
			Describe("List a directory anew only when its time has changed. Switch it off where the directory's time cannot be relied on, as on some network file systems."),
		component.Bool("fileHeader", &c.fileHeader, false).
			Describe("Set a header with the absolute path of the file."),
		component.String("fileHeaderKey", &c.fileKey, "file").
			Describe("The name of that header."),
		component.Bool("rereadRenamed", &c.reread, false).
			Describe("Read a file from its start when it is found under another path, as Flume does. Not a property of Flume."),
		component.Value("multilineStartPattern", &c.start, "regex", "", compile).
			Describe("An event begins at each line in which this is found, and has the lines up to the next one. Not set: each line is an event. Not a property of Flume."),
		component.Duration("multilineTimeout", &c.flushAfter, time.Millisecond, 5*time.Second).Min(1).
			Describe("How long the last event of a file waits for more lines after the file has changed. Used with multilineStartPattern. Not a property of Flume."),
		component.Int("maxOpenFiles", &c.maxOpen, 512).In("files").Min(1).
			Describe("The most files that are kept open. Not a property of Flume."),
	}
}

// offsetKey is Flume's.
const offsetKey = "byteoffset"

func (c *config) NewSource(env component.Env) (component.Source, error) {
	path := c.positionFile
	if path == "" {
		home, err := javapath.Home(env.Properties)
		if err != nil {
			return nil, &component.KeyError{Key: "positionFile", Err: err, Hint: "set it"}
		}
		path = home + defaultPositionFile
	}
	o := tail.Options{
		Cut: tail.Lines{}, BatchSize: c.batchSize, MaxBatches: c.maxBatches, Reread: c.reread, CacheDirs: c.cache,
		Idle: c.idle, WriteEvery: c.writeEvery, PauseStep: c.pauseStep, PauseMax: c.pauseMax, MaxOpen: c.maxOpen, Env: env,
	}
	if c.start != nil {
		o.Cut, o.FlushAfter = &tail.Multiline{Start: c.start}, c.flushAfter
	}
	if c.skipToEnd {
		o.Start = tail.AtEnd
	}
	if c.fileHeader {
		o.FileHeader = c.fileKey
	}
	if c.offsetHeader {
		o.OffsetHeader = offsetKey
	}
	for i, name := range c.groups {
		pattern, ok := c.patterns[name]
		if !ok {
			env.Log.Warn("a file group has no path and is passed over", "group", name, "property", "filegroups."+name)
			continue
		}
		if slices.Contains(c.groups[:i], name) {
			continue
		}
		g, err := group(pattern)
		if err != nil {
			return nil, &component.KeyError{Key: "filegroups." + name, Err: err, Hint: "give a directory and a regular expression, such as /var/log/app/.*"}
		}
		if g.Headers, err = c.headersOf(name); err != nil {
			return nil, err
		}
		o.Groups = append(o.Groups, g)
	}
	if len(o.Groups) == 0 {
		return nil, &component.KeyError{Key: "filegroups", Err: errors.New("no group in it has a path"), Hint: "set filegroups.<group>"}
	}
	for key := range c.headers {
		if name, _, _ := strings.Cut(key, "."); !slices.Contains(c.groups, name) {
			env.Log.Warn("a header is for a group that filegroups does not name", "property", "headers."+key)
		}
	}
	return source{tail.NewSource(o, path)}, nil
}

// group takes a pattern apart.
func group(pattern string) (tail.Group, error) {
	whole, err := javapath.Abs(pattern)
	if err != nil {
		return tail.Group{}, err
	}
	dir, expr := filepath.Split(whole)
	g := tail.Group{Dir: javapath.Clean(dir)}
	if below, ok := strings.CutSuffix(g.Dir, "/**"); ok {
		g.Dir, g.Below = javapath.Clean(below+"/"), true
	}
	if slices.Contains(strings.Split(g.Dir, "/"), "**") {
		return g, fmt.Errorf("%s: ** stands before the last slash only", pattern)
	}
	re, err := compile(expr)
	if err != nil {
		return g, fmt.Errorf("the last part of %s: %w", pattern, err)
	}
	g.Match = re.FullMatchString
	return g, nil
}

func (c *config) headersOf(group string) ([]event.KV, error) {
	var hs []event.KV
	for _, key := range slices.Sorted(maps.Keys(c.headers)) {
		name, header, ok := strings.Cut(key, ".")
		if !ok {
			return nil, &component.KeyError{Key: "headers." + key, Err: errors.New("it names no header"), Hint: "write headers.<group>.<header>"}
		}
		if name == group {
			hs = append(hs, event.KV{Key: header, Value: []byte(c.headers[key])})
		}
	}
	return hs, nil
}

type source struct{ *tail.Source }

// Retry implements component.Retrier with Flume's pauses.
func (source) Retry() component.RetryPolicy {
	return component.RetryPolicy{Initial: time.Second, Max: 5 * time.Second}
}
