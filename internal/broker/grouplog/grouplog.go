// Package grouplog decodes the records of __consumer_offsets, ours and Apache
// Kafka's, and writes them as Kafka's tools do: committed offsets, classic
// groups and those of KIP-848. Names of fields are those of Kafka's JSON.
package grouplog

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The keys of __consumer_offsets say their type in their first two bytes:
// committed offsets, classic groups, and the records of KIP-848 groups.
var typeNames = map[int16]string{
	0: "OFFSET_COMMIT", 1: "OFFSET_COMMIT", 2: "GROUP_METADATA",
	3: "CONSUMER_GROUP_METADATA", 4: "CONSUMER_GROUP_PARTITION_METADATA", 5: "CONSUMER_GROUP_MEMBER_METADATA",
	6: "CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA", 7: "CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER", 8: "CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT",
	16: "CONSUMER_GROUP_REGULAR_EXPRESSION",
}

// groupKeyFields are the strings in the keys of KIP-848 groups.
var groupKeyFields = map[int16][]string{
	3: {"groupId"}, 4: {"groupId"}, 5: {"groupId", "memberId"}, 6: {"groupId"}, 7: {"groupId", "memberId"}, 8: {"groupId", "memberId"},
	16: {"groupId", "regularExpression"},
}

// keyStrings reads strings, each after its length in two bytes, to the end.
func keyStrings(b []byte, names []string) (keyFields, bool) {
	var fields keyFields
	for _, name := range names {
		if len(b) < 2 {
			return nil, false
		}
		n := int(binary.BigEndian.Uint16(b))
		if b = b[2:]; n > len(b) {
			return nil, false
		}
		fields = append(fields, [2]string{name, string(b[:n])})
		b = b[n:]
	}
	return fields, len(b) == 0
}

// keyFields is a JSON object whose members keep their order.
type keyFields [][2]string

func (f keyFields) MarshalJSON() ([]byte, error) {
	out := []byte{'{'}
	for i, kv := range f {
		if i > 0 {
			out = append(out, ',')
		}
		for j, s := range kv {
			b, err := json.Marshal(s)
			if err != nil {
				return nil, err
			}
			if j > 0 {
				out = append(out, ':')
			}
			out = append(out, b...)
		}
	}
	return append(out, '}'), nil
}

// Entry is a record of the group log as JSON shows it. Of records that
// are not decoded the bytes are shown.
type Entry struct {
	Key   Key    `json:"key"`
	Value *Value `json:"value"` // nil for a tombstone
}

// DecodeConsumers replaces the bytes of consumers' subscriptions and
// assignments by what they say, where that can be read.
func (e *Entry) DecodeConsumers() {
	if e.Value == nil {
		return
	}
	if g, ok := e.Value.Data.(*groupValueJSON); ok {
		g.decodeConsumers()
	}
}

// Key is a record's key. Data holds its fields, or its bytes where the type is
// not known.
type Key struct {
	Type int16  `json:"type"`
	Name string `json:"name,omitempty"`
	Data any    `json:"data"`
}

// Value is a record's value; Data as in Key.
type Value struct {
	Version int16 `json:"version"`
	Data    any   `json:"data"`
}

type offsetKeyJSON struct {
	Group     string `json:"group"`
	Topic     string `json:"topic"`
	Partition int32  `json:"partition"`
}

type offsetValueJSON struct {
	Offset          int64   `json:"offset"`
	LeaderEpoch     *int32  `json:"leaderEpoch,omitempty"`
	Metadata        string  `json:"metadata"`
	CommitTimestamp int64   `json:"commitTimestamp"`
	ExpireTimestamp *int64  `json:"expireTimestamp,omitempty"`
	TopicID         *string `json:"topicId,omitempty"`
}

type groupKeyJSON struct {
	Group string `json:"group"`
}

type groupValueJSON struct {
	ProtocolType          string            `json:"protocolType"`
	Generation            int32             `json:"generation"`
	Protocol              *string           `json:"protocol"`
	Leader                *string           `json:"leader"`
	CurrentStateTimestamp int64             `json:"currentStateTimestamp"`
	Members               []groupMemberJSON `json:"members"`
}

type groupMemberJSON struct {
	MemberID         string  `json:"memberId"`
	GroupInstanceID  *string `json:"groupInstanceId"`
	ClientID         string  `json:"clientId"`
	ClientHost       string  `json:"clientHost"`
	RebalanceTimeout int32   `json:"rebalanceTimeout"`
	SessionTimeout   int32   `json:"sessionTimeout"`
	Subscription     any     `json:"subscription"` // bytes, or decoded
	Assignment       any     `json:"assignment"`
}

// What a consumer's subscription and assignment hold; later versions have more.
type (
	topicPartitionsJSON struct {
		Topic      string  `json:"topic"`
		Partitions []int32 `json:"partitions"`
	}
	subscriptionJSON struct {
		Topics          []string               `json:"topics"`
		UserData        []byte                 `json:"userData"`
		OwnedPartitions *[]topicPartitionsJSON `json:"ownedPartitions,omitempty"`
		GenerationID    *int32                 `json:"generationId,omitempty"`
		*rackJSON
	}
	rackJSON struct {
		RackID *string `json:"rackId"`
	}
	assignmentJSON struct {
		AssignedPartitions []topicPartitionsJSON `json:"assignedPartitions"`
		UserData           []byte                `json:"userData"`
	}
)

func (g *groupValueJSON) decodeConsumers() {
	if g.ProtocolType != "consumer" {
		return
	}
	for i := range g.Members {
		m := &g.Members[i]
		var sub kmsg.ConsumerMemberMetadata
		if b, ok := m.Subscription.([]byte); ok && sub.ReadFrom(b) == nil {
			j := subscriptionJSON{Topics: sub.Topics, UserData: sub.UserData}
			if sub.Version >= 1 {
				owned := []topicPartitionsJSON{}
				for _, o := range sub.OwnedPartitions {
					owned = append(owned, topicPartitionsJSON{o.Topic, o.Partitions})
				}
				j.OwnedPartitions = &owned
			}
			if sub.Version >= 2 {
				j.GenerationID = &sub.Generation
			}
			if sub.Version >= 3 {
				j.rackJSON = &rackJSON{sub.Rack}
			}
			m.Subscription = j
		}
		var as kmsg.ConsumerMemberAssignment
		if b, ok := m.Assignment.([]byte); ok && as.ReadFrom(b) == nil {
			j := assignmentJSON{AssignedPartitions: []topicPartitionsJSON{}, UserData: as.UserData}
			for _, t := range as.Topics {
				j.AssignedPartitions = append(j.AssignedPartitions, topicPartitionsJSON{t.Topic, t.Partitions})
			}
			m.Assignment = j
		}
	}
}

// Kind says which records a formatter of Kafka's shows.
type Kind int

// The formatters' kinds.
const (
	Offsets Kind = iota // committed offsets
	Groups              // classic groups
)

// Decode decodes a record of the group log.
func Decode(key, value []byte) (Entry, error) {
	var e Entry
	if len(key) < 2 {
		return e, errors.New("the key is too short for a record of the group log")
	}
	e.Key.Type = int16(binary.BigEndian.Uint16(key))
	e.Key.Name = typeNames[e.Key.Type]
	if value != nil && len(value) < 2 {
		return e, errors.New("the value is too short for a record of the group log")
	}
	if value != nil {
		e.Value = &Value{Version: int16(binary.BigEndian.Uint16(value))}
	}
	switch e.Key.Type {
	case 0, 1:
		var k kmsg.OffsetCommitKey
		if err := k.ReadFrom(key); err != nil {
			return e, fmt.Errorf("decode key: %w", err)
		}
		e.Key.Data = offsetKeyJSON{k.Group, k.Topic, k.Partition}
		if value == nil {
			return e, nil
		}
		v := kmsg.NewOffsetCommitValue()
		if err := v.ReadFrom(value); err != nil {
			return e, fmt.Errorf("decode value: %w", err)
		}
		j := offsetValueJSON{Offset: v.Offset, Metadata: v.Metadata, CommitTimestamp: v.CommitTimestamp}
		if v.Version >= 3 {
			j.LeaderEpoch = &v.LeaderEpoch
		}
		if v.Version == 1 {
			j.ExpireTimestamp = &v.ExpireTimestamp
		}
		if v.Version >= 4 && v.TopicID != [16]byte{} {
			id := idText(v.TopicID)
			j.TopicID = &id
		}
		e.Value.Data = j
	case 2:
		var k kmsg.GroupMetadataKey
		if err := k.ReadFrom(key); err != nil {
			return e, fmt.Errorf("decode key: %w", err)
		}
		e.Key.Data = groupKeyJSON{k.Group}
		if value == nil {
			return e, nil
		}
		v := kmsg.NewGroupMetadataValue()
		if err := v.ReadFrom(value); err != nil {
			return e, fmt.Errorf("decode value: %w", err)
		}
		j := groupValueJSON{v.ProtocolType, v.Generation, v.Protocol, v.Leader, v.CurrentStateTimestamp, []groupMemberJSON{}}
		for _, m := range v.Members {
			j.Members = append(j.Members, groupMemberJSON{m.MemberID, m.InstanceID, m.ClientID, m.ClientHost, m.RebalanceTimeoutMillis, m.SessionTimeoutMillis, m.Subscription, m.Assignment})
		}
		e.Value.Data = &j
	default:
		e.Key.Data = key[2:]
		if names := groupKeyFields[e.Key.Type]; names != nil {
			fields, ok := keyStrings(key[2:], names)
			if !ok {
				return e, fmt.Errorf("decode key: %d bytes are no key of type %d", len(key), e.Key.Type)
			}
			e.Key.Data = fields
		}
		if value == nil {
			return e, nil
		}
		e.Value.Data = value[2:] // of kinds and versions of a later time the bytes
		if e.Value.Version == 0 {
			r := kbin.Reader{Src: value[2:]}
			v := consumerGroupValue(e.Key.Type, &r)
			if v != nil && !r.Ok() {
				return e, fmt.Errorf("decode value: %d bytes are no value of type %d", len(value), e.Key.Type)
			}
			if v != nil {
				e.Value.Data = v
			}
		}
	}
	return e, nil
}

// JSON is what Kafka's formatters of __consumer_offsets write: nothing
// for records of the other kind.
func JSON(key, value []byte, want Kind) (string, error) {
	e, err := Decode(key, value)
	if err != nil {
		return "", err
	}
	if offset := e.Key.Type <= 1; offset != (want == Offsets) || want == Groups && e.Key.Type != 2 {
		return "", nil
	}
	e.Key.Name = ""
	b, err := json.Marshal(e)
	return string(b), err
}

// idText is the form in which Kafka's tools show ids.
func idText(id [16]byte) string { return base64.RawURLEncoding.EncodeToString(id[:]) }
