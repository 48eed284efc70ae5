package broker

import (
	"context"
	"errors"
	"slices"
	"sync"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
)

// Produce: v3-13, advertised as 0-13
//
// Versions 0 to 2 carry message formats that went out with Kafka 0.11 and are
// refused by closing the connection, as Apache Kafka 4 does. They are
// advertised nevertheless: librdkafka up to 2.8 does not compress towards a
// broker whose lowest version is not 0 (KAFKA-18659).
//
// Rules:
//   - The order of a connection's batches is fixed by the order of its
//     requests; waiting for the disk happens later, so that requests in flight
//     share an fsync.
//   - Record bytes are not copied between the socket's buffer and the file.
//   - Records are checked one by one, in compressed batches too
//     (INVALID_RECORD); how far a batch may decompress is limited
//     (MESSAGE_TOO_LARGE).
//   - Requests that arrived together for one partition are written together,
//     see producegroup.go.
//   - acks must be -1, 0 or 1. With one replica, -1 and 1 are the same.
//   - acks=0 has no answer; an error closes the connection, so that the client
//     notices and asks for metadata.
//   - acks=-1 on a topic with min.insync.replicas above 1 is
//     NOT_ENOUGH_REPLICAS: there is one replica.
//   - A disk that is nearly full is KAFKA_STORAGE_ERROR, which clients retry.
//   - A client over its producer_byte_rate is answered at once, told for how
//     long it is not read from, and not read from (KIP-219).
//   - Transactions are not there: a transactional id is INVALID_REQUEST.
//
// Version notes: v5 log start offset; v8 error messages and records (KIP-467); v9
// flexible; v13 topic ids (KIP-516).

var produceRequests = sync.Pool{New: func() any { return new(producing) }}

// producing is a Produce under way.
type producing struct {
	wire.ProduceRequest
	waits []produceWait
}

type produceWait struct {
	i       int // of Partitions
	pending log.Pending
}

func (p *producing) put() {
	clear(p.waits)
	p.waits = p.waits[:0]
	clear(p.Topics)
	clear(p.Partitions)
	p.TransactionalID = nil
	produceRequests.Put(p)
}

func startProduce(ctx context.Context, b *Broker, r *request) (outcome, error) {
	p := produceRequests.Get().(*producing)
	if err := p.Decode(r.Version, r.body); err != nil {
		return outcome{}, err
	}
	if p.Throttle = b.quotas.charge(quotaProduce, r.ClientID, int64(r.size)); p.Throttle > 0 {
		r.conn.mute(p.Throttle)
	}
	wait := false
	for i := range p.Topics {
		if b.produceTopic(ctx, p, &p.Topics[i]) {
			wait = true
		}
	}
	if !wait || p.Acks == 0 {
		out, err := finishProduce(ctx, b, r, p)
		r.free()
		return out, err
	}
	// The answer waits for the disk. Meanwhile the frame goes back to its
	// pool: only topic names are still needed.
	for i := range p.Topics {
		p.Topics[i].Name = slices.Clone(p.Topics[i].Name)
	}
	for i := range p.Partitions {
		p.Partitions[i].Records = nil
	}
	r.free()
	return outcome{later: func(ctx context.Context) (outcome, error) { return finishProduce(ctx, b, r, p) }}, nil
}

// produceTopic appends to a topic's partitions and reports whether the
// answer has to wait for the disk.
func (b *Broker) produceTopic(ctx context.Context, p *producing, pt *wire.ProduceTopic) (wait bool) {
	parts := p.Partitions[pt.First : pt.First+pt.Count]
	fail := func(code *kerr.Error, msg string) {
		for i := range parts {
			parts[i].ErrorCode, parts[i].ErrorMessage = code.Code, msg
		}
	}
	t, code, msg := b.produceTarget(&p.ProduceRequest, pt)
	if code != nil {
		fail(code, msg)
		return false
	}
	for i := range parts {
		pp := &parts[i]
		part := t.part(pp.Partition)
		if part == nil {
			pp.ErrorCode = kerr.UnknownTopicOrPartition.Code
			b.metrics.produceFailed(t, pp.ErrorCode, len(pp.Records))
			continue
		}
		n := len(pp.Records)
		a, pending, err := part.AppendAsync(ctx, pp.Records, partition.AppendOpts{Acks: p.Acks, Origin: log.OriginClient})
		if err != nil {
			b.produceError(part, pp, err)
			continue
		}
		pp.BaseOffset, pp.LogAppendTime, pp.LogStart = a.Base, a.AppendTime, a.LogStart
		p.waits = append(p.waits, produceWait{i: pt.First + i, pending: pending})
		if !a.Duplicate {
			b.metrics.produced(t, a.Records, n)
			b.disk.appended(n)
		}
	}
	cfg := &t.state.Load().cfg
	return cfg.SyncAcks || cfg.FlushMessages > 0
}

// produceTarget finds the topic of a request, or says why nothing of it can be
// appended there.
func (b *Broker) produceTarget(p *wire.ProduceRequest, pt *wire.ProduceTopic) (*topic, *kerr.Error, string) {
	set := b.topics.set.Load()
	var t *topic
	if p.Version >= 13 {
		t = set.byID[pt.ID]
	} else {
		t = set.byName[string(pt.Name)]
	}
	switch {
	case p.Acks < -1 || p.Acks > 1:
		return nil, kerr.InvalidRequiredAcks, "acks must be -1, 0 or 1"
	case p.TransactionalID != nil:
		return nil, kerr.InvalidRequest, "this broker has no transactions"
	case t == nil && p.Version >= 13:
		return nil, kerr.UnknownTopicID, ""
	case t == nil:
		return nil, kerr.UnknownTopicOrPartition, ""
	case t.internal:
		return nil, kerr.InvalidTopicException, "the topic is the broker's own"
	case p.Acks == -1 && t.state.Load().cfg.MinInsyncReplicas > 1:
		return nil, kerr.NotEnoughReplicas, "min.insync.replicas is more than 1 and there is one replica"
	case b.disk.full():
		return nil, kerr.KafkaStorageError, "the broker's disk is nearly full"
	}
	return t, nil, ""
}

func (b *Broker) produceError(part *part, pp *wire.ProducePartition, err error) {
	pp.ErrorCode, pp.ErrorMessage = log.KafkaCode(err), err.Error()
	pp.BaseOffset, pp.LogAppendTime, pp.LogStart = -1, -1, -1
	var records *log.RecordsError
	if errors.As(err, &records) {
		pp.ErrorRecords = records.Records
	}
	switch pp.ErrorCode {
	case kerr.InvalidRecord.Code, kerr.InvalidTimestamp.Code, kerr.InvalidProducerEpoch.Code, kerr.OutOfOrderSequenceNumber.Code:
		pp.LogStart = part.Offsets().Start // the partition was there and looked at it
	}
	if (errors.Is(err, log.ErrStorage) || pp.ErrorCode == -1) && b.metrics.storageErrors.allow() {
		b.logger.Error("records could not be written", "topic", part.topic.name, "partition", part.id, "err", err)
	}
	b.metrics.produceFailed(part.topic, pp.ErrorCode, len(pp.Records))
}

// finishProduce waits for the disk and makes the answer.
func finishProduce(ctx context.Context, b *Broker, r *request, p *producing) (outcome, error) {
	defer p.put()
	if p.Acks == 0 {
		for i := range p.Partitions {
			if p.Partitions[i].ErrorCode != 0 {
				return outcome{}, apiErrorf(kerr.ErrorForCode(p.Partitions[i].ErrorCode).(*kerr.Error),
					"acks=0 and partition %d failed: %v", p.Partitions[i].Partition, kerr.ErrorForCode(p.Partitions[i].ErrorCode))
			}
		}
		return outcome{silent: true}, nil
	}
	for _, w := range p.waits {
		if err := w.pending.Wait(ctx); err != nil {
			if ctx.Err() != nil {
				return outcome{}, errClose
			}
			pp := &p.Partitions[w.i]
			pp.ErrorCode, pp.ErrorMessage = log.KafkaCode(err), err.Error()
			pp.BaseOffset = -1
			b.metrics.all.failedProduces.Add(1)
			if b.metrics.storageErrors.allow() {
				b.logger.Error("records could not be made durable", "err", err)
			}
		}
	}
	for i := range p.Partitions {
		r.api.stats.failed(p.Partitions[i].ErrorCode)
	}
	m := wire.NewMessage()
	m.Append(func(dst []byte) []byte {
		return p.AppendResponse(wire.AppendResponseHeader(dst, r.CorrelationID, r.Version >= 9))
	})
	return outcome{msg: m}, nil
}
