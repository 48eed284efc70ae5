package hbase

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"time"
)

// Scan says what of a table is read.
type Scan struct {
	Family []byte // nil: all of them
	Limit  int    // rows; 0: all
}

// The most of one answer. Rows are never cut, so one that is larger comes alone.
const (
	scanRows  = 1000
	scanBytes = 2 << 20
)

var errNoProgress = errors.New("the server says that there is more, and does not send it")

// Scan calls row for each row of a table, in the order of their keys, with its newest cells. Each request opens a
// scanner of its own behind the last row and closes it, so that nothing is lost when a region moves or a server goes. What is written
// meanwhile may be seen or not. Scan ends with the first error of row, with one that no try can mend, or when
// nothing has come for Config.Timeout.
func (c *Client) Scan(ctx context.Context, table string, s Scan, row func(cells []Cell) error) error {
	var from []byte
	left, idle, deadline := s.Limit, 0, time.Now().Add(c.cfg.Timeout)
	for {
		want := scanRows
		if s.Limit > 0 {
			want = min(want, left)
		}
		r, cells, more, err := c.scanOnce(ctx, table, s.Family, from, want)
		if err == nil && more && len(cells) == 0 {
			err = fmt.Errorf("table %s: %w", table, errNoProgress)
		}
		if err != nil {
			var remote *RemoteError
			final := errors.Is(err, ErrNoTable) || errors.Is(err, errClientClosed) || errors.As(err, &remote) && remote.remedy() == giveUp
			if ctx.Err() != nil {
				return ctx.Err()
			}
			if final {
				return err
			}
			pause := c.pause(idle)
			if time.Now().Add(pause).After(deadline) {
				return fmt.Errorf("tried for %v: %w", c.cfg.Timeout, err)
			}
			if idle++; !sleep(ctx, pause) {
				return ctx.Err()
			}
			continue
		}
		idle, deadline = 0, time.Now().Add(c.cfg.Timeout)
		for len(cells) > 0 {
			var one []Cell
			if one, cells, err = cutRow(cells, from); err != nil {
				return fmt.Errorf("scan table %s: %w", table, err)
			}
			if err := row(one); err != nil {
				return err
			}
			if left--; left == 0 {
				return nil
			}
			from = append(append(from[:0], one[0].Row...), 0) // the first key behind it
		}
		if !more {
			if len(r.end) == 0 {
				return nil
			}
			from = append(from[:0], r.end...)
		}
	}
}

// cutRow cuts the first row off cells, which must not be before from.
func cutRow(cells []Cell, from []byte) (row, rest []Cell, err error) {
	if bytes.Compare(cells[0].Row, from) < 0 {
		return nil, nil, fmt.Errorf("the server sends the row %.60q, and was asked for those from %.60q on", cells[0].Row, from)
	}
	n := 1
	for n < len(cells) && bytes.Equal(cells[n].Row, cells[0].Row) {
		n++
	}
	return cells[:n:n], cells[n:], nil
}

// scanOnce reads the first rows of a region from a row on. more says that the region has others.
func (c *Client) scanOnce(ctx context.Context, table string, family, from []byte, want int) (r *region, cells []Cell, more bool, err error) {
	if r = c.known(table).find(from); r == nil {
		if r, err = c.lookUp(ctx, table, from, nil); err != nil {
			return nil, nil, false, err
		}
		c.remember(table, r)
	}
	cn, err := c.conn(ctx, r.addr, clientService)
	if err == nil {
		param := appendTableScan(nil, r.name, family, from, want)
		end := c.watch(ctx, cn, nil, func(ctx context.Context) (bool, error) {
			now, err := c.lookUp(ctx, table, from, nil)
			return err == nil && now.addr != r.addr, err
		})
		err = cn.do(ctx, requestHeader{method: "Scan"}, len(param), func(b []byte) []byte { return append(b, param...) }, nil,
			func(param, block []byte) (err error) {
				// The frame is used again when this returns.
				cells, more, err = parseScan(bytes.Clone(param), bytes.Clone(block))
				return err
			})
		end()
	}
	if err == nil {
		return r, cells, more, nil
	}
	var remote *RemoteError
	switch answered := errors.As(err, &remote); {
	case ctx.Err() != nil:
	case !answered || remote.remedy() == hangUp:
		c.forgetServer(r.addr)
	case remote.remedy() == lookUpAgain:
		c.forgetRegion(table, r)
	}
	return nil, nil, false, fmt.Errorf("scan table %s: %w", table, err)
}
