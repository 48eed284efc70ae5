package flumelog

import (
	"errors"
	"fmt"
	"hash/crc32"

	"github.com/sluice-data/sluice/event"
)

// Type of a record.
type Type int32

// The types.
const (
	Put      Type = 1
	Take     Type = 2
	Rollback Type = 3
	Commit   Type = 4
)

func (t Type) String() string {
	if t >= Put && t <= Commit {
		return [...]string{"put", "take", "rollback", "commit"}[t-1]
	}
	return fmt.Sprintf("type %d", int32(t))
}

// Record is a record of a log file, without the event of a put.
type Record struct {
	Type        Type
	Transaction int64
	Order       int64 // the write order, over all files
	Taken       Pointer
	Of          Type // a commit: of puts or of takes
}

// Pointer is the place of a put: the file's number in the upper half, the position in the lower.
type Pointer uint64

// NewPointer makes a pointer.
func NewPointer(file, offset int32) Pointer {
	return Pointer(uint64(uint32(file))<<32 | uint64(uint32(offset)))
}

// File is the number of the log file.
func (p Pointer) File() int32 { return int32(p >> 32) }

// Offset is the position of the record in the file.
func (p Pointer) Offset() int64 { return int64(uint32(p)) }

// ParseRecord decodes a record's payload. For a put, body is its message, for ParseEvent.
func ParseRecord(b []byte) (r Record, body []byte, err error) {
	head, rest, err := delimited(b)
	if err != nil {
		return r, nil, err
	}
	var seen uint
	err = fields(head, func(f field) error {
		switch {
		case f.id == 1 && f.wire == wireFixed32:
			r.Type = Type(int32(f.num))
		case f.id == 2 && f.wire == wireFixed64:
			r.Transaction = int64(f.num)
		case f.id == 3 && f.wire == wireFixed64:
			r.Order = int64(f.num)
		default:
			return nil
		}
		seen |= 1 << f.id
		return nil
	})
	if err == nil {
		err = need(seen, 1<<1|1<<2|1<<3)
	}
	if err != nil {
		return r, nil, err
	}
	body, rest, err = delimited(rest)
	if err != nil {
		return r, nil, err
	}
	if _, _, err = delimited(rest); err != nil { // the footer, which is empty
		return r, nil, err
	}
	switch r.Type {
	case Put, Rollback:
	case Take:
		var file, offset int32
		seen = 0
		err = fields(body, func(f field) error {
			switch {
			case f.id == 1 && f.wire == wireFixed32:
				file = int32(f.num)
			case f.id == 2 && f.wire == wireFixed32:
				offset = int32(f.num)
			default:
				return nil
			}
			seen |= 1 << f.id
			return nil
		})
		if err == nil {
			err = need(seen, 1<<1|1<<2)
		}
		r.Taken = NewPointer(file, offset)
	case Commit:
		seen = 0
		err = fields(body, func(f field) error {
			if f.id == 1 && f.wire == wireFixed32 {
				r.Of = Type(int32(f.num))
				seen |= 1 << 1
			}
			return nil
		})
		if err == nil {
			err = need(seen, 1<<1)
		}
		if err == nil && r.Of != Put && r.Of != Take {
			err = fmt.Errorf("commit of %v", r.Of)
		}
	default:
		err = fmt.Errorf("record of %v", r.Type)
	}
	return r, body, err
}

var errChecksum = errors.New("the checksum of the body is wrong")

// ParseEvent decodes the event of a put. Body and header values are views of b. A header without a value is an empty one, as
// in Flume; where a header occurs twice, the last one counts.
func ParseEvent(b []byte, hs []event.KV) (e event.Event, err error) {
	var msg []byte
	var sum int64
	var seen uint
	err = fields(b, func(f field) error {
		switch {
		case f.id == 1 && f.wire == wireBytes:
			msg = f.data
		case f.id == 2 && f.wire == wireFixed64:
			sum = int64(f.num)
		default:
			return nil
		}
		seen |= 1 << f.id
		return nil
	})
	if err == nil {
		err = need(seen, 1<<1)
	}
	if err != nil {
		return e, err
	}
	summed := seen&(1<<2) != 0
	seen = 0
	err = fields(msg, func(f field) error {
		switch {
		case f.id == 1 && f.wire == wireBytes:
			kv, err := parseHeader(f.data)
			if err != nil {
				return err
			}
			for i := range hs {
				if hs[i].Key == kv.Key {
					hs[i] = kv
					return nil
				}
			}
			hs = append(hs, kv)
		case f.id == 2 && f.wire == wireBytes:
			e.Body = f.data
			seen |= 1 << 2
		}
		return nil
	})
	if err == nil {
		err = need(seen, 1<<2)
	}
	if err == nil && summed && int64(crc32.ChecksumIEEE(e.Body)) != sum {
		err = errChecksum
	}
	e.Headers = hs
	return e, err
}

func parseHeader(b []byte) (event.KV, error) {
	kv := event.KV{Value: []byte{}}
	var seen uint
	err := fields(b, func(f field) error {
		switch {
		case f.id == 1 && f.wire == wireBytes:
			kv.Key = string(f.data)
			seen |= 1 << 1
		case f.id == 2 && f.wire == wireBytes:
			kv.Value = f.data
		}
		return nil
	})
	if err == nil {
		err = need(seen, 1<<1)
	}
	return kv, err
}
