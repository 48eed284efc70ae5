package flumeconf

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strings"
	"time"
	"unicode/utf8"

	"golang.org/x/text/encoding/ianaindex"

	"github.com/sluice-data/sluice/internal/suggest"
)

// filterTimeout bounds one run of an external filter's command. Flume waits
// without end; an agent that hangs at its start helps nobody.
const filterTimeout = 30 * time.Second

// maxFilterOutput bounds what is read of a command's output.
const maxFilterOutput = 64 << 10

// FilterOptions says where config filters get their values.
type FilterOptions struct {
	// Env answers the env filter; nil leaves its references as they are.
	Env func(name string) (string, bool)
	// RunCommands permits external filters to run their commands. Without it
	// their references stay as they are, with a finding: a check of a file
	// must not run what the file says.
	RunCommands bool
}

// filterRef finds ${name[key]}, ${name['key']} and ${name["key"]}. RE2 has no
// back references, so each way of quoting is spelled out.
var filterRef = regexp.MustCompile(`\$\{([^\s\[\]{}$]+)\[(?:([-_a-zA-Z0-9]+)|'([-_a-zA-Z0-9]+)'|"([-_a-zA-Z0-9]+)")\]\}`)

func isFilterRef(text string) bool {
	if !strings.HasSuffix(text, "]}") {
		return false
	}
	loc := filterRef.FindStringIndex(text)
	return loc != nil && loc[0] == 0 && loc[1] == len(text)
}

// configFilter answers keys; ok is false where it has no value.
type configFilter func(ctx context.Context, key string) (val string, ok bool, err error)

// errNotRun marks a reference that was left alone on purpose.
var errNotRun = errors.New("the command is not run by a check")

// filterTypes are the names of the config filters, short and long; Flume takes
// the short ones in any case.
var filterTypes = []string{"env", "external", "hadoop"}

var filterClasses = map[string]string{
	"org.apache.flume.configfilter.environmentvariableconfigfilter":   "env",
	"org.apache.flume.configfilter.externalprocessconfigfilter":       "external",
	"org.apache.flume.configfilter.hadoopcredentialstoreconfigfilter": "hadoop",
}

// applyFilters replaces filter references in the sources, channels, sinks and
// sink groups of a. A filter without an answer leaves the reference.
func applyFilters(ctx context.Context, a *Agent, o FilterOptions) []Diagnostic {
	var ds []Diagnostic
	filters := make(map[string]configFilter)
	var names []string
	for i := range a.Filters {
		c := &a.Filters[i]
		names = append(names, c.Name)
		f, found := newFilter(c, o)
		ds = append(ds, found...)
		filters[c.Name] = f // nil where it could not be built: the finding stands at the filter
	}
	told := make(map[string]bool)
	for _, list := range [][]Component{a.Sources, a.Channels, a.Sinks, a.Groups} {
		for i := range list {
			for j := range list[i].Props {
				v := &list[i].Props[j].Value
				if !strings.Contains(v.Text, "[") {
					continue
				}
				v.Text = strings.TrimFunc(filterRef.ReplaceAllStringFunc(v.Text, func(ref string) string {
					m := filterRef.FindStringSubmatch(ref)
					name, key := m[1], m[2]+m[3]+m[4]
					f, known := filters[name]
					if !known {
						hint := suggest.Hint(name, names)
						if len(names) == 0 {
							hint = fmt.Sprintf("the agent has no %s.configfilters", a.Name)
						}
						ds = append(ds, v.At(Warning, hint, "%s is not replaced: no config filter is named %q", ref, name))
						return ref
					}
					if f == nil {
						ds = append(ds, v.Warnf("%s is not replaced: the config filter %q is not there", ref, name))
						return ref
					}
					val, ok, err := f(ctx, key)
					switch {
					case errors.Is(err, errNotRun):
						if !told[name] {
							told[name] = true
							ds = append(ds, v.At(Info, "", "%s is not replaced: %v", ref, err))
						}
						return ref
					case err != nil:
						ds = append(ds, v.Errorf("%s is not replaced: %v", ref, err))
						return ref
					case !ok:
						ds = append(ds, v.Warnf("%s is not replaced: the config filter %q has no value for %q", ref, name, key))
						return ref
					}
					return val
				}), isTrimmed)
			}
		}
	}
	for _, list := range [][]Component{a.Sources, a.Channels, a.Sinks} {
		for i := range list {
			list[i].Type, _ = list[i].Props.Get("type")
		}
	}
	return ds
}

// newFilter builds one config filter; nil with a finding where that fails.
func newFilter(c *Component, o FilterOptions) (configFilter, []Diagnostic) {
	typ := strings.ToLower(c.Type.Text)
	if short, ok := filterClasses[typ]; ok {
		typ = short
	}
	switch typ {
	case "env":
		if o.Env == nil {
			return nil, nil
		}
		return func(_ context.Context, key string) (string, bool, error) {
			val, ok := o.Env(key)
			return val, ok, nil
		}, unknownProps(c, "type")
	case "external":
		return newExternalFilter(c, o)
	case "hadoop":
		return nil, []Diagnostic{c.Type.Errorf("the config filter %q is refused: a Hadoop credential store is a Java keystore that is read by Hadoop's own classes", c.Name).
			WithHint("use the type external with the command that prints the credential, or env")}
	}
	return nil, []Diagnostic{c.Type.Errorf("unknown config filter type %q", c.Type.Text).
		WithHint(orElse(suggest.Hint(c.Type.Text, filterTypes), "the types are env and external"))}
}

func newExternalFilter(c *Component, o FilterOptions) (configFilter, []Diagnostic) {
	ds := unknownProps(c, "type", "command", "charset")
	command := c.Prop("command")
	argv := List(command)
	if len(argv) == 0 {
		return nil, append(ds, command.Errorf("the config filter %q has no command", c.Name).WithHint("write "+command.Key+" = /path/to/program"))
	}
	decode := func(b []byte) (string, error) {
		if !utf8.Valid(b) {
			return "", errors.New("the command's output is not UTF-8")
		}
		return string(b), nil
	}
	if cs, ok := c.Props.Get("charset"); ok && !strings.EqualFold(cs.Text, "UTF-8") {
		enc, err := ianaindex.IANA.Encoding(cs.Text)
		if err != nil || enc == nil {
			return nil, append(ds, cs.Errorf("unknown charset %q", cs.Text).WithHint("an IANA name such as UTF-8 or EUC-KR"))
		}
		decode = func(b []byte) (string, error) {
			s, err := enc.NewDecoder().Bytes(b)
			return string(s), err
		}
	}
	if !o.RunCommands {
		return func(context.Context, string) (string, bool, error) { return "", false, errNotRun }, ds
	}
	type answer struct {
		val string
		ok  bool
		err error
	}
	seen := make(map[string]answer) // one run per key, however often it is used
	return func(ctx context.Context, key string) (string, bool, error) {
		a, ok := seen[key]
		if !ok {
			a.val, a.ok, a.err = runFilter(ctx, argv, key, decode)
			seen[key] = a
		}
		return a.val, a.ok, a.err
	}, ds
}

// runFilter runs an external filter's command for one key. The first line of
// its output is the value. Errors never hold the output: it is a secret.
func runFilter(ctx context.Context, argv []string, key string, decode func([]byte) (string, error)) (string, bool, error) {
	ctx, cancel := context.WithTimeout(ctx, filterTimeout)
	defer cancel()
	args := append(argv[1:len(argv):len(argv)], key)
	cmd := exec.CommandContext(ctx, argv[0], args...)
	// A grandchild may hold the pipe open after the command has ended.
	cmd.WaitDelay = time.Second
	out := &limitedBuffer{max: maxFilterOutput}
	cmd.Stdout = out
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return "", false, fmt.Errorf("run %s: %w", argv[0], err)
	}
	if out.over {
		return "", false, fmt.Errorf("run %s: it printed more than %d bytes", argv[0], maxFilterOutput)
	}
	line, _, _ := bytes.Cut(out.buf, []byte("\n"))
	line = bytes.TrimSuffix(line, []byte("\r"))
	if len(line) == 0 {
		return "", false, nil
	}
	s, err := decode(line)
	if err != nil {
		return "", false, fmt.Errorf("decode the output of %s: %w", argv[0], err)
	}
	return s, true, nil
}

// limitedBuffer keeps the first max bytes and swallows the rest, so that a
// command that prints without end is not blocked but cut off by its deadline.
type limitedBuffer struct {
	buf  []byte
	max  int
	over bool
}

func (b *limitedBuffer) Write(p []byte) (int, error) {
	if room := b.max - len(b.buf); len(p) > room {
		b.buf, b.over = append(b.buf, p[:room]...), true
	} else {
		b.buf = append(b.buf, p...)
	}
	return len(p), nil
}

// unknownProps warns of properties that a config filter does not have.
func unknownProps(c *Component, known ...string) []Diagnostic {
	var ds []Diagnostic
	for _, e := range c.Props {
		found := false
		for _, k := range known {
			found = found || k == e.Name
		}
		if !found {
			ds = append(ds, e.Value.At(Warning, suggest.Hint(e.Name, known), "a config filter of type %s has no property %q", c.Type.Text, e.Name))
		}
	}
	return ds
}

func orElse(s, other string) string {
	if s != "" {
		return s
	}
	return other
}
