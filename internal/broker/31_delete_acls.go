package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteAcls: v1-3
//
// There is no authorizer: each filter is SECURITY_DISABLED, see
// 29_describe_acls.go.
//
// Version notes: v2 flexible; v3 resource type user.

func handleDeleteACLs(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DeleteACLsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteACLsResponse)
	code, msg := codeOf(apiErrorf(kerr.SecurityDisabled, noAuthorizer))
	for _, f := range req.Filters {
		if hasUnknownACLElement(f.ResourceType, f.ResourcePatternType, f.Operation, f.PermissionType) {
			return nil, unknownACLElement("DeleteAcls")
		}
		sr := kmsg.NewDeleteACLsResponseResult()
		sr.ErrorCode, sr.ErrorMessage = code, msg
		resp.Results = append(resp.Results, sr)
	}
	return resp, nil
}
