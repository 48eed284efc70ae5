//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

func codecs() map[string]kgo.CompressionCodec {
	return map[string]kgo.CompressionCodec{"none": kgo.NoCompression(), "gzip": kgo.GzipCompression(), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression(), "zstd": kgo.ZstdCompression()}
}

// franz is a broker as this test sees it.
type franz struct {
	name, addr string
	cl         *kgo.Client
	adm        *kadm.Client
}

func newFranz(t *testing.T, name, addr string) *franz {
	t.Helper()
	f := &franz{name: name, addr: addr}
	f.cl = f.client(t)
	f.adm = kadm.NewClient(f.cl)
	return f
}

func (f *franz) client(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(f.addr)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func (f *franz) create(t *testing.T, topic string, settings map[string]string) {
	t.Helper()
	configs := map[string]*string{}
	for k, v := range settings {
		configs[k] = &v
	}
	if _, err := f.adm.CreateTopic(t.Context(), 1, 1, configs, topic); err != nil {
		t.Fatalf("%s: create %s: %v", f.name, topic, err)
	}
}

// kept is a record of a compacted topic. A tombstone's value is "null", as the
// console consumer writes it.
type kept struct {
	key, value string
	at         int64
}

func (k kept) line(off int64) string { return fmt.Sprintf("%d %s %d %s", off, k.key, k.at, k.value) }

func keptLines(m map[int64]kept, below int64) (lines []string) {
	for _, off := range slices.Sorted(maps.Keys(m)) {
		if off < below {
			lines = append(lines, m[off].line(off))
		}
	}
	return lines
}

// readAll reads a topic from its beginning to its end.
func (f *franz) readAll(t *testing.T, topic string) map[int64]kept {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	ends, err := f.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatalf("%s: end of %s: %v", f.name, topic, err)
	}
	end, _ := ends.Lookup(topic, 0)
	cl, err := kgo.NewClient(kgo.SeedBrokers(f.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{topic: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	out := map[int64]kept{}
	for last := int64(-1); last < end.Offset-1; { // the last record is in the segment that is written
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			t.Fatalf("%s: read %s up to %d, %d of %d: %v", f.name, topic, last, len(out), end.Offset, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			k := kept{string(r.Key), "null", r.Timestamp.UnixMilli()}
			if r.Value != nil {
				k.value = string(r.Value)
			}
			out[r.Offset] = k
			last = r.Offset
		})
	}
	return out
}

// keyedLoad writes the same records to every broker, one batch after the other.
type keyedLoad struct {
	brokers []*franz
	topic   string
	clients map[*franz][]*kgo.Client
	at      int64 // time of the next record; the topic's segments are of a second
	all     map[int64]kept
	fillers int
}

func newKeyedLoad(t *testing.T, topic string, brokers []*franz, settings map[string]string) *keyedLoad {
	t.Helper()
	l := &keyedLoad{brokers: brokers, topic: topic, clients: map[*franz][]*kgo.Client{}, all: map[int64]kept{},
		at: time.Now().Add(-30 * time.Minute).UnixMilli()}
	s := map[string]string{"cleanup.policy": "compact", "segment.bytes": "1048576", "segment.ms": "1000", "min.cleanable.dirty.ratio": "0.01"}
	maps.Copy(s, settings)
	for _, b := range brokers {
		b.create(t, topic, s)
		for _, name := range slices.Sorted(maps.Keys(codecs())) {
			l.clients[b] = append(l.clients[b], b.client(t, kgo.ProducerBatchCompression(codecs()[name])))
		}
		l.clients[b] = append(l.clients[b], b.client(t, kgo.DisableIdempotentWrite(), kgo.RequiredAcks(kgo.LeaderAck())))
	}
	return l
}

// put appends a batch with client i of each broker.
func (l *keyedLoad) put(t *testing.T, i int, recs ...kept) {
	t.Helper()
	base := int64(len(l.all))
	for _, b := range l.brokers {
		var out []*kgo.Record
		for _, r := range recs {
			k := &kgo.Record{Topic: l.topic, Key: []byte(r.key), Timestamp: time.UnixMilli(r.at)}
			if r.value != "null" {
				k.Value = []byte(r.value)
			}
			out = append(out, k)
		}
		cls := l.clients[b]
		for j, r := range cls[i%len(cls)].ProduceSync(t.Context(), out...) {
			if r.Err != nil {
				t.Fatalf("%s: %v", b.name, r.Err)
			}
			if r.Record.Offset != base+int64(j) {
				t.Fatalf("%s: offset %d: want %d", b.name, r.Record.Offset, base+int64(j))
			}
		}
	}
	for j, r := range recs {
		l.all[base+int64(j)] = r
	}
}

// filler rolls the segment that is written, with a key that does not come
// again, and makes the log dirty enough for another pass.
func (l *keyedLoad) filler(t *testing.T) {
	t.Helper()
	l.at += 2000
	l.fillers++
	l.put(t, 0, kept{fmt.Sprint("filler", l.fillers), strings.Repeat(strconv.Itoa(l.fillers), 10_000), l.at})
}

// run is the load proper. It returns the offset behind it.
func (l *keyedLoad) run(t *testing.T, seed uint64) int64 {
	t.Helper()
	r := rand.New(rand.NewPCG(seed, 9))
	for i := range 500 {
		var recs []kept
		for range 1 + r.IntN(6) {
			l.at += int64(r.IntN(40))
			k := kept{fmt.Sprint("key", r.IntN(150)), fmt.Sprintf("%d %s", i, strings.Repeat("v", r.IntN(300))), l.at}
			switch r.IntN(15) {
			case 0:
				k.value = "null"
			case 1:
				k.key = fmt.Sprintf("once%d-%d", i, r.IntN(1000))
			}
			recs = append(recs, k)
		}
		l.put(t, r.IntN(6), recs...)
	}
	return int64(len(l.all))
}

// left is what a compaction leaves of the records below an offset.
func (l *keyedLoad) left(below int64, tombstones bool) map[int64]kept {
	latest := map[string]int64{}
	for off := range below {
		latest[l.all[off].key] = off
	}
	out := map[int64]kept{}
	for _, off := range latest {
		if k := l.all[off]; tombstones || k.value != "null" {
			out[off] = k
		}
	}
	return out
}

// settled waits until a broker has below an offset exactly what is to be left.
func (l *keyedLoad) settled(t *testing.T, b *franz, below int64, want map[int64]kept, poke func()) {
	t.Helper()
	lines := keptLines(want, below)
	var got []string
	defer func() {
		if t.Failed() {
			sameLines(t, b.name+" "+l.topic, got, lines)
		}
	}()
	eventually(t, 3*time.Minute, b.name+": "+l.topic+" settles", func() error {
		if got = keptLines(b.readAll(t, l.topic), below); slices.Equal(got, lines) {
			return nil
		}
		poke()
		time.Sleep(50 * time.Millisecond)
		return fmt.Errorf("%d records, want %d", len(got), len(lines))
	})
}

// TestCompaction gives Apache Kafka and the built-in broker the same records
// for compacted topics: both keep the same ones, at the same offsets, and every
// client reads exactly those of the built-in broker, whose files Kafka's tool
// reads too.
func TestCompaction(t *testing.T) {
	if onKafka() {
		t.Skip("it compares the two")
	}
	fetched(t, "kafka.sh")
	dir := t.TempDir()
	data, addr := filepath.Join(dir, "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	quick := []string{"--override", "log.cleaner.backoff.ms=50"}
	p := startBroker(t, data, addr, quick...)
	ours, real := newFranz(t, "sluice", addr), newFranz(t, "kafka", kafka.start(t))
	ms := "50"
	if _, err := real.adm.AlterBrokerConfigs(t.Context(), []kadm.AlterConfig{{Op: kadm.SetConfig, Name: "log.cleaner.backoff.ms", Value: &ms}}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the other tests use it too
		back := []kadm.AlterConfig{{Op: kadm.DeleteConfig, Name: "log.cleaner.backoff.ms"}}
		if _, err := real.adm.AlterBrokerConfigs(context.WithoutCancel(t.Context()), back); err != nil {
			t.Error(err)
		}
	})
	brokers := []*franz{ours, real}

	keeps := newKeyedLoad(t, ownTopic("compacted"), brokers, nil)
	for _, b := range brokers {
		err := b.cl.ProduceSync(t.Context(), &kgo.Record{Topic: keeps.topic, Value: []byte("no key")}).FirstErr()
		if !errors.Is(err, kerr.InvalidRecord) {
			t.Errorf("%s: a record without a key: %v, want INVALID_RECORD", b.name, err)
		}
	}
	forgets := newKeyedLoad(t, ownTopic("tombstones"), brokers, map[string]string{"delete.retention.ms": "1"})
	keptBelow, forgotBelow := keeps.run(t, 1), forgets.run(t, 2)
	for range 3 {
		keeps.filler(t)
		forgets.filler(t)
	}
	for _, b := range brokers {
		keeps.settled(t, b, keptBelow, keeps.left(keptBelow, true), func() {})
		// A tombstone goes with a pass after the first one, and a pass needs something new.
		forgets.settled(t, b, forgotBelow, forgets.left(forgotBelow, false), func() { forgets.filler(t) })
	}
	want := ours.readAll(t, keeps.topic) // with the fillers
	if real := real.readAll(t, keeps.topic); !maps.Equal(want, real) {
		sameLines(t, "fillers too", keptLines(want, 1<<62), keptLines(real, 1<<62))
	}
	offsets := slices.Sorted(maps.Keys(want))
	t.Logf("%d records of %d are left", len(want), len(keeps.all))

	t.Run("kcat", func(t *testing.T) {
		var lines []string
		for _, off := range offsets {
			k := want[off]
			size := len(k.value)
			if k.value == "null" {
				size, k.value = -1, ""
			}
			lines = append(lines, fmt.Sprintf("%d %s %d %d %s", off, k.key, k.at, size, k.value))
		}
		got := clientOutput(t, "", program(t, "kcat"), "-C", "-q", "-e", "-b", addr, "-t", keeps.topic, "-o", "beginning", "-f", `%o %k %T %S %s\n`)
		sameLines(t, "kcat", splitLines(got), lines)
	})
	t.Run("console consumer", func(t *testing.T) {
		var lines []string
		for _, off := range offsets {
			lines = append(lines, fmt.Sprintf("CreateTime:%d\tOffset:%d\t%s\t%s", want[off].at, off, want[off].key, want[off].value))
		}
		args := []string{"--bootstrap-server", addr, "--topic", keeps.topic, "--from-beginning", "--max-messages", strconv.Itoa(len(want)), "--timeout-ms", "180000"}
		for _, what := range []string{"timestamp", "offset", "key"} {
			args = append(args, "--formatter-property", "print."+what+"=true")
		}
		sameLines(t, "console consumer", splitLines(kafkaTool(t, "", "console-consumer", args...)), lines)
	})

	p.kill()
	p = startBroker(t, data, addr, quick...)
	sameLines(t, "after kill -9", keptLines(ours.readAll(t, keeps.topic), 1<<62), keptLines(want, 1<<62))
	got := keptLines(ours.readAll(t, forgets.topic), forgotBelow)
	sameLines(t, "after kill -9", got, keptLines(forgets.left(forgotBelow, false), forgotBelow))
	p.stop(t)

	t.Run("files", func(t *testing.T) {
		files, err := filepath.Glob(filepath.Join(data, "logs", keeps.topic+"-0", "*.log"))
		if err != nil || len(files) < 2 {
			t.Fatalf("%q, %v", files, err)
		}
		if rolled := int(keeps.at-keeps.all[0].at) / 1000; len(files) > rolled/2 {
			t.Errorf("%d segments are left of more than %d", len(files), rolled)
		}
		sameDump(t, dir, files, []string{"--print-data-log"}, func(dump []string) {
			var got []string
			for _, l := range dump {
				if m := dumpedRecord.FindStringSubmatch(l); m != nil {
					value := "null"
					if m[4] != "-1" {
						value = m[6]
					}
					got = append(got, fmt.Sprintf("%s %s %s %s", m[1], m[5], m[2], value))
				}
				if strings.Contains(l, "isvalid: false") {
					t.Errorf("Kafka's tool finds damage: %s", l)
				}
			}
			sameLines(t, "records in the files", got, keptLines(want, 1<<62))
		})
		if out, stderr, code := ranWith(t, "", binary, "dump", "--verify", data); code != 0 {
			t.Errorf("sluice dump --verify: exit %d\n%s%s", code, out, stderr)
		}
	})
}

var (
	dumpedRecord = regexp.MustCompile(`^\| offset: (\d+) CreateTime: (\d+) keySize: (\d+) valueSize: (-?\d+) sequence: -?\d+ headerKeys: \[\] key: (\S+)(?: payload: (.*))?$`)
	dumpedBatch  = regexp.MustCompile(`^baseOffset: (\d+) lastOffset: (\d+) count: (\d+) .* compresscodec: (\S+) crc`)
)

// sameDump has Kafka's tool and the binary dump files, compares what they
// write, and gives it to look.
func sameDump(t *testing.T, dir string, files, args []string, look func(lines []string)) {
	t.Helper()
	args = append([]string{"--files", strings.Join(files, ",")}, args...)
	want, stderr, code := javaTool(t, "", "dump-log", args...)
	if code != 0 {
		t.Fatalf("dump-log: exit %d: %s", code, stderr)
	}
	got, stderr, code := called(t, dir, "", "dump-log", args...)
	if code != 0 {
		t.Errorf("sluice dump: exit %d: %s", code, stderr)
	}
	sameLines(t, "the dump", splitLines(got), splitLines(want))
	look(splitLines(want))
}

func number(t *testing.T, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// TestCompressionType: whatever codec a producer uses, both brokers store what
// compression.type says.
func TestCompressionType(t *testing.T) {
	if onKafka() {
		t.Skip("it compares the two")
	}
	fetched(t, "kafka.sh")
	dir := t.TempDir()
	data, addr := filepath.Join(dir, "data"), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	p := startBroker(t, data, addr)
	brokers := []*franz{newFranz(t, "sluice", addr), newFranz(t, "kafka", kafka.start(t))}
	name := ownTopic("ct")
	types := []string{"producer", "uncompressed", "gzip", "snappy", "lz4", "zstd"}
	value := strings.Repeat("compress me ", 100)
	for _, b := range brokers {
		for _, typ := range types {
			b.create(t, name+"-"+typ, map[string]string{"compression.type": typ})
		}
		for _, codec := range slices.Sorted(maps.Keys(codecs())) {
			cl := b.client(t, kgo.ProducerBatchCompression(codecs()[codec]), kgo.ManualFlushing())
			for _, typ := range types {
				for range 10 {
					cl.Produce(t.Context(), &kgo.Record{Topic: name + "-" + typ, Value: []byte(value)}, func(_ *kgo.Record, err error) {
						if err != nil {
							t.Errorf("%s: %s to %s: %v", b.name, codec, typ, err)
						}
					})
				}
			}
			if err := cl.Flush(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
	}
	p.stop(t)
	var files []string
	for _, root := range []string{filepath.Join(data, "logs"), filepath.Join(kafka.dir, "node1", "data")} {
		for _, typ := range types {
			files = append(files, filepath.Join(root, name+"-"+typ+"-0", "00000000000000000000.log"))
		}
	}
	sameDump(t, dir, files, nil, func(dump []string) {
		of := map[string][]string{} // by file
		file := ""
		for _, l := range dump {
			if f, ok := strings.CutPrefix(l, "Dumping "); ok {
				file = f
			}
			if m := dumpedBatch.FindStringSubmatch(l); m != nil {
				first, last := number(t, m[1]), number(t, m[2])
				for off := first; off <= last; off++ { // a client that waits for metadata may split its batch
					of[file] = append(of[file], fmt.Sprint(off, " ", m[4]))
				}
			}
		}
		for i, typ := range types {
			got, want := of[files[i]], of[files[len(types)+i]]
			if len(want) != 10*len(codecs()) {
				t.Errorf("Kafka's %s has records %q", typ, want)
			}
			sameLines(t, "codecs of compression.type="+typ, got, want)
		}
	})
}
