package javatime

import (
	"bytes"
	"fmt"
	"strings"
	"time"
)

// Joda is a compiled pattern of Joda-Time's DateTimeFormat, for parsing, in
// English. It is safe for concurrent use.
type Joda struct {
	pattern string
	fields  []jodaField
	low     int // the first year that two digits can mean
	zones   zoneCache
}

type jodaField struct {
	letter  byte // 0: literal
	count   int
	max     int  // digits of a number; 0: not a number
	alone   bool // no number follows at once
	next    int  // the first byte of the literal that follows, nothing: -1, something else: -2
	literal []byte
}

// numbers are the letters that are always read as digits.
const numbers = "yYdDeHhKkmsS"

// ParseJoda compiles a pattern. Known are the letters y Y M d D E e a h H k K
// m s S Z z and quotes; the others (eras, centuries, week years) are an error,
// and so are zzzz, which Joda-Time cannot parse either, and a quote left open.
func ParseJoda(pattern string) (*Joda, error) {
	// What two digits mean is settled now, as when Joda-Time makes a formatter.
	j := &Joda{pattern: pattern, low: time.Now().Year() - 80}
	var literal []byte
	flush := func() {
		if len(literal) > 0 {
			j.fields = append(j.fields, jodaField{literal: literal})
		}
		literal = nil
	}
	quoted := false
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case strings.HasPrefix(pattern[i:], "''"): // one quote, within quotes and without
			literal = append(literal, '\'')
			i += 2
		case c == '\'':
			quoted = !quoted
			i++
		case !quoted && (c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'):
			flush()
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if !strings.ContainsRune(numbers+"MEaZz", rune(c)) || c == 'z' && n > 3 {
				return nil, fmt.Errorf("date pattern %q: %q at offset %d cannot be read; known are y M d D E e a h H k K m s S Z z, and text in single quotes", pattern, pattern[i:i+n], i)
			}
			j.fields = append(j.fields, jodaField{letter: c, count: n})
			i += n
		default:
			literal = append(literal, c)
			i++
		}
	}
	if quoted {
		return nil, fmt.Errorf("date pattern %q: a quote is not closed", pattern)
	}
	flush()
	if len(j.fields) == 0 {
		return nil, fmt.Errorf("date pattern: empty")
	}
	for i := range j.fields {
		f := &j.fields[i]
		f.alone = i+1 == len(j.fields) || !j.fields[i+1].numeric()
		switch f.next = -2; {
		case i+1 == len(j.fields):
			f.next = -1
		case j.fields[i+1].letter == 0:
			f.next = int(j.fields[i+1].literal[0])
		}
		if !f.numeric() {
			continue
		}
		switch f.letter {
		case 'y', 'Y':
			// As many digits as there are, unless a number follows at once.
			f.max = f.count
			if f.alone {
				f.max = max(9, f.count)
			}
		case 'D':
			f.max = max(3, f.count)
		case 'S', 'e':
			f.max = f.count
		default:
			f.max = max(2, f.count)
		}
	}
	return j, nil
}

func (f *jodaField) numeric() bool {
	return f.letter == 'M' && f.count <= 2 || f.letter != 0 && strings.IndexByte(numbers, f.letter) >= 0
}

// String returns the pattern.
func (j *Joda) String() string { return j.pattern }

// DateError is text that does not fit a pattern, or is no date.
type DateError struct {
	Text    string // at most some 60 bytes of it
	Pattern string
	Offset  int // where in the text; -1: the date as a whole
	Msg     string
}

func (e *DateError) Error() string {
	if e.Offset < 0 {
		return fmt.Sprintf("%q is not a date of the form %q: %s", e.Text, e.Pattern, e.Msg)
	}
	return fmt.Sprintf("%q is not a date of the form %q: %s at offset %d", e.Text, e.Pattern, e.Msg, e.Offset)
}

// Millis reads text, all of it, as a time and answers its milliseconds since
// 1970, in loc where the text gives no zone. What the pattern does not name is
// as at 1970-01-01 00:00, but the year is 2000 where there is a day, month or
// weekday without one. Values out of their range are an error (a 30 February,
// a local time that daylight saving skips); of a local time that comes twice
// it is the first one. A weekday moves the date within its week, from Monday
// to Sunday. It allocates nothing, except for errors and zones seen first.
func (j *Joda) Millis(text []byte, loc *time.Location) (int64, error) {
	v := values{year: 1970, month: 1, day: 1, loc: loc}
	i := 0
	for k := range j.fields {
		f := &j.fields[k]
		n, msg := 0, ""
		switch {
		case f.letter == 0:
			if n = len(f.literal); len(text)-i < n || !bytes.EqualFold(text[i:i+n], f.literal) {
				msg = "another text expected"
			}
		case f.max > 0:
			n, msg = j.number(f, &v, text[i:])
		default:
			n, msg = j.name(f, &v, text[i:])
		}
		if msg != "" {
			return 0, j.bad(text, i, msg)
		}
		i += n
	}
	if i < len(text) {
		return 0, j.bad(text, i, "text is left")
	}
	ms, msg := v.millis()
	if msg != "" {
		return 0, j.bad(text, -1, msg)
	}
	return ms, nil
}

func (j *Joda) bad(text []byte, at int, msg string) error {
	return &DateError{Text: string(text[:min(len(text), 60)]), Pattern: j.pattern, Offset: at, Msg: msg}
}

// number reads a number and answers its length, or what is wrong.
func (j *Joda) number(f *jodaField, v *values, text []byte) (n int, msg string) {
	sign, limit := 0, f.max
	twoDigits := f.count == 2 && (f.letter == 'y' || f.letter == 'Y')
	if twoDigits {
		limit = 2
		if f.alone {
			limit = len(text)
		}
	}
	// Years have signs, but for years of an era and two digits that must be two.
	if (f.letter == 'y' && f.max > 1 && !twoDigits || twoDigits && f.alone) && len(text) > 0 {
		switch text[0] {
		case '-':
			sign = -1
		case '+':
			sign = 1
		}
		n = sign * sign
	}
	digits, value := 0, int64(0)
	for digits < limit && n < len(text) && text[n]-'0' <= 9 {
		if f.letter != 'S' || digits < 3 { // nothing is finer than a millisecond
			value = min(value*10+int64(text[n]-'0'), 1<<40) // that is out of every range
		}
		digits++
		n++
	}
	if digits == 0 || twoDigits && !f.alone && digits < 2 {
		return 0, "a number expected"
	}
	lo, hi := int64(0), int64(59)
	to := &v.minute
	switch f.letter {
	case 'y', 'Y':
		if sign < 0 {
			value = -value
		}
		if twoDigits && digits == 2 && sign == 0 {
			low := int64(j.low)
			value += low - low%100
			if value < low {
				value += 100
			}
		}
		to, lo, hi = &v.year, minYear, maxYear
		if f.letter == 'Y' && !twoDigits { // of the era that the year is in
			if lo = 1; v.year <= 0 && value > 0 {
				value, lo = 1-value, minYear
			}
		}
		v.has |= hasYear
	case 'M':
		to, lo, hi = &v.month, 1, 12
		v.has |= hasMonth
	case 'd':
		to, lo, hi = &v.day, 1, 31
		v.has |= hasDay
		v.dayMax = max(v.dayMax, value)
	case 'D':
		to, lo, hi = &v.yearDay, 1, 366
		v.yearDayMax = max(v.yearDayMax, value)
	case 'e':
		to, lo, hi = &v.weekday, 1, 7
	case 'H':
		to, hi = &v.hour, 23
		v.has |= hasHour
	case 'k':
		to, lo, hi = &v.hour, 1, 24
		v.has |= hasHour
	case 'K':
		to, hi = &v.halfHour, 11
		v.has |= hasHalfHour
	case 'h':
		to, lo, hi = &v.halfHour, 1, 12
		v.has |= hasHalfHour
	case 's':
		to = &v.second
	case 'S':
		for k := digits; k < 3; k++ {
			value *= 10
		}
		to, hi = &v.milli, 999
	}
	if value < lo || value > hi {
		return 0, outOfRange[f.letter]
	}
	if f.letter == 'k' && value == 24 || f.letter == 'h' && value == 12 {
		value = 0
	}
	*to = value
	return n, ""
}

// outOfRange says so by letter; the texts are made once because bad lines come
// in millions.
var outOfRange = map[byte]string{
	'y': "a year out of range", 'Y': "a year out of range", 'M': "a month out of 1 to 12",
	'd': "a day out of 1 to 31", 'D': "a day of the year out of 1 to 366", 'e': "a weekday out of 1 to 7",
	'H': "an hour out of 0 to 23", 'k': "an hour out of 1 to 24", 'K': "an hour out of 0 to 11", 'h': "an hour out of 1 to 12",
	'm': "a minute out of 0 to 59", 's': "a second out of 0 to 59",
}

var (
	months   = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	weekdays = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
	halves   = []string{"AM", "PM"}
)

// name reads a word or a zone.
func (j *Joda) name(f *jodaField, v *values, text []byte) (n int, msg string) {
	k := 0
	switch f.letter {
	case 'M':
		if k, n = prefixOf(text, months, 3); n == 0 {
			return 0, "a month expected"
		}
		v.month = int64(k + 1)
		v.has |= hasMonth
	case 'E':
		if k, n = prefixOf(text, weekdays, 3); n == 0 {
			return 0, "a day of the week expected"
		}
		v.weekday = int64(k + 1)
	case 'a':
		if k, n = prefixOf(text, halves, 2); n == 0 {
			return 0, "AM or PM expected"
		}
		v.half = int64(k)
	case 'z':
		loc, n := j.zones.abbreviated(text)
		if n == 0 {
			return 0, "UTC, GMT, EST, CST, MST, PST or their daylight saving times expected"
		}
		v.loc = loc
		return n, ""
	case 'Z':
		if f.count >= 3 {
			loc, n := j.zones.named(text, f.next)
			if n == 0 {
				return 0, "the name of a zone expected, such as Europe/Paris"
			}
			v.loc = loc
			return n, ""
		}
		offset, n := readOffset(text)
		if n == 0 {
			return 0, "a zone such as +0900 expected"
		}
		v.offset = offset
		v.has |= hasOffset
		return n, ""
	}
	return n, ""
}

// prefixOf finds the longest of names, or of their first short letters, that
// text begins with. They may be all in capitals, all small, or as written.
func prefixOf(text []byte, names []string, short int) (index, length int) {
	for i, name := range names {
		if len(text) < short || text[0]|0x20 != name[0]|0x20 {
			continue
		}
		if len(text) >= len(name) && spelled(text, name) {
			return i, len(name)
		}
		if spelled(text, name[:short]) {
			return i, short
		}
	}
	return -1, 0
}

func spelled(text []byte, name string) bool {
	if string(text[:len(name)]) == name {
		return true
	}
	upper, lower := true, true
	for i := range len(name) {
		c := name[i] &^ 0x20
		upper = upper && text[i] == c
		lower = lower && text[i] == c|0x20
	}
	return upper || lower
}

// readOffset reads Z, +hh, +hhmm, +hhmmss, +hhmmssSSS, or those with colons
// and a point, in milliseconds.
func readOffset(s []byte) (ms int64, n int) {
	if len(s) > 0 && s[0]|0x20 == 'z' {
		return 0, 1
	}
	two := func(at int, limit int64) (int64, bool) {
		if at+2 > len(s) || s[at]-'0' > 9 || s[at+1]-'0' > 9 {
			return 0, false
		}
		v := int64(s[at]-'0')*10 + int64(s[at+1]-'0')
		return v, v <= limit
	}
	digit := func(at int) bool { return at < len(s) && s[at]-'0' <= 9 }
	if len(s) == 0 || s[0] != '+' && s[0] != '-' {
		return 0, 0
	}
	hours, ok := two(1, 23)
	if !ok {
		return 0, 0
	}
	ms, n = hours*3600_000, 3
	colons := n < len(s) && s[n] == ':'
	for unit := int64(60_000); unit >= 1000; unit /= 60 {
		at := n
		switch {
		case colons && (at >= len(s) || s[at] != ':'), !colons && !digit(at):
			return signed(s, ms), n
		case colons:
			at++
		}
		v, ok := two(at, 59)
		if !ok {
			return 0, 0
		}
		ms, n = ms+v*unit, at+2
	}
	at := n
	if colons {
		if at >= len(s) || s[at] != '.' && s[at] != ',' {
			return signed(s, ms), n
		}
		if at++; !digit(at) {
			return 0, 0
		}
	}
	for unit := int64(100); unit > 0 && digit(at); unit /= 10 {
		ms += int64(s[at]-'0') * unit
		at++
	}
	return signed(s, ms), at
}

func signed(s []byte, ms int64) int64 {
	if s[0] == '-' {
		return -ms
	}
	return ms
}
