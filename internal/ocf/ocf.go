// Package ocf reads and writes Avro object container files (Avro 1.11
// specification, "Object Container Files") at the level of headers and blocks,
// with the byte positions that resuming needs.
package ocf

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

const (
	magic = "Obj\x01"
	// SyncLen is the length of the marker behind the header and every block.
	SyncLen = 16
	// maxHeader bounds what a broken header can make us read; schemas are
	// far smaller.
	maxHeader = 16 << 20
	// maxData bounds one block, compressed or not. Writers make blocks of
	// some 16 KiB to 2 MiB.
	maxData = 1 << 30
)

// ErrTorn is a block that the file ends in.
var ErrTorn = errors.New("the file ends within a block")

// Header is the start of a file.
type Header struct {
	Meta map[string][]byte
	Sync [SyncLen]byte
	Len  int64 // bytes of the header in the file, the marker included
}

// Codec is the codec of the blocks.
func (h *Header) Codec() string {
	if c, ok := h.Meta["avro.codec"]; ok && len(c) > 0 {
		return string(c)
	}
	return "null"
}

// ReadHeader reads the header of a file of size bytes.
func ReadHeader(r io.ReaderAt, size int64) (*Header, error) {
	for n := min(size, 4<<10); ; n = min(4*n, size) {
		p := make([]byte, n)
		if _, err := r.ReadAt(p, 0); err != nil && err != io.EOF {
			return nil, fmt.Errorf("read header: %w", err)
		}
		h, err := parseHeader(p)
		switch {
		case err == nil:
			return h, nil
		case !errors.Is(err, io.ErrUnexpectedEOF):
			return nil, fmt.Errorf("read header: %w", err)
		case n == size:
			return nil, errors.New("read header: the file ends within it")
		case n >= maxHeader:
			return nil, fmt.Errorf("read header: longer than %d bytes", maxHeader)
		}
	}
}

func parseHeader(p []byte) (*Header, error) {
	if n := min(len(p), len(magic)); string(p[:n]) != magic[:n] || n == 0 {
		return nil, errors.New("not an Avro container file (it does not start with Obj 0x01)")
	}
	if len(p) < len(magic) {
		return nil, io.ErrUnexpectedEOF
	}
	d := Decoder{p: p[len(magic):]}
	h := &Header{Meta: map[string][]byte{}}
	for {
		n := d.Long()
		if n < 0 { // then the bytes of the entries follow
			n = -n
			d.Long()
		}
		if d.err != nil || n == 0 {
			break
		}
		if n < 0 || n > maxHeader {
			return nil, fmt.Errorf("%d entries", n)
		}
		for ; n > 0 && d.err == nil; n-- {
			k := string(d.Bytes())
			h.Meta[k] = bytes.Clone(d.Bytes())
		}
	}
	copy(h.Sync[:], d.Fixed(SyncLen))
	if d.err != nil {
		return nil, d.err
	}
	h.Len = int64(len(p) - len(d.p))
	return h, nil
}

// Block is one block of a file.
type Block struct {
	Start int64 // where it begins, behind the marker before it
	Next  int64 // where the one after it begins
	Count int64 // number of records
	Size  int   // bytes of the data as they stand in the file
	data  int64 // where these begin
}

// Marker is the position of the sync marker before the block: what Flume
// stores as the position of a reader that is somewhere in the block.
func (b *Block) Marker() int64 { return b.Start - SyncLen }

// ReadBlock reads the frame of the block that begins at offset at; io.EOF
// means that the file ends there. It checks the marker behind it.
func (h *Header) ReadBlock(r io.ReaderAt, size, at int64) (Block, error) {
	b := Block{Start: at}
	if at >= size {
		return b, io.EOF
	}
	var head [2 * binary.MaxVarintLen64]byte
	n, err := r.ReadAt(head[:min(int64(len(head)), size-at)], at)
	if err != nil && err != io.EOF {
		return b, fmt.Errorf("read block at %d: %w", at, err)
	}
	d := Decoder{p: head[:n]}
	b.Count = d.Long()
	length := d.Long()
	switch {
	case errors.Is(d.err, io.ErrUnexpectedEOF):
		return b, ErrTorn
	case d.err != nil || b.Count < 0 || length < 0 || length > maxData:
		return b, fmt.Errorf("block at %d: its frame is damaged (%d records, %d bytes)", at, b.Count, length)
	}
	b.Size = int(length)
	b.data = at + int64(n-len(d.p))
	b.Next = b.data + length + SyncLen
	if b.Next > size {
		return b, ErrTorn
	}
	var sync [SyncLen]byte
	if _, err := r.ReadAt(sync[:], b.Next-SyncLen); err != nil && err != io.EOF {
		return b, fmt.Errorf("read block at %d: %w", at, err)
	}
	if sync != h.Sync {
		return b, fmt.Errorf("block at %d: no sync marker behind it", at)
	}
	return b, nil
}

// ReadData fills p, of Size bytes, with the block's data.
func (b *Block) ReadData(r io.ReaderAt, p []byte) error {
	if _, err := r.ReadAt(p, b.data); err != nil {
		return fmt.Errorf("read block at %d: %w", b.Start, err)
	}
	return nil
}

// ReadTail fills p with the end of the block's data.
func (b *Block) ReadTail(r io.ReaderAt, p []byte) error {
	if _, err := r.ReadAt(p, b.Next-SyncLen-int64(len(p))); err != nil {
		return fmt.Errorf("read block at %d: %w", b.Start, err)
	}
	return nil
}

// Seek returns where the first block behind the first marker at or after
// offset from begins, as Java's DataFileReader.sync does; the end of the file
// where there is none.
func (h *Header) Seek(r io.ReaderAt, size, from int64) (int64, error) {
	if from < h.Len {
		return h.Len, nil
	}
	buf := make([]byte, 64<<10)
	for at := from; at < size; at += int64(len(buf) - SyncLen + 1) {
		n, err := r.ReadAt(buf[:min(int64(len(buf)), size-at)], at)
		if err != nil && err != io.EOF {
			return 0, fmt.Errorf("look for a sync marker: %w", err)
		}
		if i := bytes.Index(buf[:n], h.Sync[:]); i >= 0 {
			return at + int64(i) + SyncLen, nil
		}
	}
	return size, nil
}

// Decoder reads Avro's binary encoding. After an error every method returns
// zero values; Err tells. io.ErrUnexpectedEOF means that there is too little.
type Decoder struct {
	p   []byte
	err error
}

// NewDecoder returns a decoder of p.
func NewDecoder(p []byte) *Decoder { return &Decoder{p: p} }

// Err is the first error.
func (d *Decoder) Err() error { return d.err }

// Rest is what has not been read.
func (d *Decoder) Rest() []byte { return d.p }

// Long reads an int or a long.
func (d *Decoder) Long() int64 {
	if d.err != nil {
		return 0
	}
	v, n := binary.Varint(d.p)
	switch {
	case n == 0:
		d.err = io.ErrUnexpectedEOF
		return 0
	case n < 0:
		d.err = errors.New("a number has more than 64 bits")
		return 0
	}
	d.p = d.p[n:]
	return v
}

// Fixed reads n bytes, as a view.
func (d *Decoder) Fixed(n int64) []byte {
	if d.err != nil {
		return nil
	}
	if n < 0 {
		d.err = fmt.Errorf("a length is negative: %d", n)
		return nil
	}
	if n > int64(len(d.p)) {
		d.err = io.ErrUnexpectedEOF
		return nil
	}
	b := d.p[:n:n]
	d.p = d.p[n:]
	return b
}

// Bytes reads bytes or a string, as a view.
func (d *Decoder) Bytes() []byte { return d.Fixed(d.Long()) }

// KV is one entry of a header.
type KV struct {
	Key   string
	Value []byte
}

// AppendHeader appends a header with the entries in this order.
func AppendHeader(dst []byte, meta []KV, sync [SyncLen]byte) []byte {
	dst = append(dst, magic...)
	if len(meta) > 0 {
		dst = binary.AppendVarint(dst, int64(len(meta)))
	}
	for _, m := range meta {
		dst = binary.AppendVarint(dst, int64(len(m.Key)))
		dst = append(dst, m.Key...)
		dst = binary.AppendVarint(dst, int64(len(m.Value)))
		dst = append(dst, m.Value...)
	}
	dst = append(dst, 0)
	return append(dst, sync[:]...)
}

// AppendBlock appends a block of count records.
func AppendBlock(dst []byte, count int64, data []byte, sync [SyncLen]byte) []byte {
	dst = binary.AppendVarint(dst, count)
	dst = binary.AppendVarint(dst, int64(len(data)))
	dst = append(dst, data...)
	return append(dst, sync[:]...)
}
