package timestamp

import (
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func TestTimestamp(t *testing.T) {
	for _, tt := range []struct {
		props     []string
		key, want string
	}{
		{nil, "timestamp", "1234567890123"},
		{[]string{"preserveExisting=true"}, "timestamp", "7"},
		{[]string{"headerName=when"}, "when", "1234567890123"},
	} {
		cfg, findings := componenttest.Config(t, component.KindInterceptor, "timestamp", tt.props...)
		if len(findings) > 0 {
			t.Fatal(findings)
		}
		ic, err := cfg.(*config).NewInterceptor(componenttest.QuietEnv())
		if err != nil {
			t.Fatal(err)
		}
		ic.(*interceptor).now = func() time.Time { return time.UnixMilli(1234567890123) }
		b := event.NewPool().NewBatch()
		b.AppendEvent([]byte("x"), []event.KV{{Key: "timestamp", Value: []byte("7")}})
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		if got, _ := b.Events()[0].Header(tt.key); string(got) != tt.want {
			t.Errorf("%v: %s = %q, want %q", tt.props, tt.key, got, tt.want)
		}
		b.Release()
	}
}
