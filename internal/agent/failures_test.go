package agent

import (
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-data/sluice/event"
)

// A cause that changes is logged when it changes; one that stays, or comes
// back, once a minute; however many there are, only some of them.
func TestCausesInTheLog(t *testing.T) {
	for _, tt := range []struct {
		name  string
		cause func(since time.Duration, try int) string
		last  time.Duration
		want  []string
	}{
		{"one that stays", func(time.Duration, int) string { return "no table" }, 130 * time.Second, []string{"0s no table", "1m0s no table", "2m0s no table"}},
		{"another", func(d time.Duration, _ int) string {
			if d < 20*time.Second {
				return "no table"
			}
			return "no family"
		}, 50 * time.Second, []string{"0s no table", "20s no family"}},
		{"only its numbers change", func(_ time.Duration, try int) string { return fmt.Sprintf("open f.%d", try) }, 50 * time.Second, []string{"0s open f.1"}},
		{"two in turn", func(_ time.Duration, try int) string { return "cause " + strings.Repeat("x", try%2) }, 59 * time.Second, []string{"0s cause x", "0s cause "}},
		{"another each time", func(_ time.Duration, try int) string { return strings.Repeat("x", try) }, 59 * time.Second,
			[]string{"0s x", "0s xx", "0s xxx", "1s xxxx", "3s xxxxx"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				a, _ := load(t, flow+"a.sinks.k.into = causes\na.sources.r.count = 10\n")
				var got []string
				began, try := time.Now(), 0
				a.log = slog.New(slog.NewTextHandler(&bytes.Buffer{}, &slog.HandlerOptions{ReplaceAttr: func(_ []string, at slog.Attr) slog.Attr {
					if at.Key == "err" {
						got = append(got, fmt.Sprint(time.Since(began).Truncate(time.Second), " ", at.Value))
					}
					return at
				}}))
				c := into("causes")
				c.hook = func([]event.Event) error {
					if time.Since(began) > tt.last {
						return nil
					}
					try++
					return errors.New(tt.cause(time.Since(began), try))
				}
				if err := run(t, a, func() bool { return c.count() == 10 }); err != nil {
					t.Fatal(err)
				}
				// The pauses grow to 5 s, so a cause that is due is logged up to so much later.
				for i := range got {
					at, cause, _ := strings.Cut(got[i], " ")
					d, err := time.ParseDuration(at)
					if err != nil {
						t.Fatal(err)
					}
					if d >= 20*time.Second {
						got[i] = fmt.Sprint(d.Truncate(20*time.Second), " ", cause)
					}
				}
				if !slices.Equal(got, tt.want) {
					t.Errorf("logged %q, want %q", got, tt.want)
				}
			})
		})
	}
}
