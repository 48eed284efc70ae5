package broker

import (
	"context"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// DeleteTopics: v1-6
//
// The answer goes out when the topic is gone for good: its files are removed,
// and so are the offsets that groups committed for it. A topic that is named
// twice, by name or by id, is INVALID_REQUEST.
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
	names, ids := map[string]int{}, map[topicID]int{}
	for i := range req.Topics {
		rt := &req.Topics[i]
		switch {
		case rt.Topic != nil && rt.TopicID != topicID{}:
			// An error of its own.
		case rt.Topic != nil:
			names[*rt.Topic]++
			if t := b.topics.byName(*rt.Topic); t != nil {
				ids[t.id]++
			}
		default:
			ids[rt.TopicID]++
		}
	}
	for i := range req.Topics {
		rt := &req.Topics[i]
		if rt.Topic != nil && names[*rt.Topic] < 0 {
			continue
		}
		st := kmsg.NewDeleteTopicsResponseTopic()
		st.Topic, st.TopicID = rt.Topic, rt.TopicID
		t, err := b.topicToDelete(rt)
		switch {
		case rt.Topic != nil && names[*rt.Topic] > 1:
			names[*rt.Topic] = -1 // once in the answer
			err = apiErrorf(kerr.InvalidRequest, "topic %q is named more than once", *rt.Topic)
		case err == nil && ids[t.id] < 0:
			continue
		case err == nil && ids[t.id] > 1:
			ids[t.id] = -1 // once in the answer
			st.Topic, st.TopicID = &t.name, t.id
			err = apiErrorf(kerr.InvalidRequest, "the topic is named more than once, by name and by id")
		}
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
	case rt.TopicID == topicID{}:
		return nil, apiErrorf(kerr.InvalidRequest, "the topic has neither name nor id")
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
