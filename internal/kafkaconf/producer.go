package kafkaconf

import (
	"errors"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/sluice-data/sluice/component"
)

// Producer is the configuration of a producer.
type Producer struct {
	client

	// Acks is "0", "1" or "all".
	Acks string
	// MaxRequest is the largest record or batch in bytes, before compression.
	MaxRequest int
	// Partitioner is "keys" (the hash of the key, else one partition at a
	// time), "sticky" (keys do not count) or "round" (one after the other).
	Partitioner string
	// DeliveryTimeout bounds the time that a batch waits for its
	// acknowledgements. The caller keeps it: the client would count from the
	// records' timestamps, which may be years ago.
	DeliveryTimeout time.Duration
	// TransactionalID is empty without transactions.
	TransactionalID string

	retries         int
	buffer          int64
	compression     string
	gzip, lz4, zstd int
	idempotent      bool
	inFlight        int
	ignoreKeys      bool
	txnTimeout      time.Duration
	classes         [2]string
}

var stringSerializers = map[string]string{"StringSerializer": "bytes", "ByteArraySerializer": "bytes", "BytesSerializer": "bytes", "bytes": "bytes"}

const flushReason = "every batch is sent at once, as Flume flushes after every batch"

// Fields declares the properties below prefix, which ends in a dot.
func (p *Producer) Fields(prefix string) []component.Field {
	fields := p.fields(prefix)
	k := func(s string) string { return prefix + s }
	acks := component.Value(k("acks"), &p.Acks, "enum", "1", func(s string) (string, error) {
		switch s {
		case "0", "1", "all":
			return s, nil
		case "-1":
			return "all", nil
		}
		return "", errors.New("it must be 0, 1, all or -1")
	}).Describe("What must have a batch before it counts as delivered: 0 nobody (a loss is not noticed), 1 the leader, all (or -1) all replicas in sync.")
	acks.Values = []string{"0", "1", "all", "-1"}
	return append(append(fields,
		acks,
		component.Int(k("retries"), &p.retries, 1<<31-1).Min(0).Describe("How often a batch is sent again before it fails, within delivery.timeout.ms. A failed batch is tried again by the agent."),
		ms(k("delivery.timeout.ms"), &p.DeliveryTimeout, 2*time.Minute, 1000).Describe("After this time a batch fails; the agent tries it again."),
		component.Ignore(k("linger.ms"), flushReason),
		component.Ignore(k("batch.size"), flushReason+"; max.request.size is the limit"),
		component.Int(k("max.request.size"), &p.MaxRequest, 1<<20).In("bytes").Min(512).Max(1<<30).Describe("The largest record, and the largest batch of one partition, before compression. Batches that a broker finds too large are sent again in smaller ones."),
		component.Int64(k("buffer.memory"), &p.buffer, 32<<20).In("bytes").Min(0).Max(1<<31-1).Describe("How much of a batch the client takes before some of it must have been sent."),
		component.Ignore(k("max.block.ms"), "a batch waits for room and for the topic until delivery.timeout.ms"),
		component.Enum(k("compression.type"), &p.compression, "none", "none", "gzip", "snappy", "lz4", "zstd").Describe("How batches are compressed."),
		component.Int(k("compression.gzip.level"), &p.gzip, -1).Min(-1).Max(9).Describe("-1: the codec's default."),
		component.Int(k("compression.lz4.level"), &p.lz4, 9).Min(1).Max(17).Describe("9 is the fast mode, as in Kafka's client; the others compress more slowly and better, and above 9 they are the same here."),
		component.Int(k("compression.zstd.level"), &p.zstd, 3).Min(-131072).Max(22).Describe("Levels are mapped to the nearest that the encoder has."),
		component.Bool(k("enable.idempotence"), &p.idempotent, false).Describe("Batches that are sent again are not stored twice. It needs acks = all. A batch that failed after delivery.timeout.ms may still be stored twice."),
		component.Int(k("max.in.flight.requests.per.connection"), &p.inFlight, 1).Min(1).Describe("Kafka's default is 5, with which a batch sent again may come after its successor. With enable.idempotence it is 1, or 5 where the broker keeps the order."),
		class(k("partitioner.class"), &p.Partitioner, "keys", map[string]string{
			"keys": "keys", "DefaultPartitioner": "keys", "UniformStickyPartitioner": "sticky", "RoundRobinPartitioner": "round",
		}, "known are DefaultPartitioner, UniformStickyPartitioner and RoundRobinPartitioner; or set the partition in a header (partitionIdHeader)").
			Describe("How records without a partition get one: by Kafka's hash of the key, and without a key one partition for a whole batch."),
		component.Bool(k("partitioner.ignore.keys"), &p.ignoreKeys, false).Describe("Keys do not decide on the partition."),
		component.Ignore(k("partitioner.adaptive.partitioning.enable"), "every batch picks a partition anew"),
		component.Ignore(k("partitioner.availability.timeout.ms"), "partitions without a leader are passed over at once"),
		component.Ignore(k("metadata.max.idle.ms"), "topics stay known while the component runs"),
		class(k("key.serializer"), &p.classes[0], "bytes", stringSerializers, "keys are the text of the header").Describe("StringSerializer."),
		class(k("value.serializer"), &p.classes[1], "bytes", stringSerializers, "values are the bytes of the event; for Avro see useFlumeEventFormat of the sink, parseAsFlumeEvent of the channel").Describe("ByteArraySerializer."),
		component.String(k("transactional.id"), &p.TransactionalID, "").Describe("Every batch becomes a Kafka transaction, so readers with isolation.level = read_committed see a batch as a whole or not at all. It needs acks = all, and must differ between components."),
		ms(k("transaction.timeout.ms"), &p.txnTimeout, time.Minute, 1).Describe("After this time the broker ends a transaction that nobody commits."),
	), p.unknown())
}

// Options returns the client's options. A *component.KeyError names the
// property that is wrong.
func (p *Producer) Options(env Env) ([]kgo.Opt, error) {
	opts, err := p.options(env)
	if err != nil {
		return nil, err
	}
	fail := func(key string) ([]kgo.Opt, error) {
		return nil, &component.KeyError{Key: p.prefix + key, Err: errors.New("it needs acks = all, and acks is " + p.Acks), Hint: "set " + p.prefix + "acks = all"}
	}
	idempotent := p.idempotent || p.TransactionalID != ""
	if idempotent && p.Acks != "all" {
		if p.TransactionalID != "" {
			return fail("transactional.id")
		}
		return fail("enable.idempotence")
	}
	acks := map[string]kgo.Acks{"0": kgo.NoAck(), "1": kgo.LeaderAck(), "all": kgo.AllISRAcks()}[p.Acks]
	codec := map[string]kgo.CompressionCodec{
		"none": kgo.NoCompression(), "gzip": kgo.GzipCompression().WithLevel(p.gzip), "snappy": kgo.SnappyCompression(),
		"lz4": kgo.Lz4Compression().WithLevel(lz4Level(p.lz4)), "zstd": kgo.ZstdCompression().WithLevel(int(zstd.EncoderLevelFromZstd(p.zstd))),
	}[p.compression]
	opts = append(opts,
		kgo.RequiredAcks(acks),
		kgo.ProducerBatchCompression(codec),
		kgo.RecordRetries(p.retries),
		kgo.ProduceRequestTimeout(p.requestTimeout),
		kgo.ProducerBatchMaxBytes(int32(p.MaxRequest)),
		kgo.BrokerMaxWriteBytes(int32(max(100<<20, min(p.MaxRequest+1<<20, 1<<30)))),
		kgo.AllowAutoTopicCreation(),
		// At 250 ms a try: a topic that a broker is about to make is there
		// by then. The agent tries again after that.
		kgo.UnknownTopicRetries(8),
	)
	if p.buffer > 0 {
		opts = append(opts, kgo.MaxBufferedBytes(int(p.buffer)))
	}
	switch {
	case p.TransactionalID != "":
		opts = append(opts, kgo.TransactionalID(p.TransactionalID), kgo.TransactionTimeout(p.txnTimeout))
	case idempotent:
		// Otherwise a batch in flight when a broker dies could not fail: the
		// channel would wait for ever for its outcome.
		opts = append(opts, kgo.AllowIdempotentProduceCancellation())
	default:
		opts = append(opts, kgo.DisableIdempotentWrite(), kgo.MaxProduceRequestsInflightPerBroker(p.inFlight))
	}
	if p.ignoreKeys && p.Partitioner == "keys" {
		p.Partitioner = "sticky"
	}
	return opts, nil
}

// lz4Level maps Kafka's levels to the library's, where 0 is the fast mode and
// 1<<9 to 1<<17 are the better ones.
func lz4Level(n int) int {
	if n == 9 {
		return 0
	}
	return 1 << (8 + min(n, 9))
}
