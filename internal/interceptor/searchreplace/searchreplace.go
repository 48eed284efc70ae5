// Package searchreplace is the interceptor that rewrites bodies by a regular
// expression.
package searchreplace

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/interceptor/condition"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "search_replace",
		Classes: []string{"org.apache.flume.interceptor.SearchAndReplaceInterceptor$Builder", "org.apache.flume.interceptor.SearchAndReplaceInterceptor"},
		Doc:     "Replaces every match of a regular expression in the body.",
		Notes: "The expression and the replacement have Java's syntax and meaning. A body without a match stays as it is, byte by byte, and so does, in UTF-8, what is between matches; " +
			"Flume makes a question mark or U+FFFD of bytes that are not valid in the charset. A replacement that names a group which the expression has not is an error at the start, in Flume at the first match. " +
			"An expression that takes too long on a body (look-around or back-references on hostile input) is given up there: the body stays as it is, EventGivenUpCount counts it, and health says so until a batch has none.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct{ search, replace, charset string }

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("searchPattern", &c.search, "").Require().AsType("regex").Describe("Java regular expression to search for."),
		component.String("replaceString", &c.replace, "").Describe(`What takes its place: $1 and ${name} are groups, a backslash takes the next character as it is. Empty: matches are deleted.`),
		component.String("charset", &c.charset, "UTF-8").Describe("How the body is encoded."),
	}
}

func (c *config) NewInterceptor(env component.Env) (component.Interceptor, error) {
	re, err := javaregex.Compile(c.search, 0)
	if err != nil {
		return nil, &component.KeyError{Key: "searchPattern", Err: err}
	}
	tmpl, err := re.ParseReplacement(c.replace)
	if err != nil {
		return nil, &component.KeyError{Key: "replaceString", Err: err}
	}
	cs, err := charset.Lookup(c.charset)
	if err != nil {
		return nil, &component.KeyError{Key: "charset", Err: err}
	}
	return &interceptor{re: re, tmpl: tmpl, charset: cs, gaveUp: env.Metrics.Counter("EventGivenUpCount"), condition: condition.New(env)}, nil
}

type interceptor struct {
	re        *javaregex.Regexp
	tmpl      *javaregex.Template
	charset   *charset.Charset
	gaveUp    *atomic.Int64
	condition *condition.Reporter
	scratch   sync.Pool // *buffers
}

type buffers struct{ text, out, encoded []byte }

// maxKept bounds the buffers that wait for the next batch.
const maxKept = 1 << 20

func (r *interceptor) Intercept(b *event.Batch) error {
	s, _ := r.scratch.Get().(*buffers)
	if s == nil {
		s = new(buffers)
	}
	defer func() {
		if cap(s.text)+cap(s.out)+cap(s.encoded) <= maxKept {
			r.scratch.Put(s)
		}
	}()
	gaveUp := 0
	for i := range b.Events() {
		text := b.Events()[i].Body
		if !r.charset.IsUTF8() {
			var err error
			if s.text, err = r.charset.AppendUTF8(s.text[:0], text, charset.Replace); err != nil {
				return fmt.Errorf("decode the body as %s: %w", r.charset.Name(), err)
			}
			text = s.text
		}
		var n int
		var decided bool
		if s.out, n, decided = r.re.TryReplaceAll(s.out[:0], text, r.tmpl); !decided {
			gaveUp++ // half a replacement would be worse than none
			continue
		}
		if n == 0 {
			continue
		}
		body := s.out
		if !r.charset.IsUTF8() {
			s.encoded = r.charset.AppendText(s.encoded[:0], s.out)
			body = s.encoded
		}
		b.SetBody(i, body)
	}
	var err error
	if gaveUp > 0 {
		r.gaveUp.Add(int64(gaveUp))
		err = condition.GaveUp(r.re.String(), "whose bodies stay as they are")
	}
	r.condition.Batch(err)
	return nil
}
