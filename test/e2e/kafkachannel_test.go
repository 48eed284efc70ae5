package e2e

import (
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestKafkaChannelKilled kills an agent again and again, and its broker once, while lines go from a file through a Kafka
// channel to another: all of them arrive.
func TestKafkaChannelKilled(t *testing.T) {
	dir := t.TempDir()
	makeDirs(t, dir, "logs", "out")
	addr, stopBroker := startBroker(t, filepath.Join(dir, "data"))
	conf := strings.NewReplacer("@DIR@", dir, "@BROKER@", addr).Replace(`
a.sources = r
a.channels = c
a.sinks = k1 k2
a.sources.r.type = TAILDIR
a.sources.r.filegroups = f
a.sources.r.filegroups.f = @DIR@/logs/.*log
a.sources.r.positionFile = @DIR@/position.json
a.sources.r.writePosInterval = 1
a.sources.r.batchSize = 50
a.sources.r.channels = c
a.channels.c.type = org.apache.flume.channel.kafka.KafkaChannel
a.channels.c.kafka.bootstrap.servers = @BROKER@
a.channels.c.kafka.topic = c
a.channels.c.kafka.consumer.group.instance.id = a
`)
	for _, k := range []string{"k1", "k2"} {
		makeDirs(t, dir, "out/"+k)
		conf += fmt.Sprintf("a.sinks.%[1]s.type = file_roll\na.sinks.%[1]s.sink.directory = %[2]s/out/%[1]s\na.sinks.%[1]s.sink.rollInterval = 0\na.sinks.%[1]s.sink.batchSize = 20\na.sinks.%[1]s.channel = c\n", k, dir)
	}
	log := filepath.Join(dir, "logs", "a.log")
	writeFile(t, log, "")
	var want []string
	more := func(n int) {
		var b strings.Builder
		for range n {
			line := fmt.Sprintf("line %06d", len(want))
			want = append(want, line)
			fmt.Fprintln(&b, line)
		}
		appendFile(t, log, b.String())
	}
	// whole are the lines that have arrived whole: a killed sink may leave the beginning of one.
	whole := func() (lines []string) {
		for _, k := range []string{"k1", "k2"} {
			for _, l := range rolled(t, filepath.Join(dir, "out", k)) {
				if len(l) == len("line 000000") {
					lines = append(lines, l)
				}
			}
		}
		slices.Sort(lines)
		return lines
	}
	for round := range 6 {
		more(400)
		arrived := len(whole()) // before anything of the 400 can
		p, _ := agent(t, conf)
		p.await("some lines", func() bool { return len(whole()) > arrived+100 })
		more(300)
		if round == 3 { // under its feet
			stopBroker()
			more(200) // which nothing can pass on before the broker is back
			arrived = len(whole())
			cmd := start(t, "sluice", "broker", "--listen", addr, "--data", filepath.Join(dir, "data"), "--max-disk", "none")
			cmd.await("lines after the broker came back", func() bool { return len(whole()) > arrived+100 })
		}
		kill(p)
	}
	p, _ := agent(t, conf)
	p.await("all lines", func() bool { return different(whole()) >= len(want) })
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
	got := whole()
	once := slices.Compact(slices.Clone(got))
	if !slices.Equal(once, want) {
		t.Errorf("%d different lines, want %d", len(once), len(want))
	}
	t.Logf("%d lines, %d of them twice, %d kills", len(want), len(got)-len(once), 6)
}
