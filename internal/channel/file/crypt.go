package file

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
)

// Encryption says how what is put is encrypted on the disk.
type Encryption struct {
	ActiveKey string               // alias of the key for what is written from now on
	Open      func() (Keys, error) // called at each start
}

// Keys gives the AES keys of a channel by their aliases, those of before a change of the active key included. It is called by
// one goroutine at a time.
type Keys interface {
	Key(alias string) ([]byte, error)
}

// What an encrypted put has behind its head, and behind its events. docs/file-channel.md has it byte by byte.
const (
	saltSize    = 16
	checkSize   = 8
	counterSize = 8
	tagSize     = 16
	maxAlias    = 255 // in bytes

	dataKeySize = 32
	// sealMost is how many bytes are encrypted under one data key.
	sealMost = 1 << 30
)

// dataKey derives the key of frames with a salt, and what tells whether a key of the key store is the one they need.
func dataKey(key []byte, id channelID, salt []byte) (cipher.AEAD, []byte, error) {
	if n := len(key); n != 16 && n != 24 && n != 32 {
		return nil, nil, fmt.Errorf("it is %d bytes long, an AES key is 16, 24 or 32", n)
	}
	b, err := hkdf.Key(sha256.New, key, salt, "sluice file channel "+string(id[:]), dataKeySize+checkSize)
	if err != nil {
		return nil, nil, fmt.Errorf("derive a data key: %w", err)
	}
	block, err := aes.NewCipher(b[:dataKeySize])
	if err != nil {
		return nil, nil, err
	}
	aead, err := cipher.NewGCM(block)
	return aead, b[dataKeySize:], err
}

// nonce is a counter as AES-GCM takes it.
type nonce [12]byte

func (n *nonce) set(counter []byte) []byte {
	copy(n[len(n)-counterSize:], counter)
	return n[:]
}

// sealer encrypts puts. Its data key is its own: random bytes are in it, so no other run, and no copy of the channel, has the
// same, and within it the counter never comes again, whatever becomes of the frame that is written with it.
type sealer struct {
	alias string
	key   []byte
	id    channelID

	aead   cipher.AEAD
	prefix []byte // alias, salt and check, as they are in a frame
	count  uint64
	left   int64 // bytes until the next data key
	nonce  nonce
}

func newSealer(alias string, key []byte, id channelID) (*sealer, error) {
	if len(alias) > maxAlias {
		return nil, fmt.Errorf("its name is longer than %d bytes", maxAlias)
	}
	s := &sealer{alias: alias, key: key, id: id}
	return s, s.renew()
}

func (s *sealer) renew() error {
	salt := make([]byte, saltSize)
	rand.Read(salt)
	aead, check, err := dataKey(s.key, s.id, salt)
	if err != nil {
		return err
	}
	s.aead, s.count, s.left = aead, 0, sealMost
	s.prefix = append(append(append([]byte{byte(len(s.alias))}, s.alias...), salt...), check...)
	return nil
}

// overhead is how many bytes an encrypted frame has more than one that is not.
func (s *sealer) overhead() int {
	return 1 + len(s.alias) + saltSize + checkSize + counterSize + tagSize
}

// ready makes sure that one more frame can be sealed.
func (s *sealer) ready() error {
	if s.left > 0 {
		return nil
	}
	return s.renew()
}

// seal encrypts the events of plain, a put with the room for its head before them, into frame, which has overhead more bytes.
// Everything in the frame but its length and its CRC is authenticated.
func (s *sealer) seal(frame, plain []byte, count int, seq, event int64) {
	writeHead(frame, framePut, flagEncrypted, count, seq, event)
	at := frameHead + copy(frame[frameHead:], s.prefix)
	binary.BigEndian.PutUint64(frame[at:], s.count)
	n := s.nonce.set(frame[at : at+counterSize])
	at += counterSize
	s.aead.Seal(frame[:at], n, plain[frameHead:], frame[8:at])
	s.count++
	s.left -= int64(len(plain))
	writeCRC(frame)
}

// lock is what an encrypted frame says of its key.
type lock struct {
	alias, salt, check []byte
	prefix             []byte // all of them, as they are in the frame
	counter            []byte
	events             int // where in the frame the encrypted events begin
}

// parseLock reads it from a frame whose CRC is right.
func parseLock(frame []byte) (l lock, err error) {
	b := frame[frameHead:]
	if len(b) == 0 || len(b) < 1+int(b[0])+saltSize+checkSize+counterSize+tagSize {
		return l, fmt.Errorf("%w: an encrypted one of %d bytes", errFrame, len(frame))
	}
	at := 1 + int(b[0])
	l.alias = b[1:at]
	l.salt = b[at : at+saltSize]
	at += saltSize
	l.check = b[at : at+checkSize]
	at += checkSize
	l.prefix = b[:at]
	l.counter = b[at : at+counterSize]
	l.events = frameHead + at + counterSize
	return l, nil
}

// keyError says of a whole frame why it cannot be decrypted.
func keyError(alias []byte, err error) error {
	return fmt.Errorf("the events are encrypted with the key %q: %w", alias, err)
}

var (
	errNoKeys   = errors.New("the channel has no keys: give it encryption.keyProvider and the other properties of encryption again, until these events are taken")
	errOtherKey = errors.New("the key store has another key of that name: put the one back that the events were written with, and give a new key a new name")
	errTag      = errors.New("they were changed on the disk by something else than the channel: the CRC of the frame is right, its authentication is not")
)

// opener decrypts puts. It keeps the last data key.
type opener struct {
	keys   Keys // nil: none
	id     channelID
	aead   cipher.AEAD
	prefix []byte
	nonce  nonce
}

// fit finds the data key of a frame.
func (o *opener) fit(l lock) error {
	if o.aead != nil && bytes.Equal(o.prefix, l.prefix) {
		return nil
	}
	if o.keys == nil {
		return keyError(l.alias, errNoKeys)
	}
	key, err := o.keys.Key(string(l.alias))
	if err != nil {
		return keyError(l.alias, err)
	}
	aead, check, err := dataKey(key, o.id, l.salt)
	if err == nil && !bytes.Equal(check, l.check) {
		err = errOtherKey
	}
	if err != nil {
		return keyError(l.alias, err)
	}
	o.aead, o.prefix = aead, append(o.prefix[:0], l.prefix...)
	return nil
}

// open decrypts a frame into dst, which is as large: its head, and behind it the events as in one that is not encrypted.
func (o *opener) open(dst, frame []byte) ([]byte, error) {
	l, err := parseLock(frame)
	if err != nil {
		return nil, err
	}
	if err := o.fit(l); err != nil {
		return nil, err
	}
	b, err := o.aead.Open(append(dst[:0], frame[:frameHead]...), o.nonce.set(l.counter), frame[l.events:], frame[8:l.events])
	if err != nil {
		return nil, keyError(l.alias, errTag)
	}
	return b, nil
}
