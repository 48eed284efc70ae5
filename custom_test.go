package sluice_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// The example of a user-defined component is a module of its own. It is
// copied out of the tree and built there, as a user would, then checks an
// agent file that names its interceptor by alias and by Java class.
func TestCustomBuildOutsideTheTree(t *testing.T) {
	if testing.Short() {
		t.Skip("needs a build of the whole program: not checked in short mode")
	}
	root, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS("examples/custom")); err != nil {
		t.Fatal(err)
	}
	// The example's own go.sum would do where a proxy can be asked; offline
	// the project's has every hash that is needed.
	write(t, filepath.Join(dir, "go.sum"), read(t, "go.sum"))
	mod := read(t, "examples/custom/go.mod")
	write(t, filepath.Join(dir, "go.mod"), bytes.Replace(mod, []byte("=> ../.."), []byte("=> "+root), 1))
	if lines := bytes.Count(read(t, "examples/custom/main.go"), []byte("\n")); lines > 20 {
		t.Errorf("the example's main has grown to %d lines", lines)
	}

	bin := filepath.Join(dir, "sluice-upper")
	build := exec.CommandContext(t.Context(), "go", "build", "-o", bin, ".")
	build.Dir = dir
	build.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("build: %v\n%s", err, out)
	}

	conf := filepath.Join(dir, "flume.conf")
	const text = `
a1.sources = r1
a1.channels = c1
a1.sinks = k1
a1.sources.r1.type = seq
a1.sources.r1.channels = c1
a1.sources.r1.interceptors = i1 i2
a1.sources.r1.interceptors.i1.type = upper
a1.sources.r1.interceptors.i1.prefix = >
a1.sources.r1.interceptors.i2.type = com.example.UpperInterceptor$Builder
a1.channels.c1.type = memory
a1.sinks.k1.type = logger
a1.sinks.k1.channel = c1
`
	write(t, conf, []byte(text))
	out, err := exec.CommandContext(t.Context(), bin, "check", conf).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "agent a1 can start") || !strings.Contains(string(out), "0 errors, 0 warnings") {
		t.Errorf("check: %v\n%s", err, out)
	}
	out, err = exec.CommandContext(t.Context(), bin, "components", "upper").CombinedOutput()
	if err != nil || !strings.Contains(string(out), "prefix") {
		t.Errorf("components upper: %v\n%s", err, out)
	}
}

func write(t *testing.T, name string, data []byte) {
	t.Helper()
	if err := os.WriteFile(name, data, 0o644); err != nil {
		t.Fatal(err)
	}
}

func read(t *testing.T, name string) []byte {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	return b
}
