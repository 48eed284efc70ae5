package cli

import (
	"errors"
	"fmt"
	"strings"
)

// flumeNG answers to the name flume-ng with Flume's own command line.
func flumeNG(env *Env, args []string) error {
	if len(args) == 0 {
		return usageError(errors.New("flume-ng: no command (agent, avro-client, tool, version)"))
	}
	switch cmd := args[0]; cmd {
	case "agent", "node":
		return run(env, append([]string{"agent"}, flumeFlags(args[1:])...))
	case "version":
		_, err := fmt.Fprintf(env.Stdout, "%s\nIn place of Flume 1.11.0\n", versionLine())
		return err
	case "help", "--help", "-h":
		return run(env, []string{"agent", "--help"})
	case "tool":
		if len(args) < 2 || !strings.EqualFold(args[1], "fcintegritytool") {
			return usageError(errors.New("flume-ng tool: the only one is fcintegritytool"))
		}
		return fcIntegrityTool(env, args[2:])
	case "avro-client":
		return run(env, append([]string{"avro-client"}, flumeFlags(args[1:])...))
	default:
		return usageError(fmt.Errorf("flume-ng: unknown command %q (agent, avro-client, tool, version)", cmd))
	}
}

// flumeFlags rewrites what flume-ng accepts and a command line of one-letter
// and long options does not: -user and its like, options with their value
// behind "=" (-n=a is the script's too), and -name for --name.
func flumeFlags(args []string) []string {
	long := map[string]string{
		"-prov": "--conf-provider", "-user": "--conf-user", "-pwd": "--conf-password",
		"-name": "--name", "-conf": "--conf", "-conf-file": "--conf-file", "-classpath": "--classpath",
		"-host": "--host", "-port": "--port", "-filename": "--filename", "-dirname": "--dirname", "-headerFile": "--headerFile", "-rpcProps": "--rpcProps",
		"--no-reload-conf": "--no-reload-conf", "--zkConnString": "--zk-conn-string", "--zkBasePath": "--zk-base-path",
	}
	out := make([]string, 0, len(args))
	for _, a := range args {
		switch {
		case long[a] != "":
			a = long[a]
		case strings.HasPrefix(a, "-javaagent"), strings.HasPrefix(a, "-agentlib"), strings.HasPrefix(a, "-agentpath"):
			continue // the JVM's
		}
		out = append(out, a)
	}
	return out
}
