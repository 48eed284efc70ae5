package cli

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	_ "github.com/sluice-data/sluice/internal/channel/memory"
	_ "github.com/sluice-data/sluice/internal/selector"
	_ "github.com/sluice-data/sluice/internal/sink/null"
)

// stubSource exists so that these tests need no other package's source: the
// agent must be refused before it runs.
type stubSource struct{ batch int }

func (s *stubSource) Fields() []component.Field {
	return []component.Field{
		component.Int("batchSize", &s.batch, 10).Min(1),
		component.String("dir", new(string), "").Require().Describe("the directory"),
	}
}
func (s *stubSource) NewSource(component.Env) (component.Source, error) { return s, nil }

func init() {
	component.RegisterSource(component.Info{Name: "test-stub"}, func() component.SourceConfig { return new(stubSource) })
}

func runWith(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	code = Run(args, strings.NewReader(""), &out, &errs)
	return code, out.String(), errs.String()
}

func conf(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "flume.conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

const runnableConf = `a.sources = r
a.channels = c
a.sinks = k
a.sources.r.type = test-stub
a.sources.r.dir = /nowhere
a.sources.r.channels = c
a.channels.c.type = memory
a.sinks.k.type = null
a.sinks.k.channel = c
`

// Each sort of mistake costs one line with file, line, key and what would be
// right; where nothing is left to run the exit code is 2.
func TestAgentRefusesWrongConfigurations(t *testing.T) {
	for _, tt := range []struct{ name, text, agent, want string }{
		{"unknown type", strings.Replace(runnableConf, "test-stub", "tset-stub", 1), "a",
			`:4: a.sources.r.type: unknown source type "tset-stub" (did you mean "test-stub"?)`},
		{"bad number", runnableConf + "a.sources.r.batchSize = ten\n", "a",
			`:10: a.sources.r.batchSize: "ten" is not a whole number of 32 bits (expects int, at least 1; default 10)`},
		{"missing required key", strings.Replace(runnableConf, "a.sources.r.dir", "a.sources.r.Dir", 1), "a",
			`:4: a.sources.r.dir: required, but not set (is "Dir" meant to be it?)`},
		{"sink without its channel", strings.Replace(runnableConf, "k.channel = c", "k.channel = d", 1), "a",
			`:9: a.sinks.k.channel: channel "d" is not there: the sink is left out (the agent's channels: c)`},
		{"batch over the transaction capacity", runnableConf + "a.sources.r.batchSize = 1000\n", "a",
			`:10: a.sources.r.batchSize: batch size 1000 is larger than the transactionCapacity of channel "c", 100 (lower it to 100, or raise the channel's transactionCapacity)`},
		{"unknown key", runnableConf + "a.sources.r.batchSise = 9\n", "a",
			`:10: a.sources.r.batchSise: unknown property, ignored (did you mean "batchSize"?)`},
		{"unknown agent", runnableConf, "b", `no agent is named "b" (it has a)`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			file := conf(t, tt.text)
			// --strict: whatever would be left to run, this one does not start.
			code, _, stderr := runWith(t, "sluice", "agent", "--strict", "-n", tt.agent, "-f", file)
			if code != ExitUsage {
				t.Errorf("exit code %d, want %d", code, ExitUsage)
			}
			n := 0
			for line := range strings.Lines(stderr) {
				if strings.Contains(line, file) && strings.HasSuffix(line, tt.want+"\n") {
					n++
				}
			}
			if n != 1 {
				t.Errorf("not exactly one line ends with\n%s\nin\n%s", tt.want, stderr)
			}
		})
	}
}

func TestFlumeNG(t *testing.T) {
	file := conf(t, runnableConf)
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "flume-env.sh"), []byte("x\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	args := []string{"agent", "--conf", dir, "--conf-file", file, "--name", "a", "-Dflume.root.logger=INFO,console", "-Dflume.monitoring.type=http", "-Dflume.monitoring.port=34545", "-Xmx100m", "--no-reload-conf"}
	code, stdout, stderr := runWith(t, append([]string{"/opt/flume/bin/flume-ng"}, append(args, "--dryrun")...)...)
	if code != 0 || !strings.Contains(stdout, "agent a can start") {
		t.Errorf("dry run: %d\n%s%s", code, stdout, stderr)
	}
	if code, stdout, _ = runWith(t, "flume-ng", "version"); code != 0 || !strings.Contains(stdout, "Flume 1.11.0") {
		t.Errorf("version: %d %s", code, stdout)
	}
	for _, args := range [][]string{{"flume-ng"}, {"flume-ng", "avro-client"}, {"flume-ng", "nonsense"}, {"flume-ng", "agent", "-n", "a"}, {"flume-ng", "tool"}, {"flume-ng", "tool", "fcintegritytool"},
		{"flume-ng", "agent", "-n", "a", "-z", "zk:2181"}, {"flume-ng", "agent", "-n", "a", "-f", file, "-Dflume.monitoring.type=ganglia"},
		{"flume-ng", "agent", "-n", "a", "-f", file + ".missing"}, {"flume-ng", "agent", "-n", "a", "-u", "http://127.0.0.1/x"}} {
		if code, _, stderr := runWith(t, args...); code != ExitUsage || stderr == "" {
			t.Errorf("%q: exit code %d, %q", args, code, stderr)
		}
	}
}

func (s *stubSource) BatchSize() int              { return s.batch }
func (s *stubSource) Start(context.Context) error { return nil }
func (s *stubSource) Stop(context.Context) error  { return nil }
func (s *stubSource) Run(ctx context.Context, _ component.Output) error {
	<-ctx.Done()
	return nil
}
