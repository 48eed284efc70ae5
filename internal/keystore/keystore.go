// Package keystore reads what Java programs keep keys and certificates in: JKS
// and PKCS12 stores, and PEM files as well; and the secret keys of JCEKS stores.
package keystore

import (
	"bytes"
	"crypto/sha1"
	"crypto/tls"
	"crypto/x509"
	"encoding/asn1"
	"encoding/pem"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"

	jks "github.com/pavlo-v-chernykh/keystore-go/v4"
	"software.sslmate.com/src/go-pkcs12"
)

const (
	// maxFile bounds what is read: a store has kilobytes.
	maxFile = 16 << 20
	// maxDepth bounds the nesting of a PKCS12 store, which has some 15 levels.
	maxDepth = 64
)

// Key reads the private key and its certificate chain. password opens the store
// and the key. The type is seen from the content, as newer Java does.
func Key(path, password string) (tls.Certificate, error) {
	b, err := read(path)
	if err != nil {
		return tls.Certificate{}, err
	}
	var c tls.Certificate
	switch kind(b) {
	case kindJKS:
		c, err = jksKey(b, password)
	case kindPKCS12:
		c, err = pkcs12Key(b, password)
	case kindPEM:
		c, err = tls.X509KeyPair(b, b)
	default:
		err = errKind(b)
	}
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("read the key from %s: %w", path, err)
	}
	return c, nil
}

// Trust reads certificates to trust: those of trusted entries and, as in Java,
// the first one of every key. An empty password skips the check of the
// store's integrity where the type allows it.
func Trust(path, password string) (*x509.CertPool, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	switch kind(b) {
	case kindJKS:
		certs, err = jksTrust(b, password)
	case kindPKCS12:
		certs, err = pkcs12Trust(b, password)
	case kindPEM:
		certs, err = pemTrust(b)
	default:
		err = errKind(b)
	}
	if err == nil && len(certs) == 0 {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("read the certificates to trust from %s: %w", path, err)
	}
	pool := x509.NewCertPool()
	for _, c := range certs {
		pool.AddCert(c)
	}
	return pool, nil
}

func read(path string) ([]byte, error) {
	st, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	if st.Size() > maxFile || !st.Mode().IsRegular() {
		return nil, fmt.Errorf("open key store: %s is not a file of at most %d MiB", path, maxFile>>20)
	}
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("open key store: %w", err)
	}
	return b, nil
}

type storeKind int

const (
	kindUnknown storeKind = iota
	kindJKS
	kindPKCS12
	kindPEM
)

func kind(b []byte) storeKind {
	switch {
	case bytes.HasPrefix(b, []byte{0xFE, 0xED, 0xFE, 0xED}):
		return kindJKS
	case bytes.HasPrefix(b, []byte{0x30, 0x82}), bytes.HasPrefix(b, []byte{0x30, 0x83}), bytes.HasPrefix(b, []byte{0x30, 0x80}):
		return kindPKCS12
	case bytes.Contains(b, []byte("-----BEGIN ")):
		return kindPEM
	}
	return kindUnknown
}

func errKind(b []byte) error {
	if bytes.HasPrefix(b, []byte(magicJCEKS)) {
		return errors.New("it is a JCEKS store; convert it: keytool -importkeystore -srckeystore OLD -srcstoretype JCEKS -destkeystore NEW -deststoretype PKCS12")
	}
	return errors.New("it is neither a JKS nor a PKCS12 store nor a PEM file")
}

// sealed is a JKS store under the empty password: without a password Java does
// not check the digest at the end either.
func sealed(b []byte) []byte {
	n := len(b) - sha1.Size
	if n < 0 {
		return b
	}
	return append(slices.Clone(b[:n]), storeDigest("", b[:n])...)
}

func openJKS(b []byte, password string) (jks.KeyStore, error) {
	ks := jks.New(jks.WithOrderedAliases())
	// The library allocates what a length in the file asks for, up to many GB.
	if _, err := parseEntries(b[:max(len(b)-sha1.Size, 0)]); err != nil {
		return ks, fmt.Errorf("it is damaged: %w", err)
	}
	if password == "" {
		b = sealed(b)
	}
	if err := ks.Load(bytes.NewReader(b), []byte(password)); err != nil {
		return ks, fmt.Errorf("%w (is the password right?)", err)
	}
	return ks, nil
}

func jksKey(b []byte, password string) (tls.Certificate, error) {
	ks, err := openJKS(b, password)
	if err != nil {
		return tls.Certificate{}, err
	}
	for _, alias := range ks.Aliases() {
		if !ks.IsPrivateKeyEntry(alias) {
			continue
		}
		e, err := ks.GetPrivateKeyEntry(alias, []byte(password))
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("key %s: %w (the key must have the store's password)", alias, err)
		}
		key, err := x509.ParsePKCS8PrivateKey(e.PrivateKey)
		if err != nil {
			return tls.Certificate{}, fmt.Errorf("key %s: %w", alias, err)
		}
		c := tls.Certificate{PrivateKey: key}
		for _, cert := range e.CertificateChain {
			c.Certificate = append(c.Certificate, cert.Content)
		}
		if len(c.Certificate) == 0 {
			return tls.Certificate{}, fmt.Errorf("key %s has no certificate", alias)
		}
		return c, nil
	}
	return tls.Certificate{}, errors.New("there is no private key in it")
}

func jksTrust(b []byte, password string) ([]*x509.Certificate, error) {
	ks, err := openJKS(b, password)
	if err != nil {
		return nil, err
	}
	var certs []*x509.Certificate
	for _, alias := range ks.Aliases() {
		var der []byte
		if ks.IsTrustedCertificateEntry(alias) {
			e, err := ks.GetTrustedCertificateEntry(alias)
			if err != nil {
				return nil, fmt.Errorf("certificate %s: %w", alias, err)
			}
			der = e.Certificate.Content
		} else {
			chain, err := ks.GetPrivateKeyEntryCertificateChain(alias)
			if err != nil {
				return nil, fmt.Errorf("certificate %s: %w", alias, err)
			}
			if len(chain) == 0 {
				continue
			}
			der = chain[0].Content
		}
		c, err := x509.ParseCertificate(der)
		if err != nil {
			return nil, fmt.Errorf("certificate %s: %w", alias, err)
		}
		certs = append(certs, c)
	}
	return certs, nil
}

// checkWork refuses a PKCS12 store whose iteration counts would keep a core busy for minutes: RFC 7292 has no bound for
// them, Java has. They stand in the open, as the INTEGER after the OCTET STRING of a salt, in MacData and in the
// parameters of PKCS #5; those inside an encrypted part have been written by somebody who knows the password.
func checkWork(b []byte) error {
	total := int64(0)
	countWork(b, 0, &total)
	if total > maxIterations {
		return fmt.Errorf("it asks for more than %d iterations of key derivation; make it anew with fewer", maxIterations)
	}
	return nil
}

func countWork(b []byte, depth int, total *int64) {
	afterSalt := false
	for len(b) > 0 && depth < maxDepth {
		var v asn1.RawValue
		rest, err := asn1.Unmarshal(b, &v)
		if err != nil {
			return // not ASN.1: the content of an octet string, or damage that the decoder names
		}
		universal := v.Class == asn1.ClassUniversal
		if afterSalt && universal && v.Tag == asn1.TagInteger {
			n := int64(maxIterations + 1) // also what no int64 holds
			_, _ = asn1.Unmarshal(v.FullBytes, &n)
			*total = min(*total+max(n, 0), maxIterations+1)
		}
		afterSalt = universal && v.Tag == asn1.TagOctetString
		if v.IsCompound || afterSalt {
			countWork(v.Bytes, depth+1, total)
		}
		b = rest
	}
}

func pkcs12Key(b []byte, password string) (tls.Certificate, error) {
	if err := checkWork(b); err != nil {
		return tls.Certificate{}, err
	}
	key, leaf, chain, err := pkcs12.DecodeChain(b, password)
	if err != nil {
		return tls.Certificate{}, err
	}
	c := tls.Certificate{PrivateKey: key, Leaf: leaf, Certificate: [][]byte{leaf.Raw}}
	for _, ca := range chain {
		c.Certificate = append(c.Certificate, ca.Raw)
	}
	return c, nil
}

func pkcs12Trust(b []byte, password string) ([]*x509.Certificate, error) {
	if err := checkWork(b); err != nil {
		return nil, err
	}
	certs, err := pkcs12.DecodeTrustStore(b, password)
	if err == nil {
		return certs, nil
	}
	// A store with a key: its certificate is trusted.
	if _, leaf, _, kerr := pkcs12.DecodeChain(b, password); kerr == nil {
		return []*x509.Certificate{leaf}, nil
	}
	return nil, err
}

func pemTrust(b []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, b = pem.Decode(b); block == nil {
			return certs, nil
		}
		if !strings.HasSuffix(block.Type, "CERTIFICATE") {
			continue
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, err
		}
		certs = append(certs, c)
	}
}
