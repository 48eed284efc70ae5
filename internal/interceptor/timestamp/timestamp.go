// Package timestamp is the interceptor that stamps events with the time they
// passed through the agent.
package timestamp

import (
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "timestamp",
		Classes: []string{"org.apache.flume.interceptor.TimestampInterceptor$Builder", "org.apache.flume.interceptor.TimestampInterceptor"},
		Doc:     "Sets a header to the time in milliseconds since 1970.",
		Notes:   "The clock is read once per batch: its events share one time.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	header   string
	preserve bool
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("headerName", &c.header, "timestamp").Describe("The header to set."),
		component.Bool("preserveExisting", &c.preserve, false).Describe("Leave a header alone that the event has already."),
	}
}

func (c *config) NewInterceptor(component.Env) (component.Interceptor, error) {
	return &interceptor{config: *c, now: time.Now}, nil
}

type interceptor struct {
	config
	now func() time.Time
}

func (t *interceptor) Intercept(b *event.Batch) error {
	if b.Len() == 0 {
		return nil
	}
	var buf [20]byte
	ms := strconv.AppendInt(buf[:0], t.now().UnixMilli(), 10)
	b.SetHeaderAll(t.header, b.Copy(ms), t.preserve)
	return nil
}
