package javatime

import (
	"strings"
	"testing"
	"time"
)

var seoul = time.FixedZone("KST", 9*3600)

// The expectations are what SimpleDateFormat prints in Locale.US.
func TestFormat(t *testing.T) {
	afternoon := time.Date(2016, 1, 3, 14, 5, 9, 7e6, seoul)   // a Sunday
	midnight := time.Date(2024, 12, 31, 0, 30, 0, 0, time.UTC) // a Tuesday, week 1 of 2025
	west := time.Date(1999, 7, 31, 12, 0, 0, 999e6, time.FixedZone("", -(3*3600+1800)))
	for _, tt := range []struct {
		pattern string
		want    [3]string
	}{
		{"yyyyMMddHHmmss", [3]string{"20160103140509", "20241231003000", "19990731120000"}},
		{"yy-M-d H:m:s.SSS", [3]string{"16-1-3 14:5:9.007", "24-12-31 0:30:0.000", "99-7-31 12:0:0.999"}},
		{"y yyy yyyyy", [3]string{"2016 2016 02016", "2024 2024 02024", "1999 1999 01999"}},
		{"MMM MMMM E EEEE", [3]string{"Jan January Sun Sunday", "Dec December Tue Tuesday", "Jul July Sat Saturday"}},
		{"hh h KK K kk k a", [3]string{"02 2 02 2 14 14 PM", "12 12 00 0 24 24 AM", "12 12 00 0 12 12 PM"}},
		{"D DDD F u G", [3]string{"3 003 1 7 AD", "366 366 5 2 AD", "212 212 5 6 AD"}},
		{"YYYY w W", [3]string{"2016 2 2", "2025 1 5", "1999 31 5"}},
		{"Z X XX XXX", [3]string{"+0900 +09 +0900 +09:00", "+0000 Z Z Z", "-0330 -03 -0330 -03:30"}},
		{"z", [3]string{"KST", "UTC", "GMT-03:30"}},
		{"'at' ''HH'' 'o''clock'", [3]string{"at '14' o'clock", "at '00' o'clock", "at '12' o'clock"}},
		{"SS S", [3]string{"07 7", "00 0", "999 999"}},
		{"날짜 d", [3]string{"날짜 3", "날짜 31", "날짜 31"}},
		{"", [3]string{"", "", ""}},
	} {
		f, err := Parse(tt.pattern)
		if err != nil {
			t.Errorf("%s: %v", tt.pattern, err)
			continue
		}
		for i, at := range []time.Time{afternoon, midnight, west} {
			if got := f.Format(at); got != tt.want[i] {
				t.Errorf("%q of %s: %q, want %q", tt.pattern, at, got, tt.want[i])
			}
		}
	}
}

func TestParseErrors(t *testing.T) {
	for pattern, want := range map[string]string{
		"yyyy-MM-ddTHH": "unknown letter 'T' at position 11",
		"yyyy 'x":       "quote at position 6 is not closed",
		"XXXX":          "more than three X",
	} {
		if _, err := Parse(pattern); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", pattern, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSZ")
	f.Add("''''")
	f.Fuzz(func(t *testing.T, pattern string) {
		if p, err := Parse(pattern); err == nil {
			p.Format(time.Unix(1e9, 0))
		}
	})
}
