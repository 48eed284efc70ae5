//go:build unix

package exec

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	osexec "os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-data/sluice/component/componenttest"
)

func TestRecognise(t *testing.T) {
	for _, tt := range []struct {
		shell, command string
		want           followed
		ok             bool
	}{
		{"", "tail -F /a", followed{file: "/a", lines: 10}, true},
		{"", "/usr/bin/tail  -F\t/a/b-c.log", followed{file: "/a/b-c.log", lines: 10}, true},
		{"", "tail -n0 -F /a", followed{file: "/a"}, true},
		{"", "tail -n +1 -F /a", followed{file: "/a", from: 1, lines: 1}, true},
		{"", "tail -n +0 -F /a", followed{file: "/a", from: 1}, true},
		{"", "tail -Fn 25 /a", followed{file: "/a", lines: 25}, true},
		{"", "tail -qFn-25 /a", followed{file: "/a", lines: 25}, true},
		{"", "tail /a -F", followed{file: "/a", lines: 10}, true},
		{"", "tail --follow=name --retry --lines=+7 --sleep-interval 0.5 -- /a", followed{file: "/a", from: 7, lines: 7}, true},
		{"", "tail -F -s 2 a", followed{file: "a", lines: 10}, true},
		{"/bin/sh -c", "tail -F /a", followed{file: "/a", lines: 10}, true},
		{"/bin/bash -c", "tail -F /a=b,c@d%e:f", followed{file: "/a=b,c@d%e:f", lines: 10}, true},

		{"", "tail -f /a", followed{}, false},
		{"", "tail -n 10 /a", followed{}, false},
		{"", "tail -F /a /b", followed{}, false},
		{"", "tail -F", followed{}, false},
		{"", "tail -F -", followed{}, false},
		{"", "tail -F -v /a", followed{}, false},
		{"", "tail -F -c 100 /a", followed{}, false},
		{"", "tail -F -n 1K /a", followed{}, false},
		{"", "tail -F -n +-1 /a", followed{}, false},
		{"", "tail -F -n", followed{}, false},
		{"", "tail --follow --retry /a", followed{}, false},
		{"", "tail --follow=name /a", followed{}, false},
		{"", "tail -F --pid=7 /a", followed{}, false},
		{"", "tail -25F /a", followed{}, false},
		{"", "tail +F /a", followed{}, false},
		{"", "mytail -F /a", followed{}, false},
		{"", "sudo tail -F /a", followed{}, false},
		{"/bin/sh -c", "tail -F /a | grep x", followed{}, false},
		{"/bin/sh -c", "tail -F /a*", followed{}, false},
		{"/bin/sh -c", "tail -F ~/a", followed{}, false},
		{"/bin/sh -c", "tail -F $LOG", followed{}, false},
		{"/bin/sh -c", "tail -F '/a b'", followed{}, false},
		{"/bin/sh -xc", "tail -F /a", followed{}, false},
		{"/usr/bin/env -c", "tail -F /a", followed{}, false},
	} {
		got, ok := recognise(tt.shell, tt.command)
		if ok != tt.ok || ok && got != tt.want {
			t.Errorf("%q %q: %+v, %v, want %+v, %v", tt.shell, tt.command, got, ok, tt.want, tt.ok)
		}
	}
}

// appendTo writes with one write(2).
func appendTo(t *testing.T, path, text string) {
	t.Helper()
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o644)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

// The same is done to a file that tail follows and to one that is followed by
// position: the events are the same.
func TestSameEventsAsTail(t *testing.T) {
	if _, err := osexec.LookPath("tail"); err != nil {
		t.Skipf("NOT CHECKED: %v", err)
	}
	var before strings.Builder
	for i := range 30_000 {
		fmt.Fprintf(&before, "line %d\n", i)
	}
	for _, tt := range []struct{ options, before string }{
		{"-F", before.String()},
		{"-F", "one\ntwo\nunfinished"},
		{"-F", ""},
		{"-n0 -F", before.String()},
		{"-n 0 -F", "unfinished"},
		{"-n 20000 -F", before.String()},
		{"-n 3 -F", "a\n\n\nb"},
		{"-n +1 -F", before.String()},
		{"-n +29990 -F", before.String()},
		{"-n +100000 -F", before.String()},
		{"-n 1 -F", "a\r\nb\r\n"},
	} {
		t.Run(tt.options, func(t *testing.T) {
			var got [2][]string
			for i, by := range []string{"true", "false"} {
				dir := t.TempDir()
				path := dir + "/driver.log"
				if err := os.WriteFile(path, []byte(tt.before), 0o644); err != nil {
					t.Fatal(err)
				}
				out, _, r := start(t, "command=tail "+tt.options+" "+path, "batchSize=1000", "followByPosition="+by, "followPositionDir="+dir+"/pos")
				there, err := osexec.Command("tail", append(strings.Fields(strings.ReplaceAll(tt.options, "-F", "")), path)...).Output()
				if err != nil {
					t.Fatal(err)
				}
				out.Wait(t, bytes.Count(there, []byte("\n")))
				if by == "false" {
					out.WaitFor(t, "tail to have come to the end", func() bool { return readTo(t, path) == int64(len(tt.before)) })
				} else if len(there) == 0 { // it begins at once where it has opened the file
					out.WaitFor(t, "the file is open", func() bool { return opens(t, path) })
					time.Sleep(300 * time.Millisecond)
				}
				appendTo(t, path, "new 1\r\nnew\r")
				appendTo(t, path, "\nh\xffalf a line")
				time.Sleep(100 * time.Millisecond)
				appendTo(t, path, " and the rest\rlast\n")
				out.WaitFor(t, "the last line", func() bool { return slices.Contains(out.Bodies(), "last") })
				if err := os.WriteFile(path, []byte("truncated\n"), 0o644); err != nil {
					t.Fatal(err)
				}
				out.WaitFor(t, "the line after truncation", func() bool { return slices.Contains(out.Bodies(), "truncated") })
				if err := os.Rename(path, path+".1"); err != nil {
					t.Fatal(err)
				}
				appendTo(t, path, "another file\n")
				out.WaitFor(t, "the new file", func() bool { return slices.Contains(out.Bodies(), "another file") })
				stop(t, out, r)
				got[i] = out.Bodies()
			}
			if !slices.Equal(got[0], got[1]) {
				t.Errorf("%d events by position, %d from tail; the last are\n%q\n%q", len(got[0]), len(got[1]), last(got[0]), last(got[1]))
			}
		})
	}
}

func last(s []string) []string { return s[max(0, len(s)-16):] }

// opens says whether some process has a file open.
func opens(t *testing.T, path string) bool { return readTo(t, path) >= 0 }

// readTo is the offset of the process that has a file open, -1 if none has.
func readTo(t *testing.T, path string) int64 {
	t.Helper()
	fds, err := filepath.Glob("/proc/[0-9]*/fd/*")
	if err != nil || len(fds) == 0 {
		t.Skipf("NOT CHECKED: %s needs /proc: %v", t.Name(), err)
	}
	for _, fd := range fds {
		if to, err := os.Readlink(fd); err != nil || to != path {
			continue
		}
		info, err := os.ReadFile(strings.Replace(fd, "/fd/", "/fdinfo/", 1))
		var at int64
		if _, serr := fmt.Sscanf(string(info), "pos: %d", &at); err == nil && serr == nil {
			return at
		}
	}
	return -1
}

// A restart neither loses nor repeats lines, whatever has happened to the file
// meanwhile.
func TestFollowAcrossRestarts(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/driver.log"
	out := componenttest.NewOutput()
	run := func() *componenttest.Running {
		env, _ := componenttest.Env(t)
		return componenttest.Run(t, componenttest.Source(t, env, "exec", "command=tail -F "+path, "batchSize=7", "followPositionDir="+dir+"/pos"), out)
	}
	var want []string
	write := func(path string, n int) {
		var b strings.Builder
		for range n {
			want = append(want, fmt.Sprint(len(want)))
			b.WriteString(want[len(want)-1] + "\n")
		}
		appendTo(t, path, b.String())
	}
	r := run() // before the file is there: then tail begins at its start
	time.Sleep(50 * time.Millisecond)
	write(path, 100)
	out.Wait(t, len(want))
	r.Stop()
	write(path, 1000)
	r = run()
	out.Wait(t, len(want))
	r.Stop()
	write(path, 50)
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(path+".1", 50)
	write(path, 100)
	r = run()
	out.Wait(t, len(want))
	time.Sleep(50 * time.Millisecond)
	r.Stop()
	if got := out.Bodies(); !slices.Equal(got, want) {
		t.Errorf("%d events, want %d in order", len(got), len(want))
	}
	if n := out.Pool().Outstanding(); n != 0 {
		t.Errorf("%d blocks leaked", n)
	}
}

func TestFollowBatchTimeout(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/driver.log"
	appendTo(t, path, "0\n")
	const timeout = 500 * time.Millisecond
	began := time.Now()
	out, _, r := start(t, "command=tail -F "+path, "batchSize=3", fmt.Sprint("batchTimeout=", timeout.Milliseconds()), "followPositionDir="+dir+"/pos")
	out.Wait(t, 1)
	for i := 1; i < 7; i++ {
		appendTo(t, path, fmt.Sprintf("%d\n", i))
	}
	out.Wait(t, 7)
	stop(t, out, r)
	// Two can be full, and the others had to wait for the time.
	if n, most := len(out.Batches()), 2+1+int(time.Since(began)/timeout); n > most {
		t.Errorf("7 events in %d batches of three, want %d at most", n, most)
	}
	if got := strings.Join(out.Bodies(), ""); got != "0123456" {
		t.Errorf("events %s", got)
	}
}

// Where no position can be kept the command runs, as in Flume, unless the
// directory was named.
func TestNoPlaceForThePosition(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/driver.log"
	appendTo(t, path, "line\n")
	t.Setenv("HOME", path) // not a directory
	out, _, r := start(t, "command=tail -F "+path)
	out.Wait(t, 1)
	stop(t, out, r)

	env, _ := componenttest.Env(t)
	src := componenttest.Source(t, env, "exec", "command=tail -F "+path, "followPositionDir="+path+"/pos")
	if err := src.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "followByPosition = false") {
		t.Errorf("start: %v", err)
	}
}

// A position that another agent uses is waited for, as that may be about to stop;
// if it does not, the command is run.
func TestPositionInUse(t *testing.T) {
	dir := t.TempDir()
	path := dir + "/driver.log"
	t.Setenv("HOME", dir)
	appendTo(t, path, "one\n")
	out, _, first := start(t, "command=tail -F "+path)
	out.Wait(t, 1)
	env, _ := componenttest.Env(t)
	second := componenttest.Source(t, env, "exec", "command=tail -F "+path)
	for range 2 {
		if err := second.Start(t.Context()); err == nil || !strings.Contains(err.Error(), "another source or another agent uses it") || !strings.Contains(err.Error(), "the command is run instead") {
			t.Fatalf("start: %v", err)
		}
	}
	stop(t, out, first)
	appendTo(t, path, "two\n")
	out = componenttest.NewOutput()
	r := componenttest.Run(t, second, out)
	out.Wait(t, 1)
	if got := out.Bodies(); !slices.Equal(got, []string{"two"}) {
		t.Errorf("after the first %q", got)
	}
	third := componenttest.Source(t, env, "exec", "command=tail -F "+path)
	third.(*source).lockedSince = time.Now().Add(-2 * lockedWait)
	other := componenttest.NewOutput()
	rr := componenttest.Run(t, third, other)
	other.Wait(t, 2) // as tail begins
	stop(t, other, rr)
	stop(t, out, r)
}

// What is no regular file is left to tail.
func TestFollowPipe(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "pipe")
	if out, err := osexec.Command("mkfifo", path).CombinedOutput(); err != nil {
		t.Skipf("NOT CHECKED: %v %s", err, out)
	}
	out, _, r := start(t, "command=tail -n +1 -F "+path, "followPositionDir="+dir)
	f, err := os.OpenFile(path, os.O_WRONLY, 0) // waits for tail
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString("x\n")
	if err := errors.Join(err, f.Close()); err != nil { // tail writes at the end of what it reads
		t.Fatal(err)
	}
	out.Wait(t, 1)
	stop(t, out, r)
}
