package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics: v0-6
//
// The answer goes out when the topic is gone for good: its files are removed,
// and so are the offsets that groups committed for it.
//
// Version notes: v4 flexible; v5 messages; v6 by topic id.

func handleDeleteTopics(ctx context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DeleteTopicsRequest)
	resp := req.ResponseKind().(*kmsg.DeleteTopicsResponse)
	if req.Version <= 5 {
		for i := range req.TopicNames {
			rt := kmsg.NewDeleteTopicsRequestTopic()
			rt.Topic = &req.TopicNames[i]
			req.Topics = append(req.Topics, rt)
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		st := kmsg.NewDeleteTopicsResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		t, err := b.topicToDelete(rt)
		if err == nil {
			st.Topic, st.TopicID = &t.name, t.id
			if err = b.topics.remove(ctx, t); err == nil {
				b.groups.forgetTopic(ctx, t.name)
			}
		}
		st.ErrorCode, st.ErrorMessage = codeOf(err)
		if st.Topic == nil && req.Version < 6 {
			st.Topic = new(string)
		}
		resp.Topics = append(resp.Topics, st)
	}
	return resp, nil
}

func (b *Broker) topicToDelete(rt *kmsg.DeleteTopicsRequestTopic) (*topic, error) {
	var t *topic
	switch {
	case b.cfg.DisableDelete:
		return nil, apiErrorf(kerr.TopicDeletionDisabled, "delete.topic.enable is false")
	case rt.Topic != nil && rt.TopicID != topicID{}:
		return nil, apiErrorf(kerr.InvalidRequest, "name the topic either by name or by id")
	case rt.Topic != nil:
		if t = b.topics.byName(*rt.Topic); t == nil {
			return nil, apiErrorf(kerr.UnknownTopicOrPartition, "topic %q does not exist", *rt.Topic)
		}
	default:
		if t = b.topics.byID(rt.TopicID); t == nil {
			return nil, apiErrorf(kerr.UnknownTopicID, "there is no topic with this id")
		}
	}
	if t.internal {
		return nil, apiErrorf(kerr.InvalidTopicException, "topic %q is the broker's own", t.name)
	}
	return t, nil
}
