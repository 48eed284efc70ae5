package serde

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/hamba/avro/v2/ocf"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func kv(pairs ...string) []event.KV {
	var hs []event.KV
	for i := 0; i < len(pairs); i += 2 {
		h := event.KV{Key: pairs[i], Value: []byte(pairs[i+1])}
		if pairs[i+1] == "\x00null" {
			h.Value = nil
		}
		hs = append(hs, h)
	}
	return hs
}

func TestAppendHeaders(t *testing.T) {
	tests := []struct {
		hs   []event.KV
		want string
	}{
		{nil, "{}"},
		{kv("a", "1"), "{a=1}"},
		// As Flume 1.11 printed them, whatever the order they were set in.
		{kv("file", "/s/in.txt", "basename", "in.txt", "logType", "car", "g1", "h", "g2", "\x00null"),
			"{logType=car, file=/s/in.txt, basename=in.txt, g1=h, g2=null}"},
		{kv("key", "value", "host", "127.0.0.1"), "{host=127.0.0.1, key=value}"},
		// Aa and BB have the same hash: the order of insertion decides.
		{kv("BB", "2", "Aa", "1"), "{BB=2, Aa=1}"},
		{kv("Aa", "1", "BB", ""), "{Aa=1, BB=}"},
	}
	for _, tt := range tests {
		if got := string(AppendHeaders(nil, tt.hs)); got != tt.want {
			t.Errorf("%v: %s, want %s", tt.hs, got, tt.want)
		}
	}
	var many []event.KV
	for i := range 40 {
		many = append(many, event.KV{Key: fmt.Sprint("k", i), Value: []byte("v")})
	}
	for n := range many {
		if got := AppendHeaders(nil, many[:n]); bytes.Count(got, []byte("=v")) != n {
			t.Errorf("%d headers: %s", n, got)
		}
	}
}

func TestJavaHash(t *testing.T) {
	// String.hashCode of Java, spread as HashMap.hash does.
	for s, want := range map[string]uint32{"": 0, "a": 97, "timestamp": 55126294, "é": 233, "😀": 1772899} {
		if got, w := javaHash(s), want^want>>16; got != w {
			t.Errorf("%q: %d, want %d", s, got, w)
		}
	}
}

func serializer(t *testing.T, name string, props ...component.Property) Serializer {
	t.Helper()
	typ, ok := component.Default().Lookup(component.KindSerializer, name)
	if !ok {
		t.Fatalf("no serializer %s", name)
	}
	c := typ.New()
	for _, f := range component.Decode(component.Default(), c, props) {
		t.Errorf("%+v", f)
	}
	s, err := NewSerializer(c)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestText(t *testing.T) {
	evs := []event.Event{
		{Body: []byte("one"), Headers: kv("a", "1")},
		{Body: []byte{}},
		{Body: []byte("three\r")},
	}
	shared := event.Event{Body: []byte("four"), Headers: evs[0].Headers}
	tests := []struct {
		name  string
		props []component.Property
		evs   []event.Event
		want  string
	}{
		{"TEXT", nil, evs, "one\n\nthree\r\n"},
		{"text", []component.Property{{Key: "appendNewline", Value: "false"}}, evs, "onethree\r"},
		{"org.apache.flume.serialization.BodyTextEventSerializer$Builder", nil, evs[:1], "one\n"},
		{"HEADER_AND_TEXT", nil, evs, "{a=1} one\n{} \n{} three\r\n"},
		{"HEADER_AND_TEXT", nil, []event.Event{evs[0], shared}, "{a=1} one\n{a=1} four\n"},
		{"HEADER_AND_TEXT", []component.Property{{Key: "appendNewline", Value: "false"}}, evs[:2], "{a=1} one{} "},
	}
	for _, tt := range tests {
		s := serializer(t, tt.name, tt.props...)
		got, err := s.AppendHeader(nil)
		if err == nil {
			got, err = s.AppendEvents(got, tt.evs)
		}
		if err != nil || string(got) != tt.want {
			t.Errorf("%s: %q, %v, want %q", tt.name, got, err, tt.want)
		}
	}
}

func TestAvroFile(t *testing.T) {
	for _, codec := range avroCodecs {
		t.Run(codec, func(t *testing.T) {
			s := serializer(t, "AVRO_EVENT", component.Property{Key: "compressionCodec", Value: codec}, component.Property{Key: "syncIntervalBytes", Value: "100"})
			buf, err := s.AppendHeader(nil)
			if err != nil {
				t.Fatal(err)
			}
			want := 0
			for _, n := range []int{1, 50, 3} {
				var evs []event.Event
				for range n {
					evs = append(evs, event.Event{Body: []byte(fmt.Sprint("body ", want)), Headers: kv("n", fmt.Sprint(want), "null", "\x00null")})
					want++
				}
				if buf, err = s.AppendEvents(buf, evs); err != nil {
					t.Fatal(err)
				}
			}
			// An Avro library that we did not write reads the file.
			d, err := ocf.NewDecoder(bytes.NewReader(buf))
			if err != nil {
				t.Fatal(err)
			}
			got := 0
			for ; d.HasNext(); got++ {
				var r struct {
					Headers map[string]string `avro:"headers"`
					Body    []byte            `avro:"body"`
				}
				if err := d.Decode(&r); err != nil {
					t.Fatal(err)
				}
				if string(r.Body) != fmt.Sprint("body ", got) || len(r.Headers) != 1 || r.Headers["n"] != fmt.Sprint(got) {
					t.Fatalf("record %d: %+v", got, r)
				}
			}
			if d.Error() != nil || got != want {
				t.Errorf("%d records, want %d (%v)", got, want, d.Error())
			}
			if string(d.Metadata()["avro.schema"]) != eventSchema {
				t.Errorf("schema %s", d.Metadata()["avro.schema"])
			}
		})
	}
}

func TestAvroUnknownCodec(t *testing.T) {
	c := new(avroConfig)
	fs := component.Decode(component.Default(), c, []component.Property{{Key: "compressionCodec", Value: "bzip2"}})
	if len(fs) != 1 || fs[0].Error || !strings.Contains(fs[0].Message, "deflate") || c.codec != "null" {
		t.Errorf("%+v, codec %s", fs, c.codec)
	}
}

func TestAvroEvent(t *testing.T) {
	tests := []struct {
		name string
		in   string
		want string // headers, body
		err  string
	}{
		{"plain", "\x02\x02k\x02v\x00\x04hi", "{k=v} hi", ""},
		{"no headers", "\x00\x00", "{} ", ""},
		{"block with a size", "\x01\x08\x02k\x02v\x00\x02b", "{k=v} b", ""},
		{"two blocks", "\x02\x02k\x02v\x02\x02l\x00\x00\x02b", "{k=v, l=} b", ""},
		{"last of a name wins", "\x04\x02k\x02v\x02k\x02w\x00\x02b", "{k=w} b", ""},
		{"empty", "", "", "ends too early"},
		{"no body", "\x00", "", "ends too early"},
		{"long body", "\x00\x7e", "", "a length of 63, but 0"},
		{"negative body", "\x00\x01", "", "a length of -1"},
		{"many headers", "\xfe\xff\xff\xff\x0f", "", "do not fit"},
		{"smallest count", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "", "out of range"},
		{"overlong number", "\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", "", "more than 64 bits"},
		{"more than a record", "\x00\x00x", "", "1 bytes follow"},
		{"text", "hello", "", "do not fit"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			body, hs, err := DecodeAvroEvent([]byte(tt.in), nil, func(b []byte) string { return string(b) })
			if tt.err != "" {
				if err == nil || !strings.Contains(err.Error(), tt.err) {
					t.Errorf("error %v, want %s", err, tt.err)
				}
				return
			}
			if got := string(AppendHeaders(nil, hs)) + " " + string(body); err != nil || got != tt.want {
				t.Errorf("%q, %v, want %q", got, err, tt.want)
			}
		})
	}
}

func FuzzAvroEvent(f *testing.F) {
	f.Add([]byte("\x02\x02k\x02v\x00\x04hi"))
	f.Add([]byte("\x01\x08\x02k\x02v\x00\x02b"))
	f.Add([]byte("\xfe\xff\xff\xff\x0f"))
	key := func(b []byte) string { return string(b) }
	f.Fuzz(func(t *testing.T, p []byte) {
		body, hs, err := DecodeAvroEvent(p, nil, key)
		if err != nil {
			if len(hs) != 0 || body != nil {
				t.Fatal("an error came with an event")
			}
			return
		}
		again := AppendAvroEvent(nil, &event.Event{Body: body, Headers: hs})
		body2, hs2, err := DecodeAvroEvent(again, nil, key)
		if err != nil || !bytes.Equal(body, body2) || !bytes.Equal(AppendHeaders(nil, hs), AppendHeaders(nil, hs2)) {
			t.Fatalf("%q became %q: %v", p, again, err)
		}
	})
}

func TestSerializersDoNotAllocate(t *testing.T) {
	hs := kv("file", "/spool/in.txt", "timestamp", "1795420523083", "null", "\x00null")
	var evs []event.Event
	for i := range 100 {
		e := event.Event{Body: []byte("20160101000000,P0001,2,0,F,N,10,D08"), Headers: hs}
		if i%2 == 0 {
			e.Headers = append([]event.KV{}, hs...)
		}
		evs = append(evs, e)
	}
	for _, name := range []string{"TEXT", "HEADER_AND_TEXT", "AVRO_EVENT"} {
		s := serializer(t, name)
		var buf []byte
		var err error
		n := testing.AllocsPerRun(100, func() {
			if buf, err = s.AppendEvents(buf[:0], evs); err != nil {
				t.Fatal(err)
			}
		})
		if n > 0 {
			t.Errorf("%s: %v allocations for 100 events", name, n)
		}
	}
	enc := AppendAvroEvent(nil, &evs[0])
	scratch := make([]event.KV, 0, 8)
	name := func([]byte) string { return "k" }
	if n := testing.AllocsPerRun(100, func() {
		if _, _, err := DecodeAvroEvent(enc, scratch[:0], name); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("decoding an Avro event: %v allocations", n)
	}
}

func BenchmarkHeaderAndText(b *testing.B) {
	c := &textConfig{headers: true, newline: true}
	s := &textSerializer{*c}
	hs := kv("file", "/spool/in.txt", "timestamp", "1795420523083", "host", "localhost")
	evs := make([]event.Event, 1000)
	for i := range evs {
		evs[i] = event.Event{Body: []byte("20160101000000,P0001,2,0,F,N,10,D08"), Headers: append([]event.KV{}, hs...)}
	}
	var buf []byte
	b.ResetTimer()
	for i := 0; i < b.N; i += len(evs) {
		buf, _ = s.AppendEvents(buf[:0], evs)
	}
}
