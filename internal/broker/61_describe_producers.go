package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeProducers: v0 (KIP-664)
//
// Lists the idempotent producers that a partition knows, from its producer
// state. There are no transactions, so no coordinator epoch and no open
// transaction's start.

func handleDescribeProducers(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeProducersRequest)
	resp := req.ResponseKind().(*kmsg.DescribeProducersResponse)
	for _, rt := range req.Topics {
		st := kmsg.NewDescribeProducersResponseTopic()
		st.Topic = rt.Topic
		t := b.topics.byName(rt.Topic)
		for _, p := range rt.Partitions {
			sp := kmsg.NewDescribeProducersResponseTopicPartition()
			sp.Partition = p
			if t == nil {
				err := apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", rt.Topic)
				if nerr := checkTopicName(rt.Topic); nerr != nil {
					err = apiErrorf(kerr.InvalidTopicException, "%v", nerr)
				}
				sp.ErrorCode, sp.ErrorMessage = codeOf(err)
			} else if part := t.part(p); part == nil {
				sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			} else {
				for _, pr := range part.Producers() {
					sa := kmsg.NewDescribeProducersResponseTopicPartitionActiveProducer()
					sa.ProducerID, sa.ProducerEpoch, sa.LastSequence, sa.LastTimestamp = pr.ID, int32(pr.Epoch), pr.LastSequence, pr.LastTimestamp
					sa.CoordinatorEpoch, sa.CurrentTxnStartOffset = -1, -1
					sp.ActiveProducers = append(sp.ActiveProducers, sa)
				}
			}
			st.Partitions = append(st.Partitions, sp)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}
