package agent

import (
	"strings"

	"github.com/sluice-data/sluice/component"
)

// notBuilt lists the types that Flume 1.9 to 1.11 has and Sluice does not:
// naming one is not a typing mistake, so it gets a finding of its own and
// costs that component only. Each line is an alias (or -) and Java classes.
var notBuilt = parseKnown(map[component.Kind]string{
	component.KindSource: `
		netcatudp org.apache.flume.source.NetcatUdpSource
		syslogtcp org.apache.flume.source.SyslogTcpSource
		multiport_syslogtcp org.apache.flume.source.MultiportSyslogTCPSource
		syslogudp org.apache.flume.source.SyslogUDPSource
		http org.apache.flume.source.http.HTTPSource
		jms org.apache.flume.source.jms.JMSSource
		- org.apache.flume.source.StressSource
		- org.apache.flume.source.scribe.ScribeSource
		- org.apache.flume.source.twitter.TwitterSource
		- org.apache.flume.source.avroLegacy.AvroLegacySource
		- org.apache.flume.source.thriftLegacy.ThriftLegacySource`,
	component.KindSink: `
		http org.apache.flume.sink.http.HttpSink
		irc org.apache.flume.sink.irc.IRCSink
		morphline_solr org.apache.flume.sink.solr.morphline.MorphlineSolrSink
		elasticsearch org.apache.flume.sink.elasticsearch.ElasticSearchSink
		- org.apache.flume.sink.solr.morphline.MorphlineSink
		- org.apache.flume.sink.kudu.KuduSink
		- org.apache.flume.sink.kite.DatasetSink`,
	component.KindInterceptor: `
		morphline org.apache.flume.sink.solr.morphline.MorphlineInterceptor$Builder`,
})

func parseKnown(text map[component.Kind]string) map[component.Kind]map[string]bool {
	known := make(map[component.Kind]map[string]bool)
	for kind, lines := range text {
		known[kind] = make(map[string]bool)
		for _, name := range strings.Fields(lines) {
			if name != "-" {
				known[kind][strings.ToLower(name)] = true
			}
		}
	}
	return known
}

// isNotBuilt says whether Flume knows the type and Sluice does not have it.
func isNotBuilt(kind component.Kind, typ string) bool {
	return notBuilt[kind][strings.ToLower(strings.TrimSpace(typ))]
}

// NotBuilt lists the names of Flume's types of a kind that are not there yet.
func NotBuilt(kind component.Kind) []string {
	var names []string
	for n := range notBuilt[kind] {
		names = append(names, n)
	}
	return names
}
