//go:build interop

package interop

import (
	"context"
	"fmt"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/rpc"
	_ "github.com/sluice-data/sluice/standard"
)

// link is a way from one agent to the next: the properties of a source and of
// a sink that fit each other.
type link struct {
	name, typ    string
	source, sink []string
	impatient    bool // the sink has limits of its own
}

// keystores makes a Java key store of each type with one key, and trust stores
// for it, by Java's own tool.
type keystores struct{ jks, p12, trustJKS, trustP12 string }

const storePass = "changeit"

func makeKeystores(t *testing.T) keystores {
	t.Helper()
	tool := program(t, "keytool")
	dir := t.TempDir()
	k := keystores{filepath.Join(dir, "k.jks"), filepath.Join(dir, "k.p12"), filepath.Join(dir, "t.jks"), filepath.Join(dir, "t.p12")}
	cert := filepath.Join(dir, "cert.pem")
	run := func(args ...string) {
		t.Helper()
		if out, err := exec.Command(tool, args...).CombinedOutput(); err != nil {
			t.Fatalf("keytool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	run("-genkeypair", "-alias", "key", "-keyalg", "RSA", "-keysize", "2048", "-validity", "30", "-dname", "CN=localhost", "-ext", "SAN=dns:localhost,ip:127.0.0.1",
		"-storetype", "PKCS12", "-keystore", k.p12, "-storepass", storePass)
	run("-importkeystore", "-noprompt", "-srckeystore", k.p12, "-srcstorepass", storePass, "-destkeystore", k.jks, "-deststoretype", "JKS", "-deststorepass", storePass, "-destkeypass", storePass)
	run("-exportcert", "-rfc", "-alias", "key", "-keystore", k.p12, "-storepass", storePass, "-file", cert)
	run("-importcert", "-noprompt", "-alias", "ca", "-file", cert, "-keystore", k.trustJKS, "-storetype", "JKS", "-storepass", storePass)
	run("-importcert", "-noprompt", "-alias", "ca", "-file", cert, "-keystore", k.trustP12, "-storetype", "PKCS12", "-storepass", storePass)
	return k
}

// links are the ways that both Flume and Sluice know.
func links(k keystores) []link {
	ssl := []string{"ssl = true", "keystore = " + k.jks, "keystore-password = " + storePass}
	trust := []string{"ssl = true", "truststore = " + k.trustJKS, "truststore-password = " + storePass}
	ssl12 := []string{"ssl = true", "keystore = " + k.p12, "keystore-password = " + storePass, "keystore-type = PKCS12"}
	trust12 := []string{"ssl = true", "truststore = " + k.trustP12, "truststore-password = " + storePass, "truststore-type = PKCS12"}
	deflate := []string{"compression-type = deflate"}
	return []link{
		{"plain", "avro", nil, nil, false},
		{"deflate", "avro", deflate, append(deflate, "compression-level = 9"), false},
		{"tls", "avro", ssl, trust, false},
		{"tls12", "avro", append(ssl12, "include-protocols = TLSv1.2"), append(trust12, "exclude-protocols = SSLv3 TLSv1.3"), false},
		{"deflatetls", "avro", slices.Concat(ssl, deflate), slices.Concat(trust, deflate), false},
		{"compact", "thrift", nil, nil, false},
		{"binary", "thrift", []string{"protocol = binary"}, []string{"protocol = binary"}, false},
		{"thrifttls", "thrift", ssl, trust, false},
		{"binarytls", "thrift", append(ssl12, "protocol = binary"), append(trust12, "protocol = binary"), false},
	}
}

// unhurried are limits of a sink or a client that a pause of the machine does not reach: after one of its own, of 20 s, it
// would send again what has arrived.
var unhurried = []string{"connect-timeout = 180000", "request-timeout = 180000"}

// flow is the agent file of one source, channel and sink.
func flow(agent, name string, l link, from, to int) string {
	var b strings.Builder
	fmt.Fprintf(&b, "%[1]s.sources.%[2]s.type = %[3]s\n%[1]s.sources.%[2]s.bind = 127.0.0.1\n%[1]s.sources.%[2]s.port = %[4]d\n%[1]s.sources.%[2]s.channels = %[2]s\n", agent, name, l.typ, from)
	fmt.Fprintf(&b, "%[1]s.channels.%[2]s.type = memory\n%[1]s.channels.%[2]s.capacity = 10000\n%[1]s.channels.%[2]s.transactionCapacity = 10000\n", agent, name)
	fmt.Fprintf(&b, "%[1]s.sinks.%[2]s.type = %[3]s\n%[1]s.sinks.%[2]s.hostname = 127.0.0.1\n%[1]s.sinks.%[2]s.port = %[4]d\n%[1]s.sinks.%[2]s.channel = %[2]s\n%[1]s.sinks.%[2]s.batch-size = 1000\n", agent, name, l.typ, to)
	for _, p := range l.source {
		fmt.Fprintf(&b, "%s.sources.%s.%s\n", agent, name, p)
	}
	sink := l.sink
	if !l.impatient {
		sink = slices.Concat(sink, unhurried)
	}
	for _, p := range sink {
		fmt.Fprintf(&b, "%s.sinks.%s.%s\n", agent, name, p)
	}
	return b.String()
}

// agentFile joins flows into the file of an agent.
func agentFile(t *testing.T, agent string, names []string, flows string) string {
	t.Helper()
	list := strings.Join(names, " ")
	text := fmt.Sprintf("%[1]s.sources = %[2]s\n%[1]s.channels = %[2]s\n%[1]s.sinks = %[2]s\n%[3]s", agent, list, flows)
	path := filepath.Join(t.TempDir(), agent+".conf")
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

// collector is a source of ours at the end of a way.
func collector(t *testing.T, l link, port int) *componenttest.Output {
	t.Helper()
	out := componenttest.NewOutput()
	env, _ := componenttest.Env(t)
	props := []string{"bind=127.0.0.1", fmt.Sprintf("port=%d", port)}
	for _, p := range l.source {
		props = append(props, strings.Replace(p, " = ", "=", 1))
	}
	componenttest.Run(t, componenttest.Source(t, env, l.typ, props...), out)
	return out
}

// ports are free ones below those that the system gives to clients, of which a
// chain has many while it comes up. Tests that run side by side get others.
type ports struct{}

// lastPort is that of the whole process.
var lastPort = struct {
	sync.Mutex
	n int
}{n: 21500}

func (p *ports) take(t *testing.T) int {
	t.Helper()
	lastPort.Lock()
	defer lastPort.Unlock()
	return p.next(t)
}

// next is for who holds the lock.
func (p *ports) next(t *testing.T) int {
	t.Helper()
	for range 8500 {
		if lastPort.n++; lastPort.n == 30000 {
			lastPort.n = 21501
		}
		l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", lastPort.n))
		if err != nil {
			continue
		}
		l.Close()
		return lastPort.n
	}
	t.Fatal("no port is free")
	return 0
}

// row is the first of n free ones in a row.
func (p *ports) row(t *testing.T, n int) int {
	t.Helper()
	lastPort.Lock()
	defer lastPort.Unlock()
	first, last := 0, 0
	for last == 0 || last-first < n-1 {
		if next := p.next(t); next != last+1 {
			first, last = next, next
		} else {
			last = next
		}
	}
	return first
}

// feeder is a client of ours at the beginning of a way.
func feeder(t *testing.T, l link, port int) *rpc.Client {
	t.Helper()
	props := map[string]string{"hosts": "h1", "hosts.h1": fmt.Sprintf("127.0.0.1:%d", port), "batch-size": "500"}
	if l.typ == "thrift" {
		props["client.type"] = "thrift"
	}
	for _, p := range slices.Concat(unhurried, l.sink) {
		k, v, _ := strings.Cut(p, " = ")
		props[k] = v
	}
	cl, err := rpc.New(props)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// oddEvents are events with what bodies and headers may hold and Java keeps:
// its header values are text.
func oddEvents() []event.Event {
	var many []event.KV
	for i := range 200 {
		many = append(many, event.KV{Key: fmt.Sprint("name", i), Value: []byte(strings.Repeat("v", i))})
	}
	all := make([]byte, 256)
	for i := range all {
		all[i] = byte(i)
	}
	evs := []event.Event{
		{Body: []byte{}},
		{Body: all, Headers: []event.KV{{Key: "empty", Value: []byte{}}, {Key: "한글", Value: []byte("값")}, {Key: "😀", Value: []byte("a\nb\x00c")}}},
		{Body: []byte(strings.Repeat("large ", 100_000)), Headers: many},
	}
	for i := range 3000 {
		e := event.Event{Body: fmt.Appendf(nil, "event %d of a batch with a body as most have it", i)}
		if i%3 > 0 {
			e.Headers = []event.KV{{Key: "host", Value: []byte("h1")}, {Key: "n", Value: fmt.Append(nil, i/100)}}
		}
		evs = append(evs, e)
	}
	return evs
}

// canonical is an event as text, with its headers sorted: Java's have no order.
func canonical(evs []event.Event) []string {
	out := make([]string, 0, len(evs))
	for i := range evs {
		m := map[string]string{}
		for _, h := range evs[i].Headers {
			m[h.Key] = string(h.Value)
		}
		var b strings.Builder
		for _, k := range slices.Sorted(maps.Keys(m)) {
			fmt.Fprintf(&b, "%q=%q ", k, m[k])
		}
		fmt.Fprintf(&b, "%q", evs[i].Body)
		out = append(out, b.String())
	}
	return out
}

// startFlumeConf runs an agent of Flume and waits until its sources listen.
func startFlumeConf(t *testing.T, conf, agent string, listen ...int) flumeAgent {
	t.Helper()
	return startFlumeOf(t, "flume", conf, agent, listen...)
}

// startFlumeOf is the same with other jars.
func startFlumeOf(t *testing.T, jars, conf, agent string, listen ...int) flumeAgent {
	t.Helper()
	fetched(t, "flume.sh", "FLUME_JARS="+jars)
	f := flumeAgent{filepath.Join(t.TempDir(), "flume")}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("flume's log (end):\n%s", tail(f.log(), 6000))
		}
		f.kill(t)
	})
	if _, err := peer("flume.sh", []string{"FLUME_HEAP=256m", "FLUME_JARS=" + jars}, "start", f.dir, conf, agent); err != nil {
		t.Fatal(err)
	}
	for _, port := range listen {
		eventually(t, 3*time.Minute, "flume listens", func() error {
			c, err := net.Dial("tcp", fmt.Sprintf("127.0.0.1:%d", port))
			if err == nil {
				err = c.Close()
			}
			return err
		})
	}
	return f
}

// kill ends Flume at once: an orderly end takes it some seconds for each source.
func (f flumeAgent) kill(t *testing.T) {
	t.Helper()
	if f.alive() {
		killPeer(t, filepath.Join(f.dir, "flume.pid"))
	}
	f.stop(t)
}

// TestRPCChain sends events through a chain of agents in which real Flume and
// Sluice follow each other both ways round, over every protocol and layer that
// Flume has: a client of ours → Flume → Sluice → Flume → a source of ours.
// Every event must arrive once, byte for byte.
func TestRPCChain(t *testing.T) {
	all := links(makeKeystores(t))
	var flumeFlows, sluiceFlows strings.Builder
	var flumeNames, sluiceNames []string
	var listen []int
	var free ports
	feed, outs := map[string]int{}, map[string]*componenttest.Output{}
	for _, l := range all {
		first, second, third, end := free.take(t), free.take(t), free.take(t), free.take(t)
		feed[l.name], outs[l.name] = first, collector(t, l, end)
		flumeFlows.WriteString(flow("f", l.name+"1", l, first, second) + flow("f", l.name+"2", l, third, end))
		sluiceFlows.WriteString(flow("s", l.name, l, second, third))
		listen = append(listen, first, third)
		flumeNames = append(flumeNames, l.name+"1", l.name+"2")
		sluiceNames = append(sluiceNames, l.name)
	}
	sluice := startSluice(t, "agent", "-n", "s", "-f", agentFile(t, "s", sluiceNames, sluiceFlows.String()))
	startFlumeConf(t, agentFile(t, "f", flumeNames, flumeFlows.String()), "f", listen...)
	evs := oddEvents()
	want := canonical(evs)
	t.Run("links", func(t *testing.T) {
		for _, l := range all {
			t.Run(l.name, func(t *testing.T) { t.Parallel(); chain(t, l, evs, want, feed[l.name], outs[l.name]) })
		}
	})
	sluice.stop(t)
}

// TestRPCOldFlume is the chain with Flume 1.9 in the middle, which has TLS outside
// of deflate where 1.10 and 1.11 have it inside. Its Netty fails on TLS 1.3.
func TestRPCOldFlume(t *testing.T) {
	var flows strings.Builder
	var names []string
	var listen []int
	var free ports
	all := links(makeKeystores(t))
	all = slices.DeleteFunc(all, func(l link) bool {
		return !slices.Contains([]string{"plain", "deflate", "tls", "deflatetls", "compact", "thrifttls"}, l.name)
	})
	feed, outs := map[string]int{}, map[string]*componenttest.Output{}
	for i, l := range all {
		if strings.Contains(l.name, "tls") {
			l.source = append(slices.Clone(l.source), "include-protocols = TLSv1.2")
			l.sink = append(slices.Clone(l.sink), "include-protocols = TLSv1.2")
			all[i] = l
		}
		first, end := free.take(t), free.take(t)
		feed[l.name], outs[l.name] = first, collector(t, l, end)
		flows.WriteString(flow("f", l.name, l, first, end))
		names, listen = append(names, l.name), append(listen, first)
	}
	startFlumeOf(t, "flume-1.9", agentFile(t, "f", names, flows.String()), "f", listen...)
	evs := oddEvents()
	want := canonical(evs)
	t.Run("links", func(t *testing.T) {
		for _, l := range all {
			t.Run(l.name, func(t *testing.T) {
				t.Parallel()
				if l.name == "deflatetls" {
					l.sink = append(slices.Clone(l.sink), "compression-order = inside")
				}
				chain(t, l, evs, want, feed[l.name], outs[l.name])
			})
		}
	})
}

// chain sends evs over one link of a chain and waits for them at its end.
func chain(t *testing.T, l link, evs []event.Event, want []string, port int, out *componenttest.Output) {
	cl := feeder(t, l, port)
	ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
	defer cancel()
	if err := cl.Append(ctx, evs[0]); err != nil {
		t.Fatal(err)
	}
	if err := cl.AppendBatch(ctx, evs[1:]); err != nil {
		t.Fatal(err)
	}
	out.Wait(t, len(evs))
	sameLines(t, l.name, canonical(out.Events()), want)
}

// signal sends a signal to Flume's process.
func (f flumeAgent) signal(t *testing.T, sig syscall.Signal) {
	t.Helper()
	if err := syscall.Kill(peerPID(t, filepath.Join(f.dir, "flume.pid")), sig); err != nil {
		t.Fatal(err)
	}
}

// TestRPCPeerFails freezes and kills the Flume that a Sluice agent sends to,
// for both protocols, and has another sink speak plainly to a source with TLS:
// no event is lost, each cause has its line in the log, and the sinks go on by
// themselves.
func TestRPCPeerFails(t *testing.T) {
	k := makeKeystores(t)
	var free ports
	avro, thrift := link{name: "avro", typ: "avro"}, link{name: "thrift", typ: "thrift"}
	wrong := link{name: "wrong", typ: "avro", source: links(k)[2].source}
	var flumeFlows, sluiceFlows strings.Builder
	var names []string
	var listen []int
	feed, outs := map[string]int{}, map[string]*componenttest.Output{}
	for _, l := range []link{avro, thrift, wrong} {
		first, second, end := free.take(t), free.take(t), free.take(t)
		names, listen = append(names, l.name), append(listen, second)
		feed[l.name] = first
		outs[l.name] = collector(t, link{typ: l.typ}, end)
		flumeFlows.WriteString(flow("f", l.name, l, second, end))
		sluiceFlows.WriteString(flow("s", l.name, link{name: l.name, typ: l.typ, sink: []string{"request-timeout = 2000"}, impatient: true}, first, second))
	}
	conf := agentFile(t, "f", names, flumeFlows.String())
	flume := startFlumeConf(t, conf, "f", listen...)
	begin := time.Now()
	sluice := startSluice(t, "agent", "-n", "s", "-f", agentFile(t, "s", names, sluiceFlows.String()))
	clients := map[string]*rpc.Client{}
	for _, l := range []link{avro, thrift, wrong} {
		clients[l.name] = feeder(t, link{typ: l.typ}, feed[l.name])
	}
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	sent := 0
	batch := func() {
		t.Helper()
		var evs []event.Event
		for range 50 {
			evs = append(evs, event.Event{Body: fmt.Append(nil, "event ", sent)})
			sent++
		}
		for name, cl := range clients {
			eventually(t, 3*time.Minute, "sluice takes events for "+name, func() error { return cl.AppendBatch(ctx, evs) })
		}
	}
	arrived := func(step string) {
		t.Helper()
		for _, name := range []string{"avro", "thrift"} {
			eventually(t, 3*time.Minute, step+": every event arrives over "+name, func() error {
				got := map[string]bool{}
				for _, b := range outs[name].Bodies() {
					got[b] = true
				}
				for i := range sent {
					if !got[fmt.Sprint("event ", i)] {
						return fmt.Errorf("event %d of %d is not there", i, sent)
					}
				}
				return nil
			})
		}
	}
	failures := func(sink, text string) (lines []string) {
		for _, l := range splitLines(sluice.out.String()) {
			if strings.Contains(l, "the sink failed") && strings.Contains(l, "sink="+sink+" ") && strings.Contains(l, text) {
				lines = append(lines, l)
			}
		}
		return lines
	}
	// fails has something happen to the sinks' peer, and wants a line about it for each that was not there before.
	fails := func(step, text string, happen func(), sinks ...string) {
		t.Helper()
		before := map[string]int{}
		for _, sink := range sinks {
			before[sink] = len(failures(sink, text))
		}
		happen()
		batch()
		for _, sink := range sinks {
			eventually(t, 3*time.Minute, step+": the log of "+sink+" says so", func() error {
				if len(failures(sink, text)) <= before[sink] {
					return fmt.Errorf("no line with %q", text)
				}
				return nil
			})
		}
	}
	fails("no TLS", "ssl", func() {}, "wrong")
	arrived("at first")

	fails("frozen", "did not answer in time", func() { flume.signal(t, syscall.SIGSTOP) }, "avro", "thrift")
	flume.signal(t, syscall.SIGCONT)
	arrived("awake again")

	fails("killed", "127.0.0.1:", func() { flume.kill(t) }, "avro", "thrift")
	if _, err := peer("flume.sh", []string{"FLUME_HEAP=256m"}, "start", flume.dir, conf, "f"); err != nil {
		t.Fatal(err)
	}
	arrived("started again")
	// One line for each cause and minute since the sink last delivered, not one for each try.
	digits := regexp.MustCompile(`[0-9]+`)
	for _, sink := range []string{"avro", "thrift", "wrong"} {
		lines := map[string]int{}
		for _, l := range failures(sink, "") {
			_, cause, _ := strings.Cut(l, " err=")
			lines[digits.ReplaceAllString(cause, "")]++
		}
		most := 1 + strings.Count(sluice.out.String(), `msg="delivers again" component="sink `+sink+`"`) + int(time.Since(begin)/time.Minute)
		for cause, n := range lines {
			if n > most {
				t.Errorf("%s: %d lines, more than %d, of the cause %s", sink, n, most, cause)
			}
		}
		if len(lines) > 6 {
			t.Errorf("%s: %d causes: %q", sink, len(lines), slices.Sorted(maps.Keys(lines)))
		}
	}
	if n := len(outs["wrong"].Events()); n != 0 {
		t.Errorf("%d events came through without TLS", n)
	}
	sluice.kill() // the events of the sink without TLS would hold an orderly stop up
}

// TestRPCRefused fills the channel of the agent at the end of a hop, so that it
// answers FAILED: Flume's source to Sluice's sink and Sluice's source to Flume's,
// by both protocols. The events stay where they are, Sluice's log has one line
// about it, and all arrive when the channel has room again. A third pair has a
// source of Sluice's that demands certificates of clients, which Flume cannot show.
func TestRPCRefused(t *testing.T) {
	k := makeKeystores(t)
	tls := links(k)[2]
	mutual := append(slices.Clone(tls.source), "client-auth = required", "truststore = "+k.trustJKS, "truststore-password = "+storePass)
	var free ports
	nobody := map[string]int{}                  // where the last sink of each way sends to
	feed, names := map[string]int{}, []string{} // of the first source
	confs := map[string]*strings.Builder{"f": {}, "s": {}}
	lists := map[string][]string{}
	var listen []int
	for _, way := range []struct {
		name        string
		from, to    string // agents
		l           link
		small       bool     // the second channel
		first, next []string // of the first sink, of the second source
	}{
		{"ours-avro", "s", "f", link{typ: "avro"}, true, nil, nil},
		{"ours-thrift", "s", "f", link{typ: "thrift"}, true, nil, nil},
		{"theirs-avro", "f", "s", link{typ: "avro"}, true, nil, nil},
		{"theirs-thrift", "f", "s", link{typ: "thrift"}, true, nil, nil},
		{"mutual-avro", "f", "s", link{typ: "avro"}, false, tls.sink, mutual},
		{"mutual-thrift", "f", "s", link{typ: "thrift"}, false, tls.sink, mutual},
	} {
		a, b, end := free.take(t), free.take(t), free.take(t)
		feed[way.name], nobody[way.name] = a, end
		names = append(names, way.name)
		confs[way.from].WriteString(strings.Replace(flow(way.from, way.name+"-1", link{typ: way.l.typ, sink: way.first}, a, b), "batch-size = 1000", "batch-size = 50", 1))
		second := flow(way.to, way.name+"-2", link{typ: way.l.typ, source: way.next}, b, end)
		if way.small {
			second = strings.NewReplacer("capacity = 10000", "capacity = 100", "transactionCapacity = 10000", "transactionCapacity = 100", "batch-size = 1000", "batch-size = 100").Replace(second)
			second += fmt.Sprintf("%s.channels.%s-2.keep-alive = 0\n", way.to, way.name)
		}
		confs[way.to].WriteString(second)
		lists[way.from], lists[way.to] = append(lists[way.from], way.name+"-1"), append(lists[way.to], way.name+"-2")
		if way.from == "f" {
			listen = append(listen, a)
		} else {
			listen = append(listen, b)
		}
	}
	begin := time.Now()
	sluice := startSluice(t, "agent", "-n", "s", "-f", agentFile(t, "s", lists["s"], confs["s"].String()), "-Dflume.monitoring.type=http", "-Dflume.monitoring.port=0", "-Dflume.monitoring.host=127.0.0.1")
	flume := startFlumeConf(t, agentFile(t, "f", lists["f"], confs["f"].String()), "f", listen...)
	const batches, size = 30, 10
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Minute)
	defer cancel()
	var want []string
	for i := range batches {
		var evs []event.Event
		for j := range size {
			e := event.Event{Body: fmt.Appendf(nil, "event %d", i*size+j)}
			evs, want = append(evs, e), append(want, string(e.Body))
		}
		for _, name := range names {
			typ := name[strings.Index(name, "-")+1:]
			cl := feeder(t, link{typ: typ}, feed[name])
			eventually(t, 3*time.Minute, name+" takes events", func() error { return cl.AppendBatch(ctx, evs) })
			cl.Close()
		}
	}
	line := func(log string, parts ...string) (n int) {
		for _, l := range splitLines(log) {
			if !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(l, p) }) {
				n++
			}
		}
		return n
	}
	says := func(what string, log func() string, parts ...string) {
		t.Helper()
		eventually(t, 3*time.Minute, what, func() error {
			if line(log(), parts...) == 0 {
				return fmt.Errorf("no line with %q", parts)
			}
			return nil
		})
	}
	for _, typ := range []string{"avro", "thrift"} {
		says("Sluice's sink is told FAILED", sluice.out.String, "the sink failed", "sink=ours-"+typ+"-1 ", "refused the events (FAILED)")
		says("Sluice's source tells FAILED", sluice.out.String, "told FAILED", "source=theirs-"+typ+"-2 ")
		says("Sluice's source wants a certificate", sluice.out.String, "no call", "source=mutual-"+typ+"-2 ", "certificate")
	}
	says("Flume's sinks are told FAILED", flume.log, "FAILED")
	time.Sleep(3 * time.Second) // some tries more
	for _, typ := range []string{"avro", "thrift"} {
		for _, parts := range [][]string{{"the sink failed", "sink=ours-" + typ + "-1 "}, {"level=WARN", "source=theirs-" + typ + "-2 "}, {"level=WARN", "source=mutual-" + typ + "-2 "}} {
			n := line(sluice.out.String(), parts...)
			if most := 1 + int(time.Since(begin)/time.Minute); n < 1 || n > most { // once a minute
				t.Errorf("%d lines with %q, more than %d", n, parts, most)
			}
		}
	}
	outs := map[string]*componenttest.Output{}
	for _, name := range names {
		if !strings.HasPrefix(name, "mutual") {
			outs[name] = collector(t, link{typ: name[strings.Index(name, "-")+1:]}, nobody[name])
		}
	}
	for name, out := range outs {
		eventually(t, 3*time.Minute, name+": every event arrives", func() error {
			got := out.Bodies()
			for _, w := range want {
				if !slices.Contains(got, w) {
					return fmt.Errorf("%q is not there, %d are", w, len(got))
				}
			}
			return nil
		})
		t.Logf("%s: %d events, %d of them twice", name, len(want), len(out.Events())-len(want))
	}
	sluice.kill() // the sinks of the pairs with certificates have nobody to send to
}

// TestAvroClients lets Flume's avro-client send to Sluice's source and ours to
// Flume's.
func TestAvroClients(t *testing.T) {
	var free ports
	plain := link{name: "plain", typ: "avro"}
	toSluice, toFlume, end := free.take(t), free.take(t), free.take(t)
	sluiceOut, flumeOut := collector(t, plain, toSluice), collector(t, plain, end)
	dir := t.TempDir()
	lines := splitLines(status())
	file, headers := filepath.Join(dir, "lines"), filepath.Join(dir, "headers")
	for name, text := range map[string]string{file: status(), headers: "host = h1\nname = value with blanks\n"} {
		if err := os.WriteFile(name, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want := make([]event.Event, 0, len(lines))
	for _, l := range lines {
		want = append(want, event.Event{Body: []byte(strings.TrimSuffix(l, "\r")), Headers: []event.KV{{Key: "host", Value: []byte("h1")}, {Key: "name", Value: []byte("value with blanks")}}})
	}
	startFlumeConf(t, agentFile(t, "f", []string{"x"}, flow("f", "x", plain, toFlume, end)), "f", toFlume)
	for _, tt := range []struct {
		name    string
		out     *componenttest.Output
		command []string
		port    int
	}{
		{"flume to sluice", sluiceOut, []string{filepath.Join("peers", "flume-client.sh")}, toSluice},
		{"sluice to flume", flumeOut, []string{binary, "avro-client"}, toFlume},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := append(tt.command[1:], "-H", "127.0.0.1", "-p", fmt.Sprint(tt.port), "-R", headers)
			clientOutput(t, "", tt.command[0], append(args, "-F", file)...)
			tt.out.Wait(t, len(want))
			sameLines(t, tt.name, canonical(tt.out.Events()), canonical(want))

			clientOutput(t, "by the\nstandard input\n", tt.command[0], args...)
			tt.out.Wait(t, len(want)+2)

			spool := filepath.Join(t.TempDir(), "spool")
			if err := os.Mkdir(spool, 0o755); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(spool, "a"), []byte("one\ntwo\n"), 0o644); err != nil {
				t.Fatal(err)
			}
			clientOutput(t, "", tt.command[0], append(args, "--dirname", spool)...)
			tt.out.Wait(t, len(want)+4)
			got := tt.out.Bodies()
			sameLines(t, tt.name, got[len(want):], []string{"by the", "standard input", "one", "two"})
			if _, err := os.Stat(filepath.Join(spool, "a.COMPLETED")); err != nil && tt.command[0] == binary { // Flume's leaves the last one
				t.Error(err)
			}
		})
	}
}
