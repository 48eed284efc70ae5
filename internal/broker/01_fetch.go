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
//   - A long poll waits until MinBytes are there over all partitions, MaxWait
//     has passed, or a partition has an error. It is woken by the appends
//     themselves, never by looking again and again.
//   - The first batch of the first partition with data is sent whole even if
//     it is above every limit (KIP-74).
//   - MaxBytes is bounded by the broker's own limit, MaxWait by maxFetchWait.
//   - Sessions (KIP-227): see fetchsession.go.
//   - Record bytes go from the file to the socket.
//   - There is one replica: followers, racks and preferred replicas of the
//     request are not looked at, transactions do not exist, so the last stable
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
	req := kreq.(*kmsg.FetchRequest)
	// All of it waits for its turn: what is read early would pile up in
	// front of a slow reader.
	return outcome{later: func(ctx context.Context) (outcome, error) { return b.fetch(ctx, r, req) }}, nil
}

// fetching is one partition of a fetch.
type fetching struct {
	want *fetchPartition
	part *part
	code int16
	res  log.ReadResult
}

func (b *Broker) fetch(ctx context.Context, r *request, req *kmsg.FetchRequest) (outcome, error) {
	resp := &wire.FetchResponse{Version: req.Version}
	s, code := b.fetches.resolve(b.topics, req)
	if code != 0 {
		resp.ErrorCode = code
		return outcome{msg: fetchMessage(r, resp)}, nil
	}
	defer s.mu.Unlock() // resolve locks: a session has one fetch at a time
	parts := make([]fetching, len(s.parts))
	for i := range s.parts {
		parts[i].want = s.parts[i]
	}
	if err := b.poll(ctx, req, parts); err != nil {
		return outcome{}, err
	}
	resp.SessionID = s.id
	s.respond(resp, parts)
	b.metrics.fetched(parts)
	release := func() { releaseAll(parts) }
	return outcome{msg: fetchMessage(r, resp), release: release}, nil
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

// poll reads the partitions until there is enough or the time is over.
func (b *Broker) poll(ctx context.Context, req *kmsg.FetchRequest, parts []fetching) error {
	var timeout <-chan time.Time
	if wait := waitFor(req.MaxWaitMillis, maxFetchWait); wait > 0 {
		t := time.NewTimer(wait)
		defer t.Stop()
		timeout = t.C
	}
	for {
		size, done := b.readAll(req, parts)
		missing := int64(req.MinBytes) - size
		if timeout == nil || done || missing <= 0 {
			return nil
		}
		w := log.NewWaiter(int(missing))
		cancels := make([]func(), 0, len(parts))
		iso := log.Isolation(req.IsolationLevel)
		for i := range parts {
			cancels = append(cancels, parts[i].part.Notify(w, parts[i].res.Next, iso))
		}
		over := false
		select {
		case <-w.C():
		case <-timeout:
			over = true
		case <-b.stopping: // what there is goes out at once
			over = true
		case <-ctx.Done():
		}
		for _, c := range cancels {
			c()
		}
		if ctx.Err() != nil {
			releaseAll(parts)
			return errClose
		}
		if over {
			return nil
		}
		releaseAll(parts)
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
		f.res, f.code = log.ReadResult{}, 0
		f.part, f.code = f.want.find(b.topics)
		if f.code == 0 {
			f.code = checkEpoch(f.want.epoch)
		}
		if f.code == 0 {
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
		done = done || f.code != 0
	}
	return size, done
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
