package serde

import (
	"fmt"
	"io"
	"log/slog"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

// Deserializer turns one file into events. It is not safe for concurrent use.
type Deserializer interface {
	// Read adds up to max events to b. io.EOF says that the file is used up;
	// b may have got the last events with it. With any other error b has the
	// events before the fault, and Read is not called again.
	Read(b *event.Batch, max int) error
	// Position is where a Deserializer goes on after the last event added.
	Position() Position
	// Close lets go of memory; batches keep what they view.
	Close()
}

// Position is a place in a file between two events.
type Position struct {
	// Offset is in bytes, as Flume stores it: for LINE and BLOB of the next
	// event; for AVRO of the sync marker before the current block.
	Offset int64
	// Records of the current block that were read (AVRO), which Flume does
	// not store.
	Records int64
}

// Input is a file and how to read it.
type Input struct {
	File io.ReaderAt
	// Size is how much of the file counts. What is appended while it is
	// being read is not looked at.
	Size    int64
	From    Position
	Pool    *event.Pool
	Charset *charset.Charset
	Errors  charset.Policy // what to do about malformed text
	Log     *slog.Logger   // names the file already
	// AtEnd is asked, where it is not nil, before bytes become an event only
	// because the file ends there: an error of it is returned instead, so
	// that the half of a line that is still being written is not delivered.
	AtEnd func() error
}

func (in *Input) atEnd() error {
	if in.AtEnd == nil {
		return nil
	}
	return in.AtEnd()
}

// FormatError is a fault in the content of the file: it will be the same at
// the next try. Other errors come from reading.
type FormatError struct {
	Offset int64 // in the file
	Err    error
}

func (e *FormatError) Error() string { return fmt.Sprintf("at byte %d: %v", e.Offset, e.Err) }
func (e *FormatError) Unwrap() error { return e.Err }

// DeserializerConfig is the configuration of a deserializer. The constructor
// is called once per file.
type DeserializerConfig interface {
	component.Config
	NewDeserializer(in Input) (Deserializer, error)
}

func init() {
	part := func(name, class, doc, notes string, fresh func() component.Config) {
		component.RegisterPart(component.Info{
			Kind: component.KindDeserializer, Name: name,
			Classes: []string{class + "$Builder", class}, Doc: doc, Notes: notes,
		}, fresh)
	}
	part("LINE", "org.apache.flume.serialization.LineDeserializer", "One event per line of text.",
		"Lines end at a line feed; a carriage return stays in the body. The last line needs no line feed. "+
			"A line that is cut at `maxLineLength` is cut between two characters; Flume may cut a character outside the BMP in two, which makes question marks of it.",
		func() component.Config { return new(lineConfig) })
	part("AVRO", "org.apache.flume.serialization.AvroEventDeserializer", "One event per record of an Avro container file; the body is the record in Avro's binary encoding.",
		"The body has the bytes that stand in the file; Flume decodes and encodes them again. Codecs: `null`, `deflate`, `snappy`, `zstandard`, `bzip2`; a file with another one (`xz`) is a bad file. "+
			"`decodeErrorPolicy` and `inputCharset` do not apply. After a crash the source goes on at the start of a block, as in Flume; after an orderly stop at the record.",
		func() component.Config { return new(avroDeserializerConfig) })
	part("BLOB", "org.apache.flume.sink.solr.morphline.BlobDeserializer", "One event per file; the body is the whole content, byte by byte.",
		"The short name `BLOB` is an addition: Flume knows the class name only. Each event is held in memory as a whole. "+
			"A batch ends when it has 16 MiB, so a batch holds fewer events than `batchSize` where files are large.",
		func() component.Config { return new(blobConfig) })
}
