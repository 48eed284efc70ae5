package dfs

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jcmturner/gokrb5/v8/keytab"
	"google.golang.org/protobuf/encoding/protowire"
)

// nameNode is a double of one, in which there are no files. A standby refuses everything.
type nameNode struct {
	addr    string
	standby bool

	mu    sync.Mutex
	calls []string // methods
}

func startNameNode(t *testing.T, standby bool) *nameNode {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n := &nameNode{addr: l.Addr().String(), standby: standby}
	var wg sync.WaitGroup
	t.Cleanup(func() { l.Close(); wg.Wait() })
	wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { n.serve(c) })
		}
	})
	return n
}

func (n *nameNode) serve(c net.Conn) {
	defer c.Close()
	if _, err := io.ReadFull(c, make([]byte, len("hrpc\x09\x00\x00"))); err != nil {
		return
	}
	for {
		var size [4]byte
		if _, err := io.ReadFull(c, size[:]); err != nil {
			return
		}
		in := make([]byte, binary.BigEndian.Uint32(size[:]))
		if _, err := io.ReadFull(c, in); err != nil {
			return
		}
		head, used := message(in)
		call := uint64(0)
		for field, v := range fields(head) {
			if field == 3 {
				call = uint64(protowire.DecodeZigZag(v))
			}
		}
		if int32(call) < 0 {
			continue // the connection's context: no answer
		}
		request, _ := message(in[used:])
		method := textOf(request, 1)
		n.mu.Lock()
		n.calls = append(n.calls, method)
		n.mu.Unlock()
		out := number(number(nil, 1, call), 2, 0)
		body := []byte{}
		if method == "isFileClosed" {
			body = number(body, 1, 1)
		}
		if n.standby {
			out = text(text(number(number(nil, 1, call), 2, 1), 4, "org.apache.hadoop.ipc.StandbyException"), 5, "Operation category WRITE is not supported in state standby")
		}
		if _, err := c.Write(packet(nil, out, body)); err != nil {
			return
		}
	}
}

func (n *nameNode) got(method string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Contains(n.calls, method)
}

// Of the name nodes of a service the active one is found, whether the other is down or a standby.
func TestActiveNameNode(t *testing.T) {
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	for name, first := range map[string]string{"down": closed.Addr().String(), "standby": startNameNode(t, true).addr} {
		t.Run(name, func(t *testing.T) {
			active := startNameNode(t, false)
			dir := t.TempDir()
			site := fmt.Sprintf(`<configuration><property><name>dfs.nameservices</name><value>c</value></property>
<property><name>dfs.ha.namenodes.c</name><value>n1,n2</value></property>
<property><name>dfs.namenode.rpc-address.c.n1</name><value>%s</value></property>
<property><name>dfs.namenode.rpc-address.c.n2</name><value>%s</value></property></configuration>`, first, active.addr)
			if err := os.WriteFile(filepath.Join(dir, "hdfs-site.xml"), []byte(site), 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open("hdfs://c/x", Options{Log: slog.New(slog.DiscardHandler), User: "u", ConfDir: dir, CallTimeout: 10 * time.Second})
			if err != nil {
				t.Fatal(err)
			}
			if err := f.Rename("/a", "/b"); err != nil {
				t.Error(err)
			}
			if err := f.Recover("/a"); err != nil { // a call of our own, not by the library
				t.Error(err)
			}
			if err := f.Close(); err != nil {
				t.Error(err)
			}
			if !active.got("rename2") || !active.got("isFileClosed") {
				t.Errorf("the active one got %q", active.calls)
			}
		})
	}
}

// What is missing for Kerberos is named.
func TestKerberosMissing(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		name = filepath.Join(dir, name)
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return name
	}
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	closed.Close()
	krb5 := write("krb5.conf", "[libdefaults]\n default_realm = R\n udp_preference_limit = 1\n[realms]\n R = {\n  kdc = "+closed.Addr().String()+"\n }\n")
	kt := keytab.New()
	if err := kt.AddEntry("agent/h", "R", "secret", time.Now(), 1, 18); err != nil {
		t.Fatal(err)
	}
	b, err := kt.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	keys := write("keys", string(b))
	cluster := `<configuration><property><name>hadoop.security.authentication</name><value>kerberos</value></property>`
	for _, tt := range []struct {
		what, site string
		o          Options
		want       string
	}{
		{"no principal", cluster + `<property><name>dfs.namenode.kerberos.principal</name><value>nn/_HOST@R</value></property>`, Options{}, "set hdfs.kerberosPrincipal and hdfs.kerberosKeytab"},
		{"no krb5.conf", cluster, Options{Principal: "agent/h@R", Keytab: keys, Krb5Conf: dir + "/none"}, dir + "/none"},
		{"no keytab", cluster, Options{Principal: "agent/h@R", Keytab: dir + "/nokeys", Krb5Conf: krb5}, "hdfs.kerberosKeytab: open " + dir + "/nokeys"},
		{"no keys", cluster, Options{Principal: "agent/h@R", Keytab: write("empty", "no keys"), Krb5Conf: krb5}, "hdfs.kerberosKeytab"},
		{"no principal of the name node", "<configuration>", Options{Principal: "agent/h@R", Keytab: keys, Krb5Conf: krb5}, "dfs.namenode.kerberos.principal"},
		{"no KDC", cluster + `<property><name>dfs.namenode.kerberos.principal</name><value>nn/_HOST@R</value></property>`, Options{Principal: "agent/h@R", Keytab: keys, Krb5Conf: krb5}, "log in to Kerberos as agent/h@R"},
	} {
		t.Run(tt.what, func(t *testing.T) {
			tt.o.ConfDir, tt.o.Log, tt.o.CallTimeout = t.TempDir(), slog.New(slog.DiscardHandler), time.Second
			if err := os.WriteFile(filepath.Join(tt.o.ConfDir, "hdfs-site.xml"), []byte(tt.site+"</configuration>"), 0o644); err != nil {
				t.Fatal(err)
			}
			f, err := Open("hdfs://127.0.0.1:1/x", tt.o)
			if err == nil {
				_, err = f.Create("/x")
			}
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("%v, want %q", err, tt.want)
			}
		})
	}
}

// remoteError is what a name node answers.
type remoteError struct{ class, message string }

func (e remoteError) Error() string     { return e.class }
func (e remoteError) Method() string    { return "create" }
func (e remoteError) Desc() string      { return "" }
func (e remoteError) Exception() string { return e.class }
func (e remoteError) Message() string   { return e.message }

func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		class, message string
		is             error // nil: none of these
		want           string
	}{
		{"org.apache.hadoop.fs.InvalidPathException", "Invalid path name Invalid file name: /a:b\n\tat x", ErrName, "no such name: Invalid path name Invalid file name: /a:b"},
		{"org.apache.hadoop.hdfs.protocol.FSLimitException$PathComponentTooLongException", "The maximum path component name limit of x in directory / is exceeded", ErrName, "is exceeded"},
		{"org.apache.hadoop.fs.ParentNotDirectoryException", "/a (is not a directory)", ErrName, "is not a directory"},
		{"org.apache.hadoop.hdfs.protocol.DSQuotaExceededException", "The DiskSpace quota of /a is exceeded", ErrQuota, "is exceeded"},
		{"org.apache.hadoop.hdfs.server.namenode.SafeModeException", "Name node is in safe mode", nil, "hdfs dfsadmin -safemode leave"},
		{"java.io.IOException", "other\nat x", nil, "write to /a: java.io.IOException: other"},
	} {
		err := (&HDFS{}).explain(&fs.PathError{Op: "create", Path: "/a/b", Err: remoteError{tt.class, tt.message}}, "write to", "/a")
		if !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v", tt.class, err)
		}
		for _, kind := range []error{ErrName, ErrQuota, ErrBusy, fs.ErrPermission, fs.ErrExist} {
			if errors.Is(err, kind) != (kind == tt.is) {
				t.Errorf("%s: %v is %v", tt.class, err, kind)
			}
		}
	}
}
