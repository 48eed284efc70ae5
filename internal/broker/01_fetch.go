package broker

import (
	"context"
	"errors"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/broker/wire"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fetch: v4-18
//
// Rules:
//   - What is there already is answered by the connection's reader.
//   - A long poll waits until MinBytes are there over all partitions, MaxWait
//     has passed, or a partition has an error. It is woken by the appends
//     themselves, never by looking again and again.
//   - The first batch of the first partition with data is sent whole even if
//     it is above every limit (KIP-74).
//   - MaxBytes is bounded by the broker's own limit, MaxWait by maxFetchWait.
//   - Sessions (KIP-227): see fetchsession.go.
//   - A client over its consumer_byte_rate gets its records, is told for how
//     long it is not read from, and is not read from (KIP-219).
//   - Record bytes go from the file to the socket.
//   - There is one replica: a follower's fetch is NOT_LEADER_OR_FOLLOWER; racks
//     are not looked at, transactions do not exist, so the last stable
//     offset is the high watermark.
//
// Version notes: v5 log start offset; v7 sessions; v9 leader epochs
// (KIP-320); v12 flexible; v13 topic ids (KIP-516).

// maxFetchWait bounds a long poll, so that a client's typing error does not
// hold a connection's answers for weeks.
const maxFetchWait = 5 * time.Minute

func startFetch(_ context.Context, b *Broker, r *request) (outcome, error) {
	kreq, err := b.decoder.decode(r)
	if err != nil {
		return outcome{}, err
	}
	f := &fetch{b: b, r: r, req: kreq.(*kmsg.FetchRequest)}
	// All of it waits for its turn: what is read early would pile up in
	// front of a slow reader.
	return outcome{later: f.begin, try: f.begin}, nil
}

// fetch is a Fetch under way.
type fetch struct {
	b     *Broker
	r     *request
	req   *kmsg.FetchRequest
	s     *fetchSession // locked
	parts []fetching
	until time.Time // end of the long poll
}

// fetching is one partition of a fetch.
type fetching struct {
	want *fetchPartition
	part *part
	code int16
	res  log.ReadResult
	// diverged says that the client's log went another way at end, and that
	// it must cut its own before it reads on.
	diverged bool
	end      wire.EpochEnd
}

// begin looks at what is there now. What has to wait is in the outcome's later.
func (f *fetch) begin(context.Context) (outcome, error) {
	s, code := f.b.fetches.resolve(f.b.topics, f.req)
	if code != 0 {
		f.r.api.stats.failed(code)
		return outcome{msg: fetchMessage(f.r, &wire.FetchResponse{Version: f.req.Version, ErrorCode: code})}, nil
	}
	f.s = s // resolve locks: a session has one fetch at a time
	defer f.onPanic()
	f.parts = make([]fetching, len(s.parts))
	for i := range s.parts {
		f.parts[i].want = s.parts[i]
	}
	size, done := f.b.readAll(f.req, f.parts)
	if wait := waitFor(f.req.MaxWaitMillis, maxFetchWait); wait > 0 && !done && size < int64(f.req.MinBytes) {
		f.until = time.Now().Add(wait)
		return outcome{later: f.poll, release: f.abandon}, nil
	}
	return f.answer(), nil
}

// abandon ends a fetch that is not answered.
func (f *fetch) abandon() {
	releaseAll(f.parts)
	f.s.mu.Unlock()
}

// onPanic keeps a fault from locking the session for ever.
func (f *fetch) onPanic() {
	if p := recover(); p != nil {
		f.abandon()
		panic(p)
	}
}

// poll waits until there is enough or the time is over, and answers.
func (f *fetch) poll(ctx context.Context) (outcome, error) {
	defer f.onPanic()
	b := f.b
	timeout := time.NewTimer(time.Until(f.until))
	defer timeout.Stop()
	var size int64
	for i := range f.parts {
		size += f.parts[i].res.Size
	}
	for over := false; !over; {
		w := log.NewWaiter(int(int64(f.req.MinBytes) - size))
		cancels := make([]func(), 0, len(f.parts))
		iso := log.Isolation(f.req.IsolationLevel)
		for i := range f.parts {
			cancels = append(cancels, f.parts[i].part.Notify(w, f.parts[i].res.Next, iso))
		}
		select {
		case <-w.C():
		case <-timeout.C:
			over = true
		case <-b.stopping: // what there is goes out at once
			over = true
		case <-ctx.Done():
		}
		for _, c := range cancels {
			c()
		}
		if ctx.Err() != nil {
			f.abandon()
			return outcome{}, errClose
		}
		if !over {
			releaseAll(f.parts)
			var done bool
			size, done = b.readAll(f.req, f.parts)
			over = done || size >= int64(f.req.MinBytes)
		}
	}
	return f.answer(), nil
}

func (f *fetch) answer() outcome {
	resp := &wire.FetchResponse{Version: f.req.Version, SessionID: f.s.id}
	if f.b.quotas.any() {
		var size int64
		for i := range f.parts {
			size += f.parts[i].res.Size
		}
		if resp.Throttle = f.b.quotas.charge(quotaConsume, f.r.ClientID, size); resp.Throttle > 0 {
			f.r.conn.mute(resp.Throttle)
		}
	}
	f.s.respond(resp, f.parts, f.req.IsolationLevel == int8(log.ReadCommitted))
	f.b.metrics.fetched(f.parts, f.r.api.stats)
	f.s.mu.Unlock()
	return outcome{msg: fetchMessage(f.r, resp), release: func() { releaseAll(f.parts) }}
}

func fetchMessage(r *request, resp *wire.FetchResponse) *wire.Message {
	m := wire.NewMessage()
	m.Append(func(dst []byte) []byte { return wire.AppendResponseHeader(dst, r.CorrelationID, r.Version >= 12) })
	resp.Encode(m)
	return m
}

func releaseAll(parts []fetching) {
	for i := range parts {
		parts[i].res.Release()
	}
}

// readAll reads what is there now. done says that waiting would not bring
// more: some partition has an error, or has records that a limit cut off (a
// waiter on these would fire at once, and the poll would spin).
func (b *Broker) readAll(req *kmsg.FetchRequest, parts []fetching) (size int64, done bool) {
	limit := int64(min(req.MaxBytes, b.cfg.MaxFetchBytes))
	iso := log.Isolation(req.IsolationLevel)
	for i := range parts {
		f := &parts[i]
		f.res, f.code, f.diverged = log.ReadResult{}, 0, false
		f.part, f.code = f.want.find(b.topics)
		switch {
		case f.code != 0:
		case req.ReplicaID >= 0 || req.ReplicaState.ID >= 0:
			f.code = kerr.NotLeaderForPartition.Code // there are no followers
		default:
			f.code = checkEpoch(f.want.epoch)
		}
		if f.code == 0 && f.want.fetched >= 0 {
			f.compareEpochs()
		}
		if f.diverged {
			f.res.Offsets = f.part.Offsets()
		} else if f.code == 0 {
			res, err := f.part.Read(log.ReadReq{
				Offset:    f.want.offset,
				MaxBytes:  int(max(min(limit-size, int64(f.want.maxBytes)), 0)),
				MinOne:    size == 0,
				Isolation: iso,
			})
			if err != nil {
				res.Release()
				f.code = log.KafkaCode(err)
				if !errors.Is(err, log.ErrOffsetOutOfRange) && !errors.Is(err, log.ErrClosed) && b.metrics.storageErrors.allow() {
					b.logger.Error("records could not be read", "topic", f.part.topic.name, "partition", f.part.id, "offset", f.want.offset, "err", err)
				}
			} else {
				f.res = res
				size += res.Size
				done = done || res.Next < res.Offsets.High
			}
		}
		done = done || f.code != 0 || f.diverged
	}
	return size, done
}

// compareEpochs finds out whether the client's log is a part of ours: it says
// of what epoch its last record is, and where that ended (KIP-320).
func (f *fetching) compareEpochs() {
	high := f.part.Offsets().High
	end := wire.EpochEnd{Epoch: leaderEpoch, Offset: high}
	if f.want.fetched != leaderEpoch {
		end.Epoch, end.Offset = f.part.OffsetForLeaderEpoch(f.want.fetched)
	}
	switch {
	case end.Epoch < 0 || f.want.fetched > leaderEpoch:
		f.code = kerr.OffsetOutOfRange.Code
	case end.Epoch < f.want.fetched || end.Offset < f.want.offset:
		f.diverged, f.end = true, end
	}
}

// checkEpoch compares the leader epoch that a client knows, -1 for none.
func checkEpoch(epoch int32) int16 {
	switch {
	case epoch == -1 || epoch == leaderEpoch:
		return 0
	case epoch < leaderEpoch:
		return kerr.FencedLeaderEpoch.Code
	}
	return kerr.UnknownLeaderEpoch.Code
}
