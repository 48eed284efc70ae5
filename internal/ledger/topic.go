package ledger

import (
	"context"
	"fmt"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// stallTimeout ends a read of the topic during which nothing came.
const stallTimeout = 30 * time.Second

// readTopic counts the records of every partition of a topic, from its first
// to the end it has when the read begins.
func readTopic(ctx context.Context, a *account, bootstrap, topic string) error {
	client, err := kgo.NewClient(kgo.SeedBrokers(bootstrap), kgo.KeepControlRecords(), kgo.FetchMaxWait(500*time.Millisecond))
	if err != nil {
		return fmt.Errorf("make Kafka client: %w", err)
	}
	defer client.Close()
	admin := kadm.NewClient(client)
	asking, cancel := context.WithTimeout(ctx, stallTimeout)
	defer cancel()
	starts, err := admin.ListStartOffsets(asking, topic)
	if err == nil {
		err = starts.Error()
	}
	if err != nil {
		return fmt.Errorf("ask %s for the first offsets of %s: %w", bootstrap, topic, err)
	}
	ends, err := admin.ListEndOffsets(asking, topic)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return fmt.Errorf("ask %s for the end offsets of %s: %w", bootstrap, topic, err)
	}

	left := map[int32]int64{} // partition → end offset, while it is not reached
	consume := map[int32]kgo.Offset{}
	ends.Each(func(end kadm.ListedOffset) {
		start, _ := starts.Lookup(topic, end.Partition)
		if start.Offset > 0 {
			a.flow.Notes = append(a.flow.Notes, fmt.Sprintf("partition %d of %s begins at offset %d: retention removed what was before", end.Partition, topic, start.Offset))
		}
		if start.Offset < end.Offset {
			left[end.Partition] = end.Offset
			consume[end.Partition] = kgo.NewOffset().At(start.Offset)
		}
	})
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: consume})

	for len(left) > 0 {
		polling, cancel := context.WithTimeout(ctx, stallTimeout)
		fetches := client.PollFetches(polling)
		cancel()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("read topic %s: %w", topic, err)
		}
		for _, e := range fetches.Errors() {
			if polling.Err() != nil {
				return fmt.Errorf("read topic %s: nothing came from %s for %v; still to read: %v", topic, bootstrap, stallTimeout, left)
			}
			return fmt.Errorf("read topic %s, partition %d: %w", topic, e.Partition, e.Err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			end, ok := left[r.Partition]
			if !ok || r.Offset >= end {
				return // written while we read
			}
			if r.Offset == end-1 {
				delete(left, r.Partition)
			}
			if r.Attrs.IsControl() {
				return
			}
			a.arrive(int(r.Partition), r.Value, func() string {
				return fmt.Sprintf("%s/%d at offset %d", topic, r.Partition, r.Offset)
			})
		})
	}
	return nil
}
