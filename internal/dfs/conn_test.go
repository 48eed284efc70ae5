package dfs

import (
	"encoding/binary"
	"errors"
	"io"
	"io/fs"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"google.golang.org/protobuf/encoding/protowire"
)

// watched is a pipe with a connection through which nothing goes but what the test feeds.
func watched() (*pipe, *pipeConn) {
	a, _ := net.Pipe()
	var ps pipes
	p := ps.new(0)
	c := &pipeConn{Conn: a, pipes: &ps, pipe: p, nodes: new(nodes), line: []string{"first:1"}}
	p.begin(c)
	return p, c
}

// sentPacket is what the client writes for one packet.
func sentPacket(seq int64, data int) []byte {
	head := protowire.AppendFixed64(protowire.AppendTag(nil, 2, protowire.Fixed64Type), uint64(seq))
	b := binary.BigEndian.AppendUint32(nil, uint32(data+4))
	b = binary.BigEndian.AppendUint16(b, uint16(len(head)))
	return append(append(b, head...), make([]byte, data)...)
}

func ackOf(seq int64, status uint64) []byte {
	m := number(nil, 1, protowire.EncodeZigZag(seq))
	return protowire.AppendBytes(nil, number(m, 2, status))
}

func TestPipe(t *testing.T) {
	out := append([]byte{0, 28, 80}, protowire.AppendBytes(nil, []byte("operation"))...)
	in := protowire.AppendBytes(nil, []byte("answer"))
	for i := range int64(5) {
		out = append(out, sentPacket(i+1, 1000*int(i))...)
		if i < 4 {
			in = append(in, ackOf(i+1, 0)...)
		}
	}
	out = append(out, sentPacket(-1, 0)...) // a heartbeat
	for _, step := range []int{1, 7, 1 << 20} {
		p, c := watched()
		feed := func(s *scanner, scan func([]byte) (int, int), b []byte) {
			for len(b) > 0 {
				n := min(step, len(b))
				s.feed(b[:n], scan)
				b = b[n:]
			}
		}
		feed(&c.out, c.scanOut, out)
		feed(&c.in, c.scanIn, in)
		if p.sent != 5 || p.acked != 4 {
			t.Fatalf("steps of %d: sent %d, acknowledged %d", step, p.sent, p.acked)
		}
		done := make(chan error, 1)
		go func() { done <- p.await() }()
		select {
		case err := <-done:
			t.Fatalf("it did not wait: %v", err)
		case <-time.After(10 * time.Millisecond):
		}
		feed(&c.in, c.scanIn, ackOf(5, 0))
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		feed(&c.in, c.scanIn, ackOf(6, 1))
		if err := p.await(); err == nil {
			t.Error("a refusal is not told")
		}
	}
}

// Encrypted packets are not taken for others: without their acknowledgements a flush must close the file.
func TestHiddenPipe(t *testing.T) {
	op := append([]byte{0, 28, 80}, protowire.AppendBytes(nil, []byte("operation"))...)
	for _, tt := range []struct {
		what   string
		out    []byte
		hidden bool
	}{
		{"plain", op, false},
		{"encrypted", []byte("\x17\x03\x9a\x00\x00\x00\x00\x00"), true},
		{"with a length and a checksum", append([]byte{0, 0, 0, byte(len(op) + 16)}, op...), true},
		{"encrypted, and begins as an operation", append(op[:len(op):len(op)], 1), true},
	} {
		p, c := watched()
		client, peer := net.Pipe()
		c.Conn = client
		go func() { _, _ = io.Copy(io.Discard, peer) }() // until the test closes it
		if _, err := c.Write(tt.out); err != nil {
			t.Fatal(err)
		}
		if p.hidden() != tt.hidden {
			t.Errorf("%s: hidden is %v", tt.what, p.hidden())
		}
		client.Close()
	}
}

func TestLeastProtection(t *testing.T) {
	for list, want := range map[string]string{"": "", "privacy": "privacy", "privacy,Authentication": "authentication", "integrity, privacy": "integrity"} {
		if got := leastProtection(map[string]string{"dfs.data.transfer.protection": list}); got != want {
			t.Errorf("%q: %q, want %q", list, got, want)
		}
	}
	if got := leastProtection(map[string]string{"dfs.data.transfer.protection": "authentication", "dfs.encrypt.data.transfer": "true"}); got != "privacy" {
		t.Errorf("with encryption: %q", got)
	}
}

// What comes from a peer must neither panic nor depend on how it is cut.
func FuzzPipe(f *testing.F) {
	f.Add(append([]byte{0, 28, 80}, append(protowire.AppendBytes(nil, []byte("x")), sentPacket(1, 10)...)...), append(protowire.AppendBytes(nil, []byte("x")), ackOf(1, 0)...), 3)
	f.Add([]byte{}, ackOf(1, 5), 1)
	f.Fuzz(func(t *testing.T, out, in []byte, step int) {
		if step < 1 {
			step = 1
		}
		run := func(step int) (int64, int64, bool) {
			p, c := watched()
			for b := out; len(b) > 0; b = b[min(step, len(b)):] {
				c.out.feed(b[:min(step, len(b))], c.scanOut)
			}
			for b := in; len(b) > 0; b = b[min(step, len(b)):] {
				c.in.feed(b[:min(step, len(b))], c.scanIn)
			}
			return p.sent, p.acked, p.err != nil
		}
		s1, a1, e1 := run(step)
		s2, a2, e2 := run(1 << 30)
		if s1 != s2 || a1 != a2 || e1 != e2 {
			t.Errorf("cut: %d %d %v, whole: %d %d %v", s1, a1, e1, s2, a2, e2)
		}
	})
}

func TestAnswer(t *testing.T) {
	ok := protowire.AppendBytes(protowire.AppendBytes(nil, number(nil, 2, 0)), number(nil, 1, 1))
	if yes, err := answer(ok); !yes || err != nil {
		t.Error(yes, err)
	}
	no := protowire.AppendBytes(nil, text(text(number(nil, 2, 1), 4, "org.apache.hadoop.security.AccessControlException"), 5, "denied\n\tat x"))
	if _, err := answer(no); !errors.Is(err, fs.ErrPermission) || strings.Contains(err.Error(), "at x") {
		t.Error(err)
	}
	for i := range ok {
		if _, err := answer(ok[:i]); err == nil {
			t.Errorf("%d bytes are an answer", i)
		}
	}
}

func FuzzAnswer(f *testing.F) {
	f.Add(protowire.AppendBytes(protowire.AppendBytes(nil, number(nil, 2, 0)), number(nil, 1, 1)))
	f.Add(protowire.AppendBytes(nil, text(number(nil, 2, 1), 4, "x")))
	f.Fuzz(func(_ *testing.T, in []byte) {
		if _, err := answer(in); err != nil {
			_ = err.Error()
		}
	})
}

func TestResolve(t *testing.T) {
	for address, want := range map[string]string{"hdfs://h:1/a/%Y": "/a/%Y", "/a": "/a", "a/b": "/user/u/a/b", "file:///x": "/x"} {
		if got, err := Resolve(&HDFS{opts: hdfs.ClientOptions{User: "u"}}, address); got != want || err != nil {
			t.Errorf("%s: %q, %v, want %q", address, got, err, want)
		}
	}
	for _, address := range []string{"", "hdfs:a", "hdfs://host"} {
		if err := Check(address); err == nil {
			t.Errorf("%q has no fault", address)
		}
	}
}

func TestNameNodes(t *testing.T) {
	conf := map[string]string{"dfs.ha.namenodes.c": "a, b", "dfs.namenode.rpc-address.c.a": "h1:9000", "dfs.namenode.rpc-address.c.b": "h2"}
	for host, want := range map[string]string{"c": "h1:9000 h2:8020", "x:1": "x:1", "x": "x:8020", "[::1]": "[::1]:8020"} {
		got, err := nameNodes(host, conf)
		if err != nil || strings.Join(got, " ") != want {
			t.Errorf("%s: %v, %v", host, got, err)
		}
	}
	delete(conf, "dfs.namenode.rpc-address.c.b")
	for _, host := range []string{"c", ""} {
		if got, err := nameNodes(host, conf); err == nil {
			t.Errorf("%q: %v", host, got)
		}
	}
}
