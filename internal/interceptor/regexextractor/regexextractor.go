// Package regexextractor is the interceptor that copies the groups of a
// regular expression into headers.
package regexextractor

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/interceptor/condition"
	"github.com/sluice-data/sluice/internal/javaregex"
	"github.com/sluice-data/sluice/internal/suggest"
)

// KindSerializer is the kind of what turns a group's text into a header value.
const KindSerializer component.Kind = "regex-extractor-serializer"

// Serializer turns the text of a group into a header's value, which it appends
// to dst. The same text gives the same value. It must be safe for concurrent use.
type Serializer interface {
	Serialize(dst, text []byte) ([]byte, error)
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
			"The serializer type `default` may be written in any case; Flume's own guide writes it in a way that Flume refuses.\n\n" +
			"Where a serializer other than `DEFAULT` has nothing to work on (the group took no part in the match) or cannot read the text, the header stays as it was before, " +
			"so that an interceptor ahead of this one may set a value to fall back on. In Flume such an event fails its whole batch, for ever. " +
			"Texts that cannot be read are counted in EventUnreadableCount, and health names the first one until a batch has none.\n\n" +
			"An expression that takes too long on a body (look-around or back-references on hostile input) is given up there: the event stays as it is, EventGivenUpCount counts it, and health says so until a batch has none.",
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
		env.Log.Warn("the expression has no group, so no header is ever set: put what is to become a header in parentheses", "regex", c.regex)
	}
	if len(c.serializers) == 0 {
		return nil, &component.KeyError{Key: "serializers", Err: errors.New("the list is empty"), Hint: "one name for each group"}
	}
	x := &interceptor{re: re, distinct: true, condition: condition.New(env),
		gaveUp: env.Metrics.Counter("EventGivenUpCount"), unreadable: env.Metrics.Counter("EventUnreadableCount")}
	for _, name := range c.serializers {
		t, err := c.target(name, env)
		if err != nil {
			return nil, err
		}
		for _, other := range x.targets {
			x.distinct = x.distinct && other.header != t.header
		}
		x.targets = append(x.targets, t)
	}
	if n := re.NumGroups(); len(x.targets) > n && n > 0 {
		env.Log.Warn("there are more serializers than groups: the last ones get nothing", "serializers", len(x.targets), "groups", n)
	}
	x.targets = x.targets[:min(len(x.targets), re.NumGroups())]
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
	re         *javaregex.Regexp
	targets    []target
	distinct   bool // the targets have different headers
	condition  *condition.Reporter
	gaveUp     *atomic.Int64
	unreadable *atomic.Int64
	scratch    sync.Pool // *scratch
}

// scratch is what one batch needs.
type scratch struct {
	loc     []int
	headers []event.KV // of one event
	memos   []memo     // by target
	buf     []byte
}

// memo is what a serializer made last: neighbours often have the same time.
// Both are in the batch's memory.
type memo struct{ text, value []byte }

func (x *interceptor) Intercept(b *event.Batch) error {
	s, _ := x.scratch.Get().(*scratch)
	if s == nil {
		s = &scratch{memos: make([]memo, len(x.targets))}
	}
	gaveUp, unreadable := 0, 0
	var first error
	for i := range b.Events() {
		body := b.Events()[i].Body
		loc, decided := x.re.TryFindSubmatch(body, s.loc[:0])
		if loc == nil {
			if !decided {
				gaveUp++
			}
			continue
		}
		s.loc = loc
		headers := s.headers[:0]
		for g := range x.targets {
			t := &x.targets[g]
			var value []byte // nil: null, as in Flume
			if from, to := loc[2*g+2], loc[2*g+3]; from >= 0 {
				value = body[from:to:to]
			}
			if t.serializer != nil {
				if value == nil {
					continue
				}
				var err error
				if value, err = s.serialize(b, g, t.serializer, value); err != nil {
					if unreadable++; first == nil {
						first = fmt.Errorf("header %s stays as it was on some events: %w; let the expression match only what can be read", t.header, err)
					}
					continue
				}
			}
			headers = append(headers, event.KV{Key: t.header, Value: value})
		}
		s.headers = headers
		if x.distinct {
			b.SetHeaders(i, headers)
			continue
		}
		for _, h := range headers {
			b.SetHeaderView(i, h.Key, h.Value)
		}
	}
	clear(s.memos) // they are the batch's
	clear(s.headers[:cap(s.headers)])
	x.scratch.Put(s)
	if unreadable > 0 {
		x.unreadable.Add(int64(unreadable))
	}
	if gaveUp > 0 {
		x.gaveUp.Add(int64(gaveUp))
		if first == nil {
			first = condition.GaveUp(x.re.String(), "which get no headers")
		}
	}
	x.condition.Batch(first)
	return nil
}

func (s *scratch) serialize(b *event.Batch, target int, ser Serializer, text []byte) ([]byte, error) {
	m := &s.memos[target]
	if m.value != nil && bytes.Equal(m.text, text) {
		return m.value, nil
	}
	var err error
	if s.buf, err = ser.Serialize(s.buf[:0], text); err != nil {
		return nil, err
	}
	m.text, m.value = text, b.Copy(s.buf)
	return m.value, nil
}

// passThrough takes the text as it is.
type passThrough struct{}

func (passThrough) Fields() []component.Field                  { return nil }
func (passThrough) NewSerializer() (Serializer, error)         { return passThrough{}, nil }
func (passThrough) Serialize(dst, text []byte) ([]byte, error) { return append(dst, text...), nil }
