package jdbc

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// faulty is a store whose sessions break as a test says.
type faulty struct {
	store
	mu sync.Mutex
	// down is why no session can be made.
	down error
	// before and after, taken out of the list one by one, are returned by write before it does anything, and after it did.
	before, after []error
	opened        int
}

func (f *faulty) open(ctx context.Context, again bool) (session, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.down != nil {
		return nil, f.down
	}
	s, err := f.store.open(ctx, again)
	if err != nil {
		return nil, err
	}
	f.opened++
	return &faultySession{s, f}, nil
}

func (f *faulty) set(set func()) {
	f.mu.Lock()
	defer f.mu.Unlock()
	set()
}

func (f *faulty) next(list *[]error) error {
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(*list) == 0 {
		return nil
	}
	err := (*list)[0]
	*list = (*list)[1:]
	return err
}

type faultySession struct {
	session
	f *faulty
}

func (s *faultySession) write(ctx context.Context, changes []*change) error {
	if err := s.f.next(&s.f.before); err != nil {
		return err
	}
	if err := s.session.write(ctx, changes); err != nil {
		return err
	}
	return s.f.next(&s.f.after)
}

// conditions keeps what the channel says about its health.
type conditions struct {
	mu   sync.Mutex
	last error
	n    int
}

func (h *conditions) report(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.last, h.n = err, h.n+1
}

func (h *conditions) now() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.last
}

func startFaulty(t *testing.T, keepAlive time.Duration) (*Channel, *faulty, *conditions) {
	t.Helper()
	s := testStore(t.TempDir())
	s.lazy = true
	f, h := &faulty{store: s}, new(conditions)
	c := newChannel(f, 0, keepAlive, component.Env{Health: h.report})
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return c, f, h
}

func putBodies(c *Channel, bodies ...string) error {
	b := event.NewPool().NewBatch()
	for _, s := range bodies {
		b.Append([]byte(s))
	}
	defer b.Release()
	return c.Put(context.Background(), b)
}

// takeAll takes everything that is there.
func takeAll(t *testing.T, c *Channel) (bodies []string) {
	t.Helper()
	for tk := c.NewTaker(); ; {
		l, err := tk.Take(t.Context(), 100)
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return bodies
		}
		for _, e := range l.Events() {
			bodies = append(bodies, string(e.Body))
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

var errCut = &lostError{errors.New("cut")}

// A connection that breaks in the middle of a put costs no event and repeats none, whether the transaction came to its
// end or not.
func TestLostDuringPut(t *testing.T) {
	c, f, h := startFaulty(t, time.Minute) // no put is given up, however slow the machine is
	f.set(func() { f.before = []error{errCut, errCut} })
	if err := putBodies(c, "a", "b"); err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.after = []error{errCut} })
	if err := putBodies(c, "c", "d"); err != nil {
		t.Fatal(err)
	}
	c.keepAlive = 10 * time.Millisecond // only this goroutine looks at it now
	if got := strings.Join(takeAll(t, c), ""); got != "abcd" {
		t.Errorf("%s came out, want abcd", got)
	}
	if f.opened != 4 || h.now() != nil {
		t.Errorf("%d sessions, health %v", f.opened, h.now())
	}
}

// A put whose caller was told that it failed is not in the table afterwards, and those behind it are.
func TestPutGivenUp(t *testing.T) {
	c, f, h := startFaulty(t, 50*time.Millisecond)
	f.set(func() { f.after, f.down = []error{errCut}, errors.New("nobody listens") })
	err := putBodies(c, "a", "b") // it is in the table
	if err == nil || !strings.Contains(err.Error(), "nobody listens") && !strings.Contains(err.Error(), "cut") {
		t.Fatalf("%v", err)
	}
	if h.now() == nil {
		t.Error("health does not know that the database is gone")
	}
	if _, err := c.NewTaker().Take(t.Context(), 1); err == nil {
		t.Error("a take without a database did not say so")
	}
	f.set(func() { f.down = nil })
	for { // the source tries again
		if err := putBodies(c, "a", "b"); err == nil {
			break
		}
	}
	if err := putBodies(c, "c"); err != nil {
		t.Fatal(err)
	}
	if got := strings.Join(takeAll(t, c), ""); got != "abc" {
		t.Errorf("%s came out, want abc", got)
	}
	if n := c.Stats().Size; n != 0 || h.now() != nil {
		t.Errorf("size %d, health %v", n, h.now())
	}
}

// What was delivered while the database was gone is taken out when it is back, and nothing else is taken before.
func TestLostDuringCommit(t *testing.T) {
	for name, fault := range map[string]func(*faulty){
		"before": func(f *faulty) { f.before = []error{errCut} },
		"after":  func(f *faulty) { f.after = []error{errCut} },
	} {
		t.Run(name, func(t *testing.T) {
			c, f, _ := startFaulty(t, 50*time.Millisecond)
			if err := putBodies(c, "a", "b", "c"); err != nil {
				t.Fatal(err)
			}
			tk := c.NewTaker()
			l, err := tk.Take(t.Context(), 2)
			if err != nil {
				t.Fatal(err)
			}
			f.set(func() { fault(f); f.down = errors.New("nobody listens") })
			if err := l.Commit(); err != nil {
				t.Fatal(err)
			}
			if l, err := tk.Take(t.Context(), 1); err == nil {
				t.Fatalf("took %v", l)
			}
			f.set(func() { f.down = nil })
			for {
				l, err := tk.Take(t.Context(), 5)
				if err != nil || l == nil {
					continue
				}
				if evs := l.Events(); len(evs) != 1 || string(evs[0].Body) != "c" {
					t.Errorf("took %q", evs)
				}
				if err := l.Commit(); err != nil {
					t.Fatal(err)
				}
				break
			}
			if err := c.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(t.Context()); err != nil {
				t.Fatal(err)
			}
			if n := c.Stats().Size; n != 0 {
				t.Errorf("%d events are left in the table", n)
			}
		})
	}
}

// One bad put does not spoil those that share its transaction, and a conflict is not told to anybody.
func TestRefused(t *testing.T) {
	c, f, h := startFaulty(t, time.Minute)
	again := &againError{errors.New("could not serialize")}
	f.set(func() { f.before = []error{again, again, again} })
	if err := putBodies(c, "a"); err != nil || h.n != 0 {
		t.Fatalf("%v, health told %d times", err, h.n)
	}
	f.set(func() { f.before = []error{errors.New("no")} })
	if err := putBodies(c, "b"); err == nil || !strings.Contains(err.Error(), "no") {
		t.Fatal(err)
	}
	if h.now() == nil {
		t.Error("health does not know")
	}
	if err := putBodies(c, "c"); err != nil || h.now() != nil {
		t.Fatal(err, h.now())
	}
	// The commit of a take is tried until the database takes it.
	l, err := c.NewTaker().Take(t.Context(), 1)
	if err != nil {
		t.Fatal(err)
	}
	f.set(func() { f.before = []error{errors.New("no"), errors.New("still no")} })
	c.keepAlive = 10 * time.Millisecond // only this goroutine looks at it now
	if err := l.Commit(); err != nil {
		t.Fatal(err)
	}
	for c.keepAlive = time.Second; ; {
		l, err := c.NewTaker().Take(t.Context(), 10)
		if err != nil || l == nil {
			continue
		}
		if evs := l.Events(); len(evs) != 1 || string(evs[0].Body) != "c" {
			t.Errorf("took %q", evs)
		}
		break
	}
}

func TestDiskFull(t *testing.T) {
	s := testStore(t.TempDir())
	var mu sync.Mutex
	free := int64(1 << 40)
	s.free = func(string) (int64, error) { mu.Lock(); defer mu.Unlock(); return free, nil }
	c := start(t, s, 0)
	if err := putBodies(c, "a"); err != nil {
		t.Fatal(err)
	}
	mu.Lock()
	free = spareSpace
	mu.Unlock()
	if err := putBodies(c, "b"); err == nil || !strings.Contains(err.Error(), "disk is full") {
		t.Errorf("%v", err)
	}
	if got := takeAll(t, c); len(got) != 1 {
		t.Errorf("%q came out", got)
	}
	mu.Lock()
	free *= 4
	mu.Unlock()
	if err := putBodies(c, "c"); err != nil {
		t.Error(err)
	}
}

// SQLite says that the disk is full in the middle of a transaction: it is undone as a whole.
func TestSQLiteFull(t *testing.T) {
	c := start(t, testStore(t.TempDir()), 0)
	if err := putBodies(c, "a"); err != nil {
		t.Fatal(err)
	}
	limit := func(pages int) {
		t.Helper()
		se := c.run.sess.(*sqliteSession)
		if _, err := se.w.ExecContext(t.Context(), fmt.Sprintf("PRAGMA max_page_count = %d", pages)); err != nil {
			t.Fatal(err)
		}
	}
	limit(20)
	big := strings.Repeat("x", 3*pageSize)
	var err error
	n := 1
	for ; err == nil && n < 100; n += 2 {
		err = putBodies(c, big, big)
	}
	if err == nil || !strings.Contains(err.Error(), "full") {
		t.Fatalf("after %d events: %v", n, err)
	}
	n -= 2
	if got := len(takeAll(t, c)); got != n {
		t.Errorf("%d events came out, %d were put", got, n)
	}
	if err := putBodies(c, big, big); err != nil { // there is room again
		t.Error(err)
	}
}

func TestTwoChannelsOneFile(t *testing.T) {
	dir := t.TempDir()
	c := start(t, testStore(dir), 0)
	other := testChannel(testStore(dir), 0)
	if err := other.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "in use") {
		t.Errorf("a second channel on the file: %v", err)
	}
	if err := putBodies(c, "a"); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := other.Start(t.Context()); err != nil {
		t.Fatalf("after the stop of the first: %v", err)
	}
	defer other.Stop(t.Context())
	if got := takeAll(t, other); len(got) != 1 {
		t.Errorf("%q came out", got)
	}
}

func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	s := testStore(dir)
	s.create = false
	if err := testChannel(s, 0).Start(t.Context()); err == nil || !strings.Contains(err.Error(), "create.schema is false") {
		t.Errorf("without a file: %v", err)
	}
	start(t, testStore(dir), 0).Stop(t.Context())
	c := start(t, s, 0) // it is there now
	if err := putBodies(c, "a"); err != nil {
		t.Fatal(err)
	}
	change := func(query string) {
		t.Helper()
		if _, err := c.run.sess.(*sqliteSession).w.ExecContext(t.Context(), query); err != nil {
			t.Fatal(err)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	change("PRAGMA user_version = 2")
	if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "format 2") {
		t.Errorf("a newer format: %v", err)
	}
	c = start(t, testStore(t.TempDir()), 0)
	change("PRAGMA application_id = 77")
	if err := c.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another program") {
		t.Errorf("another program's file: %v", err)
	}
}

// The writer's connection must wait for the disk, and the file be as docs/jdbc-channel.md says.
func TestPragmas(t *testing.T) {
	c := start(t, testStore(t.TempDir()), 0)
	for name, want := range map[string]int{"synchronous": 2, "auto_vacuum": 2, "page_size": pageSize, "application_id": applicationID, "user_version": formatVersion} {
		var got int
		if err := c.run.sess.(*sqliteSession).w.QueryRowContext(t.Context(), "PRAGMA "+name).Scan(&got); err != nil || got != want {
			t.Errorf("%s is %d (%v), want %d", name, got, err, want)
		}
	}
}

// content puts events of every kind and size, and wants them back as they were.
func content(t *testing.T, c *Channel) {
	t.Helper()
	any := make([]byte, 256)
	for i := range any {
		any[i] = byte(i)
	}
	p := event.NewPool()
	var want []event.Event
	for _, size := range []int{0, 1, 100, 1 << 16, 20 << 20, 7, 5 << 20} {
		want = append(want, event.Event{Body: bytes.Repeat(any, size/256+1)[:size],
			Headers: []event.KV{{Key: "\xff\x00é", Value: any}, {Key: "empty", Value: []byte{}}, {Key: "null"}}})
	}
	want = append(want, event.Event{Body: []byte("plain")})
	b := p.NewBatch()
	for _, e := range want {
		b.AppendEvent(e.Body, e.Headers)
	}
	if err := c.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	b.Release()
	for tk := c.NewTaker(); len(want) > 0; {
		l, err := tk.Take(t.Context(), 100)
		if err != nil || l == nil {
			t.Fatalf("%d are left: %v, %v", len(want), l, err)
		}
		for _, e := range l.Events() {
			body := want[0].Body
			if got, want := fmt.Sprintf("%q", e.Headers), fmt.Sprintf("%q", want[0].Headers); !bytes.Equal(e.Body, body) || got != want {
				t.Fatalf("body of %d bytes, headers %s, want %s", len(e.Body), got, want)
			}
			want = want[1:]
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

func TestContent(t *testing.T) { content(t, start(t, testStore(t.TempDir()), 0)) }

// A file that a large backlog made long gets short again.
func TestTrim(t *testing.T) {
	s := testStore(t.TempDir())
	s.lazy = true
	c := start(t, s, 0)
	body := strings.Repeat("x", 1<<20)
	for range 80 {
		if err := putBodies(c, body); err != nil {
			t.Fatal(err)
		}
	}
	takeAll(t, c)
	se := c.run.sess.(*sqliteSession)
	pages := func() (n int) {
		t.Helper()
		if err := se.w.QueryRowContext(t.Context(), "PRAGMA page_count").Scan(&n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := pages()
	if err := se.idle(t.Context()); err != nil {
		t.Fatal(err)
	}
	if after := pages(); before < trimAbove || after > before-trimStep {
		t.Errorf("%d pages, %d before", after, before)
	}
}
