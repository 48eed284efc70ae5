// Package upper is an interceptor that writes bodies in capitals.
package upper

import (
	"bytes"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "upper",
		Classes: []string{"com.example.UpperInterceptor$Builder"}, // what an agent file for Flume calls it
		Doc:     "Writes bodies in capitals.",
	}, func() component.InterceptorConfig { return new(interceptor) })
}

// interceptor is its own configuration.
type interceptor struct{ prefix string }

func (u *interceptor) Fields() []component.Field {
	return []component.Field{component.String("prefix", &u.prefix, "").Describe("Put before each body.")}
}

func (u *interceptor) NewInterceptor(component.Env) (component.Interceptor, error) { return u, nil }

func (u *interceptor) Intercept(b *event.Batch) error {
	for i, e := range b.Events() {
		b.SetBody(i, append([]byte(u.prefix), bytes.ToUpper(e.Body)...))
	}
	return nil
}
