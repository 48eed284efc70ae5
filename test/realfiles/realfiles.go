// Package realfiles is what the tests know of the collection of published agent
// files, which lies beside the project or where SLUICE_SHARED says.
package realfiles

import (
	"cmp"
	"os"
	"path/filepath"
)

// Dir is the directory of the collection. root is the project's, as the caller
// sees it. flume-1.11.tsv in it has the agents and what comes up of them in Flume 1.11.
func Dir(root string) string {
	return filepath.Join(cmp.Or(os.Getenv("SLUICE_SHARED"), filepath.Join(root, "../shared")), "flume-conf")
}

// Differences lists agents of the collection that come up otherwise than in
// Flume 1.11, on purpose. The key is FILE/AGENT.
var Differences = map[string]string{
	"005-wikibook-bigdata2nd-SmartCar_Agent.conf/SmartCar_Agent":      "the book's CollectDayInterceptor is there; that Flume had no jar of it",
	"018-ahars-hdp-flume-sandbox-flume_10.conf/agent_10":              ownSerializer,
	"019-ahars-hdp-flume-sandbox-flume_11.conf/agent_11":              ownSerializer,
	"020-ahars-hdp-flume-sandbox-flume_12.conf/agent_12":              ownSerializer,
	"021-ahars-hdp-flume-sandbox-flume_15.conf/agent_15_1":            ownSerializer,
	"021-ahars-hdp-flume-sandbox-flume_15.conf/agent_15_2":            ownSerializer,
	"022-ahars-hdp-flume-sandbox-flume_16.conf/agent_16":              ownSerializer,
	"023-ahars-hdp-flume-sandbox-flume_17.conf/agent_17":              ownSerializer,
	"065-brockn-avro-flume-hive-example-flume.conf/example":           ownSerializer,
	"412-tomwhite-java-magazine-kite-flume.conf/tier1":                ownSerializer,
	"255-mganta-xml-avro-multi-flume-multi-table.conf/hdfs-xml-agent": ownSerializer,
	"256-mganta-xml-avro-multi-flume.conf/hdfs-xml-agent":             ownSerializer,
	"056-bkvarda-historiangen-flume_agent.conf/histingest1":           noBrokers,
	"064-briantwalter-spark1090-flume.conf/tier1":                     noBrokers,
	"165-GuLiMen-aaLog-flume-hdfs-windows.conf/a1":                    "C:\\… is a name without a directory on Linux, over which Flume's taildir source stumbles",
	"445-ZVladimirI-DSBDA_HW2-flume.conf/docker_flume":                "${HDFS_HOST}, which nobody set, is no address: Flume finds that at the first event",
}

// noBrokers: Flume's Kafka channel asks them, and a ZooKeeper, when it starts. Here it starts and tries again.
const noBrokers = "in Flume nothing that is tied to the channel starts without its ZooKeeper and brokers"

// ownSerializer: Flume looks for the class when the first file is opened, and fails with each batch from then on.
const ownSerializer = "a serializer or deserializer of the author's own, which is on nobody's class path"
