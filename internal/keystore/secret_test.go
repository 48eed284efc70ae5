package keystore

import (
	"bytes"
	"crypto/sha1"
	"encoding/hex"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// testdata/keys.jceks and keys.p12 are keytool's, of Java 17; the keys are what Java itself reads from them.
const storePassword = "storepass"

func TestSecrets(t *testing.T) {
	s, err := OpenSecrets("testdata/keys.jceks", storePassword)
	if err != nil {
		t.Fatal(err)
	}
	if got := s.Aliases(); !slices.Equal(got, []string{"des", "key-0", "key-1"}) {
		t.Errorf("aliases %q", got)
	}
	for _, c := range []struct{ alias, password, want string }{
		{"key-0", "key0pass", "67cb48767f26652961b4e55eb099c05f"},
		{"KEY-1", storePassword, "608c56e814ebe1dea6532d6c3890e21035f127d294f481dff401d63c5e0713cf"},
		{"des", storePassword, "917ab57502d61f8ca4abfef226cd3140a80b625dce08897a"}, // a KeyRep
	} {
		key, err := s.Key(c.alias, c.password)
		if err != nil || hex.EncodeToString(key) != c.want {
			t.Errorf("%s: %x, %v", c.alias, key, err)
		}
	}
	for _, c := range []struct{ alias, password, want string }{
		{"key-0", storePassword, "password"},
		{"key-0", "pässwort", "ASCII"},
		{"pair", storePassword, `no secret key "pair"; it has ["des" "key-0" "key-1"]`},
	} {
		if _, err := s.Key(c.alias, c.password); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s with %s: %v", c.alias, c.password, err)
		}
	}
}

func TestSecretsRefused(t *testing.T) {
	good, err := os.ReadFile("testdata/keys.jceks")
	if err != nil {
		t.Fatal(err)
	}
	bad := bytes.Clone(good)
	bad[len(bad)/2] ^= 1
	for want, b := range map[string][]byte{"digest": bad, "too short": good[:20], "not a JCEKS store": []byte("something else")} {
		path := filepath.Join(t.TempDir(), "store")
		if err := os.WriteFile(path, b, 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := OpenSecrets(path, storePassword); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	for want, args := range map[string][2]string{
		"digest":               {"testdata/keys.jceks", "wrong"},
		"-deststoretype JCEKS": {"testdata/keys.p12", storePassword},
		"open key store":       {"testdata/none", storePassword},
	} {
		if _, err := OpenSecrets(args[0], args[1]); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
}

// TestSaltOfEqualHalves: SunJCE's way with such a salt, as its source has it.
func TestSaltOfEqualHalves(t *testing.T) {
	same := pbeTripleDES([]byte("p"), []byte("abcdabcd"), 3)
	if want := pbeTripleDES([]byte("p"), []byte("dabdabcd"), 3); !bytes.Equal(same, want) {
		t.Errorf("%x, want %x", same, want)
	}
}

// FuzzSecrets reads any bytes as the entries of a store whose digest is right.
func FuzzSecrets(f *testing.F) {
	good, err := os.ReadFile("testdata/keys.jceks")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good[:len(good)-sha1.Size])
	f.Fuzz(func(t *testing.T, b []byte) {
		keys, err := parseJCEKS(append(slices.Clip(b), storeDigest("x", b)...), "x")
		if err != nil {
			return
		}
		for _, k := range keys {
			if len(k.content) > len(b) || len(k.params) > len(b) {
				t.Fatal("a key is larger than its store")
			}
		}
	})
}

// FuzzSecretKey reads any bytes as an unsealed key.
func FuzzSecretKey(f *testing.F) {
	f.Add([]byte(javaStream + "sr\x00\x1fjavax.crypto.spec.SecretKeySpec[G\x0bf\xe2\x30\x61M\x02\x00\x02L\x00\x09algorithmt\x00\x12Ljava/lang/String;[\x00\x03keyt\x00\x02[Bxpt\x00\x03AESur\x00\x02[B\xac\xf3\x17\xf8\x06\x08T\xe0\x02\x00\x00xp\x00\x00\x00\x04keys"))
	f.Add([]byte(javaStream + "sr\x00\x01A12345678\x02\x00\x00xq\x00\x7e\x00\x00")) // a class that is its own superclass
	f.Fuzz(func(t *testing.T, b []byte) {
		if key, err := secretBytes(b); err == nil && len(key) > len(b) {
			t.Fatal("a key is larger than what it is in")
		}
	})
}
