package sim

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// small is a run of both logs over an hour of simulated time round midnight.
func small(t *testing.T) Options {
	t.Helper()
	dir := t.TempDir()
	return Options{
		Config: Config{Start: "20160101233000", Cars: 20, Seed: 7, Garbage: 0.05, BurstEvery: 60, Status: true, Driver: true},
		Dir:    filepath.Join(dir, "work"), Spool: filepath.Join(dir, "spool"),
		Until: "20160102003000", Log: slog.New(slog.DiscardHandler),
	}
}

func run(t *testing.T, o Options) *Manifest {
	t.Helper()
	if err := Run(t.Context(), o); err != nil {
		t.Fatal(err)
	}
	m, err := LoadManifest(o.ManifestPath())
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// tree is the SHA-256 of every file below dir but the manifest, which holds
// the time of writing.
func tree(t *testing.T, dir string) map[string]string {
	t.Helper()
	sums := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == ManifestName {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(dir, path)
		sum := sha256.Sum256(data)
		sums[rel] = fmt.Sprintf("%d %s", len(data), hex.EncodeToString(sum[:8]))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return sums
}

func sameTree(t *testing.T, got, want map[string]string) {
	t.Helper()
	for name := range want {
		if got[name] != want[name] {
			t.Errorf("%s is %q, want %q", name, got[name], want[name])
		}
	}
	for name := range got {
		if _, ok := want[name]; !ok {
			t.Errorf("%s is there and should not be", name)
		}
	}
}

// The bytes of a seed are a promise: manifests of older runs, and tests of
// others, stand on them. A change here changes every run.
func TestGolden(t *testing.T) {
	o := small(t)
	run(t, o)
	got := tree(t, filepath.Dir(o.Dir))
	want := map[string]string{
		"spool/SmartCarStatusInfo_20160101.txt":           "599952 98ac483681f53884",
		"spool/SmartCarStatusInfo_20160102.txt":           "599874 cbb52bab6b6576e1",
		"work/driver-realtime-log/SmartCarDriverInfo.log": "1369571 d4fc564f9597952b",
		"work/driver.garbage.xxh64":                       "15512 89748322b6fb2281",
		"work/driver.records.xxh64":                       "288000 4d9a1b01e8617e2f",
		"work/status.garbage.xxh64":                       "10592 50538f1afd19883a",
		"work/status.records.xxh64":                       "192000 fab3b31333426f3b",
	}
	sameTree(t, got, want)
}

// The pace of the clock must not show in the bytes.
func TestSpeedDoesNotChangeBytes(t *testing.T) {
	fast := small(t)
	run(t, fast)
	paced := small(t)
	paced.Speed = 20_000
	run(t, paced)
	sameTree(t, tree(t, filepath.Dir(paced.Dir)), tree(t, filepath.Dir(fast.Dir)))
	other := small(t)
	other.Seed++
	run(t, other)
	if a, b := tree(t, other.Spool), tree(t, fast.Spool); a["SmartCarStatusInfo_20160101.txt"] == b["SmartCarStatusInfo_20160101.txt"] {
		t.Error("another seed gave the same file")
	}
}

var (
	statusLine = regexp.MustCompile(`^\d{14},[A-Z]\d{4}(,(\d|[1-9]\d|100)){4}(,[12]){4},[ABC],[ABC],(\d|[1-9]\d|100)$`)
	driverLine = regexp.MustCompile(`^\d{14},[A-Z]\d{4},[0-5],[0-3],(F|[LR][123]),[NLR],(\d|[1-9]\d|1\d\d|2[0-4]\d|250),[A-F](0[1-9]|10)(,[0-9]*)?$`)
	handbook   = regexp.MustCompile(`^\d{14}`)
)

// lines splits a file and separates the records from the garbage with the
// handbook's own filter.
func lines(t *testing.T, paths ...string) (records, garbage []string) {
	t.Helper()
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) == 0 || data[len(data)-1] != '\n' {
			t.Fatalf("%s does not end with a line feed", p)
		}
		for l := range strings.SplitSeq(string(data[:len(data)-1]), "\n") {
			if handbook.MatchString(l) {
				records = append(records, l)
			} else {
				garbage = append(garbage, l)
			}
		}
	}
	return records, garbage
}

// checkLog compares a log's lines with its account in the manifest.
func checkLog(t *testing.T, o Options, l *Log, records, garbage []string, shape *regexp.Regexp) {
	t.Helper()
	if int(l.Records) != len(records) || int(l.GarbageLines()) != len(garbage) {
		t.Errorf("manifest says %d records and %d garbage lines, the files hold %d and %d", l.Records, l.GarbageLines(), len(records), len(garbage))
	}
	sorts := int64(0)
	for _, n := range l.Garbage {
		sorts += n
	}
	if sorts != l.GarbageLines() {
		t.Errorf("the sorts of garbage add up to %d, want %d", sorts, l.GarbageLines())
	}
	for side, want := range map[string][]string{l.RecordHashes: records, l.GarbageHashes: garbage} {
		hashes, err := ReadHashes(filepath.Join(o.Dir, side))
		if err != nil {
			t.Fatal(err)
		}
		if len(hashes) != len(want) {
			t.Fatalf("%s holds %d hashes, want %d", side, len(hashes), len(want))
		}
		for i, line := range want {
			if hashes[i] != HashLine([]byte(line)) {
				t.Fatalf("%s: hash %d is not that of %q", side, i, line)
			}
		}
	}
	seen := make(map[string]bool, len(records))
	last := ""
	for _, r := range records {
		if !shape.MatchString(r) {
			t.Fatalf("record %q is not of the form", r)
		}
		if key := r[:20]; seen[key] {
			t.Fatalf("time and car of %q are not unique", r)
		} else {
			seen[key] = true
		}
		if r[:14] < last {
			t.Fatalf("record %q comes after one of %s", r, last)
		}
		last = r[:14]
	}
}

func TestLinesMatchManifest(t *testing.T) {
	for _, c := range []struct {
		name    string
		change  func(*Options)
		status  int // records
		drivers int
	}{
		{"around midnight", func(*Options) {}, 5 * 1200, 5 * 1800},
		{"no burst", func(o *Options) { o.BurstEvery = 0 }, 5 * 1200, 5 * 1800},
		{"every step a burst", func(o *Options) { o.BurstEvery = 2 }, 5 * 1200, 5 * 1800},
		{"odd start", func(o *Options) { o.Start = "20160101233001" }, 5 * 1199, 5 * 1799},
		{"padded", func(o *Options) { o.RecordBytes = 4000; o.Until = "20160101233500" }, 5 * 100, 5 * 150},
		{"garbage", func(o *Options) { o.Garbage = 0.5 }, 5 * 1200, 5 * 1800},
		{"whole day first", func(o *Options) { o.Cars = 2; o.Days = 1; o.Until = "20160103003000" }, 2 * (28800 + 1200), 2 * 1800},
		{"two days from midnight", func(o *Options) { o.Cars = 1; o.Days = 2; o.Start = "20160101"; o.Until = "20160103000100" }, 2*28800 + 20, 30},
	} {
		t.Run(c.name, func(t *testing.T) {
			o := small(t)
			o.Cars = 5
			c.change(&o)
			m := run(t, o)
			if !m.Complete || m.Clock != o.Until {
				t.Errorf("complete %v, clock %s, want true and %s", m.Complete, m.Clock, o.Until)
			}
			var days []string
			for _, f := range m.Status.Files {
				days = append(days, filepath.Join(o.Spool, f.Name))
			}
			records, garbage := lines(t, days...)
			checkLog(t, o, m.Status, records, garbage, statusLine)
			if len(records) != c.status {
				t.Errorf("%d status records, want %d", len(records), c.status)
			}
			if want := int64(len(days) * o.Cars); m.Status.Garbage["heading"] != want {
				t.Errorf("%d status headings, want one per car and day, %d", m.Status.Garbage["heading"], want)
			}
			records, garbage = lines(t, filepath.Join(o.Dir, DriverDir, DriverLogName))
			checkLog(t, o, m.Driver, records, garbage, driverLine)
			if len(records) != c.drivers {
				t.Errorf("%d driving records, want %d", len(records), c.drivers)
			}
			if m.Driver.Garbage["heading"] != int64(o.Cars) {
				t.Errorf("%d driver headings, want %d", m.Driver.Garbage["heading"], o.Cars)
			}
			if o.RecordBytes > 0 && len(records[0]) != o.RecordBytes {
				t.Errorf("a record has %d bytes, want %d", len(records[0]), o.RecordBytes)
			}
			all := float64(m.Driver.Lines - int64(o.Cars))
			if share := float64(m.Driver.GarbageLines()-int64(o.Cars)) / all; math.Abs(share-o.Garbage) > 4*math.Sqrt(o.Garbage/all)+1e-9 {
				t.Errorf("share of garbage is %.4f, want %.4f", share, o.Garbage)
			}
		})
	}
}

// A whole day of the handbook's fleet: the volume the mission states, and the
// distributions of the fields.
func TestWholeDayOfStatus(t *testing.T) {
	g := newStatusGen(Config{Start: "20160101", Days: 1, Cars: 100, Seed: 3, Status: true})
	var b block
	counts := map[string]int{}
	total, size := 0, 0
	sampled := 0
	for tick := range StatusTicksPerDay {
		b.reset()
		g.tick(&b)
		size += len(b.buf)
		total += len(b.records)
		if tick%16 != 0 {
			continue
		}
		sampled += len(b.records)
		for l := range bytes.Lines(b.buf) {
			if l[0] == 'S' {
				continue
			}
			rest := l[21 : len(l)-1] // behind time and car
			for field := 0; ; field++ {
				v, after, more := bytes.Cut(rest, []byte{','})
				counts[strconv.Itoa(field)+" "+string(v)]++
				if !more {
					break
				}
				rest = after
			}
		}
	}
	if total != 2_880_000 {
		t.Fatalf("%d records, want 2,880,000", total)
	}
	if size < 135e6 || size > 142e6 {
		t.Errorf("a day is %d bytes, want about 138 MB", size)
	}
	sum := func(field, lo, hi int) (n int) {
		for v := lo; v <= hi; v++ {
			n += counts[fmt.Sprintf("%d %d", field, v)]
		}
		return n
	}
	share := func(what string, n int, want, tolerance float64) {
		t.Helper()
		if got := float64(n) / float64(sampled); math.Abs(got-want) > tolerance {
			t.Errorf("%s: %.4f of the records, want %.4f", what, got, want)
		}
	}
	// Sticky failures take up to a few percent of a day away from the rest.
	for f := range 4 {
		share("tire 80-100", sum(f, 80, 100), 0.80, 0.05)
		share("tire 70-79", sum(f, 70, 79), 0.20, 0.03)
		share("light 1", counts[fmt.Sprintf("%d 1", 4+f)], 0.97, 0.05)
	}
	share("engine A", counts["8 A"], 0.80, 0.05)
	share("brake B", counts["9 B"], 0.20, 0.03)
	share("battery 80-100", sum(10, 80, 100), 0.90, 0.05)
	share("battery 50-79", sum(10, 50, 79), 0.10, 0.03)
	if sum(0, 0, 69)+sum(1, 0, 69)+sum(2, 0, 69)+sum(3, 0, 69) == 0 {
		t.Error("no tire failed in a day of 100 cars; about 20 should")
	}
}

// A failed part stays failed, at its value, until midnight.
func TestFailuresAreSticky(t *testing.T) {
	g := newStatusGen(Config{Start: "20160101", Cars: 1, Seed: 1, Status: true})
	g.cars[0] = carStatus{tire: [4]uint8{12, 255, 255, 255}, light: [4]uint8{'1', '2', '1', '1'}, engine: true, battery: 33}
	var b block
	for range 1000 {
		b.reset()
		g.tick(&b)
		l := b.buf[bytes.LastIndexByte(b.buf[:len(b.buf)-1], '\n')+1 : len(b.buf)-1]
		f := strings.Split(string(l), ",")
		if f[2] != "12" || f[7] != "2" || f[10] != "C" || f[12] != "33" {
			t.Fatalf("a failed part came back: %s", l)
		}
	}
	g.at = secondsPerDay*(g.day+1) - StatusStep
	g.tick(&b)
	if g.cars[0].tire[0] != 255 || g.cars[0].engine || g.cars[0].battery != 255 {
		t.Error("midnight did not repair the failures")
	}
}

func TestDriverDistributions(t *testing.T) {
	g := newDriverGen(Config{Start: "20160101", Cars: 400, Seed: 5, Driver: true})
	wild := map[string]bool{}
	letters := map[byte]bool{}
	for i, d := range g.drivers {
		wild[string(g.ids[i][:])] = d.wild == 1
		letters[d.area] = true
	}
	if n := count(wild); n < 25 || n > 40 {
		t.Errorf("%d of 400 drivers are wild, want about a tenth", n)
	}
	if len(letters) != 6 {
		t.Errorf("%d area letters, want A to F", len(letters))
	}
	var b block
	total := [2]int{}
	acc := [2][6]int{}
	straightOnes, braking := [2]int{}, 0
	for range 400 * 500 {
		b.reset()
		g.unit(&b)
		f := strings.Split(string(b.buf[:len(b.buf)-1]), ",")
		k := 0
		if wild[f[1]] {
			k = 1
		}
		total[k]++
		acc[k][f[2][0]-'0']++
		if f[3] != "0" {
			braking++
			if f[2] != "0" {
				t.Fatalf("brake and accelerator together: %v", f)
			}
		}
		if f[4] == "F" {
			straightOnes[k]++
		}
		if want := map[byte]string{'F': "N", 'L': "L", 'R': "R"}[f[4][0]]; k == 0 && f[5] != want {
			t.Fatalf("wheel %s with indicator %s", f[4], f[5])
		}
	}
	for k := range total {
		for i, w := range accWeights[k] {
			if got := 100 * float64(acc[k][i]) / float64(total[k]); math.Abs(got-float64(w)) > 1.5 {
				t.Errorf("accelerator %d (wild %d): %.1f %%, want %d", i, k, got, w)
			}
		}
		if got := 100 * float64(straightOnes[k]) / float64(total[k]); math.Abs(got-float64(straight[k])) > 1.5 {
			t.Errorf("straight on (wild %d): %.1f %%, want %d", k, got, straight[k])
		}
	}
	if braking == 0 {
		t.Error("nobody braked")
	}
}

func count(m map[string]bool) (n int) {
	for _, v := range m {
		if v {
			n++
		}
	}
	return n
}

// A burst is all drivers at the same instant, in a block of its own: one write.
func TestBurstIsOneUnit(t *testing.T) {
	g := newDriverGen(Config{Start: "20160101", Cars: 100, Seed: 1, BurstEvery: 60, RecordBytes: 4000, Driver: true})
	var b block
	g.unit(&b)
	if len(b.records) != 100 || len(b.buf) != 100*4001 {
		t.Fatalf("a burst has %d records and %d bytes, want 100 and %d", len(b.records), len(b.buf), 100*4001)
	}
	b.reset()
	g.unit(&b)
	if len(b.records) != 1 || !bytes.HasPrefix(b.buf, []byte("20160101000002")) {
		t.Fatalf("after the burst: %d records beginning with %.14s", len(b.records), b.buf)
	}
}

func TestRotation(t *testing.T) {
	o := small(t)
	o.RotateBytes = 100_000
	m := run(t, o)
	if len(m.Driver.Files) < 5 {
		t.Fatalf("%d driving logs, want several", len(m.Driver.Files))
	}
	var paths []string
	for i, f := range m.Driver.Files {
		last := i == len(m.Driver.Files)-1
		if want := fmt.Sprintf("%s.%d", DriverLogName, i+1); !last && f.Name != want || last && f.Name != DriverLogName {
			t.Errorf("file %d is named %s", i, f.Name)
		}
		st, err := os.Stat(filepath.Join(o.Dir, DriverDir, f.Name))
		if err != nil {
			t.Fatal(err)
		}
		if st.Size() != f.Bytes || st.Size() > o.RotateBytes || f.Complete == last {
			t.Errorf("%s: %d bytes, manifest %d, complete %v", f.Name, st.Size(), f.Bytes, f.Complete)
		}
		paths = append(paths, filepath.Join(o.Dir, DriverDir, f.Name))
	}
	records, garbage := lines(t, paths...)
	checkLog(t, o, m.Driver, records, garbage, driverLine)
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "rotated logs of another run") {
		t.Errorf("a second run over rotated logs: %v", err)
	}
}

// A run that is cut off at any byte and resumed writes what an unbroken run
// writes.
func TestResumeAfterKill(t *testing.T) {
	whole := small(t)
	whole.RotateBytes = 100_000
	run(t, whole)
	want := tree(t, filepath.Dir(whole.Dir))

	for _, stopAt := range []string{"20160101233100", "20160101235959", "20160102000003", "20160102001500"} {
		for _, torn := range []int64{0, 1, 30, 5000} {
			t.Run(fmt.Sprintf("%s minus %d bytes", stopAt, torn), func(t *testing.T) {
				o := small(t)
				o.RotateBytes = 100_000
				kill(t, o, stopAt, torn)
				o.Resume = true
				m := run(t, o)
				sameTree(t, tree(t, filepath.Dir(o.Dir)), want)
				if !m.Complete {
					t.Error("the manifest is not complete")
				}
				if err := Run(t.Context(), o); err == nil {
					t.Error("a complete run could be resumed")
				}
			})
		}
	}
}

// kill runs until the simulated time and leaves what a kill leaves: an
// incomplete manifest, an open day's file, torn ends.
func kill(t *testing.T, o Options, at string, torn int64) {
	t.Helper()
	o.Until = at
	r, err := newRunner(o)
	if err != nil {
		t.Fatal(err)
	}
	if err := r.run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := r.flush(); err != nil {
		t.Fatal(err)
	}
	status := filepath.Join(r.sw.dir, r.sw.file().Name)
	if err := errors.Join(r.sw.close(), r.dw.close()); err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{status, filepath.Join(o.Dir, DriverDir, DriverLogName)} {
		st, err := os.Stat(p)
		if err != nil {
			t.Fatal(err)
		}
		if err := os.Truncate(p, max(0, st.Size()-torn)); err != nil {
			t.Fatal(err)
		}
	}
	// A torn hash file: its last entry is half there.
	side := filepath.Join(o.Dir, r.dw.log.RecordHashes)
	f, err := os.OpenFile(side, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte{1, 2, 3}); err != nil {
		t.Fatal(err)
	}
	f.Close()
}

func TestResumeRefusesOtherSettings(t *testing.T) {
	o := small(t)
	kill(t, o, "20160101233100", 0)
	o.Resume, o.Seed = true, 8
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "other settings") {
		t.Errorf("resume with another seed: %v", err)
	}
}

// The end of the context ends the run in order: the day's file is completed.
func TestStopCompletesTheDay(t *testing.T) {
	o := small(t)
	o.Speed, o.Until = 3600, ""
	ctx, cancel := context.WithCancel(t.Context())
	o.Hold = func(context.Context) error { time.AfterFunc(100*time.Millisecond, cancel); return nil }
	if err := Run(ctx, o); err != nil {
		t.Fatal(err)
	}
	m, err := LoadManifest(o.ManifestPath())
	if err != nil {
		t.Fatal(err)
	}
	if !m.Complete || len(m.Status.Files) == 0 {
		t.Fatalf("complete %v, files %v", m.Complete, m.Status.Files)
	}
	for _, f := range m.Status.Files {
		if _, err := os.Stat(filepath.Join(o.Spool, f.Name)); err != nil {
			t.Error(err)
		}
	}
}

func TestRefusals(t *testing.T) {
	for _, c := range []struct {
		change func(*Options)
		want   string
	}{
		{func(o *Options) { o.Start = "2016-01-01" }, "yyyyMMdd"},
		{func(o *Options) { o.Start = "20160132" }, "yyyyMMdd"},
		{func(o *Options) { o.Cars = 0 }, "cars"},
		{func(o *Options) { o.Cars = 10000 }, "cars"},
		{func(o *Options) { o.Garbage = 1 }, "garbage"},
		{func(o *Options) { o.Garbage = math.NaN() }, "garbage"},
		{func(o *Options) { o.RecordBytes = 5000 }, "record bytes"},
		{func(o *Options) { o.BurstEvery = 3 }, "burst"},
		{func(o *Options) { o.Status, o.Driver = false, false }, "neither"},
		{func(o *Options) { o.Until = "20160101" }, "not after"},
		{func(o *Options) { o.Until = "" }, "fill the disk"},
		{func(o *Options) { o.Speed = math.Inf(1) }, "speed"},
	} {
		o := small(t)
		c.change(&o)
		if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("error %v, want one with %q", err, c.want)
		}
	}
	o := small(t)
	if err := os.MkdirAll(o.Spool, 0o755); err != nil {
		t.Fatal(err)
	}
	taken := filepath.Join(o.Spool, "SmartCarStatusInfo_20160101.txt")
	if err := os.WriteFile(taken, []byte("mine"), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := Run(t.Context(), o); err == nil || !strings.Contains(err.Error(), "taken") {
		t.Errorf("a taken name in the spool directory: %v", err)
	}
	if data, _ := os.ReadFile(taken); string(data) != "mine" {
		t.Error("the file in the spool directory was overwritten")
	}
}

func TestNoAllocationPerLine(t *testing.T) {
	s := newStatusGen(Config{Start: "20160101", Cars: 100, Seed: 1, Garbage: 0.1, Status: true})
	d := newDriverGen(Config{Start: "20160101", Cars: 100, Seed: 1, Garbage: 0.1, BurstEvery: 60, Driver: true})
	var b block
	round := func() {
		b.reset()
		for range 20 {
			s.tick(&b)
		}
		for range 2000 {
			d.unit(&b)
		}
	}
	round()
	if n := testing.AllocsPerRun(20, round); n > 1 { // a block that is larger than any before may still grow
		t.Errorf("%.1f allocations in 4,000 lines", n)
	}
}

func TestTexts(t *testing.T) {
	o := small(t)
	run(t, o)
	all := map[Kind][]string{}
	all[StatusKind], _ = lines(t, filepath.Join(o.Spool, "SmartCarStatusInfo_20160101.txt"), filepath.Join(o.Spool, "SmartCarStatusInfo_20160102.txt"))
	all[DriverKind], _ = lines(t, filepath.Join(o.Dir, DriverDir, DriverLogName))
	for kind, records := range all {
		want := []int64{0, 7, 8, 399, 12_345, int64(len(records) - 1)}
		got, err := Texts(o.Config, kind, want)
		if err != nil {
			t.Fatal(err)
		}
		for _, at := range want {
			if got[at] != records[at] {
				t.Errorf("%s record %d is %q, want %q", kind, at, got[at], records[at])
			}
		}
	}
}
