package hbase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"

	"google.golang.org/protobuf/encoding/protowire"
)

func joinHostPort(host string, port uint64) string {
	return net.JoinHostPort(host, strconv.FormatUint(port, 10))
}

// region is where a range of a table's rows is served. It does not change.
type region struct {
	name       []byte
	spec       int // bytes of its RegionSpecifier
	start, end []byte
	addr       string
}

func (r *region) has(row []byte) bool {
	return bytes.Compare(r.start, row) <= 0 && (len(r.end) == 0 || bytes.Compare(row, r.end) < 0)
}

// regions are the known ones of a table, sorted by start.
type regions []*region

func (rs regions) find(row []byte) *region {
	i, ok := slices.BinarySearchFunc(rs, row, func(r *region, row []byte) int { return bytes.Compare(r.start, row) })
	if !ok {
		i--
	}
	if i >= 0 && rs[i].has(row) {
		return rs[i]
	}
	return nil
}

// add puts r in, in place of those that it overlaps: they are older.
func (rs regions) add(r *region) regions {
	out := slices.DeleteFunc(slices.Clone(rs), func(o *region) bool {
		return (len(r.end) == 0 || bytes.Compare(o.start, r.end) < 0) && (len(o.end) == 0 || bytes.Compare(r.start, o.end) < 0)
	})
	i, _ := slices.BinarySearchFunc(out, r.start, func(r *region, row []byte) int { return bytes.Compare(r.start, row) })
	return slices.Insert(out, i, r)
}

// lookUp asks hbase:meta where a row is. tell is as for watch.
func (c *Client) lookUp(ctx context.Context, table string, row []byte, tell func(error)) (*region, error) {
	addr, err := c.metaServer(ctx)
	if err != nil {
		return nil, err
	}
	cn, err := c.conn(ctx, addr, clientService)
	if err != nil {
		c.forgetMeta(addr)
		return nil, fmt.Errorf("look hbase:meta up: %w", err)
	}
	// Behind every region whose start is not behind row: ids are of digits.
	key := append([]byte(table+","), row...)
	key = append(key, ",99999999999999"...)
	param := appendMetaScan(nil, key, []byte(table+",,"))
	var r *region
	var answer error
	end := c.watch(ctx, cn, tell, func(ctx context.Context) (bool, error) {
		now, err := c.askRegistry(ctx)
		return now != addr, err
	})
	defer end()
	err = cn.do(ctx, requestHeader{method: "Scan", priority: 200}, len(param),
		func(b []byte) []byte { return append(b, param...) }, nil,
		func(param, block []byte) error {
			cells, _, err := parseScan(param, block)
			if err != nil {
				return err
			}
			r, answer = parseMetaRow(cells, table)
			return nil
		})
	if err != nil {
		if remote := (*RemoteError)(nil); !errors.As(err, &remote) || remote.remedy() != waitAndRetry {
			c.forgetMeta(addr)
		}
		return nil, fmt.Errorf("look hbase:meta up: %w", err)
	}
	if answer != nil {
		return nil, answer
	}
	if !r.has(row) {
		return nil, fmt.Errorf("table %s has no region for the row %.60q at the moment", table, row)
	}
	return r, nil
}

// parseMetaRow reads a row of hbase:meta.
func parseMetaRow(cells []Cell, table string) (*region, error) {
	if len(cells) == 0 {
		return nil, fmt.Errorf("table %s: %w", table, ErrNoTable)
	}
	r := &region{name: bytes.Clone(cells[0].Row)}
	r.spec = 2 + 1 + protowire.SizeBytes(len(r.name))
	var info *regionInfo
	state := ""
	for _, c := range cells {
		switch string(c.Qualifier) {
		case "regioninfo":
			p, ok := bytes.CutPrefix(c.Value, pbuf)
			if !ok {
				return nil, fmt.Errorf("read a row of hbase:meta: %w: no PBUF", errMessage)
			}
			i, err := parseRegionInfo(p)
			if err != nil {
				return nil, fmt.Errorf("read a row of hbase:meta: %w", err)
			}
			info = &i
		case "server":
			host, port, ok := cutLast(string(c.Value), ':')
			n, err := strconv.ParseUint(port, 10, 16)
			if !ok || err != nil || host == "" {
				return nil, fmt.Errorf("read a row of hbase:meta: %.60q is no server", c.Value)
			}
			r.addr = joinHostPort(host, n)
		case "state":
			state = string(c.Value)
		}
	}
	switch {
	case info == nil:
		return nil, fmt.Errorf("read a row of hbase:meta: %w: no regioninfo", errMessage)
	case info.table != table:
		return nil, fmt.Errorf("table %s: %w", table, ErrNoTable)
	case info.offline || info.split:
		return nil, fmt.Errorf("a region of table %s is being split", table)
	case r.addr == "":
		return nil, fmt.Errorf("a region of table %s is on no server yet", table)
	case state == "CLOSED" || state == "CLOSING":
		return nil, fmt.Errorf("a region of table %s is %s: it is being moved, or the table is disabled", table, strings.ToLower(state))
	}
	r.start, r.end = info.start, info.end
	return r, nil
}

func cutLast(s string, sep byte) (before, after string, ok bool) {
	i := strings.LastIndexByte(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+1:], true
}

// metaServer is the server of hbase:meta: as known, or from the registry.
func (c *Client) metaServer(ctx context.Context) (string, error) {
	c.mu.Lock()
	addr := c.meta
	c.mu.Unlock()
	if addr != "" {
		return addr, nil
	}
	addr, err := c.askRegistry(ctx)
	if err != nil {
		return "", fmt.Errorf("find hbase:meta: %w", err)
	}
	c.mu.Lock()
	c.meta = addr
	c.mu.Unlock()
	return addr, nil
}

func (c *Client) askRegistry(ctx context.Context) (addr string, err error) {
	ask := c.askZooKeeper
	if c.cfg.Registry == RPCRegistry {
		ask = c.askServers
	}
	s, err := ask(ctx)
	if err != nil {
		return "", err
	}
	return s.addr(), nil
}

func (c *Client) forgetMeta(addr string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.meta == addr {
		c.meta = ""
	}
}

func (c *Client) askZooKeeper(ctx context.Context) (serverName, error) {
	path := strings.TrimSuffix(c.cfg.Parent, "/") + "/meta-region-server"
	data, err := zkGet(ctx, c.cfg.Quorum, path, c.cfg.ConnectTimeout)
	if errors.Is(err, errNoNode) {
		return serverName{}, fmt.Errorf("%w: %s: HBase is not up, or its zookeeper.znode.parent is not %s", err, path, c.cfg.Parent)
	}
	if err != nil {
		return serverName{}, err
	}
	s, err := parseMetaNode(data)
	if err != nil {
		return s, fmt.Errorf("read %s of ZooKeeper: %w", path, err)
	}
	return s, nil
}

// askServers asks the bootstrap servers in turn, masters or region servers.
func (c *Client) askServers(ctx context.Context) (serverName, error) {
	var errs []error
	for _, i := range rand.Perm(len(c.cfg.Bootstrap)) {
		s, err := c.askServer(ctx, c.cfg.Bootstrap[i])
		if err == nil {
			return s, nil
		}
		if ctx.Err() != nil {
			return s, ctx.Err()
		}
		errs = append(errs, err)
	}
	return serverName{}, errors.Join(errs...)
}

// askServer waits as long as for a connection, so that one that is frozen does
// not keep the others from being asked.
func (c *Client) askServer(ctx context.Context, addr string) (s serverName, err error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.cfg.ConnectTimeout, errNoAnswer)
	defer cancel()
	cn, err := c.conn(ctx, addr, metaService)
	if err != nil {
		return s, err
	}
	err = cn.do(ctx, requestHeader{method: "GetMetaRegionLocations"}, 0,
		func(b []byte) []byte { return b }, nil,
		func(param, _ []byte) (err error) {
			s, err = parseMetaLocations(param)
			return err
		})
	if err == nil && s.host == "" {
		err = errors.New("it does not know where hbase:meta is yet")
	}
	if err != nil && ctx.Err() != nil {
		err = context.Cause(ctx)
	}
	if err != nil {
		return s, fmt.Errorf("ask %s: %w", addr, err)
	}
	return s, nil
}

// parseMetaLocations reads GetMetaRegionLocationsResponse: RegionLocations, of
// which the one without a replica's number counts.
func parseMetaLocations(p []byte) (first serverName, err error) {
	err = fields(p, func(num protowire.Number, _ uint64, b []byte) error {
		if num != 1 {
			return nil
		}
		var s serverName
		var info regionInfo
		if err := fields(b, func(num protowire.Number, _ uint64, b []byte) (err error) {
			switch num {
			case 1:
				info, err = parseRegionInfo(b)
			case 2:
				s, err = parseServerName(b)
			}
			return err
		}); err != nil {
			return err
		}
		if info.replica == 0 && first.host == "" {
			first = s
		}
		return nil
	})
	return first, err
}
