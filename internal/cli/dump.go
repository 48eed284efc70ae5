package cli

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-data/sluice/internal/broker/dump"
	"github.com/sluice-data/sluice/internal/channel/file"
)

type dumpCmd struct {
	Paths    []string `arg:"" name:"path" type:"existingpath" help:"Files of a partition (.log, .index, .timeindex, .snapshot, log-state, leader-epoch-checkpoint), or directories: of a partition, or a broker's whole data directory. Of a file channel: segments (.events), checkpoints (sluice-checkpoint), or its directories."`
	Deep     bool     `help:"Show every record's offset, time, sizes and header names."`
	Data     bool     `name:"print-data-log" help:"Show every record with key and value."`
	Offsets  bool     `name:"offsets-decoder" help:"Show the records of __consumer_offsets decoded."`
	Verify   bool     `help:"Show no contents: check CRCs, offsets, records and index entries, and say what is damaged."`
	JSON     bool     `help:"Write JSON, a line for each batch, record or entry."`
	MaxBytes int64    `placeholder:"N" help:"Read no more of a segment than this."`

	KeyStore         string            `name:"keystore" and:"keystore" type:"existingfile" placeholder:"FILE" help:"The JCEKS key store of a file channel's encryption, to show its events."`
	KeyStorePassword string            `name:"keystore-password-file" and:"keystore" type:"existingfile" placeholder:"FILE" help:"A file with the key store's password."`
	KeyPasswords     map[string]string `name:"key-password-file" mapsep:"none" placeholder:"ALIAS=FILE" help:"A file with the password of a key that has its own."`

	kafka, indexSanity, skipMetadata bool // called as kafka-dump-log
	decodeKey, decodeValue           func([]byte) (string, error)
}

func (c *dumpCmd) Help() string {
	return "Reads the files only, so the broker or the agent may run or not. Apache Kafka's segments and indexes can be read, too.\nExit code 1 if something is damaged; the standard error names file, position and offset."
}

func (c *dumpCmd) Run(env *Env) error {
	files, err := c.files()
	if err != nil {
		return err
	}
	d := dumper{dumpCmd: c, env: env, out: bufio.NewWriterSize(env.Stdout, 64<<10)}
	for _, f := range files {
		if env.Ctx.Err() != nil {
			return env.Ctx.Err()
		}
		err := d.file(f)
		if ferr := d.out.Flush(); ferr != nil {
			return fmt.Errorf("write standard output: %w", ferr)
		}
		if err != nil {
			return err
		}
	}
	if d.damaged > 0 {
		return &exitError{Code: ExitFailed, Err: fmt.Errorf("%d place(s) of damage in %d file(s)", d.damaged, len(files))}
	}
	if c.Verify {
		fmt.Fprintf(env.Stderr, "%d file(s), no damage\n", len(files))
	}
	return nil
}

// files are what is named, and in directories what is known, by base offset.
func (c *dumpCmd) files() ([]string, error) {
	var files []string
	for _, p := range c.Paths {
		st, err := os.Stat(p)
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		if !st.IsDir() {
			files = append(files, p)
			continue
		}
		found := len(files)
		err = filepath.WalkDir(p, func(path string, e fs.DirEntry, err error) error {
			if errors.Is(err, fs.ErrNotExist) {
				return nil // a running broker deletes
			}
			if err == nil && e.Type().IsRegular() && fileKind(path) != "" {
				files = append(files, path)
			}
			return err
		})
		if err != nil {
			return nil, fmt.Errorf("dump: %w", err)
		}
		if len(files) == found {
			return nil, fmt.Errorf("dump %s: there are no files of a partition or of a file channel in it: want DIR/logs/TOPIC-N or the broker's data directory, or a channel's checkpointDir or dataDirs", p)
		}
	}
	return files, nil
}

const (
	stateFile  = "log-state"
	epochsFile = "leader-epoch-checkpoint"
)

// fileKind is the ending or name that says what a file is; "" for others.
func fileKind(path string) string {
	name := filepath.Base(path)
	if name == stateFile || name == epochsFile || name == file.CheckpointName {
		return name
	}
	ext := filepath.Ext(name)
	switch ext {
	case ".log", ".index", ".timeindex", ".snapshot", file.SegmentExt:
		if _, err := strconv.ParseInt(strings.TrimSuffix(name, ext), 10, 64); err == nil {
			return ext
		}
	}
	return ""
}

// maxSmall bounds the files that are read whole.
const maxSmall = 1 << 28

type dumper struct {
	*dumpCmd
	env     *Env
	out     *bufio.Writer
	damaged int
}

func (d *dumper) problem(p dump.Problem) {
	d.damaged++
	d.out.Flush() // so that it stands where it belongs; Run reports a failure
	fmt.Fprintf(d.env.Stderr, "%s\n", p)
}

func (d *dumper) small(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxSmall+1))
	if err == nil && len(b) > maxSmall {
		err = fmt.Errorf("it is larger than %d bytes", maxSmall)
	}
	return b, err
}

func (d *dumper) file(path string) error {
	kind := fileKind(path)
	if kind == "" {
		fmt.Fprintf(d.env.Stderr, "Ignoring unknown file %s\n", path)
		return nil
	}
	if !d.JSON && !d.Verify || d.kafka {
		fmt.Fprintf(d.out, "Dumping %s\n", path)
	}
	var err error
	switch kind {
	case ".log":
		err = d.log(path)
	case ".index", ".timeindex":
		err = d.index(path, kind == ".timeindex")
	case ".snapshot":
		err = d.snapshot(path)
	case file.SegmentExt:
		err = d.channelSegment(path)
	case file.CheckpointName:
		err = d.channelCheckpoint(path)
	default:
		err = d.text(path, kind)
	}
	if errors.Is(err, fs.ErrNotExist) {
		// A running broker may have deleted or replaced it since.
		fmt.Fprintf(d.env.Stderr, "%s is gone\n", path)
		return nil
	}
	if err != nil {
		return fmt.Errorf("dump %s: %w", path, err)
	}
	return nil
}

// baseOf is the offset in a file's name.
func baseOf(path string) int64 {
	name := filepath.Base(path)
	n, _ := strconv.ParseInt(strings.TrimSuffix(name, filepath.Ext(name)), 10, 64) // fileKind has checked it
	return n
}

// lastSegment reports whether a segment is the one that is written to.
func lastSegment(path string) bool {
	others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*.log"))
	return err != nil || !slices.ContainsFunc(others, func(o string) bool { return fileKind(o) == ".log" && baseOf(o) > baseOf(path) })
}
