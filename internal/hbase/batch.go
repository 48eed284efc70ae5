package hbase

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
)

// The limits of a mutation that the format itself has.
const (
	MaxRow    = 1<<15 - 1 // bytes of a row key
	MaxFamily = 1<<7 - 1  // bytes of a column family's name
	maxCell   = 1 << 30   // bytes of a cell; servers take much less: hbase.server.keyvalue.maxsize, 10 MiB
)

// What Put and Add refuse. Trying again does not help.
var (
	ErrNoRow   = errors.New("the row key is empty")
	ErrLongRow = fmt.Errorf("the row key is longer than %d bytes", MaxRow)
	ErrBigCell = fmt.Errorf("the cell is larger than %d bytes", maxCell)
	ErrFamily  = fmt.Errorf("the column family's name has no bytes, or more than %d", MaxFamily)
)

type kind uint8

// MutationProto.MutationType
const (
	increment kind = 1
	put       kind = 2
)

// mutation is a row's change: cells in Batch.cells, the row in Batch.rows.
type mutation struct {
	kind           kind
	row, rowEnd    int
	cells, cellEnd int
	count          int // of cells
	nonce          uint64

	region *region
	alone  bool // in a RegionAction of its own, see Client.Do
	done   bool
	err    error
}

// Batch is a list of puts and increments for one table. Cells are encoded as
// they are added and live in one buffer, which Reset keeps.
// A Batch is not safe for concurrent use.
type Batch struct {
	// SkipWAL leaves the servers' write-ahead log out: faster, and what a
	// server has not yet flushed is lost when it dies.
	SkipWAL bool

	muts    []mutation
	rows    []byte
	cells   []byte
	pending []int32
	trouble *trouble // of the Do under way
}

// maxKept is what a Batch keeps of the memory that a huge one needed.
const maxKept = 8 << 20

// Reset empties b.
func (b *Batch) Reset() {
	clear(b.muts)
	b.muts, b.rows, b.cells = b.muts[:0], b.rows[:0], b.cells[:0]
	if cap(b.cells) > maxKept {
		b.cells = nil
	}
}

// Len is the number of puts and increments.
func (b *Batch) Len() int { return len(b.muts) }

// Err is why the i-th was not confirmed; nil when it was. It is void before Do.
func (b *Batch) Err(i int) error { return b.muts[i].err }

// Put begins a put; Add gives it cells. The bytes of row are copied.
func (b *Batch) Put(row []byte) error { return b.begin(put, row) }

// Increment adds a mutation that adds delta to a cell of 64 bits.
func (b *Batch) Increment(row, family, qualifier []byte, delta int64) error {
	if err := b.begin(increment, row); err != nil {
		return err
	}
	// A server that has seen the nonce before answers without counting twice.
	b.muts[len(b.muts)-1].nonce = rand.Uint64() | 1
	var v [8]byte
	binary.BigEndian.PutUint64(v[:], uint64(delta))
	if err := b.Add(family, qualifier, v[:]); err != nil {
		b.Drop()
		return err
	}
	return nil
}

func (b *Batch) begin(k kind, row []byte) error {
	switch {
	case len(row) == 0:
		return ErrNoRow
	case len(row) > MaxRow:
		return ErrLongRow
	}
	from := len(b.rows)
	b.rows = append(b.rows, row...)
	b.muts = append(b.muts, mutation{kind: k, row: from, rowEnd: len(b.rows), cells: len(b.cells), cellEnd: len(b.cells)})
	return nil
}

// Add adds a cell to the last put. The bytes are copied.
func (b *Batch) Add(family, qualifier, value []byte) error {
	if len(family) == 0 || len(family) > MaxFamily {
		return ErrFamily
	}
	if len(qualifier) > maxCell || len(value) > maxCell || len(qualifier)+len(value) > maxCell {
		return ErrBigCell
	}
	m := &b.muts[len(b.muts)-1]
	b.cells = appendCell(b.cells, b.rows[m.row:m.rowEnd], family, qualifier, value)
	m.cellEnd = len(b.cells)
	m.count++
	return nil
}

// Cells is the number of cells of the last put.
func (b *Batch) Cells() int { return b.muts[len(b.muts)-1].count }

// Drop takes the last mutation back.
func (b *Batch) Drop() {
	m := &b.muts[len(b.muts)-1]
	b.rows, b.cells = b.rows[:m.row], b.cells[:m.cells]
	b.muts = b.muts[:len(b.muts)-1]
}

func (b *Batch) row(i int32) []byte {
	m := &b.muts[i]
	return b.rows[m.row:m.rowEnd]
}

// A cell as KeyValueCodec has it: its length, then an HBase KeyValue.
const (
	cellFixed  = 4 + 4 + 4 + 2 + 1 + 8 + 1
	latest     = 1<<63 - 1 // the server puts its own time
	keyTypePut = 4
)

func appendCell(dst, row, family, qualifier, value []byte) []byte {
	key := 2 + len(row) + 1 + len(family) + len(qualifier) + 8 + 1
	dst = binary.BigEndian.AppendUint32(dst, uint32(4+4+key+len(value)))
	dst = binary.BigEndian.AppendUint32(dst, uint32(key))
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(value)))
	dst = binary.BigEndian.AppendUint16(dst, uint16(len(row)))
	dst = append(dst, row...)
	dst = append(dst, byte(len(family)))
	dst = append(dst, family...)
	dst = append(dst, qualifier...)
	dst = binary.BigEndian.AppendUint64(dst, latest)
	dst = append(dst, keyTypePut)
	return append(dst, value...)
}

// Cell is a cell that was read. Its slices view the bytes it was read from.
type Cell struct {
	Row, Family, Qualifier, Value []byte
	Timestamp                     int64
	Type                          byte
}

var errCell = errors.New("malformed cell block")

// ReadCell cuts the first cell off a cell block.
func ReadCell(p []byte) (Cell, []byte, error) {
	if len(p) < cellFixed {
		return Cell{}, nil, errCell
	}
	n := uint64(binary.BigEndian.Uint32(p))
	if n < cellFixed-4 || n > uint64(len(p)-4) {
		return Cell{}, nil, errCell
	}
	kv, rest := p[4:4+n], p[4+n:]
	keyLen, valueLen := uint64(binary.BigEndian.Uint32(kv)), uint64(binary.BigEndian.Uint32(kv[4:]))
	kv = kv[8:]
	// Tags may follow the value.
	if keyLen < 2+1+8+1 || keyLen+valueLen > uint64(len(kv)) {
		return Cell{}, nil, errCell
	}
	key := kv[:keyLen]
	c := Cell{Value: kv[keyLen : keyLen+valueLen]}
	rowLen := int(binary.BigEndian.Uint16(key))
	key = key[2:]
	if rowLen > len(key)-(1+8+1) {
		return Cell{}, nil, errCell
	}
	c.Row, key = key[:rowLen], key[rowLen:]
	famLen := int(key[0])
	key = key[1:]
	if famLen > len(key)-(8+1) {
		return Cell{}, nil, errCell
	}
	c.Family, key = key[:famLen], key[famLen:]
	c.Qualifier, key = key[:len(key)-9], key[len(key)-9:]
	c.Timestamp, c.Type = int64(binary.BigEndian.Uint64(key)), key[8]
	return c, rest, nil
}
