//go:build interop

package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

// topicClient makes topics and writes records with franz-go.
func topicClient(t *testing.T, addr string) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.MetadataMinAge(100*time.Millisecond),
		kgo.UnknownTopicRetries(-1)) // a topic just made
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

func makeTopic(t *testing.T, cl *kgo.Client, name string, partitions int32) {
	t.Helper()
	resp, err := kadm.NewClient(cl).CreateTopic(t.Context(), partitions, 1, nil, name)
	if err = errors.Join(err, resp.Err); err != nil {
		t.Fatal(err)
	}
}

// sourceFlow is a Kafka source, a channel of its own and a file_roll sink.
type sourceFlow struct {
	name  string
	props []string
}

// flowsConf is an agent file of flows; the events of each go to a directory of
// its name below out, with their headers.
func flowsConf(t *testing.T, s site, out string, channel func(f sourceFlow) []string, flows ...sourceFlow) {
	t.Helper()
	var b strings.Builder
	var names []string
	for _, f := range flows {
		names = append(names, f.name)
	}
	for _, kind := range []string{"sources", "channels", "sinks"} {
		fmt.Fprintf(&b, "%s.%s = %s\n", pilotAgent, kind, strings.Join(names, " "))
	}
	for _, f := range flows {
		line := func(kind string, props ...string) {
			for _, p := range props {
				fmt.Fprintf(&b, "%s.%s.%s.%s\n", pilotAgent, kind, f.name, p)
			}
		}
		dir := filepath.Join(out, f.name)
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
		line("sources", append([]string{"type = org.apache.flume.source.kafka.KafkaSource", "channels = " + f.name}, f.props...)...)
		line("channels", channel(f)...)
		line("sinks", "type = file_roll", "channel = "+f.name, "sink.directory = "+dir, "sink.rollInterval = 0", "sink.serializer = HEADER_AND_TEXT", "sink.batchSize = 1000")
	}
	if err := os.WriteFile(s.conf, []byte(b.String()), 0o644); err != nil {
		t.Fatal(err)
	}
}

func memoryChannel(sourceFlow) []string {
	return []string{"type = memory", "capacity = 100000", "transactionCapacity = 10000"}
}

// delivered is what a flow wrote: headers in alphabetic order, and the body.
func delivered(t *testing.T, dir string) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		text := string(b)
		text = text[:strings.LastIndexByte(text, '\n')+1] // the last line may be on its way
		for _, line := range splitLines(text) {
			h, body, ok := strings.Cut(strings.TrimPrefix(line, "{"), "} ")
			if !ok {
				t.Fatalf("%s: no headers in %.200q", f, line)
			}
			headers := strings.Split(h, ", ")
			slices.Sort(headers)
			got = append(got, "{"+strings.Join(headers, ", ")+"} "+body)
		}
	}
	return got
}

// TestKafkaSourceEvents lets Flume and Sluice read the same topics of both
// brokers: the events are equal, headers and bodies, byte for byte.
func TestKafkaSourceEvents(t *testing.T) {
	fetched(t, "flume.sh")
	type sourceCase struct {
		name  string
		count int
		props []string
	}
	cases := []sourceCase{
		{"list", 13, []string{"kafka.topics = plain , second"}},
		{"old", 12, []string{"topic = plain", "groupId = old", "setTopicHeader = false", "header.h = H", "header.none = N", "header.key = K", "header.offset = O"}},
		{"regex", 2, []string{`kafka.topics.regex = (?!plain)s\\w+nd|thi[r-s]d`, "topicHeader = from", "batchSize = 1"}},
		{"avro", 4, []string{"kafka.topics = avro", "useFlumeEventFormat = true", "topicHeader = origin", "header.x = H"}},
		{"big", 3, []string{"kafka.topics = big", "kafka.consumer.max.partition.fetch.bytes = 10000", "kafka.consumer.isolation.level = read_committed"}},
	}
	brokers := map[string]string{"builtin": newBroker(t), "apache": kafka.start(t)}
	suffix := fmt.Sprintf("-%d", time.Now().UnixNano()) // one Apache Kafka serves all tests
	flows := func(agent string) (fs []sourceFlow) {
		for broker, addr := range brokers {
			for _, c := range cases {
				var props []string
				for _, p := range c.props {
					for _, topic := range []string{"plain", "second", "avro", "big"} {
						if k, _, _ := strings.Cut(p, " = "); k == "topic" || k == "kafka.topics" {
							p = strings.ReplaceAll(p, topic, topic+suffix)
						}
					}
					if k, v, _ := strings.Cut(p, " = "); k == "kafka.topics.regex" {
						p = k + " = (" + v + ")" + suffix
					}
					props = append(props, p)
				}
				name := broker + "_" + c.name
				if broker == "apache" && c.name == "list" {
					name = "SmartCarInfo_SpoolSource" // whose start the test waits for
				}
				fs = append(fs, sourceFlow{name, append(props, "kafka.bootstrap.servers = "+addr, "kafka.consumer.auto.offset.reset = earliest", "backoffSleepIncrement = 10", "maxBackoffSleep = 50",
					"kafka.consumer.group.id = "+agent+"-"+name+suffix)})
			}
		}
		return fs
	}

	at := time.UnixMilli(1451765229123)
	avro := func(body string, headers ...string) []byte {
		e := &event.Event{Body: []byte(body)}
		for i := 0; i < len(headers); i += 2 {
			e.Headers = append(e.Headers, event.KV{Key: headers[i], Value: []byte(headers[i+1])})
		}
		return serde.AppendAvroEvent(nil, e)
	}
	hs := func(kv ...string) (list []kgo.RecordHeader) {
		for i := 0; i < len(kv); i += 2 {
			list = append(list, kgo.RecordHeader{Key: kv[i], Value: []byte(kv[i+1])})
		}
		return list
	}
	for _, addr := range brokers {
		cl := topicClient(t, addr)
		for _, topic := range []string{"plain", "second", "third", "avro"} {
			makeTopic(t, cl, topic+suffix, 2)
		}
		makeTopic(t, cl, "big"+suffix, 1)
		var rs []*kgo.Record
		for i, r := range []kgo.Record{
			{Value: []byte("one"), Key: []byte("k"), Headers: hs("H", "1", "other", "x", "H", "2")},
			{Value: []byte("대한민국 – тест"), Key: []byte("ключ"), Headers: hs("H", "값", "K", "the key wins")},
			{Headers: hs("O", "the mapped one wins", "K", "there is no key")}, // a tombstone
			{Value: []byte{}, Key: []byte{}},
			{Value: []byte("{a=b} {looks like headers}")},
			{Value: []byte("tab\there"), Headers: hs("H", "")},
			{Value: []byte("\x00\x01\x7f"), Key: []byte("no header"), Timestamp: time.UnixMilli(0)},
			{Value: []byte(strings.Repeat("x", 100_000))},
			{Value: []byte("more"), Partition: 1},
			{Value: []byte("and more"), Partition: 1, Key: []byte("p")},
			{Value: []byte("the last"), Partition: 1, Timestamp: time.UnixMilli(1451765229124)},
			{Value: []byte("of all"), Partition: 1},
		} {
			r.Topic = "plain" + suffix
			if r.Timestamp.IsZero() {
				r.Timestamp = at.Add(time.Duration(i) * time.Millisecond)
			}
			rs = append(rs, &r)
		}
		for i, topic := range []string{"second", "third"} {
			rs = append(rs, &kgo.Record{Topic: topic + suffix, Value: []byte(topic), Partition: int32(i), Timestamp: at})
		}
		for _, r := range []kgo.Record{
			{Value: avro("with headers", "a", "b", "timestamp", "7", "key", "old", "partition", "99", "offset", "98", "origin", "brought")},
			{Value: avro("with a key", "key", "old"), Key: []byte("new"), Headers: hs("H", "1")},
			{Value: []byte("no event")}, // Flume skips it, too
			{Value: avro("")},
			{Value: avro("값", "키", "값")},
		} {
			r.Topic, r.Timestamp = "avro"+suffix, at
			rs = append(rs, &r)
		}
		for _, n := range []int{200_000, 1, 300_000} {
			rs = append(rs, &kgo.Record{Topic: "big" + suffix, Value: []byte(strings.Repeat("y", n)), Timestamp: at})
		}
		if err := cl.ProduceSync(t.Context(), rs...).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}

	got := map[string]map[string][]string{}
	var mu sync.Mutex
	t.Run("agents", func(t *testing.T) {
		for name, start := range agents() {
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				dir := t.TempDir()
				s, out := site{dir: dir, conf: filepath.Join(dir, "agent.conf")}, filepath.Join(dir, "out")
				flowsConf(t, s, out, memoryChannel, flows(name)...)
				a := start(t, s)
				t.Cleanup(func() {
					if t.Failed() {
						t.Logf("the end of %s's log:\n%s", name, tail(a.log(), 4000))
					}
				})
				all := map[string][]string{}
				eventually(t, 5*time.Minute, name+" delivers every event", func() error {
					if !a.alive() {
						t.Fatalf("the agent has ended:\n%s", tail(a.log(), 3000))
					}
					for i, f := range flows(name) {
						all[f.name] = delivered(t, filepath.Join(out, f.name))
						if n := cases[i%len(cases)].count; len(all[f.name]) < n {
							return fmt.Errorf("%s: %d of %d", f.name, len(all[f.name]), n)
						}
					}
					return nil
				})
				a.stop(t)
				for _, f := range flows(name) {
					all[f.name] = delivered(t, filepath.Join(out, f.name))
					slices.Sort(all[f.name]) // partitions come in any order
				}
				mu.Lock()
				defer mu.Unlock()
				got[name] = all
			})
		}
	})
	for i, f := range flows("sluice") {
		if n := cases[i%len(cases)].count; len(got["flume"][f.name]) != n {
			t.Errorf("%s: Flume delivered %d events, this test expects %d", f.name, len(got["flume"][f.name]), n)
		}
		sameLines(t, f.name+": Sluice's events against Flume's", got["sluice"][f.name], got["flume"][f.name])
	}
}

// account counts what arrived of what was written.
type account struct {
	written int
	seen    map[string]int
}

func accountOf(written int, bodies []string) account {
	a := account{written, map[string]int{}}
	for _, b := range bodies {
		a.seen[b]++
	}
	return a
}

func (a account) String() string {
	n := 0
	for _, k := range a.seen {
		n += k
	}
	return fmt.Sprintf("%d written, %d lost, %d came more than once", a.written, a.written-len(a.seen), n-len(a.seen))
}

// bodies are those of all flows below dirs.
func bodies(t *testing.T, dirs ...string) (all []string) {
	t.Helper()
	for _, d := range dirs {
		for _, e := range delivered(t, d) {
			_, body, _ := strings.Cut(e, "} ")
			all = append(all, body)
		}
	}
	return all
}

// writer writes numbered records to the partitions of a topic in turn until it
// is stopped. Each is acknowledged before it counts.
type writer struct {
	n    atomic.Int64
	stop func() error
}

func startWriter(t *testing.T, cl *kgo.Client, topic string, partitions int32, perSecond int) *writer {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	w := &writer{}
	done := make(chan error, 1)
	go func() {
		tick := time.NewTicker(20 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; {
			var rs []*kgo.Record
			for range max(perSecond/50, 1) {
				rs = append(rs, &kgo.Record{Topic: topic, Partition: int32(i) % partitions, Value: fmt.Appendf(nil, "%s-%08d", topic, i)})
				i++
			}
			// Not with ctx: the last records are acknowledged, too.
			if err := cl.ProduceSync(context.Background(), rs...).FirstErr(); err != nil {
				done <- err
				return
			}
			w.n.Store(int64(i))
			select {
			case <-ctx.Done():
				done <- nil
				return
			case <-tick.C:
			}
		}
	}()
	w.stop = sync.OnceValue(func() error { cancel(); return <-done })
	t.Cleanup(func() {
		if err := w.stop(); err != nil {
			t.Error(err)
		}
	})
	return w
}

// TestKafkaSourceHandOver hands a group over from Flume to Sluice and back while
// records come: next to each other in one group, and each alone.
func TestKafkaSourceHandOver(t *testing.T) {
	fetched(t, "flume.sh")
	brokers := map[string]string{"builtin": newBroker(t), "apache": kafka.start(t)}
	suffix := fmt.Sprintf("-%d", time.Now().UnixNano())
	dir := t.TempDir()
	// One process of each agent has a flow for each broker.
	flows := []sourceFlow{}
	writers := map[string]*writer{}
	for broker, addr := range brokers {
		cl := topicClient(t, addr)
		topic := "handover-" + broker + suffix
		makeTopic(t, cl, topic, 4)
		name := broker
		if broker == "apache" {
			name = "SmartCarInfo_SpoolSource"
		}
		flows = append(flows, sourceFlow{name, []string{"kafka.bootstrap.servers = " + addr, "kafka.topics = " + topic, "kafka.consumer.group.id = g" + suffix,
			"kafka.consumer.auto.offset.reset = earliest", "backoffSleepIncrement = 10", "maxBackoffSleep = 50", "batchSize = 100"}})
		writers[name] = startWriter(t, cl, topic, 4, 1000)
	}
	turn := 0
	start := func(name string) (a runningAgent, out string) {
		turn++
		s := site{dir: filepath.Join(dir, fmt.Sprint(turn))}
		s.conf, out = filepath.Join(s.dir, "agent.conf"), filepath.Join(s.dir, "out")
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		flowsConf(t, s, out, memoryChannel, flows...)
		return agents()[name](t, s), out
	}
	var outs []string
	reads := func(out string) {
		t.Helper()
		eventually(t, 5*time.Minute, out+" gets events", func() error {
			for _, f := range flows {
				if n := len(delivered(t, filepath.Join(out, f.name))); n < 500 {
					return fmt.Errorf("%s: %d", f.name, n)
				}
			}
			return nil
		})
	}
	begin := func(name string) runningAgent {
		a, out := start(name)
		outs = append(outs, out)
		reads(out)
		return a
	}
	flume := begin("flume")
	sluice := begin("sluice") // both are members
	flume.stop(t)
	time.Sleep(time.Second) // Sluice alone
	flume = begin("flume")
	sluice.stop(t)
	time.Sleep(500 * time.Millisecond) // Flume alone
	flume.stop(t)
	begin("sluice") // after Flume
	for _, w := range writers {
		if err := w.stop(); err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range flows {
		var dirs []string
		for _, o := range outs {
			dirs = append(dirs, filepath.Join(o, f.name))
		}
		n := int(writers[f.name].n.Load())
		eventually(t, 5*time.Minute, "every record arrives", func() error {
			if a := accountOf(n, bodies(t, dirs...)); len(a.seen) < n {
				return errors.New(a.String())
			}
			return nil
		})
		t.Logf("%s: %v", f.name, accountOf(n, bodies(t, dirs...)))
	}
}

// TestKafkaSourceRebalance is a drill: four agents with a file channel each are
// members of one group, and for some seconds one after the other of them is
// stopped, killed with SIGKILL, or held with SIGSTOP for longer than its session
// lasts, and comes back; the built-in broker is killed, too. Then every record is
// there. Eager and cooperative, dynamic and static members, on both brokers.
func TestKafkaSourceRebalance(t *testing.T) {
	var all sync.WaitGroup
	defer all.Wait()
	for _, tt := range []struct {
		broker, strategy string
		static           bool
	}{
		{"builtin", "CooperativeStickyAssignor", false},
		{"builtin", "RangeAssignor", true},
		{"apache", "CooperativeStickyAssignor", true},
		{"apache", "RangeAssignor", false},
	} {
		all.Go(func() { // most of it is waiting: all at once, on however few processors
			t.Run(fmt.Sprintf("%s %s static=%v", tt.broker, tt.strategy, tt.static), func(t *testing.T) {
				rebalanceDrill(t, tt.broker, tt.strategy, tt.static)
			})
		})
	}
}

const (
	drillMembers = 4
	drillSession = 6 * time.Second // the least that brokers take
)

func rebalanceDrill(t *testing.T, broker, strategy string, static bool) {
	addr := ""
	var restart func()
	if broker == "apache" || onKafka() {
		addr = kafka.start(t)
	} else {
		addr = fmt.Sprintf("127.0.0.1:%d", freePort(t))
		data := filepath.Join(t.TempDir(), "data")
		b := startBroker(t, data, addr)
		restart = func() {
			b.kill()
			time.Sleep(time.Second)
			b = startBroker(t, data, addr)
		}
	}
	cl := topicClient(t, addr)
	topic := fmt.Sprintf("rebalance-%s-%d", strategy, time.Now().UnixNano())
	const partitions = 8
	makeTopic(t, cl, topic, partitions)

	dir := t.TempDir()
	var outs []string
	var confs []site
	for i := range drillMembers {
		s := site{dir: filepath.Join(dir, fmt.Sprint(i))}
		s.conf = filepath.Join(s.dir, "agent.conf")
		if err := os.MkdirAll(s.dir, 0o755); err != nil {
			t.Fatal(err)
		}
		props := []string{"kafka.bootstrap.servers = " + addr, "kafka.topics = " + topic, "kafka.consumer.group.id = g-" + topic, "kafka.consumer.auto.offset.reset = earliest",
			"kafka.consumer.session.timeout.ms = " + fmt.Sprint(drillSession.Milliseconds()), "kafka.consumer.heartbeat.interval.ms = 500", "batchSize = 200",
			"kafka.consumer.partition.assignment.strategy = org.apache.kafka.clients.consumer." + strategy}
		if static {
			props = append(props, fmt.Sprintf("kafka.consumer.group.instance.id = member-%d", i))
		}
		flowsConf(t, s, filepath.Join(s.dir, "out"), func(f sourceFlow) []string {
			return []string{"type = file", "capacity = 1000000", "checkpointDir = " + filepath.Join(s.dir, "checkpoint"), "dataDirs = " + filepath.Join(s.dir, "data"), "minimumRequiredSpace = 1048576"}
		}, sourceFlow{"SmartCarInfo_SpoolSource", props})
		outs = append(outs, filepath.Join(s.dir, "out", "SmartCarInfo_SpoolSource"))
		confs = append(confs, s)
	}
	startMember := func(i int) *sluiceProcess {
		p := startSluice(t, "agent", "-n", pilotAgent, "-f", confs[i].conf, "-Duser.home="+confs[i].dir)
		eventually(t, 3*time.Minute, "the agent is there", func() error { // before that it does not know SIGTERM
			if !p.alive() {
				t.Fatalf("member %d has ended: %v", i, p.err)
			}
			if p.out.String() == "" {
				return errors.New("it says nothing")
			}
			return nil
		})
		return p
	}
	members := make([]*sluiceProcess, drillMembers)
	for i := range members {
		members[i] = startMember(i)
	}
	w := startWriter(t, cl, topic, partitions, 500)
	eventually(t, 3*time.Minute, "the members read", func() error {
		if n := len(bodies(t, outs...)); n < 100 {
			return fmt.Errorf("%d events", n)
		}
		return nil
	})

	seed := uint64(time.Now().UnixNano())
	rnd := rand.New(rand.NewPCG(seed, 0))
	counts := map[string]int{}
	pause := func() { time.Sleep(time.Duration(rnd.IntN(1000)) * time.Millisecond) }
	// Every kind once in each round, in another order.
	for range 2 {
		kinds := []string{"stop", "kill", "hold", "two at once", "broker"}
		rnd.Shuffle(len(kinds), func(i, j int) { kinds[i], kinds[j] = kinds[j], kinds[i] })
		for _, kind := range kinds {
			i := rnd.IntN(drillMembers)
			switch kind {
			case "stop":
				members[i].stop(t)
				pause()
				members[i] = startMember(i)
			case "kill":
				members[i].kill()
				pause()
				members[i] = startMember(i)
			case "two at once":
				j := (i + 1 + rnd.IntN(drillMembers-1)) % drillMembers
				members[i].kill()
				members[j].stop(t)
				members[j] = startMember(j)
				pause()
				members[i] = startMember(i)
			case "hold":
				if counts[kind] > 0 {
					continue // it takes as long as all others together
				}
				if err := members[i].cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				time.Sleep(drillSession + 2*time.Second)
				if err := members[i].cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
			case "broker":
				if restart == nil {
					continue // others use it as well
				}
				restart()
			}
			counts[kind]++
			pause()
		}
	}
	if err := w.stop(); err != nil {
		t.Fatal(err)
	}
	n := int(w.n.Load())
	eventually(t, 5*time.Minute, fmt.Sprintf("every record arrives (seed %d)", seed), func() error {
		if a := accountOf(n, bodies(t, outs...)); len(a.seen) < n {
			return errors.New(a.String())
		}
		return nil
	})
	for i, m := range members {
		if !m.alive() {
			t.Errorf("member %d has ended: %v", i, m.err)
			continue
		}
		m.stop(t)
	}
	t.Logf("%v; %v", accountOf(n, bodies(t, outs...)), counts)
	// What the group knows is what the channels have: nobody reads it again.
	adm := kadm.NewClient(cl)
	eventually(t, 3*time.Minute, "everything is committed", func() error {
		lag, err := adm.Lag(t.Context(), "g-"+topic)
		if err != nil {
			return err
		}
		l := lag["g-"+topic]
		if err := l.Error(); err != nil {
			return err
		}
		if total := l.Lag.Total(); total != 0 {
			return fmt.Errorf("a lag of %d", total)
		}
		return nil
	})
}

// TestKafkaSourceFailures has everything go wrong that can on the broker's side:
// no broker at the start, a topic that is missing, deleted and made again, a
// batch whose bytes are damaged. Each is named once, what can be read is read,
// and nothing needs a restart.
func TestKafkaSourceFailures(t *testing.T) {
	for _, broker := range []string{"builtin", "apache"} {
		t.Run(broker, func(t *testing.T) {
			addr, data := "", ""
			begin := func() {}
			if broker == "apache" || onKafka() {
				addr = kafka.start(t)
				data = filepath.Join(kafka.dir, "node1", "data")
			} else {
				addr, data = fmt.Sprintf("127.0.0.1:%d", freePort(t)), filepath.Join(t.TempDir(), "data")
				begin = func() { startBroker(t, data, addr) }
			}
			suffix := fmt.Sprintf("-%d", time.Now().UnixNano())
			dir := t.TempDir()
			s, out := site{dir: dir, conf: filepath.Join(dir, "agent.conf")}, filepath.Join(dir, "out")
			flowsConf(t, s, out, memoryChannel, sourceFlow{"SmartCarInfo_SpoolSource", []string{"kafka.bootstrap.servers = " + addr, "kafka.topics = here" + suffix + ",later" + suffix,
				"kafka.consumer.group.id = failures" + suffix, "kafka.consumer.auto.offset.reset = earliest", "kafka.consumer.metadata.max.age.ms = 1000", "kafka.consumer.allow.auto.create.topics = false"}})
			out = filepath.Join(out, "SmartCarInfo_SpoolSource")
			a := startAgent(t, s).(sluiceAgent)
			arrives := func(want ...string) {
				t.Helper()
				eventually(t, 3*time.Minute, fmt.Sprintf("%q arrive", want), func() error {
					if got := bodies(t, out); !slices.Equal(slices.Sorted(slices.Values(got)), slices.Sorted(slices.Values(want))) {
						return fmt.Errorf("%q", got)
					}
					return nil
				})
			}
			logs := func(what string) {
				t.Helper()
				eventually(t, 3*time.Minute, "the log says "+what, func() error {
					if !strings.Contains(a.log(), what) {
						return errors.New("not yet")
					}
					return nil
				})
			}
			if broker == "builtin" && !onKafka() {
				logs("no Kafka broker can be used")
			}
			begin()
			cl := topicClient(t, addr)
			write := func(topic string, partition int32, value string) int64 {
				t.Helper()
				rs := cl.ProduceSync(t.Context(), &kgo.Record{Topic: topic + suffix, Partition: partition, Value: []byte(value)})
				if err := rs.FirstErr(); err != nil {
					t.Fatal(err)
				}
				return rs[0].Record.Offset
			}
			makeTopic(t, cl, "here"+suffix, 2)
			write("here", 0, "a")
			write("here", 1, "b")
			arrives("a", "b")
			logs("topic later" + suffix + " does not exist")

			makeTopic(t, cl, "later"+suffix, 1)
			write("later", 0, "c")
			arrives("a", "b", "c")

			adm := kadm.NewClient(cl)
			if _, err := adm.DeleteTopics(t.Context(), "later"+suffix); err != nil {
				t.Fatal(err)
			}
			eventually(t, 3*time.Minute, "the topic is gone", func() error {
				l, err := adm.ListTopics(t.Context())
				if err == nil && l.Has("later"+suffix) {
					err = errors.New("it is there")
				}
				return err
			})
			makeTopic(t, cl, "later"+suffix, 1)
			cl.PurgeTopicsFromClient("later" + suffix)
			write("later", 0, "d")
			arrives("a", "b", "c", "d")

			flip := func(file position) {
				t.Helper()
				f, err := os.OpenFile(file.name, os.O_RDWR, 0)
				if err != nil {
					t.Fatal(err)
				}
				defer f.Close()
				b := make([]byte, 1)
				if _, err = f.ReadAt(b, file.at); err == nil {
					b[0] ^= 0x20
					_, err = f.WriteAt(b, file.at)
				}
				if err != nil {
					t.Fatal(err)
				}
			}
			// Damaged between two fetches: one that waits at the broker may bring it before, if that is slow. Then the next has to do.
			damage := "topic here" + suffix + ", partition 0: "
			want := []string{"a", "b", "c", "d"}
			var damaged string
			var file position
			for try := 1; ; try++ {
				damaged = fmt.Sprint("the damaged one ", try)
				if err := a.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
					t.Fatal(err)
				}
				time.Sleep(2 * time.Second)
				write("here", 0, damaged)
				file = findIn(t, data, "here"+suffix, []byte(damaged))
				flip(file)
				if err := a.cmd.Process.Signal(syscall.SIGCONT); err != nil {
					t.Fatal(err)
				}
				early := false
				eventually(t, 3*time.Minute, "the damage shows", func() error {
					early = slices.Contains(bodies(t, out), damaged)
					if !early && !strings.Contains(a.log(), damage) {
						return errors.New("neither the record nor a line of the log")
					}
					return nil
				})
				if !early {
					break
				}
				if flip(file); try == 5 {
					t.Fatalf("%d records came before they were damaged", try)
				}
				want = append(want, damaged)
			}
			write("here", 1, "e")
			want = append(want, "e")
			arrives(want...)
			flip(file)
			arrives(append(want, damaged)...)
			logs("reading from Kafka works again")
			for _, what := range []string{damage, "topic later" + suffix + " does not exist"} {
				if n := strings.Count(a.log(), what); n > 2 { // it may be missing again while it is made anew
					t.Errorf("the log says %q %d times", what, n)
				}
			}
			a.stop(t)
		})
	}
}

type position struct {
	name string
	at   int64
}

// findIn looks for bytes in the segments of a topic.
func findIn(t *testing.T, data, topic string, what []byte) (found position) {
	t.Helper()
	err := filepath.WalkDir(data, func(name string, _ os.DirEntry, err error) error {
		if err != nil || filepath.Ext(name) != ".log" || !strings.Contains(name, topic) {
			return err
		}
		b, err := os.ReadFile(name)
		if i := bytes.Index(b, what); i >= 0 {
			found = position{name, int64(i)}
		}
		return err
	})
	if err != nil || found.name == "" {
		t.Fatalf("%q is in no segment below %s: %v", what, data, err)
	}
	return found
}
