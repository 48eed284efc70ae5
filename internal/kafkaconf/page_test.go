package kafkaconf

import (
	"bytes"
	"fmt"
	"sort"
	"strings"

	"github.com/sluice-data/sluice/component"
)

// page is docs/kafka-properties.md, made from the declarations.
func page() []byte {
	var b bytes.Buffer
	b.WriteString(`# Kafka client properties

The Kafka sink takes the properties of Kafka's Java producer below ` + "`kafka.producer.`" + `, the Kafka source those of its
consumer below ` + "`kafka.consumer.`" + `, and the Kafka channel both (with acks = all and auto.offset.reset = earliest, as in Flume). This page says what becomes of each. It is generated: edit the declarations in
internal/kafkaconf and run ` + "`go test ./internal/kafkaconf -update`" + `.

Every other name draws a warning and has no effect. Keys and certificates are read from
Java's key stores (JKS, PKCS12) and from PEM files; a JCEKS store must be converted:

    keytool -importkeystore -srckeystore OLD -srcstoretype JCEKS -destkeystore NEW -deststoretype PKCS12

`)
	section(&b, "Producer (`kafka.producer.`)", "kafka.producer.", new(producerConfig).Fields())
	section(&b, "Consumer (`kafka.consumer.`)", "kafka.consumer.", new(consumerConfig).Fields())
	return b.Bytes()
}

func section(b *bytes.Buffer, title, prefix string, fields []component.Field) {
	fmt.Fprintf(b, "## %s\n\n| Property | Default | Effect | Meaning |\n|---|---|---|---|\n", title)
	sort.SliceStable(fields, func(i, j int) bool { return fields[i].Key < fields[j].Key })
	for _, f := range fields {
		if f.IsPrefix() {
			continue
		}
		doc := f.Doc
		if f.Effect != component.Honoured {
			doc = f.Reason + "."
		}
		def := f.Default
		if def != "" {
			def = strings.TrimSpace("`" + def + "` " + f.Unit)
		}
		if l := f.Limits(); l != "" {
			doc += " (" + l + ".)"
		}
		if len(f.Values) > 0 {
			doc += " (`" + strings.Join(f.Values, "`, `") + "`.)"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s |\n", strings.TrimPrefix(f.Key, prefix), def, f.Effect, strings.ReplaceAll(doc, "|", `\|`))
	}
	b.WriteString("\n")
}
