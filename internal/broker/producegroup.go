package broker

import (
	"bytes"
	"context"
	"sync"

	"github.com/sluice-data/sluice/internal/broker/partition"
	"github.com/sluice-data/sluice/internal/broker/wire"
)

// produceGroup is Produce requests that arrived together, each with one batch
// for the same partition, as a producer sends them that has several requests
// in flight. They are appended with one write. Everything that is out of the
// ordinary is left to startProduce, one request after the other.
type produceGroup struct {
	reqs    [partition.MaxGroup]wire.ProduceRequest
	corr    [partition.MaxGroup]int32
	batches [partition.MaxGroup][]byte
	results [partition.MaxGroup]partition.Appended
	buf     []byte
}

var produceGroups = sync.Pool{New: func() any { return &produceGroup{buf: make([]byte, 0, inputBuffer)} }}

func (g *produceGroup) put() {
	for i := range g.reqs {
		clear(g.reqs[i].Topics)
		clear(g.reqs[i].Partitions)
		g.batches[i] = nil
	}
	produceGroups.Put(g)
}

// produceTogether takes the requests at the head of what is buffered, if they
// are a group, and puts their answers into c.out. It is false if it took
// nothing. No answer may be due before theirs.
func (c *conn) produceTogether(ctx context.Context) (took bool, err error) {
	if c.b.quotas.any() {
		return false, nil // each is charged on its own
	}
	a := c.b.apis[keyProduce]
	b := c.in.buffered()
	first, second := frameAt(b), []byte(nil)
	if first != nil {
		second = frameAt(b[4+len(first):])
	}
	if second == nil || !isProduce(first, a) || !isProduce(second, a) {
		return false, nil
	}
	began := c.b.metrics.clock()
	g := produceGroups.Get().(*produceGroup)
	defer g.put()
	n, size := 0, 0
	for n < len(g.reqs) {
		f := frameAt(b[size:])
		if f == nil || !isProduce(f, a) || !g.add(n, f, a) {
			break
		}
		n++
		size += 4 + len(f)
	}
	if n < 2 {
		return false, nil
	}
	t, code, _ := c.b.produceTarget(&g.reqs[0], &g.reqs[0].Topics[0])
	if code != nil {
		return false, nil
	}
	part := t.part(g.reqs[0].Partitions[0].Partition)
	if part == nil {
		return false, nil
	}
	if part.AppendGroup(ctx, g.batches[:n], g.buf, g.results[:]) != nil {
		return false, nil // one by one it will show whose fault it is
	}
	c.in.skip(size)
	a.stats.request(g.reqs[0].Version, n)
	for i := range n {
		pp, r := &g.reqs[i].Partitions[0], &g.results[i]
		pp.BaseOffset, pp.LogAppendTime, pp.LogStart = r.Base, r.AppendTime, r.LogStart
		c.b.metrics.produced(t, r.Records, r.Bytes)
		c.b.disk.appended(r.Bytes)
		start := len(c.out)
		c.out = g.reqs[i].AppendResponse(wire.AppendResponseHeader(c.out, g.corr[i], g.reqs[i].Version >= 9))
		wire.PutSize(c.out[start:], len(c.out)-start-4)
		c.b.metrics.sent(int64(len(c.out) - start))
	}
	spent := c.b.metrics.clock() - began
	a.stats.total.add(spent, n)
	a.stats.local.add(spent, n)
	if len(c.out) > maxOut {
		err = c.flush()
	}
	return true, err
}

// frameAt is the whole frame at the head of b without its length, or nil.
func frameAt(b []byte) []byte {
	if len(b) < 4+wire.HeaderPrefix {
		return nil
	}
	size, err := wire.ParseSize(b, inputBuffer)
	if err != nil || len(b) < 4+int(size) {
		return nil
	}
	return b[4 : 4+size]
}

func isProduce(frame []byte, a *api) bool {
	h := wire.ParsePrefix(frame)
	return h.Key == keyProduce && h.Version >= a.min && h.Version <= a.max
}

// add decodes a request as number i of the group and says whether it belongs.
func (g *produceGroup) add(i int, frame []byte, a *api) bool {
	h := wire.ParsePrefix(frame)
	body, err := wire.SkipHeader(frame, h.Version >= a.flexibleFrom)
	if err != nil {
		return false
	}
	p := &g.reqs[i]
	if p.Decode(h.Version, body) != nil || len(p.Topics) != 1 || len(p.Partitions) != 1 ||
		p.Acks != -1 && p.Acks != 1 || p.TransactionalID != nil {
		return false
	}
	if f := &g.reqs[0]; i > 0 && (h.Version != f.Version || !bytes.Equal(p.Topics[0].Name, f.Topics[0].Name) ||
		p.Topics[0].ID != f.Topics[0].ID || p.Partitions[0].Partition != f.Partitions[0].Partition) {
		return false
	}
	g.corr[i], g.batches[i] = h.CorrelationID, p.Partitions[0].Records
	return true
}
