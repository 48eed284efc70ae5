package segment

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"slices"
	"sort"
	"strings"

	"github.com/sluice-data/sluice/internal/broker/log"
	"github.com/sluice-data/sluice/internal/seglog"
)

// cleanedName is the file that says what compaction has done. Without it everything is looked at again.
const cleanedName = "compaction-checkpoint"

// cleaned is what compaction has done.
type cleaned struct {
	to     int64         // below it each key has one record
	passes []cleanedPass // ascending; how it got there
}

// cleanedPass says when offsets were compacted first, from one up to the next pass's or, for the last, up to cleaned.to.
type cleanedPass struct {
	from int64
	at   int64 // milliseconds since 1970
}

// seenAt is when an offset was compacted first.
func (c *cleaned) seenAt(off int64) (at int64, ok bool) {
	i := sort.Search(len(c.passes), func(i int) bool { return c.passes[i].from > off })
	if i == 0 || off >= c.to {
		return 0, false
	}
	return c.passes[i-1].at, true
}

// advance is the state after a pass up to an offset. Offsets below start are gone. Passes whose tombstones are all due
// become one.
func (c *cleaned) advance(to, start int64, o *log.CompactOptions) cleaned {
	n := cleaned{to: to, passes: slices.Clone(c.passes)}
	if to > c.to {
		n.passes = append(n.passes, cleanedPass{c.to, o.Now.UnixMilli()})
	}
	for len(n.passes) > 1 && n.passes[1].from <= start {
		n.passes = n.passes[1:]
	}
	for len(n.passes) > 1 && o.Now.UnixMilli()-n.passes[1].at > o.DeleteRetention.Milliseconds() {
		n.passes[1].from = n.passes[0].from
		n.passes = n.passes[1:]
	}
	return n
}

func (c *cleaned) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "sluice-compaction 2\nto %d\n", c.to)
	for _, p := range c.passes {
		fmt.Fprintf(&b, "pass %d %d\n", p.from, p.at)
	}
	return []byte(b.String())
}

func decodeCleaned(b []byte) (cleaned, error) {
	var c cleaned
	lines := strings.Split(strings.TrimSuffix(string(b), "\n"), "\n")
	if len(lines) < 2 || lines[0] != "sluice-compaction 2" {
		return c, fmt.Errorf("its first line is %q: want %q and more", lines[0], "sluice-compaction 2")
	}
	if n, err := fmt.Sscanf(lines[1], "to %d", &c.to); n != 1 || c.to < 0 {
		return c, fmt.Errorf("line %q: want an offset: %w", lines[1], err)
	}
	for _, line := range lines[2:] {
		var p cleanedPass
		if n, err := fmt.Sscanf(line, "pass %d %d", &p.from, &p.at); n != 2 || err != nil {
			return c, fmt.Errorf("line %q: want an offset and a time", line)
		}
		if n := len(c.passes); p.from < 0 || p.from >= c.to || n > 0 && p.from <= c.passes[n-1].from {
			return c, fmt.Errorf("line %q is out of order", line)
		}
		c.passes = append(c.passes, p)
	}
	return c, nil
}

// loadCleaned reads the checkpoint when the log is opened, and removes one that cannot be believed: offsets that the log
// lost at its end are given again.
func (l *Log) loadCleaned() error {
	b, err := readSmall(l.fs, l.dir, cleanedName)
	if err != nil {
		return fmt.Errorf("read what was compacted: %w", err)
	}
	if b == nil {
		return nil
	}
	var c cleaned
	if len(bytes.TrimSpace(b)) == 0 {
		err = errors.New("it is empty")
	} else {
		c, err = decodeCleaned(b)
	}
	if err == nil && c.to > l.end.off {
		err = fmt.Errorf("it goes up to offset %d, and the log ends at %d", c.to, l.end.off)
	}
	if err == nil {
		l.cleaned = c
		return nil
	}
	name := filepath.Join(l.dir, cleanedName)
	l.logger.Warn("what was compacted is not known; everything is looked at again", "file", name, "why", err)
	if err := l.fs.Remove(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove what was compacted: %w", err)
	}
	return l.fs.SyncDir(l.dir)
}

// saveCleaned writes the checkpoint of a pass up to an offset. compactMu is held.
func (l *Log) saveCleaned(to int64, o log.CompactOptions) error {
	l.mu.RLock()
	start, closed, failed := l.start, l.closed, l.err
	l.mu.RUnlock()
	if closed || failed != nil || to == l.cleaned.to {
		return nil // a state that is older than the files only makes the next pass look at more than it must
	}
	c := l.cleaned.advance(to, start, &o)
	if err := seglog.WriteFile(l.fs, filepath.Join(l.dir, cleanedName), c.encode()); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	l.cleaned = c
	return nil
}
