//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// called runs the binary by the name of one of Kafka's tools.
func called(t *testing.T, dir, stdin, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	link := filepath.Join(dir, "kafka-"+name+".sh")
	if err := os.Symlink(binary, link); err != nil && !errors.Is(err, os.ErrExist) {
		t.Fatal(err)
	}
	return ranWith(t, stdin, link, args...)
}

// javaTools are the tools by the names that kafka-cli.sh knows, or by their classes.
var javaTools = map[string]string{
	"configs": "kafka.admin.ConfigCommand", "delete-records": "org.apache.kafka.tools.DeleteRecordsCommand", "log-dirs": "org.apache.kafka.tools.LogDirsCommand",
	"cluster": "org.apache.kafka.tools.ClusterTool", "broker-api-versions": "org.apache.kafka.tools.BrokerApiVersionsCommand", "groups": "org.apache.kafka.tools.GroupsCommand",
}

func javaTool(t *testing.T, stdin, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	if c := javaTools[name]; c != "" {
		name = c
	}
	return ranWith(t, stdin, filepath.Join("peers", "kafka-cli.sh"), append([]string{name}, args...)...)
}

func ranWith(t *testing.T, stdin, name string, args ...string) (stdout, stderr string, code int) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var out, errb bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errb
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && (!errors.As(err, &exit) || ctx.Err() != nil) {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, tail(errb.String(), 2000))
	}
	return out.String(), errb.String(), cmd.ProcessState.ExitCode()
}

// toolStep is one command line for both. In it @ stands for j or s, so that
// what each changes is its own.
type toolStep struct {
	stdin string
	name  string
	args  []string
	// loose compares lines without regard to their order, as Java's hash
	// maps have none.
	loose bool
	drop  string // a regular expression of lines that may be missing on either side
}

var (
	topicIDs      = regexp.MustCompile(`TopicId: [A-Za-z0-9_-]{22}`)
	topicSettings = regexp.MustCompile(`Configs: [^\s]+`)
	// deprecations go to the standard output in Kafka 4.3, between the records;
	// ours go to the standard error.
	deprecations = `^(Option --|Warning: --)|^$`
)

// toolLines makes an output comparable.
func toolLines(out, who string, s toolStep) []string {
	out = topicIDs.ReplaceAllString(out, "TopicId: ID")
	out = strings.ReplaceAll(out, "t"+who+"-", "t@-")
	out = strings.ReplaceAll(out, "zg"+who, "zg@")
	out = topicSettings.ReplaceAllStringFunc(out, func(m string) string { // in the order of a hash map, too
		l := strings.Split(strings.TrimPrefix(m, "Configs: "), ",")
		slices.Sort(l)
		return "Configs: " + strings.Join(l, ",")
	})
	lines := splitLines(out)
	if s.drop != "" {
		re := regexp.MustCompile(s.drop)
		lines = slices.DeleteFunc(lines, re.MatchString)
	}
	if s.loose {
		slices.Sort(lines)
	}
	return lines
}

// TestKafkaToolsOutput runs Apache Kafka's tools and the binary called by their
// names against the same broker and compares what they write, line by line.
func TestKafkaToolsOutput(t *testing.T) {
	fetched(t, "kafka.sh")
	dir := t.TempDir()
	addr := newBroker(t)
	b := []string{"--bootstrap-server", addr}
	plan := filepath.Join(dir, "plan-@.json")
	for _, who := range []string{"j", "s"} {
		text := fmt.Sprintf(`{"partitions":[{"topic":"t%s-k","partition":0,"offset":2}],"version":1}`, who)
		if err := os.WriteFile(strings.ReplaceAll(plan, "@", who), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	keyed := "h:1,n:2\tk1\tone\nh:,m:x\tk2\ttwo\nh:3\tk3\t\n"
	consume := append([]string{"--topic", "t@-k", "--from-beginning", "--max-messages", "3", "--timeout-ms", "180000"}, b...)
	reset := append([]string{"--group", "zg@", "--reset-offsets"}, b...)
	steps := []toolStep{
		{name: "topics", args: append([]string{"--create", "--topic", "t@-x", "--partitions", "3", "--replication-factor", "1", "--config", "retention.ms=3600000", "--config", "max.message.bytes=65536"}, b...)},
		{name: "topics", args: append([]string{"--create", "--topic", "t@-x.y_z", "--partitions", "1"}, b...)},
		{name: "topics", args: append([]string{"--create", "--topic", "t@-x", "--if-not-exists"}, b...)},
		{name: "topics", args: append([]string{"--create", "--topic", "t@-k"}, b...)},
		{name: "topics", args: append([]string{"--alter", "--topic", "t@-x", "--partitions", "4"}, b...)},
		{name: "topics", args: append([]string{"--list", "--topic", "t@-.*"}, b...)},
		{name: "topics", args: append([]string{"--describe", "--topic", "t@-x"}, b...), loose: true},
		{name: "topics", args: append([]string{"--describe", "--topic", "t@-x", "--topics-with-overrides"}, b...)},
		{name: "topics", args: append([]string{"--describe", "--topic", "t@-x", "--under-replicated-partitions"}, b...)},
		{name: "topics", args: append([]string{"--describe", "--topic", "t@-x", "--at-min-isr-partitions"}, b...)},
		{name: "topics", args: append([]string{"--describe", "--topic", "t@-none"}, b...)},
		{name: "console-producer", stdin: keyed, args: append([]string{"--topic", "t@-k", "--reader-property", "parse.key=true", "--reader-property", "parse.headers=true"}, b...)},
		{name: "console-producer", stdin: "a\nb\nc\n", args: append([]string{"--topic", "t@-x", "--compression-codec", "--sync", "--command-property", "acks=1"}, b...)},
		{name: "console-consumer", args: append([]string{"--formatter-property", "print.key=true", "--formatter-property", "print.headers=true", "--formatter-property", "print.offset=true",
			"--formatter-property", "print.partition=true", "--formatter-property", "key.separator=|", "--formatter-property", "headers.separator=;"}, consume...)},
		{name: "console-consumer", args: append([]string{"--property", "print.key=true", "--property", "print.value=false", "--property", "print.epoch=true", "--isolation-level", "read_committed"}, consume...), drop: deprecations},
		{name: "console-consumer", args: append([]string{"--topic", "t@-k", "--partition", "0", "--offset", "1", "--max-messages", "1", "--timeout-ms", "180000"}, b...)},
		{name: "console-consumer", args: append([]string{"--topic", "t@-k", "--group", "zg@", "--from-beginning", "--max-messages", "2", "--timeout-ms", "180000"}, b...)},
		{name: "get-offsets", args: append([]string{"--topic", "t@-k"}, b...)},
		{name: "get-offsets", args: append([]string{"--topic-partitions", "t@-k:0,t@-x:1-3,t@-x:3-", "--time", "earliest"}, b...)},
		{name: "get-offsets", args: append([]string{"--topic", "t@-k", "--time", "max-timestamp", "--exclude-internal-topics"}, b...), drop: `:[0-2]$`},
		{name: "consumer-groups", args: append([]string{"--describe", "--group", "zg@"}, b...)},
		{name: "consumer-groups", args: append([]string{"--describe", "--group", "zg@", "--state"}, b...)},
		{name: "consumer-groups", args: append([]string{"--describe", "--group", "zg@", "--members"}, b...)},
		{name: "consumer-groups", args: append([]string{"--topic", "t@-k", "--to-earliest", "--dry-run"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--topic", "t@-k:0", "--shift-by", "-1", "--execute"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--describe", "--group", "zg@", "--verbose", "--offsets"}, b...)},
		{name: "consumer-groups", args: append([]string{"--all-topics", "--to-offset", "99", "--dry-run"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--all-topics", "--by-duration", "PT1H", "--dry-run"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--all-topics", "--to-datetime", "2099-01-01T00:00:00.000", "--dry-run"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--all-topics", "--to-current", "--export", "--dry-run"}, reset...)},
		{name: "consumer-groups", args: append([]string{"--delete-offsets", "--group", "zg@", "--topic", "t@-k"}, b...)},
		{name: "consumer-groups", args: append([]string{"--delete", "--group", "zg@"}, b...)},
		{name: "configs", args: append([]string{"--alter", "--entity-type", "topics", "--entity-name", "t@-x", "--add-config", "retention.ms=100000,segment.bytes=2097152", "--delete-config", "max.message.bytes"}, b...)},
		{name: "configs", args: append([]string{"--describe", "--entity-type", "topics", "--entity-name", "t@-x"}, b...)},
		{name: "configs", args: append([]string{"--describe", "--topic", "t@-x", "--all"}, b...)},
		{name: "configs", args: append([]string{"--describe", "--topic", "t@-none"}, b...)},
		{name: "configs", args: append([]string{"--describe", "--entity-type", "brokers", "--entity-default"}, b...)},
		{name: "delete-records", args: append([]string{"--offset-json-file", plan}, b...)},
		{name: "cluster", args: append([]string{"cluster-id"}, b...)},
		{name: "cluster", args: append([]string{"list-endpoints"}, b...)},
		{name: "broker-api-versions", args: b},
		{name: "topics", args: append([]string{"--delete", "--topic", "t@-x"}, b...)},
		{name: "topics", args: append([]string{"--delete", "--topic", "t@-x"}, b...)},
		{name: "topics", args: append([]string{"--delete", "--topic", "t@-x", "--if-exists"}, b...)},
	}
	for i, s := range steps {
		t.Run(fmt.Sprintf("%02d %s %s", i+1, s.name, strings.Join(s.args[:min(3, len(s.args))], " ")), func(t *testing.T) {
			run := func(who string) (lines []string, code int, stderr string) {
				args := make([]string, len(s.args))
				for i, a := range s.args {
					args[i] = strings.ReplaceAll(a, "@", who)
				}
				var stdout string
				if who == "j" {
					stdout, stderr, code = javaTool(t, s.stdin, s.name, args...)
				} else {
					stdout, stderr, code = called(t, dir, s.stdin, s.name, args...)
				}
				return toolLines(stdout, who, s), code, stderr
			}
			want, wantCode, javaErr := run("j")
			got, code, stderr := run("s")
			if (code == 0) != (wantCode == 0) {
				t.Errorf("exit code %d, Kafka's tool's is %d\n%s\nKafka's: %s", code, wantCode, stderr, tail(javaErr, 1000))
			}
			sameLines(t, s.name, got, want)
		})
	}
}

// TestKafkaToolsMembers describes a group with a member, and refuses to touch it.
func TestKafkaToolsMembers(t *testing.T) {
	fetched(t, "kafka.sh")
	dir := t.TempDir()
	addr := newBroker(t)
	ranWith(t, "1\n2\n3\n", binary, "produce", "m", "--bootstrap", addr)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	member := exec.CommandContext(ctx, binary, "consume", "m", "--group", "live", "--from-beginning", "--bootstrap", addr)
	if err := member.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { cancel(); member.Wait() }()
	eventually(t, 3*time.Minute, "the group becomes stable", func() error {
		out, _, _ := ranWith(t, "", binary, "groups", "describe", "live", "--bootstrap", addr)
		if !strings.Contains(out, "Stable") || !strings.Contains(out, "total lag: 0") {
			return errors.New(out)
		}
		return nil
	})
	for _, args := range [][]string{
		{"--list"}, {"--list", "--state"}, {"--list", "--state", "stable", "--type"},
		{"--describe", "--group", "live"}, {"--describe", "--all-groups", "--members", "--verbose"}, {"--describe", "--group", "live", "--state", "--verbose"},
		{"--reset-offsets", "--group", "live", "--topic", "m", "--to-earliest", "--execute"},
		{"--delete-offsets", "--group", "live", "--topic", "m"},
	} {
		t.Run(strings.Join(args, " "), func(t *testing.T) {
			args := append(args, "--bootstrap-server", addr)
			want, _, _ := javaTool(t, "", "consumer-groups", args...)
			got, _, _ := called(t, dir, "", "consumer-groups", args...)
			sameLines(t, "consumer-groups", splitLines(got), splitLines(want))
		})
	}
	want, _, _ := javaTool(t, "", "groups", "--list", "--bootstrap-server", addr)
	got, _, _ := called(t, dir, "", "groups", "--list", "--bootstrap-server", addr)
	sameLines(t, "groups", splitLines(got), splitLines(want))
	_, stderr, code := ranWith(t, "", binary, "groups", "reset", "live", "--topic", "m", "--to-earliest", "--execute", "--bootstrap", addr)
	if code != 1 || !strings.Contains(stderr, "stop its consumers") {
		t.Errorf("sluice groups reset of a group with a member: exit %d: %s", code, stderr)
	}
}

// TestDumpLogOutput compares the dump of both brokers' files with that of
// Kafka's tool.
func TestDumpLogOutput(t *testing.T) {
	fetched(t, "kafka.sh")
	dir := t.TempDir()
	real, topic := kafka.start(t), ownTopic("dumped")
	data := filepath.Join(dir, "data")
	ours := fmt.Sprintf("127.0.0.1:%d", freePort(t))
	b := startBroker(t, data, ours)
	for _, addr := range []string{real, ours} {
		for codec, lines := range map[string]string{"none": "k\tplain\n\tempty key\n", "gzip": "a\tb\nc\td\n", "zstd": "e\tf\n"} {
			ranWith(t, lines, binary, "produce", topic, "--key-separator", "\t", "--compression", codec, "--header", "h=1", "--bootstrap", addr)
		}
		ranWith(t, "", binary, "consume", topic, "--group", ownTopic("dumpers"), "--from-beginning", "-n", "3", "--bootstrap", addr)
	}
	b.stop(t)
	var files []string
	for i, root := range []string{filepath.Join(data, "logs"), kafka.dir} {
		err := filepath.WalkDir(root, func(path string, e os.DirEntry, err error) error {
			in := filepath.Base(filepath.Dir(path))
			if errors.Is(err, os.ErrNotExist) { // Kafka is at work
				return nil
			}
			if err != nil || in != topic+"-0" && !strings.HasPrefix(in, "__consumer_offsets-") || !strings.HasSuffix(path, ".log") {
				return err
			}
			b, err := os.ReadFile(path)
			if err != nil || len(b) == 0 {
				return err
			}
			// A copy, so that both dump the same: groups of other tests come to their ends at any time.
			file := filepath.Join(dir, fmt.Sprint("copy", i), in, filepath.Base(path))
			files = append(files, file)
			return errors.Join(os.MkdirAll(filepath.Dir(file), 0o755), os.WriteFile(file, b, 0o644))
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	if len(files) < 4 {
		t.Fatalf("segments: %q", files)
	}
	for _, f := range files {
		for _, args := range [][]string{{"--files", f}, {"--files", f, "--deep-iteration"}, {"--files", f, "--print-data-log"}, {"--files", f, "--offsets-decoder"}} {
			group := strings.Contains(f, "__consumer_offsets")
			if group != slices.Contains(args, "--offsets-decoder") && (group || slices.Contains(args, "--offsets-decoder")) {
				continue
			}
			t.Run(filepath.Base(filepath.Dir(f))+" "+strings.Join(args[2:], " "), func(t *testing.T) {
				want, _, _ := javaTool(t, "", "dump-log", args...)
				got, stderr, code := called(t, dir, "", "dump-log", args...)
				if code != 0 {
					t.Errorf("exit %d: %s", code, stderr)
				}
				sameLines(t, f, splitLines(got), splitLines(want))
			})
		}
	}
	for _, root := range []string{data, kafka.dir} {
		eventually(t, time.Minute, "all is well in "+root, func() error { // one look may meet a batch that Kafka is writing
			if out, stderr, code := ranWith(t, "", binary, "dump", "--verify", root); code != 0 {
				return fmt.Errorf("sluice dump --verify: exit %d\n%s%s", code, out, stderr)
			}
			return nil
		})
	}
}
