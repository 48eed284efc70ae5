package regexextractor

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/component/componenttest"
	"github.com/sluice-data/sluice/event"
)

func build(t testing.TB, props ...string) (component.Interceptor, error) {
	t.Helper()
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "regex_extractor", props...)
	return cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
}

func show(e *event.Event) string {
	var hs []string
	for _, h := range e.Headers {
		if h.Value == nil {
			hs = append(hs, h.Key+"=null")
		} else {
			hs = append(hs, fmt.Sprintf("%s=%s", h.Key, h.Value))
		}
	}
	return strings.Join(hs, " ")
}

const millisClass = "org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer"

func TestExtract(t *testing.T) {
	local := func(s string) string {
		at, err := time.ParseInLocation("2006-01-02 15:04:05", s, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		return fmt.Sprint(at.UnixMilli())
	}
	for _, c := range []struct {
		props    string // separated by |
		in, want string
	}{
		{`regex=(\d):(\d):(\d)|serializers=s1 s2 s3|serializers.s1.name=one|serializers.s2.name=two|serializers.s3.name=three`, "1:2:3.4foobar5", "h=0 one=1 two=2 three=3"},
		{`regex=(\d):(\d):(\d)|serializers=s1 s2|serializers.s1.name=one|serializers.s2.name=two`, "1:2:3", "h=0 one=1 two=2"}, // groups without serializer
		{`regex=(\d)|serializers=s1 s2|serializers.s1.name=one|serializers.s2.name=two`, "1", "h=0 one=1"},
		{`regex=(\d)|serializers=s1|serializers.s1.name=one`, "abc", "h=0"},
		{`regex=(\d)|serializers=s1|serializers.s1.name=one`, "a1b2", "h=0 one=1"}, // the first match
		{`regex=(\d)|serializers=s1|serializers.s1.name=h`, "7", "h=7"},            // overwritten
		{`regex=\d|serializers=s1|serializers.s1.name=x`, "7", "h=0"},              // no group
		{`regex=(a)(b)|serializers=s1 s2|serializers.s1.name=x|serializers.s2.name=x`, "ab", "h=0 x=b"},
		{`regex=(a)(b)|serializers=s s|serializers.s.name=x`, "ab", "h=0 x=b"},
		{`regex=(a)?(b)|serializers=s1 s2|serializers.s1.name=x|serializers.s2.name=y`, "b", "h=0 x=null y=b"},
		{`regex=(a*)b|serializers=s1|serializers.s1.name=x`, "b", "h=0 x="},
		{`regex=(\w+)|serializers=s1|serializers.s1.name=x|serializers.s1.type=default`, "b", "h=0 x=b"},
		{`regex=(\w+)|serializers=s1|serializers.s1.name=x|serializers.s1.type=org.apache.flume.interceptor.RegexExtractorInterceptorPassThroughSerializer`, "b", "h=0 x=b"},
		{`regex=^(?:\n)?(\d\d\d\d-\d\d-\d\d\s\d\d:\d\d:\d\d)|serializers=s1|serializers.s1.name=timestamp|serializers.s1.pattern=yyyy-MM-dd HH:mm:ss|serializers.s1.type=` + millisClass,
			"2016-01-03 14:05:09 x", "h=0 timestamp=" + local("2016-01-03 14:05:09")},
		{`regex=(\S+)|serializers=s1|serializers.s1.name=t|serializers.s1.pattern=yyyy-MM-dd'T'HH:mm:ssZ|serializers.s1.type=millis`, "2016-01-03T14:05:09+0900", "h=0 t=1451797509000"},
	} {
		ic, err := build(t, strings.Split(c.props, "|")...)
		if err != nil {
			t.Fatalf("%s: %v", c.props, err)
		}
		b := event.NewPool().NewBatch()
		for range 3 { // equal neighbours
			b.AppendEvent([]byte(c.in), []event.KV{{Key: "h", Value: []byte("0")}})
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		for i := range b.Events() {
			if e := &b.Events()[i]; show(e) != c.want || string(e.Body) != c.in {
				t.Errorf("%s: %q has %s, want %s", c.props, e.Body, show(e), c.want)
			}
		}
		b.Release()
	}
}

// Different times in one batch do not get each other's value.
func TestMillisOfNeighbours(t *testing.T) {
	ic, err := build(t, `regex=(\d+)Z`, "serializers=s", "serializers.s.name=t", "serializers.s.type=millis", "serializers.s.pattern=yyyyMMdd")
	if err != nil {
		t.Fatal(err)
	}
	b := event.NewPool().NewBatch()
	defer b.Release()
	days := []string{"20160103", "20160104", "20160104", "20160103", "20160105"}
	for _, d := range days {
		b.Append([]byte(d + "Z"))
	}
	if err := ic.Intercept(b); err != nil {
		t.Fatal(err)
	}
	for i, d := range days {
		at, err := time.ParseInLocation("20060102", d, time.Local)
		if err != nil {
			t.Fatal(err)
		}
		if got, _ := b.Events()[i].Header("t"); string(got) != fmt.Sprint(at.UnixMilli()) {
			t.Errorf("%s: %s", d, got)
		}
	}
}

// One line without a readable time must not hold its batch up for ever: its
// header stays as it was, and that is told.
func TestUnreadableTime(t *testing.T) {
	env, health := componenttest.Env(t)
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "regex_extractor", `regex=(x) ?(\d+)?`, "serializers=a s",
		"serializers.a.name=a", "serializers.s.name=t", "serializers.s.type=millis", "serializers.s.pattern=MM")
	ic, err := cfg.(component.InterceptorConfig).NewInterceptor(env)
	if err != nil {
		t.Fatal(err)
	}
	at := fmt.Sprint(time.Date(2000, time.November, 1, 0, 0, 0, 0, time.Local).UnixMilli())
	for _, round := range []struct {
		body, want string // want of "x 11" and body
		healthy    bool
	}{
		{"x 99", "before", false},
		{"x 11", at, true},
		{"x", "before", true}, // the group may be missing by intent
		{"-", "before", true},
	} {
		b := event.NewPool().NewBatch()
		for _, body := range []string{"x 11", round.body, "x 11"} {
			b.AppendEvent([]byte(body), []event.KV{{Key: "t", Value: []byte("before")}})
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{at, round.want, at} {
			if got, _ := b.Events()[i].Header("t"); string(got) != want {
				t.Errorf("%s: event %d has %s, want %s", round.body, i, got, want)
			}
		}
		if round.body != "-" {
			if got, _ := b.Events()[1].Header("a"); string(got) != "x" {
				t.Errorf("%s: the other group's header is %q", round.body, got)
			}
		}
		if (health.Last() == nil) != round.healthy {
			t.Errorf("%s: health %v", round.body, health.Last())
		}
		b.Release()
	}
	if all := health.All(); len(all) != 2 || !strings.Contains(all[0].Error(), `"99" is not a date of the form "MM"`) {
		t.Errorf("health was told %v", all)
	}
	if n := env.Metrics.Snapshot()["EventUnreadableCount"]; n != 1 {
		t.Errorf("counted %d texts", n)
	}
}

// An event on which the expression is given up stays as it is.
func TestTooLong(t *testing.T) {
	env, health := componenttest.Env(t)
	cfg, _ := componenttest.Config(t, component.KindInterceptor, "regex_extractor", `regex=^(a+)+\1$`, "serializers=s", "serializers.s.name=h")
	ic, err := cfg.(component.InterceptorConfig).NewInterceptor(env)
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []int{2, 1} {
		b := event.NewPool().NewBatch()
		b.Append([]byte("aa"))
		if want == 2 {
			b.Append([]byte(strings.Repeat("a", 61) + "b"))
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		for i, want := range []string{"h=a", ""}[:want] {
			if got := show(&b.Events()[i]); got != want {
				t.Errorf("event %d has %s, want %s", i, got, want)
			}
		}
		if (health.Last() != nil) != (want == 2) {
			t.Errorf("health %v", health.Last())
		}
		b.Release()
	}
	if n := env.Metrics.Snapshot()["EventGivenUpCount"]; n != 1 {
		t.Errorf("counted %d events", n)
	}
}

func TestErrors(t *testing.T) {
	for _, c := range []struct{ key, props string }{
		{"regex", `regex=(a|serializers=s|serializers.s.name=x`},
		{"serializers.s.name", `regex=(a)|serializers=s`},
		{"serializers.s.type", `regex=(a)|serializers=s|serializers.s.name=x|serializers.s.type=milis`},
		{"serializers.s.pattern", `regex=(a)|serializers=s|serializers.s.name=x|serializers.s.type=millis`},
		{"serializers.s.pattern", `regex=(a)|serializers=s|serializers.s.name=x|serializers.s.type=millis|serializers.s.pattern=yyyyT`},
	} {
		_, err := build(t, strings.Split(c.props, "|")...)
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != c.key {
			t.Errorf("%s: error %v", c.props, err)
		}
	}
	_, fs := componenttest.Decode(t, component.KindInterceptor, "org.apache.flume.interceptor.RegexExtractorInterceptor$Builder")
	if len(fs) != 2 || !fs[0].Error || !fs[1].Error {
		t.Errorf("without properties: %v", fs)
	}
}

func TestNoAllocation(t *testing.T) {
	ic, err := build(t, `regex=^(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2}) (\w+) (x)?`, "serializers=a b c", "serializers.a.name=timestamp", "serializers.a.type=millis",
		"serializers.a.pattern=yyyy-MM-dd HH:mm:ss", "serializers.b.name=level", "serializers.c.name=x")
	if err != nil {
		t.Fatal(err)
	}
	p := event.NewPool()
	bodies := [][]byte{[]byte("2016-01-03 14:05:09 INFO started"), []byte("2016-01-03 14:05:10 WARN x"), []byte("nothing")}
	round := func() {
		b := p.NewBatch()
		for i := range 1000 {
			b.Append(bodies[i%3])
		}
		if err := ic.Intercept(b); err != nil {
			t.Fatal(err)
		}
		b.Release()
	}
	componenttest.NoMoreAllocs(t, 20, round) // for 1000 events; a GC empties pools
}
