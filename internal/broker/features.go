package broker

import "github.com/twmb/franz-go/pkg/kmsg"

// feature is a cluster-wide feature level (KIP-584). Clients find in it what
// a broker's API versions do not tell.
type feature struct {
	name     string
	min, max int16
	level    int16 // in force
}

// metadataLevel is metadata.version 4.3-IV0: tools tell from it that the
// cluster speaks what Apache Kafka 4.3 speaks.
const (
	minMetadataLevel = 7 // 3.3-IV3, the lowest of Apache Kafka 4
	metadataLevel    = 30
)

// featuresEpoch never changes, because no feature does.
const featuresEpoch = 1

// features lists what is in force, sorted by name. transaction.version,
// share.version and others are not there: level 0 is the same.
func (b *Broker) features() []feature {
	var fs []feature
	if b.apis[keyConsumerGroupHeartbeat] != nil {
		fs = append(fs, feature{name: "group.version", max: 1, level: 1}) // KIP-848
	}
	return append(fs, feature{name: "metadata.version", min: minMetadataLevel, max: metadataLevel, level: metadataLevel})
}

// announceFeatures fills the part of an ApiVersions response.
func (b *Broker) announceFeatures(resp *kmsg.ApiVersionsResponse) {
	resp.FinalizedFeaturesEpoch = featuresEpoch
	for _, f := range b.features() {
		// KAFKA-17011: clients of version 3 fall over a lowest level of 0.
		if f.min > 0 || resp.Version >= 4 {
			s := kmsg.NewApiVersionsResponseSupportedFeature()
			s.Name, s.MinVersion, s.MaxVersion = f.name, f.min, f.max
			resp.SupportedFeatures = append(resp.SupportedFeatures, s)
		}
		l := kmsg.NewApiVersionsResponseFinalizedFeature()
		l.Name, l.MinVersionLevel, l.MaxVersionLevel = f.name, f.level, f.level
		resp.FinalizedFeatures = append(resp.FinalizedFeatures, l)
	}
}
