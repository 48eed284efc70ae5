// Package regexextractor is the interceptor that copies the groups of a
// regular expression into headers.
package regexextractor

import (
	"fmt"
	"strings"
	"sync"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/suggest"
)

// KindSerializer is the kind of what turns a group's text into a header value.
const KindSerializer component.Kind = "regex-extractor-serializer"

// Serializer turns the text of a group into a header's value: a part of text,
// or bytes that it allocates in b.
type Serializer interface {
	Serialize(b *event.Batch, text []byte) ([]byte, error)
}

// SerializerConfig is a Serializer's configuration.
type SerializerConfig interface {
	component.Config
	NewSerializer() (Serializer, error)
}

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "regex_extractor",
		Classes: []string{"org.apache.flume.interceptor.RegexExtractorInterceptor$Builder", "org.apache.flume.interceptor.RegexExtractorInterceptor"},
		Doc:     "Copies the groups of a regular expression's first match in the body into headers.",
		Notes: "The expression has Java's syntax and meaning. A group that takes no part in the match gives a null header, as in Flume. " +
			"The serializer type `default` may be written in any case; Flume's own guide writes it in a way that Flume refuses.",
	}, func() component.InterceptorConfig { return new(config) })
	component.RegisterPart(component.Info{
		Kind:    KindSerializer,
		Name:    "DEFAULT",
		Classes: []string{"org.apache.flume.interceptor.RegexExtractorInterceptorPassThroughSerializer"},
		Doc:     "Takes the group's text as it is.",
	}, func() component.Config { return passThrough{} })
}

type config struct {
	regex       string
	serializers []string
	settings    map[string]string
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("regex", &c.regex, "").Require().AsType("regex").
			Describe("Java regular expression, found anywhere in the body, read as UTF-8. Mind that a backslash is written twice in an agent file."),
		component.List("serializers", &c.serializers).Require().
			Describe("Names of serializers: the n-th gets the n-th group. Groups without one are left."),
		component.Map("serializers.", &c.settings).
			Describe("`serializers.S.name` (required): the header. `serializers.S.type`: DEFAULT, or a class name; what else the serializer needs stands beside it."),
	}
}

func (c *config) NewInterceptor(env component.Env) (component.Interceptor, error) {
	re, err := javaregex.Compile(c.regex, 0)
	if err != nil {
		return nil, &component.KeyError{Key: "regex", Err: err}
	}
	if re.NumGroups() == 0 {
		return nil, &component.KeyError{Key: "regex", Err: fmt.Errorf("%q has no group: nothing would be extracted", c.regex), Hint: "put what is to become a header in parentheses"}
	}
	x := &interceptor{re: re}
	for _, name := range c.serializers {
		t, err := c.target(name, env)
		if err != nil {
			return nil, err
		}
		x.targets = append(x.targets, t)
	}
	if n := re.NumGroups(); len(x.targets) > n {
		env.Log.Warn("there are more serializers than groups: the last ones get nothing", "serializers", len(x.targets), "groups", n)
		x.targets = x.targets[:n]
	}
	return x, nil
}

// target builds the n-th serializer from its properties.
func (c *config) target(name string, env component.Env) (target, error) {
	prefix := "serializers." + name + "."
	typ, header := "DEFAULT", ""
	var props []component.Property
	for k, v := range c.settings {
		if rest, ok := strings.CutPrefix(k, name+"."); ok {
			switch rest {
			case "type":
				typ = v
			case "name":
				header = v
			default:
				props = append(props, component.Property{Key: rest, Value: v})
			}
		}
	}
	if header == "" {
		return target{}, &component.KeyError{Key: prefix + "name", Err: fmt.Errorf("required, but not set"), Hint: "the header that the group goes to"}
	}
	reg := component.Default()
	t, ok := reg.Lookup(KindSerializer, strings.TrimSpace(typ))
	if !ok {
		return target{}, &component.KeyError{Key: prefix + "type", Err: fmt.Errorf("unknown %s %q", KindSerializer, typ), Hint: suggest.Hint(typ, reg.Names(KindSerializer))}
	}
	cfg, ok := t.New().(SerializerConfig)
	if !ok {
		return target{}, fmt.Errorf("%s %q: its configuration has no NewSerializer", KindSerializer, typ)
	}
	for _, f := range component.Decode(reg, cfg, props) {
		if f.Error {
			return target{}, &component.KeyError{Key: prefix + f.Key, Err: fmt.Errorf("%s", f.Message), Hint: f.Hint}
		}
		env.Log.Warn(f.Message, "key", prefix+f.Key, "hint", f.Hint)
	}
	s, err := cfg.NewSerializer()
	if err != nil {
		return target{}, err
	}
	if _, plain := s.(passThrough); plain {
		s = nil
	}
	return target{header: header, serializer: s}, nil
}

type target struct {
	header     string
	serializer Serializer // nil: the text as it is
}

type interceptor struct {
	re      *javaregex.Regexp
	targets []target
	scratch sync.Pool // *[]int
}

func (x *interceptor) Intercept(b *event.Batch) error {
	at, _ := x.scratch.Get().(*[]int)
	if at == nil {
		at = new([]int)
	}
	defer x.scratch.Put(at)
	for i := range b.Events() {
		body := b.Events()[i].Body
		m := x.re.FindSubmatch(body, (*at)[:0])
		if m == nil {
			continue
		}
		*at = m
		for g, t := range x.targets {
			from, to := m[2*g+2], m[2*g+3]
			if from < 0 {
				b.SetHeaderView(i, t.header, nil)
				continue
			}
			value := body[from:to:to]
			if t.serializer != nil {
				var err error
				if value, err = t.serializer.Serialize(b, value); err != nil {
					return fmt.Errorf("header %s: %w", t.header, err)
				}
			}
			b.SetHeaderView(i, t.header, value)
		}
	}
	return nil
}

// passThrough takes the text as it is.
type passThrough struct{}

func (passThrough) Fields() []component.Field                             { return nil }
func (passThrough) NewSerializer() (Serializer, error)                    { return passThrough{}, nil }
func (passThrough) Serialize(_ *event.Batch, text []byte) ([]byte, error) { return text, nil }
