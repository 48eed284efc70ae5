package serde

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	"github.com/hamba/avro/v2"
	"github.com/hamba/avro/v2/pkg/crc64"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/ocf"
)

type avroDeserializerConfig struct{ schemaType string }

func (c *avroDeserializerConfig) Fields() []component.Field {
	return []component.Field{
		component.Enum("schemaType", &c.schemaType, "HASH", "HASH", "LITERAL").
			Describe("What goes with each event: HASH sets the header `flume.avro.schema.hash` to the schema's CRC-64-AVRO fingerprint in hex; LITERAL sets `flume.avro.schema.literal` to the schema's JSON, which is the same for all events of a file and is held once."),
	}
}

func (c *avroDeserializerConfig) NewDeserializer(in Input) (Deserializer, error) {
	h, err := ocf.ReadHeader(in.File, in.Size)
	if err != nil {
		return nil, formatUnlessIO(0, err)
	}
	if err := ocf.CheckCodec(h.Codec()); err != nil {
		return nil, &FormatError{0, err}
	}
	// A cache of its own: files may have different records of one name.
	schema, err := avro.ParseBytesWithCache(h.Meta["avro.schema"], "", &avro.SchemaCache{})
	if err != nil {
		return nil, &FormatError{0, fmt.Errorf("parse schema: %w", err)}
	}
	d := &avroRecords{in: in, head: h, schema: schema}
	if c.schemaType == "HASH" {
		sum := crc64.SumWithByteOrder(canonicalSchema(nil, schema, map[string]bool{}), crc64.LittleEndian)
		d.key, d.value = "flume.avro.schema.hash", []byte(hex.EncodeToString(sum[:]))
	} else {
		var b bytes.Buffer
		if err := json.Compact(&b, h.Meta["avro.schema"]); err != nil {
			return nil, &FormatError{0, fmt.Errorf("parse schema: %w", err)}
		}
		d.key, d.value = "flume.avro.schema.literal", b.Bytes()
	}
	at, err := h.Seek(in.File, in.Size, in.From.Offset)
	if err != nil {
		return nil, err
	}
	d.block = ocf.Block{Start: at, Next: at}
	d.skip = in.From.Records
	return d, nil
}

// avroRecords hands out the records of a container file as they stand there.
type avroRecords struct {
	in     Input
	head   *ocf.Header
	schema avro.Schema
	key    string
	value  []byte
	block  ocf.Block
	blk    *event.Block
	dec    *ocf.Decoder // of the block's records; nil: the next block is to be read
	done   int64        // records of the block handed out
	skip   int64        // records of the first block that were handed out before
}

func (d *avroRecords) Position() Position {
	return Position{Offset: d.block.Marker(), Records: d.done}
}

func (d *avroRecords) Close() {
	if d.blk != nil {
		d.blk.Release()
		d.blk, d.dec = nil, nil
	}
}

func (d *avroRecords) Read(b *event.Batch, max int) (err error) {
	first := b.Len()
	start := d.block.Next
	for max > 0 && err == nil {
		if d.dec == nil || d.done == d.block.Count {
			if d.block.Next-start > batchBytes && b.Len() > first {
				break
			}
			err = d.nextBlock()
			continue
		}
		before := d.dec.Rest()
		if err = skipDatum(d.dec, d.schema, 0); err != nil {
			err = &FormatError{d.block.Start, fmt.Errorf("record %d of the block: %w", d.done, err)}
			break
		}
		d.done++
		if n := len(before) - len(d.dec.Rest()); d.skip > 0 {
			d.skip--
		} else {
			b.Attach(d.blk)
			b.Add(before[:n])
			max--
		}
		if d.done == d.block.Count && len(d.dec.Rest()) > 0 {
			err = &FormatError{d.block.Start, fmt.Errorf("%d bytes are left behind the last record of the block", len(d.dec.Rest()))}
		}
	}
	if b.Len() > first {
		// Only this file's events are in a batch: the source sees to that.
		b.SetHeaderAll(d.key, d.value, false)
	}
	return err
}

func (d *avroRecords) nextBlock() error {
	blk, err := d.head.ReadBlock(d.in.File, d.in.Size, d.block.Next)
	switch {
	case err == io.EOF:
		return io.EOF
	case errors.Is(err, ocf.ErrTorn):
		if err := d.in.atEnd(); err != nil {
			return err
		}
		return &FormatError{d.block.Next, err}
	case err != nil:
		return formatUnlessIO(d.block.Next, err)
	case blk.Size == 0 && blk.Count > maxEmptyRecords:
		// Records of no bytes are legal, but a broken count of them would
		// keep us busy for ever.
		return &FormatError{blk.Start, fmt.Errorf("%d records in 0 bytes", blk.Count)}
	}
	if d.dec != nil {
		d.skip = 0 // a position never reaches into the block after
	}
	d.Close()
	raw := d.in.Pool.Block(blk.Size)
	if err := blk.ReadData(d.in.File, raw.Extend(blk.Size)); err != nil {
		raw.Release()
		return err
	}
	d.blk = raw
	data, err := ocf.Decompress(d.head.Codec(), raw.Bytes(), func(n int) []byte {
		d.blk = d.in.Pool.Block(n)
		return d.blk.Extend(n)
	})
	if d.blk != raw {
		raw.Release()
	}
	if err != nil {
		return &FormatError{blk.Start, err}
	}
	d.block, d.dec, d.done = blk, ocf.NewDecoder(data), 0
	return nil
}

const maxEmptyRecords = 1 << 20

// formatUnlessIO tells what the file says from what the disk says.
func formatUnlessIO(at int64, err error) error {
	var pe interface{ Timeout() bool } // *fs.PathError has it
	if errors.As(err, &pe) {
		return err
	}
	return &FormatError{at, err}
}

// maxDepth bounds the recursion into what a schema that names itself allows.
const maxDepth = 200

var errDepth = fmt.Errorf("nested more than %d deep", maxDepth)

// skipDatum moves d behind one datum of the schema.
func skipDatum(d *ocf.Decoder, s avro.Schema, depth int) error {
	if depth > maxDepth {
		return errDepth
	}
	switch s := s.(type) {
	case *avro.RefSchema:
		return skipDatum(d, s.Schema(), depth)
	case *avro.NullSchema:
	case *avro.FixedSchema:
		d.Fixed(int64(s.Size()))
	case *avro.EnumSchema:
		if i := d.Long(); d.Err() == nil && (i < 0 || i >= int64(len(s.Symbols()))) {
			return fmt.Errorf("enum %s has no symbol %d", s.FullName(), i)
		}
	case *avro.RecordSchema:
		for _, f := range s.Fields() {
			if err := skipDatum(d, f.Type(), depth+1); err != nil {
				return err
			}
		}
	case *avro.UnionSchema:
		i := d.Long()
		if d.Err() == nil && (i < 0 || i >= int64(len(s.Types()))) {
			return fmt.Errorf("a union has no branch %d", i)
		}
		if d.Err() == nil {
			return skipDatum(d, s.Types()[i], depth+1)
		}
	case *avro.ArraySchema:
		return skipBlocks(d, func() error { return skipDatum(d, s.Items(), depth+1) })
	case *avro.MapSchema:
		return skipBlocks(d, func() error {
			d.Bytes()
			return skipDatum(d, s.Values(), depth+1)
		})
	case *avro.PrimitiveSchema:
		switch s.Type() {
		case avro.Boolean:
			d.Fixed(1)
		case avro.Float:
			d.Fixed(4)
		case avro.Double:
			d.Fixed(8)
		case avro.Int, avro.Long:
			d.Long()
		default: // string, bytes
			d.Bytes()
		}
	default:
		return fmt.Errorf("unexpected schema %T", s)
	}
	return d.Err()
}

// skipBlocks skips the blocks of an array or a map.
func skipBlocks(d *ocf.Decoder, item func() error) error {
	for {
		n := d.Long()
		switch {
		case d.Err() != nil:
			return d.Err()
		case n == 0:
			return nil
		case n < 0: // its length follows
			d.Fixed(d.Long())
			continue
		}
		for left := len(d.Rest()); n > 0; n-- {
			if err := item(); err != nil {
				return err
			}
			if now := len(d.Rest()); now == left && n > maxEmptyRecords {
				return fmt.Errorf("%d items in 0 bytes", n)
			}
		}
	}
}

// canonicalSchema appends the schema in the parsing canonical form of the Avro
// specification, which the fingerprint is made of. (The library's form keeps
// logical types, which the specification strips.)
func canonicalSchema(dst []byte, s avro.Schema, seen map[string]bool) []byte {
	named := func(n avro.NamedSchema, typ string) bool {
		if seen[n.FullName()] {
			dst = appendQuoted(dst, n.FullName())
			return false
		}
		seen[n.FullName()] = true
		dst = append(dst, `{"name":`...)
		dst = appendQuoted(dst, n.FullName())
		dst = append(dst, `,"type":"`+typ+`"`...)
		return true
	}
	switch s := s.(type) {
	case *avro.RefSchema:
		return canonicalSchema(dst, s.Schema(), seen)
	case *avro.RecordSchema:
		if !named(s, "record") { // errors too, as Java writes it
			return dst
		}
		dst = append(dst, `,"fields":[`...)
		for i, f := range s.Fields() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(dst, `{"name":`...)
			dst = appendQuoted(dst, f.Name())
			dst = append(dst, `,"type":`...)
			dst = canonicalSchema(dst, f.Type(), seen)
			dst = append(dst, '}')
		}
		return append(dst, "]}"...)
	case *avro.EnumSchema:
		if !named(s, "enum") {
			return dst
		}
		dst = append(dst, `,"symbols":[`...)
		for i, sym := range s.Symbols() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendQuoted(dst, sym)
		}
		return append(dst, "]}"...)
	case *avro.FixedSchema:
		if !named(s, "fixed") {
			return dst
		}
		return fmt.Appendf(dst, `,"size":%d}`, s.Size())
	case *avro.ArraySchema:
		dst = append(dst, `{"type":"array","items":`...)
		return append(canonicalSchema(dst, s.Items(), seen), '}')
	case *avro.MapSchema:
		dst = append(dst, `{"type":"map","values":`...)
		return append(canonicalSchema(dst, s.Values(), seen), '}')
	case *avro.UnionSchema:
		dst = append(dst, '[')
		for i, t := range s.Types() {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = canonicalSchema(dst, t, seen)
		}
		return append(dst, ']')
	}
	return appendQuoted(dst, string(s.Type()))
}

// appendQuoted appends a name, which needs no escapes.
func appendQuoted(dst []byte, s string) []byte {
	dst = append(dst, '"')
	dst = append(dst, s...)
	return append(dst, '"')
}
