package keystore

import (
	"bytes"
	"crypto/cipher"
	"crypto/des"
	"crypto/md5"
	"crypto/sha1"
	"crypto/subtle"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"
	"unicode/utf16"
)

// Secrets are the secret keys of a JCEKS store, each sealed with a password of its own. The store is what
// com.sun.crypto.provider.JceKeyStore writes, which is documented by its source alone: like a JKS store, but with a third
// kind of entry, a serialized javax.crypto.SealedObject.
type Secrets struct {
	path   string
	sealed map[string]sealedKey
}

// sealedKey is a secret key's entry as it is in the store.
type sealedKey struct {
	algorithm       string
	params, content []byte
}

const (
	magicJCEKS = "\xCE\xCE\xCE\xCE"

	storeVersion1 = 1
	storeVersion2 = 2

	entryPrivate = 1
	entryTrusted = 2
	entrySecret  = 3

	// sealAlgorithm is the only one that Java's JCEKS store uses.
	sealAlgorithm = "PBEWithMD5AndTripleDES"
	// maxIterations is Java's own bound.
	maxIterations = 5000000
)

// OpenSecrets reads a store, whose password only guards against changes.
func OpenSecrets(path, password string) (*Secrets, error) {
	b, err := read(path)
	if err != nil {
		return nil, err
	}
	s := &Secrets{path: path}
	switch {
	case bytes.HasPrefix(b, []byte(magicJCEKS)):
		s.sealed, err = parseJCEKS(b, password)
	case kind(b) == kindPKCS12:
		err = errors.New("it is a PKCS12 store, from which secret keys are not read; convert it: keytool -importkeystore -srckeystore OLD -srcstoretype PKCS12 -destkeystore NEW -deststoretype JCEKS")
	default:
		err = errors.New("it is not a JCEKS store, as keytool -genseckey -storetype JCEKS makes one")
	}
	if err != nil {
		return nil, fmt.Errorf("read the secret keys of %s: %w", path, err)
	}
	return s, nil
}

// Aliases are the names of the keys, sorted.
func (s *Secrets) Aliases() []string {
	var names []string
	for a := range s.sealed {
		names = append(names, a)
	}
	slices.Sort(names)
	return names
}

// Key unseals a key. As in Java the case of alias does not matter.
func (s *Secrets) Key(alias, password string) ([]byte, error) {
	k, ok := s.sealed[strings.ToLower(alias)]
	if !ok {
		return nil, fmt.Errorf("key store %s has no secret key %q; it has %q", s.path, alias, s.Aliases())
	}
	key, err := k.open(password)
	if err != nil {
		return nil, fmt.Errorf("read the secret key %q of %s: %w", alias, s.path, err)
	}
	return key, nil
}

// storeDigest is what a JKS or JCEKS store ends with. The text is the format's own.
func storeDigest(password string, b []byte) []byte {
	h := sha1.New()
	for _, u := range utf16.Encode([]rune(password)) {
		h.Write([]byte{byte(u >> 8), byte(u)})
	}
	h.Write([]byte("Mighty Aphrodite"))
	h.Write(b)
	return h.Sum(nil)
}

func parseJCEKS(b []byte, password string) (map[string]sealedKey, error) {
	if len(b) < 12+sha1.Size {
		return nil, errors.New("it is too short")
	}
	body, sum := b[:len(b)-sha1.Size], b[len(b)-sha1.Size:]
	if subtle.ConstantTimeCompare(storeDigest(password, body), sum) != 1 {
		return nil, errors.New("its digest is wrong: either the store's password is, or the file is damaged")
	}
	return parseEntries(body)
}

// parseEntries reads the body of a JCEKS or JKS store. Its lengths are held against what is there, so that nothing is
// allocated for a number alone.
func parseEntries(body []byte) (map[string]sealedKey, error) {
	if len(body) < 12 {
		return nil, errors.New("it is too short")
	}
	version := binary.BigEndian.Uint32(body[4:])
	if version != storeVersion1 && version != storeVersion2 {
		return nil, fmt.Errorf("version %d of the format is not known", version)
	}
	n := binary.BigEndian.Uint32(body[8:])
	sealed := map[string]sealedKey{}
	r := javaReader{b: body[12:]} // as in a DataInputStream
	for i := range n {
		if err := r.entry(version, sealed); err != nil {
			return nil, fmt.Errorf("entry %d: %w", i+1, err)
		}
	}
	if len(r.b) > 0 {
		return nil, fmt.Errorf("%d bytes follow its last entry", len(r.b))
	}
	return sealed, nil
}

// entry reads an entry of a store; only secret keys are kept.
func (r *javaReader) entry(version uint32, sealed map[string]sealedKey) error {
	tag, err := r.number(4)
	if err != nil {
		return err
	}
	alias, err := r.utf()
	if err != nil {
		return err
	}
	if _, err := r.take(8); err != nil { // when it was made
		return err
	}
	certs := 1
	switch tag {
	case entryPrivate:
		if err := r.sized(); err != nil { // the key
			return err
		}
		if certs, err = r.number(4); err != nil {
			return err
		}
	case entryTrusted:
	case entrySecret:
		o, rest, err := readJavaObject(r.b)
		if err != nil {
			return fmt.Errorf("key %q: %w", alias, err)
		}
		r.b = rest
		var k sealedKey
		if k.content, err = fieldOf[[]byte](o, "encryptedContent"); err == nil {
			k.params, err = fieldOf[[]byte](o, "encodedParams")
		}
		if err == nil {
			k.algorithm, err = fieldOf[string](o, "sealAlg")
		}
		if err != nil {
			return fmt.Errorf("key %q: %w", alias, err)
		}
		sealed[strings.ToLower(alias)] = k
		return nil
	default:
		return fmt.Errorf("it is of the unknown kind %d", tag)
	}
	for range certs {
		if version != storeVersion1 { // there all are X.509
			if _, err := r.utf(); err != nil { // the type
				return err
			}
		}
		if err := r.sized(); err != nil {
			return err
		}
	}
	return nil
}

// sized passes over a length and as many bytes.
func (r *javaReader) sized() error {
	n, err := r.number(4)
	if err == nil {
		_, err = r.take(n)
	}
	return err
}

func fieldOf[T any](o *javaObject, name string) (T, error) {
	v, ok := o.fields[name].(T)
	if !ok {
		return v, fmt.Errorf("%w: its field %s is a %T", errJava, name, o.fields[name])
	}
	return v, nil
}

var errUnseal = errors.New("it cannot be unsealed: is the key's password right?")

// open decrypts the key, which is a serialized javax.crypto.spec.SecretKeySpec or java.security.KeyRep.
func (k sealedKey) open(password string) ([]byte, error) {
	if k.algorithm != sealAlgorithm {
		return nil, fmt.Errorf("it is sealed by %q, only %s is known", k.algorithm, sealAlgorithm)
	}
	for i := range len(password) {
		if password[i] >= 0x80 {
			return nil, errors.New("its password has letters beyond ASCII, which Java does not allow")
		}
	}
	var p struct { // PBEParameter of PKCS #5
		Salt       []byte
		Iterations int
	}
	if rest, err := asn1.Unmarshal(k.params, &p); err != nil || len(rest) > 0 {
		return nil, errors.New("its parameters are no PBEParameter")
	}
	if len(p.Salt) != 8 || p.Iterations < 1 || p.Iterations > maxIterations {
		return nil, fmt.Errorf("its parameters are a salt of %d bytes and %d iterations", len(p.Salt), p.Iterations)
	}
	derived := pbeTripleDES([]byte(password), p.Salt, p.Iterations)
	block, err := des.NewTripleDESCipher(derived[:24])
	if err != nil {
		return nil, err
	}
	if len(k.content) == 0 || len(k.content)%des.BlockSize != 0 {
		return nil, fmt.Errorf("it is %d bytes long, which is not whole blocks", len(k.content))
	}
	plain := make([]byte, len(k.content))
	cipher.NewCBCDecrypter(block, derived[24:]).CryptBlocks(plain, k.content)
	pad := int(plain[len(plain)-1])
	if pad < 1 || pad > des.BlockSize || !bytes.Equal(plain[len(plain)-pad:], bytes.Repeat([]byte{byte(pad)}, pad)) {
		return nil, errUnseal
	}
	return secretBytes(plain[:len(plain)-pad])
}

// secretBytes reads the serialized key.
func secretBytes(b []byte) ([]byte, error) {
	o, rest, err := readJavaObject(b)
	if err != nil || len(rest) > 0 {
		return nil, errUnseal // the padding of a wrong password is right once in 256 times
	}
	name := "key"
	if o.class != nil && o.class.name == "java.security.KeyRep" {
		if format, err := fieldOf[string](o, "format"); err != nil || format != "RAW" {
			return nil, fmt.Errorf("its encoding is %q (%v), not RAW", format, err)
		}
		name = "encoded"
	}
	return fieldOf[[]byte](o, name)
}

// pbeTripleDES derives a key and an initialization vector as SunJCE does (PBES1Core), which is nobody else's way: each half
// of the salt is hashed with the password over and over.
func pbeTripleDES(password, salt []byte, iterations int) []byte {
	salt = slices.Clone(salt)
	if bytes.Equal(salt[:4], salt[4:]) {
		// Meant to be the reverse of the first half; the slip is SunJCE's.
		salt[0], salt[1], salt[2] = salt[3], salt[0], salt[1]
	}
	out := make([]byte, 0, 2*md5.Size)
	h := md5.New()
	var sum [md5.Size]byte
	for half := range 2 {
		next := salt[4*half:][:4]
		for range iterations {
			h.Reset()
			h.Write(next)
			h.Write(password)
			next = h.Sum(sum[:0])
		}
		out = append(out, next...)
	}
	return out
}
