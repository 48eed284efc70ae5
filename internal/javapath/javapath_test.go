package javapath

import (
	"os"
	"testing"
)

func TestClean(t *testing.T) {
	for _, tt := range []struct{ in, want string }{
		{"/var//spool/", "/var/spool"}, {"./spool", "./spool"}, {"spool///x//", "spool/x"}, {"/", "/"}, {"/a/../b", "/a/../b"},
	} {
		if got := Clean(tt.in); got != tt.want {
			t.Errorf("%q: %q, want %q", tt.in, got, tt.want)
		}
	}
}

func TestAbs(t *testing.T) {
	wd, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for in, want := range map[string]string{"/x//y/": "/x/y", "a//b": wd + "/a/b", "./a": wd + "/./a"} {
		if got, err := Abs(in); err != nil || got != want {
			t.Errorf("%q: %q, %v, want %q", in, got, err, want)
		}
	}
}

func TestHome(t *testing.T) {
	t.Setenv("HOME", "/home/x")
	if got, err := Home(nil); err != nil || got != "/home/x" {
		t.Errorf("%q, %v", got, err)
	}
	if got, err := Home(map[string]string{"user.home": "/opt"}); err != nil || got != "/opt" {
		t.Errorf("%q, %v", got, err)
	}
}
