package javaregex

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-data/sluice/internal/race"
)

func TestErrors(t *testing.T) {
	for _, c := range []struct {
		pattern string
		offset  int
		hint    string
	}{
		{`*a`, 0, `write \*`},
		{`ab(c`, 2, `write \(`},
		{`ab)`, 2, `write \)`},
		{`x[abc`, 1, `write \[`},
		{`a{x}`, 1, `write \{`},
		{`é{2`, 2, `write {n}`},
		{`\y`, 0, `write \\`},
		{`a\`, 1, `write \\`},
		{`\p{Nope}`, 0, `\p{Alpha}`},
		{`\X`, 0, `not supported`},
		{`\b{g}`, 0, `use \b`},
		{`(?c)a`, 2, `not supported`},
		{`[z-a]`, 1, `backwards`},
		{strings.Repeat("(", 600), 500, "nested"},
		{`(?:(?:(?:a{1,50}b){1,50}c){1,50}d){1,50}`, 0, "smaller"},
	} {
		_, err := Compile(c.pattern, 0)
		var se *SyntaxError
		if !errors.As(err, &se) {
			t.Errorf("%.40q: error %v", c.pattern, err)
			continue
		}
		if se.Offset != c.offset && c.offset != 500 {
			t.Errorf("%q: offset %d, want %d (%v)", c.pattern, se.Offset, c.offset, err)
		}
		if !strings.Contains(err.Error(), c.hint) {
			t.Errorf("%.40q: %v does not say %q", c.pattern, err, c.hint)
		}
	}
}

// Patterns that would backtrack for ever end, with the right answer.
func TestPathological(t *testing.T) {
	as := strings.Repeat("a", 20000)
	for _, c := range []struct {
		pattern, input string
		want           bool
	}{
		{`(a+)+$`, as + "b", false},
		{`(a+)+$`, as, true},
		{`^(a+)+$`, as + "b", false},
		{`(a*)*b`, as, false},
		{`(a|aa)+$`, as + "b", false},
		{`(x+x+)+y`, strings.Repeat("x", 5000), false},
		{`^(\w+\s?)*$`, strings.Repeat("word ", 4000) + "!", false},
		{`(.*)(.*)(.*)(.*)(.*)[xy]$`, strings.Repeat("ab", 5000), false},
		{`(.*a){12}$`, strings.Repeat("a", 3000) + "b", false},
		{`([a-z]+\d*)+:`, strings.Repeat("abc1", 3000), false},
	} {
		re := MustCompile(c.pattern, 0)
		for range tiredOut + 2 {
			if got := re.Match([]byte(c.input)); got != c.want {
				t.Errorf("%q: %v", c.pattern, got)
			}
		}
		if got := re.FindSubmatch([]byte(c.input), nil) != nil; got != c.want {
			t.Errorf("%q: found %v", c.pattern, got)
		}
		if re.GaveUp() != 0 {
			t.Errorf("%q gave up", c.pattern)
		}
	}
	// Where nothing linear exists the work is bounded and counted.
	re := MustCompile(`^(a+)+\1$`, 0)
	if re.Match([]byte(strings.Repeat("a", 40)+"b")) || re.GaveUp() != 1 {
		t.Errorf("gave up %d times", re.GaveUp())
	}
	if !re.Match([]byte("aa")) || re.GaveUp() != 1 {
		t.Error("an ordinary input after one that was given up")
	}
}

// Large inputs go to the simulation; the result is that of small ones.
func TestLargeInput(t *testing.T) {
	b := []byte(strings.Repeat("ab", 200000) + "xy=17;")
	re := MustCompile(`((?:a|b|ab)+)(x|xy)=(\d+)`, 0)
	want := []int{0, 400005, 0, 400000, 400000, 400002, 400003, 400005}
	if got := re.FindSubmatch(b, nil); !slices.Equal(got, want) {
		t.Errorf("found %v, want %v", got, want)
	}
}

func TestNoAllocs(t *testing.T) {
	if race.Enabled {
		t.Skip("NOT CHECKED: allocations per match, as pools forget under the race detector; a run without it checks them")
	}
	check := func(name string, f func()) {
		t.Helper()
		f()
		if n := testing.AllocsPerRun(200, f); n != 0 {
			t.Errorf("%s: %v allocations", name, n)
		}
	}
	for _, c := range common {
		re := MustCompile(c.pattern, 0)
		tmpl, err := re.ParseReplacement("<$0>")
		if err != nil {
			t.Fatal(err)
		}
		for _, line := range [][]byte{[]byte(c.yes), []byte(c.no), []byte("한글 " + c.yes + "\xff")} {
			var loc []int
			var out []byte
			check(c.pattern+" match", func() { re.Match(line) })
			check(c.pattern+" full", func() { re.FullMatch(line) })
			check(c.pattern+" find", func() {
				if l := re.FindSubmatch(line, loc[:0]); l != nil {
					loc = l
				}
			})
			check(c.pattern+" replace", func() { out, _ = re.ReplaceAll(out[:0], line, tmpl) })
		}
	}
	// The linear engines, after the backtracker was found not to do.
	re := MustCompile(`(a+)+$`, 0)
	line := []byte(strings.Repeat("a", 300) + "b")
	for range tiredOut + 1 {
		re.Match(line)
		re.FindSubmatch(line, nil)
	}
	check("automaton", func() { re.Match(line) })
	check("bit state", func() { re.FindSubmatch(line, nil) })
}

func TestConcurrent(t *testing.T) {
	var wg sync.WaitGroup
	for _, pattern := range []string{`(\w+)=(\d+)`, `(a|b)*c\b`, `(?m)^x|y$`, `(\w)\1`} {
		re := MustCompile(pattern, 0)
		for i := range 4 {
			wg.Go(func() {
				for j := range 300 {
					in := fmt.Appendf(nil, "key%d=%d abc xx%s", i, j, strings.Repeat("ab", j%17))
					want := re.FindSubmatch(in, nil)
					if got := re.FindSubmatch(in, nil); !slices.Equal(got, want) || re.Match(in) != (want != nil) {
						t.Errorf("%q on %q: %v, then %v", pattern, in, want, got)
					}
					if d := re.test.dfa; d != nil && d().match(in) != (want != nil) {
						t.Errorf("%q on %q: automaton differs", pattern, in)
					}
				}
			})
		}
	}
	wg.Wait()
}

func TestReplacementErrors(t *testing.T) {
	re := MustCompile(`(?<a>x)(y)`, 0)
	for _, s := range []string{`$`, `\`, `$3`, `${`, `${b}`, `$x`, `${1a}`} {
		if _, err := re.ParseReplacement(s); err == nil {
			t.Errorf("%q: no error", s)
		}
	}
	tmpl, err := re.ParseReplacement(`${a}$2$1\$$10`)
	if err != nil {
		t.Fatal(err)
	}
	if got, n := re.ReplaceAll(nil, []byte("-xy-\xff"), tmpl); string(got) != "-xyx$x0-\xff" || n != 1 {
		t.Errorf("%q, %d matches", got, n)
	}
	if got, n := re.ReplaceAll(nil, []byte("-"), tmpl); len(got) != 0 || n != 0 {
		t.Errorf("%q, %d matches", got, n)
	}
}

// The expectations are String.split's of JDK 17.
func TestSplit(t *testing.T) {
	for _, c := range []struct {
		pattern, in string
		want        []string
	}{
		{`\s*,\s*`, "a , b,c", []string{"a", "b", "c"}},
		{`\s*,\s*`, ",a,,b,,", []string{"", "a", "", "b"}},
		{`,`, "", []string{""}},
		{`,`, ",", nil},
		{`,`, "abc", []string{"abc"}},
		{``, "a한b", []string{"a", "한", "b"}},
		{`x*`, "axb", []string{"a", "", "b"}},
		{`(?=b)`, "abab", []string{"a", "ba", "b"}},
	} {
		if got := MustCompile(c.pattern, 0).Split(c.in); !slices.Equal(got, c.want) {
			t.Errorf("%q split by %q: %q, want %q", c.in, c.pattern, got, c.want)
		}
	}
	if re := MustCompile(`\w+`, 0); !re.FullMatchString("abc") || re.FullMatchString("a c") || re.FullMatchString("") {
		t.Error("full match of a string")
	}
}

func TestExplain(t *testing.T) {
	for pattern, want := range map[string]string{
		`^\d{14}`:         "compares bytes at fixed offsets",
		`"type":"(\w+)"`:  `searches "\"type\":\""`,
		`.+,.+\[(.+)\]`:   `needs ",", "[", "]" in this order`,
		`(a)\1`:           "backtracks, at most",
		`(INFO|ERROR)\d+`: "bytes that can begin a match",
	} {
		if got := MustCompile(pattern, 0).Explain(); !strings.Contains(got, want) {
			t.Errorf("%s: %s", pattern, got)
		}
	}
}

func FuzzEngines(f *testing.F) {
	for _, c := range written {
		for _, in := range c.inputs {
			f.Add(c.pattern, uint32(c.flags), []byte(in))
		}
		f.Add(c.pattern, uint32(c.flags), []byte("ab"))
	}
	f.Fuzz(func(t *testing.T, pattern string, flags uint32, in []byte) {
		if len(pattern) > 80 || len(in) > 300 {
			return
		}
		re, err := Compile(pattern, Flags(flags)&0x17F)
		if err != nil {
			if se := new(SyntaxError); !errors.As(err, &se) || se.Offset < 0 || se.Offset > len(pattern) {
				t.Fatalf("error %#v", err)
			}
			return
		}
		if tmpl, err := re.ParseReplacement("<$0>"); err != nil {
			t.Fatal(err)
		} else {
			re.ReplaceAll(nil, in, tmpl)
		}
		want, found, full := re.FindSubmatch(in, nil), re.Match(in), re.FullMatch(in)
		if re.GaveUp() > 0 {
			return
		}
		if found != (want != nil) {
			t.Fatalf("match %v, found %v", found, want)
		}
		for _, tr := range []tier{tierFixed, tierBacktrack, tierDFA, tierBitState, tierPike} {
			if !force(re, tr) {
				continue
			}
			m, fm, loc := re.Match(in), re.FullMatch(in), want
			if tr != tierDFA && !re.find.fast.quirk {
				loc = re.FindSubmatch(in, nil)
			}
			if re.GaveUp() > 0 {
				return
			}
			if m != found || fm != full || !slices.Equal(loc, want) {
				t.Fatalf("engine %d: %v %v %v, want %v %v %v", tr, m, fm, loc, found, full, want)
			}
		}
	})
}

// What one call gives up on is told by that call.
func TestTry(t *testing.T) {
	re := MustCompile(`x|^(a+)+\1$`, 0)
	tmpl, err := re.ParseReplacement("y")
	if err != nil {
		t.Fatal(err)
	}
	hostile := strings.Repeat("a", 61) + "b"
	for _, tt := range []struct {
		in               string
		matched, decided bool
	}{
		{"x", true, true},
		{"b", false, true},
		{"aa", true, true},
		{hostile, false, false},
		{"ab", false, true}, // nothing of the last one is left
	} {
		b := []byte(tt.in)
		before := re.GaveUp()
		if matched, decided := re.TryMatch(b); matched != tt.matched || decided != tt.decided {
			t.Errorf("match %q: %v, %v", tt.in, matched, decided)
		}
		if loc, decided := re.TryFindSubmatch(b, nil); loc != nil != tt.matched || decided != tt.decided {
			t.Errorf("find in %q: %v, %v", tt.in, loc, decided)
		}
		if _, n, decided := re.TryReplaceAll(nil, b, tmpl); n > 0 != tt.matched || decided != tt.decided {
			t.Errorf("replace in %q: %d, %v", tt.in, n, decided)
		}
		if gaveUp := re.GaveUp() - before; gaveUp > 0 == tt.decided {
			t.Errorf("%q: gave up %d times", tt.in, gaveUp)
		}
	}
}

// A pattern compiled by CompileFull gives the groups of Matcher.matches(), for
// which the engine may have to take another path than for find().
func TestCompileFull(t *testing.T) {
	for _, tt := range []struct {
		pattern, input string
		want           []int
	}{
		{`(.*)`, "abc", []int{0, 3, 0, 3}},
		{`(a|ab)(c|bcd)?`, "abcd", []int{0, 4, 0, 1, 1, 4}},
		{`(a+?)(a*?)`, "aaa", []int{0, 3, 0, 1, 1, 3}},
		{`(a)|(b)c`, "bc", []int{0, 2, -1, -1, 0, 1}},
		{`(a)(b)?`, "a", []int{0, 1, 0, 1, -1, -1}},
		{`a`, "a\n", nil},
		{`(?x)(a) # comment`, "a", []int{0, 1, 0, 1}},
		{`(?=(a+))a\1`, "aa", nil},
		{`(a)\1`, "aa", []int{0, 2, 0, 1}},
	} {
		re, err := CompileFull(tt.pattern, DotAll)
		if err != nil {
			t.Fatal(err)
		}
		if got := re.FindSubmatch([]byte(tt.input), nil); !slices.Equal(got, tt.want) {
			t.Errorf("%s on %q: %v, want %v", tt.pattern, tt.input, got, tt.want)
		}
	}
}
