// Package removeheader is the interceptor that deletes headers.
package removeheader

import (
	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/event"
	"github.com/sluice-data/sluice/internal/javaregex"
)

func init() {
	component.RegisterInterceptor(component.Info{
		Name:    "remove_header",
		Classes: []string{"org.apache.flume.interceptor.RemoveHeaderInterceptor$Builder", "org.apache.flume.interceptor.RemoveHeaderInterceptor"},
		Doc:     "Deletes headers by name, by a list of names and by a regular expression; the three combine.",
		Notes:   "With none of the three set events pass unchanged, and the log says so.",
	}, func() component.InterceptorConfig { return new(config) })
}

type config struct {
	withName, fromList, separator, matching string
}

func (c *config) Fields() []component.Field {
	return []component.Field{
		component.String("withName", &c.withName, "").Describe("The name of a header to delete."),
		component.String("fromList", &c.fromList, "").AsType("list").Describe("Names of headers to delete."),
		component.String("fromListSeparator", &c.separator, `\s*,\s*`).AsType("regex").Describe("Java regular expression that separates the names of fromList."),
		component.String("matching", &c.matching, "").AsType("regex").Describe("Java regular expression; headers whose whole name matches are deleted."),
	}
}

func (c *config) NewInterceptor(env component.Env) (component.Interceptor, error) {
	r := &interceptor{names: make(map[string]bool)}
	if c.withName != "" {
		r.names[c.withName] = true
	}
	if c.fromList != "" {
		sep, err := javaregex.Compile(c.separator, 0)
		if err != nil {
			return nil, &component.KeyError{Key: "fromListSeparator", Err: err}
		}
		for _, n := range sep.Split(c.fromList) {
			r.names[n] = true
		}
	}
	if c.matching != "" {
		re, err := javaregex.Compile(c.matching, 0)
		if err != nil {
			return nil, &component.KeyError{Key: "matching", Err: err}
		}
		r.matching = re
	}
	if len(r.names) == 0 && r.matching == nil {
		env.Log.Warn("no header is deleted: set withName, fromList or matching")
	}
	return r, nil
}

type interceptor struct {
	names    map[string]bool
	matching *javaregex.Regexp // nil: not set
}

func (r *interceptor) Intercept(b *event.Batch) error {
	evs := b.Events()
	clean := -1 // the last event that had nothing to delete
	for i := range evs {
		if clean >= 0 && event.SameHeaders(&evs[i], &evs[clean]) {
			continue
		}
		deleted := false
		// Backwards: what follows a deleted header moves up.
		for j := len(evs[i].Headers) - 1; j >= 0; j-- {
			if key := evs[i].Headers[j].Key; r.names[key] || r.matching != nil && r.matching.FullMatchString(key) {
				deleted = b.DelHeader(i, key) || deleted
			}
		}
		if !deleted {
			clean = i
		}
	}
	return nil
}
