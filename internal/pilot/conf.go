package pilot

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/examples"
	"github.com/sluice-data/sluice/internal/ledger"
	"github.com/sluice-data/sluice/internal/sim"
)

// Names of the handbook's agent file, under which the metrics are found.
const (
	agentName    = "SmartCar_Agent"
	consumerName = "SmartCar_Consumer"

	spoolSource   = "SmartCarInfo_SpoolSource"
	spoolFilter   = "filterInterceptor"
	statusChannel = "SmartCarInfo_Channel"
	tailSource    = "DriverCarInfo_TailSource"
	tailFilter    = "filterInterceptor2"
	driverChannel = "DriverCarInfo_Channel"

	topicSource   = "DriverCarInfo_TopicSource"
	fileChannel   = "DriverCarInfo_FileChannel"
	consumerGroup = consumerName
)

// agentFile is the handbook's agent file at the end of its collection chapter,
// with its names and values. Only the two directories and the broker's host
// are this run's.
const agentFile = `# The smart-car agent: two flows.
SmartCar_Agent.sources  = SmartCarInfo_SpoolSource DriverCarInfo_TailSource
SmartCar_Agent.channels = SmartCarInfo_Channel DriverCarInfo_Channel
SmartCar_Agent.sinks    = SmartCarInfo_LoggerSink DriverCarInfo_KafkaSink

# Flow 1: each day's status file, dropped into a directory, goes to the log.
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.type = spooldir
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.spoolDir = @SPOOL@
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.deletePolicy = immediate
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.batchSize = 1000

SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors = filterInterceptor
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.type = regex_filter
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.regex = ^\\d{14}
SmartCar_Agent.sources.SmartCarInfo_SpoolSource.interceptors.filterInterceptor.excludeEvents = false

SmartCar_Agent.channels.SmartCarInfo_Channel.type = memory
SmartCar_Agent.channels.SmartCarInfo_Channel.capacity = 100000
SmartCar_Agent.channels.SmartCarInfo_Channel.transactionCapacity = 10000

SmartCar_Agent.sinks.SmartCarInfo_LoggerSink.type = logger

SmartCar_Agent.sources.SmartCarInfo_SpoolSource.channels = SmartCarInfo_Channel
SmartCar_Agent.sinks.SmartCarInfo_LoggerSink.channel = SmartCarInfo_Channel

# Flow 2: the drivers' log is followed as it grows and goes to a Kafka topic.
SmartCar_Agent.sources.DriverCarInfo_TailSource.type = exec
SmartCar_Agent.sources.DriverCarInfo_TailSource.command = tail -F @DRIVERLOG@
SmartCar_Agent.sources.DriverCarInfo_TailSource.restart = true
SmartCar_Agent.sources.DriverCarInfo_TailSource.batchSize = 1000

SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors = filterInterceptor2
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.type = regex_filter
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.regex = ^\\d{14}
SmartCar_Agent.sources.DriverCarInfo_TailSource.interceptors.filterInterceptor2.excludeEvents = false

SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.type = org.apache.flume.sink.kafka.KafkaSink
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.topic = SmartCar-Topic
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.brokerList = @BROKER@
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.requiredAcks = 1
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.batchSize = 1000

SmartCar_Agent.channels.DriverCarInfo_Channel.type = memory
SmartCar_Agent.channels.DriverCarInfo_Channel.capacity = 100000
SmartCar_Agent.channels.DriverCarInfo_Channel.transactionCapacity = 10000

SmartCar_Agent.sources.DriverCarInfo_TailSource.channels = DriverCarInfo_Channel
SmartCar_Agent.sinks.DriverCarInfo_KafkaSink.channel = DriverCarInfo_Channel
`

// auditFile is read after the agent file and changes one thing in it, so that
// the ledger sees whole lines in the log.
const auditFile = `# The logger sink shows 16 bytes of an event. The ledger compares whole lines.
SmartCar_Agent.sinks.SmartCarInfo_LoggerSink.maxBytesToLog = 4096
`

// consumerFile is the pilot's own third agent: the reader of the topic.
const consumerFile = `# Reads the topic and rolls its records into files.
SmartCar_Consumer.sources  = DriverCarInfo_TopicSource
SmartCar_Consumer.channels = DriverCarInfo_FileChannel
SmartCar_Consumer.sinks    = DriverCarInfo_FileSink

SmartCar_Consumer.sources.DriverCarInfo_TopicSource.type = org.apache.flume.source.kafka.KafkaSource
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.kafka.bootstrap.servers = @BROKER@
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.kafka.topics = SmartCar-Topic
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.kafka.consumer.group.id = SmartCar_Consumer
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.kafka.consumer.auto.offset.reset = earliest
# A member that was killed holds its partition for so long.
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.kafka.consumer.session.timeout.ms = 10000
SmartCar_Consumer.sources.DriverCarInfo_TopicSource.batchSize = 1000

SmartCar_Consumer.channels.DriverCarInfo_FileChannel.type = memory
SmartCar_Consumer.channels.DriverCarInfo_FileChannel.capacity = 100000
SmartCar_Consumer.channels.DriverCarInfo_FileChannel.transactionCapacity = 10000

SmartCar_Consumer.sinks.DriverCarInfo_FileSink.type = file_roll
SmartCar_Consumer.sinks.DriverCarInfo_FileSink.sink.directory = @FILES@
SmartCar_Consumer.sinks.DriverCarInfo_FileSink.sink.rollInterval = 300
SmartCar_Consumer.sinks.DriverCarInfo_FileSink.sink.batchSize = 1000

SmartCar_Consumer.sources.DriverCarInfo_TopicSource.channels = DriverCarInfo_FileChannel
SmartCar_Consumer.sinks.DriverCarInfo_FileSink.channel = DriverCarInfo_FileChannel
`

// confFiles are the paths of a run's agent files, in the order in which they are read.
type confFiles struct{ agent, consumer []string }

func confPaths(l ledger.Layout, h ledger.Hadoop) confFiles {
	in := func(names ...string) (paths []string) {
		for _, n := range names {
			paths = append(paths, filepath.Join(l.Conf, n))
		}
		return paths
	}
	c := confFiles{in("flume.conf", "audit.conf"), in("consumer.conf")}
	if h.HDFS != "" {
		c.agent = in("flume.conf", "here.conf")
	}
	if h.HBase != "" {
		c.consumer = in("hbase.conf")
	}
	return c
}

// hadoopExample has the agent files of a run that ends in Hadoop. They are used as they are, and told what they ask for.
const hadoopExample = "pilot-hadoop"

// writeConf writes the agent files of a run.
func writeConf(l ledger.Layout, h ledger.Hadoop, broker string) error {
	driverLog := filepath.Join(l.Working, sim.DriverDir, sim.DriverLogName)
	// The exec source splits its command at blanks and knows no quotes.
	if strings.ContainsAny(driverLog, " \t\n\\") {
		return fmt.Errorf("the directory %q holds a blank or a backslash, which the command of an exec source cannot: give another --dir", l.Working)
	}
	r := strings.NewReplacer("@SPOOL@", l.Spool, "@DRIVERLOG@", driverLog, "@BROKER@", broker, "@FILES@", l.Files)
	own := map[string]string{"flume.conf": agentFile, "audit.conf": auditFile, "consumer.conf": consumerFile}
	c := confPaths(l, h)
	for _, path := range slices.Concat(c.agent, c.consumer) {
		name := filepath.Base(path)
		text := []byte(r.Replace(own[name]))
		if name == "hbase.conf" || h.HDFS != "" && slices.Contains(c.agent, path) {
			var err error
			if text, err = examples.Files.ReadFile(hadoopExample + "/" + name); err != nil {
				return fmt.Errorf("read the example's agent file: %w", err)
			}
		}
		if err := os.WriteFile(path, text, 0o644); err != nil {
			return fmt.Errorf("write agent file: %w", err)
		}
	}
	return nil
}
