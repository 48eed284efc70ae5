package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
)

var resetScenarios = []string{"to-offset", "shift-by", "to-datetime", "by-duration", "to-earliest", "to-latest", "to-current", "from-file"}

// reset reads what --reset-offsets is to do.
func (g *groupTool) reset(now time.Time) (*resetPlan, []partitionSpec, error) {
	if g.has("dry-run") && g.has("execute") {
		return nil, nil, errors.New("--reset-offsets only accepts one of --execute and --dry-run")
	}
	scenario, err := g.one(g.tool, resetScenarios...)
	if err != nil {
		return nil, nil, err
	}
	p := &resetPlan{}
	value := g.last(scenario, "")
	switch scenario {
	case "to-earliest":
		p.toEarliest = true
	case "to-latest":
		p.toLatest = true
	case "to-current":
		p.toCurrent = true
	case "to-offset", "shift-by":
		n, err := g.int(scenario, 0)
		if err != nil {
			return nil, nil, err
		}
		if scenario == "to-offset" {
			p.toOffset = &n
		} else {
			p.shiftBy = &n
		}
	case "to-datetime":
		t, err := kafkaDateTime(value)
		if err != nil {
			return nil, nil, fmt.Errorf("--to-datetime: %w", err)
		}
		p.toTime = &t
	case "by-duration":
		d, err := isoDuration(value)
		if err != nil {
			return nil, nil, fmt.Errorf("--by-duration: %w", err)
		}
		t := now.Add(-d)
		p.toTime = &t
	case "from-file":
		if p.file, err = readPlan(value); err != nil {
			return nil, nil, err
		}
	}
	if !g.has("topic") && !g.has("all-topics") && p.file == nil {
		return nil, nil, kafkaSays("One of the reset scopes should be defined: --all-topics, --topic.")
	}
	specs, err := parsePartitionSpecs(g.kafkaArgs["topic"])
	if err != nil {
		return nil, nil, err
	}
	return p, specs, nil
}

// kafkaDateTime reads YYYY-MM-DDThh:mm:ss.sss with a zone or Z; without one it
// is UTC, as in Kafka.
func kafkaDateTime(s string) (time.Time, error) {
	for _, layout := range []string{"2006-01-02T15:04:05.999Z07:00", "2006-01-02T15:04:05.999Z0700", "2006-01-02T15:04:05.999Z07", "2006-01-02T15:04:05.999"} {
		if t, err := time.Parse(layout, s); err == nil {
			return t, nil
		}
	}
	return time.Time{}, fmt.Errorf("%q is not YYYY-MM-DDThh:mm:ss.sss", s)
}

var isoForm = regexp.MustCompile(`^(?i)([-+]?)P(?:([-+]?\d+)D)?(T(?:([-+]?\d+)H)?(?:([-+]?\d+)M)?(?:([-+]?\d+)(?:[.,](\d{0,9}))?S)?)?$`)

// isoDuration reads a duration of ISO 8601 as java.time.Duration does.
func isoDuration(s string) (time.Duration, error) {
	m := isoForm.FindStringSubmatch(s)
	if m == nil || m[2] == "" && m[4] == "" && m[5] == "" && m[6] == "" || strings.EqualFold(m[3], "T") {
		return 0, fmt.Errorf("%q is not a duration: want P7D, PT1H30M and the like", s)
	}
	var d time.Duration
	for i, unit := range map[int]time.Duration{2: 24 * time.Hour, 4: time.Hour, 5: time.Minute, 6: time.Second} {
		if m[i] == "" {
			continue
		}
		n, err := strconv.ParseInt(m[i], 10, 64)
		if err != nil || n > int64(200*365*24*time.Hour/unit) || n < -int64(200*365*24*time.Hour/unit) {
			return 0, fmt.Errorf("%q is out of range", s)
		}
		d += time.Duration(n) * unit
	}
	if f := m[7]; f != "" {
		n, err := strconv.ParseInt((f + "000000000")[:9], 10, 64)
		if err != nil {
			return 0, err
		}
		if strings.HasPrefix(m[6], "-") {
			n = -n
		}
		d += time.Duration(n)
	}
	if m[1] == "-" {
		d = -d
	}
	return d, nil
}

func (g *groupTool) resetOffsets(ctx context.Context) error {
	if !g.has("dry-run") && !g.has("execute") {
		fmt.Fprintln(g.env.Stderr, "WARN: No action will be performed as the --execute option is missing.")
	}
	names, err := g.groups(ctx)
	if err != nil {
		return g.failedBy(err)
	}
	warn := func(outside bool, s string) {
		if outside {
			fmt.Fprintln(g.env.Stderr, "WARN "+s)
			return
		}
		fmt.Fprintf(g.env.Stdout, "\nWarn: %s\n", s)
	}
	results := map[string]kadm.Offsets{}
	var bad error
	for _, name := range names {
		res, err := resetGroup(ctx, g.cl, name, g.specs, g.has("all-topics"), g.plan, warn, g.has("execute"))
		var active *activeGroupError
		switch {
		case errors.As(err, &active):
			bad = g.failed("Assignments can only be reset if the group '%s' is inactive, but the current state is %s.", name, active.state)
			results[name] = nil
		case err != nil:
			return g.failedBy(err)
		default:
			results[name] = res.new
		}
	}
	groupLen, topicLen := 15, 15
	for name, os := range results {
		groupLen = max(groupLen, len(name))
		for t := range os {
			topicLen = max(topicLen, len(t))
		}
	}
	sorted := slices.Sorted(maps.Keys(results))
	if g.has("export") {
		for _, name := range sorted {
			group := name
			if len(g.kafkaArgs["group"]) == 1 {
				group = ""
			}
			if err := exportPlan(g.env.Stdout, group, results[name]); err != nil {
				return err
			}
		}
		fmt.Fprintln(g.env.Stdout)
		return bad
	}
	row := func(group, topic, partition, offset string) {
		fmt.Fprintf(g.env.Stdout, "\n%-*s %-*s %-10s %s", groupLen, group, topicLen, topic, partition, offset)
	}
	if len(results) > 0 {
		row("GROUP", "TOPIC", "PARTITION", "NEW-OFFSET")
	}
	for _, name := range sorted {
		for _, o := range results[name].Sorted() {
			row(name, o.Topic, strconv.Itoa(int(o.Partition)), strconv.FormatInt(o.At, 10))
		}
	}
	fmt.Fprintln(g.env.Stdout)
	return bad
}
