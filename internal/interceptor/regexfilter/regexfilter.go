// Package regexfilter is the interceptor that keeps or drops events by a
// regular expression on their bodies.
package regexfilter

import (
	"log/slog"
	"sync"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "regex_filter",
		Classes: []string{"org.apache.flume.interceptor.RegexFilteringInterceptor$Builder", "org.apache.flume.interceptor.RegexFilteringInterceptor"},
		Doc:     "Keeps the events whose body matches a regular expression somewhere, or drops them.",
		Notes: "The expression has Java's syntax and meaning. Bodies are read as UTF-8; Flume reads them in the JVM's default charset. " +
			"An expression that takes too long on a body (look-around or back-references on hostile input) is given up there: the event is kept, and a warning says so.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	regex   string
	exclude bool
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("regex", &c.regex, ".*").AsType("regex").
			Describe("Java regular expression, found anywhere in the body. Mind that a backslash is written twice in an agent file."),
		component.Bool("excludeEvents", &c.exclude, false).Describe("Drop what matches instead of keeping it."),
	}
}

func (c *config) NewInterceptor(env component.Env) (component.Interceptor, error) {
	re, err := javaregex.Compile(c.regex, 0)
	if err != nil {
		return nil, &component.KeyError{Key: "regex", Err: err}
	}
	f := &interceptor{re: re, exclude: c.exclude, log: env.Log}
	f.keep = f.wanted
	return f, nil
}

type interceptor struct {
	re      *javaregex.Regexp
	exclude bool
	keep    func(*event.Event) bool // f.wanted, made once: a method value allocates
	log     *slog.Logger
	warn    sync.Once
}

func (f *interceptor) Intercept(b *event.Batch) error {
	b.Keep(f.keep)
	return nil
}

func (f *interceptor) wanted(e *event.Event) bool {
	before := f.re.GaveUp()
	if f.re.Match(e.Body) != f.exclude {
		return true
	}
	if f.re.GaveUp() != before {
		// Nobody knows whether it matches: losing it would be worse.
		f.warn.Do(func() {
			f.log.Warn("the expression was given up on an event, which is kept; write it without back-references or look-around", "regex", f.re.String())
		})
		return true
	}
	return false
}
