// Package dfs writes files on the file systems that an hdfs.path can name: HDFS
// itself, the local one, and S3.
package dfs

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/url"
	"path"
	"strings"
	"time"
)

// FS is a file system. Paths begin with a slash, or are as Resolve makes them. It is safe for concurrent use.
//
// Errors wrap fs.ErrExist, fs.ErrNotExist, fs.ErrPermission, ErrQuota and ErrName where
// they mean that.
type FS interface {
	// Create makes a new file and the directories above it.
	Create(name string) (File, error)
	// Rename gives a file its other name, which nobody may have unless it is
	// the same. ErrBusy says
	// that this is under way: it is to be called again.
	Rename(from, to string) error
	// Remove deletes a file, also one that is open.
	Remove(name string) error
	// List returns what is in a directory; nothing where there is none.
	List(dir string) ([]Entry, error)
	// MkdirAll makes a directory and those above it.
	MkdirAll(dir string) error
	// Recover ends a file that a process which is gone, or Abort, left open.
	// ErrBusy says that this is under way, or that somebody writes to it:
	// try again later.
	Recover(name string) error
	// Trim cuts off what follows the last line end of a file that nobody
	// writes to. ErrBusy says that this is under way: it is to be called again
	// after Recover.
	Trim(name string) error
	// Home is the directory at which paths without a slash in front begin; "" is that of the process.
	Home() string
	// Close lets go of connections. Files must have been closed before.
	Close() error
}

// Entry is something in a directory.
type Entry struct {
	Name string
	Dir  bool
}

// File is a file that is being written, by one goroutine.
type File interface {
	// Write may hold bytes back until Flush.
	io.Writer
	// Flush returns when what was written survives the end of this process:
	// on HDFS, when all data nodes have it (hflush).
	Flush() error
	// Err tells of what has broken since the last Flush, while nothing was written.
	Err() error
	// Close flushes and ends the file. After an error it may be called again.
	Close() error
	// Abort gives up a file after an error. What was flushed stays; Recover
	// makes it a file as others are.
	Abort()
}

// ErrQuota is in the errors of a directory that takes nothing more.
var ErrQuota = errors.New("the quota is used up")

// ErrName is in the errors of a name that no file can have there: it is too long, or leads through what is no directory.
var ErrName = errors.New("the file system takes no such name")

// ErrBusy is in the errors of Recover and Rename.
var ErrBusy = errors.New("the file is not closed yet")

// Options are what file systems need to know.
type Options struct {
	Log         *slog.Logger
	CallTimeout time.Duration // of one call to a server; 0: none
	User        string        // who the files belong to; "": HADOOP_USER_NAME, or whoever runs the process
	Principal   string        // Kerberos; "": none
	Keytab      string
	ConfDir     string // of Hadoop's XML files; "": HADOOP_CONF_DIR, or none
	Krb5Conf    string // "": KRB5_CONFIG, or /etc/krb5.conf
	// S3 are settings of Hadoop's S3A without fs.s3a. before them; they go before those in core-site.xml.
	S3        map[string]string
	BufferDir string // of S3, without the setting buffer.dir
}

// Open opens the file system of an address such as hdfs://namenode:8020/logs.
// Without a scheme it is that of fs.defaultFS, and without such a setting the
// local one.
func Open(address string, o Options) (FS, error) {
	u, err := parse(address)
	if err != nil {
		return nil, err
	}
	conf, err := loadConf(o.ConfDir)
	if err != nil {
		return nil, err
	}
	if u.Scheme == "" {
		base := conf["fs.defaultFS"]
		if base == "" {
			base = conf["fs.default.name"]
		}
		if base != "" {
			b, err := url.Parse(base)
			if err != nil {
				return nil, fmt.Errorf("fs.defaultFS: %w", err)
			}
			u.Scheme, u.Host = b.Scheme, b.Host
		}
	}
	switch u.Scheme {
	case "", "file":
		if u.Host != "" && u.Host != "localhost" {
			return nil, fmt.Errorf("%s names the host %q; a local path has three slashes: file:///…", address, u.Host)
		}
		return Local{}, nil
	case "hdfs":
		return openHDFS(u.Host, conf, o)
	case "s3a", "s3":
		return openS3(u.Host, o, conf)
	}
	return nil, unsupported(address, u.Scheme)
}

func unsupported(address, scheme string) error {
	return fmt.Errorf("%s: the file system %q is not supported; hdfs, file and s3a are", address, scheme)
}

// Check finds fault with an address before anything is connected to.
func Check(address string) error {
	u, err := parse(address)
	if err != nil {
		return err
	}
	switch u.Scheme {
	case "", "file", "hdfs", "s3a", "s3":
	default:
		return unsupported(address, u.Scheme)
	}
	if strings.Contains(u.Host, "%") {
		return fmt.Errorf("%s: one sink writes to one file system: escapes can be in the path only", address)
	}
	return nil
}

// parse is url.Parse that takes the path as it is: a % in it is no escape.
func parse(address string) (*url.URL, error) {
	u := &url.URL{Path: address}
	if scheme, rest, ok := cutScheme(address); ok {
		u.Scheme, u.Path = scheme, rest
		if after, ok := strings.CutPrefix(rest, "//"); ok {
			u.Host, u.Path = cutHost(after)
		}
	}
	switch {
	case u.Path == "" && u.Scheme == "":
		return nil, errors.New("the path is empty")
	case u.Scheme != "" && !strings.HasPrefix(u.Path, "/"): // as in Hadoop
		return nil, fmt.Errorf("%q has no absolute path", address)
	}
	return u, nil
}

// Resolve is the path of an address on the file system that Open opened for it.
func Resolve(f FS, address string) (string, error) {
	u, err := parse(address)
	if err != nil {
		return "", err
	}
	if strings.HasPrefix(u.Path, "/") {
		return u.Path, nil
	}
	return path.Join(f.Home(), u.Path), nil
}

// Split takes an address apart: what names the file system, and the path.
func Split(address string) (fs, path string, err error) {
	u, err := parse(address)
	if err != nil {
		return "", "", err
	}
	return address[:len(address)-len(u.Path)], u.Path, nil
}
