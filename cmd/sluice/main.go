// Command sluice is the stock binary: a Flume-compatible agent, a
// Kafka-compatible broker and the smart-car pilot that shows them at work.
package main

import (
	"os"

	"github.com/sluice-data/sluice"
	_ "github.com/sluice-data/sluice/standard"
)

func main() { os.Exit(sluice.Main()) }
