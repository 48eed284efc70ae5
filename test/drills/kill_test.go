package drills

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/seglog/vfs/forgetfs"
	"github.com/sluice-data/sluice/test/ports"
	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	partitions = 4
	// Topics of the two producers.
	idempotent = "idempotent"
	plain      = "plain"
	theGroup   = "drill"
	// freshEvery is after how many rounds a new data directory is begun, so that the rounds stay short.
	freshEvery = 10
)

// rounds is how many kills are survived: a few here, as many as SLUICE_DRILL_ROUNDS says where time allows.
func rounds(t *testing.T) int {
	n, err := strconv.Atoi(cmp.Or(os.Getenv("SLUICE_DRILL_ROUNDS"), "3"))
	if err != nil || n < 1 {
		t.Fatalf("SLUICE_DRILL_ROUNDS is %q: want a number", os.Getenv("SLUICE_DRILL_ROUNDS"))
	}
	return n
}

// TestKill9 kills a broker at random moments while two producers write and a group commits, under each flush policy. Where
// the policy promises it, everything that was not synced at the moment of the kill is forgotten as well.
func TestKill9(t *testing.T) {
	for _, p := range []struct {
		name    string
		topics  map[string]string
		forgets bool
	}{
		{name: "os"},
		{name: "flush.ms and flush.messages", topics: map[string]string{"flush.ms": "50", "flush.messages": "1000"}},
		{name: "flush.messages=1, un-synced writes forgotten", topics: map[string]string{"flush.messages": "1"}, forgets: true},
		{name: "sluice.sync.acks, un-synced writes forgotten", topics: map[string]string{"sluice.sync.acks": "true"}, forgets: true},
	} {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			n := rounds(t)
			counted, tries := 0, 0
			var acked, unsynced int64
			for counted < n {
				d := newDrill(t, p.topics, p.forgets, false, 0)
				for range min(freshEvery, n-counted) {
					if tries++; tries > 3*n+5 {
						t.Fatalf("only %d of %d rounds counted", counted, tries)
					}
					r, err := d.round(t)
					if err != nil {
						t.Fatalf("round %d: %v", tries, err)
					}
					// Without anything acknowledged, or anything to forget, a round proves nothing.
					counts := r.acked > 0 && (r.unsynced > 0 || !p.forgets)
					if counts {
						counted++
						acked += r.acked
						unsynced += r.unsynced
					}
					t.Logf("kill %d after %v: %d bytes acknowledged, %d un-synced, counts: %v; %d records and %d commits verified",
						tries, r.after.Round(time.Millisecond), r.acked, r.unsynced, counts, r.verified, r.commits)
				}
				d.close()
			}
			t.Logf("%d rounds counted: %d bytes acknowledged, %d bytes un-synced at the kills, nothing acknowledged was lost, nothing idempotent doubled", counted, acked, unsynced)
		})
	}
}

// TestKill9WithoutFsync is the proof that the drill can fail: with an fsync that does nothing it finds the loss.
func TestKill9WithoutFsync(t *testing.T) {
	t.Parallel()
	d := newDrill(t, map[string]string{"sluice.sync.acks": "true"}, true, true, 0)
	defer d.close()
	for range 5 {
		r, err := d.round(t)
		if errors.Is(err, errLost) {
			t.Logf("found, as it must be: %v", err)
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes acknowledged, %d un-synced, and nothing found", r.acked, r.unsynced)
	}
	t.Error("a broker without fsync passed the drill")
}

var errLost = errors.New("acknowledged data is lost")

// drill is a broker, its clients, and what they know of it.
type drill struct {
	cfg     childConfig
	log     *os.File
	forgets bool
	child   *child

	idem, plain *kgo.Client
	adm         *kadm.Client
	sent        [partitions]int               // numbers that the idempotent producer has used, per partition
	verified    map[string]*[partitions]int64 // offsets below it were read and are right
	plainSent   int
	committed   int64         // the last offset whose commit was acknowledged
	slots       chan struct{} // one for each record under way
	acked       atomic.Int64
	failed      atomic.Pointer[error]

	mu        sync.Mutex
	ends      map[place]int64 // the highest acknowledged offset; place.offset is 0
	plainAcks map[place]int   // the number that was acknowledged to be there
}

type place struct {
	topic     string
	partition int32
	offset    int64
}

func newDrill(t *testing.T, topics map[string]string, forgets, lie bool, compact time.Duration) *drill {
	t.Helper()
	dir, err := os.MkdirTemp("", "sluice-drill-")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	log, err := os.Create(filepath.Join(dir, "broker.log"))
	if err != nil {
		t.Fatal(err)
	}
	settings := map[string]string{"segment.bytes": "1048576"} // rolls happen
	for k, v := range topics {
		settings[k] = v
	}
	d := &drill{
		cfg: childConfig{Listen: ports.Reserve(t), Data: filepath.Join(dir, "data"), Shadow: filepath.Join(dir, "shadow"), Lie: lie, Slow: forgets, Topics: settings, CompactionCheck: compact},
		log: log, slots: make(chan struct{}, 500), forgets: forgets, committed: -1, ends: map[place]int64{}, plainAcks: map[place]int{},
		verified: map[string]*[partitions]int64{idempotent: {}, plain: {}},
	}
	if d.child, err = startChild(t, d.cfg, log); err != nil {
		t.Fatal(err)
	}
	client := func(opts ...kgo.Opt) *kgo.Client {
		cl, err := kgo.NewClient(append(opts, kgo.SeedBrokers(d.child.addr), kgo.RecordPartitioner(kgo.ManualPartitioner()),
			kgo.ProducerLinger(0), kgo.MaxBufferedRecords(2000), kgo.ProducerBatchCompression(kgo.NoCompression()),
			kgo.RetryBackoffFn(func(int) time.Duration { return 5 * time.Millisecond }), kgo.MetadataMinAge(10*time.Millisecond))...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	d.idem = client()
	d.plain = client(kgo.DisableIdempotentWrite())
	d.adm = kadm.NewClient(client())
	if _, err := d.adm.CreateTopics(within(t, hang), partitions, 1, nil, idempotent, plain); err != nil {
		t.Fatal(err)
	}
	return d
}

func (d *drill) close() {
	d.idem.Close()
	d.plain.Close()
	d.adm.Close()
	d.child.kill()
	d.log.Close()
	os.RemoveAll(filepath.Dir(d.cfg.Data))
}

// pad makes values that fill segments in reasonable time.
var pad = strings.Repeat("x", 500)

func value(partition, n int) []byte { return fmt.Appendf(nil, "%d/%d %s", partition, n, pad) }

func parse(v []byte) (partition, n int, err error) {
	_, err = fmt.Sscanf(string(v), "%d/%d ", &partition, &n)
	return partition, n, err
}

// roundResult is what a round saw.
type roundResult struct {
	after             time.Duration
	acked, unsynced   int64 // bytes, since the last kill
	verified, commits int
}

// round loads the broker, kills it, forgets, restarts it, lets the clients finish, and accounts.
func (d *drill) round(t *testing.T) (r roundResult, err error) {
	ctx := within(t, hang)
	d.acked.Store(0)
	stop := make(chan struct{})
	var load sync.WaitGroup
	load.Go(func() { d.produceIdempotent(ctx, stop) })
	load.Go(func() { d.producePlain(ctx, stop) })
	commits := d.committed
	load.Go(func() { d.commit(ctx, stop) })

	began := time.Now()
	time.Sleep(time.Duration(150+rand.IntN(600)) * time.Millisecond)
	for d.acked.Load() == 0 && ctx.Err() == nil { // on a slow machine
		time.Sleep(time.Millisecond)
	}
	d.child.kill()
	r.after, r.acked = time.Since(began), d.acked.Load()
	close(stop)
	load.Wait()
	if r.unsynced, err = d.forget(); err != nil {
		return r, err
	}
	// Answers that were on their way when the kill came have arrived by now.
	r.commits = int(d.committed - commits)
	d.mu.Lock()
	acked := maps.Clone(d.ends)
	d.mu.Unlock()
	if d.child, err = startChild(t, d.cfg, d.log); err != nil {
		return r, fmt.Errorf("%w: %w", errLost, err)
	}
	if err := d.checkEnds(ctx, acked); err != nil {
		return r, err
	}
	if err := d.checkCommit(ctx); err != nil {
		return r, err
	}
	// What was under way goes on: the idempotent producer must end with each number once.
	if err := errors.Join(d.idem.Flush(ctx), d.plain.Flush(ctx)); err != nil {
		return r, fmt.Errorf("producers do not get on after the restart: %w", err)
	}
	if p := d.failed.Load(); p != nil {
		return r, *p
	}
	for _, topic := range []string{idempotent, plain} {
		n, err := d.verify(ctx, topic)
		r.verified += n
		if err != nil {
			return r, fmt.Errorf("topic %s: %w", topic, err)
		}
	}
	return r, nil
}

// forget makes the data directory what the policy promises to find: all that was written, or only what was synced.
func (d *drill) forget() (int64, error) {
	if d.forgets {
		return forgetfs.Restore(d.cfg.Data, d.cfg.Shadow)
	}
	n, err := forgetfs.Unsynced(d.cfg.Shadow)
	return n, errors.Join(err, os.RemoveAll(d.cfg.Shadow))
}

// slot waits until another record may be under way; false when the load stops. (The clients' own limit would block until
// the broker is back.)
func (d *drill) slot(stop chan struct{}) bool {
	select {
	case <-stop:
		return false
	default:
	}
	select {
	case d.slots <- struct{}{}:
		return true
	case <-stop:
		return false
	}
}

func (d *drill) produceIdempotent(ctx context.Context, stop chan struct{}) {
	for {
		for p := range partitions {
			if !d.slot(stop) {
				return
			}
			n := d.sent[p]
			d.sent[p]++
			d.idem.Produce(ctx, &kgo.Record{Topic: idempotent, Partition: int32(p), Value: value(p, n)}, func(r *kgo.Record, err error) {
				<-d.slots
				if err != nil {
					err = fmt.Errorf("idempotent record %d/%d was refused: %w", p, n, err)
					d.failed.CompareAndSwap(nil, &err)
					return
				}
				d.noteAck(r)
			})
		}
	}
}

func (d *drill) producePlain(ctx context.Context, stop chan struct{}) {
	for {
		if !d.slot(stop) {
			return
		}
		n := d.plainSent
		d.plainSent++
		p := n % partitions
		d.plain.Produce(ctx, &kgo.Record{Topic: plain, Partition: int32(p), Value: value(p, n)}, func(r *kgo.Record, err error) {
			<-d.slots
			if err != nil {
				return // without idempotence a record may fail; only what is acknowledged counts
			}
			d.noteAck(r)
			d.mu.Lock()
			d.plainAcks[place{plain, r.Partition, r.Offset}] = n
			d.mu.Unlock()
		})
	}
}

// commit commits rising offsets, one at a time.
func (d *drill) commit(ctx context.Context, stop chan struct{}) {
	for {
		select {
		case <-stop:
			return
		default:
		}
		cctx, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
		var os kadm.Offsets
		os.Add(kadm.Offset{Topic: idempotent, Partition: 0, At: d.committed + 1, LeaderEpoch: -1})
		if d.adm.CommitAllOffsets(cctx, theGroup, os) == nil {
			d.committed++
		}
		cancel()
	}
}

func (d *drill) noteAck(r *kgo.Record) {
	d.acked.Add(int64(len(r.Value)))
	at := place{topic: r.Topic, partition: r.Partition}
	d.mu.Lock()
	defer d.mu.Unlock()
	if end, ok := d.ends[at]; !ok || r.Offset > end {
		d.ends[at] = r.Offset
	}
}

// checkEnds wants every acknowledged offset below the logs' ends.
func (d *drill) checkEnds(ctx context.Context, acked map[place]int64) error {
	ends, err := d.adm.ListEndOffsets(ctx, idempotent, plain)
	if errors.Is(err, kerr.LeaderNotAvailable) {
		return fmt.Errorf("%w: a partition is offline: %w", errLost, err)
	}
	if err != nil {
		return fmt.Errorf("look up end offsets: %w", err)
	}
	for at, off := range acked {
		end, ok := ends.Lookup(at.topic, at.partition)
		if !ok || end.Err != nil || end.Offset <= off {
			return fmt.Errorf("%w: partition %s-%d ends at %d (%v), offset %d was acknowledged", errLost, at.topic, at.partition, end.Offset, end.Err, off)
		}
	}
	return nil
}

// checkCommit wants the last acknowledged commit, or the one after it, whose answer may have been under way.
func (d *drill) checkCommit(ctx context.Context) error {
	got, err := d.adm.FetchOffsets(ctx, theGroup)
	if err != nil {
		return fmt.Errorf("look up the committed offset: %w", err)
	}
	o, ok := got.Lookup(idempotent, 0)
	if d.committed >= 0 && (!ok || o.At < d.committed || o.At > d.committed+1) {
		return fmt.Errorf("%w: the committed offset is %d (there: %v), acknowledged was %d", errLost, o.At, ok, d.committed)
	}
	return nil
}

// verify reads what is new in a topic and compares every record. In the idempotent topic the record at offset n must be
// number n: none lost, none doubled, none out of order.
func (d *drill) verify(ctx context.Context, topic string) (n int, err error) {
	ends, err := d.adm.ListEndOffsets(ctx, topic)
	if err != nil {
		return 0, fmt.Errorf("look up end offsets: %w", err)
	}
	from := d.verified[topic]
	want := map[string]map[int32]kgo.Offset{topic: {}}
	left := 0
	for p := range int32(partitions) {
		end, _ := ends.Lookup(topic, p)
		if topic == idempotent && end.Offset != int64(d.sent[p]) {
			return 0, fmt.Errorf("partition %d ends at %d, %d records were sent and acknowledged", p, end.Offset, d.sent[p])
		}
		left += int(end.Offset - from[p])
		want[topic][p] = kgo.NewOffset().At(from[p])
	}
	cl, err := kgo.NewClient(kgo.SeedBrokers(d.child.addr), kgo.ConsumePartitions(want))
	if err != nil {
		return 0, err
	}
	defer cl.Close()
	for left > 0 {
		fs := cl.PollFetches(ctx)
		if err := fs.Err(); err != nil {
			return n, fmt.Errorf("read: %w", err)
		}
		fs.EachRecord(func(r *kgo.Record) {
			if err == nil {
				err = d.check(r, from)
			}
			from[r.Partition] = r.Offset + 1
			left--
			n++
		})
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (d *drill) check(r *kgo.Record, from *[partitions]int64) error {
	p, num, err := parse(r.Value)
	switch {
	case err != nil || string(r.Value) != string(value(p, num)):
		return fmt.Errorf("partition %d offset %d holds something that nobody wrote: %.40q", r.Partition, r.Offset, r.Value)
	case int32(p) != r.Partition:
		return fmt.Errorf("partition %d offset %d holds a record of partition %d", r.Partition, r.Offset, p)
	case r.Offset != from[r.Partition]:
		return fmt.Errorf("partition %d: offset %d follows %d", r.Partition, r.Offset, from[r.Partition]-1)
	case r.Topic == idempotent && int64(num) != r.Offset:
		return fmt.Errorf("partition %d offset %d holds record %d", r.Partition, r.Offset, num)
	}
	if r.Topic == plain {
		d.mu.Lock()
		defer d.mu.Unlock()
		at := place{plain, r.Partition, r.Offset}
		if want, ok := d.plainAcks[at]; ok && want != num {
			return fmt.Errorf("%w: partition %d offset %d holds record %d, acknowledged was %d", errLost, r.Partition, r.Offset, num, want)
		}
		delete(d.plainAcks, at)
	}
	return nil
}
