package ledger

import (
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/sim"
)

// topologyRun is a finished run of a topology: what each simulator wrote, and
// the files of its sinks, to be filled by the test.
type topologyRun struct {
	Topology
	status, driver map[string][]string // by simulator, garbage included
}

func ranTopology(t *testing.T, number int, form string) *topologyRun {
	t.Helper()
	r := &topologyRun{Topology: Topology{Number: number, Form: form, Dir: t.TempDir()}, status: map[string][]string{}, driver: map[string][]string{}}
	spool := filepath.Join(r.Dir, "status")
	seed := uint64(1)
	for name, dir := range r.Simulators() {
		o := sim.Options{Config: sim.Config{Start: "20160101235800", Cars: 5, Seed: seed, Garbage: 0.1, Status: number == 2, Driver: true},
			Dir: dir, Until: "20160102000200", Log: slog.New(slog.DiscardHandler)}
		if number == 2 {
			o.Spool = spool
		}
		if err := sim.Run(t.Context(), o); err != nil {
			t.Fatal(err)
		}
		seed++
		r.driver[name] = allLines(t, filepath.Join(dir, sim.DriverDir, sim.DriverLogName))
		if number == 2 {
			r.status[name] = append(allLines(t, filepath.Join(spool, "SmartCarStatusInfo_20160101.txt")), allLines(t, filepath.Join(spool, "SmartCarStatusInfo_20160102.txt"))...)
		}
	}
	return r
}

func allLines(t *testing.T, path string) []string {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
}

// put writes a file of a sink; tail is what a killed process left behind it.
func (r *topologyRun) put(t *testing.T, out string, lines []string, tail string) {
	t.Helper()
	if err := os.MkdirAll(r.Out(out), 0o755); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(lines, "\n") + "\n" + tail
	if len(lines) == 0 {
		text = tail
	}
	if err := os.WriteFile(filepath.Join(r.Out(out), "1700000000000-1"), []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r *topologyRun) run(t *testing.T, crashed bool) *Result {
	t.Helper()
	res, err := RunTopology(r.Topology, crashed)
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

// isRecord says whether a line is no garbage.
func isRecord(line string) bool { return keep.MatchString(line) }

func TestFanOutLedger(t *testing.T) {
	r := ranTopology(t, 3, Failover)
	all := r.driver["simulator"]
	half := len(all) / 2
	r.put(t, "a2", all[:half], "")
	r.put(t, "a3", all[half:], "")
	if res := r.run(t, false); !res.Balanced || !res.Flows[0].InOrder || res.Flows[0].Expected != int64(len(all)) || res.Flows[0].Garbage != 0 {
		t.Errorf("whole: %+v", res)
	}
	// Agent 2 is killed: it tears a line, and what it had answered too late
	// comes again at agent 3.
	records := slices.DeleteFunc(slices.Clone(all[half-30:half]), func(l string) bool { return !isRecord(l) })
	again := append(slices.Clone(records), all[half:]...)
	r.put(t, "a2", all[:half], "20160101")
	r.put(t, "a3", again, "")
	res := r.run(t, true)
	f := res.Flows[0]
	if !res.Balanced || f.Duplicated != int64(len(records)) || f.Torn != 1 || f.Missing+f.Altered != 0 {
		t.Errorf("after a kill: %+v", f)
	}
	if want := fmt.Sprintf("%d records that had arrived at agent 2 came again at agent 3", len(records)); !slices.Contains(f.Notes, want) {
		t.Errorf("no note %q in %q", want, f.Notes)
	}
	// Without a kill, none of this is excused.
	if res := r.run(t, false); res.Balanced || res.Flows[0].Altered != 1 || res.Flows[0].Duplicated != int64(len(records)) {
		t.Errorf("without a kill: %+v", res.Flows[0])
	}
	// A record and a line of garbage are gone.
	record := slices.IndexFunc(all[:half], isRecord)
	garbage := slices.IndexFunc(all[:half], func(l string) bool { return !isRecord(l) })
	lost := slices.Clone(all[:half])
	lost = slices.Delete(lost, max(record, garbage), max(record, garbage)+1)
	lost = slices.Delete(lost, min(record, garbage), min(record, garbage)+1)
	r.put(t, "a2", lost, "")
	r.put(t, "a3", all[half:], "")
	if res := r.run(t, true); res.Balanced || res.Flows[0].Missing != 2 {
		t.Errorf("lost: %+v", res.Flows[0])
	}
}

func TestReplicationLedger(t *testing.T) {
	r := ranTopology(t, 3, Replication)
	all := r.driver["simulator"]
	r.put(t, "a2", all, "")
	r.put(t, "a3", all, "")
	if res := r.run(t, false); !res.Balanced || len(res.Flows) != 2 {
		t.Errorf("%+v", res)
	}
	r.put(t, "a3", all[:len(all)-1], "") // that agent 2 has it does not help
	if res := r.run(t, false); res.Balanced || res.Flows[0].Missing != 0 || res.Flows[1].Missing != 1 {
		t.Errorf("%+v", res)
	}
}

func TestMultiplexingLedger(t *testing.T) {
	r := ranTopology(t, 2, "")
	status, driver := r.status["simulator"], r.driver["simulator"]
	var alarms []string
	for _, l := range status {
		if f := strings.Split(l, ","); isRecord(l) && (f[10] == "B" || f[10] == "C") {
			alarms = append(alarms, fmt.Sprintf("{car=%s, engine=%s, brakes=%s, origin=status} %s", f[1], f[10], f[11], l))
		}
	}
	r.put(t, "normal", status, "")
	r.put(t, "driving", driver, "")
	r.put(t, "alarms", alarms, "")
	res := r.run(t, false)
	if !res.Balanced || len(res.Flows) != 3 || res.Flows[1].Expected != int64(len(alarms)) || len(alarms) == 0 {
		t.Fatalf("%+v", res)
	}
	normal := status[slices.IndexFunc(status, func(l string) bool { return isRecord(l) && strings.Split(l, ",")[10] == "A" })]
	f := strings.Split(normal, ",")
	for name, c := range map[string]struct {
		alarms []string
		want   Flow
	}{
		"one is missing":        {alarms[1:], Flow{Missing: 1}},
		"one twice":             {append(slices.Clone(alarms), alarms[3]), Flow{Duplicated: 1}},
		"a wrong header":        {append(slices.Clone(alarms[1:]), strings.Replace(alarms[0], "engine=B", "engine=C", 1)), Flow{Missing: 1, Altered: 1}},
		"one that is no alarm":  {append(slices.Clone(alarms), fmt.Sprintf("{car=%s, engine=A, brakes=%s, origin=status} %s", f[1], f[11], normal)), Flow{Altered: 1}},
		"garbage":               {append(slices.Clone(alarms), "garbage"), Flow{Altered: 1}},
		"a record with no head": {append(slices.Clone(alarms), normal), Flow{Altered: 1}},
	} {
		r.put(t, "alarms", c.alarms, "")
		res := r.run(t, false)
		if got := res.Flows[1]; res.Balanced || got.Missing != c.want.Missing || got.Duplicated != c.want.Duplicated || got.Altered != c.want.Altered {
			t.Errorf("%s: %+v", name, got)
		}
	}
}

func TestAggregationLedger(t *testing.T) {
	r := ranTopology(t, 4, "")
	var five, six []string
	for _, c := range collectors {
		for i, l := range r.driver["simulator "+c[1:]] {
			line := "{origin=" + c + "} " + l
			if i%3 == 0 {
				six = append(six, line)
			} else {
				five = append(five, line)
			}
		}
	}
	r.put(t, "a5", five, "")
	r.put(t, "a6", six, "")
	if res := r.run(t, false); !res.Balanced || len(res.Flows) != 4 {
		t.Fatalf("%+v", res)
	}
	// A line that says that it is from another agent is missing there and
	// unknown here.
	at := slices.IndexFunc(five, func(l string) bool { return strings.HasPrefix(l, "{origin=a2} 2016") })
	five[at] = strings.Replace(five[at], "a2", "a3", 1)
	r.put(t, "a5", five, "")
	if res := r.run(t, true); res.Balanced || res.Flows[1].Missing != 1 || res.Flows[2].Altered != 1 {
		t.Errorf("another origin: %+v", res.Flows)
	}
	five[at] = "nobody's"
	r.put(t, "a5", five, "{orig")
	if res := r.run(t, true); res.Balanced || res.Flows[0].Altered != 1 || res.Flows[0].Torn != 1 || res.Flows[1].Missing != 1 {
		t.Errorf("no origin: %+v", res.Flows)
	}
}

func TestSimpleLedger(t *testing.T) {
	r := ranTopology(t, 1, "")
	var log strings.Builder
	for _, l := range r.driver["simulator"] {
		log.WriteString("time=now level=INFO msg=" + dump([]byte(l)) + "\n")
	}
	if err := os.MkdirAll(filepath.Dir(r.Log("a1")), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(r.Log("a1"), []byte(log.String()), 0o644); err != nil {
		t.Fatal(err)
	}
	res := r.run(t, false)
	if !res.Balanced || !res.Flows[0].InOrder || res.Flows[0].Arrived != int64(len(r.driver["simulator"])) {
		t.Errorf("%+v", res)
	}
	var out strings.Builder
	if err := res.Print(&out); err != nil || !strings.Contains(out.String(), "every event arrived once") {
		t.Errorf("%v, %s", err, &out)
	}
}

func TestTopologyValidate(t *testing.T) {
	for _, c := range []struct {
		topology Topology
		want     string // "" for good
	}{
		{Topology{Number: 1}, ""}, {Topology{Number: 2}, ""}, {Topology{Number: 3, Form: LoadBalance}, ""}, {Topology{Number: 4}, ""},
		{Topology{Number: 0}, "no topology 0"}, {Topology{Number: 5}, "no topology 5"}, {Topology{Number: -1}, "no topology -1"},
		{Topology{Number: 3}, "no form"}, {Topology{Number: 3, Form: "fallover"}, "fallover"}, {Topology{Number: 4, Form: Failover}, "has no forms"},
	} {
		err := c.topology.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.topology, err, c.want)
		}
	}
}
