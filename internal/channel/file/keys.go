package file

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"slices"
	"strings"

	"github.com/sluice-data/sluice/component"
	"github.com/sluice-data/sluice/internal/channel/file/flumelog"
	"github.com/sluice-data/sluice/internal/keystore"
)

// Names of Flume's for the encryption's properties.
const (
	cipherProvider   = "AESCTRNOPADDING"
	keyProvider      = "JCEKSFILE"
	keyProviderClass = "org.apache.flume.channel.file.encryption.JCEFileKeyProvider$Builder"
)

// maxPassword bounds a file with a password.
const maxPassword = 64 << 10

// encryption are the properties encryption.*.
type encryption struct {
	activeKey, cipher, provider  string
	storeFile, storePasswordFile string
	aliases                      []string
	more                         map[string]string // <alias>.passwordFile
}

func (e *encryption) fields() []component.Field {
	const k = "encryption.keyProvider"
	return []component.Field{
		component.String(k, &e.provider, "").Describe("JCEKSFILE: events are encrypted on the disk, with keys of a JCEKS key store, as keytool -genseckey -storetype JCEKS makes one. It needs all of the next properties but the last two. " +
			"Unset: what is put is not encrypted; what is there and is still encrypted needs the keys."),
		component.String("encryption.activeKey", &e.activeKey, "").Describe("Alias of the key for what is written from the start on. For another key make one with another alias and name that; the old one is needed until what was written with it is taken."),
		component.String("encryption.cipherProvider", &e.cipher, "").Describe("AESCTRNOPADDING, which is what Flume's own files are read with. Sluice's files are in AES-GCM, which tells as well whether somebody has changed them."),
		component.String(k+".keyStoreFile", &e.storeFile, "").AsType("path").Describe("The key store. It is read at each start."),
		component.String(k+".keyStorePasswordFile", &e.storePasswordFile, "").AsType("path").Describe("A file with the key store's password, without the white space around it."),
		component.List(k+".keys", &e.aliases).Describe("Aliases of the keys that have passwords of their own. Flume wants all that are needed here, Sluice finds the others as well."),
		component.Map(k+".keys.", &e.more).Describe("ALIAS.passwordFile is a file with the password of a key named in keys. Without it the key's password is the key store's."),
	}
}

// check is the configuration in the form that New takes; nil if there is no encryption.
func (e *encryption) check(env component.Env) (*Encryption, error) {
	const k = "encryption.keyProvider"
	if e.provider == "" {
		for _, p := range [][2]string{{"encryption.activeKey", e.activeKey}, {"encryption.cipherProvider", e.cipher}} {
			if p[1] != "" {
				return nil, &component.KeyError{Key: p[0], Err: errors.New("it is set, and " + k + " is not"), Hint: "set " + k + " = " + keyProvider + ", or take it away"}
			}
		}
		return nil, nil
	}
	for _, p := range []struct{ key, value, hint string }{
		{"encryption.activeKey", e.activeKey, "name the key for what is written"},
		{"encryption.cipherProvider", e.cipher, "set it to " + cipherProvider},
		{k + ".keyStoreFile", e.storeFile, "name the JCEKS key store"},
		{k + ".keyStorePasswordFile", e.storePasswordFile, "name the file with its password"},
	} {
		if p.value == "" {
			return nil, &component.KeyError{Key: p.key, Err: errors.New(k + " is set, and it is not"), Hint: p.hint}
		}
	}
	if !strings.EqualFold(e.provider, keyProvider) && e.provider != keyProviderClass {
		return nil, &component.KeyError{Key: k, Err: fmt.Errorf("%q is not known: a class cannot be loaded", e.provider), Hint: "use " + keyProvider}
	}
	if !flumelog.KnowsCipher(e.cipher) {
		return nil, &component.KeyError{Key: "encryption.cipherProvider", Err: fmt.Errorf("%q is not known: a class cannot be loaded", e.cipher), Hint: "use " + cipherProvider}
	}
	s := &KeyStore{File: strings.TrimSpace(e.storeFile), PasswordFile: strings.TrimSpace(e.storePasswordFile), Own: map[string]string{}}
	for _, key := range slices.Sorted(maps.Keys(e.more)) {
		alias, ok := strings.CutSuffix(key, ".passwordFile")
		switch {
		case !ok:
			env.Warn(k+".keys."+key, "the property of a key is <alias>.passwordFile", "it has no effect")
		case !slices.Contains(e.aliases, alias):
			env.Warn(k+".keys."+key, "add the alias to "+k+".keys", "it has no effect: as in Flume, %s.keys has to name %q", k, alias)
		default:
			s.Own[alias] = strings.TrimSpace(e.more[key])
		}
	}
	return &Encryption{ActiveKey: e.activeKey, Open: s.Open}, nil
}

// KeyStore is a JCEKS store with the keys of a channel.
type KeyStore struct {
	File, PasswordFile string
	Own                map[string]string // files with the passwords of keys that have their own, by alias
}

// Open reads the store.
func (s *KeyStore) Open() (Keys, error) {
	password, err := readPassword(s.PasswordFile)
	if err != nil {
		return nil, fmt.Errorf("read the password of the key store: %w", err)
	}
	secrets, err := keystore.OpenSecrets(s.File, password)
	if err != nil {
		return nil, err
	}
	return &storeKeys{s, password, secrets, map[string][]byte{}}, nil
}

type storeKeys struct {
	store    *KeyStore
	password string
	secrets  *keystore.Secrets
	unsealed map[string][]byte // by alias: to unseal one takes a tenth of a second, on purpose
}

// Key is for one goroutine at a time.
func (s *storeKeys) Key(alias string) ([]byte, error) {
	if key := s.unsealed[alias]; key != nil {
		return key, nil
	}
	key, err := s.unseal(alias)
	if err == nil {
		s.unsealed[alias] = key
	}
	return key, err
}

// unseal reads a key, with its own password or the store's. As in Flume the latter stands in for a file that is missing.
func (s *storeKeys) unseal(alias string) ([]byte, error) {
	path := s.store.Own[alias]
	if path == "" {
		return s.secrets.Key(alias, s.password)
	}
	password, err := readPassword(path)
	if errors.Is(err, fs.ErrNotExist) {
		key, kerr := s.secrets.Key(alias, s.password)
		if kerr != nil {
			return nil, fmt.Errorf("%w (its passwordFile is missing: %w)", kerr, err)
		}
		return key, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the password of the key %q: %w", alias, err)
	}
	return s.secrets.Key(alias, password)
}

// readPassword reads a password as Flume does: without what Java's String.trim cuts off.
func readPassword(path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxPassword+1))
	if err != nil {
		return "", err
	}
	if len(b) > maxPassword {
		return "", fmt.Errorf("%s is larger than a password can be", path)
	}
	return strings.TrimFunc(string(b), func(r rune) bool { return r <= ' ' }), nil
}
