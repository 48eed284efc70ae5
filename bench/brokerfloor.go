package main

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// The floor is what no broker can do without: for produce, a program that
// reads the same requests from a socket, computes the CRC-32C, writes the
// bytes to a file and says so; for consume, sendfile of that file. It runs in
// a process of its own, on the same ready-made requests, and its CPU time is
// measured as the broker's is. It knows nothing of topics, offsets, sequences,
// indexes or consumers.

type floorBroker struct{}

func (floorBroker) Name() string { return "floor" }

func (floorBroker) Start(ctx context.Context, dir string) (*brokerProcess, error) {
	port, err := brokerPort(dir)
	if err != nil {
		return nil, err
	}
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(dir, "floor.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	defer log.Close()
	addr := fmt.Sprintf("127.0.0.1:%d", port)
	cmd := exec.Command(self, "-floor-server", addr+","+filepath.Join(dir, "floor.data"))
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	// It ends with its standard input, and that with this process.
	if _, err := cmd.StdinPipe(); err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	begun := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("start floor: %w", err)
	}
	end := func() error {
		if err := cmd.Process.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
			return fmt.Errorf("stop floor: %w", err)
		}
		_ = cmd.Wait() // it was killed
		return nil
	}
	for {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
			break
		}
		if ctx.Err() != nil || time.Since(begun) > 2*time.Minute {
			return nil, errors.Join(fmt.Errorf("start floor: %w", err), end())
		}
		time.Sleep(5 * time.Millisecond)
	}
	return &brokerProcess{pid: cmd.Process.Pid, addr: addr, begun: begun, log: log.Name(), stop: end, kill: end}, nil
}

// serveFloor is the floor's process. Every connection begins with a byte that
// says what it wants: 'p' to produce, 'c' to have the file sent. After 'p' come
// the number of files to write to, in turn, and into how many pieces a request
// is to be cut for that, with two bytes each; it answers with a byte when the
// files are there.
func serveFloor(spec string) error {
	addr, path, _ := strings.Cut(spec, ",")
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return fmt.Errorf("floor: %w", err)
	}
	go func() {
		_, _ = io.Copy(io.Discard, os.Stdin) // until the benchmark's process is gone, however that came
		os.Exit(0)
	}()
	for {
		c, err := l.Accept()
		if err != nil {
			return fmt.Errorf("floor: %w", err)
		}
		err = floorConn(c.(*net.TCPConn), path)
		c.Close()
		if err != nil && !errors.Is(err, io.EOF) {
			return fmt.Errorf("floor: %w", err)
		}
	}
}

func floorConn(c *net.TCPConn, path string) error {
	var what [1]byte
	if _, err := io.ReadFull(c, what[:]); err != nil {
		return err
	}
	if what[0] == 'c' {
		return floorSend(c, path)
	}
	var layout [4]byte
	if _, err := io.ReadFull(c, layout[:]); err != nil {
		return err
	}
	files := make([]*os.File, binary.BigEndian.Uint16(layout[:]))
	pieces := int(binary.BigEndian.Uint16(layout[2:]))
	for i := range files {
		name := path
		if i > 0 {
			name = fmt.Sprintf("%s.%d", path, i)
			defer os.Remove(name)
		}
		f, err := os.Create(name)
		if err != nil {
			return err
		}
		defer f.Close()
		files[i] = f
	}
	if _, err := c.Write([]byte{1}); err != nil {
		return err
	}
	next := 0
	buf := make([]byte, 4<<20)
	r, w := 0, 0
	answer := make([]byte, 25+35*pieces) // as long as a Produce response
	binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
	var out []byte
	for {
		n, err := c.Read(buf[w:])
		if err != nil {
			return err
		}
		out = out[:0]
		for w += n; w-r >= 4; {
			size := 4 + int(binary.BigEndian.Uint32(buf[r:]))
			if w-r < size {
				break
			}
			body := buf[r+4 : r+size]
			r += size
			for left := pieces; left > 0; left-- {
				piece := body[:len(body)/left]
				body = body[len(piece):]
				if crc32.Checksum(piece, castagnoli) == 0 {
					return errors.New("a CRC of 0")
				}
				if _, err := files[next].Write(piece); err != nil {
					return err
				}
				next = (next + 1) % len(files)
			}
			out = append(out, answer...)
		}
		if len(out) > 0 {
			if _, err := c.Write(out); err != nil {
				return err
			}
		}
		w = copy(buf, buf[r:w])
		r = 0
	}
}

// floorSend sends the file in answers of 1 MiB, one for each byte that comes.
func floorSend(c *net.TCPConn, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	st, err := f.Stat()
	if err != nil {
		return err
	}
	out, err := c.SyscallConn()
	if err != nil {
		return err
	}
	var ask [1]byte
	off := int64(0)
	for {
		if _, err := c.Read(ask[:]); err != nil {
			return err
		}
		for left := min(int64(1<<20), st.Size()-off); left > 0; {
			var n int
			var serr error
			werr := out.Write(func(fd uintptr) bool {
				n, serr = unix.Sendfile(int(fd), int(f.Fd()), &off, int(left))
				return serr != unix.EAGAIN
			})
			if err := errors.Join(werr, serr); err != nil {
				return err
			}
			left -= int64(n)
		}
		if off >= st.Size() {
			off = 0
		}
	}
}

// newFloorProducer is a producer for the floor, which writes to as many files
// as a broker would have partitions.
func newFloorProducer(ctx context.Context, addr string, parts int, t template) (*producer, error) {
	c, err := dialBroker(ctx, addr)
	if err != nil {
		return nil, err
	}
	p := &producer{kconn: c, t: t, topic: "floor", parts: parts, seqs: make([]int32, parts), each: t.inRequest(parts)}
	hello := binary.BigEndian.AppendUint16([]byte{'p'}, uint16(parts))
	_, err = c.Write(binary.BigEndian.AppendUint16(hello, uint16(p.each)))
	if err == nil {
		_, err = io.ReadFull(c, hello[:1])
	}
	if err != nil {
		c.Close()
		return nil, fmt.Errorf("produce to the floor: %w", err)
	}
	return p, nil
}

// runFloor sends as much payload as a producer would to a broker.
func (p *producer) runFloor(payload int64) error {
	each := int64(p.each)
	n := ((payload+p.t.payload-1)/p.t.payload + each - 1) / each
	open := 0
	for sent := int64(0); sent < n || open > 0; {
		for open < inFlight && sent < n {
			if err := p.send(p.each); err != nil {
				return err
			}
			open++
			sent++
		}
		if _, err := p.frame(); err != nil {
			return err
		}
		open--
	}
	return nil
}

// floorConsume takes the whole file of size bytes, times over.
func floorConsume(ctx context.Context, addr string, size int64, times int) error {
	c, err := dialBroker(ctx, addr)
	if err != nil {
		return err
	}
	defer c.Close()
	if _, err := c.Write([]byte{'c'}); err != nil {
		return err
	}
	buf := make([]byte, 1<<20)
	for range times {
		for left := size; left > 0; {
			if _, err := c.Write([]byte{1}); err != nil {
				return err
			}
			b := buf[:min(int64(len(buf)), left)]
			if _, err := io.ReadFull(c, b); err != nil {
				return err
			}
			left -= int64(len(b))
		}
	}
	return nil
}
