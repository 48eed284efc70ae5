package file

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
)

const (
	checkpointFile  = "sluice-checkpoint"
	checkpointMagic = "SLFK"
	checkpointHead  = 88
	// maxCheckpoint bounds what is read back: 16 million ranges.
	maxCheckpoint = 256 << 20
)

// checkpoint is what spares recovery the whole log: how far the log was when it was written, and what was taken then.
// The log alone says the same, so one that is lost or damaged costs time only.
type checkpoint struct {
	id channelID
	// The log up to here is in the checkpoint: the next frame and event, and where in which segment.
	seq, event int64
	segment    int64
	offset     int64
	// Every event below low is taken, and of the others those in done. The frame with low begins at lowOffset or behind.
	low        int64
	lowSegment int64
	lowOffset  int64
	done       spans
}

func (c *checkpoint) encode() []byte {
	b := make([]byte, checkpointHead, checkpointHead+len(c.done)*rangeSize)
	copy(b, checkpointMagic)
	binary.BigEndian.PutUint16(b[8:], formatVersion)
	binary.BigEndian.PutUint32(b[12:], uint32(len(c.done)))
	copy(b[16:], c.id[:])
	for i, v := range []int64{c.seq, c.event, c.segment, c.offset, c.low, c.lowSegment, c.lowOffset} {
		binary.BigEndian.PutUint64(b[32+8*i:], uint64(v))
	}
	for _, s := range c.done {
		b = appendSpan(b, s)
	}
	binary.BigEndian.PutUint32(b[4:], crc32.Checksum(b[8:], castagnoli))
	return b
}

func parseCheckpoint(b []byte) (*checkpoint, error) {
	if len(b) < checkpointHead || string(b[:4]) != checkpointMagic {
		return nil, errors.New("it does not begin as a checkpoint")
	}
	if crc32.Checksum(b[8:], castagnoli) != binary.BigEndian.Uint32(b[4:]) {
		return nil, errors.New("its CRC is wrong")
	}
	if v := binary.BigEndian.Uint16(b[8:]); v != formatVersion || b[10]|b[11] != 0 {
		return nil, fmt.Errorf("checkpoint format %d: %w", v, errVersion)
	}
	var c checkpoint
	copy(c.id[:], b[16:])
	for i, p := range []*int64{&c.seq, &c.event, &c.segment, &c.offset, &c.low, &c.lowSegment, &c.lowOffset} {
		*p = int64(binary.BigEndian.Uint64(b[32+8*i:]))
		if *p < 0 {
			return nil, errors.New("its numbers make no sense")
		}
	}
	if c.segment > c.seq || c.low > c.event || c.lowSegment > c.segment || c.offset < segmentHead || c.lowOffset < segmentHead {
		return nil, errors.New("its numbers make no sense")
	}
	done, err := parseSpans(nil, b[checkpointHead:], int(binary.BigEndian.Uint32(b[12:])))
	if err != nil {
		return nil, err
	}
	before := c.low
	for _, s := range done {
		if s.from <= before || s.to > c.event {
			return nil, errors.New("its ranges make no sense")
		}
		before = s.to
	}
	c.done = done
	return &c, nil
}
