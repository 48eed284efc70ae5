package pilot

import (
	"fmt"
	"io"
	"strconv"
	"sync"
	"time"
)

// console prints the run's few lines. On a terminal the progress line is
// redrawn in place; elsewhere it is printed every few seconds.
type console struct {
	mu    sync.Mutex
	w     io.Writer
	tty   bool
	drawn bool // a progress line stands on the terminal
	last  time.Time
}

const progressEvery = 5 * time.Second

func newConsole(w io.Writer, tty bool) *console { return &console{w: w, tty: tty} }

// say prints a line of its own.
func (c *console) say(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.clear()
	fmt.Fprintf(c.w, format+"\n", args...)
}

// endLine leaves the progress line standing, for the output of another.
func (c *console) endLine() {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.drawn {
		fmt.Fprintln(c.w)
		c.drawn = false
	}
}

func (c *console) clear() {
	if c.drawn {
		fmt.Fprint(c.w, "\r\x1b[K")
		c.drawn = false
	}
}

func (c *console) progress(elapsed time.Duration, phase, simulated, counts string) {
	if phase != phaseRunning && phase != phaseDraining {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.tty && time.Since(c.last) < progressEvery {
		return
	}
	c.last = time.Now()
	line := fmt.Sprintf("%4.0fs %s  clock %s  %s", elapsed.Seconds(), phase, clock(simulated), counts)
	if !c.tty {
		fmt.Fprintln(c.w, line)
		return
	}
	// Without automatic wrapping a narrow terminal cuts the line instead of
	// scrolling with every sample.
	c.clear()
	fmt.Fprintf(c.w, "\x1b[?7l%s\x1b[?7h", line)
	c.drawn = true
}

// clock shows time14 readably.
func clock(t string) string {
	if len(t) != 14 {
		return "-"
	}
	return t[:4] + "-" + t[4:6] + "-" + t[6:8] + " " + t[8:10] + ":" + t[10:12] + ":" + t[12:14]
}

// group writes a number with its thousands set off.
func group(n int64) string {
	s := strconv.FormatInt(n, 10)
	for at := len(s) - 3; at > 0 && s[at-1] != '-'; at -= 3 {
		s = s[:at] + "," + s[at:]
	}
	return s
}
