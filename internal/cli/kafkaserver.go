package cli

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"strings"

	"github.com/sluice-data/sluice/internal/broker"
)

// kafkaServerStart takes server.properties and overrides, as Kafka's script
// does.
func kafkaServerStart(env *Env, tool string, args []string) error {
	const usage = "want server.properties [--override NAME=VALUE]*"
	line := []string{"broker"}
	for i := 0; i < len(args); i++ {
		name, value, joined := strings.Cut(args[i], "=")
		switch name {
		case "-daemon", "--daemon":
			return usageError(fmt.Errorf("%s: -daemon is not there: the broker stays in the foreground; a service manager, or %s FILE >log 2>&1 & in a shell, keeps it running", tool, tool))
		case "--override":
			if !joined {
				if i++; i == len(args) {
					return usageError(fmt.Errorf("%s: --override needs NAME=VALUE", tool))
				}
				value = args[i]
			}
			line = append(line, "--override", value)
		case "--version":
			fmt.Fprintln(env.Stdout, versionLine())
			return nil
		case "--help":
			fmt.Fprintf(env.Stdout, "%s: %s\nMore flags: sluice broker --help\n", tool, usage)
			return nil
		default:
			if strings.HasPrefix(args[i], "-") {
				return usageError(fmt.Errorf("%s: %s is no option here: %s", tool, args[i], usage))
			}
			line = append(line, args[i])
		}
	}
	if len(args) == 0 {
		return usageError(fmt.Errorf("%s: %s", tool, usage))
	}
	return run(env, line)
}

// kafkaStorage makes a data directory with a given cluster id, which is all
// that there is to format.
func kafkaStorage(env *Env, tool string, args []string) error {
	if len(args) == 0 {
		return usageError(fmt.Errorf("%s: want random-uuid, format or info", tool))
	}
	switch args[0] {
	case "random-uuid":
		fmt.Fprintln(env.Stdout, broker.NewClusterID())
		return nil
	case "info", "format":
	default:
		return usageError(fmt.Errorf("%s: %q is not there: want random-uuid, format or info", tool, args[0]))
	}
	a, err := parseKafka(env, tool, map[string]kafkaOpt{
		"config": optValue, "c": optValue, "cluster-id": optValue, "t": optValue,
		"ignore-formatted": optFlag, "g": optFlag,
		"standalone":             noEffect(false, "there is no controller quorum"),
		"s":                      noEffect(false, "there is no controller quorum"),
		"no-initial-controllers": noEffect(false, "there is no controller quorum"),
		"N":                      noEffect(false, "there is no controller quorum"),
		"initial-controllers":    noEffect(true, "there is no controller quorum"),
		"I":                      noEffect(true, "there is no controller quorum"),
		"feature":                noEffect(true, "the data directory has one format version"),
		"f":                      noEffect(true, "the data directory has one format version"),
		"release-version":        noEffect(true, "the data directory has one format version"),
		"r":                      noEffect(true, "the data directory has one format version"),
		"add-scram":              gone(true, "SASL is not served yet; leave it out"),
		"S":                      gone(true, "SASL is not served yet; leave it out"),
	}, args[1:], nil)
	if err != nil {
		return err
	}
	file, id := cmp.Or(a.last("config", ""), a.last("c", "")), cmp.Or(a.last("cluster-id", ""), a.last("t", ""))
	if file == "" {
		return usageError(fmt.Errorf("%s: --config server.properties is missing", tool))
	}
	props, err := readServerProperties(file, nil, slog.New(slog.DiscardHandler))
	if err != nil {
		return usageError(err)
	}
	var cfg broker.Config
	if err := applyServerProperties(&cfg, props, slog.New(slog.DiscardHandler)); err != nil {
		return usageError(err)
	}
	if cfg.DataDir == "" {
		return usageError(fmt.Errorf("%s: %s has no log.dirs", tool, file))
	}
	if args[0] == "info" {
		id, err := broker.ClusterID(cfg.DataDir)
		if err != nil {
			return err
		}
		if id == "" {
			id = "none: the directory is not formatted; the broker does it at its first start"
		}
		fmt.Fprintf(env.Stdout, "Found log directory:\n  %s\n\nCluster id: %s\n", cfg.DataDir, id)
		return nil
	}
	if id == "" {
		return usageError(fmt.Errorf("%s: --cluster-id is missing (%s random-uuid makes one)", tool, tool))
	}
	err = broker.Format(cfg.DataDir, id)
	if errors.Is(err, broker.ErrFormatted) && (a.has("ignore-formatted") || a.has("g")) {
		fmt.Fprintln(env.Stdout, "All of the log directories are already formatted.")
		return nil
	}
	if errors.As(err, new(*broker.ConfigError)) {
		return usageError(err)
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(env.Stdout, "Formatting %s with cluster id %s.\n", cfg.DataDir, id)
	return nil
}
