package regexextractor

import (
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/javatime"
)

func init() {
	component.RegisterPart(component.Info{
		Kind:    KindSerializer,
		Name:    "MILLIS",
		Classes: []string{"org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer"},
		Doc:     "Reads the group's text as a date and gives milliseconds since 1970.",
		Notes: "The short name is ours; Flume has the class name only. Texts are read as Joda-Time 2.9 does, in English; the letters G, C, x and w are refused. " +
			"Without a year in the pattern the date is in 2000, and without a date it is 1970-01-01. " +
			"Text that is no such date leaves the header as it was; Flume fails the batch and tries it for ever.",
	}, func() component.Config { return new(millisConfig) })
}

type millisConfig struct{ pattern *javatime.Joda }

func (c *millisConfig) Fields() []component.Field {
	return []component.Field{
		component.Value("pattern", &c.pattern, "string", "", javatime.ParseJoda).Require().
			Describe("Pattern of Joda-Time, such as yyyy-MM-dd HH:mm:ss; local time where it has no zone."),
	}
}

func (c *millisConfig) NewSerializer() (Serializer, error) { return millis{c.pattern}, nil }

type millis struct{ pattern *javatime.Joda }

func (m millis) Serialize(dst, text []byte) ([]byte, error) {
	ms, err := m.pattern.Millis(text, time.Local)
	if err != nil {
		return dst, err
	}
	return strconv.AppendInt(dst, ms, 10), nil
}
