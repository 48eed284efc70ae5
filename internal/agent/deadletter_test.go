package agent

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/channel/file"
	"github.com/sluice-data/sluice/internal/deadletter"
)

// isBad says which of the numbers no sink of these tests can deliver.
func isBad(body []byte) bool { return body[len(body)-1] == '7' }

var errBad = errors.New("sevens are too large")

// named fails as a sink does that can tell its events apart.
func named(c *collector) func(evs []event.Event) error {
	return func(evs []event.Event) error {
		failed := make(map[int]error)
		for i, e := range evs {
			if isBad(e.Body) {
				failed[i] = component.Permanent(errBad)
			} else {
				c.got = append(c.got, string(e.Body))
			}
		}
		if len(failed) > 0 {
			return &component.PartialError{Failed: failed}
		}
		c.got = c.got[:len(c.got)-len(evs)] // the sink itself appends them
		return nil
	}
}

// unnamed fails as a whole and does not say because of which event.
func unnamed(evs []event.Event) error {
	if slices.ContainsFunc(evs, func(e event.Event) bool { return isBad(e.Body) }) {
		return component.Permanent(errBad)
	}
	return nil
}

func deadIn(t *testing.T, dir string) []string {
	t.Helper()
	var got []string
	if err := deadletter.Read(dir, func(l *deadletter.Letter) error {
		got = append(got, fmt.Sprintf("%s %s %s %s %s", l.Agent, l.Component, l.Channel, l.Event.Body, l.Reason))
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	return got
}

func TestDeadLettersInFiles(t *testing.T) {
	for _, how := range []string{"named", "unnamed"} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			a, diags := load(t, flow+"a.sinks.k.into = dead\na.sources.r.count = 300\na.sinks.k.deadletter = FILE\na.sinks.k.deadletter.directory = "+dir+"\n")
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			c := into("dead")
			if c.hook = unnamed; how == "named" {
				c.hook = named(c)
			}
			if err := run(t, a, func() bool { return c.count() == 270 }); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, c.got, 300, func(i int) bool { return i%10 != 7 })
			letters := deadIn(t, deadletter.Dir(dir, "a", "sink", "k"))
			if len(letters) != 30 || letters[1] != "a sink k c 17 sevens are too large" {
				t.Errorf("%s: %d letters, %q", how, len(letters), letters)
			}
			n := a.sinks[0]
			if dead, ok := n.metrics.Counter("EventDeadLetterCount").Load(), n.success.Load(); dead != 30 || ok != 270 {
				t.Errorf("%s: %d dead letters and %d successes counted", how, dead, ok)
			}
			if h := a.Health(); len(h) > 0 {
				t.Errorf("%s: health %v", how, h)
			}
			if n := a.pool.Outstanding(); n != 0 {
				t.Errorf("%d blocks still held", n)
			}
		})
	}
}

// The process is killed when a letter is on disk and the channel has not
// forgotten its event: nothing is lost, and the event is a letter twice.
func TestKilledBehindADeadLetter(t *testing.T) {
	for _, how := range []string{"named", "unnamed"} {
		t.Run(how, func(t *testing.T) {
			base := cmp.Or(os.Getenv("SLUICE_TEST_KILLED_"+how), t.TempDir())
			text := strings.Replace(flow, "type = memory", "type = file\na.channels.c.checkpointDir = "+base+"/cp\na.channels.c.dataDirs = "+base+"/data", 1) +
				"a.sinks.k.into = killed\na.sinks.k.deadletter = file\na.sinks.k.deadletter.directory = " + base + "/dead\na.sources.r.count = "
			if os.Getenv("SLUICE_TEST_KILLED_"+how) != "" {
				a, _ := load(t, text+"10\n")
				c := into("killed")
				if c.hook = unnamed; how == "named" {
					c.hook = named(c)
				}
				a.log = slog.New(killer{slog.DiscardHandler}) // the line is between the letter and the commit
				err := run(t, a, func() bool { return false })
				t.Fatalf("the agent ended by itself: %v", err)
			}
			cmd := exec.Command(os.Args[0], "-test.run=^TestKilledBehindADeadLetter$/^"+how+"$")
			cmd.Env = append(os.Environ(), "SLUICE_TEST_KILLED_"+how+"="+base)
			out, _ := cmd.CombinedOutput()
			if ws, ok := cmd.ProcessState.Sys().(syscall.WaitStatus); !ok || ws.Signal() != syscall.SIGKILL {
				t.Fatalf("the agent was not killed: %v\n%s", cmd.ProcessState, out)
			}
			if letters := deadIn(t, deadletter.Dir(base+"/dead", "a", "sink", "k")); len(letters) != 1 {
				t.Fatalf("%d letters before the second start", len(letters))
			}
			a, _ := load(t, text+"0\n")
			c := into("killed")
			if c.hook = unnamed; how == "named" {
				c.hook = named(c)
			}
			if err := run(t, a, func() bool { return c.count() == 9 }); err != nil {
				t.Fatal(err)
			}
			wantNumbers(t, c.got, 10, func(i int) bool { return i != 7 })
			want := "a sink k c 7 sevens are too large"
			if letters := deadIn(t, deadletter.Dir(base+"/dead", "a", "sink", "k")); !slices.Equal(letters, []string{want, want}) {
				t.Errorf("letters %q", letters)
			}
		})
	}
}

// killer ends the process when the log says that a letter is there.
type killer struct{ slog.Handler }

func (killer) Enabled(context.Context, slog.Level) bool { return true }
func (killer) Handle(_ context.Context, r slog.Record) error {
	if strings.Contains(r.Message, "set aside as dead letters") {
		_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
		select {} // it comes
	}
	return nil
}

// Without being told so nothing is set aside: the event is tried for ever and
// health names the sink.
func TestWithoutDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, _ := load(t, flow+"a.sinks.k.into = keep\na.sources.r.count = 10\na.sinks.k.deadletter = off\n")
		c := into("keep")
		tries := 0
		c.hook = func(evs []event.Event) error { tries++; return unnamed(evs) }
		var h string
		if _, err := runFor(t, a, time.Minute); err == nil {
			t.Error("the stop did not say that events were left")
		}
		if h = fmt.Sprint(a.Health()); !strings.Contains(h, "sink k") || !strings.Contains(h, "tried again for ever") || !strings.Contains(h, "sevens are too large") {
			t.Errorf("health: %s", h)
		}
		if tries < 10 || c.count() > 0 {
			t.Errorf("%d tries, %d delivered", tries, c.count())
		}
	})
}

// An error that can pass makes no dead letter, also beside one that cannot.
func TestDeadLetterBesideAnErrorThatPasses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a, _ := load(t, flow+"a.sinks.k.into = mix\na.sources.r.count = 10\na.sinks.k.deadletter = file\na.sinks.k.deadletter.directory = "+dir+"\n")
		c := into("mix")
		calls := 0
		c.hook = func(evs []event.Event) error {
			calls++
			if calls > 1 {
				return named(c)(evs)
			}
			for _, e := range evs[:5] {
				c.got = append(c.got, string(e.Body))
			}
			return &component.PartialError{Failed: map[int]error{7: component.Permanent(errBad), 5: errors.New("busy"), 6: errors.New("busy"), 8: errors.New("busy"), 9: errors.New("busy")}}
		}
		if err := run(t, a, func() bool { return c.count() == 9 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 10, func(i int) bool { return i != 7 })
		if letters := deadIn(t, deadletter.Dir(dir, "a", "sink", "k")); len(letters) != 1 {
			t.Errorf("letters %q", letters)
		}
	})
}

// When the letters have no room the event stays in the channel, health says
// so, and it goes on when there is room.
func TestDeadLettersAreFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a, _ := load(t, flow+"a.sinks.k.into = room\na.sources.r.count = 20\na.sources.r.tag = "+strings.Repeat("x", 400<<10)+
			"\na.sinks.k.deadletter = file\na.sinks.k.deadletter.directory = "+dir+"\na.sinks.k.deadletter.maxBytes = 1048576\n")
		c := into("room")
		c.hook = func([]event.Event) error { return component.Permanent(errBad) }
		if _, err := runFor(t, a, time.Minute); err == nil || !strings.Contains(err.Error(), "events were left in channel c") {
			t.Errorf("stop: %v", err)
		}
		if h := fmt.Sprint(a.Health()); !strings.Contains(h, "dead letters are full") {
			t.Errorf("health: %.300s", h)
		}
		if letters := deadIn(t, deadletter.Dir(dir, "a", "sink", "k")); len(letters) != 2 {
			t.Errorf("%d letters", len(letters))
		}
	})
}

const deadChannelFlow = `
a.channels = c d
a.sinks = k kd
a.sources = r
a.sources.r.type = test-numbers
a.sources.r.count = 1000
a.sources.r.channels = c
a.channels.c.type = memory
a.channels.d.type = memory
a.channels.d.transactionCapacity = 7
a.sinks.k.type = test-collect
a.sinks.k.into = live
a.sinks.k.channel = c
a.sinks.k.deadletter = channel
a.sinks.k.deadletter.channel = d
a.sinks.kd.type = test-collect
a.sinks.kd.into = deadchan
a.sinks.kd.channel = d
`

// The events go through the dead-letter channel with their story, to the last
// one, also when the agent stops meanwhile.
func TestDeadLetterChannel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a, diags := load(t, deadChannelFlow)
		if len(diags) > 0 {
			t.Fatal(diags)
		}
		live, dead := into("live"), into("deadchan")
		live.hook = func(evs []event.Event) error {
			time.Sleep(time.Millisecond) // so that the stop comes in between
			return unnamed(evs)
		}
		var headers []string
		dead.hook = func(evs []event.Event) error {
			for i := range evs {
				for _, key := range []string{"mod", deadReasonHeader, deadComponentHeader, deadChannelHeader} {
					v, _ := evs[i].Header(key)
					headers = append(headers, string(v))
				}
				if v, ok := evs[i].Header(deadTimeHeader); !ok || len(v) != len("946684800000") {
					headers = append(headers, "time "+string(v))
				}
			}
			return nil
		}
		if err := run(t, a, func() bool { return a.sources[0].metrics.Counter("EventAcceptedCount").Load() == 1000 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, live.got, 1000, func(i int) bool { return i%10 != 7 })
		wantNumbers(t, dead.got, 1000, func(i int) bool { return i%10 == 7 })
		if got := strings.Join(headers[:8], "|"); len(headers) != 400 || got != "1|sevens are too large|sink k|c|2|sevens are too large|sink k|c" {
			t.Errorf("%d headers: %s", len(headers), got)
		}
		if n := a.pool.Outstanding(); n != 0 {
			t.Errorf("%d blocks still held", n)
		}
	})
}

// In a group the sink's own setting counts.
func TestDeadLetterInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a, _ := load(t, groupFlow("dg", "failover", "a.sources.r.count = 100", "a.sinks.k0.deadletter = file", "a.sinks.k0.deadletter.directory = "+dir))
		c := into("dg0")
		c.hook = unnamed
		if err := run(t, a, func() bool { return c.count() == 90 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 100, func(i int) bool { return i%10 != 7 })
		if letters := deadIn(t, deadletter.Dir(dir, "a", "sink", "k0")); len(letters) != 10 || into("dg1").count() > 0 {
			t.Errorf("%d letters, and %d events through the next sink", len(letters), into("dg1").count())
		}
	})
}

// A group rolls a batch back whole: an event beside one whose error passes is a
// letter once all the same.
func TestOneLetterInAGroup(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		dir := t.TempDir()
		a, _ := load(t, groupFlow("dgo", "failover", "a.sources.r.count = 10", "a.sinks.k0.deadletter = file", "a.sinks.k0.deadletter.directory = "+dir))
		c := into("dgo0")
		calls := 0
		c.hook = func(evs []event.Event) error {
			failed := make(map[int]error)
			for i, e := range evs {
				switch {
				case isBad(e.Body):
					failed[i] = component.Permanent(errBad)
				case calls < 4 && i == 0:
					failed[i] = errors.New("busy")
				}
			}
			if calls++; len(failed) == 0 {
				return nil
			}
			if calls > 4 {
				return named(c)(evs)
			}
			return &component.PartialError{Failed: failed}
		}
		for _, other := range []string{"dgo1", "dgo2"} {
			into(other).hook = func([]event.Event) error { return errors.New("down") }
		}
		if err := run(t, a, func() bool { return c.count() == 9 }); err != nil {
			t.Fatal(err)
		}
		wantNumbers(t, c.got, 10, func(i int) bool { return i != 7 })
		if letters := deadIn(t, deadletter.Dir(dir, "a", "sink", "k0")); len(letters) != 1 || calls < 4 {
			t.Errorf("%d letters after %d calls", len(letters), calls)
		}
	})
}

// A batch that is too large for the channel as a whole goes in halves; an
// event that is too large alone becomes a dead letter, or keeps its source.
func TestEventTooLargeForTheChannel(t *testing.T) {
	large := strings.Repeat("x", 10_000)
	for _, dead := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			text := flow + "a.sinks.k.into = large\na.sources.r.count = 0\na.channels.c.byteCapacity = 2000\na.channels.c.byteCapacityBufferPercentage = 0\n"
			if dead {
				text += "a.sources.r.deadletter = file\na.sources.r.deadletter.directory = " + dir + "\n"
			}
			a, diags := load(t, text)
			if len(diags) > 0 {
				t.Fatal(diags)
			}
			c := into("large")
			sent := false
			if err := run(t, a, func() bool {
				if !a.channels[0].isUp() || a.sources[0].times.start.Load() == 0 {
					return false
				}
				if !sent {
					sent = true
					b := a.pool.NewBatch()
					for i := range 50 { // each event takes a slot of 100 bytes, 20 fit
						b.AppendEvent(fmt.Appendf(nil, "%d", i), nil)
					}
					if err := a.sources[0].out.Emit(t.Context(), b); err != nil {
						t.Fatalf("a batch of 50: %v", err)
					}
					b = a.pool.NewBatch()
					b.AppendEvent([]byte("50"), nil)
					b.AppendEvent([]byte(large), nil)
					b.AppendEvent([]byte("51"), nil)
					err := a.sources[0].out.Emit(t.Context(), b)
					if dead != (err == nil) || err != nil && !strings.Contains(err.Error(), "byteCapacity allows 2000") {
						t.Fatalf("dead letters %v: %v", dead, err)
					}
				}
				return c.count() >= 51
			}); err != nil {
				t.Fatal(err)
			}
			if !dead {
				wantNumbers(t, c.got, 51, nil)
				return
			}
			wantNumbers(t, c.got, 52, nil)
			letters := deadIn(t, deadletter.Dir(dir, "a", "source", "r"))
			if len(letters) != 1 || !strings.HasPrefix(letters[0], "a source r c "+large+" put 1 events") {
				t.Errorf("letters %.100q", letters)
			}
			if n := a.sources[0].metrics.Counter("EventDeadLetterCount").Load(); n != 1 {
				t.Errorf("%d dead letters counted", n)
			}
		})
	}
}

func TestDeadLetterFindings(t *testing.T) {
	for _, tt := range []struct {
		name, text string
		want       []string
	}{
		{"no directory", flow + "a.sinks.k.into = x\na.sinks.k.deadletter = file\n",
			[]string{`test.conf:8: a.sinks.k.deadletter.directory: required with deadletter = file, but not set: the sink is left out (a directory that the agent may make)`}},
		{"bad mode", flow + "a.sinks.k.into = x\na.sinks.k.deadletter = files\n",
			[]string{`test.conf:11: a.sinks.k.deadletter: "files" is not one of off, file, channel (expects one of off, file, channel; default off)`}},
		{"unknown key", flow + "a.sinks.k.into = x\na.sinks.k.deadletter = file\na.sinks.k.deadletter.dir = x\na.sinks.k.deadletter.directory = x\n",
			[]string{`test.conf:12: a.sinks.k.deadletter.dir: unknown property, ignored (did you mean "deadletter"?)`}},
		{"off", flow + "a.sinks.k.into = x\na.sinks.k.deadletter.directory = x\n",
			[]string{`test.conf:11: a.sinks.k.deadletter.directory: no effect while deadletter is off (set a.sinks.k.deadletter = file or channel)`}},
		{"a source without a channel name", flow + "a.sinks.k.into = x\na.sources.r.deadletter = channel\n",
			[]string{`test.conf:5: a.sources.r.deadletter.channel: required with deadletter = channel, but not set: the source is left out`}},
		{"its own channel", flow + "a.sinks.k.into = x\na.sources.r.deadletter = channel\na.sources.r.deadletter.channel = c\n",
			[]string{`test.conf:12: a.sources.r.deadletter.channel: channel "c" is the source's own: the source is left out (give dead letters a channel of their own)`}},
		{"unknown channel", flow + "a.sinks.k.into = x\na.sinks.k.deadletter = channel\na.sinks.k.deadletter.channel = d\n",
			[]string{`test.conf:12: a.sinks.k.deadletter.channel: channel "d" is not there: the sink is left out (the agent's channels: c)`}},
		{"a chain", deadChannelFlow + "a.sinks.kd.deadletter = channel\na.sinks.kd.deadletter.channel = c\n",
			[]string{`test.conf:20: a.sinks.kd.deadletter.channel: channel "d" has the dead letters of sink "k", so its own sink cannot have a dead-letter channel: the sink is left out (use deadletter = file here)`,
				`test.conf:15: a.sinks.k.deadletter.channel: channel "c" has the dead letters of sink "kd", so its own sink cannot have a dead-letter channel: the sink is left out (use deadletter = file here)`}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, diags := load(t, tt.text)
			var got []string
			for _, d := range diags {
				if !strings.Contains(d.Key, ".channels.") {
					got = append(got, d.String())
				}
			}
			slices.Sort(got)
			slices.Sort(tt.want)
			if strings.Join(got, "\n") != strings.Join(tt.want, "\n") {
				t.Errorf("findings:\n%s\nwant:\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}
