package ledger

import (
	"bytes"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/sluice-data/sluice/internal/sim"
)

// The forms of topology 3.
const (
	LoadBalance = "load-balance"
	Replication = "replication"
	Failover    = "failover"
)

// Topology is one of the four of the directory examples, and where a run of it
// keeps its things.
type Topology struct {
	Number int
	// Form is that of topology 3: how agent 1 shares its events out.
	Form string
	Dir  string
}

// Validate names what is no topology.
func (t Topology) Validate() error {
	switch {
	case t.Number < 1 || t.Number > 4:
		return fmt.Errorf("there is no topology %d: give 1 (simple), 2 (multiplexing), 3 (fan-out) or 4 (aggregation)", t.Number)
	case t.Number == 3 && !slices.Contains([]string{LoadBalance, Replication, Failover}, t.Form):
		return fmt.Errorf("topology 3 has no form %q: give %s, %s or %s", t.Form, LoadBalance, Replication, Failover)
	case t.Number != 3 && t.Form != "":
		return fmt.Errorf("topology %d has no forms; only topology 3 has %s, %s and %s", t.Number, LoadBalance, Replication, Failover)
	}
	return nil
}

// collectors are the agents of topology 4 that have a simulator each.
var collectors = []string{"a1", "a2", "a3", "a4"}

// Simulators are the directories of the run's simulators, by name.
func (t Topology) Simulators() map[string]string {
	if t.Number != 4 {
		return map[string]string{"simulator": filepath.Join(t.Dir, "working")}
	}
	dirs := map[string]string{}
	for _, c := range collectors {
		dirs["simulator "+c[1:]] = filepath.Join(t.Dir, "working", c)
	}
	return dirs
}

// Log is what a process of the run prints.
func (t Topology) Log(name string) string { return filepath.Join(t.Dir, "log", name+".log") }

// Out is the directory of a file_roll sink.
func (t Topology) Out(name string) string { return filepath.Join(t.Dir, "out", name) }

// expect loads what a simulator of the run wrote into one log.
func (t Topology) expect(simulator string, kind sim.Kind) (*expected, error) {
	path := filepath.Join(t.Simulators()[simulator], sim.ManifestName)
	m, err := sim.LoadManifest(path)
	if err != nil {
		return nil, err
	}
	return loadExpected(path, m, kind)
}

// RunTopology compares the flows of a topology's run. crashed says that
// agents were killed: then delivery is at least once.
func RunTopology(t Topology, crashed bool) (*Result, error) {
	if err := t.Validate(); err != nil {
		return nil, err
	}
	res := &Result{AllowDuplicates: crashed, Balanced: true}
	run := map[int]func(*Result) error{1: t.simple, 2: t.multiplexing, 3: t.fanOut, 4: t.aggregation}
	if err := run[t.Number](res); err != nil {
		return nil, err
	}
	return res, nil
}

func (t Topology) simple(res *Result) error {
	e, err := t.expect("simulator", sim.DriverKind)
	if err != nil {
		return err
	}
	a := newAccount("driving → logger", e).allLines(res.AllowDuplicates, "the log")
	return res.add(a, readLoggerLog(a, []string{t.Log("a1")}))
}

func (t Topology) multiplexing(res *Result) error {
	status, err := t.expect("simulator", sim.StatusKind)
	if err != nil {
		return err
	}
	driving, err := t.expect("simulator", sim.DriverKind)
	if err != nil {
		return err
	}
	alarms, err := status.only(func(record []byte) bool { e := engine(record); return e == "B" || e == "C" })
	if err != nil {
		return err
	}
	normal := newAccount("status → normal", status).allLines(res.AllowDuplicates, "normal")
	if err := res.add(normal, readRolled(t.Out("normal"), 0, normal, normal.all)); err != nil {
		return err
	}
	alarm := newAccount("status → alarms", alarms).ends("alarms")
	alarm.crashed = res.AllowDuplicates
	if err := res.add(alarm, readRolled(t.Out("alarms"), 0, alarm, alarm.alarm)); err != nil {
		return err
	}
	drive := newAccount("driving → driving", driving).allLines(res.AllowDuplicates, "driving")
	return res.add(drive, readRolled(t.Out("driving"), 0, drive, drive.all))
}

// Fields of a status record.
const (
	statusFields = 13
	carField     = 1
	engineField  = 10
	brakesField  = 11
)

func engine(record []byte) string {
	if f := bytes.Split(record, []byte{','}); len(f) == statusFields {
		return string(f[engineField])
	}
	return ""
}

// alarm takes a line of the alarms apart. Its headers must be those that the
// interceptors make of its record.
func (a *account) alarm(line []byte) (*account, []byte, string) {
	headers, record, ok := bytes.Cut(line, []byte("} "))
	f := bytes.Split(record, []byte{','})
	if !ok || len(f) != statusFields {
		return nil, nil, "no status record behind its headers"
	}
	if want := fmt.Sprintf("{car=%s, engine=%s, brakes=%s, origin=status", f[carField], f[engineField], f[brakesField]); string(headers) != want {
		return nil, nil, "the headers are not " + want + "}"
	}
	return a, record, ""
}

func (t Topology) fanOut(res *Result) error {
	e, err := t.expect("simulator", sim.DriverKind)
	if err != nil {
		return err
	}
	if t.Form == Replication {
		for _, agent := range []string{"2", "3"} {
			a := newAccount("driving → agent "+agent, e).allLines(res.AllowDuplicates, "agent "+agent)
			if err := res.add(a, readRolled(t.Out("a"+agent), 0, a, a.all)); err != nil {
				return err
			}
		}
		return nil
	}
	a := newAccount("driving → agents 2 and 3", e).allLines(res.AllowDuplicates, "agent 2", "agent 3")
	err = readRolled(t.Out("a2"), 0, a, a.all)
	if err == nil {
		err = readRolled(t.Out("a3"), 1, a, a.all)
	}
	return res.add(a, err)
}

func (t Topology) aggregation(res *Result) error {
	from := map[string]*account{}
	var accounts []*account
	for _, c := range collectors {
		e, err := t.expect("simulator "+c[1:], sim.DriverKind)
		if err != nil {
			return err
		}
		a := newAccount("agent "+c[1:]+" → agents 5 and 6", e).allLines(res.AllowDuplicates, "agent 5", "agent 6")
		from[c], accounts = a, append(accounts, a)
	}
	sort := func(line []byte) (*account, []byte, string) {
		rest, ok := bytes.CutPrefix(line, []byte("{origin="))
		origin, record, found := bytes.Cut(rest, []byte("} "))
		if a := from[string(origin)]; ok && found && a != nil {
			return a, record, ""
		}
		return nil, nil, "no origin that there is"
	}
	for stream, agent := range []string{"a5", "a6"} {
		if err := readRolled(t.Out(agent), stream, accounts[0], sort); err != nil {
			return err
		}
	}
	for _, a := range accounts {
		if err := res.add(a, nil); err != nil {
			return err
		}
	}
	return nil
}
