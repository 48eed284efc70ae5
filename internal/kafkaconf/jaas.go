package kafkaconf

import (
	"errors"
	"fmt"
	"strings"
)

// jaasEntry is one login module of a JAAS configuration.
type jaasEntry struct {
	module  string
	flag    string
	options map[string]string
}

// parseJAAS parses entries of the form `MODULE FLAG name="value" … ;`, as
// sasl.jaas.config has them.
func parseJAAS(s string) ([]jaasEntry, error) {
	toks, err := jaasTokens(s)
	if err != nil {
		return nil, err
	}
	var entries []jaasEntry
	for len(toks) > 0 {
		end := 0
		for end < len(toks) && toks[end] != (jaasToken{text: ";"}) {
			end++
		}
		if end == len(toks) {
			return nil, errors.New("a JAAS entry must end with a semicolon")
		}
		e, toks2 := toks[:end], toks[end+1:]
		if len(e) < 2 {
			return nil, errors.New("a JAAS entry starts with a module and a flag (required)")
		}
		entry := jaasEntry{module: e[0].text, flag: strings.ToLower(e[1].text), options: map[string]string{}}
		switch entry.flag {
		case "required", "requisite", "sufficient", "optional":
		default:
			return nil, fmt.Errorf("%q is not a JAAS flag: required, requisite, sufficient, optional", e[1].text)
		}
		for e = e[2:]; len(e) > 0; e = e[3:] {
			if len(e) < 3 || e[1] != (jaasToken{text: "="}) {
				return nil, fmt.Errorf("a JAAS option has the form name=\"value\": see %q", e[0].text)
			}
			entry.options[e[0].text] = e[2].text
		}
		entries = append(entries, entry)
		toks = toks2
	}
	if len(entries) == 0 {
		return nil, errors.New("it is empty")
	}
	return entries, nil
}

// jaasSection returns the entries of a named section of a JAAS file:
// `NAME { entries };`.
func jaasSection(s, name string) (string, error) {
	toks, err := jaasTokens(s)
	if err != nil {
		return "", err
	}
	for i := 0; i+1 < len(toks); i++ {
		if toks[i].quoted || toks[i].text != name || toks[i+1] != (jaasToken{text: "{"}) {
			continue
		}
		var b strings.Builder
		for _, t := range toks[i+2:] {
			if t == (jaasToken{text: "}"}) {
				return b.String(), nil
			}
			if t.quoted {
				b.WriteString(` "` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(t.text) + `"`)
			} else {
				b.WriteString(" " + t.text)
			}
		}
		return "", fmt.Errorf("section %s has no closing brace", name)
	}
	return "", fmt.Errorf("there is no section %s", name)
}

type jaasToken struct {
	text   string
	quoted bool
}

// jaasTokens splits s as Java's StreamTokenizer is set up for JAAS files:
// words, quoted strings with backslash escapes, the signs = ; { }, and
// comments of C and C++.
func jaasTokens(s string) ([]jaasToken, error) {
	var toks []jaasToken
	for i := 0; i < len(s); {
		switch c := s[i]; {
		case c <= ' ':
			i++
		case strings.HasPrefix(s[i:], "//"):
			n := strings.IndexByte(s[i:], '\n')
			if n < 0 {
				return toks, nil
			}
			i += n
		case strings.HasPrefix(s[i:], "/*"):
			n := strings.Index(s[i:], "*/")
			if n < 0 {
				return nil, errors.New("a comment does not end")
			}
			i += n + 2
		case strings.IndexByte("=;{}", c) >= 0:
			toks = append(toks, jaasToken{text: s[i : i+1]})
			i++
		case c == '"' || c == '\'':
			var b strings.Builder
			for i++; ; i++ {
				if i >= len(s) {
					return nil, errors.New("a quoted value does not end")
				}
				if s[i] == c {
					break
				}
				if s[i] == '\\' && i+1 < len(s) {
					i++
				}
				b.WriteByte(s[i])
			}
			i++
			toks = append(toks, jaasToken{b.String(), true})
		default:
			j := i
			for j < len(s) && s[j] > ' ' && strings.IndexByte("=;{}\"'", s[j]) < 0 {
				j++
			}
			toks = append(toks, jaasToken{text: s[i:j]})
			i = j
		}
	}
	return toks, nil
}
