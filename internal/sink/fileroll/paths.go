package fileroll

import (
	"strconv"
	"strings"
	"time"
)

// names gives the files of one sink their names, as Flume's path managers do.
type names struct {
	prefix, extension string
	rollTime          bool
	made              time.Time // when the sink was configured
	n                 int
	second            string // ROLLTIME: the one that n counts in
}

// next returns the name that follows; which of them are free is the caller's
// business.
func (p *names) next(now time.Time) string {
	var b strings.Builder
	b.WriteString(p.prefix)
	if p.rollTime {
		if s := now.Format("20060102150405"); s != p.second {
			p.second, p.n = s, 0
		}
		b.WriteString(p.second)
	} else {
		b.WriteString(strconv.FormatInt(p.made.UnixMilli(), 10))
	}
	p.n++
	b.WriteByte('-')
	b.WriteString(strconv.Itoa(p.n))
	if p.extension != "" {
		b.WriteByte('.')
		b.WriteString(p.extension)
	}
	return b.String()
}
