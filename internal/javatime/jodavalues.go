package javatime

import "time"

// The years of Joda-Time's ISO calendar.
const (
	minYear = -292275054
	maxYear = 292278993
)

// values is what a text gives, by field.
type values struct {
	year, month, day, yearDay, weekday int64 // yearDay, weekday: 0 is none
	hour, halfHour, half               int64
	minute, second, milli              int64
	offset                             int64 // ms
	dayMax, yearDayMax                 int64 // of all that the text gives
	loc                                *time.Location
	has                                uint8
}

const (
	hasYear = 1 << iota
	hasMonth
	hasDay
	hasHour
	hasHalfHour
	hasOffset
)

// millis is the time, or what is wrong with it.
//
// Joda-Time starts at 1970 and sets the fields one after the other, from the
// coarse to the fine (years, months, days of the year, days, weekdays), and
// then all of them once more. The second round changes something only after a
// weekday, which may have moved the date into another month or year.
func (v *values) millis() (ms int64, msg string) {
	if v.has&hasYear == 0 && (v.has&(hasMonth|hasDay) != 0 || v.yearDay != 0 || v.weekday != 0) {
		v.year = 2000
		v.has |= hasYear
	}
	y, m, d := v.year, v.month, int64(1)
	if y, m, d, msg = v.date(y, m, d); msg != "" {
		return 0, msg
	}
	if v.weekday != 0 {
		y, m, d = v.moved(y, m, d)
		if y != v.year {
			y, m, d = sameYearDay(y, m, d, v.year)
		}
		if v.has&hasMonth != 0 {
			m = v.month
			d = min(d, daysIn(y, m))
		}
		if y, m, d, msg = v.date(y, m, d); msg != "" {
			return 0, msg
		}
		y, m, d = v.moved(y, m, d)
	}
	hour := 12 * v.half
	if v.has&hasHour != 0 {
		hour = v.hour
	}
	if v.has&hasHalfHour != 0 {
		hour += v.halfHour - hour%12
	}
	secs := days(y, m, d)*86400 + hour*3600 + v.minute*60 + v.second
	if v.has&hasOffset == 0 {
		if secs, msg = local(secs, v.loc); msg != "" {
			return 0, msg
		}
	}
	return secs*1000 + v.milli - v.offset, ""
}

// date sets the day of the year and the day.
func (v *values) date(y, m, d int64) (_, _, _ int64, msg string) {
	if v.yearDay != 0 {
		if v.yearDayMax > 365 && !leap(y) {
			return 0, 0, 0, "a year without a day 366"
		}
		y, m, d = civil(days(y, 1, 1) + v.yearDay - 1)
	}
	if v.has&hasDay != 0 {
		if v.dayMax > 28 && v.dayMax > daysIn(y, m) {
			return 0, 0, 0, "a month without that day"
		}
		d = v.day
	}
	return y, m, d, ""
}

// moved is the weekday in the week of the date.
func (v *values) moved(y, m, d int64) (_, _, _ int64) {
	n := days(y, m, d)
	return civil(n - floorMod(n+3, 7) + v.weekday - 1) // 1970-01-01 was a Thursday
}

// sameYearDay moves a date to another year, where it keeps its day of the
// year, but for the leap day.
func sameYearDay(y, m, d, year int64) (_, _, _ int64) {
	yd := days(y, m, d) - days(y, 1, 1) // from 0
	if yd > 58 {
		switch {
		case leap(y) && !leap(year):
			yd--
		case !leap(y) && leap(year):
			yd++
		}
	}
	return civil(days(year, 1, 1) + yd)
}

// local is the instant at which clocks in loc show secs (counted as if they
// were in UTC).
func local(secs int64, loc *time.Location) (int64, string) {
	_, before := time.Unix(secs-86400, 0).In(loc).Zone()
	_, after := time.Unix(secs+86400, 0).In(loc).Zone()
	if before == after {
		return secs - int64(before), ""
	}
	first, second := secs-int64(before), secs-int64(after)
	if second < first {
		first, second = second, first
	}
	for _, at := range [...]int64{first, second} {
		if _, offset := time.Unix(at, 0).In(loc).Zone(); at+int64(offset) == secs {
			return at, ""
		}
	}
	return 0, "a time that daylight saving skips"
}

func leap(y int64) bool { return y%4 == 0 && (y%100 != 0 || y%400 == 0) }

func daysIn(y, m int64) int64 {
	switch m {
	case 2:
		if leap(y) {
			return 29
		}
		return 28
	case 4, 6, 9, 11:
		return 30
	}
	return 31
}

// days counts days since 1970-01-01 in the Gregorian calendar, also of times
// before its introduction.
func days(y, m, d int64) int64 {
	if m <= 2 { // the year begins in March, so that the leap day is its last
		y--
		m += 12
	}
	era := floorDiv(y, 400)
	yoe := y - era*400
	doy := (153*(m-3)+2)/5 + d - 1
	return era*146097 + yoe*365 + yoe/4 - yoe/100 + doy - 719468
}

// civil is the inverse of days.
func civil(n int64) (y, m, d int64) {
	n += 719468
	era := floorDiv(n, 146097)
	doe := n - era*146097
	yoe := (doe - doe/1460 + doe/36524 - doe/146096) / 365
	doy := doe - (365*yoe + yoe/4 - yoe/100)
	mp := (5*doy + 2) / 153
	y, m, d = yoe+era*400, mp+3, doy-(153*mp+2)/5+1
	if m > 12 {
		y, m = y+1, m-12
	}
	return y, m, d
}

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

func floorMod(a, b int64) int64 { return a - floorDiv(a, b)*b }
