package serde

import (
	"bytes"
	"errors"
	"io"
	"unicode/utf8"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
)

type lineConfig struct {
	maxLength int
	out       *charset.Charset
}

func (c *lineConfig) Fields() []component.Field {
	return []component.Field{
		component.Int("maxLineLength", &c.maxLength, 2048).In("characters").Min(1).
			Describe("The longest line, counted in UTF-16 units and with its line feed. A longer one is cut there, and the rest becomes the next event; nothing is dropped."),
		component.Value("outputCharset", &c.out, "string", "UTF-8", charset.Lookup).
			Describe("The character set of the bodies. Characters that it lacks become question marks."),
	}
}

// SetMaxLineLength is for sources that have an old property of their own for it.
func (c *lineConfig) SetMaxLineLength(n int) { c.maxLength = n }

func (c *lineConfig) NewDeserializer(in Input) (Deserializer, error) {
	return newLines(in, c.maxLength, c.out)
}

// blockSize is how much lines reads at once: half a megabyte of events' bodies
// and what they pin stay within a core's cache.
const blockSize = 64 << 10

// lines splits a file at line feeds. Bodies are views of the blocks that the
// file was read into wherever the text needs no conversion.
type lines struct {
	in   Input
	max  int // of characters, with the line feed
	out  *charset.Charset
	view bool // input and output are UTF-8: a valid line is a body as it stands

	block int // bytes to read at once
	blk   *event.Block
	buf   []byte // what blk has that is not used yet
	clean int    // the start of buf that is whole lines, well-formed (view only)
	next  int64  // where the file goes on after buf
	begun int64  // where a line begins that convertLong is in the middle of, or -1
	text  []byte // scratch
	long  bool   // the warning about long lines was given
}

func newLines(in Input, maxLength int, out *charset.Charset) (*lines, error) {
	l := &lines{in: in, max: maxLength, out: out, next: in.From.Offset, begun: -1, block: blockSize}
	// The byte order mark is at the start of the file, also when reading
	// begins further back.
	head := make([]byte, min(4, in.Size))
	if len(head) > 0 {
		if _, err := in.File.ReadAt(head, 0); err != nil && err != io.EOF {
			return nil, err
		}
	}
	cs, mark := in.Charset.Detect(head)
	l.in.Charset = cs
	l.next = max(l.next, int64(mark))
	l.view = cs.IsUTF8() && out.IsUTF8()
	return l, nil
}

func (l *lines) Position() Position {
	if l.begun >= 0 {
		return Position{Offset: l.begun}
	}
	return Position{Offset: l.next - int64(len(l.buf))}
}

func (l *lines) Close() {
	if l.blk != nil {
		l.blk.Release()
		l.blk, l.buf, l.clean = nil, nil, 0
	}
}

func (l *lines) Read(b *event.Batch, max int) error {
	b.Grow(min(max, 4096))
	start := l.next
	for max > 0 {
		if l.clean > 0 {
			max -= l.split(b, max)
			continue
		}
		if n, lf := l.line(); n >= 0 {
			before := b.Len()
			if err := l.convert(b, l.buf[:n], lf); err != nil {
				return err
			}
			max -= b.Len() - before
			l.check()
			continue
		}
		if l.next >= l.in.Size && len(l.buf) == 0 {
			return io.EOF
		}
		if l.next-start > batchBytes && b.Len() > 0 {
			return nil
		}
		if err := l.fill(); err != nil {
			return err
		}
	}
	return nil
}

// split makes events of the well-formed whole lines at the start of buf: the
// path that nearly all lines take.
func (l *lines) split(b *event.Batch, max int) int {
	b.Attach(l.blk)
	p := l.buf[:l.clean]
	n := 0
	for n < max && len(p) > 0 {
		i := bytes.IndexByte(p, '\n')
		if i >= l.max {
			if k := l.cut(p[:i]); k < i || utf16Len(p[:i]) >= l.max {
				b.Add(p[:k])
				p = p[k:]
				n++
				continue
			}
		}
		b.Add(p[:i])
		p = p[i+1:]
		n++
	}
	used := l.clean - len(p)
	l.buf = l.buf[used:]
	l.clean = len(p)
	return n
}

// cut returns how much of a well-formed line of UTF-8 max characters are.
func (l *lines) cut(p []byte) int {
	chars := 0
	for i, r := range string(p) {
		w := utf16Width(r)
		if chars += w; chars > l.max && i > 0 {
			l.warnLong()
			return i
		}
	}
	return len(p)
}

func utf16Width(r rune) int {
	if r > 0xFFFF {
		return 2
	}
	return 1
}

func utf16Len(p []byte) int {
	n := 0
	for _, r := range string(p) {
		n += utf16Width(r)
	}
	return n
}

func (l *lines) warnLong() {
	if !l.long {
		l.long = true
		l.in.Log.Warn("a line is longer than maxLineLength; the rest becomes the next event", "maxLineLength", l.max)
	}
}

// line finds the line at the start of buf: its length without the line feed,
// and that of the line feed, which is 0 where the line is cut or the file ends.
// -1: buf does not have all of it.
func (l *lines) line() (n, lf int) {
	cs := l.in.Charset
	if i := cs.IndexLF(l.buf); i >= 0 {
		return i, cs.Unit()
	}
	// Four bytes a UTF-16 unit are the most there is (UTF-32).
	if len(l.buf) > 0 && (l.next >= l.in.Size || len(l.buf)/4 > l.max) {
		return len(l.buf), 0
	}
	return -1, 0
}

// convert makes an event of a line that is not the plain case: malformed,
// perhaps too long, in another character set, or without a line feed at the
// end of the file.
func (l *lines) convert(b *event.Batch, line []byte, lf int) error {
	// A character has at least one byte, so short lines need no counting.
	if len(line) >= l.max {
		return l.convertLong(b, line, lf)
	}
	if lf == 0 {
		if err := l.in.atEnd(); err != nil {
			return err
		}
	}
	if l.out.IsUTF8() && l.in.Charset.Valid(line) {
		b.Attach(l.blk)
		b.Add(line)
	} else {
		text, err := l.in.Charset.AppendUTF8(l.text[:0], line, l.in.Errors)
		if err != nil {
			return l.malformed(err)
		}
		l.text = text
		l.add(b, lf)
	}
	l.buf = l.buf[len(line)+lf:]
	return nil
}

// convertLong decodes character by character until the line or maxLineLength
// ends. It reads on by itself where characters that are dropped use buf up.
func (l *lines) convertLong(b *event.Batch, line []byte, lf int) error {
	l.begun = l.Position().Offset
	l.text = l.text[:0]
	for i, chars := 0, 0; ; {
		if lf == 0 && l.next < l.in.Size && len(line)-i < 8 && chars < l.max {
			l.buf = l.buf[i:]
			if err := l.fill(); err != nil {
				return err
			}
			i = 0
			if n := l.in.Charset.IndexLF(l.buf); n >= 0 {
				line, lf = l.buf[:n], l.in.Charset.Unit()
			} else {
				line = l.buf
			}
			continue
		}
		if i == len(line) || chars >= l.max {
			switch {
			case chars >= l.max:
				l.warnLong()
			case lf == 0:
				if err := l.in.atEnd(); err != nil {
					return err
				}
			default:
				i += lf
			}
			l.buf = l.buf[i:]
			break
		}
		r, n := l.in.Charset.Next(line[i:])
		if r == charset.Bad {
			if l.in.Errors == charset.Fail {
				err := l.malformed(&charset.DecodeError{Charset: l.in.Charset.Name(), Offset: int64(i), Bytes: bytes.Clone(line[i : i+n])})
				return err
			}
			if l.in.Errors == charset.Ignore {
				i += n
				continue
			}
			r = utf8.RuneError
		}
		w := utf16Width(r)
		if chars+w > l.max && chars > 0 {
			chars = l.max // it would be cut in two
			continue
		}
		chars += w
		l.text = utf8.AppendRune(l.text, r)
		i += n
	}
	l.begun = -1
	l.add(b, lf)
	return nil
}

// malformed gives the error the position in the file.
func (l *lines) malformed(err error) error {
	at := l.next - int64(len(l.buf))
	var de *charset.DecodeError
	if errors.As(err, &de) {
		at += de.Offset
		de.Offset = at
	}
	return &FormatError{Offset: at, Err: err}
}

// add makes an event of text. What is left at the end of the file when
// malformed bytes are ignored may be no line at all.
func (l *lines) add(b *event.Batch, lf int) {
	if len(l.text) == 0 && lf == 0 {
		return
	}
	if l.out.IsUTF8() {
		b.Append(l.text)
		return
	}
	mid := len(l.text)
	l.text = l.out.AppendText(l.text, l.text)
	b.Append(l.text[mid:])
	l.text = l.text[:mid]
}

// fill reads on, into a new block that begins with what is left of the old one.
func (l *lines) fill() error {
	rest := int64(len(l.buf)) + l.in.Size - l.next
	size := min(rest, max(int64(l.block), 2*int64(len(l.buf))))
	blk := l.in.Pool.Block(int(size))
	copy(blk.Extend(len(l.buf)), l.buf)
	free := blk.Free()
	free = free[:min(int64(len(free)), l.in.Size-l.next)]
	n, err := l.in.File.ReadAt(free, l.next)
	if err == io.EOF && n < len(free) {
		// The file has shrunk: what is there counts, AtEnd and the source
		// find out.
		l.in.Size, err = l.next+int64(n), nil
	}
	if err != nil {
		blk.Release()
		return err
	}
	blk.Extend(n)
	l.Close()
	l.blk, l.buf = blk, blk.Bytes()
	l.next += int64(n)
	l.check()
	return nil
}

// check finds out how much of buf split can take. It stops at the first
// malformed byte, so a file full of them is still looked at only once.
func (l *lines) check() {
	l.clean = 0
	if !l.view {
		return
	}
	whole := l.buf[:bytes.LastIndexByte(l.buf, '\n')+1]
	if utf8.Valid(whole) {
		l.clean = len(whole)
		return
	}
	l.clean = bytes.LastIndexByte(whole[:validPrefix(whole)], '\n') + 1
}

// validPrefix returns the length of the well-formed start of p.
func validPrefix(p []byte) int {
	i := 0
	for i < len(p) {
		if p[i] < utf8.RuneSelf {
			i++
			continue
		}
		r, n := utf8.DecodeRune(p[i:])
		if r == utf8.RuneError && n == 1 {
			break
		}
		i += n
	}
	return i
}
