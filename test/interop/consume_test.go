//go:build interop

package interop

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestKafkaSource lets both agents read a topic of the built-in broker, through
// a consumer group, into files. Flume's client is of 2020.
func TestKafkaSource(t *testing.T) {
	addr := newBroker(t)
	want := records(2000)
	kcat{codec: "snappy"}.produce(t, addr, "read-by-agents", want[:1000])
	kcat{codec: "gzip"}.produce(t, addr, "read-by-agents", want[1000:])
	for name, start := range agents() {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			files := filepath.Join(dir, "files")
			if err := os.Mkdir(files, 0o755); err != nil {
				t.Fatal(err)
			}
			s := site{dir: dir, conf: filepath.Join(dir, "agent.conf")}
			conf := strings.NewReplacer("@BROKER@", addr, "@GROUP@", "group-"+name, "@FILES@", files).Replace(`
SmartCar_Agent.sources = SmartCarInfo_SpoolSource
SmartCar_Agent.channels = c1
SmartCar_Agent.sinks = k1
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.type = org.apache.flume.source.kafka.KafkaSource
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.kafka.bootstrap.servers = @BROKER@
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.kafka.topics = read-by-agents
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.kafka.consumer.group.id = @GROUP@
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.kafka.consumer.auto.offset.reset = earliest
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.kafka.consumer.session.timeout.ms = 120000
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.channels = c1
SmartCar_Agent.channels.c1.type = memory
SmartCar_Agent.channels.c1.capacity = 10000
SmartCar_Agent.channels.c1.transactionCapacity = 1000
SmartCar_Agent.sinks.k1.type = file_roll
SmartCar_Agent.sinks.k1.channel = c1
SmartCar_Agent.sinks.k1.sink.directory = @FILES@
SmartCar_Agent.sinks.k1.sink.rollInterval = 0
`)
			if err := os.WriteFile(s.conf, []byte(conf), 0o644); err != nil {
				t.Fatal(err)
			}
			a := start(t, s)
			read := func() []string {
				var all strings.Builder
				names, err := filepath.Glob(filepath.Join(files, "*"))
				if err != nil {
					t.Fatal(err)
				}
				for _, n := range names { // one file: nothing rolls
					b, err := os.ReadFile(n)
					if err != nil {
						t.Fatal(err)
					}
					all.Write(b)
				}
				return splitLines(all.String())
			}
			eventually(t, 3*time.Minute, "the files hold every record", func() error {
				if !a.alive() {
					t.Fatalf("the agent has ended:\n%s", tail(a.log(), 3000))
				}
				if n := len(read()); n < len(want) {
					return fmt.Errorf("%d of %d", n, len(want))
				}
				return nil
			})
			a.stop(t)
			sameLines(t, "records in the files", read(), want)
		})
	}
}
