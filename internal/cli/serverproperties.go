package cli

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/internal/broker"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

// placed is a property's value and where it was set.
type placed struct{ value, where string }

// readServerProperties reads a server.properties, if one is named, and lays
// NAME=VALUE overrides over it.
func readServerProperties(file string, overrides []string, logger *slog.Logger) (map[string]placed, error) {
	props := map[string]placed{}
	if file != "" {
		data, err := os.ReadFile(file)
		if err != nil {
			return nil, fmt.Errorf("read the broker's properties: %w", err)
		}
		entries, diagnostics := flumeconf.Parse(file, data)
		var errs []error
		for _, d := range diagnostics {
			switch d.Severity {
			case flumeconf.Error:
				errs = append(errs, errors.New(d.String()))
			case flumeconf.Warning:
				logger.Warn(d.String())
			}
		}
		if err := errors.Join(errs...); err != nil {
			return nil, err
		}
		for _, e := range entries.All() {
			props[e.Name] = placed{e.Value.Raw, fmt.Sprintf("%s:%d", file, e.Value.Line)}
		}
	}
	for _, o := range overrides {
		name, value, ok := strings.Cut(o, "=")
		if !ok || name == "" {
			return nil, fmt.Errorf("--override %s: want NAME=VALUE", o)
		}
		props[name] = placed{value, "--override"}
	}
	return props, nil
}

// applyServerProperties puts properties into cfg, logs what is worth knowing
// and returns what is refused.
func applyServerProperties(cfg *broker.Config, props map[string]placed, logger *slog.Logger) error {
	values := map[string]string{}
	for name, p := range props {
		values[name] = p.value
	}
	var refused []error
	idle := map[string][]string{} // by reason
	for _, f := range cfg.SetProperties(values) {
		where := props[f.Name].where
		switch f.Kind {
		case broker.FindingRefused:
			refused = append(refused, fmt.Errorf("%s: %s is %s", where, f.Name, f.Message))
		case broker.FindingUnknown:
			logger.Warn(fmt.Sprintf("%s: %s: %s", where, f.Name, f.Message))
		case broker.FindingShadowed:
			logger.Info(fmt.Sprintf("%s: %s is not looked at: %s", where, f.Name, f.Message))
		case broker.FindingNoEffect:
			idle[f.Message] = append(idle[f.Message], f.Name)
		}
	}
	if len(idle) > 0 {
		var parts []string
		for _, reason := range slices.Sorted(maps.Keys(idle)) {
			parts = append(parts, fmt.Sprintf("%s (%s)", strings.Join(idle[reason], ", "), reason))
		}
		logger.Info("properties without effect here: " + strings.Join(parts, "; "))
	}
	return errors.Join(refused...)
}
