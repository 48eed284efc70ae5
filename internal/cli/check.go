package cli

import (
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/internal/agent"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

// checkCmd validates agent files without starting anything: no directory is
// made, no port opened, no command run.
type checkCmd struct {
	Files      []string `arg:"" name:"file" help:"Agent file. Several are merged: the last one wins per key."`
	Name       []string `short:"n" sep:"none" help:"Check this agent only; repeat for several. Without it all agents are checked." placeholder:"AGENT"`
	Define     []string `short:"D" sep:"none" help:"Property for $${sys:NAME}, as the agent gets it." placeholder:"NAME=VALUE"`
	RunFilters bool     `help:"Run the commands of config filters of type external. A check does not by default, because it must be safe on any file."`
	Strict     bool     `help:"Exit with 2 on warnings, too."`
}

func (c *checkCmd) Run(env *Env) error {
	r, err := c.check(env)
	if err != nil {
		return usageError(err)
	}
	for _, d := range r.findings {
		fmt.Fprintf(env.Stdout, "%s: %s\n", d.Severity, d)
	}
	for _, a := range r.agents {
		a.print(env)
	}
	errors, warnings := 0, 0
	for _, d := range r.findings {
		switch d.Severity {
		case flumeconf.Error:
			errors++
		case flumeconf.Warning:
			warnings++
		}
	}
	fmt.Fprintf(env.Stdout, "%s, %s\n", count(errors, "error"), count(warnings, "warning"))
	if !r.ok || c.Strict && errors+warnings > 0 {
		return &exitError{Code: ExitUsage}
	}
	return nil
}

func count(n int, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return fmt.Sprintf("%d %ss", n, what)
}

// checkReport is what a check found.
type checkReport struct {
	findings []flumeconf.Diagnostic
	agents   []agentReport
	ok       bool // every agent that was asked for can start
}

// agentReport is what would come up.
type agentReport struct {
	name                     string
	ok                       bool
	sources, channels, sinks []string
	leftOut                  []string // "sink k1"
}

func (c *checkCmd) check(env *Env) (*checkReport, error) {
	props := defines(c.Define)
	conf, findings, err := flumeconf.Load(c.Files, lookups(props))
	if err != nil {
		return nil, err
	}
	// A property that is lost already here leaves the agent with another
	// meaning than the one written; Flume does not load such a file.
	r := &checkReport{findings: findings, ok: flumeconf.Worst(findings) < flumeconf.Error}
	broken := !r.ok

	names := c.Name
	if len(names) == 0 {
		// Prefixes without channels are misspelt names, which Load has
		// warned of, unless nothing better is there.
		if names = conf.Runnable(); len(names) == 0 {
			names = conf.Agents()
		}
		if len(names) == 0 {
			r.ok = false
			r.findings = append(r.findings, flumeconf.Diagnostic{Severity: flumeconf.Error, File: strings.Join(c.Files, ", "),
				Message: "no agent is configured", Hint: "an agent begins with a line such as a1.channels = c1"})
		}
	}
	for _, name := range names {
		model, found, ok := conf.Agent(env.Ctx, name, flumeconf.FilterOptions{Env: os.LookupEnv, RunCommands: c.RunFilters})
		if !ok {
			r.ok = false
			r.findings = append(r.findings, conf.UnknownAgent(strings.Join(c.Files, ", "), name))
			continue
		}
		r.findings = append(r.findings, found...)
		built, found := agent.Build(model, agent.Options{Properties: props})
		r.findings = append(r.findings, found...)
		a := agentReport{name: name, ok: built.Runnable() && !broken}
		a.sources, a.channels, a.sinks = built.Components()
		for _, l := range []struct {
			word, kind string
			up         []string
		}{{"sources", "source", a.sources}, {"channels", "channel", a.channels}, {"sinks", "sink", a.sinks}} {
			list, _ := model.Lists.Get(l.word)
			for _, n := range flumeconf.List(list) {
				if !slices.Contains(l.up, n) {
					a.leftOut = append(a.leftOut, l.kind+" "+n)
				}
			}
		}
		r.agents = append(r.agents, a)
		r.ok = r.ok && a.ok
	}
	flumeconf.SortDiagnostics(r.findings)
	return r, nil
}

func (a agentReport) print(env *Env) {
	line := func(what string, names []string) {
		if len(names) > 0 {
			fmt.Fprintf(env.Stdout, "  %-9s %s\n", what, strings.Join(names, " "))
		}
	}
	if !a.ok {
		fmt.Fprintf(env.Stdout, "agent %s cannot start\n", a.name)
		return
	}
	fmt.Fprintf(env.Stdout, "agent %s can start\n", a.name)
	line("sources", a.sources)
	line("channels", a.channels)
	line("sinks", a.sinks)
	if len(a.leftOut) > 0 {
		fmt.Fprintf(env.Stdout, "  %-9s %s\n", "left out", strings.Join(a.leftOut, ", "))
	}
}
