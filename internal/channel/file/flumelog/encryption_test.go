package flumelog

import (
	"bytes"
	"context"
	"crypto/aes"
	"crypto/cipher"
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"
)

type testKeys map[string]string

func (k testKeys) Key(alias string) ([]byte, error) {
	if k[alias] == "" {
		return nil, errors.New("no such key")
	}
	return []byte(k[alias]), nil
}

const testCounter = "twelve bytes\x00\x00\x00\x01"

// encrypt encrypts a log's records as Flume does: each for itself, all with the same counter.
func encrypt(t *testing.T, log []byte, key string) []byte {
	t.Helper()
	block, err := aes.NewCipher([]byte(key))
	if err != nil {
		t.Fatal(err)
	}
	log = bytes.Clone(log)
	for b := log; len(b) > 0; {
		n := 5 + binary.BigEndian.Uint32(b[1:])
		cipher.NewCTR(block, []byte(testCounter)).XORKeyStream(b[5:n], b[5:n])
		b = b[n:]
	}
	return log
}

func encryptedMeta(id int32, provider, alias string) []byte {
	m := fixed64(fixed64(fixed32(fixed32(nil, 1, 3), 2, id), 3, 0), 4, 0)
	return delimit(nil, bytesField(m, 5, bytesField(bytesField(bytesField(nil, 1, []byte(provider)), 2, []byte(alias)), 3, []byte(testCounter))))
}

func TestEncrypted(t *testing.T) {
	keys := testKeys{"key-1": "0123456789abcdef", "key-2": "0123456789abcdef01234567", "short": "short"}
	f := newFlume(t)
	f.put(1, 1, "one", "two", "three")
	f.commit(1, 1, Put)
	ps := f.put(2, 2, "four", "five")
	f.commit(2, 2, Put)
	f.put(3, 3, "six")
	f.commit(3, 3, Put)
	f.take(3, 4, ps[0])
	f.commit(3, 4, Take)
	plain := f.logs[1]
	f.logs[1], f.logs[2] = encrypt(t, plain, keys["key-1"]), encrypt(t, f.logs[2], keys["key-2"]) // the third is not
	d := f.files(nil, 0)
	f.write("d1/log-1.meta", encryptedMeta(1, "AesCtrNoPadding", "key-1"))
	f.write("d2/log-2.meta", encryptedMeta(2, "org.apache.flume.channel.file.encryption.AESCTRNoPaddingProvider", "key-2"))
	got, _, lost := bodies(t, d, keys)
	if want := []string{"one", "two", "three", "five", "six"}; lost != 0 || !slices.Equal(got, want) {
		t.Errorf("%q, %d lost", got, lost)
	}

	refused := func(want string, keys Keys) {
		t.Helper()
		q, err := Replay(context.Background(), quiet(), d, keys)
		if err == nil {
			q.Close()
		}
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", want, err)
		}
	}
	refused(`log-1 is encrypted (AesCtrNoPadding, key "key-1"): no keys`, nil)
	refused(`key "key-1"): no such key`, testKeys{"key-2": keys["key-2"]})
	refused("cannot be read with this key", testKeys{"key-1": "fedcba9876543210", "key-2": keys["key-2"]})
	f.write("d1/log-1.meta", encryptedMeta(1, "com.example.Cipher", "key-1"))
	refused("this cipher is not known", keys)
	f.write("d1/log-1.meta", encryptedMeta(1, "AESCTRNOPADDING", "short"))
	refused("invalid key size 5", keys)

	// A damaged record is passed over, the first one as well; a file that was just begun has none.
	f.logs[1][9] ^= 0xFF
	d = f.files(nil, 0)
	f.write("d1/log-1.meta", encryptedMeta(1, "AESCTRNOPADDING", "key-1"))
	f.write("d2/log-2.meta", encryptedMeta(2, "AESCTRNOPADDING", "key-2"))
	f.write("d1/log-5", bytes.Repeat([]byte{opEOF}, 1000))
	f.write("d1/log-5.meta", encryptedMeta(5, "AESCTRNOPADDING", "key-1"))
	got, _, _ = bodies(t, d, keys)
	if want := []string{"two", "three", "five", "six"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
}
