package broker

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs: v1-5
//
// One directory with all partitions and their sizes. A null list of topics
// means all; partitions that do not exist are left out, as in Apache Kafka.
// A partition that is offline is there with the size of its files. The total is what is used plus what is free for the broker.
//
// Version notes: v2 flexible; v3 top-level error; v4 total and usable bytes
// (KIP-827); v5 whether the directory is closed for new partitions, which it
// never is (KIP-1066).

func handleDescribeLogDirs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	path, err := filepath.Abs(b.dir.file(logsDir))
	if err != nil {
		return nil, fmt.Errorf("name the data directory: %w", err)
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = path
	wanted := wantedLogDirs(req)
	var used int64
	for _, t := range b.topics.all() {
		st := kmsg.NewDescribeLogDirsResponseDirTopic()
		st.Topic = t.name
		for _, p := range t.state.Load().parts {
			used += p.Size()
			if wanted != nil && !wanted[t.name][p.id] {
				continue
			}
			sp := kmsg.NewDescribeLogDirsResponseDirTopicPartition()
			sp.Partition, sp.Size = p.id, p.Size()
			st.Partitions = append(st.Partitions, sp)
		}
		if len(st.Partitions) > 0 {
			dir.Topics = append(dir.Topics, st)
		}
	}
	if req.Version >= 4 {
		free, err := b.cfg.FreeDisk(b.dir.path)
		if err != nil {
			return nil, err
		}
		dir.UsableBytes, dir.TotalBytes = free, free+used
	}
	resp.Dirs = append(resp.Dirs, dir)
	return resp, nil
}

// wantedLogDirs are the partitions that the request names, nil for all.
func wantedLogDirs(req *kmsg.DescribeLogDirsRequest) map[string]map[int32]bool {
	if req.Topics == nil {
		return nil
	}
	wanted := make(map[string]map[int32]bool)
	for _, rt := range req.Topics {
		parts := wanted[rt.Topic]
		if parts == nil {
			parts = make(map[int32]bool)
			wanted[rt.Topic] = parts
		}
		for _, p := range rt.Partitions {
			parts[p] = true
		}
	}
	return wanted
}
