package javaregex

import (
	"strconv"
	"strings"
	"sync"
	"unicode"
)

// The sets behind \p{…} and the predefined classes, as java.util.regex defines
// them (java.lang.Character where it delegates to that). Code points that
// Unicode assigned after Java's tables were made follow package unicode.

var (
	setAll    = runeSet{0, maxRune}
	setDigit  = runeSet{'0', '9'}
	setSpace  = runeSet{'\t', '\r', ' ', ' '}
	setWord   = runeSet{'0', '9', 'A', 'Z', '_', '_', 'a', 'z'}
	setAlpha  = runeSet{'A', 'Z', 'a', 'z'}
	setHoriz  = runes(0x09, 0x20, 0xA0, 0x1680, 0x180E, 0x202F, 0x205F, 0x3000).union(runeSet{0x2000, 0x200A})
	setVert   = runeSet{0x0A, 0x0D, 0x85, 0x85, 0x2028, 0x2029}
	setTerm   = runes('\n', '\r', 0x85, 0x2028, 0x2029)
	setDot    = setTerm.negate()
	setNotNL  = runeSet{'\n', '\n'}.negate()
	posixSets = map[string]runeSet{
		"ASCII":  {0, 0x7F},
		"Alnum":  {'0', '9', 'A', 'Z', 'a', 'z'},
		"Alpha":  setAlpha,
		"Blank":  runes('\t', ' '),
		"Cntrl":  {0, 0x1F, 0x7F, 0x7F},
		"Digit":  setDigit,
		"Graph":  {0x21, 0x7E},
		"Lower":  {'a', 'z'},
		"Print":  {0x20, 0x7E},
		"Punct":  {'!', '/', ':', '@', '[', '`', '{', '~'},
		"Space":  setSpace,
		"Upper":  {'A', 'Z'},
		"XDigit": {'0', '9', 'A', 'F', 'a', 'f'},
		"L1":     {0, 0xFF},
		"all":    setAll,
	}
)

func catSet(names ...string) runeSet {
	var s runeSet
	for _, n := range names {
		s = append(s, tableSet(unicode.Categories[n])...)
	}
	return s.normal()
}

var assignedSet = sync.OnceValue(func() runeSet {
	return catSet("L", "M", "N", "P", "S", "Z", "Cc", "Cf", "Co", "Cs")
})

func unassignedSet() runeSet { return assignedSet().negate() }

func alphabeticSet() runeSet {
	return catSet("L", "Nl").union(tableSet(unicode.Other_Alphabetic))
}

func lowerSet() runeSet {
	return catSet("Ll").union(tableSet(unicode.Other_Lowercase))
}

func upperSet() runeSet {
	return catSet("Lu").union(tableSet(unicode.Other_Uppercase))
}

func whiteSet() runeSet {
	return catSet("Zs", "Zl", "Zp").union(runeSet{0x9, 0xD, 0x85, 0x85})
}

func hexSet() runeSet {
	return catSet("Nd").union(runeSet{'0', '9', 'A', 'F', 'a', 'f', 0xFF10, 0xFF19, 0xFF21, 0xFF26, 0xFF41, 0xFF46})
}

func ignorableSet() runeSet {
	return catSet("Cf").union(runeSet{0, 8, 0xE, 0x1B, 0x7F, 0x9F})
}

// unicodeWord is \w under (?U).
var unicodeWord = sync.OnceValue(func() runeSet {
	return alphabeticSet().union(catSet("M", "Nd", "Pc")).union(runeSet{0x200C, 0x200D})
})

// categorySet answers for a general category by its Java name, which knows
// some that Unicode does not.
func categorySet(name string, fold bool) (runeSet, bool) {
	if fold && (name == "Lu" || name == "Ll" || name == "Lt") {
		name = "LC"
	}
	switch name {
	case "LC":
		return catSet("Lu", "Ll", "Lt"), true
	case "LD":
		return catSet("L", "Nd"), true
	case "Cn":
		return unassignedSet(), true
	case "C":
		return catSet("Cc", "Cf", "Co", "Cs").union(unassignedSet()), true
	}
	if t := unicode.Categories[name]; t != nil && len(name) <= 2 {
		return tableSet(t), true
	}
	return nil, false
}

// propertySet answers for \p{name}.
func propertySet(name string, fold bool) (runeSet, bool) {
	if s, ok := categorySet(name, fold); ok {
		return s, true
	}
	if fold && (name == "Lower" || name == "Upper") {
		return setAlpha, true
	}
	if s, ok := posixSets[name]; ok {
		return s, true
	}
	if m, ok := strings.CutPrefix(name, "java"); ok {
		return javaSet(m, fold)
	}
	return nil, false
}

func casedSet() runeSet { return lowerSet().union(upperSet()).union(catSet("Lt")) }

// javaSet answers for \p{javaMethod}: Character.isMethod.
func javaSet(method string, fold bool) (runeSet, bool) {
	switch method {
	case "LowerCase", "UpperCase", "TitleCase":
		switch {
		case fold:
			return casedSet(), true
		case method == "LowerCase":
			return lowerSet(), true
		case method == "UpperCase":
			return upperSet(), true
		}
		return catSet("Lt"), true
	case "Alphabetic":
		return alphabeticSet(), true
	case "Ideographic":
		return tableSet(unicode.Ideographic), true
	case "Digit":
		return catSet("Nd"), true
	case "Defined":
		return assignedSet(), true
	case "Letter":
		return catSet("L"), true
	case "LetterOrDigit":
		return catSet("L", "Nd"), true
	case "JavaIdentifierStart":
		return catSet("L", "Nl", "Sc", "Pc"), true
	case "JavaIdentifierPart":
		return catSet("L", "Nl", "Sc", "Pc", "Nd", "Mc", "Mn").union(ignorableSet()), true
	case "UnicodeIdentifierStart":
		return catSet("L", "Nl").union(tableSet(unicode.Other_ID_Start)).intersect(notPattern()), true
	case "UnicodeIdentifierPart":
		return catSet("L", "Nl", "Pc", "Nd", "Mc", "Mn").union(tableSet(unicode.Other_ID_Start, unicode.Other_ID_Continue)).
			union(ignorableSet()).intersect(notPattern().union(ignorableSet())), true
	case "IdentifierIgnorable":
		return ignorableSet(), true
	case "SpaceChar":
		return catSet("Z"), true
	case "Whitespace":
		nbsp := runes(0xA0, 0x2007, 0x202F)
		return catSet("Z").intersect(nbsp.negate()).union(runeSet{9, 0xD, 0x1C, 0x1F}), true
	case "ISOControl":
		return runeSet{0, 0x1F, 0x7F, 0x9F}, true
	case "Mirrored":
		var s runeSet
		for _, w := range strings.Fields(mirroredTable) {
			lo, hi := hexRange(w)
			s = append(s, lo, hi)
		}
		return s, true
	}
	return nil, false
}

func notPattern() runeSet {
	return tableSet(unicode.Pattern_Syntax, unicode.Pattern_White_Space).negate()
}

// posixUnicode answers for the POSIX names under (?U), and for \p{IsName}.
func posixUnicode(name string, fold bool) (runeSet, bool) {
	switch strings.ToUpper(name) {
	case "ALPHA":
		return alphabeticSet(), true
	case "LOWER":
		if fold {
			return casedSet(), true
		}
		return lowerSet(), true
	case "UPPER":
		if fold {
			return casedSet(), true
		}
		return upperSet(), true
	case "SPACE":
		return whiteSet(), true
	case "PUNCT":
		return catSet("P"), true
	case "XDIGIT":
		return hexSet(), true
	case "ALNUM":
		return alphabeticSet().union(catSet("Nd")), true
	case "CNTRL":
		return catSet("Cc"), true
	case "DIGIT":
		return catSet("Nd"), true
	case "BLANK":
		return catSet("Zs").union(runeSet{9, 9}), true
	case "GRAPH":
		return graphSet(), true
	case "PRINT":
		return graphSet().union(catSet("Zs")).union(runeSet{9, 9}).intersect(catSet("Cc").negate()), true
	}
	return nil, false
}

func graphSet() runeSet {
	return catSet("Zs", "Zl", "Zp", "Cc", "Cs").union(unassignedSet()).negate()
}

// binarySet answers for \p{IsName} where name is a binary property.
func binarySet(name string, fold bool) (runeSet, bool) {
	switch strings.ToUpper(name) {
	case "ALPHABETIC":
		return alphabeticSet(), true
	case "ASSIGNED":
		return assignedSet(), true
	case "CONTROL":
		return catSet("Cc"), true
	case "HEXDIGIT", "HEX_DIGIT":
		return hexSet(), true
	case "IDEOGRAPHIC":
		return tableSet(unicode.Ideographic), true
	case "JOINCONTROL", "JOIN_CONTROL":
		return runeSet{0x200C, 0x200D}, true
	case "LETTER":
		return catSet("L"), true
	case "LOWERCASE", "UPPERCASE", "TITLECASE":
		switch {
		case fold:
			return casedSet(), true
		case strings.EqualFold(name, "lowercase"):
			return lowerSet(), true
		case strings.EqualFold(name, "uppercase"):
			return upperSet(), true
		}
		return catSet("Lt"), true
	case "NONCHARACTERCODEPOINT", "NONCHARACTER_CODE_POINT":
		return tableSet(unicode.Noncharacter_Code_Point), true
	case "PUNCTUATION":
		return catSet("P"), true
	case "WHITESPACE", "WHITE_SPACE":
		return whiteSet(), true
	case "WORD":
		return unicodeWord(), true
	}
	return posixUnicode(name, fold)
}

func scriptSet(name string) (runeSet, bool) {
	name = strings.ToUpper(name)
	for _, w := range strings.Fields(scriptTable) {
		if abbr, full, _ := strings.Cut(w, ":"); abbr == name {
			name = full
			break
		}
	}
	for n, t := range unicode.Scripts {
		if strings.EqualFold(n, name) {
			return tableSet(t), true
		}
	}
	return nil, false
}

func blockSet(name string) (runeSet, bool) {
	name = strings.NewReplacer("_", "", " ", "").Replace(strings.ToUpper(name))
	for _, w := range strings.Fields(blockTable) {
		n, r, _ := strings.Cut(w, ":")
		if n == name || n == strings.ReplaceAll(name, "-", "") {
			lo, hi := hexRange(r)
			return runeSet{lo, hi}, true
		}
	}
	return nil, false
}

// hexRange reads an entry of the tables in unicodenames.go.
func hexRange(w string) (lo, hi rune) {
	a, b, _ := strings.Cut(w, "-")
	l, err1 := strconv.ParseUint(a, 16, 32)
	h, err2 := strconv.ParseUint(b, 16, 32)
	if err1 != nil || err2 != nil {
		panic("BUG: bad entry in a table of Unicode names: " + w)
	}
	return rune(l), rune(h)
}

// foldKey is what Java compares under (?iu).
func foldKey(r rune) rune { return unicode.ToLower(unicode.ToUpper(r)) }

// cased lists the characters that have case, with their keys.
var cased = sync.OnceValue(func() (cs []struct{ r, key rune }) {
	for _, cr := range unicode.CaseRanges {
		for r := rune(cr.Lo); r <= rune(cr.Hi); r++ {
			cs = append(cs, struct{ r, key rune }{r, foldKey(r)})
		}
	}
	return cs
})

// singleFold is the set for one character of the pattern under the flags.
func singleFold(ch rune, f foldKind) runeSet {
	switch f {
	case foldUnicode:
		up := unicode.ToUpper(ch)
		low := unicode.ToLower(up)
		if up == low {
			break
		}
		s := runeSet{low, low}
		for _, c := range cased() {
			if c.key == low {
				s = append(s, c.r, c.r)
			}
		}
		return s.normal()
	case foldASCII:
		if 'a' <= ch && ch <= 'z' || 'A' <= ch && ch <= 'Z' {
			return runes(ch&^0x20, ch|0x20)
		}
	}
	return runeSet{ch, ch}
}

// sliceFold is singleFold for one of several characters in a row. Java compares
// those in another way, which matters for characters that are lower case only
// by way of another one: ß, to which ẞ is folded.
func sliceFold(ch rune, f foldKind) runeSet {
	s := singleFold(ch, f)
	if f == foldUnicode {
		key := foldKey(ch)
		s = s.union(runeSet{key, key})
		for _, c := range cased() {
			if c.key == key {
				s = append(s, c.r, c.r)
			}
		}
	}
	return s.normal()
}

// rangeFold is the set for lo-hi in a class under the flags.
func rangeFold(lo, hi rune, f foldKind) runeSet {
	s := runeSet{lo, hi}
	in := func(r rune) bool { return lo <= r && r <= hi }
	switch f {
	case foldUnicode:
		for _, c := range cased() {
			if up := unicode.ToUpper(c.r); in(up) || in(unicode.ToLower(up)) {
				s = append(s, c.r, c.r)
			}
		}
	case foldASCII:
		for r := 'a'; r <= 'z'; r++ {
			if in(r) || in(r&^0x20) {
				s = append(s, r, r, r&^0x20, r&^0x20)
			}
		}
	}
	return s.normal()
}

// lookupProperty finds the set for the name between the braces of \p{…}.
func lookupProperty(name string, fold, uni bool) (runeSet, bool) {
	if key, value, ok := strings.Cut(name, "="); ok {
		switch strings.ToLower(key) {
		case "sc", "script":
			return scriptSet(value)
		case "blk", "block":
			return blockSet(value)
		case "gc", "general_category":
			return propertySet(value, fold)
		}
		return nil, false
	}
	if block, ok := strings.CutPrefix(name, "In"); ok {
		return blockSet(block)
	}
	if short, ok := strings.CutPrefix(name, "Is"); ok {
		if s, ok := binarySet(short, fold); ok {
			return s, true
		}
		if s, ok := propertySet(short, fold); ok {
			return s, true
		}
		return scriptSet(short)
	}
	if uni {
		if s, ok := posixUnicode(name, fold); ok {
			return s, true
		}
	}
	return propertySet(name, fold)
}
