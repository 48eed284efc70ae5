package keystore

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

const password = "changeit"

// pair makes a key and its self-signed certificate.
func pair(t *testing.T) (*ecdsa.PrivateKey, *x509.Certificate) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "localhost"}, NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, tmpl, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return key, cert
}

// stores writes the key and the certificate to trust in every form.
func stores(t *testing.T) (cert *x509.Certificate, keys, trusts map[string]string) {
	t.Helper()
	key, cert := pair(t)
	pk, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	keys, trusts = map[string]string{}, map[string]string{}
	write := func(to map[string]string, name string, b []byte, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		to[name] = filepath.Join(dir, name)
		if err := os.WriteFile(to[name], b, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	der := jks.Certificate{Type: "X509", Content: cert.Raw}
	store := func(fill func(jks.KeyStore) error) ([]byte, error) {
		ks := jks.New()
		if err := fill(ks); err != nil {
			return nil, err
		}
		var b bytes.Buffer
		err := ks.Store(&b, []byte(password))
		return b.Bytes(), err
	}
	b, err := store(func(ks jks.KeyStore) error {
		if err := ks.SetTrustedCertificateEntry("another", jks.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: der}); err != nil {
			return err
		}
		return ks.SetPrivateKeyEntry("key", jks.PrivateKeyEntry{CreationTime: time.Now(), PrivateKey: pk, CertificateChain: []jks.Certificate{der}}, []byte(password))
	})
	write(keys, "key.jks", b, err)
	b, err = store(func(ks jks.KeyStore) error {
		return ks.SetTrustedCertificateEntry("ca", jks.TrustedCertificateEntry{CreationTime: time.Now(), Certificate: der})
	})
	write(trusts, "trust.jks", b, err)
	b, err = pkcs12.Modern.Encode(key, cert, nil, password)
	write(keys, "key.p12", b, err)
	b, err = pkcs12.Modern.EncodeTrustStore([]*x509.Certificate{cert}, password)
	write(trusts, "trust.p12", b, err)
	pemCert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert.Raw})
	write(keys, "key.pem", append(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pk}), pemCert...), nil)
	write(trusts, "trust.pem", pemCert, nil)
	return cert, keys, trusts
}

func TestKey(t *testing.T) {
	cert, keys, trusts := stores(t)
	for name, path := range keys {
		c, err := Key(path, password)
		if err != nil || len(c.Certificate) == 0 || !bytes.Equal(c.Certificate[0], cert.Raw) {
			t.Errorf("%s: %v", name, err)
			continue
		}
		// It can be used.
		leaf, err := x509.ParseCertificate(c.Certificate[0])
		if err != nil || !leaf.PublicKey.(*ecdsa.PublicKey).Equal(c.PrivateKey.(*ecdsa.PrivateKey).Public()) {
			t.Errorf("%s: the key is not that of the certificate (%v)", name, err)
		}
		if _, err := Key(path, "wrong"); name != "key.pem" && (err == nil || !strings.Contains(err.Error(), "password")) {
			t.Errorf("%s with a wrong password: %v", name, err)
		}
	}
	for name, path := range trusts {
		if c, err := Key(path, password); err == nil {
			t.Errorf("%s gives a key: %+v", name, c)
		}
	}
}

func TestTrust(t *testing.T) {
	cert, keys, trusts := stores(t)
	verify := func(name, path, password string) {
		t.Helper()
		pool, err := Trust(path, password)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			return
		}
		if _, err := cert.Verify(x509.VerifyOptions{Roots: pool}); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, path := range trusts {
		verify(name, path, password)
	}
	for name, path := range keys { // Java trusts the certificates of keys as well
		verify(name, path, password)
	}
	verify("trust.jks without a password", trusts["trust.jks"], "")
	if _, err := Trust(trusts["trust.jks"], "wrong"); err == nil {
		t.Error("a wrong password passes")
	}
	_, other := pair(t)
	if pool, err := Trust(trusts["trust.p12"], password); err != nil {
		t.Error(err)
	} else if _, err := other.Verify(x509.VerifyOptions{Roots: pool}); err == nil {
		t.Error("another certificate is trusted")
	}
}

// Stores whose lengths ask for more memory than a machine has.
const (
	hugeCertificate = "\xFE\xED\xFE\xED\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02\x00\x01a12345678\x00\x05X.509\xFF\xFF\xFF\xF0cert"
	hugeChain       = "\xFE\xED\xFE\xED\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x01\x00\x01a12345678\x00\x00\x00\x01k\xFF\xFF\xFF\xFF01234567890123456789"
)

func TestBadStores(t *testing.T) {
	dir := t.TempDir()
	_, keys, _ := stores(t)
	whole, err := os.ReadFile(keys["key.jks"])
	if err != nil {
		t.Fatal(err)
	}
	key, cert := pair(t)
	busy, err := pkcs12.Modern.WithIterations(100000).Encode(key, cert, nil, password)
	if err != nil {
		t.Fatal(err)
	}
	iterations := []byte("\x02\x03\x01\x86\xA0")
	at := bytes.LastIndex(busy, iterations) // in MacData, which comes last
	if at < 0 {
		t.Fatal("the store has another number of iterations")
	}
	copy(busy[at:], "\x02\x03\x7F\xFF\xFF")
	for _, tt := range []struct{ name, content, text string }{
		{"empty", "", "neither"},
		{"text", "hello", "neither"},
		{"jceks", "\xCE\xCE\xCE\xCE\x00\x00\x00\x02", "JCEKS"},
		{"cut jks", string(whole[:len(whole)/2]), "damaged"},
		{"jks head", "\xFE\xED\xFE\xED", "too short"},
		{"jks with a certificate of 4 GB", hugeCertificate, "damaged"},
		{"jks with 4 G certificates", hugeChain, "damaged"},
		{"jks with another digest", string(whole[:len(whole)-1]) + "x", "password"},
		{"p12 with 8 M iterations", string(busy), "iterations"},
		{"cut p12", "\x30\x82\x10\x00", "pkcs12"},
		{"pem without a key", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", ""},
	} {
		path := filepath.Join(dir, "store")
		if err := os.WriteFile(path, []byte(tt.content), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := Key(path, password)
		if err == nil || !strings.Contains(err.Error(), tt.text) || !strings.Contains(err.Error(), path) {
			t.Errorf("%s: key: %v", tt.name, err)
		}
		if _, err := Trust(path, password); err == nil {
			t.Errorf("%s: trust passes", tt.name)
		}
	}
	if _, err := Key(dir, password); err == nil {
		t.Error("a directory passes")
	}
	if _, err := Trust(filepath.Join(dir, "missing"), password); err == nil {
		t.Error("a missing file passes")
	}
}

// FuzzStore: a store is a file that somebody else may have written.
func FuzzStore(f *testing.F) {
	f.Add([]byte("\xFE\xED\xFE\xED\x00\x00\x00\x02\x00\x00\x00\x01\x00\x00\x00\x02"))
	f.Add([]byte("\x30\x82\x10\x00"))
	f.Add([]byte(hugeCertificate))
	f.Add([]byte(hugeChain))
	f.Fuzz(func(t *testing.T, b []byte) {
		path := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if c, err := Key(path, password); err == nil && (c.PrivateKey == nil || len(c.Certificate) == 0) {
			t.Errorf("%+v", tls.Certificate{Certificate: c.Certificate})
		}
		_, _ = Trust(path, "")
	})
}
