// Package standard links every built-in component into a binary. A custom
// build imports it for its side effects, beside its own component packages.
package standard

import (
	_ "github.com/sluice-data/sluice/internal/channel/file"
	_ "github.com/sluice-data/sluice/internal/channel/memory"
	_ "github.com/sluice-data/sluice/internal/interceptor/collectday"
	_ "github.com/sluice-data/sluice/internal/interceptor/host"
	_ "github.com/sluice-data/sluice/internal/interceptor/regexextractor"
	_ "github.com/sluice-data/sluice/internal/interceptor/regexfilter"
	_ "github.com/sluice-data/sluice/internal/interceptor/removeheader"
	_ "github.com/sluice-data/sluice/internal/interceptor/searchreplace"
	_ "github.com/sluice-data/sluice/internal/interceptor/static"
	_ "github.com/sluice-data/sluice/internal/interceptor/timestamp"
	_ "github.com/sluice-data/sluice/internal/interceptor/uuid"
	_ "github.com/sluice-data/sluice/internal/selector"
	_ "github.com/sluice-data/sluice/internal/serde"
	_ "github.com/sluice-data/sluice/internal/sink/avro"
	_ "github.com/sluice-data/sluice/internal/sink/fileroll"
	_ "github.com/sluice-data/sluice/internal/sink/kafka"
	_ "github.com/sluice-data/sluice/internal/sink/logger"
	_ "github.com/sluice-data/sluice/internal/sink/null"
	_ "github.com/sluice-data/sluice/internal/sink/thrift"
	_ "github.com/sluice-data/sluice/internal/sinkproc"
	_ "github.com/sluice-data/sluice/internal/source/avro"
	_ "github.com/sluice-data/sluice/internal/source/exec"
	_ "github.com/sluice-data/sluice/internal/source/kafka"
	_ "github.com/sluice-data/sluice/internal/source/netcat"
	_ "github.com/sluice-data/sluice/internal/source/seq"
	_ "github.com/sluice-data/sluice/internal/source/spooldir"
	_ "github.com/sluice-data/sluice/internal/source/taildir"
	_ "github.com/sluice-data/sluice/internal/source/thrift"
)
