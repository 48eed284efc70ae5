package bucket

import (
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/component"
)

func TestPenalties(t *testing.T) {
	errFirst, errSecond := errors.New("first"), errors.New("second")
	for _, tt := range []struct {
		name   string
		others bool
		err    error
		took   time.Duration // by the call that failed
		pause  time.Duration // 0: none
	}{
		{"alone", false, errFirst, time.Minute, 0},
		{"with others", true, errFirst, 0, time.Second},
		{"a slow one", true, errFirst, 3 * time.Second, 13 * time.Second},
		{"a very slow one", true, errFirst, time.Hour, time.Minute},
		{"permanent", false, component.Permanent(errFirst), 0, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				p := NewPenalties[string](time.Now)
				begin := time.Now()
				called := false
				try := func(err error) error {
					called = false
					return p.Try("bad", tt.others, func(since time.Time) error {
						if called = true; !since.Equal(begin) {
							t.Errorf("since %v, want %v", since, begin)
						}
						return err
					})
				}
				if err := p.Try("bad", tt.others, func(since time.Time) error {
					time.Sleep(tt.took)
					return tt.err
				}); err != tt.err {
					t.Fatal(err)
				}
				if tt.pause > 0 {
					time.Sleep(tt.pause - time.Nanosecond)
					if err := try(nil); called || err != tt.err {
						t.Errorf("within the pause: called %v, %v", called, err)
					}
					if err := p.Try("good", true, func(time.Time) error { return errSecond }); err != errSecond {
						t.Errorf("another target: %v", err)
					}
					time.Sleep(time.Nanosecond)
				}
				if err := try(errSecond); !called || err != errSecond {
					t.Errorf("after it: called %v, %v", called, err)
				}
				time.Sleep(time.Second)
				if err := try(nil); !called || err != nil {
					t.Errorf("healed: called %v, %v", called, err)
				}
				begin = time.Now() // it is forgiven
				if err := try(errFirst); !called || err != errFirst {
					t.Errorf("again: called %v, %v", called, err)
				}
			})
		})
	}
}

// Targets come from events: their number is bounded.
func TestPenaltiesBound(t *testing.T) {
	p := NewPenalties[int](time.Now)
	for i := range 3 * maxBad {
		_ = p.Try(i, true, func(time.Time) error { return errors.New("bad") })
		if len(p.bad) > maxBad {
			t.Fatalf("%d are remembered", len(p.bad))
		}
	}
}
