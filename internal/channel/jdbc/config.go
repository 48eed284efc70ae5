package jdbc

import (
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/javapath"
	"github.com/sluice-data/sluice/internal/seglog/vfs"
)

func init() {
	component.RegisterChannel(component.Info{
		Name:    "jdbc",
		Classes: []string{"org.apache.flume.channel.jdbc.JdbcChannel"},
		Doc:     "Holds events in a table of a database: of SQLite, in a file that it makes itself, or of PostgreSQL.",
		Notes: "- Flume's embedded Derby, and MySQL, are not there. Without `driver.url` the channel uses a file of SQLite in the directory in which Flume would put Derby's; `jdbc:postgresql://HOST/DATABASE` names a PostgreSQL. " +
			"What a Flume has left in its database stays there: let it drain its channel before.\n" +
			"- Tables of its own (docs/jdbc-channel.md), one for each channel. One process at a time has a table, and another one is refused.\n" +
			"- A put is one transaction, whatever the batch; so is the commit of a take. What waits at the same time shares one.\n" +
			"- With `maximum.capacity` a put waits keep-alive for room, and a batch that is larger is let in once the channel is empty. Flume's put fails at once.\n" +
			"- When PostgreSQL goes away the channel connects again by itself. No event is lost by that, and none put twice.",
	}, func() component.ChannelConfig { return new(config) })
}

type config struct {
	dbType, url, user, password string
	propertiesFile, isolation   string
	create                      bool
	capacity                    int64
	keepAlive                   time.Duration
	system, oldSystem           map[string]string
}

// oldPrefix stands before the first names of the properties.
const oldPrefix = "org.apache.flume.channel.jdbc."

// homeDir is Flume's, below the home directory.
const homeDir = "/.flume/jdbc-channel"

func (c *config) Fields() []component.Field {
	fields := []component.Field{
		component.Enum("db.type", &c.dbType, "", "SQLITE", "POSTGRESQL", "DERBY", "MYSQL", "ORACLE", "OTHER").AsDefault("as driver.url says").
			Describe("SQLITE or POSTGRESQL, only to be checked against driver.url. DERBY means the embedded database, which is SQLite here."),
		component.Ignore("driver.class", "the drivers are built in, and driver.url says which one it is"),
		component.String("driver.url", &c.url, "").AsType("url").AsDefault("a file of SQLite, ${user.home}" + homeDir + "/CHANNEL.sqlite").
			Describe("`jdbc:sqlite:PATH`, `jdbc:postgresql://HOST:PORT/DATABASE?PARAMETERS` with the parameters of PostgreSQL's JDBC driver, or a `postgres://` URL. Without it user, password, type and properties file have no effect, as in Flume."),
		component.String("db.username", &c.user, "").
			Describe("The user, if the URL does not name one."),
		component.String("db.password", &c.password, "").
			Describe("The password, if the URL does not have one. Without one the user's .pgpass is looked into."),
		component.String("connection.properties.file", &c.propertiesFile, "").AsType("path").
			Describe("A Java properties file with parameters as they may stand in the URL, which win."),
		component.Bool("create.schema", &c.create, true).
			Describe("Make what is missing of the file, the schema and the tables."),
		component.Ignore("create.index", "the only index is the primary key"),
		component.Ignore("create.foreignkey", "an event is one row, and refers to no other"),
		component.Enum("transaction.isolation", &c.isolation, "READ_COMMITTED", "READ_UNCOMMITTED", "READ_COMMITTED", "REPEATABLE_READ", "SERIALIZABLE").
			Describe("The isolation of PostgreSQL's transactions; SQLite's are always serializable. The channel needs no more than READ_COMMITTED."),
		component.Ignore("maximum.connections", "it has two, one that writes and one that reads"),
		component.Int64("maximum.capacity", &c.capacity, 0).In("events").Min(0).
			Describe("How many events the channel holds, those of open takes and of puts under way included; 0: no limit."),
	}
	for i := range fields {
		fields[i] = fields[i].Old(oldPrefix + fields[i].Key)
	}
	return append(fields,
		component.Map("sysprop.", &c.system).Describe("`sysprop.user.home` is the home directory for the default of driver.url. Others are for Java, and have no effect."),
		component.Map(oldPrefix+"sysprop.", &c.oldSystem).Describe("The same by its first name."),
		component.Duration("keep-alive", &c.keepAlive, time.Second, 3*time.Second).Min(0).Lenient().
			Describe("How long a put waits for room or for the database to be back, and a take for an event. Not one of Flume's."),
	)
}

// NewChannel makes the channel.
func (c *config) NewChannel(env component.Env) (component.Channel, error) {
	home := ""
	for prefix, m := range map[string]map[string]string{"sysprop.": c.system, oldPrefix + "sysprop.": c.oldSystem} {
		for name, value := range m {
			if name == "user.home" {
				home = value
				continue
			}
			env.Warn(prefix+name, "remove it", "no effect: it is a property of a Java VM")
		}
	}
	s, err := c.store(env, home)
	if err != nil {
		return nil, err
	}
	return newChannel(s, c.capacity, c.keepAlive, env), nil
}

// refused says why other databases are not there.
const refusedHint = "remove driver.url for a file of SQLite, or name one with jdbc:sqlite:PATH, or a PostgreSQL with jdbc:postgresql://HOST/DATABASE"

func (c *config) store(env component.Env, home string) (store, error) {
	u := strings.TrimSpace(c.url)
	fail := func(key, hint, format string, args ...any) (store, error) {
		return nil, &component.KeyError{Key: key, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	wrongType := func(types ...string) bool {
		for _, t := range append(types, "") {
			if c.dbType == t {
				return false
			}
		}
		return true
	}
	lower := strings.ToLower(u)
	switch {
	case u == "":
		for key, set := range map[string]bool{"db.type": wrongType("SQLITE", "DERBY"), "db.username": c.user != "", "db.password": c.password != "", "connection.properties.file": c.propertiesFile != ""} {
			if set {
				env.Warn(key, "set driver.url", "no effect: without driver.url the embedded database is used, as in Flume")
			}
		}
		return c.embedded(env, home)
	case strings.HasPrefix(lower, "jdbc:sqlite:"):
		if wrongType("SQLITE") {
			return fail("db.type", "remove it", "%s, and driver.url names an SQLite", c.dbType)
		}
		path, query, _ := strings.Cut(u[len("jdbc:sqlite:"):], "?")
		path = strings.TrimPrefix(path, "file:")
		switch {
		case query != "":
			return fail("driver.url", "remove what begins with ?", "SQLite gets no parameters")
		case path == "" || path == ":memory:":
			return fail("driver.url", "write jdbc:sqlite:PATH", "it names no file, and events in memory would not outlive the process")
		}
		return c.file(path)
	case strings.HasPrefix(lower, "jdbc:postgresql:"), strings.HasPrefix(lower, "postgres://"), strings.HasPrefix(lower, "postgresql://"):
		if wrongType("POSTGRESQL") {
			return fail("db.type", "remove it", "%s, and driver.url names a PostgreSQL", c.dbType)
		}
		return c.postgres(env, u)
	case strings.HasPrefix(lower, "jdbc:derby:"):
		return fail("driver.url", refusedHint, "Derby is a database inside of a Java VM, and cannot be opened here: let Flume drain what is in it")
	case strings.HasPrefix(lower, "jdbc:mysql:"), strings.HasPrefix(lower, "jdbc:mariadb:"):
		return fail("driver.url", refusedHint, "MySQL is not supported: let Flume drain what is in it")
	}
	return fail("driver.url", refusedHint, "%q is neither an SQLite nor a PostgreSQL", strings.SplitN(u, "/", 2)[0])
}

// embedded is the file that stands in for Flume's Derby.
func (c *config) embedded(env component.Env, home string) (store, error) {
	if home == "" {
		var err error
		if home, err = javapath.Home(env.Properties); err != nil {
			return nil, &component.KeyError{Key: "driver.url", Err: err, Hint: "write jdbc:sqlite:PATH"}
		}
	}
	dir := home + homeDir
	s, err := c.file(filepath.Join(dir, url.PathEscape(env.Name)+".sqlite"))
	if err != nil {
		return nil, err
	}
	s.derby = filepath.Join(dir, "db")
	if env.Log != nil {
		s.log = env.Log
	}
	return s, nil
}

func (c *config) file(path string) (*sqliteStore, error) {
	abs, err := filepath.Abs(path)
	if err != nil {
		return nil, &component.KeyError{Key: "driver.url", Err: err, Hint: "write an absolute path"}
	}
	return &sqliteStore{path: abs, create: c.create, free: vfs.FreeSpace, log: slog.New(slog.DiscardHandler)}, nil
}

// maxName is the longest identifier of PostgreSQL, in bytes.
const maxName = 63

func (c *config) postgres(env component.Env, u string) (store, error) {
	cfg, schema, err := c.parsePostgres(env, u)
	if err != nil {
		var k *component.KeyError
		if !errors.As(err, &k) {
			err = &component.KeyError{Key: "driver.url", Err: err, Hint: "write jdbc:postgresql://HOST:PORT/DATABASE?PARAMETER=VALUE&…"}
		}
		return nil, err
	}
	s := &postgresStore{config: cfg, schema: schema, table: "channel_" + env.Name, create: c.create, log: env.Log}
	if s.log == nil {
		s.log = slog.New(slog.DiscardHandler)
	}
	if n := len(s.table); n > maxName {
		return nil, &component.KeyError{Key: "driver.url", Err: fmt.Errorf("the table %s would have a name of %d bytes, PostgreSQL's have at most %d", s.table, n, maxName), Hint: "give the channel a shorter name"}
	}
	return s, nil
}
