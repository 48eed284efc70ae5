package partition

import (
	"maps"
	"slices"
)

// ProducerEntry is what a snapshot knows of an idempotent producer, for tools.
type ProducerEntry struct {
	ID            int64 `json:"producerId"`
	Epoch         int16 `json:"producerEpoch"`
	LastTimestamp int64 `json:"lastTimestamp"`
	LastSeen      int64 `json:"lastSeen"`
	// Batches are its last ones, the oldest first.
	Batches []ProducerBatch `json:"batches"`
}

// ProducerBatch is one of the last batches of a producer.
type ProducerBatch struct {
	FirstSequence int32 `json:"firstSequence"`
	LastSequence  int32 `json:"lastSequence"`
	FirstOffset   int64 `json:"firstOffset"`
	LastOffset    int64 `json:"lastOffset"`
}

// ParseSnapshot decodes a .snapshot: the producers by their ids, and the offset up to which it goes.
func ParseSnapshot(b []byte) ([]ProducerEntry, int64, error) {
	ps, offset, err := decodeSnapshot(b)
	if err != nil {
		return nil, 0, err
	}
	var out []ProducerEntry
	for _, id := range slices.Sorted(maps.Keys(ps)) {
		p := ps[id]
		o := ProducerEntry{ID: id, Epoch: p.epoch, LastTimestamp: p.lastTime, LastSeen: p.seen, Batches: []ProducerBatch{}}
		for _, a := range p.batches[:p.n] {
			o.Batches = append(o.Batches, ProducerBatch{a.firstSeq, a.lastSeq, a.first, a.last})
		}
		out = append(out, o)
	}
	return out, offset, nil
}
