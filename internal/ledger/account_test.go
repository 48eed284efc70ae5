package ledger

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/internal/sim"
)

// fixture is a finished run whose flows all arrived.
type fixture struct {
	opts    Options
	dir     string
	status  []string
	driver  []string
	garbage []string // of the driving log
}

func finished(t *testing.T) *fixture {
	t.Helper()
	dir := t.TempDir()
	l := LayoutOf(dir)
	if err := sim.Run(t.Context(), sim.Options{
		Config: sim.Config{Start: "20160101235500", Cars: 10, Seed: 11, Garbage: 0.1, BurstEvery: 60, Status: true, Driver: true},
		Dir:    l.Working, Spool: l.Spool, Until: "20160102000500", Log: slog.New(slog.DiscardHandler),
	}); err != nil {
		t.Fatal(err)
	}
	f := &fixture{dir: dir, opts: Options{Manifest: l.Manifest, LoggerLogs: []string{l.AgentLog}, Files: l.Files}}
	for _, d := range []string{l.Logs, l.Files} {
		if err := os.MkdirAll(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	f.status, _ = split(t, filepath.Join(l.Spool, "SmartCarStatusInfo_20160101.txt"), filepath.Join(l.Spool, "SmartCarStatusInfo_20160102.txt"))
	f.driver, f.garbage = split(t, filepath.Join(l.Working, sim.DriverDir, sim.DriverLogName))
	f.arrive(t)
	return f
}

var keep = regexp.MustCompile(`^\d{14}`)

func split(t *testing.T, paths ...string) (records, garbage []string) {
	t.Helper()
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range strings.Split(strings.TrimSuffix(string(data), "\n"), "\n") {
			if keep.MatchString(line) {
				records = append(records, line)
			} else {
				garbage = append(garbage, line)
			}
		}
	}
	return records, garbage
}

// arrive writes the ends of the file flows from f.status and f.driver.
func (f *fixture) arrive(t *testing.T) {
	t.Helper()
	var log bytes.Buffer
	log.WriteString("time=now level=INFO msg=\"agent started\"\n")
	for i, s := range f.status {
		log.WriteString("01 Jan 2016 00:00:00,000 INFO  [SinkRunner] (LoggerSink.process:95) - " + dump([]byte(s)) + "\n")
		if i%1000 == 0 {
			log.WriteString("time=now level=INFO msg=\"something else\"\n")
		}
	}
	if err := os.WriteFile(f.opts.LoggerLogs[0], log.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	// Two files, so that their order counts; -10 sorts before -9 as text.
	half := len(f.driver) / 2
	for name, part := range map[string][]string{"1700000000000-9": f.driver[:half], "1700000000000-10": f.driver[half:]} {
		if err := os.WriteFile(filepath.Join(f.opts.Files, name), []byte(strings.Join(part, "\n")+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}

// dump is an independent writing of Flume's EventHelper.dumpEvent over
// commons-io HexDump.
func dump(body []byte) string {
	var rows []string
	for at := 0; at < len(body); at += 16 {
		part := body[at:min(at+16, len(body))]
		cells, text := "", ""
		for i := range 16 {
			if i < len(part) {
				cells += fmt.Sprintf("%02X ", part[i])
			} else {
				cells += "   "
			}
		}
		for _, c := range part {
			if c >= 32 && c < 127 {
				text += string(rune(c))
			} else {
				text += "."
			}
		}
		offset := ""
		if at > 0 {
			offset = fmt.Sprintf("%08X", at)
		}
		rows = append(rows, offset+" "+cells+text)
	}
	return "Event: { headers:{} body:" + strings.Join(rows, "\n") + " }"
}

func compare(t *testing.T, o Options) *Result {
	t.Helper()
	res, err := Run(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range res.Flows {
		if f.Arrived != f.Expected-f.Missing+f.Duplicated+f.Altered+f.GarbageArrived {
			t.Errorf("%s does not add up: %+v", f.Name, f)
		}
	}
	return res
}

func TestEverythingArrived(t *testing.T) {
	f := finished(t)
	res := compare(t, f.opts)
	if !res.Balanced || len(res.Flows) != 2 {
		t.Fatalf("%+v", res)
	}
	for _, flow := range res.Flows {
		if flow.Arrived == 0 || flow.Arrived != flow.Expected || !flow.InOrder || len(flow.Notes) > 0 {
			t.Errorf("%+v", flow)
		}
	}
}

func TestFaults(t *testing.T) {
	for _, c := range []struct {
		name  string
		fault func(lines []string, f *fixture) []string
		want  Flow // the counts of the fault
		note  string
		// excused: allowing duplicates makes it balance
		excused bool
	}{
		{"deleted", func(l []string, _ *fixture) []string { return slices.Delete(l, 100, 101) }, Flow{Missing: 1, InOrder: true}, `missing, record 100: "201601`, false},
		{"last deleted", func(l []string, _ *fixture) []string { return l[:len(l)-1] }, Flow{Missing: 1, InOrder: true}, "missing, record", false},
		{"many deleted", func(l []string, _ *fixture) []string { return slices.Delete(l, 10, 1500) }, Flow{Missing: 1490, InOrder: true}, "missing, record 14:", false},
		{"all deleted", func([]string, *fixture) []string { return []string{} }, Flow{InOrder: true}, "missing, record 4:", false},
		{"doubled", func(l []string, _ *fixture) []string { return slices.Insert(l, 51, l[50]) }, Flow{Duplicated: 1, InOrder: true}, "doubled", true},
		{"replayed", func(l []string, _ *fixture) []string { return slices.Insert(l, 300, l[200:300]...) }, Flow{Duplicated: 100, InOrder: true}, "doubled", true},
		{"altered", func(l []string, _ *fixture) []string { l[7] = strings.Replace(l[7], ",", ";", 1); return l }, Flow{Missing: 1, Altered: 1, InOrder: true}, "altered or unknown", false},
		{"cut off", func(l []string, _ *fixture) []string { l[7] = l[7][:len(l[7])-1]; return l }, Flow{Missing: 1, Altered: 1, InOrder: true}, "altered or unknown", false},
		{"swapped", func(l []string, _ *fixture) []string { l[7], l[8] = l[8], l[7]; return l }, Flow{}, "out of order", true},
		{"foreign", func(l []string, _ *fixture) []string { return append(l, "20160101000000,X9999,0,0,F,N,0,A01") }, Flow{Altered: 1, InOrder: true}, "X9999", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			for flow := range 2 {
				f := finished(t)
				lines := &f.status
				if flow == 1 {
					lines = &f.driver
				}
				n := len(*lines)
				*lines = c.fault(*lines, f)
				want := c.want
				if len(*lines) == 0 {
					want.Missing = int64(n)
				}
				f.arrive(t)
				res := compare(t, f.opts)
				got := res.Flows[flow]
				if got.Missing != want.Missing || got.Duplicated != want.Duplicated || got.Altered != want.Altered || got.InOrder != want.InOrder {
					t.Errorf("%+v, want %+v", got, want)
				}
				if !strings.Contains(strings.Join(got.Notes, "\n"), c.note) {
					t.Errorf("notes %q, want one with %q", got.Notes, c.note)
				}
				disorder := c.name == "swapped"
				if res.Balanced != disorder {
					t.Errorf("balanced is %v", res.Balanced)
				}
				f.opts.AllowDuplicates = true
				if res := compare(t, f.opts); res.Balanced != c.excused {
					t.Errorf("with duplicates allowed, balanced is %v", res.Balanced)
				}
			}
		})
	}
}

func TestGarbageThatArrives(t *testing.T) {
	f := finished(t)
	i := slices.IndexFunc(f.garbage, func(l string) bool { return strings.HasPrefix(l, " 2016") })
	f.driver = slices.Insert(f.driver, 40, f.garbage[i], "")
	f.arrive(t)
	res := compare(t, f.opts)
	if g := res.Flows[1]; res.Balanced || g.GarbageArrived != 2 || g.Missing+g.Altered+g.Duplicated != 0 || !g.InOrder {
		t.Errorf("%+v", g)
	}
}

// A simulator that was killed has announced records it may not have written.
func TestIncompleteManifest(t *testing.T) {
	f := finished(t)
	data, err := os.ReadFile(f.opts.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	m, err := sim.LoadManifest(f.opts.Manifest)
	if err != nil {
		t.Fatal(err)
	}
	edit := func(from, to string) {
		if !bytes.Contains(data, []byte(from)) {
			t.Fatalf("the manifest has no %s", from)
		}
		data = bytes.Replace(data, []byte(from), []byte(to), 1)
		if err := os.WriteFile(f.opts.Manifest, data, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	records := m.Driver.Records
	driver := bytes.Index(data, []byte(`"driver": {`)) // the status log has other counts
	if driver < 0 {
		t.Fatal("the manifest has no driver log")
	}
	edit(fmt.Sprintf(`"records": %d`, records), fmt.Sprintf(`"records": %d`, records-50))
	if _, err := Run(t.Context(), f.opts); err == nil || !strings.Contains(err.Error(), "not of the same run") {
		t.Errorf("a complete manifest with too many hashes: %v", err)
	}
	edit(`"complete": true`, `"complete": false`)
	f.driver = f.driver[:len(f.driver)-30] // 20 of the unconfirmed ones arrived
	f.arrive(t)
	res := compare(t, f.opts)
	if g := res.Flows[1]; !res.Balanced || g.Unconfirmed != 30 || g.Expected != records-30 {
		t.Errorf("%+v", g)
	}
	f.driver = f.driver[:len(f.driver)-30] // 10 confirmed ones lost
	f.arrive(t)
	if res := compare(t, f.opts); res.Balanced || res.Flows[1].Missing != 10 {
		t.Errorf("%+v", res.Flows[1])
	}
}

func TestTopic(t *testing.T) {
	f := finished(t)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "SmartCar-Topic"))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	f.opts = Options{Manifest: f.opts.Manifest, Bootstrap: cluster.ListenAddrs()[0], Topic: "SmartCar-Topic"}
	client, err := kgo.NewClient(kgo.SeedBrokers(f.opts.Bootstrap), kgo.DefaultProduceTopic("SmartCar-Topic"))
	if err != nil {
		t.Fatal(err)
	}
	defer client.Close()
	if res := compare(t, f.opts); res.Balanced || res.Flows[0].Missing != int64(len(f.driver)) {
		t.Errorf("an empty topic: %+v", res.Flows[0])
	}
	for _, l := range f.driver {
		client.Produce(context.Background(), kgo.StringRecord(l), func(_ *kgo.Record, err error) {
			if err != nil {
				t.Error(err)
			}
		})
	}
	if err := client.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	if res := compare(t, f.opts); !res.Balanced || !res.Flows[0].InOrder || res.Flows[0].Arrived != int64(len(f.driver)) {
		t.Errorf("%+v", res.Flows[0])
	}
	if err := client.ProduceSync(t.Context(), kgo.StringRecord(f.driver[5])).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if res := compare(t, f.opts); res.Balanced || res.Flows[0].Duplicated != 1 {
		t.Errorf("%+v", res.Flows[0])
	}
	f.opts.Topic = "NoSuchTopic"
	if _, err := Run(t.Context(), f.opts); err == nil {
		t.Error("a topic that is not there was compared")
	}
}

// Equal lines are a multiset: as many as were written are expected.
func TestMultiset(t *testing.T) {
	var hashes []uint64
	for _, l := range []string{"a", "b", "a", "c", "a"} {
		hashes = append(hashes, sim.HashLine([]byte(l)))
	}
	for _, c := range []struct {
		arrive       string
		missing, dup int64
		altered      int64
		ordered      bool
	}{
		{"a b a c a", 0, 0, 0, true},
		{"a b c a", 1, 0, 0, true},
		{"a b a c a a", 0, 1, 0, true},
		{"b b a a a c", 0, 1, 0, false},
		{"a a a b c", 0, 0, 0, false},
		{"x", 5, 0, 1, true},
	} {
		e := &expected{log: &sim.Log{}, records: hashes, confirmed: len(hashes), config: sim.Config{Start: "20160101", Cars: 1, Status: true}, kind: sim.StatusKind}
		a := newAccount("test", e)
		for _, l := range strings.Fields(c.arrive) {
			a.arrive(0, []byte(l), func() string { return "here" })
		}
		f, err := a.close()
		if err != nil {
			t.Fatal(err)
		}
		if f.Missing != c.missing || f.Duplicated != c.dup || f.Altered != c.altered || f.InOrder != c.ordered {
			t.Errorf("%s: %+v", c.arrive, f)
		}
	}
}

func TestPrint(t *testing.T) {
	f := finished(t)
	f.driver = slices.Delete(f.driver, 3, 4)
	f.arrive(t)
	var out strings.Builder
	if err := compare(t, f.opts).Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"flow", "duplicated", StatusFlow, FilesFlow, "missing, record 3: ", "does NOT balance"} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %q in\n%s", want, out.String())
		}
	}
}
