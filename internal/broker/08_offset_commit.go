package broker

import (
	"context"
	"time"

	"github.com/sluice-data/sluice/internal/broker/group"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// OffsetCommit: v2-10
//
// Rules:
//   - The answer goes out after the offsets are in the group log, and when
//     that log syncs, after the sync. When they cannot be written, as on a full
//     disk, it is COORDINATOR_NOT_AVAILABLE, on which clients try again.
//   - A group that does not exist is made by a commit without a generation
//     (admin clients, consumers that assign their partitions themselves); with
//     one the answer is GROUP_ID_NOT_FOUND, below v9 ILLEGAL_GENERATION.
//   - In a consumer group (KIP-848) the generation is the member's epoch. A
//     wrong one is STALE_MEMBER_EPOCH, but an older one is taken if the member had
//     all partitions of the request then and still has them (KIP-1251). A client
//     below v9 gets UNSUPPORTED_VERSION.
//   - An offset for a partition that does not exist is
//     UNKNOWN_TOPIC_OR_PARTITION; metadata above 4096 bytes is
//     OFFSET_METADATA_TOO_LARGE. The others of the request stand.
//   - Any offset is stored, as in Apache Kafka: kafkajs commits -2 and -1 for the
//     start and the end of a partition.
//   - When the groups take as much memory as they may, an offset for a partition
//     that has none yet is POLICY_VIOLATION.
//   - The retention time of versions 2 to 4 is not looked at, as in Apache
//     Kafka since 2.1: one rule holds for all (KIP-211).
//
// Version notes: v6 leader epochs; v7 static members; v8 flexible; v9 member
// epochs (KIP-848); v10 topic ids.

// maxOffsetMetadata is Kafka's offset.metadata.max.bytes.
const maxOffsetMetadata = 4096

func startOffsetCommit(ctx context.Context, b *Broker, r *request) (outcome, error) {
	kreq, err := b.decoder.decode(r)
	if err != nil {
		return outcome{}, err
	}
	req := kreq.(*kmsg.OffsetCommitRequest)
	resp := req.ResponseKind().(*kmsg.OffsetCommitResponse)
	now := time.Now()

	code, e := b.commitGroup(req, now)
	offsets := map[group.TopicPartition]group.Offset{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		st := kmsg.NewOffsetCommitResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		var t *topic
		missing := kerr.UnknownTopicOrPartition.Code
		if t = b.commitTopic(req, rt); req.Version >= 10 {
			missing = kerr.UnknownTopicID.Code
		}
		for j := range rt.Partitions {
			rp := &rt.Partitions[j]
			sp := kmsg.NewOffsetCommitResponseTopicPartition()
			sp.Partition = rp.Partition
			switch {
			case code != 0:
				sp.ErrorCode = code
			case t == nil:
				sp.ErrorCode = missing
			case t.part(rp.Partition) == nil:
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			case rp.Metadata != nil && len(*rp.Metadata) > maxOffsetMetadata:
				sp.ErrorCode = kerr.OffsetMetadataTooLarge.Code
			case b.groups.full(!e.has(t.name, rp.Partition), r):
				sp.ErrorCode = kerr.PolicyViolation.Code
			default:
				o := group.Offset{Offset: rp.Offset, LeaderEpoch: -1, Committed: now, TopicID: t.id}
				if req.Version >= 6 {
					o.LeaderEpoch = rp.LeaderEpoch
				}
				if rp.Metadata != nil {
					o.Metadata = *rp.Metadata
				}
				offsets[group.TopicPartition{Topic: t.name, Partition: rp.Partition}] = o
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	if e == nil {
		return outcome{resp: resp}, nil
	}
	failAll := func(err error) {
		if b.groups.uncommitted.allow() { // clients try again at once, and a full disk is no place for their number
			b.logger.Error("offsets could not be committed; clients try again", "group", req.Group, "err", err)
		}
		for i := range resp.Topics {
			for j := range resp.Topics[i].Partitions {
				if sp := &resp.Topics[i].Partitions[j]; sp.ErrorCode == 0 {
					sp.ErrorCode = kerr.CoordinatorNotAvailable.Code
				}
			}
		}
	}
	pending, err := b.groups.commit(ctx, e, now, offsets)
	b.groups.settle(e)
	if err != nil {
		failAll(err)
		return outcome{resp: resp}, nil
	}
	return outcome{later: func(ctx context.Context) (outcome, error) {
		if err := pending.Wait(ctx); err != nil {
			failAll(err)
		}
		return outcome{resp: resp}, nil
	}}, nil
}

// has reports whether a locked group has an offset of a partition.
func (e *groupEntry) has(topic string, p int32) bool {
	_, ok := e.g.Offset(group.TopicPartition{Topic: topic, Partition: p})
	return ok
}

func (b *Broker) commitTopic(req *kmsg.OffsetCommitRequest, rt *kmsg.OffsetCommitRequestTopic) *topic {
	if req.Version >= 10 {
		return b.topics.byID(rt.TopicID)
	}
	return b.topics.byName(rt.Topic)
}

// commitGroup returns the group of a commit locked, or the error code.
func (b *Broker) commitGroup(req *kmsg.OffsetCommitRequest, now time.Time) (code int16, e *groupEntry) {
	if req.Group == "" && req.Generation >= 0 {
		return kerr.InvalidGroupID.Code, nil
	}
	e, err := b.groups.entry(req.Group, req.Generation < 0)
	if err != nil {
		code, _ := codeOf(err)
		return code, nil
	}
	if e == nil {
		if req.Version >= 9 {
			return kerr.GroupIDNotFound.Code, nil
		}
		return kerr.IllegalGeneration.Code, nil
	}
	code, each := e.g.CheckCommit(now, group.CommitRequest{
		MemberID: req.MemberID, InstanceID: req.InstanceID, Generation: req.Generation, OldClient: req.Version < 9,
	})
	for i := 0; each != nil && code == 0 && i < len(req.Topics); i++ {
		rt := &req.Topics[i]
		t := b.commitTopic(req, rt)
		for j := 0; t != nil && code == 0 && j < len(rt.Partitions); j++ {
			code = each(t.id, rt.Partitions[j].Partition)
		}
	}
	if code != 0 {
		b.groups.settle(e)
		return code, nil
	}
	return 0, e
}
