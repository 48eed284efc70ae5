//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// kafkaChannel is the properties of a Kafka channel.
type kafkaChannel struct {
	name, addr, topic, group string
	avro                     bool
	session                  time.Duration // of its consumer
}

func (k kafkaChannel) conf(agent string) string {
	return fmt.Sprintf(`%[1]s.channels.%[2]s.type = org.apache.flume.channel.kafka.KafkaChannel
%[1]s.channels.%[2]s.kafka.bootstrap.servers = %[3]s
%[1]s.channels.%[2]s.kafka.topic = %[4]s
%[1]s.channels.%[2]s.kafka.consumer.group.id = %[5]s
%[1]s.channels.%[2]s.kafka.consumer.session.timeout.ms = %[7]d
%[1]s.channels.%[2]s.parseAsFlumeEvent = %[6]t
`, agent, k.name, k.addr, k.topic, k.group, k.avro, k.session.Milliseconds())
}

// in is a source that listens, with this channel; out is a sink that sends.
func (k kafkaChannel) in(agent string, port int) string {
	return k.conf(agent) + fmt.Sprintf("%[1]s.sources.%[2]s.type = avro\n%[1]s.sources.%[2]s.bind = 127.0.0.1\n%[1]s.sources.%[2]s.port = %[3]d\n%[1]s.sources.%[2]s.channels = %[2]s\n", agent, k.name, port)
}

func (k kafkaChannel) out(agent string, port, batch int) string {
	return k.conf(agent) + fmt.Sprintf("%[1]s.sinks.%[2]s.type = avro\n%[1]s.sinks.%[2]s.hostname = 127.0.0.1\n%[1]s.sinks.%[2]s.port = %[3]d\n%[1]s.sinks.%[2]s.batch-size = %[4]d\n%[1]s.sinks.%[2]s.channel = %[2]s\n", agent, k.name, port, batch)
}

// agentOf writes the file of an agent with sources and sinks of these names.
func agentOf(t *testing.T, agent string, sources, sinks []string, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), agent+".conf")
	text = fmt.Sprintf("%[1]s.sources = %[2]s\n%[1]s.channels = %[3]s\n%[1]s.sinks = %[4]s\n%[5]s", agent,
		strings.Join(sources, " "), strings.Join(slices.Concat(sources, sinks), " "), strings.Join(sinks, " "), text)
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// channelEvents are odd events, some with a key, and what comes of them where only bodies and keys are kept.
func channelEvents() (evs, bare []event.Event) {
	evs = oddEvents()
	for i := range evs {
		if i%5 == 1 {
			evs[i].Headers = append(slices.Clone(evs[i].Headers), event.KV{Key: "key", Value: fmt.Appendf(nil, "Schlüssel %d", i%7)})
		}
		e := event.Event{Body: evs[i].Body}
		if v, ok := evs[i].Header("key"); ok {
			e.Headers = []event.KV{{Key: "key", Value: v}}
		}
		bare = append(bare, e)
	}
	return evs, bare
}

// TestKafkaChannel has Flume and Sluice on the same topics, over Apache Kafka and over the built-in broker, with whole
// events and with bodies alone: what one puts the other takes, byte for byte. Then they take turns in one consumer group,
// both ways round.
func TestKafkaChannel(t *testing.T) {
	brokers := map[string]string{"kafka": kafka.start(t), "sluice": newBroker(t)}
	plain := link{name: "plain", typ: "avro"}
	evs, bare := channelEvents()
	turns := make([]event.Event, 2000)
	for i := range turns {
		turns[i] = event.Event{Body: fmt.Appendf(nil, "turn %d", i), Headers: []event.KV{{Key: "n", Value: fmt.Append(nil, i)}}}
	}

	// Sluice begins a topic on each broker, takes some of it and is killed.
	var free ports
	fromSluice, toSluice := map[string]*handOver{}, map[string]*handOver{}
	for name, addr := range brokers {
		fromSluice[name] = newHandOver(t, &free, kafkaChannel{"toflume" + name, addr, ownTopic("to-flume"), ownTopic("group"), true, turnSession}, turns)
		toSluice[name] = newHandOver(t, &free, kafkaChannel{"fromflume" + name, addr, ownTopic("from-flume"), ownTopic("group"), true, turnSession}, turns)
	}
	var conf strings.Builder
	var sinks []string
	for _, h := range fromSluice {
		sinks = append(sinks, h.ch.name)
		conf.WriteString(h.ch.out("s", h.firstPort, turnBatch))
	}
	begins := startSluice(t, "agent", "-n", "s", "-f", agentOf(t, "s", nil, sinks, conf.String()))
	for _, h := range fromSluice {
		h.awaitFirst(t, "Sluice")
	}
	begins.kill()

	// Both run, each with a source and a sink on every kind of topic.
	type way struct {
		name string
		feed int
		out  *componenttest.Output
		want []event.Event
	}
	var ways []way
	var files [2]strings.Builder // of Flume and of Sluice
	var sources, drains [2][]string
	var listen []int
	group, franzes := ownTopic("flume"), map[string]*franz{} // one group for all topics
	for name, addr := range brokers {
		franzes[name] = newFranz(t, name, addr)
		for _, avro := range []bool{true, false} {
			for from, agent := range []string{"f", "s"} {
				to := 1 - from
				k := kafkaChannel{fmt.Sprintf("%s%s%t", agent, name, avro), addr, ownTopic("of-" + agent), group, avro, waySession}
				franzes[name].create(t, k.topic, nil)
				feed, end := free.take(t), free.take(t)
				files[from].WriteString(k.in(agent, feed))
				sources[from] = append(sources[from], k.name)
				files[to].WriteString(k.out([]string{"f", "s"}[to], end, 500))
				drains[to] = append(drains[to], k.name)
				if from == 0 {
					listen = append(listen, feed)
				}
				w := way{k.name, feed, collector(t, plain, end), evs}
				if !avro {
					w.want = bare
				}
				ways = append(ways, w)
			}
		}
		for h, port := range map[*handOver]int{fromSluice[name]: fromSluice[name].secondPort, toSluice[name]: toSluice[name].firstPort} {
			files[0].WriteString(h.ch.out("f", port, turnBatch))
			drains[0] = append(drains[0], h.ch.name)
		}
	}
	sluice := startSluice(t, "agent", "-n", "s", "-f", agentOf(t, "s", sources[1], drains[1], files[1].String()))
	flume := startFlumeConf(t, agentOf(t, "f", sources[0], drains[0], files[0].String()), "f", listen...)
	for name, f := range franzes { // who joins later has the others begin again at what they have committed
		eventually(t, 3*time.Minute, "all sinks are in the group on "+name, func() error {
			groups, err := f.adm.DescribeGroups(t.Context(), group)
			if g := groups[group]; err == nil && (g.State != "Stable" || len(g.Members) != 4) {
				err = fmt.Errorf("it is %s, with %d members", g.State, len(g.Members))
			}
			return err
		})
	}
	t.Run("events", func(t *testing.T) {
		for _, w := range ways {
			t.Run(w.name, func(t *testing.T) {
				t.Parallel()
				cl := feeder(t, plain, w.feed)
				ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
				defer cancel()
				if err := cl.AppendBatch(ctx, evs); err != nil {
					t.Fatal(err)
				}
				w.out.Wait(t, len(evs))
				got, want := canonical(w.out.Events()), canonical(w.want)
				slices.Sort(got)
				slices.Sort(want)
				sameLines(t, w.name, got, want)
			})
		}
	})
	sluice.stop(t)
	for name, h := range fromSluice {
		t.Run("Flume goes on, "+name, func(t *testing.T) { h.await(t) })
	}

	// Flume has taken some of a topic, and is killed; Sluice goes on.
	for _, h := range toSluice {
		h.awaitFirst(t, "Flume")
	}
	flume.kill(t)
	conf.Reset()
	sinks = nil
	for _, h := range toSluice {
		sinks = append(sinks, h.ch.name)
		conf.WriteString(h.ch.out("s", h.secondPort, turnBatch))
	}
	sluice = startSluice(t, "agent", "-n", "s", "-f", agentOf(t, "s", nil, sinks, conf.String()))
	for name, h := range toSluice {
		t.Run("Sluice goes on, "+name, func(t *testing.T) { h.await(t) })
	}
	sluice.stop(t)
}

// handOver is a topic that one agent begins to drain and another drains to the end, in one group.
type handOver struct {
	ch                    kafkaChannel
	want                  []string
	first, second         *componenttest.Output
	firstPort, secondPort int
}

const (
	waySession  = 2 * time.Minute // a pause does not move partitions, after which events would come twice
	turnSession = 6 * time.Second // who is killed is waited for so long
	turnBatch   = 50
	turnTakes   = 10 // batches that the first one gets delivered
)

var errEnough = errors.New("that is enough")

func newHandOver(t *testing.T, free *ports, ch kafkaChannel, evs []event.Event) *handOver {
	t.Helper()
	plain := link{name: "plain", typ: "avro"}
	h := &handOver{ch: ch, firstPort: free.take(t), secondPort: free.take(t), want: canonical(evs)}
	h.first, h.second = collector(t, plain, h.firstPort), collector(t, plain, h.secondPort)
	h.first.FailWith(func(emit int, _ *event.Batch) error {
		if emit >= turnTakes {
			return errEnough
		}
		return nil
	})
	// A channel of ours puts them.
	cfg, _ := componenttest.Config(t, component.KindChannel, "org.apache.flume.channel.kafka.KafkaChannel", "kafka.bootstrap.servers="+ch.addr, "kafka.topic="+ch.topic)
	env, _ := componenttest.Env(t)
	c, err := cfg.(component.ChannelConfig).NewChannel(env)
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	b := event.NewPool().NewBatch()
	defer b.Release()
	for _, e := range evs {
		b.AppendEvent(e.Body, e.Headers)
	}
	// A broker that has just started may take some seconds to make a topic, which fails all of a put.
	eventually(t, 3*time.Minute, "a put into "+ch.topic, func() error { return c.Put(t.Context(), b) })
	if err := c.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	return h
}

// awaitFirst waits until the first agent has got delivered what it may, and a try after that has failed.
func (h *handOver) awaitFirst(t *testing.T, who string) {
	t.Helper()
	eventually(t, 3*time.Minute, who+" takes some of "+h.ch.topic, func() error {
		if n := h.first.Emits(); n <= turnTakes {
			return fmt.Errorf("%d batches came", n)
		}
		return nil
	})
}

// await waits for the rest, and looks at what both got: everything, and hardly more. What the first one had delivered
// and not committed when it ended comes twice.
func (h *handOver) await(t *testing.T) {
	t.Helper()
	begun := canonical(h.first.Events())
	eventually(t, 3*time.Minute, "the rest of "+h.ch.topic, func() error {
		all := append(slices.Clone(begun), canonical(h.second.Events())...)
		slices.Sort(all)
		if n := len(slices.Compact(all)); n < len(h.want) {
			return fmt.Errorf("%d of %d events", n, len(h.want))
		}
		return nil
	})
	all := append(begun, canonical(h.second.Events())...)
	slices.Sort(all)
	if twice := len(all) - len(h.want); twice > turnBatch {
		t.Errorf("%d events came twice", twice)
	} else {
		t.Logf("%d of %d events by the first, %d by both", len(begun), len(h.want), twice)
	}
	want := slices.Clone(h.want)
	slices.Sort(want)
	sameLines(t, h.ch.topic, slices.Compact(all), want)
	if len(begun) == 0 || len(begun) >= len(h.want) {
		t.Errorf("the first took %d of %d events", len(begun), len(h.want))
	}
}
