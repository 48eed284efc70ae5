package hbase

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	client "github.com/sluice-data/sluice/internal/hbase"
	"github.com/sluice-data/sluice/internal/hbase/hbasetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// configure makes a sink of a type from "key=value" properties; findings are
// what the operator would be told.
func configure(t testing.TB, typ string, props ...string) (s *sink, findings []string, log *bytes.Buffer, err error) {
	t.Helper()
	ty, ok := component.Default().Lookup(component.KindSink, typ)
	if !ok {
		t.Fatalf("no sink %s", typ)
	}
	c := ty.New()
	var ps []component.Property
	for _, p := range props {
		k, v, _ := strings.Cut(p, "=")
		ps = append(ps, component.Property{Key: k, Value: v})
	}
	note := func(f component.Finding) { findings = append(findings, f.Key+": "+f.Message) }
	for _, f := range component.Decode(component.Default(), c, ps) {
		if f.Error {
			return nil, nil, nil, fmt.Errorf("%s: %s", f.Key, f.Message)
		}
		note(f)
	}
	log = new(bytes.Buffer)
	made, err := c.(component.SinkConfig).NewSink(component.Env{
		Agent: "a1", Name: "k1", Log: slog.New(slog.NewTextHandler(log, nil)), Metrics: component.NewMetrics(), Health: func(error) {}, Finding: note,
	})
	if err != nil {
		return nil, findings, log, err
	}
	return made.(*sink), findings, log, nil
}

// start makes a sink for table t, family f of the cluster.
func start(t testing.TB, c *hbasetest.Cluster, typ string, props ...string) *sink {
	t.Helper()
	s, _, _, err := configure(t, typ, append([]string{"table=t", "columnFamily=f", "zookeeperQuorum=" + c.ZooKeeper(), "hbase.client.pause=1"}, props...)...)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Start(t.Context()); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Stop(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return s
}

func table(t testing.TB, splits ...string) *hbasetest.Cluster {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"f"}, splits...)
	return c
}

func ev(body string, headers ...string) event.Event {
	e := event.Event{Body: []byte(body)}
	for i := 0; i < len(headers); i += 2 {
		e.Headers = append(e.Headers, event.KV{Key: headers[i], Value: []byte(headers[i+1])})
	}
	return e
}

func write(t testing.TB, s *sink, evs ...event.Event) {
	t.Helper()
	if err := s.Write(t.Context(), evs); err != nil {
		t.Fatal(err)
	}
}

// want compares a table: lines of ROW QUALIFIER=VALUE…
func want(t *testing.T, c *hbasetest.Cluster, lines ...string) {
	t.Helper()
	var got []string
	rows := c.Rows("t")
	for _, row := range slices.Sorted(maps.Keys(rows)) {
		line := row
		for _, q := range slices.Sorted(maps.Keys(rows[row])) {
			line += " " + strings.TrimPrefix(q, "f:") + "=" + rows[row][q]
		}
		got = append(got, line)
	}
	if !slices.Equal(got, lines) {
		t.Errorf("rows\n%q, want\n%q", got, lines)
	}
}

func TestTypes(t *testing.T) {
	for name, class := range map[string]string{
		"hbase": "org.apache.flume.sink.hbase.HBaseSink", "hbase2": "org.apache.flume.sink.hbase2.HBase2Sink", "asynchbase": "org.apache.flume.sink.hbase.AsyncHBaseSink",
	} {
		for _, n := range []string{name, class} {
			s, _, _, err := configure(t, n, "table=t", "columnFamily=f", "zookeeperQuorum=h:2181")
			if err != nil {
				t.Fatal(err)
			}
			if s.BatchSize() != 100 || s.coalesce || !s.wal || s.cfg.Parent != "/hbase" || s.cfg.Timeout != 0 && s.cfg.Timeout != time.Minute {
				t.Errorf("%s: %+v", n, s.config)
			}
			if _, ok := s.ser.(*simple); !ok {
				t.Errorf("%s: serializer %T", n, s.ser)
			}
		}
	}
}

func TestSimple(t *testing.T) {
	now := time.Now()
	for suffix, form := range map[string]string{
		"":          `^default[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$`,
		"uuid":      `^default[0-9a-f]{8}-`,
		"nonsense":  `^default[0-9a-f]{8}-`, // as in Flume
		"random":    `^default-?\d{1,19}$`,
		"timestamp": `^default\d{13}$`,
		"nano":      `^default\d{19}$`,
	} {
		t.Run(suffix, func(t *testing.T) {
			c := table(t)
			props := []string{}
			if suffix != "" {
				props = append(props, "serializer.suffix="+suffix)
			}
			s := start(t, c, "hbase2", props...)
			write(t, s, ev("a"), ev("b", "h", "v"))
			if suffix == "timestamp" {
				time.Sleep(2 * time.Millisecond)
			}
			write(t, s, ev(""))
			rows := c.Rows("t")
			if got := binary.BigEndian.Uint64([]byte(rows["incRow"]["f:iCol"])); got != 3 {
				t.Errorf("counted %d", got)
			}
			delete(rows, "incRow")
			var bodies []string
			re := regexp.MustCompile(form)
			for row, cells := range rows {
				if !re.MatchString(row) || len(cells) != 1 {
					t.Errorf("row %s: %v", row, cells)
				}
				bodies = append(bodies, cells["f:pCol"])
				switch suffix {
				case "timestamp", "nano":
					n, err := strconv.ParseInt(strings.TrimPrefix(row, "default"), 10, 64)
					if err != nil {
						t.Fatal(err)
					}
					if suffix == "timestamp" {
						n *= 1e6
					}
					if at := time.Unix(0, n); at.Before(now.Add(-time.Second)) || at.After(time.Now().Add(time.Second)) {
						t.Errorf("row %s is of %v", row, at)
					}
				}
			}
			slices.Sort(bodies)
			// Two events of one millisecond may have one row.
			if !slices.Equal(bodies, []string{"", "a", "b"}) && (suffix != "timestamp" || !slices.Equal(bodies, []string{"", "b"})) {
				t.Errorf("bodies %q", bodies)
			}
		})
	}
	c := table(t)
	s := start(t, c, "asynchbase", "serializer=org.apache.flume.sink.hbase.SimpleAsyncHbaseEventSerializer", "serializer.rowPrefix=p", "serializer.incrementRow=r", "serializer.incrementColumn=i", "serializer.payloadColumn=b")
	write(t, s, ev("x"))
	for row, cells := range c.Rows("t") {
		if row != "r" && (!strings.HasPrefix(row, "p") || cells["f:b"] != "x") || row == "r" && cells["f:i"] != "\x00\x00\x00\x00\x00\x00\x00\x01" {
			t.Errorf("row %s: %q", row, cells)
		}
	}
}

func TestCoalesce(t *testing.T) {
	for coalesce, incs := range map[string]int{"false": 5, "true": 1} {
		c := table(t)
		n := 0
		c.Fault = func(m hbasetest.Mutation) (string, string) {
			if m.Increment {
				n++
			}
			if m.SkipWAL != (coalesce == "true") {
				t.Error("the write-ahead log")
			}
			return "", ""
		}
		s := start(t, c, "hbase", "coalesceIncrements="+coalesce, "enableWal="+strconv.FormatBool(coalesce != "true"))
		write(t, s, ev("1"), ev("2"), ev("3"), ev("4"), ev("5"))
		if got := binary.BigEndian.Uint64([]byte(c.Rows("t")["incRow"]["f:iCol"])); got != 5 || n != incs {
			t.Errorf("coalesce %s: counted %d, by %d increments", coalesce, got, n)
		}
	}
}

func TestRegex(t *testing.T) {
	for _, tt := range []struct {
		name  string
		props []string
		evs   []event.Event
		want  []string
	}{
		{"row key", []string{`serializer.regex=(\d+),(\w+),(.*)`, "serializer.colNames=date,row_key,rest", "serializer.rowKeyIndex=1"},
			[]event.Event{ev("1,car,a\nb"), ev("2,bus,"), ev("x,no,match"), ev("3,tram,z more")},
			[]string{"bus date=2 rest=", "car date=1 rest=a\nb", "tram date=3 rest=z more"}},
		{"full match", []string{`serializer.regex=(a|ab)(c|bcd)`, "serializer.colNames=ROW_KEY,x", "serializer.rowKeyIndex=0"},
			[]event.Event{ev("abcd"), ev("abcde"), ev("xabcd")}, []string{"a x=bcd"}},
		{"case", []string{`serializer.regex=(k)(.*)`, "serializer.regexIgnoreCase=true", "serializer.colNames=ROW_KEY,x", "serializer.rowKeyIndex=0"},
			[]event.Event{ev("K1"), ev("k2")}, []string{"K x=1", "k x=2"}},
		{"headers", []string{`serializer.regex=(\w+)-(\w+)`, "serializer.colNames=ROW_KEY, b", "serializer.rowKeyIndex=0", "serializer.depositHeaders=true"},
			[]event.Event{ev("r-1", "host", "h1", " b", "over")}, []string{"r  b=over host=h1"}},
		{"headers alone", []string{"serializer.colNames=ROW_KEY", "serializer.rowKeyIndex=0", "serializer.depositHeaders=true"},
			[]event.Event{ev("r", "host", "h1")}, []string{"r host=h1"}},
		{"charset", []string{`serializer.regex=(.)(.*)`, "serializer.charset=ISO-8859-1", "serializer.colNames=ROW_KEY,\u00e9", "serializer.rowKeyIndex=0", "serializer.depositHeaders=true"},
			[]event.Event{ev("k\xe4\xdf", "h", "\u00fc")}, []string{"k h=\xfc \xe9=\u00e4\u00df"}},
		{"malformed text", []string{`serializer.regex=(.)(.*)`, "serializer.colNames=ROW_KEY,v", "serializer.rowKeyIndex=0"},
			[]event.Event{ev("k\xffx")}, []string{"k v=\uFFFDx"}},
		{"trailing commas", []string{`serializer.regex=(.)(.*)`, "serializer.colNames=ROW_KEY,v,,", "serializer.rowKeyIndex=0"},
			[]event.Event{ev("k1")}, []string{"k v=1"}},
		{"as many groups as columns", []string{`serializer.regex=(.)(.*)`, "serializer.colNames=a,b,c"}, []event.Event{ev("k1")}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := table(t)
			s := start(t, c, "hbase2", append(tt.props, "serializer=org.apache.flume.sink.hbase2.RegexHBase2EventSerializer")...)
			write(t, s, tt.evs...)
			want(t, c, tt.want...)
		})
	}
	t.Run("made-up row keys", func(t *testing.T) {
		c := table(t)
		s := start(t, c, "hbase", "serializer=org.apache.flume.sink.hbase.RegexHbaseEventSerializer")
		var evs []event.Event
		for i := range 50 {
			evs = append(evs, ev(fmt.Sprint("body\n", i)))
		}
		write(t, s, evs...)
		rows := c.Rows("t")
		re := regexp.MustCompile(`^\d{13}-[A-Za-z0-9]{10}-(\d+)$`)
		for row, cells := range rows {
			m := re.FindStringSubmatch(row)
			if m == nil || cells["f:payload"] != "body\n"+m[1] {
				t.Errorf("row %s: %q", row, cells)
			}
		}
		if len(rows) != 50 {
			t.Errorf("%d rows", len(rows))
		}
	})
	t.Run("what does not match is counted and told once", func(t *testing.T) {
		c := table(t)
		s, _, log, err := configure(t, "hbase2", "table=t", "columnFamily=f", "zookeeperQuorum="+c.ZooKeeper(), "serializer=regex", `serializer.regex=(\d+)`, "serializer.colNames=n")
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Start(t.Context()); err != nil {
			t.Fatal(err)
		}
		defer s.Stop(t.Context())
		write(t, s, ev("one"), ev("two"), ev("3"))
		if n := s.env.Metrics.Counter("EventUnmatchedCount").Load(); n != 2 || strings.Count(log.String(), "is not stored") != 1 || !strings.Contains(log.String(), "one") {
			t.Errorf("counted %d; log:\n%s", n, log)
		}
	})
}

// The handbook's row.
func TestDelimited(t *testing.T) {
	pilot := []string{"serializer=delimited", "serializer.colNames=date,car_number,speed_pedal,break_pedal,steer_angle,direct_light,speed,area_number", "serializer.rowKey={date:reversed}-{car_number}"}
	c := table(t)
	s := start(t, c, "hbase2", pilot...)
	write(t, s, ev("20160103221000,X0005,2,0,F,N,10,D08"), ev("20160103221000,X0005,2,0,F,N,10,D08"))
	want(t, c, "00012230106102-X0005 area_number=D08 break_pedal=0 car_number=X0005 date=20160103221000 direct_light=N speed=10 speed_pedal=2 steer_angle=F")

	for _, bad := range []string{"", "20160103221000", "20160103221000,X0005,2,0,F,N,10", "20160103221000,X0005,2,0,F,N,10,D08,"} {
		if err := s.Write(t.Context(), []event.Event{ev(bad)}); !component.IsPermanent(err) || !strings.Contains(err.Error(), "fields") {
			t.Errorf("%q: %v", bad, err)
		}
		d := start(t, c, "hbase2", append(pilot, "serializer.malformed=drop")...)
		write(t, d, ev(bad))
		if n := d.env.Metrics.Counter("EventUnmatchedCount").Load(); n != 1 {
			t.Errorf("%q: counted %d", bad, n)
		}
	}

	c = table(t)
	s = start(t, c, "hbase2", "serializer=delimited", "serializer.separator=||", "serializer.colNames= a ,, b", "serializer.rowKey=x/{b}{a:reversed}")
	write(t, s, ev("한글||skipped||"), ev("1|2||3||4"))
	want(t, c, "x/42|1 a=1|2 b=4", "x/글한 a=한글 b=")
}

// One event's fault is that event's alone.
func TestPartialFailure(t *testing.T) {
	c := table(t)
	s := start(t, c, "hbase2", "serializer=regex", `serializer.regex=(\w*)(?:=(\w+))?`, "serializer.colNames=ROW_KEY,v", "serializer.rowKeyIndex=0")
	c.Fault = func(m hbasetest.Mutation) (string, string) {
		if m.Row == "huge" || m.Row != "good" && !m.Alone {
			return "org.apache.hadoop.hbase.DoNotRetryIOException", "Cell[huge/f:v] exceeds limit of 10485760 bytes"
		}
		return "", ""
	}
	long := strings.Repeat("k", client.MaxRow+1)
	err := s.Write(t.Context(), []event.Event{ev("good=1"), ev("=nokey"), ev("nogroup"), ev("huge=x"), ev(long + "=v"), ev("fine=2")})
	var p *component.PartialError
	if !errors.As(err, &p) || len(p.Failed) != 4 {
		t.Fatalf("%v", err)
	}
	for i, text := range map[int]string{1: "row key is empty", 2: "took no part", 3: "exceeds limit", 4: "longer than 32767"} {
		if e := p.Failed[i]; !component.IsPermanent(e) || !strings.Contains(e.Error(), text) {
			t.Errorf("event %d: %v", i, e)
		}
	}
	want(t, c, "fine v=2", "good v=1")
}

// An event whose count is not confirmed is not delivered, and others are.
func TestIncrementFails(t *testing.T) {
	c := table(t, "j")
	bad := true
	c.Fault = func(m hbasetest.Mutation) (string, string) {
		if m.Increment && m.Index == 1 && bad {
			return "org.apache.hadoop.hbase.security.AccessDeniedException", "no"
		}
		return "", ""
	}
	s := start(t, c, "hbase2", "user=car")
	err := s.Write(t.Context(), []event.Event{ev("a"), ev("b"), ev("c")})
	var p *component.PartialError
	if !errors.As(err, &p) || len(p.Failed) != 1 || component.IsPermanent(p.Failed[1]) || !strings.Contains(p.Failed[1].Error(), "user car may not write to table t") {
		t.Fatalf("%v", err)
	}
	bad = false
	write(t, s, ev("b"))
	if got := binary.BigEndian.Uint64([]byte(c.Rows("t")["incRow"]["f:iCol"])); got != 3 {
		t.Errorf("counted %d", got)
	}
}

// A missing table and a missing family are named, and nothing but time is
// needed when they are there.
func TestMissing(t *testing.T) {
	c := hbasetest.New(t, 1)
	s := start(t, c, "hbase2")
	for range 2 {
		err := s.Write(t.Context(), []event.Event{ev("a"), ev("b")})
		if p := (*component.PartialError)(nil); err == nil || errors.As(err, &p) || component.IsPermanent(err) || !strings.Contains(err.Error(), "table t does not exist: create it, with the column family f") {
			t.Fatalf("%v", err)
		}
	}
	c.CreateTable("t", []string{"other"})
	if err := s.Write(t.Context(), []event.Event{ev("a")}); err == nil || component.IsPermanent(err) || !strings.Contains(err.Error(), "table t has no column family f") {
		t.Errorf("%v", err)
	}
	c.AddFamily("t", "f")
	write(t, s, ev("a"), ev("b"))
	if n := len(c.Rows("t")); n != 3 {
		t.Errorf("%d rows", n)
	}
}

func TestMaxConsecutiveFails(t *testing.T) {
	c := hbasetest.New(t, 1)
	c.CreateTable("t", []string{"other"})
	s := start(t, c, "asynchbase", "maxConsecutiveFails=3")
	created := s.env.Metrics.Counter("ConnectionCreatedCount")
	for range 7 {
		if err := s.Write(t.Context(), []event.Event{ev("a")}); err == nil {
			t.Fatal("written")
		}
	}
	if n := created.Load(); n != 3 {
		t.Errorf("%d connections for seven failures", n)
	}
}

func TestLifecycle(t *testing.T) {
	c := table(t)
	s, _, _, err := configure(t, "hbase2", "table=t", "columnFamily=f", "zookeeperQuorum="+c.ZooKeeper())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if err := s.Write(t.Context(), []event.Event{ev("a")}); err == nil {
		t.Error("written without Start")
	}
	for range 2 {
		if err := errors.Join(s.Start(t.Context()), s.Start(t.Context())); err != nil {
			t.Fatal(err)
		}
		write(t, s, ev("a"))
		if err := errors.Join(s.Stop(t.Context()), s.Stop(t.Context())); err != nil {
			t.Error(err)
		}
	}
}

func TestConfig(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("HBASE_CONF_DIR", dir)
	t.Setenv("HBASE_HOME", "")
	t.Setenv("HADOOP_USER_NAME", "hadoop")
	site := func(kvs ...string) string {
		var b strings.Builder
		b.WriteString("<configuration>")
		for _, kv := range kvs {
			k, v, _ := strings.Cut(kv, "=")
			fmt.Fprintf(&b, "<property><name>%s</name><value>%s</value></property>", k, v)
		}
		b.WriteString("</configuration>")
		return b.String()
	}
	for _, tt := range []struct {
		name  string
		site  string
		typ   string
		props []string
		want  string // of the client's Config, or of the error
	}{
		{"quorum", "", "hbase2", []string{"zookeeperQuorum=a:2182, b:2182 ,[::1]:2183,c", "znodeParent=/hbase-unsecure/"},
			"zookeeper [a:2182 b:2182 [::1]:2183 c:2181] /hbase-unsecure/ hadoop 0s 0s"},
		{"nothing", "", "hbase2", nil, "zookeeper [localhost:2181] /hbase hadoop 0s 0s; zookeeperQuorum: not set, and no hbase-site.xml says it: localhost:2181 is asked, as HBase does"},
		{"site", site("hbase.zookeeper.quorum=z1,z2", "hbase.zookeeper.property.clientPort=2222", "zookeeper.znode.parent=/h", "hbase.rpc.timeout=5", "hbase.client.operation.timeout=7"), "hbase2", nil,
			"zookeeper [z1:2222 z2:2222] /h hadoop 5ms 7ms"},
		{"file over site", site("hbase.zookeeper.quorum=z1", "zookeeper.znode.parent=/h", "hbase.rpc.timeout=5"), "hbase2", []string{"zookeeperQuorum=a:1", "hbase.rpc.timeout=9", "user=u"},
			"zookeeper [a:1] /h u 9ms 0s"},
		{"registry", site("hbase.client.registry.impl=org.apache.hadoop.hbase.client.RpcConnectionRegistry", "hbase.client.bootstrap.servers=m1:16000,m2"), "hbase2", nil, "rpc [m1:16000 m2:16000]  hadoop 0s 0s"},
		{"masters", "", "hbase2", []string{"hbase.client.registry.impl=MasterRegistry", "hbase.masters=m1"}, "rpc [m1:16000]  hadoop 0s 0s; hbase.masters: deprecated name, still honoured"},
		{"asynchbase", site("hbase.client.operation.timeout=7"), "asynchbase", []string{"zookeeperQuorum=a:1", "timeout=-1", "async.hbase.rpcs.batch.size=1"},
			"zookeeper [a:1] /hbase hadoop 0s 1m0s; async.hbase.rpcs.batch.size: no effect: these are settings of the library asynchbase, which is not there; hbase.rpc.timeout and others stand beside it; timeout: counts as 60000, as in Flume"},

		{"requests", site(perServerKey + "=3"), "hbase2", []string{"zookeeperQuorum=a:1"}, "zookeeper [a:1] /hbase hadoop 0s 0s 3 at a server"},
		{"requests over site", site(perServerKey + "=3"), "hbase2", []string{"zookeeperQuorum=a:1", perServerKey + "=5"}, "zookeeper [a:1] /hbase hadoop 0s 0s 5 at a server"},
		{"requests in a bad site", site(perServerKey + "=0"), "hbase2", []string{"zookeeperQuorum=a:1"}, `error: hbaseSite: hbase.client.max.perserver.tasks: "0" is not a number from 1 to 100`},
		{"no bootstrap", "", "hbase2", []string{"hbase.client.registry.impl=RpcConnectionRegistry"}, "error: hbase.client.bootstrap.servers: required with this registry, but not set (masters or region servers as HOST:PORT)"},
		{"unknown registry", "", "hbase2", []string{"hbase.client.registry.impl=x.Y"}, `error: hbase.client.registry.impl: unknown registry "x.Y"`},
		{"Kerberos", "", "hbase2", []string{"kerberosPrincipal=p"}, "error: kerberosPrincipal: not supported: " + kerberos},
		{"Kerberos in the site", site("hbase.security.authentication=kerberos"), "hbase", nil, "error: hbaseSite: hbase.security.authentication is kerberos: " + kerberos},
		{"TLS in the site", site("hbase.client.netty.tls.enabled=true"), "hbase", nil, "error: hbaseSite: hbase.client.netty.tls.enabled is true: TLS is not there"},
		{"bad site", "<configuration>", "hbase", nil, "error: hbaseSite: read " + filepath.Join(dir, "hbase-site.xml") + ": XML syntax error on line 1: unexpected EOF"},
		{"bad number in the site", site("hbase.rpc.timeout=soon"), "hbase", nil, `error: hbaseSite: hbase.rpc.timeout: "soon" is not a number of ms`},
		{"no such site", "", "hbase", []string{"hbaseSite=/nowhere.xml"}, "error: hbaseSite: open /nowhere.xml: no such file or directory"},
		{"chroot", "", "hbase", []string{"zookeeperQuorum=a:2181/hbase"}, `error: zookeeperQuorum: "a:2181/hbase": a server is HOST:PORT; HBase's node goes into znodeParent`},
		{"no port", "", "hbase", []string{"zookeeperQuorum=a:x"}, `error: zookeeperQuorum: "a:x" is not HOST:PORT`},
		{"no server", "", "hbase", []string{"zookeeperQuorum=,"}, `error: zookeeperQuorum: "," names no server`},
		{"parent", "", "hbase", []string{"zookeeperQuorum=a:1", "znodeParent=hbase"}, `error: znodeParent: "hbase" does not begin with a slash`},
		{"no family", "", "hbase", []string{"columnFamily=" + strings.Repeat("x", 128)}, "error: columnFamily: " + client.ErrFamily.Error()},
		{"regex", "", "hbase", []string{"serializer=regex", "serializer.regex=(", "zookeeperQuorum=a:1"}, "error: serializer.regex: "},
		{"row key index", "", "hbase", []string{"serializer=regex", "serializer.colNames=a,b", "serializer.rowKeyIndex=2", "zookeeperQuorum=a:1"}, "error: serializer.rowKeyIndex: 2: there are 2 columns, counted from 0"},
		{"row key name", "", "hbase", []string{"serializer=regex", "serializer.colNames=a", "serializer.rowKeyIndex=0", "zookeeperQuorum=a:1"}, `error: serializer.rowKeyIndex: column 0 is called "a"`},
		{"groups", "", "hbase", []string{"serializer=regex", "serializer.colNames=a,b", "zookeeperQuorum=a:1"}, "zookeeper [a:1] /hbase hadoop 0s 0s; serializer.colNames: the expression has 1 groups and there are 2 columns, so no event is stored, as in Flume"},
		{"no key", "", "hbase", []string{"serializer=delimited", "serializer.colNames=a", "zookeeperQuorum=a:1"}, "error: serializer.rowKey: required, but not set"},
		{"key of no column", "", "hbase", []string{"serializer=delimited", "serializer.colNames=a", "serializer.rowKey={b}", "zookeeperQuorum=a:1"}, `error: serializer.rowKey: there is no column "b"`},
		{"key with a modifier", "", "hbase", []string{"serializer=delimited", "serializer.colNames=a", "serializer.rowKey={a:upper}", "zookeeperQuorum=a:1"}, `error: serializer.rowKey: "upper" is not known: only reversed is`},
		{"key without an end", "", "hbase", []string{"serializer=delimited", "serializer.colNames=a", "serializer.rowKey=x{a", "zookeeperQuorum=a:1"}, `error: serializer.rowKey: "{a" lacks a closing brace`},
		{"columns twice", "", "hbase", []string{"serializer=delimited", "serializer.colNames=a,a", "serializer.rowKey={a}", "zookeeperQuorum=a:1"}, `error: serializer.colNames: the column "a" is there twice`},
		{"no columns", "", "hbase", []string{"serializer=delimited", "serializer.colNames=,", "serializer.rowKey=k", "zookeeperQuorum=a:1"}, `error: serializer.colNames: no field has a name, so nothing would be stored`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := filepath.Join(dir, "hbase-site.xml")
			if err := os.RemoveAll(path); err != nil {
				t.Fatal(err)
			}
			if tt.site != "" {
				if err := os.WriteFile(path, []byte(tt.site), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			props := append([]string{"table=t"}, tt.props...)
			if !strings.Contains(strings.Join(props, " "), "columnFamily") {
				props = append(props, "columnFamily=f")
			}
			s, findings, _, err := configure(t, tt.typ, props...)
			got := ""
			if err != nil {
				got = "error: " + err.Error()
			} else {
				c := s.cfg
				got = fmt.Sprintf("%s %s %s %s %v %v", c.Registry, append(c.Quorum, c.Bootstrap...), c.Parent, c.User, c.RPCTimeout, c.Timeout)
				if c.PerServer > 0 {
					got += fmt.Sprintf(" %d at a server", c.PerServer)
				}
				for _, f := range findings {
					got += "; " + f
				}
			}
			if got != tt.want && (err == nil || !strings.HasPrefix(got, tt.want) || tt.want == "") {
				t.Errorf("%s\nwant %s", got, tt.want)
			}
		})
	}
}

// Making rows takes no memory for an event, whatever the serializer.
func TestAllocations(t *testing.T) {
	evs := make([]event.Event, 100)
	for i := range evs {
		evs[i] = ev("20160103221000,X0005,2,0,F,N,10,D08", "host", "h")
	}
	for name, props := range map[string][]string{
		"simple":    {"coalesceIncrements=true"},
		"regex":     {"serializer=regex", `serializer.regex=(\d+),(\w+),(.*)`, "serializer.colNames=date,ROW_KEY,rest", "serializer.rowKeyIndex=1"},
		"delimited": {"serializer=delimited", "serializer.colNames=date,car_number,a,b,c,d,e,f", "serializer.rowKey={date:reversed}-{car_number}"},
	} {
		t.Run(name, func(t *testing.T) {
			s, _, _, err := configure(t, "hbase2", append(props, "table=t", "columnFamily=cf1", "zookeeperQuorum=h:1")...)
			if err != nil {
				t.Fatal(err)
			}
			componenttest.NoMoreAllocs(t, 5, func() {
				s.puts.Reset()
				s.sums = s.sums[:0]
				for i := range evs {
					if err := s.ser.AppendPuts(&s.puts, s.family, &evs[i]); err != nil {
						t.Fatal(err)
					}
					s.ser.Counts(&evs[i], func(_, _ []byte, _ int64) {})
				}
			})
		})
	}
}
