package kafka

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"

	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/kafkaclient"
	"github.com/sluice-data/sluice/internal/serde"
)

const (
	keyHeader = "key" // of events: the record's key, as in Flume
	// nullHeader is a header of records. Its value is the index of a header
	// of the event that is null, and its name: Avro's map has no null, and
	// Flume cannot put such an event. Flume does not look at record headers.
	nullHeader = "sluice.null"
)

var noBytes = []byte{}

// maxKept is what an encoder keeps of the memory that a huge batch needed.
const maxKept = 4 << 20

// encoder makes records of events, for one sender.
type encoder struct {
	*config
	values  []byte
	headers []kgo.RecordHeader
}

// Encode implements kafkaclient.Encoder.
func (e *encoder) Encode(r *kgo.Record, ev *event.Event, prev *kgo.Record, prevEvent *event.Event) error {
	r.Topic = e.topic
	if prev != nil && event.SameHeaders(ev, prevEvent) {
		r.Key, r.Partition, r.Headers = prev.Key, prev.Partition, prev.Headers
	} else {
		if v, _ := ev.Header(keyHeader); v != nil {
			r.Key = v
		}
		p, err := kafkaclient.PartitionOf(ev, e.partition, e.partitionHdr)
		if err != nil {
			return err
		}
		r.Partition = p
		if e.avro {
			r.Headers = e.nulls(ev)
		}
	}
	if !e.avro {
		r.Value = ev.Body
		if r.Value == nil {
			r.Value = noBytes // a null would be a tombstone
		}
		return nil
	}
	from := len(e.values)
	e.values = serde.AppendAvroEvent(e.values, ev)
	r.Value = e.values[from:len(e.values):len(e.values)]
	return nil
}

// nulls are the record headers for the null headers of an event.
func (e *encoder) nulls(ev *event.Event) []kgo.RecordHeader {
	first := len(e.headers)
	for i := range ev.Headers {
		if h := &ev.Headers[i]; h.Value == nil {
			from := len(e.values)
			e.values = append(binary.AppendUvarint(e.values, uint64(i)), h.Key...)
			e.headers = append(e.headers, kgo.RecordHeader{Key: nullHeader, Value: e.values[from:len(e.values):len(e.values)]})
		}
	}
	if first == len(e.headers) {
		return nil
	}
	return e.headers[first:len(e.headers):len(e.headers)]
}

// Reset implements kafkaclient.Encoder.
func (e *encoder) Reset() { e.values, e.headers = e.values[:0], e.headers[:0] }

// Forget implements kafkaclient.Encoder.
func (e *encoder) Forget() {
	clear(e.headers)
	e.Reset()
	if cap(e.values) > maxKept {
		e.values = nil
	}
}

// decoder makes events of records, whose memory they view.
type decoder struct {
	avro  bool
	names kafkaclient.Names
	slots []event.KV // for headers: what is left of a piece of memory that many events share
}

// headerSlots is the size of such a piece, and fewHeaders what an event may need without one of its own.
const headerSlots, fewHeaders = 1024, 32

func (d *decoder) decode(r *kgo.Record) (event.Event, error) {
	if cap(d.slots) < fewHeaders {
		d.slots = make([]event.KV, 0, headerSlots)
	}
	ev := event.Event{Body: r.Value}
	hs := d.slots[:0]
	if d.avro {
		var err error
		if ev.Body, hs, err = serde.DecodeAvroEvent(r.Value, hs, d.names.Intern); err != nil {
			return ev, err
		}
		for i := range r.Headers {
			if r.Headers[i].Key != nullHeader {
				continue
			}
			if hs, err = d.null(hs, r.Headers[i].Value); err != nil {
				return ev, fmt.Errorf("record header %s: %w", nullHeader, err)
			}
		}
	}
	if r.Key != nil {
		hs = serde.SetHeader(hs, 0, keyHeader, r.Key)
	}
	if ev.Body == nil {
		ev.Body = noBytes // a record without a value, as in Flume
	}
	if n := len(hs); n > 0 {
		ev.Headers = hs[:n:n]
		if n <= cap(d.slots) { // not if the headers needed memory of their own
			d.slots = d.slots[n:n]
		}
	}
	return ev, nil
}

// null puts a null header where it was.
func (d *decoder) null(hs []event.KV, v []byte) ([]event.KV, error) {
	at, n := binary.Uvarint(v)
	if n <= 0 {
		return hs, errors.New("no index")
	}
	name := d.names.Intern(v[n:])
	if slices.ContainsFunc(hs, func(h event.KV) bool { return h.Key == name }) {
		return hs, fmt.Errorf("%.40q has a value", name)
	}
	return slices.Insert(hs, int(min(at, uint64(len(hs)))), event.KV{Key: name}), nil
}
