package hbase

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-data/sluice/component/componenttest"
)

// A KeyValue as HBase 2.6's own client sends it: row "r", f:q = "v".
var keyValue = []byte("\x00\x00\x00\x18\x00\x00\x00\x0f\x00\x00\x00\x01\x00\x01r\x01fq\x7f\xff\xff\xff\xff\xff\xff\xff\x04v")

func TestCell(t *testing.T) {
	b := new(Batch)
	if err := b.Put([]byte("r")); err != nil {
		t.Fatal(err)
	}
	if err := b.Add([]byte("f"), []byte("q"), []byte("v")); err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(b.cells, keyValue) {
		t.Errorf("%x, want %x", b.cells, keyValue)
	}
	c, rest, err := ReadCell(append(bytes.Clone(keyValue), 9))
	if err != nil || len(rest) != 1 || string(c.Row) != "r" || string(c.Family) != "f" || string(c.Qualifier) != "q" || string(c.Value) != "v" || c.Type != 4 || c.Timestamp != latest {
		t.Errorf("%+v, %v", c, err)
	}
	for i := range keyValue {
		if _, _, err := ReadCell(keyValue[:i]); err == nil {
			t.Errorf("%d bytes of a cell were taken", i)
		}
	}
}

func TestBatchRefuses(t *testing.T) {
	b := new(Batch)
	if err := b.Put(nil); err != ErrNoRow {
		t.Error(err)
	}
	if err := b.Put(make([]byte, MaxRow+1)); err != ErrLongRow {
		t.Error(err)
	}
	if err := b.Put(make([]byte, MaxRow)); err != nil {
		t.Error(err)
	}
	for _, family := range []string{"", strings.Repeat("f", MaxFamily+1)} {
		if err := b.Add([]byte(family), nil, nil); err != ErrFamily {
			t.Error(err)
		}
	}
	if err := b.Add([]byte("f"), nil, nil); err != nil || b.Cells() != 1 {
		t.Error(err)
	}
	if err := b.Increment([]byte("r"), nil, nil, 1); err != ErrFamily {
		t.Error(err)
	}
	if b.Len() != 1 {
		t.Errorf("%d mutations", b.Len())
	}
	b.Drop()
	if b.Len() != 0 || len(b.cells) != 0 || len(b.rows) != 0 {
		t.Error("Drop leaves something")
	}
	for _, err := range []error{ErrNoRow, ErrLongRow, ErrBigCell} {
		if !IsPermanent(fmt.Errorf("put: %w", err)) {
			t.Errorf("%v is not permanent", err)
		}
	}
}

func TestRegions(t *testing.T) {
	r := func(start, end string) *region { return &region{start: []byte(start), end: []byte(end)} }
	var rs regions
	if rs.find([]byte("a")) != nil {
		t.Error("found in nothing")
	}
	for _, x := range []*region{r("m", "s"), r("", "c"), r("s", ""), r("e", "m")} {
		rs = rs.add(x)
	}
	show := func() string {
		s := ""
		for _, x := range rs {
			s += fmt.Sprintf("[%s,%s)", x.start, x.end)
		}
		return s
	}
	if s := show(); s != "[,c)[e,m)[m,s)[s,)" {
		t.Error(s)
	}
	for row, want := range map[string]string{"": "", "b": "", "e": "e", "lz": "e", "m": "m", "s": "s", "zz": "s"} {
		if x := rs.find([]byte(row)); x == nil || string(x.start) != want {
			t.Errorf("%q: %v", row, x)
		}
	}
	for _, row := range []string{"c", "d", "dz"} {
		if x := rs.find([]byte(row)); x != nil {
			t.Errorf("%q: %v", row, x)
		}
	}
	before := rs
	rs = rs.add(r("d", "n")) // of a merge: those that it overlaps are gone
	if s := show(); s != "[,c)[d,n)[s,)" {
		t.Error(s)
	}
	if len(before) != 4 || string(before[1].start) != "e" {
		t.Error("add changed what others may hold")
	}
}

func TestSite(t *testing.T) {
	s, err := parseSite(strings.NewReader(`<?xml version="1.0"?><?xml-stylesheet type="text/xsl" href="configuration.xsl"?>
<!-- a comment --><configuration>
<property><name> hbase.zookeeper.quorum </name><value>
 a,b,${c} </value><final>true</final></property>
<property><name>c</name><value>${d}x</value></property><property><name>d</name><value>1</value></property>
<property><name>d</name><value>2</value><description>later</description></property>
<property><name>loop</name><value>${loop}</value></property>
<property><name>open</name><value>${user.home}/x${</value></property>
</configuration>`))
	if err != nil {
		t.Fatal(err)
	}
	for k, want := range map[string]string{"hbase.zookeeper.quorum": "a,b,2x", "loop": "${loop}", "open": "${user.home}/x${", "none": ""} {
		if got := s.Get(k); got != want {
			t.Errorf("%s: %q, want %q", k, got, want)
		}
	}
	for _, bad := range []string{"", "text", "<configuration>", "<other/>"} {
		if _, err := parseSite(strings.NewReader(bad)); err == nil {
			t.Errorf("%q was read", bad)
		}
	}
	var none Site
	if none.Get("x") != "" {
		t.Error("a site that is not there has something")
	}
}

func TestExceptionText(t *testing.T) {
	e := &RemoteError{Class: "a.b.CException"}
	e.setTrace([]byte("a.b.CException: no \xff good\n\tat x.y"))
	if e.Error() != "CException: no \uFFFD good" {
		t.Error(e)
	}
	e.setTrace([]byte(strings.Repeat("x", 5000)))
	if n := len(e.Message); n != 1000 {
		t.Errorf("a message of %d bytes", n)
	}
}

// A whole put path, but for the socket, takes no memory for a row.
func TestAllocations(t *testing.T) {
	b := new(Batch)
	list := make([]int32, 1000)
	r := &region{name: []byte("t,,1.x."), spec: 2 + 1 + 1 + 7}
	q := &multi{b: b, nonceGroup: 1}
	row, family, qualifier, value := []byte("00012230106102-X0005"), []byte("cf1"), []byte("speed"), []byte("80")
	var frame []byte
	var answer []byte
	for i := range list {
		res := protowire.AppendVarint(protowire.AppendTag(nil, 1, protowire.VarintType), uint64(i))
		answer = protowire.AppendBytes(protowire.AppendTag(answer, 1, protowire.BytesType), res)
	}
	answer = protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), answer)
	componenttest.NoMoreAllocs(t, 5, func() {
		b.Reset()
		for i := range list {
			list[i] = int32(i)
			if b.Put(row) != nil || b.Add(family, qualifier, value) != nil || b.Add(family, qualifier, value) != nil {
				t.Fatal("refused")
			}
			b.muts[i].region, b.muts[i].err = r, errUnanswered
		}
		q.list = list
		q.plan()
		h := requestHeader{id: 1, method: "Multi", cells: q.cellBytes(), timeout: 60000}
		frame = h.append(frame[:0])
		n := len(frame)
		if frame = q.appendParam(frame); len(frame)-n != q.paramSize() {
			t.Fatalf("%d bytes, announced with %d", len(frame)-n, q.paramSize())
		}
		frame = q.appendCells(frame)
		if err := q.parse(answer); err != nil || !b.muts[999].done {
			t.Fatal(err)
		}
	})
}

func TestCutMessages(t *testing.T) {
	whole := appendUint(appendString(nil, 1, "host"), 2, 16020)
	for i := range whole {
		if s, err := parseServerName(whole[:i]); err == nil {
			t.Errorf("%d of %d bytes: %v", i, len(whole), s)
		}
	}
	if s, err := parseServerName(append(protowire.AppendFixed32(protowire.AppendTag(nil, 9, protowire.Fixed32Type), 1), whole...)); err != nil || s.addr() != "host:16020" {
		t.Errorf("%v, %v", s, err)
	}
}

func FuzzReadCell(f *testing.F) {
	f.Add(keyValue)
	f.Fuzz(func(t *testing.T, p []byte) {
		for len(p) > 0 {
			c, rest, err := ReadCell(p)
			if err != nil {
				return
			}
			if n := cellFixed + len(c.Row) + len(c.Family) + len(c.Qualifier) + len(c.Value); len(p)-len(rest) < n {
				t.Fatalf("a cell of %d bytes out of %d", n, len(p)-len(rest))
			}
			p = rest
		}
	})
}

// FuzzMulti reads frames as answers to a request of three mutations.
func FuzzMulti(f *testing.F) {
	f.Add([]byte("\x02\x08\x01\x08\x0a\x06\x0a\x04\x0a\x02\x08\x00"))
	f.Add([]byte("\x0200\b\n\x06\n\x0200\x100")) // done, and failed
	f.Add([]byte("\x0c\x08\x01\x12\x08\x0a\x01x\x12\x01y\x28\x01"))
	f.Fuzz(func(t *testing.T, p []byte) {
		frame, err := readFrame(bytes.NewReader(append(binary.BigEndian.AppendUint32(nil, uint32(len(p))), p...)), nil)
		if err != nil || !bytes.Equal(frame, p) {
			t.Fatalf("%x: %v", frame, err)
		}
		h, param, cells, err := splitFrame(p)
		if err != nil || h.exception != nil {
			return
		}
		if len(param)+len(cells) > len(p) {
			t.Fatal("more than there is")
		}
		b := rows(t, "a", "b", "c")
		for i := range b.muts {
			b.muts[i].region, b.muts[i].err = &region{name: []byte("n")}, errUnanswered
		}
		b.muts[2].alone = true
		q := multi{b: b, list: []int32{0, 1, 2}}
		q.plan()
		if q.parse(param) == nil {
			for i := range b.muts {
				if m := &b.muts[i]; m.done == (m.err != nil) {
					t.Fatalf("mutation %d: done %v, %v", i, m.done, m.err)
				}
			}
		}
	})
}

func FuzzScan(f *testing.F) {
	info := append([]byte("PBUF"), appendBytes(appendUint(nil, 1, 7), 2, appendString(appendString(nil, 1, "default"), 2, "t"))...)
	var cells []byte
	for _, kv := range [][2]string{{"regioninfo", string(info)}, {"server", "h:16020"}, {"state", "OPEN"}} {
		cells = appendCell(cells, []byte("t,,7.x."), []byte("info"), []byte(kv[0]), []byte(kv[1]))
	}
	if found, _, err := parseScan(appendUint(nil, 1, 3), cells); err != nil {
		f.Fatal(err)
	} else if r, err := parseMetaRow(found, "t"); err != nil || r.addr != "h:16020" {
		f.Fatal(r, err)
	}
	f.Add(appendUint(nil, 1, 3), cells)
	f.Add(appendBytes(nil, 5, appendBytes(nil, 1, appendBytes(nil, 3, []byte("regioninfo")))), []byte(nil))
	f.Fuzz(func(t *testing.T, param, block []byte) {
		found, _, err := parseScan(param, block)
		if err != nil {
			return
		}
		if r, err := parseMetaRow(found, "t"); (r == nil) == (err == nil) {
			t.Fatal(r, err)
		}
		_, _ = parseMetaLocations(param)
	})
}

func FuzzZooKeeper(f *testing.F) {
	node := append([]byte("\xff\x00\x00\x00\x02idPBUF"), appendBytes(nil, 1, appendUint(appendString(nil, 1, "h"), 2, 16020))...)
	if s, err := parseMetaNode(node); err != nil || s.addr() != "h:16020" {
		f.Fatal(s, err)
	}
	answer := append([]byte{0, 0, 0, 1}, make([]byte, 12)...)
	session := append(binary.BigEndian.AppendUint32(nil, 20), "\x00\x00\x00\x00\x00\x00\x10\x00abcdefgh\x00\x00\x00\x00"...)
	session = append(binary.BigEndian.AppendUint32(session, uint32(len(answer)+4+len(node))), answer...)
	f.Add(append(binary.BigEndian.AppendUint32(session, uint32(len(node))), node...))
	f.Fuzz(func(t *testing.T, p []byte) {
		data, err := zkVisit(struct {
			io.Reader
			io.Writer
		}{bytes.NewReader(p), io.Discard}, "/hbase/meta-region-server", 1000)
		if err != nil {
			return
		}
		if s, err := parseMetaNode(data); err == nil && (s.host == "" || s.port == 0) {
			t.Fatal(s)
		}
	})
}

func FuzzSite(f *testing.F) {
	f.Add(`<configuration><property><name>a</name><value>${b}</value></property><property><name>b</name><value>1</value></property></configuration>`)
	f.Fuzz(func(t *testing.T, text string) {
		s, err := parseSite(strings.NewReader(text))
		if err != nil {
			return
		}
		for k := range s {
			s.Get(k)
		}
	})
}
