package interceptor_test

import (
	"fmt"
	"testing"

	"github.com/sluice-data/sluice/event"
)

// BenchmarkEvent is the cost of one event in a batch of 1000.
func BenchmarkEvent(b *testing.B) {
	access := []string{"regex_extractor", `regex=^.+\[((.+):.+:.+:.+)\]\s"(\w+)\s\/\w+\/(\w+)\/\w+\/(\w+)\s\S+\s(\d+)\s(\d+)`, "serializers=s1 s2 s3 s4 s5 s6"}
	for i := 1; i <= 6; i++ {
		access = append(access, fmt.Sprintf("serializers.s%d.name=h%d", i, i))
	}
	millis := []string{"regex_extractor", `regex=^(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})`, "serializers=t", "serializers.t.name=timestamp",
		"serializers.t.type=org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer", "serializers.t.pattern=yyyy-MM-dd HH:mm:ss"}
	for _, tt := range []struct {
		name  string
		props []string
		line  string // with the event's number
	}{
		{"access", access, `10.0.0.1 - - [21/Jul/2014:10:00:00 -0800] "GET /a/home/b/pages HTTP/1.1" 200 1%03d`},
		{"access-no", access, `10.0.0.1 - - [21/Jul/2014:10:00:00 -0800] "GET /favicon.ico HTTP/1.1" 404 1%03d`},
		{"millis", millis, `2016-01-03 14:05:09 INFO started in %03d ms`},
		{"filter", []string{"regex_filter", `regex=^\d{14}`}, "20160101000%03d,A0001,100,79,71,87,1,1,1,1,A,A,94"},
		{"replace", []string{"search_replace", `searchPattern=(\d+)-(\d+)`, "replaceString=$2/$1"}, "a 12-34 b 56-%03d"},
		{"remove", []string{"remove_header", "fromList=a,b"}, "x%03d"},
	} {
		b.Run(tt.name, func(b *testing.B) {
			ic := build(b, tt.props[0], tt.props[1:]...)
			p := event.NewPool()
			var lines [1000][]byte
			for i := range lines {
				lines[i] = fmt.Appendf(nil, tt.line, i)
			}
			b.ReportAllocs()
			for b.Loop() {
				batch := p.NewBatch()
				for _, l := range lines {
					batch.Append(l)
				}
				if err := ic.Intercept(batch); err != nil {
					b.Fatal(err)
				}
				batch.Release()
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/1000, "ns/event")
		})
	}
}
