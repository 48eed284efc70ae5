// Package exec is Flume's exec source: it runs a command and makes an event
// of every line that it writes to its standard output.
package exec

import (
	"errors"
	"fmt"
	osexec "os/exec"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/charset"
)

const notes = `- **tail -F.** The file of a command that is ` + "`tail -F FILE`" + ` is followed without running it, with a position that is kept across restarts, so that a restart neither loses nor repeats lines; [Following files](../taildir.md#tail--f-in-the-exec-source) says which commands are recognised, where the position is, and what happens when the file is rotated. ` + "`restart`, `restartThrottle` and `logStdErr`" + ` have no effect then. ` + "`followByPosition = false`" + ` runs the command.
- **A full channel loses nothing.** The source waits for its channel as long as it takes; meanwhile the pipe fills and the command waits too. Flume drops the lines it has read and ends the command. What a command itself cannot repeat is lost with the agent.
- **batchTimeout.** When it is not set, what one read from the pipe returned is delivered at once; Flume holds lines back for three seconds. When it is set, lines wait for ` + "`batchSize`" + ` of them or 16 MiB, and at most that long.
- **No process stays behind.** The command, and whatever it started, runs in a process group of its own below a guard (this program again, shown as ` + "`sluice-exec-guard`" + `). On a stop the group gets SIGTERM, after 2 s SIGKILL; when the agent dies, even by SIGKILL, the guard kills the group. A process that leaves the group (` + "`setsid`" + `, a daemon) is not followed.
- **On a stop** what the pipe still holds is read and delivered, for at most 5 s altogether.
- A command that ended is reported with its exit code, 128 + n for signal n, and the last line that it wrote to its standard error. Without ` + "`restart`" + ` the source then idles and health says so.
- A line longer than 16 MiB is cut into several events, with a warning.
- ` + "`charset`" + ` must be one in which a line feed is one byte (UTF-8, EUC-KR, ISO-8859-1, …, not UTF-16). Malformed bytes become the replacement character, as in Flume.
- The exec source needs a Unix system.`

func init() {
	component.RegisterSource(component.Info{
		Name:    "exec",
		Classes: []string{"org.apache.flume.source.ExecSource"},
		Doc:     "Runs a command and makes an event of every line of its standard output.",
		Notes:   notes,
	}, func() component.SourceConfig { return new(config) })
}

type config struct {
	command      string
	shell        string
	restart      bool
	throttle     time.Duration
	logStdErr    bool
	batchSize    int
	batchTimeout time.Duration // negative: not set
	charset      *charset.Charset
	follow       bool
	positionDir  string
}

func (c *config) Fields() []component.Field {
	timeout := component.Duration("batchTimeout", &c.batchTimeout, time.Millisecond, -time.Millisecond).Min(0)
	timeout.Default = "" // not Flume's 3000, see the notes
	return []component.Field{
		component.String("command", &c.command, "").Require().
			Describe("The command. Without shell it is split at white space; there is no quoting, and pipes, wildcards and variables mean nothing."),
		component.String("shell", &c.shell, "").
			Describe("A shell to run the command with, such as `/bin/sh -c`. It is split at white space, and the whole command becomes its last argument."),
		component.Bool("restart", &c.restart, false).
			Describe("Start the command again when it ends."),
		component.Duration("restartThrottle", &c.throttle, time.Millisecond, 10*time.Second).Min(0).
			Describe("The pause before that."),
		component.Bool("logStdErr", &c.logStdErr, false).
			Describe("Log what the command writes to its standard error, line by line. It is read and dropped otherwise."),
		component.Int("batchSize", &c.batchSize, 20).In("events").Min(1).
			Describe("The most events that are put into the channels at once. Several hundred are faster where the command writes much."),
		timeout.Describe("How long lines may wait for a batch to fill. Not set: lines do not wait. (Flume: 3000.)"),
		component.Value("charset", &c.charset, "string", "UTF-8", charset.Narrow).
			Describe("The character set of the lines, by any of Java's names for it. Bodies keep it."),
		component.Bool("followByPosition", &c.follow, true).
			Describe("Follow the file of a command that is `tail -F FILE` without running it, and keep a position across restarts. Not a property of Flume."),
		component.String("followPositionDir", &c.positionDir, "").AsType("path").AsDefault("${user.home}" + defaultPositionDir).
			Describe("Where that position is kept. It is made. Not a property of Flume."),
	}
}

func (c *config) NewSource(env component.Env) (component.Source, error) {
	s := &source{cfg: c, env: env, hard: make(chan struct{})}
	s.argv = fields(c.command)
	if c.shell != "" {
		s.argv = append(fields(c.shell), c.command)
	}
	if len(s.argv) == 0 || s.argv[0] == "" {
		return nil, &component.KeyError{Key: "command", Err: errors.New("it is empty")}
	}
	if f, ok := recognise(c.shell, c.command); ok && c.follow {
		s.tail = &f
	}
	return s, nil
}

// fields splits at what Java's \s+ matches.
func fields(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ' ' || r >= '\t' && r <= '\r' })
}

// resolve finds the program, so that a missing one is named.
func (s *source) resolve() ([]string, error) {
	path, err := osexec.LookPath(s.argv[0])
	if err != nil {
		hint := "correct the property command, or install it where PATH leads"
		if s.cfg.shell != "" {
			hint = "correct the property shell"
		}
		var ee *osexec.Error
		if errors.As(err, &ee) {
			err = ee.Err
		}
		return nil, fmt.Errorf("find command %q: %w (%s)", s.argv[0], err, hint)
	}
	return append([]string{path}, s.argv[1:]...), nil
}
