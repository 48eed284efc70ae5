package cli

import (
	"bytes"
	"net"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component/componenttest"
	_ "github.com/sluice-data/sluice/internal/source/avro"
)

// avroSource runs a source and returns where it listens.
func avroSource(t *testing.T, out *componenttest.Output) (port string) {
	t.Helper()
	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "avro", "bind=127.0.0.1", "port=0")
	componenttest.Run(t, src, out)
	addr := src.(interface{ Addr() net.Addr }).Addr().String()
	return addr[strings.LastIndexByte(addr, ':')+1:]
}

func TestAvroClient(t *testing.T) {
	dir := t.TempDir()
	write := func(name, text string) string {
		t.Helper()
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return path
	}
	headers := write("headers", "a = 1\nname=값\n")
	file := write("file", "one\r\ntwo\n\nthree\rfour")
	spool := filepath.Join(dir, "spool")
	if err := os.Mkdir(spool, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, n := range []string{"x", "y"} {
		write("spool/"+n, n+"1\n"+n+"2\n")
	}
	for _, tt := range []struct {
		name, stdin string
		args        []string
		bodies      []string
	}{
		{"standard input", "a\nb\n", nil, []string{"a", "b"}},
		{"nothing", "", nil, []string{}},
		{"many lines", strings.Repeat("line\n", 1000), nil, strings.Split(strings.Repeat("line ", 999)+"line", " ")},
		{"a long line", strings.Repeat("x", 200_000), nil, []string{strings.Repeat("x", 200_000)}},
		{"file", "", []string{"-F", file, "-R", headers}, []string{"one", "two", "", "three", "four"}},
		{"directory", "", []string{"--dirname", spool}, []string{"x1", "x2", "y1", "y2"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			out := componenttest.NewOutput()
			port := avroSource(t, out)
			for _, args := range [][]string{
				append([]string{"sluice", "avro-client", "-H", "127.0.0.1", "-p", port}, tt.args...),
				append([]string{"flume-ng", "avro-client", "--conf", "conf", "-P", write("props", "hosts = h\nhosts.h = 127.0.0.1:"+port+"\nbatch-size = 7\n")}, tt.args...),
			} {
				before := len(out.Events())
				var stdout, stderr bytes.Buffer
				if code := Run(args, strings.NewReader(tt.stdin), &stdout, &stderr); code != ExitOK {
					t.Fatalf("%q: exit code %d\n%s", args, code, stderr.String())
				}
				evs := out.Events()[before:]
				got := []string{}
				for _, e := range evs {
					got = append(got, string(e.Body))
					v, ok := e.Header("name")
					if want := len(tt.args) > 2; ok != want || ok && string(v) != "값" {
						t.Fatalf("header %q", v)
					}
				}
				if !reflect.DeepEqual(got, tt.bodies) {
					t.Fatalf("%q: events %.300q", args, got)
				}
				if tt.name == "directory" {
					for _, n := range []string{"x", "y"} {
						if err := os.Rename(filepath.Join(spool, n+".COMPLETED"), filepath.Join(spool, n)); err != nil {
							t.Fatal(err)
						}
					}
				}
			}
		})
	}
}

func TestAvroClientErrors(t *testing.T) {
	dir := t.TempDir()
	for _, tt := range []struct {
		args []string
		code int
		text string
	}{
		{nil, ExitUsage, "--rpcProps"},
		{[]string{"-H", "h"}, ExitUsage, "--port"},
		{[]string{"-p", "1"}, ExitUsage, "--host"},
		{[]string{"-H", "h", "-p", "1", "-F", "f", "--dirname", "d"}, ExitUsage, "together"},
		{[]string{"-P", filepath.Join(dir, "missing")}, ExitUsage, "missing"},
		{[]string{"-H", "h", "-p", "1", "-R", filepath.Join(dir, "missing")}, ExitUsage, "missing"},
		{[]string{"-H", "127.0.0.1", "-p", "1", "-F", filepath.Join(dir, "missing")}, ExitFailed, "missing"},
		{[]string{"-H", "127.0.0.1", "-p", "1"}, ExitFailed, "is the source there running?"},
	} {
		var stdout, stderr bytes.Buffer
		code := Run(append([]string{"flume-ng", "avro-client"}, tt.args...), strings.NewReader("line\n"), &stdout, &stderr)
		if code != tt.code || !strings.Contains(stderr.String(), tt.text) {
			t.Errorf("%q: exit code %d, %s", tt.args, code, stderr.String())
		}
	}
}
