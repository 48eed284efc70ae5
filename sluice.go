// Package sluice is the whole program as a function, so that a build with
// user-defined components is a module of its own with a main of a few lines:
// import standard, import your components, call Main.
package sluice

import (
	"os"

	"github.com/sluice-data/sluice/internal/cli"
)

// Main runs the command line in os.Args and returns the exit code:
// 0 done, 1 failed, 2 bad usage or bad configuration.
func Main() int { return cli.Run(os.Args, os.Stdin, os.Stdout, os.Stderr) }
