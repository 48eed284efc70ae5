package pilot

import (
	"bufio"
	"bytes"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/chromedp/chromedp"

	"github.com/sluice-data/sluice/examples"
	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/internal/ledger"
)

// everyTopology calls each for all topologies in all their forms.
func everyTopology(t *testing.T, each func(t *testing.T, number int, form string)) {
	for _, c := range []struct {
		number int
		form   string
	}{{1, ""}, {2, ""}, {3, ledger.LoadBalance}, {3, ledger.Replication}, {3, ledger.Failover}, {4, ""}} {
		t.Run(fmt.Sprint(c.number, c.form), func(t *testing.T) { each(t, c.number, c.form) })
	}
}

// What the page draws is what the agent files say.
func TestDiagramsMatchTheAgentFiles(t *testing.T) {
	everyTopology(t, func(t *testing.T, number int, form string) {
		p := planOf(number, form)
		drawn := map[string]bool{}
		for _, n := range p.parts {
			if drawn[n.id()] {
				t.Errorf("%s is there twice", n.id())
			}
			drawn[n.id()] = true
		}
		for _, a := range p.agents {
			text, err := examples.Files.ReadFile(p.example + "/" + a.file)
			if err != nil {
				t.Fatal(err)
			}
			props, _ := flumeconf.Parse(a.file, text)
			for list, kind := range map[string]partKind{"sources": sourcePart, "channels": channelPart, "sinks": sinkPart, "sinkgroups": groupPart} {
				v, _ := props.Get(a.name + "." + list)
				names := strings.Fields(v.Text)
				for _, name := range names {
					id := part{kind: kind, process: a.name, component: name}.id()
					// Topology 4 shows the sinks of its groups as edges.
					if !drawn[id] && !slices.ContainsFunc(p.wires, func(w wire) bool { return w.by == id }) {
						t.Errorf("%s of %s is not drawn", name, a.file)
					}
				}
				for _, n := range p.parts {
					if n.process == a.name && n.kind == kind && !slices.Contains(names, n.component) {
						t.Errorf("%s is drawn and %s has no such thing", n.id(), a.file)
					}
				}
			}
			if property := p.ports[a.name]; property != "" && !bytes.Contains(text, []byte("${sys:"+property+":-")) {
				t.Errorf("%s does not take its port from %s", a.file, property)
			}
		}
		for _, w := range p.wires {
			if !drawn[w.from] || !drawn[w.to] {
				t.Errorf("an edge from %s to %s", w.from, w.to)
			}
		}
		for _, e := range p.ends {
			if !drawn[e.id] {
				t.Errorf("the end %s is not drawn", e.id)
			}
		}
		d := p.draw()
		for i, n := range d.Nodes {
			for _, o := range d.Nodes[:i] {
				if n.X < o.X+o.W && o.X < n.X+n.W && n.Y < o.Y+o.H && o.Y < n.Y+n.H {
					t.Errorf("%s lies on %s", n.ID, o.ID)
				}
			}
			if n.X < 0 || n.Y < 0 || n.X+n.W > d.Width || n.Y+n.H > d.Height {
				t.Errorf("%s is outside", n.ID)
			}
		}
	})
}

func TestValidateTopology(t *testing.T) {
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Topology: 5}, "no topology 5"},
		{Options{Topology: 3, Form: "round-robin"}, "round-robin"},
		{Options{Topology: 2, Form: ledger.Failover}, "no forms"},
		{Options{Topology: 1, RotateBytes: 1 << 20}, "rotate-bytes"},
		{Options{Topology: 4, Days: 1}, "no status log"},
		{Options{Topology: 2, Days: 1}, ""},
		{Options{Topology: 4, Cars: 3}, "four simulators"},
		{Options{Topology: 3, Form: ledger.Replication, Kill: true}, "no agent that another stands in for"},
		{Options{Topology: 3, Form: ledger.Failover, Kill: true}, ""},
		{Options{Topology: 4, Kill: true}, ""},
	} {
		c.o.Speed, c.o.For = 60, time.Minute
		if c.o.Cars == 0 {
			c.o.Cars = 100
		}
		err := c.o.Validate()
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%+v: %v, want %q", c.o, err, c.want)
		}
	}
}

func TestKillTimes(t *testing.T) {
	run := &topology{pilot: &pilot{Options: Options{For: 30 * time.Second, Kill: true}}}
	if at, ok := run.killAt(0); !ok || at != 10*time.Second {
		t.Errorf("first: %v, %v", at, ok)
	}
	if _, ok := run.killAt(1); ok {
		t.Error("a run with an end has one kill")
	}
	run.For = 0
	if at, ok := run.killAt(2); !ok || at != firstKill+2*killEvery {
		t.Errorf("third of a run without an end: %v, %v", at, ok)
	}
	run.Kill = false
	if _, ok := run.killAt(0); ok {
		t.Error("a kill although none was wanted")
	}
}

func newTopologyRun(t *testing.T, number int, form string) *topology {
	t.Helper()
	run := newTopology(&pilot{Options: Options{Topology: number, Form: form, Dir: t.TempDir(), Speed: 60, Cars: 10, For: time.Minute}, con: newConsole(&bytes.Buffer{}, false)})
	if err := run.prepare(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(run.close)
	return run
}

// The run has the example's files, unchanged, and the directories that they name.
func TestPrepareTopology(t *testing.T) {
	everyTopology(t, func(t *testing.T, number int, form string) {
		run := newTopologyRun(t, number, form)
		for _, a := range run.plan.agents {
			want, err := examples.Files.ReadFile(run.example + "/" + a.file)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := os.ReadFile(filepath.Join(run.Dir, "conf", a.file)); err != nil || !bytes.Equal(got, want) {
				t.Errorf("%s: %v", a.file, err)
			}
			args := strings.Join(run.agents[a.name].args(0), " ")
			if !strings.Contains(args, "-Ddir="+run.Dir) {
				t.Errorf("%s: %s", a.name, args)
			}
			for _, property := range run.ports {
				if !strings.Contains(args, "-D"+property+"=0") {
					t.Errorf("%s has no %s: %s", a.name, property, args)
				}
			}
		}
		for agent, property := range run.ports {
			run.bound[agent] = "4711"
			if args := strings.Join(run.agents[agent].args(1), " "); !strings.Contains(args, "-D"+property+"=4711") {
				t.Errorf("%s is started again at another port: %s", agent, args)
			}
		}
		cars := 0
		for _, s := range run.sims {
			args := s.args(0)
			var n int
			if _, err := fmt.Sscan(args[slices.Index(args, "--cars")+1], &n); err != nil {
				t.Fatal(err)
			}
			cars += n
			if again := s.args(1); !slices.Contains(again, "--resume") || slices.Contains(args, "--resume") {
				t.Errorf("%s: %q, then %q", s.name, args, again)
			}
		}
		if cars != run.Cars {
			t.Errorf("%d cars in all", cars)
		}
	})
}

func TestCollectTopology(t *testing.T) {
	run := newTopologyRun(t, 3, ledger.Failover)
	until := time.Now().Add(time.Hour).UnixMilli()
	answers := map[string]string{
		"a1": fmt.Sprintf(`{"SOURCE.logs":{"EventReceivedCount":"500","StartTime":"7"},"CHANNEL.c1":{"ChannelSize":"40","ChannelCapacity":"1000000","EventPutSuccessCount":"500"},
			"SINK.k2":{"EventDrainSuccessCount":"300","EventWriteFail":"2"},"SINK.k3":{"EventDrainSuccessCount":"160"},
			"SINKGROUP.g1":{"ActiveSink":"k3","SinkSwitchCount":"2","FailedUntil.k2":"%d"}}`, until),
		"a3": `{"SOURCE.in":{"EventReceivedCount":"160","StartTime":"7"},"CHANNEL.c1":{"ChannelSize":"10","ChannelCapacity":"1000000"},"SINK.files":{"EventDrainSuccessCount":"150"}}`,
	}
	for name, answer := range answers {
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { fmt.Fprint(w, answer) }))
		defer server.Close()
		c := run.agents[name]
		c.state, c.pid, c.address = procStarting, 1, server.URL
	}
	run.agents["a2"].state = procRestarting
	s := run.collect(t.Context())
	if want := (flowSum{read: 500, waiting: 50, delivered: 150, failed: 2}); s.sum != want {
		t.Errorf("%+v, want %+v", s.sum, want)
	}
	nodes := map[string]Node{}
	for _, n := range s.Diagram.Nodes {
		nodes[n.ID] = n
	}
	if n := nodes["a1.group.g1"]; n.Value != "→ agent 3" || !n.Hot || !strings.HasPrefix(n.Note, "k2 out") {
		t.Errorf("the group: %+v", n)
	}
	if n := nodes["a1.sink.k2"]; n.Value != "300" || !n.Hot || !strings.HasPrefix(n.Note, "left out") {
		t.Errorf("the sink that is left out: %+v", n)
	}
	if n := nodes["a2.sink.files"]; n.Note != "down" || !n.Hot {
		t.Errorf("a sink of the agent that is away: %+v", n)
	}
	if n := nodes["a3.channel.c1"]; !n.Channel || n.Size != 10 || n.Capacity != 1_000_000 {
		t.Errorf("a channel: %+v", n)
	}
	for name, want := range map[string]string{"a1": procUp, "a2": procRestarting, "a3": procUp} {
		if got := run.agents[name].process().State; got != want {
			t.Errorf("%s is %s, want %s", name, got, want)
		}
	}
	if got := run.progress(s); !strings.Contains(got, "agent 3 → files 150") || !strings.Contains(got, "in channels 50") {
		t.Errorf("progress: %s", got)
	}
}

// The client sends a line until it is answered with OK: after a refusal and
// after a broken connection again.
func TestClient(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	taken := make(chan string, 100)
	go func() { // a netcat source in trouble; ends with the listener
		for calls := 0; ; {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			in := bufio.NewScanner(conn)
			for in.Scan() {
				calls++
				if calls == 2 {
					fmt.Fprintln(conn, "FAILED: the channel is full")
					continue
				}
				if calls == 4 {
					break // without an answer
				}
				taken <- in.Text()
				fmt.Fprintln(conn, "OK")
			}
			conn.Close()
		}
	}()
	log := filepath.Join(t.TempDir(), "log")
	c := newClient(log, l.Addr().String())
	c.start()
	if err := os.WriteFile(log, []byte("one\n\ntwo\nthr"), 0o644); err != nil {
		t.Fatal(err)
	}
	want := []string{"one", "", "two", "three"}
	for i, w := range want {
		select {
		case got := <-taken:
			if got != w {
				t.Errorf("line %d is %q, want %q", i, got, w)
			}
		case <-time.After(3 * time.Minute):
			t.Fatalf("line %d never came", i)
		}
		if i == 2 {
			f, err := os.OpenFile(log, os.O_APPEND|os.O_WRONLY, 0)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprint(f, "ee\n")
			f.Close()
		}
	}
	for end := time.Now().Add(3 * time.Minute); c.answered.Load() != int64(len(want)) && time.Now().Before(end); time.Sleep(time.Millisecond) {
	}
	if n := c.answered.Load(); n != int64(len(want)) {
		t.Errorf("%d lines answered", n)
	}
	c.stop()
	l.Close()
}

func TestTopologyPageInBrowser(t *testing.T) {
	ctx := browser(t)
	p := servePage(t)
	faults := pageFaults(ctx)
	run := newTopologyRun(t, 4, "")
	run.agents["a5"].state = procRestarting
	for id := range run.live {
		run.live[id] = &live{total: 1234, rate: 56, size: 600_000, capacity: 1_000_000, active: "k6", left: 3 * time.Second}
	}
	s := State{Phase: phaseRunning, Title: run.title, Speed: 60}
	run.addUp(&s)
	run.show(&s)
	for _, c := range run.children() {
		s.Processes = append(s.Processes, c.process())
	}
	for i := range 50 {
		s.History = append(s.History, Point{int64(i) * 500, []float64{float64(3000 - 60*i), float64(60 * i)}})
	}
	if err := p.publish(&s); err != nil {
		t.Fatal(err)
	}
	for _, size := range [][2]int64{{1280, 900}, {390, 844}} {
		if err := chromedp.Do(ctx, chromedp.EmulateViewport(size[0], size[1]), chromedp.Navigate(p.url)); err != nil {
			t.Fatal(err)
		}
		awaitScript(t, ctx, `document.getElementById("v-a1.group.g1")?.textContent === "→ agent 6"`)
		for expression, want := range map[string]string{
			`document.getElementById("title").textContent`:                           run.title,
			`document.getElementById("s-a2.group.g1").textContent`:                   "k5 out, 3 s",
			`document.getElementById("s-a5.sink.files").textContent`:                 "down",
			`document.getElementById("v-a3.channel.c1").textContent`:                 "600,000",
			`String(document.querySelectorAll("#topology .node").length)`:            fmt.Sprint(len(run.parts)),
			`String(document.querySelectorAll("#topology .edge.standby.on").length)`: "4",
			`String(document.documentElement.scrollWidth - innerWidth)`:              "0",
			`document.getElementById("legend").textContent`:                          "agent 5, the aggregator → files 56/sagent 6, its double → files 56/s",
			`document.getElementById("facts").rows[0].textContent`:                   "lines written" + group(s.sum.written),
		} {
			got, err := chromedp.Run(ctx, chromedp.Evaluate[string](expression))
			if err != nil {
				t.Fatal(err)
			}
			if got != want {
				t.Errorf("%d pixels: %s is %q, want %q", size[0], expression, got, want)
			}
		}
		screenshot(t, ctx, os.Getenv("SLUICE_SCREENSHOTS"), fmt.Sprint("topology-", size[0]))
	}
	for _, f := range faults() {
		t.Errorf("the page's script: %s", f)
	}
	if err := p.close(); err != nil {
		t.Error(err)
	}
}
