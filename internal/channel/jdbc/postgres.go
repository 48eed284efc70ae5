package jdbc

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"log/slog"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/headers"
)

// chunkBytes and chunkEvents are where one INSERT ends.
const (
	chunkBytes  = 4 << 20
	chunkEvents = 10000
)

// postgresStore is a table of PostgreSQL.
type postgresStore struct {
	config        *pgconn.Config
	schema, table string
	create        bool
	log           *slog.Logger

	owner string // what this process has written into the list of channels
	// The connection that writes, to end it should the server think that it is still there when it is not.
	pid     uint32
	started string
}

func (s *postgresStore) String() string {
	return fmt.Sprintf("PostgreSQL %s:%d/%s table %s", s.config.Host, s.config.Port, s.config.Database, s.name())
}

// quote makes an identifier of any text.
func quote(s string) string { return `"` + strings.ReplaceAll(s, `"`, `""`) + `"` }

func (s *postgresStore) name() string { return quote(s.schema) + "." + quote(s.table) }

// channels is the list of channels.
func (s *postgresStore) channels() string { return quote(s.schema) + "." + quote("sluice_channels") }

// ddl makes what is missing, in this order.
func (s *postgresStore) ddl() [3]string {
	return [3]string{
		"CREATE SCHEMA " + quote(s.schema),
		"CREATE TABLE " + s.channels() + " (name text PRIMARY KEY, format integer NOT NULL, owner text NOT NULL)",
		"CREATE TABLE " + s.name() + " (id bigint PRIMARY KEY, headers bytea, body bytea NOT NULL)",
	}
}

// open implements store. The lock belongs to the connection that writes: when it is to be had, every earlier connection
// that had it is gone, and what it was about is done or undone.
func (s *postgresStore) open(ctx context.Context, again bool) (session, error) {
	if !again {
		s.owner = ""
	}
	se := &postgresSession{store: s}
	if err := se.connect(ctx); err != nil {
		return nil, errors.Join(postgresError(err), se.close())
	}
	return se, nil
}

// postgresSession is a connection that has the lock, and one that reads.
type postgresSession struct {
	store *postgresStore
	w     *pgconn.PgConn
	r     *pgconn.PgConn // nil: not there, or not any more

	buf, rows []byte
	names     headers.Names // of read
	hs        []event.KV    // likewise
}

// postgresError says what is to be done about an error, and whether the connection is still of use.
func postgresError(err error) error {
	if err == nil || isLost(err) {
		return err
	}
	var e *pgconn.PgError
	if !errors.As(err, &e) {
		return &lostError{err} // of the network
	}
	switch {
	case e.Code == "28P01" || e.Code == "28000":
		return &lostError{fmt.Errorf("%w: look at db.username and db.password, and at the server's pg_hba.conf", err)}
	case e.Code == "3D000":
		return &lostError{fmt.Errorf("%w: create it, or name another in driver.url", err)}
	case e.SeverityUnlocalized == "FATAL" || e.SeverityUnlocalized == "PANIC" || strings.HasPrefix(e.Code, "08") || strings.HasPrefix(e.Code, "57P"):
		return &lostError{err}
	case e.Code == "40001" || e.Code == "40P01": // serialization failure, deadlock
		return &againError{err}
	case e.Code == "25006":
		return fmt.Errorf("%w: the server or the user may only read: connect to the primary, or look at default_transaction_read_only", err)
	case e.Code == "53100":
		return fmt.Errorf("%w: the server's disk is full: puts are refused until there is space", err)
	case e.Code == "42501":
		return fmt.Errorf("%w: grant it to the user, or have its owner make the tables (docs/jdbc-channel.md)", err)
	case e.Code == "42P01" || e.Code == "3F000":
		return fmt.Errorf("%w: the table was dropped, or is in another schema", err)
	}
	return err
}

func (se *postgresSession) connect(ctx context.Context) (err error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	s := se.store
	if se.w, err = pgconn.ConnectConfig(ctx, s.config); err != nil {
		return err
	}
	if v, err := se.value(ctx, "SELECT pg_is_in_recovery()"); err != nil {
		return err
	} else if v == "t" {
		return errors.New("the server is a standby, which cannot be written to: connect to the primary (several hosts in the URL and targetServerType=primary find it)")
	}
	if err := se.lock(ctx); err != nil {
		return err
	}
	s.pid = se.w.PID()
	if s.started, err = se.value(ctx, "SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"); err != nil {
		return err
	}
	if err := se.makeTables(ctx); err != nil {
		return err
	}
	if err := se.own(ctx); err != nil {
		return err
	}
	if err := se.durability(ctx); err != nil {
		return err
	}
	for name, query := range map[string]string{
		"put":    "INSERT INTO " + s.name() + " (id, headers, body) SELECT $1::bigint + u.n - 1, u.h, u.b FROM unnest($2::bytea[], $3::bytea[]) WITH ORDINALITY AS u(h, b, n)",
		"remove": "DELETE FROM " + s.name() + " WHERE id >= $1 AND id < $2",
		"has":    "SELECT 1 FROM " + s.name() + " WHERE id = $1",
	} {
		if _, err := se.w.Prepare(ctx, name, query, nil); err != nil {
			return err
		}
	}
	return nil
}

// value runs a query that returns one value; "" if there is no row, or it is null.
func (se *postgresSession) value(ctx context.Context, query string, params ...string) (string, error) {
	var ps [][]byte
	for _, p := range params {
		ps = append(ps, []byte(p))
	}
	res := se.w.ExecParams(ctx, query, ps, nil, nil, nil).Read()
	if res.Err != nil || len(res.Rows) == 0 {
		return "", res.Err
	}
	return string(res.Rows[0][0]), nil
}

// lock takes the table, or says who has it.
func (se *postgresSession) lock(ctx context.Context) error {
	s := se.store
	h := fnv.New64a()
	io.WriteString(h, "sluice jdbc channel\x00"+s.schema+"\x00"+s.table)
	key := strconv.FormatInt(int64(h.Sum64()), 10)
	for try := 0; ; try++ {
		got, err := se.value(ctx, "SELECT pg_try_advisory_lock($1::bigint)", key)
		if err != nil || got == "t" {
			return err
		}
		if s.pid != 0 {
			// This process had it: then it may be a connection that the server has not yet seen to be broken.
			if _, err := se.value(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = $1::integer AND backend_start = $2::timestamptz", strconv.Itoa(int(s.pid)), s.started); err != nil {
				return err
			}
		}
		if try == 20 { // a process that was killed just now may have had it
			who, err := se.value(ctx, `SELECT format('process %s of the server, %s from %s, since %s', a.pid, a.application_name, coalesce(host(a.client_addr), 'a local socket'), date_trunc('second', a.backend_start))
				FROM pg_locks l JOIN pg_stat_activity a USING (pid)
				WHERE l.locktype = 'advisory' AND l.granted AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
				AND l.classid = (($1::bigint >> 32) & 4294967295)::oid AND l.objid = ($1::bigint & 4294967295)::oid AND l.objsubid = 1`, key)
			if err != nil {
				return err
			}
			return fmt.Errorf("the table is in use (%s): give each agent a schema of its own (currentSchema=… in driver.url), or stop the other", who)
		}
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// makeTables makes what is missing, or says so.
func (se *postgresSession) makeTables(ctx context.Context) error {
	s := se.store
	for i, look := range [3]string{
		"SELECT 1 FROM pg_namespace WHERE nspname = $1",
		"SELECT to_regclass($1)",
		"SELECT to_regclass($1)",
	} {
		name := [3]string{s.schema, s.channels(), s.name()}[i]
		there, err := se.value(ctx, look, name)
		if err != nil {
			return err
		}
		if there != "" {
			continue
		}
		if !s.create {
			return fmt.Errorf("%s is not there, and create.schema is false: set that to true, or have it made with %s", name, strings.Join(s.ddlFrom(i), "; "))
		}
		_, err = se.value(ctx, s.ddl()[i])
		var e *pgconn.PgError
		if errors.As(err, &e) && (e.Code == "42P06" || e.Code == "42P07" || e.Code == "23505") {
			continue // another channel was faster
		}
		if err != nil {
			return fmt.Errorf("%s: %w", s.ddl()[i], err)
		}
	}
	return nil
}

func (s *postgresStore) ddlFrom(i int) []string {
	d := s.ddl()
	return d[i:]
}

// own writes down whose the table is from now on.
func (se *postgresSession) own(ctx context.Context) error {
	s := se.store
	format, err := se.value(ctx, "SELECT format FROM "+s.channels()+" WHERE name = $1", s.table)
	if err != nil {
		return err
	}
	if format != "" && format != strconv.Itoa(formatVersion) {
		v, err := strconv.ParseInt(format, 10, 64)
		return errors.Join(errFormat(v), err)
	}
	if s.owner != "" {
		owner, err := se.value(ctx, "SELECT owner FROM "+s.channels()+" WHERE name = $1", s.table)
		if err == nil && owner != s.owner {
			err = errOtherOwner
		}
		return err
	}
	owner := rand.Text()
	_, err = se.value(ctx, "INSERT INTO "+s.channels()+" (name, format, owner) VALUES ($1, $2::integer, $3) ON CONFLICT (name) DO UPDATE SET owner = excluded.owner",
		s.table, strconv.Itoa(formatVersion), owner)
	if err == nil {
		s.owner = owner
	}
	return err
}

// durability makes sure that a commit waits for the disk.
func (se *postgresSession) durability(ctx context.Context) error {
	mode, err := se.value(ctx, "SHOW synchronous_commit")
	if err != nil {
		return err
	}
	if mode == "off" {
		se.store.log.Info("synchronous_commit is off for the user or the server; the channel's connection has it on")
		if _, err := se.value(ctx, "SET synchronous_commit = on"); err != nil {
			return err
		}
	}
	sync, err := se.value(ctx, "SHOW fsync")
	if err == nil && sync != "on" {
		se.store.log.Warn("fsync is off on the server: a power cut there may lose events")
	}
	return err
}

func (se *postgresSession) census(ctx context.Context) (n, lowest, highest int64, err error) {
	res := se.w.ExecParams(ctx, "SELECT count(*), coalesce(min(id), 0), coalesce(max(id), 0) FROM "+se.store.name(), nil, nil, nil, nil).Read()
	if res.Err != nil {
		return 0, 0, 0, postgresError(res.Err)
	}
	for i, v := range []*int64{&n, &lowest, &highest} {
		if *v, err = strconv.ParseInt(string(res.Rows[0][i]), 10, 64); err != nil {
			return 0, 0, 0, fmt.Errorf("a number is not one: %w", err)
		}
	}
	return n, lowest, highest, nil
}

var binaryFormat = []int16{1}

func bigint(n int64) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }

func (se *postgresSession) has(ctx context.Context, id int64) (bool, error) {
	res := se.w.ExecPrepared(ctx, "has", [][]byte{bigint(id)}, binaryFormat, nil).Read()
	return len(res.Rows) > 0, postgresError(res.Err)
}

// write implements session. What is not large goes in one message, which PostgreSQL takes for one transaction.
func (se *postgresSession) write(ctx context.Context, changes []*change) error {
	bytes := 0
	for _, c := range changes {
		for i := range c.put {
			bytes += size(&c.put[i])
		}
	}
	if bytes <= chunkBytes {
		b := &pgconn.Batch{}
		err := se.each(changes, func(name string, params [][]byte) error {
			b.ExecPrepared(name, params, binaryFormat, nil)
			return nil
		})
		if err == nil {
			err = se.w.ExecBatch(ctx, b).Close()
		}
		return postgresError(err)
	}
	if err := se.w.Exec(ctx, "BEGIN").Close(); err != nil {
		return postgresError(err)
	}
	err := se.each(changes, func(name string, params [][]byte) error {
		_, err := se.w.ExecPrepared(ctx, name, params, binaryFormat, nil).Close()
		return err
	})
	if err == nil {
		err = se.w.Exec(ctx, "COMMIT").Close()
	}
	if err == nil {
		return nil
	}
	err = postgresError(err)
	if isLost(err) {
		return err
	}
	if rerr := se.w.Exec(ctx, "ROLLBACK").Close(); rerr != nil {
		return &lostError{errors.Join(err, rerr)}
	}
	return err
}

// each calls exec with the statements of changes; params are void when it returns.
func (se *postgresSession) each(changes []*change, exec func(name string, params [][]byte) error) error {
	for _, c := range changes {
		for _, s := range c.remove {
			if err := exec("remove", [][]byte{bigint(s.first), bigint(s.end)}); err != nil {
				return err
			}
		}
		for n := 0; n < len(c.put); {
			end, bytes := n, 0
			for end < len(c.put) && end-n < chunkEvents && (end == n || bytes+size(&c.put[end]) <= chunkBytes) {
				bytes += size(&c.put[end])
				end++
			}
			if err := exec("put", [][]byte{bigint(c.first + int64(n)), se.headers(c.put[n:end]), se.bodies(c.put[n:end], bytes)}); err != nil {
				return err
			}
			n = end
		}
	}
	return nil
}

// array begins an array of bytea: one dimension, nulls, the type, the length, and the number of the first element.
func array(b []byte, n int) []byte {
	const oidBytea = 17
	for _, v := range []uint32{1, 1, oidBytea, uint32(n), 1} {
		b = binary.BigEndian.AppendUint32(b, v)
	}
	return b
}

const null = 0xffffffff // in place of an element's length

func (se *postgresSession) headers(evs []event.Event) []byte {
	b := array(se.rows[:0], len(evs))
	for i := range evs {
		if len(evs[i].Headers) == 0 {
			b = binary.BigEndian.AppendUint32(b, null)
			continue
		}
		at := len(b)
		b = headers.Append(append(b, 0, 0, 0, 0), evs[i].Headers)
		binary.BigEndian.PutUint32(b[at:], uint32(len(b)-at-4))
	}
	se.rows = keep(b)
	return b
}

func (se *postgresSession) bodies(evs []event.Event, bytes int) []byte {
	b := array(se.buf[:0], len(evs))
	if need := len(b) + bytes + 4*len(evs); cap(b) < need {
		b = append(make([]byte, 0, need), b...)
	}
	for i := range evs {
		b = binary.BigEndian.AppendUint32(b, uint32(len(evs[i].Body)))
		b = append(b, evs[i].Body...)
	}
	se.buf = keep(b)
	return b
}

// keep returns what is worth being used again of b.
func keep(b []byte) []byte {
	if cap(b) > 2*chunkBytes {
		return nil
	}
	return b[:0]
}

// read implements session. A connection that is broken is made anew the next time.
func (se *postgresSession) read(ctx context.Context, s span, limit int, b *event.Batch, ids []int64) ([]int64, error) {
	if se.r == nil {
		if err := se.connectReader(ctx); err != nil {
			return ids, postgresError(err)
		}
	}
	rows := se.r.ExecPrepared(ctx, "read", [][]byte{bigint(s.first), bigint(s.end), bigint(int64(limit)), bigint(readBytes)}, binaryFormat, binaryFormat)
	var bad error
	for rows.NextRow() {
		v := rows.Values()
		if bad != nil {
			continue
		}
		if len(v) != 3 || len(v[0]) != 8 {
			bad = fmt.Errorf("the server sent a row of %d values", len(v))
			continue
		}
		id := int64(binary.BigEndian.Uint64(v[0]))
		if se.hs, bad = appendRow(b, id, v[1], v[2], &se.names, se.hs); bad == nil {
			ids = append(ids, id)
		}
	}
	if _, err := rows.Close(); err != nil {
		if err = postgresError(err); isLost(err) {
			se.r.Close(ctx) // it is broken already
			se.r = nil
		}
		return ids, err
	}
	return ids, bad
}

func (se *postgresSession) connectReader(ctx context.Context) error {
	conn, err := pgconn.ConnectConfig(ctx, se.store.config)
	if err != nil {
		return err
	}
	// The sum stops at about so many bytes; the first row comes however large it is.
	_, err = conn.Prepare(ctx, "read", `SELECT id, headers, body FROM (
		SELECT id, headers, body, sum(octet_length(body)) OVER (ORDER BY id ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW) - octet_length(body) AS before
		FROM (SELECT id, headers, body FROM `+se.store.name()+` WHERE id >= $1 AND id < $2 ORDER BY id LIMIT $3) AS candidates) AS summed
		WHERE before < $4 ORDER BY id`, nil)
	if err != nil {
		return errors.Join(err, conn.Close(ctx))
	}
	se.r = conn
	return nil
}

// idle finds out whether the connection, and with it the lock, is still there.
func (se *postgresSession) idle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	return se.w.Ping(ctx)
}

func (se *postgresSession) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	var err error
	for _, c := range []*pgconn.PgConn{se.r, se.w} {
		if c != nil && !c.IsClosed() {
			err = errors.Join(err, c.Close(ctx))
		}
	}
	return err
}
