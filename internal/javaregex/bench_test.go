package javaregex

import (
	"regexp"
	"testing"
)

// The patterns that agent files have most, with a line that matches and one
// that does not.
var common = []struct {
	name, pattern string
	yes, no       string
}{
	{"day14", `^\d{14}`, "20160101000000,Y0001,100,79,71,87,1,1,1,1,A,A,94", "SmartCar Status Information,CarNum,TireFL,TireFR,TireBL"},
	{"access", `^.+\[((.+):.+:.+:.+)\]\s"(\w+)\s\/\w+\/(\w+)\/\w+\/(\w+)\s\S+\s(\d+)\s(\d+)`,
		`10.31.22.107 - - [21/Jul/2014:10:00:00 -0800] "GET /spideo/movies/catalog/search HTTP/1.1" 200 1234`,
		`10.31.22.107 - - [21/Jul/2014:10:00:00 -0800] "GET /favicon.ico HTTP/1.1" 404 -`},
	{"type", `"type":"(\w+)"`, `{"id":1234567,"time":"2016-01-01","type":"click","user":"u-17"}`, `{"id":1234567,"time":"2016-01-01","kind":"click","user":"u-17"}`},
	{"bitype", `"biType":"(\w+)"`, `{"id":1234567,"time":"2016-01-01","biType":"click","user":"u-17"}`, `{"id":1234567,"time":"2016-01-01","type":"click","user":"u-17"}`},
	{"slashes", `^//d{14}`, "//dddddddddddddd,Y0001,100", "20160101000000,Y0001,100,79,71,87,1,1,1,1,A,A,94"},
	{"task", `.+TASK_SELECTING.+`, "2016-01-01 00:00:00 INFO worker-7 TASK_SELECTING id=17", "2016-01-01 00:00:00 INFO worker-7 TASK_RUNNING id=17 x"},
	{"commas", `.+,.+,.+,.+,(.+)`, "20160101000000,P0001,2,0,F,N,10,D08", "20160101000000;P0001;2;0;F;N;10;D08,x"},
	{"stamp", `(\d{4}-\d{2}-\d{2} \d{2}:\d{2}:\d{2})`, "INFO [main] 2016-01-01 12:30:45 started in 17 ms", "INFO [main] started in 17 ms, a-b-c: 2016-01-01T12:30"},
	{"transfer", `(INFO|ERROR):(TRANSFER):(SUBMIT|PENDING):(\w.*):(\w.*):(\w.*):(\w.*)`, "12 INFO:TRANSFER:SUBMIT:acct1:acct2:100 EUR:ok", "12 INFO:CONFIRMATION:SUBMIT:acct1:acct2:100 EUR:ok"},
}

func BenchmarkMatch(b *testing.B) {
	for _, c := range common {
		re := MustCompile(c.pattern, 0)
		for _, in := range []struct{ name, line string }{{"yes", c.yes}, {"no", c.no}} {
			line := []byte(in.line)
			if re.Match(line) != (in.name == "yes") {
				b.Fatalf("%s on %q", c.pattern, line)
			}
			b.Run(c.name+"/"+in.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					re.Match(line)
				}
			})
		}
	}
}

func BenchmarkFind(b *testing.B) {
	for _, c := range common {
		re := MustCompile(c.pattern, 0)
		for _, in := range []struct{ name, line string }{{"yes", c.yes}, {"no", c.no}} {
			line, dst := []byte(in.line), []int(nil)
			b.Run(c.name+"/"+in.name, func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if loc := re.FindSubmatch(line, dst[:0]); loc != nil {
						dst = loc
					}
				}
			})
		}
	}
}

// BenchmarkGo is package regexp on the same, to compare with.
func BenchmarkGo(b *testing.B) {
	for _, c := range common {
		re := regexp.MustCompile(c.pattern)
		line := []byte(c.yes)
		b.Run(c.name+"/match", func(b *testing.B) {
			for b.Loop() {
				re.Match(line)
			}
		})
		b.Run(c.name+"/find", func(b *testing.B) {
			for b.Loop() {
				re.FindSubmatchIndex(line)
			}
		})
	}
}
