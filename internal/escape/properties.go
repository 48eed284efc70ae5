package escape

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
)

// Properties are those of a sink that say how time escapes are expanded.
type Properties struct {
	prefix     string
	round      bool
	value      int
	unit, zone string
	local      bool
}

// Fields declares the properties, with what stands before their names and the default of roundUnit.
func (p *Properties) Fields(prefix, unit string) []component.Field {
	p.prefix = prefix
	return []component.Field{
		component.Bool(prefix+"round", &p.round, false).Describe("Round the time in escapes down."),
		component.Int(prefix+"roundValue", &p.value, 1).Describe("To a multiple of so many units."),
		component.Enum(prefix+"roundUnit", &p.unit, unit, "second", "minute", "hour").Lenient().Describe("The unit."),
		component.String(prefix+"timeZone", &p.zone, "").Describe("The zone of escapes, America/Los_Angeles for example; else that of the host."),
		component.Bool(prefix+"useLocalTimeStamp", &p.local, false).Describe("Take the time of the write in place of the timestamp header."),
	}
}

// Options are what the properties say; an error is a *component.KeyError.
func (p *Properties) Options() (Options, error) {
	o := Options{LocalTime: p.local}
	if p.zone != "" {
		loc, err := time.LoadLocation(p.zone)
		if err != nil {
			return o, &component.KeyError{Key: p.prefix + "timeZone", Err: err}
		}
		o.Location = loc
	}
	if !p.round {
		return o, nil
	}
	o.Round = p.value
	limit := 60
	switch strings.ToLower(p.unit) {
	case "second":
		o.Unit = time.Second
	case "minute":
		o.Unit = time.Minute
	case "hour":
		o.Unit, limit = time.Hour, 24
	}
	if p.value < 1 || p.value > limit {
		return o, &component.KeyError{Key: p.prefix + "roundValue", Err: fmt.Errorf("%d is not between 1 and %d", p.value, limit)}
	}
	return o, nil
}
