package drills

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	compacted     = "compacted"
	compactedKeys = 300
)

// TestKill9Compacting kills a broker at random moments while it compacts what an idempotent producer writes. The latest
// record of each key must be there, and no older one may come back behind a tombstone that is gone.
func TestKill9Compacting(t *testing.T) {
	for _, p := range []struct {
		name    string
		topics  map[string]string
		forgets bool
	}{
		{name: "os"},
		{name: "sluice.sync.acks, un-synced writes forgotten", topics: map[string]string{"sluice.sync.acks": "true"}, forgets: true},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			settings := map[string]string{"cleanup.policy": "compact", "segment.bytes": "131072", "min.cleanable.dirty.ratio": "0.01", "delete.retention.ms": "1"}
			for k, v := range p.topics {
				settings[k] = v
			}
			d := newDrill(t, settings, p.forgets, false, 5*time.Millisecond)
			defer d.close()
			if _, err := d.adm.CreateTopic(within(t, hang), 1, 1, nil, compacted); err != nil {
				t.Fatal(err)
			}
			k := &keyedDrill{drill: d, last: map[string]int{}}
			for i := range rounds(t) {
				if err := k.round(t); err != nil {
					t.Fatalf("round %d: %v", i+1, err)
				}
			}
			// In the end there is one record of each key, and the segment that is written.
			ctx := within(t, hang)
			for {
				err := k.verify(ctx)
				if err == nil && k.read <= compactedKeys+131072/100 {
					break
				}
				if err != nil && !errors.Is(err, errLost) {
					t.Fatalf("%d of %d records are left: %v", k.read, k.n, err)
				}
				time.Sleep(10 * time.Millisecond)
			}
			t.Logf("%d rounds, %d records, %d are left; %d kills in the middle of a pass", rounds(t), k.n, k.read, k.hits)
		})
	}
}

// keyedDrill writes record n with a random key; every seventh is a tombstone.
type keyedDrill struct {
	*drill
	n    int
	last map[string]int // key → its last record
	read int            // records that the topic had when it was read last
	hits int            // kills that left a file of a compaction
}

func tombstone(n int) bool { return n%7 == 0 }

func (k *keyedDrill) produce(ctx context.Context, stop chan struct{}) {
	for k.slot(stop) {
		n := k.n
		k.n++
		r := &kgo.Record{Topic: compacted, Key: fmt.Append(nil, "k", rand.IntN(compactedKeys)), Value: fmt.Appendf(nil, "%d %s", n, pad[:100])}
		if tombstone(n) {
			r.Value = nil
			r.Headers = []kgo.RecordHeader{{Key: fmt.Sprint(n)}}
		}
		k.last[string(r.Key)] = n
		k.idem.Produce(ctx, r, func(_ *kgo.Record, err error) {
			<-k.slots
			if err != nil {
				err = fmt.Errorf("record %d was refused: %w", n, err)
				k.failed.CompareAndSwap(nil, &err)
			}
		})
	}
}

func (k *keyedDrill) round(t *testing.T) (err error) {
	ctx := within(t, hang)
	stop, done := make(chan struct{}), make(chan struct{})
	go func() { k.produce(ctx, stop); close(done) }()
	time.Sleep(time.Duration(150+rand.IntN(600)) * time.Millisecond)
	k.child.kill()
	close(stop)
	<-done
	if _, err := k.forget(); err != nil {
		return err
	}
	dir := filepath.Join(k.cfg.Data, "logs", compacted+"-0")
	for _, ext := range []string{"*.log.tmp", "*.merged", "*.deleted"} {
		found, err := filepath.Glob(filepath.Join(dir, ext))
		if err != nil {
			return err
		}
		if len(found) > 0 {
			k.hits++
			break
		}
	}
	if k.child, err = startChild(t, k.cfg, k.log); err != nil {
		return fmt.Errorf("%w: %w", errLost, err)
	}
	if err := k.idem.Flush(ctx); err != nil {
		return fmt.Errorf("the producer does not get on after the restart: %w", err)
	}
	if p := k.failed.Load(); p != nil {
		return *p
	}
	// A reader that a pass overtakes may see a value and then no longer its tombstone: delete.retention.ms is next to
	// nothing here. Nothing is written any more, so that does not happen again and again; a value that came back stays.
	for range 10 {
		if err = k.verify(ctx); !errors.Is(err, errLost) {
			return err
		}
	}
	return err
}

// verify reads the topic from its beginning, while it is compacted.
func (k *keyedDrill) verify(ctx context.Context) error {
	ends, err := k.adm.ListEndOffsets(ctx, compacted)
	if err != nil {
		return fmt.Errorf("look up the end offset: %w", err)
	}
	end, _ := ends.Lookup(compacted, 0)
	if end.Offset != int64(k.n) {
		return fmt.Errorf("the log ends at %d, %d records were sent and acknowledged", end.Offset, k.n)
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(k.child.addr), kgo.ConsumePartitions(map[string]map[int32]kgo.Offset{compacted: {0: kgo.NewOffset().AtStart()}}))
	if err != nil {
		return err
	}
	defer cl.Close()
	got := map[string]int{}
	k.read = 0
	var bad error
	for last := int64(-1); last < end.Offset-1; { // the last record is in the segment that is written
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return fmt.Errorf("read behind offset %d of %d: %w", last, end.Offset, err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			var n int
			text := string(r.Value)
			if r.Value == nil && len(r.Headers) == 1 {
				text = r.Headers[0].Key
			}
			if _, err := fmt.Sscan(text, &n); err != nil || int64(n) != r.Offset || tombstone(n) != (r.Value == nil) || r.Offset <= last {
				bad = errors.Join(bad, fmt.Errorf("offset %d, behind %d, holds %.20q", r.Offset, last, text))
			}
			got[string(r.Key)] = n
			last = r.Offset
			k.read++
		})
		if bad != nil {
			return bad
		}
	}
	for key, n := range k.last {
		if g, ok := got[key]; g != n && (ok || !tombstone(n)) {
			return fmt.Errorf("%w: the last record of %s is %d (there: %t): want %d", errLost, key, g, ok, n)
		}
	}
	return nil
}
