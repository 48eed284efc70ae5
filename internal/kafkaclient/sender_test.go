package kafkaclient

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/kafkaconf"
)

// plain sends bodies to a topic, and counts what it was told.
type plain struct{ resets, forgets int }

func (p *plain) Encode(r *kgo.Record, e *event.Event, _ *kgo.Record, _ *event.Event) error {
	if len(e.Body) == 0 {
		return component.Permanent(errors.New("no body"))
	}
	r.Topic, r.Value = "t", e.Body
	return nil
}
func (p *plain) Reset()  { p.resets++ }
func (p *plain) Forget() { p.forgets++ }

func newSender(t *testing.T, addr string, enc Encoder, acked func(*kgo.Record)) *Sender {
	t.Helper()
	producer := new(kafkaconf.Producer)
	producer.Fields("kafka.producer.") // the defaults
	env := component.Env{Agent: "a", Name: "c", Log: slog.New(slog.DiscardHandler)}
	opts, err := producer.Options(kafkaconf.Env{Component: env, Servers: []string{addr}})
	if err != nil {
		t.Fatal(err)
	}
	s, err := NewSender(SenderConfig{Producer: producer, Options: opts, Encoder: enc, Log: env.Log, Acked: acked})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return s
}

func cluster(t *testing.T) (*kfake.Cluster, string) {
	t.Helper()
	c, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c, c.ListenAddrs()[0]
}

func events(bodies ...string) (evs []event.Event) {
	for _, b := range bodies {
		evs = append(evs, event.Event{Body: []byte(b)})
	}
	return evs
}

func TestSend(t *testing.T) {
	_, addr := cluster(t)
	enc := new(plain)
	var offsets []int64
	s := newSender(t, addr, enc, func(r *kgo.Record) { offsets = append(offsets, r.Offset) })
	failed, err := s.Send(context.Background(), events("a", "", "b"))
	if err != nil || len(failed) != 1 || !component.IsPermanent(failed[1]) {
		t.Fatalf("%v, %v", failed, err)
	}
	if fmt.Sprint(offsets) != "[0 1]" {
		t.Errorf("acknowledged at %v", offsets)
	}
	if enc.resets != 1 || enc.forgets != 1 {
		t.Errorf("reset %d times, forgotten %d times", enc.resets, enc.forgets)
	}
	for i := range s.recs {
		if s.recs[i].Value != nil {
			t.Error("the sender still holds an event's bytes")
		}
	}
}

// A batch that was left in the middle leaves nothing behind either, and the next one goes.
func TestSendLeft(t *testing.T) {
	c, addr := cluster(t)
	s := newSender(t, addr, new(plain), nil)
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cancel()
		return nil, nil, true // no answer ever comes
	})
	failed, err := s.Send(ctx, events("a", "b"))
	if err != nil || len(failed) != 2 {
		t.Fatalf("%v, %v", failed, err)
	}
	if s.recs[0].Value != nil {
		t.Error("the sender still holds an event's bytes")
	}
	if failed, err := s.Send(context.Background(), events("c")); err != nil || len(failed) != 0 {
		t.Errorf("%v, %v", failed, err)
	}
}

// Once a broker found a batch too large, those that follow are made smaller.
func TestSmallerBatches(t *testing.T) {
	c, addr := cluster(t)
	var refused atomic.Int32
	c.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		c.KeepControl()
		r := req.(*kmsg.ProduceRequest)
		if len(r.Topics[0].Partitions[0].Records) <= 2*minSmall {
			return nil, nil, false
		}
		refused.Add(1)
		resp := r.ResponseKind().(*kmsg.ProduceResponse)
		st := kmsg.NewProduceResponseTopic()
		st.Topic, st.TopicID = r.Topics[0].Topic, r.Topics[0].TopicID
		sp := kmsg.NewProduceResponseTopicPartition()
		sp.ErrorCode = kerr.MessageTooLarge.Code
		st.Partitions = append(st.Partitions, sp)
		resp.Topics = append(resp.Topics, st)
		return resp, nil, true
	})
	s := newSender(t, addr, new(plain), nil)
	var bodies []string
	for range 64 {
		bodies = append(bodies, strings.Repeat("x", 1000))
	}
	send := func() {
		t.Helper()
		if failed, err := s.Send(context.Background(), events(bodies...)); err != nil || len(failed) > 0 {
			t.Fatalf("%v, %v", failed, err)
		}
	}
	send()
	before := refused.Load()
	if before == 0 {
		t.Fatal("nothing was refused: the test tests nothing")
	}
	send()
	if n := refused.Load() - before; n != 0 {
		t.Errorf("refused %d times more", n)
	}
}
