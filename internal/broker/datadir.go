package broker

import (
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-data/sluice/internal/seglog"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"golang.org/x/sys/unix"
)

// formatVersion is the layout of the data directory. A binary refuses a
// directory with a version it does not know.
const formatVersion = 1

const (
	lockFile    = "lock"
	brokerFile  = "broker.json"
	topicsFile  = "topics.json"
	pidsFile    = "producer-ids.json"
	groupsFile  = "groups.json"
	quotasFile  = "quotas.json"
	configsFile = "broker-configs.json"
	cleanFile   = "clean-shutdown"
	logsDir     = "logs"
)

// dataDir is the broker's directory, held by a lock while it is open.
type dataDir struct {
	path      string
	fs        vfs.FS
	lock      *os.File
	clusterID string
	wasClean  bool // the last broker here stopped in order, or there was none
}

// brokerState is broker.json.
type brokerState struct {
	Format    int    `json:"format"`
	ClusterID string `json:"cluster_id"`
}

func openDataDir(fsys vfs.FS, path string) (_ *dataDir, err error) {
	if err := os.MkdirAll(filepath.Join(path, logsDir), 0o755); err != nil {
		return nil, fmt.Errorf("make data directory: %w", err)
	}
	d := &dataDir{path: path, fs: fsys}
	if d.lock, err = lockDir(filepath.Join(path, lockFile)); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			d.lock.Close()
		}
	}()
	var st brokerState
	found, err := readJSON(filepath.Join(path, brokerFile), &st)
	if err != nil {
		return nil, err
	}
	switch {
	case !found:
		st = brokerState{Format: formatVersion, ClusterID: NewClusterID()}
		if _, err := os.Stat(filepath.Join(path, "meta.properties")); err == nil {
			return nil, foreignDir(path)
		}
		if _, err := os.Stat(filepath.Join(path, topicsFile)); err == nil {
			return nil, fmt.Errorf("data directory %s has %s but no %s: restore it from a copy, or move the directory away", path, topicsFile, brokerFile)
		}
		if err := writeJSON(fsys, filepath.Join(path, brokerFile), st); err != nil {
			return nil, err
		}
		d.wasClean = true
	case st.Format != formatVersion:
		return nil, fmt.Errorf("data directory %s has format %d, this binary reads format %d: use the newer binary that wrote it", path, st.Format, formatVersion)
	case st.ClusterID == "":
		return nil, fmt.Errorf("data directory %s: %s has no cluster_id: restore the file from a copy", path, brokerFile)
	}
	d.clusterID = st.ClusterID
	if err := fsys.Remove(filepath.Join(path, cleanFile)); err == nil {
		d.wasClean = true
		if err := fsys.SyncDir(path); err != nil {
			return nil, fmt.Errorf("remove the mark of a clean stop: %w", err)
		}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the mark of a clean stop: %w", err)
	}
	return d, nil
}

// NewClusterID makes a random id in the form of Apache Kafka's Uuid: URL-safe
// base64 without padding, and no dash first, which tools take for an option.
func NewClusterID() string {
	for {
		var id [16]byte
		rand.Read(id[:])
		id[6], id[8] = id[6]&0x0f|0x40, id[8]&0x3f|0x80 // version 4
		if s := base64.RawURLEncoding.EncodeToString(id[:]); s[0] != '-' {
			return s
		}
	}
}

// ErrFormatted is Format's when the directory has a cluster id already.
var ErrFormatted = errors.New("directory is already formatted")

// Format makes a data directory with a given cluster id. A broker does it
// itself, with an id of its own.
func Format(dir, clusterID string) error {
	if b, err := base64.RawURLEncoding.DecodeString(clusterID); err != nil || len(b) != 16 {
		return &ConfigError{fmt.Errorf("cluster id %q is not 16 bytes in URL-safe base64, as in %s", clusterID, NewClusterID())}
	}
	id, err := ClusterID(dir)
	if err != nil {
		return err
	}
	if id != "" {
		return fmt.Errorf("format %s: %w with the cluster id %s (--ignore-formatted leaves it alone)", dir, ErrFormatted, id)
	}
	if err := os.MkdirAll(filepath.Join(dir, logsDir), 0o755); err != nil {
		return fmt.Errorf("make data directory: %w", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "meta.properties")); err == nil {
		return foreignDir(dir)
	}
	if err := writeJSON(vfs.OS{}, filepath.Join(dir, brokerFile), brokerState{Format: formatVersion, ClusterID: clusterID}); err != nil {
		return err
	}
	return seglog.WriteFile(vfs.OS{}, filepath.Join(dir, cleanFile), nil) // no broker was here that could have stopped otherwise
}

// ClusterID reads the cluster id of a data directory, "" if it has none yet.
func ClusterID(dir string) (string, error) {
	var st brokerState
	_, err := readJSON(filepath.Join(dir, brokerFile), &st)
	return st.ClusterID, err
}

func foreignDir(dir string) error {
	return &ConfigError{fmt.Errorf("directory %s holds the data of an Apache Kafka, in files that this broker does not read: choose another with --data DIR (or --override log.dirs=DIR)", dir)}
}

// lockDir takes the lock. The kernel drops it when the process ends, however
// it ends; the pid in the file is only for the message.
func lockDir(name string) (*os.File, error) {
	f, err := os.OpenFile(name, os.O_RDWR|os.O_CREATE, 0o644)
	if err != nil {
		return nil, fmt.Errorf("open lock of the data directory: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		defer f.Close()
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return nil, fmt.Errorf("lock %s: %w", name, err)
		}
		b := make([]byte, 32)
		n, _ := f.ReadAt(b, 0) // a missing pid only makes the message poorer
		pid := strings.TrimSpace(string(b[:n]))
		if pid == "" {
			pid = "unknown"
		}
		return nil, fmt.Errorf("data directory %s is in use by another broker, pid %s: stop that one or choose another directory", filepath.Dir(name), pid)
	}
	if err := f.Truncate(0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock %s: %w", name, err)
	}
	if _, err := f.WriteAt(fmt.Appendf(nil, "%d\n", os.Getpid()), 0); err != nil {
		f.Close()
		return nil, fmt.Errorf("write lock %s: %w", name, err)
	}
	return f, nil
}

func (d *dataDir) file(name string) string { return filepath.Join(d.path, name) }

func (d *dataDir) partition(topic string, id int32) string {
	return filepath.Join(d.path, logsDir, fmt.Sprintf("%s-%d", topic, id))
}

// close releases the lock. clean leaves the mark that everything was written
// and closed in order.
func (d *dataDir) close(clean bool) error {
	var err error
	if clean {
		err = seglog.WriteFile(d.fs, d.file(cleanFile), nil)
	}
	return errors.Join(err, d.lock.Close())
}

// readJSON reports whether the file exists.
func readJSON(name string, v any) (bool, error) {
	b, err := os.ReadFile(name)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("read broker state: %w", err)
	}
	if err := json.Unmarshal(b, v); err != nil {
		return false, fmt.Errorf("read %s: %w: restore the file from a copy", name, err)
	}
	return true, nil
}

func writeJSON(fsys vfs.FS, name string, v any) error {
	b, err := json.MarshalIndent(v, "", "  ")
	if err != nil {
		return fmt.Errorf("encode %s: %w", filepath.Base(name), err)
	}
	if err := seglog.WriteFile(fsys, name, append(b, '\n')); err != nil {
		return fmt.Errorf("write broker state: %w", err)
	}
	return nil
}

// freeDisk is what an unprivileged process may still write.
func freeDisk(dir string) (int64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, fmt.Errorf("ask for free space of %s: %w", dir, err)
	}
	return int64(st.Bavail) * int64(st.Bsize), nil
}
