package cli

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// The keys of __consumer_offsets say their type in their first two bytes:
// committed offsets, classic groups, and the records of KIP-848 groups.
var groupLogTypes = map[int16]string{
	0: "OFFSET_COMMIT", 1: "OFFSET_COMMIT", 2: "GROUP_METADATA",
	3: "CONSUMER_GROUP_METADATA", 4: "CONSUMER_GROUP_PARTITION_METADATA", 5: "CONSUMER_GROUP_MEMBER_METADATA",
	6: "CONSUMER_GROUP_TARGET_ASSIGNMENT_METADATA", 7: "CONSUMER_GROUP_TARGET_ASSIGNMENT_MEMBER", 8: "CONSUMER_GROUP_CURRENT_MEMBER_ASSIGNMENT",
	16: "CONSUMER_GROUP_REGULAR_EXPRESSION",
}

// groupLogEntry is a record of the group log as JSON shows it. Of records that
// are not decoded the bytes are shown.
type groupLogEntry struct {
	Key   groupLogKey    `json:"key"`
	Value *groupLogValue `json:"value"`
}

type groupLogKey struct {
	Type int16  `json:"type"`
	Name string `json:"name,omitempty"`
	Data any    `json:"data"`
}

type groupLogValue struct {
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

// decodeConsumers replaces the bytes of consumers' subscriptions and
// assignments by what they say, where that can be read.
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

// Which records a formatter of Kafka's shows.
const (
	offsetEntries = iota
	groupEntries
)

// decodeGroupLog decodes a record of the group log.
func decodeGroupLog(key, value []byte) (groupLogEntry, error) {
	var e groupLogEntry
	if len(key) < 2 {
		return e, errors.New("the key is too short for a record of the group log")
	}
	e.Key.Type = int16(binary.BigEndian.Uint16(key))
	e.Key.Name = groupLogTypes[e.Key.Type]
	if value != nil && len(value) < 2 {
		return e, errors.New("the value is too short for a record of the group log")
	}
	if value != nil {
		e.Value = &groupLogValue{Version: int16(binary.BigEndian.Uint16(value))}
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
			id := topicIDText(v.TopicID)
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
		// Their forms are the coordinator's own (KIP-848): the bytes after
		// the type or version.
		e.Key.Data = key[2:]
		if value != nil {
			e.Value.Data = value[2:]
		}
	}
	return e, nil
}

// groupLogJSON is what Kafka's formatters of __consumer_offsets write: nothing
// for records of the other kind.
func groupLogJSON(key, value []byte, want int) (string, error) {
	e, err := decodeGroupLog(key, value)
	if err != nil {
		return "", err
	}
	if offset := e.Key.Type <= 1; offset != (want == offsetEntries) || want == groupEntries && e.Key.Type != 2 {
		return "", nil
	}
	e.Key.Name = ""
	b, err := json.Marshal(e)
	return string(b), err
}
