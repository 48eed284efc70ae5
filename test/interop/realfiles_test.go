//go:build interop && linux

package interop

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/sluice-data/sluice/test/realfiles"
)

// The files name commands and directories of other people's machines.
var (
	command   = regexp.MustCompile(`(?m)^([ \t]*\S+\.sources\.\S+\.command[ \t]*[=:]).*$`)
	positions = regexp.MustCompile(`(?m)^[ \t]*(\S+\.sources\.\S+\.positionFile)[ \t]*[=:].*$`)
)

// TestRealFilesComeUp starts every agent of the collection that uses only
// what is built, each in a network namespace with nothing but loopback, and
// compares the components that come up with those that Flume 1.11 brought up,
// but for the differences that are meant.
// A component whose start fails for want of a directory or a peer has come
// up: Flume tries it again and again as well.
func TestRealFilesComeUp(t *testing.T) {
	table, err := os.ReadFile(filepath.Join(realfiles.Dir("../.."), "flume-1.11.tsv"))
	if err != nil {
		missing(t, "the collection of real agent files (set SLUICE_SHARED): %v", err)
	}
	unshare := program(t, "unshare")
	if out, err := exec.Command(unshare, "-rn", "sh", "-c", "ip link set lo up").CombinedOutput(); err != nil {
		missing(t, "a network namespace: %v: %s", err, out)
	}
	slots := make(chan struct{}, 12) // they wait most of the time
	var wg sync.WaitGroup
	var mu sync.Mutex
	compared := 0
	for _, line := range strings.Split(strings.TrimSpace(string(table)), "\n")[1:] {
		col := append(strings.Split(line, "\t"), "", "", "", "", "")
		wg.Go(func() {
			slots <- struct{}{}
			defer func() { <-slots }()
			if compareStart(t, unshare, col) {
				mu.Lock()
				compared++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d agents were started", compared)
	if compared < 38 {
		t.Errorf("only %d agents were compared", compared)
	}
}

// compareStart starts one agent; it answers false for one that uses what is
// not built, or what was not on the class path of the Flume it is compared with.
func compareStart(t *testing.T, unshare string, col []string) bool {
	file, name, outcome := col[0], col[1], col[2]
	path := filepath.Join(realfiles.Dir("../.."), file)
	check, err := exec.Command(binary, "check", "-n", name, path).CombinedOutput()
	if notBuilt.Match(check) {
		return false
	}
	if strings.HasPrefix(col[7], "Unable to load ") { // this Flume did not have what is built here
		return false
	}
	text, rerr := os.ReadFile(path)
	if rerr != nil {
		t.Error(rerr)
		return false
	}
	dir := t.TempDir()
	conf := filepath.Join(dir, "flume.conf")
	text = command.ReplaceAll(text, []byte("$1 sleep 600"))
	text = positions.ReplaceAll(text, []byte("$1 = "+dir+"/${1}.json"))
	if err := os.WriteFile(conf, text, 0o644); err != nil {
		t.Error(err)
		return false
	}
	reason, meant := realfiles.Differences[file+"/"+name]
	var log output
	differences := func() (differs []string) {
		if (err == nil) != (outcome == "up") {
			differs = append(differs, fmt.Sprintf("check says %v, Flume was %s\n%s", err, outcome, check))
		}
		got := cameUp(log.String())
		// Flume names a group in its members' stead.
		for _, m := range grouped.FindAllStringSubmatch(log.String(), -1) {
			members := regexp.MustCompile(`(?m)^\s*` + regexp.QuoteMeta(name+".sinkgroups."+m[1]) + `\.sinks\s*=(.*)$`).FindSubmatch(text)
			if members == nil {
				return append(differs, fmt.Sprintf("the file does not say what is in sink group %s", m[1]))
			}
			for _, k := range strings.Fields(string(members[1])) {
				delete(got["sink"], k)
			}
			got["sink"][m[1]] = true
		}
		for i, kind := range []string{"source", "channel", "sink"} {
			want := strings.Fields(col[3+i])
			slices.Sort(want)
			if have := slices.Sorted(maps.Keys(got[kind])); !slices.Equal(have, want) {
				differs = append(differs, fmt.Sprintf("%ss %v here, Flume (%s) has %v\n%.3000s", kind, have, outcome, want, log.String()))
			}
		}
		return differs
	}

	cmd := exec.Command(unshare, "-rn", "sh", "-c", `ip link set lo up && exec "$0" agent -n "$1" -f "$2" -Duser.home="$3" --stop-timeout 1s`, binary, name, conf, dir)
	cmd.Dir, cmd.Stderr = dir, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Error(err)
		return false
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	running := true
	// Four seconds, in which something may come up that should not, and more until all has that should.
	for begin := time.Now(); running && (time.Since(begin) < 4*time.Second || meant == (len(differences()) == 0) && time.Since(begin) < 3*time.Minute); {
		select {
		case <-ended: // refused; an agent that has nothing to run
			running = false
		case <-time.After(100 * time.Millisecond):
		}
	}
	if running {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(3 * time.Minute):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-ended
			t.Errorf("%s/%s did not stop within its bound", file, name)
		}
	}
	differs := differences()
	if !meant {
		for _, d := range differs {
			t.Errorf("%s/%s: %s", file, name, d)
		}
	} else if len(differs) == 0 {
		t.Errorf("%s/%s comes up as in Flume, take it from the list of differences (%s)", file, name, reason)
	}
	return true
}

var (
	notBuilt = regexp.MustCompile(`is not there yet in Sluice|unknown \S+( \S+)? type`)
	started  = regexp.MustCompile(`msg="(source|channel|sink) started" (?:source|channel|sink)=(\S+)`)
	grouped  = regexp.MustCompile(`msg="sink group started" sinkgroup=(\S+)`)
	trying   = regexp.MustCompile(`msg="cannot start; will be tried again" component="(source|channel|sink) ([^"]+)"`)
)

// cameUp reads an agent's log: names by kind.
func cameUp(log string) map[string]map[string]bool {
	up := map[string]map[string]bool{"source": {}, "channel": {}, "sink": {}}
	for _, re := range []*regexp.Regexp{started, trying} {
		for _, m := range re.FindAllStringSubmatch(log, -1) {
			up[m[1]][m[2]] = true
		}
	}
	return up
}
