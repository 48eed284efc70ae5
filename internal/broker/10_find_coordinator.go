package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// FindCoordinator: v0-6
//
// The coordinator of every group is this broker. Transaction coordinators
// (type 1) and share coordinators (type 2) do not exist here: the answer is
// INVALID_REQUEST, which ends the client's attempt with our message, where a
// retriable code would have it ask for ever. As in Apache Kafka the topic of
// the groups' log is there when somebody has asked for a group's coordinator.
//
// Version notes: v1 coordinator types; v3 flexible; v4 several keys (KIP-699).

func handleFindCoordinator(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.FindCoordinatorRequest)
	resp := req.ResponseKind().(*kmsg.FindCoordinatorResponse)
	keys := req.CoordinatorKeys
	if req.Version <= 3 {
		keys = []string{req.CoordinatorKey}
	}
	host, port := r.conn.advertised()
	success := "" // Apache Kafka's messages without an error
	if req.Version <= 3 {
		success = "NONE"
	}
	for _, key := range keys {
		sc := kmsg.NewFindCoordinatorResponseCoordinator()
		sc.Key, sc.NodeID, sc.Host, sc.Port = key, b.cfg.NodeID, host, port
		sc.ErrorMessage = &success
		fail := func(e *kerr.Error, msg string) {
			sc.ErrorCode, sc.ErrorMessage = e.Code, &msg
			sc.NodeID, sc.Host, sc.Port = -1, "", -1
		}
		switch {
		case req.CoordinatorType == 1:
			fail(kerr.InvalidRequest, "this broker has no transactions: produce without a transactional id")
		case req.CoordinatorType != 0:
			fail(kerr.InvalidRequest, "this broker coordinates consumer groups only")
		case b.groups.offline != nil:
			fail(kerr.CoordinatorNotAvailable, "the group log is damaged: see the broker's log")
		case b.isStopping():
			fail(kerr.CoordinatorNotAvailable, "the broker is stopping")
		default:
			if err := b.groups.ensureLog(); err != nil {
				fail(kerr.CoordinatorNotAvailable, err.Error())
			}
		}
		resp.Coordinators = append(resp.Coordinators, sc)
	}
	if req.Version <= 3 {
		sc := &resp.Coordinators[0]
		resp.ErrorCode, resp.ErrorMessage = sc.ErrorCode, sc.ErrorMessage
		resp.NodeID, resp.Host, resp.Port = sc.NodeID, sc.Host, sc.Port
	}
	return resp, nil
}
