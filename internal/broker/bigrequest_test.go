package broker

import (
	"strings"
	"testing"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestBigShapes holds the shapes to what kmsg writes.
func TestBigShapes(t *testing.T) {
	text := "x"
	filled := map[int16]func() kmsg.Request{
		3: func() kmsg.Request {
			r := kmsg.NewPtrMetadataRequest()
			mt := kmsg.NewMetadataRequestTopic()
			mt.Topic = &text
			r.Topics = append(r.Topics, mt, mt)
			return r
		},
		8: func() kmsg.Request {
			r := kmsg.NewPtrOffsetCommitRequest()
			r.Group, r.MemberID, r.InstanceID = "g", "m", &text
			rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
			rp.Metadata = &text
			rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp, rp)
			r.Topics = append(r.Topics, rt, rt)
			return r
		},
		19: func() kmsg.Request {
			r := kmsg.NewPtrCreateTopicsRequest()
			rt, ra, rc := kmsg.NewCreateTopicsRequestTopic(), kmsg.NewCreateTopicsRequestTopicReplicaAssignment(), kmsg.NewCreateTopicsRequestTopicConfig()
			ra.Replicas, rc.Name, rc.Value = []int32{1, 2}, "n", &text
			rt.Topic, rt.ReplicaAssignment, rt.Configs = "t", append(rt.ReplicaAssignment, ra, ra), append(rt.Configs, rc, rc)
			r.Topics = append(r.Topics, rt, rt)
			return r
		},
		44: func() kmsg.Request {
			r := kmsg.NewPtrIncrementalAlterConfigsRequest()
			rr, rc := kmsg.NewIncrementalAlterConfigsRequestResource(), kmsg.NewIncrementalAlterConfigsRequestResourceConfig()
			rc.Name, rc.Value = "n", &text
			rr.ResourceName, rr.Configs = "t", append(rr.Configs, rc, rc)
			r.Resources = append(r.Resources, rr, rr)
			return r
		},
	}
	for _, a := range apis() {
		make, ok := filled[a.key]
		if ok != (bigShape(a.key, a.max) != "") {
			t.Errorf("key %d has a shape and no test, or the other way round", a.key)
		}
		if !ok {
			continue
		}
		for v := a.min; v <= a.max; v++ {
			r := make()
			r.SetVersion(v)
			body := r.AppendTo(nil)
			if !wire.CheckShape(body, bigShape(a.key, v), r.IsFlexible()) {
				t.Errorf("%s version %d is not of its shape %s: %x", kmsg.NameForKey(a.key), v, bigShape(a.key, v), body)
			}
			if wire.CheckShape(body[:len(body)-1], bigShape(a.key, v), r.IsFlexible()) {
				t.Errorf("%s version %d: a part of it is taken for the whole", kmsg.NameForKey(a.key), v)
			}
		}
	}
}

// TestBigRequestsAreServed: an OffsetCommit of thousands of partitions with
// metadata is above what other requests may have.
func TestBigRequestsAreServed(t *testing.T) {
	b := startBroker(t, nil)
	meta := strings.Repeat("m", 4000)
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.Generation = 8, "g", -1
	rt := kmsg.NewOffsetCommitRequestTopic()
	rt.Topic = "t"
	for i := range 2000 { // 8 MB
		rp := kmsg.NewOffsetCommitRequestTopicPartition()
		rp.Partition, rp.Metadata = int32(i), &meta
		rt.Partitions = append(rt.Partitions, rp)
	}
	req.Topics = append(req.Topics, rt)
	c := rawDial(t, b)
	c.send(1, req)
	_, body := c.receive()
	resp := kmsg.NewPtrOffsetCommitResponse()
	resp.Version = 8
	if err := resp.ReadFrom(body[1:]); err != nil {
		t.Fatal(err)
	}
	if n := len(resp.Topics[0].Partitions); n != 2000 {
		t.Errorf("%d partitions are answered", n)
	}
	lie := frame(8, 8, 1, true, append([]byte{2, 'g', 0, 0, 0, 0, 1, 0, 0xff, 0xff, 0xff, 0xff, 7}, make([]byte, 5<<20)...))
	c = rawDial(t, b)
	c.Write(lie)
	c.closed()
}
