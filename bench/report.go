package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"runtime"
	"slices"
	"strings"
	"time"
)

// report is the machine-readable result.
type report struct {
	Time    time.Time `json:"time"`
	Machine machine   `json:"machine"`
	Smoke   bool      `json:"smoke"`
	Times   int       `json:"times"` // each input was handed over so often
	Heap    string    `json:"flume_heap"`
	Runs    []run     `json:"runs"`
	Summary []summary `json:"summary"`

	Backlog []backlogRun `json:"backlog,omitempty"`

	Broker *brokerReport `json:"broker,omitempty"`
}

type machine struct {
	CPU    string `json:"cpu"`
	CPUs   int    `json:"cpus"`
	Kernel string `json:"kernel"`
	Go     string `json:"go"`
	Java   string `json:"java"`
	Sluice string `json:"sluice"`
}

// rates are the medians of one agent over the rounds.
type rates struct {
	PerSecond     float64 `json:"events_per_s"`
	PerCPU        float64 `json:"events_per_cpu_s"`
	PerCPUStarted float64 `json:"events_per_cpu_s_with_startup"`
	PeakMB        float64 `json:"rss_peak_mb"`
	Others        float64 `json:"others_cpus"`
}

type summary struct {
	Workload string           `json:"workload"`
	What     string           `json:"what"`
	Target   float64          `json:"target_cpu_ratio,omitempty"`
	Clock    float64          `json:"target_ratio,omitempty"` // of events per second
	Agents   map[string]rates `json:"agents"`
	// Ratios of the medians, Sluice to Flume; absent unless both ran.
	PerSecond     float64 `json:"ratio_events_per_s,omitempty"`
	PerCPU        float64 `json:"ratio_events_per_cpu_s,omitempty"`
	PerCPUStarted float64 `json:"ratio_events_per_cpu_s_with_startup,omitempty"`
	Memory        float64 `json:"ratio_rss_flume_to_sluice,omitempty"`
}

func median(v []float64) float64 {
	if len(v) == 0 {
		return 0
	}
	v = slices.Sorted(slices.Values(v))
	if n := len(v); n%2 == 0 {
		return (v[n/2-1] + v[n/2]) / 2
	}
	return v[len(v)/2]
}

func summarise(w workload, runs []run) summary {
	s := summary{Workload: w.Name, What: w.What, Target: w.Target, Clock: w.clock(), Agents: map[string]rates{}}
	by := map[string][]run{}
	for _, r := range runs {
		if r.Workload == w.Name {
			by[r.Agent] = append(by[r.Agent], r)
		}
	}
	for name, rs := range by {
		of := func(f func(run) float64) float64 {
			var v []float64
			for _, r := range rs {
				v = append(v, f(r))
			}
			return median(v)
		}
		s.Agents[name] = rates{
			PerSecond: of(run.perSecond), PerCPU: of(run.perCPU), PerCPUStarted: of(run.perCPUStarted),
			PeakMB: of(func(r run) float64 { return float64(r.PeakKB) / 1024 }),
			Others: of(func(r run) float64 { return r.Others }),
		}
	}
	a, okA := s.Agents["sluice"]
	f, okF := s.Agents["flume"]
	if okA && okF {
		s.PerSecond, s.PerCPU = a.PerSecond/f.PerSecond, a.PerCPU/f.PerCPU
		s.PerCPUStarted, s.Memory = a.PerCPUStarted/f.PerCPUStarted, f.PeakMB/a.PeakMB
	}
	return s
}

// missed names the promises that the medians do not keep.
func (r report) missed() []string {
	var m []string
	for _, s := range r.Summary {
		if s.PerCPU != 0 && s.PerCPU < s.Target {
			m = append(m, fmt.Sprintf("%s: %.1f times Flume's events per CPU second, promised are %.0f", s.Workload, s.PerCPU, s.Target))
		}
	}
	for _, s := range r.Summary {
		if s.PerSecond != 0 && s.PerSecond < s.Clock {
			m = append(m, fmt.Sprintf("%s: %.1f times Flume's events per second, promised are %.0f", s.Workload, s.PerSecond, s.Clock))
		}
	}
	m = append(m, missedBacklog(r.Backlog)...)
	if r.Broker != nil {
		for _, p := range r.Broker.promises() {
			if !p.Kept {
				m = append(m, fmt.Sprintf("%s; got %s", p.What, p.Got))
			}
		}
	}
	return m
}

func printRun(w io.Writer, r run) {
	fmt.Fprintf(w, "%-12s round %d  %-6s  %6.2f s  %6.2f CPU s (+ %5.2f start)  %6.3f M/s  %6.3f M/CPU s  %5.0f MB  others %.2f CPU\n",
		r.Workload, r.Round, r.Agent, r.Wall, r.CPU, r.StartCPU, r.perSecond()/1e6, r.perCPU()/1e6, float64(r.PeakKB)/1024, r.Others)
}

// table writes the medians as Markdown.
func (r report) table(w io.Writer) {
	fmt.Fprintln(w, "| flow | agent | events/s | events/CPU s | with start-up | peak MB | noise, CPUs |")
	fmt.Fprintln(w, "|---|---|---:|---:|---:|---:|---:|")
	for _, s := range r.Summary {
		for _, name := range []string{"floor", "flume", "sluice"} {
			a, ok := s.Agents[name]
			if !ok {
				continue
			}
			if name == "floor" {
				fmt.Fprintf(w, "| %s | floor | %s | %s | | | |\n", s.Workload, millions(a.PerSecond), millions(a.PerCPU))
				continue
			}
			fmt.Fprintf(w, "| %s | %s | %s | %s | %s | %.0f | %.2f |\n", s.Workload, name,
				millions(a.PerSecond), millions(a.PerCPU), millions(a.PerCPUStarted), a.PeakMB, a.Others)
		}
		if s.PerCPU != 0 {
			fmt.Fprintf(w, "| %s | **ratio** | %.1f× | **%.1f×** (aim %.0f×) | %.1f× | 1/%.1f | |\n", s.Workload,
				s.PerSecond, s.PerCPU, s.Target, s.PerCPUStarted, s.Memory)
		}
	}
}

// millions shows a rate with two digits or more that count.
func millions(rate float64) string {
	if rate < 1e5 {
		return fmt.Sprintf("%.3f M", rate/1e6)
	}
	return fmt.Sprintf("%.2f M", rate/1e6)
}

func (r report) writeJSON(path string) error {
	b, err := json.MarshalIndent(r, "", "  ")
	if err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	if err := os.WriteFile(path, append(b, '\n'), 0o644); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	return nil
}

func thisMachine(javaVersion, sluiceVersion string) machine {
	m := machine{CPUs: runtime.NumCPU(), Go: runtime.Version(), Java: javaVersion, Sluice: sluiceVersion}
	if b, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(b)) {
			if k, v, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(k) == "model name" {
				m.CPU = strings.TrimSpace(v)
				break
			}
		}
	}
	if b, err := os.ReadFile("/proc/sys/kernel/osrelease"); err == nil {
		m.Kernel = strings.TrimSpace(string(b))
	}
	return m
}
