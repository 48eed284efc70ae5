package file

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/channel/channeltest"
	"github.com/sluice-data/sluice/internal/channel/headers"
	"github.com/sluice-data/sluice/internal/seglog/vfs/memfs"
)

// testKeys are keys by alias.
type testKeys map[string]string

func (k testKeys) Key(alias string) ([]byte, error) {
	if k[alias] == "" {
		return nil, fmt.Errorf("there is no key %q", alias)
	}
	return []byte(k[alias]), nil
}

func (k testKeys) active(alias string) *Encryption {
	return &Encryption{ActiveKey: alias, Open: func() (Keys, error) { return k, nil }}
}

var twoKeys = testKeys{"old": "0123456789abcdef", "new": "0123456789abcdef0123456789ABCDEF"}

func TestEncryptedConformance(t *testing.T) {
	channeltest.Run(t, func(t *testing.T, capacity, txCapacity int) component.Channel {
		cfg := testConfig(t.TempDir())
		cfg.Capacity, cfg.TransactionCapacity, cfg.Encryption = capacity, txCapacity, twoKeys.active("new")
		return start(t, cfg)
	})
}

func TestEncryptedDurable(t *testing.T) {
	channeltest.RunDurable(t, func(*testing.T) channeltest.Store {
		return &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = twoKeys.active("new") }}
	})
}

// files are the contents of all files of a channel in memory, by name.
func files(t *testing.T, s *memStore) map[string][]byte {
	t.Helper()
	all := map[string][]byte{}
	for _, dir := range []string{"/c/checkpoint", "/c/data1", "/c/data2"} {
		entries, err := s.fs.List(dir)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range entries {
			name := filepath.Join(dir, e.Name())
			if all[name], err = s.fs.ReadFile(name); err != nil {
				t.Fatal(err)
			}
		}
	}
	return all
}

// TestNothingInTheClear: neither a body nor the name or value of a header is in any file.
func TestNothingInTheClear(t *testing.T) {
	for _, encrypted := range []bool{true, false} {
		s := &memStore{fs: memfs.New(), cfg: func(c *Config) {
			if encrypted {
				c.Encryption = twoKeys.active("old")
			}
		}}
		c := s.Open(t, 1000, 100).(*Channel)
		for range 30 {
			b := c.pool.NewBatch()
			b.AppendEvent([]byte("a body to keep secret"), []event.KV{{Key: "name to keep secret", Value: []byte("value to keep secret")}})
			if err := c.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
		}
		s.Kill(t)
		seen := 0
		for _, b := range files(t, s) {
			seen += bytes.Count(b, []byte("to keep secret"))
		}
		if encrypted != (seen == 0) {
			t.Errorf("encrypted %v: seen %d times", encrypted, seen)
		}
	}
}

// TestKeysChange: the active key, and whether there is one, may change with each start; what was written before is read.
func TestKeysChange(t *testing.T) {
	var enc *Encryption
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = enc }}
	n := 0
	for _, alias := range []string{"", "old", "old", "new", "", "new"} {
		enc = &Encryption{Open: twoKeys.active("").Open, ActiveKey: alias}
		if alias == "" {
			enc = nil
		}
		// Twice without a put: an empty segment is used by a run with another key.
		for range 2 {
			c, ok := tryOpen(t, s)
			if !ok && alias == "" && n > 0 { // without encryption, with encrypted events: the keys are needed
				enc = twoKeys.active("old")
				c, ok = tryOpen(t, s)
			}
			if !ok {
				t.Fatalf("%q does not start", alias)
			}
			s.c = c
			s.Close(t)
		}
		c := s.Open(t, 1000, 100).(*Channel)
		if err := putN(t, c, n, 10); err != nil {
			t.Fatal(err)
		}
		n += 10
		s.Kill(t)
	}
	enc = twoKeys.active("old")
	c := s.Open(t, 1000, 100).(*Channel)
	wantRange(t, takeAll(t, c), 0, n)
	s.Close(t)
	// All is taken: no key is needed any more.
	enc = nil
	c = s.Open(t, 1000, 100).(*Channel)
	if err := putN(t, c, n, 10); err != nil {
		t.Fatal(err)
	}
	wantRange(t, takeAll(t, c), n, n+10)
	s.Close(t)
}

func tryOpen(t *testing.T, s *memStore) (*Channel, bool) {
	c := New(s.config())
	return c, c.Start(t.Context()) == nil
}

// TestWithoutTheKey: a start that lacks what it needs says so and names the key, and nothing is lost by it.
func TestWithoutTheKey(t *testing.T) {
	enc := twoKeys.active("old")
	s, log := logged(func(c *Config) { c.Encryption = enc })
	c := s.Open(t, 1000, 100).(*Channel)
	if err := putN(t, c, 0, 10); err != nil {
		t.Fatal(err)
	}
	s.Close(t)
	before := files(t, s)
	for _, tt := range []struct {
		enc  *Encryption
		want string
	}{
		{nil, `encrypted with the key "old": the channel has no keys`},
		{testKeys{"new": twoKeys["new"]}.active("new"), `encrypted with the key "old": there is no key "old"`},
		{testKeys{"new": twoKeys["new"], "old": "fedcba9876543210"}.active("new"), `encrypted with the key "old": the key store has another key of that name`},
		{testKeys{"new": twoKeys["new"], "old": "short"}.active("new"), "5 bytes long"},
		{twoKeys.active("none"), `encryption.activeKey "none": there is no key "none"`},
		{testKeys{"old": "short"}.active("old"), `encryption.activeKey "old": it is 5 bytes long`},
		{&Encryption{ActiveKey: "old", Open: func() (Keys, error) { return nil, errors.New("no store") }}, "encryption: no store"},
	} {
		enc = tt.enc
		if err := New(s.config()).Start(t.Context()); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%q: %v", tt.want, err)
		}
	}
	for name, b := range before {
		if after, err := s.fs.ReadFile(name); err != nil || !bytes.Equal(after, b) {
			t.Errorf("%s was changed (%v)", name, err)
		}
	}
	enc = twoKeys.active("new")
	log.Reset()
	c = s.Open(t, 1000, 100).(*Channel)
	wantRange(t, takeAll(t, c), 0, 10)
	s.Close(t)
	if strings.Contains(log.String(), "level=ERROR") {
		t.Errorf("log: %s", log)
	}
}

// TestChangedByHand: a frame whose CRC was made to fit is not delivered, and is no damage that is passed over either.
func TestChangedByHand(t *testing.T) {
	const events = frameHead + 1 + len("old") + saltSize + checkSize + counterSize
	for name, at := range map[string]int{"the events": events, "the count": 15, "the counter": events - 1} {
		t.Run(name, func(t *testing.T) {
			s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = twoKeys.active("old") }}
			c := s.Open(t, 1000, 100).(*Channel)
			if err := putN(t, c, 0, 3); err != nil {
				t.Fatal(err)
			}
			file := c.run.wal.segs[0].file.Path()
			s.Kill(t)
			b, err := s.fs.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			b[segmentHead+at] ^= 1
			writeCRC(b[segmentHead:])
			s.fs.WriteFile(file, b)
			c = s.Open(t, 1000, 100).(*Channel)
			l, err := c.NewTaker().Take(t.Context(), 10)
			if !errors.Is(err, errTag) || l != nil {
				t.Errorf("it was taken: %v, %v", l, err)
			}
			if seen, err := s.fs.List(filepath.Dir(file)); err != nil || slices.ContainsFunc(seen, func(e fs.DirEntry) bool { return strings.HasSuffix(e.Name(), damagedExt) }) {
				t.Errorf("it counts as damaged: %v, %v", seen, err)
			}
			abandon(c)
		})
	}
}

// TestNonces: no frame has the data key and the counter of another, whatever became of that one.
func TestNonces(t *testing.T) {
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = twoKeys.active("new") }}
	used := map[string][]byte{}
	for run := range 20 {
		c := s.Open(t, 1000, 100).(*Channel)
		for i := range 5 {
			if err := putN(t, c, 100*run+i, 1); err != nil {
				t.Fatal(err)
			}
		}
		for name, b := range files(t, s) {
			if !strings.HasSuffix(name, segmentExt) {
				continue
			}
			for b = b[segmentHead:]; len(b) >= frameHead; {
				h, err := parseHeader(b)
				if err != nil {
					break
				}
				frame := b[:h.size]
				b = b[h.size:]
				l, err := parseLock(frame)
				if err != nil {
					t.Fatal(err)
				}
				id := string(l.prefix) + string(l.counter)
				if was := used[id]; was != nil && !bytes.Equal(was, frame) {
					t.Fatalf("run %d: frame %d has the nonce of another", run, h.seq)
				}
				used[id] = bytes.Clone(frame)
			}
		}
		// Some runs lose what they wrote last, and the next writes frames of the same numbers.
		if run%2 == 0 {
			s.fs = func() *memfs.FS { abandon(c); return s.fs.Clone() }()
			last := c.run.wal.segs[len(c.run.wal.segs)-1].file.Path()
			b, err := s.fs.ReadFile(last)
			if err != nil {
				t.Fatal(err)
			}
			s.fs.WriteFile(last, b[:len(b)-7])
		} else {
			s.Kill(t)
		}
	}
	if len(used) != 100 {
		t.Errorf("%d frames", len(used))
	}
}

func TestDataKeyIsRenewed(t *testing.T) {
	s, err := newSealer("new", []byte(twoKeys["new"]), channelID{1})
	if err != nil {
		t.Fatal(err)
	}
	o := opener{keys: twoKeys, id: channelID{1}}
	first := bytes.Clone(s.prefix)
	for i, e := range someEvents() {
		if i == 2 {
			s.left = 0
		}
		if err := s.ready(); err != nil {
			t.Fatal(err)
		}
		plain := putFrame(int64(i), 0, e)
		frame := make([]byte, len(plain)+s.overhead())
		s.seal(frame, plain, 1, int64(i), 0)
		if h, err := parseFrame(frame); err != nil || !h.encrypted {
			t.Fatal(h, err)
		}
		got, err := o.open(nil, frame)
		if err != nil || !bytes.Equal(got[frameHead:], plain[frameHead:]) {
			t.Fatalf("%q, %v", got, err)
		}
	}
	if bytes.Equal(first, s.prefix) || s.count != 1 {
		t.Errorf("the data key is the old one, %d frames", s.count)
	}
}

// TestOlderBinary: what does not know of encryption must not take such frames for a torn end, and cut them off.
func TestOlderBinary(t *testing.T) {
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = twoKeys.active("new") }}
	c := s.Open(t, 1000, 100).(*Channel)
	if seg := c.run.wal.end.seg; !seg.encrypted || seg.encode()[11]&flagEncryptedSegment == 0 {
		t.Error("the segment does not say what it holds")
	}
	s.Close(t)
}

// TestTornTailEncrypted cuts the last frame at every byte.
func TestTornTailEncrypted(t *testing.T) {
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = twoKeys.active("new") }}
	c := s.Open(t, 1000, 100).(*Channel)
	for i := range 2 {
		if err := putN(t, c, i, 1); err != nil {
			t.Fatal(err)
		}
	}
	file := c.run.wal.end.seg.file.Path()
	s.Kill(t)
	whole, err := s.fs.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	at := segmentHead
	h, err := parseHeader(whole[at:])
	if err != nil {
		t.Fatal(err)
	}
	for cut := at + int(h.size); cut < len(whole); cut++ {
		s := &memStore{fs: s.fs.Clone(), cfg: s.cfg}
		s.fs.WriteFile(file, whole[:cut])
		c := s.Open(t, 1000, 100).(*Channel)
		if err := putN(t, c, 1, 1); err != nil {
			t.Fatal(err)
		}
		wantRange(t, takeAll(t, c), 0, 2)
		s.Close(t)
	}
}

// TestCrashWhileTurnedOn: a run that begins to encrypt makes the empty segment of the one before its own. A power cut at any
// operation of that leaves a channel that starts.
func TestCrashWhileTurnedOn(t *testing.T) {
	var enc *Encryption
	plain := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption = enc }}
	plain.Open(t, 1000, 100)
	plain.Close(t)
	enc = twoKeys.active("new")
	for n, hit := 0, true; hit; n++ {
		s := &memStore{fs: plain.fs.Clone(), cfg: plain.cfg}
		count := 0
		hit = false
		s.fs.SetHook(func(op memfs.Op, _ string) error {
			if op == memfs.OpRead {
				return nil
			}
			if count++; count > n {
				hit = true
				return syscall.EIO
			}
			return nil
		})
		want := 0
		if c, ok := tryOpen(t, s); ok {
			if putN(t, c, 0, 1) == nil {
				want = 1
			}
			abandon(c)
		}
		s.fs.SetHook(nil)
		s.fs = s.fs.Crash()
		c := s.Open(t, 1000, 100).(*Channel)
		if got := takeAll(t, c); len(got) < want || len(got) > 1 {
			t.Fatalf("operation %d: %v, want %d", n, got, want)
		}
		if err := putN(t, c, 1, 1); err != nil || !c.run.wal.end.seg.encrypted {
			t.Fatalf("operation %d: %v", n, err)
		}
		s.Close(t)
	}
}

// TestTurnedOnOnFullDisk: where no segment can be begun that says that it is encrypted, what is there is taken, and nothing is
// put until there is space.
func TestTurnedOnOnFullDisk(t *testing.T) {
	var enc *Encryption
	s := &memStore{fs: memfs.New(), cfg: func(c *Config) { c.Encryption, c.DataDirs = enc, c.DataDirs[:1] }}
	c := s.Open(t, 1000, 100).(*Channel)
	if err := putN(t, c, 0, 5); err != nil {
		t.Fatal(err)
	}
	last := c.run.wal.end.seg.file.Path()
	s.Close(t)
	enc = twoKeys.active("new")
	s.fs.SetHook(func(op memfs.Op, name string) error {
		if op == memfs.OpWrite && strings.HasSuffix(name, segmentExt) && name != last {
			return syscall.ENOSPC
		}
		return nil
	})
	c = s.Open(t, 1000, 100).(*Channel)
	if err := putN(t, c, 5, 5); !errors.Is(err, component.ErrFull) {
		t.Errorf("put on a full disk: %v", err)
	}
	wantRange(t, takeAll(t, c), 0, 5)
	s.fs.SetHook(nil)
	if err := putN(t, c, 5, 5); err != nil || !c.run.wal.end.seg.encrypted {
		t.Errorf("put when there is space: %v", err)
	}
	s.Kill(t)
	c = s.Open(t, 1000, 100).(*Channel)
	wantRange(t, takeAll(t, c), 5, 10)
	s.Close(t)
}

// TestInspectEncrypted: all but the events is there without the keys.
func TestInspectEncrypted(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.Encryption = twoKeys.active("old")
	c := start(t, cfg)
	b := c.pool.NewBatch()
	b.AppendEvent([]byte("body"), []event.KV{{Key: "k", Value: []byte("v")}})
	b.Append([]byte("second"))
	if err := c.Put(t.Context(), b); err != nil {
		t.Fatal(err)
	}
	path := c.run.wal.end.seg.file.Path()
	for _, keys := range []Keys{nil, twoKeys} {
		frames := 0
		seg, err := Inspect(path, keys, func(f *Frame) error {
			frames++
			if f.Key != "old" || f.Count != 2 || keys == nil && f.Events != nil ||
				keys != nil && (len(f.Events) != 2 || string(f.Events[0].Body) != "body" || string(f.Events[0].Headers[0].Value) != "v" || string(f.Events[1].Body) != "second") {
				t.Errorf("%+v", f)
			}
			return nil
		}, func(d Damage) { t.Error(d) })
		if err != nil || frames != 1 || seg.Events != 2 {
			t.Errorf("%d frames, %+v, %v", frames, seg, err)
		}
	}
	if _, err := Inspect(path, testKeys{}, func(*Frame) error { return nil }, func(d Damage) { t.Error(d) }); err == nil || !strings.Contains(err.Error(), `key "old"`) {
		t.Errorf("without the key: %v", err)
	}
	if n, err := Repair([]string{t.TempDir()}, true, func(string) {}); err == nil {
		t.Errorf("%d repaired of nothing", n)
	}
}

// keytoolStore is a key store of keytool's.
var keytoolStore = filepath.Join("..", "..", "keystore", "testdata", "keys.jceks")

// TestKeyStore takes the keys from a store of keytool's, as an agent file names it.
func TestKeyStore(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	props := func(more ...component.Property) []component.Property {
		return append([]component.Property{
			prop("checkpointDir", filepath.Join(dir, "c")), prop("dataDirs", filepath.Join(dir, "d")),
			prop("encryption.activeKey", "key-0"), prop("encryption.cipherProvider", "AESCTRNOPADDING"), prop("encryption.keyProvider", "JCEKSFILE"),
			prop("encryption.keyProvider.keyStoreFile", keytoolStore), prop("encryption.keyProvider.keyStorePasswordFile", write("store", " storepass\n")),
		}, more...)
	}
	own := prop("encryption.keyProvider.keys.key-0.passwordFile", write("key0", "key0pass\n"))
	cfg, findings, err := decode(t, props(prop("encryption.keyProvider.keys", "key-0 Key-1"), own)...)
	if err != nil || len(findings) > 0 {
		t.Fatal(findings, err)
	}
	cfg.FreeSpace = plenty
	c := New(cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := putN(t, c, 0, 10); err != nil {
		t.Fatal(err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	cfg.Encryption.ActiveKey = "Key-1"
	c = New(cfg)
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	wantRange(t, takeAll(t, c), 0, 10)
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}

	for want, p := range map[string][]component.Property{
		"right":        props(), // the key has another password than the store
		"digest":       props(prop("encryption.keyProvider.keyStorePasswordFile", own.Value)),
		"none":         props(prop("encryption.keyProvider.keyStorePasswordFile", filepath.Join(dir, "none"))),
		"passwordFile": props(prop("encryption.keyProvider.keys", "key-0"), prop(own.Key, filepath.Join(dir, "none"))),
	} {
		cfg, _, err := decode(t, p...)
		if err != nil {
			t.Fatal(err)
		}
		if err := New(cfg).Start(t.Context()); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for key, p := range map[string][]component.Property{
		"encryption.activeKey":                        {prop("encryption.activeKey", "k")},
		"encryption.cipherProvider":                   props(prop("encryption.cipherProvider", "com.example.Cipher")),
		"encryption.keyProvider":                      props(prop("encryption.keyProvider", "com.example.Keys")),
		"encryption.keyProvider.keyStoreFile":         props(prop("encryption.keyProvider.keyStoreFile", "")),
		"encryption.keyProvider.keyStorePasswordFile": props(prop("encryption.keyProvider.keyStorePasswordFile", "")),
	} {
		_, _, err := decode(t, p...)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%s: %v", key, err)
		}
	}
}

// FuzzEncrypted opens any bytes as an encrypted frame whose CRC is right.
func FuzzEncrypted(f *testing.F) {
	s, err := newSealer("new", []byte(twoKeys["new"]), channelID{1})
	if err != nil {
		f.Fatal(err)
	}
	plain := putFrame(7, 3, someEvents()...)
	frame := make([]byte, len(plain)+s.overhead())
	s.seal(frame, plain, 3, 7, 3)
	f.Add(frame)
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < frameHead {
			return
		}
		b = bytes.Clone(b)
		writeCRC(b)
		if h, err := parseFrame(b); err != nil || !h.encrypted {
			return
		}
		o := opener{keys: twoKeys, id: channelID{1}}
		got, err := o.open(make([]byte, len(b)), b)
		if err != nil {
			return
		}
		rest := got[frameHead:]
		var names headers.Names
		for len(rest) > 0 {
			if _, _, rest, err = parseEvent(rest, &names, nil); err != nil {
				t.Fatalf("what is authentic cannot be read: %v", err)
			}
		}
	})
}

// TestAllocationsEncrypted: encryption costs the same few allocations whatever the batch.
func TestAllocationsEncrypted(t *testing.T) {
	cfg := testConfig(t.TempDir())
	cfg.MaxFileSize, cfg.KeepAlive, cfg.TransactionCapacity, cfg.Capacity, cfg.Encryption = 1<<30, 0, 1000, 10000, twoKeys.active("new")
	componenttest.NoMoreAllocs(t, 16, putAndTake(t, start(t, cfg)))
}
