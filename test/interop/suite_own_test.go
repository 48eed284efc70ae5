//go:build interop

package interop

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// The suites that clients bring themselves.

var kgoLine = regexp.MustCompile(`(?m)^ *--- (PASS|FAIL|SKIP): (\S+) \(`)

var kgoFeatures = [][2]string{
	{"transactions", `^TestTxn`},
	{"share groups", `Share`},
	{"ACLs, SASL, TLS", `SCRAM`},
	{"static members", `^TestGroupETL/.*static`},
	{"KIP-848 groups", `^(TestGroup.*|Test)848`},
	{"cooperative rebalance", `^TestGroupETL/cooperative`},
	{"classic groups", `^(TestGroup|TestIssue523|TestPooling)`},
	{"large messages", `LargeMessages|FetchLargerThan`},
	{"produce, gzip", `^TestGzip`},
	{"idempotent produce", `^TestClient_Produce|^TestIssue(769|831)`},
	{"fetch", `^TestConsume|^TestPause|^TestIssue(325|337|434|648|810|865)|^TestHookPoll|^TestDirectPartitionPurge`},
	{"partitions", `^TestAddRemovePartitions`},
	{"metadata, cluster", `^TestPing|^TestProcessHooks`},
	{"offset commit and resume", `^TestUnknownGroupOffsetFetch`},
}

// runKgo runs franz-go's own tests, from the module that go.mod names.
func runKgo(t *testing.T, addr string, known []string) (string, []outcome) {
	version := strings.TrimSpace(clientOutput(t, "", "go", "list", "-m", "-f", "{{.Version}}", "github.com/twmb/franz-go"))
	dir := strings.TrimSpace(clientOutput(t, "", "go", "list", "-f", "{{.Dir}}", "github.com/twmb/franz-go/pkg/kgo"))
	exe := filepath.Join(t.TempDir(), "kgo.test")
	clientOutput(t, "", "go", "test", "-c", "-o", exe, "github.com/twmb/franz-go/pkg/kgo")
	only := "^(" + strings.Join(known, "|") + ")$"
	records := os.Getenv("KGO_TEST_RECORDS")
	if records == "" {
		records = "50000" // a tenth of the suite's default
	}
	run := func(timeout string, args ...string) (string, error) {
		cmd := exec.CommandContext(t.Context(), exe, append(args, "-test.v", "-test.timeout="+timeout)...)
		cmd.Dir = dir // some tests read the package's source
		cmd.Env = append(os.Environ(), "KGO_SEEDS="+addr, "KGO_TEST_RF=1", "KGO_LOG_LEVEL=none", "KGO_TEST_RECORDS="+records)
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	out, err := run("15m", "-test.skip="+only)
	keepLog(t, out)
	results := kgoResults(out)
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || !slices.ContainsFunc(results, func(o outcome) bool { return o.result == "fail" })) {
		t.Fatalf("franz-go's tests: %v\n%s", err, tail(out, 3000))
	}
	// Its tests have limits of their own, of some seconds: one that failed is run again, alone.
	for _, o := range slices.Clone(results) {
		for try := 2; try <= 3 && o.result == "fail" && !strings.Contains(o.test, "/"); try++ {
			out, err := run("3m", "-test.run=^"+o.test+"$")
			if again := kgoResults(out); err == nil && len(again) > 0 {
				t.Logf("%s passed at attempt %d; at first: %s", o.test, try, o.detail)
				results = slices.DeleteFunc(results, func(r outcome) bool { return skip{test: o.test}.covers(r.test) })
				results = append(results, again...)
				break
			}
		}
	}
	// What does not pass may wait for ever for what does not come. What had no turn then has it in another run.
	limit := "40s"
	if onKafka() {
		limit = "8m"
	}
	for rest := slices.Clone(known); len(rest) > 0; {
		out, _ = run(limit, "-test.run=^("+strings.Join(rest, "|")+")$") // the outcomes say it all
		got, had := kgoResults(out), len(rest)
		results = append(results, got...)
		rest = slices.DeleteFunc(rest, func(k string) bool {
			if slices.ContainsFunc(got, func(o outcome) bool { return o.test == k }) {
				return true
			}
			begun := strings.Contains(out, "=== RUN   "+k+"\n")
			if begun {
				results = append(results, outcome{test: k, result: "fail", feature: classify(kgoFeatures, k), detail: "did not end"})
			}
			return begun
		})
		if len(rest) == had {
			break // judge says that they did not run
		}
	}
	return version, results
}

func kgoResults(out string) (list []outcome) {
	for _, m := range kgoLine.FindAllStringSubmatchIndex(out, -1) {
		o := outcome{test: out[m[4]:m[5]], result: strings.ToLower(out[m[2]:m[3]]), detail: firstLines(out[m[0]:], 4)}
		o.feature = classify(kgoFeatures, o.test)
		list = append(list, o)
	}
	return list
}

var pytestLine = regexp.MustCompile(`(?m)^(PASSED|FAILED|ERROR|SKIPPED) (\[\d+\] )?test/integration/([^\s:]+)(:\d+)?(?:::)?(\S*)(.*)$`)

var kafkaPythonFeatures = [][2]string{
	{"transactions", `transactional`},
	{"ACLs, SASL, TLS", `acls|sasl|ssl`},
	{"produce, no compression", `(end_to_end|record_metadata)\[None`},
	{"produce, gzip", `\[gzip`},
	{"produce, snappy", `\[snappy`},
	{"produce, lz4", `\[lz4`},
	{"produce, zstd", `\[zstd`},
	{"idempotent produce", `idempotent`},
	{"look-up by time", `offsets_(for_time|search)`},
	{"offset commit and resume", `commit_resume`},
	{"classic groups", `test_group|heartbeat`},
	{"group administration", `delete_groups|describe_group`},
	{"topic and broker configs", `config`},
	{"delete records", `delete_records`},
	{"log directories", `log_dirs`},
	{"partitions", `create_partitions|reassignments|elect_leaders|topic_partitions|partition_offsets`},
	{"topics", `create_delete_topics|consumer_topics`},
	{"metadata, cluster", `quorum|version_infer|metadata`},
	{"fetch", `test_consumer_integration`},
}

// runKafkaPython runs the integration tests of kafka-python's source archive.
func runKafkaPython(t *testing.T, addr string, known []string) (string, []outcome) {
	dir := filepath.Join(clientsDir(t, "kafka-python/test"), "kafka-python")
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Minute)
	defer cancel()
	pytest := func(what string) (string, error) {
		cmd := exec.CommandContext(ctx, filepath.Join(dir, "..", "venv", "bin", "python"), "-W", "ignore", "-m", "pytest", what,
			"-p", "no:cacheprovider", "-q", "-rA", "--timeout=90", "--timeout-method=signal", "--tb=short", "-o", "log_cli=false", "--show-capture=no")
		cmd.Dir = dir
		// KAFKA_ROOT must be a directory; nothing is started from it.
		cmd.Env = append(os.Environ(), "KAFKA_URI=kafka://"+addr, "KAFKA_VERSION=4.3", "KAFKA_ROOT="+dir)
		b, err := cmd.CombinedOutput()
		return string(b), err
	}
	out, err := pytest("test/integration")
	keepLog(t, out)
	var list []outcome
	for _, m := range pytestLine.FindAllStringSubmatch(out, -1) {
		o := outcome{test: strings.TrimSuffix(m[3], ".py"), detail: strings.TrimSpace(m[6])}
		if m[4] == "" { // not just a line of the file
			o.test += "::" + m[5]
		}
		o.feature = classify(kafkaPythonFeatures, o.test)
		o.result = map[string]string{"PASSED": "pass", "SKIPPED": "skip"}[m[1]]
		if o.result == "" {
			o.result = "fail"
		}
		// Its tests have limits of their own, down to half a second. And the client may subscribe while its first request for
		// metadata, which names no topic, is under way; then it takes that answer for its topics' and reads nothing for five
		// minutes (test_idempotent_producer_max_in_flight; whether it does is a matter of less than a millisecond). So a test
		// that failed is run again, alone.
		tries := 3
		if strings.Contains(o.test, "::test_idempotent_producer_max_in_flight[") {
			tries = 6
		}
		for try := 2; try <= tries && o.result == "fail" && m[4] == "" && !slices.ContainsFunc(known, func(k string) bool { return skip{test: k}.covers(o.test) }); try++ {
			if _, err := pytest("test/integration/" + m[3] + "::" + m[5]); err == nil {
				t.Logf("%s passed at attempt %d; at first: %s", o.test, try, o.detail)
				o.result = "pass"
			}
		}
		list = append(list, o)
	}
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) || ctx.Err() != nil || len(list) == 0 {
		t.Fatalf("kafka-python's tests: %v\n%s", err, tail(out, 3000))
	}
	return strings.TrimSpace(clientOutput(t, "", filepath.Join(dir, "..", "venv", "bin", "python"), "-c", "import kafka; print(kafka.__version__)")), list
}

// keepLog writes a suite's own output under SLUICE_SUITE_LOGS, if that is set.
func keepLog(t *testing.T, out string) {
	t.Helper()
	dir := os.Getenv("SLUICE_SUITE_LOGS")
	if dir == "" {
		return
	}
	name := strings.NewReplacer("/", "-", " ", "-").Replace(t.Name()) + ".log"
	if err := errors.Join(os.MkdirAll(dir, 0o755), os.WriteFile(filepath.Join(dir, name), []byte(out), 0o644)); err != nil {
		t.Error(err)
	}
}

func firstLines(s string, n int) string {
	lines := strings.SplitAfterN(s, "\n", n+1)
	return strings.Join(lines[:min(n, len(lines))], "")
}

func writeFile(name, content string) error { return os.WriteFile(name, []byte(content), 0o644) }
