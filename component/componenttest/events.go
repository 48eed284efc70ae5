package componenttest

import (
	"strings"

	"github.com/sluice-data/sluice/event"
)

// Events makes events of bodies. What follows an @ in one is its timestamp
// header.
func Events(bodies ...string) (evs []event.Event) {
	for _, b := range bodies {
		body, header, _ := strings.Cut(b, "@")
		e := event.Event{Body: []byte(body)}
		if header != "" {
			e.Headers = []event.KV{{Key: "timestamp", Value: []byte(header)}}
		}
		evs = append(evs, e)
	}
	return evs
}
