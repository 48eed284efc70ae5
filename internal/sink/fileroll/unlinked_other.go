//go:build !unix

package fileroll

import "os"

// osFile is a file of the operating system's.
type osFile struct{ *os.File }

// Unlinked answers false: an open file cannot be removed here.
func (f *osFile) Unlinked() bool { return false }
