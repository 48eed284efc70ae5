package escape

import (
	"errors"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/event"
)

func ev(pairs ...string) *event.Event {
	e := &event.Event{}
	for i := 0; i < len(pairs); i += 2 {
		e.Headers = append(e.Headers, event.KV{Key: pairs[i], Value: []byte(pairs[i+1])})
	}
	return e
}

func expand(t *testing.T, s string, o Options, e *event.Event) string {
	t.Helper()
	tpl, err := Parse(s, o)
	if err != nil {
		t.Fatal(err)
	}
	got, err := tpl.Append(nil, e)
	if err != nil {
		t.Fatalf("%s: %v", s, err)
	}
	return string(got)
}

func TestExpand(t *testing.T) {
	kst := time.FixedZone("KST", 9*3600)
	at := time.Date(2016, 1, 3, 5, 7, 9, 123e6, kst) // a Sunday
	ts := ev("timestamp", "1451765229123", "logType", "car-batch-log", "a.b-c_1", "x", "$", "y")
	if at.UnixMilli() != 1451765229123 {
		t.Fatal(at.UnixMilli())
	}
	tests := []struct{ in, want string }{
		{"", ""},
		{"plain", "plain"},
		{"/pilot-pjt/collect/%{logType}/wrk_date=%Y%m%d", "/pilot-pjt/collect/car-batch-log/wrk_date=20160103"},
		{"%{a.b-c_1}%{missing}.", "x."},
		{"%a %A", "Sun Sunday"},
		{"%b %B", "Jan January"},
		{"%c", "Sun Jan 3 05:07:09 2016"},
		{"%d %e", "03 3"},
		{"%D", "01/03/16"},
		{"%H %I %k %l", "05 05 5 5"},
		{"%j", "003"},
		{"%m %n", "01 1"},
		{"%M %S", "07 09"},
		{"%p", "AM"},
		{"%s %t", "1451765229 1451765229123"},
		{"%y %Y", "16 2016"},
		{"%z", "+0900"},
		{"100%% %", "100% %"},
		{"%{a b} %{} %[a-b] %{open %-d", "%{a b} %{} %[a-b] %{open %-d"},
		{"%q%1%_|", "|"}, // letters without a meaning expand to nothing
		{"%%d", "%d"},
	}
	for _, tt := range tests {
		if got := expand(t, tt.in, Options{Location: kst}, ts); got != tt.want {
			t.Errorf("%s: %q, want %q", tt.in, got, tt.want)
		}
	}
	for hour, want := range map[int]string{0: "12 12 AM 0 00", 12: "12 12 PM 12 12", 13: "01 1 PM 13 13", 23: "11 11 PM 23 23"} {
		o := Options{Location: kst, LocalTime: true, Now: func() time.Time { return time.Date(2016, 12, 31, hour, 0, 0, 0, kst) }}
		if got := expand(t, "%I %l %p %k %H", o, ev()); got != want {
			t.Errorf("hour %d: %s, want %s", hour, got, want)
		}
		if got := expand(t, "%j", o, ev()); got != "366" {
			t.Errorf("last day of a leap year: %s", got)
		}
	}
}

func TestRounding(t *testing.T) {
	berlin, err := time.LoadLocation("Europe/Berlin")
	if err != nil {
		t.Skip("no time zone database: rounding across a change of the clock was not checked")
	}
	tests := []struct {
		unit  time.Duration
		round int
		want  string
	}{
		{0, 10, "14:37:59"},
		{time.Second, 10, "14:37:50"},
		{time.Second, 0, "14:37:59"},
		{time.Minute, 10, "14:30:00"},
		{time.Minute, 1, "14:37:00"},
		{time.Hour, 6, "12:00:00"},
		{time.Hour, -1, "14:00:00"},
		{time.Hour, 24, "00:00:00"},
	}
	e := ev("timestamp", "1458999479999") // 2016-03-26 14:37:59.999, the day before summer time
	for _, tt := range tests {
		o := Options{Location: berlin, Unit: tt.unit, Round: tt.round}
		if got := expand(t, "%H:%M:%S", o, e); got != tt.want {
			t.Errorf("%v by %d: %s, want %s", tt.unit, tt.round, got, tt.want)
		}
		if got := expand(t, "%t", o, e); got != "1458999479999" {
			t.Errorf("%%t was rounded: %s", got)
		}
	}
	// The hours are those of the clock on the wall: 03:30 of the day that has no 02:30.
	if got := expand(t, "%H %s", Options{Location: berlin, Unit: time.Hour, Round: 3}, ev("timestamp", "1459042200000")); got != "03 1459040400" {
		t.Error(got)
	}
}

func TestErrors(t *testing.T) {
	for in, want := range map[string]string{"%[host]": "not one of", "x%[FQDN_]": "not one of"} {
		if _, err := Parse(in, Options{}); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", in, err)
		}
	}
	if _, err := Parse("x", Options{Unit: time.Millisecond}); err == nil {
		t.Error("rounding to milliseconds was accepted")
	}
	tpl, err := Parse("%Y", Options{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tpl.Append(nil, ev()); !errors.Is(err, ErrNoTimestamp) {
		t.Errorf("no timestamp: %v", err)
	}
	for _, bad := range []string{"", "now", "1.5", "99999999999999999999", "-", "9223372036854775808", " 1"} {
		if _, err := tpl.Append(nil, ev("timestamp", bad)); err == nil {
			t.Errorf("timestamp %q was accepted", bad)
		}
	}
	// Only the time escapes need a time.
	if got := expand(t, "%{h}%%", Options{}, ev("h", "v")); got != "v%" {
		t.Error(got)
	}
}

func TestProperties(t *testing.T) {
	tests := []struct {
		in       string
		constant string
		is       bool
		timed    bool
		unknown  string
	}{
		{"a%%b", "a%b", true, false, ""},
		{"", "", true, false, ""},
		{"%{h}", "", false, false, ""},
		{"x%Y", "", false, true, ""},
		{"x%q%N", "x", true, false, "%q %N"},
	}
	for _, tt := range tests {
		tpl, err := Parse(tt.in, Options{})
		if err != nil {
			t.Fatal(err)
		}
		c, is := tpl.Constant()
		if c != tt.constant || is != tt.is || tpl.Timed() != tt.timed || strings.Join(tpl.Unknown(), " ") != tt.unknown {
			t.Errorf("%s: %q %v %v %q", tt.in, c, is, tpl.Timed(), tpl.Unknown())
		}
	}
}

func TestHost(t *testing.T) {
	host, err := os.Hostname()
	if err != nil {
		t.Fatal(err)
	}
	if got := expand(t, "%[LocalHost]/x", Options{}, ev()); got != host+"/x" {
		t.Error(got)
	}
}

func TestNoAllocation(t *testing.T) {
	tpl, err := Parse("/a/%{logType}/%Y%m%d/%H%M%S-%a-%s-%t", Options{Location: time.UTC, Unit: time.Minute, Round: 10})
	if err != nil {
		t.Fatal(err)
	}
	e := ev("timestamp", "1451765229123", "logType", "car")
	buf := make([]byte, 0, 100)
	if n := testing.AllocsPerRun(100, func() {
		if _, err := tpl.Append(buf[:0], e); err != nil {
			t.Fatal(err)
		}
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{"%{a}", "%[IP]", "%%", "%Y%", "%{", "%[", "%{a%}", "%[x"} {
		f.Add(s)
	}
	e := ev("timestamp", "1451765229123", "a", "1")
	f.Fuzz(func(t *testing.T, s string) {
		if strings.Contains(s, "%[") {
			return // looks names up
		}
		tpl, err := Parse(s, Options{Location: time.UTC})
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		got, err := tpl.Append(nil, e)
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if !strings.Contains(s, "%") && string(got) != s {
			t.Fatalf("%q became %q", s, got)
		}
	})
}
