// Package collectday is the interceptor of the smart-car pilot that appends
// the day of collection to every record.
package collectday

import (
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "collect_day",
		Classes: []string{"com.wikibook.bigdata.smartcar.flume.CollectDayInterceptor$Builder", "com.wikibook.bigdata.smartcar.flume.CollectDayInterceptor"},
		Doc:     "Appends a comma and today's date (yyyyMMdd, local time) to the body.",
		Notes:   "Stands in for the class of the same name in the pilot's agent file, which Flume loads from a jar of the handbook's.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct{}

func (c *config) Fields() []component.Field { return nil }

func (c *config) NewInterceptor(component.Env) (component.Interceptor, error) {
	return &interceptor{now: time.Now}, nil
}

type interceptor struct{ now func() time.Time }

func (c *interceptor) Intercept(b *event.Batch) error {
	var buf [16]byte
	day := c.now().AppendFormat(buf[:0], ",20060102")
	for i := range b.Events() {
		old := b.Events()[i].Body
		body := b.Alloc(len(old) + len(day))
		copy(body[copy(body, old):], day)
		b.SetBodyView(i, body)
	}
	return nil
}
