package file

import (
	"bytes"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/keystore"
	"github.com/sluice-data/sluice/internal/seglog"
)

// flumeDirs are the directories of a channel that a real Flume left: three lines, none taken.
func flumeDirs(t *testing.T, files string) Config {
	t.Helper()
	cfg := testConfig(t.TempDir())
	for _, dir := range cfg.DataDirs {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.CopyFS(cfg.DataDirs[1], os.DirFS(files)); err != nil {
		t.Fatal(err)
	}
	return cfg
}

func bodiesOf(t *testing.T, c *Channel) (got []string) {
	t.Helper()
	tk := c.NewTaker()
	for {
		l, err := tk.Take(t.Context(), 2)
		if err != nil {
			t.Fatal(err)
		}
		if l == nil {
			return got
		}
		for _, e := range l.Events() {
			got = append(got, string(e.Body))
		}
		if err := l.Commit(); err != nil {
			t.Fatal(err)
		}
	}
}

// clearFiles were written without encryption.
var clearFiles = filepath.Join("flumelog", "testdata")

var flumeLines = []string{"first line", "second line", "third line"}

func TestImport(t *testing.T) {
	cfg := flumeDirs(t, clearFiles)
	var log bytes.Buffer
	cfg.Env.Log = slog.New(slog.NewTextHandler(&log, nil))
	name := filepath.Join(cfg.DataDirs[1], "log-1")
	before, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	run := func(want []string) {
		t.Helper()
		c := New(cfg)
		if err := c.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		if n := c.Stats().Size; n != int64(len(want)) {
			t.Errorf("size %d, want %d", n, len(want))
		}
		if got := bodiesOf(t, c); !slices.Equal(got, want) {
			t.Errorf("got %q", got)
		}
		if err := c.Stop(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	run(flumeLines)
	run(nil)
	if strings.Contains(log.String(), "not among those") {
		t.Errorf("a file that was taken over is warned of:\n%s", log.String())
	}
	if after, err := os.ReadFile(name); err != nil || !bytes.Equal(after, before) {
		t.Errorf("Flume's file was changed: %v", err)
	}
	// A Flume worked on it since.
	if err := os.Chtimes(name, time.Time{}, time.Now().Add(time.Hour)); err != nil {
		t.Fatal(err)
	}
	run(nil)
	if !strings.Contains(log.String(), "not among those") {
		t.Error("nothing is said of a file that changed after its events were taken over")
	}
	// Our own files are gone: the events are not taken over a second time.
	for _, dir := range cfg.DataDirs {
		segs, err := filepath.Glob(filepath.Join(dir, "*"+segmentExt))
		if err != nil {
			t.Fatal(err)
		}
		for _, s := range segs {
			if err := os.Remove(s); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := os.Remove(checkpointPath(cfg.CheckpointDir)); err != nil {
		t.Fatal(err)
	}
	run(nil)
}

// TestImportInterrupted: what an import had written that did not come to its end does not count.
func TestImportInterrupted(t *testing.T) {
	cfg := flumeDirs(t, clearFiles)
	half := segmentInfo{id: channelID{7}, importing: true, prev: -1}
	b := append(half.encode(), putFrame(0, 0, someEvents()...)...)
	if err := os.WriteFile(seglog.Name(cfg.DataDirs[0], 0, segmentExt), b, 0o640); err != nil {
		t.Fatal(err)
	}
	half.seq, half.event, half.prev = 1, 3, 0
	if err := os.WriteFile(seglog.Name(cfg.DataDirs[1], 1, segmentExt), half.encode()[:40], 0o640); err != nil { // when the next was begun
		t.Fatal(err)
	}
	if got := bodiesOf(t, start(t, cfg)); !slices.Equal(got, flumeLines) {
		t.Errorf("got %q", got)
	}
}

// TestImportEncrypted: of an encrypted channel, with the key store that its Flume had. Without the keys nothing is taken for
// damaged, and nothing lost.
func TestImportEncrypted(t *testing.T) {
	cfg := flumeDirs(t, filepath.Join("testdata", "flume-encrypted"))
	for want, enc := range map[string]*Encryption{
		"no keys are given":                    nil,
		`there is no key "key-0"`:              twoKeys.active("new"),
		"records cannot be read with this key": testKeys{"new": twoKeys["new"], "key-0": twoKeys["old"]}.active("new"),
	} {
		cfg.Encryption = enc
		if err := New(cfg).Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	cfg.Encryption = keytoolKeys(t).active("key-1")
	c := start(t, cfg)
	if !c.run.wal.end.seg.encrypted {
		t.Error("what was taken over is not encrypted")
	}
	for _, s := range c.run.wal.segs {
		if b, err := os.ReadFile(s.file.Path()); err != nil || bytes.Contains(b, []byte("line")) {
			t.Errorf("%s has a line in the clear (%v)", s.file.Path(), err)
		}
	}
	if got := bodiesOf(t, c); !slices.Equal(got, flumeLines) {
		t.Errorf("got %q", got)
	}
}

// keytoolKeys are the keys of a store that keytool made.
func keytoolKeys(t *testing.T) testKeys {
	t.Helper()
	s, err := keystore.OpenSecrets(keytoolStore, "storepass")
	if err != nil {
		t.Fatal(err)
	}
	keys := testKeys{}
	for alias, password := range map[string]string{"key-0": "key0pass", "key-1": "storepass"} {
		key, err := s.Key(alias, password)
		if err != nil {
			t.Fatal(err)
		}
		keys[alias] = string(key)
	}
	return keys
}
