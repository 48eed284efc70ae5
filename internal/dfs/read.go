package dfs

import (
	"io"
	"os"
)

// Open opens a file for reading. What Recover has not ended yet may lack its last bytes.
func (h *HDFS) Open(name string) (io.ReadCloser, error) {
	c, err := h.connected()
	if err != nil {
		return nil, err
	}
	r, err := c.Open(name)
	if err != nil {
		return nil, h.explain(err, "read", name)
	}
	return r, nil
}

// Open opens a file for reading.
func (Local) Open(name string) (io.ReadCloser, error) { return os.Open(name) }
