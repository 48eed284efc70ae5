package jdbc

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-data/sluice/component"
)

// made is the store of a configuration and the warnings, or the error.
func made(t *testing.T, props ...string) (s store, warned string, err error) {
	t.Helper()
	c := new(config)
	var list []component.Property
	for _, p := range props {
		k, v, _ := strings.Cut(p, "=")
		list = append(list, component.Property{Key: k, Value: v})
	}
	for _, f := range component.Decode(component.Default(), c, list) {
		if f.Error {
			return nil, "", errors.New(f.Message)
		}
		warned += f.Key + ": " + f.Message + "\n"
	}
	ch, err := c.NewChannel(component.Env{Agent: "a1", Name: "c/1", Properties: map[string]string{"user.home": "/home/u"},
		Finding: func(f component.Finding) { warned += f.Key + ": " + f.Message + "\n" }})
	if err != nil {
		return nil, warned, err
	}
	return ch.(*Channel).store, warned, nil
}

func TestEmbedded(t *testing.T) {
	for _, tt := range []struct {
		props      []string
		path, warn string
	}{
		{nil, "/home/u/.flume/jdbc-channel/c%2F1.sqlite", ""},
		{[]string{"db.type=DERBY", "driver.class=org.apache.derby.jdbc.EmbeddedDriver"}, "/home/u/.flume/jdbc-channel/c%2F1.sqlite", "driver.class: no effect"},
		{[]string{"sysprop.user.home=/srv"}, "/srv/.flume/jdbc-channel/c%2F1.sqlite", ""},
		{[]string{"org.apache.flume.channel.jdbc.sysprop.user.home=/srv", "sysprop.derby.system.home=/x"}, "/srv/.flume/jdbc-channel/c%2F1.sqlite", "sysprop.derby.system.home: no effect"},
		{[]string{"db.type=MYSQL", "db.username=u"}, "/home/u/.flume/jdbc-channel/c%2F1.sqlite", "db.username: no effect: without driver.url"},
		{[]string{"driver.url=jdbc:sqlite:/data/x.db"}, "/data/x.db", ""},
		{[]string{"org.apache.flume.channel.jdbc.driver.url=jdbc:sqlite:/data/x.db", "db.type=sqlite"}, "/data/x.db", "deprecated name"},
	} {
		s, warned, err := made(t, tt.props...)
		if err != nil {
			t.Errorf("%q: %v", tt.props, err)
			continue
		}
		if got := s.(*sqliteStore).path; got != tt.path || !strings.Contains(warned, tt.warn) || (tt.warn == "") != (warned == "") {
			t.Errorf("%q: %s, warnings %q", tt.props, got, warned)
		}
	}
}

func TestRefusedURLs(t *testing.T) {
	for url, want := range map[string]string{
		"jdbc:derby:/var/db;create=true":                    "let Flume drain",
		"jdbc:mysql://h/db":                                 "MySQL is not supported",
		"jdbc:oracle:thin:@h":                               "neither an SQLite nor a PostgreSQL",
		"jdbc:sqlite:":                                      "names no file",
		"jdbc:sqlite::memory:":                              "names no file",
		"jdbc:sqlite:/x?journal_mode=OFF":                   "no parameters",
		"jdbc:postgresql://h/db?nonsense=1":                 "unknown parameter nonsense",
		"jdbc:postgresql://h:x/db":                          "port",
		"jdbc:postgresql://h/db?sslmode=maybe":              "sslmode",
		"jdbc:postgresql://h/db?password=p":                 "no user",
		"jdbc:postgresql://h/db?currentSchema=":             "schema",
		"jdbc:postgresql://h/db?targetServerType=secondary": "must be primary",
	} {
		if _, _, err := made(t, "driver.url="+url); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if _, _, err := made(t, "driver.url=jdbc:postgresql://h/db", "db.type=MYSQL"); err == nil || !strings.Contains(err.Error(), "names a PostgreSQL") {
		t.Errorf("type and URL differ: %v", err)
	}
}

func TestPostgresURL(t *testing.T) {
	file := filepath.Join(t.TempDir(), "c.properties")
	if err := os.WriteFile(file, []byte("user = filed\npassword = p\\u00e9\nsslmode = disable\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		props                           []string
		host                            string
		port                            uint16
		db, user, password, schema, app string
		tls                             bool
	}{
		{[]string{"driver.url=jdbc:postgresql://db.example:5433/events", "db.username=u", "db.password=p@/?:"}, "db.example", 5433, "events", "u", "p@/?:", "flume", "sluice a1/c/1", true},
		{[]string{"driver.url=jdbc:postgresql://h/e%20v?user=x%26y&currentSchema=host1,public&sslmode=disable&ApplicationName=me", "db.username=u"}, "h", 5432, "e v", "x&y", "", "host1", "me", false},
		{[]string{"driver.url=jdbc:postgresql:ev", "connection.properties.file=" + file}, "localhost", 5432, "ev", "filed", "pé", "flume", "sluice a1/c/1", false},
		{[]string{"driver.url=jdbc:postgresql://h/ev?ssl=true&prepareThreshold=0", "connection.properties.file=" + file, "db.username=u"}, "h", 5432, "ev", "u", "pé", "flume", "sluice a1/c/1", false},
		{[]string{"driver.url=postgres://u:p%40@h:7/ev?sslmode=require&connect_timeout=5", "transaction.isolation=serializable"}, "h", 7, "ev", "u", "p@", "flume", "sluice a1/c/1", true},
		{[]string{"driver.url=jdbc:postgresql://h1:1,h2:2/ev?sslmode=disable&targetServerType=primary", "db.username=u"}, "h1", 1, "ev", "u", "", "flume", "sluice a1/c/1", false},
	} {
		s, _, err := made(t, tt.props...)
		if err != nil {
			t.Errorf("%q: %v", tt.props, err)
			continue
		}
		p := s.(*postgresStore)
		c := p.config
		if c.Host != tt.host || c.Port != tt.port || c.Database != tt.db || c.User != tt.user || c.Password != tt.password || p.schema != tt.schema || c.RuntimeParams["application_name"] != tt.app || (c.TLSConfig != nil) != tt.tls {
			t.Errorf("%q: %s:%d/%s as %s %q, schema %s, application %q, TLS %v", tt.props, c.Host, c.Port, c.Database, c.User, c.Password, p.schema, c.RuntimeParams["application_name"], c.TLSConfig != nil)
		}
		if strings.Contains(s.String(), "p@") {
			t.Errorf("%s shows the password", s)
		}
	}
}
