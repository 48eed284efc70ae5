package jdbc

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net/url"
	"os"
	"path/filepath"
	"strings"

	"modernc.org/sqlite"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/filelock"
)

const (
	// applicationID marks the file as a channel's ("SLJC"); see PRAGMA application_id.
	applicationID = 0x534c4a43
	// pageSize is SQLite's own, in bytes. (The driver sets a page size only after the journal's mode, when it is too late.)
	pageSize = 4096
	// rowsPerInsert is how many events one statement inserts.
	rowsPerInsert = 16
	// spareSpace is what must be free, beyond what a put needs, so that there is always room to write down that events are gone.
	spareSpace = 32 << 20
	// trimAbove and trimStep are numbers of unused pages: with more of them the file is made shorter when the channel is
	// idle, so many at a time.
	trimAbove, trimStep = 64 << 20 / pageSize, 32 << 20 / pageSize
)

const sqliteTable = `CREATE TABLE events (id INTEGER PRIMARY KEY, headers BLOB, body BLOB NOT NULL)`

// sqliteStore is a file of SQLite.
type sqliteStore struct {
	path   string // absolute
	create bool
	free   func(dir string) (int64, error)
	derby  string // where Flume's would be; "": does not matter
	log    *slog.Logger
	lazy   bool // for tests that are not about the disk: nothing is synced
}

func (s *sqliteStore) String() string { return "SQLite database " + s.path }

// open implements store. Nobody else can have had the file since a session that was lost: the lock is of another file, and
// is given up only with the session.
func (s *sqliteStore) open(ctx context.Context, again bool) (session, error) {
	if s.derby != "" && !again {
		if _, err := os.Stat(filepath.Join(s.derby, "service.properties")); err == nil {
			s.log.Warn("a Flume has left a Derby database, whose events only a Flume can get out: let it drain them, and remove the directory", "dir", s.derby)
		}
	}
	if s.create {
		if err := os.MkdirAll(filepath.Dir(s.path), 0o750); err != nil {
			return nil, fmt.Errorf("make its directory: %w", err)
		}
	}
	lock, err := filelock.Open(s.path + ".lock")
	switch {
	case errors.Is(err, filelock.ErrHeld):
		return nil, fmt.Errorf("it is in use: another channel, of this process or another, holds %s.lock: give each channel a file of its own (driver.url = jdbc:sqlite:PATH), or stop the other", s.path)
	case errors.Is(err, fs.ErrNotExist) && !s.create:
		return nil, s.notThere(err)
	case err != nil:
		return nil, err
	}
	se, err := s.connect(ctx, lock)
	if err != nil {
		return nil, errors.Join(err, se.close())
	}
	return se, nil
}

func (s *sqliteStore) notThere(err error) error {
	return fmt.Errorf("it is not there, and create.schema is false: set that to true, or make the file as docs/jdbc-channel.md says: %w", err)
}

// connect always returns a session, to be closed.
func (s *sqliteStore) connect(ctx context.Context, lock *os.File) (*sqliteSession, error) {
	se := &sqliteSession{store: s, lock: lock}
	flags := os.O_RDWR
	if s.create {
		flags |= os.O_CREATE
	}
	f, err := os.OpenFile(s.path, flags, 0o640) // SQLite would let everybody read it
	if errors.Is(err, fs.ErrNotExist) {
		err = s.notThere(err)
	}
	if err != nil {
		return se, err
	}
	if err := f.Close(); err != nil {
		return se, err
	}
	sync := "FULL"
	if s.lazy {
		sync = "OFF"
	}
	q := url.Values{"_pragma": {
		"busy_timeout(5000)", "auto_vacuum(INCREMENTAL)",
		"journal_mode(WAL)", "synchronous(" + sync + ")", "wal_autocheckpoint(2000)", "journal_size_limit(67108864)"}}
	u := url.URL{Scheme: "file", Path: s.path, RawQuery: q.Encode()}
	if se.db, err = sql.Open("sqlite", u.String()); err != nil {
		return se, err
	}
	if se.w, err = se.db.Conn(ctx); err != nil {
		return se, sqliteError(err)
	}
	if se.r, err = se.db.Conn(ctx); err != nil {
		return se, sqliteError(err)
	}
	if err := se.schema(ctx); err != nil {
		return se, err
	}
	for _, p := range []struct {
		st    **sql.Stmt
		conn  *sql.Conn
		query string
	}{
		{&se.insert, se.w, insertRows(1)},
		{&se.insertMany, se.w, insertRows(rowsPerInsert)},
		{&se.remove, se.w, "DELETE FROM events WHERE id >= ? AND id < ?"},
		{&se.begin, se.w, "BEGIN IMMEDIATE"},
		{&se.commit, se.w, "COMMIT"},
		{&se.rollback, se.w, "ROLLBACK"},
		{&se.query, se.r, "SELECT id, headers, body FROM events WHERE id >= ? AND id < ? ORDER BY id LIMIT ?"},
	} {
		if *p.st, err = p.conn.PrepareContext(ctx, p.query); err != nil {
			return se, sqliteError(err)
		}
	}
	return se, nil
}

func insertRows(n int) string {
	return "INSERT INTO events (id, headers, body) VALUES " + strings.TrimSuffix(strings.Repeat("(?, ?, ?), ", n), ", ")
}

// sqliteSession is an open file.
type sqliteSession struct {
	store *sqliteStore
	lock  *os.File
	db    *sql.DB
	w, r  *sql.Conn

	insert, insertMany, remove, begin, commit, rollback, query *sql.Stmt

	args    []any
	encoded []byte
	names   headers.Names // of read
	hs      []event.KV    // likewise
}

// schema makes the table, or looks whether it is one of ours.
func (se *sqliteSession) schema(ctx context.Context) error {
	var mode string
	if err := se.w.QueryRowContext(ctx, "PRAGMA journal_mode").Scan(&mode); err != nil {
		return sqliteError(err)
	}
	if mode != "wal" {
		return fmt.Errorf("it cannot have a write-ahead log (its journal is %q): put it on a local file system", mode)
	}
	var id, version, tables int64
	for query, v := range map[string]*int64{"PRAGMA application_id": &id, "PRAGMA user_version": &version, "SELECT count(*) FROM sqlite_master": &tables} {
		if err := se.w.QueryRowContext(ctx, query).Scan(v); err != nil {
			return sqliteError(err)
		}
	}
	switch {
	case tables == 0 && !se.store.create:
		return errors.New("it has no tables, and create.schema is false: set that to true, or make them as docs/jdbc-channel.md says")
	case tables == 0:
		_, err := se.w.ExecContext(ctx, fmt.Sprintf("BEGIN IMMEDIATE; %s; PRAGMA application_id = %d; PRAGMA user_version = %d; COMMIT", sqliteTable, applicationID, formatVersion))
		if err != nil {
			return fmt.Errorf("make the table: %w", sqliteError(err))
		}
		return nil
	case id != applicationID:
		return fmt.Errorf("it is another program's (its application_id is %d): name another file", id)
	case version != formatVersion:
		return errFormat(version)
	}
	return nil
}

// sqliteError says what is to be done about an error, and whether the connection is still of use.
func sqliteError(err error) error {
	var e *sqlite.Error
	if !errors.As(err, &e) {
		return err
	}
	switch e.Code() & 0xff { // the rest says more about it
	case 5, 6: // BUSY, LOCKED
		return fmt.Errorf("%w: another program writes to the file, or is in a transaction on it: end that", err)
	case 8: // READONLY
		return fmt.Errorf("%w: file and directory must be writable", err)
	case 10: // IOERR; after a failed sync the file is as the log says that it is
		return &lostError{err}
	case 11, 26: // CORRUPT, NOTADB
		return fmt.Errorf("%w: the file is damaged: move it away, take out of it what there is with the command sqlite3 and its .recover, and start again", err)
	case 13: // FULL
		return fmt.Errorf("%w: puts are refused until there is space", err)
	}
	return err
}

func (se *sqliteSession) census(ctx context.Context) (n, lowest, highest int64, err error) {
	err = se.w.QueryRowContext(ctx, "SELECT count(*), coalesce(min(id), 0), coalesce(max(id), 0) FROM events").Scan(&n, &lowest, &highest)
	return n, lowest, highest, sqliteError(err)
}

func (se *sqliteSession) has(ctx context.Context, id int64) (there bool, err error) {
	err = se.w.QueryRowContext(ctx, "SELECT EXISTS (SELECT 1 FROM events WHERE id = ?)", id).Scan(&there)
	return there, sqliteError(err)
}

// write implements session. A context that can end would cost a goroutine for each statement, and none of them can be
// waited for without harm; what can hang is the disk.
func (se *sqliteSession) write(ctx context.Context, changes []*change) error {
	if err := se.space(changes); err != nil {
		return err
	}
	bg := context.WithoutCancel(ctx)
	if _, err := se.begin.ExecContext(bg); err != nil {
		if isPlain(err) { // a transaction is open that should not be
			return &lostError{err}
		}
		return sqliteError(err)
	}
	err := se.make(bg, changes)
	if err == nil {
		_, err = se.commit.ExecContext(bg)
	}
	if err == nil {
		return nil
	}
	_, _ = se.rollback.ExecContext(bg) // SQLite may have done it
	return sqliteError(err)
}

// isPlain says that SQLite has no other word for it than "error".
func isPlain(err error) bool {
	var e *sqlite.Error
	return errors.As(err, &e) && e.Code()&0xff == 1
}

// space makes sure that after a put there is still room for takes.
func (se *sqliteSession) space(changes []*change) error {
	var need int64
	for _, c := range changes {
		for i := range c.put {
			need += int64(size(&c.put[i])) + 16
		}
	}
	if need == 0 {
		return nil
	}
	need = 2*need + spareSpace // in the write-ahead log, then in the file
	dir := filepath.Dir(se.store.path)
	free, err := se.store.free(dir)
	if err != nil {
		return err
	}
	if free < need {
		return fmt.Errorf("the disk is full: %s has %d MiB free, and a put needs %d: puts are refused until there is space, takes go on", dir, free>>20, need>>20)
	}
	return nil
}

func (se *sqliteSession) make(ctx context.Context, changes []*change) error {
	for _, c := range changes {
		for _, s := range c.remove {
			if _, err := se.remove.ExecContext(ctx, s.first, s.end); err != nil {
				return err
			}
		}
		for n := 0; n < len(c.put); {
			st, rows := se.insert, 1
			if len(c.put)-n >= rowsPerInsert {
				st, rows = se.insertMany, rowsPerInsert
			}
			se.args, se.encoded = se.args[:0], se.encoded[:0]
			for i := range rows {
				se.bind(c.first+int64(n+i), &c.put[n+i])
			}
			if _, err := st.ExecContext(ctx, se.args...); err != nil {
				return err
			}
			n += rows
		}
	}
	return nil
}

// bind adds the values of one row.
func (se *sqliteSession) bind(id int64, e *event.Event) {
	var hs any
	if len(e.Headers) > 0 {
		from := len(se.encoded)
		se.encoded = headers.Append(se.encoded, e.Headers)
		hs = se.encoded[from:len(se.encoded):len(se.encoded)]
	}
	body := e.Body
	if body == nil {
		body = []byte{}
	}
	se.args = append(se.args, id, hs, body)
}

func (se *sqliteSession) read(_ context.Context, s span, limit int, b *event.Batch, ids []int64) (_ []int64, err error) {
	rows, err := se.query.QueryContext(context.Background(), s.first, s.end, limit)
	if err != nil {
		return ids, sqliteError(err)
	}
	defer func() { err = errors.Join(err, sqliteError(rows.Close())) }()
	for bytes := 0; bytes < readBytes && rows.Next(); {
		var id int64
		var encoded, body sql.RawBytes
		if err := rows.Scan(&id, &encoded, &body); err != nil {
			return ids, sqliteError(err)
		}
		if se.hs, err = appendRow(b, id, encoded, body, &se.names, se.hs); err != nil {
			return ids, err
		}
		ids = append(ids, id)
		bytes += len(encoded) + len(body)
	}
	return ids, sqliteError(rows.Err())
}

// appendRow adds a row to b. hs is room for headers.
func appendRow(b *event.Batch, id int64, encoded, body []byte, names *headers.Names, hs []event.KV) ([]event.KV, error) {
	hs = hs[:0]
	if len(encoded) > 0 {
		var rest []byte
		var err error
		if hs, rest, err = headers.Parse(encoded, names, hs); err == nil && len(rest) > 0 {
			err = fmt.Errorf("%d bytes are left", len(rest))
		}
		if err != nil {
			return hs, fmt.Errorf("the headers of the event with the id %d are damaged: %w: delete or mend that row", id, err)
		}
	}
	b.AppendEvent(body, hs)
	return hs, nil
}

// idle gives space back that a large backlog has left in the file.
func (se *sqliteSession) idle(ctx context.Context) error {
	var unused int64
	if err := se.w.QueryRowContext(ctx, "PRAGMA freelist_count").Scan(&unused); err != nil {
		return sqliteError(err)
	}
	if unused <= trimAbove {
		return nil
	}
	rows, err := se.w.QueryContext(ctx, fmt.Sprintf("PRAGMA incremental_vacuum(%d)", trimStep))
	if err != nil {
		return sqliteError(err)
	}
	for rows.Next() {
	}
	return sqliteError(errors.Join(rows.Err(), rows.Close()))
}

func (se *sqliteSession) close() error {
	var err error
	for _, c := range []*sql.Conn{se.r, se.w} {
		if c != nil {
			err = errors.Join(err, c.Close())
		}
	}
	if se.db != nil {
		err = errors.Join(err, se.db.Close())
	}
	return errors.Join(err, se.lock.Close())
}
