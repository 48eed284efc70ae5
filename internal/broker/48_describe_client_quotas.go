package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeClientQuotas: v0-1 (KIP-546)
//
// See clientquotas.go. A filter that makes no sense is refused as by Apache
// Kafka.
//
// Version notes: v1 flexible.

func handleDescribeClientQuotas(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeClientQuotasRequest)
	resp := req.ResponseKind().(*kmsg.DescribeClientQuotasResponse)
	if err := checkQuotaFilter(req.Components); err != nil {
		resp.ErrorCode, resp.ErrorMessage = codeOf(err)
		return resp, nil
	}
	resp.ErrorMessage, resp.Entries = new(string), b.quotas.describe(req)
	return resp, nil
}

func checkQuotaFilter(components []kmsg.DescribeClientQuotasRequestComponent) error {
	seen := map[string]bool{}
	for _, c := range components {
		switch {
		case c.EntityType == "":
			return apiErrorf(kerr.InvalidRequest, "Invalid empty entity type.")
		case seen[c.EntityType]:
			return apiErrorf(kerr.InvalidRequest, "Entity type %s cannot appear more than once in the filter.", c.EntityType)
		case c.EntityType != quotaUser && c.EntityType != quotaClient && c.EntityType != quotaIP:
			return apiErrorf(kerr.UnsupportedVersion, "Unsupported entity type %s", c.EntityType)
		}
		seen[c.EntityType] = true
		switch c.MatchType {
		case kmsg.QuotasMatchTypeExact:
			if c.Match == nil {
				return apiErrorf(kerr.InvalidRequest, "an exact match needs a name")
			}
		case kmsg.QuotasMatchTypeDefault, kmsg.QuotasMatchTypeAny:
			if c.Match != nil {
				return apiErrorf(kerr.InvalidRequest, "only an exact match has a name")
			}
		default:
			return apiErrorf(kerr.InvalidRequest, "Unknown match type %d", c.MatchType)
		}
	}
	if seen[quotaIP] && (seen[quotaUser] || seen[quotaClient]) {
		return apiErrorf(kerr.InvalidRequest, "an ip filter cannot be combined with one of user or client-id")
	}
	return nil
}
