package flumeconf

import (
	"fmt"
	"io"
	"os"

	"github.com/sluice-data/sluice/internal/suggest"
)

// maxFile bounds a configuration file. The largest in the wild are a few
// hundred kilobytes; a device or a log file given by mistake has no end.
const maxFile = 16 << 20

// Load reads the files in order, merges them (the last file wins per key),
// substitutes variables and sorts the result into agents. The findings of all
// steps come back together, in the order of the files' lines. The error is
// that of a file that cannot be read; nothing else is fatal here.
func Load(paths []string, l Lookups) (*Config, []Diagnostic, error) {
	var ds []Diagnostic
	var files []*Properties
	for _, path := range paths {
		data, err := readFile(path)
		if err != nil {
			return nil, nil, err
		}
		p, found := Parse(path, data)
		files = append(files, p)
		ds = append(ds, found...)
	}
	merged, found := Merge(files...).Substitute(l)
	ds = append(ds, found...)
	c, found := NewConfig(merged)
	ds = append(ds, found...)
	ds = append(ds, c.strays()...)
	SortDiagnostics(ds)
	return c, ds, nil
}

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	if len(data) > maxFile {
		return nil, fmt.Errorf("read configuration %s: it is larger than %d MiB, which no agent file is", path, maxFile>>20)
	}
	return data, nil
}

// strays warns of prefixes that are no runnable agent while another is: most
// often a misspelt name, whose properties then reach nobody.
func (c *Config) strays() []Diagnostic {
	runnable := c.Runnable()
	if len(runnable) == 0 {
		return nil
	}
	var ds []Diagnostic
	for _, n := range c.names {
		a := c.agents[n]
		if _, ok := a.lists.Get("channels"); ok {
			continue
		}
		count := len(a.lists)
		for _, s := range a.sections {
			for _, rc := range s {
				count += len(rc.props)
			}
		}
		if count == 0 { // each line was refused with a finding of its own
			continue
		}
		what := fmt.Sprintf("the %d properties", count)
		if count == 1 {
			what = "the one property"
		}
		hint := agentHint(n, runnable)
		ds = append(ds, a.first.At(Warning, hint, "%s of agent %q will not be used: it has no list of channels", what, n))
	}
	return ds
}

// agentHint is the hint for an agent without channels, where others have some.
func agentHint(name string, others []string) string {
	if hint := suggest.Hint(name, others); hint != "" {
		return hint
	}
	if len(others) == 1 {
		return fmt.Sprintf("is %q meant? If not, write %s.channels = NAME …", others[0], name)
	}
	return "write " + name + ".channels = NAME …"
}
