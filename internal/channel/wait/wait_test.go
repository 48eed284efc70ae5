package wait

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

func TestTimer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var w Timer
		ch := make(chan struct{}, 1)
		w.Stop() // nothing to stop
		for range 2 {
			begin := time.Now()
			Signal(ch)
			Signal(ch) // one is due already
			if w.Waited() || !w.For(t.Context(), ch, time.Second) || !w.Waited() || time.Since(begin) > 0 {
				t.Errorf("a token that is there is waited for %v", time.Since(begin))
			}
			time.AfterFunc(600*time.Millisecond, func() { Signal(ch) })
			if !w.For(t.Context(), ch, time.Second) || time.Since(begin) != 600*time.Millisecond {
				t.Errorf("the token comes after %v", time.Since(begin))
			}
			if w.For(t.Context(), ch, time.Second) || time.Since(begin) != time.Second {
				t.Errorf("the limit is %v for all waits together", time.Since(begin))
			}
			w.Stop()
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if w.For(ctx, ch, time.Hour) {
			t.Error("a token of an empty channel")
		}
		w.Stop()
	})
}
