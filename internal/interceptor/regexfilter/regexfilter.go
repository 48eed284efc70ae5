// Package regexfilter is the interceptor that keeps or drops events by a
// regular expression on their bodies.
package regexfilter

import (
	"sync"
	"sync/atomic"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/interceptor/condition"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "regex_filter",
		Classes: []string{"org.apache.flume.interceptor.RegexFilteringInterceptor$Builder", "org.apache.flume.interceptor.RegexFilteringInterceptor"},
		Doc:     "Keeps the events whose body matches a regular expression somewhere, or drops them.",
		Notes: "The expression has Java's syntax and meaning. Bodies are read as UTF-8; Flume reads them in the JVM's default charset. " +
			"An expression that takes too long on a body (look-around or back-references on hostile input) is given up there: the event is kept, " +
			"with `excludeEvents` too, EventGivenUpCount counts it, and health says so until a batch has none.",
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
	f := &interceptor{re: re, exclude: c.exclude, gaveUp: env.Metrics.Counter("EventGivenUpCount"), condition: condition.New(env)}
	f.filters.New = func() any {
		p := &filter{interceptor: f}
		p.keep = p.wanted // made once: a method value allocates
		return p
	}
	return f, nil
}

type interceptor struct {
	re        *javaregex.Regexp
	exclude   bool
	gaveUp    *atomic.Int64
	condition *condition.Reporter
	filters   sync.Pool // *filter
}

// filter is what one batch needs.
type filter struct {
	*interceptor
	keep    func(*event.Event) bool
	unknown int // events on which the expression was given up
}

func (f *interceptor) Intercept(b *event.Batch) error {
	p := f.filters.Get().(*filter)
	p.unknown = 0
	b.Keep(p.keep)
	var err error
	if p.unknown > 0 {
		f.gaveUp.Add(int64(p.unknown))
		err = condition.GaveUp(f.re.String(), "which are kept")
	}
	f.condition.Batch(err)
	f.filters.Put(p)
	return nil
}

func (p *filter) wanted(e *event.Event) bool {
	matched, decided := p.re.TryMatch(e.Body)
	if !decided {
		p.unknown++
		return true // losing it would be worse
	}
	return matched != p.exclude
}
