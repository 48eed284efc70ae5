package dfs

import (
	"bytes"
	"errors"
	"io"
	"net"
	"strings"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// infoOf is a DatanodeInfoProto.
func infoOf(ip, host string, port uint64) []byte {
	return text(nil, 1, string(number(text(text(nil, 1, ip), 2, host), 4, port)))
}

// request is a packet with a call, as the library writes it.
func request(method string, body []byte) []byte {
	return packet(nil, number(nil, 1, 2), text(text(nil, 1, method), 2, protocol), body)
}

// The library would take memory for whatever length a name node, or what is taken for one, answers with.
func TestLongAnswer(t *testing.T) {
	for _, size := range []int{1, 7, 4096} { // of the reads
		server, client := net.Pipe()
		defer server.Close()
		c := &nodeConn{strictConn: strictConn{Conn: client}, nodes: new(nodes)}
		answers := append(packet(packet(nil, []byte("one")), []byte(strings.Repeat("2", 3000))), "HTTP/1.1 400 Bad Request"...)
		good := len(answers) - len("HTTP/1.1 400 Bad Request")
		go func() {
			for _, part := range [][]byte{answers[:good], answers[good:]} {
				if _, err := server.Write(part); err != nil {
					return
				}
			}
		}()
		got := 0
		var err error
		for err == nil {
			var n int
			n, err = c.Read(make([]byte, size))
			got += n
		}
		// What is before its whole length may have been read.
		if got < good || got > good+3 || !strings.Contains(err.Error(), "1213486160 bytes") {
			t.Errorf("%d of %d bytes, then %v", got, good, err)
		}
		if _, err := client.Read(make([]byte, 1)); !errors.Is(err, io.ErrClosedPipe) {
			t.Errorf("the connection is open: %v", err)
		}
	}
}

// A data node that failed is named in each addBlock that follows, and in no other call.
func TestExcludeNodes(t *testing.T) {
	report := text(text(nil, 1, string(infoOf("10.0.0.1", "a", 9866))), 1, string(infoOf("10.0.0.2", "b", 9866)))
	body := text(text(nil, 1, "/f"), 2, "client")
	asked := 0
	var down error
	c := &nodeConn{nodes: new(nodes), report: func() ([]byte, error) { asked++; return report, down }}
	want := func(what string, p []byte, infos ...[]byte) {
		t.Helper()
		var w []byte
		if len(infos) > 0 {
			b := append([]byte(nil), body...)
			for _, info := range infos {
				b = text(b, 4, string(info))
			}
			w = request("addBlock", b)
		}
		if got := c.rewrite(p); !bytes.Equal(got, w) {
			t.Errorf("%s: %q, want %q", what, got, w)
		}
	}
	add := request("addBlock", body)
	want("none failed", add)
	c.nodes.fail("b:9866")
	down = errors.New("down")
	want("the report fails", add)
	down = nil
	want("by its host's name", add, infoOf("10.0.0.2", "b", 9866))
	want("another call", request("complete", body))
	for i := range add {
		want("cut off", add[:i])
	}
	if asked != 2 {
		t.Errorf("asked for the data nodes %d times", asked)
	}
	c.nodes.forgive()
	want("forgiven", add)
}

// With Kerberos the calls that the library lacks are made of its truncate, and those to a real length stay.
func TestAskByTruncate(t *testing.T) {
	c := &nodeConn{nodes: new(nodes)}
	truncate := func(size int64) []byte {
		return request("truncate", text(number(text(nil, 1, "/f"), 2, uint64(size)), 3, "client"))
	}
	for _, tt := range []struct {
		size int64
		want []byte
	}{
		{askClosed, packet(nil, number(nil, 1, 2), requestHeader(isFileClosed), text(nil, 1, "/f"))},
		{askRecover, packet(nil, number(nil, 1, 2), requestHeader(recoverLease), text(text(nil, 1, "/f"), 2, "sluice"))},
		{0, nil},
		{1 << 40, nil},
	} {
		if got := c.rewrite(truncate(tt.size)); !bytes.Equal(got, tt.want) {
			t.Errorf("%d becomes %q, want %q", tt.size, got, tt.want)
		}
	}
	c.nodes.fail("b:9866")
	if got := c.rewrite(request("addBlock", nil)); got != nil {
		t.Errorf("addBlock becomes %q, and the name node cannot be asked for its data nodes", got)
	}
}

// Which data node of a pipeline it was.
func TestFailedNode(t *testing.T) {
	op := append([]byte{0, 28, 80}, protowire.AppendBytes(nil, text(text(nil, 2, string(infoOf("second", "", 2))), 2, string(infoOf("third", "", 3))))...)
	fine := protowire.AppendBytes(nil, number(nil, 1, 0))
	ack := func(status ...uint64) []byte {
		m := number(nil, 1, protowire.EncodeZigZag(1))
		for _, s := range status {
			m = number(m, 2, s)
		}
		return protowire.AppendBytes(nil, m)
	}
	for name, tt := range map[string]struct {
		out, in []byte
		want    string
	}{
		"the next cannot be reached": {op, protowire.AppendBytes(nil, text(number(nil, 1, 1), 2, "second:2")), "second:2"},
		"it refuses":                 {op, protowire.AppendBytes(nil, number(nil, 1, 1)), "first:1"},
		"one behind it fails":        {append(op, sentPacket(1, 9)...), append(fine, ack(0, 0, 1)...), "third:3"},
		"it is gone":                 {append(op, sentPacket(1, 9)...), fine, "first:1"},
		"it ends in order":           {append(op, sentPacket(1, 9)...), append(fine, ack(0, 0, 0)...), ""},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := watched()
			client, peer := net.Pipe()
			c.Conn, c.nodes = client, new(nodes)
			c.out.feed(tt.out, c.scanOut)
			go func() {
				_, _ = peer.Write(tt.in) // the test sees what came of it
				peer.Close()
			}()
			for buf := make([]byte, 100); ; {
				if _, err := c.Read(buf); err != nil {
					break
				}
			}
			if len(c.nodes.bad) > 1 || tt.want == "" && len(c.nodes.bad) > 0 || tt.want != "" && c.nodes.bad[tt.want].IsZero() {
				t.Errorf("%v, want %q", c.nodes.bad, tt.want)
			}
		})
	}
}

// FuzzDataNodes: what a name node says of its data nodes is never trusted.
func FuzzDataNodes(f *testing.F) {
	f.Add(text(nil, 1, string(infoOf("10.0.0.1", "a", 9866))))
	f.Fuzz(func(_ *testing.T, in []byte) {
		new(nodes).learn(in)
		(&nodeConn{nodes: new(nodes)}).rewrite(in)
	})
}
