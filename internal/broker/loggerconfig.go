package broker

import (
	"log/slog"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// rootLogger is the only logger (resource type 8, KIP-412): the level of the
// whole log can be changed until the broker stops.
const rootLogger = "root"

func logLevelText(l slog.Level) string {
	switch {
	case l <= slog.LevelDebug:
		return "DEBUG"
	case l <= slog.LevelInfo:
		return "INFO"
	case l <= slog.LevelWarn:
		return "WARN"
	}
	return "ERROR"
}

func (b *Broker) describeLoggers(rr *kmsg.DescribeConfigsRequestResource, sr *kmsg.DescribeConfigsResponseResource) error {
	if err := b.checkLogger(rr.ResourceName); err != nil {
		return err
	}
	if len(rr.ConfigNames) > 0 && !slices.Contains(rr.ConfigNames, rootLogger) {
		return nil
	}
	e := kmsg.NewDescribeConfigsResponseResourceConfig()
	v := logLevelText(b.cfg.LogLevel.Level())
	e.Name, e.Value, e.ConfigType, e.Source = rootLogger, &v, kmsg.ConfigTypeString, kmsg.ConfigSourceDynamicBrokerLoggerConfig
	sr.Configs = append(sr.Configs, e)
	return nil
}

func (b *Broker) checkLogger(name string) error {
	switch {
	case name == "":
		return apiErrorf(kerr.InvalidRequest, "Broker id must not be empty")
	case b.cfg.LogLevel == nil:
		return apiErrorf(kerr.InvalidRequest, "the level of this broker's log cannot be changed")
	}
	return b.configs.checkName(name)
}

// alterLogger follows Apache Kafka's rules: a level of log4j, no lists, and
// the root logger cannot be deleted.
func (b *Broker) alterLogger(rr *kmsg.IncrementalAlterConfigsRequestResource, dryRun bool) error {
	if err := b.checkLogger(rr.ResourceName); err != nil {
		return err
	}
	level := b.cfg.LogLevel.Level()
	for _, c := range rr.Configs {
		switch {
		case c.Name != rootLogger:
			return apiErrorf(kerr.InvalidConfig, "Logger %s does not exist! There is only %s", c.Name, rootLogger)
		case c.Op == kmsg.IncrementalAlterConfigOpDelete:
			return apiErrorf(kerr.InvalidRequest, "Removing the log level of the root logger is not allowed")
		case c.Op != kmsg.IncrementalAlterConfigOpSet || c.Value == nil:
			return apiErrorf(kerr.InvalidRequest, "The operation is not allowed for the level of a logger")
		}
		switch strings.ToUpper(*c.Value) {
		case "TRACE", "DEBUG":
			level = slog.LevelDebug
		case "INFO":
			level = slog.LevelInfo
		case "WARN":
			level = slog.LevelWarn
		case "ERROR", "FATAL":
			level = slog.LevelError
		default:
			return apiErrorf(kerr.InvalidConfig, "Cannot set the log level of %s to %s as it is not a supported log level. Valid log levels are TRACE, DEBUG, INFO, WARN, ERROR and FATAL", c.Name, *c.Value)
		}
	}
	if !dryRun {
		b.cfg.LogLevel.Set(level)
	}
	return nil
}
