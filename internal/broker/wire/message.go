package wire

import (
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/internal/broker/log"
)

// Message is a response frame on its way out: protocol bytes with sections
// of record bytes between them.
type Message struct {
	buf          []byte
	cuts         []cut
	sectionBytes int64
	bufs         net.Buffers // scratch of WriteTo
}

type cut struct {
	at  int // position in buf before which the section goes
	sec log.Section
}

// maxPooledMessage is the largest buffer a Message keeps when it goes back to
// its pool.
const maxPooledMessage = 256 << 10

var messages = sync.Pool{New: func() any { return new(Message) }}

// NewMessage takes an empty message from the pool.
func NewMessage() *Message { return messages.Get().(*Message) }

// Free returns m to the pool. The sections' owner releases them himself.
func (m *Message) Free() {
	if cap(m.buf) > maxPooledMessage {
		m.buf = nil
	}
	m.buf = m.buf[:0]
	clear(m.cuts)
	m.cuts = m.cuts[:0]
	m.sectionBytes = 0
	messages.Put(m)
}

// Append lets f append to the protocol bytes.
func (m *Message) Append(f func(dst []byte) []byte) { m.buf = f(m.buf) }

// Len is the number of bytes that WriteTo sends.
func (m *Message) Len() int64 { return int64(len(m.buf)) + m.sectionBytes }

// sendfileMin is the section size from which sendfile(2) beats reading into
// a buffer: below it the extra system call costs more than the copy.
const sendfileMin = 32 << 10

// copyBuffers hold the file bytes of small sections.
var copyBuffers = sync.Pool{New: func() any { b := make([]byte, 0, 2*sendfileMin); return &b }}

// Frame is the whole frame if it has no sections. It is valid until Free.
func (m *Message) Frame() ([]byte, bool) {
	if len(m.cuts) > 0 {
		return nil, false
	}
	PutSize(m.buf, len(m.buf)-4)
	return m.buf, true
}

// WriteTo patches the length prefix and sends the frame.
func (m *Message) WriteTo(w *Writer) error {
	PutSize(m.buf, int(m.Len())-4)
	if len(m.cuts) == 0 {
		_, err := w.Write(m.buf)
		return err
	}
	// Memory and small file sections gather into one writev; a large file
	// section flushes what is before it and then goes by sendfile.
	bufs := m.bufs[:0]
	var copies []*[]byte
	defer func() {
		for _, b := range copies {
			copyBuffers.Put(b)
		}
		clear(m.bufs)
		m.bufs = m.bufs[:0]
	}()
	flush := func() error {
		m.bufs = bufs // keep the backing array: net.Buffers eats its own head
		for len(bufs) > 0 {
			if err := w.arm(); err != nil {
				return err
			}
			if _, err := bufs.WriteTo(w.conn); err != nil {
				return err
			}
		}
		bufs = m.bufs[:0]
		return nil
	}
	corked := false
	defer func() {
		if corked {
			w.cork(false)
		}
	}()
	pos := 0
	for i := range m.cuts {
		c := &m.cuts[i]
		if c.at > pos {
			bufs = append(bufs, m.buf[pos:c.at])
			pos = c.at
		}
		switch {
		case c.sec.Len() == 0:
		case c.sec.File == nil:
			bufs = append(bufs, c.sec.Bytes)
		case c.sec.N < sendfileMin:
			b := copyBuffers.Get().(*[]byte)
			copies = append(copies, b)
			*b = (*b)[:c.sec.N]
			if _, err := io.ReadFull(io.NewSectionReader(c.sec.File, c.sec.Off, c.sec.N), *b); err != nil {
				return err
			}
			bufs = append(bufs, *b)
		default:
			if !corked {
				// What is before and behind the file goes out with it, not in
				// segments of its own that wake the peer.
				w.cork(true)
				corked = true
			}
			if err := flush(); err != nil {
				return err
			}
			if err := sendFile(w, c.sec.File, c.sec.Off, c.sec.N); err != nil {
				return err
			}
		}
	}
	if pos < len(m.buf) {
		bufs = append(bufs, m.buf[pos:])
	}
	return flush()
}

// Writer sends to a connection. Every write has its own deadline, so that a
// slow reader of a large response is served and one that takes nothing is
// dropped. It is not for concurrent use.
type Writer struct {
	conn  net.Conn
	raw   syscall.RawConn // nil if conn is no socket
	stall time.Duration
	by    time.Time // the deadline that is set
}

// NewWriter returns a Writer; stall bounds how long the peer may take nothing
// at all, 0 for no bound.
func NewWriter(conn net.Conn, stall time.Duration) *Writer {
	w := &Writer{conn: conn, stall: stall}
	if sc, ok := conn.(syscall.Conn); ok {
		if raw, err := sc.SyscallConn(); err == nil {
			w.raw = raw
		}
	}
	return w
}

// arm sets the deadline of the next write, a little later than asked for, so
// that it need not be set for every one.
func (w *Writer) arm() error {
	if w.stall <= 0 {
		return nil
	}
	now := time.Now()
	if w.by.Sub(now) >= w.stall {
		return nil
	}
	w.by = now.Add(w.stall + w.stall/8)
	return w.conn.SetWriteDeadline(w.by)
}

// stallChunk is the unit of progress of a Writer.
const stallChunk = 1 << 20

// Write sends p.
func (w *Writer) Write(p []byte) (int, error) {
	n := 0
	for len(p) > 0 {
		if err := w.arm(); err != nil {
			return n, err
		}
		k, err := w.conn.Write(p[:min(len(p), stallChunk)])
		n += k
		if err != nil {
			return n, err
		}
		p = p[k:]
	}
	return n, nil
}

// copyFile is sendFile by way of a buffer.
func copyFile(w *Writer, f *os.File, off, n int64) error {
	k, err := io.CopyN(struct{ io.Writer }{w}, io.NewSectionReader(f, off, n), n)
	if err == nil && k != n {
		err = io.ErrUnexpectedEOF
	}
	return err
}
