package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/sluice-data/sluice/internal/admin"
	"github.com/sluice-data/sluice/internal/agent"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

// agentCmd runs an agent. Its options are flume-ng's; those that only make
// sense for a JVM are accepted and named in the log.
type agentCmd struct {
	Name      string        `short:"n" required:"" help:"The agent of the file to run." placeholder:"NAME"`
	ConfFile  []string      `short:"f" name:"conf-file" sep:"none" help:"Agent file. Several are merged: the last one wins per key." placeholder:"FILE"`
	ConfURI   []string      `short:"u" name:"conf-uri" sep:"none" help:"Agent file as a file: URI." placeholder:"URI"`
	Define    []string      `short:"D" sep:"none" help:"Property as of a JVM: flume.monitoring.type=http, flume.monitoring.port=41414, flume.monitoring.host (ours; all addresses without it), flume.root.logger=LEVEL,console|LOGFILE, flume.log.dir, flume.log.file, and whatever $${sys:…} asks for." placeholder:"NAME=VALUE"`
	Strict    bool          `help:"Do not start on any error or warning in the file."`
	StopAfter time.Duration `name:"stop-timeout" default:"20s" help:"Bound of a graceful stop: sources end, sinks drain the channels."`

	Conf         string   `short:"c" help:"flume-ng: configuration directory. Nothing in it is read; a flume-env.sh there draws a warning." placeholder:"DIR"`
	NoReloadConf bool     `help:"flume-ng: do not reload a changed file. That is what happens in any case: a change takes effect at the next start."`
	PollInterval int      `short:"i" help:"flume-ng: seconds between looks at the file. No effect, as the file is not reloaded." placeholder:"S"`
	JVM          []string `short:"X" sep:"none" hidden:"" name:"jvm"`
	Classpath    string   `short:"C" hidden:""`
	PluginsPath  string   `hidden:""`
	DryRun       bool     `short:"d" name:"dryrun" help:"Only say what would run."`

	ZkConnString    string `short:"z" hidden:""`
	ZkBasePath      string `short:"p" hidden:""`
	ConfProvider    string `hidden:""`
	ConfUser        string `hidden:""`
	ConfPassword    string `hidden:""`
	AuthProvider    string `short:"a" hidden:""`
	BackupDirectory string `short:"b" hidden:""`
}

func (c *agentCmd) Run(env *Env) error {
	files, err := c.files()
	if err != nil {
		return usageError(err)
	}
	props := defines(c.Define)
	if c.DryRun {
		return (&checkCmd{Files: files, Name: []string{c.Name}, Define: c.Define}).Run(env)
	}
	log, closeLog, err := newLog(props, env.Stderr)
	if err != nil {
		return usageError(err)
	}
	defer closeLog()
	c.withoutEffect(log)

	conf, findings, err := flumeconf.Load(files, lookups(props))
	if err != nil {
		return usageError(err)
	}
	// A property that is lost here would be replaced by its default.
	unread := flumeconf.Worst(findings) == flumeconf.Error
	model, more, ok := conf.Agent(env.Ctx, c.Name, flumeconf.FilterOptions{Env: os.LookupEnv, RunCommands: true})
	findings = append(findings, more...)
	if !ok {
		printFindings(env.Stderr, append(findings, conf.UnknownAgent(strings.Join(files, ", "), c.Name)))
		return &exitError{Code: ExitUsage}
	}
	a, more := agent.Build(model, agent.Options{Log: log, Properties: props, StopTimeout: c.StopAfter})
	findings = append(findings, more...)
	flumeconf.SortDiagnostics(findings)
	printFindings(env.Stderr, findings)
	if unread || !a.Runnable() {
		return usageError(fmt.Errorf("agent %s cannot start: see the findings above, or run: sluice check %s", c.Name, strings.Join(files, " ")))
	}
	if c.Strict && flumeconf.Worst(findings) >= flumeconf.Warning {
		return usageError(fmt.Errorf("agent %s does not start on a file with findings: --strict was given", c.Name))
	}

	// A reader of the logger sink's lines that goes away fails the writes, and
	// their events stay in the channel; it must not end the process.
	// (Ignore would do the same, but the commands of exec sources inherit it.)
	signal.Notify(make(chan os.Signal, 1), syscall.SIGPIPE)

	stopAdmin, err := monitoring(env.Ctx, props, a, log)
	if err != nil {
		return err
	}
	defer stopAdmin()
	return a.Run(env.Ctx)
}

// files are the agent files by path. As in Flume --conf-file is ignored when
// --conf-uri is given, and here that is said.
func (c *agentCmd) files() ([]string, error) {
	switch {
	case c.ZkConnString != "":
		return nil, errors.New("--zkConnString: configuration from ZooKeeper is not there; give the agent file with --conf-file")
	case c.ConfProvider != "" || c.ConfUser != "" || c.ConfPassword != "" || c.AuthProvider != "":
		return nil, errors.New("--conf-provider, --conf-user, --conf-password and --auth-provider are not there; give the agent file with --conf-file")
	case c.BackupDirectory != "":
		return nil, errors.New("--backup-directory is not there; keep a copy of the agent file yourself")
	case len(c.ConfURI) > 0 && len(c.ConfFile) > 0:
		return nil, errors.New("give --conf-file or --conf-uri, not both (Flume ignores --conf-file then)")
	case len(c.ConfURI)+len(c.ConfFile) == 0:
		return nil, errors.New("no agent file: give it with --conf-file FILE")
	}
	files := c.ConfFile
	for _, uri := range c.ConfURI {
		path, ok := strings.CutPrefix(uri, "file:")
		if !ok {
			return nil, fmt.Errorf("--conf-uri %s: only file: URIs are there; fetch the file and give it with --conf-file", uri)
		}
		files = append(files, strings.TrimPrefix(path, "//"))
	}
	return files, nil
}

// withoutEffect names the options that were given and do nothing.
func (c *agentCmd) withoutEffect(log *slog.Logger) {
	if len(c.JVM) > 0 {
		log.Info("-X options are the JVM's and have no effect here (memory is bounded by the channels' byteCapacity; see also GOMEMLIMIT)")
	}
	if c.Classpath != "" || c.PluginsPath != "" {
		log.Warn("--classpath and --plugins-path have no effect: components of your own are compiled in, see docs/custom-components.md")
	}
	if c.PollInterval != 0 {
		log.Warn("--poll-interval has no effect: a changed file takes effect at the next start")
	}
	if c.Conf != "" {
		if _, err := os.Stat(filepath.Join(c.Conf, "flume-env.sh")); err == nil {
			log.Warn("flume-env.sh is not read: give its -D options on the command line and export its variables", "dir", c.Conf)
		}
	}
}

func printFindings(w io.Writer, ds []flumeconf.Diagnostic) {
	for _, d := range ds {
		fmt.Fprintf(w, "%s: %s\n", d.Severity, d)
	}
}

// defines turns NAME=VALUE options into a map; a name alone is set to "".
func defines(ds []string) map[string]string {
	m := make(map[string]string, len(ds))
	for _, d := range ds {
		name, value, _ := strings.Cut(d, "=")
		m[name] = value
	}
	return m
}

// newLog makes the log that flume.root.logger asks for: LEVEL,APPENDER with
// console (standard error; the default) or LOGFILE.
func newLog(props map[string]string, stderr io.Writer) (*slog.Logger, func(), error) {
	level, appender, _ := strings.Cut(props["flume.root.logger"], ",")
	lv := slog.LevelInfo
	switch strings.ToUpper(strings.TrimSpace(level)) {
	case "ALL", "TRACE", "DEBUG":
		lv = slog.LevelDebug
	case "", "INFO":
	case "WARN":
		lv = slog.LevelWarn
	case "ERROR", "FATAL", "OFF":
		lv = slog.LevelError
	default:
		return nil, nil, fmt.Errorf("-Dflume.root.logger=%s: unknown level %q (INFO,console is usual)", props["flume.root.logger"], level)
	}
	w, done := stderr, func() {}
	if strings.EqualFold(strings.TrimSpace(appender), "LOGFILE") {
		path := logFile(props)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return nil, nil, fmt.Errorf("make the log directory: %w (set -Dflume.log.dir)", err)
		}
		f, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
		if err != nil {
			return nil, nil, fmt.Errorf("open the log: %w (set -Dflume.log.dir and -Dflume.log.file)", err)
		}
		w, done = f, func() { _ = f.Close() }
	}
	return slog.New(slog.NewTextHandler(w, &slog.HandlerOptions{Level: lv})), done, nil
}

// logFile is Flume 1.9's: ./logs/flume.log unless told otherwise.
func logFile(props map[string]string) string {
	dir, name := props["flume.log.dir"], props["flume.log.file"]
	if dir == "" {
		dir = "./logs"
	}
	if name == "" {
		name = "flume.log"
	}
	return filepath.Join(dir, name)
}

// monitoring starts what flume.monitoring.type asks for.
func monitoring(ctx context.Context, props map[string]string, a *agent.Agent, log *slog.Logger) (stop func(), err error) {
	switch typ := props["flume.monitoring.type"]; {
	case typ == "":
		return func() {}, nil
	case !strings.EqualFold(typ, "http") && typ != "org.apache.flume.instrumentation.http.HTTPMetricsServer":
		return nil, usageError(fmt.Errorf("-Dflume.monitoring.type=%s is not there: use http, which serves Flume's JSON at /metrics and Prometheus text at /prometheus", typ))
	}
	port := 41414
	if p := props["flume.monitoring.port"]; p != "" {
		if port, err = strconv.Atoi(p); err != nil || port < 0 || port > 65535 {
			return nil, usageError(fmt.Errorf("-Dflume.monitoring.port=%s: not a port number", p))
		}
	}
	s, err := admin.Start(ctx, net.JoinHostPort(props["flume.monitoring.host"], strconv.Itoa(port)), a, log)
	if err != nil {
		return nil, err
	}
	log.Info("monitoring", "metrics", fmt.Sprintf("http://%s/metrics", s.Addr()))
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
		defer cancel()
		if err := s.Close(ctx); err != nil {
			log.Warn("stop monitoring", "err", err)
		}
	}, nil
}
