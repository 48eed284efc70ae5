// Package static is the interceptor that sets one fixed header.
package static

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "static",
		Classes: []string{"org.apache.flume.interceptor.StaticInterceptor$Builder", "org.apache.flume.interceptor.StaticInterceptor"},
		Doc:     "Sets a header to a fixed value.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	key, value string
	preserve   bool
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("key", &c.key, "key").Describe("The header to set."),
		component.String("value", &c.value, "value").Describe("Its value."),
		component.Bool("preserveExisting", &c.preserve, true).Describe("Leave a header alone that the event has already."),
	}
}

func (c *config) NewInterceptor(component.Env) (component.Interceptor, error) {
	return &interceptor{c.key, []byte(c.value), c.preserve}, nil
}

type interceptor struct {
	key      string
	value    []byte // never changes: all events share it
	preserve bool
}

func (s *interceptor) Intercept(b *event.Batch) error {
	b.SetHeaderAll(s.key, s.value, s.preserve)
	return nil
}
