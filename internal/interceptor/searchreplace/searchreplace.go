// Package searchreplace is the interceptor that rewrites bodies by a regular
// expression.
package searchreplace

import (
	"fmt"
	"sync"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/charset"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "search_replace",
		Classes: []string{"org.apache.flume.interceptor.SearchAndReplaceInterceptor$Builder", "org.apache.flume.interceptor.SearchAndReplaceInterceptor"},
		Doc:     "Replaces every match of a regular expression in the body.",
		Notes:   "Bytes that are not valid in the charset are kept where nothing matches; Flume replaces them with a question mark or U+FFFD.",
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

func (c *config) NewInterceptor(component.Env) (component.Interceptor, error) {
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
	return &interceptor{re: re, tmpl: tmpl, charset: cs}, nil
}

type interceptor struct {
	re      *javaregex.Regexp
	tmpl    *javaregex.Template
	charset *charset.Charset
	scratch sync.Pool // *buffers
}

type buffers struct{ text, out, encoded []byte }

func (r *interceptor) Intercept(b *event.Batch) error {
	s, _ := r.scratch.Get().(*buffers)
	if s == nil {
		s = new(buffers)
	}
	defer r.scratch.Put(s)
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
		if s.out, n = r.re.ReplaceAll(s.out[:0], text, r.tmpl); n == 0 {
			continue
		}
		body := s.out
		if !r.charset.IsUTF8() {
			s.encoded = r.charset.AppendText(s.encoded[:0], s.out)
			body = s.encoded
		}
		b.SetBody(i, body)
	}
	return nil
}
