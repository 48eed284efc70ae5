package broker

import (
	"slices"
	"strings"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestNoAuthorizer: the ACL APIs answer each question with SECURITY_DISABLED,
// which programs take for a broker without ACLs, and nobody has credentials.
func TestNoAuthorizer(t *testing.T) {
	b := startBroker(t, nil)
	cl := client(t, b)

	describe := kmsg.NewPtrDescribeACLsRequest()
	describe.ResourceType, describe.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	describe.Operation, describe.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	described, err := describe.RequestWith(ctxOf(t), cl)
	if err != nil || described.ErrorCode != kerr.SecurityDisabled.Code || described.ErrorMessage == nil || len(described.Resources) != 0 {
		t.Errorf("DescribeAcls: %v, %+v", err, described)
	}

	create := kmsg.NewPtrCreateACLsRequest()
	c := kmsg.NewCreateACLsRequestCreation()
	c.ResourceType, c.ResourceName, c.ResourcePatternType = kmsg.ACLResourceTypeTopic, "t", kmsg.ACLResourcePatternTypeLiteral
	c.Principal, c.Host, c.Operation, c.PermissionType = "User:a", "*", kmsg.ACLOperationRead, kmsg.ACLPermissionTypeAllow
	create.Creations = append(create.Creations, c, c)
	created, err := create.RequestWith(ctxOf(t), cl)
	if err != nil || len(created.Results) != 2 {
		t.Fatalf("CreateAcls: %v, %+v", err, created)
	}
	for _, r := range created.Results {
		if r.ErrorCode != kerr.SecurityDisabled.Code {
			t.Errorf("CreateAcls: %+v", r)
		}
	}

	remove := kmsg.NewPtrDeleteACLsRequest()
	f := kmsg.NewDeleteACLsRequestFilter()
	f.ResourceType, f.ResourcePatternType = kmsg.ACLResourceTypeAny, kmsg.ACLResourcePatternTypeAny
	f.Operation, f.PermissionType = kmsg.ACLOperationAny, kmsg.ACLPermissionTypeAny
	remove.Filters = append(remove.Filters, f)
	removed, err := remove.RequestWith(ctxOf(t), cl)
	if err != nil || len(removed.Results) != 1 || removed.Results[0].ErrorCode != kerr.SecurityDisabled.Code {
		t.Errorf("DeleteAcls: %v, %+v", err, removed)
	}

	users := kmsg.NewPtrDescribeUserSCRAMCredentialsRequest()
	all, err := users.RequestWith(ctxOf(t), cl)
	if err != nil || all.ErrorCode != 0 || len(all.Results) != 0 {
		t.Errorf("DescribeUserScramCredentials: %v, %+v", err, all)
	}
	for _, n := range []string{"a", "b", "a"} {
		u := kmsg.NewDescribeUserSCRAMCredentialsRequestUser()
		u.Name = n
		users.Users = append(users.Users, u)
	}
	named, err := users.RequestWith(ctxOf(t), cl)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range named.Results {
		got = append(got, r.User+" "+kerr.ErrorForCode(r.ErrorCode).(*kerr.Error).Message)
	}
	if want := []string{"a DUPLICATE_RESOURCE", "b RESOURCE_NOT_FOUND"}; !slices.Equal(got, want) {
		t.Errorf("credentials of users: %s, want %s", strings.Join(got, ", "), strings.Join(want, ", "))
	}
}

// TestUnknownACLElement: an element UNKNOWN closes the connection, as in Apache Kafka.
func TestUnknownACLElement(t *testing.T) {
	b := startBroker(t, nil)
	describe, create, remove := kmsg.NewPtrDescribeACLsRequest(), kmsg.NewPtrCreateACLsRequest(), kmsg.NewPtrDeleteACLsRequest()
	create.Creations = append(create.Creations, kmsg.NewCreateACLsRequestCreation())
	remove.Filters = append(remove.Filters, kmsg.NewDeleteACLsRequestFilter())
	for _, req := range []kmsg.Request{describe, create, remove} {
		if resp, err := client(t, b, kgo.RequestRetries(0)).Request(ctxOf(t), req); err == nil {
			t.Errorf("%s is answered: %+v", kmsg.NameForKey(req.Key()), resp)
		}
	}
}
