package cli

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
	"unicode/utf8"

	"github.com/sluice-data/sluice/internal/agent"
	"github.com/sluice-data/sluice/internal/deadletter"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

type deadletterCmd struct {
	List   deadletterListCmd   `cmd:"" help:"List dead letters."`
	Show   deadletterShowCmd   `cmd:"" help:"Show dead letters with headers and body."`
	Replay deadletterReplayCmd `cmd:"" help:"Hand dead letters to the sink again."`
}

// Help is the command's long help.
func (deadletterCmd) Help() string {
	return "Events that a sink could never deliver, or a channel never take, which deadletter = file in an agent file sets aside. See docs/dead-letters.md."
}

// letterJSON is a letter as JSON.
type letterJSON struct {
	Directory string             `json:"directory"`
	Number    int64              `json:"number"`
	Time      time.Time          `json:"time"`
	Agent     string             `json:"agent"`
	Component string             `json:"component"`
	Channel   string             `json:"channel"`
	Reason    string             `json:"reason"`
	Replayed  bool               `json:"replayed"`
	Headers   map[string]*string `json:"headers"`
	Body      []byte             `json:"body"` // base64
}

func jsonLetter(dir string, l *deadletter.Letter, replayed bool) letterJSON {
	j := letterJSON{Directory: dir, Number: l.Number, Time: l.Time, Agent: l.Agent, Component: l.Component, Channel: l.Channel, Reason: l.Reason,
		Replayed: replayed, Headers: make(map[string]*string), Body: l.Event.Body}
	for _, h := range l.Event.Headers {
		j.Headers[h.Key] = nil
		if h.Value != nil {
			v := string(h.Value)
			j.Headers[h.Key] = &v
		}
	}
	return j
}

// deadDirs are the directories of components in dir; there is one at least.
func deadDirs(dir string) ([]string, error) {
	dirs, err := deadletter.Dirs(dir)
	if err != nil {
		return nil, err
	}
	if len(dirs) == 0 {
		return nil, fmt.Errorf("there are no dead letters in %s: want the directory of deadletter.directory, or that of one component below it", dir)
	}
	return dirs, nil
}

// deadDir is the one component's directory that dir means.
func deadDir(dir string) (string, error) {
	dirs, err := deadDirs(dir)
	if err != nil {
		return "", err
	}
	if len(dirs) > 1 {
		return "", usageError(fmt.Errorf("%s has the dead letters of several components, name one: %s", dir, strings.Join(dirs, ", ")))
	}
	return dirs[0], nil
}

type deadletterListCmd struct {
	Dir  string `arg:"" type:"existingdir" help:"The directory of deadletter.directory, or of one component below it."`
	All  bool   `help:"Those too that were replayed."`
	JSON bool   `help:"Write JSON, a line for each letter, with headers and body."`
}

// Run lists letters.
func (c *deadletterListCmd) Run(env *Env) error {
	dirs, err := deadDirs(c.Dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(env.Stdout)
	enc := json.NewEncoder(out)
	w := tabwriter.NewWriter(out, 0, 8, 2, ' ', 0)
	if !c.JSON {
		fmt.Fprintln(w, "NUMBER\tTIME\tCOMPONENT\tCHANNEL\tBYTES\tREASON")
	}
	var errs []error
	for _, dir := range dirs {
		replayed, err := deadletter.Replayed(dir)
		if err != nil {
			errs = append(errs, err)
			continue
		}
		err = deadletter.Read(dir, func(l *deadletter.Letter) error {
			done := replayed.Has(l.Number)
			switch {
			case done && !c.All:
			case c.JSON:
				return enc.Encode(jsonLetter(dir, l, done))
			default:
				reason := printable(l.Reason)
				if done {
					reason = "(replayed) " + reason
				}
				fmt.Fprintf(w, "%d\t%s\t%s\t%s\t%d\t%s\n", l.Number, l.Time.UTC().Format("2006-01-02T15:04:05.000Z"), printable(l.Agent+" "+l.Component), printable(l.Channel), len(l.Event.Body), reason)
			}
			return env.Ctx.Err()
		})
		errs = append(errs, err)
	}
	errs = append(errs, w.Flush(), out.Flush())
	return errors.Join(errs...)
}

// printable keeps what an event's sender may have made of it in one line.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == utf8.RuneError {
			return '.'
		}
		return r
	}, s)
}

type deadletterShowCmd struct {
	Dir     string  `arg:"" type:"existingdir" help:"The directory of one component."`
	Numbers []int64 `arg:"" name:"number" help:"Which letters, by the numbers of the list."`
	Body    bool    `help:"The bytes of the bodies, and nothing else."`
	JSON    bool    `help:"Write JSON, a line for each letter."`
}

// Run shows letters.
func (c *deadletterShowCmd) Run(env *Env) error {
	dir, err := deadDir(c.Dir)
	if err != nil {
		return err
	}
	replayed, err := deadletter.Replayed(dir)
	if err != nil {
		return err
	}
	out := bufio.NewWriter(env.Stdout)
	left := slices.Clone(c.Numbers)
	err = deadletter.Read(dir, func(l *deadletter.Letter) error {
		if !slices.Contains(c.Numbers, l.Number) {
			return env.Ctx.Err()
		}
		left = slices.DeleteFunc(left, func(n int64) bool { return n == l.Number })
		switch {
		case c.Body:
			_, err := out.Write(l.Event.Body)
			return err
		case c.JSON:
			return json.NewEncoder(out).Encode(jsonLetter(dir, l, replayed.Has(l.Number)))
		}
		showLetter(out, l, replayed.Has(l.Number))
		return nil
	})
	err = errors.Join(err, out.Flush())
	if len(left) > 0 {
		err = errors.Join(err, fmt.Errorf("there is no letter %d in %s (replayed ones are deleted with their file)", left, dir))
	}
	return err
}

func showLetter(w io.Writer, l *deadletter.Letter, replayed bool) {
	state := ""
	if replayed {
		state = " (replayed)"
	}
	fmt.Fprintf(w, "letter %d%s\n  time       %s\n  agent      %s\n  component  %s\n  channel    %s\n  reason     %s\n", l.Number, state,
		l.Time.UTC().Format(time.RFC3339Nano), printable(l.Agent), printable(l.Component), printable(l.Channel), printable(l.Reason))
	for _, h := range l.Event.Headers {
		if h.Value == nil {
			fmt.Fprintf(w, "  header     %q is null\n", h.Key)
		} else {
			fmt.Fprintf(w, "  header     %q = %q\n", h.Key, h.Value)
		}
	}
	fmt.Fprintf(w, "  body       %d bytes\n%q\n", len(l.Event.Body), l.Event.Body)
}

type deadletterReplayCmd struct {
	Dir      string   `arg:"" type:"existingdir" help:"The directory of one component."`
	Numbers  []int64  `arg:"" optional:"" name:"number" help:"Which letters, also if they were replayed before. Without numbers all that were not."`
	ConfFile []string `short:"f" name:"conf-file" sep:"none" required:"" placeholder:"FILE" help:"Agent file with the sink. Several are merged."`
	Name     string   `short:"n" required:"" placeholder:"NAME" help:"The agent of the file."`
	Sink     string   `placeholder:"NAME" help:"The sink that gets the letters. Without it the one that could not deliver them."`
	Define   []string `short:"D" sep:"none" help:"Property for $${sys:NAME}, as the agent gets it." placeholder:"NAME=VALUE"`
}

// Help is the command's long help.
func (deadletterReplayCmd) Help() string {
	return "At least once: a letter counts as replayed when the sink has taken it. One that fails stays, and the command goes on with the next.\nExit code 1 if some failed."
}

// Run replays letters.
func (c *deadletterReplayCmd) Run(env *Env) (err error) {
	dir, err := deadDir(c.Dir)
	if err != nil {
		return err
	}
	a, closeLog, err := c.agent(env)
	if err != nil {
		return err
	}
	defer closeLog()
	replay, err := deadletter.OpenReplay(dir)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, replay.Close()) }()

	sinks := make(map[string]*agent.LoneSink)
	defer func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(env.Ctx), agent.DefaultStopTimeout)
		defer cancel()
		for _, s := range sinks {
			err = errors.Join(err, s.Close(ctx))
		}
	}()
	done, failed := 0, 0
	missing := slices.Clone(c.Numbers)
	err = deadletter.Read(dir, func(l *deadletter.Letter) error {
		if err := env.Ctx.Err(); err != nil {
			return err
		}
		if len(c.Numbers) > 0 && !slices.Contains(c.Numbers, l.Number) || len(c.Numbers) == 0 && replay.Has(l.Number) {
			return nil
		}
		missing = slices.DeleteFunc(missing, func(n int64) bool { return n == l.Number })
		name, err := c.sinkOf(l)
		if err != nil {
			return err
		}
		if sinks[name] == nil {
			if sinks[name], err = a.LoneSink(env.Ctx, name); err != nil {
				delete(sinks, name)
				return err
			}
		}
		if err := sinks[name].Write(env.Ctx, l.Event); err != nil {
			failed++
			fmt.Fprintf(env.Stderr, "letter %d: sink %s: %v\n", l.Number, name, err)
			return nil
		}
		done++
		return replay.Done(l.Number)
	})
	fmt.Fprintf(env.Stdout, "%d replayed, %d failed\n", done, failed)
	if len(missing) > 0 {
		err = errors.Join(err, fmt.Errorf("there is no letter %d in %s", missing, dir))
	}
	if err == nil && failed > 0 {
		return &exitError{Code: ExitFailed}
	}
	return err
}

// sinkOf is the name of the sink that gets a letter.
func (c *deadletterReplayCmd) sinkOf(l *deadletter.Letter) (string, error) {
	if c.Sink != "" {
		return c.Sink, nil
	}
	if name, ok := strings.CutPrefix(l.Component, "sink "); ok {
		return name, nil
	}
	return "", usageError(fmt.Errorf("letter %d is of %s: name the sink that gets it with --sink", l.Number, printable(l.Component)))
}

// agent builds the agent whose sinks are used.
func (c *deadletterReplayCmd) agent(env *Env) (*agent.Agent, func(), error) {
	props := defines(c.Define)
	conf, findings, err := flumeconf.Load(c.ConfFile, lookups(props))
	if err != nil {
		return nil, nil, usageError(err)
	}
	model, more, ok := conf.Agent(env.Ctx, c.Name, flumeconf.FilterOptions{Env: os.LookupEnv, RunCommands: true})
	findings = append(findings, more...)
	if !ok {
		findings = append(findings, conf.UnknownAgent(strings.Join(c.ConfFile, ", "), c.Name))
		printFindings(env.Stderr, findings)
		return nil, nil, &exitError{Code: ExitUsage}
	}
	log, closeLog, err := newLog(props, env.Stderr)
	if err != nil {
		return nil, nil, usageError(err)
	}
	a, more := agent.Build(model, agent.Options{Log: log, Properties: props})
	findings = append(findings, more...)
	flumeconf.SortDiagnostics(findings)
	for _, d := range findings { // the sink's own say why it is not there
		if d.Severity == flumeconf.Error && strings.Contains(d.Key, ".sinks.") {
			fmt.Fprintf(env.Stderr, "%s: %s\n", d.Severity, d)
		}
	}
	return a, closeLog, nil
}
