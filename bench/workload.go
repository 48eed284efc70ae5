package main

import (
	"fmt"
	"strings"

	"github.com/sluice-data/sluice/internal/sim"
)

// workload is one flow, the same agent file for both agents.
type workload struct {
	Name   string
	What   string  // one line for people
	Target float64 // the ratio of events per CPU second that is promised; 0: none
	Lines  int64   // about so many, in full mode
	corpus corpusFunc
	all    bool     // there is no filter: every line passes
	kafka  bool     // exec → memory → Kafka sink instead of spooldir → … → null
	source bool     // Kafka source → memory → null
	file   bool     // a file channel instead of the memory channel
	hop    []string // sink and source of a hop to another flow of the same agent, lines for both; nil: no hop
	tail   bool     // taildir instead of spooldir

	sink      sinkPeer // HDFS or HBase in place of the null sink
	sinkLines []string // of the agent file, for sink k1

	interceptors string // agent file lines of source r1
	channels     int    // channels and null sinks; 0 means 1
	fill         []int  // channels that get every kept event; nil means the first
}

const agentName = "a1"

func interceptor(name, typ string, kv ...string) string {
	var b strings.Builder
	p := "a1.sources.r1.interceptors." + name + "."
	fmt.Fprintf(&b, "%stype = %s\n", p, typ)
	for i := 0; i < len(kv); i += 2 {
		fmt.Fprintf(&b, "%s%s = %s\n", p, kv[i], kv[i+1])
	}
	return b.String()
}

const staticType = `a1.sources.r1.interceptors = i1
a1.sources.r1.interceptors.i1.type = static
a1.sources.r1.interceptors.i1.key = logType
a1.sources.r1.interceptors.i1.value = car-batch-log
a1.sources.r1.selector.type = multiplexing
a1.sources.r1.selector.header = logType
`

// workloads lists what is measured. The patterns are the five kinds of
// filters and extractors that public agent files use most (README.md says how
// that was counted), written as they are there, with the doubled backslashes
// of a properties file.
func workloads() []workload {
	const (
		million  = 1_000_000
		dayLines = 100 * (sim.StatusTicksPerDay + 1)
	)
	return append([]workload{
		{
			Name: "day", What: `the day's file: spooldir → regex_filter ^\d{14} → memory → null`, Target: 10,
			Lines: dayLines, corpus: statusDay,
			interceptors: "a1.sources.r1.interceptors = i1\n" +
				interceptor("i1", "regex_filter", "regex", `^\\d{14}`, "excludeEvents", "false"),
		},
		{
			Name: "day-tail", What: `the day's file: taildir → regex_filter ^\d{14} → memory → null`, Target: 8,
			Lines: dayLines, corpus: statusDay, tail: true,
			interceptors: "a1.sources.r1.interceptors = i1\n" +
				interceptor("i1", "regex_filter", "regex", `^\\d{14}`, "excludeEvents", "false"),
		},
		{
			Name: "json-field", What: `regex_filter and regex_extractor "biType":"(\w+)"`, Target: 5,
			Lines: 2 * million, corpus: lines(jsonLine),
			interceptors: "a1.sources.r1.interceptors = i1 i2\n" +
				interceptor("i1", "regex_filter", "regex", `"biType":"(\\w+)"`) +
				interceptor("i2", "regex_extractor", "regex", `"biType":"(\\w+)"`, "serializers", "s1", "serializers.s1.name", "log_type"),
		},
		{
			Name: "access-log", What: `regex_extractor with five groups over access log lines`, Target: 5,
			Lines: 2 * million, corpus: lines(accessLine),
			interceptors: "a1.sources.r1.interceptors = i1\n" +
				interceptor("i1", "regex_extractor", "regex", `^.+\\[(.+)\\]\\s"(\\w+)\\s\\/\\w+\\/\\/?(\\w+)\\s\\S+\\s(\\d+)\\s(\\d+)`,
					"serializers", "s1 s2 s3 s4 s5", "serializers.s1.name", "cat_1", "serializers.s2.name", "cat_2",
					"serializers.s3.name", "cat_3", "serializers.s4.name", "cat_4", "serializers.s5.name", "cat_5"),
		},
		{
			Name: "date-millis", What: `regex_extractor of a date and time into the timestamp header`, Target: 5,
			Lines: 2 * million, corpus: lines(purchaseLine),
			interceptors: "a1.sources.r1.interceptors = i1\n" +
				interceptor("i1", "regex_extractor", "regex", `(\\d{4}-\\d{2}-\\d{2} \\d{2}:\\d{2}:\\d{2})`, "serializers", "s1",
					"serializers.s1.type", "org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer",
					"serializers.s1.name", "timestamp", "serializers.s1.pattern", "yyyy-MM-dd HH:mm:ss"),
		},
		{
			Name: "word", What: `regex_filter .+REPORT.+, half of the lines match`, Target: 5,
			Lines: 2 * million, corpus: lines(serverLine),
			interceptors: "a1.sources.r1.interceptors = i1\n" +
				interceptor("i1", "regex_filter", "regex", `.+REPORT.+`),
		},
		{
			Name: "select-one", What: `static header, multiplexing selector: one of two channels`, Target: 8,
			Lines: dayLines, corpus: statusDay, all: true, channels: 2,
			interceptors: staticType + "a1.sources.r1.selector.mapping.car-batch-log = c1\na1.sources.r1.selector.default = c2\n",
		},
		{
			Name: "select-both", What: `static header, multiplexing selector: both of two channels`, Target: 8,
			Lines: dayLines, corpus: statusDay, all: true, channels: 2, fill: []int{1, 2},
			interceptors: staticType + "a1.sources.r1.selector.mapping.car-batch-log = c1 c2\na1.sources.r1.selector.default = c2\n",
		},
		{
			Name: "hop", What: `spooldir → memory → avro sink → avro source → memory → null, events of 48 bytes`, Target: 8,
			Lines: 2 * million, corpus: lines(hopLine), all: true, channels: 2, fill: []int{1, 2}, hop: []string{},
		},
		{
			Name: "hop-deflate", What: `the same with compression-type = deflate`, Target: 3,
			Lines: 2 * million, corpus: lines(hopLine), all: true, channels: 2, fill: []int{1, 2}, hop: []string{"compression-type = deflate"},
		},
		{
			Name: "kafka", What: `exec → memory → Kafka sink against Apache Kafka`, Target: 7,
			Lines: 2 * million, corpus: driverLog, all: true, kafka: true,
		},
		{
			Name: "kafka-source", What: `Kafka source → memory → null, from Apache Kafka`, Target: 4,
			Lines: 2 * million, corpus: driverLog, all: true, source: true,
		},
		{
			Name: "file-channel", What: `spooldir → file channel, synced for each put and each take → null`, Target: 15,
			Lines: million, corpus: statusDay, all: true, file: true,
		},
	}, hadoopWorkloads()...)
}

// place says where a run's pieces are.
type place struct {
	Spool   string // directory of the spooldir or taildir source
	Command string // of the exec source
	Port    int    // of the avro source
	Broker  string
	Topic   string
	Channel string // directory for the files of a file channel
	Sink    string // a directory in HDFS, or the ZooKeeper of an HBase
	Table   string // of HBase
}

// conf is the agent file. The sizes are those of the pilot's own file, and the
// same for both agents; pollDelay and the taildir source's pauses only shorten
// the wait before the flow begins.
func (w workload) conf(p place) string {
	var b strings.Builder
	n := max(w.channels, 1)
	names := func(prefix string) string {
		var s []string
		for i := range n {
			s = append(s, fmt.Sprintf("%s%d", prefix, i+1))
		}
		return strings.Join(s, " ")
	}
	sources, channels := "r1", names("c")
	if w.hop != nil {
		sources, channels = "r1 r2", "c1"
	}
	fmt.Fprintf(&b, "a1.sources = %s\na1.channels = %s\na1.sinks = %s\na1.sources.r1.channels = %s\n", sources, names("c"), names("k"), channels)
	switch {
	case w.kafka:
		fmt.Fprintf(&b, "a1.sources.r1.type = exec\na1.sources.r1.command = %s\n", p.Command)
	case w.source:
		fmt.Fprintf(&b, "a1.sources.r1.type = org.apache.flume.source.kafka.KafkaSource\na1.sources.r1.kafka.bootstrap.servers = %s\na1.sources.r1.kafka.topics = %s\n", p.Broker, p.Topic)
		fmt.Fprintf(&b, "a1.sources.r1.kafka.consumer.group.id = %s\na1.sources.r1.kafka.consumer.auto.offset.reset = earliest\na1.sources.r1.kafka.consumer.isolation.level = read_committed\n", p.Topic)
		b.WriteString("a1.sources.r1.backoffSleepIncrement = 10\na1.sources.r1.maxBackoffSleep = 10\n")
	case w.tail:
		fmt.Fprintf(&b, "a1.sources.r1.type = TAILDIR\na1.sources.r1.filegroups = f1\na1.sources.r1.filegroups.f1 = %s/.*\na1.sources.r1.positionFile = %[1]s.positions\n", p.Spool)
		b.WriteString("a1.sources.r1.backoffSleepIncrement = 10\na1.sources.r1.maxBackoffSleep = 10\n")
	default:
		fmt.Fprintf(&b, "a1.sources.r1.type = spooldir\na1.sources.r1.spoolDir = %s\na1.sources.r1.deletePolicy = immediate\na1.sources.r1.pollDelay = 10\n", p.Spool)
	}
	b.WriteString("a1.sources.r1.batchSize = 1000\n")
	b.WriteString(w.interceptors)
	for i := 1; i <= n; i++ {
		kind := "memory"
		if w.file {
			kind = "file"
			fmt.Fprintf(&b, "a1.channels.c%d.checkpointDir = %s/checkpoint\na1.channels.c%[1]d.dataDirs = %[2]s/data\n", i, p.Channel)
		}
		fmt.Fprintf(&b, "a1.channels.c%d.type = %s\na1.channels.c%[1]d.capacity = 100000\na1.channels.c%[1]d.transactionCapacity = 10000\n", i, kind)
		fmt.Fprintf(&b, "a1.sinks.k%d.channel = c%[1]d\n", i)
		if w.sink != "" {
			w.hadoopSink(&b, p)
			continue
		}
		fmt.Fprintf(&b, "a1.sinks.k%d.batchSize = 1000\n", i)
		if w.hop != nil && i == 1 {
			fmt.Fprintf(&b, "a1.sinks.k1.type = avro\na1.sinks.k1.hostname = 127.0.0.1\na1.sinks.k1.port = %d\na1.sinks.k1.batch-size = 1000\n", p.Port)
			fmt.Fprintf(&b, "a1.sources.r2.type = avro\na1.sources.r2.bind = 127.0.0.1\na1.sources.r2.port = %d\na1.sources.r2.channels = c2\n", p.Port)
			for _, line := range w.hop {
				fmt.Fprintf(&b, "a1.sinks.k1.%s\na1.sources.r2.%[1]s\n", line)
			}
			continue
		}
		if w.kafka {
			fmt.Fprintf(&b, "a1.sinks.k%d.type = org.apache.flume.sink.kafka.KafkaSink\na1.sinks.k%[1]d.topic = %[2]s\na1.sinks.k%[1]d.brokerList = %[3]s\na1.sinks.k%[1]d.requiredAcks = 1\n", i, p.Topic, p.Broker)
		} else {
			fmt.Fprintf(&b, "a1.sinks.k%d.type = null\n", i)
		}
	}
	return b.String()
}

// takes is how many events each channel has handed to its sink once c is through.
func (w workload) takes(c corpus) map[string]int64 {
	fill := w.fill
	if fill == nil {
		fill = []int{1}
	}
	m := map[string]int64{}
	for i := 1; i <= max(w.channels, 1); i++ {
		m[fmt.Sprintf("CHANNEL.c%d", i)] = 0
	}
	for _, i := range fill {
		m[fmt.Sprintf("CHANNEL.c%d", i)] = c.Kept
	}
	return m
}
