package partition

import (
	"fmt"
	"math"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/record"
)

// keptBatches is how many batches of a producer are remembered to recognise retries: the most that a producer may have
// in flight (max.in.flight.requests.per.connection with idempotence).
const keptBatches = 5

// appended is a batch that a producer appended.
type appended struct {
	firstSeq, lastSeq int32
	first, last       int64 // offsets
}

// producer is the state of one producer id: what Kafka's ProducerStateEntry holds.
type producer struct {
	epoch    int16
	batches  [keptBatches]appended // the oldest first
	n        int
	lastTime int64 // largest record timestamp of the last batch
	// seen is when the producer last appended, by our clock. Kafka expires by record timestamps, and so forgets a producer
	// of old data at once.
	seen int64
}

func (p *producer) lastSeq() int32 {
	if p.n == 0 {
		return record.NoSequence
	}
	return p.batches[p.n-1].lastSeq
}

// check decides on a client's batch. dup is the earlier append of the same batch.
func (p *producer) check(h *record.Header) (dup *appended, err error) {
	if p == nil {
		// Nothing is known: a new producer, or one whose records and state are gone. Kafka takes any sequence then.
		return nil, nil
	}
	if h.ProducerEpoch == p.epoch {
		for i := range p.batches[:p.n] {
			if a := &p.batches[i]; a.firstSeq == h.BaseSequence && a.lastSeq == h.LastSequence() {
				return a, nil
			}
		}
	}
	switch {
	case h.ProducerEpoch < p.epoch:
		return nil, fmt.Errorf("%w: producer %d has epoch %d, the batch %d", log.ErrInvalidProducerEpoch, h.ProducerID, p.epoch, h.ProducerEpoch)
	case h.ProducerEpoch > p.epoch:
		if h.BaseSequence != 0 {
			return nil, fmt.Errorf("%w: producer %d begins epoch %d with sequence %d: want 0", log.ErrOutOfOrderSequence,
				h.ProducerID, h.ProducerEpoch, h.BaseSequence)
		}
	case h.BaseSequence != nextSequence(p.lastSeq()):
		return nil, fmt.Errorf("%w: producer %d sends sequence %d after %d", log.ErrOutOfOrderSequence, h.ProducerID, h.BaseSequence, p.lastSeq())
	}
	return nil, nil
}

func nextSequence(last int32) int32 {
	if last == math.MaxInt32 {
		return 0
	}
	return last + 1
}

// producers is the state of a partition's idempotent producers. It is not safe for concurrent use.
type producers map[int64]*producer

// note takes up a batch that is in the log.
func (ps producers) note(h *record.Header, first int64, now int64) {
	p := ps[h.ProducerID]
	if p == nil {
		p = &producer{epoch: h.ProducerEpoch}
		ps[h.ProducerID] = p
	}
	if p.epoch != h.ProducerEpoch {
		*p = producer{epoch: h.ProducerEpoch}
	}
	if p.n == keptBatches {
		copy(p.batches[:], p.batches[1:])
		p.n--
	}
	p.batches[p.n] = appended{h.BaseSequence, h.LastSequence(), first, first + int64(h.LastOffsetDelta)}
	p.n++
	p.lastTime, p.seen = h.MaxTimestamp, now
}

// expire forgets producers that were silent since before the given time.
func (ps producers) expire(before int64) (n int) {
	for id, p := range ps {
		if p.seen < before {
			delete(ps, id)
			n++
		}
	}
	return n
}
