// Package examples holds the agent files of the four topologies, and of the
// handbook's pipeline that ends in Hadoop, for the pilot, which runs them as
// they are.
package examples

import "embed"

// Files are the agent files, by directory: 3-fan-out/a2.conf.
//
//go:embed 1-simple/*.conf 2-multiplexing/*.conf 3-fan-out/*.conf 4-aggregation/*.conf pilot-hadoop/*.conf
var Files embed.FS
