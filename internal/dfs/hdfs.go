package dfs

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"os/user"
	"path"
	"strings"
	"sync"
	"time"

	"github.com/colinmarc/hdfs/v2"
	"github.com/colinmarc/hdfs/v2/hadoopconf"
	krb "github.com/jcmturner/gokrb5/v8/client"
)

// HDFS is the Hadoop file system, by way of colinmarc/hdfs. That client connects to one data node of a block's pipeline,
// has no way to repair a pipeline, and its Flush does not wait for the data nodes: see conn.go and recover.go for what is
// added here.
type HDFS struct {
	log     *slog.Logger
	opts    hdfs.ClientOptions
	timeout time.Duration
	dial    net.Dialer
	login   func() (*krb.Client, error) // Kerberos; nil: none

	mu       sync.Mutex
	client   *hdfs.Client // nil: not connected
	loggedIn bool

	pipes pipes
	nodes nodes

	abortedMu sync.Mutex
	aborted   map[string]bool // our own files that Recover has to close
}

func openHDFS(host string, conf hadoopconf.HadoopConf, o Options) (*HDFS, error) {
	addrs, err := nameNodes(host, conf)
	if err != nil {
		return nil, err
	}
	h := &HDFS{log: o.Log, timeout: o.CallTimeout, opts: hdfs.ClientOptionsFromConf(conf), aborted: map[string]bool{}}
	h.dial.Timeout = o.CallTimeout
	h.opts.Addresses = addrs
	h.opts.NamenodeDialFunc = h.dialNameNode
	h.opts.DatanodeDialFunc = h.dialDataNode
	if h.opts.KerberosClient != nil || o.Principal != "" {
		if h.opts.KerberosClient, err = kerberosClient(o); err != nil {
			return nil, err
		}
		if h.opts.KerberosServicePrincipleName == "" {
			return nil, errors.New("dfs.namenode.kerberos.principal is not in hdfs-site.xml; set HADOOP_CONF_DIR to the cluster's configuration")
		}
		h.opts.User = h.opts.KerberosClient.Credentials.UserName()
		h.login = func() (*krb.Client, error) { return login(o) }
		h.opts.DataTransferProtection = leastProtection(conf)
		if p := conf["hadoop.rpc.protection"]; p != "" && p != "authentication" {
			o.Log.Warn("what is asked of the name node (names of files, none of what is in them) goes over the network as it is; only its answers are protected", "hadoop.rpc.protection", p)
		}
		return h, nil
	}
	h.opts.User, err = userName(o)
	return h, err
}

// userName is whom HDFS takes us for where it believes that.
func userName(o Options) (string, error) {
	if o.User != "" {
		return o.User, nil
	}
	if name := os.Getenv("HADOOP_USER_NAME"); name != "" {
		return name, nil
	}
	u, err := user.Current()
	if err != nil {
		return "", fmt.Errorf("find out the user: %w; set HADOOP_USER_NAME", err)
	}
	return u.Username, nil
}

// connected is the client, which is made when it is first needed.
func (h *HDFS) connected() (*hdfs.Client, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		return h.client, nil
	}
	if h.login != nil && !h.loggedIn {
		k, err := h.login()
		if err != nil {
			return nil, err
		}
		h.opts.KerberosClient, h.loggedIn = k, true
	}
	c, err := hdfs.NewClient(h.opts)
	if err != nil {
		h.logout()
		next := "see whether it runs, and whether hdfs.path (or hdfs-site.xml) has its address"
		if strings.Contains(err.Error(), handshake) {
			next = handshakeHint(err.Error())
		}
		return nil, fmt.Errorf("connect to the name node %s: %w: %s", strings.Join(h.opts.Addresses, ", "), err, next)
	}
	h.client = c
	return c, nil
}

// Create implements FS.
func (h *HDFS) Create(name string) (File, error) {
	c, err := h.connected()
	if err != nil {
		return nil, err
	}
	w, err := c.Create(name)
	if errors.Is(err, fs.ErrNotExist) {
		if err = c.MkdirAll(path.Dir(name), 0o755); err == nil {
			w, err = c.Create(name)
		} else if errors.Is(err, fs.ErrExist) {
			return nil, fmt.Errorf("%w: %s is a file", ErrName, path.Dir(name))
		}
	}
	if err != nil {
		return nil, h.explain(err, "write to", path.Dir(name))
	}
	return &hdfsFile{fs: h, name: name, w: w, pipe: h.pipes.new(h.timeout)}, nil
}

// Rename implements FS.
func (h *HDFS) Rename(from, to string) error {
	if from == to {
		return nil
	}
	c, err := h.connected()
	if err != nil {
		return err
	}
	// The client's own rename would overwrite.
	if _, err := c.Stat(to); err == nil {
		return &fs.PathError{Op: "rename", Path: to, Err: fs.ErrExist}
	} else if !errors.Is(err, fs.ErrNotExist) {
		return h.explain(err, "look at", to)
	}
	return h.explain(c.Rename(from, to), "rename in", path.Dir(to))
}

// Remove implements FS.
func (h *HDFS) Remove(name string) error {
	c, err := h.connected()
	if err != nil {
		return err
	}
	if err := c.Remove(name); err != nil {
		return h.explain(err, "remove", name)
	}
	h.abortedMu.Lock()
	defer h.abortedMu.Unlock()
	delete(h.aborted, name)
	return nil
}

// List implements FS.
func (h *HDFS) List(dir string) ([]Entry, error) {
	c, err := h.connected()
	if err != nil {
		return nil, err
	}
	infos, err := c.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	var list []Entry
	for _, i := range infos {
		list = append(list, Entry{i.Name(), i.IsDir()})
	}
	return list, h.explain(err, "list", dir)
}

// MkdirAll implements FS.
func (h *HDFS) MkdirAll(dir string) error {
	c, err := h.connected()
	if err != nil {
		return err
	}
	return h.explain(c.MkdirAll(dir, 0o755), "make", dir)
}

// Home implements FS.
func (h *HDFS) Home() string { return "/user/" + h.opts.User }

// Close implements FS.
func (h *HDFS) Close() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client == nil {
		return nil
	}
	c := h.client
	h.client = nil
	h.logout()
	return c.Close()
}

// logout ends what renews the ticket.
func (h *HDFS) logout() {
	if h.loggedIn {
		h.opts.KerberosClient.Destroy()
		h.loggedIn = false
	}
}

// renew has the next call make a new client, where there is Kerberos: this one goes on with the keys that it once got. With relogin
// those of the keytab are meant, else those by which data is encrypted. Files that are open are given up: nobody would renew
// their leases.
func (h *HDFS) renew(relogin bool) {
	if h.login == nil {
		return
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.client != nil {
		_ = h.client.Close() // it has failed
		h.client = nil
	}
	if relogin {
		h.logout()
	}
	h.pipes.fail(errRenewed)
}

var errRenewed = errors.New("its client's keys are no longer valid")

// explain says in words what an operator has to do.
func (h *HDFS) explain(err error, what, where string) error {
	switch {
	case err == nil:
		return nil
	case strings.Contains(err.Error(), handshake):
		h.renew(true)
		return fmt.Errorf("%w: %s", err, handshakeHint(err.Error()))
	case strings.Contains(err.Error(), "rspauth"): // the library's word for an answer that is none
		h.renew(false)
		return fmt.Errorf("%w: the data node does not know the key for encrypted data, or the block token; others are asked for", err)
	case strings.Contains(err.Error(), "negotiating data protection"):
		return fmt.Errorf("%w: dfs.data.transfer.protection in hdfs-site.xml asks for %s, and the data node offers less: make them agree", err, h.opts.DataTransferProtection)
	case errors.Is(err, fs.ErrPermission):
		who := h.opts.User
		return fmt.Errorf("%w: the user %s may not %s %s: give it the right (hdfs dfs -chown or -chmod), or set HADOOP_USER_NAME (an HDFS sink also has hdfs.proxyUser)", err, who, what, where)
	case strings.Contains(err.Error(), "no available namenodes"):
		return fmt.Errorf("%w: see whether the name node runs or, if there are several, whether one is active (hdfs haadmin -getAllServiceState)", err)
	}
	var remote hdfs.Error
	if errors.As(err, &remote) {
		// The message goes on with a stack trace.
		message, _, _ := strings.Cut(remote.Message(), "\n")
		class := remote.Exception()
		switch class[strings.LastIndexByte(class, '.')+1:] {
		case "SafeModeException":
			return fmt.Errorf("the name node is in safe mode, in which nothing can be written; hdfs dfsadmin -safemode leave ends it (%s)", message)
		case "QuotaExceededException", "DSQuotaExceededException", "NSQuotaExceededException", "QuotaByStorageTypeExceededException":
			return fmt.Errorf("%w: %s", ErrQuota, message)
		case "InvalidPathException", "ParentNotDirectoryException", "FSLimitException$PathComponentTooLongException":
			return fmt.Errorf("%w: %s", ErrName, message)
		}
		return fmt.Errorf("%s %s: %s: %s", what, where, class, message)
	}
	return err
}

// hdfsFile is a file that is being written.
type hdfsFile struct {
	fs   *HDFS
	name string
	w    *hdfs.FileWriter // nil: closed until the next write
	pipe *pipe

	written bool
}

func (f *hdfsFile) Write(p []byte) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	if f.w == nil {
		c, err := f.fs.connected()
		if err != nil {
			return 0, err
		}
		if f.w, err = c.Append(f.name); err != nil {
			return 0, f.fs.explain(err, "append to", f.name)
		}
	}
	if err := f.w.SetDeadline(f.pipe.id); err != nil {
		return 0, err
	}
	f.written = true
	n, err := f.w.Write(p)
	return n, f.explain(err)
}

func (f *hdfsFile) Flush() error {
	if f.w == nil || !f.written {
		return nil
	}
	f.written = false
	if f.pipe.hidden() { // then the file is closed, and appended to after that
		return f.end()
	}
	if err := f.w.Flush(); err != nil {
		return f.explain(err)
	}
	return f.pipe.await()
}

func (f *hdfsFile) explain(err error) error {
	if err != nil && strings.Contains(err.Error(), "are excluded in this operation") {
		f.fs.nodes.forgive() // no others are left
	}
	return f.fs.explain(err, "write to", f.name)
}

// Err sees what the client's heartbeats, one every 30 s, have met with.
func (f *hdfsFile) Err() error {
	f.pipe.mu.Lock()
	defer f.pipe.mu.Unlock()
	return f.pipe.err
}

// end closes the file at the name node. The data nodes may need a moment to tell it of the last block.
func (f *hdfsFile) end() error {
	for pause := 50 * time.Millisecond; ; pause *= 2 {
		err := f.w.Close()
		switch {
		case err == nil:
			f.w = nil
			return nil
		case !hdfs.IsErrReplicating(err) || pause > 3*time.Second:
			return f.fs.explain(err, "close", f.name)
		}
		time.Sleep(pause)
	}
}

func (f *hdfsFile) Close() error {
	if f.w != nil {
		if err := f.end(); err != nil {
			return err
		}
	}
	f.fs.pipes.forget(f.pipe)
	return nil
}

func (f *hdfsFile) Abort() {
	f.pipe.fail(errAborted)
	f.fs.pipes.forget(f.pipe)
	f.fs.abortedMu.Lock()
	defer f.fs.abortedMu.Unlock()
	f.fs.aborted[f.name] = true
}

var errAborted = errors.New("the file was given up")

func (h *HDFS) dialNameNode(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := h.dial.DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	strict := strictConn{Conn: c, timeout: h.timeout}
	n := &nodeConn{strictConn: strict, nodes: &h.nodes}
	if h.login == nil {
		n.report = func() ([]byte, error) { return h.dataNodes(addr) }
	}
	return n, nil
}

func (h *HDFS) dialDataNode(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := h.dial.DialContext(ctx, network, addr)
	if err != nil {
		h.nodes.fail(addr)
		return nil, err
	}
	return &pipeConn{Conn: c, pipes: &h.pipes, timeout: h.timeout, nodes: &h.nodes, line: []string{addr}}, nil
}
