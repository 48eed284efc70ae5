package regexfilter

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func build(t testing.TB, env component.Env, props ...string) component.Interceptor {
	t.Helper()
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "regex_filter", props...)
	ic, err := cfg.(component.InterceptorConfig).NewInterceptor(env)
	if err != nil {
		t.Fatal(err)
	}
	return ic
}

func TestFilter(t *testing.T) {
	for _, c := range []struct {
		props, in, want string
	}{
		{"", "a||b", "a||b"}, // .* matches everything
		{`regex=^\d{14}`, "20160101000000,A|SmartCar Status|20160101,B|20160102000000", "20160101000000,A|20160102000000"},
		{`regex=^\d{14} excludeEvents=true`, "20160101000000,A|SmartCar Status", "SmartCar Status"},
		{`regex=b excludeEvents=TRUE`, "abc|def", "def"},
		{`regex=b excludeEvents=yes`, "abc|def", "abc"}, // anything but true is false
		{`regex=^$`, "|x", ""},
		{`regex=한.글`, "한x글|한글", "한x글"},
		{`regex=x`, "a|b", "-"},
		{`regex=(\.\w+)(?<=Exception)`, "java.lang.Exception|java.lang.Error", "java.lang.Exception"},
	} {
		ic := build(t, componenttest.QuietEnv(), strings.Fields(c.props)...)
		b := event.NewPool().NewBatch()
		for s := range strings.SplitSeq(c.in, "|") {
			b.Append([]byte(s))
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		got := "-"
		for i, e := range b.Events() {
			if i == 0 {
				got = string(e.Body)
			} else {
				got += "|" + string(e.Body)
			}
		}
		if got != c.want {
			t.Errorf("%s: %q became %q, want %q", c.props, c.in, got, c.want)
		}
		b.Release()
	}
}

func TestClassName(t *testing.T) {
	if _, ok := component.Default().Lookup(component.KindInterceptor, "org.apache.flume.interceptor.RegexFilteringInterceptor$Builder"); !ok {
		t.Error("Flume's class name is not known")
	}
}

func TestBadExpression(t *testing.T) {
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "regex_filter", `regex=^(\d{14}`)
	_, err := cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
	var ke *component.KeyError
	if !errors.As(err, &ke) || ke.Key != "regex" || !strings.Contains(err.Error(), "at character 2") {
		t.Errorf("error %v", err)
	}
}

// Readers of the handbook write ^//d{14}: check and the log say so.
func TestSlashes(t *testing.T) {
	_, fs := componenttest.Decode(t, component.KindInterceptor, "regex_filter", `regex=^//d{14}`)
	if len(fs) != 1 || fs[0].Error || !strings.Contains(fs[0].Hint, `^\\d{14}`) {
		t.Errorf("findings: %+v", fs)
	}
}

const slow = `^(a+)+\1$` // on many a and a b

// An event that nobody can decide on is kept, and only that one, whatever
// other batches meet at the same time.
func TestTooLong(t *testing.T) {
	hostile := []byte(strings.Repeat("a", 61) + "b")
	for _, exclude := range []string{"false", "true"} {
		env, health := componenttest.Env(t)
		ic := build(t, env, "regex="+slow, "excludeEvents="+exclude)
		p := event.NewPool()
		round := func(bodies ...string) []string {
			b := p.NewBatch()
			defer b.Release()
			for _, s := range bodies {
				b.Append([]byte(s))
			}
			if err := ic.Intercept(b); err != nil {
				t.Error(err)
			}
			var left []string
			for _, e := range b.Events() {
				left = append(left, string(e.Body))
			}
			return left
		}
		var other sync.WaitGroup
		other.Go(func() { // its events are decided
			for range 2000 {
				want := 1 // aa
				if exclude == "true" {
					want = 2
				}
				if left := round("aa", "b", "ab"); len(left) != want {
					t.Errorf("exclude=%s: %q is left of aa, b and ab", exclude, left)
					return
				}
			}
		})
		if left := round("b", string(hostile), "ab"); !slices.Contains(left, string(hostile)) || exclude == "false" && len(left) != 1 {
			t.Errorf("exclude=%s: %q is left", exclude, left)
		}
		other.Wait()
		round("b")
		if n := env.Metrics.Snapshot()["EventGivenUpCount"]; n != 1 {
			t.Errorf("counted %d events", n)
		}
		if all := health.All(); len(all) != 2 || !strings.Contains(all[0].Error(), "takes too long") || all[1] != nil {
			t.Errorf("health was told %v", all)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	ic := build(t, componenttest.QuietEnv(), `regex=^\d{14}`)
	p := event.NewPool()
	good, bad := []byte("20160101000000,A0001,100,79,71,87,1,1,1,1,A,A,94"), []byte("SmartCar Status Information,CarNum")
	round := func() {
		b := p.NewBatch()
		for range 500 {
			b.Append(good)
			b.Append(bad)
		}
		if err := ic.Intercept(b); err != nil || b.Len() != 500 {
			t.Fatal(err, b.Len())
		}
		b.Release()
	}
	componenttest.NoMoreAllocs(t, 20, round) // for 1000 events; a GC empties pools
}

func BenchmarkFilter(b *testing.B) {
	ic := build(b, componenttest.QuietEnv(), `regex=^\d{14}`)
	p := event.NewPool()
	batch := p.NewBatch()
	for i := range 1000 {
		batch.Append(fmt.Appendf(nil, "201601010000%02d,A0001,100,79,71,87,1,1,1,1,A,A,94", i%60))
	}
	b.ReportAllocs()
	for b.Loop() {
		if err := ic.Intercept(batch); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
}
