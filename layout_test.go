package sluice_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"testing"
)

// TestImports holds the source tree to docs/architecture.md: an import may only
// point right, agent and broker do not know each other, and a component knows
// neither.
func TestImports(t *testing.T) {
	const module = "github.com/sluice-data/sluice"
	cmd := exec.Command("go", "list", "-e", "-json=ImportPath,Imports", "./...")
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v\n%s", err, stderr.String())
	}

	// under: a package at or below one of the given paths.
	under := func(path string, roots ...string) bool {
		return slices.ContainsFunc(roots, func(r string) bool { return path == r || strings.HasPrefix(path, r+"/") })
	}
	components := []string{"internal/source", "internal/sink", "internal/channel", "internal/interceptor", "internal/selector", "internal/sinkproc"}
	programs := []string{"internal/agent", "internal/broker", "internal/sim", "internal/pilot", "internal/admin", "internal/cli"}
	rules := []struct {
		why  string
		from []string
		may  func(to string) bool
	}{
		{"event is at the bottom", []string{"event"}, func(string) bool { return false }},
		{"component stands on event", []string{"component"}, func(to string) bool { return under(to, "event", "component", "internal/suggest", "internal/race") }},
		{"a component knows no program", components, func(to string) bool { return !under(to, programs...) && to != "" }},
		{"the agent sees the registry, not the components", []string{"internal/agent"}, func(to string) bool {
			return !under(to, components...) && !under(to, "internal/broker", "internal/cli", "internal/pilot", "standard")
		}},
		{"the broker does not know the agent", []string{"internal/broker"}, func(to string) bool {
			return !under(to, components...) && !under(to, "internal/agent", "internal/cli", "internal/pilot", "standard", "component")
		}},
		{"only the command line stands above the programs", []string{"internal"}, func(to string) bool { return to != "" && to != "standard" }},
	}

	packages := 0
	for dec := json.NewDecoder(bytes.NewReader(out)); ; packages++ {
		var p struct {
			ImportPath string
			Imports    []string
		}
		if err := dec.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
		from := strings.TrimPrefix(strings.TrimPrefix(p.ImportPath, module), "/")
		for _, imp := range p.Imports {
			if !under(imp, module) {
				continue
			}
			to := strings.TrimPrefix(strings.TrimPrefix(imp, module), "/")
			for _, r := range rules {
				if under(from, r.from...) && !r.may(to) {
					t.Errorf("%s imports %s: %s", from, to, r.why)
				}
			}
		}
	}
	if packages < 20 {
		t.Errorf("go list named %d packages only", packages)
	}
}
