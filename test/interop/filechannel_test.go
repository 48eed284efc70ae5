//go:build interop

package interop

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/file/flumelog"
)

// TestFileChannelImport: a real Flume fills a file channel in three data directories, takes from it, rolls takes back, is
// stopped or killed. Of one copy of the directories Flume drains what it delivers, of another Sluice: it must be the same,
// in the same order, and Flume's files as they were.
func TestFileChannelImport(t *testing.T) {
	fetched(t, "flume.sh")
	for _, c := range []struct {
		name           string
		kill           bool // a run of Flume ends by kill -9
		dropCheckpoint bool
		encrypted      bool // with another key in each run
	}{
		{name: "stopped"},
		{name: "killed", kill: true},
		{name: "killed and without a checkpoint", kill: true, dropCheckpoint: true},
		{name: "encrypted and killed", kill: true, encrypted: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel() // with each other: they wait for a Java machine most of the time
			dir := t.TempDir()
			home := filepath.Join(dir, "channel")
			spool := filepath.Join(dir, "spool")
			for _, d := range []string{home, spool} {
				if err := os.MkdirAll(d, 0o755); err != nil {
					t.Fatal(err)
				}
			}
			// How many are taken does not depend on how fast the machine is; the takes that follow are rolled back.
			runs := []filling{{files: 40, take: 15000}, {files: 40}}
			if c.kill {
				runs = append(runs, filling{take: 3000, kill: true})
			}
			encryption := func(int) string { return "" }
			if c.encrypted {
				encryption = keysOf(t, dir, len(runs))
			}
			taken := 0
			for run, f := range runs {
				f.more = encryption(run)
				for i := range f.files {
					var b strings.Builder
					for n := range 1000 {
						fmt.Fprintf(&b, "run %d file %02d line %03d %s\n", run, i, n, strings.Repeat("x", n%100))
					}
					if err := os.WriteFile(filepath.Join(spool, fmt.Sprintf("r%d-%02d.log", run, i)), []byte(b.String()), 0o644); err != nil {
						t.Fatal(err)
					}
				}
				taken += fill(t, dir, home, spool, f)
			}
			if c.dropCheckpoint {
				if err := os.RemoveAll(filepath.Join(home, "checkpoint")); err != nil {
					t.Fatal(err)
				}
			}
			ofFlume, ofSluice := filepath.Join(dir, "copy-flume"), filepath.Join(dir, "copy-sluice")
			for _, d := range []string{ofFlume, ofSluice} {
				if err := os.CopyFS(d, os.DirFS(home)); err != nil {
					t.Fatal(err)
				}
			}
			want := drainFlume(t, dir, ofFlume, encryption(0))
			before := sums(t, ofSluice)
			got := drainSluice(t, dir, ofSluice, len(want), encryption(0))
			if c.encrypted {
				inTheClear(t, ofSluice, "line")
			}
			// What was being taken when the last checkpoint was written comes first, in Flume in the order of a hash table.
			head := len(want)
			for i, j := len(got), len(want); i > 0 && j > 0 && got[i-1] == want[j-1]; i, j = i-1, j-1 {
				head = j - 1
			}
			if head > 0 && c.kill && head <= 2000 && len(got) == len(want) {
				t.Logf("the first %d events are in another order", head)
				slices.Sort(got[:head])
				slices.Sort(want[:head])
			}
			sameLines(t, "events", got, want)
			after := sums(t, ofSluice)
			for name, sum := range before {
				if after[name] != sum {
					t.Errorf("%s was changed", name)
				}
			}
			if again := drainSluice(t, dir, ofSluice, 0, encryption(0)); len(again) != 0 {
				t.Errorf("a second start delivered %d events again", len(again))
			}
			if len(want) != 80000-taken {
				t.Errorf("Flume delivers %d of 80,000 events after %d were taken", len(want), taken)
			}
			t.Logf("%d of 80,000 events were in the channel", len(want))
		})
	}
}

// TestFileChannelIntegrity damages records of a channel that a real Flume filled. Flume's integrity tool and ours must mark
// the same bytes and print the same, and what Flume then drains is what Sluice takes over, with or without a run of the
// tool, with or without a checkpoint.
func TestFileChannelIntegrity(t *testing.T) {
	fetched(t, "flume-tool.sh")
	dir := t.TempDir()
	home, spool := filepath.Join(dir, "channel"), filepath.Join(dir, "spool")
	for _, d := range []string{home, spool} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	const files, lines = 24, 500
	for i := range files {
		var b strings.Builder
		for n := range lines {
			fmt.Fprintf(&b, "file %02d line %03d %s\n", i, n, strings.Repeat("x", n%100))
		}
		if err := os.WriteFile(filepath.Join(spool, fmt.Sprintf("%02d.log", i)), []byte(b.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	fill(t, dir, home, spool, filling{})
	damaged := 0
	for _, d := range []string{"d1", "d2", "d3"} {
		damaged += damage(t, filepath.Join(home, d))
	}
	copies := map[string]string{}
	for _, name := range []string{"flume", "flume-full", "sluice", "sluice-full", "raw", "raw-full"} {
		copies[name] = filepath.Join(dir, "copy-"+name)
		if err := os.CopyFS(copies[name], os.DirFS(home)); err != nil {
			t.Fatal(err)
		}
		if strings.HasSuffix(name, "-full") {
			if err := os.RemoveAll(filepath.Join(copies[name], "checkpoint")); err != nil {
				t.Fatal(err)
			}
		}
	}
	summary := func(out string) (s []string) {
		for _, l := range splitLines(out) {
			if strings.HasPrefix(l, "Number of ") {
				s = append(s, l)
			}
		}
		return s
	}
	flumeNG := filepath.Join(dir, "flume-ng")
	if err := os.Symlink(binary, flumeNG); err != nil {
		t.Fatal(err)
	}
	dirs := func(name string) string {
		h := copies[name]
		return h + "/d1," + h + "/d2," + h + "/d3"
	}
	for _, kind := range []string{"", "-full"} {
		theirs, err := peer("flume-tool.sh", nil, "fcintegritytool", "-l", dirs("flume"+kind))
		if err != nil {
			t.Fatal(err)
		}
		ours := clientOutput(t, "", flumeNG, "tool", "fcintegritytool", "-l", dirs("sluice"+kind))
		sameLines(t, "the summary", summary(ours), summary(theirs))
		if want := fmt.Sprint("Number of Corrupt Events = ", damaged); !slices.Contains(summary(theirs), want) {
			t.Errorf("want %q: %q", want, summary(theirs))
		}
		a, b := sums(t, copies["flume"+kind]), sums(t, copies["sluice"+kind])
		for name, sum := range a {
			if b[name] != sum {
				t.Errorf("%s is not what Flume's tool made of it", name)
			}
		}
		if len(a) != len(b) {
			t.Errorf("%d files, Flume's tool leaves %d", len(b), len(a))
		}
		want := drainFlume(t, filepath.Join(dir, "of-flume"+kind), copies["flume"+kind], "")
		if n := len(want); n >= files*lines || n < files*lines/2 {
			t.Errorf("%d of %d events survive: that proves little", n, files*lines)
		}
		for _, name := range []string{"sluice", "raw"} {
			sameLines(t, name+kind+": the events", drainSluice(t, filepath.Join(dir, "of-"+name+kind), copies[name+kind], len(want), ""), want)
		}
		t.Logf("%d of %d events survive %d damaged records", len(want), files*lines, damaged)
	}
}

// damage changes records of each kind in the log files of a directory, each in its own way, and says how many.
func damage(t *testing.T, dir string) (n int) {
	t.Helper()
	paths, err := flumelog.Logs(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, path := range paths {
		f, err := flumelog.Open(path)
		if errors.Is(err, flumelog.ErrEmpty) { // Flume's tool fails on a file that was just begun
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		// Flume may have ended while it replaced the meta. Its next start renames the other, its tool does not look for it.
		for _, ext := range []string{".meta.tmp", ".meta.old"} {
			if _, err := os.Stat(path + ".meta"); errors.Is(err, fs.ErrNotExist) {
				if err := os.Rename(path+ext, path+".meta"); err != nil && !errors.Is(err, fs.ErrNotExist) {
					t.Fatal(err)
				}
			}
		}
		bytes, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		seen := map[flumelog.Type]int{}
		for scan := f.Scan(0); ; {
			ok, err := scan.Next()
			if err != nil {
				t.Fatal(err)
			}
			if !ok {
				break
			}
			r, _, err := flumelog.ParseRecord(scan.Payload)
			if err != nil {
				t.Fatal(err)
			}
			payload := bytes[scan.Offset+5:][:len(scan.Payload)]
			seen[r.Type]++
			switch {
			case r.Type == flumelog.Put && seen[r.Type] == 50: // a byte of the body, which its checksum tells
				payload[len(payload)-20] ^= 0x40
			case r.Type == flumelog.Put && seen[r.Type] == 60: // nothing that could be parsed
				for i := range payload {
					payload[i] = 0xFF
				}
			case r.Type == flumelog.Put && seen[r.Type] == 61: // the length of the first part
				payload[0] = 0x7F
			case r.Type == flumelog.Commit && seen[r.Type] == 3: // a transaction that loses its commit
				for i := range payload {
					payload[i] = 0xFF
				}
			default:
				continue
			}
			n++
		}
		if err := errors.Join(f.Close(), os.WriteFile(path, bytes, 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	if n == 0 {
		t.Fatalf("nothing was damaged in %s", dir)
	}
	return n
}

// channelConf is a channel's properties; more are some that only some have.
func channelConf(home, more string) string {
	return fmt.Sprintf(`a1.channels = c1
a1.channels.c1.type = file
a1.channels.c1.checkpointDir = %[1]s/checkpoint
a1.channels.c1.dataDirs = %[1]s/d1, %[1]s/d2, %[1]s/d3
a1.channels.c1.checkpointInterval = 1000
a1.channels.c1.maxFileSize = 1500000
a1.channels.c1.capacity = 1000000
a1.channels.c1.transactionCapacity = 1000
a1.channels.c1.minimumRequiredSpace = 1048576
`, home) + more
}

// filling is a run of Flume that fills a channel.
type filling struct {
	files int    // that it reads
	take  int    // that one sink takes for good, up to a batch more
	kill  bool   // it ends by kill -9
	more  string // properties of the channel
}

const takeBatch = 20 // events

// fill runs Flume for some seconds: one sink takes, four take and roll back, because there is no broker. It returns how many
// events were taken for good.
func fill(t *testing.T, dir, home, spool string, f filling) (taken int) {
	t.Helper()
	taker, out := "", new(taking)
	if f.take > 0 {
		taker = fmt.Sprintf(`a1.sinks = k0 k1 k2 k3 k4
a1.sinks.k0.type = avro
a1.sinks.k0.hostname = 127.0.0.1
a1.sinks.k0.port = %d
a1.sinks.k0.batch-size = %d
a1.sinks.k0.connect-timeout = 600000
a1.sinks.k0.request-timeout = 600000
a1.sinks.k0.channel = c1
`, out.start(t, f.take), takeBatch)
	}
	conf := channelConf(home, f.more) + fmt.Sprintf(`a1.sources = r1
a1.sinks = k1 k2 k3 k4
a1.sources.r1.type = spooldir
a1.sources.r1.spoolDir = %s
a1.sources.r1.deletePolicy = immediate
a1.sources.r1.batchSize = 100
a1.sources.r1.basenameHeader = true
a1.sources.r1.channels = c1
a1.sources.r1.interceptors = i1
a1.sources.r1.interceptors.i1.type = static
a1.sources.r1.interceptors.i1.key = Schlüssel
a1.sources.r1.interceptors.i1.value = Wert, größer
`, spool) + taker
	nobody := freePort(t)
	for i := 1; i <= 4; i++ {
		conf += fmt.Sprintf(`a1.sinks.k%[1]d.type = org.apache.flume.sink.kafka.KafkaSink
a1.sinks.k%[1]d.kafka.bootstrap.servers = 127.0.0.1:%[2]d
a1.sinks.k%[1]d.kafka.producer.max.block.ms = 200
a1.sinks.k%[1]d.flumeBatchSize = 53
a1.sinks.k%[1]d.channel = c1
`, i, nobody)
	}
	site := filepath.Join(dir, "fill")
	path := writeConf(t, site, conf)
	if _, err := peer("flume.sh", []string{"FLUME_HEAP=256m"}, "start", site, path, "a1"); err != nil {
		t.Fatal(err)
	}
	defer peer("flume.sh", nil, "stop", site) // for the case that something else fails
	eventually(t, 5*time.Minute, "Flume has read half of the files", func() error {
		left, err := filepath.Glob(filepath.Join(spool, "*.log"))
		if err == nil && len(left) > 20 {
			err = fmt.Errorf("%d are left", len(left))
		}
		return err
	})
	if f.take > 0 {
		// The sink sends one batch at a time: when one is refused it has committed those before.
		eventually(t, 5*time.Minute, "events are taken, and then no more", func() error {
			n, refused := out.counts()
			if refused == 0 {
				return fmt.Errorf("%d of %d are taken", n, f.take)
			}
			taken = n
			return nil
		})
	}
	eventually(t, 5*time.Minute, "a take is rolled back", func() error {
		log, err := os.ReadFile(filepath.Join(site, "log"))
		if err == nil && !strings.Contains(string(log), "Failed to publish events") {
			err = fmt.Errorf("%s", tail(string(log), 500))
		}
		return err
	})
	if f.kill {
		killPeer(t, filepath.Join(site, "flume.pid"))
	} else {
		eventually(t, 5*time.Minute, "Flume has read all files", func() error {
			left, err := filepath.Glob(filepath.Join(spool, "*.log"))
			if err == nil && len(left) > 0 {
				err = fmt.Errorf("%d are left", len(left))
			}
			return err
		})
		if _, err := peer("flume.sh", nil, "stop", site); err != nil {
			t.Fatal(err)
		}
	}
	return taken
}

// taking is a source of ours that takes events until it has enough, and refuses the batches after that.
type taking struct {
	mu             sync.Mutex
	taken, refused int
}

// start returns its port.
func (k *taking) start(t *testing.T, enough int) int {
	t.Helper()
	out := componenttest.NewOutput()
	out.FailWith(func(_ int, b *event.Batch) error {
		k.mu.Lock()
		defer k.mu.Unlock()
		if k.taken >= enough {
			k.refused++
			return errors.New("that is enough")
		}
		k.taken += b.Len() // not every batch is full: the sink may be faster than the source
		return nil
	})
	port := freePort(t)
	componenttest.Run(t, componenttest.Source(t, componenttest.QuietEnv(), "avro", "bind=127.0.0.1", fmt.Sprintf("port=%d", port)), out)
	return port
}

func (k *taking) counts() (taken, refused int) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.taken, k.refused
}

// keysOf makes a key store with a key for each run, the first with a password of its own, by Java's keytool, and returns the
// properties of the channel in that run.
func keysOf(t *testing.T, dir string, runs int) func(run int) string {
	t.Helper()
	keytool := program(t, "keytool")
	store := filepath.Join(dir, "keys.jceks")
	var aliases []string
	for run := range runs {
		alias, password := fmt.Sprintf("key-%d", run), "storepass"
		if run == 0 {
			password = "keypass"
		}
		aliases = append(aliases, alias)
		clientOutput(t, "", keytool, "-genseckey", "-storetype", "JCEKS", "-keystore", store, "-storepass", "storepass",
			"-alias", alias, "-keypass", password, "-keyalg", "AES", "-keysize", []string{"128", "192", "256"}[run%3])
	}
	for name, password := range map[string]string{"store.pw": "storepass", "key-0.pw": "keypass"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(password+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return func(run int) string {
		return fmt.Sprintf(`a1.channels.c1.encryption.activeKey = key-%d
a1.channels.c1.encryption.cipherProvider = AESCTRNOPADDING
a1.channels.c1.encryption.keyProvider = JCEKSFILE
a1.channels.c1.encryption.keyProvider.keyStoreFile = %s
a1.channels.c1.encryption.keyProvider.keyStorePasswordFile = %s/store.pw
a1.channels.c1.encryption.keyProvider.keys = %s
a1.channels.c1.encryption.keyProvider.keys.key-0.passwordFile = %[3]s/key-0.pw
`, run, store, dir, strings.Join(aliases, " "))
	}
}

// inTheClear looks for a text in all files of a channel.
func inTheClear(t *testing.T, home, text string) {
	t.Helper()
	err := filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() {
			return err
		}
		b, err := os.ReadFile(path)
		if bytes.Contains(b, []byte(text)) {
			t.Errorf("%s has %q in the clear", path, text)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

func writeConf(t *testing.T, site, conf string) string {
	t.Helper()
	if err := os.MkdirAll(site, 0o755); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(site, "agent.conf")
	if err := os.WriteFile(path, []byte(conf), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// drainConf takes everything into one file.
func drainConf(t *testing.T, home, out, more string) string {
	t.Helper()
	if err := os.MkdirAll(out, 0o755); err != nil {
		t.Fatal(err)
	}
	return channelConf(home, more) + fmt.Sprintf(`a1.sinks = k1
a1.sinks.k1.type = file_roll
a1.sinks.k1.sink.directory = %s
a1.sinks.k1.sink.rollInterval = 0
a1.sinks.k1.sink.batchSize = 500
a1.sinks.k1.sink.serializer = HEADER_AND_TEXT
a1.sinks.k1.channel = c1
`, out)
}

func drainFlume(t *testing.T, dir, home, more string) []string {
	t.Helper()
	site, out := filepath.Join(dir, "drain-flume"), filepath.Join(dir, "out-flume")
	path := writeConf(t, site, drainConf(t, home, out, more))
	port := freePort(t)
	if _, err := peer("flume.sh", []string{"FLUME_HEAP=256m", fmt.Sprintf("FLUME_HTTP=%d", port)}, "start", site, path, "a1"); err != nil {
		t.Fatal(err)
	}
	defer peer("flume.sh", nil, "stop", site) // for the case that something else fails
	eventually(t, 5*time.Minute, "Flume has drained the channel", func() error {
		m, err := flumeMetrics(port)
		if err != nil {
			return err
		}
		if c := m["CHANNEL.c1"]; c["ChannelSize"] != "0" || c["EventTakeSuccessCount"] == "0" {
			return fmt.Errorf("%v", c)
		}
		return nil
	})
	if _, err := peer("flume.sh", nil, "stop", site); err != nil {
		t.Fatal(err)
	}
	return outLines(t, out)
}

// drainSluice drains the channel; want is only how many events to wait for.
func drainSluice(t *testing.T, dir, home string, want int, more string) []string {
	t.Helper()
	site, out := filepath.Join(dir, "drain-sluice"), filepath.Join(dir, fmt.Sprintf("out-sluice-%d", want))
	path := writeConf(t, site, drainConf(t, home, out, more))
	p := startSluice(t, "agent", "-n", "a1", "-f", path)
	eventually(t, 3*time.Minute, "the channel is up", func() error {
		if !strings.Contains(p.out.String(), "channel started") {
			return fmt.Errorf("%s", tail(p.out.String(), 500))
		}
		return nil
	})
	if want > 0 {
		eventually(t, 3*time.Minute, "events come", func() error {
			if n := len(outLines(t, out)); n < want {
				return fmt.Errorf("%d of %d", n, want)
			}
			return nil
		})
	}
	p.stop(t) // drains what is left
	return outLines(t, out)
}

func outLines(t *testing.T, dir string) (lines []string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines = append(lines, splitLines(string(b))...)
	}
	return lines
}

// sums are the checksums of Flume's own files.
func sums(t *testing.T, home string) map[string]string {
	t.Helper()
	m := map[string]string{}
	err := filepath.WalkDir(home, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || strings.HasSuffix(path, ".events") || strings.HasPrefix(e.Name(), "sluice-") || e.Name() == "channel.json" {
			return err
		}
		b, err := os.ReadFile(path)
		m[strings.TrimPrefix(path, home)] = fmt.Sprintf("%x", sha256.Sum256(b))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return m
}
