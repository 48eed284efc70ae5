// Package metastore asks a Hive metastore for tables and partitions, over its
// Thrift protocol (binary, not framed, without SASL), as far as a writer of
// files needs them. Metastores of Hive 1.2 to 4 are understood.
package metastore

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/thrift/lib/go/thrift"
)

// DefaultPort is where a metastore listens.
const DefaultPort = "9083"

var (
	// ErrNotFound says that there is no such table or partition.
	ErrNotFound = errors.New("not found")
	// ErrExists says that a partition is there already.
	ErrExists = errors.New("it exists already")
)

// Field is a column.
type Field struct{ Name, Type string }

// Storage is where and how rows are kept.
type Storage struct {
	Columns      []Field
	Location     string // of the directory, with its scheme
	InputFormat  string // a Java class
	OutputFormat string
	SerDe        string
	Parameters   map[string]string // of the SerDe
	Buckets      []string          // the columns that its files are bucketed by
}

// Table is a table's description.
type Table struct {
	Storage
	Keys       []Field // what the table is partitioned by
	Properties map[string]string
	Type       string // MANAGED_TABLE, EXTERNAL_TABLE, VIRTUAL_VIEW, …
}

// Client is a connection, made when it is needed and again after an error. It
// is safe for concurrent use; calls are made one after another.
type Client struct {
	addrs   []string // HOST:PORT
	timeout time.Duration

	mu     sync.Mutex
	conn   net.Conn // nil: none
	answer *bounded
	rpc    *thrift.TStandardClient
}

// New makes a client. uris are thrift://HOST:PORT, one or several with commas,
// of which the first that answers serves. Each call may take timeout, at most; 0: any time.
func New(uris string, timeout time.Duration) (*Client, error) {
	c := &Client{timeout: timeout}
	for s := range strings.SplitSeq(uris, ",") {
		u, err := url.Parse(strings.TrimSpace(s))
		if err != nil || u.Scheme != "thrift" || u.Hostname() == "" {
			return nil, fmt.Errorf("%q is no thrift://HOST:PORT", s)
		}
		port := u.Port()
		if port == "" {
			port = DefaultPort
		}
		c.addrs = append(c.addrs, net.JoinHostPort(u.Hostname(), port))
	}
	return c, nil
}

// Close ends the connection; the next call would make another.
func (c *Client) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drop()
}

func (c *Client) drop() error {
	if c.conn == nil {
		return nil
	}
	err := c.conn.Close()
	c.conn, c.answer, c.rpc = nil, nil, nil
	return err
}

// limits are those of one string, and of the number in front of a list. An answer is far below this: a table has some kilobytes.
var limits = &thrift.TConfiguration{MaxMessageSize: 16 << 20}

// maxAnswer is how many bytes an answer may have in all, which the library does not limit.
const maxAnswer = 64 << 20

// bounded is a transport from which no answer of more than maxAnswer can be read.
type bounded struct {
	thrift.TTransport
	left int
}

// Read implements io.Reader.
func (b *bounded) Read(p []byte) (int, error) {
	if len(p) > b.left {
		p = p[:b.left]
	}
	if len(p) == 0 {
		return 0, fmt.Errorf("the metastore's answer is longer than %d bytes", maxAnswer)
	}
	n, err := b.TTransport.Read(p)
	b.left -= n
	return n, err
}

func (c *Client) connect(ctx context.Context) error {
	var errs []error
	for _, addr := range c.addrs {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", addr)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		c.conn, c.answer = conn, &bounded{TTransport: thrift.NewTSocketFromConnConf(conn, limits)}
		p := thrift.NewTBinaryProtocolConf(thrift.NewTBufferedTransport(c.answer, 8<<10), limits)
		c.rpc = thrift.NewTStandardClient(p, p)
		return nil
	}
	return errors.Join(errs...)
}

// call makes one call. A connection that has failed is not used again, and one that was there before is given a
// second chance, as the metastore may have been restarted since.
func (c *Client) call(ctx context.Context, method string, args writer, res *result) error {
	if c.timeout > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, c.timeout)
		defer cancel()
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		fresh := c.conn == nil
		if fresh {
			if err := c.connect(ctx); err != nil {
				return fmt.Errorf("connect to the metastore: %w", err)
			}
		}
		c.answer.left = maxAnswer
		conn := c.conn
		stop := context.AfterFunc(ctx, func() { conn.Close() })
		_, err := c.rpc.Call(ctx, method, args, res)
		if stop() && err == nil {
			return res.err
		}
		if app := thrift.TApplicationException(nil); errors.As(err, &app) {
			return fmt.Errorf("%s: %w", method, err) // the connection is as good as before
		}
		c.drop()
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("%s: no answer from the metastore: %w", method, ctx.Err())
		case err != nil && fresh:
			return fmt.Errorf("%s: %w; a metastore with hive.metastore.sasl.enabled (Kerberos), TLS or framed transport is not supported", method, err)
		}
	}
}

// Table asks for a table. The error is ErrNotFound when there is none.
func (c *Client) Table(ctx context.Context, db, table string) (*Table, error) {
	t := &Table{}
	req := writer{func(w *out) {
		w.structure(1, func() { w.str(1, db); w.str(2, table) })
	}}
	res := &result{value: func(in *in) { in.structure(map[at]func(){{1, thrift.STRUCT}: func() { in.table(t) }}) }, notFound: 2}
	err := c.call(ctx, "get_table_req", req, res)
	var app thrift.TApplicationException
	if errors.As(err, &app) && app.TypeId() == thrift.UNKNOWN_METHOD { // Hive before 2.3
		res = &result{value: func(in *in) { in.table(t) }, notFound: 2}
		err = c.call(ctx, "get_table", writer{func(w *out) { w.str(1, db); w.str(2, table) }}, res)
	}
	if err != nil {
		return nil, fmt.Errorf("get table %s.%s: %w", db, table, err)
	}
	return t, nil
}

// Partition asks for the partition of that name (key=value/key=value). The
// error is ErrNotFound when there is none.
func (c *Client) Partition(ctx context.Context, db, table, name string) (*Storage, error) {
	s := &Storage{}
	res := &result{value: func(in *in) { in.partition(s) }, notFound: 2}
	if err := c.call(ctx, "get_partition_by_name", names(db, table, name), res); err != nil {
		return nil, fmt.Errorf("get partition %s of %s.%s: %w", name, db, table, err)
	}
	return s, nil
}

// AddPartition registers a partition, in the directory below the table's that
// has its name; the metastore makes that where it is missing. The error is
// ErrExists when it was registered before, by somebody else.
func (c *Client) AddPartition(ctx context.Context, db, table, name string) (*Storage, error) {
	s := &Storage{}
	res := &result{value: func(in *in) { in.partition(s) }, exists: 2}
	if err := c.call(ctx, "append_partition_by_name", names(db, table, name), res); err != nil {
		return nil, fmt.Errorf("add partition %s to %s.%s: %w", name, db, table, err)
	}
	return s, nil
}

// maxNames is how many partitions are asked for in one call.
const maxNames = 200

// Locations are the directories of all partitions.
func (c *Client) Locations(ctx context.Context, db, table string) ([]string, error) {
	var all, dirs []string
	res := &result{value: func(in *in) { all = list(in, in.str) }, kind: thrift.LIST}
	if err := c.call(ctx, "get_partition_names", writer{func(w *out) { w.str(1, db); w.str(2, table); w.i16(3, -1) }}, res); err != nil {
		return nil, fmt.Errorf("list the partitions of %s.%s: %w", db, table, err)
	}
	for some := range slices.Chunk(all, maxNames) {
		res := &result{kind: thrift.LIST, value: func(in *in) {
			dirs = append(dirs, list(in, func() string {
				var s Storage
				in.partition(&s)
				return s.Location
			})...)
		}}
		req := writer{func(w *out) { w.str(1, db); w.str(2, table); w.list(3, some) }}
		if err := c.call(ctx, "get_partitions_by_names", req, res); err != nil {
			return nil, fmt.Errorf("list the partitions of %s.%s: %w", db, table, err)
		}
	}
	return dirs, nil
}

func names(db, table, partition string) writer {
	return writer{func(w *out) { w.str(1, db); w.str(2, table); w.str(3, partition) }}
}

// PartitionName is the name of a partition, in which the metastore escapes what
// a path could not have.
func PartitionName(keys []Field, values []string) string {
	var b strings.Builder
	for i, k := range keys {
		if i > 0 {
			b.WriteByte('/')
		}
		escapePath(&b, k.Name)
		b.WriteByte('=')
		escapePath(&b, values[i])
	}
	return b.String()
}

// The characters are those of Hive's FileUtils.escapePathName.
func escapePath(b *strings.Builder, s string) {
	for i := range len(s) {
		c := s[i]
		if c < 0x20 || c == 0x7F || strings.IndexByte("\"#%'*/:=?\\{[]^", c) >= 0 {
			fmt.Fprintf(b, "%%%02X", c)
		} else {
			b.WriteByte(c)
		}
	}
}
