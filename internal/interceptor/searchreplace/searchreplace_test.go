package searchreplace

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func build(t testing.TB, props ...string) (component.Interceptor, error) {
	t.Helper()
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "search_replace", props...)
	return cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
}

func TestReplace(t *testing.T) {
	for _, c := range []struct {
		props    []string
		in, want string
	}{
		{[]string{`searchPattern=(\d\d\d\d-\d\d-\d\d\s)`, `replaceString=<$1>`}, "2016-01-03 a 2016-01-04 b", "<2016-01-03 >a <2016-01-04 >b"},
		{[]string{`searchPattern=^[A-Za-z0-9_]+`}, "abc def", " def"}, // no replacement: nothing
		{[]string{`searchPattern=x`, `replaceString=y`}, "abc", "abc"},
		{[]string{`searchPattern=(?<k>\w+)=(\w+)`, `replaceString=${k}:\$$2`}, "a=1 b=2", "a:$1 b:$2"},
		{[]string{`searchPattern=a`, `replaceString=b`}, "\xffa\xfe", "\xffb\xfe"},
		{[]string{`searchPattern=한`, `replaceString=글`, `charset=EUC-KR`}, "\xc7\xd1x", "\xb1\xdbx"},
		{[]string{`searchPattern=é`, `replaceString=€`, `charset=ISO-8859-1`}, "a\xe9", "a?"},
		{[]string{`searchPattern=b`, `replaceString=B`, `charset=UTF-16BE`}, "\x00a\x00b", "\x00a\x00B"},
		{[]string{`searchPattern=z`, `charset=EUC-KR`}, "\xff\xc7", "\xff\xc7"}, // no match: untouched
		{[]string{`searchPattern=.*`, `replaceString=x`}, "", "x"},
	} {
		ic, err := build(t, c.props...)
		if err != nil {
			t.Fatalf("%q: %v", c.props, err)
		}
		b := event.NewPool().NewBatch()
		b.AppendEvent([]byte(c.in), []event.KV{{Key: "k", Value: []byte("v")}})
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		e := b.Events()[0]
		if string(e.Body) != c.want {
			t.Errorf("%q: %q became %q, want %q", c.props, c.in, e.Body, c.want)
		}
		if v, _ := e.Header("k"); string(v) != "v" {
			t.Errorf("%q: header %q", c.props, v)
		}
		b.Release()
	}
}

// A body on which the expression is given up stays as it is, also where a part
// of it was replaced already.
func TestTooLong(t *testing.T) {
	env, health := componenttest.Env(t)
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "search_replace", `searchPattern=x|(a+)+\1$`, "replaceString=y")
	ic, err := cfg.(component.InterceptorConfig).NewInterceptor(env)
	if err != nil {
		t.Fatal(err)
	}
	hostile := "x" + strings.Repeat("a", 61) + "b"
	for _, bodies := range [][]string{{"x", hostile, "bx"}, {"x"}} {
		b := event.NewPool().NewBatch()
		for _, s := range bodies {
			b.Append([]byte(s))
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"y", hostile, "by"}[:len(bodies)] {
			if got := string(b.Events()[i].Body); got != want {
				t.Errorf("event %d is %q, want %q", i, got, want)
			}
		}
		if (health.Last() != nil) != (len(bodies) > 1) {
			t.Errorf("health %v", health.Last())
		}
		b.Release()
	}
	if n := env.Metrics.Snapshot()["EventGivenUpCount"]; n != 1 {
		t.Errorf("counted %d events", n)
	}
}

func TestErrors(t *testing.T) {
	for key, props := range map[string][]string{
		"searchPattern": {"searchPattern=(a"},
		"replaceString": {"searchPattern=a", "replaceString=$1"},
		"charset":       {"searchPattern=a", "charset=nope"},
	} {
		_, err := build(t, props...)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != key {
			t.Errorf("%q: error %v", props, err)
		}
	}
	_, fs := componenttest.Decode(t, component.KindInterceptor, "org.apache.flume.interceptor.SearchAndReplaceInterceptor$Builder")
	if len(fs) != 1 || !fs[0].Error || fs[0].Key != "searchPattern" {
		t.Errorf("without searchPattern: %v", fs)
	}
}

func TestNoAllocation(t *testing.T) {
	for _, cs := range []string{"UTF-8", "ISO-8859-1"} {
		ic, err := build(t, `searchPattern=(\d+)-(\d+)`, `replaceString=$2/$1`, "charset="+cs)
		if err != nil {
			t.Fatal(err)
		}
		p := event.NewPool()
		body := []byte("a 12-34 b 56-78")
		round := func() {
			b := p.NewBatch()
			for range 1000 {
				b.Append(body)
			}
			if err := ic.Intercept(b); err != nil {
				t.Fatal(err)
			}
			b.Release()
		}
		componenttest.NoMoreAllocs(t, 20, round) // for 1000 events; a GC empties pools
	}
}
