package javaregex

import (
	"fmt"
	"unicode/utf8"
)

// Template is a replacement as Matcher.replaceAll reads it: $1 and ${name}
// stand for groups, a backslash takes the next character as it is.
type Template struct {
	parts []templatePart
}

type templatePart struct {
	lit   string
	group int // where lit is empty
}

// ParseReplacement reads a replacement for re's matches.
func (re *Regexp) ParseReplacement(text string) (*Template, error) {
	bad := func(i int, format string, args ...any) error {
		return fmt.Errorf("replacement %q, at character %d: %s", text, utf8.RuneCountInString(text[:i])+1, fmt.Sprintf(format, args...))
	}
	t := &Template{}
	lit := ""
	flush := func() {
		if lit != "" {
			t.parts = append(t.parts, templatePart{lit: lit})
		}
		lit = ""
	}
	for i := 0; i < len(text); {
		switch text[i] {
		case '\\':
			if i+1 == len(text) {
				return nil, bad(i, "the backslash at the end escapes nothing; write \\\\ for a backslash")
			}
			_, n := utf8.DecodeRuneInString(text[i+1:])
			lit += text[i+1 : i+1+n]
			i += 1 + n
		case '$':
			start := i
			i++
			group := 0
			switch {
			case i == len(text):
				return nil, bad(start, "a group's number or {name} must follow $; write \\$ for a dollar sign")
			case text[i] == '{':
				end := i + 1
				for end < len(text) && (isAlpha(rune(text[end])) || isDigit(rune(text[end]))) {
					end++
				}
				name := text[i+1 : end]
				if end == len(text) || text[end] != '}' || name == "" || isDigit(rune(name[0])) {
					return nil, bad(start, "a group's name in ${…} has only Latin letters and digits, begins with a letter and ends with }")
				}
				for g, n := range re.names {
					if n == name {
						group = g
					}
				}
				if group == 0 {
					return nil, bad(start, "the pattern has no group named %q", name)
				}
				i = end + 1
			case isDigit(rune(text[i])):
				group = int(text[i] - '0')
				if group > re.groups {
					return nil, bad(start, "the pattern has %d groups, there is no group %d; write \\$ for a dollar sign", re.groups, group)
				}
				// Further digits belong to the number as long as there is such a group.
				for i++; i < len(text) && isDigit(rune(text[i])) && group*10+int(text[i]-'0') <= re.groups; i++ {
					group = group*10 + int(text[i]-'0')
				}
			default:
				return nil, bad(start, "a group's number or {name} must follow $; write \\$ for a dollar sign")
			}
			flush()
			t.parts = append(t.parts, templatePart{group: group})
		default:
			lit += text[i : i+1]
			i++
		}
	}
	flush()
	return t, nil
}

// ReplaceAll appends src to dst with every match replaced, and says how many
// there were. What does not match is copied byte by byte, malformed bytes
// included. Without a match dst is returned as it was. Where matching gives up
// (see GaveUp) the rest of src is taken to have no match.
func (re *Regexp) ReplaceAll(dst, src []byte, t *Template) (out []byte, matches int) {
	out, matches, _ = re.TryReplaceAll(dst, src, t)
	return out, matches
}

// TryReplaceAll is ReplaceAll; decided is false where it gave up.
func (re *Regexp) TryReplaceAll(dst, src []byte, t *Template) (out []byte, matches int, decided bool) {
	s := re.scratch()
	defer re.release(s)
	done := 0 // src up to here is in dst
	for from := 0; from <= len(src) && re.find.searchFrom(re, s, src, from, false); {
		start, end := s.caps[0], s.caps[1]
		matches++
		dst = append(dst, src[done:start]...)
		for i := range t.parts {
			if p := &t.parts[i]; p.lit != "" {
				dst = append(dst, p.lit...)
			} else if lo := s.caps[2*p.group]; lo >= 0 {
				dst = append(dst, src[lo:s.caps[2*p.group+1]]...)
			}
		}
		done, from, s.last = end, end, end
		if start == end {
			if end == len(src) {
				break
			}
			from += width(src[end:])
		}
	}
	if matches == 0 {
		return dst, 0, !s.gaveUp
	}
	return append(dst, src[done:]...), matches, !s.gaveUp
}

// Split is String.split: the pieces of s between matches. Empty pieces at the
// end are dropped, and so is one that a match of nothing at the front makes.
func (re *Regexp) Split(s string) []string {
	sc := re.scratch()
	defer re.release(sc)
	b := []byte(s)
	var out []string
	done := 0
	for from := 0; from <= len(b) && re.find.searchFrom(re, sc, b, from, false); {
		start, end := sc.caps[0], sc.caps[1]
		if end > 0 {
			out = append(out, s[done:start])
			done = end
		}
		from, sc.last = end, end
		if start == end {
			if end == len(b) {
				break
			}
			from += width(b[end:])
		}
	}
	if len(out) == 0 {
		return []string{s}
	}
	out = append(out, s[done:])
	for len(out) > 0 && out[len(out)-1] == "" {
		out = out[:len(out)-1]
	}
	return out
}
