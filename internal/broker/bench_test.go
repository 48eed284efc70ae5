package broker

import (
	"context"
	"encoding/binary"
	"io"
	"net"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// benchBatch is a record batch of about n bytes.
func benchBatch(n int) []byte {
	var recs []record.Record
	value := make([]byte, 200)
	for range max(n/210, 1) {
		recs = append(recs, record.Record{Timestamp: time.Now().UnixMilli(), Value: value})
	}
	h := record.Header{ProducerID: record.NoProducerID, ProducerEpoch: -1, BaseSequence: -1}
	return record.Append(nil, h, recs...)
}

func produceFrame(topic string, batch []byte) []byte {
	req := kmsg.NewPtrProduceRequest()
	req.Version, req.Acks, req.TimeoutMillis = 9, -1, 1000
	rt := kmsg.NewProduceRequestTopic()
	rt.Topic = topic
	rp := kmsg.NewProduceRequestTopicPartition()
	rp.Records = batch
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return frame(0, 9, 1, true, req.AppendTo(nil))
}

func benchBroker(b *testing.B) (*Broker, net.Conn) {
	b.Helper()
	br, err := Start(context.Background(), Config{Listen: "127.0.0.1:0", DataDir: b.TempDir(), MaxDisk: 2 << 30})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { br.Close(context.Background()) })
	if _, _, err := br.topics.create(context.Background(), createRequest{name: "bench", partitions: 1}); err != nil {
		b.Fatal(err)
	}
	c, err := net.Dial("tcp", br.Addr())
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { c.Close() })
	return br, c
}

// BenchmarkProduce sends requests with one batch each, up to 8 in flight.
func BenchmarkProduce(b *testing.B) {
	for _, size := range []int{16 << 10, 512 << 10} {
		b.Run(sizeText(int64(size)), func(b *testing.B) {
			_, c := benchBroker(b)
			f := produceFrame("bench", benchBatch(size))
			b.SetBytes(int64(len(f)))
			b.ReportAllocs()
			b.ResetTimer()
			slots := make(chan struct{}, 8)
			done := make(chan error, 1)
			go func() {
				for range b.N {
					if err := skipFrame(c); err != nil {
						done <- err
						return
					}
					<-slots
				}
				done <- nil
			}()
			for range b.N {
				slots <- struct{}{}
				if _, err := c.Write(f); err != nil {
					b.Fatal(err)
				}
			}
			if err := <-done; err != nil {
				b.Fatal(err)
			}
		})
	}
}

// BenchmarkFetch reads a log of 64 MiB again and again in responses of 1 MiB.
func BenchmarkFetch(b *testing.B) {
	br, c := benchBroker(b)
	f := produceFrame("bench", benchBatch(64<<10))
	for range 1000 {
		if _, err := c.Write(f); err != nil {
			b.Fatal(err)
		}
		if err := skipFrame(c); err != nil {
			b.Fatal(err)
		}
	}
	high := br.topics.byName("bench").part(0).Offsets().High
	req := kmsg.NewPtrFetchRequest()
	req.Version, req.MaxBytes, req.SessionEpoch = 11, 1<<20, -1
	rt := kmsg.NewFetchRequestTopic()
	rt.Topic = "bench"
	rp := kmsg.NewFetchRequestTopicPartition()
	rp.PartitionMaxBytes = 1 << 20
	rt.Partitions = append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	b.SetBytes(1 << 20)
	b.ReportAllocs()
	b.ResetTimer()
	for i := range b.N {
		req.Topics[0].Partitions[0].FetchOffset = int64(i) * 5000 % (high - 6000)
		if _, err := c.Write(frame(1, 11, 1, false, req.AppendTo(nil))); err != nil {
			b.Fatal(err)
		}
		if err := skipFrame(c); err != nil {
			b.Fatal(err)
		}
	}
}

func skipFrame(c net.Conn) error {
	var size [4]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	_, err := io.CopyN(io.Discard, c, int64(binary.BigEndian.Uint32(size[:])))
	return err
}
