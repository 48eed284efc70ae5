package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterClientQuotas: v0-1 (KIP-546)
//
// The broker does not throttle clients, so it does not take a quota that it
// would not enforce: to set one is UNSUPPORTED_VERSION with a message. To
// remove one succeeds, as nothing is there to be removed.
//
// Version notes: v1 flexible.

func handleAlterClientQuotas(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
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
		se.ErrorCode, se.ErrorMessage = codeOf(checkQuotaChange(re))
		resp.Entries = append(resp.Entries, se)
	}
	return resp, nil
}

func checkQuotaChange(re *kmsg.AlterClientQuotasRequestEntry) error {
	if len(re.Entity) == 0 {
		return apiErrorf(kerr.InvalidRequest, "Invalid empty client quota entity")
	}
	for _, e := range re.Entity {
		if e.Type != quotaUser && e.Type != quotaClient && e.Type != quotaIP {
			return apiErrorf(kerr.InvalidRequest, "Unhandled client quota entity type: %s", e.Type)
		}
	}
	for _, op := range re.Ops {
		if !op.Remove {
			return apiErrorf(kerr.UnsupportedVersion, "this broker has no client quotas: it does not throttle clients, so %s is not set", op.Key)
		}
	}
	return nil
}
