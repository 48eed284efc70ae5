package e2e

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/sluice-data/sluice/internal/broker/record"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// peak is the most memory that a process has had resident, in MiB.
func (p *proc) peak() int {
	p.t.Helper()
	b, err := os.ReadFile("/proc/" + strconv.Itoa(p.cmd.Process.Pid) + "/status")
	if errors.Is(err, os.ErrNotExist) {
		p.t.Skip("NOT CHECKED: the memory of a process is read from /proc")
	}
	for line := range strings.Lines(string(b)) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmHWM:" {
			kib, err := strconv.Atoi(f[1])
			if err != nil {
				p.t.Fatal(err)
			}
			return kib >> 10
		}
	}
	p.t.Fatal("no VmHWM")
	return 0
}

// request frames a request without a client id.
func request(req kmsg.Request) []byte {
	b := binary.BigEndian.AppendUint16(make([]byte, 4), uint16(req.Key()))
	b = binary.BigEndian.AppendUint16(b, uint16(req.GetVersion()))
	b = append(b, 0, 0, 0, 1, 0xff, 0xff)
	if req.IsFlexible() {
		b = append(b, 0)
	}
	b = req.AppendTo(b)
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	return b
}

// bomb is a compressed batch that is far larger than it seems, and what the broker answers to it.
type bomb struct {
	name  string
	batch []byte
	code  int16
}

// bombs are compressed batches of one record each that is very large.
func bombs(t *testing.T) (out []bomb) {
	t.Helper()
	const size = 150 << 20
	// begin begins a record of n bytes.
	begin := func(n int64) []byte {
		head := []byte{0, 0, 0, 1} // attributes, times, no key
		head = binary.AppendVarint(head, n)
		return append(binary.AppendVarint(nil, int64(len(head))+n+1), head...)
	}
	add := func(name string, codec record.Codec, b []byte, code int16) {
		// A second record is claimed, so that whoever checks has to go through the first.
		record.Put(b, record.Header{Attributes: int16(codec), LastOffsetDelta: 1, Count: 2, BaseTimestamp: 1000, MaxTimestamp: 5000,
			ProducerID: -1, ProducerEpoch: -1, BaseSequence: -1})
		out = append(out, bomb{name, b, code})
	}
	header := func() []byte { return make([]byte, record.HeaderSize) }
	// Snappy makes at best 1 byte of 21, so below max.message.bytes it can only lie.
	full := append(begin(18<<20), make([]byte, 18<<20+1)...)
	add("snappy", record.Snappy, append(header(), s2.EncodeSnappy(nil, full)...), kerr.InvalidRecord.Code)
	lie := make([]byte, 900_000)
	add("snappy, claims 50 MiB", record.Snappy, append(binary.AppendUvarint(header(), 50<<20), lie...), kerr.MessageTooLarge.Code)
	add("snappy, claims 2 GiB", record.Snappy, append(binary.AppendUvarint(header(), 1<<31), lie...), kerr.InvalidRecord.Code)
	for codec, open := range map[record.Codec]func(io.Writer) (io.WriteCloser, error){
		record.Gzip: func(w io.Writer) (io.WriteCloser, error) { return gzip.NewWriter(w), nil },
		record.LZ4:  func(w io.Writer) (io.WriteCloser, error) { return lz4.NewWriter(w), nil },
		record.Zstd: func(w io.Writer) (io.WriteCloser, error) { return zstd.NewWriter(w, zstd.WithEncoderConcurrency(1)) },
	} {
		buf := bytes.NewBuffer(header())
		w, err := open(buf)
		if err != nil {
			t.Fatal(err)
		}
		zeros := make([]byte, 1<<20)
		_, err = w.Write(begin(size))
		for n := 0; n < size && err == nil; n += len(zeros) {
			_, err = w.Write(zeros)
		}
		if err == nil {
			_, err = w.Write([]byte{0}) // no headers
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		add(fmt.Sprintf("codec %d", codec), codec, buf.Bytes(), kerr.MessageTooLarge.Code)
	}
	return out
}

// TestHostileClients has clients that mean harm, and more of them than any
// machine is used to, against the real binary: it goes on serving others, and
// its memory stays bounded.
func TestHostileClients(t *testing.T) {
	const idle = 10_000
	var lim syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &lim); err != nil {
		t.Fatal(err)
	}
	if lim.Max < idle+2000 {
		t.Skipf("NOT CHECKED: %d connections, the limit of open files is %d", idle, lim.Max)
	}
	p := start(t, "sluice", "broker", "--data", t.TempDir(), "--listen", "127.0.0.1:0", "--max-connections", "12000", "--max-disk", "none")
	addr := p.find(`listening on (\S+),`)
	cl, err := kgo.NewClient(kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.DefaultProduceTopic("h"), kgo.ProducerBatchCompression(kgo.NoCompression()))
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	serves := func(after string) {
		t.Helper()
		if err := cl.ProduceSync(t.Context(), kgo.SliceRecord(make([]byte, 500_000))).FirstErr(); err != nil {
			t.Fatalf("after %s: %v", after, err)
		}
		t.Logf("after %s: at most %d MiB resident", after, p.peak())
	}
	dial := func() net.Conn {
		t.Helper()
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { c.Close() })
		return c
	}
	for range 60 { // 30 MB to be fetched
		if err := cl.ProduceSync(t.Context(), kgo.SliceRecord(make([]byte, 500_000))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	serves("the start")
	first := p.peak()

	for i := range idle {
		c := dial()
		if i%2 == 0 {
			if _, err := c.Write([]byte{0, 0, 0}[:1+i%3]); err != nil {
				t.Fatal(err)
			}
		}
	}
	serves("10,000 idle connections, half of them in the middle of a request")
	if grown := p.peak() - first; grown > 250 {
		t.Errorf("%d MiB for %d idle connections", grown, idle)
	}
	first = p.peak()

	rng := rand.New(rand.NewPCG(1, 1))
	for i := range 300 {
		b := make([]byte, 14+rng.IntN(3000))
		for j := range b {
			b[j] = byte(rng.Uint32())
		}
		switch i % 3 {
		case 0:
			binary.BigEndian.PutUint32(b, 0x7fffffff) // 2 GiB
		case 1: // a Produce of 100 MB of which no more comes
			copy(b, []byte{5, 0xf5, 0xe1, 0, 0, 0, 0, 9})
		case 2: // of a known API, cut short or not
			binary.BigEndian.PutUint32(b, uint32(len(b)-4+rng.IntN(2)))
			binary.BigEndian.PutUint16(b[4:], uint16(rng.IntN(76)))
			binary.BigEndian.PutUint16(b[6:], uint16(rng.IntN(14)))
		}
		if _, err := dial().Write(b); err != nil {
			t.Logf("frame %d: %v", i, err) // it may close before it has all
		}
	}
	serves("300 senseless requests")

	old := &kgo.Record{Topic: "bombs", Value: []byte("x"), Timestamp: time.UnixMilli(1)}
	if err := cl.ProduceSync(t.Context(), old).FirstErr(); err != nil {
		t.Fatal(err)
	}
	for _, bomb := range bombs(t) {
		req := kmsg.NewPtrProduceRequest()
		req.Version, req.Acks, req.TimeoutMillis = 3, -1, 10_000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "bombs", Partitions: []kmsg.ProduceRequestTopicPartition{{Records: bomb.batch}}}}
		lo := kmsg.NewPtrListOffsetsRequest()
		lo.Version, lo.ReplicaID = 1, -1
		lt, lp := kmsg.NewListOffsetsRequestTopic(), kmsg.NewListOffsetsRequestTopicPartition()
		lp.Timestamp = 4000
		lt.Topic, lt.Partitions = "bombs", append(lt.Partitions, lp)
		lo.Topics = append(lo.Topics, lt)
		for range 10 { // many at a time, which do not wait for the answer
			if _, err := dial().Write(request(req)); err != nil {
				t.Fatal(err)
			}
		}
		c := dial()
		for _, r := range []kmsg.Request{req, lo} {
			if _, err := c.Write(request(r)); err != nil {
				t.Fatal(err)
			}
			var size [4]byte
			if _, err := io.ReadFull(c, size[:]); err != nil {
				t.Fatalf("%s, %s: %v", bomb.name, kmsg.NameForKey(r.Key()), err)
			}
			body := make([]byte, binary.BigEndian.Uint32(size[:]))
			if _, err := io.ReadFull(c, body); err != nil {
				t.Fatal(err)
			}
			resp := r.ResponseKind()
			resp.SetVersion(r.GetVersion())
			if err := resp.ReadFrom(body[4:]); err != nil {
				t.Fatal(err)
			}
			code, want := int16(-1), int16(0)
			switch resp := resp.(type) {
			case *kmsg.ProduceResponse:
				code, want = resp.Topics[0].Partitions[0].ErrorCode, bomb.code
			case *kmsg.ListOffsetsResponse:
				code = resp.Topics[0].Partitions[0].ErrorCode
			}
			if code != want {
				t.Errorf("%s, %s: error %d, want %d", bomb.name, kmsg.NameForKey(r.Key()), code, want)
			}
		}
	}
	serves("compressed batches of 150 MiB each")

	fetch := kmsg.NewPtrFetchRequest()
	fetch.Version, fetch.ReplicaID, fetch.MaxBytes, fetch.MinBytes = 4, -1, 50<<20, 1
	ft, fp := kmsg.NewFetchRequestTopic(), kmsg.NewFetchRequestTopicPartition()
	fp.PartitionMaxBytes = 50 << 20
	ft.Topic, ft.Partitions = "h", append(ft.Partitions, fp)
	fetch.Topics = append(fetch.Topics, ft)
	slow := bytes.Repeat(request(fetch), 16)
	var readers []net.Conn
	for range 300 { // 300 times 16 answers of 30 MB that nobody takes
		c := dial()
		readers = append(readers, c)
		if _, err := c.Write(slow); err != nil {
			t.Fatal(err)
		}
	}
	for i, c := range readers { // each is being answered now
		if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
			t.Fatalf("reader %d: %v", i, err)
		}
	}
	serves("300 readers that do not read")
	if grown := p.peak() - first; grown > 300 {
		t.Errorf("%d MiB more after all of it", grown)
	}
	if s := p.stderr(); strings.Contains(s, "panic") {
		t.Errorf("a panic: %s", s)
	}
}
