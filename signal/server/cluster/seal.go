package cluster

import (
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"net/netip"
	"sync/atomic"

	"golang.org/x/crypto/chacha20poly1305"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// A sealed message is
//
//	sender   [16]byte  the replica, random for every process
//	counter  [8]byte   of its messages, from 1
//	sealed   XChaCha20-Poly1305 of the message; nonce: sender ‖ counter,
//	         additional data: the subject that it is sent to
//
// The nonce is unique because the sender is. The subject keeps a message from
// being sent to another one, the counter from being sent again ([replays]).
const (
	sealHeader = idLen + 8
	sealed     = sealHeader + chacha20poly1305.Overhead // bytes more than the message
)

// errForged: not by a replica with the same secret and name.
var errForged = errors.New("not from a replica of this cluster")

// keys are what replicas of one cluster have in common.
type keys struct {
	name     string
	self     id
	aead     cipher.AEAD
	subjects []byte // HMAC-SHA256 key of subjects
	origins  []byte // HMAC-SHA256 key of origins
	counter  atomic.Uint64
}

func newKeys(name string, secret []byte) (*keys, error) {
	k := &keys{name: name}
	rand.Read(k.self[:]) // never fails, see its documentation
	derive := func(what string) ([]byte, error) {
		return hkdf.Key(sha256.New, secret, nil, "pairterm signal cluster v1\x00"+what+"\x00"+name, 32)
	}
	key, err := derive("seal")
	if err != nil {
		return nil, err
	}
	if k.aead, err = chacha20poly1305.NewX(key); err != nil {
		return nil, err
	}
	if k.subjects, err = derive("subjects"); err != nil {
		return nil, err
	}
	k.origins, err = derive("origins")
	return k, err
}

// seal seals m for a subject.
func (k *keys) seal(subject string, m message) []byte {
	b := make([]byte, sealHeader, sealed+maxMessage)
	copy(b, k.self[:])
	binary.BigEndian.PutUint64(b[idLen:], k.counter.Add(1))
	return k.aead.Seal(b, b[:sealHeader], m.append(nil), []byte(subject))
}

// unseal returns what seal sealed.
func (k *keys) unseal(subject string, b []byte) (sender id, counter uint64, m message, err error) {
	if len(b) < sealed || len(b) > sealed+maxMessage {
		return sender, 0, nil, errForged
	}
	sender, counter = id(b[:idLen]), binary.BigEndian.Uint64(b[idLen:])
	plain, err := k.aead.Open(nil, b[:sealHeader], b[sealHeader:], []byte(subject))
	if err != nil {
		return sender, 0, nil, errForged
	}
	m, err = decode(plain)
	return sender, counter, m, err
}

func (k *keys) beatSubject() string          { return k.name + ".beat" }
func (k *keys) replicaSubject(r id) string   { return k.name + ".replica." + r.String() }
func (k *keys) tokenSubject(token id) string { return k.replicaSubject(k.self) + "." + token.String() }
func (k *keys) roomSubject(r signal.Room) string {
	return k.name + ".room." + hex.EncodeToString(hash(k.subjects, r[:])[:16])
}

func (k *keys) origin(a netip.Addr) server.Origin {
	b := a.As16()
	return server.Origin(hash(k.origins, b[:])[:16])
}

func hash(key, b []byte) []byte {
	m := hmac.New(sha256.New, key)
	m.Write(b)
	return m.Sum(nil)
}

// String is the id in 32 hexadecimal digits.
func (i id) String() string { return hex.EncodeToString(i[:]) }

// short is enough of it for the log.
func (i id) short() string { return hex.EncodeToString(i[:4]) }

// parseID parses what [id.String] wrote.
func parseID(s string) (i id, ok bool) {
	if len(s) != 2*idLen {
		return i, false
	}
	_, err := hex.Decode(i[:], []byte(s))
	return i, err == nil
}

func newID() (i id) {
	rand.Read(i[:]) // never fails, see its documentation
	return i
}

// replays knows which of a sender's messages have come, as of RFC 4303,
// section 3.4.3: each counts once, and those that come too late not at all.
type replays struct {
	last uint64
	seen uint64 // bit n: last-n has come
}

// fresh reports whether n comes for the first time.
func (r *replays) fresh(n uint64) bool {
	switch {
	case n > r.last:
		r.seen = r.seen<<min(n-r.last, 64) | 1
		r.last = n
		return true
	case r.last-n >= 64:
		return false
	}
	bit := uint64(1) << (r.last - n)
	if r.seen&bit != 0 {
		return false
	}
	r.seen |= bit
	return true
}
