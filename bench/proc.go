package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// The kernel counts CPU time in /proc in hundredths of a second on every
// platform Go runs on (USER_HZ is part of the ABI and is 100).
const tick = time.Second / 100

// cpuOf is the user and system time of a process, with the children that it
// has waited for: the command of an exec source is part of the agent's bill.
// The process's own part comes from its CPU clock, in nanoseconds: a flow of
// three million events is over in a few ticks.
func cpuOf(pid int) (time.Duration, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("read CPU time: %w", err)
	}
	children, err := childTime(b)
	if err != nil {
		return 0, err
	}
	// The number that clock_getcpuclockid(3) gives, see clock_gettime(2): all
	// threads of the process, ended ones too, as the scheduler counts them.
	const scheduled = 2
	var ts unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|scheduled), &ts); err != nil {
		return 0, fmt.Errorf("read CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(ts.Nano()) + children, nil
}

// childTime adds fields 16 and 17 of proc_pid_stat(5), user and system time of
// the children waited for. The command name in field 2 may hold blanks and
// parentheses, so counting starts after the last one.
func childTime(b []byte) (time.Duration, error) {
	end := bytes.LastIndexByte(b, ')')
	if end < 0 {
		return 0, errors.New("parse stat: no command name")
	}
	f := strings.Fields(string(b[end+1:])) // f[0] is field 3
	if len(f) < 15 {
		return 0, fmt.Errorf("parse stat: %d fields after the command name", len(f))
	}
	var ticks int64
	for _, s := range f[13:15] {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// busyOf is the time all processors together have spent on work since boot:
// everything of the first line of /proc/stat but idle and iowait.
func busyOf() (time.Duration, error) {
	b, err := os.ReadFile("/proc/stat")
	if err != nil {
		return 0, fmt.Errorf("read machine CPU time: %w", err)
	}
	line, _, _ := bytes.Cut(b, []byte("\n"))
	f := strings.Fields(string(line))
	if len(f) < 9 || f[0] != "cpu" {
		return 0, fmt.Errorf("parse /proc/stat: %q", line)
	}
	var ticks int64
	for i, s := range f[1:9] { // user nice system idle iowait irq softirq steal
		if i == 3 || i == 4 {
			continue
		}
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil {
			return 0, fmt.Errorf("parse /proc/stat: %w", err)
		}
		ticks += n
	}
	return time.Duration(ticks) * tick, nil
}

// resetPeak makes VmHWM start again at what is resident now.
func resetPeak(pid int) error {
	if err := os.WriteFile(fmt.Sprintf("/proc/%d/clear_refs", pid), []byte("5"), 0); err != nil {
		return fmt.Errorf("reset peak memory: %w", err)
	}
	return nil
}

// peakKB is VmHWM: the most that was resident since resetPeak.
func peakKB(pid int) (int64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, fmt.Errorf("read memory: %w", err)
	}
	return parseHWM(b)
}

func parseHWM(b []byte) (int64, error) {
	for line := range strings.Lines(string(b)) {
		if rest, ok := strings.CutPrefix(line, "VmHWM:"); ok {
			f := strings.Fields(rest)
			if len(f) != 2 || f[1] != "kB" {
				return 0, fmt.Errorf("parse VmHWM: %q", line)
			}
			return strconv.ParseInt(f[0], 10, 64)
		}
	}
	return 0, errors.New("parse status: no VmHWM (has the process ended?)")
}
