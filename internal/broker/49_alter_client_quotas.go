package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterClientQuotas: v0-1 (KIP-546)
//
// producer_byte_rate and consumer_byte_rate are enforced, see clientquotas.go.
// The broker does not take a quota that it would not enforce: to set another
// of Kafka's is UNSUPPORTED_VERSION with a message. To remove one succeeds, as
// nothing is there to be removed.
//
// Version notes: v1 flexible.

func handleAlterClientQuotas(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.AlterClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.AlterClientQuotasResponse)
	for i := range req.Entries {
		re := &req.Entries[i]
		se := kmsg.NewAlterClientQuotasResponseEntry()
		for _, e := range re.Entity {
			ee := kmsg.NewAlterClientQuotasResponseEntryEntity()
			ee.Type, ee.Name = e.Type, e.Name
			se.Entity = append(se.Entity, ee)
		}
		se.ErrorCode, se.ErrorMessage = codeOf(b.quotas.alter(re, req.ValidateOnly))
		resp.Entries = append(resp.Entries, se)
	}
	return resp, nil
}
