package broker

import (
	"log/slog"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// smallDisk has no space for logs while it is told so.
type smallDisk struct {
	vfs.OS
	full    atomic.Bool
	refused atomic.Int64
}

func (d *smallDisk) noSpace(name string) error {
	if !d.full.Load() || !strings.Contains(name, "/"+logsDir+"/") {
		return nil
	}
	d.refused.Add(1)
	return &os.PathError{Op: "write", Path: name, Err: syscall.ENOSPC}
}

func (d *smallDisk) Open(name string, flag int) (vfs.File, error) {
	if flag&os.O_CREATE != 0 {
		if err := d.noSpace(name); err != nil {
			return nil, err
		}
	}
	f, err := d.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return &smallFile{f, d, name}, nil
}

type smallFile struct {
	vfs.File
	disk *smallDisk
	name string
}

func (f *smallFile) WriteAt(p []byte, off int64) (int, error) {
	if err := f.disk.noSpace(f.name); err != nil {
		// As the system does it: what still fits is there.
		n, werr := f.File.WriteAt(p[:len(p)/2], off)
		if werr != nil {
			err = werr
		}
		return n, err
	}
	return f.File.WriteAt(p, off)
}

// groupCaller sends the requests of a group's members, one by one, without
// anything that tries again.
type groupCaller struct {
	t  *testing.T
	cl *kgo.Client
}

func (g groupCaller) do(req kmsg.Request) kmsg.Response {
	g.t.Helper()
	resp, err := g.cl.Broker(1).Request(ctxOf(g.t), req)
	if err != nil {
		g.t.Fatal(err)
	}
	return resp
}

func (g groupCaller) join(group, id string) *kmsg.JoinGroupResponse {
	g.t.Helper()
	req := kmsg.NewPtrJoinGroupRequest()
	req.Group, req.MemberID, req.ProtocolType, req.SessionTimeoutMillis, req.RebalanceTimeoutMillis = group, id, "consumer", 60_000, 60_000
	p := kmsg.NewJoinGroupRequestProtocol()
	p.Name, p.Metadata = "range", sensibleBytes("Metadata")
	req.Protocols = append(req.Protocols, p)
	resp := g.do(req).(*kmsg.JoinGroupResponse)
	if id == "" && resp.ErrorCode == kerr.MemberIDRequired.Code {
		return g.join(group, resp.MemberID)
	}
	return resp
}

// sync is the leader's.
func (g groupCaller) sync(group, id string, generation int32) int16 {
	g.t.Helper()
	req := kmsg.NewPtrSyncGroupRequest()
	req.Group, req.MemberID, req.Generation = group, id, generation
	req.ProtocolType, req.Protocol = kmsg.StringPtr("consumer"), kmsg.StringPtr("range")
	a := kmsg.NewSyncGroupRequestGroupAssignment()
	a.MemberID, a.MemberAssignment = id, []byte("assigned")
	req.GroupAssignment = append(req.GroupAssignment, a)
	return g.do(req).(*kmsg.SyncGroupResponse).ErrorCode
}

func (g groupCaller) heartbeat(group, id string, generation int32) int16 {
	g.t.Helper()
	req := kmsg.NewPtrHeartbeatRequest()
	req.Group, req.MemberID, req.Generation = group, id, generation
	return g.do(req).(*kmsg.HeartbeatResponse).ErrorCode
}

func (g groupCaller) consumerHeartbeat(group, id string, epoch int32, topics ...string) *kmsg.ConsumerGroupHeartbeatResponse {
	g.t.Helper()
	req := kmsg.NewPtrConsumerGroupHeartbeatRequest()
	req.Version, req.Group, req.MemberID, req.MemberEpoch, req.RebalanceTimeoutMillis = 1, group, id, epoch, 60_000
	if epoch > 0 {
		req.RebalanceTimeoutMillis = -1
	} else {
		req.SubscribedTopicNames, req.Topics = topics, []kmsg.ConsumerGroupHeartbeatRequestTopic{}
	}
	return g.do(req).(*kmsg.ConsumerGroupHeartbeatResponse)
}

func (g groupCaller) commit(group, id string, generation int32, offset int64) int16 {
	g.t.Helper()
	req := kmsg.NewPtrOffsetCommitRequest()
	req.Version, req.Group, req.MemberID, req.Generation = 9, group, id, generation
	rt, rp := kmsg.NewOffsetCommitRequestTopic(), kmsg.NewOffsetCommitRequestTopicPartition()
	rp.Offset = offset
	rt.Topic, rt.Partitions = "t", append(rt.Partitions, rp)
	req.Topics = append(req.Topics, rt)
	return g.do(req).(*kmsg.OffsetCommitResponse).Topics[0].Partitions[0].ErrorCode
}

func (g groupCaller) committed(group string) int64 {
	g.t.Helper()
	req := kmsg.NewPtrOffsetFetchRequest()
	req.Version = 7
	rt := kmsg.NewOffsetFetchRequestTopic()
	rt.Topic, rt.Partitions = "t", []int32{0}
	req.Group, req.Topics = group, append(req.Topics, rt)
	resp := g.do(req).(*kmsg.OffsetFetchResponse)
	if p := resp.Topics[0].Partitions[0]; p.ErrorCode != 0 {
		g.t.Fatalf("the offset of %s: error %d", group, p.ErrorCode)
	}
	return resp.Topics[0].Partitions[0].Offset
}

// TestGroupsOnAFullDisk: a commit that cannot be written is refused with an
// error that clients try again on, and what was committed stays; groups go on,
// old and new. When there is space again so do commits, and a restart finds the
// members where they were.
func TestGroupsOnAFullDisk(t *testing.T) {
	disk := &smallDisk{}
	dir := t.TempDir()
	var logs logBuffer
	conf := func(c *Config) {
		c.DataDir, c.FS, c.Logger = dir, disk, slog.New(slog.NewTextHandler(&logs, nil))
	}
	b := startBroker(t, conf)
	cl := client(t, b, kgo.MaxVersions(versionsUpTo(map[string]int16{"OffsetCommit": 9, "OffsetFetch": 7})))
	produce(t, cl, "t", "x")
	g := groupCaller{t, cl}
	const again = 15 // COORDINATOR_NOT_AVAILABLE
	const tries = 20

	// No group's log can be made.
	disk.full.Store(true)
	for range tries {
		if r := g.join("first", ""); r.ErrorCode != again {
			t.Errorf("the first group of all on a full disk: error %d", r.ErrorCode)
		}
	}
	if code := g.commit("first", "", -1, 1); code != again {
		t.Errorf("the first commit of all on a full disk: error %d", code)
	}
	disk.full.Store(false)

	m := g.join("old", "")
	if code := g.sync("old", m.MemberID, m.Generation); m.ErrorCode != 0 || code != 0 {
		t.Fatalf("join: %d, sync: %d", m.ErrorCode, code)
	}
	if code := g.commit("old", m.MemberID, m.Generation, 5); code != 0 {
		t.Fatalf("commit: %d", code)
	}
	modern := g.consumerHeartbeat("modern", "a member of the consumer protocol", 0, "t")
	if modern.ErrorCode != 0 {
		t.Fatalf("%+v", modern)
	}

	disk.full.Store(true)
	for range tries {
		if code := g.commit("old", m.MemberID, m.Generation, 7); code != again {
			t.Errorf("a commit on a full disk: error %d, want %d", code, again)
		}
		if code := g.commit("another", "", -1, 7); code != again {
			t.Errorf("a commit without a group on a full disk: error %d, want %d", code, again)
		}
	}
	if off := g.committed("old"); off != 5 {
		t.Errorf("committed is %d, acknowledged was 5", off)
	}
	if off := g.committed("another"); off != -1 {
		t.Errorf("committed is %d, acknowledged was nothing", off)
	}
	if code := g.heartbeat("old", m.MemberID, m.Generation); code != 0 {
		t.Errorf("heartbeat on a full disk: error %d", code)
	}
	if r := g.consumerHeartbeat("modern", *modern.MemberID, modern.MemberEpoch); r.ErrorCode != 0 {
		t.Errorf("heartbeat of the consumer protocol on a full disk: error %d", r.ErrorCode)
	}
	// A rebalance, and a group that is new.
	m = g.join("old", m.MemberID)
	if code := g.sync("old", m.MemberID, m.Generation); m.ErrorCode != 0 || code != 0 || m.Generation != 2 {
		t.Errorf("rebalance on a full disk: join: %d, sync: %d, generation %d", m.ErrorCode, code, m.Generation)
	}
	n := g.join("new", "")
	if code := g.sync("new", n.MemberID, n.Generation); n.ErrorCode != 0 || code != 0 {
		t.Errorf("new group on a full disk: join: %d, sync: %d", n.ErrorCode, code)
	}
	newModern := g.consumerHeartbeat("new modern", "another of the consumer protocol", 0, "t")
	if newModern.ErrorCode != 0 {
		t.Errorf("new group of the consumer protocol on a full disk: %+v", newModern)
	}
	if disk.refused.Load() == 0 {
		t.Fatal("the disk was not full")
	}

	disk.full.Store(false)
	for _, line := range []string{"topic could not be created", "offsets could not be committed"} {
		if n := strings.Count(logs.String(), line); n == 0 || n >= tries {
			t.Errorf("%q is in the log %d times after %d tries", line, n, tries)
		}
	}
	check := func(when string) {
		t.Helper()
		if code := g.heartbeat("old", m.MemberID, m.Generation); code != 0 {
			t.Errorf("%s: heartbeat: error %d", when, code)
		}
		if code := g.heartbeat("new", n.MemberID, n.Generation); code != 0 {
			t.Errorf("%s: heartbeat of the new group: error %d", when, code)
		}
		for group, r := range map[string]*kmsg.ConsumerGroupHeartbeatResponse{"modern": modern, "new modern": newModern} {
			if r := g.consumerHeartbeat(group, *r.MemberID, r.MemberEpoch); r.ErrorCode != 0 {
				t.Errorf("%s: heartbeat of the group %q: error %d %v", when, group, r.ErrorCode, r.ErrorMessage)
			}
		}
	}
	check("with space again")
	if code := g.commit("old", m.MemberID, m.Generation, 7); code != 0 {
		t.Errorf("a commit with space again: error %d", code)
	}
	if code := g.commit("another", "", -1, 3); code != 0 {
		t.Errorf("a commit without a group, with space again: error %d", code)
	}
	cl.Close()
	if err := b.Close(ctxOf(t)); err != nil {
		t.Fatal(err)
	}
	b = startBroker(t, conf)
	g.cl = client(t, b, kgo.MaxVersions(versionsUpTo(map[string]int16{"OffsetCommit": 9, "OffsetFetch": 7})))
	check("after a restart")
	if o, a := g.committed("old"), g.committed("another"); o != 7 || a != 3 {
		t.Errorf("after a restart committed is %d and %d, acknowledged were 7 and 3", o, a)
	}
}
