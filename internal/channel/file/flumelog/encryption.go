package flumelog

import (
	"crypto/aes"
	"crypto/cipher"
	"errors"
	"fmt"
	"strings"
)

// Names of Flume's only cipher, as a file's meta has it from the agent file.
const (
	cipherName  = "AESCTRNOPADDING"
	cipherClass = "org.apache.flume.channel.file.encryption.AESCTRNoPaddingProvider"
)

// KnowsCipher says whether files with this cipherProvider can be read.
func KnowsCipher(provider string) bool {
	return strings.EqualFold(provider, cipherName) || provider == cipherClass
}

// unlockRecords is how many records are tried before a key counts as the wrong one.
const unlockRecords = 100

var errNoKeys = errors.New("no keys are given: set encryption.keyProvider and the other properties of encryption as they were in Flume")

// Unlock has the records of an encrypted file decrypted from now on; one that is not encrypted it leaves alone.
func (l *File) Unlock(keys Keys) error {
	m := &l.Meta
	if !m.Encrypted {
		return nil
	}
	err := l.unlock(keys)
	if err != nil {
		return fmt.Errorf("%s is encrypted (%s, key %q): %w", l.Path, m.CipherProvider, m.EncryptionKey, err)
	}
	return nil
}

func (l *File) unlock(keys Keys) error {
	m := &l.Meta
	if !KnowsCipher(m.CipherProvider) {
		return errors.New("this cipher is not known: let Flume drain the channel")
	}
	if len(m.CipherParameters) != aes.BlockSize {
		return fmt.Errorf("its parameters are %d bytes, not %d", len(m.CipherParameters), aes.BlockSize)
	}
	if keys == nil {
		return errNoKeys
	}
	key, err := keys.Key(m.EncryptionKey)
	if err != nil {
		return err
	}
	if l.cipher, err = aes.NewCipher(key); err != nil {
		return err
	}
	// The cipher cannot tell a wrong key: it makes noise of every record.
	scan := l.Scan(0)
	for tried := 0; tried < unlockRecords; {
		ok, err := scan.Next()
		var bad *CorruptError
		switch {
		case errors.As(err, &bad):
			continue
		case err != nil:
			return err
		case !ok && tried == 0:
			return nil // nothing is in it
		case !ok:
			return errWrongKey
		}
		if _, _, err := ParseRecord(scan.Payload); err == nil {
			return nil
		}
		tried++
	}
	return errWrongKey
}

var errWrongKey = errors.New("its records cannot be read with this key: the key store has another of that name, or the file is damaged (then move it away, with its .meta)")

// decrypt decrypts a record: in Flume each one begins with the same counter.
func (l *File) decrypt(dst, record []byte) {
	cipher.NewCTR(l.cipher, l.Meta.CipherParameters).XORKeyStream(dst, record)
}
