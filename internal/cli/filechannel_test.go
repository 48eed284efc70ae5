package cli

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file"
)

// fileChannel makes a stopped channel with 40 events in several segments, of which some were taken.
func fileChannel(t *testing.T, change ...func(*file.Config)) (cfg file.Config, segments []string) {
	t.Helper()
	dir := t.TempDir()
	cfg = file.Config{CheckpointDir: filepath.Join(dir, "c"), DataDirs: []string{filepath.Join(dir, "d1"), filepath.Join(dir, "d2")},
		Capacity: 1000, TransactionCapacity: 100, MaxFileSize: 4096, CheckpointEvery: time.Hour}
	for _, f := range change {
		f(&cfg)
	}
	c := file.New(cfg)
	ctx := context.Background()
	if err := c.Start(ctx); err != nil {
		t.Fatal(err)
	}
	p := event.NewPool()
	for i := range 4 {
		b := p.NewBatch()
		for n := range 10 {
			b.AppendEvent(fmt.Appendf(nil, "event %d %s", 10*i+n, strings.Repeat("x", 200)), []event.KV{{Key: "n", Value: []byte("v")}, {Key: "nothing"}})
		}
		if err := c.Put(ctx, b); err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	l, err := c.NewTaker().Take(ctx, 7)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(l.Commit(), c.Stop(ctx)); err != nil {
		t.Fatal(err)
	}
	for _, d := range cfg.DataDirs {
		s, err := filepath.Glob(filepath.Join(d, "*"+file.SegmentExt))
		if err != nil {
			t.Fatal(err)
		}
		segments = append(segments, s...)
	}
	return cfg, segments
}

func flip(t *testing.T, path string, at int) {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	b[at] ^= 1
	if err := os.WriteFile(path, b, 0o640); err != nil {
		t.Fatal(err)
	}
}

func TestDumpFileChannel(t *testing.T) {
	cfg, segs := fileChannel(t)
	root := filepath.Dir(cfg.CheckpointDir)
	if code, out, errs := runWith(t, "sluice", "dump", "--verify", root); code != 0 || !strings.Contains(out, "1 put(s) of 10 event(s), 0 commit(s) of takes") || !strings.Contains(errs, "no damage") {
		t.Errorf("verify: %d\n%s%s", code, out, errs)
	}
	code, out, errs := runWith(t, "sluice", "dump", "--print-data-log", root)
	for _, want := range []string{"put frame: 0 position: 64 size: ", "firstEvent: 0 count: 10", "| event: 39 bodySize: 209 headers: [n=v,nothing is null] body: event 39 xx", "taken: 0-6 nextEvent: 40", "waiting: 33"} {
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("dump: %d, lacks %q\n%s%s", code, want, out, errs)
		}
	}
	code, out, errs = runWith(t, "sluice", "dump", "--json", "--deep", root)
	for line := range strings.Lines(out) {
		if !json.Valid([]byte(line)) {
			t.Errorf("not JSON: %s", line)
		}
	}
	if code != 0 || !strings.Contains(out, `"type":"take"`) || strings.Contains(out, "event 39") {
		t.Errorf("json: %d\n%s%s", code, out, errs)
	}
	flip(t, segs[0], 300)
	if code, out, errs := runWith(t, "sluice", "dump", "--verify", root); code != 1 || !strings.Contains(errs, segs[0]+": bytes 64 to ") {
		t.Errorf("damage: %d\n%s%s", code, out, errs)
	}
}

// TestEncryptedFileChannel: what is damaged shows without the keys, and is repaired; the events show with them.
func TestEncryptedFileChannel(t *testing.T) {
	dir := t.TempDir()
	store, own := filepath.Join(dir, "store.pw"), filepath.Join(dir, "key-0.pw")
	for path, password := range map[string]string{store: "storepass", own: "key0pass"} {
		if err := os.WriteFile(path, []byte(password), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	keys := &file.KeyStore{File: filepath.Join("..", "keystore", "testdata", "keys.jceks"), PasswordFile: store, Own: map[string]string{"key-0": own}}
	cfg, segs := fileChannel(t, func(c *file.Config) { c.Encryption = &file.Encryption{ActiveKey: "key-0", Open: keys.Open} })
	root := filepath.Dir(cfg.CheckpointDir)
	if code, out, errs := runWith(t, "sluice", "dump", root); code != 0 || !strings.Contains(out, "firstEvent: 0 count: 10 key: key-0\n") {
		t.Errorf("dump: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := runWith(t, "sluice", "dump", "--deep", root); code == 0 || !strings.Contains(errs, `encrypted with the key "key-0": give --keystore`) {
		t.Errorf("without the keys: %d\n%s%s", code, out, errs)
	}
	with := []string{"sluice", "dump", "--print-data-log", "--keystore", keys.File, "--keystore-password-file", store}
	if code, out, errs := runWith(t, append(with, root)...); code == 0 || !strings.Contains(errs, "is the key's password right?") {
		t.Errorf("without the key's password: %d\n%s%s", code, out, errs)
	}
	with = append(with, "--key-password-file", "key-0="+own)
	if code, out, errs := runWith(t, append(with, root)...); code != 0 || !strings.Contains(out, "| event: 39 bodySize: 209 headers: [n=v,nothing is null] body: event 39 xx") {
		t.Errorf("with the keys: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := runWith(t, "flume-ng", "tool", "fcintegritytool", "-l", strings.Join(cfg.DataDirs, ",")); code != 0 || !strings.Contains(out, "Number of Valid Put Events = 40") {
		t.Errorf("integrity tool: %d\n%s%s", code, out, errs)
	}
	flip(t, segs[0], 300) // in a frame
	flip(t, segs[1], 40)  // in the header
	if code, out, errs := runWith(t, "sluice", "dump", "--verify", root); code != 1 || !strings.Contains(errs, segs[0]+": bytes 64 to ") {
		t.Errorf("damage: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := runWith(t, append(with, segs[1])...); code == 0 || !strings.Contains(errs, "sluice repair") {
		t.Errorf("events behind a damaged header: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := runWith(t, append([]string{"sluice", "repair", cfg.CheckpointDir}, cfg.DataDirs...)...); code != 0 || !strings.Contains(out, "the header is made anew") {
		t.Errorf("repair: %d\n%s%s", code, out, errs)
	}
	if code, out, errs := runWith(t, append(with, segs[1])...); code != 0 || !strings.Contains(out, "body: event ") {
		t.Errorf("after the repair: %d\n%s%s", code, out, errs)
	}
}

func TestRepairFileChannel(t *testing.T) {
	for name, c := range map[string]struct {
		breaks  func(cfg file.Config, segs []string)
		refuses bool
		says    string
		left    int64
	}{
		"nothing":         {func(file.Config, []string) {}, false, "nothing to repair", 33},
		"a missing file":  {func(_ file.Config, segs []string) { os.Remove(segs[1]) }, true, "is no longer waited for", 23},
		"a header":        {func(_ file.Config, segs []string) { flip(t, segs[0], 40) }, false, "the header is made anew", 33},
		"the checkpoint":  {func(cfg file.Config, _ []string) { flip(t, filepath.Join(cfg.CheckpointDir, file.CheckpointName), 40) }, false, "set aside as sluice-checkpoint.damaged", 33},
		"damaged in one":  {func(_ file.Config, segs []string) { flip(t, segs[2], 300) }, false, "a copy of the damaged bytes is kept", 33},
		"the newest gone": {func(_ file.Config, segs []string) { os.Remove(newest(segs)) }, true, "its events are lost", 30},
	} {
		cfg, segs := fileChannel(t)
		c.breaks(cfg, segs)
		start := func() error {
			ch := file.New(cfg)
			err := ch.Start(context.Background())
			if err == nil {
				if got := ch.Stats().Size; got != c.left {
					t.Errorf("%s: %d events are left, want %d", name, got, c.left)
				}
				err = ch.Stop(context.Background())
			}
			return err
		}
		if c.refuses {
			if err := start(); err == nil {
				t.Errorf("%s: it starts", name)
			}
		}
		dirs := append([]string{cfg.CheckpointDir}, cfg.DataDirs...)
		code, out, errs := runWith(t, append([]string{"sluice", "repair", "--dry-run"}, dirs...)...)
		if code != 0 || !strings.Contains(out, c.says) {
			t.Errorf("%s: dry run: %d\n%s%s", name, code, out, errs)
		}
		if code, out, errs = runWith(t, append([]string{"sluice", "repair"}, dirs...)...); code != 0 || !strings.Contains(out, c.says) {
			t.Errorf("%s: repair: %d\n%s%s", name, code, out, errs)
		}
		if code, out, errs = runWith(t, append([]string{"sluice", "repair"}, dirs...)...); code != 0 || !strings.Contains(out, "nothing to repair") {
			t.Errorf("%s: second repair: %d\n%s%s", name, code, out, errs)
		}
		if err := start(); err != nil {
			t.Errorf("%s: start after repair: %v", name, err)
		}
	}
	if code, _, errs := runWith(t, "sluice", "repair", t.TempDir()); code != 1 || !strings.Contains(errs, "there are no files of a file channel") {
		t.Errorf("nothing there: %d %s", code, errs)
	}
}

func newest(segs []string) (last string) {
	for _, s := range segs {
		if filepath.Base(s) > filepath.Base(last) {
			last = s
		}
	}
	return last
}

func TestIntegrityTool(t *testing.T) {
	cfg, segs := fileChannel(t)
	dirs := strings.Join(cfg.DataDirs, ",")
	want := func(corrupt, puts int) {
		t.Helper()
		code, out, errs := runWith(t, "flume-ng", "tool", "fcintegritytool", "-l", dirs)
		if code != 0 || !strings.Contains(out, fmt.Sprintf("Number of Put Events Processed = %d\nNumber of Valid Put Events = %[1]d\n", puts)) ||
			!strings.Contains(out, fmt.Sprintf("Number of Corrupt Events = %d\n", corrupt)) || strings.Count(out, "\n") != 8 {
			t.Errorf("%d\n%s%s", code, out, errs)
		}
	}
	want(0, 40)
	flip(t, segs[0], 300)
	want(1, 30)
	kept, err := filepath.Glob(segs[0] + ".*.damaged")
	if err != nil || len(kept) != 1 {
		t.Errorf("kept: %q %v", kept, err)
	}
}

// flumeFiles has files that Flume wrote.
const flumeFiles = "../channel/file/flumelog/testdata"

// TestIntegrityToolOnFlume: a log file of Flume with a put whose body was changed.
func TestIntegrityToolOnFlume(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log-1")
	log, err := os.ReadFile(filepath.Join(flumeFiles, "log-1"))
	if err != nil {
		t.Fatal(err)
	}
	meta, err := os.ReadFile(filepath.Join(flumeFiles, "log-1.meta"))
	if err != nil {
		t.Fatal(err)
	}
	at := bytes.Index(log, []byte("second line"))
	log[at] ^= 1
	if err := errors.Join(os.WriteFile(path, log, 0o640), os.WriteFile(path+".meta", meta, 0o640)); err != nil {
		t.Fatal(err)
	}
	// Flume was killed when it had just begun this one.
	if err := os.WriteFile(filepath.Join(dir, "log-2"), nil, 0o640); err != nil {
		t.Fatal(err)
	}
	code, out, errs := runWith(t, "flume-ng", "tool", "fcintegritytool", "--dataDirs", dir)
	if code != 0 || !strings.Contains(errs, "log-2: nothing was written to it: passed over") || !strings.Contains(out, "Events in the Channel = 5\nNumber of Put Events Processed = 2\nNumber of Valid Put Events = 2\n") || !strings.Contains(out, "Corrupt Events = 1\n") {
		t.Errorf("%d\n%s%s", code, out, errs)
	}
	if b, err := os.ReadFile(path + ".bak"); err != nil || !bytes.Equal(b, log) {
		t.Errorf("the copy is not what was there: %v", err)
	}
	if code, out, errs = runWith(t, "flume-ng", "tool", "fcintegritytool", "-l", dir); code != 0 || !strings.Contains(out, "Corrupt Events = 0\n") {
		t.Errorf("second run: %d\n%s%s", code, out, errs)
	}
	if code, _, errs = runWith(t, "flume-ng", "tool", "fcintegritytool", "-l", dir+"/none"); code != 1 || !strings.Contains(errs, "does not exist") {
		t.Errorf("missing directory: %d %s", code, errs)
	}
}
