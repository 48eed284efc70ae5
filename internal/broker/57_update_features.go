package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// UpdateFeatures: v0-2 (KIP-584)
//
// The features (features.go) are at their highest level and stay there: to
// set one to the level that it has succeeds, anything else is
// INVALID_UPDATE_VERSION. One error fails all.
//
// Version notes: v1 type of upgrade, dry run; v2 no results for each feature.

func handleUpdateFeatures(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.UpdateFeaturesRequest)
	resp := req.ResponseKind().(*kmsg.UpdateFeaturesResponse)
	for _, u := range req.FeatureUpdates {
		if err := b.checkFeature(u.Feature, u.MaxVersionLevel); err != nil {
			resp.ErrorCode, resp.ErrorMessage = codeOf(err)
			resp.Results = nil
			return resp, nil
		}
		if req.Version < 2 {
			none := "NONE" // Apache Kafka's message for success
			sr := kmsg.NewUpdateFeaturesResponseResult()
			sr.Feature, sr.ErrorMessage = u.Feature, &none
			resp.Results = append(resp.Results, sr)
		}
	}
	return resp, nil
}

func (b *Broker) checkFeature(name string, level int16) error {
	for _, f := range b.features() {
		switch {
		case f.name != name:
			continue
		case level > f.max:
			return apiErrorf(kerr.InvalidUpdateVersion, "feature %s: the highest level is %d, not %d", name, f.max, level)
		case level != f.level:
			return apiErrorf(kerr.InvalidUpdateVersion, "feature %s is at level %d and cannot be changed to %d: this broker's features belong to its version", name, f.level, level)
		}
		return nil
	}
	return apiErrorf(kerr.InvalidUpdateVersion, "this broker does not have the feature %s", name)
}
