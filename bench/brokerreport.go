package main

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strconv"
	"strings"
)

// sig prints a figure with three digits that matter.
func sig(v float64) string {
	switch {
	case v >= 100:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case v >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 2, 64)
}

// brokerReport is the broker's part of the result.
type brokerReport struct {
	Runs    []brokerRun                              `json:"runs"`
	Medians map[string]map[string]map[string]float64 `json:"medians"` // row → peer → figure
}

func (r *brokerReport) summarise() {
	r.Medians = map[string]map[string]map[string]float64{}
	all := map[[3]string][]float64{}
	for _, run := range r.Runs {
		for name, v := range run.Figures {
			k := [3]string{run.Row, run.Peer, name}
			all[k] = append(all[k], v)
		}
		k := [3]string{run.Row, run.Peer, "others_cpus"}
		all[k] = append(all[k], run.Others)
	}
	for k, v := range all {
		row := r.Medians[k[0]]
		if row == nil {
			row = map[string]map[string]float64{}
			r.Medians[k[0]] = row
		}
		if row[k[1]] == nil {
			row[k[1]] = map[string]float64{}
		}
		row[k[1]][k[2]] = median(v)
	}
}

// of returns a median, NaN where there is none.
func (r *brokerReport) of(row, peer, figure string) float64 {
	if v, ok := r.Medians[row][peer][figure]; ok {
		return v
	}
	return math.NaN()
}

// promise is one line of what Sluice's broker is held to.
type promise struct {
	What string `json:"what"`
	Got  string `json:"got"`
	Kept bool   `json:"kept"`
}

// promises judges the rows that ran. A comparison with NaN is false, so each
// is judged only when its figures are there.
func (r *brokerReport) promises() (l []promise) {
	add := func(what string, kept bool, figures ...float64) {
		if slices.ContainsFunc(figures, math.IsNaN) {
			return
		}
		var text []string
		for _, f := range figures {
			text = append(text, sig(f))
		}
		l = append(l, promise{what, strings.Join(text, ", "), kept})
	}
	ours := func(row, f string) float64 { return r.of(row, "sluice", f) }
	perKafka := func(row, f string) float64 { return ours(row, f) / r.of(row, "kafka", f) }
	perFloor := func(row, f string) float64 { return ours(row, f) / r.of(row, "floor", f) }

	k, f := perKafka(mainRow, figProduceCPU), perFloor(mainRow, figProduceCPU)
	add("produced MB per CPU second: 4 times Kafka's, or 0.85 of the floor", k >= 4 || f >= 0.85, k, f)
	k = perKafka(mainRow, figProduce)
	add("produced MB per second: not below Kafka's", k >= 1, k)
	k, f = perKafka(mainRow, figConsumeCPU), perFloor(mainRow, figConsumeCPU)
	add("consumed MB per CPU second: 1.3 times Kafka's, or 0.85 of a bare sendfile", k >= 1.3 || f >= 0.85, k, f)
	k = perKafka(latencyRow, figP99)
	add("p99 of an acknowledgement: at most half of Kafka's", k <= 0.5, k)
	m := ours(mainRow, figMemory)
	add("resident memory: below 100 MB", m < 100, m)
	m = ours(startRow, figReady)
	add("ready: in less than 200 ms", m < 200, m)
	m = ours(restartRow, figAccepted)
	add("first accepted produce after kill -9 with 10 GB: in less than 1000 ms", m < 1000, m)
	m = ours(partsRow+"-2000", figProduceCPU) / ours(partsRow+"-1", figProduceCPU)
	add("MB per CPU second with 2,000 partitions: at least 0.8 of those with one", m >= 0.8, m)
	m = ours(sizeRow+"-long", figProduceCPU) / ours(sizeRow+"-short", figProduceCPU)
	k = ours(sizeRow+"-long", figConsumeCPU) / ours(sizeRow+"-short", figConsumeCPU)
	add("MB per CPU second at the end of a long log: at least 0.95 of those of a new one, produced and consumed", m >= 0.95 && k >= 0.95, m, k)
	return l
}

// table writes medians and promises as Markdown.
func (r *brokerReport) table(w io.Writer) {
	var rows []string
	for _, run := range r.Runs {
		if !slices.Contains(rows, run.Row) {
			rows = append(rows, run.Row)
		}
	}
	tables := []struct {
		title string
		figs  []string
	}{
		{"throughput (MB of values)", []string{figProduce, figProduceCPU, figConsume, figConsumeCPU, figMemory}},
		{"latency", []string{figP50, figP99, figP999, figEnd50, figEnd99, figEnd999}},
		{"start", []string{figReady, figAccepted, figIdle}},
	}
	for _, t := range tables {
		head := false
		for _, row := range rows {
			for _, name := range []string{"floor", "kafka", "sluice"} {
				m := r.Medians[row][name]
				has := func(fig string) bool { _, ok := m[fig]; return ok }
				if !slices.ContainsFunc(t.figs[:3], has) {
					continue
				}
				if !head {
					head = true
					fmt.Fprintf(w, "\n| %s | broker |", t.title)
					for _, f := range t.figs {
						fmt.Fprintf(w, " %s |", f)
					}
					fmt.Fprintf(w, " noise, CPUs |\n|---|---|%s---:|\n", strings.Repeat("---:|", len(t.figs)))
				}
				fmt.Fprintf(w, "| %s | %s |", row, name)
				for _, f := range t.figs {
					if v, ok := m[f]; ok {
						fmt.Fprintf(w, " %s |", sig(v))
					} else {
						fmt.Fprint(w, " |")
					}
				}
				fmt.Fprintf(w, " %.2f |\n", m["others_cpus"])
			}
		}
	}
	if ps := r.promises(); len(ps) > 0 {
		fmt.Fprint(w, "\n| promise | got | |\n|---|---:|---|\n")
		for _, p := range ps {
			verdict := "kept"
			if !p.Kept {
				verdict = "**missed**"
			}
			fmt.Fprintf(w, "| %s | %s | %s |\n", p.What, p.Got, verdict)
		}
	}
}
