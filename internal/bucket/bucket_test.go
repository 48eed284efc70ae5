package bucket

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"maps"
	"path"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/dfs"
)

// lines is an encoder of lines, below a head.
type lines struct {
	head string
	fail error
}

func (l *lines) AppendHeader(dst []byte) ([]byte, error) { return append(dst, l.head...), nil }

func (l *lines) AppendEvents(dst []byte, evs []event.Event) ([]byte, error) {
	if l.fail != nil {
		return nil, l.fail
	}
	for i := range evs {
		dst = append(append(dst, evs[i].Body...), '\n')
	}
	return dst, nil
}

// harness is a set that writes into memory. It belongs into a bubble of synctest, whose clock it goes by.
type harness struct {
	*Set
	t    *testing.T
	fs   *memFS
	enc  *lines // of all files
	logs bytes.Buffer

	created, closed, failed atomic.Int64
}

// start makes a set in a bubble of its own, runs the test in it and stops the set.
func start(t *testing.T, cfg Config, test func(h *harness)) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, fs: &memFS{files: map[string]*memFile{}}, enc: &lines{}}
		time.Sleep(time.Until(time.Date(2026, 11, 26, 12, 0, 0, 0, time.UTC))) // counters are of this century
		h.again(cfg)
		test(h)
		h.stop()
	})
}

// again makes another set over the same files.
func (h *harness) again(cfg Config) {
	cfg.FS, cfg.Now, cfg.Log = h.fs, time.Now, slog.New(slog.NewTextHandler(&h.logs, nil))
	cfg.NewEncoder = func(Target) (Encoder, error) { return h.enc, nil }
	cfg.Created, cfg.Closed, cfg.Failed = &h.created, &h.closed, &h.failed
	h.Set = New(cfg)
}

func (h *harness) stop() {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Hour)
	defer cancel()
	if err := h.Stop(ctx); err != nil {
		h.t.Error(err)
	}
}

func target(dir string) Target { return Target{Dir: dir, Prefix: "p"} }

func (h *harness) write(dir string, bodies ...string) {
	h.t.Helper()
	if err := h.Write(target(dir), componenttest.Events(bodies...)); err != nil {
		h.t.Fatal(err)
	}
}

// refuse writes what cannot be written.
func (h *harness) refuse(dir string, want error, bodies ...string) {
	h.t.Helper()
	if err := h.Write(target(dir), componenttest.Events(bodies...)); !errors.Is(err, want) {
		h.t.Fatalf("%v, want %v", err, want)
	}
}

// after lets time pass, in which the set is ticked every second.
func (h *harness) after(d time.Duration) {
	for end := time.Now().Add(d); time.Now().Before(end); {
		time.Sleep(min(time.Second, time.Until(end)))
		h.Tick()
	}
}

// want compares what is in files for good, flushed or closed, with the counters in the names made N, in their order.
func (h *harness) want(want ...string) {
	h.t.Helper()
	h.fs.mu.Lock()
	defer h.fs.mu.Unlock()
	var got []string
	for _, name := range slices.Sorted(maps.Keys(h.fs.files)) {
		parts := strings.Split(name, ".")
		for i, p := range parts {
			digits, rest, _ := strings.Cut(p, "-")
			if _, err := strconv.Atoi(digits); err == nil && len(digits) >= 12 {
				parts[i] = "N" + p[len(digits):len(p)-len(rest)] + rest
			}
		}
		got = append(got, strings.Join(parts, ".")+" "+strings.ReplaceAll(h.fs.files[name].flushed, "\n", "|"))
	}
	if !slices.Equal(got, want) {
		h.t.Errorf("files\n%q, want\n%q", got, want)
	}
}

var errBroken = errors.New("broken")

// failing makes one operation fail, for names with a text in them.
func failing(op, text string, err error) func(op, name string) error {
	return func(o, name string) error {
		if o == op && strings.Contains(name, text) {
			return err
		}
		return nil
	}
}

func TestNames(t *testing.T) {
	for _, tt := range []struct {
		name          string
		cfg           Config
		target        Target
		inUse, closed string
	}{
		{"plain", Config{InUseSuffix: ".tmp"}, Target{"/d", "p"}, "/d/p.N.tmp", "/d/p.N"},
		{"all parts", Config{InUsePrefix: "_", InUseSuffix: ".tmp", Suffix: ".gz"}, Target{"/d", "p"}, "/d/_p.N.gz.tmp", "/d/p.N.gz"},
		{"none while it is written", Config{}, Target{"/d", "p"}, "/d/p.N", "/d/p.N"},
		{"no prefix", Config{InUseSuffix: ".tmp"}, Target{"/d", ""}, "/d/.N.tmp", "/d/.N"},
		{"the root", Config{InUseSuffix: ".tmp"}, Target{"/", "p"}, "/p.N.tmp", "/p.N"},
		{"relative", Config{InUsePrefix: "_"}, Target{"", "p"}, "_p.N", "p.N"},
		{"slashes of headers that are missing", Config{InUseSuffix: ".tmp"}, Target{"/d//e/", "p"}, "/d/e/p.N.tmp", "/d/e/p.N"},
		// The file is renamed within its directory: to another one it could not be.
		{"a slash in the prefix", Config{InUsePrefix: "_"}, Target{"/d", "a/p"}, "/d/a/_p.N", "/d/a/p.N"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			start(t, tt.cfg, func(h *harness) {
				h.t = t
				if err := h.Write(tt.target, componenttest.Events("1")); err != nil {
					t.Fatal(err)
				}
				h.want(tt.inUse + " 1|")
				for name := range h.fs.files {
					counter := fmt.Sprint(time.Now().UnixMilli() + 1)
					if !strings.Contains(name, "."+counter) {
						t.Errorf("%s has not the counter %s", name, counter)
					}
				}
				h.stop()
				h.want(tt.closed + " 1|")
			})
		})
	}
}

// A name that somebody has is passed over, while the file is written and after that.
func TestNamesTaken(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp", Suffix: ".log"}, func(h *harness) {
		now := time.Now().UnixMilli()
		h.fs.put(fmt.Sprintf("/d/p.%d.log.tmp", now+1), "another agent's\n")
		h.fs.put(fmt.Sprintf("/d/p.%d.log", now+2), "and what it closed\n")
		h.fs.put(fmt.Sprintf("/d/p.%d-1.log", now+2), "twice\n")
		h.write("/d", "1")
		h.stop()
		h.want("/d/p.N.log.tmp another agent's|", "/d/p.N-1.log twice|", "/d/p.N-2.log 1|", "/d/p.N.log and what it closed|")
	})
}

// What says of each name that it is taken, as a directory that is a file does, does not hold the sink for ever.
func TestAllNamesTaken(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) {
		h.fs.set(failing("create", "/bad/", fs.ErrExist))
		h.refuse("/bad", fs.ErrExist, "1")
		h.write("/good", "2")
		h.want("/good/p.N.tmp 2|")
	})
	start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) {
		h.write("/d", "1")
		h.fs.set(failing("rename", "", fs.ErrExist))
		h.Set.cfg.Retry, h.Set.cfg.Tries = time.Second, 2
		h.stop()
		h.want("/d/p.N.tmp 1|")
	})
}

func TestRolls(t *testing.T) {
	const year = 365 * 24 * time.Hour
	for _, tt := range []struct {
		name string
		cfg  Config
		test func(h *harness)
		want []string
	}{
		{"never", Config{}, func(h *harness) { h.write("/d", "1"); h.after(time.Hour); h.write("/d", "2") }, []string{"/d/p.N.tmp 1|2|"}},
		{"count", Config{RollCount: 2}, func(h *harness) { h.write("/d", "1", "2", "3", "4", "5") }, []string{"/d/p.N 1|2|", "/d/p.N 3|4|", "/d/p.N.tmp 5|"}},
		{"count, over batches", Config{RollCount: 2}, func(h *harness) { h.write("/d", "1"); h.write("/d", "2", "3"); h.write("/d", "4") }, []string{"/d/p.N 1|2|", "/d/p.N.tmp 3|4|"}},
		{"count of each bucket", Config{RollCount: 2}, func(h *harness) { h.write("/d", "1"); h.write("/e", "2"); h.write("/d", "3"); h.write("/d", "4") }, []string{"/d/p.N 1|3|", "/d/p.N.tmp 4|", "/e/p.N.tmp 2|"}},
		{"size", Config{RollSize: 4}, func(h *harness) { h.write("/d", "123", "4", "5"); h.write("/d", "678", "9") }, []string{"/d/p.N 123|4|", "/d/p.N 5|678|", "/d/p.N.tmp 9|"}},
		{"size of one event", Config{RollSize: 4}, func(h *harness) { h.write("/d", "123456", "1") }, []string{"/d/p.N 123456|", "/d/p.N.tmp 1|"}},
		{"whichever is first", Config{RollSize: 4, RollCount: 3}, func(h *harness) { h.write("/d", "1", "2", "3", "4567", "8") }, []string{"/d/p.N 1|2|3|", "/d/p.N 4567|", "/d/p.N.tmp 8|"}},
		{"empty bodies", Config{RollSize: 1}, func(h *harness) { h.write("/d", "", "", "1", "") }, []string{"/d/p.N ||1|", "/d/p.N.tmp |"}},
		{"age, not yet", Config{RollInterval: time.Minute}, func(h *harness) {
			h.write("/d", "1")
			h.after(30 * time.Second)
			h.write("/d", "2")
			h.after(29 * time.Second)
		}, []string{"/d/p.N.tmp 1|2|"}},
		{"age", Config{RollInterval: time.Minute}, func(h *harness) {
			h.write("/d", "1")
			h.after(30 * time.Second)
			h.write("/d", "2")
			h.after(30 * time.Second)
		}, []string{"/d/p.N 1|2|"}},
		{"age of the second file", Config{RollInterval: time.Minute, RollCount: 1}, func(h *harness) {
			h.write("/d", "1")
			h.after(50 * time.Second)
			h.write("/d", "2")
			h.after(59 * time.Second)
		}, []string{"/d/p.N 1|", "/d/p.N.tmp 2|"}},
		{"idle, not yet", Config{Idle: time.Minute}, func(h *harness) {
			h.write("/d", "1")
			h.after(59 * time.Second)
			h.write("/d", "2")
			h.after(59 * time.Second)
		}, []string{"/d/p.N.tmp 1|2|"}},
		{"idle", Config{Idle: time.Minute}, func(h *harness) {
			h.write("/d", "1")
			h.write("/e", "2")
			h.after(59 * time.Second)
			h.write("/e", "3")
			h.after(time.Second)
		}, []string{"/d/p.N 1|", "/e/p.N.tmp 2|3|"}},
		{"idle, then more", Config{Idle: time.Minute}, func(h *harness) { h.write("/d", "1"); h.after(time.Minute); h.write("/d", "2") }, []string{"/d/p.N 1|", "/d/p.N.tmp 2|"}},
		{"idle for a year", Config{Idle: year}, func(h *harness) { h.write("/d", "1"); time.Sleep(year); h.Tick() }, []string{"/d/p.N 1|"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			tt.cfg.InUseSuffix = ".tmp"
			start(t, tt.cfg, func(h *harness) {
				h.t = t
				tt.test(h)
				h.want(tt.want...)
				made, closed := h.created.Load(), h.closed.Load()
				if inUse := int64(len(tt.want)) - closed; made != int64(len(tt.want)) || inUse != int64(strings.Count(strings.Join(tt.want, ""), ".tmp")) {
					t.Errorf("%d files were made and %d closed", made, closed)
				}
			})
		})
	}
}

// Each file has a head, and one without events is not made.
func TestHead(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp", RollCount: 1}, func(h *harness) {
		h.enc.head = "#"
		if err := h.Write(target("/d"), nil); err != nil {
			t.Error(err)
		}
		h.want()
		h.write("/d", "1", "2")
		h.want("/d/p.N #1|", "/d/p.N.tmp #2|")
	})
}

// A batch is flushed once, and each file that is complete before it is closed: an error of that is one of the batch.
func TestFlushes(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp", RollCount: 2}, func(h *harness) {
		h.write("/d", "1", "2", "3")
		if n := h.fs.count("flush"); n != 2 {
			t.Errorf("%d flushes", n)
		}
		h.fs.set(failing("flush", "", errBroken))
		h.refuse("/d", errBroken, "4", "5")
		h.fs.set(nil)
		h.write("/d", "4", "5")
		h.stop()
		h.want("/d/p.N 1|2|", "/d/p.N 3|", "/d/p.N 4|5|")
	})
}

// Pieces of a large batch are encoded one after another, and the memory for a huge event is not kept.
func TestLargeBatch(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) {
		third := strings.Repeat("x", maxPiece/3)
		h.write("/d", third, third, third, third, third)
		if n := h.fs.count("write"); n != 2 {
			t.Errorf("%d pieces", n)
		}
		h.write("/d", strings.Repeat("y", 9*maxPiece))
		if h.buf != nil {
			t.Errorf("%d bytes are kept", cap(h.buf))
		}
		for _, f := range h.fs.files {
			if want := 5*(len(third)+1) + 9*maxPiece + 1; len(f.flushed) != want {
				t.Errorf("%d bytes, want %d", len(f.flushed), want)
			}
		}
	})
}

func TestMostFiles(t *testing.T) {
	cfg := Config{InUseSuffix: ".tmp", MaxOpen: 2}
	start(t, cfg, func(h *harness) {
		for _, dir := range []string{"/a", "/b", "/a", "/c", "/a"} { // /b was used longest ago
			h.write(dir, "1")
			h.after(time.Second)
		}
		h.want("/a/p.N.tmp 1|1|1|", "/b/p.N 1|", "/c/p.N.tmp 1|")
		h.write("/b", "2")
		h.want("/a/p.N.tmp 1|1|1|", "/b/p.N 1|", "/b/p.N.tmp 2|", "/c/p.N 1|")
	})
	// Buckets that cannot be written take no file from others.
	start(t, cfg, func(h *harness) {
		h.write("/a", "1")
		h.fs.set(failing("create", "bad", fs.ErrPermission))
		for i := range 5 {
			h.after(time.Second)
			h.refuse(fmt.Sprintf("/bad%d", i), fs.ErrPermission, "2")
		}
		h.write("/b", "3")
		h.write("/a", "4")
		h.want("/a/p.N.tmp 1|4|", "/b/p.N.tmp 3|")
		if len(h.open) != 2 {
			t.Errorf("%d buckets", len(h.open))
		}
	})
	start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) { // any number
		for i := range 100 {
			h.write(fmt.Sprint("/", i), "1")
		}
		if h.closed.Load() != 0 {
			t.Error("files were closed")
		}
	})
}

// After an error the file ends with what was delivered before, and the batch goes into another.
func TestErrors(t *testing.T) {
	for _, tt := range []struct {
		op    string
		first []string // of the file that was given up
	}{{"write", []string{"/d/p.N 1|"}}, {"flush", []string{"/d/p.N 1|"}}, {"encode", []string{"/d/p.N 1|"}}} {
		for _, delivered := range []bool{true, false} {
			t.Run(fmt.Sprint(tt.op, delivered), func(t *testing.T) {
				start(t, Config{InUseSuffix: ".tmp", Retry: time.Minute}, func(h *harness) {
					h.t = t
					var want []string
					if delivered {
						h.write("/d", "1")
						want = tt.first
					}
					h.fs.set(failing(tt.op, "/d/", errBroken))
					if tt.op == "encode" {
						h.enc.fail = errBroken
					}
					for range 3 {
						h.refuse("/d", errBroken, "2", "3")
						h.Tick()
					}
					h.want(want...) // and not one more each time
					h.fs.set(nil)
					h.enc.fail = nil
					h.write("/d", "2", "3")
					h.want(append(want, "/d/p.N.tmp 2|3|")...)
					if n := h.failed.Load(); n != 3 {
						t.Errorf("%d errors are counted", n)
					}
				})
			})
		}
	}
	t.Run("the head", func(t *testing.T) {
		start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) {
			h.t, h.enc.head = t, "#"
			h.fs.set(failing("write", "", errBroken))
			h.refuse("/d", errBroken, "1")
			h.Tick()
			h.want()
		})
	})
	t.Run("no encoder", func(t *testing.T) {
		start(t, Config{}, func(h *harness) {
			h.t = t
			h.Set.cfg.NewEncoder = func(Target) (Encoder, error) { return nil, errBroken }
			h.refuse("/d", errBroken, "1")
			h.want()
		})
	})
	t.Run("while nothing is written", func(t *testing.T) {
		start(t, Config{InUseSuffix: ".tmp"}, func(h *harness) {
			h.t = t
			h.write("/d", "1")
			h.write("/e", "1")
			h.fs.set(failing("err", "/d/", errBroken))
			h.Tick()
			h.want("/d/p.N 1|", "/e/p.N.tmp 1|")
		})
	})
}

// One that fails does not keep the others from anything: they are written, rolled and closed.
func TestBadBucket(t *testing.T) {
	for _, op := range []string{"create", "write", "flush", "close", "recover", "rename", "remove"} {
		t.Run(op, func(t *testing.T) {
			start(t, Config{InUseSuffix: ".tmp", RollInterval: time.Minute, Retry: 10 * time.Second}, func(h *harness) {
				h.t = t
				h.fs.set(func(o, name string) error {
					if strings.Contains(name, "/bad/") && (o == op || op == "recover" && o == "close" || op == "remove" && o == "flush") {
						return errBroken
					}
					return nil
				})
				_ = h.Write(target("/bad"), componenttest.Events("0"))
				h.write("/a", "1")
				h.after(time.Minute)
				_ = h.Write(target("/bad"), componenttest.Events("0"))
				h.write("/b", "2")
				h.after(time.Minute)
				var good []string
				for _, name := range slices.Sorted(maps.Keys(h.fs.files)) {
					if !strings.HasPrefix(name, "/bad/") {
						good = append(good, path.Dir(name)+path.Ext(name))
					}
				}
				if len(good) != 2 || strings.Contains(strings.Join(good, " "), ".tmp") {
					t.Errorf("%q", good)
				}
				h.fs.set(nil)
			})
		})
	}
}

func TestCloseTries(t *testing.T) {
	for _, op := range []string{"close", "rename"} {
		for _, tt := range []struct {
			name  string
			retry time.Duration
			tries int
			want  int // in an hour
		}{
			{"for ever", 10 * time.Minute, 0, 7},
			{"three times", 10 * time.Minute, 3, 3},
			{"once", 0, 0, 1},
		} {
			t.Run(op+" "+tt.name, func(t *testing.T) {
				start(t, Config{InUseSuffix: ".tmp", RollCount: 1, Retry: tt.retry, Tries: tt.tries}, func(h *harness) {
					h.t = t
					fails := 0
					h.fs.set(func(o, name string) error {
						if o == op || op == "close" && o == "recover" {
							fails++
							return errBroken
						}
						return nil
					})
					h.write("/d", "1", "2")
					h.after(time.Hour)
					if fails != tt.want || h.failed.Load() != int64(tt.want) {
						t.Errorf("%d tries, %d errors are counted; want %d", fails, h.failed.Load(), tt.want)
					}
					if gaveUp := strings.Contains(h.logs.String(), "keeps its temporary name"); gaveUp != (tt.name != "for ever") {
						t.Errorf("given up: %v\n%s", gaveUp, h.logs.String())
					}
					h.want("/d/p.N.tmp 1|", "/d/p.N.tmp 2|")
					h.fs.set(nil)
					h.after(10 * time.Minute)
					if tt.name == "for ever" {
						h.want("/d/p.N 1|", "/d/p.N.tmp 2|")
					} else {
						h.want("/d/p.N.tmp 1|", "/d/p.N.tmp 2|")
					}
				})
			})
		}
	}
	// That a name node is still at it is no failed try.
	t.Run("busy", func(t *testing.T) {
		start(t, Config{InUseSuffix: ".tmp", Retry: time.Hour, Tries: 1}, func(h *harness) {
			h.t = t
			h.write("/d", "1")
			h.fs.set(func(op, _ string) error {
				switch op {
				case "flush":
					return errBroken
				case "recover":
					return dfs.ErrBusy
				}
				return nil
			})
			h.refuse("/d", errBroken, "2")
			h.after(5 * time.Minute)
			h.want("/d/p.N.tmp 1|")
			if n := h.fs.count("recover"); n < 20 || n > 60 {
				t.Errorf("%d looks in five minutes", n)
			}
			h.fs.set(nil)
			h.after(maxBusy)
			h.want("/d/p.N 1|")
		})
	})
}

// A rename whose answer was lost is no error, and gives no file twice.
func TestRenameAnswerLost(t *testing.T) {
	start(t, Config{InUseSuffix: ".tmp", Retry: time.Second}, func(h *harness) {
		h.write("/d", "1")
		lost := false
		h.fs.set(func(op, name string) error {
			if op == "rename" && !lost {
				lost = true
				f := h.fs.files[name]
				delete(h.fs.files, name)
				h.fs.files[strings.TrimSuffix(name, ".tmp")] = f
				return errBroken
			}
			return nil
		})
		h.stop()
		h.want("/d/p.N 1|")
		if h.closed.Load() != 1 {
			t.Errorf("%d files are counted as closed", h.closed.Load())
		}
	})
}

// Of lines that were cut by an error, only whole ones stay.
func TestLinesAreTrimmed(t *testing.T) {
	for _, cut := range []bool{true, false} {
		start(t, Config{InUseSuffix: ".tmp", Lines: cut, Retry: time.Second}, func(h *harness) {
			h.write("/d", "1")
			for _, f := range h.fs.files {
				f.flushed += "half a li"
			}
			h.fs.set(failing("flush", "", errBroken))
			h.refuse("/d", errBroken, "2")
			h.fs.set(failing("trim", "", errBroken))
			h.after(5 * time.Second)
			h.fs.set(nil)
			h.after(5 * time.Second)
			if cut {
				h.want("/d/p.N 1|")
			} else {
				h.want("/d/p.N 1|half a li")
			}
		})
	}
}

func TestStop(t *testing.T) {
	// What is being recovered is waited for.
	start(t, Config{InUseSuffix: ".tmp", Retry: time.Hour}, func(h *harness) {
		begin := time.Now()
		h.write("/d", "1")
		h.write("/e", "1")
		h.fs.set(func(op, name string) error {
			switch {
			case op == "close" && strings.HasPrefix(name, "/d"):
				return errBroken
			case op == "recover" && time.Since(begin) < 5*time.Second:
				return dfs.ErrBusy
			}
			return nil
		})
		h.stop()
		h.want("/d/p.N 1|", "/e/p.N 1|")
	})
	// But not for longer than allowed, and with a word about what is left, not one for each try.
	start(t, Config{InUseSuffix: ".tmp", Retry: time.Hour}, func(h *harness) {
		h.write("/d", "1")
		h.write("/e", "1")
		h.fs.set(failing("rename", "/d/", errBroken))
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		defer cancel()
		begin := time.Now()
		if err := h.Stop(ctx); err == nil || !strings.Contains(err.Error(), "/d/p.") || !strings.Contains(err.Error(), "1 files keep") {
			t.Error(err)
		}
		if d := time.Since(begin); d != time.Minute {
			t.Errorf("it took %v", d)
		}
		if n := h.fs.count("rename"); n > 50 {
			t.Errorf("%d renames were tried in a minute", n)
		}
		h.want("/d/p.N.tmp 1|", "/e/p.N 1|")
		h.fs.set(nil)
	})
}

// What a process before this one left is closed, as far as it is ours, and what cannot be looked at keeps nothing else.
func TestLeftovers(t *testing.T) {
	cfg := Config{InUsePrefix: "_", InUseSuffix: ".tmp", Suffix: ".log", Retry: time.Second}
	start(t, cfg, func(h *harness) {
		old := time.Now().Add(-time.Hour).UnixMilli()
		ours := fmt.Sprintf("_p.%d.log.tmp", old)
		for _, name := range []string{
			"/d/" + ours, "/d/a/" + ours, "/d/a/b/" + ours, "/d/closed/" + ours, "/other/" + ours,
			"/d/x/_other." + ours[3:], "/d/x/" + ours[1:], "/d/x/" + strings.TrimSuffix(ours, ".tmp"), "/d/x/_p.12.log.tmp", "/d/x/_p.x.log.tmp", "/d/x/_p.log.tmp",
			fmt.Sprintf("/d/x/_p.%d.log.tmp", time.Now().Add(time.Hour).UnixMilli()), // of a process that is younger
		} {
			h.fs.put(name, "1\n")
		}
		h.fs.set(failing("list", "/d/closed", fs.ErrPermission))
		h.Reclaim("/d", func(prefix string) bool { return prefix == "p" })
		h.after(time.Hour)
		want := []string{
			"/d/a/b/p.N.log 1|", "/d/a/p.N.log 1|", "/d/closed/_p.N.log.tmp 1|", "/d/p.N.log 1|",
			"/d/x/_other.N.log.tmp 1|", "/d/x/_p.12.log.tmp 1|", "/d/x/_p.N.log 1|", "/d/x/_p.N.log.tmp 1|", "/d/x/_p.log.tmp 1|", "/d/x/_p.x.log.tmp 1|", "/d/x/p.N.log.tmp 1|",
			"/other/_p.N.log.tmp 1|",
		}
		h.want(want...)
		if n := strings.Count(h.logs.String(), "cannot be looked through"); n != 1 {
			t.Errorf("it was said %d times", n)
		}
		h.fs.set(nil)
		h.after(time.Minute)
		want[2] = "/d/closed/p.N.log 1|"
		h.want(want...)
	})
	// A cluster that is down is waited for; that is said where events are written.
	start(t, cfg, func(h *harness) {
		h.fs.put(fmt.Sprintf("/d/_p.%d.log.tmp", time.Now().Add(-time.Hour).UnixMilli()), "1\n")
		h.fs.set(failing("list", "", errBroken))
		h.Reclaim("/d", func(string) bool { return true })
		h.after(time.Hour)
		h.fs.set(nil)
		h.after(time.Minute)
		h.want("/d/p.N.log 1|")
		if strings.Contains(h.logs.String(), "cannot be looked through") {
			t.Error(h.logs.String())
		}
	})
	// The search ends with the set: no goroutine of it may be left in the bubble.
	start(t, cfg, func(h *harness) {
		h.fs.set(failing("list", "", errBroken))
		h.Reclaim("/d", func(string) bool { return true })
		time.Sleep(time.Minute)
	})
	// A file of somebody who is at work stays his, until he is gone.
	start(t, cfg, func(h *harness) {
		name := fmt.Sprintf("/d/_p.%d.log.tmp", time.Now().Add(-time.Hour).UnixMilli())
		h.fs.put(name, "1\n")
		h.fs.files[name].open = true
		h.Reclaim("/d", func(string) bool { return true })
		h.after(time.Hour)
		h.want("/d/_p.N.log.tmp 1|")
		h.fs.mu.Lock()
		h.fs.files[name].open = false
		h.fs.mu.Unlock()
		h.after(time.Minute)
		h.want("/d/p.N.log 1|")
	})
	// Without a temporary name nothing is looked for.
	start(t, Config{}, func(h *harness) {
		h.Reclaim("/d", func(string) bool { return true })
		time.Sleep(time.Minute)
		if n := h.fs.count("list"); n != 0 {
			t.Errorf("%d directories were looked at", n)
		}
	})
}

// Events for an open bucket cost no memory, whatever bucket was written before.
func TestAllocations(t *testing.T) {
	h := &harness{t: t, enc: &lines{}}
	h.again(Config{InUseSuffix: ".tmp", RollCount: 1 << 40, RollSize: 1 << 50, RollInterval: time.Hour, Idle: time.Hour, MaxOpen: 10})
	h.Set.cfg.FS = nowhere{}
	batch := componenttest.Events(slices.Repeat([]string{"0123456789"}, 100)...)
	componenttest.NoMoreAllocs(t, 0, func() {
		for _, dir := range []string{"/a", "/a", "/b"} {
			if err := h.Write(target(dir), batch); err != nil {
				t.Fatal(err)
			}
		}
		h.Tick()
	})
	h.stop()
}

// nowhere is a file system that keeps nothing.
type nowhere struct{ *memFS }

func (nowhere) Create(string) (dfs.File, error) { return nowhereFile{}, nil }
func (nowhere) Rename(string, string) error     { return nil }

type nowhereFile struct{}

func (nowhereFile) Write(p []byte) (int, error) { return len(p), nil }
func (nowhereFile) Flush() error                { return nil }
func (nowhereFile) Err() error                  { return nil }
func (nowhereFile) Close() error                { return nil }
func (nowhereFile) Abort()                      {}
