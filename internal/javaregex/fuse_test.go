package javaregex

import (
	"fmt"
	"testing"
)

// Groups that every match comes by once need no frames to put them back, and
// a run that is a group takes the byte after it along.
func TestFuse(t *testing.T) {
	for _, tt := range []struct {
		pattern     string
		once, fused int
	}{
		{`^(\w+)\s(\d+),(.+)$`, 6, 3},
		{`((\w+)-)x`, 4, 1},
		{`(?:(\w+) )+x`, 2, 1}, // the first round; the others are in a loop
		{`(?:(\w+) )*x`, 0, 0}, // a loop only
		{`a(\d+)?b`, 0, 0},     // not in every match
		{`(\d+)|(\w+)x`, 0, 0},
		{`(\d+)(?=x)`, 0, 0}, // not for patterns that are not regular
		{`(\w+)\w`, 2, 0},    // gives back
	} {
		p := MustCompile(tt.pattern, 0).find.fast
		once, fused := 0, 0
		for i := range p.insts {
			switch in := &p.insts[i]; {
			case in.op == opRunOnly && in.group > 0:
				once++ // it took the place of a group's start
				fused++
			case in.once:
				once++
			}
		}
		if once != tt.once || fused != tt.fused {
			t.Errorf("%s: %d ends of groups are met once, %d runs are groups; want %d, %d", tt.pattern, once, fused, tt.once, tt.fused)
		}
	}
}

// What a failed path wrote must not be left in a capture.
func TestFusedCaptures(t *testing.T) {
	for _, tt := range []struct{ pattern, in, want string }{
		{`^(.+)\[(\w+)\]$`, `a[b]c[d]`, `[0 8 0 5 6 7]`},
		{`(\w+)=(\d+);`, `a=b c=12;`, `[4 9 4 5 6 8]`}, // a= fails behind the first group
		{`(a+)(b+)c`, `aabbd abc`, `[6 9 6 7 7 8]`},
		{`^(?:(\w+),)*(\d+)!`, `a,b,1!`, `[0 6 2 3 4 5]`},
		{`^(?:(\w+),)*(\d+)!`, `1!`, `[0 2 -1 -1 0 1]`},
		{`(\w+) (x)?y`, `ab y`, `[0 4 0 2 -1 -1]`},
		{`(\d+)-$`, `1-2-`, `[2 4 2 3]`},
	} {
		if got := fmt.Sprint(MustCompile(tt.pattern, 0).FindSubmatch([]byte(tt.in), nil)); got != tt.want {
			t.Errorf("%s in %q: %s, want %s", tt.pattern, tt.in, got, tt.want)
		}
	}
}
