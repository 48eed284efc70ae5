//go:build interop

package interop

import (
	"bufio"
	"bytes"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// suites are all of them. The scripts in clients/ are ours; their tests are
// written against Apache Kafka.
func suites() []suite {
	return []suite{
		{name: "franz-go", run: runKgo},
		{name: "kafka-python", run: runKafkaPython, broker: kafkaPythonBroker},
		{name: "confluent-kafka", run: pythonScript("venv", "librdkafka.py")},
		{name: "confluent-kafka (old)", run: pythonScript("venv-old", "librdkafka.py")},
		{name: "aiokafka", run: pythonScript("venv", "aio.py")},
		{name: "kafkajs", run: runKafkaJS},
		{name: "Java", run: javaClient("4.3")},
		{name: "Java 3.9", run: javaClient("3.9")},
		{name: "Java 2.0", run: javaClient("2.0")},
		{name: "sarama", run: goClient("sarama")},
		{name: "kafka-go", run: goClient("kafkago")},
		{name: "Kafka's tools", run: runTools},
	}
}

// kafkaPythonBroker is what its own broker settings say as far as tests depend on them.
func kafkaPythonBroker(addr string) (args []string) {
	for _, p := range []string{"node.id=0", "num.partitions=4", "group.min.session.timeout.ms=1000", "advertised.listeners=PLAINTEXT://" + addr} {
		args = append(args, "--override", p)
	}
	return args
}

func pythonScript(venv, script string) func(*testing.T, string, []string) (string, []outcome) {
	return func(t *testing.T, addr string, _ []string) (string, []outcome) {
		exe := filepath.Join(clientsDir(t, venv+"/bin/python"), venv, "bin", "python")
		return runScript(t, nil, exe, filepath.Join("clients", script), addr)
	}
}

func runKafkaJS(t *testing.T, addr string, _ []string) (string, []outcome) {
	modules := filepath.Join(clientsDir(t, "node/node_modules"), "node", "node_modules")
	env := []string{"NODE_PATH=" + modules, "KAFKAJS_NO_PARTITIONER_WARNING=1"}
	return runScript(t, env, program(t, "node"), filepath.Join("clients", "kafkajs.js"), addr)
}

func javaClient(version string) func(*testing.T, string, []string) (string, []outcome) {
	return func(t *testing.T, addr string, _ []string) (string, []outcome) {
		program(t, "javac")
		fetched(t, "kafka.sh")
		fetched(t, "kafka-clients.sh")
		return runScript(t, nil, filepath.Join("peers", "kafka-clients.sh"), version, filepath.Join("clients", "JavaClients.java"), addr)
	}
}

// goClient builds one of the programs in clients/go, a module of its own so
// that its requirements are not ours.
func goClient(name string) func(*testing.T, string, []string) (string, []outcome) {
	return func(t *testing.T, addr string, _ []string) (string, []outcome) {
		dir := filepath.Join("clients", "go")
		get := exec.Command("go", "mod", "download")
		get.Dir = dir
		if out, err := get.CombinedOutput(); err != nil {
			missing(t, "the Go modules of clients/go: %v\n%s", err, out)
		}
		exe := filepath.Join(t.TempDir(), name)
		build := exec.Command("go", "build", "-o", exe, "./"+name)
		build.Dir = dir
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("build %s: %v\n%s", name, err, out)
		}
		return runScript(t, nil, exe, addr)
	}
}

// runScript runs a program that prints, parted by tabs, one line VERSION,
// version and lines RESULT, pass or fail, feature, test, detail.
func runScript(t *testing.T, env []string, name string, args ...string) (version string, list []outcome) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 15*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	cmd.WaitDelay = 10 * time.Second
	err := cmd.Run()
	keepLog(t, stdout.String())
	sc := bufio.NewScanner(&stdout)
	sc.Buffer(nil, 1<<20)
	for sc.Scan() {
		f := strings.Split(sc.Text(), "\t")
		switch {
		case f[0] == "VERSION" && len(f) == 2:
			version = f[1]
		case f[0] == "RESULT" && len(f) == 5:
			list = append(list, outcome{result: f[1], feature: f[2], test: f[2] + ": " + f[3], detail: f[4]})
		}
	}
	if err != nil {
		t.Fatalf("%s %s: %v after %d tests\n%s", name, strings.Join(args, " "), err, len(list), tail(stderr.String(), 3000))
	}
	if version == "" {
		t.Fatalf("%s does not say its version", name)
	}
	return version, list
}
