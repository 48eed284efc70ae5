//go:build !unix

package exec

import (
	"errors"
	"os"
)

// process needs process groups.
type process struct {
	stdout, stderr *os.File
	exited         chan struct{}
}

func launch([]string) (*process, error) {
	return nil, errors.New("the exec source needs a Unix system")
}

func (p *process) terminate()  {}
func (p *process) kill()       {}
func (p *process) closeFiles() {}
func (p *process) end() string { return "" }
