package hive

import (
	"context"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/bucket"
	"github.com/sluice-data/sluice/internal/dfs"
	"github.com/sluice-data/sluice/internal/javapath"
	"github.com/sluice-data/sluice/internal/metastore"
)

// catalog is the metastore.
type catalog interface {
	Table(ctx context.Context, db, table string) (*metastore.Table, error)
	Partition(ctx context.Context, db, table, name string) (*metastore.Storage, error)
	AddPartition(ctx context.Context, db, table, name string) (*metastore.Storage, error)
	Locations(ctx context.Context, db, table string) ([]string, error)
	Close() error
}

// warehouse is what the metastore has said of the table and its partitions.
type warehouse struct {
	table  *metastore.Table // nil: not asked yet
	until  time.Time        // it is asked again after that
	places map[string]*place
	search *search
}

// place is where and how rows of a partition are written.
type place struct {
	volume *volume
	target bucket.Target
	cols   []column
	format format
	parser parser
	until  time.Time
}

// volume is a file system and the open files on it.
type volume struct {
	*bucket.Set
	fs       dfs.FS
	searched map[string]bool // directories that are looked through for what a process before this one left
}

// look makes sure that the table is known, and fit for the sink.
func (s *sink) look(ctx context.Context) error {
	now := s.clock()
	if s.table != nil && now.Before(s.until) {
		return nil
	}
	t, err := s.meta.Table(ctx, s.database, s.tableName)
	if err == nil {
		err = s.fit(t)
	}
	switch {
	case errors.Is(err, metastore.ErrNotFound):
		return fmt.Errorf("%w; create it, or correct hive.database and hive.table", err)
	case err != nil:
		return err
	}
	first := s.table == nil
	for k, p := range s.places {
		if !now.Before(p.until) {
			delete(s.places, k)
		}
	}
	s.table, s.until = t, now.Add(fresh)
	if !first {
		return nil
	}
	s.places = map[string]*place{}
	v, dir, err := s.volume(t.Location)
	if err != nil {
		return err
	}
	v.reclaim(dir)
	if len(t.Keys) > 0 {
		s.startSearch()
	}
	return nil
}

const wayRound = "let the sink fill a table of the same columns that is plain (CREATE EXTERNAL TABLE … STORED AS TEXTFILE), and INSERT INTO this one SELECT from that"

// fit says why a table cannot be written.
func (s *sink) fit(t *metastore.Table) error {
	name := s.database + "." + s.tableName
	if strings.HasSuffix(t.Type, "_VIEW") {
		return fmt.Errorf("%s is a view: name its table in hive.table", name)
	}
	if strings.EqualFold(t.Properties["transactional"], "true") {
		return fmt.Errorf("%s is a transactional (ACID) table, into which files cannot be put: %s", name, wayRound)
	}
	if h := t.Properties["storage_handler"]; h != "" {
		return fmt.Errorf("the rows of %s are kept by %s and not in files: %s", name, short(h), wayRound)
	}
	if len(t.Buckets) > 0 {
		return fmt.Errorf("%s is bucketed (CLUSTERED BY %s): %s", name, strings.Join(t.Buckets, ", "), wayRound)
	}
	for _, k := range []string{"skip.header.line.count", "skip.footer.line.count"} {
		if n := t.Properties[k]; n != "" && n != "0" {
			return fmt.Errorf("%s has %s = %s: Hive would leave out rows of each file; ALTER TABLE %s UNSET TBLPROPERTIES ('%s')", name, k, n, name, k)
		}
	}
	if _, err := s.rowsOf(&t.Storage); err != nil {
		return fmt.Errorf("table %s: %w", name, err)
	}
	if len(t.Keys) != len(s.values) {
		var keys []string
		for _, k := range t.Keys {
			keys = append(keys, k.Name)
		}
		return fmt.Errorf("table %s is partitioned by %d columns (%s), and hive.partition has %d values", name, len(keys), strings.Join(keys, ", "), len(s.values))
	}
	return nil
}

// rowsOf is how rows are made and written.
func (s *sink) rowsOf(st *metastore.Storage) (*place, error) {
	cols, f, err := newFormat(st)
	if err != nil {
		return nil, err
	}
	p, err := s.ser.parser(cols)
	return &place{cols: cols, format: f, parser: p}, err
}

// place finds the place of a partition, and registers the partition if need be.
func (s *sink) place(ctx context.Context, key string) (*place, error) {
	now := s.clock()
	if p := s.places[key]; p != nil && now.Before(p.until) {
		return p, nil
	}
	st, what := &s.table.Storage, "table"
	if len(s.values) > 0 {
		name := metastore.PartitionName(s.table.Keys, strings.Split(strings.TrimSuffix(key, "\x00"), "\x00"))
		what = "partition " + name
		for dir := range strings.SplitSeq(name, "/") {
			if len(dir) > maxElement {
				return nil, component.Permanent(fmt.Errorf("find the partition for an event: its directory %.100q… would have a name of %d bytes, and %d are possible", dir, len(dir), maxElement))
			}
		}
		var err error
		if st, err = s.partition(ctx, name); err != nil {
			return nil, err
		}
	}
	p, err := s.rowsOf(st)
	if err != nil {
		return nil, fmt.Errorf("%s of %s.%s: %w", what, s.database, s.tableName, err)
	}
	v, dir, err := s.volume(st.Location)
	if err != nil {
		return nil, err
	}
	v.reclaim(dir)
	p.volume, p.target, p.until = v, bucket.Target{Dir: dir, Prefix: filePrefix}, now.Add(fresh)
	s.places[key] = p
	return p, nil
}

func (s *sink) partition(ctx context.Context, name string) (*metastore.Storage, error) {
	db, table := s.database, s.tableName
	st, err := s.meta.Partition(ctx, db, table, name)
	if !errors.Is(err, metastore.ErrNotFound) {
		return st, err
	}
	if !s.autoCreate {
		return nil, fmt.Errorf("%w; add it (ALTER TABLE … ADD PARTITION), or set autoCreatePartitions = true", err)
	}
	st, err = s.meta.AddPartition(ctx, db, table, name)
	if errors.Is(err, metastore.ErrExists) { // another sink was faster
		return s.meta.Partition(ctx, db, table, name)
	}
	if err == nil {
		s.env.Log.Info("a partition has been added", "table", db+"."+table, "partition", name, "location", st.Location)
	}
	return st, err
}

// volume is the file system of a location.
func (s *sink) volume(location string) (*volume, string, error) {
	name, dir, err := dfs.Split(location)
	if err != nil {
		return nil, "", fmt.Errorf("location %q: %w", location, err)
	}
	v := s.volumes[name]
	if v == nil {
		if v, err = s.open(location, s); err != nil {
			return nil, "", fmt.Errorf("open %s: %w", location, err)
		}
		s.volumes[name] = v
	}
	return v, path.Clean(dir), nil
}

func openVolume(address string, s *sink) (*volume, error) {
	buffer := ""
	if home, err := javapath.Home(s.env.Properties); err == nil {
		buffer = filepath.Join(home, ".flume", "s3a")
	}
	fs, err := dfs.Open(address, dfs.Options{Log: s.env.Log, CallTimeout: s.callTimeout, BufferDir: buffer})
	if err != nil {
		return nil, err
	}
	return s.newVolume(fs), nil
}

func (s *sink) newVolume(fs dfs.FS) *volume {
	cfg := s.buckets
	cfg.FS = fs
	return &volume{bucket.New(cfg), fs, map[string]bool{}}
}

// reclaim looks through a directory, once, for files that a process before this one left.
func (v *volume) reclaim(dir string) {
	for d := dir; ; d = path.Dir(d) {
		if v.searched[d] {
			return
		}
		if d == path.Dir(d) {
			break
		}
	}
	v.searched[dir] = true
	v.Reclaim(dir, func(prefix string) bool { return prefix == filePrefix })
}

// search asks, in the background, for the locations of all partitions: those outside of the table's directory are looked
// through as well.
type search struct {
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu    sync.Mutex
	found []string
}

func (s *sink) startSearch() {
	ctx, cancel := context.WithCancel(context.Background())
	f := &search{cancel: cancel}
	s.search = f
	f.wg.Go(func() {
		for {
			found, err := s.meta.Locations(ctx, s.database, s.tableName)
			if err == nil {
				f.mu.Lock()
				f.found = found
				f.mu.Unlock()
				return
			}
			select {
			case <-ctx.Done():
				return
			case <-time.After(10 * time.Second):
			}
		}
	})
}

func (s *sink) stopSearch() {
	if s.search != nil {
		s.search.cancel()
		s.search.wg.Wait()
		s.search = nil
	}
}

// searchFound goes on with what the search has found.
func (s *sink) searchFound() {
	if s.search == nil {
		return
	}
	s.search.mu.Lock()
	found := s.search.found
	s.search.found = nil
	s.search.mu.Unlock()
	for _, location := range found {
		v, dir, err := s.volume(location)
		if err != nil {
			s.env.Log.Warn("a partition's directory cannot be looked through for files that a process before this one left behind", "location", location, "err", err)
			continue
		}
		v.reclaim(dir)
	}
}
