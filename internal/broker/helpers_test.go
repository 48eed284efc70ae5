package broker

import (
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"
)

// patience only ends a test that hangs: a machine under load may take many seconds for anything.
const patience = 3 * time.Minute

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
