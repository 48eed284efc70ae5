package flumelog

import (
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
)

// Places in the checkpoint, in longs.
const (
	checkpointHeader = 1029
	indexVersion     = 0
	indexOrder       = 1
	indexMarker      = 4
)

// Open transactions of a checkpoint.
type inflight struct {
	transaction int64
	events      []Pointer
}

// checkpoint is what Flume had in memory at some time.
type checkpoint struct {
	order       int64     // write order up to which it goes
	queue       []Pointer // in order
	puts, takes []inflight
}

// errNoCheckpoint: there is none, or it is not whole, and the logs have to tell everything.
var errNoCheckpoint = errors.New("there is no checkpoint that is whole")

// readCheckpoint reads the checkpoint in dir.
func readCheckpoint(dir string) (*checkpoint, error) {
	c := &checkpoint{}
	meta, err := readSmall(filepath.Join(dir, "checkpoint.meta"))
	if err != nil {
		return nil, absent(err)
	}
	size, head, err := c.parseMeta(meta)
	if err != nil {
		return nil, fmt.Errorf("%w: checkpoint.meta: %w", errNoCheckpoint, err)
	}
	f, err := os.Open(filepath.Join(dir, "checkpoint"))
	if err != nil {
		return nil, absent(err)
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if c.queue, err = readQueue(f, st.Size(), c.order, size, head); err != nil {
		return nil, fmt.Errorf("%w: checkpoint: %w", errNoCheckpoint, err)
	}
	for name, to := range map[string]*[]inflight{"inflightputs": &c.puts, "inflighttakes": &c.takes} {
		b, err := os.ReadFile(filepath.Join(dir, name))
		if errors.Is(err, fs.ErrNotExist) {
			continue // Flume makes an empty one
		}
		if err != nil {
			return nil, err
		}
		if *to, err = parseInflight(b); err != nil {
			return nil, fmt.Errorf("%w: %s: %w", errNoCheckpoint, name, err)
		}
	}
	return c, nil
}

func absent(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%w: %w", errNoCheckpoint, err)
	}
	return err
}

// parseMeta reads checkpoint.meta: the write order, and where the queue lies in the ring.
func (c *checkpoint) parseMeta(b []byte) (size, head int32, err error) {
	msg, _, err := delimited(b)
	if err != nil {
		return 0, 0, err
	}
	version, seen := int32(0), uint(0)
	err = fields(msg, func(f field) error {
		seen |= 1 << min(f.id, 31)
		switch {
		case f.id == 1 && f.wire == wireFixed32:
			version = int32(f.num)
		case f.id == 2 && f.wire == wireFixed64:
			c.order = int64(f.num)
		case f.id == 3 && f.wire == wireFixed32:
			size = int32(f.num)
		case f.id == 4 && f.wire == wireFixed32:
			head = int32(f.num)
		}
		return nil
	})
	if err == nil {
		err = need(seen, 1<<1|1<<2|1<<3|1<<4)
	}
	if err == nil && version != formatVersion {
		err = fmt.Errorf("format %d", version)
	}
	if err == nil && (size < 0 || head < 0) {
		err = errProto
	}
	return size, head, err
}

// readQueue reads the ring of pointers behind the header.
func readQueue(f io.ReaderAt, length, order int64, size, head int32) ([]Pointer, error) {
	capacity := length/8 - checkpointHeader
	if length%8 != 0 || capacity <= 0 || int64(size) > capacity || int64(head) >= capacity {
		return nil, fmt.Errorf("%d bytes do not hold %d events from place %d on", length, size, head)
	}
	var b [8 * (indexMarker + 1)]byte
	if _, err := f.ReadAt(b[:], 0); err != nil {
		return nil, err
	}
	long := func(i int) int64 { return int64(binary.BigEndian.Uint64(b[8*i:])) }
	switch {
	case long(indexVersion) != formatVersion:
		return nil, fmt.Errorf("format %d", long(indexVersion))
	case long(indexMarker) != 0:
		return nil, errors.New("it was being written when Flume ended")
	case long(indexOrder) != order:
		return nil, fmt.Errorf("it goes up to write order %d, its meta up to %d", long(indexOrder), order)
	}
	queue := make([]Pointer, 0, size)
	buf := make([]byte, 64<<10)
	for left := int64(size); left > 0; {
		at := (int64(head) + int64(size) - left) % capacity
		n := min(left, capacity-at, int64(len(buf)/8))
		if _, err := f.ReadAt(buf[:8*n], 8*(checkpointHeader+at)); err != nil {
			return nil, err
		}
		for i := range n {
			queue = append(queue, Pointer(binary.BigEndian.Uint64(buf[8*i:])))
		}
		left -= n
	}
	return queue, nil
}

// parseInflight reads the transactions that were open: an MD5 sum, and for each its number, how many events, and which.
func parseInflight(b []byte) ([]inflight, error) {
	if len(b) == 0 {
		return nil, nil
	}
	if len(b) < md5.Size {
		return nil, io.ErrUnexpectedEOF
	}
	sum, b := b[:md5.Size], b[md5.Size:]
	if md5.Sum(b) != [md5.Size]byte(sum) {
		return nil, errors.New("its checksum is wrong")
	}
	var out []inflight
	for len(b) >= 16 {
		t := inflight{transaction: int64(binary.BigEndian.Uint64(b))}
		n := binary.BigEndian.Uint64(b[8:])
		b = b[16:]
		if n > uint64(len(b)/8) {
			return nil, io.ErrUnexpectedEOF
		}
		for range n {
			t.events = append(t.events, Pointer(binary.BigEndian.Uint64(b)))
			b = b[8:]
		}
		out = append(out, t)
	}
	return out, nil
}
