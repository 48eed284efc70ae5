package netcat

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/tcpserver"
)

const (
	// maxBatch is how many lines are put at once: what the memory channel's
	// default transactionCapacity allows.
	maxBatch = 100
	// An idle connection holds a block of firstBlock; one that sends more at
	// once gets larger ones.
	firstBlock = 512
	lastBlock  = 64 << 10
	minRead    = 128
	// writeTime is how long a client may leave its answers unread.
	writeTime = time.Minute
	// lingerTime and lingerBytes bound what is read and dropped after the
	// last answer, so that the client sees it: closing a connection with
	// unread input resets it. A stop waits so long for a client to read.
	lingerTime  = tcpserver.LingerTime
	lingerBytes = 1 << 20
)

// session is one connection.
type session struct {
	s       *source
	conn    net.Conn
	out     component.Output
	stop    context.Context // ends when the source is to stop
	emitCtx context.Context // ends when nothing may be waited for any more

	blk     *event.Block
	size    int // of the next block
	start   int // where in blk the unfinished line begins
	scanned int // how much of that has no line feed
	lines   [][]byte
	text    []byte
	reply   []byte
}

func (c *session) serve() {
	defer func() {
		if c.blk != nil {
			c.blk.Release()
		}
	}()
	c.size = firstBlock
	for {
		room := c.room()
		n, err := c.conn.Read(room)
		if n == len(room) {
			c.size = min(8*c.size, lastBlock)
		}
		tooLong := c.filled(n)
		c.handle()
		if tooLong {
			c.s.env.Log.Warn("a client sent a line that is too long", "client", c.conn.RemoteAddr().String(), "max_line_length", c.s.cfg.maxLine)
			c.answer(fmt.Sprintf("FAILED: Event exceeds the maximum length (%d chars, including newline)\n", c.s.cfg.maxLine))
		}
		if werr := c.flush(); werr != nil || err != nil {
			return
		}
		if tooLong {
			c.linger()
			return
		}
	}
}

// room returns memory to read into.
func (c *session) room() []byte {
	if c.blk != nil && len(c.blk.Free()) >= minRead {
		return c.blk.Free()
	}
	var rest []byte
	if c.blk != nil {
		rest = c.blk.Bytes()[c.start:]
	}
	blk := c.out.Pool().Block(max(c.size, len(rest)+minRead, 2*len(rest)))
	copy(blk.Extend(len(rest)), rest)
	if c.blk != nil {
		c.blk.Release()
	}
	c.blk, c.start = blk, 0
	return blk.Free()
}

// filled takes the first n bytes of room and finds the lines in it. It says
// whether the next line is too long.
func (c *session) filled(n int) (tooLong bool) {
	c.blk.Extend(n)
	p := c.blk.Bytes()[c.start:]
	from := c.scanned
	for {
		i := bytes.IndexByte(p[from:], '\n')
		if i < 0 {
			tooLong = !c.fits(p)
			break
		}
		line := p[:from+i]
		if !c.fits(line) {
			tooLong = true
			break
		}
		c.lines = append(c.lines, line[:len(line):len(line)])
		p, from = p[len(line)+1:], 0
	}
	c.start = len(c.blk.Bytes()) - len(p)
	c.scanned = len(p)
	return tooLong
}

// fits says whether a line and its line feed are no longer than allowed. A
// character has at least one byte, so most lines need no counting.
func (c *session) fits(line []byte) bool {
	if len(line) < c.s.cfg.maxLine {
		return true
	}
	chars := 0
	for len(line) > 0 && chars < c.s.cfg.maxLine {
		r, n := c.s.cfg.charset.Next(line)
		if r > 0xFFFF {
			chars++ // two UTF-16 units
		}
		chars++
		line = line[n:]
	}
	return chars < c.s.cfg.maxLine
}

// handle puts the lines into the channels and writes the answers down.
func (c *session) handle() {
	for rest := c.lines; len(rest) > 0; {
		n := min(len(rest), maxBatch)
		c.put(rest[:n])
		rest = rest[n:]
	}
	clear(c.lines)
	c.lines = c.lines[:0]
}

func (c *session) put(lines [][]byte) {
	err := c.emit(lines)
	if err == nil {
		for range lines {
			c.accepted()
		}
		return
	}
	if len(lines) == 1 {
		c.refused(err)
		return
	}
	for i := range lines {
		err := c.emit(lines[i : i+1])
		switch {
		case err == nil:
			c.accepted()
		case errors.Is(err, component.ErrFull):
			// It would be the same for the others, which moreover must not
			// overtake this one.
			for range lines[i:] {
				c.refused(err)
			}
			return
		default:
			c.refused(err)
		}
	}
}

func (c *session) emit(lines [][]byte) error {
	b := c.out.NewBatch()
	b.Attach(c.blk)
	for _, line := range lines {
		if cs := c.s.cfg.charset; cs.Valid(line) {
			b.Add(line)
		} else {
			c.text, _ = cs.AppendUTF8(c.text[:0], line, charset.Replace) // Replace has no errors
			b.Append(c.text)
		}
	}
	return c.out.Emit(c.emitCtx, b)
}

func (c *session) accepted() {
	if c.s.cfg.ack {
		c.answer("OK\n")
	}
}

func (c *session) refused(err error) {
	msg := strings.Map(func(r rune) rune {
		if r == '\n' || r == '\r' || r == utf8.RuneError {
			return ' '
		}
		return r
	}, err.Error())
	c.answer("FAILED: " + msg + "\n")
}

func (c *session) answer(text string) {
	if c.s.cfg.charset.IsUTF8() {
		c.reply = append(c.reply, text...)
		return
	}
	c.reply = c.s.cfg.charset.AppendText(c.reply, []byte(text))
}

func (c *session) flush() error {
	if len(c.reply) == 0 {
		return nil
	}
	_ = c.conn.SetWriteDeadline(time.Now().Add(writeTime)) // an error shows at the write
	if c.stop.Err() != nil {                               // Run may have shortened the time before
		_ = c.conn.SetWriteDeadline(time.Now().Add(lingerTime))
	}
	_, err := c.conn.Write(c.reply)
	c.reply = c.reply[:0]
	return err
}

// linger lets the client read the last answer before the connection goes.
func (c *session) linger() {
	if t, ok := c.conn.(*net.TCPConn); ok {
		_ = t.CloseWrite()
	}
	_ = c.conn.SetReadDeadline(time.Now().Add(lingerTime))
	var waste [4 << 10]byte
	for got := 0; got < lingerBytes; {
		n, err := c.conn.Read(waste[:])
		if err != nil {
			return
		}
		got += n
	}
}
