// Package escape expands Flume's escapes in paths, file prefixes, topics and
// index names: %{header}, %[localhost], and the time escapes (%Y, %m, %d, …).
package escape

import (
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-data/sluice/event"
)

// Options say how the time escapes are expanded. The zero value takes the
// event's timestamp header, in the local time zone, without rounding.
type Options struct {
	// Location is the time zone; nil is the local one.
	Location *time.Location
	// LocalTime takes the time of Now instead of the timestamp header.
	LocalTime bool
	// Now is time.Now when nil.
	Now func() time.Time
	// Unit (time.Second, time.Minute or time.Hour; 0: no rounding) and Round
	// round the time down to a multiple of Round units within the next larger
	// one. A Round below 1 counts as 1.
	Unit  time.Duration
	Round int
}

// Template is a parsed string with escapes. It is safe for concurrent use.
type Template struct {
	opts    Options
	parts   []part
	timed   bool
	unknown []string
}

type part struct {
	kind byte   // 0: text as it is; '{': header; else the letter of an escape
	text string // the text, or the header's name
}

// letters are the escapes that have a meaning.
const letters = "taAbBcdeDHIjklmnMpsSyYz"

// Parse parses s. An unknown word in %[…] is an error. What does not have the
// form of an escape (a lone %, %{a b}) stands for itself, as in Flume.
func Parse(s string, opts Options) (*Template, error) {
	t := &Template{opts: opts}
	if opts.Location == nil {
		t.opts.Location = time.Local
	}
	if opts.Now == nil {
		t.opts.Now = time.Now
	}
	switch opts.Unit {
	case 0, time.Second, time.Minute, time.Hour:
	default:
		return nil, fmt.Errorf("parse escapes: rounding to a unit of %v: it must be a second, a minute or an hour", opts.Unit)
	}
	var text []byte
	flush := func() {
		if len(text) > 0 {
			t.parts = append(t.parts, part{text: string(text)})
			text = nil
		}
	}
	for i := 0; i < len(s); i++ {
		if s[i] != '%' || i+1 == len(s) {
			text = append(text, s[i])
			continue
		}
		switch c := s[i+1]; {
		case c == '%':
			text = append(text, '%')
			i++
		case c == '{' || c == '[':
			end := strings.IndexByte(s[i:], map[byte]byte{'{': '}', '[': ']'}[c])
			if end < 3 || !validName(s[i+2:i+end], c == '{') {
				text = append(text, '%')
				continue
			}
			name := s[i+2 : i+end]
			i += end
			if c == '{' {
				flush()
				t.parts = append(t.parts, part{'{', name})
				continue
			}
			v, err := hostWord(name)
			if err != nil {
				return nil, err
			}
			text = append(text, v...)
		case isWord(c):
			i++
			if strings.IndexByte(letters, c) < 0 {
				t.unknown = append(t.unknown, s[i-1:i+1])
				continue
			}
			flush()
			t.parts = append(t.parts, part{kind: c})
			t.timed = true
		default:
			text = append(text, '%')
		}
	}
	flush()
	return t, nil
}

func isWord(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z'
}

func validName(s string, header bool) bool {
	for i := range len(s) {
		if !isWord(s[i]) && !(header && (s[i] == '.' || s[i] == '-')) {
			return false
		}
	}
	return true
}

func hostWord(w string) (string, error) {
	host, err := os.Hostname()
	if err != nil {
		return "", fmt.Errorf("expand %%[%s]: %w", w, err)
	}
	switch strings.ToLower(w) {
	case "localhost":
		return host, nil
	case "ip", "fqdn":
		addrs, err := net.LookupHost(host)
		if err != nil {
			return "", fmt.Errorf("expand %%[%s]: look up this host's own name: %w", w, err)
		}
		if strings.EqualFold(w, "ip") {
			return addrs[0], nil
		}
		if names, err := net.LookupAddr(addrs[0]); err == nil && len(names) > 0 {
			return strings.TrimSuffix(names[0], "."), nil
		}
		return host, nil // Java answers with what it has, too
	}
	return "", fmt.Errorf("%%[%s] is not one of %%[localhost], %%[IP], %%[FQDN]", w)
}

// Constant returns the expansion when it is the same for every event.
func (t *Template) Constant() (string, bool) {
	switch {
	case len(t.parts) == 0:
		return "", true
	case len(t.parts) == 1 && t.parts[0].kind == 0:
		return t.parts[0].text, true
	}
	return "", false
}

// Timed says whether expanding needs a time, and so (unless LocalTime is set)
// the timestamp header of every event.
func (t *Template) Timed() bool { return t.timed }

// Headers says whether the expansion has the text of headers (other than a time) in it.
func (t *Template) Headers() bool {
	return slices.ContainsFunc(t.parts, func(p part) bool { return p.kind == '{' })
}

// Unknown lists the escapes that mean nothing, and expand to nothing.
func (t *Template) Unknown() []string { return t.unknown }

// ErrNoTimestamp is returned for an event without the header that the time
// escapes need.
var ErrNoTimestamp = errors.New("expected a timestamp in the event's headers, but there is none: add a timestamp interceptor to the source, or use the local time stamp")

// Append appends the expansion for e. Headers that e lacks expand to nothing.
func (t *Template) Append(dst []byte, e *event.Event) ([]byte, error) {
	var at time.Time // rounded
	var raw int64    // ms, not rounded
	if t.timed {
		var err error
		if raw, err = t.millis(e); err != nil {
			return dst, err
		}
		at = t.round(time.UnixMilli(raw).In(t.opts.Location))
	}
	for i := range t.parts {
		switch p := &t.parts[i]; p.kind {
		case 0:
			dst = append(dst, p.text...)
		case '{':
			v, _ := e.Header(p.text)
			dst = append(dst, v...)
		case 't':
			dst = strconv.AppendInt(dst, raw, 10)
		case 's':
			dst = strconv.AppendInt(dst, at.UnixMilli()/1000, 10)
		default:
			dst = appendTime(dst, p.kind, at)
		}
	}
	return dst, nil
}

func (t *Template) millis(e *event.Event) (int64, error) {
	if t.opts.LocalTime {
		return t.opts.Now().UnixMilli(), nil
	}
	v, _ := e.Header("timestamp")
	if v == nil {
		return 0, ErrNoTimestamp
	}
	ms, err := ParseMillis(v)
	if err != nil {
		return 0, fmt.Errorf("the event's timestamp header: %w", err)
	}
	return ms, nil
}

// ParseMillis reads a whole number of milliseconds, as Java's Long.parseLong
// does, without allocating.
func ParseMillis(b []byte) (int64, error) {
	s, neg := b, false
	if len(s) > 0 && (s[0] == '-' || s[0] == '+') {
		neg, s = s[0] == '-', s[1:]
	}
	var n uint64
	ok := len(s) > 0 && len(s) <= 19
	for _, c := range s {
		if c -= '0'; c > 9 {
			ok = false
			break
		}
		n = n*10 + uint64(c)
	}
	if !ok || n > 1<<63-1 {
		return 0, fmt.Errorf("%.40q is not a whole number of milliseconds", b)
	}
	if neg {
		return -int64(n), nil
	}
	return int64(n), nil
}

// round rounds down as Flume does: the field less its remainder, and the
// smaller fields 0, in local time.
func (t *Template) round(at time.Time) time.Time {
	n := max(t.opts.Round, 1)
	h, m, s := at.Hour(), at.Minute(), at.Second()
	switch t.opts.Unit {
	case time.Second:
		s -= s % n
	case time.Minute:
		m, s = m-m%n, 0
	case time.Hour:
		h, m, s = h-h%n, 0, 0
	default:
		return at
	}
	return time.Date(at.Year(), at.Month(), at.Day(), h, m, s, 0, at.Location())
}

// appendTime appends one time escape. The names are English, whatever the
// host's locale.
func appendTime(dst []byte, c byte, at time.Time) []byte {
	switch c {
	case 'a':
		return at.AppendFormat(dst, "Mon")
	case 'A':
		return append(dst, at.Weekday().String()...)
	case 'b':
		return at.AppendFormat(dst, "Jan")
	case 'B':
		return append(dst, at.Month().String()...)
	case 'c':
		return at.AppendFormat(dst, "Mon Jan 2 15:04:05 2006")
	case 'd':
		return digits(dst, at.Day(), 2)
	case 'e':
		return digits(dst, at.Day(), 1)
	case 'D':
		return at.AppendFormat(dst, "01/02/06")
	case 'H':
		return digits(dst, at.Hour(), 2)
	case 'I':
		return digits(dst, hour12(at), 2)
	case 'j':
		return digits(dst, at.YearDay(), 3)
	case 'k':
		return digits(dst, at.Hour(), 1)
	case 'l':
		return digits(dst, hour12(at), 1)
	case 'm':
		return digits(dst, int(at.Month()), 2)
	case 'n':
		return digits(dst, int(at.Month()), 1)
	case 'M':
		return digits(dst, at.Minute(), 2)
	case 'p':
		return at.AppendFormat(dst, "PM")
	case 'S':
		return digits(dst, at.Second(), 2)
	case 'y':
		return digits(dst, at.Year()%100, 2)
	case 'Y':
		return digits(dst, at.Year(), 4)
	default: // 'z'
		return at.AppendFormat(dst, "-0700")
	}
}

func hour12(at time.Time) int { return (at.Hour()+11)%12 + 1 }

// digits appends n, which is not negative, with at least width digits.
func digits(dst []byte, n, width int) []byte {
	for limit := 10; width > 1; width-- {
		if n < limit {
			for range width - 1 {
				dst = append(dst, '0')
			}
			break
		}
		limit *= 10
	}
	return strconv.AppendInt(dst, int64(n), 10)
}
