package broker

import (
	"context"
	"fmt"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeAcls: v1-3
//
// There is no authorizer, which is told as by an Apache Kafka without one:
// SECURITY_DISABLED. MirrorMaker and the like go on without ACLs then, and
// stop at any other error. As there, a filter with an element UNKNOWN closes
// the connection.
//
// Version notes: v2 flexible; v3 resource type user.

const noAuthorizer = "There is no authorizer, so there are no ACLs."

func handleDescribeACLs(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeACLsRequest)
	if hasUnknownACLElement(req.ResourceType, req.ResourcePatternType, req.Operation, req.PermissionType) {
		return nil, unknownACLElement("DescribeAcls")
	}
	resp := req.ResponseKind().(*kmsg.DescribeACLsResponse)
	resp.ErrorCode, resp.ErrorMessage = codeOf(apiErrorf(kerr.SecurityDisabled, noAuthorizer))
	return resp, nil
}

// hasUnknownACLElement answers whether a type, pattern, operation or permission
// is 0, UNKNOWN. Codes that nobody knows are let pass, as by Apache Kafka.
func hasUnknownACLElement(r kmsg.ACLResourceType, p kmsg.ACLResourcePatternType, o kmsg.ACLOperation, a kmsg.ACLPermissionType) bool {
	return r == kmsg.ACLResourceTypeUnknown || p == kmsg.ACLResourcePatternTypeUnknown || o == kmsg.ACLOperationUnknown || a == kmsg.ACLPermissionTypeUnknown
}

func unknownACLElement(api string) error {
	return fmt.Errorf("%w: %s has an element UNKNOWN", wire.ErrMalformed, api)
}
