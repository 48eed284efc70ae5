// Package serde turns events into the bytes of files and topics, and back: the
// serializers that sinks name and the deserializers that sources name.
package serde

import (
	"fmt"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

// Serializer turns events into the bytes of one file. It holds nothing back:
// what AppendEvents returned is complete, so a sink may flush, or cut the file
// back to an earlier length, between any two calls. It is not safe for
// concurrent use, and a sink makes one per file.
type Serializer interface {
	// AppendHeader appends what a new file starts with.
	AppendHeader(dst []byte) ([]byte, error)
	// AppendEvents appends events. The events may be released after it.
	AppendEvents(dst []byte, evs []event.Event) ([]byte, error)
}

// SerializerConfig is the configuration of a serializer. The constructor is
// called once per file.
type SerializerConfig interface {
	component.Config
	NewSerializer() (Serializer, error)
}

// NewSerializer makes a serializer from what a component.Part decoded.
func NewSerializer(c component.Config) (Serializer, error) {
	sc, ok := c.(SerializerConfig)
	if !ok {
		return nil, fmt.Errorf("make serializer: %T has no NewSerializer method", c)
	}
	return sc.NewSerializer()
}

func init() {
	component.RegisterPart(component.Info{
		Kind: component.KindSerializer, Name: "TEXT",
		Classes: []string{"org.apache.flume.serialization.BodyTextEventSerializer$Builder", "org.apache.flume.serialization.BodyTextEventSerializer"},
		Doc:     "The body, then a line feed.",
	}, func() component.Config { return new(textConfig) })
	component.RegisterPart(component.Info{
		Kind: component.KindSerializer, Name: "HEADER_AND_TEXT",
		Classes: []string{"org.apache.flume.serialization.HeaderAndBodyTextEventSerializer$Builder", "org.apache.flume.serialization.HeaderAndBodyTextEventSerializer"},
		Doc:     "The headers in the form {k=v, k2=v2}, a blank, the body, then a line feed.",
	}, func() component.Config { return &textConfig{headers: true} })
	component.RegisterPart(component.Info{
		Kind: component.KindSerializer, Name: "AVRO_EVENT",
		Classes: []string{"org.apache.flume.serialization.FlumeEventAvroEventSerializer$Builder", "org.apache.flume.serialization.FlumeEventAvroEventSerializer"},
		Doc:     "An Avro container file of records {headers, body}.",
		Notes:   "Codecs: `null`, `deflate`, `snappy`, `zstandard`. `bzip2` and `xz` are not there: as with an unknown codec, the file is written without compression and a warning says so.",
	}, func() component.Config { return new(avroConfig) })
}

type textConfig struct {
	headers bool
	newline bool
}

func (c *textConfig) Fields() []component.Field {
	return []component.Field{
		component.Bool("appendNewline", &c.newline, true).Describe("End every event with a line feed."),
	}
}

func (c *textConfig) NewSerializer() (Serializer, error) { return &textSerializer{*c}, nil }

type textSerializer struct{ textConfig }

func (s *textSerializer) AppendHeader(dst []byte) ([]byte, error) { return dst, nil }

func (s *textSerializer) AppendEvents(dst []byte, evs []event.Event) ([]byte, error) {
	from, to := 0, 0 // where dst has the headers of the event before
	for i := range evs {
		e := &evs[i]
		if s.headers {
			if i > 0 && event.SameHeaders(e, &evs[i-1]) {
				dst = append(dst, dst[from:to]...)
			} else {
				from = len(dst)
				dst = AppendHeaders(dst, e.Headers)
				to = len(dst)
			}
			dst = append(dst, ' ')
		}
		dst = append(dst, e.Body...)
		if s.newline {
			dst = append(dst, '\n')
		}
	}
	return dst, nil
}
