package kafkaconf

import (
	"cmp"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/twmb/franz-go/pkg/sasl"
	"github.com/twmb/franz-go/pkg/sasl/plain"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/keystore"
)

// security is TLS and SASL.
type security struct {
	protocol  string
	mechanism string
	jaas      string

	truststore, truststoreType, truststorePEM      string
	keystore, keystoreType, keystorePEM, chainPEM  string
	storePassword, keyPassword, trustStorePassword string

	identification string
	noHostname     bool
	protocols      []string
}

const (
	oauthReason    = "OAUTHBEARER is not supported; use SCRAM-SHA-512 over SASL_SSL"
	kerberosReason = "GSSAPI (Kerberos) is not supported; use SCRAM-SHA-512 over SASL_SSL"
	javaTLSReason  = "it selects a Java implementation of TLS; there is one here"
)

func (s *security) fields(prefix string) []component.Field {
	k := func(name string) string { return prefix + name }
	fields := []component.Field{
		component.Enum(k("security.protocol"), &s.protocol, "PLAINTEXT", "PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL").
			Describe("How brokers are talked to. Over PLAINTEXT and SASL_PLAINTEXT everything can be read on the wire."),
		component.Value(k("sasl.mechanism"), &s.mechanism, "enum", "", func(v string) (string, error) {
			switch v = strings.ToUpper(strings.TrimSpace(v)); v {
			case "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512":
				return v, nil
			case "GSSAPI":
				return "", errors.New(kerberosReason)
			case "OAUTHBEARER":
				return "", errors.New(oauthReason)
			}
			return "", fmt.Errorf("%q is not one of PLAIN, SCRAM-SHA-256, SCRAM-SHA-512", v)
		}).Describe("PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512. It must be set with SASL_PLAINTEXT and SASL_SSL (Kafka's default, GSSAPI, is not supported)."),
		component.String(k("sasl.jaas.config"), &s.jaas, "").Describe("User and password in JAAS form: `…PlainLoginModule required username=\"u\" password=\"p\";` or `…ScramLoginModule …`. Unset: the section KafkaClient of the file that -Djava.security.auth.login.config names."),
		component.String(k("ssl.truststore.location"), &s.truststore, "").AsType("path").Describe("The authorities to trust: a JKS or PKCS12 store or a PEM file. Unset: -Djavax.net.ssl.trustStore or FLUME_SSL_TRUSTSTORE_PATH in the environment, as in Flume; else the system's."),
		component.String(k("ssl.truststore.type"), &s.truststoreType, "").Describe("JKS, PKCS12 or PEM. The content decides, whatever this says."),
		component.String(k("ssl.truststore.certificates"), &s.truststorePEM, "").Describe("The authorities themselves, in PEM form."),
		component.String(k("ssl.truststore.password"), &s.trustStorePassword, "").Describe("The store's password. Without it a store's integrity is not checked; PEM files have none."),
		component.String(k("ssl.keystore.location"), &s.keystore, "").AsType("path").Describe("The client's key and certificate chain: a JKS or PKCS12 store or a PEM file. Unset: -Djavax.net.ssl.keyStore or FLUME_SSL_KEYSTORE_PATH."),
		component.String(k("ssl.keystore.type"), &s.keystoreType, "").Describe("JKS, PKCS12 or PEM. The content decides, whatever this says."),
		component.String(k("ssl.keystore.key"), &s.keystorePEM, "").Describe("The client's key itself, in PEM form."),
		component.String(k("ssl.keystore.certificate.chain"), &s.chainPEM, "").Describe("The client's certificate chain itself, in PEM form."),
		component.String(k("ssl.keystore.password"), &s.storePassword, "").Describe("The store's password; PEM files have none."),
		component.String(k("ssl.key.password"), &s.keyPassword, "").Describe("Not used: the key of a store must have the store's password, and encrypted PEM keys are not supported."),
		component.Enum(k("ssl.endpoint.identification.algorithm"), &s.identification, "https", "https", "none").Describe("none: the broker's host name is not checked against its certificate."),
		component.Bool(k("ssl.disableTLSHostnameVerification"), &s.noHostname, false).Describe("Flume's way to write ssl.endpoint.identification.algorithm = none."),
		component.CommaList(k("ssl.enabled.protocols"), &s.protocols).Describe("TLSv1.2, TLSv1.3 or both (the default)."),
		component.Refuse(k("sasl.client.callback.handler.class"), "Java classes cannot be loaded; give user and password in sasl.jaas.config"),
		component.Refuse(k("sasl.login.class"), "Java classes cannot be loaded; give user and password in sasl.jaas.config"),
		component.Refuse(k("sasl.login.callback.handler.class"), "Java classes cannot be loaded; give user and password in sasl.jaas.config"),
		component.Refuse(k("ssl.engine.factory.class"), "Java classes cannot be loaded; give certificates as files"),
	}
	for _, n := range []string{"sasl.kerberos.service.name", "sasl.kerberos.kinit.cmd", "sasl.kerberos.min.time.before.relogin", "sasl.kerberos.ticket.renew.jitter", "sasl.kerberos.ticket.renew.window.factor"} {
		fields = append(fields, component.Ignore(k(n), kerberosReason))
	}
	for _, n := range []string{"sasl.login.refresh.buffer.seconds", "sasl.login.refresh.min.period.seconds", "sasl.login.refresh.window.factor", "sasl.login.refresh.window.jitter"} {
		fields = append(fields, component.Ignore(k(n), oauthReason))
	}
	for _, n := range []string{"ssl.protocol", "ssl.provider", "ssl.cipher.suites", "ssl.keymanager.algorithm", "ssl.trustmanager.algorithm", "ssl.secure.random.implementation"} {
		fields = append(fields, component.Ignore(k(n), javaTLSReason))
	}
	return fields
}

func (s *security) build(prefix string, d map[string]string) (*tls.Config, sasl.Mechanism, error) {
	var conf *tls.Config
	var mech sasl.Mechanism
	var err error
	if strings.HasSuffix(s.protocol, "SSL") {
		s.global(d)
		if conf, err = s.tls(prefix); err != nil {
			return nil, nil, err
		}
	}
	if strings.HasPrefix(s.protocol, "SASL_") {
		if mech, err = s.sasl(prefix, d); err != nil {
			return nil, nil, err
		}
	}
	return conf, mech, nil
}

func (s *security) sasl(prefix string, d map[string]string) (sasl.Mechanism, error) {
	fail := func(key, hint, format string, args ...any) (sasl.Mechanism, error) {
		return nil, &component.KeyError{Key: prefix + key, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	if s.mechanism == "" {
		return fail("sasl.mechanism", "PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512", "it must be set with security.protocol = %s, as Kafka's default, GSSAPI (Kerberos), is not supported", s.protocol)
	}
	module := "PlainLoginModule"
	if s.mechanism != "PLAIN" {
		module = "ScramLoginModule"
	}
	want := fmt.Sprintf(`org.apache.kafka.common.security.%s.%s required username="USER" password="PASSWORD";`,
		strings.ToLower(strings.TrimSuffix(module, "LoginModule")), module)
	text := s.jaas
	if file := d["java.security.auth.login.config"]; text == "" && file != "" {
		b, err := os.ReadFile(file)
		if err == nil {
			text, err = jaasSection(string(b), "KafkaClient")
		}
		if err != nil {
			return fail("sasl.jaas.config", want, "it is not set, and -Djava.security.auth.login.config does not help: %w", err)
		}
	}
	if text == "" {
		return fail("sasl.jaas.config", want, "it must be set with security.protocol = %s", s.protocol)
	}
	entries, err := parseJAAS(text)
	if err != nil {
		return fail("sasl.jaas.config", want, "%w", err)
	}
	var e *jaasEntry
	for i := range entries {
		if n := entries[i].module; n[strings.LastIndexByte(n, '.')+1:] == module {
			e = &entries[i]
			break
		}
	}
	if e == nil {
		return fail("sasl.jaas.config", want, "there is no %s, which %s needs", module, s.mechanism)
	}
	user, pass := e.options["username"], e.options["password"]
	if user == "" {
		return fail("sasl.jaas.config", want, "there is no username")
	}
	switch s.mechanism {
	case "PLAIN":
		return plain.Auth{User: user, Pass: pass}.AsMechanism(), nil
	case "SCRAM-SHA-256":
		return scram.Auth{User: user, Pass: pass, IsToken: e.options["tokenauth"] == "true"}.AsSha256Mechanism(), nil
	default:
		return scram.Auth{User: user, Pass: pass, IsToken: e.options["tokenauth"] == "true"}.AsSha512Mechanism(), nil
	}
}

// global completes the stores from what holds for the whole process: JVM-style
// properties or, as in Flume, variables of the environment.
func (s *security) global(d map[string]string) {
	get := func(property, variable string) string {
		return cmp.Or(d["javax.net.ssl."+property], os.Getenv("FLUME_SSL_"+variable))
	}
	if s.truststore == "" && s.truststorePEM == "" {
		s.truststore = get("trustStore", "TRUSTSTORE_PATH")
		s.trustStorePassword = cmp.Or(s.trustStorePassword, get("trustStorePassword", "TRUSTSTORE_PASSWORD"))
	}
	if s.keystore == "" && s.keystorePEM == "" {
		s.keystore = get("keyStore", "KEYSTORE_PATH")
		s.storePassword = cmp.Or(s.storePassword, get("keyStorePassword", "KEYSTORE_PASSWORD"))
	}
}

func (s *security) tls(prefix string) (*tls.Config, error) {
	fail := func(key, hint, format string, args ...any) (*tls.Config, error) {
		return nil, &component.KeyError{Key: prefix + key, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	conf := &tls.Config{MinVersion: tls.VersionTLS12}
	if len(s.protocols) > 0 {
		v2, v3 := slices.Contains(s.protocols, "TLSv1.2"), slices.Contains(s.protocols, "TLSv1.3")
		switch {
		case !v2 && !v3:
			return fail("ssl.enabled.protocols", "TLSv1.2,TLSv1.3", "%s: older versions are not secure and not supported", strings.Join(s.protocols, ","))
		case !v2:
			conf.MinVersion = tls.VersionTLS13
		case !v3:
			conf.MaxVersion = tls.VersionTLS12
		}
	}
	switch {
	case s.truststore != "":
		pool, err := keystore.Trust(s.truststore, s.trustStorePassword)
		if err != nil {
			return fail("ssl.truststore.location", "", "%w", err)
		}
		conf.RootCAs = pool
	case s.truststorePEM != "":
		conf.RootCAs = x509.NewCertPool()
		if !conf.RootCAs.AppendCertsFromPEM([]byte(s.truststorePEM)) {
			return fail("ssl.truststore.certificates", "", "there is no certificate in it (a block BEGIN CERTIFICATE)")
		}
	}
	chain, pkey, key := []byte(s.chainPEM), []byte(s.keystorePEM), "ssl.keystore.key"
	if s.keystore != "" {
		key = "ssl.keystore.location"
		b, err := os.ReadFile(s.keystore)
		if err != nil {
			return fail(key, "", "%w", err)
		}
		chain, pkey = b, b
		if block, _ := pem.Decode(b); block == nil {
			chain, pkey = nil, nil
			cert, err := keystore.Key(s.keystore, s.storePassword)
			if err != nil {
				return fail(key, "", "%w", err)
			}
			conf.Certificates = []tls.Certificate{cert}
		}
	}
	if len(pkey) > 0 || len(chain) > 0 {
		if encrypted(pkey) {
			return fail(key, "openssl pkey -in KEY -out plain.pem, and protect that file", "the key is encrypted, which is not supported")
		}
		cert, err := tls.X509KeyPair(chain, pkey)
		if err != nil {
			return fail(key, "", "%w", err)
		}
		conf.Certificates = []tls.Certificate{cert}
	}
	if s.noHostname || s.identification == "none" {
		// The chain is still checked, the name in it is not.
		roots := conf.RootCAs
		conf.InsecureSkipVerify = true
		conf.VerifyConnection = func(cs tls.ConnectionState) error {
			o := x509.VerifyOptions{Roots: roots, Intermediates: x509.NewCertPool()}
			for _, c := range cs.PeerCertificates[1:] {
				o.Intermediates.AddCert(c)
			}
			_, err := cs.PeerCertificates[0].Verify(o)
			return err
		}
	}
	return conf, nil
}

func encrypted(p []byte) bool {
	for {
		var b *pem.Block
		if b, p = pem.Decode(p); b == nil {
			return false
		}
		if b.Type == "ENCRYPTED PRIVATE KEY" || strings.Contains(b.Headers["Proc-Type"], "ENCRYPTED") {
			return true
		}
	}
}
