package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"time"
)

// brokerRow is one line of the broker's matrix. Names that begin with
// broker-target are those that a promise is made for.
type brokerRow struct {
	Name string
	What string
	run  func(ctx context.Context, b *brokerBench, name string) error
}

const (
	mb = 1_000_000
	gb = 1_000_000_000

	mainRow    = "broker-target/1kB"
	latencyRow = "broker-target/latency"
	startRow   = "broker-target/start"
	restartRow = "broker-target/restart-10GB"
	partsRow   = "broker-target/partitions"
	sizeRow    = "broker-target/log-size"
)

func brokerRows() []brokerRow {
	rows := []brokerRow{
		throughputRow(mainRow, "1 kB records in 16 KiB batches, acks=all, no compression", shape{1000, 16 << 10, "none"}, 1*gb, 4),
		{latencyRow, "1,000 requests of one 1 kB record a second; a consumer at the tail for end to end", latency},
		{startRow, "from exec to the first answer, empty data directory", startTime},
		{partsRow, "1 kB records in 16 KiB batches over 1 and 2,000 partitions, 1 and 64 batches a request", partitions(1, 2000)},
		{restartRow, "kill -9 with 10 GB on disk; from exec to the first accepted produce. log-size: 0.5 GB at the end of that log and of a new one", restart(10 * gb)},
	}
	for _, size := range []struct {
		name string
		n    int
	}{{"100B", 100}, {"1kB", 1000}, {"10kB", 10_000}} {
		for _, codec := range []string{"none", "lz4", "zstd"} {
			if size.n == 1000 && codec == "none" {
				continue // it is the target row
			}
			s := shape{size.n, 16 << 10, codec}
			what := fmt.Sprintf("%s records in 16 KiB batches, %s", size.name, codec)
			rows = append(rows, throughputRow("broker/"+size.name+"-"+codec, what, s, gb/2, 2))
		}
	}
	return append(rows,
		throughputRow("broker/1kB-none-1MiB", "1 kB records in 1 MB batches", shape{1000, 1_000_000, "none"}, 1*gb, 2),
		brokerRow{"broker/producer-perf", "Apache Kafka's ProducerPerformance, 1 kB records, acks=all", producerPerf},
		brokerRow{"broker/partitions-100", "as above over 100 partitions", partitions(100)},
		brokerRow{"broker/consumers", "1 kB records read from the start by 1, 10 and 100 consumers", consumers},
		brokerRow{"broker/start-2000", "start with 2,000 partitions", startMany},
		brokerRow{"broker/restart-1GB", "kill -9 with 1 GB on disk", restart(1 * gb)},
	)
}

// broker runs the rows that match.
func (b *bench) runBroker(ctx context.Context, o options) (_ *brokerReport, err error) {
	bb := &brokerBench{bench: b, rounds: o.rounds, smoke: o.smoke, up: map[string]*brokerProcess{}}
	for _, name := range o.agents {
		switch name {
		case "sluice":
			bb.peers = append(bb.peers, sluiceBroker{o.binary})
		case "flume": // its place in the broker's rows is Apache Kafka's
			bb.peers = append(bb.peers, kafkaBroker{script: filepath.Join(o.peers, "kafka.sh"), heap: "1g"})
			bb.tools = filepath.Join(o.peers, "kafka-cli.sh")
		case "floor":
			bb.floor = true
		}
	}
	defer func() { err = errors.Join(err, bb.stopAll()) }()
	if err := touchMemory(b.touch); err != nil {
		return nil, err
	}
	rep := &brokerReport{}
	for _, row := range brokerRows() {
		if !o.only.MatchString(row.Name) {
			continue
		}
		fmt.Printf("\n%s: %s\n", row.Name, row.What)
		begun := time.Now()
		if err := row.run(ctx, bb, row.Name); err != nil {
			return nil, fmt.Errorf("%s: %w", row.Name, err)
		}
		fmt.Printf("(%.0f s)\n", time.Since(begun).Seconds())
	}
	rep.Runs = bb.runs
	rep.summarise()
	return rep, nil
}
