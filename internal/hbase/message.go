package hbase

import (
	"errors"
	"fmt"

	"google.golang.org/protobuf/encoding/protowire"
)

// HBase's messages, as far as they are needed, by field numbers. They are
// in docs/hbase.md.

var errMessage = errors.New("malformed message")

// reader goes through the fields of a message: v of numbers, b of bytes.
// Those of other types are passed over.
type reader struct {
	p   []byte
	num protowire.Number
	v   uint64
	b   []byte
	err error
}

func (r *reader) next() bool {
	for len(r.p) > 0 && r.err == nil {
		num, typ, n := protowire.ConsumeTag(r.p)
		if n >= 0 {
			r.p = r.p[n:]
			r.num, r.v, r.b = num, 0, nil
			switch typ {
			case protowire.VarintType:
				r.v, n = protowire.ConsumeVarint(r.p)
			case protowire.BytesType:
				r.b, n = protowire.ConsumeBytes(r.p)
			default:
				n = protowire.ConsumeFieldValue(num, typ, r.p)
			}
		}
		if n < 0 {
			r.err = errMessage
			break
		}
		r.p = r.p[n:]
		if typ == protowire.VarintType || typ == protowire.BytesType {
			return true
		}
	}
	return false
}

// fields calls f for each field of a message.
func fields(p []byte, f func(num protowire.Number, v uint64, b []byte) error) error {
	r := reader{p: p}
	for r.next() {
		if err := f(r.num, r.v, r.b); err != nil {
			return err
		}
	}
	return r.err
}

func appendString(dst []byte, num protowire.Number, s string) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendString(dst, s)
}

func appendBytes(dst []byte, num protowire.Number, b []byte) []byte {
	dst = protowire.AppendTag(dst, num, protowire.BytesType)
	return protowire.AppendBytes(dst, b)
}

func appendUint(dst []byte, num protowire.Number, v uint64) []byte {
	dst = protowire.AppendTag(dst, num, protowire.VarintType)
	return protowire.AppendVarint(dst, v)
}

// codec is how cell blocks are written, both ways.
const codec = "org.apache.hadoop.hbase.codec.KeyValueCodec"

// appendConnectionHeader appends a ConnectionHeader.
func appendConnectionHeader(dst []byte, user, service string) []byte {
	dst = appendBytes(dst, 1, appendString(nil, 1, user))
	dst = appendString(dst, 2, service)
	return appendString(dst, 3, codec)
}

// requestHeader is RequestHeader.
type requestHeader struct {
	id       uint32
	method   string
	cells    int // bytes of the cell block; 0: none
	priority uint32
	timeout  uint32 // ms
}

func (h *requestHeader) append(dst []byte) []byte {
	dst = appendUint(dst, 1, uint64(h.id))
	dst = appendString(dst, 3, h.method)
	dst = appendUint(dst, 4, 1) // a parameter follows
	if h.cells > 0 {
		dst = protowire.AppendTag(dst, 5, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(1+protowire.SizeVarint(uint64(h.cells))))
		dst = appendUint(dst, 1, uint64(h.cells))
	}
	if h.priority > 0 {
		dst = appendUint(dst, 6, uint64(h.priority))
	}
	return appendUint(dst, 7, uint64(h.timeout))
}

// responseHeader is ResponseHeader.
type responseHeader struct {
	id        uint32
	exception *RemoteError
	cells     uint64 // bytes of the cell block
}

func parseResponseHeader(p []byte) (h responseHeader, err error) {
	err = fields(p, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 1:
			h.id = uint32(v)
		case 2:
			h.exception = new(RemoteError)
			return fields(b, func(num protowire.Number, v uint64, b []byte) error {
				switch num {
				case 1:
					h.exception.Class = string(b)
				case 2:
					h.exception.setTrace(b)
				case 5:
					h.exception.DoNotRetry = v != 0
				}
				return nil
			})
		case 3:
			return fields(b, func(num protowire.Number, v uint64, _ []byte) error {
				if num == 1 {
					h.cells = v
				}
				return nil
			})
		}
		return nil
	})
	return h, err
}

// serverName is ServerName.
type serverName struct {
	host string
	port uint64
}

func (s serverName) addr() string { return joinHostPort(s.host, s.port) }

func parseServerName(p []byte) (s serverName, err error) {
	err = fields(p, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 1:
			s.host = string(b)
		case 2:
			s.port = v
		}
		return nil
	})
	if err == nil && (s.host == "" || s.port == 0 || s.port > 65535) {
		err = fmt.Errorf("%w: the name of a server has no host or no port", errMessage)
	}
	return s, err
}

// regionInfo is RegionInfo.
type regionInfo struct {
	table          string // NAMESPACE:NAME, or NAME in the namespace default
	start, end     []byte
	offline, split bool
	replica        uint64
}

func parseRegionInfo(p []byte) (r regionInfo, err error) {
	err = fields(p, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 2:
			var ns, name string
			if err := fields(b, func(num protowire.Number, _ uint64, b []byte) error {
				switch num {
				case 1:
					ns = string(b)
				case 2:
					name = string(b)
				}
				return nil
			}); err != nil {
				return err
			}
			if r.table = name; ns != "" && ns != "default" {
				r.table = ns + ":" + name
			}
		case 3:
			r.start = append([]byte(nil), b...)
		case 4:
			r.end = append([]byte(nil), b...)
		case 5:
			r.offline = v != 0
		case 6:
			r.split = v != 0
		case 7:
			r.replica = v
		}
		return nil
	})
	return r, err
}

// appendMetaScan appends a ScanRequest for the last row of hbase:meta that is
// not behind row, and not before stop.
func appendMetaScan(dst, row, stop []byte) []byte {
	scan := appendBytes(nil, 1, appendBytes(nil, 1, []byte("info")))
	scan = appendBytes(scan, 3, row)
	scan = appendBytes(scan, 4, stop)
	scan = appendUint(scan, 15, 1) // reversed
	scan = appendUint(scan, 17, 1) // caching
	dst = appendBytes(dst, 1, appendRegionSpecifier(nil, metaRegion))
	dst = appendBytes(dst, 2, scan)
	dst = appendUint(dst, 4, 1)   // number_of_rows
	dst = appendUint(dst, 5, 1)   // close_scanner
	return appendUint(dst, 11, 1) // limit_of_rows
}

var metaRegion = []byte("hbase:meta,,1")

func appendRegionSpecifier(dst, name []byte) []byte {
	dst = appendUint(dst, 1, 1) // REGION_NAME
	return appendBytes(dst, 2, name)
}

// appendTableScan appends a ScanRequest for the first rows of a region from a row on, for which a scanner is opened and closed.
func appendTableScan(dst, region, family, from []byte, rows int) []byte {
	var scan []byte
	if len(family) > 0 {
		scan = appendBytes(scan, 1, appendBytes(nil, 1, family))
	}
	scan = appendBytes(scan, 3, from)
	scan = appendUint(scan, 10, scanBytes) // max_result_size
	dst = appendBytes(dst, 1, appendRegionSpecifier(nil, region))
	dst = appendBytes(dst, 2, scan)
	dst = appendUint(dst, 4, uint64(rows)) // number_of_rows
	return appendUint(dst, 5, 1)           // close_scanner
}

// parseScan returns the cells of a ScanResponse, wherever they are, and
// whether the region has more.
func parseScan(param, block []byte) (cells []Cell, more bool, err error) {
	inBlock := 0
	err = fields(param, func(num protowire.Number, v uint64, b []byte) error {
		switch {
		case num == 1 && b == nil: // cells_per_result
			inBlock += int(min(v, 1<<20))
		case num == 1: // the same, packed
			for len(b) > 0 {
				v, n := protowire.ConsumeVarint(b)
				if n < 0 {
					return errMessage
				}
				inBlock += int(min(v, 1<<20))
				b = b[n:]
			}
		case num == 8:
			more = v != 0
		case num == 5: // results
			return fields(b, func(num protowire.Number, _ uint64, b []byte) error {
				if num != 1 {
					return nil
				}
				c, err := parseCell(b)
				cells = append(cells, c)
				return err
			})
		}
		return nil
	})
	if err != nil {
		return nil, false, err
	}
	for range inBlock {
		c, rest, err := ReadCell(block)
		if err != nil {
			return nil, false, err
		}
		cells, block = append(cells, c), rest
	}
	return cells, more, nil
}

// parseCell reads a Cell message.
func parseCell(p []byte) (c Cell, err error) {
	err = fields(p, func(num protowire.Number, v uint64, b []byte) error {
		switch num {
		case 1:
			c.Row = b
		case 2:
			c.Family = b
		case 3:
			c.Qualifier = b
		case 4:
			c.Timestamp = int64(v)
		case 5:
			c.Type = byte(v)
		case 6:
			c.Value = b
		}
		return nil
	})
	return c, err
}

// noResult is the attribute by which an increment asks for no answer but that
// it was done: NameBytesPair "_rr_", the boolean false.
var noResult = appendBytes(appendString(nil, 1, "_rr_"), 2, []byte{0})

// mutationSize is the size of the MutationProto that appendMutation appends.
func mutationSize(b *Batch, m *mutation) int {
	n := 2 + 1 + protowire.SizeVarint(uint64(m.count))
	if b.SkipWAL {
		n += 2
	}
	if m.kind == increment {
		row := m.rowEnd - m.row
		n += 1 + protowire.SizeBytes(row) + 1 + protowire.SizeBytes(len(noResult)) + 1 + protowire.SizeVarint(m.nonce)
	}
	return n
}

// appendMutation appends a MutationProto whose cells are in the cell block. A
// put's row is that of its cells.
func appendMutation(dst []byte, b *Batch, m *mutation) []byte {
	if m.kind == increment {
		dst = appendBytes(dst, 1, b.rows[m.row:m.rowEnd])
	}
	dst = appendUint(dst, 2, uint64(m.kind))
	if m.kind == increment {
		dst = appendBytes(dst, 5, noResult)
	}
	if b.SkipWAL {
		dst = appendUint(dst, 6, 1) // SKIP_WAL
	}
	dst = appendUint(dst, 8, uint64(m.count))
	if m.kind == increment {
		dst = appendUint(dst, 9, m.nonce)
	}
	return dst
}

// action sizes: Action {index = 1, mutation = 2}.
func actionSize(b *Batch, index int, m *mutation) int {
	return 1 + protowire.SizeVarint(uint64(index)) + 1 + protowire.SizeBytes(mutationSize(b, m))
}

// multi is a MultiRequest for mutations of one server.
type multi struct {
	b          *Batch
	list       []int32     // the mutations
	regions    []regionRun // consecutive parts of list, each a RegionAction
	nonceGroup uint64
}

type regionRun struct {
	from, to int
	size     int // of the RegionAction
}

// plan cuts list into the RegionActions.
func (q *multi) plan() {
	q.regions = q.regions[:0]
	for i, at := range q.list {
		m := &q.b.muts[at]
		if i == 0 || m.alone || q.b.muts[q.list[i-1]].region != m.region || q.b.muts[q.list[i-1]].alone {
			q.regions = append(q.regions, regionRun{from: i, size: 1 + protowire.SizeBytes(m.region.spec)})
		}
		r := &q.regions[len(q.regions)-1]
		r.to = i + 1
		r.size += 1 + protowire.SizeBytes(actionSize(q.b, i, m))
	}
}

func (q *multi) paramSize() int {
	n := 1 + protowire.SizeVarint(q.nonceGroup)
	for _, r := range q.regions {
		n += 1 + protowire.SizeBytes(r.size)
	}
	return n
}

// appendParam appends the MultiRequest.
func (q *multi) appendParam(dst []byte) []byte {
	for _, r := range q.regions {
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(r.size))
		name := q.b.muts[q.list[r.from]].region.name
		dst = protowire.AppendTag(dst, 1, protowire.BytesType)
		dst = protowire.AppendVarint(dst, uint64(q.b.muts[q.list[r.from]].region.spec))
		dst = appendRegionSpecifier(dst, name)
		for i := r.from; i < r.to; i++ {
			m := &q.b.muts[q.list[i]]
			dst = protowire.AppendTag(dst, 3, protowire.BytesType)
			dst = protowire.AppendVarint(dst, uint64(actionSize(q.b, i, m)))
			dst = appendUint(dst, 1, uint64(i))
			dst = protowire.AppendTag(dst, 2, protowire.BytesType)
			dst = protowire.AppendVarint(dst, uint64(mutationSize(q.b, m)))
			dst = appendMutation(dst, q.b, m)
		}
	}
	return appendUint(dst, 2, q.nonceGroup)
}

func (q *multi) cellBytes() int {
	n := 0
	for _, at := range q.list {
		n += q.b.muts[at].cellEnd - q.b.muts[at].cells
	}
	return n
}

func (q *multi) appendCells(dst []byte) []byte {
	for _, at := range q.list {
		dst = append(dst, q.b.cells[q.b.muts[at].cells:q.b.muts[at].cellEnd]...)
	}
	return dst
}

// parse reads a MultiResponse and tells the outcome of each mutation. What it
// does not name has none.
func (q *multi) parse(param []byte) error {
	r := -1
	return fields(param, func(num protowire.Number, _ uint64, b []byte) error {
		if num != 1 || b == nil {
			return nil
		}
		if r++; r >= len(q.regions) {
			return fmt.Errorf("%w: an answer for %d regions has more of them", errMessage, len(q.regions))
		}
		run := q.regions[r]
		return fields(b, func(num protowire.Number, _ uint64, b []byte) error {
			switch num {
			case 1:
				return q.parseResult(run, b)
			case 2:
				e, err := parseException(b)
				if err != nil {
					return err
				}
				e.region = true
				for i := run.from; i < run.to; i++ {
					m := &q.b.muts[q.list[i]]
					m.done, m.err = false, e
				}
			}
			return nil
		})
	})
}

// parseResult reads a ResultOrException.
func (q *multi) parseResult(run regionRun, p []byte) error {
	index := uint64(0)
	var failed *RemoteError
	f := reader{p: p}
	for f.next() {
		switch f.num {
		case 1:
			index = f.v
		case 3:
			var err error
			if failed, err = parseException(f.b); err != nil {
				return err
			}
		}
	}
	if f.err != nil {
		return f.err
	}
	if index < uint64(run.from) || index >= uint64(run.to) {
		return fmt.Errorf("%w: an answer for the mutations %d to %d names %d", errMessage, run.from, run.to-1, index)
	}
	// Of two answers for a mutation the one that says that it failed counts.
	m := &q.b.muts[q.list[index]]
	if failed != nil {
		m.done, m.err = false, failed
	} else if m.err == errUnanswered {
		m.done, m.err = true, nil
	}
	return nil
}

// parseException reads an exception that is a NameBytesPair.
func parseException(p []byte) (*RemoteError, error) {
	e := new(RemoteError)
	err := fields(p, func(num protowire.Number, _ uint64, b []byte) error {
		switch num {
		case 1:
			e.Class = string(b)
		case 2:
			e.setTrace(b)
		}
		return nil
	})
	e.DoNotRetry = doNotRetry[e.simple()]
	return e, err
}
