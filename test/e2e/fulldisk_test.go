package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestFullDisk fills the file system under a broker: an idempotent producer's
// records wait, consumers go on, a group's commits are refused with an error
// that can be retried, and when there is space again everything goes on by
// itself, nothing lost, nothing doubled.
func TestFullDisk(t *testing.T) {
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, "size=32m"); err != nil {
		t.Skipf("NOT CHECKED: a full disk needs a small file system, and mounting one failed: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	p := start(t, "sluice", "broker", "--data", filepath.Join(dir, "data"), "--listen", "127.0.0.1:0", "--max-disk", "none", "--min-free-disk", "none")
	addr := p.find(`listening on (\S+),`)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(addr), kgo.AllowAutoTopicCreation(), kgo.ConsumeTopics("full"),
			kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.DefaultProduceTopic("full"), kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.RetryBackoffFn(func(int) time.Duration { return 50 * time.Millisecond }))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	cl := client()
	const before, all = 50, 150
	value := func(i int) []byte { return fmt.Appendf(make([]byte, 0, 50_000), "%049999d", i) }
	for i := range before {
		if err := cl.ProduceSync(ctx, kgo.SliceRecord(value(i))).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	adm := kadm.NewClient(cl)
	commit := func(at int64) error {
		var o kadm.Offsets
		o.Add(kadm.Offset{Topic: "full", At: at, LeaderEpoch: -1})
		return adm.CommitAllOffsets(ctx, "g", o)
	}
	committed := func(when string, want int64) {
		t.Helper()
		o, err := adm.FetchOffsets(ctx, "g")
		if err != nil || o["full"][0].At != want {
			t.Errorf("%s: committed is %d (%v), want %d", when, o["full"][0].At, err, want)
		}
	}
	if err := commit(1); err != nil {
		t.Fatal(err)
	}
	filler := filepath.Join(dir, "filler")
	f, err := os.Create(filler)
	if err != nil {
		t.Fatal(err)
	}
	for size := 1 << 20; size > 0; {
		if _, err := f.Write(make([]byte, size)); err != nil {
			size /= 2
		}
	}
	f.Close()
	failed := make(chan error, all)
	for i := before; i < all; i++ {
		cl.Produce(ctx, kgo.SliceRecord(value(i)), func(_ *kgo.Record, err error) { failed <- err })
	}
	p.find(`(no space left on device)`)
	// What a producer is told meanwhile can be retried.
	req := kmsg.NewPtrMetadataRequest()
	if _, err := req.RequestWith(ctx, cl); err != nil {
		t.Errorf("metadata on a full disk: %v", err)
	}
	plain := client(kgo.DisableIdempotentWrite(), kgo.RecordRetries(0))
	if err := plain.ProduceSync(ctx, kgo.SliceRecord(value(0))).FirstErr(); err == nil || !kerr.IsRetriable(err) {
		t.Errorf("produce on a full disk: %v", err)
	}
	// tmpfs gives a file whole pages, so what is left of the group log's last one is used up first.
	last := int64(1)
	for err = commit(2); err == nil && last < 1000; err = commit(last + 1) {
		last++
	}
	if !kerr.IsRetriable(err) {
		t.Errorf("commit on a full disk: %v after %d that went well", err, last)
	}
	committed("on a full disk", last)
	read := func(n int) {
		t.Helper()
		cons := client()
		for i := 0; i < n; {
			fs := cons.PollFetches(ctx)
			if err := fs.Err(); err != nil {
				t.Fatalf("after %d records: %v", i, err)
			}
			for _, r := range fs.Records() {
				if i < n && string(r.Value) != string(value(i)) {
					t.Fatalf("record %d is %.60s...", i, r.Value[49_900:])
				}
				i++
			}
		}
	}
	read(before)
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	for range all - before {
		if err := <-failed; err != nil {
			t.Fatalf("a record was given up: %v", err)
		}
	}
	read(all)
	if err := commit(5000); err != nil {
		t.Errorf("commit with space again: %v", err)
	}
	committed("with space again", 5000)
	if code := p.term(); code != 0 {
		t.Errorf("exit code %d", code)
	}
}
