// Package wait is how channels wait: puts for room, takes for events.
package wait

import (
	"context"
	"time"
)

// Signal wakes one of those that wait for ch, which holds one token. If nobody
// waits, the next one to do so does not have to.
func Signal(ch chan struct{}) {
	select {
	case ch <- struct{}{}:
	default:
	}
}

// Timer bounds all the waits of one operation together. The zero value is
// ready, and ready again after Stop. It is not safe for concurrent use.
type Timer struct {
	timer *time.Timer // nil: never needed yet
	on    bool
}

// For waits for a token of ch. It answers false when limit has passed since the
// operation's first wait, or when ctx ends.
func (t *Timer) For(ctx context.Context, ch <-chan struct{}, limit time.Duration) bool {
	if !t.on {
		t.on = true
		if t.timer == nil {
			t.timer = time.NewTimer(limit)
		} else {
			t.timer.Reset(limit)
		}
	}
	select {
	case <-ch:
		return true
	case <-t.timer.C:
	case <-ctx.Done():
	}
	return false
}

// Waited says whether the operation has waited: others may be waiting, too.
func (t *Timer) Waited() bool { return t.on }

// Stop ends the operation.
func (t *Timer) Stop() {
	if t.on {
		t.on = false
		t.timer.Stop()
	}
}
