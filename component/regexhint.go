package component

import "strings"

// backslashed returns how a regular expression was probably meant that has two
// slashes where an agent file needs two backslashes (^//d{14}), or "". Only
// what has no other likely meaning counts: a single letter of a character
// class after the slashes, which are not those of a URL.
func backslashed(expr string) string {
	var b strings.Builder
	for i := 0; i < len(expr); i++ {
		if strings.HasPrefix(expr[i:], "//") && i+2 < len(expr) && strings.IndexByte("dDwWsS", expr[i+2]) >= 0 &&
			(i == 0 || expr[i-1] != ':' && expr[i-1] != '/') &&
			(i+3 == len(expr) || !word(expr[i+3])) {
			b.WriteString(`\\`)
			i++
			continue
		}
		if expr[i] == '\\' {
			b.WriteByte('\\') // as the file has it
		}
		b.WriteByte(expr[i])
	}
	if fixed := b.String(); strings.ReplaceAll(expr, `\`, `\\`) != fixed {
		return fixed
	}
	return ""
}

func word(c byte) bool {
	return c == '_' || c >= '0' && c <= '9' || c >= 'A' && c <= 'Z' || c >= 'a' && c <= 'z'
}
