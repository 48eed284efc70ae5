package jdbc

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
)

// postgresURL names a PostgreSQL for these tests, with a user that may make schemas.
const postgresURL = "SLUICE_POSTGRES"

// fresh makes a store of its own for each test.
func freshPostgres(t testing.TB) *postgresStore {
	t.Helper()
	u := os.Getenv(postgresURL)
	if u == "" {
		t.Skip("NOT CHECKED: " + postgresURL + " names no PostgreSQL")
	}
	sep := "?"
	if strings.Contains(u, sep) {
		sep = "&"
	}
	c := new(config)
	component.Decode(component.Default(), c, []component.Property{{Key: "driver.url", Value: u + sep + fmt.Sprintf("currentSchema=s%d", time.Now().UnixNano())}})
	s, err := c.store(component.Env{Agent: "a1", Name: "c1"}, "")
	if err != nil {
		t.Fatal(err)
	}
	return s.(*postgresStore)
}

func TestPostgresConformance(t *testing.T) {
	channeltest.Run(t, func(t *testing.T, capacity, _ int) component.Channel {
		return start(t, freshPostgres(t), capacity)
	})
}

// table is a table that outlives the channels on it.
type table struct {
	s *postgresStore
	c *Channel
}

func (d *table) Open(t *testing.T, capacity, _ int) component.Channel {
	t.Helper()
	s := *d.s // as another process would have it
	d.c = testChannel(&s, capacity)
	if err := d.c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.c.Stop(context.Background()) }) // stopped before, or of no interest
	return d.c
}

func (d *table) Close(t *testing.T) {
	t.Helper()
	if err := d.c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// Kill cuts the connections, as the end of the process does.
func (d *table) Kill(t *testing.T) {
	t.Helper()
	r, err := d.c.running()
	if err != nil {
		t.Fatal(err)
	}
	r.mu.Lock()
	se := r.sess.(*postgresSession)
	r.mu.Unlock()
	r.stop()
	r.done.Wait()
	se.w.Conn().Close()
	if se.r != nil {
		se.r.Conn().Close()
	}
}

func TestPostgresDurable(t *testing.T) {
	channeltest.RunDurable(t, func(t *testing.T) channeltest.Store { return &table{s: freshPostgres(t)} })
}

func TestPostgresContent(t *testing.T) { content(t, start(t, freshPostgres(t), 0)) }

// exec runs statements on a connection of its own.
func (s *postgresStore) exec(t *testing.T, statements string) {
	t.Helper()
	conn, err := pgconn.ConnectConfig(t.Context(), s.config)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context())
	if err := conn.Exec(t.Context(), statements).Close(); err != nil {
		t.Fatalf("%s: %v", statements, err)
	}
}

// Whatever of the channel's connections the server ends, in the middle of puts and takes: each event comes out once.
func TestPostgresConnectionsEnd(t *testing.T) {
	s := freshPostgres(t)
	c := newChannel(s, 0, 5*time.Minute, component.Env{}) // no put is given up
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Stop(context.Background())
	const puts, perPut = 60, 100
	finished := make(chan struct{})
	var wg sync.WaitGroup
	var written, cuts atomic.Int64
	wg.Go(func() {
		defer close(finished)
		for i := range puts {
			for cuts.Load() < int64(i/12) && !t.Failed() { // a fast machine would have put all before the second
				time.Sleep(time.Millisecond)
			}
			var bodies []string
			for j := range perPut {
				bodies = append(bodies, fmt.Sprint(i*perPut+j))
			}
			if err := putBodies(c, bodies...); err != nil {
				t.Errorf("put %d: %v", i, err)
				return
			}
			written.Add(1)
		}
	})
	wg.Go(func() {
		for tk, next := c.NewTaker(), 0; next < puts*perPut && !t.Failed(); {
			l, err := tk.Take(t.Context(), 50)
			if err != nil || l == nil {
				continue // cut just now
			}
			for _, e := range l.Events() {
				if string(e.Body) != fmt.Sprint(next) {
					t.Errorf("%s came, %d is due", e.Body, next)
				}
				next++
			}
			if err := l.Commit(); err != nil {
				t.Errorf("commit: %v", err)
			}
		}
	})
	for done := false; !done; {
		before := written.Load()
		s.exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice a1/c1' AND pid <> pg_backend_pid()")
		cuts.Add(1)
		for wait := true; wait; wait = !done && written.Load() == before { // else a slow server never gets to a put between two cuts
			select {
			case <-finished:
				done = true
			case <-time.After(50 * time.Millisecond):
			}
		}
	}
	wg.Wait()
	if n := c.Stats().Size; n != 0 {
		t.Errorf("%d events are left", n)
	}
	t.Logf("%d events, the connections cut %d times", puts*perPut, cuts.Load())
}

// What the server refuses is told in words that help, and tried again where that is of use.
func TestPostgresRefuses(t *testing.T) {
	s := freshPostgres(t)
	c := newChannel(s, 0, time.Minute, component.Env{})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	defer c.Stop(context.Background())
	// A trigger that finds three conflicts in a row; a sequence is not rolled back.
	s.exec(t, fmt.Sprintf(`CREATE SEQUENCE %[1]s.n; CREATE FUNCTION %[1]s.conflict() RETURNS trigger LANGUAGE plpgsql AS $$
		BEGIN IF nextval('%[1]s.n') <= 3 THEN RAISE EXCEPTION 'conflict' USING ERRCODE = '40001'; END IF; RETURN NULL; END $$;
		CREATE TRIGGER t BEFORE INSERT ON %[2]s FOR EACH STATEMENT EXECUTE FUNCTION %[1]s.conflict()`, quote(s.schema), s.name()))
	if err := putBodies(c, "a"); err != nil {
		t.Errorf("a put with conflicts: %v", err)
	}
	refuse := func(what, want string) {
		t.Helper()
		c.keepAlive = time.Second // only this goroutine looks at it
		defer func() { c.keepAlive = time.Minute }()
		// Until the server was asked again the channel knows only that the connection is gone.
		for end := time.Now().Add(time.Minute); ; {
			err := putBodies(c, "no")
			if err != nil && strings.Contains(err.Error(), want) {
				return
			}
			if err == nil || time.Now().After(end) {
				t.Errorf("%s: %v, want %q", what, err, want)
				return
			}
		}
	}
	s.exec(t, "ALTER DATABASE "+quote(s.config.Database)+" SET default_transaction_read_only = on")
	cut := "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'sluice a1/c1' AND pid <> pg_backend_pid()"
	s.exec(t, cut)
	refuse("read-only", "may only read")
	s.exec(t, "BEGIN READ WRITE; ALTER DATABASE "+quote(s.config.Database)+" RESET default_transaction_read_only; COMMIT")
	s.exec(t, cut)
	s.exec(t, fmt.Sprintf("CREATE FUNCTION %[1]s.full() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'could not extend file: No space left on device' USING ERRCODE = '53100'; END $$; "+
		"CREATE TRIGGER f BEFORE INSERT ON %[2]s FOR EACH STATEMENT EXECUTE FUNCTION %[1]s.full()", quote(s.schema), s.name()))
	refuse("full", "disk is full")
	s.exec(t, "DROP TRIGGER f ON "+s.name())
	if err := putBodies(c, "b"); err != nil {
		t.Error(err)
	}
	c.keepAlive = time.Second
	if got := strings.Join(takeAll(t, c), ""); got != "ab" {
		t.Errorf("%s came out, want ab", got)
	}
	s.exec(t, "DROP TABLE "+s.name())
	refuse("dropped", "was dropped")

	// At the start.
	for what, f := range map[string]struct {
		change func(*postgresStore)
		want   string
	}{
		"wrong password":   {func(s *postgresStore) { s.config.Password = "no" }, "db.password"},
		"no such database": {func(s *postgresStore) { s.config.Database = "nosuch" }, "create it"},
		"nobody listens":   {func(s *postgresStore) { s.config.Port = 1 }, "refused"},
		"nothing there":    {func(s *postgresStore) { s.create = false }, "create.schema is false"},
		"no right":         {func(s *postgresStore) { s.config.User, s.config.Password = "nobody", "pw" }, "permission denied"},
	} {
		s := freshPostgres(t)
		if what == "no right" {
			s.exec(t, "DROP ROLE IF EXISTS nobody; CREATE ROLE nobody LOGIN PASSWORD 'pw'")
		}
		s.config.TLSConfig, s.config.Fallbacks = nil, nil // a fallback has a port of its own
		f.change(s)
		if err := testChannel(s, 0).Start(t.Context()); err == nil || !strings.Contains(err.Error(), f.want) {
			t.Errorf("%s: %v, want %q", what, err, f.want)
		}
	}
}

// One table, two processes: the second is refused; one that takes the table over while the first is cut off ends the first.
func TestPostgresTwoOwners(t *testing.T) {
	s := freshPostgres(t)
	c := start(t, s, 0)
	if err := putBodies(c, "a", "b"); err != nil {
		t.Fatal(err)
	}
	l, err := c.NewTaker().Take(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	s2 := *s
	s2.owner, s2.pid, s2.started = "", 0, ""
	other := testChannel(&s2, 0)
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") || !strings.Contains(err.Error(), "sluice a1/c1") {
		t.Fatalf("a second channel on the table: %v", err)
	}
	// The other one gets it when this one is cut off and cannot come back.
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := s.open(t.Context(), true); !errors.Is(err, errOtherOwner) {
		t.Errorf("a session after another process had the table: %v", err)
	}
	if l.Commit() == nil {
		t.Error("a commit after the stop did not fail")
	}
}
