package broker

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// DescribeLogDirs: v1-4
//
// One directory with all partitions and their sizes. A null list of topics
// means all; partitions that do not exist are left out, as in Apache Kafka.
// The total is what is used plus what is free for the broker.
//
// Version notes: v2 flexible; v3 top-level error; v4 total and usable bytes
// (KIP-827).

func handleDescribeLogDirs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.DescribeLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.DescribeLogDirsResponse)
	path, err := filepath.Abs(b.dir.file(logsDir))
	if err != nil {
		return nil, fmt.Errorf("name the data directory: %w", err)
	}
	dir := kmsg.NewDescribeLogDirsResponseDir()
	dir.Dir = path
	var used int64
	for _, t := range b.topics.all() {
		st := kmsg.NewDescribeLogDirsResponseDirTopic()
		st.Topic = t.name
		for _, p := range t.state.Load().parts {
			used += p.Size()
			if !wantsLogDir(req, t.name, p.id) {
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

func wantsLogDir(req *kmsg.DescribeLogDirsRequest, topic string, part int32) bool {
	if req.Topics == nil {
		return true
	}
	return slices.ContainsFunc(req.Topics, func(rt kmsg.DescribeLogDirsRequestTopic) bool {
		return rt.Topic == topic && slices.Contains(rt.Partitions, part)
	})
}
