package javatime

import (
	"testing"
	"time"
)

func TestJoda(t *testing.T) {
	seoul := time.FixedZone("KST", 9*3600)
	for _, tt := range []struct{ pattern, text, want string }{
		{"yyyy-MM-dd HH:mm", "2012-10-17 14:34", "2012-10-17T14:34:00+09:00"},
		{"yyyyMMddHHmmss", "20160101235956", "2016-01-01T23:59:56+09:00"},
		{"yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2016-01-01T00:00:01.250+0000", "2016-01-01T00:00:01.25Z"},
		{"dd/MMM/yyyy:HH:mm:ss Z", "10/Oct/2000:13:55:36 -0700", "2000-10-10T13:55:36-07:00"},
		{"EEE, d MMMM yyyy h:mm a", "Tue, 3 march 2020 12:05 AM", "2020-03-03T00:05:00+09:00"},
		{"h:mm a", "11:05 pm", "1970-01-01T23:05:00+09:00"},
		{"yyyy-DDD kk", "2020-366 24", "2020-12-31T00:00:00+09:00"},
		{"MM-dd", "02-29", "2000-02-29T00:00:00+09:00"},
		{"yy.M.d", "26.1.2", "2026-01-02T00:00:00+09:00"},
		{"''yyyy'o''clock'", "'2020o'clock", "2020-01-01T00:00:00+09:00"},
	} {
		j, err := ParseJoda(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		got, err := j.Time(tt.text, seoul)
		if err != nil {
			t.Errorf("%v", err)
			continue
		}
		if s := got.Format(time.RFC3339Nano); s != tt.want {
			t.Errorf("%s of %s: %s, want %s", tt.text, tt.pattern, s, tt.want)
		}
	}
	for _, tt := range [][2]string{
		{"yyyy-MM-dd", "2020-02-30"}, {"yyyy-MM-dd", "2020-13-01"}, {"yyyy-MM-dd", "2020-01-01 "}, {"yyyy-MM-dd", ""},
		{"HH:mm", "24:00"}, {"HH:mm", "12-30"}, {"MMM", "Foo"}, {"Z", "somewhere"}, {"a", "xm"}, {"yyyy", "year"},
	} {
		j, err := ParseJoda(tt[0])
		if err != nil {
			t.Fatal(err)
		}
		if got, err := j.Time(tt[1], seoul); err == nil {
			t.Errorf("%q was read as %s by %s", tt[1], got, tt[0])
		}
	}
	for _, p := range []string{"", "xxxx", "yyyy'open", "G"} {
		if _, err := ParseJoda(p); err == nil {
			t.Errorf("pattern %q was accepted", p)
		}
	}
}

func FuzzJoda(f *testing.F) {
	f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2016-01-01T00:00:01.250+0000")
	f.Add("EEE d MMM yy hh:mm a z", "Mon 1 Jan 20 01:00 PM UTC")
	f.Fuzz(func(_ *testing.T, pattern, text string) {
		if j, err := ParseJoda(pattern); err == nil {
			_, _ = j.Time(text, time.UTC) // must not panic
		}
	})
}
