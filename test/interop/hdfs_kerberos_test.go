//go:build interop

package interop

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
)

// realm is a Kerberos realm with MIT's KDC.
type realm struct{ dir string }

const realmName = "PEERS.TEST"

func startRealm(t *testing.T) *realm {
	t.Helper()
	program(t, "bash")
	_, err := peer("kdc.sh", nil, "fetch")
	var exit *exec.ExitError
	if errors.As(err, &exit) && exit.ExitCode() == 3 {
		missing(t, "MIT's KDC: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := &realm{t.TempDir()}
	t.Cleanup(func() { r.stop(t) })
	r.start(t, fmt.Sprintf("KDC_PORT=%d", (&ports{}).take(t)))
	return r
}

func (r *realm) start(t *testing.T, env ...string) {
	t.Helper()
	if _, err := peer("kdc.sh", env, "start", r.dir); err != nil {
		t.Fatal(err)
	}
}

func (r *realm) stop(t *testing.T) {
	t.Helper()
	if _, err := peer("kdc.sh", nil, "stop", r.dir); err != nil {
		t.Error(err)
	}
}

func (r *realm) admin(t *testing.T, args ...string) {
	t.Helper()
	if _, err := peer("kdc.sh", nil, append([]string{"admin", r.dir}, args...)...); err != nil {
		t.Fatal(err)
	}
}

// keytab gives a principal new keys and puts them into a file, at once.
func (r *realm) keytab(t *testing.T, file, principal string) {
	t.Helper()
	r.admin(t, "ktadd", "-k", file+".new", principal)
	if err := os.Rename(file+".new", file); err != nil {
		t.Fatal(err)
	}
}

func (r *realm) config() string { return "KRB5_CONFIG=" + filepath.Join(r.dir, "krb5.conf") }

// relay passes connections on, until they are cut.
type relay struct {
	addr  string
	mu    sync.Mutex
	conns []net.Conn
}

func startRelay(t *testing.T, to string) *relay {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r := &relay{addr: l.Addr().String()}
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			out, err := net.Dial("tcp", to)
			if err != nil {
				in.Close()
				continue
			}
			r.mu.Lock()
			r.conns = append(r.conns, in, out)
			r.mu.Unlock()
			for _, c := range [][2]net.Conn{{in, out}, {out, in}} {
				wg.Go(func() {
					_, _ = io.Copy(c[0], c[1]) // it ends when one of them does
					c[0].Close()
					c[1].Close()
				})
			}
		}
	})
	t.Cleanup(func() { l.Close(); r.cut(); wg.Wait() })
	return r
}

func (r *relay) cut() {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, c := range r.conns {
		c.Close()
	}
	r.conns = nil
}

// entries is how many files and directories the name node has; WebHDFS would want a ticket.
func (h *realHDFS) entries(t *testing.T) (n int) {
	t.Helper()
	resp, err := http.Get(strings.TrimSuffix(h.web, "/webhdfs/v1") + "/jmx?qry=Hadoop:service=NameNode,name=FSNamesystem")
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	var found struct{ Beans []struct{ FilesTotal int } }
	if err := json.NewDecoder(resp.Body).Decode(&found); err != nil || len(found.Beans) != 1 {
		t.Fatalf("%v: %v", found, err)
	}
	return found.Beans[0].FilesTotal
}

// blocks is how many blocks a data node has.
func (h *realHDFS) blocks(t *testing.T, data string) (n int) {
	t.Helper()
	err := filepath.WalkDir(filepath.Join(h.dir, data), func(p string, e fs.DirEntry, err error) error {
		if errors.Is(err, fs.ErrNotExist) {
			return nil // it is moved in this moment
		}
		if err == nil && strings.HasPrefix(e.Name(), "blk_") && !strings.HasSuffix(e.Name(), ".meta") {
			n++
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// ticketLife is that of the agent's tickets.
const ticketLife = 4 * time.Second

// HDFS in a realm: the name node encrypts its answers, one data node wants a login, the other encrypts. Each thing that can be
// wrong with the login is, one after the other, before an agent can write; its tickets run out while it writes, its key is made anew.
func TestHDFSKerberos(t *testing.T) {
	t.Parallel() // it waits for Java most of the time
	fetched(t, "hdfs.sh")
	r := startRealm(t)
	h := &realHDFS{dir: t.TempDir()}
	servers, keys := filepath.Join(h.dir, "servers.keytab"), filepath.Join(h.dir, "flume.keytab")
	for _, p := range []string{"hdfs/localhost", "HTTP/localhost"} {
		r.admin(t, "addprinc", "-randkey", p)
		r.admin(t, "ktadd", "-k", servers, p)
	}
	for _, p := range []string{"flume", "other"} {
		r.admin(t, "addprinc", "-randkey", p)
	}
	r.keytab(t, keys, "flume")
	r.admin(t, "delprinc", "-force", "flume")

	next := &ports{}
	port, conf := next.row(t, 8), filepath.Join(h.dir, "client")
	h.web, h.uri = fmt.Sprintf("http://127.0.0.1:%d/webhdfs/v1", port+1), fmt.Sprintf("hdfs://localhost:%d", port)
	h.env = []string{fmt.Sprintf("HDFS_PORT=%d", port), "HDFS_NODES=2", "HDFS_REPLICAS=1", "HDFS_REALM=" + realmName, "HDFS_KEYTAB=" + servers, r.config(),
		"HDFS_RPC_PROTECTION=privacy", "HDFS_DATA_PROTECTION=privacy,authentication", "HDFS_CONF=" + conf, "KRB5PRINCIPAL=hdfs/localhost", "KRB5KEYTAB=" + servers}
	h.start(t)
	if err := os.Mkdir(conf, 0o755); err != nil {
		t.Fatal(err)
	}
	for name, properties := range map[string][]string{
		"core-site.xml": {"hadoop.security.authentication", "kerberos", "hadoop.rpc.protection", "privacy"},
		"hdfs-site.xml": {"dfs.namenode.kerberos.principal", "hdfs/_HOST@" + realmName, "dfs.data.transfer.protection", "authentication,privacy"},
	} {
		var b strings.Builder
		for i := 0; i < len(properties); i += 2 {
			fmt.Fprintf(&b, "<property><name>%s</name><value>%s</value></property>\n", properties[i], properties[i+1])
		}
		if err := os.WriteFile(filepath.Join(conf, name), []byte("<configuration>\n"+b.String()+"</configuration>\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}

	nameNode := startRelay(t, fmt.Sprintf("localhost:%d", port))
	_, relayed, _ := net.SplitHostPort(nameNode.addr)
	dir := t.TempDir()
	lines := startFeed(t, dir, 500*time.Millisecond)
	r.stop(t)
	p := startSluiceIn(t, []string{"HADOOP_CONF_DIR=" + conf, r.config()}, "agent", "-n", "a1", "-f",
		hdfsAgent(t, dir, "hdfs://localhost:"+relayed+"/logs", "hdfs.rollCount = 200", "hdfs.kerberosPrincipal = flume@"+realmName, "hdfs.kerberosKeytab = "+keys))
	said := 0
	says := func(what string) {
		t.Helper()
		eventually(t, 3*time.Minute, "the sink says "+what, func() error {
			if out := p.out.String()[said:]; !strings.Contains(out, what) {
				return errors.New(tail(out, 500))
			}
			return nil
		})
		log := p.out.String()[said:]
		t.Logf("%s", firstLine(log, what))
		said += len(log)
	}
	written := func(what string) {
		t.Helper()
		had := h.entries(t)
		eventually(t, 3*time.Minute, "more is written "+what, func() error {
			if n := h.entries(t); n < had+3 {
				return fmt.Errorf("%d more files; the agent says:\n%s", n-had, tail(p.out.String(), 1500))
			}
			return nil
		})
		log := p.out.String()[said:]
		t.Logf("%s: %d lines in the log: %s", what, len(troubles(log)), strings.Join(troubles(log), "\n"))
		said += len(log)
	}
	says("see whether the KDC of the realm answers")
	r.start(t)
	says("correct hdfs.kerberosPrincipal, or have it made in the KDC")
	r.admin(t, "addprinc", "-randkey", "+requires_preauth", "-maxlife", ticketLife.String(), "flume")
	says("have the keytab made anew")
	r.keytab(t, keys, "other")
	says("hdfs.kerberosPrincipal is not there")
	r.keytab(t, keys, "flume")
	written("when the keytab is right")
	time.Sleep(ticketLife + time.Second)
	nameNode.cut()
	written("after the tickets have run out")
	r.stop(t)
	r.keytab(t, keys, "flume") // while nobody can ask for tickets: the old key never works again
	time.Sleep(ticketLife)
	nameNode.cut()
	says("see whether the KDC of the realm answers")
	r.start(t)
	written("with a new key, when the KDC is back")

	n := lines.end()
	spooled(t, dir)
	eventually(t, 5*time.Minute, "most of it is written", func() error {
		if files := h.entries(t); files < n/feedLines {
			return fmt.Errorf("%d of %d files", files, n/feedLines)
		}
		return nil
	})
	p.stop(t) // drains and closes
	result := h.allThere(t, n)
	b1, b2 := h.blocks(t, "data"), h.blocks(t, "data2")
	if b1 == 0 || b2 == 0 {
		t.Errorf("%d blocks are encrypted, %d are not: both are to be tried", b1, b2)
	}
	t.Logf("%s; %d blocks to the data node that encrypts, %d to the other", result, b1, b2)
}
