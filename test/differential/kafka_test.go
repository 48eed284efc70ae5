//go:build interop

package differential

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/test/ports"
)

// startKafka starts an Apache Kafka; SLUICE_KAFKA=HOST:PORT names one that
// runs, with node id 1 and the settings of peers/kafka.sh.
func startKafka(t *testing.T) peer {
	t.Helper()
	if addr := os.Getenv("SLUICE_KAFKA"); addr != "" {
		return peer{addr: addr, node: 1}
	}
	const script = "../interop/peers/kafka.sh"
	missing := func(what string) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s is missing (CI=true demands it)", what)
		}
		t.Skipf("NOT CHECKED: %s needs %s", t.Name(), what)
	}
	for _, p := range []string{"bash", "java", "mvn"} {
		if _, err := exec.LookPath(p); err != nil {
			missing("the program " + p)
		}
	}
	run := func(port int, args ...string) (string, int) {
		cmd := exec.Command(script, args...)
		cmd.Env = append(os.Environ(), "KAFKA_PORT="+strconv.Itoa(port))
		out, err := cmd.CombinedOutput()
		if err != nil && cmd.ProcessState == nil {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	out, code := run(0, "fetch")
	switch code {
	case 0:
	case 3:
		missing("the jars of Apache Kafka: " + out)
	default:
		t.Fatal(out)
	}
	dir := t.TempDir()
	addr := ports.Reserve(t, 100) // the controller's is 100 above
	_, p, err := net.SplitHostPort(addr)
	if err != nil {
		t.Fatal(err)
	}
	port, err := strconv.Atoi(p)
	if err != nil {
		t.Fatal(err)
	}
	out, code = run(port, "start", dir)
	if code != 0 {
		t.Fatalf("start Apache Kafka: %s", out)
	}
	t.Cleanup(func() {
		if out, code := run(port, "stop", dir); code != 0 {
			t.Errorf("stop Apache Kafka: %s", out)
		}
	})
	return peer{addr: addr, node: 1}
}

// TestKafka checks that a live Apache Kafka answers as the scripts say, so
// that what Sluice is held against is not made up; with -rewrite it makes the
// scripts say what Apache Kafka answers.
func TestKafka(t *testing.T) {
	p := startKafka(t)
	var mu sync.Mutex
	answers := map[string]map[*step][]string{}
	scripts := map[string]*script{}
	t.Run("scripts", func(t *testing.T) {
		runScripts(t, p, func(t *testing.T, s *script, st *step, v int16, got string) {
			if !*rewrite {
				for _, d := range differencesOf(t, st, v, got) {
					t.Errorf("%s/%s%s version %d (%s.txt:%d)\n  live:    %s\n  written: %s", s.name, st.name, d.path, v, s.name, st.line, d.got, d.want)
				}
				return
			}
			mu.Lock()
			defer mu.Unlock()
			if answers[s.name] == nil {
				answers[s.name] = map[*step][]string{}
				scripts[s.name] = s
			}
			answers[s.name][st] = append(answers[s.name][st], got)
		})
	})
	for name, a := range answers {
		if err := scripts[name].rewrite(a); err != nil {
			t.Error(err)
		}
	}
}

// rewrite replaces the answers in the script's file by those of a run.
func (s *script) rewrite(got map[*step][]string) error {
	var out []string
	at := 0
	for _, st := range s.steps {
		answers, ok := got[st]
		if !ok {
			continue
		}
		out = append(out, s.lines[at:st.from]...)
		at = st.to
		out = append(out, "----")
		for i := 0; i < len(answers); {
			j := i
			for j+1 < len(answers) && answers[j+1] == answers[i] {
				j++
			}
			lo, hi := int(st.min)+i, int(st.min)+j
			vs := strconv.Itoa(lo)
			if hi > lo {
				vs += "-" + strconv.Itoa(hi)
			}
			out = append(out, strings.Split(vs+" "+answers[i], "\n")...)
			i = j + 1
		}
	}
	out = append(out, s.lines[at:]...)
	return os.WriteFile(filepath.Join("testdata", s.name+".txt"), []byte(strings.Join(out, "\n")+"\n"), 0o644)
}
