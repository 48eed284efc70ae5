package kafkaclient

import (
	"errors"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

func TestExplainFetch(t *testing.T) {
	for _, tt := range []struct {
		err  error
		want string
	}{
		{&kgo.ErrDataLoss{Topic: "t"}, "retention"},
		{kerr.TopicAuthorizationFailed, "may not read topic t"},
		{kerr.GroupAuthorizationFailed, "may not use the consumer group"},
		{kerr.OffsetOutOfRange, "auto.offset.reset is none"},
		{kerr.InconsistentGroupProtocol, "partition.assignment.strategy"},
		{kerr.CorruptMessage, "topic t, partition 3: a batch cannot be read"},
		{errors.New("boom"), "set the group's offset to behind the batch: boom"},
		{kerr.KafkaStorageError, "topic t, partition 3: KAFKA_STORAGE_ERROR"},
	} {
		if got := ExplainFetch("t", 3, tt.err); !errors.Is(got, tt.err) || !strings.Contains(got.Error(), tt.want) {
			t.Errorf("%v: %v", tt.err, got)
		}
	}
}

func TestCommitError(t *testing.T) {
	if err := CommitError(nil, nil); err != nil {
		t.Error(err)
	}
	if err := CommitError(nil, kgo.ErrClientClosed); !errors.Is(err, kgo.ErrClientClosed) {
		t.Error(err)
	}
	p := kmsg.NewOffsetCommitResponseTopicPartition()
	topic := kmsg.NewOffsetCommitResponseTopic()
	topic.Topic, topic.Partitions = "t", append(topic.Partitions, p)
	p.Partition, p.ErrorCode = 3, kerr.IllegalGeneration.Code
	topic.Partitions = append(topic.Partitions, p)
	err := CommitError(&kmsg.OffsetCommitResponse{Topics: []kmsg.OffsetCommitResponseTopic{topic}}, nil)
	if !errors.Is(err, kerr.IllegalGeneration) || !strings.Contains(err.Error(), "topic t, partition 3") {
		t.Error(err)
	}
}

func TestNames(t *testing.T) {
	var n Names
	for range 2 {
		for i := range maxNames + 1 {
			b := []byte{byte(i), byte(i >> 8), byte(i >> 16)}
			if got := n.Intern(b); got != string(b) {
				t.Fatalf("%q for %q", got, b)
			}
		}
	}
	if len(n.m) > maxNames {
		t.Errorf("%d names are held", len(n.m))
	}
}
