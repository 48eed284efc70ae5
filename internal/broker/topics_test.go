package broker

import (
	"bytes"
	"fmt"
	"os"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestTopicCanBeDeletedOnAFullDisk: deleting a topic writes a file, and the
// topic may be what leaves no space for it.
func TestTopicCanBeDeletedOnAFullDisk(t *testing.T) {
	b := startBroker(t, nil)
	cl := client(t, b)
	produce(t, cl, "fills-it", "x", "y")
	produce(t, cl, "stays", "z")
	part := b.topics.byName("fills-it").part(0)
	full := &os.PathError{Op: "write", Path: topicsFile, Err: syscall.ENOSPC}
	tries := 0
	b.topics.write = func(fsys vfs.FS, name string, v any) error {
		if tries++; part.Size() > 0 {
			return fmt.Errorf("write broker state: %w", full)
		}
		return writeJSON(fsys, name, v)
	}
	adm := kadm.NewClient(cl)
	if _, err := adm.DeleteTopic(ctxOf(t), "fills-it"); err != nil {
		t.Fatal(err)
	}
	if b.topics.byName("fills-it") != nil || tries < 2 {
		t.Fatalf("the topic is still there after %d writes", tries)
	}
	// No space comes of it, because somebody else fills the disk: an error, and the topic stays.
	b.topics.write = func(vfs.FS, string, any) error { return full }
	if _, err := adm.DeleteTopic(ctxOf(t), "stays"); err == nil || b.topics.byName("stays") == nil {
		t.Fatalf("%v: want an error", err)
	}
	b.topics.write = writeJSON
}

// TestCloseOfManyPartitions: they are closed side by side, and each is.
func TestCloseOfManyPartitions(t *testing.T) {
	dir := t.TempDir()
	b := startBroker(t, func(c *Config) { c.DataDir, c.NumPartitions = dir, 3*closers+1 })
	cl := client(t, b, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for i := range 3*closers + 1 {
		if err := cl.ProduceSync(ctxOf(t), &kgo.Record{Topic: "many", Partition: int32(i), Value: fmt.Append(nil, i)}).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Close(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	for i := range 3*closers + 1 {
		st, err := os.ReadFile(b.dir.partition("many", int32(i)) + "/log-state")
		if err != nil || !bytes.Contains(st, []byte("clean 1 ")) {
			t.Errorf("partition %d: %q %v: want the mark of a clean shutdown", i, st, err)
		}
	}
}
