package broker

import (
	"context"
	"fmt"
	"path/filepath"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// AlterReplicaLogDirs: v1-2
//
// There is one directory (DescribeLogDirs names it). To move a partition there
// is done already; any other directory is LOG_DIR_NOT_FOUND.
//
// Version notes: v2 flexible.

func handleAlterReplicaLogDirs(_ context.Context, b *Broker, _ *request, kreq kmsg.Request) (kmsg.Response, error) {
	req := kreq.(*kmsg.AlterReplicaLogDirsRequest)
	resp := req.ResponseKind().(*kmsg.AlterReplicaLogDirsResponse)
	here, err := filepath.Abs(b.dir.file(logsDir))
	if err != nil {
		return nil, fmt.Errorf("name the data directory: %w", err)
	}
	at := map[string]int{}
	for _, rd := range req.Dirs {
		for _, rt := range rd.Topics {
			i, ok := at[rt.Topic]
			if !ok {
				i = len(resp.Topics)
				at[rt.Topic] = i
				st := kmsg.NewAlterReplicaLogDirsResponseTopic()
				st.Topic = rt.Topic
				resp.Topics = append(resp.Topics, st)
			}
			t := b.topics.byName(rt.Topic)
			for _, p := range rt.Partitions {
				sp := kmsg.NewAlterReplicaLogDirsResponseTopicPartition()
				sp.Partition = p
				switch {
				case rd.Dir != here:
					sp.ErrorCode = kerr.LogDirNotFound.Code
				case t == nil || t.part(p) == nil:
					sp.ErrorCode = kerr.UnknownTopicOrPartition.Code
				}
				resp.Topics[i].Partitions = append(resp.Topics[i].Partitions, sp)
			}
		}
	}
	return resp, nil
}
