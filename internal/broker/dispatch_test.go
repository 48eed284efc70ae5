package broker

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"reflect"
	runtimemetrics "runtime/metrics"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-data/sluice/internal/seglog/vfs"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// unsynced is the operating system's file system without waiting for the disk.
type unsynced struct{ vfs.OS }

type unsyncedFile struct{ vfs.File }

func (u unsynced) Open(name string, flag int) (vfs.File, error) {
	f, err := u.OS.Open(name, flag)
	if err != nil {
		return nil, err
	}
	return unsyncedFile{f}, nil
}

func (unsynced) SyncDir(string) error { return nil }

func (unsyncedFile) Sync() error { return nil }

// played is a connection whose client sends some bytes, waits for an answer or
// a moment, and is gone.
type played struct {
	in   bytes.Reader
	wait time.Duration

	mu       sync.Mutex
	out      bytes.Buffer
	answered chan struct{} // closed with the first answer
}

func (c *played) Read(p []byte) (int, error) {
	if n, err := c.in.Read(p); err == nil {
		return n, nil
	}
	select {
	case <-c.answered:
	case <-time.After(c.wait):
	}
	return 0, io.EOF
}

func (c *played) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.out.Len() == 0 {
		close(c.answered)
	}
	return c.out.Write(p)
}

func (*played) Close() error                       { return nil }
func (*played) Discard() error                     { return nil }
func (*played) LocalAddr() net.Addr                { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 9092} }
func (*played) RemoteAddr() net.Addr               { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 40000} }
func (*played) SetDeadline(t time.Time) error      { return nil }
func (*played) SetReadDeadline(t time.Time) error  { return nil }
func (*played) SetWriteDeadline(t time.Time) error { return nil }

// someTopicID stands for the id of the topic "t" in requests that are made
// before there is one.
var someTopicID = [16]byte([]byte("id of a topic: t"))

// someMemberID stands for the member of the group "g".
const someMemberID = "-00000000-0000-0000-0000-000000000000"

// stage is a broker with a small data directory that plays requests. It makes a
// new one from time to time, so that limits reached and topics deleted do not
// make all further requests alike.
type stage struct {
	dir  string
	logs logBuffer
	b    *Broker
	runs int

	member string // of the group "g", generation 1
}

func (s *stage) close(t testing.TB) {
	if s.b == nil {
		return
	}
	if err := s.b.Close(context.Background()); err != nil {
		t.Error(err)
	}
	if err := os.RemoveAll(s.dir); err != nil {
		t.Error(err)
	}
}

// ready makes sure that there is a broker with the topic "t", and one that is
// new has the group "g".
func (s *stage) ready(t testing.TB) {
	t.Helper()
	if s.runs++; s.b == nil || s.runs%1000 == 0 {
		s.close(t)
		var err error
		if s.dir, err = os.MkdirTemp(os.TempDir(), "sluice-dispatch-"); err != nil {
			t.Fatal(err)
		}
		s.b, err = Start(context.Background(), Config{
			Listen: "127.0.0.1:0", DataDir: s.dir, FS: unsynced{}, MaxDisk: 32 << 20, MinFreeDisk: -1, MaxPartitions: 30, MaxGroups: 30,
			StopTimeout: 5 * time.Second, Logger: slog.New(slog.NewTextHandler(&s.logs, nil)),
		})
		if err != nil {
			t.Fatal(err)
		}
		s.join(t)
	}
	if s.b.topics.byName("t") == nil {
		req := kmsg.NewPtrCreateTopicsRequest()
		req.Version = 7
		ct := kmsg.NewCreateTopicsRequestTopic()
		ct.Topic, ct.NumPartitions, ct.ReplicationFactor = "t", 2, 1
		req.Topics = append(req.Topics, ct)
		s.play(t, frame(req.Key(), 7, 1, true, req.AppendTo(nil)), 10*time.Second)
		if s.b.topics.byName("t") == nil { // all that may be was used up
			s.close(t)
			s.b = nil
			s.ready(t)
		}
	}
}

func (s *stage) join(t testing.TB) {
	t.Helper()
	join := kmsg.NewPtrJoinGroupRequest()
	join.Version, join.Group, join.ProtocolType, join.SessionTimeoutMillis, join.RebalanceTimeoutMillis = 3, "g", "consumer", 1_800_000, 10
	jp := kmsg.NewJoinGroupRequestProtocol()
	jp.Name, jp.Metadata = "range", sensibleBytes("Metadata")
	join.Protocols = append(join.Protocols, jp)
	joined := answer(t, join, s.play(t, frame(11, 3, 1, false, join.AppendTo(nil)), 10*time.Second)).(*kmsg.JoinGroupResponse)
	sync := kmsg.NewPtrSyncGroupRequest()
	sync.Version, sync.Group, sync.Generation, sync.MemberID = 2, "g", joined.Generation, joined.MemberID
	synced := answer(t, sync, s.play(t, frame(14, 2, 1, false, sync.AppendTo(nil)), 10*time.Second)).(*kmsg.SyncGroupResponse)
	if s.member = joined.MemberID; joined.ErrorCode != 0 || synced.ErrorCode != 0 || joined.Generation != 1 || len(s.member) != len(someMemberID) {
		t.Fatalf("%+v, %+v", joined, synced)
	}
}

// play has a client send frames, and returns what it was answered.
func (s *stage) play(t testing.TB, in []byte, wait time.Duration) []byte {
	c := &played{wait: wait, answered: make(chan struct{})}
	c.in.Reset(in)
	// A handler that never ends would stop the test without a word of where it is.
	stuck := time.AfterFunc(2*time.Minute, func() { panic(fmt.Sprintf("the request is not done after two minutes: %x", in)) })
	defer stuck.Stop()
	s.b.serveConn(s.b.connCtx, s.b.listeners[0], c)
	if l := s.logs.String(); strings.Contains(l, "panic") {
		t.Fatalf("a handler panicked on %x:\n%s", in, l)
	}
	return c.out.Bytes()
}

// answer checks that an answer is whole and of the form that its version has.
func answer(t testing.TB, req kmsg.Request, out []byte) kmsg.Response {
	t.Helper()
	if len(out) < 8 || int(binary.BigEndian.Uint32(out)) != len(out)-4 {
		t.Fatalf("%s version %d: the answer is no frame: %x", kmsg.NameForKey(req.Key()), req.GetVersion(), out)
	}
	body := out[8:]
	if req.IsFlexible() && req.Key() != keyAPIVersions {
		if body[0] != 0 {
			t.Fatalf("%s version %d: the answer's header: %x", kmsg.NameForKey(req.Key()), req.GetVersion(), out)
		}
		body = body[1:]
	}
	resp := req.ResponseKind()
	resp.SetVersion(req.GetVersion())
	if err := resp.ReadFrom(body); err != nil {
		t.Fatalf("%s version %d: the answer cannot be read: %v: %x", kmsg.NameForKey(req.Key()), req.GetVersion(), err, out)
	}
	return resp
}

// sensible fills a request with values that mean something, by the names of
// its fields.
func sensible(v reflect.Value, path string) {
	if d, ok := v.Addr().Interface().(interface{ Default() }); ok {
		d.Default()
	}
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		at := path + "." + name
		switch f.Kind() {
		case reflect.Slice:
			if slices.Contains([]string{"ReplicaAssignment", "ForgottenTopics", "Assignment", "TopicPartitions"}, name) {
				continue // they exclude something else
			}
			switch f.Type().Elem().Kind() {
			case reflect.Uint8:
				f.SetBytes(sensibleBytes(name))
			default:
				f.Set(reflect.MakeSlice(f.Type(), 1, 1))
				switch e := f.Index(0); e.Kind() {
				case reflect.Struct:
					sensible(e, at)
				case reflect.String:
					e.SetString(sensibleString(at))
				}
			}
		case reflect.Struct:
			if f.Type() != reflect.TypeFor[kmsg.Tags]() {
				sensible(f, at)
			}
		case reflect.String:
			f.SetString(sensibleString(at))
		case reflect.Pointer:
			if s := sensibleString(at); s != "" && f.Type().Elem().Kind() == reflect.String {
				f.Set(reflect.ValueOf(&s))
			}
		case reflect.Array:
			if name == "TopicID" {
				f.Set(reflect.ValueOf(someTopicID))
			}
		case reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64:
			if name == "Version" {
				continue
			}
			for _, d := range []struct {
				suffix string
				n      int64
			}{
				{"TimeoutMillis", 10_000}, {"RebalanceTimeoutMillis", 10}, {"MaxBytes", 1 << 20}, {".MinBytes", 1}, {"ReplicaID", -1}, {".Timestamp", -1},
				{"NumPartitions", 1}, {"Count", 3}, {"ReplicationFactor", 1}, {"ResourceType", 2}, {"Acks", -1}, {"SessionEpoch", -1},
				{"BrokerID", 1}, {"Leader", 1}, {"Generation", 1}, {"ResourcePatternType", 3}, {".Operation", 3}, {"PermissionType", 3},
			} {
				if strings.HasSuffix(at, d.suffix) {
					f.SetInt(d.n)
				}
			}
		}
	}
}

// sensibleString goes by the last that fits.
func sensibleString(at string) string {
	found := ""
	for _, d := range [][2]string{
		{".Topic", "t"}, {".Topics", "t"}, {"CreateTopicsRequest.Topics.Topic", "new"}, {"DeleteTopicsRequest.TopicNames", "new"},
		{"DeleteTopicsRequest.Topics.Topic", "new"}, {"Groups", "g"}, {".Group", "g"}, {"GroupID", "g"}, {"CoordinatorKey", "g"},
		{"CoordinatorKeys", "g"}, {"MemberID", someMemberID}, {"JoinGroupRequest.MemberID", ""}, {"ConsumerGroupHeartbeatRequest.MemberID", "a member's own"},
		{"ConsumerGroupHeartbeatRequest.Group", "new"}, {"SubscribedTopicNames", "t"}, {"ProtocolType", "consumer"}, {"Protocols.Name", "range"},
		{".Protocol", "range"}, {"ResourceName", "t"}, {"Configs.Name", "retention.ms"}, {"ConfigNames", "retention.ms"}, {"Configs.Value", "60000"},
		{"ClientSoftwareName", "fuzz"}, {"ClientSoftwareVersion", "1"}, {"Feature", "metadata.version"}, {"Type", "user"}, {"Dir", "/somewhere"},
	} {
		if strings.HasSuffix(at, d[0]) {
			found = d[1]
		}
	}
	return found
}

func sensibleBytes(name string) []byte {
	switch name {
	case "Records":
		return benchBatch(400)
	case "Metadata":
		m := kmsg.NewConsumerMemberMetadata()
		m.Topics = []string{"t"}
		return m.AppendTo(nil)
	}
	return nil
}

// valid is a request of one version with values that mean something.
func valid(key, version int16) kmsg.Request {
	req := kmsg.RequestForKey(key)
	sensible(reflect.ValueOf(req).Elem(), reflect.TypeOf(req).Elem().Name())
	req.SetVersion(version)
	if j, ok := req.(*kmsg.JoinGroupRequest); ok {
		j.Group += fmt.Sprint(version) // so that none waits for another's member
	}
	return req
}

// TestEveryVersionIsAnswered: a request of each API in each version gets an
// answer of that version.
func TestEveryVersionIsAnswered(t *testing.T) {
	var s stage
	defer s.close(t)
	n := 0
	for _, a := range apis() {
		for v := a.min; v <= a.max; v++ {
			s.ready(t)
			req := valid(a.key, v)
			out := s.play(t, s.frame(req.Key(), v, req.AppendTo(nil)), 30*time.Second)
			if len(out) == 0 {
				t.Errorf("%s version %d is not answered: %s", kmsg.NameForKey(a.key), v, s.logs.String())
				continue
			}
			answer(t, req, out)
			n++
		}
	}
	t.Logf("%d versions of %d APIs", n, len(apis()))
}

// frame is a request with the true ids.
func (s *stage) frame(key, version int16, body []byte) []byte {
	id := s.b.topics.byName("t").id
	body = bytes.ReplaceAll(body, someTopicID[:], id[:])
	body = bytes.ReplaceAll(body, []byte(someMemberID), []byte(s.member))
	return frame(key, version, 1, version >= s.b.apis[key].flexibleFrom, body)
}

// FuzzDispatch gives any body to any version of any API. No handler may panic,
// hang, or allocate more than in proportion, and what it answers must be of the
// version's form.
func FuzzDispatch(f *testing.F) {
	table := apis()
	for i, a := range table {
		for v := a.min; v <= a.max; v++ {
			f.Add(uint8(i), uint8(v-a.min), valid(a.key, v).AppendTo(nil))
		}
	}
	var s stage
	f.Cleanup(func() { s.close(f) })
	sample := []runtimemetrics.Sample{{Name: "/gc/heap/allocs:bytes"}}
	allocated := func() uint64 {
		runtimemetrics.Read(sample)
		return sample[0].Value.Uint64()
	}
	f.Fuzz(func(t *testing.T, i, version uint8, body []byte) {
		a := table[int(i)%len(table)]
		v := a.min + int16(version)%(a.max-a.min+1)
		s.ready(t)
		in := s.frame(a.key, v, body)
		before := allocated()
		out := s.play(t, in, 2*time.Millisecond)
		if grown := allocated() - before; grown > 32<<20+1000*uint64(len(in)) {
			t.Errorf("%s version %d of %d bytes allocated %d", kmsg.NameForKey(a.key), v, len(in), grown)
		}
		if len(out) == 0 {
			return
		}
		req := kmsg.RequestForKey(a.key)
		req.SetVersion(v)
		answer(t, req, out)
	})
}
