// Package suggest finds the known word that somebody most likely meant.
package suggest

import (
	"fmt"
	"strings"
	"unicode"
)

// maxDistance bounds the number of edits for long words: four typing
// mistakes in one word are another word.
const maxDistance = 4

// maxWord bounds the work on hostile input; no key or type name of any
// configuration comes near it.
const maxWord = 256

// Suggest returns the candidate nearest to word, or "" where none is near
// enough to be a likely typing mistake. A candidate that differs in case,
// punctuation or blanks only wins, then one that differs by a dotted prefix
// (rollInterval for sink.rollInterval, KafkaSink for a whole Java class name);
// otherwise the smallest
// edit distance (insert, delete, replace, swap of neighbours; case ignored)
// of at most a third of the word's length. On a tie the first candidate wins,
// so the order of candidates is an order of preference. A candidate equal to
// word is never returned: it would be no help.
func Suggest(word string, candidates []string) string {
	if word == "" || len(word) > maxWord {
		return ""
	}
	folded := fold(word)
	for _, c := range candidates {
		if c != word && strings.EqualFold(c, word) {
			return c
		}
	}
	if folded != "" {
		for _, c := range candidates {
			if c != word && fold(c) == folded {
				return c
			}
		}
	}
	if c := tail(word, candidates); c != "" {
		return c
	}
	w := []rune(strings.ToLower(word))
	best, bestDist := "", min(len(w)/3, maxDistance)+1
	for _, c := range candidates {
		if c == word || len(c) > maxWord {
			continue
		}
		r := []rune(strings.ToLower(c))
		if abs(len(r)-len(w)) >= bestDist {
			continue
		}
		if d := distance(w, r); d < bestDist {
			best, bestDist = c, d
		}
	}
	return best
}

// Hint is Suggest as the end of a message: `did you mean "x"?`, or "".
func Hint(word string, candidates []string) string {
	if s := Suggest(word, candidates); s != "" {
		return fmt.Sprintf("did you mean %q?", s)
	}
	return ""
}

// tail finds the candidate that is word behind a dotted prefix, or word
// without one. Two such candidates are no help, unless one is the longer match.
func tail(word string, candidates []string) string {
	lower := strings.ToLower(word)
	best, common, twice := "", 2, false // one or two letters are found everywhere
	for _, c := range candidates {
		l := strings.ToLower(c)
		n := 0
		switch {
		case strings.HasSuffix(l, "."+lower):
			n = len(lower)
		case l != "" && strings.HasSuffix(lower, "."+l):
			n = len(l)
		}
		switch {
		case n > common:
			best, common, twice = c, n, false
		case n == common && best != "":
			twice = true
		}
	}
	if twice {
		return ""
	}
	return best
}

// fold keeps the letters and digits in lower case, so that batch-size,
// batch_size and batchSize are one word.
func fold(s string) string {
	return strings.Map(func(r rune) rune {
		if unicode.IsLetter(r) || unicode.IsDigit(r) {
			return unicode.ToLower(r)
		}
		return -1
	}, s)
}

// distance is the optimal string alignment distance.
func distance(a, b []rune) int {
	before, prev, cur := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range prev {
		prev[j] = j
	}
	for i := 1; i <= len(a); i++ {
		cur[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			cur[j] = min(prev[j]+1, cur[j-1]+1, prev[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				cur[j] = min(cur[j], before[j-2]+1)
			}
		}
		before, prev, cur = prev, cur, before
	}
	return prev[len(b)]
}

func abs(n int) int {
	if n < 0 {
		return -n
	}
	return n
}
