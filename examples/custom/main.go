// Command upper is Sluice with one more interceptor, which writes bodies in capitals.
package main

import (
	"bytes"
	"os"

	"github.com/sluice-data/sluice"
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/standard"
)

type upper struct{ prefix string }

func (u *upper) Fields() []component.Field {
	return []component.Field{component.String("prefix", &u.prefix, "").Describe("Put before each body.")}
}

func (u *upper) NewInterceptor(component.Env) (component.Interceptor, error) { return u, nil }

func (u *upper) Intercept(b *event.Batch) error {
	for i, e := range b.Events() {
		b.SetBody(i, append([]byte(u.prefix), bytes.ToUpper(e.Body)...))
	}
	return nil
}

func main() {
	component.RegisterInterceptor(component.Info{Name: "upper", Classes: []string{"com.example.UpperInterceptor$Builder"}, Doc: "Writes bodies in capitals."},
		func() component.InterceptorConfig { return new(upper) })
	os.Exit(sluice.Main())
}
