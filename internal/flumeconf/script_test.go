package flumeconf

import (
	"context"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "rewrite the expected output in testdata")

// TestScripts runs testdata/*.txt. A script is a list of cases:
//
//	# comment
//	COMMAND ARGS
//	input
//	----
//	expected output
//	(blank line)
//
// Commands: parse dumps the properties and findings; quoted is parse with each
// input line a Go string literal; subst dumps after substitution; agent NAME
// assembles an agent. A line "=== NAME" in the input begins another file.
// Arguments: env:K=V, sys:K=V, run (config filters may run commands).
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, file := range files {
		t.Run(strings.TrimSuffix(filepath.Base(file), ".txt"), func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			var rewritten strings.Builder
			lines := strings.Split(strings.TrimSuffix(string(data), "\n"), "\n")
			for i := 0; i < len(lines); {
				if line := lines[i]; line == "" || strings.HasPrefix(line, "#") {
					rewritten.WriteString(line + "\n")
					i++
					continue
				}
				at := i
				cmd := lines[i]
				i++
				var input []string
				for ; i < len(lines) && lines[i] != "----"; i++ {
					input = append(input, lines[i])
				}
				if i == len(lines) {
					t.Fatalf("%s:%d: no ---- after %q", file, at+1, cmd)
				}
				i++
				var want []string
				for ; i < len(lines) && lines[i] != ""; i++ {
					want = append(want, lines[i])
				}
				got := runScript(t, cmd, input)
				fmt.Fprintf(&rewritten, "%s\n%s----\n%s", cmd, joinLines(input), got)
				if !*update && got != joinLines(want) {
					t.Errorf("%s:%d: %s\n%sgot:\n%swant:\n%s", file, at+1, cmd, joinLines(input), got, joinLines(want))
				}
			}
			if *update {
				if err := os.WriteFile(file, []byte(rewritten.String()), 0o644); err != nil {
					t.Fatal(err)
				}
			}
		})
	}
}

func joinLines(l []string) string {
	if len(l) == 0 {
		return ""
	}
	return strings.Join(l, "\n") + "\n"
}

func runScript(t *testing.T, cmd string, input []string) string {
	t.Helper()
	args := strings.Fields(cmd)
	l := Lookups{Sys: map[string]string{}, Date: func(p string) (string, error) {
		if p == "!" {
			return "", fmt.Errorf("unknown letter '!'")
		}
		return "[date " + p + "]", nil
	}}
	env := map[string]string{}
	l.Env = func(k string) (string, bool) { v, ok := env[k]; return v, ok }
	fo := FilterOptions{Env: l.Env}
	var names []string
	for _, a := range args[1:] {
		switch {
		case strings.HasPrefix(a, "env:"):
			k, v, _ := strings.Cut(a[4:], "=")
			env[k] = v
		case strings.HasPrefix(a, "sys:"):
			k, v, _ := strings.Cut(a[4:], "=")
			l.Sys[k] = v
		case a == "run":
			fo.RunCommands = true
		default:
			names = append(names, a)
		}
	}

	var out strings.Builder
	type file struct {
		name string
		data []byte
	}
	files := []file{{name: "f"}}
	for _, line := range input {
		last := &files[len(files)-1]
		switch {
		case strings.HasPrefix(line, "=== "):
			files = append(files, file{name: line[4:]})
		case args[0] == "quoted":
			s, err := strconv.Unquote(line)
			if err != nil {
				t.Fatalf("bad literal %s: %v", line, err)
			}
			last.data = append(last.data, s...)
		default:
			last.data = append(last.data, line+"\n"...)
		}
	}
	var ps []*Properties
	var ds []Diagnostic
	for _, f := range files {
		p, found := Parse(f.name, f.data)
		ps = append(ps, p)
		ds = append(ds, found...)
	}
	p := Merge(ps...)

	switch args[0] {
	case "parse", "quoted":
		for _, e := range p.All() {
			fmt.Fprintf(&out, "%s:%d %q = %q\n", e.Value.File, e.Value.Line, e.Name, e.Value.Raw)
		}
	case "subst":
		p, found := p.Substitute(l)
		ds = append(ds, found...)
		for _, e := range p.All() {
			fmt.Fprintf(&out, "%q = %q\n", e.Name, e.Value.Text)
		}
	case "agent":
		p, found := p.Substitute(l)
		ds = append(ds, found...)
		c, found := NewConfig(p)
		ds = append(ds, found...)
		ds = append(ds, c.strays()...)
		if len(names) == 0 {
			fmt.Fprintf(&out, "agents %q, runnable %q\n", c.Agents(), c.Runnable())
		}
		for _, n := range names {
			a, found, ok := c.Agent(context.Background(), n, fo)
			if !ok {
				ds = append(ds, c.UnknownAgent("f", n))
				continue
			}
			ds = append(ds, found...)
			for _, list := range [][]Component{a.Filters, a.Sources, a.Channels, a.Sinks, a.Groups} {
				for _, comp := range list {
					fmt.Fprintf(&out, "%s %s type %q at line %d\n", comp.Kind, comp.Name, comp.Type.Text, comp.Pos().Line)
					for _, e := range comp.Props {
						if e.Name != "type" {
							fmt.Fprintf(&out, "  %s = %q (line %d)\n", e.Name, e.Value.Text, e.Value.Line)
						}
					}
				}
			}
		}
	default:
		t.Fatalf("unknown command %q", cmd)
	}
	for _, d := range ds {
		fmt.Fprintf(&out, "%s: %s\n", d.Severity, d)
	}
	return out.String()
}
