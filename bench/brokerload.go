package main

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math/rand/v2"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// The load generator speaks Produce and Fetch over plain sockets with record
// batches that are made once, so that it costs little beside the broker and
// costs the same whoever the broker is. It sends what Apache Kafka's producer
// sends: one batch of up to batch.size bytes in a request, idempotent (so
// sequence, time and CRC change from batch to batch), acks=all, five requests
// in flight.

const (
	maxRequest     = 1 << 20 // max.request.size
	inFlight       = 5       // max.in.flight.requests.per.connection
	clientID       = "bench"
	produceVersion = 12
	fetchVersion   = 12
	ioTimeout      = 60 * time.Second
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// shape is what is in a batch.
type shape struct {
	Record int    `json:"record_bytes"` // value
	Batch  int    `json:"batch_bytes"`  // uncompressed, at most (but one record at least), as batch.size
	Codec  string `json:"codec"`        // none, lz4 or zstd
}

// template is a batch to send again and again.
type template struct {
	batch   []byte
	records int
	payload int64 // bytes of the records' values
}

// Positions in a batch, see docs/segment-log.md.
const (
	atLength   = 8
	atCRC      = 17
	atAttr     = 21
	atLastOff  = 23
	atBaseTime = 27
	atMaxTime  = 35
	atProducer = 43
	atEpoch    = 51
	atSequence = 53
	batchHead  = 61
)

func newTemplate(s shape) (template, error) {
	// Log lines rather than noise or zeros: half of it compresses.
	rng := rand.New(rand.NewPCG(1, 2))
	n := max(s.Batch/(s.Record+12), 1)
	recs := make([]record.Record, n)
	for i := range recs {
		v := make([]byte, s.Record)
		for j := range v {
			if j/16%2 == 0 {
				v[j] = "abcdefghijklmnop"[j%16]
			} else {
				v[j] = byte(' ' + rng.IntN(90))
			}
		}
		recs[i] = record.Record{Timestamp: 1, Value: v}
	}
	h := record.Header{ProducerID: record.NoProducerID, ProducerEpoch: record.NoProducerEpoch, BaseSequence: record.NoSequence}
	b := record.Append(nil, h, recs...)
	t := template{batch: b, records: n, payload: int64(n * s.Record)}
	if s.Codec == "none" || s.Codec == "" {
		return t, nil
	}
	var body bytes.Buffer
	var w io.WriteCloser
	var err error
	codec := record.LZ4
	if s.Codec == "zstd" {
		codec = record.Zstd
		w, err = zstd.NewWriter(&body, zstd.WithEncoderLevel(zstd.SpeedFastest))
	} else {
		w = lz4.NewWriter(&body)
	}
	if err == nil {
		_, err = w.Write(b[batchHead:])
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return t, fmt.Errorf("compress a batch: %w", err)
	}
	hd, err := record.ParseHeader(b)
	if err != nil {
		return t, fmt.Errorf("make a batch: %w", err)
	}
	hd.Attributes |= int16(codec)
	t.batch = append(b[:batchHead:batchHead], body.Bytes()...)
	record.Put(t.batch, hd)
	return t, nil
}

// stamp makes the batch the next one of a producer.
func (t *template) stamp(batch []byte, pid int64, epoch int16, seq int32, now int64) {
	be := binary.BigEndian
	be.PutUint64(batch[atBaseTime:], uint64(now))
	be.PutUint64(batch[atMaxTime:], uint64(now))
	be.PutUint64(batch[atProducer:], uint64(pid))
	be.PutUint16(batch[atEpoch:], uint16(epoch))
	be.PutUint32(batch[atSequence:], uint32(seq))
	be.PutUint32(batch[atCRC:], crc32.Checksum(batch[atAttr:], castagnoli))
}

// inRequest is how many batches fit into a request, one for each partition.
func (t *template) inRequest(parts int) int {
	return max(1, min(parts, maxRequest/len(t.batch)))
}

// kconn is a connection that takes one request at a time from kmsg, or frames
// that the caller made.
type kconn struct {
	net.Conn
	buf  []byte // received
	r, w int
	corr int32
}

func dialBroker(ctx context.Context, addr string) (*kconn, error) {
	var d net.Dialer
	nc, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("connect to the broker: %w", err)
	}
	return &kconn{Conn: nc, buf: make([]byte, 64<<10)}, nil
}

// frame returns the next response without its length prefix. It is valid until
// the next call.
func (c *kconn) frame() ([]byte, error) {
	for {
		if c.w-c.r >= 4 {
			n := int(binary.BigEndian.Uint32(c.buf[c.r:]))
			if n < 4 || n > 256<<20 {
				return nil, fmt.Errorf("a response of %d bytes", n)
			}
			if c.w-c.r >= 4+n {
				f := c.buf[c.r+4 : c.r+4+n]
				c.r += 4 + n
				return f, nil
			}
			if 4+n > len(c.buf) {
				b := make([]byte, 4+n+4096)
				c.w = copy(b, c.buf[c.r:c.w])
				c.buf, c.r = b, 0
			}
		}
		if c.r > 0 {
			c.w = copy(c.buf, c.buf[c.r:c.w])
			c.r = 0
		}
		n, err := c.Read(c.buf[c.w:])
		if err != nil {
			return nil, fmt.Errorf("read response: %w", err)
		}
		c.w += n
	}
}

// appendRequest appends a request's frame.
func (c *kconn) appendRequest(dst []byte, req kmsg.Request) []byte {
	c.corr++
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	be := binary.BigEndian
	dst = be.AppendUint16(dst, uint16(req.Key()))
	dst = be.AppendUint16(dst, uint16(req.GetVersion()))
	dst = be.AppendUint32(dst, uint32(c.corr))
	dst = be.AppendUint16(dst, uint16(len(clientID)))
	dst = append(dst, clientID...)
	if req.IsFlexible() {
		dst = append(dst, 0)
	}
	dst = req.AppendTo(dst)
	be.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// ask sends one request and decodes its answer.
func (c *kconn) ask(req kmsg.Request) (kmsg.Response, error) {
	c.SetDeadline(time.Now().Add(ioTimeout))
	if _, err := c.Write(c.appendRequest(nil, req)); err != nil {
		return nil, fmt.Errorf("send %s: %w", kmsg.NameForKey(req.Key()), err)
	}
	f, err := c.frame()
	if err != nil {
		return nil, fmt.Errorf("%s: %w", kmsg.NameForKey(req.Key()), err)
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	head := 4
	if resp.IsFlexible() && req.Key() != 18 {
		head++
	}
	if err := resp.ReadFrom(f[head:]); err != nil {
		return nil, fmt.Errorf("decode the answer to %s: %w", kmsg.NameForKey(req.Key()), err)
	}
	return resp, nil
}

func (c *kconn) initProducer() (int64, int16, error) {
	req := kmsg.NewPtrInitProducerIDRequest()
	req.Version = 4
	for {
		r, err := c.ask(req)
		if err != nil {
			return 0, 0, err
		}
		resp := r.(*kmsg.InitProducerIDResponse)
		if kerr.IsRetriable(kerr.ErrorForCode(resp.ErrorCode)) {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		return resp.ProducerID, resp.ProducerEpoch, kerr.ErrorForCode(resp.ErrorCode)
	}
}

// producer sends batches of one template over one connection.
type producer struct {
	*kconn
	t      template
	topic  string
	parts  int
	pid    int64
	epoch  int16
	seqs   []int32 // next sequence by partition
	next   int     // partition of the next batch
	each   int     // batches in a request, each for another partition
	out    []byte
	answer kmsg.ProduceResponse
	acked  int64 // records
}

func newProducer(ctx context.Context, addr, topic string, parts int, t template) (*producer, error) {
	c, err := dialBroker(ctx, addr)
	if err != nil {
		return nil, err
	}
	p := &producer{kconn: c, t: t, topic: topic, parts: parts, seqs: make([]int32, parts), each: t.inRequest(parts)}
	if p.pid, p.epoch, err = c.initProducer(); err != nil {
		c.Close()
		return nil, fmt.Errorf("get a producer id: %w", err)
	}
	p.t.batch = slices.Clone(t.batch)
	p.answer.Version = produceVersion
	return p, nil
}

// send writes the next request: batches of them, each for the next partition.
// Apache Kafka's producer sends in one request what is ready for all partitions
// of a broker, one batch each, up to max.request.size.
func (p *producer) send(batches int) error {
	be := binary.BigEndian
	p.corr++
	b := append(p.out[:0], 0, 0, 0, 0, 0, 0, 0, produceVersion)
	b = be.AppendUint32(b, uint32(p.corr))
	b = be.AppendUint16(b, uint16(len(clientID)))
	b = append(b, clientID...)
	b = append(b, 0, 0)                 // no tags; null transactional id
	b = append(b, 0xff, 0xff)           // acks
	b = append(b, 0, 0, 0x75, 0x30)     // timeout 30 s
	b = append(b, 2)                    // one topic
	b = append(b, byte(len(p.topic)+1)) // its name
	b = append(b, p.topic...)
	b = binary.AppendUvarint(b, uint64(batches+1))
	now := time.Now().UnixMilli()
	for range batches {
		part := p.next
		if p.next++; p.next == p.parts {
			p.next = 0
		}
		b = be.AppendUint32(b, uint32(part))
		b = binary.AppendUvarint(b, uint64(len(p.t.batch)+1))
		b = append(b, p.t.batch...)
		p.t.stamp(b[len(b)-len(p.t.batch):], p.pid, p.epoch, p.seqs[part], now)
		p.seqs[part] = (p.seqs[part] + int32(p.t.records)) & 0x7fffffff
		b = append(b, 0)
	}
	b = append(b, 0, 0)
	be.PutUint32(b, uint32(len(b)-4))
	p.out = b
	_, err := p.Write(b)
	return err
}

// receive takes one answer.
func (p *producer) receive() error {
	f, err := p.frame()
	if err != nil {
		return err
	}
	if err := p.answer.ReadFrom(f[5:]); err != nil {
		return fmt.Errorf("decode produce response: %w", err)
	}
	for i := range p.answer.Topics[0].Partitions {
		rp := &p.answer.Topics[0].Partitions[i]
		if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
			return fmt.Errorf("produce: partition %d: %w", rp.Partition, err)
		}
		p.acked += int64(p.t.records)
	}
	return nil
}

// run produces until so many payload bytes are acknowledged.
func (p *producer) run(ctx context.Context, payload int64) error {
	stop := context.AfterFunc(ctx, func() { p.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	p.SetDeadline(time.Now().Add(10 * time.Minute))
	n := (payload + p.t.payload - 1) / p.t.payload
	open := 0
	for sent := int64(0); sent < n || open > 0; {
		for open < inFlight && sent < n {
			batches := min(int64(p.each), n-sent)
			if err := p.send(int(batches)); err != nil {
				return fmt.Errorf("send produce request: %w", err)
			}
			open++
			sent += batches
		}
		if err := p.receive(); err != nil {
			return err
		}
		open--
	}
	return nil
}

// produceAll spreads the payload over several producers.
func produceAll(ctx context.Context, addr, topic string, parts, conns int, t template, payload int64) (records int64, err error) {
	var wg sync.WaitGroup
	errs := make([]error, conns)
	ps := make([]*producer, conns)
	for i := range conns {
		if ps[i], err = newProducer(ctx, addr, topic, parts, t); err != nil {
			return 0, err
		}
		defer ps[i].Close()
		ps[i].next = i * parts / conns
	}
	for i := range conns {
		wg.Go(func() { errs[i] = ps[i].run(ctx, payload/int64(conns)) })
	}
	wg.Wait()
	for _, p := range ps {
		records += p.acked
	}
	return records, errors.Join(errs...)
}

// paced sends rate requests a second for a time and returns how long each
// waited for its answer. Requests are sent when their time has come whether or
// not earlier ones are answered.
func (p *producer) paced(ctx context.Context, rate int, d time.Duration, stamp func(batch []byte, now time.Time)) ([]time.Duration, error) {
	stop := context.AfterFunc(ctx, func() { p.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	p.SetDeadline(time.Now().Add(d + ioTimeout))
	n := int(d.Seconds() * float64(rate))
	sentAt := make(chan time.Time, n) // never blocks
	lat := make([]time.Duration, 0, n)
	errc := make(chan error, 1)
	go func() {
		for range n {
			if err := p.receive(); err != nil {
				errc <- err
				return
			}
			lat = append(lat, time.Since(<-sentAt))
		}
		errc <- nil
	}()
	start := time.Now()
	step := time.Second / time.Duration(rate)
	for i := range n {
		time.Sleep(time.Until(start.Add(time.Duration(i) * step)))
		now := time.Now()
		if stamp != nil {
			stamp(p.t.batch, now)
		}
		sentAt <- now
		if err := p.send(1); err != nil {
			p.SetDeadline(time.Unix(1, 0))
			return nil, errors.Join(fmt.Errorf("send produce request: %w", err), <-errc)
		}
	}
	return lat, <-errc
}

// consumer reads one partition of a topic over one connection, in a session as
// Apache Kafka's consumer does.
type consumer struct {
	*kconn
	req    *kmsg.FetchRequest
	offset int64
	out    []byte
	seen   func(batch []byte, now time.Time) // may be nil
	bytes  int64                             // of batches
}

// newConsumer has Apache Kafka's defaults: 1 MiB a partition, 50 MB a fetch,
// 500 ms of waiting for one byte.
func newConsumer(ctx context.Context, addr, topic string, part int32, from int64) (*consumer, error) {
	c, err := dialBroker(ctx, addr)
	if err != nil {
		return nil, err
	}
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxWaitMillis, req.MinBytes, req.MaxBytes = fetchVersion, 500, 1, 50<<20
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.Partition, rp.PartitionMaxBytes, rp.CurrentLeaderEpoch = part, 1<<20, -1
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return &consumer{kconn: c, req: req, offset: from}, nil
}

// fetch makes one request and takes its records.
func (c *consumer) fetch() error {
	c.req.Topics[0].Partitions[0].FetchOffset = c.offset
	c.out = c.appendRequest(c.out[:0], c.req)
	if _, err := c.Write(c.out); err != nil {
		return fmt.Errorf("send fetch: %w", err)
	}
	f, err := c.frame()
	if err != nil {
		return err
	}
	now := time.Now()
	resp := kmsg.FetchResponse{Version: fetchVersion}
	if err := resp.ReadFrom(f[5:]); err != nil {
		return fmt.Errorf("decode fetch response: %w", err)
	}
	if err := kerr.ErrorForCode(resp.ErrorCode); err != nil {
		return fmt.Errorf("fetch: %w", err)
	}
	c.req.SessionID = resp.SessionID
	if resp.SessionID != 0 {
		c.req.SessionEpoch++
	}
	for i := range resp.Topics {
		for j := range resp.Topics[i].Partitions {
			rp := &resp.Topics[i].Partitions[j]
			if err := kerr.ErrorForCode(rp.ErrorCode); err != nil {
				return fmt.Errorf("fetch: %w", err)
			}
			if err := c.take(rp.RecordBatches, now); err != nil {
				return err
			}
		}
	}
	return nil
}

// take walks the batches and checks that no record is missing. A batch that is
// cut short at the end comes again with the next fetch.
func (c *consumer) take(b []byte, now time.Time) error {
	be := binary.BigEndian
	for len(b) >= batchHead {
		n := 12 + int(be.Uint32(b[atLength:]))
		if len(b) < n {
			return nil
		}
		base := int64(be.Uint64(b))
		if base != c.offset {
			return fmt.Errorf("fetch: batch at offset %d, want %d", base, c.offset)
		}
		c.offset = base + int64(be.Uint32(b[atLastOff:])) + 1
		c.bytes += int64(n)
		if c.seen != nil {
			c.seen(b[:n], now)
		}
		b = b[n:]
	}
	return nil
}

// until reads up to offset end.
func (c *consumer) until(ctx context.Context, end int64) error {
	stop := context.AfterFunc(ctx, func() { c.SetDeadline(time.Unix(1, 0)) })
	defer stop()
	c.SetDeadline(time.Now().Add(10 * time.Minute))
	for c.offset < end {
		if err := c.fetch(); err != nil {
			return err
		}
	}
	return nil
}

// consumeAll has conns consumers read partition 0 between two offsets, each
// times times.
func consumeAll(ctx context.Context, addr, topic string, conns, times int, from, end int64) (size int64, err error) {
	var wg sync.WaitGroup
	errs := make([]error, conns)
	cs := make([]*consumer, conns)
	for i := range conns {
		if cs[i], err = newConsumer(ctx, addr, topic, 0, from); err != nil {
			return 0, err
		}
		defer cs[i].Close()
	}
	for i := range conns {
		wg.Go(func() {
			for range times {
				cs[i].offset = from
				if errs[i] = cs[i].until(ctx, end); errs[i] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	for _, c := range cs {
		size += c.bytes
	}
	return size, errors.Join(errs...)
}

// quantile of sorted durations, in milliseconds.
func quantile(sorted []time.Duration, q float64) float64 {
	if len(sorted) == 0 {
		return 0
	}
	return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]) / 1e6
}
