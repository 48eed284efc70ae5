// Package hbasetest is a double of a small HBase for tests: a ZooKeeper that
// has one node, and region servers that keep rows in memory. It speaks the
// wire protocol with code of its own, checks what it is sent, and fails on
// demand. It proves little about HBase; test/interop does.
package hbasetest

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// Cluster is an HBase. Server 0 has hbase:meta at first.
type Cluster struct {
	t  testing.TB
	zk net.Listener
	wg sync.WaitGroup

	mu      sync.Mutex
	servers []*server
	tables  map[string]*table
	nonces  map[string]bool
	nextID  int
	noMeta  bool
	meta    int // the server of hbase:meta
	multis  int
	scans   int // of hbase:meta
	zkGets  int
	users   map[string]bool

	// Fault is asked for each mutation, before it is done: an exception's
	// class and message, or "". It is called with the cluster locked.
	Fault func(m Mutation) (class, message string)
	// RegionFault is asked for each RegionAction.
	RegionFault func(server int, rows []string) (class, message string)
	// Answer may replace a Multi's answer; nil closes the connection after
	// the mutations were done.
	Answer func(frame []byte) []byte
	// ScanRows is the most of one answer; 0: as many as are asked for.
	ScanRows int
}

// Mutation is what Fault sees.
type Mutation struct {
	Server, Index int
	Table, Row    string
	Alone         bool // its RegionAction has no other
	Increment     bool
	SkipWAL       bool
}

type table struct {
	families []string
	regions  []*region
	rows     map[string]map[string][]byte // row → FAMILY:QUALIFIER → value
	disabled bool
}

type region struct {
	name       string
	start, end string
	server     int
}

type server struct {
	port  int
	l     net.Listener
	conns map[net.Conn]bool

	frozen chan struct{} // closed when that is over; nil: it is not
}

// New starts a cluster of n region servers. It ends with the test.
func New(t testing.TB, n int) *Cluster {
	t.Helper()
	c := &Cluster{t: t, tables: map[string]*table{}, nonces: map[string]bool{}, users: map[string]bool{}}
	c.zk = listen(t, 0)
	c.wg.Go(func() { c.serveZK(c.zk) })
	for range n {
		c.servers = append(c.servers, &server{conns: map[net.Conn]bool{}})
	}
	for i := range n {
		c.StartServer(i)
	}
	t.Cleanup(func() {
		c.zk.Close()
		for i := range n {
			c.StopServer(i)
		}
		c.wg.Wait()
	})
	return c
}

func listen(t testing.TB, port int) net.Listener {
	l, err := net.Listen("tcp", fmt.Sprintf("127.0.0.1:%d", port))
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ZooKeeper is its address.
func (c *Cluster) ZooKeeper() string { return c.zk.Addr().String() }

// Addr is that of a server.
func (c *Cluster) Addr(i int) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("127.0.0.1:%d", c.servers[i].port)
}

// StartServer lets a server listen, on the port that it had.
func (c *Cluster) StartServer(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[i]
	s.l = listen(c.t, s.port)
	s.port = s.l.Addr().(*net.TCPAddr).Port
	l := s.l
	c.wg.Go(func() { c.serve(i, l) })
}

// StopServer closes its port and its connections.
func (c *Cluster) StopServer(i int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := c.servers[i]
	if s.l != nil {
		s.l.Close()
		s.l = nil
	}
	for nc := range s.conns {
		nc.Close()
	}
	s.thaw()
}

// Freeze lets a server take connections and requests, and answer none. It
// ends with StopServer, and what was asked meanwhile is not done.
func (c *Cluster) Freeze(i int) {
	c.locked(func() { c.servers[i].frozen = make(chan struct{}) })
}

func (s *server) thaw() {
	if s.frozen != nil {
		close(s.frozen)
		s.frozen = nil
	}
}

// MoveMeta puts hbase:meta on another server.
func (c *Cluster) MoveMeta(to int) { c.locked(func() { c.meta = to }) }

// HideMeta takes the node of hbase:meta out of ZooKeeper, or puts it back.
func (c *Cluster) HideMeta(hide bool) { c.locked(func() { c.noMeta = hide }) }

// CreateTable makes a table whose regions begin at "" and at the splits, on
// one server after the other.
func (c *Cluster) CreateTable(name string, families []string, splits ...string) {
	c.locked(func() {
		t := &table{families: families, rows: map[string]map[string][]byte{}}
		for i := range len(splits) + 1 {
			r := &region{server: i % len(c.servers)}
			if i > 0 {
				r.start = splits[i-1]
			}
			if i < len(splits) {
				r.end = splits[i]
			}
			c.open(name, r)
			t.regions = append(t.regions, r)
		}
		c.tables[name] = t
	})
}

// open gives a region a name.
func (c *Cluster) open(table string, r *region) {
	c.nextID++
	r.name = fmt.Sprintf("%s,%s,%d.%032x.", table, r.start, 1700000000000+c.nextID, c.nextID)
}

// AddFamily adds a column family to a table.
func (c *Cluster) AddFamily(name, family string) {
	c.locked(func() { c.tables[name].families = append(c.tables[name].families, family) })
}

// Move puts the region of a row on another server.
func (c *Cluster) Move(name, row string, to int) {
	c.locked(func() {
		for _, r := range c.tables[name].regions {
			if r.has(row) {
				r.server = to
			}
		}
	})
}

// Split makes two regions of the one that has the row.
func (c *Cluster) Split(name, row string) {
	c.locked(func() {
		t := c.tables[name]
		for i, r := range t.regions {
			if r.has(row) {
				a, b := &region{start: r.start, end: row, server: r.server}, &region{start: row, end: r.end, server: r.server}
				c.open(name, a)
				c.open(name, b)
				t.regions = slices.Replace(t.regions, i, i+1, a, b)
				return
			}
		}
	})
}

// Disable disables a table, or enables it.
func (c *Cluster) Disable(name string, yes bool) {
	c.locked(func() { c.tables[name].disabled = yes })
}

// Rows is a copy of a table: row → FAMILY:QUALIFIER → value.
func (c *Cluster) Rows(name string) map[string]map[string]string {
	out := map[string]map[string]string{}
	c.locked(func() {
		for row, cells := range c.tables[name].rows {
			out[row] = map[string]string{}
			for k, v := range cells {
				out[row][k] = string(v)
			}
		}
	})
	return out
}

// Requests are the numbers of Multi, of Scan and of ZooKeeper's getData so far.
func (c *Cluster) Requests() (multis, scans, zkGets int) {
	c.locked(func() { multis, scans, zkGets = c.multis, c.scans, c.zkGets })
	return multis, scans, zkGets
}

// Users are those that clients said they are.
func (c *Cluster) Users() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Sorted(maps.Keys(c.users))
}

func (c *Cluster) locked(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f()
}

func (r *region) has(row string) bool { return r.start <= row && (r.end == "" || row < r.end) }

// errorf fails the test: the client sent what it must not.
func (c *Cluster) errorf(format string, args ...any) { c.t.Errorf("hbasetest: "+format, args...) }

// ZooKeeper.

func (c *Cluster) serveZK(l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		c.wg.Go(func() {
			defer nc.Close()
			c.zkSession(nc)
		})
	}
}

func (c *Cluster) zkSession(nc net.Conn) {
	connect, err := packet(nc)
	if err != nil {
		return
	}
	if len(connect) != 4+8+4+8+4+16+1 || binary.BigEndian.Uint32(connect[12:]) == 0 {
		c.errorf("a connect of %d bytes: %x", len(connect), connect)
		return
	}
	answer := binary.BigEndian.AppendUint32(nil, 0)
	answer = binary.BigEndian.AppendUint32(answer, 4000)
	answer = binary.BigEndian.AppendUint64(answer, 77)
	answer = binary.BigEndian.AppendUint32(answer, 16)
	answer = append(answer, make([]byte, 17)...)
	send(nc, answer)
	for {
		req, err := packet(nc)
		if err != nil || len(req) < 8 {
			return
		}
		if op := int32(binary.BigEndian.Uint32(req[4:])); op != 4 {
			if op != -11 {
				c.errorf("ZooKeeper operation %d", op)
			}
			return
		}
		n := binary.BigEndian.Uint32(req[8:])
		path := string(req[12 : 12+n])
		// A notification that nobody asked for comes first.
		note := binary.BigEndian.AppendUint32(nil, 0xFFFFFFFF)
		send(nc, append(note, make([]byte, 12)...))
		answer := append([]byte(nil), req[:4]...)
		answer = binary.BigEndian.AppendUint64(answer, 5)
		c.mu.Lock()
		c.zkGets++
		hidden := c.noMeta || path != "/hbase/meta-region-server"
		c.mu.Unlock()
		if hidden {
			send(nc, binary.BigEndian.AppendUint32(answer, uint32(0xFFFFFFFF-100)))
			continue
		}
		answer = binary.BigEndian.AppendUint32(answer, 0)
		data := append([]byte{0xFF, 0, 0, 0, 3}, "abcPBUF"...)
		data = message(data, 1, c.metaServer())
		data = number(data, 2, 0)
		data = number(data, 3, 3)
		answer = binary.BigEndian.AppendUint32(answer, uint32(len(data)))
		send(nc, append(append(answer, data...), make([]byte, 68)...)) // Stat
	}
}

func (c *Cluster) metaServer() []byte {
	var i int
	c.locked(func() { i = c.meta })
	return c.serverName(i)
}

func (c *Cluster) serverName(i int) []byte {
	c.mu.Lock()
	defer c.mu.Unlock()
	p := message(nil, 1, []byte("127.0.0.1"))
	p = number(p, 2, uint64(c.servers[i].port))
	return number(p, 3, 1700000000000)
}

func packet(r io.Reader) ([]byte, error) {
	var n [4]byte
	if _, err := io.ReadFull(r, n[:]); err != nil {
		return nil, err
	}
	b := make([]byte, binary.BigEndian.Uint32(n[:]))
	_, err := io.ReadFull(r, b)
	return b, err
}

// send writes a packet. A client that has gone is none of our business.
func send(w io.Writer, b []byte) {
	_, _ = w.Write(append(binary.BigEndian.AppendUint32(nil, uint32(len(b))), b...))
}

// Messages, written and read without the client's code.

func message(dst []byte, num protowire.Number, b []byte) []byte {
	return protowire.AppendBytes(protowire.AppendTag(dst, num, protowire.BytesType), b)
}

func number(dst []byte, num protowire.Number, v uint64) []byte {
	return protowire.AppendVarint(protowire.AppendTag(dst, num, protowire.VarintType), v)
}

type field struct {
	num protowire.Number
	v   uint64
	b   []byte
}

func parse(p []byte) ([]field, error) {
	var fs []field
	for len(p) > 0 {
		num, typ, n := protowire.ConsumeTag(p)
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		f := field{num: num}
		p = p[n:]
		if typ == protowire.VarintType {
			f.v, n = protowire.ConsumeVarint(p)
		} else if typ == protowire.BytesType {
			f.b, n = protowire.ConsumeBytes(p)
		} else {
			return nil, fmt.Errorf("field %d has the type %d", num, typ)
		}
		if n < 0 {
			return nil, protowire.ParseError(n)
		}
		p, fs = p[n:], append(fs, f)
	}
	return fs, nil
}

func get(fs []field, num protowire.Number) field {
	for _, f := range fs {
		if f.num == num {
			return f
		}
	}
	return field{}
}

// Region servers.

func (c *Cluster) serve(i int, l net.Listener) {
	for {
		nc, err := l.Accept()
		if err != nil {
			return
		}
		s := c.servers[i]
		c.locked(func() { s.conns[nc] = true })
		c.wg.Go(func() {
			defer nc.Close()
			if err := c.session(i, nc); err != nil && !errors.Is(err, io.EOF) && !errors.Is(err, net.ErrClosed) && !strings.Contains(err.Error(), "reset") {
				c.errorf("%v", err)
			}
			c.locked(func() { delete(s.conns, nc) })
		})
	}
}

func (c *Cluster) session(i int, nc net.Conn) error {
	r := bufio.NewReader(nc)
	var hello [6]byte
	if _, err := io.ReadFull(r, hello[:]); err != nil {
		return err
	}
	if string(hello[:]) != "HBas\x00\x50" {
		return fmt.Errorf("preamble %q", hello)
	}
	p, err := packet(r)
	if err != nil {
		return err
	}
	head, err := parse(p)
	if err != nil {
		return err
	}
	user, err := parse(get(head, 1).b)
	if err != nil {
		return err
	}
	c.locked(func() { c.users[string(get(user, 1).b)] = true })
	if codec := string(get(head, 3).b); codec != "org.apache.hadoop.hbase.codec.KeyValueCodec" {
		return fmt.Errorf("codec %q", codec)
	}
	service := string(get(head, 2).b)
	for {
		p, err := packet(r)
		if err != nil {
			return err
		}
		var frozen chan struct{}
		c.locked(func() { frozen = c.servers[i].frozen })
		if frozen != nil {
			<-frozen
			return nil
		}
		answer, err := c.call(i, service, p)
		if err != nil || answer == nil {
			return err
		}
		if _, err := nc.Write(answer); err != nil {
			return err
		}
	}
}

func delimited(p []byte) (b, rest []byte, err error) {
	b, n := protowire.ConsumeBytes(p)
	if n < 0 {
		return nil, nil, protowire.ParseError(n)
	}
	return b, p[n:], nil
}

// call answers a request with a whole frame.
func (c *Cluster) call(i int, service string, p []byte) ([]byte, error) {
	h, rest, err := delimited(p)
	if err != nil {
		return nil, err
	}
	head, err := parse(h)
	if err != nil {
		return nil, err
	}
	b, block, err := delimited(rest)
	if err != nil {
		return nil, err
	}
	param, err := parse(b)
	if err != nil {
		return nil, err
	}
	meta, err := parse(get(head, 5).b)
	if err != nil {
		return nil, err
	}
	if n := get(meta, 1).v; n != uint64(len(block)) {
		return nil, fmt.Errorf("a cell block of %d bytes, announced with %d", len(block), n)
	}
	var result, cells []byte
	var x exception
	method := service + "." + string(get(head, 3).b)
	switch method {
	case "ClientMetaService.GetMetaRegionLocations":
		info := message(number(nil, 1, 1), 2, tableName("hbase:meta"))
		result = message(nil, 1, message(message(nil, 1, number(info, 7, 1)), 2, message(number(nil, 2, 9), 1, []byte("replica"))))
		result = message(result, 1, message(message(nil, 1, info), 2, c.metaServer()))
	case "ClientService.Scan":
		result, cells, x, err = c.scan(i, param)
	case "ClientService.Multi":
		result, x, err = c.multi(i, param, block)
	default:
		err = fmt.Errorf("method %s", method)
	}
	if err != nil {
		return nil, err
	}
	rh := number(nil, 1, get(head, 1).v)
	if x.class != "" {
		rh = message(rh, 2, number(message(message(nil, 1, []byte(x.class)), 2, []byte(x.class+": "+x.message+"\n\tat x.Y")), 5, x.flag))
	}
	if len(cells) > 0 {
		rh = message(rh, 3, number(nil, 1, uint64(len(cells))))
	}
	out := protowire.AppendBytes(make([]byte, 4), rh)
	if x.class == "" {
		out = append(protowire.AppendBytes(out, result), cells...)
	}
	binary.BigEndian.PutUint32(out, uint32(len(out)-4))
	if c.Answer != nil && method == "ClientService.Multi" {
		out = c.Answer(out)
	}
	return out, nil
}

type exception struct {
	class, message string
	flag           uint64
}

func tableName(name string) []byte {
	ns, q, ok := strings.Cut(name, ":")
	if !ok {
		ns, q = "default", name
	}
	return message(message(nil, 1, []byte(ns)), 2, []byte(q))
}

// scan answers a scan of a table, or a reversed one of hbase:meta for one row.
func (c *Cluster) scan(server int, param []field) (result, cells []byte, x exception, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	region, err := parse(get(param, 1).b)
	if err != nil {
		return nil, nil, x, err
	}
	scan, err := parse(get(param, 2).b)
	if err != nil {
		return nil, nil, x, err
	}
	if get(param, 5).v != 1 {
		return nil, nil, x, fmt.Errorf("scan %v leaves its scanner open", scan)
	}
	if name := string(get(region, 2).b); name != "hbase:meta,,1" {
		return c.scanTable(server, name, scan, int(get(param, 4).v))
	}
	c.scans++
	if server != c.meta {
		return nil, nil, exception{class: "org.apache.hadoop.hbase.NotServingRegionException", message: "hbase:meta,,1 is not here"}, nil
	}
	result, cells, err = c.scanMeta(scan)
	return result, cells, x, err
}

// scanTable answers with rows of a region from one on.
func (c *Cluster) scanTable(server int, region string, scan []field, limit int) (result, cells []byte, x exception, err error) {
	name, r := c.find(region)
	if r == nil || r.server != server || c.tables[name].disabled {
		return nil, nil, exception{"org.apache.hadoop.hbase.NotServingRegionException", "it is not here", 0}, nil
	}
	t := c.tables[name]
	var families []string
	for _, f := range scan {
		if f.num == 1 {
			column, err := parse(f.b)
			if err != nil {
				return nil, nil, x, err
			}
			family := string(get(column, 1).b)
			if !slices.Contains(t.families, family) {
				return nil, nil, exception{"org.apache.hadoop.hbase.regionserver.NoSuchColumnFamilyException", "Column family " + family + " does not exist", 1}, nil
			}
			families = append(families, family)
		}
	}
	from := string(get(scan, 3).b)
	if !r.has(from) {
		return nil, nil, x, fmt.Errorf("a scan from %q in the region from %q", from, r.start)
	}
	if c.ScanRows > 0 {
		limit = min(limit, c.ScanRows)
	}
	more, found := false, 0
	for _, row := range slices.Sorted(maps.Keys(t.rows)) {
		if row < from || !r.has(row) {
			continue
		}
		if found == limit {
			more = true
			break
		}
		n := 0
		for _, column := range slices.Sorted(maps.Keys(t.rows[row])) {
			family, qualifier, _ := strings.Cut(column, ":")
			if families == nil || slices.Contains(families, family) {
				cells = append(cells, kvBytes(row, family, qualifier, string(t.rows[row][column]))...)
				n++
			}
		}
		if n > 0 {
			result = number(result, 1, uint64(n))
			found++
		}
	}
	if more {
		result = number(result, 8, 1)
	}
	return result, cells, x, nil
}

func (c *Cluster) scanMeta(scan []field) (result, cells []byte, err error) {
	if get(scan, 15).v != 1 {
		return nil, nil, fmt.Errorf("scan %v", scan)
	}
	first, last := string(get(scan, 3).b), string(get(scan, 4).b)
	name, row, _ := strings.Cut(first, ",")
	row = row[:strings.LastIndexByte(row, ',')]
	if last != name+",," {
		return nil, nil, fmt.Errorf("scan to %q", last)
	}
	t := c.tables[name]
	if t == nil {
		return nil, nil, nil
	}
	for _, r := range t.regions {
		if !r.has(row) {
			continue
		}
		info := message(number(nil, 1, 1700000000000), 2, tableName(name))
		info = message(message(info, 3, []byte(r.start)), 4, []byte(r.end))
		state := "OPEN"
		if t.disabled {
			state = "CLOSED"
		}
		for _, kv := range [][2]string{{"regioninfo", "PBUF" + string(info)}, {"server", "127.0.0.1:" + strconv.Itoa(c.servers[r.server].port)}, {"state", state}} {
			cells = append(cells, kvBytes(r.name, "info", kv[0], kv[1])...)
		}
		return number(nil, 1, 3), cells, nil
	}
	return nil, nil, nil
}

func kvBytes(row, family, qualifier, value string) []byte {
	key := binary.BigEndian.AppendUint16(nil, uint16(len(row)))
	key = append(key, row...)
	key = append(append(append(key, byte(len(family))), family...), qualifier...)
	key = append(binary.BigEndian.AppendUint64(key, 1700000000000), 4)
	b := binary.BigEndian.AppendUint32(nil, uint32(8+len(key)+len(value)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(key)))
	b = binary.BigEndian.AppendUint32(b, uint32(len(value)))
	return append(append(b, key...), value...)
}

// cell is one of a cell block.
type cell struct{ row, column, value string }

func cut(block []byte) (cell, []byte, error) {
	bad := errors.New("cell block")
	if len(block) < 14 {
		return cell{}, nil, bad
	}
	n := int(binary.BigEndian.Uint32(block))
	kv, rest := block[4:4+n], block[4+n:]
	keyLen, valueLen := int(binary.BigEndian.Uint32(kv)), int(binary.BigEndian.Uint32(kv[4:]))
	if n != 8+keyLen+valueLen {
		return cell{}, nil, bad
	}
	key, value := kv[8:8+keyLen], kv[8+keyLen:]
	rowLen := int(binary.BigEndian.Uint16(key))
	row, tail := key[2:2+rowLen], key[2+rowLen:]
	famLen := int(tail[0])
	family, qualifier, end := tail[1:1+famLen], tail[1+famLen:len(tail)-9], tail[len(tail)-9:]
	if binary.BigEndian.Uint64(end) != 1<<63-1 || end[8] != 4 {
		return cell{}, nil, fmt.Errorf("time or type %x", end)
	}
	return cell{string(row), string(family) + ":" + string(qualifier), string(value)}, rest, nil
}

func (c *Cluster) multi(server int, param []field, block []byte) (result []byte, x exception, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.multis++
	group := get(param, 2).v
	for _, ra := range param {
		if ra.num != 1 {
			continue
		}
		fs, err := parse(ra.b)
		if err != nil {
			return nil, x, err
		}
		spec, err := parse(get(fs, 1).b)
		if err != nil {
			return nil, x, err
		}
		var muts []mutation
		var rows []string
		for _, f := range fs {
			if f.num != 3 {
				continue
			}
			m := mutation{}
			if m, block, err = cutMutation(f.b, block); err != nil {
				return nil, x, err
			}
			muts, rows = append(muts, m), append(rows, m.cells[0].row)
		}
		var out []byte
		name, r := c.find(string(get(spec, 2).b))
		class, text := "", ""
		if c.RegionFault != nil {
			class, text = c.RegionFault(server, rows)
		}
		switch {
		case class == "" && (r == nil || r.server != server || c.tables[name].disabled):
			class, text = "org.apache.hadoop.hbase.NotServingRegionException", "it is not here"
		case class == "!": // of the whole request
			return nil, exception{text, "as the test says", 1}, nil
		}
		if class != "" {
			result = message(result, 1, message(nil, 2, trace(class, text)))
			continue
		}
		for _, m := range muts {
			one := number(nil, 1, m.index)
			class, text, err := c.apply(server, name, r, group, m, len(muts) == 1)
			if err != nil {
				return nil, x, err
			}
			if class == "?" { // no answer for this one
				continue
			}
			if class != "" {
				one = message(one, 3, trace(class, text))
			} else {
				one = message(one, 2, nil)
			}
			out = message(out, 1, one)
		}
		result = message(result, 1, out)
	}
	if len(block) > 0 {
		return nil, x, fmt.Errorf("%d bytes of cells belong to no mutation", len(block))
	}
	return result, x, nil
}

func trace(class, text string) []byte {
	return message(message(nil, 1, []byte(class)), 2, []byte(class+": "+text+"\n\tat some.Class.method(Class.java:1)\n"))
}

func (c *Cluster) find(name string) (string, *region) {
	for n, t := range c.tables {
		for _, r := range t.regions {
			if r.name == name {
				return n, r
			}
		}
	}
	return "", nil
}

type mutation struct {
	index, kind, durability, nonce uint64
	cells                          []cell
}

func cutMutation(p, block []byte) (m mutation, rest []byte, err error) {
	action, err := parse(p)
	if err != nil {
		return m, nil, err
	}
	fs, err := parse(get(action, 2).b)
	if err != nil {
		return m, nil, err
	}
	m = mutation{index: get(action, 1).v, kind: get(fs, 2).v, durability: get(fs, 6).v, nonce: get(fs, 9).v}
	for range get(fs, 8).v {
		var x cell
		if x, block, err = cut(block); err != nil {
			return m, nil, err
		}
		m.cells = append(m.cells, x)
	}
	if len(m.cells) == 0 {
		return m, nil, errors.New("a mutation without cells")
	}
	return m, block, nil
}

// apply does a mutation.
func (c *Cluster) apply(server int, name string, r *region, group uint64, m mutation, alone bool) (class, text string, err error) {
	t, row := c.tables[name], m.cells[0].row
	if c.Fault != nil {
		class, text = c.Fault(Mutation{server, int(m.index), name, row, alone, m.kind == 1, m.durability == 1})
		if class != "" {
			return class, text, nil
		}
	}
	if !r.has(row) {
		return "org.apache.hadoop.hbase.exceptions.FailedSanityCheckException", "Requested row out of range for " + row, nil
	}
	for _, x := range m.cells {
		if family, _, _ := strings.Cut(x.column, ":"); !slices.Contains(t.families, family) {
			return "org.apache.hadoop.hbase.regionserver.NoSuchColumnFamilyException", "Column family " + family + " does not exist", nil
		}
		if x.row != row {
			return "", "", fmt.Errorf("a mutation of %q has a cell of %q", row, x.row)
		}
	}
	if m.kind == 1 {
		if m.nonce == 0 || group == 0 {
			return "", "", errors.New("an increment without a nonce")
		}
		key := fmt.Sprint(group, "/", m.nonce)
		if c.nonces[key] {
			return "", "", nil
		}
		c.nonces[key] = true
	} else if m.kind != 2 {
		return "", "", fmt.Errorf("a mutation of type %d", m.kind)
	}
	if t.rows[row] == nil {
		t.rows[row] = map[string][]byte{}
	}
	for _, x := range m.cells {
		v := []byte(x.value)
		if m.kind == 1 {
			sum := binary.BigEndian.Uint64(v)
			if old := t.rows[row][x.column]; old != nil {
				sum += binary.BigEndian.Uint64(old)
			}
			v = binary.BigEndian.AppendUint64(nil, sum)
		}
		t.rows[row][x.column] = v
	}
	return "", "", nil
}
