package rpc

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/keystore"
)

// suites are the properties that narrow what TLS may use.
type suites struct {
	includeProtocols, excludeProtocols []string
	includeCiphers, excludeCiphers     []string
}

func (s *suites) fields() []component.Field {
	return []component.Field{
		component.List("include-protocols", &s.includeProtocols).
			Describe("TLS versions to allow: TLSv1, TLSv1.1, TLSv1.2, TLSv1.3; unset: the last two."),
		component.List("exclude-protocols", &s.excludeProtocols).AsDefault("SSLv3").
			Describe("TLS versions to leave out of these. SSLv3 is never there."),
		component.List("include-cipher-suites", &s.includeCiphers).
			Describe("Cipher suites to allow, by their TLS_… names; unset: those that Go holds to be secure."),
		component.List("exclude-cipher-suites", &s.excludeCiphers).
			Describe("Cipher suites to leave out. The three of TLS 1.3 can only be left out together, by leaving TLSv1.3 out."),
	}
}

// store is a key store or a trust store.
type store struct{ path, password, typ string }

// fields declares the three properties of a store, called name, name-password
// and name-type.
func (s *store) fields(name, what string) []component.Field {
	return []component.Field{
		component.String(name, &s.path, "").AsType("path").Describe(what),
		component.String(name+"-password", &s.password, "").Describe("Its password."),
		component.Enum(name+"-type", &s.typ, "JKS", "JKS", "PKCS12", "PEM").
			Describe("Its type. The content decides: a PKCS12 store is read whatever this says."),
	}
}

// global completes a store from what holds for the whole process: JVM-style
// properties or, as in Flume, variables of the environment.
func (s *store) global(env component.Env, property, variable string) {
	if s.path != "" {
		return
	}
	get := func(p, v string) string { return cmp.Or(env.Properties[p], os.Getenv(v)) }
	s.path = get("javax.net.ssl."+property, "FLUME_SSL_"+variable+"_PATH")
	s.password = cmp.Or(s.password, get("javax.net.ssl."+property+"Password", "FLUME_SSL_"+variable+"_PASSWORD"))
}

func (s *suites) global(env component.Env) {
	for _, l := range []struct {
		list               *[]string
		property, variable string
	}{
		{&s.includeProtocols, "include.protocols", "INCLUDE_PROTOCOLS"},
		{&s.excludeProtocols, "exclude.protocols", "EXCLUDE_PROTOCOLS"},
		{&s.includeCiphers, "include.cipherSuites", "INCLUDE_CIPHERSUITES"},
		{&s.excludeCiphers, "exclude.cipherSuites", "EXCLUDE_CIPHERSUITES"},
	} {
		if len(*l.list) == 0 {
			text := cmp.Or(env.Properties["flume.ssl."+l.property], os.Getenv("FLUME_SSL_"+l.variable))
			*l.list = strings.FieldsFunc(text, func(r rune) bool { return r == ' ' || r == ',' })
		}
	}
}

var tlsVersions = []struct {
	name    string
	version uint16
}{
	{"TLSv1", tls.VersionTLS10}, {"TLSv1.1", tls.VersionTLS11}, {"TLSv1.2", tls.VersionTLS12}, {"TLSv1.3", tls.VersionTLS13},
}

// apply narrows c.
func (s *suites) apply(c *tls.Config) error {
	include := s.includeProtocols
	if len(include) == 0 {
		include = []string{"TLSv1.2", "TLSv1.3"}
	}
	// TLS 1.3 has no suites to choose from: it goes when none of its is allowed.
	all := append(tls.CipherSuites(), tls.InsecureCipherSuites()...)
	var ciphers []uint16
	var allowed13, denied13 int
	for _, cs := range all {
		ok := (len(s.includeCiphers) == 0 || slices.Contains(s.includeCiphers, cs.Name)) && !slices.Contains(s.excludeCiphers, cs.Name)
		switch {
		case slices.Equal(cs.SupportedVersions, []uint16{tls.VersionTLS13}):
			if ok {
				allowed13++
			} else {
				denied13++
			}
		case ok && (!cs.Insecure || len(s.includeCiphers) > 0):
			ciphers = append(ciphers, cs.ID)
		}
	}
	var got []uint16
	gap := false
	for _, v := range tlsVersions {
		use := slices.Contains(include, v.name) && !slices.Contains(s.excludeProtocols, v.name)
		if v.version == tls.VersionTLS13 && use && denied13 > 0 {
			if allowed13 > 0 && len(s.excludeCiphers) > 0 {
				return &component.KeyError{Key: "exclude-cipher-suites", Err: errors.New("the three cipher suites of TLS 1.3 can only be left out together"), Hint: "add TLSv1.3 to exclude-protocols, or exclude none of them"}
			}
			use = allowed13 > 0
		}
		if v.version != tls.VersionTLS13 && len(ciphers) == 0 {
			use = false
		}
		if !use {
			continue
		}
		gap = gap || len(got) > 0 && got[len(got)-1] != v.version-1
		got = append(got, v.version)
	}
	switch {
	case len(got) == 0 && (len(s.includeCiphers) > 0 || len(s.excludeCiphers) > 0):
		return &component.KeyError{Key: "include-cipher-suites", Err: errors.New("no version of TLS with a cipher suite is left"), Hint: "for example TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"}
	case len(got) == 0:
		return &component.KeyError{Key: "include-protocols", Err: errors.New("no version of TLS is left"), Hint: "TLSv1.2 TLSv1.3"}
	case gap:
		return &component.KeyError{Key: "include-protocols", Err: errors.New("the versions must follow each other"), Hint: "TLSv1.2 TLSv1.3"}
	}
	c.MinVersion, c.MaxVersion = got[0], got[len(got)-1]
	if len(s.includeCiphers) > 0 || len(s.excludeCiphers) > 0 {
		c.CipherSuites = ciphers
	}
	return nil
}

// ServerTLS is the TLS of a source.
type ServerTLS struct {
	enabled    bool
	key, trust store
	clientAuth string
	suites     suites
}

// Fields declares the properties.
func (t *ServerTLS) Fields() []component.Field {
	return slices.Concat(
		[]component.Field{component.Bool("ssl", &t.enabled, false).Describe("Whether clients must speak TLS.")},
		t.key.fields("keystore", "The Java key store (JKS or PKCS12) or PEM file with the source's key and certificate. Unset: -Djavax.net.ssl.keyStore or FLUME_SSL_KEYSTORE_PATH."),
		[]component.Field{component.Enum("client-auth", &t.clientAuth, "none", "none", "required").
			Describe("required: clients must show a certificate that truststore trusts (ours; Flume's sinks have none to show).")},
		t.trust.fields("truststore", "Certificates of clients, or of authorities for them, with client-auth = required (ours)."),
		t.suites.fields())
}

// Config makes the configuration, nil without TLS.
func (t *ServerTLS) Config(env component.Env) (*tls.Config, error) {
	if !t.enabled {
		return nil, nil
	}
	t.key.global(env, "keyStore", "KEYSTORE")
	t.suites.global(env)
	switch {
	case t.key.path == "":
		return nil, &component.KeyError{Key: "keystore", Err: errors.New("it must be set with ssl = true"), Hint: "a JKS or PKCS12 store, or a PEM file, with the key and its certificate"}
	case t.key.password == "" && t.key.typ != "PEM":
		return nil, &component.KeyError{Key: "keystore-password", Err: errors.New("it must be set with ssl = true")}
	}
	c := &tls.Config{}
	if err := t.suites.apply(c); err != nil {
		return nil, err
	}
	cert, err := keystore.Key(t.key.path, t.key.password)
	if err != nil {
		return nil, &component.KeyError{Key: "keystore", Err: err}
	}
	c.Certificates = []tls.Certificate{cert}
	if t.clientAuth == "required" {
		t.trust.global(env, "trustStore", "TRUSTSTORE")
		if t.trust.path == "" {
			return nil, &component.KeyError{Key: "truststore", Err: errors.New("it must be set with client-auth = required")}
		}
		if c.ClientCAs, err = keystore.Trust(t.trust.path, t.trust.password); err != nil {
			return nil, &component.KeyError{Key: "truststore", Err: err}
		}
		c.ClientAuth = tls.RequireAndVerifyClientCert
	}
	return c, nil
}

// ClientTLS is the TLS of a sink or client.
type ClientTLS struct {
	enabled        bool
	trustAll       bool
	verifyHostname bool
	key, trust     store
	suites         suites
}

// Fields declares the properties.
func (t *ClientTLS) Fields() []component.Field {
	return slices.Concat(
		[]component.Field{
			component.Bool("ssl", &t.enabled, false).Describe("Whether to speak TLS."),
			component.Bool("trust-all-certs", &t.trustAll, false).Describe("Take any certificate: whoever sits on the way can read and change everything."),
			component.Bool("verify-hostname", &t.verifyHostname, false).Describe("Check that the certificate is for the host, too (ours; Flume never does)."),
		},
		t.trust.fields("truststore", "The Java key store (JKS or PKCS12) or PEM file with the certificates to trust. Unset: -Djavax.net.ssl.trustStore or FLUME_SSL_TRUSTSTORE_PATH, else the system's."),
		t.key.fields("keystore", "The key and certificate to show to a server that demands one (ours)."),
		t.suites.fields())
}

// verifier checks what the server at host has shown.
type verifier func(host string, cs tls.ConnectionState) error

// config makes the configuration, nil without TLS, and what checks a server.
func (t *ClientTLS) config(env component.Env) (*tls.Config, verifier, error) {
	if !t.enabled {
		return nil, nil, nil
	}
	t.suites.global(env)
	c := &tls.Config{InsecureSkipVerify: true} // the verifier does it, without the host's name unless that is wanted
	if err := t.suites.apply(c); err != nil {
		return nil, nil, err
	}
	if t.key.path != "" {
		cert, err := keystore.Key(t.key.path, t.key.password)
		if err != nil {
			return nil, nil, &component.KeyError{Key: "keystore", Err: err}
		}
		c.Certificates = []tls.Certificate{cert}
	}
	if t.trustAll {
		env.Log.Warn("trust-all-certs: any certificate is taken, so the connection is not safe from whoever sits on the way")
		return c, nil, nil
	}
	t.trust.global(env, "trustStore", "TRUSTSTORE")
	var roots *x509.CertPool // nil: the system's
	if t.trust.path != "" {
		var err error
		if roots, err = keystore.Trust(t.trust.path, t.trust.password); err != nil {
			return nil, nil, &component.KeyError{Key: "truststore", Err: err}
		}
	}
	verify := func(host string, cs tls.ConnectionState) error {
		opts := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
		if t.verifyHostname {
			opts.DNSName = host
		}
		for _, cert := range cs.PeerCertificates[1:] {
			opts.Intermediates.AddCert(cert)
		}
		if _, err := cs.PeerCertificates[0].Verify(opts); err != nil {
			return fmt.Errorf("the peer's certificate is not trusted (check truststore): %w", err)
		}
		return nil
	}
	return c, verify, nil
}
