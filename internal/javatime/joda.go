package javatime

import (
	"fmt"
	"strings"
	"time"
)

// Joda is a compiled pattern of Joda-Time's DateTimeFormat, for parsing, in
// English. It is safe for concurrent use.
type Joda struct {
	pattern string
	fields  []jodaField
}

type jodaField struct {
	letter  byte // 0: literal
	count   int
	max     int // digits of a number
	literal string
}

// ParseJoda compiles a pattern. Known are the letters y Y M d D E a h H k K m
// s S Z z and quotes; the others (era, week years) are an error.
func ParseJoda(pattern string) (*Joda, error) {
	j := &Joda{pattern: pattern}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			if strings.HasPrefix(pattern[i:], "''") {
				j.literal("'")
				i += 2
				continue
			}
			i++
			var lit strings.Builder
			for {
				end := strings.IndexByte(pattern[i:], '\'')
				if end < 0 {
					return nil, fmt.Errorf("date pattern %q: the quote at the end is not closed", pattern)
				}
				lit.WriteString(pattern[i : i+end])
				i += end + 1
				if !strings.HasPrefix(pattern[i:], "'") {
					break
				}
				lit.WriteByte('\'') // two quotes inside of quotes
				i++
			}
			j.literal(lit.String())
		case c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z':
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if !strings.ContainsRune("yYMdDEahHkKmsSZz", rune(c)) {
				return nil, fmt.Errorf("date pattern %q: the letter %q at offset %d is not supported", pattern, c, i)
			}
			j.fields = append(j.fields, jodaField{letter: c, count: n})
			i += n
		default:
			j.literal(pattern[i : i+1])
			i++
		}
	}
	if len(j.fields) == 0 {
		return nil, fmt.Errorf("date pattern: empty")
	}
	for i := range j.fields {
		f := &j.fields[i]
		next := i+1 < len(j.fields) && j.fields[i+1].numeric()
		switch f.letter {
		case 'y', 'Y':
			// A year takes as many digits as there are, unless a number
			// follows at once.
			f.max = 9
			if next {
				f.max = f.count
			}
		case 'D':
			f.max = 3
		case 'S':
			f.max = f.count
		default:
			f.max = 2
		}
	}
	return j, nil
}

func (f jodaField) numeric() bool {
	switch f.letter {
	case 'y', 'Y', 'd', 'D', 'h', 'H', 'k', 'K', 'm', 's', 'S':
		return true
	case 'M':
		return f.count <= 2
	}
	return false
}

func (j *Joda) literal(s string) {
	if s == "" {
		return
	}
	if n := len(j.fields); n > 0 && j.fields[n-1].letter == 0 {
		j.fields[n-1].literal += s
		return
	}
	j.fields = append(j.fields, jodaField{literal: s})
}

var (
	months   = []string{"January", "February", "March", "April", "May", "June", "July", "August", "September", "October", "November", "December"}
	weekdays = []string{"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"}
)

// Time reads text, all of it, as a time. What the pattern does not name is as
// at 1970-01-01 00:00 (2000 for a pattern without a year, so that 29 February
// is a day), in loc where the text gives no zone. Values out of their range
// (a 30 February) are an error.
func (j *Joda) Time(text string, loc *time.Location) (time.Time, error) {
	year, month, day, yearDay := 0, 1, 1, 0
	hour, minute, second, nanos := 0, 0, 0, 0
	half, pm, hasYear := false, false, false
	bad := func(what string, at int) (time.Time, error) {
		return time.Time{}, fmt.Errorf("%.60q is not a date of the form %q: %s at offset %d", text, j.pattern, what, at)
	}
	i := 0
	for _, f := range j.fields {
		rest := text[i:]
		if f.letter == 0 {
			if len(rest) < len(f.literal) || !strings.EqualFold(rest[:len(f.literal)], f.literal) {
				return bad(fmt.Sprintf("%q expected", f.literal), i)
			}
			i += len(f.literal)
			continue
		}
		if f.numeric() {
			n, value := 0, 0
			for n < f.max && n < len(rest) && rest[n] >= '0' && rest[n] <= '9' {
				value = value*10 + int(rest[n]-'0')
				n++
			}
			if n == 0 {
				return bad("a number expected", i)
			}
			lo, hi := 0, 59
			var to *int
			switch f.letter {
			case 'y', 'Y':
				if f.count == 2 && n == 2 { // the year of that ending from 80 years ago on, as Joda has it
					low := time.Now().Year() - 80
					value += low - low%100
					if value < low {
						value += 100
					}
				}
				to, lo, hi, hasYear = &year, 0, 999999999, true
			case 'M':
				to, lo, hi = &month, 1, 12
			case 'd':
				to, lo, hi = &day, 1, 31
			case 'D':
				to, lo, hi = &yearDay, 1, 366
			case 'H':
				to, hi = &hour, 23
			case 'k':
				to, lo, hi = &hour, 1, 24
			case 'K':
				to, hi, half = &hour, 11, true
			case 'h':
				to, lo, hi, half = &hour, 1, 12, true
			case 'm':
				to = &minute
			case 's':
				to = &second
			case 'S':
				for k := n; k < 9; k++ {
					value *= 10
				}
				to, hi = &nanos, 1e9-1
			}
			if value < lo || value > hi {
				return bad(fmt.Sprintf("%d is out of range %d to %d", value, lo, hi), i)
			}
			if f.letter == 'k' && value == 24 || f.letter == 'h' && value == 12 {
				value = 0
			}
			*to = value
			i += n
			continue
		}
		switch f.letter {
		case 'M':
			k, n := prefixOf(rest, months, 3)
			if k < 0 {
				return bad("a month expected", i)
			}
			month = k + 1
			i += n
		case 'E':
			k, n := prefixOf(rest, weekdays, 3)
			if k < 0 {
				return bad("a day of the week expected", i)
			}
			i += n // it decides nothing beside a date
		case 'a':
			k, n := prefixOf(rest, []string{"AM", "PM"}, 2)
			if k < 0 {
				return bad("AM or PM expected", i)
			}
			pm = k == 1
			i += n
		case 'Z', 'z':
			l, n := readZone(rest)
			if n == 0 {
				return bad("a zone such as +0900 expected", i)
			}
			loc = l
			i += n
		}
	}
	if i < len(text) {
		return bad("text is left", i)
	}
	if half && pm {
		hour += 12
	}
	if !hasYear {
		year = 1970
		if month == 2 && day == 29 {
			year = 2000
		}
	}
	if yearDay > 0 {
		month, day = 1, yearDay
	}
	t := time.Date(year, time.Month(month), day, hour, minute, second, nanos, loc)
	if yearDay == 0 && t.Day() != day && loc == t.Location() {
		return bad("no such day", 0)
	}
	return t, nil
}

// prefixOf finds the longest of names, or of their first short letters, that s
// begins with, in any case.
func prefixOf(s string, names []string, short int) (index, length int) {
	for i, n := range names {
		if len(s) >= len(n) && strings.EqualFold(s[:len(n)], n) {
			return i, len(n)
		}
	}
	for i, n := range names {
		if len(s) >= short && strings.EqualFold(s[:short], n[:short]) {
			return i, short
		}
	}
	return -1, 0
}

// readZone reads Z, UTC, GMT, +hh, +hhmm, +hh:mm or a zone's id (Asia/Seoul).
func readZone(s string) (*time.Location, int) {
	digit := func(i int) bool { return i < len(s) && s[i] >= '0' && s[i] <= '9' }
	if s != "" && (s[0] == '+' || s[0] == '-') && digit(1) && digit(2) {
		secs, n := (int(s[1]-'0')*10+int(s[2]-'0'))*3600, 3
		m := n
		if m < len(s) && s[m] == ':' {
			m++
		}
		if digit(m) && digit(m+1) {
			secs += (int(s[m]-'0')*10 + int(s[m+1]-'0')) * 60
			n = m + 2
		}
		if s[0] == '-' {
			secs = -secs
		}
		return time.FixedZone(s[:n], secs), n
	}
	n := 0
	for n < len(s) && (s[n] == '/' || s[n] == '_' || s[n] == '-' || s[n] == '+' || s[n] >= 'A' && s[n] <= 'Z' || s[n] >= 'a' && s[n] <= 'z' || s[n] >= '0' && s[n] <= '9') {
		n++
	}
	switch name := s[:n]; name {
	case "":
		return nil, 0
	case "Z", "UTC", "GMT", "UT":
		return time.UTC, n
	default:
		if l, err := time.LoadLocation(name); err == nil {
			return l, n
		}
	}
	return nil, 0
}
