package flumeconf

import (
	"errors"
	"fmt"
	"os"
	"os/user"
	"runtime"
	"strings"
	"unicode"
)

// Bounds on substitution. They are far above what people write and keep a
// file of a few lines from eating the memory of the machine.
const (
	maxValue   = 1 << 20  // bytes of one value after substitution
	maxTotal   = 16 << 20 // bytes of all substituted values, and of all text looked through
	maxNesting = 32       // variables inside variables
)

// EnvVarResolver is the value of the system property propertiesImplementation
// that turns on plain ${NAME} for environment variables.
const EnvVarResolver = "org.apache.flume.node.EnvVarResolverProperties"

// Lookups are the sources of substituted values. The zero value knows other
// properties only.
type Lookups struct {
	// Env answers ${env:NAME}, for example os.LookupEnv.
	Env func(name string) (string, bool)
	// Sys answers ${sys:NAME}: the -Dname=value options over
	// SystemProperties.
	Sys map[string]string
	// Date answers ${date:PATTERN}, the time now in Java's SimpleDateFormat
	// notation.
	Date func(pattern string) (string, error)
}

// SystemProperties returns those properties of a Java VM that have a meaning
// without one, with over (-D options) laid on top.
func SystemProperties(over map[string]string) map[string]string {
	m := map[string]string{
		"file.separator": string(os.PathSeparator),
		"path.separator": string(os.PathListSeparator),
		"line.separator": "\n",
		"java.io.tmpdir": os.TempDir(),
		"os.arch":        runtime.GOARCH,
		"os.name":        map[string]string{"linux": "Linux", "darwin": "Mac OS X"}[runtime.GOOS],
	}
	if runtime.GOOS == "windows" {
		m["line.separator"] = "\r\n"
	}
	if m["os.name"] == "" {
		delete(m, "os.name")
	}
	if dir, err := os.Getwd(); err == nil {
		m["user.dir"] = dir
	}
	if dir, err := os.UserHomeDir(); err == nil {
		m["user.home"] = dir
	}
	if u, err := user.Current(); err == nil {
		m["user.name"] = u.Username
	}
	for k, v := range over {
		m[k] = v
	}
	return m
}

// Substitute returns p with the ${…} in every value replaced, and a finding
// for each one that stays as it is. Names are looked up as Flume 1.10+ does:
//
//	${env:X} ${sys:X} ${date:P}  environment, system property, time now
//	${other.key}                 another property of any file
//	${…:-default}                default of the one before
//	$${…}                        the text ${…} itself
//
// Variables may stand inside variables. A prefixed name that is not found, and
// any unknown prefix, falls back to the property named by the rest. In Flume a
// reference to another property works or not depending on hash order; here it
// always works, and properties that refer to each other in a circle are an
// error.
func (p *Properties) Substitute(l Lookups) (*Properties, []Diagnostic) {
	s := &substituter{in: p, lookups: l, done: make(map[string]string, len(p.entries)), busy: make(map[string]bool), told: make(map[string]bool)}
	s.envFallback = l.Sys["propertiesImplementation"] == EnvVarResolver
	if file := l.Sys["lookups"]; file != "" {
		s.ds = append(s.ds, Diagnostic{Severity: Warning, Message: fmt.Sprintf("-Dlookups=%s has no effect", file), Hint: "the lookups are env, sys and date"})
	}
	out := &Properties{entries: make([]Property, 0, len(p.entries)), index: make(map[string]int, len(p.entries)), used: make(map[string]bool)}
	s.used = out.used
	for _, e := range p.entries {
		v := e.Value
		v.Text = s.property(v)
		out.set(v)
	}
	return out, s.ds
}

type substituter struct {
	in          *Properties
	lookups     Lookups
	envFallback bool
	done        map[string]string // key → final text
	busy        map[string]bool   // keys being resolved: a circle ends here
	used        map[string]bool
	total, work int
	told        map[string]bool // key and variable of findings: each once
	ds          []Diagnostic
	cur         Value // the property that findings are about
}

var (
	errCircle  = errors.New("refers to itself")
	errTooLong = fmt.Errorf("grows over %d bytes", maxValue)
	errTooMuch = errors.New("takes too many substitutions")
	errTooDeep = fmt.Errorf("nests variables more than %d deep", maxNesting)
)

// property resolves v's value once. On a broken reference the value stays as
// the file has it.
func (s *substituter) property(v Value) string {
	if t, ok := s.done[v.Key]; ok {
		return t
	}
	if !strings.Contains(v.Raw, "${") {
		s.done[v.Key] = v.Raw
		return v.Raw
	}
	outer := s.cur
	s.cur = v
	s.busy[v.Key] = true
	text, err := s.expand(v.Raw, nil)
	delete(s.busy, v.Key)
	if err != nil {
		s.ds = append(s.ds, v.Errorf("value %v", err).WithHint("the value stays as written"))
		text = v.Raw
	}
	if s.total += len(text); s.total > maxTotal {
		s.ds = append(s.ds, v.Errorf("the substituted values together grow over %d bytes", maxTotal).WithHint("the value stays as written"))
		text = v.Raw
	}
	s.cur = outer
	s.done[v.Key] = text
	return text
}

// expand replaces the variables of text. stack holds the names being expanded
// round it: an environment variable may hold variables too, in a circle even.
// It follows StringSubstitutor of commons-text with substitution in variables.
func (s *substituter) expand(text string, stack []string) (string, error) {
	if len(stack) > maxNesting {
		return "", errTooDeep
	}
	// Defaults inside defaults double the work at every level.
	if s.work += len(text); s.work > maxTotal {
		return "", errTooMuch
	}
	var out strings.Builder
	for i := 0; i < len(text); {
		next := strings.Index(text[i:], "${")
		if next < 0 {
			out.WriteString(text[i:])
			break
		}
		out.WriteString(text[i : i+next])
		i += next
		if i > 0 && text[i-1] == '$' {
			// $${ is an escaped ${: drop the first $, which is already out.
			out.WriteString("{")
			i += 2
			continue
		}
		end := closing(text, i+2)
		if end < 0 { // never closed: Flume takes the rest as it stands
			s.ds = append(s.ds, s.cur.Warnf("%q is not closed by }", abbreviate(text[i:])))
			out.WriteString(text[i:])
			break
		}
		expr, err := s.inner(text[i+2:end], stack)
		if err != nil {
			return "", err
		}
		name, dflt, hasDflt := strings.Cut(expr, ":-")
		val, ok, err := s.lookup(name, stack)
		if err != nil {
			return "", err
		}
		if !ok && hasDflt {
			if val, err = s.nested(name, dflt, stack); err != nil {
				return "", err
			}
			ok = true
		}
		if ok {
			out.WriteString(val)
		} else {
			s.unresolved(name, text[i:end+1])
			out.WriteString(text[i : end+1])
		}
		if out.Len() > maxValue {
			return "", errTooLong
		}
		i = end + 1
	}
	return out.String(), nil
}

// inner expands the text between the braces, where variables may stand too.
func (s *substituter) inner(expr string, stack []string) (string, error) {
	if !strings.Contains(expr, "${") {
		return expr, nil
	}
	return s.nested("", expr, stack)
}

// nested expands text that came out of the variable name.
func (s *substituter) nested(name, text string, stack []string) (string, error) {
	if !strings.Contains(text, "${") {
		return text, nil
	}
	if name != "" {
		for _, n := range stack {
			if n == name {
				return "", fmt.Errorf("%w through ${%s}", errCircle, name)
			}
		}
	}
	return s.expand(text, append(stack[:len(stack):len(stack)], name))
}

// closing finds the brace that closes the variable whose name begins at i.
func closing(text string, i int) int {
	depth := 0
	for {
		next := strings.IndexAny(text[i:], "$}")
		if next < 0 {
			return -1
		}
		i += next
		switch {
		case strings.HasPrefix(text[i:], "${"):
			depth++
			i++
		case text[i] == '}' && depth == 0:
			return i
		case text[i] == '}':
			depth--
		}
		i++
	}
}

// lookup resolves one name. Text from the environment or a system property is
// expanded again, as in Flume; a property's text is final already.
func (s *substituter) lookup(name string, stack []string) (string, bool, error) {
	rest := name
	if prefix, arg, ok := strings.Cut(name, ":"); ok {
		rest = arg
		val, found := "", false
		switch strings.ToLower(prefix) {
		case "env":
			if s.lookups.Env != nil {
				val, found = s.lookups.Env(arg)
			}
		case "sys":
			val, found = s.lookups.Sys[arg]
		case "date":
			if s.lookups.Date != nil {
				text, err := s.lookups.Date(arg)
				if err != nil {
					return "", false, fmt.Errorf("has a bad ${date:%s}: %w", arg, err)
				}
				return text, true, nil
			}
		}
		if found {
			val, err := s.nested(name, val, stack)
			return val, true, err
		}
	}
	if v, ok := s.in.Get(rest); ok {
		if s.busy[rest] {
			return "", false, fmt.Errorf("%w through ${%s}", errCircle, name)
		}
		if len(s.busy) > maxNesting {
			return "", false, errTooDeep
		}
		s.used[rest] = true
		return s.property(v), true, nil
	}
	if s.envFallback && s.lookups.Env != nil {
		if val, ok := s.lookups.Env(rest); ok {
			val, err := s.nested(name, val, stack)
			return val, true, err
		}
	}
	return "", false, nil
}

// unresolved says why a variable stays as it is, unless it is a reference to a
// config filter, whose turn comes later.
func (s *substituter) unresolved(name, text string) {
	id := s.cur.Key + "\x00" + text
	if isFilterRef(text) || s.told[id] {
		return
	}
	s.told[id] = true
	hint := ""
	prefix, arg, prefixed := strings.Cut(name, ":")
	switch {
	case prefixed && strings.EqualFold(prefix, "env"):
		hint = fmt.Sprintf("set the environment variable %s, or write ${%s:-default}", arg, name)
	case prefixed && strings.EqualFold(prefix, "sys"):
		hint = fmt.Sprintf("pass -D%s=value, or write ${%s:-default}", arg, name)
	case prefixed && strings.EqualFold(prefix, "java"):
		hint = "there is no Java VM to describe"
	case prefixed:
		hint = "the lookups are env, sys and date"
	case s.envFallback:
		hint = "neither a property nor an environment variable has this name"
	case isName(name):
		hint = fmt.Sprintf("no property has this name; for an environment variable write ${env:%s}", name)
	default:
		hint = "no property has this name"
	}
	s.ds = append(s.ds, s.cur.At(Warning, hint, "%s is not replaced", abbreviate(text)))
}

// isName reports whether s may be the name of an environment variable.
func isName(s string) bool {
	return s != "" && !strings.ContainsFunc(s, func(r rune) bool {
		return r != '_' && !unicode.IsLetter(r) && !unicode.IsDigit(r)
	})
}
