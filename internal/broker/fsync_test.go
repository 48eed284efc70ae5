package broker

import (
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// badDisk fails the fsync of one partition's segments while it is told to.
type badDisk struct {
	vfs.OS
	part string
	bad  atomic.Bool
}

func (d *badDisk) Open(name string, flag int) (vfs.File, error) {
	f, err := d.OS.Open(name, flag)
	if err != nil || !strings.Contains(name, "/"+d.part+"/") || !strings.HasSuffix(name, ".log") {
		return f, err
	}
	return &badFile{f, d}, nil
}

type badFile struct {
	vfs.File
	disk *badDisk
}

func (f *badFile) Sync() error {
	if f.disk.bad.Load() {
		return syscall.EIO
	}
	return f.File.Sync()
}

// TestFailedFsync: after one the partition takes nothing until the broker is
// started again, however well the next would go; the others do not suffer.
func TestFailedFsync(t *testing.T) {
	disk := &badDisk{part: "f-0"}
	dir := t.TempDir()
	conf := func(c *Config) {
		c.DataDir, c.FS, c.NumPartitions = dir, disk, 2
		c.TopicDefaults = map[string]string{"sluice.sync.acks": "true"}
	}
	// The stop after a failed sync says so: this broker is not startBroker's.
	b, err := Start(t.Context(), func() Config { c := Config{Listen: "127.0.0.1:0", MaxDisk: -1}; conf(&c); return c }())
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close(ctxOf(t))
	cl := client(t, b)
	batchEach(t, cl, "f", 0, "one")
	put := func(part int32) int16 {
		t.Helper()
		req := kmsg.NewPtrProduceRequest()
		req.Acks, req.TimeoutMillis = -1, 1000
		req.Topics = []kmsg.ProduceRequestTopic{{Topic: "f", TopicID: b.topics.byName("f").id,
			Partitions: []kmsg.ProduceRequestTopicPartition{{Partition: part, Records: benchBatch(1)}}}}
		resp, err := req.RequestWith(ctxOf(t), cl.Broker(1))
		if err != nil {
			t.Fatal(err)
		}
		return resp.Topics[0].Partitions[0].ErrorCode
	}
	disk.bad.Store(true)
	if code := put(0); code != kerr.KafkaStorageError.Code {
		t.Errorf("an append whose fsync failed is answered with %d", code)
	}
	disk.bad.Store(false)
	if code := put(0); code != kerr.KafkaStorageError.Code {
		t.Errorf("after a failed fsync an append is answered with %d", code)
	}
	if code := put(1); code != 0 {
		t.Errorf("the other partition answers %d", code)
	}
	if o := b.topics.byName("f").part(0).Offsets(); o.High != 1 {
		t.Errorf("readable after the failure: %+v", o)
	}
	cl.Close()
	if err := b.Close(ctxOf(t)); err == nil {
		t.Error("the stop says nothing of the failed fsync")
	}
	b = startBroker(t, conf)
	cl = client(t, b)
	if code := put(0); code != 0 {
		t.Errorf("after the restart an append is answered with %d", code)
	}
}
