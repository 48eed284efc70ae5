package ledger

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"unicode/utf8"

	"github.com/sluice-data/sluice/internal/sim"
)

// Names of the flows.
const (
	StatusFlow = "status → logger"
	TopicFlow  = "driver → topic"
	FilesFlow  = "driver → files"
	HDFSFlow   = "status → HDFS"
	HBaseFlow  = "driver → HBase"
)

// Layout is where a pilot run keeps its things below its directory.
type Layout struct {
	Working  string // of the simulator: logs, manifest
	Spool    string // the spool directory of agent 1
	Conf     string // agent files
	Logs     string // output of the processes
	Broker   string // data directory of the broker
	Files    string // of the consumer's file_roll sink
	Manifest string
	AgentLog string // the logger sink's lines
	Topic    string
}

// LayoutOf is the layout of a run in dir.
func LayoutOf(dir string) Layout {
	working := filepath.Join(dir, "working")
	logs := filepath.Join(dir, "log")
	return Layout{
		Working: working, Spool: filepath.Join(working, "car-batch-log"), Conf: filepath.Join(dir, "conf"), Logs: logs,
		Broker: filepath.Join(dir, "broker"), Files: filepath.Join(dir, "drive-log"),
		Manifest: filepath.Join(working, sim.ManifestName), AgentLog: filepath.Join(logs, "SmartCar_Agent.log"), Topic: "SmartCar-Topic",
	}
}

// Flow is one line of the ledger.
type Flow struct {
	Name    string `json:"name"`
	Written int64  `json:"written"` // lines, garbage included
	// Garbage is how many of them a filter is to drop; 0 without one on the
	// way: then all are expected.
	Garbage int64 `json:"garbage"`
	// GarbageArrived are garbage lines that no filter dropped.
	GarbageArrived int64 `json:"garbage_arrived"`
	Expected       int64 `json:"expected"`
	// Arrived counts every line at the end of the flow; it is Expected -
	// Missing + Duplicated + Altered + GarbageArrived.
	Arrived    int64 `json:"arrived"`
	Missing    int64 `json:"missing"`
	Duplicated int64 `json:"duplicated"`
	Altered    int64 `json:"altered"` // equal to no line that was written
	InOrder    bool  `json:"in_order"`
	// Unordered is an end that keeps no order: the rows of a table.
	Unordered bool `json:"unordered,omitempty"`
	// Unconfirmed are records that a killed simulator announced and may not
	// have written; they are expected only if they arrived.
	Unconfirmed int64 `json:"unconfirmed,omitempty"`
	// Torn are last lines that a killed process left unfinished; they do not
	// count as arrived, and what they began was written again.
	Torn int64 `json:"torn,omitempty"`
	// Notes are the first offending lines, and where duplicates came from.
	Notes []string `json:"notes,omitempty"`
}

// Balanced says whether every expected line arrived once and nothing else did.
// Duplicates are excused where allowed: after a crash, at least once.
func (f *Flow) Balanced(allowDuplicates bool) bool {
	return f.Missing == 0 && f.Altered == 0 && f.GarbageArrived == 0 && (f.Duplicated == 0 || allowDuplicates)
}

// Result is a whole ledger.
type Result struct {
	Flows           []Flow `json:"flows"`
	AllowDuplicates bool   `json:"allow_duplicates"`
	Balanced        bool   `json:"balanced"`
}

// Options say what is compared. A flow whose place is empty is left out.
type Options struct {
	Manifest        string
	LoggerLogs      []string // an agent's log files, oldest first
	Bootstrap       string   // HOST:PORT of the broker
	Topic           string
	Files           string // directory of the file_roll sink
	Hadoop          Hadoop
	AllowDuplicates bool
}

// Run compares the flows.
func Run(ctx context.Context, o Options) (*Result, error) {
	m, err := sim.LoadManifest(o.Manifest)
	if err != nil {
		return nil, err
	}
	if len(o.LoggerLogs) == 0 && o.Topic == "" && o.Files == "" && o.Hadoop == (Hadoop{}) {
		return nil, errors.New("no flow to compare: give an agent log, a topic, a directory of files, an HDFS or an HBase")
	}
	res := &Result{AllowDuplicates: o.AllowDuplicates, Balanced: true}
	if len(o.LoggerLogs) > 0 || o.Hadoop.HDFS != "" {
		e, err := loadExpected(o.Manifest, m, sim.StatusKind)
		if err != nil {
			return nil, err
		}
		if len(o.LoggerLogs) > 0 {
			a := newAccount(StatusFlow, e)
			if err := res.add(a, readLoggerLog(a, o.LoggerLogs)); err != nil {
				return nil, err
			}
		}
		if o.Hadoop.HDFS != "" {
			a := newAccount(HDFSFlow, e)
			a.crashed = o.AllowDuplicates
			if err := res.add(a, o.Hadoop.readHDFS(ctx, a)); err != nil {
				return nil, err
			}
		}
	}
	if o.Topic == "" && o.Files == "" && o.Hadoop.HBase == "" {
		return res, nil
	}
	e, err := loadExpected(o.Manifest, m, sim.DriverKind)
	if err != nil {
		return nil, err
	}
	if o.Topic != "" {
		a := newAccount(TopicFlow, e)
		if err := res.add(a, readTopic(ctx, a, o.Bootstrap, o.Topic)); err != nil {
			return nil, err
		}
	}
	if o.Files != "" {
		a := newAccount(FilesFlow, e)
		a.crashed = o.AllowDuplicates
		if err := res.add(a, readRolled(o.Files, 0, a, a.all)); err != nil {
			return nil, err
		}
	}
	if o.Hadoop.HBase != "" {
		a := newAccount(HBaseFlow, e)
		if err := res.add(a, o.Hadoop.readHBase(ctx, a)); err != nil {
			return nil, err
		}
	}
	return res, nil
}

// add closes an account that was filled, if err is nil.
func (r *Result) add(a *account, err error) error {
	if err != nil {
		return fmt.Errorf("%s: %w", a.flow.Name, err)
	}
	f, err := a.close()
	if err != nil {
		return fmt.Errorf("%s: %w", f.Name, err)
	}
	r.Flows = append(r.Flows, f)
	r.Balanced = r.Balanced && f.Balanced(r.AllowDuplicates)
	return nil
}

// Print writes the table, the first offending lines and the verdict.
func (r *Result) Print(w io.Writer) error {
	tw := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	// The names stand left, which the table writer cannot do beside right.
	width := 0
	for _, f := range r.Flows {
		width = max(width, utf8.RuneCountInString(f.Name))
	}
	left := func(s string) string { return s + strings.Repeat(" ", max(0, width-utf8.RuneCountInString(s))) }
	fmt.Fprintln(tw, left("flow")+"\twritten\tgarbage dropped\texpected\tarrived\tmissing\tduplicated\taltered\tin order\t")
	for _, f := range r.Flows {
		order := "yes"
		if !f.InOrder {
			order = "NO"
		} else if f.Unordered {
			order = "-"
		}
		fmt.Fprintf(tw, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%s\t\n", left(f.Name), f.Written, f.Garbage-f.GarbageArrived, f.Expected, f.Arrived, f.Missing, f.Duplicated, f.Altered+f.GarbageArrived, order)
	}
	if err := tw.Flush(); err != nil {
		return fmt.Errorf("print ledger: %w", err)
	}
	for _, f := range r.Flows {
		for _, n := range f.Notes {
			fmt.Fprintf(w, "  %s: %s\n", f.Name, n)
		}
		if f.Torn > 0 {
			fmt.Fprintf(w, "  %s: %d lines at the ends of files were torn by a kill; what they began was written again\n", f.Name, f.Torn)
		}
		if f.Unconfirmed > 0 {
			fmt.Fprintf(w, "  %s: the simulator was killed; %d announced records may never have been written and did not arrive\n", f.Name, f.Unconfirmed)
		}
	}
	_, err := fmt.Fprintln(w, r.verdict())
	return err
}

func (r *Result) verdict() string {
	var doubled int64
	ordered := true
	for _, f := range r.Flows {
		doubled += f.Duplicated
		ordered = ordered && f.InOrder
	}
	switch {
	case !r.Balanced:
		return "The ledger does NOT balance."
	case !ordered:
		return "The ledger balances, but the order was not kept."
	case doubled > 0:
		return "The ledger balances: nothing lost or altered. Duplicates came from a restart, or a batch that was sent again (at least once)."
	}
	return "The ledger balances: every event arrived once, unaltered, in order."
}

// JSON writes the result for another program.
func (r *Result) JSON(w io.Writer) error {
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(r)
}
