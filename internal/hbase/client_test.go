package hbase

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/internal/hbase/hbasetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	notServing      = "org.apache.hadoop.hbase.NotServingRegionException"
	doNotRetryClass = "org.apache.hadoop.hbase.DoNotRetryIOException"
)

// connect makes a client that is quick to try again.
func connect(t testing.TB, c *hbasetest.Cluster, change ...func(*Config)) *Client {
	cfg := Config{Quorum: []string{c.ZooKeeper()}, User: "car", Pause: time.Millisecond, Timeout: time.Minute}
	for _, f := range change {
		f(&cfg)
	}
	cl := New(cfg)
	t.Cleanup(cl.Close)
	return cl
}

// rows is a batch of puts with the column f:q, "row" and "row=value".
func rows(t testing.TB, kvs ...string) *Batch {
	t.Helper()
	b := new(Batch)
	for _, kv := range kvs {
		row, value, _ := strings.Cut(kv, "=")
		addPut(t, b, row, "f", value)
	}
	return b
}

func addPut(t testing.TB, b *Batch, row, family, value string) {
	t.Helper()
	if err := b.Put([]byte(row)); err != nil {
		t.Fatal(err)
	}
	if err := b.Add([]byte(family), []byte("q"), []byte(value)); err != nil {
		t.Fatal(err)
	}
}

func do(t testing.TB, cl *Client, b *Batch) {
	t.Helper()
	if err := cl.Do(t.Context(), "t", b); err != nil {
		t.Fatal(err)
	}
}

func TestPutsReachTheirRegions(t *testing.T) {
	c := hbasetest.New(t, 3)
	c.CreateTable("t", []string{"f"}, "2", "4", "6", "8")
	c.CreateTable("ns:other", []string{"f"})
	var opened, closed atomic.Int64
	cl := connect(t, c, func(cfg *Config) {
		cfg.Opened, cfg.Closed = func() { opened.Add(1) }, func() { closed.Add(1) }
	})
	b := new(Batch)
	want := map[string]string{}
	for i := range 1000 {
		row := fmt.Sprint(i * 7919 % 1000)
		want[row] = fmt.Sprint("value ", i)
		addPut(t, b, row, "f", want[row])
	}
	do(t, cl, b)
	got := c.Rows("t")
	if len(got) != len(want) {
		t.Errorf("%d rows, want %d", len(got), len(want))
	}
	for row, v := range want {
		if got[row]["f:q"] != v {
			t.Errorf("row %s: %v, want %s", row, got[row], v)
		}
	}
	multis, scans, zk := c.Requests()
	if multis != 5 || scans != 5 || zk != 1 { // each region has enough for a request of its own
		t.Errorf("%d requests to 3 servers, %d scans for 5 regions, %d visits to ZooKeeper", multis, scans, zk)
	}
	// All is known now.
	do(t, cl, b)
	if m, s, z := c.Requests(); m != multis+5 || s != scans || z != zk {
		t.Errorf("%d requests, %d scans, %d visits to ZooKeeper", m, s, z)
	}
	if err := cl.Do(t.Context(), "ns:other", rows(t, "a=1")); err != nil {
		t.Error(err)
	}
	if got := c.Rows("ns:other")["a"]["f:q"]; got != "1" {
		t.Errorf("in another namespace: %q", got)
	}
	if us := c.Users(); len(us) != 1 || us[0] != "car" {
		t.Errorf("users %q", us)
	}
	cl.Close()
	if opened.Load() != 3 || closed.Load() != 3 {
		t.Errorf("%d connections opened, %d closed", opened.Load(), closed.Load())
	}
	if err := cl.Do(t.Context(), "t", rows(t, "a")); !errors.Is(err, errClientClosed) {
		t.Errorf("after Close: %v", err)
	}
}

func TestOrderWithinRow(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.CreateTable("t", []string{"f"}, "m")
	cl := connect(t, c)
	b := new(Batch)
	value := strings.Repeat("x", 64<<10)
	for i := range 300 { // 19 MB: several requests
		addPut(t, b, []string{"a", "z"}[i%2], "f", fmt.Sprint(i, value))
	}
	do(t, cl, b)
	for row, want := range map[string]int{"a": 298, "z": 299} {
		if got, _, _ := strings.Cut(c.Rows("t")[row]["f:q"], "x"); got != fmt.Sprint(want) {
			t.Errorf("row %s has the value of put %s, not of %d", row, got, want)
		}
	}
	if m, _, _ := c.Requests(); m < 6 {
		t.Errorf("19 MB went in %d requests", m)
	}
}

func TestManyRegionsInManyRequests(t *testing.T) {
	c := hbasetest.New(t, 1)
	var splits []string
	for i := range 20 {
		splits = append(splits, fmt.Sprintf("%02d", i))
	}
	c.CreateTable("t", []string{"f"}, splits...)
	cl := connect(t, c)
	b := new(Batch)
	for i := range 9000 {
		addPut(t, b, fmt.Sprintf("%02d-%d", i%20, i), "f", "v")
	}
	do(t, cl, b)
	if n := len(c.Rows("t")); n != 9000 {
		t.Errorf("%d rows", n)
	}
}

func TestIncrements(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.CreateTable("t", []string{"f"}, "m")
	cl := connect(t, c)
	b := new(Batch)
	for i := range 10 {
		if err := b.Increment([]byte([]string{"a", "z"}[i%2]), []byte("f"), []byte("n"), int64(i)); err != nil {
			t.Fatal(err)
		}
	}
	// The answers to the first requests are lost after they were done.
	var lost atomic.Int64
	c.Answer = func(p []byte) []byte {
		if lost.Add(1) <= 3 {
			return nil
		}
		return p
	}
	do(t, cl, b)
	for row, want := range map[string]uint64{"a": 0 + 2 + 4 + 6 + 8, "z": 1 + 3 + 5 + 7 + 9} {
		if got := binary.BigEndian.Uint64([]byte(c.Rows("t")[row]["f:n"])); got != want {
			t.Errorf("row %s: %d, want %d: a repetition within Do must not count", row, got, want)
		}
	}
}

func TestRegionsMoveAndSplit(t *testing.T) {
	c := hbasetest.New(t, 3)
	c.CreateTable("t", []string{"f"}, "5")
	cl := connect(t, c)
	batch := func(v string) *Batch { return rows(t, "1="+v, "3="+v, "6="+v, "9="+v) }
	do(t, cl, batch("one"))
	c.Move("t", "1", 2)
	do(t, cl, batch("two"))
	c.Split("t", "2")
	c.Split("t", "7")
	c.Move("t", "8", 1)
	do(t, cl, batch("three"))
	for row, cells := range c.Rows("t") {
		if cells["f:q"] != "three" {
			t.Errorf("row %s: %v", row, cells)
		}
	}
	if n := len(cl.known("t")); n != 4 {
		t.Errorf("%d regions are known, want 4", n)
	}
}

// Everything that servers say for the moment is waited for; only what failed
// is sent again.
func TestPassingFaults(t *testing.T) {
	for _, class := range []string{
		notServing,
		"org.apache.hadoop.hbase.exceptions.RegionMovedException",
		"org.apache.hadoop.hbase.exceptions.RegionOpeningException",
		"org.apache.hadoop.hbase.RegionTooBusyException",
		"org.apache.hadoop.hbase.CallQueueTooBigException",
		"org.apache.hadoop.hbase.regionserver.RegionServerStoppedException",
		"org.apache.hadoop.hbase.ipc.ServerNotRunningYetException",
		"org.apache.hadoop.hbase.quotas.RpcThrottlingException",
		"java.lang.NullPointerException",
		"?", // no answer
	} {
		t.Run(class, func(t *testing.T) {
			c := hbasetest.New(t, 2)
			c.CreateTable("t", []string{"f"}, "5")
			cl := connect(t, c)
			faults, done := 0, 0
			c.Fault = func(m hbasetest.Mutation) (string, string) {
				if m.Row == "3" && faults < 4 {
					faults++
					return class, "later"
				}
				done++
				return "", ""
			}
			do(t, cl, rows(t, "1=a", "3=a", "6=a"))
			if done != 3 || faults != 4 {
				t.Errorf("%d mutations were done, %d refused", done, faults)
			}
		})
		if class == "?" {
			continue
		}
		t.Run("region "+class, func(t *testing.T) {
			c := hbasetest.New(t, 2)
			c.CreateTable("t", []string{"f"}, "5")
			cl := connect(t, c)
			faults := 0
			c.RegionFault = func(int, []string) (string, string) {
				if faults++; faults <= 4 {
					return class, "later"
				}
				return "", ""
			}
			do(t, cl, rows(t, "1=a", "3=a", "6=a"))
			if n := len(c.Rows("t")); n != 3 {
				t.Errorf("%d rows", n)
			}
		})
	}
}

// What will not change is told at once, of those mutations that it is about.
func TestLastingFaults(t *testing.T) {
	for _, tt := range []struct {
		class     string
		permanent bool
	}{
		{doNotRetryClass, true},
		{"org.apache.hadoop.hbase.exceptions.FailedSanityCheckException", true},
		{"org.apache.hadoop.hbase.security.AccessDeniedException", false},
		{"org.apache.hadoop.hbase.regionserver.NoSuchColumnFamilyException", false},
	} {
		t.Run(tt.class, func(t *testing.T) {
			c := hbasetest.New(t, 1)
			c.CreateTable("t", []string{"f"})
			cl := connect(t, c)
			c.Fault = func(m hbasetest.Mutation) (string, string) {
				// As a server does it: one bad cell fails its whole region.
				if m.Row == "bad" || tt.permanent && !m.Alone {
					return tt.class, "exceeds limit"
				}
				return "", ""
			}
			b := rows(t, "a=1", "bad=2", "c=3")
			err := cl.Do(t.Context(), "t", b)
			if b.Err(0) != nil || b.Err(2) != nil || err == nil || err != b.Err(1) {
				t.Fatalf("%v: %v, %v, %v", err, b.Err(0), b.Err(1), b.Err(2))
			}
			if IsPermanent(err) != tt.permanent || !strings.Contains(err.Error(), "exceeds limit") || strings.Contains(err.Error(), "at some.Class") {
				t.Errorf("permanent %v: %v", IsPermanent(err), err)
			}
			if len(c.Rows("t")) != 2 {
				t.Error(c.Rows("t"))
			}
		})
	}
	t.Run("whole request", func(t *testing.T) {
		c := hbasetest.New(t, 1)
		c.CreateTable("t", []string{"f"})
		cl := connect(t, c)
		c.RegionFault = func(int, []string) (string, string) { return "!", doNotRetryClass }
		err := cl.Do(t.Context(), "t", rows(t, "a=1"))
		if err == nil || IsPermanent(err) || !strings.Contains(err.Error(), "as the test says") {
			t.Errorf("permanent %v: %v", IsPermanent(err), err)
		}
		// Unless it is about one mutation that is larger than requests are.
		b := rows(t, "a=1", "b="+strings.Repeat("x", maxRequest+1))
		c.RegionFault = func(_ int, rows []string) (string, string) {
			if rows[0] == "b" {
				return "!", doNotRetryClass
			}
			return "", ""
		}
		if err := cl.Do(t.Context(), "t", b); b.Err(0) != nil || !IsPermanent(err) {
			t.Errorf("%v, %v", b.Err(0), err)
		}
	})
}

func TestNoTable(t *testing.T) {
	c := hbasetest.New(t, 1)
	cl := connect(t, c)
	b := rows(t, "a=1", "b=2")
	for range 2 {
		if err := cl.Do(t.Context(), "t", b); !errors.Is(err, ErrNoTable) || !errors.Is(b.Err(1), ErrNoTable) {
			t.Fatalf("%v", err)
		}
	}
	c.CreateTable("t", []string{"other"})
	if err := cl.Do(t.Context(), "t", b); !Is(err, "NoSuchColumnFamilyException") || IsPermanent(err) {
		t.Errorf("%v", err)
	}
	c.AddFamily("t", "f")
	do(t, cl, b)
}

func TestDisabledTable(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"})
	cl := connect(t, c, func(cfg *Config) { cfg.Timeout = 200 * time.Millisecond })
	do(t, cl, rows(t, "a=1"))
	c.Disable("t", true)
	if err := cl.Do(t.Context(), "t", rows(t, "a=1")); err == nil || !strings.Contains(err.Error(), "disabled") || !strings.Contains(err.Error(), "tried for 200ms") {
		t.Errorf("%v", err)
	}
	c.Disable("t", false)
	do(t, cl, rows(t, "a=1"))
}

// A server that dies under way, or hangs, and comes back: trouble is told
// once, and all arrives.
func TestServerComesBack(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.CreateTable("t", []string{"f"}, "5")
	told := make(chan error, 100)
	cl := connect(t, c, func(cfg *Config) { cfg.Trouble = func(err error) { told <- err } })
	do(t, cl, rows(t, "1=a", "6=a"))
	for _, i := range []int{1, 0} {
		c.StopServer(i)
		done := make(chan error)
		go func() { done <- cl.Do(t.Context(), "t", rows(t, "1=b", "6=b")) }()
		if err := <-told; err == nil {
			t.Error("trouble is nil")
		}
		c.StartServer(i)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := <-told; err != nil {
			t.Errorf("at the end: %v", err)
		}
	}
	if len(told) > 0 {
		t.Errorf("told more: %v", <-told)
	}
}

func TestServerHangs(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"})
	release := make(chan struct{})
	var once sync.Once
	c.Answer = func(p []byte) []byte {
		once.Do(func() { <-release; p = nil })
		return p
	}
	cl := connect(t, c, func(cfg *Config) { cfg.RPCTimeout = 100 * time.Millisecond; cfg.Timeout = 200 * time.Millisecond })
	err := cl.Do(t.Context(), "t", rows(t, "a=1"))
	if !errors.Is(err, errNoAnswer) {
		t.Errorf("%v", err)
	}
	close(release)
	cl.cfg.RPCTimeout, cl.cfg.Timeout = time.Minute, time.Minute
	do(t, cl, rows(t, "a=1"))
}

// A server that is frozen is not waited for when its regions, or hbase:meta,
// are elsewhere: not for as long as a request may take.
func TestFrozenServer(t *testing.T) {
	for _, registry := range []string{ZooKeeperRegistry, RPCRegistry} {
		t.Run(registry, func(t *testing.T) {
			told := make(chan error, 100)
			c := hbasetest.New(t, 3)
			c.CreateTable("t", []string{"f"}, "3", "6")
			cl := connect(t, c, func(cfg *Config) {
				cfg.RPCTimeout, cfg.Timeout, cfg.Late = time.Hour, time.Hour, 5*time.Millisecond
				cfg.Registry, cfg.Bootstrap = registry, []string{c.Addr(0), c.Addr(2)}
				cfg.ConnectTimeout = 200 * time.Millisecond // of a try to ask the frozen one
				cfg.Trouble = func(err error) { told <- err }
			})
			do(t, cl, rows(t, "1=a", "4=a", "7=a"))
			frozen := func(server int, happens func()) {
				t.Helper()
				for len(told) > 0 { // of an answer before that was late by itself
					<-told
				}
				c.Freeze(server)
				done := make(chan error)
				go func() { done <- cl.Do(t.Context(), "t", rows(t, "1=b", "4=b", "7=b")) }()
				select {
				case err := <-done:
					t.Fatalf("server %d was not needed: %v", server, err)
				case err := <-told:
					if err == nil || !strings.Contains(err.Error(), "no answer for") {
						t.Errorf("told %v", err)
					}
				}
				happens()
				if err := <-done; err != nil {
					t.Error(err)
				}
				if err := <-told; err != nil {
					t.Errorf("told %v at the end", err)
				}
				c.StopServer(server)
				c.StartServer(server)
			}
			frozen(1, func() { c.Move("t", "4", 2) })
			cl.Forget()
			frozen(0, func() { c.MoveMeta(1); c.Move("t", "1", 2) })
			// Reading is no different.
			c.Freeze(2)
			done := make(chan error)
			go func() { done <- cl.Scan(t.Context(), "t", Scan{}, func([]Cell) error { return nil }) }()
			for _, row := range []string{"1", "4", "7"} {
				c.Move("t", row, 1)
			}
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// Regions that move one after the other, each longer than goes unmentioned,
// are a warning, not one for each.
func TestWarnsOnceAMinute(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"})
	var log bytes.Buffer
	told := make(chan error, 100)
	cl := connect(t, c, func(cfg *Config) {
		cfg.Log = slog.New(slog.NewTextHandler(&log, nil))
		cfg.Trouble = func(err error) { told <- err }
	})
	var moving atomic.Bool
	c.RegionFault = func(int, []string) (string, string) {
		if moving.Load() {
			return notServing, "r is closing"
		}
		return "", ""
	}
	for range 3 {
		moving.Store(true)
		done := make(chan error)
		go func() { done <- cl.Do(t.Context(), "t", rows(t, "1=a")) }()
		if err := <-told; err == nil {
			t.Error("told nil")
		}
		moving.Store(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
		if err := <-told; err != nil {
			t.Errorf("told %v at the end", err)
		}
	}
	if n := strings.Count(log.String(), "level=WARN"); n != 1 {
		t.Errorf("%d warnings:\n%s", n, &log)
	}
}

func TestCancel(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"})
	release := make(chan struct{})
	reached := make(chan struct{}, 1)
	c.Answer = func(p []byte) []byte {
		reached <- struct{}{}
		<-release
		return p
	}
	cl := connect(t, c)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { <-reached; cancel() }()
	if err := cl.Do(ctx, "t", rows(t, "a=1")); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
	close(release)
	// While it looks for a server that is not there.
	c.HideMeta(true)
	cl.Forget()
	ctx, cancel = context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if err := cl.Do(ctx, "t", rows(t, "a=1")); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v", err)
	}
}

func TestRegistries(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.CreateTable("t", []string{"f"})
	dead := "127.0.0.1:1"
	for name, change := range map[string]func(*Config){
		"an ensemble, most of it dead": func(cfg *Config) { cfg.Quorum = append(cfg.Quorum, dead, dead, dead) },
		"region servers": func(cfg *Config) {
			cfg.Registry, cfg.Quorum, cfg.Bootstrap = RPCRegistry, nil, []string{dead, c.Addr(1), dead}
		},
	} {
		t.Run(name, func(t *testing.T) { do(t, connect(t, c, change), rows(t, "a=1")) })
	}
	t.Run("no node", func(t *testing.T) {
		cl := connect(t, c, func(cfg *Config) { cfg.Parent, cfg.Timeout = "/hbase-secure", 20*time.Millisecond })
		err := cl.Do(t.Context(), "t", rows(t, "a=1"))
		if !errors.Is(err, errNoNode) || !strings.Contains(err.Error(), "/hbase-secure") {
			t.Errorf("%v", err)
		}
	})
	t.Run("no ZooKeeper", func(t *testing.T) {
		cl := connect(t, c, func(cfg *Config) { cfg.Quorum, cfg.Timeout = []string{dead}, 20*time.Millisecond })
		if err := cl.Do(t.Context(), "t", rows(t, "a=1")); err == nil || !strings.Contains(err.Error(), "ZooKeeper 127.0.0.1:1") {
			t.Errorf("%v", err)
		}
	})
	t.Run("a node that comes", func(t *testing.T) {
		c.HideMeta(true)
		told := make(chan error, 10)
		cl := connect(t, c, func(cfg *Config) { cfg.Trouble = func(err error) { told <- err } })
		done := make(chan error)
		go func() { done <- cl.Do(t.Context(), "t", rows(t, "a=1")) }()
		<-told
		c.HideMeta(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// Whatever a server answers, the client neither panics nor believes it.
func TestBrokenAnswers(t *testing.T) {
	frame := func(p ...byte) []byte { return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...) }
	for name, breakIt := range map[string]func([]byte) []byte{
		"huge":         func([]byte) []byte { return []byte{0x7f, 0, 0, 0} },
		"empty":        func([]byte) []byte { return frame() },
		"text":         func([]byte) []byte { return []byte("HTTP/1.1 400 Bad Request\r\n\r\n") },
		"header only":  func(p []byte) []byte { return frame(p[4 : 4+1+int(p[4])]...) },
		"cut":          func(p []byte) []byte { return frame(p[4 : len(p)-1]...) },
		"more regions": func(p []byte) []byte { return frame(append(p[4:5+p[4]], 4, 0x0a, 0, 0x0a, 0)...) },
		"other index":  func(p []byte) []byte { return frame(append(p[4:5+p[4]], 6, 0x0a, 4, 0x0a, 2, 8, 9)...) },
		"cells":        func(p []byte) []byte { return frame(2, 0x1a, 0x00, 0) },
	} {
		t.Run(name, func(t *testing.T) {
			c := hbasetest.New(t, 1)
			c.CreateTable("t", []string{"f"})
			cl := connect(t, c)
			var n atomic.Int64
			c.Answer = func(p []byte) []byte {
				if n.Add(1) <= 2 {
					return breakIt(bytes.Clone(p))
				}
				return p
			}
			cl.cfg.RPCTimeout = 200 * time.Millisecond // for those that promise more
			do(t, cl, rows(t, "a=1"))
			if n.Load() < 3 {
				t.Errorf("believed after %d answers", n.Load())
			}
		})
	}
}

// A server that wants Kerberos answers the hello, before any request, with the
// number -1.
func TestRefusedConnection(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"})
	cl := connect(t, c, func(cfg *Config) { cfg.Timeout = 50 * time.Millisecond })
	c.Answer = func([]byte) []byte {
		x := append([]byte{0x0a, 12}, "AccessDenied"...)
		x = append(x, 0x12, 26)
		x = append(x, "Authentication is required"...)
		h := append([]byte{0x08, 0xff, 0xff, 0xff, 0xff, 0x0f, 0x12, byte(len(x))}, x...)
		p := append([]byte{byte(len(h))}, h...)
		return append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)
	}
	err := cl.Do(t.Context(), "t", rows(t, "a=1"))
	if err == nil || !strings.Contains(err.Error(), "Authentication is required") {
		t.Errorf("%v", err)
	}
}

func TestConcurrentDo(t *testing.T) {
	c := hbasetest.New(t, 2)
	c.CreateTable("t", []string{"f"}, "5")
	cl := connect(t, c)
	var wg sync.WaitGroup
	for g := range 8 {
		wg.Go(func() {
			for i := range 20 {
				if err := cl.Do(t.Context(), "t", rows(t, fmt.Sprintf("%d-%d=v", g, i))); err != nil {
					t.Error(err)
				}
				if i == 10 {
					c.Move("t", fmt.Sprint(g), g%2)
				}
			}
		})
	}
	wg.Wait()
	if n := len(c.Rows("t")); n != 160 {
		t.Errorf("%d rows", n)
	}
}
