//go:build interop

package interop

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// TestBrokerListeners reads a server.properties with two listeners. Through
// each, kcat is told that listener's own address and works with it; Kafka's
// tools change settings of the broker through one and see them through the
// other.
func TestBrokerListeners(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "server.properties")
	if err := os.WriteFile(file, []byte(`process.roles=broker,controller
node.id=7
controller.listener.names=CONTROLLER
listeners=INSIDE://127.0.0.1:0,OUTSIDE://127.0.0.1:0,CONTROLLER://127.0.0.1:0
advertised.listeners=INSIDE://127.0.0.1:0,OUTSIDE://localhost:0
listener.security.protocol.map=INSIDE:PLAINTEXT,OUTSIDE:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=INSIDE
num.io.threads=8
log.retention.hours=1
log.dirs=`+filepath.Join(dir, "data")+"\n"), 0o644); err != nil {
		t.Fatal(err)
	}
	p := startSluice(t, "broker", file)
	var lines [][]string
	eventually(t, 3*time.Minute, "the broker names its listeners", func() error {
		if !p.alive() {
			t.Fatalf("the broker ended: %v", p.err)
		}
		lines = regexp.MustCompile(`(?m)^listener (INSIDE|OUTSIDE)://127\.0\.0\.1:(\d+)\n`).FindAllStringSubmatch(p.out.String(), -1)
		if len(lines) != 2 {
			return errors.New("not yet")
		}
		return nil
	})
	inside, outside := "127.0.0.1:"+lines[0][2], "localhost:"+lines[1][2]
	for _, addr := range []string{inside, outside} {
		if got := clientOutput(t, "", program(t, "kcat"), "-L", "-b", addr); !strings.Contains(got, fmt.Sprintf("broker 7 at %s ", addr)) {
			t.Errorf("through %s kcat is told:\n%s", addr, got)
		}
	}
	kcat{}.produce(t, inside, "both", []string{"a", "b"})
	if got := (kcat{}).consume(t, outside, "both", 2); len(got) != 2 {
		t.Errorf("through the other listener come %q", got)
	}

	configs := func(addr string, args ...string) string {
		t.Helper()
		return kafkaTool(t, "", "configs", append([]string{"--bootstrap-server", addr}, args...)...)
	}
	configs(inside, "--alter", "--entity-type", "brokers", "--entity-default", "--add-config", "log.retention.ms=120000")
	configs(inside, "--alter", "--entity-type", "brokers", "--entity-name", "7", "--add-config", "max.connections.per.ip=100,num.io.threads=9")
	configs(inside, "--alter", "--entity-type", "broker-loggers", "--entity-name", "7", "--add-config", "root=DEBUG")
	for _, want := range []struct{ args, text string }{
		{"--entity-type brokers --entity-default", "log.retention.ms=120000 sensitive=false synonyms={DYNAMIC_DEFAULT_BROKER_CONFIG:log.retention.ms=120000"},
		{"--entity-type brokers --entity-name 7", "max.connections.per.ip=100 sensitive=false synonyms={DYNAMIC_BROKER_CONFIG:max.connections.per.ip=100"},
		{"--entity-type brokers --entity-name 7 --all", "log.retention.hours=1 sensitive=false synonyms={STATIC_BROKER_CONFIG:log.retention.hours=1"},
		{"--entity-type topics --entity-name both --all", "retention.ms=120000 sensitive=false"},
		{"--entity-type broker-loggers --entity-name 7", "root=DEBUG"},
	} {
		if got := configs(outside, append([]string{"--describe"}, strings.Fields(want.args)...)...); !strings.Contains(got, want.text) {
			t.Errorf("%s: no %q in:\n%s", want.args, want.text, got)
		}
	}
	p.stop(t)
}
