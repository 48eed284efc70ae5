package ledger

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
)

// Flume's logger sink writes one event as
//
//	… Event: { headers:{} body: 32 30 31 36 30 31 30 31 30 30 30 30 30 30 2C 59 20160101000000,Y
//	00000010 30 30 30 31 2C 38 38                            0001,88 }
//
// a hex dump of rows of 16 bytes: an offset (cut off on the first row), 16
// cells of three characters, the same bytes as text with a dot for what is not
// printable. Nothing of it is taken on trust here: offset, cells, padding and
// text must all agree, or the event counts as altered.

const (
	eventMark = "Event: { headers:{"
	bodyMark  = "} body:"
	rowBytes  = 16
	cells     = 3 * rowBytes
	// maxLogLine bounds a line of the agent's log. Rows are short; headers and
	// messages of others may be long.
	maxLogLine = 1 << 20
)

// events reads a log that a logger sink wrote to and calls each for every
// event with its body (valid during the call) and the line number it begins
// at. What cannot be read as an event is reported to bad. Lines that belong to
// no event are passed over.
func events(r io.Reader, each func(line int, body []byte), bad func(line int, why string)) error {
	br := bufio.NewReaderSize(r, maxLogLine)
	var body []byte
	n, began, open := 0, 0, false
	for {
		l, err := br.ReadSlice('\n')
		if len(l) > 0 {
			n++
		}
		if errors.Is(err, bufio.ErrBufferFull) {
			if open || bytes.Contains(l, []byte(eventMark)) {
				bad(n, fmt.Sprintf("a line of more than %d bytes", maxLogLine))
				open = false
			}
			for errors.Is(err, bufio.ErrBufferFull) {
				_, err = br.ReadSlice('\n')
			}
			l = nil
		}
		if err != nil && err != io.EOF {
			return fmt.Errorf("read log: %w", err)
		}
		l = bytes.TrimSuffix(l, []byte{'\n'})
		at := bytes.Index(l, []byte(eventMark))
		if at >= 0 && open && isRow(l, len(body)) {
			at = -1 // an event whose own text holds the mark
		}
		switch {
		case at >= 0:
			if open {
				bad(began, "the event ends before its last row")
			}
			began = n
			var end bool
			if body, end, open = firstRow(body[:0], l[at+len(eventMark):]); !open {
				bad(n, "not a hex dump: "+quote(l[at:]))
			} else if end {
				each(n, body)
				open = false
			}
		case open && len(l) > 0:
			var end, ok bool
			if body, end, ok = nextRow(body, l); !ok {
				bad(began, "the event is broken off by the line "+quote(l))
				open = false
			} else if end {
				each(began, body)
				open = false
			}
		}
		if err == io.EOF {
			if open {
				bad(began, "the event ends before its last row")
			}
			return nil
		}
	}
}

// firstRow reads what follows the event mark: the headers, then the first row.
// Header values may themselves hold the body mark, so each is tried.
func firstRow(body, l []byte) (_ []byte, end, ok bool) {
	for {
		at := bytes.Index(l, []byte(bodyMark))
		if at < 0 {
			return body, false, false
		}
		l = l[at+len(bodyMark):]
		if string(l) == " }" { // an empty body has no rows
			return body, true, true
		}
		if b, end, ok := row(body, l); ok {
			return b, end, true
		}
	}
}

// nextRow reads a row with its offset, which must be the body's length so far.
func nextRow(body, l []byte) (_ []byte, end, ok bool) {
	if len(body) == 0 || len(l) < 8 {
		return body, false, false
	}
	offset := uint32(0)
	for _, c := range l[:8] {
		v, ok := hexDigit(c)
		if !ok {
			return body, false, false
		}
		offset = offset<<4 | uint32(v)
	}
	if int(offset) != len(body) {
		return body, false, false
	}
	return row(body, l[8:])
}

// isRow says whether l continues a body of the given length.
func isRow(l []byte, have int) bool {
	_, _, ok := nextRow(make([]byte, have), l)
	return ok
}

// row reads one row behind its offset: a blank, the cells, the text, and on
// the last row " }".
func row(body, l []byte) (_ []byte, end, ok bool) {
	if len(l) < 1+cells || l[0] != ' ' {
		return body, false, false
	}
	hex, text := l[1:1+cells], l[1+cells:]
	start := len(body)
	for i := 0; i < cells; i += 3 {
		hi, ok1 := hexDigit(hex[i])
		lo, ok2 := hexDigit(hex[i+1])
		if hex[i+2] != ' ' {
			return body[:start], false, false
		}
		if !ok1 || !ok2 {
			for _, c := range hex[i:] { // only padding may follow
				if c != ' ' {
					return body[:start], false, false
				}
			}
			break
		}
		body = append(body, hi<<4|lo)
	}
	n := len(body) - start
	if n == 0 || len(text) < n {
		return body[:start], false, false
	}
	for i, c := range body[start:] {
		if c < 0x20 || c > 0x7E {
			c = '.'
		}
		if text[i] != c {
			return body[:start], false, false
		}
	}
	switch string(text[n:]) {
	case " }":
		return body, true, true
	case "":
		// A row that is not full can only be the last one.
		return body, false, n == rowBytes
	}
	return body[:start], false, false
}

// hexDigit reads a digit as Flume writes it: capital letters only.
func hexDigit(c byte) (byte, bool) {
	switch {
	case c >= '0' && c <= '9':
		return c - '0', true
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// readLoggerLog counts the events of an agent's log files, oldest first.
func readLoggerLog(a *account, paths []string) error {
	for _, path := range paths {
		if err := func() error {
			f, err := os.Open(path)
			if err != nil {
				return fmt.Errorf("open agent log: %w", err)
			}
			defer f.Close()
			line := 0
			where := func() string { return fmt.Sprintf("%s:%d", path, line) }
			return events(f, func(n int, body []byte) {
				line = n
				a.arrive(0, body, where)
			}, func(n int, why string) {
				line = n
				a.broken(where, "%s", why)
			})
		}(); err != nil {
			return err
		}
	}
	return nil
}
