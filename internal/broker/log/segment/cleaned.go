package segment

import (
	"bytes"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/internal/seglog"
)

// cleanedName is the file that says what compaction has done. Without it everything is looked at again.
const cleanedName = "compaction-checkpoint"

// cleaned is what compaction has done.
type cleaned struct {
	loaded bool
	to     int64           // below it each key has one record
	seen   map[int64]int64 // segment base → when the first pass over all of it was, milliseconds since 1970
}

// with is a copy for the next pass.
func (c cleaned) with(to int64) cleaned {
	return cleaned{loaded: true, to: to, seen: maps.Clone(c.seen)}
}

func (c cleaned) encode() []byte {
	var b strings.Builder
	fmt.Fprintf(&b, "sluice-compaction 1\nto %d\n", c.to)
	for _, base := range slices.Sorted(maps.Keys(c.seen)) {
		fmt.Fprintf(&b, "segment %d %d\n", base, c.seen[base])
	}
	return []byte(b.String())
}

func decodeCleaned(b []byte) (cleaned, error) {
	c := cleaned{loaded: true, seen: map[int64]int64{}}
	for i, line := range strings.Split(strings.TrimSuffix(string(b), "\n"), "\n") {
		var base, at int64
		switch n, _ := fmt.Sscanf(line, "segment %d %d", &base, &at); {
		case i == 0 && line == "sluice-compaction 1":
		case i == 1:
			if n, err := fmt.Sscanf(line, "to %d", &c.to); n != 1 || c.to < 0 {
				return c, fmt.Errorf("line %q: want an offset: %w", line, err)
			}
		case i > 1 && n == 2:
			c.seen[base] = at
		default:
			return c, fmt.Errorf("unknown line %q", line)
		}
	}
	return c, nil
}

// loadCleaned reads the checkpoint once. compactMu is held.
func (l *Log) loadCleaned() error {
	if l.cleaned.loaded {
		return nil
	}
	b, err := readSmall(l.fs, l.dir, cleanedName)
	if err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	l.cleaned = cleaned{loaded: true, seen: map[int64]int64{}}
	if len(bytes.TrimSpace(b)) == 0 {
		return nil
	}
	c, err := decodeCleaned(b)
	if err != nil {
		l.logger.Warn("what was compacted is not known; everything is looked at again", "file", filepath.Join(l.dir, cleanedName), "why", err)
		return nil
	}
	l.mu.RLock()
	end := l.end.off
	l.mu.RUnlock()
	if c.to <= end { // otherwise the log lost its end, and offsets were given again
		l.cleaned = c
	}
	return nil
}

// saveCleaned writes the checkpoint, without the segments that are gone. compactMu is held.
func (l *Log) saveCleaned(c cleaned) error {
	l.mu.RLock()
	here := make(map[int64]bool, len(l.segs))
	for _, s := range l.segs {
		here[s.base] = true
	}
	closed := l.closed
	l.mu.RUnlock()
	maps.DeleteFunc(c.seen, func(base, _ int64) bool { return !here[base] })
	l.cleaned = c
	if closed {
		return nil
	}
	if err := seglog.WriteFile(l.fs, filepath.Join(l.dir, cleanedName), c.encode()); err != nil {
		return fmt.Errorf("compact: %w", err)
	}
	return nil
}
