package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeUserScramCredentials: v0 (KIP-554)
//
// Nobody has credentials: a user that is named is RESOURCE_NOT_FOUND, one that
// is named more than once DUPLICATE_RESOURCE, once. kafka-configs asks this
// when it shows the quotas of users. An empty list of users means all, as null
// does.

func handleDescribeUserSCRAMCredentials(_ context.Context, _ *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeUserSCRAMCredentialsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeUserSCRAMCredentialsResponse)
	resp.ErrorMessage = new(string)
	times := map[string]int{}
	for _, u := range req.Users {
		times[u.Name]++
	}
	for _, u := range req.Users {
		n := times[u.Name]
		if n == 0 {
			continue
		}
		delete(times, u.Name)
		err := apiErrorf(kerr.ResourceNotFound, "Attempt to describe a user credential that does not exist: %s", u.Name)
		if n > 1 {
			err = apiErrorf(kerr.DuplicateResource, "Cannot describe SCRAM credentials for the same user twice in a single request: %s", u.Name)
		}
		sr := kmsg.NewDescribeUserSCRAMCredentialsResponseResult()
		sr.User = u.Name
		sr.ErrorCode, sr.ErrorMessage = codeOf(err)
		resp.Results = append(resp.Results, sr)
	}
	return resp, nil
}
