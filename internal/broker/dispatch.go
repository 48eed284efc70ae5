package broker

import (
	"context"
	"errors"
	"fmt"
	"math"
	"runtime/debug"
	"sync"
	"time"

	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// api declares one API. Of handle and start one is set.
type api struct {
	key      int16
	min, max int16 // versions that are served
	// shownFromZero makes ApiVersions show version 0 as the lowest although
	// min is: see 00_produce.go.
	shownFromZero bool
	// flexibleFrom is the first version with tagged fields (KIP-482), which
	// decides the version of the request's header. Start sets it.
	flexibleFrom int16
	stats        *apiStats
	// handle answers at once.
	handle func(ctx context.Context, b *Broker, r *request, req kmsg.Request) (kmsg.Response, error)
	// start fixes the order of the request's effects and may leave the
	// answer for later. It gets the undecoded body.
	start func(ctx context.Context, b *Broker, r *request) (outcome, error)
}

// apis is the dispatch table, one entry for each NN_name.go.
func apis() []api {
	return []api{
		{key: 0, min: 3, max: 13, shownFromZero: true, start: startProduce},
		{key: 1, min: 4, max: 18, start: startFetch},
		{key: 2, min: 1, max: 11, handle: handleListOffsets},
		{key: 3, min: 0, max: 13, handle: handleMetadata},
		{key: 8, min: 2, max: 10, start: startOffsetCommit},
		{key: 9, min: 1, max: 10, handle: handleOffsetFetch},
		{key: 10, min: 0, max: 6, handle: handleFindCoordinator},
		{key: 11, min: 0, max: 9, start: startJoinGroup},
		{key: 12, min: 0, max: 4, handle: handleHeartbeat},
		{key: 13, min: 0, max: 5, handle: handleLeaveGroup},
		{key: 14, min: 0, max: 5, start: startSyncGroup},
		{key: 15, min: 0, max: 6, handle: handleDescribeGroups},
		{key: 16, min: 0, max: 5, handle: handleListGroups},
		{key: 18, min: 0, max: 4, handle: handleAPIVersions},
		{key: 19, min: 2, max: 7, handle: handleCreateTopics},
		{key: 20, min: 1, max: 6, handle: handleDeleteTopics},
		{key: 21, min: 0, max: 2, handle: handleDeleteRecords},
		{key: 22, min: 0, max: 5, handle: handleInitProducerID},
		{key: 23, min: 2, max: 4, handle: handleOffsetForLeaderEpoch},
		{key: 29, min: 1, max: 3, handle: handleDescribeACLs},
		{key: 30, min: 1, max: 3, handle: handleCreateACLs},
		{key: 31, min: 1, max: 3, handle: handleDeleteACLs},
		{key: 32, min: 1, max: 4, handle: handleDescribeConfigs},
		{key: 33, min: 0, max: 2, handle: handleAlterConfigs},
		{key: 34, min: 1, max: 2, handle: handleAlterReplicaLogDirs},
		{key: 35, min: 1, max: 5, handle: handleDescribeLogDirs},
		{key: 37, min: 0, max: 3, handle: handleCreatePartitions},
		{key: 42, min: 0, max: 2, handle: handleDeleteGroups},
		{key: 43, min: 0, max: 2, handle: handleElectLeaders},
		{key: 44, min: 0, max: 1, handle: handleIncrementalAlterConfigs},
		{key: 45, min: 0, max: 1, handle: handleAlterPartitionReassignments},
		{key: 46, min: 0, max: 0, handle: handleListPartitionReassignments},
		{key: 47, min: 0, max: 0, handle: handleOffsetDelete},
		{key: 48, min: 0, max: 1, handle: handleDescribeClientQuotas},
		{key: 49, min: 0, max: 1, handle: handleAlterClientQuotas},
		{key: 50, min: 0, max: 0, handle: handleDescribeUserSCRAMCredentials},
		{key: 55, min: 0, max: 2, handle: handleDescribeQuorum},
		{key: 57, min: 0, max: 2, handle: handleUpdateFeatures},
		{key: 60, min: 0, max: 2, handle: handleDescribeCluster},
		{key: 61, min: 0, max: 0, handle: handleDescribeProducers},
		{key: 68, min: 0, max: 1, handle: handleConsumerGroupHeartbeat},
		{key: 69, min: 0, max: 1, handle: handleConsumerGroupDescribe},
		{key: 74, min: 0, max: 1, handle: handleListConfigResources},
		{key: 75, min: 0, max: 0, handle: handleDescribeTopicPartitions},
	}
}

const (
	keyProduce     = 0
	keyFetch       = 1
	keyAPIVersions = 18

	keyConsumerGroupHeartbeat = 68
)

// shownMin is the lowest version that ApiVersions shows.
func (a *api) shownMin() int16 {
	if a.shownFromZero {
		return 0
	}
	return a.min
}

// request is one request on its way through the broker.
type request struct {
	wire.Header
	api   *api
	conn  *conn
	frame []byte // all of it; views into it live as long as the request
	body  []byte
	// pooled is where frame came from, nil if it is not from the pool.
	pooled   *[]byte
	reserved int64         // see reserve
	size     int32         // of the frame
	began    time.Duration // when it had arrived, by metrics.clock
	ran      time.Duration // when it was started, if it had to wait
}

// outcome is what a request has come to.
type outcome struct {
	resp kmsg.Response
	// msg is an encoded response; release is called when it was sent.
	msg     *wire.Message
	release func()
	// later finishes the request in its turn, when the answers before it
	// are out. Long polls, group joins and waits for the disk are there.
	later func(ctx context.Context) (outcome, error)
	// try, if set, is called instead of later when no answer is due before
	// this one. It does not wait; what it cannot finish is in its own later.
	try    func(ctx context.Context) (outcome, error)
	silent bool // acks=0: no answer
}

// apiError is an error with the code that the client gets.
type apiError struct {
	code *kerr.Error
	msg  string
}

func (e *apiError) Error() string { return e.msg }

func apiErrorf(code *kerr.Error, format string, args ...any) error {
	return &apiError{code: code, msg: fmt.Sprintf(format, args...)}
}

// codeOf splits an error for a response.
func codeOf(err error) (int16, *string) {
	if err == nil {
		return 0, nil
	}
	msg := err.Error()
	var ae *apiError
	if errors.As(err, &ae) {
		return ae.code.Code, &msg
	}
	return kerr.UnknownServerError.Code, &msg
}

// errClose ends a connection without being the peer's fault.
var errClose = errors.New("close connection")

// bigDecode lets one large request at a time be decoded: kmsg may allocate a
// multiple of what a hostile request has sent before it sees that the request
// is short.
var bigDecodeMin = 64 << 10

type decoder struct{ big sync.Mutex }

func (d *decoder) decode(r *request) (kmsg.Request, error) {
	req := kmsg.RequestForKey(r.Key)
	req.SetVersion(r.Version)
	if len(r.body) >= bigDecodeMin {
		d.big.Lock()
		defer d.big.Unlock()
	}
	if len(r.body) > maxSmallRequest && !wire.CheckShape(r.body, bigShape(r.Key, r.Version), req.IsFlexible()) {
		return nil, fmt.Errorf("%w: %s version %d of %d bytes has wrong counts or tagged fields", wire.ErrMalformed, kmsg.NameForKey(r.Key), r.Version, len(r.body))
	}
	if err := req.ReadFrom(r.body); err != nil {
		return nil, fmt.Errorf("%w: %s version %d: %w", wire.ErrMalformed, kmsg.NameForKey(r.Key), r.Version, err)
	}
	return req, nil
}

// flexibleFrom finds the first version of an API with tagged fields.
func flexibleFrom(key int16) int16 {
	req := kmsg.RequestForKey(key)
	for v := int16(0); v <= req.MaxVersion(); v++ {
		if req.SetVersion(v); req.IsFlexible() {
			return v
		}
	}
	return math.MaxInt16
}

// run starts a request. A panic becomes an error, so that one request cannot
// take the others' broker down.
func (b *Broker) run(ctx context.Context, r *request) (out outcome, err error) {
	defer b.recovered(r, &err)
	r.began = b.metrics.clock()
	r.api.stats.request(r.Version, 1)
	if r.Key == keyAPIVersions && (r.Version < r.api.min || r.Version > r.api.max) {
		return outcome{resp: unsupportedAPIVersions(r.api)}, nil
	}
	if r.api.start != nil {
		return r.api.start(ctx, b, r)
	}
	req, err := b.decoder.decode(r)
	if err != nil {
		return out, err
	}
	out.resp, err = r.api.handle(ctx, b, r, req)
	return out, err
}

// finish runs the later part, in the turn of the request.
func (b *Broker) finish(ctx context.Context, r *request, later func(context.Context) (outcome, error)) (out outcome, err error) {
	defer b.recovered(r, &err)
	return later(ctx)
}

func (b *Broker) recovered(r *request, err *error) {
	if p := recover(); p != nil {
		b.logger.Error("panic in a request handler; its connection is closed", "api", kmsg.NameForKey(r.Key), "version", r.Version,
			"client", r.ClientID, "remote", r.conn.remote, "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
		*err = errClose
	}
}

// encode turns a response into a message, unless it is one.
func (out *outcome) encode(r *request) *wire.Message {
	if out.msg != nil {
		return out.msg
	}
	m := wire.NewMessage()
	// KIP-511: the response header of ApiVersions has no tagged fields, so
	// that a client can read it before it knows what the broker speaks.
	flex := out.resp.IsFlexible() && r.Key != keyAPIVersions
	m.Append(func(dst []byte) []byte {
		return out.resp.AppendTo(wire.AppendResponseHeader(dst, r.CorrelationID, flex))
	})
	return m
}

// waitFor bounds a client's wish to wait.
func waitFor(millis int32, max time.Duration) time.Duration {
	return min(time.Duration(millis)*time.Millisecond, max)
}
