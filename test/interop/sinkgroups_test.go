//go:build interop

package interop

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

// groupSite is an agent with a group of two Avro sinks on one channel, fed by
// a client of ours; a source of ours stands behind each sink.
type groupSite struct {
	conf string
	port int
	outs [2]*componenttest.Output
}

func newGroupSite(t *testing.T, free *ports, processor ...string) groupSite {
	t.Helper()
	l := link{typ: "avro"}
	s := groupSite{port: free.take(t)}
	text := fmt.Sprintf(`
g.sources = r
g.channels = c
g.sinks = k0 k1
g.sinkgroups = g
g.sinkgroups.g.sinks = k0 k1
g.sources.r.type = avro
g.sources.r.bind = 127.0.0.1
g.sources.r.port = %d
g.sources.r.channels = c
g.channels.c.type = memory
g.channels.c.capacity = 10000
g.channels.c.transactionCapacity = 10000
`, s.port)
	for i := range s.outs {
		port := free.take(t)
		s.outs[i] = collector(t, l, port)
		text += fmt.Sprintf("g.sinks.k%[1]d.type = avro\ng.sinks.k%[1]d.hostname = 127.0.0.1\ng.sinks.k%[1]d.port = %[2]d\ng.sinks.k%[1]d.channel = c\ng.sinks.k%[1]d.batch-size = 10\n", i, port)
	}
	for _, p := range processor {
		text += "g.sinkgroups.g.processor." + p + "\n"
	}
	s.conf = filepath.Join(t.TempDir(), "g.conf")
	if err := os.WriteFile(s.conf, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return s
}

// counts are the events that came through each sink.
func (s groupSite) counts() [2]int {
	return [2]int{len(s.outs[0].Events()), len(s.outs[1].Events())}
}

// send sends n events and waits until total have come out.
func (s groupSite) send(t *testing.T, n, total int) {
	t.Helper()
	evs := make([]event.Event, n)
	for i := range evs {
		evs[i].Body = fmt.Appendf(nil, "event %d", i)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	if err := feeder(t, link{typ: "avro"}, s.port).AppendBatch(ctx, evs); err != nil {
		t.Fatal(err)
	}
	eventually(t, 3*time.Minute, fmt.Sprintf("%d events come out", total), func() error {
		if c := s.counts(); c[0]+c[1] != total {
			return fmt.Errorf("%v came out", c)
		}
		return nil
	})
}

var errRefused = errors.New("this collector takes nothing now")

func refuse(int, *event.Batch) error { return errRefused }

// groupAgents start an agent file on Flume and on Sluice.
func groupAgents() map[string]func(*testing.T, groupSite) {
	return map[string]func(*testing.T, groupSite){
		"flume": func(t *testing.T, s groupSite) { startFlumeConf(t, s.conf, "g", s.port) },
		"sluice": func(t *testing.T, s groupSite) {
			startSluice(t, "agent", "--strict", "-n", "g", "-f", s.conf)
			eventually(t, 3*time.Minute, "sluice listens", func() error {
				c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", s.port))
				if err == nil {
					err = c.Close()
				}
				return err
			})
		},
	}
}

// TestFailoverGroup has Flume and Sluice make the same choices: the sink with
// the higher priority, the other one while its peer refuses, and the first one
// again when the penalty is over.
func TestFailoverGroup(t *testing.T) {
	var free ports
	for name, run := range groupAgents() {
		t.Run(name, func(t *testing.T) {
			s := newGroupSite(t, &free, "type = failover", "priority.k0 = 5", "priority.k1 = 10", "maxpenalty = 3000")
			run(t, s)
			s.send(t, 100, 100)
			if c := s.counts(); c != [2]int{0, 100} {
				t.Errorf("both up: %v", c)
			}
			s.outs[1].FailWith(refuse)
			s.send(t, 100, 200)
			if c := s.counts(); c != [2]int{100, 100} {
				t.Errorf("one refuses: %v", c)
			}
			s.outs[1].FailWith(nil)
			time.Sleep(9 * time.Second) // the penalty, and Flume's pause of up to 5 s on an empty channel
			s.send(t, 100, 300)
			if c := s.counts(); c != [2]int{100, 200} {
				t.Errorf("after the penalty: %v", c)
			}
		})
	}
}

// TestLoadBalanceGroup compares how evenly the two agents share the work, and
// that a peer that refuses gets none while it is left out.
func TestLoadBalanceGroup(t *testing.T) {
	const events = 4000
	var free ports
	for name, run := range groupAgents() {
		for _, selector := range []string{"round_robin", "random"} {
			t.Run(name+"/"+selector, func(t *testing.T) {
				s := newGroupSite(t, &free, "type = load_balance", "selector = "+selector, "backoff = true")
				run(t, s)
				s.send(t, events, events)
				limit := events / 2 * 5 / 100
				if selector == "random" { // 400 turns: five standard deviations
					limit = events / 2 * 25 / 100
				}
				if c := s.counts(); c[0] < events/2-limit || c[0] > events/2+limit {
					t.Errorf("%v, want %d each, within %d", c, events/2, limit)
				}
				before := s.counts()
				s.outs[0].FailWith(refuse)
				s.send(t, 200, events+200)
				if c := s.counts(); c[0] != before[0] || c[1] != before[1]+200 {
					t.Errorf("one refuses: %v after %v", c, before)
				}
			})
		}
	}
}
