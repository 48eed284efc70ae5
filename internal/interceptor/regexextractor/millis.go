package regexextractor

import (
	"fmt"
	"strconv"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javatime"
)

func init() {
	component.RegisterPart(component.Info{
		Kind:    KindSerializer,
		Name:    "MILLIS",
		Classes: []string{"org.apache.flume.interceptor.RegexExtractorInterceptorMillisSerializer"},
		Doc:     "Reads the group's text as a date and gives milliseconds since 1970.",
		Notes:   "The short name is ours; Flume has the class name only. Text that is no such date fails the batch, as in Flume, which then tries it for ever.",
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

func (m millis) Serialize(b *event.Batch, text []byte) ([]byte, error) {
	t, err := m.pattern.Time(string(text), time.Local)
	if err != nil {
		return nil, fmt.Errorf("make milliseconds: %w", err)
	}
	var buf [20]byte
	return b.Copy(strconv.AppendInt(buf[:0], t.UnixMilli(), 10)), nil
}
