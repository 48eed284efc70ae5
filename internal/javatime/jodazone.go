package javatime

import (
	"strings"
	"sync"
	"time"
	_ "time/tzdata" // zones are the same on machines without the database
)

// abbreviations are the names that Joda-Time knows by default: those of the
// United States are zones, not offsets, so EST in July is an hour off.
var abbreviations = [...]struct{ name, zone string }{
	{"UTC", "UTC"}, {"GMT", "UTC"}, {"UT", "UTC"},
	{"EST", "America/New_York"}, {"EDT", "America/New_York"},
	{"CST", "America/Chicago"}, {"CDT", "America/Chicago"},
	{"MST", "America/Denver"}, {"MDT", "America/Denver"},
	{"PST", "America/Los_Angeles"}, {"PDT", "America/Los_Angeles"},
}

// longestZone is more than the longest name of the database has.
const longestZone = 48

// zoneCache keeps the zones that were met. Only names that exist get in, so
// it cannot grow beyond the database.
type zoneCache struct {
	mu    sync.RWMutex
	zones map[string]*time.Location
}

// abbreviated reads UTC, EST and the like.
func (c *zoneCache) abbreviated(text []byte) (*time.Location, int) {
	for i := range abbreviations {
		a := &abbreviations[i]
		if len(text) >= len(a.name) && string(text[:len(a.name)]) == a.name {
			if loc := c.load([]byte(a.zone)); loc != nil {
				return loc, len(a.name)
			}
		}
	}
	return nil, 0
}

// named reads the longest name of a zone that text begins with. What comes
// after it (see jodaField.next) saves looking for most of the shorter ones.
func (c *zoneCache) named(text []byte, next int) (*time.Location, int) {
	n := 0
	for n < len(text) && n < longestZone && (alnum(text[n]) || strings.IndexByte("/_-+", text[n]) >= 0) {
		n++
	}
	for full := n; n >= 2; n-- {
		if n < full && (next == -1 || next >= 0 && text[n]|0x20 != byte(next)|0x20) {
			continue
		}
		if loc := c.load(text[:n]); loc != nil {
			return loc, n
		}
	}
	return nil, 0
}

func alnum(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}

func (c *zoneCache) load(name []byte) *time.Location {
	c.mu.RLock()
	loc := c.zones[string(name)]
	c.mu.RUnlock()
	if loc != nil {
		return loc
	}
	// "Local" is this machine's zone for Go, and the database has more
	// directories than those of zones.
	s := string(name)
	if s == "Local" || s == "localtime" || strings.HasPrefix(s, "posix/") || strings.HasPrefix(s, "right/") {
		return nil
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.zones == nil {
		c.zones = make(map[string]*time.Location)
	}
	c.zones[s] = loc
	return loc
}
