package kafka

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/serde"
)

func kvs(pairs ...string) (hs []event.KV) {
	for i := 0; i < len(pairs); i += 2 {
		hs = append(hs, event.KV{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return hs
}

func putEvents(t testing.TB, c *Channel, evs ...event.Event) error {
	t.Helper()
	b := event.NewPool().NewBatch()
	defer b.Release()
	for _, e := range evs {
		b.AppendEvent(e.Body, e.Headers)
	}
	return c.Put(t.Context(), b)
}

// TestRecords looks at the bytes in the topic.
func TestRecords(t *testing.T) {
	addr := startBroker(t, nil)
	avro := "\x04\x06key\x04k1\x02p\x022\x00\x04hi" // {key: k1, p: 2}, hi
	tests := []struct {
		name      string
		props     []string
		ev        event.Event
		value     string
		key       string // "-": none
		partition int32  // -1: any
		headers   string
	}{
		{"a Flume event", nil, event.Event{Body: []byte("hi"), Headers: kvs("key", "k1", "p", "2")}, avro, "k1", -1, "[]"},
		{"without headers", nil, event.Event{Body: []byte("hi")}, "\x00\x04hi", "-", -1, "[]"},
		{"without anything", nil, event.Event{}, "\x00\x00", "-", -1, "[]"},
		{"body", []string{"parseAsFlumeEvent=false"}, event.Event{Body: []byte("hi"), Headers: kvs("key", "k1", "p", "2")}, "hi", "k1", -1, "[]"},
		{"empty body", []string{"parseAsFlumeEvent=false"}, event.Event{}, "", "-", -1, "[]"},
		{"partition of a header", []string{"partitionIdHeader=p", "defaultPartitionId=1"}, event.Event{Body: []byte("hi"), Headers: kvs("key", "k1", "p", "2")}, avro, "k1", 2, "[]"},
		{"fixed partition", []string{"partitionIdHeader=q", "defaultPartitionId=1"}, event.Event{Body: []byte("hi"), Headers: kvs("key", "k1", "p", "2")}, avro, "k1", 1, "[]"},
		{"null headers", nil, event.Event{Body: []byte("hi"), Headers: []event.KV{{Key: "a"}, {Key: "b", Value: []byte{}}, {Key: "c"}}}, "\x02\x02b\x00\x00\x04hi", "-", -1, `[{"sluice.null" "\x00a"} {"sluice.null" "\x02c"}]`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			topic := newTopic()
			create(t, addr, topic, 3, nil)
			c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, topic, tt.props...))
			// The second shares the headers of the first.
			b := event.NewPool().NewBatch()
			defer b.Release()
			b.AppendEvent(tt.ev.Body, tt.ev.Headers)
			b.AppendView(b.Events()[0])
			if err := c.Put(t.Context(), b); err != nil {
				t.Fatal(err)
			}
			for _, r := range records(t, addr, topic, 2) {
				key := "-"
				if r.Key != nil {
					key = string(r.Key)
				}
				if string(r.Value) != tt.value || r.Value == nil || key != tt.key || tt.partition >= 0 && r.Partition != tt.partition || fmt.Sprintf("%q", r.Headers) != tt.headers {
					t.Errorf("%q, key %q, partition %d, headers %q", r.Value, key, r.Partition, r.Headers)
				}
			}
			l := took(t, c.NewTaker(), 1)
			want := tt.ev.Clone()
			if slices.Contains(tt.props, "parseAsFlumeEvent=false") {
				want.Headers = slices.DeleteFunc(want.Headers, func(h event.KV) bool { return h.Key != "key" })
			}
			sameEvent(t, l.Events()[0], want)
			commit(t, l)
		})
	}
}

// sameEvent tells null from empty.
func sameEvent(t testing.TB, got, want event.Event) {
	t.Helper()
	if g, w := fmt.Sprintf("%#v", got.Clone()), fmt.Sprintf("%#v", want.Clone()); g != w {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

func TestBadPartition(t *testing.T) {
	addr := startBroker(t, nil)
	c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, newTopic(), "partitionIdHeader=p"))
	for _, p := range []string{"x", "-1", "7"} {
		if err := putEvents(t, c, event.Event{Headers: kvs("p", p)}); !component.IsPermanent(err) {
			t.Errorf("partition %s: %v", p, err)
		}
	}
}

func TestDecode(t *testing.T) {
	enc := func(hs ...string) []byte {
		return serde.AppendAvroEvent(nil, &event.Event{Body: []byte("b"), Headers: kvs(hs...)})
	}
	null := func(v string) []kgo.RecordHeader {
		return []kgo.RecordHeader{{Key: "x"}, {Key: nullHeader, Value: []byte(v)}}
	}
	tests := []struct {
		name string
		avro bool
		r    kgo.Record
		want []event.KV
		fail bool
	}{
		{"headers", true, kgo.Record{Value: enc("a", "1", "b", "2")}, kvs("a", "1", "b", "2"), false},
		{"the record's key wins", true, kgo.Record{Value: enc("key", "old", "b", "2"), Key: []byte("new")}, kvs("key", "new", "b", "2"), false},
		{"an empty key", true, kgo.Record{Value: enc(), Key: []byte{}}, kvs("key", ""), false},
		{"a null header", true, kgo.Record{Value: enc("a", "1", "b", "2"), Headers: null("\x01n")}, []event.KV{{Key: "a", Value: []byte("1")}, {Key: "n"}, {Key: "b", Value: []byte("2")}}, false},
		{"a null header far behind", true, kgo.Record{Value: enc("a", "1"), Headers: null("\xff\xff\x03n")}, []event.KV{{Key: "a", Value: []byte("1")}, {Key: "n"}}, false},
		{"a null header with a value", true, kgo.Record{Value: enc("a", "1"), Headers: null("\x00a")}, nil, true},
		{"a null header without an index", true, kgo.Record{Value: enc("a", "1"), Headers: null("")}, nil, true},
		{"text", true, kgo.Record{Value: []byte("hello world")}, nil, true},
		{"nothing", true, kgo.Record{}, nil, true},
		{"more than an event", true, kgo.Record{Value: append(enc(), 0)}, nil, true},
		{"a body", false, kgo.Record{Value: []byte("b"), Headers: null("\x00a")}, nil, false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			d := decoder{avro: tt.avro}
			ev, err := d.decode(&tt.r)
			if tt.fail {
				if err == nil {
					t.Fatalf("%q", ev)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			sameEvent(t, ev, event.Event{Body: []byte("b"), Headers: tt.want})
		})
	}
	if ev, err := (&decoder{}).decode(&kgo.Record{}); err != nil || ev.Body == nil || len(ev.Body) != 0 {
		t.Errorf("a tombstone: %q, %v", ev, err)
	}
}

// Events that share a piece of memory for their headers do not write into each other's.
func TestDecodeShares(t *testing.T) {
	d := decoder{avro: true}
	var evs, want []event.Event
	for i := range 3000 {
		e := event.Event{Body: []byte("b")}
		for j := range i % 70 {
			e.Headers = append(e.Headers, event.KV{Key: fmt.Sprint("h", j), Value: fmt.Append(nil, i)})
		}
		got, err := d.decode(&kgo.Record{Value: serde.AppendAvroEvent(nil, &e)})
		if err != nil {
			t.Fatal(err)
		}
		evs, want = append(evs, got), append(want, e)
	}
	for i := range evs {
		if fmt.Sprintf("%q", evs[i]) != fmt.Sprintf("%q", want[i]) {
			t.Fatalf("event %d: %q", i, evs[i])
		}
	}
}

// FuzzRecord: whatever a record holds is an event or an error, and what is an event comes through a topic as it is.
func FuzzRecord(f *testing.F) {
	f.Add([]byte("\x04\x06key\x04k1\x02p\x022\x00\x04hi"), []byte("k"), []byte("\x00n"), true)
	f.Add([]byte("\x00\x00"), []byte(nil), []byte(nil), true)
	f.Add([]byte("text"), []byte("k"), []byte(nil), false)
	f.Fuzz(func(t *testing.T, value, key, null []byte, avro bool) {
		r := kgo.Record{Value: value, Key: key}
		if null != nil {
			r.Headers = []kgo.RecordHeader{{Key: nullHeader, Value: null}}
		}
		d := decoder{avro: avro}
		ev, err := d.decode(&r)
		if err != nil {
			return
		}
		seen := make(map[string]bool)
		for _, h := range ev.Headers {
			if seen[h.Key] && len(ev.Headers) < 64 {
				t.Fatalf("header %q occurs twice", h.Key)
			}
			seen[h.Key] = true
		}
		e := encoder{config: &config{avro: avro}}
		var again kgo.Record
		if err := e.Encode(&again, &ev, nil, nil); err != nil {
			t.Fatal(err)
		}
		ev2, err := d.decode(&again)
		if err != nil {
			t.Fatal(err)
		}
		if len(ev.Headers) < 64 {
			sameEvent(t, ev2, ev)
		} else if !bytes.Equal(ev.Body, ev2.Body) {
			t.Fatal("another body")
		}
	})
}

func TestNoAllocationPerEvent(t *testing.T) {
	addr := startBroker(t, nil)
	c := start(t, newTestChannel(t, componenttest.QuietEnv(), addr, newTopic()))
	b := event.NewPool().NewBatch()
	defer b.Release()
	for range 1000 {
		b.AppendEvent([]byte("20160101000000,P0001,2,0,F,N,10,D0812"), kvs("key", "k", "host", "h"))
	}
	// The broker is in this process, and allocates for requests and batches, too.
	componenttest.NoMoreAllocs(t, 600, func() {
		if err := c.Put(context.Background(), b); err != nil {
			t.Fatal(err)
		}
	})

	value := serde.AppendAvroEvent(nil, &b.Events()[0])
	k := &consumer{c: newTestChannel(t, componenttest.QuietEnv(), addr, newTopic()), dec: decoder{avro: true}}
	var rs []*kgo.Record
	for i := range 1000 {
		rs = append(rs, &kgo.Record{Value: value, Key: []byte("k"), Offset: int64(i)})
	}
	l := &lease{c: k.c}
	componenttest.NoMoreAllocs(t, 10, func() {
		k.c.mu.Lock()
		p := &part{}
		if err := k.add(p, rs); err != nil {
			t.Fatal(err)
		}
		l.lend(k, 1000)
		l.close()
		k.c.mu.Unlock()
	})
}
