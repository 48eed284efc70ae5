package flumeconf

import (
	"bytes"
	"fmt"
	"strings"
	"unicode/utf16"
	"unicode/utf8"
)

// Properties are the entries of one or several files, keys unique, in the
// order in which the keys first appear.
type Properties struct {
	entries []Property // Name is the full key; Value.Raw is set, Value.Text equals it until Substitute
	index   map[string]int
	used    map[string]bool // keys that other values refer to, after Substitute
}

// All returns the entries. The caller must not change them.
func (p *Properties) All() Props { return p.entries }

// Len counts the keys.
func (p *Properties) Len() int { return len(p.entries) }

// Get returns the value of the full key.
func (p *Properties) Get(key string) (Value, bool) {
	if i, ok := p.index[key]; ok {
		return p.entries[i].Value, true
	}
	return Value{}, false
}

// set stores v under its key and returns the value it replaced.
func (p *Properties) set(v Value) (old Value, replaced bool) {
	if p.index == nil {
		p.index = make(map[string]int)
	}
	if i, ok := p.index[v.Key]; ok {
		old, p.entries[i].Value = p.entries[i].Value, v
		return old, true
	}
	p.index[v.Key] = len(p.entries)
	p.entries = append(p.entries, Property{Name: v.Key, Value: v})
	return Value{}, false
}

// Merge lays the files over each other: for a key in several of them the last
// file wins, as with Flume's repeated --conf-file.
func Merge(files ...*Properties) *Properties {
	out := &Properties{}
	for _, f := range files {
		if f == nil {
			continue
		}
		for _, e := range f.entries {
			out.set(e.Value)
		}
	}
	return out
}

// Parse reads Java properties text as java.util.Properties.load does, with
// these differences:
//
//   - Text that is valid UTF-8 is read as UTF-8. Java reads ISO-8859-1 always
//     and so mangles every letter outside ASCII that people type. Text that is
//     not UTF-8 is read as ISO-8859-1.
//   - A UTF-8 byte order mark is skipped. Java takes it for the first letters
//     of the first key.
//   - A malformed \uXXXX costs its own line an Error; Java refuses the file.
//
// A key that is set twice keeps the last value, with a finding that names both
// lines. Parse never fails as a whole: what is wrong is in the findings.
func Parse(name string, data []byte) (*Properties, []Diagnostic) {
	p := &Properties{index: make(map[string]int)}
	var ds []Diagnostic
	if bytes.HasPrefix(data, []byte{0xff, 0xfe}) || bytes.HasPrefix(data, []byte{0xfe, 0xff}) {
		return p, []Diagnostic{{Severity: Error, File: name, Line: 1, Message: "file is UTF-16 text", Hint: "save it as UTF-8"}}
	}
	if rest, ok := bytes.CutPrefix(data, []byte("\ufeff")); ok {
		data = rest
		ds = append(ds, Diagnostic{Severity: Info, File: name, Line: 1, Message: "file starts with a byte order mark", Hint: "ignored here; Flume takes it for a part of the first key"})
	}
	latin1 := !utf8.Valid(data)
	latin1Told := false
	lr := lineReader{data: data, line: 1}
	for lr.next() {
		rawKey, rawVal := splitLine(lr.buf)
		if latin1 && !latin1Told && !utf8.Valid(lr.buf) {
			latin1Told = true
			ds = append(ds, Diagnostic{Severity: Warning, File: name, Line: lr.start, Message: "text is not UTF-8; the file is read as ISO-8859-1", Hint: "save the file as UTF-8"})
		}
		key, lone1, err := unescape(rawKey, latin1)
		if err != nil {
			ds = append(ds, Diagnostic{Severity: Error, File: name, Line: lr.start, Key: printable(rawKey), Message: err.Error(), Hint: `write \\ for one backslash`})
			continue
		}
		val, lone2, err := unescape(rawVal, latin1)
		if err != nil {
			ds = append(ds, Diagnostic{Severity: Error, File: name, Line: lr.start, Key: key, Message: err.Error(), Hint: `write \\ for one backslash`})
			continue
		}
		if lone1 || lone2 {
			ds = append(ds, Diagnostic{Severity: Warning, File: name, Line: lr.start, Key: key, Message: `half of a \u surrogate pair stands alone; it is read as U+FFFD`})
		}
		v := Value{Text: val, Raw: val, Key: key, File: name, Line: lr.start}
		// A key without a dot belongs to no agent: junk, which is told of as
		// such, or a variable.
		if old, again := p.set(v); again && strings.Contains(key, ".") {
			if old.Raw == v.Raw {
				ds = append(ds, v.At(Info, "", "set again to the same value as on line %d", old.Line))
			} else {
				ds = append(ds, v.At(Warning, "remove one of the two", "set again: this value wins over the one on line %d", old.Line))
			}
		}
	}
	return p, ds
}

// lineReader cuts text into logical lines. It follows the reader of
// java.util.Properties step by step, odd corners included: a comment does not
// continue, a blank continuation line ends the property, and a backslash at
// the end of the text vanishes.
type lineReader struct {
	data  []byte
	pos   int
	line  int    // number of the physical line at pos
	start int    // number of the physical line on which buf begins
	buf   []byte // the logical line; valid until the next call
}

func (r *lineReader) next() bool {
	r.buf = r.buf[:0]
	skipBlanks, appended, backslash := true, false, false
	for r.pos < len(r.data) {
		c := r.data[r.pos]
		r.pos++
		if skipBlanks {
			if c == ' ' || c == '\t' || c == '\f' {
				continue
			}
			if !appended && (c == '\r' || c == '\n') {
				r.endOfLine(c)
				continue
			}
			skipBlanks, appended = false, false
		}
		if len(r.buf) == 0 && (c == '#' || c == '!') {
			for r.pos < len(r.data) {
				c := r.data[r.pos]
				r.pos++
				if c == '\r' || c == '\n' {
					r.endOfLine(c)
					break
				}
			}
			skipBlanks = true
			continue
		}
		if c != '\n' && c != '\r' {
			if len(r.buf) == 0 {
				r.start = r.line
			}
			r.buf = append(r.buf, c)
			backslash = c == '\\' && !backslash
			continue
		}
		last := r.pos == len(r.data)
		r.endOfLine(c)
		if len(r.buf) == 0 {
			skipBlanks = true
			continue
		}
		if !backslash {
			return true
		}
		r.buf = r.buf[:len(r.buf)-1]
		if last {
			return true
		}
		skipBlanks, appended, backslash = true, true, false
	}
	if len(r.buf) == 0 {
		return false
	}
	if backslash {
		// A lone backslash becomes an empty key, as in Java; the model says
		// that it belongs to no agent.
		r.buf = r.buf[:len(r.buf)-1]
	}
	return true
}

// endOfLine counts a line end; \r\n is one.
func (r *lineReader) endOfLine(c byte) {
	if c == '\r' && r.pos < len(r.data) && r.data[r.pos] == '\n' {
		r.pos++
	}
	r.line++
}

// splitLine cuts a logical line at its separator: the first '=', ':' or blank
// that no backslash precedes; blanks around an '=' or ':' belong to it.
func splitLine(line []byte) (key, val []byte) {
	keyLen, valStart, sep, backslash := 0, len(line), false, false
	for keyLen < len(line) {
		c := line[keyLen]
		if !backslash && (c == '=' || c == ':') {
			valStart, sep = keyLen+1, true
			break
		}
		if !backslash && isBlank(c) {
			valStart = keyLen + 1
			break
		}
		backslash = c == '\\' && !backslash
		keyLen++
	}
	for valStart < len(line) {
		c := line[valStart]
		if !isBlank(c) {
			if sep || (c != '=' && c != ':') {
				break
			}
			sep = true
		}
		valStart++
	}
	return line[:keyLen], line[valStart:]
}

func isBlank(c byte) bool { return c == ' ' || c == '\t' || c == '\f' }

// unescape decodes backslash escapes; lone reports an unpaired surrogate.
func unescape(b []byte, latin1 bool) (s string, lone bool, err error) {
	var out strings.Builder
	out.Grow(len(b))
	var high rune // a high surrogate waiting for its other half
	flush := func() {
		if high != 0 {
			out.WriteRune(utf8.RuneError)
			high, lone = 0, true
		}
	}
	for i := 0; i < len(b); i++ {
		c := b[i]
		if c != '\\' {
			flush()
			if latin1 {
				out.WriteRune(rune(c))
			} else {
				out.WriteByte(c)
			}
			continue
		}
		i++
		if i == len(b) { // the line reader leaves no odd backslash at the end
			break
		}
		if b[i] != 'u' {
			flush()
			switch c := b[i]; c {
			case 't':
				out.WriteByte('\t')
			case 'n':
				out.WriteByte('\n')
			case 'r':
				out.WriteByte('\r')
			case 'f':
				out.WriteByte('\f')
			default:
				if latin1 {
					out.WriteRune(rune(c))
				} else {
					out.WriteByte(c)
				}
			}
			continue
		}
		r, ok := hex4(b[i+1:])
		if !ok {
			return "", false, fmt.Errorf(`malformed escape %q: four hexadecimal digits must follow \u`, printable(b[i-1:min(i+5, len(b))]))
		}
		i += 4
		switch {
		case 0xd800 <= r && r < 0xdc00:
			flush()
			high = r
		case 0xdc00 <= r && r < 0xe000:
			if high == 0 {
				out.WriteRune(utf8.RuneError)
				lone = true
			} else {
				out.WriteRune(utf16.DecodeRune(high, r))
				high = 0
			}
		default:
			flush()
			out.WriteRune(r)
		}
	}
	flush()
	return out.String(), lone, nil
}

func hex4(b []byte) (rune, bool) {
	if len(b) < 4 {
		return 0, false
	}
	var r rune
	for _, c := range b[:4] {
		switch {
		case '0' <= c && c <= '9':
			r = r<<4 | rune(c-'0')
		case 'a' <= c && c <= 'f':
			r = r<<4 | rune(c-'a'+10)
		case 'A' <= c && c <= 'F':
			r = r<<4 | rune(c-'A'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// printable is b for a message: valid UTF-8 whatever b holds.
func printable(b []byte) string { return strings.ToValidUTF8(string(b), "\ufffd") }
