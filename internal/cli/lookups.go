package cli

import (
	"os"
	"time"

	"github.com/sluice-data/sluice/internal/flumeconf"
	"github.com/sluice-data/sluice/internal/javatime"
)

// lookups answers the ${…} of agent files from this process: its environment,
// its -D options and its clock.
func lookups(properties map[string]string) flumeconf.Lookups {
	return flumeconf.Lookups{
		Env: os.LookupEnv,
		Sys: flumeconf.SystemProperties(properties),
		Date: func(pattern string) (string, error) {
			f, err := javatime.Parse(pattern)
			if err != nil {
				return "", err
			}
			return f.Format(time.Now()), nil
		},
	}
}
