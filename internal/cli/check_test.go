package cli

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// good is an agent without faults; cases add lines to it, and the last line
// wins per key.
const good = `a1.channels = c1
a1.sinks = k1
a1.channels.c1.type = memory
a1.channels.c1.transactionCapacity = 100
a1.sinks.k1.type = null
a1.sinks.k1.channel = c1
`

func TestCheck(t *testing.T) {
	t.Setenv("SLUICE_TEST_CAPACITY", "4321")
	// A command that a check must not run leaves a mark.
	mark := filepath.Join(t.TempDir(), "ran")
	for _, tt := range []struct {
		name string
		args []string
		text string
		code int
		want []string // in the output; FILE stands for the file's path
		not  []string
	}{
		{"good", nil, good, 0, []string{"agent a1 can start", "  channels  c1\n  sinks     k1\n", "0 errors, "}, []string{"error:"}},
		{"unknown type", nil, good + "a1.sinks.k1.type = nul\n", 2,
			[]string{`error: FILE:7: a1.sinks.k1.type: unknown sink type "nul" (did you mean "null"?)`, "agent a1 cannot start"}, nil},
		{"type not there yet", nil, good + "a1.sinks = k1 k2\na1.sinks.k2.type = elasticsearch\na1.sinks.k2.channel = c1\n", 0,
			[]string{`warning: FILE:8: a1.sinks.k2.type: Flume's sink "elasticsearch" is not there yet`, "agent a1 can start", "  left out  sink k2\n"}, nil},
		{"unknown key", nil, good + "a1.channels.c1.capasity = 1\n", 0,
			[]string{`warning: FILE:7: a1.channels.c1.capasity: unknown property, ignored (did you mean "capacity"?)`, "agent a1 can start"}, nil},
		{"unknown key, strict", []string{"--strict"}, good + "a1.channels.c1.capasity = 1\n", 2, []string{"agent a1 can start"}, nil},
		{"missing key", nil, good + "a1.sinks.k1.type = file_roll\n", 2,
			[]string{`error: FILE:7: a1.sinks.k1.sink.directory: required, but not set`, `nothing of this agent can run`, "agent a1 cannot start"}, nil},
		{"bad number", nil, good + "a1.sinks.k1.batchSize = ten\n", 2,
			[]string{`error: FILE:7: a1.sinks.k1.batchSize: "ten" is not a whole number`, "agent a1 cannot start"}, nil},
		{"sink without its channel", nil, good + "a1.sinks.k1.channel = c2\n", 2,
			[]string{`error: FILE:7: a1.sinks.k1.channel: channel "c2" is not there`, "agent a1 cannot start"}, nil},
		{"batch over the transaction", nil, good + "a1.sinks.k1.batchSize = 101\n", 2,
			[]string{`error: FILE:7: a1.sinks.k1.batchSize: batch size 101 is larger than the transactionCapacity of channel "c1", 100 (lower it to 100`}, nil},
		{"one sink of two", nil, good + "a1.sinks = k1 k2\na1.sinks.k2.type = null\n", 0,
			[]string{`error: FILE:8: a1.sinks.k2.channel: required, but not set`, "agent a1 can start", "left out  sink k2", "1 error, "}, nil},
		{"one sink of two, strict", []string{"--strict"}, good + "a1.sinks = k1 k2\na1.sinks.k2.type = null\n", 2, nil, nil},
		{"unknown agent", []string{"-n", "A1"}, good, 2, []string{`error: FILE: no agent is named "A1" (did you mean "a1"?)`}, []string{"can start"}},
		{"one agent of two", []string{"-n", "a1"}, good + "a2.channels = c\n", 0, []string{"agent a1 can start"}, []string{"agent a2"}},
		{"both agents", nil, good + "a2.channels = c\n", 2, []string{"agent a1 can start", "agent a2 cannot start", `FILE:7: a2.channels: channel "c" is listed but has no properties`}, nil},
		{"misspelt prefix", nil, good + "al.sinks.k1.batchSize = 5\nagent1.sinks.k1.batchSize = 5\n", 0, []string{`warning: FILE:7: al.sinks.k1.batchSize: the one property of agent "al" will not be used`}, nil},
		{"no agent at all", nil, "hello world\n", 2, []string{"warning: FILE:1: hello: ignored", "error: FILE: no agent is configured"}, nil},
		{"no channels", nil, "a1.sinks = k1\na1.sinks.k1.type = null\na1.sinks.k1.channel = c1\n", 2, []string{`error: FILE:1: a1.channels: agent "a1" has no list of channels`, "agent a1 cannot start"}, nil},
		{"malformed escape", nil, good + `a1.sinks.k1.x = C:\users` + "\n", 2, []string{`error: FILE:7: a1.sinks.k1.x: malformed escape`, "agent a1 cannot start"}, nil},
		{"environment", nil, good + "a1.channels.c1.capacity = ${env:SLUICE_TEST_CAPACITY}\na1.channels.c1.transactionCapacity=4322\n", 2,
			[]string{"4322 is larger than the capacity, 4321"}, nil},
		{"define", []string{"-Dsize=12", "-D", "rest=a=b;c"}, good + "a1.channels.c1.transactionCapacity = ${sys:size}\na1.sinks.k1.batchSize = ${sys:rest}\n", 2,
			[]string{`"a=b;c" is not a whole number`}, []string{"${sys:"}},
		{"date", nil, good + "a1.sinks.k1.batchSize = ${date:'x'yyyy}\n", 2, []string{`"x2`}, nil},
		{"filter is not run", nil, good + "a1.configfilters = f\na1.configfilters.f.type = external\na1.configfilters.f.command = touch " + mark + "\na1.channels.c1.x = ${f[" + "k" + "]}\n", 0,
			[]string{"info: FILE:10: a1.channels.c1.x: ${f[k]} is not replaced: the command is not run by a check"}, nil},
		{"filter is run", []string{"--run-filters"}, good + "a1.configfilters = f\na1.configfilters.f.type = external\na1.configfilters.f.command = echo 7\na1.channels.c1.capacity = ${f[k]}\n", 0,
			[]string{`"7 k" is not a whole number`}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "flume.conf")
			if err := os.WriteFile(file, []byte(tt.text), 0o644); err != nil {
				t.Fatal(err)
			}
			code, out, errOut := runCLI(append(append([]string{"check"}, tt.args...), file)...)
			if code != tt.code {
				t.Errorf("exit %d, want %d", code, tt.code)
			}
			if errOut != "" {
				t.Errorf("standard error: %s", errOut)
			}
			for _, w := range tt.want {
				if !strings.Contains(out, strings.ReplaceAll(w, "FILE", file)) {
					t.Errorf("lacks %q", w)
				}
			}
			for _, w := range tt.not {
				if strings.Contains(out, w) {
					t.Errorf("has %q", w)
				}
			}
			if t.Failed() {
				t.Logf("output:\n%s", out)
			}
		})
	}
	if _, err := os.Stat(mark); err == nil {
		t.Error("a check ran a command of the file")
	}
}

func TestCheckReadsSeveralFiles(t *testing.T) {
	dir := t.TempDir()
	var files []string
	for i, text := range []string{good, "a1.sinks.k1.batchSize = 101\n"} {
		files = append(files, filepath.Join(dir, fmt.Sprintf("%d.conf", i)))
		if err := os.WriteFile(files[i], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	code, out, _ := runCLI("check", files[0], files[1])
	if want := "error: " + files[1] + ":1: a1.sinks.k1.batchSize: batch size 101"; code != 2 || !strings.Contains(out, want) {
		t.Errorf("exit %d, output:\n%s", code, out)
	}
	code, _, errOut := runCLI("check", files[0], filepath.Join(dir, "none.conf"))
	if code != 2 || !strings.Contains(errOut, "none.conf: no such file") {
		t.Errorf("a missing file: exit %d, %s", code, errOut)
	}
}

// The examples have no findings, but for the handbook's old keys, which its file is to keep.
func TestCheckExamples(t *testing.T) {
	const hadoop = "pilot-hadoop/"
	sets := [][]string{{hadoop + "flume.conf"}, {hadoop + "flume.conf", hadoop + "here.conf"}, {hadoop + "hbase.conf"}}
	files, err := filepath.Glob("../../examples/[1-9]*/*.conf")
	if err != nil || len(files) < 12 {
		t.Fatalf("examples %q, %v", files, err)
	}
	for _, f := range files {
		rel, err := filepath.Rel("../../examples", f)
		if err != nil {
			t.Fatal(err)
		}
		sets = append(sets, []string{rel})
	}
	for _, set := range sets {
		args := []string{"sluice", "check"}
		for _, f := range set {
			args = append(args, filepath.Join("../../examples", f))
		}
		code, out, stderr := runWith(t, args...)
		want := "0 errors, 0 warnings"
		if set[0] == hadoop+"flume.conf" {
			want = "0 errors, 5 warnings"
			for _, key := range []string{"KafkaSink.topic: deprecated", "KafkaSink.brokerList: deprecated", "KafkaSink.requiredAcks: deprecated", "KafkaSink.batchSize: deprecated", "threadsPoolSize: no effect"} {
				if !strings.Contains(out, key) {
					t.Errorf("%q: no %q in\n%s", set, key, out)
				}
			}
		}
		if code != 0 || !strings.Contains(out, want) {
			t.Errorf("%q: exit code %d, want %s: %s%s", set, code, want, out, stderr)
		}
	}
}
