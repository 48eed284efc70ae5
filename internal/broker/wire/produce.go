package wire

import (
	"encoding/binary"
	"fmt"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
)

// ProduceRequest is a decoded Produce request, versions 3 to 13. All byte
// slices are views into the frame. The partitions of all topics are in one
// list, so that a reused ProduceRequest decodes without allocating.
type ProduceRequest struct {
	Version         int16
	TransactionalID []byte // nil when the client sent null
	Acks            int16
	TimeoutMillis   int32
	Topics          []ProduceTopic
	Partitions      []ProducePartition
	Throttle        time.Duration // for the response: how long the client is not read from
}

// ProduceTopic is one topic of a ProduceRequest: its partitions are
// Partitions[First:First+Count].
type ProduceTopic struct {
	Name         []byte   // versions 3 to 12
	ID           [16]byte // version 13 and up
	First, Count int
}

// ProducePartition holds what was sent for one partition and, after it was
// handled, what is answered.
type ProducePartition struct {
	Partition int32
	Records   []byte // nil when the client sent null

	ErrorCode     int16
	ErrorMessage  string // "" is sent as null
	ErrorRecords  []log.RecordError
	BaseOffset    int64
	LogAppendTime int64 // -1 with CreateTime
	LogStart      int64
}

// Decode reads a request body. Records stay views into body.
func (p *ProduceRequest) Decode(version int16, body []byte) error {
	flexible := version >= 9
	r := reader{src: body}
	p.Version, p.Throttle = version, 0
	p.Topics, p.Partitions = p.Topics[:0], p.Partitions[:0]
	str := r.nullableString
	if flexible {
		str = r.compactNullable
	}
	p.TransactionalID = str()
	p.Acks = r.int16()
	p.TimeoutMillis = r.int32()
	for n := r.arrayLen(flexible, 1); n > 0 && !r.bad; n-- {
		t := ProduceTopic{First: len(p.Partitions)}
		if version >= 13 {
			copy(t.ID[:], r.span(16))
		} else {
			t.Name = str()
		}
		for m := r.arrayLen(flexible, 4); m > 0 && !r.bad; m-- {
			pp := ProducePartition{BaseOffset: -1, LogAppendTime: -1, LogStart: -1}
			pp.Partition = r.int32()
			if flexible {
				pp.Records = r.compactNullable()
				r.skipTags()
			} else if n := r.int32(); n >= 0 {
				pp.Records = r.span(int(n))
			} else if n != -1 {
				r.fail()
			}
			p.Partitions = append(p.Partitions, pp)
		}
		if flexible {
			r.skipTags()
		}
		t.Count = len(p.Partitions) - t.First
		p.Topics = append(p.Topics, t)
	}
	if flexible {
		r.skipTags()
	}
	if r.bad {
		return fmt.Errorf("%w: produce version %d", ErrMalformed, version)
	}
	return nil
}

// AppendResponse appends the response body for the answers noted in p.
func (p *ProduceRequest) AppendResponse(dst []byte) []byte {
	v := p.Version
	flexible := v >= 9
	dst = appendArrayLen(dst, len(p.Topics), flexible)
	for i := range p.Topics {
		t := &p.Topics[i]
		if v >= 13 {
			dst = append(dst, t.ID[:]...)
		} else {
			dst = appendString(dst, t.Name, flexible)
		}
		dst = appendArrayLen(dst, t.Count, flexible)
		for j := t.First; j < t.First+t.Count; j++ {
			pp := &p.Partitions[j]
			dst = binary.BigEndian.AppendUint32(dst, uint32(pp.Partition))
			dst = binary.BigEndian.AppendUint16(dst, uint16(pp.ErrorCode))
			dst = binary.BigEndian.AppendUint64(dst, uint64(pp.BaseOffset))
			dst = binary.BigEndian.AppendUint64(dst, uint64(pp.LogAppendTime))
			if v >= 5 {
				dst = binary.BigEndian.AppendUint64(dst, uint64(pp.LogStart))
			}
			if v >= 8 { // KIP-467
				dst = appendArrayLen(dst, len(pp.ErrorRecords), flexible)
				for _, e := range pp.ErrorRecords {
					dst = binary.BigEndian.AppendUint32(dst, uint32(e.Index))
					dst = appendOptional(dst, e.Message, flexible)
					if flexible {
						dst = append(dst, 0)
					}
				}
				dst = appendOptional(dst, pp.ErrorMessage, flexible)
			}
			if flexible {
				dst = append(dst, 0)
			}
		}
		if flexible {
			dst = append(dst, 0)
		}
	}
	dst = binary.BigEndian.AppendUint32(dst, uint32(p.Throttle.Milliseconds()))
	if flexible {
		dst = append(dst, 0)
	}
	return dst
}

// appendOptional appends a text, null for none.
func appendOptional(dst []byte, s string, flexible bool) []byte {
	if s == "" {
		return appendNullString(dst, flexible)
	}
	return appendString(dst, s, flexible)
}
