package ledger

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/user"
	"path"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/internal/dfs"
	"github.com/sluice-data/sluice/internal/hbase"
)

// Where the handbook's agents put things in Hadoop.
const (
	// collectDir has a partition for each day of collection.
	collectDir   = "/pilot-pjt/collect/car-batch-log"
	DefaultTable = "DriverCarInfo"
	family       = "cf1"
)

// columns of a driving record in HBase, in the order of its fields.
var columns = []string{"date", "car_number", "speed_pedal", "break_pedal", "steer_angle", "direct_light", "speed", "area_number"}

// Hadoop says where a run ends that ends in Hadoop.
type Hadoop struct {
	HDFS  string // hdfs://… or file:///…, below which the handbook's directories are; "": not there
	HBase string // ZooKeeper servers of an HBase, HOST:PORT with commas between; "": not there
	Table string // in HBase
}

// String says in words what ends where.
func (h Hadoop) String() string {
	var parts []string
	if h.HDFS != "" {
		parts = append(parts, "status in "+h.collected())
	}
	if h.HBase != "" {
		parts = append(parts, "driving records in the table "+h.table()+" of the HBase at "+h.HBase)
	}
	return strings.Join(parts, "; ")
}

// callTimeout is the limit of one answer of HDFS, and patience that of HBase until something comes.
const (
	callTimeout = 30 * time.Second
	patience    = 30 * time.Second
)

// Validate names what is no place to end at.
func (h Hadoop) Validate() error {
	if h.HDFS != "" {
		if !strings.HasPrefix(h.HDFS, "hdfs://") && !strings.HasPrefix(h.HDFS, "file:///") {
			return fmt.Errorf("hdfs is %q: give hdfs://HOST:PORT, or file:///DIR for this machine's disk; a directory of your own may follow", h.HDFS)
		}
		// They would mean something in the agent file.
		if i := strings.IndexAny(h.HDFS, "%${}\\ \t\r\n"); i >= 0 {
			return fmt.Errorf("hdfs is %q: an hdfs.path cannot hold the character %q", h.HDFS, h.HDFS[i])
		}
		if err := dfs.Check(h.collected()); err != nil {
			return fmt.Errorf("hdfs: %w", err)
		}
	}
	if h.HBase == "" {
		if h.Table != "" {
			return fmt.Errorf("the table %s needs an HBase to be in", h.Table)
		}
		return nil
	}
	servers, err := hbase.Servers(h.HBase, "2181")
	if err == nil && len(servers) == 0 {
		err = fmt.Errorf("%q names no server", h.HBase)
	}
	if err != nil {
		return fmt.Errorf("hbase: %w", err)
	}
	if !tableName.MatchString(h.table()) {
		return fmt.Errorf("%q is no name of an HBase table", h.Table)
	}
	return nil
}

// tableName is what HBase takes, with or without a namespace.
var tableName = regexp.MustCompile(`^(\w+:)?\w[\w.-]*$`)

func (h Hadoop) table() string { return cmp.Or(h.Table, DefaultTable) }

// collected is the address of the partitions.
func (h Hadoop) collected() string { return strings.TrimRight(h.HDFS, "/") + collectDir }

// Check says what keeps a run from ending there: nothing answers, a directory may not be made, a table is missing, or
// something is there which would be counted with the run's own. It makes the directory of the partitions.
func (h Hadoop) Check(ctx context.Context) error {
	if h.HDFS != "" {
		if err := h.checkHDFS(); err != nil {
			return fmt.Errorf("end in HDFS: %w", err)
		}
	}
	if h.HBase != "" {
		if err := h.checkHBase(ctx); err != nil {
			return fmt.Errorf("end in HBase: %w", err)
		}
	}
	return nil
}

// readable is a file system whose files can be read.
type readable interface {
	dfs.FS
	Open(name string) (io.ReadCloser, error)
}

func (h Hadoop) openHDFS() (readable, string, error) {
	fs, err := dfs.Open(h.collected(), dfs.Options{Log: slog.New(slog.DiscardHandler), CallTimeout: callTimeout})
	if err != nil {
		return nil, "", err
	}
	r, ok := fs.(readable)
	if !ok {
		return nil, "", errors.Join(fmt.Errorf("%s cannot be read back", h.HDFS), fs.Close())
	}
	dir, err := dfs.Resolve(r, h.collected())
	if err != nil {
		return nil, "", errors.Join(err, r.Close())
	}
	return r, dir, nil
}

func (h Hadoop) checkHDFS() (err error) {
	fs, dir, err := h.openHDFS()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	there, err := fs.List(dir)
	if err != nil {
		return err
	}
	if len(there) > 0 {
		return fmt.Errorf("%s is not empty: what is there would be counted with this run's; remove it, or give a directory of your own, as in --hdfs %s/run2", h.collected(), strings.TrimRight(h.HDFS, "/"))
	}
	return fs.MkdirAll(dir)
}

func (h Hadoop) connectHBase() (*hbase.Client, error) {
	servers, err := hbase.Servers(h.HBase, "2181")
	if err != nil {
		return nil, err
	}
	who := os.Getenv("HADOOP_USER_NAME")
	if who == "" {
		u, err := user.Current()
		if err != nil {
			return nil, fmt.Errorf("find out the user: %w; set HADOOP_USER_NAME", err)
		}
		who = u.Username
	}
	return hbase.New(hbase.Config{Quorum: servers, User: who, Timeout: patience}), nil
}

func (h Hadoop) checkHBase(ctx context.Context) error {
	c, err := h.connectHBase()
	if err != nil {
		return err
	}
	defer c.Close()
	filled := false
	err = c.Scan(ctx, h.table(), hbase.Scan{Family: []byte(family), Limit: 1}, func([]hbase.Cell) error { filled = true; return nil })
	create := fmt.Sprintf("create '%s', '%s', {NUMREGIONS => 4, SPLITALGO => 'HexStringSplit'}", h.table(), family)
	switch {
	case errors.Is(err, hbase.ErrNoTable):
		return fmt.Errorf("%w; make it in `hbase shell`:\n  %s", err, create)
	case hbase.Is(err, "NoSuchColumnFamilyException"):
		return fmt.Errorf("the table %s has no column family %s; add it in `hbase shell`:\n  alter '%[1]s', '%[2]s'", h.table(), family)
	case err != nil:
		return err
	case filled:
		return fmt.Errorf("the table %s has rows already, which would be counted with this run's; empty it in `hbase shell`:\n  truncate_preserve '%[1]s'\nor make another one and name it with --hbase-table", h.table())
	}
	return nil
}

// collectedName is a file of the handbook's hdfs sink; with .tmp it was left open by a kill.
var collectedName = regexp.MustCompile(`^car-batch-log\.(\d{1,15})(?:-(\d{1,9}))?\.log(\.tmp)?$`)

var partitionName = regexp.MustCompile(`^wrk_date=(\d{8})$`)

// readHDFS counts the lines of the partitions' files.
func (h Hadoop) readHDFS(ctx context.Context, a *account) (err error) {
	fs, dir, err := h.openHDFS()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, fs.Close()) }()
	partitions, err := fs.List(dir)
	if err != nil {
		return err
	}
	slices.SortFunc(partitions, func(x, y dfs.Entry) int { return cmp.Compare(x.Name, y.Name) })
	for _, p := range partitions {
		m := partitionName.FindStringSubmatch(p.Name)
		if m == nil || !p.Dir {
			return fmt.Errorf("%s/%s is no partition of the form wrk_date=yyyyMMdd", h.collected(), p.Name)
		}
		if err := readPartition(ctx, fs, path.Join(dir, p.Name), m[1], a); err != nil {
			return err
		}
	}
	return nil
}

func readPartition(ctx context.Context, fs readable, dir, day string, a *account) error {
	entries, err := fs.List(dir)
	if err != nil {
		return err
	}
	// In written order: by the milliseconds and the number after them.
	var files []rolled
	for _, e := range entries {
		m := collectedName.FindStringSubmatch(e.Name)
		if m == nil || e.Dir {
			return fmt.Errorf("%s/%s is no file of the agent's", dir, e.Name)
		}
		f := rolled{path: path.Join(dir, e.Name)}
		f.millis, _ = strconv.ParseInt(m[1], 10, 64) // at most 15 digits
		f.nr, _ = strconv.ParseInt(m[2], 10, 64)
		files = append(files, f)
		if m[3] != "" {
			if err := recoverFile(ctx, fs, f.path); err != nil {
				return err
			}
			a.flow.Notes = append(a.flow.Notes, f.path+" was left open by a kill; it counts")
		}
	}
	slices.SortFunc(files, byTime)
	for _, f := range files {
		r, err := fs.Open(f.path)
		if err != nil {
			return err
		}
		err = readLines(r, f.path, 0, a, a.collected(day))
		r.Close() // it was only read
		if err != nil {
			return err
		}
	}
	return nil
}

// recoverTimeout is more than the minute after which HDFS takes a dead writer's file from it.
const recoverTimeout = 2 * time.Minute

// recoverFile ends a file whose writer was killed.
func recoverFile(ctx context.Context, fs dfs.FS, name string) error {
	for end := time.Now().Add(recoverTimeout); ; {
		err := fs.Recover(name)
		if !errors.Is(err, dfs.ErrBusy) || time.Now().After(end) {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(time.Second):
		}
	}
}

// collected is the sorter of a partition's files: a line is a record and the day on which it was collected. At midnight that
// may be the day after the partition's: the interceptors look at the clock one after the other.
func (a *account) collected(day string) sorter {
	next := ""
	if d, err := time.Parse("20060102", day); err == nil {
		next = d.AddDate(0, 0, 1).Format("20060102")
	}
	return func(line []byte) (*account, []byte, string) {
		i := bytes.LastIndexByte(line, ',')
		if got := string(line[i+1:]); i < 0 || got != day && got != next {
			return nil, nil, "the day of its collection, " + day + ", is not behind it"
		}
		return a, line[:i], ""
	}
}

// readHBase counts the rows of the table. A record's row is known by its key, so one that came twice is there once.
func (h Hadoop) readHBase(ctx context.Context, a *account) error {
	c, err := h.connectHBase()
	if err != nil {
		return err
	}
	defer c.Close()
	a.flow.Unordered = true
	return c.Scan(ctx, h.table(), hbase.Scan{}, func(cells []hbase.Cell) error {
		where := func() string { return "row " + quote(cells[0].Row) }
		record, err := recordOf(cells)
		if err != nil {
			a.broken(where, "%v", err)
			return nil
		}
		a.arrive(0, record, where)
		return nil
	})
}

// recordOf makes a driving record of its row again.
func recordOf(row []hbase.Cell) ([]byte, error) {
	fields := make([][]byte, len(columns))
	for _, c := range row {
		i := slices.Index(columns, string(c.Qualifier))
		if string(c.Family) != family || i < 0 {
			return nil, fmt.Errorf("the column %.40q:%.40q is none of a driving record's", c.Family, c.Qualifier)
		}
		fields[i] = c.Value
	}
	for i, f := range fields {
		if f == nil {
			return nil, fmt.Errorf("the column %s is not there", columns[i])
		}
	}
	key := slices.Clone(fields[0])
	slices.Reverse(key)
	key = append(append(key, '-'), fields[1]...)
	if !bytes.Equal(key, row[0].Row) {
		return nil, fmt.Errorf("the key of this record is %.60q", key)
	}
	return bytes.Join(fields, []byte(",")), nil
}
