package metastore

import (
	"context"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// A server that answers this method does not know get_table_req.
const old = "get_table"

// server answers each call on each connection with what answer writes for its method; nil: it hangs up.
func server(t *testing.T, answer func(method string) func(*out)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go serve(conn, answer)
		}
	}()
	return "thrift://" + l.Addr().String()
}

func serve(conn net.Conn, answer func(method string) func(*out)) {
	defer conn.Close()
	p := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(thrift.NewTSocketFromConnConf(conn, limits), 4096), limits)
	ctx := context.Background()
	for {
		method, _, seq, err := p.ReadMessageBegin(ctx)
		if err != nil || p.Skip(ctx, thrift.STRUCT) != nil || p.ReadMessageEnd(ctx) != nil {
			return
		}
		fields := answer(method)
		if fields == nil {
			return
		}
		kind := thrift.REPLY
		if method == "get_table_req" && answer(old) != nil {
			kind = thrift.EXCEPTION
			fields = func(o *out) {
				o.str(1, "Invalid method name: 'get_table_req'")
				o.do(p.WriteFieldBegin(ctx, "", thrift.I32, 2))
				o.do(p.WriteI32(ctx, thrift.UNKNOWN_METHOD))
			}
		}
		o := &out{ctx: ctx, p: p}
		o.do(p.WriteMessageBegin(ctx, method, kind, seq))
		o.body(func() { fields(o) })
		o.do(p.WriteMessageEnd(ctx))
		if o.do(p.Flush(ctx)); o.err != nil {
			return
		}
	}
}

func client(t *testing.T, uris string) *Client {
	t.Helper()
	c, err := New(uris, 3*time.Minute) // a machine under load may take many seconds for anything
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func exception(id int16, message string) func(*out) {
	return func(o *out) { o.structure(id, func() { o.str(1, message) }) }
}

// aTable is field 0 of an answer, with a field that nobody knows.
func aTable(o *out) {
	o.structure(0, func() {
		o.str(99, "new")
		o.structure(7, func() { o.str(2, "file:/t") })
		o.str(12, "MANAGED_TABLE")
	})
}

func TestOldMetastore(t *testing.T) {
	c := client(t, server(t, func(method string) func(*out) {
		return aTable
	}))
	table, err := c.Table(t.Context(), "default", "t")
	if err != nil || table.Location != "file:/t" || table.Type != "MANAGED_TABLE" {
		t.Errorf("%+v, %v", table, err)
	}
}

func TestRefusals(t *testing.T) {
	c := client(t, server(t, func(method string) func(*out) {
		switch method {
		case "get_table_req":
			return exception(2, "no table")
		case "append_partition_by_name":
			return exception(2, "there before")
		case "get_partition_by_name":
			return exception(1, "the database is down")
		}
		return nil
	}))
	if _, err := c.Table(t.Context(), "default", "t"); !errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "no table") {
		t.Error(err)
	}
	if _, err := c.AddPartition(t.Context(), "default", "t", "d=1"); !errors.Is(err, ErrExists) {
		t.Error(err)
	}
	if _, err := c.Partition(t.Context(), "default", "t", "d=1"); err == nil || errors.Is(err, ErrNotFound) || !strings.Contains(err.Error(), "refuses: the database is down") {
		t.Error(err)
	}
}

// A metastore that was restarted has closed the connection; the next call makes a new one, and no error of it.
func TestHangUp(t *testing.T) {
	var calls atomic.Int32
	c := client(t, server(t, func(method string) func(*out) {
		if method != "get_partition_by_name" {
			return nil
		}
		if calls.Add(1) == 2 {
			return nil
		}
		return func(o *out) { o.structure(0, func() { o.structure(6, func() { o.str(2, "file:/p") }) }) }
	}))
	for range 2 {
		if s, err := c.Partition(t.Context(), "default", "t", "d=1"); err != nil || s.Location != "file:/p" {
			t.Errorf("%+v, %v", s, err)
		}
	}
	if calls.Load() != 3 {
		t.Errorf("%d calls", calls.Load())
	}
	if _, err := c.AddPartition(t.Context(), "default", "t", "d=1"); err == nil || !strings.Contains(err.Error(), "sasl") {
		t.Error(err)
	}
}

func TestLocations(t *testing.T) {
	names := make([]string, maxNames+1)
	var calls atomic.Int32
	c := client(t, server(t, func(method string) func(*out) {
		switch method {
		case "get_partition_names":
			return func(o *out) { o.list(0, names) }
		case "get_partitions_by_names":
			calls.Add(1)
			return func(o *out) {
				o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.LIST, 0))
				o.do(o.p.WriteListBegin(o.ctx, thrift.STRUCT, 2))
				for _, dir := range []string{"file:/a", "file:/b"} {
					o.body(func() { o.structure(6, func() { o.str(2, dir) }) })
				}
				o.do(o.p.WriteListEnd(o.ctx))
				o.do(o.p.WriteFieldEnd(o.ctx))
			}
		}
		return nil
	}))
	got, err := c.Locations(t.Context(), "default", "t")
	if err != nil || calls.Load() != 2 || strings.Join(got, " ") != "file:/a file:/b file:/a file:/b" {
		t.Errorf("%q, %v, %d calls", got, err, calls.Load())
	}
}

// An answer that does not end, or is far larger in memory than on the wire, is an error and no more.
func TestHugeAnswer(t *testing.T) {
	columns := func(n int, elements func(o *out)) func(*out) {
		return func(o *out) {
			o.structure(0, func() {
				o.do(o.p.WriteFieldBegin(o.ctx, "", thrift.LIST, 8))
				o.do(o.p.WriteListBegin(o.ctx, thrift.STRUCT, n))
				elements(o)
				o.do(o.p.WriteListEnd(o.ctx))
				o.do(o.p.WriteFieldEnd(o.ctx))
			})
		}
	}
	text := strings.Repeat("x", 1<<20)
	for want, answer := range map[string]func(*out){
		"list of 1048577 elements": columns(maxItems+1, func(o *out) {
			for range maxItems + 1 {
				o.body(func() {})
			}
		}),
		"longer than 67108864 bytes": columns(maxItems, func(o *out) {
			for range 200 {
				o.body(func() { o.str(1, text) })
			}
		}),
	} {
		c := client(t, server(t, func(string) func(*out) { return answer }))
		if _, err := c.Table(t.Context(), "default", "t"); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q", err, want)
		}
	}
}

// The limit is one of each answer: a connection may be used for ever.
func TestManyAnswers(t *testing.T) {
	text := strings.Repeat("x", 10<<20)
	c := client(t, server(t, func(string) func(*out) {
		return func(o *out) { o.structure(0, func() { o.str(12, text) }) }
	}))
	for range 8 {
		conn := c.conn
		if table, err := c.Table(t.Context(), "default", "t"); err != nil || len(table.Type) != len(text) {
			t.Fatal(err)
		}
		if conn != nil && conn != c.conn {
			t.Error("there is a new connection")
		}
	}
}

func TestNoAnswer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := New("thrift://"+l.Addr().String(), 50*time.Millisecond)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.Table(t.Context(), "default", "t"); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	l.Close()
	if _, err := c.Table(t.Context(), "default", "t"); err == nil || !strings.Contains(err.Error(), "connect to the metastore") {
		t.Error(err)
	}
}

// The first of several that can be reached serves.
func TestSeveral(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed := "thrift://" + l.Addr().String()
	l.Close()
	c := client(t, closed+", "+server(t, func(method string) func(*out) {
		if method == old {
			return nil
		}
		return aTable
	}))
	if _, err := c.Table(t.Context(), "default", "t"); err != nil {
		t.Error(err)
	}
}

func TestAddresses(t *testing.T) {
	for _, s := range []string{"", "localhost:9083", "http://localhost:9083", "thrift://", "thrift://a:1,b"} {
		if _, err := New(s, time.Second); err == nil {
			t.Errorf("%q is taken", s)
		}
	}
	c, err := New("thrift://a,thrift://[::1]:1", time.Second)
	if err != nil || strings.Join(c.addrs, " ") != "a:9083 [::1]:1" {
		t.Error(c, err)
	}
}

func TestPartitionName(t *testing.T) {
	got := PartitionName([]Field{{Name: "day"}, {Name: "h:r"}}, []string{"2026-11-26", "a/b=50%\x01ä"})
	if want := "day=2026-11-26/h%3Ar=a%2Fb%3D50%25%01ä"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func FuzzAnswer(f *testing.F) {
	record := func(fields func(*out)) {
		buf := thrift.NewTMemoryBuffer()
		p := thrift.NewTBinaryProtocolConf(buf, limits)
		o := &out{ctx: f.Context(), p: p}
		o.body(func() { fields(o) })
		if err := p.Flush(f.Context()); o.err != nil || err != nil {
			f.Fatal(o.err, err)
		}
		f.Add(buf.Bytes())
	}
	record(aTable)
	record(func(o *out) { o.list(0, []string{"a", "b"}) })
	record(exception(2, "no table"))
	f.Fuzz(func(t *testing.T, b []byte) {
		p := thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportR(io.LimitReader(strings.NewReader(string(b)), int64(len(b)))), limits)
		var table Table
		_ = (&result{value: func(in *in) { in.table(&table) }, notFound: 2}).Read(t.Context(), p)
		p = thrift.NewTBinaryProtocolConf(thrift.NewStreamTransportR(io.LimitReader(strings.NewReader(string(b)), int64(len(b)))), limits)
		_ = (&result{value: func(in *in) { list(in, in.str) }, kind: thrift.LIST}).Read(t.Context(), p)
	})
}
