package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// LeaveTime is the time for what is to be told the brokers at the end: offsets, and that a member leaves its group.
const LeaveTime = 3 * time.Second

// Leave makes a consumer leave its group, so that the other members need not
// wait for the session to time out, and closes the client. end ends the
// context that the client was made with.
func Leave(cl *kgo.Client, group string, log *slog.Logger, end func()) {
	cl.AllowRebalance()
	ctx, cancel := context.WithTimeout(context.Background(), LeaveTime)
	defer cancel()
	if err := cl.LeaveGroupContext(ctx); err != nil {
		log.Warn("leaving the consumer group failed: its members wait until the session times out", "group", group, "error", err)
	}
	end() // or closing would wait for a broker that is silent
	cl.CloseAllowingRebalance()
	// Once more: when no broker answers, closing leaves a goroutine of the
	// client behind that waits for this (TestBrokerRestarts of the source sees it).
	cl.AllowRebalance()
}

// CommitError is the outcome of a commit of offsets, as the client reports it:
// the error of the first partition, if there is no other.
func CommitError(resp *kmsg.OffsetCommitResponse, err error) error {
	if err != nil || resp == nil {
		return err
	}
	for _, t := range resp.Topics {
		for _, p := range t.Partitions {
			if err := kerr.ErrorForCode(p.ErrorCode); err != nil {
				return fmt.Errorf("topic %s, partition %d: %w", t.Topic, p.Partition, err)
			}
		}
	}
	return nil
}

// ExplainFetch says what an operator can do about an error of reading.
func ExplainFetch(topic string, partition int32, err error) error {
	var loss *kgo.ErrDataLoss
	switch {
	case errors.As(err, &loss):
		return fmt.Errorf("records are gone from the topic before they were read (its retention is too short, or a broker lost them): %w", err)
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		return fmt.Errorf("this user may not read topic %s: allow it on the broker: %w", topic, err)
	case errors.Is(err, kerr.GroupAuthorizationFailed):
		return fmt.Errorf("this user may not use the consumer group: allow it on the broker: %w", err)
	case errors.Is(err, kerr.OffsetOutOfRange):
		return fmt.Errorf("topic %s, partition %d: the group has no valid offset, and kafka.consumer.auto.offset.reset is none: %w", topic, partition, err)
	case errors.Is(err, kerr.InconsistentGroupProtocol):
		return fmt.Errorf("the other members of the group assign partitions in another way: see kafka.consumer.partition.assignment.strategy: %w", err)
	case topic == "":
		return err
	}
	if broker := (*kerr.Error)(nil); !errors.As(err, &broker) || errors.Is(err, kerr.CorruptMessage) {
		return fmt.Errorf("topic %s, partition %d: a batch cannot be read, and what comes after it waits: repair the partition on the broker, or set the group's offset to behind the batch: %w", topic, partition, err)
	}
	return fmt.Errorf("topic %s, partition %d: %w", topic, partition, err)
}

// maxNames bounds the header names that are kept: they come from records.
const maxNames = 10000

// Names holds each name of a header once. It is not safe for concurrent use.
type Names struct{ m map[string]string }

// Intern returns b as a string.
func (n *Names) Intern(b []byte) string {
	if s, ok := n.m[string(b)]; ok {
		return s
	}
	if n.m == nil || len(n.m) >= maxNames {
		n.m = make(map[string]string)
	}
	s := string(b)
	n.m[s] = s
	return s
}

// Sleep waits for d, or until ctx ends.
func Sleep(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}
