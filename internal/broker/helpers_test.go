package broker

import (
	"context"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// patience only ends a test that hangs: a machine under load may take many seconds for anything.
const patience = 3 * time.Minute

// startAgain is Start for a broker that comes back at the address that it had:
// meanwhile a connection of any process may have got the port for a moment.
func startAgain(cfg Config) (b *Broker, err error) {
	for end := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		b, err = Start(context.Background(), cfg)
		if err == nil || !strings.Contains(err.Error(), "port is in use") || time.Now().After(end) {
			return b, err
		}
	}
}

// versionsUpTo is what a new client speaks, but for the APIs named.
const maxAPIKey = 127

func versionsUpTo(limits map[string]int16) *kversion.Versions {
	v := kversion.Stable()
	for name, max := range limits {
		for key := int16(0); key <= maxAPIKey; key++ {
			if kmsg.NameForKey(key) == name {
				v.SetMaxKeyVersion(key, max)
			}
		}
	}
	return v
}
