package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// ListPartitionReassignments: v0 (KIP-455)
//
// Lists the reassignments under way. With one broker there are none, whatever
// topics are named; ones that do not exist are no error, as in Apache Kafka.

func handleListPartitionReassignments(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	return kreq.ResponseKind(), nil
}
