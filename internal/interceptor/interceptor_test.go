// Package interceptor_test checks the interceptors that need no more than a
// table: what goes in, what comes out, and that no event costs an allocation.
package interceptor_test

import (
	"errors"
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
	_ "github.com/sluice-data/sluice/internal/interceptor/regexextractor"
	_ "github.com/sluice-data/sluice/internal/interceptor/regexfilter"
	_ "github.com/sluice-data/sluice/internal/interceptor/removeheader"
	_ "github.com/sluice-data/sluice/internal/interceptor/searchreplace"
	_ "github.com/sluice-data/sluice/internal/interceptor/static"
	_ "github.com/sluice-data/sluice/internal/interceptor/timestamp"
	_ "github.com/sluice-data/sluice/internal/interceptor/uuid"
)

func build(t testing.TB, name string, props ...string) component.Interceptor {
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
		v := string(h.Value)
		if h.Value == nil {
			v = "<null>"
		}
		hs = append(hs, h.Key+"="+v)
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

// What the expressions do to a body, the headers, or the whole event.
func TestRegexInterceptors(t *testing.T) {
	for _, tt := range []struct {
		name  string
		props []string
		body  string
		want  string // empty: dropped
	}{
		{"regex_filter", nil, "", "{h=1 h2=2}"},
		{"regex_filter", []string{`regex=^\d{14}`}, "20160101000000,A", "20160101000000,A{h=1 h2=2}"},
		{"regex_filter", []string{`regex=^\d{14}`}, "SmartCar Status Information", ""},
		{"regex_filter", []string{`regex=^\d{14}`, "excludeEvents=true"}, "20160101000000,A", ""},
		{"regex_filter", []string{`regex=^\d{14}`, "excludeEvents=true"}, "x", "x{h=1 h2=2}"},
		{"regex_filter", []string{`regex=developer`}, "a developer here", "a developer here{h=1 h2=2}"},
		// Gives up on this body, so nobody knows: kept.
		{"regex_filter", []string{`regex=^(a+)+\1$`}, strings.Repeat("a", 61) + "b", strings.Repeat("a", 61) + "b{h=1 h2=2}"},
		{"remove_header", []string{"withName=h"}, "x", "x{h2=2}"},
		{"remove_header", []string{"withName=H"}, "x", "x{h=1 h2=2}"},
		{"remove_header", []string{"fromList=h , h2"}, "x", "x{}"},
		{"remove_header", []string{"fromList=h;h2", "fromListSeparator=;"}, "x", "x{}"},
		{"remove_header", []string{`matching=h\d`}, "x", "x{h=1}"},
		{"remove_header", []string{`matching=h`, "withName=h2"}, "x", "x{}"},
		{"search_replace", []string{`searchPattern=(\d+)-(\d+)`, "replaceString=$2/$1"}, "a 1-2 b 3-4", "a 2/1 b 4/3{h=1 h2=2}"},
		{"search_replace", []string{`searchPattern=^[A-Za-z0-9_]+`}, "user1 did", " did{h=1 h2=2}"},
		{"search_replace", []string{`searchPattern=é`, "replaceString=e", "charset=ISO-8859-1"}, "caf\xe9 \xfc", "cafe \xfc{h=1 h2=2}"},
		{"regex_extractor", []string{`regex=(\d):(\d):(\d)`, "serializers=s1 s2 s3", "serializers.s1.name=one", "serializers.s2.name=two", "serializers.s2.type=default", "serializers.s3.name=three"},
			"1:2:3.4foobar5", "1:2:3.4foobar5{h=1 h2=2 one=1 two=2 three=3}"},
		{"regex_extractor", []string{`regex=(a)|(b)`, "serializers=s1 s2", "serializers.s1.name=a", "serializers.s2.name=b"}, "b", "b{h=1 h2=2 a=<null> b=b}"},
		{"regex_extractor", []string{`regex=(a)(b)`, "serializers=s1", "serializers.s1.name=h"}, "ab", "ab{h=a h2=2}"},
		{"regex_extractor", []string{`regex=(a)`, "serializers=s1", "serializers.s1.name=h"}, "x", "x{h=1 h2=2}"},
		{"regex_extractor", []string{`regex=^(.*Z)`, "serializers=s1", "serializers.s1.name=t", "serializers.s1.type=org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer", "serializers.s1.pattern=yyyy-MM-dd'T'HH:mm:ssZ"},
			"2016-01-01T00:00:01Z x", "2016-01-01T00:00:01Z x{h=1 h2=2 t=1451606401000}"},
	} {
		t.Run(tt.name+strings.Join(tt.props, ","), func(t *testing.T) {
			ic := build(t, tt.name, tt.props...)
			b := event.NewPool().NewBatch()
			defer b.Release()
			b.AppendEvent([]byte(tt.body), []event.KV{{Key: "h", Value: []byte("1")}, {Key: "h2", Value: []byte("2")}})
			if err := ic.Intercept(b); err != nil {
				t.Fatal(err)
			}
			got := ""
			if b.Len() > 0 {
				got = show(b.Events()[0])
			}
			if got != tt.want {
				t.Errorf("got  %q\nwant %q", got, tt.want)
			}
		})
	}
}

func TestWrongSettings(t *testing.T) {
	for _, tt := range []struct{ name, prop, key string }{
		{"regex_filter", "regex=(a", "regex"},
		{"remove_header", "matching=[", "matching"},
		{"search_replace", "searchPattern=*", "searchPattern"},
		{"search_replace", "searchPattern=a,replaceString=$1", "replaceString"},
		{"search_replace", "searchPattern=a,charset=none", "charset"},
		{"regex_extractor", "regex=(abc,serializers=s,serializers.s.name=x", "regex"},
		{"regex_extractor", "regex=(a),serializers=s", "serializers.s.name"},
		{"regex_extractor", "regex=(a),serializers=s,serializers.s.name=x,serializers.s.type=DEFALT", "serializers.s.type"},
		{"regex_extractor", "regex=(a),serializers=s,serializers.s.name=x,serializers.s.type=millis", "serializers.s.pattern"},
	} {
		cfg, _ := componenttest.Config(t, component.KindInterceptor, tt.name, strings.Split(tt.prop, ",")...)
		_, err := cfg.(component.InterceptorConfig).NewInterceptor(componenttest.QuietEnv())
		var ke *component.KeyError
		if !errors.As(err, &ke) || ke.Key != tt.key {
			t.Errorf("%s %s: %v", tt.name, tt.prop, err)
		}
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
	for _, tt := range [][]string{{"static"}, {"timestamp"}, {"host"}, {"uuid"}, {"collect_day"},
		{"regex_filter", `regex=^\d{14}`}, {"remove_header", "withName=x"}, {"search_replace", "searchPattern=A", "replaceString=B"},
		{"regex_extractor", `regex=^(\d+),(\w+),`, "serializers=a b", "serializers.a.name=a", "serializers.b.name=b"}} {
		t.Run(tt[0], func(t *testing.T) {
			ic := build(t, tt[0], tt[1:]...)
			p := event.NewPool()
			componenttest.NoMoreAllocs(t, 20, func() { // a GC empties pools
				b := p.NewBatch()
				for range 1000 {
					b.Append([]byte("20160101000000,A0001,100,79,71,87,1,1,1,1,A,A,94"))
				}
				if err := ic.Intercept(b); err != nil {
					t.Fatal(err)
				}
				b.Release()
			})
		})
	}
}
