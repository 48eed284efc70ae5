package wire

import (
	"encoding/binary"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
)

// FetchPartition is the answer for one partition of a Fetch response.
type FetchPartition struct {
	Partition     int32
	ErrorCode     int16
	HighWatermark int64 // -1 with an error
	LastStable    int64 // -1 with an error
	LogStart      int64 // -1 with an error
	// DivergingEnd is where the client's log went another way (KIP-320), if
	// Diverged; version 12 and up.
	Diverged     bool
	DivergingEnd EpochEnd
	// Aborted says that the list of aborted transactions is there, though
	// empty: for a client that reads what is committed, and for a partition
	// that does not exist.
	Aborted     bool
	Records     []log.Section
	RecordBytes int64 // sum of Records
}

// EpochEnd is a leader epoch and the offset at which it ended.
type EpochEnd struct {
	Epoch  int32
	Offset int64
}

// FetchTopic is one topic of a Fetch response.
type FetchTopic struct {
	Name       string   // versions 4 to 12
	ID         [16]byte // version 13 and up
	Partitions []FetchPartition
}

// FetchResponse is a Fetch response, versions 4 to 18.
type FetchResponse struct {
	Version   int16
	Throttle  time.Duration // how long the client is not read from
	ErrorCode int16
	SessionID int32
	Topics    []FetchTopic
}

// Encode appends the body to m. Record bytes are not copied but noted as
// sections of the message.
func (f *FetchResponse) Encode(m *Message) {
	v := f.Version
	flexible := v >= 12
	dst := m.buf
	dst = binary.BigEndian.AppendUint32(dst, uint32(f.Throttle.Milliseconds()))
	if v >= 7 {
		dst = binary.BigEndian.AppendUint16(dst, uint16(f.ErrorCode))
		dst = binary.BigEndian.AppendUint32(dst, uint32(f.SessionID))
	}
	dst = appendArrayLen(dst, len(f.Topics), flexible)
	for i := range f.Topics {
		t := &f.Topics[i]
		if v >= 13 {
			dst = append(dst, t.ID[:]...)
		} else {
			dst = appendString(dst, t.Name, flexible)
		}
		dst = appendArrayLen(dst, len(t.Partitions), flexible)
		for j := range t.Partitions {
			p := &t.Partitions[j]
			dst = binary.BigEndian.AppendUint32(dst, uint32(p.Partition))
			dst = binary.BigEndian.AppendUint16(dst, uint16(p.ErrorCode))
			dst = binary.BigEndian.AppendUint64(dst, uint64(p.HighWatermark))
			dst = binary.BigEndian.AppendUint64(dst, uint64(p.LastStable))
			if v >= 5 {
				dst = binary.BigEndian.AppendUint64(dst, uint64(p.LogStart))
			}
			aborted := -1 // null: transactions were not asked about
			if p.Aborted {
				aborted = 0
			}
			dst = appendArrayLen(dst, aborted, flexible)
			if v >= 11 {
				// The preferred read replica must be -1 for «none»: 0 is a broker.
				dst = append(dst, 0xff, 0xff, 0xff, 0xff)
			}
			// An empty record set is sent as length 0, not as null, which
			// librdkafka reads as an invalid message set.
			if flexible {
				dst = appendUvarint(dst, uint32(p.RecordBytes+1))
			} else {
				dst = binary.BigEndian.AppendUint32(dst, uint32(p.RecordBytes))
			}
			for _, s := range p.Records {
				m.cuts = append(m.cuts, cut{at: len(dst), sec: s})
			}
			m.sectionBytes += p.RecordBytes
			switch {
			case p.Diverged && flexible:
				// One tagged field, 0, of 13 bytes: epoch, offset, no tags.
				dst = append(dst, 1, 0, 13)
				dst = binary.BigEndian.AppendUint32(dst, uint32(p.DivergingEnd.Epoch))
				dst = binary.BigEndian.AppendUint64(dst, uint64(p.DivergingEnd.Offset))
				dst = append(dst, 0)
			case flexible:
				dst = append(dst, 0)
			}
		}
		if flexible {
			dst = append(dst, 0)
		}
	}
	if flexible {
		dst = append(dst, 0)
	}
	m.buf = dst
}
