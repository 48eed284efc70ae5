package broker

import (
	"context"
	"regexp"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// ApiVersions: v0-4
//
// A version that we do not know is answered in version 0 with
// UNSUPPORTED_VERSION and our range, so that the client can ask again
// (KIP-511). From version 3 the client says its name and version, which must
// look like one, and is told the features in force (KIP-584, see features.go).

var softwareName = regexp.MustCompile(`^[a-zA-Z0-9](?:[a-zA-Z0-9\-.]*[a-zA-Z0-9])?$`)

func handleAPIVersions(_ context.Context, b *Broker, r *request, kreq kmsg.Request) (kmsg.Response, error) {
	resp := kreq.ResponseKind().(*kmsg.ApiVersionsResponse)
	req := kreq.(*kmsg.ApiVersionsRequest)
	if req.Version >= 3 && (!softwareName.MatchString(req.ClientSoftwareName) || !softwareName.MatchString(req.ClientSoftwareVersion)) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	}
	resp.ApiKeys = versionRanges()
	b.announceFeatures(resp)
	return resp, nil
}

// unsupportedAPIVersions answers an ApiVersions request of an unknown version,
// as Apache Kafka does with the range of this one API.
func unsupportedAPIVersions(a *api) kmsg.Response {
	resp := kmsg.NewPtrApiVersionsResponse()
	resp.Version = 0
	resp.ErrorCode = kerr.UnsupportedVersion.Code
	k := kmsg.NewApiVersionsResponseApiKey()
	k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.min, a.max
	resp.ApiKeys = append(resp.ApiKeys, k)
	return resp
}

func versionRanges() []kmsg.ApiVersionsResponseApiKey {
	var ks []kmsg.ApiVersionsResponseApiKey
	for _, a := range apis() {
		k := kmsg.NewApiVersionsResponseApiKey()
		k.ApiKey, k.MinVersion, k.MaxVersion = a.key, a.shownMin(), a.max
		ks = append(ks, k)
	}
	return ks
}
