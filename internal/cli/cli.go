// Package cli is the command line of the binary: one file per command, and
// the names (flume-ng, kafka-topics.sh, …) under which the binary answers
// with another program's command line.
package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"

	"github.com/alecthomas/kong"
)

// Exit codes of the binary.
const (
	ExitOK     = 0
	ExitFailed = 1
	ExitUsage  = 2 // bad usage or bad configuration
)

// root lists the commands; each type lives in the file of its name.
type root struct {
	Pilot      pilotCmd      `cmd:"" help:"Run the whole smart-car pipeline, with a live page and a ledger at the end."`
	Ledger     ledgerCmd     `cmd:"" help:"Compare what the simulator wrote with what arrived."`
	Agent      agentCmd      `cmd:"" help:"Run an agent of an agent file (flume.conf)."`
	AvroClient avroClientCmd `cmd:"" name:"avro-client" help:"Send lines or files to an avro source, as flume-ng avro-client does."`
	Broker     brokerCmd     `cmd:"" help:"Run a Kafka broker."`
	Topics     topicsCmd     `cmd:"" help:"Create, list, describe, alter and delete topics, and their records."`
	Produce    produceCmd    `cmd:"" help:"Send lines to a topic."`
	Consume    consumeCmd    `cmd:"" help:"Show a topic's records."`
	Groups     groupsCmd     `cmd:"" help:"List, describe and delete consumer groups; reset their offsets."`
	Configs    configsCmd    `cmd:"" help:"Show and change settings of topics, brokers and groups."`
	Dump       dumpCmd       `cmd:"" help:"Show or verify the files of partitions and of file channels."`
	Repair     repairCmd     `cmd:"" help:"Make a file channel start that refuses to."`
	Check      checkCmd      `cmd:"" help:"Validate agent files without starting anything."`
	Components componentsCmd `cmd:"" help:"List component types and their properties."`
	Deadletter deadletterCmd `cmd:"" help:"List, show and replay events that could not be delivered."`
	Sim        simCmd        `cmd:"" help:"Write the smart-car logs of the pilot."`
	Version    versionCmd    `cmd:"" help:"Print the version."`
}

// Env is what a command's Run method receives beside its flags. Ctx ends at
// the first SIGINT or SIGTERM; a second signal ends the process at once.
type Env struct {
	Ctx    context.Context
	Stdin  io.Reader
	Stdout io.Writer
	Stderr io.Writer
}

// exitError carries an exit code other than 1 up to Run. A nil Err means that
// everything worth saying has been printed.
type exitError struct {
	Code int
	Err  error
}

func (e *exitError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("exit status %d", e.Code)
	}
	return e.Err.Error()
}

func (e *exitError) Unwrap() error { return e.Err }

// usageError marks err as bad usage or bad configuration: exit code 2.
func usageError(err error) error { return &exitError{Code: ExitUsage, Err: err} }

// Run interprets args (args[0] is the name the binary was called by) and
// returns the exit code.
func Run(args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	// After the first signal the default action is restored, so a second
	// one ends a shutdown that hangs.
	go func() { <-ctx.Done(); stop() }()
	env := &Env{Ctx: ctx, Stdin: stdin, Stdout: stdout, Stderr: stderr}

	name := trimProgramName(args[0])
	if name == "flume-ng" {
		return report(env, flumeNG(env, args[1:]))
	}
	if t, ok := kafkaTools()[name]; ok {
		return report(env, t.run(env, name, args[1:]))
	}
	if strings.HasPrefix(name, "kafka-") {
		return report(env, kafkaElse(name))
	}

	return report(env, run(env, args[1:]))
}

// run interprets a command line of sluice itself.
func run(env *Env, args []string) error {
	var cmds root
	exited, code := false, 0
	parser, err := kong.New(&cmds,
		kong.Name("sluice"),
		kong.Description("Collects logs and sensor data: runs Flume agent files, and is a Kafka broker."),
		kong.Writers(env.Stdout, env.Stderr),
		kong.Exit(func(c int) { exited, code = true, c }),
		kong.ValueFormatter(flagHelp),
		kong.Bind(env),
	)
	if err != nil {
		return fmt.Errorf("build the command line: %w", err)
	}
	kctx, err := parser.Parse(args)
	switch {
	case exited && code != 0:
		return &exitError{Code: code}
	case exited: // --help
		return nil
	case err != nil:
		return usageError(fmt.Errorf("%w (try: %s --help)", err, commandOf(err)))
	}
	return kctx.Run(env)
}

// flagHelp adds the default, which kong leaves out where a flag's value has a
// name of its own.
func flagHelp(v *kong.Value) string {
	help := kong.DefaultHelpValueFormatter(v)
	if v.HasDefault && v.Default != "" && v.Flag != nil && v.Flag.PlaceHolder != "" && v.Flag.PlaceHolder != v.Default {
		help += " Default: " + v.Default + "."
	}
	return help
}

// commandOf is the command that a wrong command line came to.
func commandOf(err error) string {
	var pe *kong.ParseError
	if errors.As(err, &pe) && pe.Context != nil {
		if n := pe.Context.Selected(); n != nil {
			return n.FullPath()
		}
	}
	return "sluice"
}

// report prints a command's error and turns it into an exit code.
func report(env *Env, err error) int {
	if err == nil {
		return ExitOK
	}
	var ee *exitError
	if errors.As(err, &ee) {
		if ee.Err != nil {
			fmt.Fprintf(env.Stderr, "sluice: %v\n", ee.Err)
		}
		return ee.Code
	}
	fmt.Fprintf(env.Stderr, "sluice: %v\n", err)
	return ExitFailed
}

// trimProgramName is the base name without the .sh or .exe of the original.
func trimProgramName(arg0 string) string {
	name := filepath.Base(arg0)
	switch ext := filepath.Ext(name); ext {
	case ".sh", ".exe", ".bat":
		return name[:len(name)-len(ext)]
	}
	return name
}
