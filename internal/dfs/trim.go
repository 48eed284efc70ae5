package dfs

import (
	"bytes"
	"fmt"
	"io"
	"os"
)

// lastLine is where the last line of a file ends.
func lastLine(r io.ReaderAt, size int64) (int64, error) {
	buf := make([]byte, 64<<10)
	for size > 0 {
		n := min(size, int64(len(buf)))
		if _, err := r.ReadAt(buf[:n], size-n); err != nil && err != io.EOF {
			return 0, err
		}
		if i := bytes.LastIndexByte(buf[:n], '\n'); i >= 0 {
			return size - n + int64(i) + 1, nil
		}
		size -= n
	}
	return 0, nil
}

// Trim implements FS.
func (Local) Trim(name string) error {
	f, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end, err := lastLine(f, info.Size())
	if err != nil || end == info.Size() {
		return err
	}
	if err := f.Truncate(end); err != nil {
		return err
	}
	return f.Sync()
}

// Trim implements FS.
func (s *S3) Trim(name string) error { return Local{}.Trim(s.buffered(name)) }

// Trim implements FS.
func (h *HDFS) Trim(name string) error {
	c, err := h.connected()
	if err != nil {
		return err
	}
	r, err := c.Open(name)
	if err != nil {
		return h.explain(err, "read", name)
	}
	defer r.Close()
	size := r.Stat().Size()
	end, err := lastLine(r, size)
	if err != nil {
		return fmt.Errorf("read the end of %s: %w", name, err)
	}
	if end == size {
		return nil
	}
	done, err := c.Truncate(name, end)
	if err == nil && !done {
		return fmt.Errorf("truncate %s: %w: its last block is being recovered", name, ErrBusy)
	}
	return h.explain(err, "truncate", name)
}
