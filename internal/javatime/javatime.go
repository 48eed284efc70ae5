// Package javatime formats times by patterns of java.text.SimpleDateFormat,
// which agent files use, in English.
package javatime

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// Format is a compiled pattern. It is safe for concurrent use.
type Format struct {
	pattern string
	parts   []part
}

// part is literal text (letter 0) or a run of one pattern letter.
type part struct {
	letter byte
	count  int
	text   string
}

const letters = "GyYMLwWDdFEuaHkKhmsSzZX"

// Parse compiles a pattern. Letters outside quotes that SimpleDateFormat does
// not know are an error, as in Java; two quotes are one quote.
func Parse(pattern string) (*Format, error) {
	f := &Format{pattern: pattern}
	literal := func(s string) {
		if n := len(f.parts); n > 0 && f.parts[n-1].letter == 0 {
			f.parts[n-1].text += s
			return
		}
		f.parts = append(f.parts, part{text: s})
	}
	for i := 0; i < len(pattern); {
		c := pattern[i]
		switch {
		case c == '\'':
			if strings.HasPrefix(pattern[i:], "''") {
				literal("'")
				i += 2
				continue
			}
			text, end := quoted(pattern[i+1:])
			if end < 0 {
				return nil, fmt.Errorf("date pattern %q: the quote at position %d is not closed", pattern, i+1)
			}
			literal(text)
			i += 1 + end
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z':
			if strings.IndexByte(letters, c) < 0 {
				return nil, fmt.Errorf("date pattern %q: unknown letter %q at position %d", pattern, c, i+1)
			}
			n := 1
			for i+n < len(pattern) && pattern[i+n] == c {
				n++
			}
			if c == 'X' && n > 3 {
				return nil, fmt.Errorf("date pattern %q: more than three X at position %d", pattern, i+1)
			}
			f.parts = append(f.parts, part{letter: c, count: n})
			i += n
		default:
			literal(pattern[i : i+1])
			i++
		}
	}
	return f, nil
}

// quoted reads up to the closing quote; end is the index after it, or -1.
func quoted(s string) (text string, end int) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] == '\'' {
			if !strings.HasPrefix(s[i:], "''") {
				return b.String(), i + 1
			}
			i++
		}
		b.WriteByte(s[i])
	}
	return "", -1
}

// String returns the pattern.
func (f *Format) String() string { return f.pattern }

// Format formats t in its own location.
func (f *Format) Format(t time.Time) string { return string(f.Append(nil, t)) }

// Append appends t formatted to dst.
func (f *Format) Append(dst []byte, t time.Time) []byte {
	for _, p := range f.parts {
		if p.letter == 0 {
			dst = append(dst, p.text...)
			continue
		}
		dst = p.append(dst, t)
	}
	return dst
}

func (p part) append(dst []byte, t time.Time) []byte {
	switch p.letter {
	case 'G':
		return append(dst, era(t)...)
	case 'y':
		y := t.Year()
		if y <= 0 { // 1 BC is the year 0 of Go
			y = 1 - y
		}
		return year(dst, y, p.count)
	case 'Y':
		y, _ := week(t)
		return year(dst, y, p.count)
	case 'M', 'L':
		switch {
		case p.count >= 4:
			return append(dst, t.Month().String()...)
		case p.count == 3:
			return append(dst, t.Month().String()[:3]...)
		}
		return number(dst, int(t.Month()), p.count)
	case 'w':
		_, w := week(t)
		return number(dst, w, p.count)
	case 'W': // weeks begin on Sunday in the American calendar
		first := time.Date(t.Year(), t.Month(), 1, 0, 0, 0, 0, time.UTC).Weekday()
		return number(dst, (t.Day()-1+int(first))/7+1, p.count)
	case 'D':
		return number(dst, t.YearDay(), p.count)
	case 'd':
		return number(dst, t.Day(), p.count)
	case 'F':
		return number(dst, (t.Day()-1)/7+1, p.count)
	case 'E':
		if p.count >= 4 {
			return append(dst, t.Weekday().String()...)
		}
		return append(dst, t.Weekday().String()[:3]...)
	case 'u':
		return number(dst, (int(t.Weekday())+6)%7+1, p.count)
	case 'a':
		if t.Hour() < 12 {
			return append(dst, "AM"...)
		}
		return append(dst, "PM"...)
	case 'H':
		return number(dst, t.Hour(), p.count)
	case 'k':
		return number(dst, (t.Hour()+23)%24+1, p.count)
	case 'K':
		return number(dst, t.Hour()%12, p.count)
	case 'h':
		return number(dst, (t.Hour()+11)%12+1, p.count)
	case 'm':
		return number(dst, t.Minute(), p.count)
	case 's':
		return number(dst, t.Second(), p.count)
	case 'S': // milliseconds, whatever the number of letters
		return number(dst, t.Nanosecond()/1e6, p.count)
	case 'z':
		// Go has no long zone names; "zzzz" gives the short one too.
		name, offset := t.Zone()
		if name == "" || name[0] == '+' || name[0] == '-' {
			return zone(append(dst, "GMT"...), offset, ":", true)
		}
		return append(dst, name...)
	case 'Z':
		_, offset := t.Zone()
		return zone(dst, offset, "", true)
	default: // X
		_, offset := t.Zone()
		if offset == 0 {
			return append(dst, 'Z')
		}
		return zone(dst, offset, map[int]string{3: ":"}[p.count], p.count > 1)
	}
}

// number pads with zeros to width.
func number(dst []byte, n, width int) []byte {
	s := strconv.Itoa(n)
	for i := len(s); i < width; i++ {
		dst = append(dst, '0')
	}
	return append(dst, s...)
}

// year gives two digits for exactly two letters.
func year(dst []byte, y, count int) []byte {
	if count == 2 {
		return number(dst, y%100, 2)
	}
	return number(dst, y, count)
}

func era(t time.Time) string {
	if t.Year() <= 0 {
		return "BC"
	}
	return "AD"
}

// week is the American week year and week: weeks begin on Sunday, and the one
// with the first of January is the first.
func week(t time.Time) (y, w int) {
	y = t.Year()
	if t.Month() == time.December && t.Day()-int(t.Weekday()) > 25 { // its Saturday is in January
		return y + 1, 1
	}
	first := time.Date(y, time.January, 1, 0, 0, 0, 0, time.UTC).Weekday()
	return y, (t.YearDay()-1+int(first))/7 + 1
}

func zone(dst []byte, offset int, sep string, minutes bool) []byte {
	sign := byte('+')
	if offset < 0 {
		sign, offset = '-', -offset
	}
	dst = number(append(dst, sign), offset/3600, 2)
	if minutes {
		dst = number(append(dst, sep...), offset/60%60, 2)
	}
	return dst
}
