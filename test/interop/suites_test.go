//go:build interop

package interop

import (
	"bufio"
	"cmp"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
)

// outcome is what one test of a client suite came to.
type outcome struct {
	test    string
	result  string // pass, fail or skip
	feature string // what the table in docs/clients.md counts it under
	detail  string
}

// suite is a client's tests, ours or its own, against a broker at addr.
type suite struct {
	name string
	// run reports the outcomes and the version of the client. known are the
	// tests on the skip list: they run as well, but may hang.
	run func(t *testing.T, addr string, known []string) (version string, outcomes []outcome)
	// broker has the settings that the suite's own instructions want.
	broker func(addr string) []string
}

// TestSuites runs client suites unchanged against the built-in broker. What
// fails must be on the skip list, and what is on the list must fail. With
// SLUICE_INTEROP_BROKER=kafka the same suites run against Apache Kafka, and the
// list must be right about that too.
//
// The table in docs/clients.md is made here: SLUICE_CLIENTS_TABLE names the
// file to write. Without it the table is compared with the one in docs.
func TestSuites(t *testing.T) {
	list, err := readSkips("skips.txt")
	if err != nil {
		t.Fatal(err)
	}
	var tab table
	for name := range list {
		if !slices.ContainsFunc(suites(), func(s suite) bool { return s.name == name }) {
			t.Errorf("skips.txt: no suite is named %q", name)
		}
	}
	t.Cleanup(func() { // after the suites, which run side by side
		write := os.Getenv("SLUICE_CLIENTS_TABLE")
		if !onKafka() && len(tab.clients) == len(suites()) && (write != "" || !t.Failed()) {
			tab.check(t, filepath.Join("..", "..", "docs", "clients.md"), write)
		}
	})
	for _, s := range suites() {
		t.Run(s.name, func(t *testing.T) {
			t.Parallel()
			known := list[s.name]
			addr := newBrokerWith(t, s.broker)
			version, outcomes := s.run(t, addr, tests(known))
			if len(outcomes) == 0 {
				t.Fatalf("%s reported no test at all", s.name)
			}
			judge(t, known, outcomes)
			tab.add(s.name, version, known, outcomes)
		})
	}
}

func onKafka() bool { return os.Getenv("SLUICE_INTEROP_BROKER") == "kafka" }

// skip is a line of skips.txt: a test that does not pass here.
type skip struct {
	test   string // with all its subtests
	kafka  string // what Apache Kafka's run came to: pass, fail or skip
	reason string
}

func (s skip) covers(test string) bool {
	return test == s.test || strings.HasPrefix(test, s.test+"/")
}

func tests(list []skip) (names []string) {
	for _, s := range list {
		names = append(names, s.test)
	}
	return names
}

// readSkips reads lines of the form "suite | test | Kafka's result | reason".
func readSkips(file string) (map[string][]skip, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	list := map[string][]skip{}
	sc := bufio.NewScanner(f)
	for n := 1; sc.Scan(); n++ {
		line := strings.TrimSpace(sc.Text())
		if line == "" || line[0] == '#' {
			continue
		}
		f := strings.Split(line, " | ")
		if len(f) != 4 || !slices.Contains([]string{"pass", "fail", "skip"}, f[2]) || f[3] == "" {
			return nil, fmt.Errorf("%s:%d: want suite | test | pass, fail or skip | reason", file, n)
		}
		list[f[0]] = append(list[f[0]], skip{test: f[1], kafka: f[2], reason: f[3]})
	}
	return list, sc.Err()
}

// judge compares outcomes with the skip list.
func judge(t *testing.T, list []skip, outcomes []outcome) {
	t.Helper()
	seen := map[string]string{} // entry → worst outcome of what it covers
	for _, o := range outcomes {
		i := slices.IndexFunc(list, func(s skip) bool { return s.covers(o.test) })
		switch {
		case i < 0 && o.result != "pass":
			t.Errorf("%s: %s, and not on the skip list\n%s", o.test, o.result, o.detail)
		case i >= 0:
			seen[list[i].test] = worse(seen[list[i].test], o.result)
		}
	}
	for _, s := range list {
		got, ok := seen[s.test]
		switch {
		case !ok:
			t.Errorf("skips.txt: %s did not run; is it still there?", s.test)
		case onKafka() && got != s.kafka:
			t.Errorf("skips.txt: %s is %s on Apache Kafka, the list says %s", s.test, got, s.kafka)
		case !onKafka() && got == "pass":
			t.Errorf("skips.txt: %s passes now, take it off the list", s.test)
		}
	}
}

func worse(a, b string) string {
	for _, r := range []string{"fail", "skip"} {
		if a == r || b == r {
			return r
		}
	}
	return "pass"
}

// table is client × feature × result.
type table struct {
	mu      sync.Mutex
	clients []tableClient
}

type tableClient struct {
	name, version string
	cells         map[string]*cell
}

type cell struct{ passed, skipped, failed int }

// features are the rows, in this order.
var features = []string{
	"metadata, cluster", "topics", "partitions", "topic and broker configs", "client quotas", "delete records", "log directories",
	"produce, no compression", "produce, gzip", "produce, snappy", "produce, lz4", "produce, zstd", "idempotent produce", "large messages", "headers, null keys and values",
	"fetch", "look-up by time", "offset commit and resume",
	"classic groups", "static members", "cooperative rebalance", "KIP-848 groups", "group administration",
	"compacted topics", "other", "transactions", "share groups", "ACLs, SASL, TLS",
}

func (tab *table) add(name, version string, list []skip, outcomes []outcome) {
	c := tableClient{name: name, version: version, cells: map[string]*cell{}}
	for _, o := range outcomes {
		x := c.cells[o.feature]
		if x == nil {
			x = &cell{}
			c.cells[o.feature] = x
		}
		switch {
		case o.result == "pass":
			x.passed++
		case slices.ContainsFunc(list, func(s skip) bool { return s.covers(o.test) }):
			x.skipped++
		default:
			x.failed++
		}
	}
	tab.mu.Lock()
	defer tab.mu.Unlock()
	tab.clients = append(tab.clients, c)
}

const tableHead, tableEnd = "<!-- results -->\n", "<!-- end -->\n"

// markdown is the part of docs/clients.md that the run makes.
func (tab *table) markdown() string {
	slices.SortFunc(tab.clients, func(a, b tableClient) int { return cmp.Compare(a.name, b.name) })
	var b strings.Builder
	b.WriteString("| client | version | passed | on the skip list |\n| --- | --- | --- | --- |\n")
	for _, c := range tab.clients {
		var sum cell
		for _, x := range c.cells {
			sum.passed += x.passed
			sum.skipped += x.skipped
		}
		fmt.Fprintf(&b, "| %s | %s | %d | %d |\n", c.name, c.version, sum.passed, sum.skipped)
	}
	b.WriteString("\n| feature |")
	for _, c := range tab.clients {
		b.WriteString(" " + c.name + " |")
	}
	b.WriteString("\n| --- |" + strings.Repeat(" --- |", len(tab.clients)) + "\n")
	for _, f := range features {
		row, any := "| "+f+" |", false
		for _, c := range tab.clients {
			switch x := c.cells[f]; {
			case x == nil:
				row += " |"
			case x.failed > 0:
				row, any = row+" FAIL |", true
			case x.skipped == 0:
				row, any = row+" ✓ |", true
			case x.passed == 0:
				row, any = row+" skip |", true
			default:
				row, any = row+" ✓, some skip |", true
			}
		}
		if any {
			b.WriteString(row + "\n")
		}
	}
	return b.String()
}

var tableVersion = regexp.MustCompile(`(?m)^(\| [^|]+ \|) [^|]+ (\| \d+ \| \d+ \|)$`)

// check writes the table into a copy of the page, or compares it with the
// page: what differs but the versions is an error.
func (tab *table) check(t *testing.T, page, write string) {
	t.Helper()
	old, err := os.ReadFile(page)
	if err != nil {
		t.Fatal(err)
	}
	before, rest, ok1 := strings.Cut(string(old), tableHead)
	was, after, ok2 := strings.Cut(rest, tableEnd)
	if !ok1 || !ok2 {
		t.Fatalf("%s has no lines %q and %q", page, tableHead, tableEnd)
	}
	for _, c := range tab.clients {
		for f := range c.cells {
			if !slices.Contains(features, f) {
				t.Errorf("%s: %q is not a row of the table", c.name, f)
			}
		}
	}
	now := tab.markdown()
	if write != "" {
		if err := os.WriteFile(write, []byte(before+tableHead+now+tableEnd+after), 0o644); err != nil {
			t.Error(err)
		}
		return
	}
	strip := func(s string) string { return tableVersion.ReplaceAllString(s, "$1 $2") }
	sameLines(t, page+" (SLUICE_CLIENTS_TABLE="+page+" writes it anew)", splitLines(strip(now)), splitLines(strip(was)))
}

// clientsDir is where clients/setup.sh has put what the suites need.
func clientsDir(t *testing.T, needs string) string {
	t.Helper()
	dir := os.Getenv("SLUICE_CLIENTS")
	if dir == "" {
		missing(t, "SLUICE_CLIENTS, the directory that clients/setup.sh made")
	}
	abs, err := filepath.Abs(dir)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(abs, needs)); errors.Is(err, os.ErrNotExist) {
		missing(t, "%s, which clients/setup.sh brings", filepath.Join(abs, needs))
	}
	return abs
}

// classify finds the first feature whose pattern matches a test's name.
func classify(rules [][2]string, test string) string {
	for _, r := range rules {
		if regexp.MustCompile(r[1]).MatchString(test) {
			return r[0]
		}
	}
	return "other"
}
