// Command sluice-upper is Sluice with one more interceptor.
package main

import (
	"os"

	"github.com/sluice-data/sluice"
	_ "github.com/sluice-data/sluice/standard"

	_ "example.com/upper/upper"
)

func main() { os.Exit(sluice.Main()) }
