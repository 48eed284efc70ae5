// Package interceptor_test checks the interceptors that need no more than a
// table: what goes in, what comes out, and that no event costs an allocation.
package interceptor_test

import (
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
	_ "github.com/sluice-data/sluice/internal/interceptor/collectday"
	_ "github.com/sluice-data/sluice/internal/interceptor/host"
	_ "github.com/sluice-data/sluice/internal/interceptor/static"
	_ "github.com/sluice-data/sluice/internal/interceptor/timestamp"
	_ "github.com/sluice-data/sluice/internal/interceptor/uuid"
)

func build(t *testing.T, name string, props ...string) component.Interceptor {
	t.Helper()
	cfg, findings := componenttest.Config(t, component.KindInterceptor, name, props...)
	if len(findings) > 0 {
		t.Fatalf("findings: %v", findings)
	}
	ic, err := cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
	if err != nil {
		t.Fatal(err)
	}
	return ic
}

// show prints an event as body{k=v …}.
func show(e event.Event) string {
	var hs []string
	for _, h := range e.Headers {
		hs = append(hs, fmt.Sprintf("%s=%s", h.Key, h.Value))
	}
	return fmt.Sprintf("%s{%s}", e.Body, strings.Join(hs, " "))
}

const uuidText = `[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}`

func TestInterceptors(t *testing.T) {
	today := time.Now().Format("20060102")
	hostname, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		name  string
		props []string
		want  string // of an event "x" with header a=1
	}{
		{"static", nil, `x\{a=1 key=value\}`},
		{"STATIC", []string{"key=a", "value=2"}, `x\{a=1\}`},
		{"org.apache.flume.interceptor.StaticInterceptor$Builder", []string{"key=a", "value=2", "preserveExisting=false"}, `x\{a=2\}`},
		{"timestamp", nil, `x\{a=1 timestamp=\d{13}\}`},
		{"host", nil, `x\{a=1 host=[0-9a-f.:]+\}`},
		{"host", []string{"useIP=false", "hostHeader=h"}, `x\{a=1 h=` + regexp.QuoteMeta(hostname) + `.*\}`},
		{"host", []string{"hostHeader=a", "preserveExisting=true"}, `x\{a=1\}`},
		{"org.apache.flume.sink.solr.morphline.UUIDInterceptor$Builder", []string{"prefix=p-"}, `x\{a=1 id=p-` + uuidText + `\}`},
		{"uuid", []string{"headerName=a"}, `x\{a=1\}`},
		{"uuid", []string{"headerName=a", "preserveExisting=false"}, `x\{a=` + uuidText + `\}`},
		{"com.wikibook.bigdata.smartcar.flume.CollectDayInterceptor$Builder", nil, `x,(` + today + `|` + time.Now().AddDate(0, 0, 1).Format("20060102") + `)\{a=1\}`},
	} {
		t.Run(tt.name+strings.Join(tt.props, ","), func(t *testing.T) {
			ic := build(t, tt.name, tt.props...)
			b := event.NewPool().NewBatch()
			defer b.Release()
			b.AppendEvent([]byte("x"), []event.KV{{Key: "a", Value: []byte("1")}})
			if err := ic.Intercept(b); err != nil {
				t.Fatal(err)
			}
			if got := show(b.Events()[0]); !regexp.MustCompile("^" + tt.want + "$").MatchString(got) {
				t.Errorf("got %s, want %s", got, tt.want)
			}
		})
	}
}

func TestUUIDsDiffer(t *testing.T) {
	ic := build(t, "uuid")
	b := event.NewPool().NewBatch()
	defer b.Release()
	for range 1000 {
		b.Append([]byte("x"))
	}
	if err := ic.Intercept(b); err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for _, e := range b.Events() {
		id, _ := e.Header("id")
		if !regexp.MustCompile("^" + uuidText + "$").Match(id) {
			t.Fatalf("not a UUID of version 4: %q", id)
		}
		seen[string(id)] = true
	}
	if len(seen) != 1000 {
		t.Errorf("%d different UUIDs of 1000", len(seen))
	}
}

func TestNoAllocationPerEvent(t *testing.T) {
	for _, name := range []string{"static", "timestamp", "host", "uuid", "collect_day"} {
		ic := build(t, name)
		p := event.NewPool()
		round := func() {
			b := p.NewBatch()
			for range 1000 {
				b.Append([]byte("20160101000000,A0001,100,79,71,87,1,1,1,1,A,A,94"))
			}
			if err := ic.Intercept(b); err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
		round()
		if n := testing.AllocsPerRun(20, round); n > 20 { // the race detector and a GC empty pools
			t.Errorf("%s: %v allocations for 1000 events", name, n)
		}
	}
}
