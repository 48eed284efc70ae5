//go:build !linux

package wire

import "os"

// sendFile has no portable form with an explicit offset; a copy has.
func sendFile(w *Writer, f *os.File, off, n int64) error { return copyFile(w, f, off, n) }

// cork is Linux's.
func (w *Writer) cork(bool) {}
