// Package event holds what flows through an agent: events, the batches that
// carry them and the blocks of memory that their bytes live in. It is public
// because user-defined components see it.
//
// A batch is a transaction: sources emit batches, channels store and hand out
// batches. An event is two slices into a block that its batch holds; the block
// goes back to its Pool when the last holder lets go. So no byte of a body is
// copied, and nothing is allocated per event, between read(2) and the sink.
package event

// KV is one header. Keys are unique within an event. A nil Value is Flume's
// null header (a regex group that did not take part in the match, say), which
// is not the same as an empty one.
type KV struct {
	Key   string
	Value []byte
}

// Event is Flume's event: a body and headers. Both are views into blocks that
// the batch (or, after a take, the lease) holds: they are valid until that is
// released, and read-only once the batch was emitted. Clone what must live
// longer. Headers keep the order in which they were set.
type Event struct {
	Body    []byte
	Headers []KV
}

// Header returns the value of the named header and whether it is set.
func (e *Event) Header(key string) ([]byte, bool) {
	for i := range e.Headers {
		if e.Headers[i].Key == key {
			return e.Headers[i].Value, true
		}
	}
	return nil, false
}

// Clone returns a copy that shares no memory with e.
func (e *Event) Clone() Event {
	c := Event{Body: append([]byte{}, e.Body...)}
	if len(e.Headers) > 0 {
		c.Headers = make([]KV, len(e.Headers))
		for i, h := range e.Headers {
			c.Headers[i] = KV{Key: h.Key}
			if h.Value != nil {
				c.Headers[i].Value = append([]byte{}, h.Value...)
			}
		}
	}
	return c
}

// size is what a copy of e needs in a block's byte area.
func (e *Event) size() int {
	n := len(e.Body)
	for i := range e.Headers {
		n += len(e.Headers[i].Value)
	}
	return n
}
