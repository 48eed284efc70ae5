package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// CreateAcls: v1-3
//
// There is no authorizer: each creation is SECURITY_DISABLED, see
// 29_describe_acls.go.
//
// Version notes: v2 flexible; v3 resource type user.

func handleCreateACLs(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.CreateACLsRequest)
	resp := req.ResponseKind().(*kmsg.CreateACLsResponse)
	code, msg := codeOf(apiErrorf(kerr.SecurityDisabled, noAuthorizer))
	for _, c := range req.Creations {
		if hasUnknownACLElement(c.ResourceType, c.ResourcePatternType, c.Operation, c.PermissionType) {
			return nil, unknownACLElement("CreateAcls")
		}
		sr := kmsg.NewCreateACLsResponseResult()
		sr.ErrorCode, sr.ErrorMessage = code, msg
		resp.Results = append(resp.Results, sr)
	}
	return resp, nil
}
