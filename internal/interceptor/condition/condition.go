// Package condition tells operators of events that an interceptor could not
// handle as it should, without a line in the log for each.
package condition

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sluice-data/sluice/component"
)

// Reporter keeps one interceptor's condition: it holds from the first batch
// with such events to the next batch without. It is safe for concurrent use.
type Reporter struct {
	env   component.Env
	holds atomic.Bool
	mu    sync.Mutex // orders the calls of Env.Health
	text  string     // of the condition that health has now
	told  bool       // the log said it
}

// New returns the reporter of the interceptor that env was made for.
func New(env component.Env) *Reporter { return &Reporter{env: env} }

// Batch is called once a batch: err says what is wrong with some of its events
// and what to do, nil that all is well. Health has it while it lasts; the log
// gets it once, because batches may flip between the two for hours.
func (r *Reporter) Batch(err error) {
	if err == nil && !r.holds.Load() {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	text := ""
	if err != nil {
		text = err.Error()
	}
	if text == r.text {
		return
	}
	r.text = text
	r.holds.Store(err != nil)
	r.env.Health(err)
	if err != nil && !r.told {
		r.told = true
		r.env.Log.Warn(text + "; this is said once, health and the counters tell the rest")
	}
}

// GaveUp is the condition that an expression was given up on events.
func GaveUp(expr, outcome string) error {
	return fmt.Errorf("matching %q takes too long on some events, %s; write it without back-references, look-around and possessive groups", expr, outcome)
}
