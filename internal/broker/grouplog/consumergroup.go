package grouplog

import (
	"encoding/json"

	"github.com/twmb/franz-go/pkg/kbin"
)

// The values of KIP-848 groups, in Apache Kafka's encoding.
type (
	consumerGroupJSON struct {
		Epoch        int32  `json:"epoch"`
		MetadataHash *int64 `json:"metadataHash,omitempty"`
	}
	consumerMemberJSON struct {
		InstanceID           *string  `json:"instanceId"`
		RackID               *string  `json:"rackId"`
		ClientID             string   `json:"clientId"`
		ClientHost           string   `json:"clientHost"`
		SubscribedTopicNames []string `json:"subscribedTopicNames"`
		SubscribedTopicRegex *string  `json:"subscribedTopicRegex"`
		RebalanceTimeoutMs   int32    `json:"rebalanceTimeoutMs"`
		ServerAssignor       *string  `json:"serverAssignor"`
		Classic              any      `json:"classicMemberMetadata,omitempty"`
	}
	classicMemberJSON struct {
		SessionTimeoutMs   int32                 `json:"sessionTimeoutMs"`
		SupportedProtocols []classicProtocolJSON `json:"supportedProtocols"`
	}
	classicProtocolJSON struct {
		Name     string `json:"name"`
		Metadata []byte `json:"metadata"`
	}
	targetEpochJSON struct {
		AssignmentEpoch     int32  `json:"assignmentEpoch"`
		AssignmentTimestamp *int64 `json:"assignmentTimestamp,omitempty"`
	}
	targetMemberJSON struct {
		TopicPartitions []assignedJSON `json:"topicPartitions"`
	}
	currentMemberJSON struct {
		MemberEpoch                 int32          `json:"memberEpoch"`
		PreviousMemberEpoch         int32          `json:"previousMemberEpoch"`
		State                       int8           `json:"state"`
		AssignedPartitions          []assignedJSON `json:"assignedPartitions"`
		PartitionsPendingRevocation []assignedJSON `json:"partitionsPendingRevocation"`
	}
	assignedJSON struct {
		TopicID          string  `json:"topicId"`
		Partitions       []int32 `json:"partitions"`
		AssignmentEpochs []int32 `json:"assignmentEpochs,omitempty"`
	}
	resolvedRegexJSON struct {
		Topics    []string `json:"topics"`
		Version   int64    `json:"version"`
		Timestamp int64    `json:"timestamp"`
	}
)

// consumerGroupValue decodes a value of version 0, or returns nil for a type
// that is not known. The reader is bad afterwards if the bytes are.
func consumerGroupValue(kind int16, r *kbin.Reader) any {
	switch kind {
	case 3:
		v := consumerGroupJSON{Epoch: r.Int32()}
		tagZero(r, func(b *kbin.Reader) { n := b.Int64(); v.MetadataHash = &n })
		return v
	case 5:
		v := consumerMemberJSON{InstanceID: r.CompactNullableString(), RackID: r.CompactNullableString(), ClientID: r.CompactString(), ClientHost: r.CompactString(),
			SubscribedTopicNames: list(r, r.CompactString), SubscribedTopicRegex: r.CompactNullableString(), RebalanceTimeoutMs: r.Int32(), ServerAssignor: r.CompactNullableString()}
		tagZero(r, func(b *kbin.Reader) {
			if b.Uvarint() == 0 { // a null that is written out
				v.Classic = json.RawMessage("null")
				return
			}
			v.Classic = classicMemberJSON{SessionTimeoutMs: b.Int32(), SupportedProtocols: list(b, func() classicProtocolJSON {
				p := classicProtocolJSON{b.CompactString(), b.CompactBytes()}
				tagZero(b, nil)
				return p
			})}
			tagZero(b, nil)
		})
		return v
	case 6:
		v := targetEpochJSON{AssignmentEpoch: r.Int32()}
		tagZero(r, func(b *kbin.Reader) { n := b.Int64(); v.AssignmentTimestamp = &n })
		return v
	case 7:
		v := targetMemberJSON{assignedList(r)}
		tagZero(r, nil)
		return v
	case 8:
		v := currentMemberJSON{r.Int32(), r.Int32(), r.Int8(), assignedList(r), assignedList(r)}
		tagZero(r, nil)
		return v
	case 16:
		v := resolvedRegexJSON{list(r, r.CompactString), r.Int64(), r.Int64()}
		tagZero(r, nil)
		return v
	}
	return nil
}

// list reads a compact array; one that claims more than there is ends with the
// bytes.
func list[T any](r *kbin.Reader, element func() T) []T {
	l := []T{}
	for range r.CompactArrayLen() {
		v := element()
		if !r.Ok() {
			break
		}
		l = append(l, v)
	}
	return l
}

func assignedList(r *kbin.Reader) []assignedJSON {
	return list(r, func() assignedJSON {
		a := assignedJSON{TopicID: idText(r.Uuid()), Partitions: list(r, r.Int32)}
		tagZero(r, func(b *kbin.Reader) { a.AssignmentEpochs = list(b, b.Int32) })
		return a
	})
}

// tagZero reads tagged fields and gives the one with tag 0 to f.
func tagZero(r *kbin.Reader, f func(*kbin.Reader)) {
	bad := func() { r.Span(len(r.Src) + 1) }
	for range r.Uvarint() {
		tag, size := r.Uvarint(), r.Uvarint()
		if !r.Ok() || uint64(size) > uint64(len(r.Src)) {
			bad()
			return
		}
		b := kbin.Reader{Src: r.Span(int(size))}
		if tag != 0 || f == nil {
			continue
		}
		if f(&b); !b.Ok() {
			bad()
			return
		}
	}
}
