package file

import (
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

const (
	// lockName is Flume's, so that a Flume and a Sluice never work on one directory.
	lockName = "in_use.lock"
	// markFile says whose directory it is.
	markFile = "channel.json"
	// damagedExt is the ending of files with bytes that are no frames.
	damagedExt = ".damaged"
)

func checkpointPath(dir string) string { return filepath.Join(dir, checkpointFile) }

// dirLock is held while a channel has a directory. The system drops it when the process ends, however it ends.
type dirLock struct{ f *os.File }

func (l *dirLock) release() error {
	if err := l.f.Close(); err != nil {
		return fmt.Errorf("give up the lock: %w", err)
	}
	return nil
}

// lockDir takes the lock of a directory. The lock is outside of vfs: it is nothing that has to last.
func lockDir(dir string) (*dirLock, error) {
	name := filepath.Join(dir, lockName)
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open the lock of the directory: %w", err)
	}
	switch held, err := tryLock(f); {
	case err != nil:
		f.Close()
		return nil, fmt.Errorf("lock %s: %w", name, err)
	case held:
		f.Close()
		return nil, fmt.Errorf("directory %s is in use: another channel, of this process or another (a Flume counts as well), holds %s: give each channel directories of its own, or stop the other", dir, lockName)
	}
	return &dirLock{f}, nil
}

// mark is markFile. The list of directories is in the one of the checkpoint's directory only, which is written last.
type dirMark struct {
	Format   int      `json:"format"`
	Channel  string   `json:"channel"`
	DataDirs []string `json:"dataDirs,omitempty"`
}

func readMark(fsys vfs.FS, dir string) (*dirMark, error) {
	path := filepath.Join(dir, markFile)
	b, err := seglog.ReadFile(fsys, path, 1<<20)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var m dirMark
	if err := json.Unmarshal(b, &m); err != nil {
		return nil, fmt.Errorf("read %s: %w: restore it from the one of another of the channel's directories", path, err)
	}
	if m.Format != formatVersion {
		return nil, fmt.Errorf("%s: format %d, this binary knows %d: %w", path, m.Format, formatVersion, errVersion)
	}
	if b, err := hex.DecodeString(m.Channel); err != nil || len(b) != len(channelID{}) {
		return nil, fmt.Errorf("%s: %q is not the id of a channel: restore it from the one of another of the channel's directories", path, m.Channel)
	}
	return &m, nil
}

func writeMark(fsys vfs.FS, dir string, m dirMark) error {
	old, err := readMark(fsys, dir)
	if err != nil {
		return err
	}
	if old != nil && old.Channel == m.Channel && slices.Equal(old.DataDirs, m.DataDirs) {
		return nil
	}
	b, err := json.MarshalIndent(m, "", "  ")
	if err != nil {
		return err
	}
	return seglog.WriteFile(fsys, filepath.Join(dir, markFile), append(b, '\n'))
}

// identify reads whose the directories are: the id, or the zero id if they are nobody's yet.
func (c *Config) identify() (id channelID, err error) {
	owner := ""
	note := func(dir string, m *dirMark) error {
		if m == nil {
			return nil
		}
		if owner != "" && hex.EncodeToString(id[:]) != m.Channel {
			return fmt.Errorf("%s and %s belong to different channels (%s and %x): check checkpointDir and dataDirs", owner, dir, m.Channel, id)
		}
		owner = dir
		_, err := hex.Decode(id[:], []byte(m.Channel))
		return err
	}
	check, err := readMark(c.FS, c.CheckpointDir)
	if err == nil {
		err = note(c.CheckpointDir, check)
	}
	if err != nil {
		return id, err
	}
	marked := map[string]bool{}
	for _, dir := range c.DataDirs {
		m, err := readMark(c.FS, dir)
		if err == nil {
			err = note(dir, m)
		}
		if err != nil {
			return id, err
		}
		marked[dir] = m != nil
	}
	if check == nil {
		return id, nil
	}
	for _, dir := range check.DataDirs {
		if has, configured := marked[dir]; configured && !has {
			return id, fmt.Errorf("data directory %s has lost its %s: is the disk mounted? (If its events are really gone, remove %s and start again)",
				dir, markFile, filepath.Join(c.CheckpointDir, markFile))
		} else if configured {
			continue
		}
		switch segs, err := seglog.List(c.FS, dir, segmentExt); {
		case errors.Is(err, fs.ErrNotExist):
		case err != nil:
			return id, fmt.Errorf("look into %s, which is no longer among the dataDirs: %w", dir, err)
		case len(segs) > 0:
			return id, fmt.Errorf("%s is no longer among the dataDirs, and holds %d files with events: add it again, or move them to another of the dataDirs", dir, len(segs))
		}
	}
	return id, nil
}

// mark marks all directories as the channel's.
func (c *Config) mark(id channelID) error {
	m := dirMark{Format: formatVersion, Channel: hex.EncodeToString(id[:])}
	for _, dir := range c.DataDirs {
		if err := writeMark(c.FS, dir, m); err != nil {
			return err
		}
	}
	m.DataDirs = c.DataDirs
	return writeMark(c.FS, c.CheckpointDir, m)
}

// clean removes what an interrupted deletion or replacement left behind, and nothing that is not the channel's.
func clean(fsys vfs.FS, dir string) error {
	entries, err := fsys.List(dir)
	if err != nil {
		return fmt.Errorf("list %s: %w", dir, err)
	}
	for _, e := range entries {
		switch name := e.Name(); {
		case strings.HasSuffix(name, segmentExt+".deleted"), strings.HasSuffix(name, segmentExt+".tmp"), name == checkpointFile+".tmp", name == markFile+".tmp", name == importedFile+".tmp":
			if err := fsys.Remove(filepath.Join(dir, name)); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return fmt.Errorf("remove left-over file: %w", err)
			}
		}
	}
	return nil
}

func damagedName(segment string, from int64) string {
	return fmt.Sprintf("%s.%d%s", segment, from, damagedExt)
}

// keepDamaged copies bytes of a segment into a file beside it, once, and returns its name.
func keepDamaged(fsys vfs.FS, seg *segment, from, to int64) (string, error) {
	name := damagedName(seg.file.Path(), from)
	f, err := fsys.Open(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
	if errors.Is(err, fs.ErrExist) {
		return name, nil
	}
	if err != nil {
		return "", fmt.Errorf("keep damaged bytes: %w", err)
	}
	buf := make([]byte, min(to-from, 1<<20))
	for at := from; at < to && err == nil; at += int64(len(buf)) {
		buf = buf[:min(to-at, int64(len(buf)))]
		if err = readFull(seg, buf, at); err == nil {
			_, err = f.WriteAt(buf, at-from)
		}
	}
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err == nil {
		err = fsys.SyncDir(filepath.Dir(name))
	}
	if err != nil {
		return "", errors.Join(fmt.Errorf("keep damaged bytes of %s: %w", seg.file.Path(), err), fsys.Remove(name))
	}
	return name, nil
}
