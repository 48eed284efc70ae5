package javatime

import (
	"math"
	"testing"
	"time"
)

func location(t testing.TB, name string) *time.Location {
	t.Helper()
	l, err := time.LoadLocation(name)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// The expectations are what Joda-Time 2.9.9 makes of the texts, in Locale.US;
// bad: it refuses the text or the pattern, or the pattern has letters that are
// not read here (G, C, x, w and a quote that is not closed).
func TestJoda(t *testing.T) {
	const bad = math.MinInt64
	seoul, ny := location(t, "Asia/Seoul"), location(t, "America/New_York")
	for _, tt := range []struct {
		loc           *time.Location
		pattern, text string
		want          int64
	}{
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-01-03 14:05:09", 1451797509000},
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-1-3 4:5:9", 1451761509000},
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-01-03 14:05", bad},
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-01-03 14:05:09x", bad},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03T14:05:09+0100", 1451826309000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03T14:05:09-01:30", 1451835309000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03T14:05:09Z", 1451829909000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03t14:05:09z", 1451829909000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03T14:05:09+01", 1451826309000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZZ", "2016-01-03T14:05:09+01:00", 1451826309000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZZ", "2016-01-03T14:05:09+0100", 1451826309000},
		{seoul, "yyyy-MM-dd'T'HH:mm:ssZ", "2016-01-03T14:05:09+013", bad},
		{seoul, "HH:mmZ", "10:00+011530", 31470000},
		{seoul, "HH:mmZ", "10:00+01:15:30.5", 31469500},
		{seoul, "yyyy-MM-dd", "2016-02-30", bad},
		{seoul, "yyyy-MM-dd", "2016-13-01", bad},
		{seoul, "yyyy-MM-dd", "2016-02-29", 1456671600000},
		{seoul, "yyyy-MM-dd", "2015-02-29", bad},
		{seoul, "yyyyMMddHHmmss", "20160103140509", 1451797509000},
		{seoul, "yyyyMMddHHmmss", "20160103240000", bad},
		{seoul, "yyyyMMdd kk", "20160103 24", 1451746800000},
		{seoul, "dd/MMM/yyyy:HH:mm:ss Z", "21/Jul/2014:10:00:00 -0800", 1405965600000},
		{seoul, "dd/MMM/yyyy:HH:mm:ss Z", "21/july/2014:10:00:00 -0800", 1405965600000},
		{seoul, "dd/MMM/yyyy", "21/JULY/2014", 1405868400000},
		{seoul, "dd/MMM/yyyy", "21/jUly/2014", bad},
		{seoul, "dd MMMM yyyy", "21 Jul 2014", 1405868400000},
		{seoul, "yy-MM-dd", "16-01-03", 1451746800000},
		{seoul, "yy-MM-dd", "99-01-03", 915289200000},
		{seoul, "yy-MM-dd", "2016-01-03", 1451746800000},
		{seoul, "yyMMdd", "160103", 1451746800000},
		{seoul, "yy-MM-dd", "6-01-03", -61977688072000},
		{seoul, "y-M-d", "2016-1-3", 1451746800000},
		{seoul, "y-M-d", "-5-1-3", -62324843272000},
		{seoul, "yyyy-MM-dd", "+2016-01-03", 1451746800000},
		{seoul, "yyyy", "123456789", 3895857797353200000},
		{seoul, "yyyy", "12345", 327403350000000},
		{seoul, "HH:mm:ss", "14:05:09", 18309000},
		{seoul, "MM-dd", "02-29", 951750000000},
		{seoul, "dd", "15", 947862000000},
		{seoul, "yyyy", "2016", 1451574000000},
		{seoul, "yyyy-DDD", "2016-366", 1483110000000},
		{seoul, "yyyy-DDD", "2015-366", bad},
		{seoul, "D", "40", 950022000000},
		{seoul, "HH:mm:ss.SSS", "14:05:09.123", 18309123},
		{seoul, "HH:mm:ss.SSS", "14:05:09.1", 18309100},
		{seoul, "HH:mm:ss.S", "14:05:09.123", bad},
		{seoul, "HH:mm:ss.SSSSSS", "14:05:09.123456", 18309123},
		{seoul, "HH:mm:ss,SSS", "14:05:09,", bad},
		{seoul, "hh:mm a", "02:05 PM", 18300000},
		{seoul, "hh:mm a", "12:05 am", -32100000},
		{seoul, "KK:mm a", "00:05 PM", 11100000},
		{seoul, "hh:mm a", "13:05 PM", bad},
		{seoul, "hh:mm", "02:05", -24900000},
		{seoul, "EEE, dd MMM yyyy", "Sun, 03 Jan 2016", 1451746800000},
		{seoul, "EEE, dd MMM yyyy", "Mon, 03 Jan 2016", 1451228400000},
		{seoul, "EEEE d", "Sunday 3", 947343600000},
		{seoul, "EEE MMM dd HH:mm:ss yyyy", "Sun Jan 03 14:05:09 2016", 1451797509000},
		{seoul, "xxxx-'W'ww-e", "2016-W01-1", bad},
		{seoul, "xxxx-'W'ww", "2016-W53", bad},
		{seoul, "xxxx-'W'ww-e", "2015-W53-7", bad},
		{seoul, "yyyy G", "5 BC", bad},
		{seoul, "YYYY-MM", "2016-05", 1462028400000},
		{seoul, "CC", "20", bad},
		{ny, "yyyy-MM-dd HH:mm", "2016-03-13 02:30", bad},
		{ny, "yyyy-MM-dd HH:mm", "2016-11-06 01:30", 1478410200000},
		{ny, "yyyy-MM-dd HH:mm", "2016-03-13 03:00", 1457852400000},
		{ny, "yyyy-MM-dd HH:mm z", "2016-03-13 12:30 EST", 1457886600000},
		{seoul, "yyyy-MM-dd HH:mm z", "2016-03-13 12:30 UTC", 1457872200000},
		{seoul, "yyyy-MM-dd HH:mm z", "2016-03-13 12:30 PDT", 1457897400000},
		{seoul, "yyyy-MM-dd HH:mm z", "2016-03-13 12:30 KST", bad},
		{seoul, "yyyy-MM-dd HH:mm ZZZ", "2016-03-13 12:30 Europe/Paris", 1457868600000},
		{seoul, "yyyy-MM-dd HH:mm ZZZ", "2016-03-13 12:30 Nowhere", bad},
		{seoul, "zzzz", "x", bad},
		{seoul, "yyyy zzzz", "2016 Korea Standard Time", bad},
		{seoul, "yyyy''MM", "2016'05", 1462028400000},
		{seoul, "yyyy'o''clock'", "2016o'clock", 1451574000000},
		{seoul, "yyyyTMM", "2016T05", bad},
		{seoul, "b", "1", bad},
		{seoul, "", "x", bad},
		{seoul, "yyyy '", "2016 ", bad},
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-01-03 60:05:09", bad},
		{seoul, "yyyy-MM-dd HH:mm:ss", "2016-01-03 14:61:09", bad},
		{seoul, "H", "24", bad},
		{seoul, "k", "24", -32400000},
		{seoul, "ss", "60", bad},
		{seoul, "d", "0", bad},
		{seoul, "yyyy-MM-dd HH:mm:ss", "１２", bad},
		{seoul, "MM/dd/yyyy", "-1/02/2016", bad},
		{seoul, "yyyyMMdd", "2016103", 1475420400000},
		{seoul, "yyyyMM", "201610", 1475247600000},
		{seoul, "'at' HH", "AT 10", 3600000},
		{seoul, "yyyy.MM.dd.", "2016.01.03.", 1451746800000},
		{seoul, "yyyyw", "20165", bad},
		{seoul, "MMM dd HH:mm:ss", "Feb 29 01:02:03", 951753723000},
		{seoul, "MMM d", "May 5", 957452400000},
	} {
		got := int64(bad)
		j, err := ParseJoda(tt.pattern)
		if err == nil {
			if got, err = j.Millis([]byte(tt.text), tt.loc); err != nil {
				got = bad
			}
		}
		if got != tt.want {
			t.Errorf("%q by %q in %s: %d (%v), Joda %d", tt.text, tt.pattern, tt.loc, got, err, tt.want)
		}
	}
}

func TestJodaPatterns(t *testing.T) {
	for _, p := range []string{"", "xxxx", "yyyy'open", "G", "zzzz", "yyyy-MM-ddTHH", "CC", "ww"} {
		if _, err := ParseJoda(p); err == nil {
			t.Errorf("pattern %q was accepted", p)
		}
	}
}

// What two digits mean moves with the year in which the pattern was read.
func TestJodaTwoDigits(t *testing.T) {
	j, err := ParseJoda("yy")
	if err != nil {
		t.Fatal(err)
	}
	j.low = 1946
	for text, want := range map[string]int{"46": 1946, "45": 2045, "99": 1999, "00": 2000} {
		ms, err := j.Millis([]byte(text), time.UTC)
		if got := time.UnixMilli(ms).UTC().Year(); err != nil || got != want {
			t.Errorf("%s: %d, %v", text, got, err)
		}
	}
}

func TestJodaErrors(t *testing.T) {
	for _, tt := range [][3]string{
		{"yyyy-MM-dd", "2020-13-01", `"2020-13-01" is not a date of the form "yyyy-MM-dd": a month out of 1 to 12 at offset 5`},
		{"yyyy-MM-dd", "2020-01-01 ", `"2020-01-01 " is not a date of the form "yyyy-MM-dd": text is left at offset 10`},
		{"yyyy-MM-dd", "2021-02-29", `"2021-02-29" is not a date of the form "yyyy-MM-dd": a month without that day`},
	} {
		j, err := ParseJoda(tt[0])
		if err != nil {
			t.Fatal(err)
		}
		if _, err := j.Millis([]byte(tt[1]), time.UTC); err == nil || err.Error() != tt[2] {
			t.Errorf("got  %v\nwant %s", err, tt[2])
		}
	}
}

func TestJodaNoAllocation(t *testing.T) {
	seoul := location(t, "Asia/Seoul")
	for _, tt := range [][2]string{
		{"yyyy-MM-dd HH:mm:ss,SSS", "2016-01-03 14:05:09,123"},
		{"dd/MMM/yyyy:HH:mm:ss Z", "21/Jul/2014:10:00:00 -0800"},
		{"EEE MMM dd HH:mm:ss z yyyy", "Sun Jan 03 14:05:09 EST 2016"},
		{"yyyy-MM-dd ZZZ", "2016-01-03 Europe/Paris"},
	} {
		j, err := ParseJoda(tt[0])
		if err != nil {
			t.Fatal(err)
		}
		text := []byte(tt[1])
		if n := testing.AllocsPerRun(100, func() {
			if _, err := j.Millis(text, seoul); err != nil {
				t.Fatal(err)
			}
		}); n > 0 {
			t.Errorf("%s: %v allocations", tt[0], n)
		}
	}
}

// The calendar against Go's.
func TestCivil(t *testing.T) {
	for n := int64(-800_000); n < 800_000; n += 13 {
		y, m, d := civil(n)
		gy, gm, gd := time.Unix(n*86400, 0).UTC().Date()
		if int(y) != gy || time.Month(m) != gm || int(d) != gd || days(y, m, d) != n {
			t.Fatalf("day %d: %d-%d-%d, want %d-%d-%d; back %d", n, y, m, d, gy, gm, gd, days(y, m, d))
		}
	}
}

func FuzzJoda(f *testing.F) {
	f.Add("yyyy-MM-dd'T'HH:mm:ss.SSSZ", "2016-01-01T00:00:01.250+0000")
	f.Add("EEE d MMM yy hh:mm a z", "Mon 1 Jan 20 01:00 PM UTC")
	f.Add("D e ZZZ", "366 7 Europe/Paris")
	f.Fuzz(func(t *testing.T, pattern, text string) {
		j, err := ParseJoda(pattern)
		if err != nil {
			return
		}
		if ms, err := j.Millis([]byte(text), time.UTC); err != nil && (ms != 0 || err.Error() == "") {
			t.Errorf("%d and %v", ms, err)
		}
	})
}

func BenchmarkJoda(b *testing.B) {
	seoul := location(b, "Asia/Seoul")
	for _, tt := range [][2]string{
		{"yyyy-MM-dd HH:mm:ss", "2016-01-03 14:05:09"},
		{"dd/MMM/yyyy:HH:mm:ss Z", "21/Jul/2014:10:00:00 -0800"},
	} {
		b.Run(tt[0], func(b *testing.B) {
			j, err := ParseJoda(tt[0])
			if err != nil {
				b.Fatal(err)
			}
			text := []byte(tt[1])
			b.ReportAllocs()
			for b.Loop() {
				if _, err := j.Millis(text, seoul); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
