package broker

import (
	"context"
	"fmt"
	"math"
	"sync"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// InitProducerID: v0-5
//
// For idempotent producers only: every call gives a new id with epoch 0, as
// in Apache Kafka. A transactional id is INVALID_REQUEST, and so is an id
// without an epoch or the other way round. Ids are never given
// twice, not even after a crash: they are taken from blocks that are written
// down before their first use.
//
// Version notes: v2 flexible; v3 id and epoch of a transactional producer
// that recovers (KIP-360).

// pidBlock is how many ids are written down at a time.
const pidBlock = 1000

type producerIDs struct {
	fs   vfs.FS
	file string

	mu         sync.Mutex
	next, free int64 // the next id, and how many are left in the block
}

// storedProducerIDs is producer-ids.json.
type storedProducerIDs struct {
	Next int64 `json:"next"` // first id that no block has
}

func openProducerIDs(fsys vfs.FS, file string) (*producerIDs, error) {
	var st storedProducerIDs
	if _, err := readJSON(file, &st); err != nil {
		return nil, err
	}
	if st.Next < 0 {
		return nil, fmt.Errorf("read %s: next is %d: restore the file from a copy", file, st.Next)
	}
	return &producerIDs{fs: fsys, file: file, next: st.Next}, nil
}

func (p *producerIDs) take() (int64, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.free == 0 {
		if p.next > math.MaxInt64-pidBlock {
			return 0, fmt.Errorf("take a producer id: all are used up")
		}
		if err := writeJSON(p.fs, p.file, storedProducerIDs{Next: p.next + pidBlock}); err != nil {
			return 0, err
		}
		p.free = pidBlock
	}
	id := p.next
	p.next++
	p.free--
	return id, nil
}

func handleInitProducerID(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.InitProducerIDRequest)
	resp := req.ResponseKind().(*kmsg.InitProducerIDResponse)
	resp.ProducerID, resp.ProducerEpoch = -1, -1
	if req.TransactionalID != nil || (req.ProducerID == -1) != (req.ProducerEpoch == -1) {
		resp.ErrorCode = kerr.InvalidRequest.Code
		return resp, nil
	}
	id, err := b.pids.take()
	if err != nil {
		b.logger.Error("producer id could not be given", "err", err)
		resp.ErrorCode = kerr.CoordinatorNotAvailable.Code // clients try again
		return resp, nil
	}
	resp.ProducerID, resp.ProducerEpoch = id, 0
	return resp, nil
}
