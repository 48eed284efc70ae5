package refdoc

// outsideKey names a row that no component declares: properties of the agent
// itself, of config filters, of the command line.
type outsideKey struct{ kind, alias, property string }

type settled struct {
	state  State
	remark string
}

// outside says what Sluice does with those rows. A row that is neither here
// nor declared by a component counts as not there yet.
var outside = func() map[outsideKey]settled {
	m := make(map[outsideKey]settled)
	add := func(kind, alias string, s State, remark string, properties ...string) {
		for _, p := range properties {
			m[outsideKey{kind, alias, p}] = settled{s, remark}
		}
	}
	add("agent", "-", Honoured, "", "sources", "sinks", "channels", "configfilters",
		"sources.<name>.type", "sinks.<name>.type", "channels.<name>.type", "configfilters.<name>.type",
		"sources.<name>.channels", "sinks.<name>.channel",
		"sinkgroups.<name>.processor.*")
	add("agent", "-", Honoured, "split at any white space", "sinkgroups")
	add("agent", "-", Honoured, "a group without it is left out; the rest of the agent stands", "sinkgroups.<name>.sinks")
	add("agent", "-", Honoured, "required here too, although the guide gives a default", "sinkgroups.<name>.processor.type")
	add("agent", "-", NoEffect, "it names a Java class of which Flume ships none",
		"sources.<name>.config", "sinks.<name>.config", "channels.<name>.config", "configfilters.<name>.config")
	add("source", "*", Honoured, "", "selector.type", "selector.*", "interceptors", "interceptors.<i>.type", "interceptors.<i>.*")
	add("channel", "spillablememory", Honoured, "as in the file channel; see the page of the component", "<file channel keys>")
	add("sinkprocessor", "default", Honoured, "", "(none)")
	add("config-filter", "env", Honoured, "", "(none)")
	add("config-filter", "external", Honoured, "", "command", "charset")
	add("config-filter", "hadoop", Refused, "a Hadoop credential store is read by Hadoop's own classes; use `external`",
		"credential.provider.path", "credstore.java-keystore-provider.password-file")
	add("cli", "agent", Honoured, "", "--name / -n", "--conf-file / -f", "--help / -h")
	add("cli", "agent", Honoured, "`file:` only; together with `--conf-file` it is refused", "--conf-uri / -u")
	add("cli", "agent", Honoured, "a changed file takes effect at the next start in any case", "--no-reload-conf")
	add("cli", "agent", NoEffect, "a changed file takes effect at the next start", "--poll-interval / -i")
	add("cli", "agent", Refused, "not there; give the file with `--conf-file`", "--conf-provider / -prov", "--conf-user / -user",
		"--conf-password / -pwd", "--auth-provider / -a", "--zkConnString / -z")
	add("cli", "agent", NoEffect, "it only says where ZooKeeper has the configuration", "--zkBasePath / -p")
	add("cli", "agent", Refused, "an unknown option, as in Flume", "--verify-host")
	add("cli", "agent", Refused, "not there; keep a copy of the file", "--backup-directory / -b")
	add("cli", "avro-client", Honoured, "", "--rpcProps / -P", "--host / -H", "--port / -p", "--filename / -F", "--headerFile / -R", "--help / -h")
	add("cli", "avro-client", Honoured, "the rules of the spooldir source; it ends when the directory has no more files", "--dirname")
	add("rpc-client", "*", Honoured, "", "hosts", "hosts.<ref>", "batch-size", "connect-timeout", "request-timeout", "max-attempts",
		"backoff", "maxBackoff", "maxConnections", "compression-type", "compression-level", "ssl", "trust-all-certs", "truststore",
		"truststore-password", "truststore-type", "exclude-protocols", "include-protocols", "exclude-cipher-suites", "include-cipher-suites", "protocol")
	add("rpc-client", "*", Honoured, "Java classes other than Flume's four are refused", "client.type")
	add("rpc-client", "*", Honoured, "Java classes are refused", "host-selector")
	add("rpc-client", "*", Refused, "`true`: Kerberos is not supported; use `ssl`", "kerberos")
	add("rpc-client", "*", NoEffect, "as in Flume since 1.10: there are no such threads", "maxIoWorkers")
	add("cli", "flume-ng (all commands)", Honoured, "", "-D<prop>=<value>")
	add("cli", "flume-ng (all commands)", Honoured, "says what would run, as `sluice check` does", "--dryrun / -d")
	add("cli", "flume-ng (all commands)", NoEffect, "nothing in it is read; a `flume-env.sh` there draws a warning", "--conf / -c")
	add("cli", "flume-ng (all commands)", NoEffect, "components of your own are compiled in", "--classpath / -C", "--plugins-path")
	add("cli", "flume-ng (all commands)", NoEffect, "there is no Java VM", "-X<opt>", "-javaagent*, -agentlib*, -agentpath*")
	add("cli", "tool fcintegritytool", Honoured, "for the files of a Flume channel and for Sluice's own", "--dataDirs / -l")
	add("cli", "tool fcintegritytool", Honoured, "", "--help / -h")
	add("cli", "tool fcintegritytool", Refused, "a validator is a Java class; records are checked without one", "--eventValidator / -e")
	add("cli", "tool fcintegritytool", NoEffect, "it is for a validator", "-D<prop>=<value>")
	add("jvm", "-", Honoured, "", "propertiesImplementation", "flume.root.logger", "flume.log.dir", "flume.log.file")
	add("jvm", "-", Honoured, "`http`; any other is refused", "flume.monitoring.type")
	add("jvm", "-", Honoured, "`port`, and `host`, which is ours", "flume.monitoring.*")
	add("monitor", "http", Honoured, "", "port")
	add("monitor", "*", Honoured, "`http`; any other is refused", "type")
	add("monitor", "*", Honoured, "`port`, and `host`, which is ours", "flume.monitoring.<key>")
	add("jvm", "-", NoEffect, "the lookups are env, sys and date", "lookups")
	return m
}()
