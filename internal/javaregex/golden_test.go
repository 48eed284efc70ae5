package javaregex

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// force makes re use one engine only; false where re cannot.
func force(re *Regexp, t tier) bool {
	for _, e := range []*engine{re.find, re.test, re.full} {
		switch t {
		case tierFixed:
			if e.fixed == nil && e == re.find {
				return false
			}
		case tierDFA, tierBitState, tierPike:
			if e.basic == nil {
				return false
			}
		}
		e.only = t
		if t == tierFixed && e.fixed == nil {
			e.only = anyTier
		}
	}
	return true
}

// TestGolden compares every engine with what java.util.regex of JDK 17 did.
func TestGolden(t *testing.T) {
	if *update {
		writeGolden(t)
	}
	counts := map[string]int{}
	bad := 0
	report := func(c *goldenCase, format string, args ...any) {
		if bad++; bad <= 40 {
			t.Errorf("%q flags %#x: %s", c.pattern, c.flags, fmt.Sprintf(format, args...))
		}
	}
	for _, c := range readGolden(t) {
		re, err := Compile(c.pattern, c.flags)
		if err != nil {
			if c.ok {
				report(c, "refused: %v", err)
			}
			counts["refused"]++
			continue
		}
		if !c.ok {
			if !strings.Contains(c.pattern, "(?<") { // look-behind takes more here
				report(c, "Java refuses it")
			}
			continue
		}
		for _, tr := range []tier{anyTier, tierFixed, tierBacktrack, tierDFA, tierBitState, tierPike} {
			if !force(re, tr) {
				continue
			}
			for _, in := range c.inputs {
				if !in.known {
					continue
				}
				counts[fmt.Sprint("engine ", tr)]++
				checkInput(re, tr, &in, func(format string, args ...any) {
					report(c, "engine %d on %q: %s", tr, in.text, fmt.Sprintf(format, args...))
				})
			}
		}
		if n := re.GaveUp(); n > 0 {
			counts["gave up"]++
		}
	}
	if bad > 0 {
		t.Errorf("%d differences", bad)
	}
	t.Log(counts)
	for tr := range tierPike + 1 {
		if counts[fmt.Sprint("engine ", tr)] < 20 {
			t.Errorf("engine %d was tried %d times only", tr, counts[fmt.Sprint("engine ", tr)])
		}
	}
}

func checkInput(re *Regexp, tr tier, in *goldenInput, report func(string, ...any)) {
	b := []byte(in.text)
	if n := re.GaveUp(); tr == tierBacktrack {
		inner := report
		report = func(format string, args ...any) {
			if re.GaveUp() == n { // otherwise its answer says nothing
				inner(format, args...)
			}
		}
	}
	// The automaton finds no places, and a capture that Java's matcher left
	// over from what it gave back is the backtracker's alone.
	if tr != tierDFA && (!re.find.fast.quirk || tr <= tierBacktrack) {
		if got := re.FindSubmatch(b, nil); true {
			want := []int(nil)
			offsets := utf16Offsets(b)
			for _, g := range in.groups {
				if g >= 0 {
					g = offsets[g]
				}
				want = append(want, g)
			}
			if !slices.Equal(got, want) {
				report("found %v, Java %v", got, want)
				return
			}
		}
	}
	if got := re.Match(b); got != in.found {
		report("match %v, Java %v", got, in.found)
	}
	if got := re.FullMatch(b); got != in.matches {
		report("full match %v, Java %v", got, in.matches)
	}
}

// TestGoldenReplace compares replacements.
func TestGoldenReplace(t *testing.T) {
	bad, n := 0, 0
	for _, c := range readGolden(t) {
		re, err := Compile(c.pattern, c.flags)
		if err != nil {
			continue // TestGolden's
		}
		tmpl, err := re.ParseReplacement(c.repl)
		for _, in := range c.inputs {
			if !in.known || in.refused && err != nil {
				continue
			}
			if err != nil {
				if in.found {
					bad++
					t.Errorf("%q with %q: %v", c.pattern, c.repl, err)
				}
				break
			}
			n++
			out, matches := re.ReplaceAll(nil, []byte(in.text), tmpl)
			if matches == 0 {
				out = []byte(in.text)
			}
			got := decoded(out)
			if got != in.result {
				if bad++; bad < 30 {
					t.Errorf("%q flags %#x: %q with %q: %q, Java %q", c.pattern, c.flags, in.text, c.repl, got, in.result)
				}
			}
		}
	}
	t.Logf("%d replacements, %d differences", n, bad)
	if n < 10000 {
		t.Errorf("only %d replacements were compared", n)
	}
}
