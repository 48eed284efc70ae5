package jdbc

import (
	"fmt"
	"maps"
	"net"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/flumeconf"
)

const (
	// defaultSchema is Flume's FLUME, as PostgreSQL writes it.
	defaultSchema = "flume"
	// connectTimeout is for one attempt, if the URL does not say otherwise.
	connectTimeout = 10 * time.Second
)

// parameters are those of PostgreSQL's JDBC driver that mean something here, with libpq's names. user, password,
// currentSchema, ssl and targetServerType are looked at one by one.
var parameters = map[string]string{
	"sslmode": "sslmode", "sslrootcert": "sslrootcert", "sslcert": "sslcert", "sslkey": "sslkey", "sslpassword": "sslpassword",
	"ApplicationName": "application_name", "connectTimeout": "connect_timeout", "loginTimeout": "connect_timeout", "options": "options",
	"channelBinding": "channel_binding", "requireAuth": "require_auth",
}

// ineffective are parameters that are about how the JDBC driver works inside.
var ineffective = []string{
	"adaptiveFetch", "adaptiveFetchMaximum", "adaptiveFetchMinimum", "allowEncodingChanges", "assumeMinServerVersion", "autosave", "binaryTransfer", "binaryTransferDisable", "binaryTransferEnable",
	"cancelSignalTimeout", "cleanupSavepoints", "databaseMetadataCacheFields", "databaseMetadataCacheFieldsMiB", "defaultRowFetchSize", "disableColumnSanitiser", "escapeSyntaxCallMode",
	"hostRecheckSeconds", "loadBalanceHosts", "logServerErrorDetail", "logUnclosedConnections", "loggerFile", "loggerLevel", "maxResultBuffer", "maxSendBufferSize", "preferQueryMode", "prepareThreshold",
	"preparedStatementCacheQueries", "preparedStatementCacheSizeMiB", "quoteReturningIdentifiers", "reWriteBatchedInserts", "receiveBufferSize", "sendBufferSize", "socketTimeout", "stringtype",
	"tcpKeepAlive", "tcpNoDelay", "unknownLength",
}

// parsePostgres makes of a URL, in JDBC's form or in PostgreSQL's own, how to connect and in which schema the tables are.
func (c *config) parsePostgres(env component.Env, u string) (*pgconn.Config, string, error) {
	params := url.Values{}
	if c.propertiesFile != "" {
		if err := c.readProperties(env, params); err != nil {
			return nil, "", err
		}
	}
	if c.user != "" {
		params.Set("user", c.user)
	}
	if c.password != "" {
		params.Set("password", c.password)
	}
	jdbc := strings.HasPrefix(strings.ToLower(u), "jdbc:")
	base, query, _ := strings.Cut(u, "?")
	given, err := url.ParseQuery(query)
	if err != nil {
		return nil, "", fmt.Errorf("parse its parameters: %w", err)
	}
	maps.Copy(params, given)
	target := url.URL{Scheme: "postgres"}
	if jdbc {
		rest := base[len("jdbc:postgresql:"):]
		if hosts, ok := strings.CutPrefix(rest, "//"); ok {
			hosts, rest, _ = strings.Cut(hosts, "/")
			target.Host = hosts
		} else {
			target.Host = "localhost"
		}
		name, err := url.PathUnescape(strings.TrimPrefix(rest, "/"))
		if err != nil {
			return nil, "", fmt.Errorf("parse the name of the database: %w", err)
		}
		target.Path = "/" + name
	} else {
		_, rest, _ := strings.Cut(base, "://")
		if at := strings.LastIndexByte(rest, '@'); at >= 0 {
			name, password, _ := strings.Cut(rest[:at], ":")
			for key, text := range map[string]string{"user": name, "password": password} {
				if text, err = url.PathUnescape(text); err != nil {
					return nil, "", fmt.Errorf("parse its %s: %w", key, err)
				}
				if text != "" {
					params.Set(key, text)
				}
			}
			rest = rest[at+1:]
		}
		host, name, _ := strings.Cut(rest, "/")
		if name, err = url.PathUnescape(name); err != nil {
			return nil, "", fmt.Errorf("parse the name of the database: %w", err)
		}
		target.Host, target.Path = host, "/"+name
	}
	if user := params.Get("user"); user != "" {
		target.User = url.User(user)
		if password := params.Get("password"); password != "" {
			target.User = url.UserPassword(user, password)
		}
	} else if params.Get("password") != "" {
		return nil, "", &component.KeyError{Key: "db.username", Err: fmt.Errorf("there is a password and no user"), Hint: "set it"}
	}
	schema := defaultSchema
	lib := url.Values{}
	for key := range params {
		value := params.Get(key)
		switch {
		case key == "user" || key == "password":
		case key == "currentSchema":
			first, _, _ := strings.Cut(value, ",")
			if schema = strings.TrimSpace(first); schema == "" || len(schema) > maxName {
				return nil, "", fmt.Errorf("%q is not the name of a schema", first)
			}
		case key == "ssl":
			if !params.Has("sslmode") {
				lib.Set("sslmode", map[bool]string{true: "verify-full", false: "disable"}[value != "false"]) // as the JDBC driver
			}
		case key == "targetServerType":
			switch value {
			case "any":
			case "master", "primary":
				lib.Set("target_session_attrs", "read-write")
			default:
				return nil, "", fmt.Errorf("targetServerType=%s: the channel writes, so it must be primary or any", value)
			}
		case parameters[key] != "":
			lib.Set(parameters[key], value)
		case slices.Contains(ineffective, key):
			env.Warn("driver.url", "remove it", "no effect: %s is about the JDBC driver", key)
		case !jdbc:
			lib.Set(key, value) // libpq's own
		default:
			return nil, "", fmt.Errorf("unknown parameter %s (known are user, password, currentSchema, ssl, targetServerType, %s)", key, strings.Join(slices.Sorted(maps.Keys(parameters)), ", "))
		}
	}
	target.RawQuery = lib.Encode()
	cfg, err := pgconn.ParseConfig(target.String())
	if err != nil {
		return nil, "", err
	}
	c.settings(cfg, env)
	return cfg, schema, nil
}

// settings are what the connections need.
func (c *config) settings(cfg *pgconn.Config, env component.Env) {
	if cfg.ConnectTimeout <= 0 {
		cfg.ConnectTimeout = connectTimeout
	}
	dialer := &net.Dialer{Timeout: cfg.ConnectTimeout, Control: control,
		KeepAliveConfig: net.KeepAliveConfig{Enable: true, Idle: 10 * time.Second, Interval: 5 * time.Second, Count: 4}}
	cfg.DialFunc = dialer.DialContext
	p := cfg.RuntimeParams
	if p["application_name"] == "" {
		p["application_name"] = "sluice " + env.Agent + "/" + env.Name
	}
	p["default_transaction_isolation"] = strings.ToLower(strings.ReplaceAll(c.isolation, "_", " "))
	p["statement_timeout"] = "0"
	// So that the server, too, notices soon when this machine is gone: until then it keeps the lock.
	p["tcp_keepalives_idle"], p["tcp_keepalives_interval"], p["tcp_keepalives_count"] = "10", "5", "4"
}

// readProperties reads the parameters of connection.properties.file.
func (c *config) readProperties(env component.Env, into url.Values) error {
	fail := func(err error) error {
		return &component.KeyError{Key: "connection.properties.file", Err: err, Hint: "name a Java properties file"}
	}
	b, err := os.ReadFile(c.propertiesFile)
	if err != nil {
		return fail(err)
	}
	entries, findings := flumeconf.Parse(c.propertiesFile, b)
	for _, f := range findings {
		if f.Severity == flumeconf.Error {
			return fail(fmt.Errorf("%s", f))
		}
		if f.Severity == flumeconf.Warning {
			env.Warn("connection.properties.file", f.Hint, "%s", f)
		}
	}
	for _, e := range entries.All() {
		into.Set(e.Name, e.Value.Raw)
	}
	return nil
}
