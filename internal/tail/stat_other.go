//go:build !unix

package tail

import (
	"errors"
	"os"
)

var errNoInodes = errors.New("files are followed by their inode numbers, which this system does not have")

func statPath(string) (stat, error)   { return stat{}, errNoInodes }
func statFile(*os.File) (stat, error) { return stat{}, errNoInodes }
