package file

import (
	"cmp"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/javapath"
)

func init() {
	component.RegisterChannel(component.Info{
		Name:    "file",
		Classes: []string{"org.apache.flume.channel.file.FileChannel"},
		Doc:     "Holds events on disk: a put is synced before it returns, and what no commit took out is there after any crash.",
		Notes: "- A put is one write and one sync, whatever the batch; so is the commit of a take. Puts and commits at the same time share a sync.\n" +
			"- Events are not held in memory, and not indexed there: 10 million that wait need no more of it than none.\n" +
			"- A recovery reads what was written since the last checkpoint, at most 30 s or some 128 MiB of it, whatever waits. `capacity` may be changed at any time, without a replay.\n" +
			"- Files of its own, in a format of its own (docs/file-channel.md), take the place of Flume's `log-N` and `checkpoint`. Started on directories that a stopped Flume 1.4 to 1.11 left behind, " +
			"the channel takes over the events in them and leaves Flume's files as they are.\n" +
			"- With encryption the files are in AES-GCM, which Flume's properties do not name; Flume's own encrypted files are taken over as well.\n" +
			"- A take waits keep-alive for the first event; Flume's returns at once.\n" +
			"- On a full disk puts are refused and takes go on; when there is space again, so do puts. After a failed write or sync the channel refuses both until the agent is started again.\n" +
			"- Damaged bytes are copied to a `.damaged` file beside the channel's, with a line in the log; the events around them are delivered. In Flume the sink stops there until the integrity tool has run.",
	}, func() component.ChannelConfig { return new(config) })
}

type config struct {
	checkpointDir, backupDir string
	dataDirs                 []string
	dual                     bool
	capacity, txCapacity     int
	keepAlive, interval      time.Duration
	maxFile, minFree         int64
	onClose, syncEach        bool
	syncEvery                time.Duration
	encryption               encryption
}

// Limits and defaults of Flume.
const (
	MaxFileSize                = 1623195647 // in bytes; the default as well
	DefaultTransactionCapacity = 10000      // in events
	leastMinFree               = 1 << 20
)

// Default directories, below the home directory.
const (
	homeCheckpoint = "/.flume/file-channel/checkpoint"
	homeData       = "/.flume/file-channel/data"
)

func (c *config) Fields() []component.Field {
	const replayed = "no replay of the whole log is ever needed: a checkpoint says where to begin, and without one a single pass over the files does"
	return append([]component.Field{
		component.String("checkpointDir", &c.checkpointDir, "").AsType("path").AsDefault("${user.home}" + homeCheckpoint).
			Describe("Where the checkpoint is. It is small, and the log can do without."),
		component.CommaList("dataDirs", &c.dataDirs).AsDefault("${user.home}" + homeData).
			Describe("Where the events are, separated by commas. The files go to the directories in turn; on several disks, all of their space is used."),
		component.Bool("useDualCheckpoints", &c.dual, false).
			Describe("Write a second checkpoint to backupCheckpointDir, which is used when the first is damaged. Without either, a recovery reads the whole log."),
		component.String("backupCheckpointDir", &c.backupDir, "").AsType("path").
			Describe("Where the second checkpoint is; not one of the other directories."),
		component.Ignore("compressBackupCheckpoint", "a checkpoint is some hundred bytes long"),
		component.Int("capacity", &c.capacity, 1000000).In("events").Min(1).Lenient().
			Describe("How many events the channel holds, those of open takes and of puts under way included."),
		component.Int("transactionCapacity", &c.txCapacity, DefaultTransactionCapacity).In("events").Min(1).Lenient().
			Describe("The largest batch of one put or take; at most capacity."),
		component.Duration("keep-alive", &c.keepAlive, time.Second, 3*time.Second).Min(0).Lenient().
			Describe("How long a put waits for room and a take for an event."),
		component.Duration("checkpointInterval", &c.interval, time.Millisecond, 30*time.Second).Min(1).Lenient().
			Describe("The longest time between two checkpoints, if anything has changed; less than 1000 counts as 1000. After 128 MiB written or read there is one in any case."),
		component.Int64("maxFileSize", &c.maxFile, MaxFileSize).AsType("bytes").In("bytes").Min(4096).
			Describe("How large a file gets, at most the default. A batch must fit into a file. Space is given back by whole files, the oldest first."),
		component.Int64("minimumRequiredSpace", &c.minFree, 500<<20).AsType("bytes").In("bytes").
			Describe("Puts are refused when less than this is free on every disk of dataDirs; takes go on. Less than 1048576 counts as 1048576."),
		component.Bool("checkpointOnClose", &c.onClose, true).
			Describe("Write a checkpoint when the channel stops."),
		component.Bool("fsyncPerTransaction", &c.syncEach, true).
			Describe("Sync before a put or a commit returns. With false a power cut loses what was put in the last fsyncInterval, and the death of the process alone loses nothing."),
		component.Duration("fsyncInterval", &c.syncEvery, time.Second, 5*time.Second).Min(1).
			Describe("The time between two syncs with fsyncPerTransaction=false."),
		component.Ignore("use-log-replay-v1", replayed),
		component.Ignore("use-fast-replay", replayed),
	}, c.encryption.fields()...)
}

// NewChannel makes the channel.
func (c *config) NewChannel(env component.Env) (component.Channel, error) {
	cfg, err := c.channel(env)
	if err != nil {
		return nil, err
	}
	return New(cfg), nil
}

// Properties are the properties of a channel that has a file channel as its part, and says itself what the part's capacity
// and keep-alive are.
type Properties struct{ c config }

// Fields declares all properties of the file channel but those two.
func (p *Properties) Fields() []component.Field {
	return slices.DeleteFunc(p.c.Fields(), func(f component.Field) bool { return f.Key == "capacity" || f.Key == "keep-alive" })
}

// Config is how to make the part. Its TransactionCapacity may be above capacity: the caller has other parts.
func (p *Properties) Config(env component.Env, capacity int, keepAlive time.Duration) (Config, error) {
	c := p.c
	c.capacity, c.keepAlive = max(capacity, c.txCapacity), keepAlive
	cfg, err := c.channel(env)
	cfg.Capacity = capacity
	return cfg, err
}

// TransactionCapacity is the property's value.
func (p *Properties) TransactionCapacity() int { return p.c.txCapacity }

// channel is the configuration in the form that New takes.
func (c *config) channel(env component.Env) (Config, error) {
	if c.txCapacity > c.capacity {
		return Config{}, &component.KeyError{Key: "transactionCapacity",
			Err:  fmt.Errorf("%d is larger than the capacity, %d", c.txCapacity, c.capacity),
			Hint: "lower it, or raise capacity"}
	}
	cfg := Config{
		Capacity: c.capacity, TransactionCapacity: c.txCapacity, KeepAlive: c.keepAlive,
		MaxFileSize: min(c.maxFile, MaxFileSize), MinFree: max(c.minFree, leastMinFree),
		CheckpointEvery: max(c.interval, time.Second), NoCheckpointOnClose: !c.onClose, Env: env,
	}
	if !c.syncEach {
		cfg.SyncEvery = c.syncEvery
	}
	if c.checkpointDir == "" || len(c.dataDirs) == 0 {
		home, err := javapath.Home(env.Properties)
		if err != nil {
			return Config{}, &component.KeyError{Key: "checkpointDir", Err: err, Hint: "set it, and dataDirs"}
		}
		c.checkpointDir = cmp.Or(c.checkpointDir, home+homeCheckpoint)
		if len(c.dataDirs) == 0 {
			c.dataDirs = []string{home + homeData}
		}
	}
	var err error
	if cfg.Encryption, err = c.encryption.check(env); err != nil {
		return Config{}, err
	}
	used := map[string]string{}
	add := func(key, value string) (string, error) {
		dir, err := filepath.Abs(strings.TrimSpace(value))
		if err == nil && used[dir] != "" {
			err = fmt.Errorf("%s is named by %s already", dir, used[dir])
		}
		if err != nil {
			return "", &component.KeyError{Key: key, Err: err, Hint: "name a directory for each"}
		}
		used[dir] = key
		return dir, nil
	}
	if cfg.CheckpointDir, err = add("checkpointDir", c.checkpointDir); err != nil {
		return Config{}, err
	}
	for _, d := range c.dataDirs {
		dir, err := add("dataDirs", d)
		if err != nil {
			return Config{}, err
		}
		cfg.DataDirs = append(cfg.DataDirs, dir)
	}
	if c.dual {
		if c.backupDir == "" {
			return Config{}, &component.KeyError{Key: "backupCheckpointDir", Err: errors.New("useDualCheckpoints is set, and it is not"), Hint: "name a directory for the second checkpoint"}
		}
		if cfg.BackupDir, err = add("backupCheckpointDir", c.backupDir); err != nil {
			return Config{}, err
		}
	}
	return cfg, nil
}
