package segment

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
)

// What follows reads a partition's small files for tools, without opening the log and without changing anything.

// IndexEntry says, in an .index, that a batch begins at Position, and in a .timeindex, that Timestamp belongs to Offset.
type IndexEntry struct {
	Offset    int64
	Position  int64 // of .index
	Timestamp int64 // of .timeindex
}

// IndexFile is a decoded .index or .timeindex.
type IndexFile struct {
	Entries []IndexEntry
	// Ours says that the file has this broker's footer. Apache Kafka's files have none, and their entries a meaning of
	// their own: the offset is that of the batch's last record, and the timestamp that of the record with the offset.
	Ours    bool
	LogSize int64 // of our footer
}

// ParseIndex decodes an .index, or with times a .timeindex, of the segment with the given base offset.
func ParseIndex(b []byte, base int64, times bool) (*IndexFile, error) {
	be := binary.BigEndian
	kind, size := byte(0), posEntrySize
	if times {
		kind, size = 1, timeEntrySize
	}
	x := &IndexFile{}
	if n := len(b) - footerSize; n >= 0 && bytes.Equal(b[n:n+4], []byte(indexMagic)) {
		x.Ours, x.LogSize = true, int64(be.Uint64(b[n+12:]))
		if _, err := checkFooter(b[n:], int64(len(b)), kind, size, x.LogSize); err != nil {
			return x, err
		}
		if crc32.Checksum(b[:len(b)-4], castagnoli) != be.Uint32(b[len(b)-4:]) {
			return x, fmt.Errorf("%w: CRC mismatch", errBadIndex)
		}
		b = b[:n]
	}
	if len(b)%size != 0 {
		return x, fmt.Errorf("%w: %d bytes are no whole number of entries", errBadIndex, len(b))
	}
	for ; len(b) > 0; b = b[size:] {
		e := IndexEntry{}
		if times {
			e.Timestamp, e.Offset = int64(be.Uint64(b)), base+int64(be.Uint32(b[8:]))
		} else {
			e.Offset, e.Position = base+int64(be.Uint32(b)), int64(be.Uint32(b[4:]))
		}
		// Apache Kafka makes the file of the active segment as large as it may become; the rest is zeros.
		if !x.Ours && len(x.Entries) > 0 && allZero(b[:size]) {
			break
		}
		if !x.Ours && len(x.Entries) == 0 && allZero(b) {
			break
		}
		x.Entries = append(x.Entries, e)
	}
	return x, nil
}

func allZero(b []byte) bool {
	for _, c := range b {
		if c != 0 {
			return false
		}
	}
	return true
}

// State is a decoded log-state.
type State struct {
	Start    int64 `json:"start"`
	Recovery int64 `json:"recovery"`
	Clean    bool  `json:"clean"`
	End      int64 `json:"end,omitempty"`  // after a clean shutdown
	Size     int64 `json:"size,omitempty"` // of the last segment, after a clean shutdown
}

// ParseState decodes a log-state.
func ParseState(b []byte) (State, error) {
	s, err := decodeState(b)
	return State{s.start, s.recovery, s.clean, s.cleanEnd, s.cleanSize}, err
}

// Epoch says at which offset a leader epoch began.
type Epoch struct {
	Epoch int32 `json:"epoch"`
	Start int64 `json:"start"`
}

// ParseEpochs decodes a leader-epoch-checkpoint.
func ParseEpochs(b []byte) ([]Epoch, error) {
	es, err := decodeEpochs(b)
	out := make([]Epoch, 0, len(es))
	for _, e := range es {
		out = append(out, Epoch{e.epoch, e.start})
	}
	return out, err
}
