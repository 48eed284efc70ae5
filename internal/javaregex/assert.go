package javaregex

import "unicode"

// holds says whether an assertion is true at pos.
func (s *scratch) holds(k assertKind, b []byte, pos int) bool {
	switch k {
	case aBegin:
		return pos == 0
	case aEnd:
		return pos == len(b)
	case aLast:
		return pos == s.last
	case aFinal:
		return finalAt(b, pos)
	case aFinalNL:
		return pos == len(b) || pos == len(b)-1 && b[pos] == '\n'
	case aLineBeg:
		if pos == len(b) {
			return false // Java: not at the very end, not even of nothing
		}
		if pos == 0 {
			return true
		}
		return terminatorEnds(b, pos) && (b[pos-1] != '\r' || b[pos] != '\n')
	case aLineBegNL:
		return pos < len(b) && (pos == 0 || b[pos-1] == '\n')
	case aLineEnd:
		if pos == len(b) {
			return true
		}
		return terminator(b, pos) && (b[pos] != '\n' || pos == 0 || b[pos-1] != '\r')
	case aLineEndNL:
		return pos == len(b) || b[pos] == '\n'
	case aWord:
		return wordBefore(b, pos, false) != wordAt(b, pos, false)
	case aNotWord:
		return wordBefore(b, pos, false) == wordAt(b, pos, false)
	case aUWord:
		return wordBefore(b, pos, true) != wordAt(b, pos, true)
	case aNotUWord:
		return wordBefore(b, pos, true) == wordAt(b, pos, true)
	}
	panic("BUG: unknown assertion")
}

// finalAt is $: the end, or before a line terminator that is the last thing.
func finalAt(b []byte, pos int) bool {
	switch len(b) - pos {
	case 0:
		return true
	case 1:
		return b[pos] == '\r' || b[pos] == '\n' && (pos == 0 || b[pos-1] != '\r')
	case 2:
		return b[pos] == '\r' && b[pos+1] == '\n' || b[pos] == 0xC2 && b[pos+1] == 0x85
	case 3:
		return b[pos] == 0xE2 && b[pos+1] == 0x80 && b[pos+2]&0xFE == 0xA8
	}
	return false
}

// terminatorEnds says that the character before pos is a line terminator.
func terminatorEnds(b []byte, pos int) bool {
	r, _ := decodeBefore(b, pos)
	return isTerm(r)
}

func isTerm(r rune) bool {
	return r == '\n' || r == '\r' || r == 0x85 || r|1 == 0x2029
}

// isWordRune is what \b counts as part of a word: in Java 17 letters and
// digits of any script, although \w is ASCII.
func isWordRune(r rune, uni bool) bool {
	if r < 0x80 {
		return r == '_' || isDigit(r) || isAlpha(r)
	}
	if uni {
		return unicodeWord().contains(r)
	}
	return isBase(r)
}

// isBase is Character.isLetterOrDigit.
func isBase(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) }

// A non-spacing mark counts as what it stands on.

func wordAt(b []byte, pos int, uni bool) bool {
	if pos >= len(b) {
		return false
	}
	r, n := decode(b[pos:])
	return isWordRune(r, uni) || r >= 0x80 && unicode.Is(unicode.Mn, r) && hasBase(b, pos+n)
}

func wordBefore(b []byte, pos int, uni bool) bool {
	if pos == 0 {
		return false
	}
	r, _ := decodeBefore(b, pos)
	return isWordRune(r, uni) || r >= 0x80 && unicode.Is(unicode.Mn, r) && hasBase(b, pos)
}

// hasBase says that the marks that end at end stand on a letter or digit.
func hasBase(b []byte, end int) bool {
	for end > 0 {
		r, n := decodeBefore(b, end)
		if isBase(r) {
			return true
		}
		if !unicode.Is(unicode.Mn, r) {
			return false
		}
		end -= n
	}
	return false
}
