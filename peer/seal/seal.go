package seal

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"math"
)

const (
	// KeySize is the length of a key in bytes.
	KeySize = 32

	// Overhead is how many bytes longer a record is than its plaintext.
	Overhead = seqSize + tagSize

	seqSize   = 8  // bytes, the explicit sequence number
	tagSize   = 16 // bytes, the GCM tag
	nonceSize = 12 // bytes, four zeros and the sequence number

	// Window is how many sequence numbers behind the highest one seen an unordered
	// opener still tells fresh from replayed. At one datagram per 0.3 ms, about what
	// a loopback bulk transfer reaches, it covers 0.6 s of reordering.
	Window = windowBits - wordBits
)

var (
	// ErrShort reports a record too short to hold a sequence number and a tag.
	ErrShort = errors.New("seal: record too short")

	// ErrForged reports a record that is not what the holder of the key sealed for
	// this channel.
	ErrForged = errors.New("seal: record does not authenticate")

	// ErrReplayed reports a record whose sequence number was seen before, or is too
	// old to tell.
	ErrReplayed = errors.New("seal: record replayed or too old")

	// ErrOutOfOrder reports a record on an ordered channel that does not follow the
	// one before it: something was removed, repeated or reordered on the way.
	ErrOutOfOrder = errors.New("seal: record out of order")

	// ErrExhausted reports that a key has sealed as many records as it may.
	ErrExhausted = errors.New("seal: key exhausted")
)

// Key is a symmetric key. It must belong to exactly one channel and direction.
type Key [KeySize]byte

// Derive makes a key from a shared secret with HKDF-SHA256 (RFC 5869).
//
// The binding must be fresh for every link on which the secret is used, and known
// to both ends; it serves as the salt. The label names the channel and the
// direction, such as "sync guest to host". Distinct bindings or labels give
// independent keys.
func Derive(secret, binding []byte, label string) (Key, error) {
	var k Key
	raw, err := hkdf.Key(sha256.New, secret, binding, "pairterm seal v1 "+label, KeySize)
	if err != nil {
		return k, err
	}
	copy(k[:], raw)
	return k, nil
}

func newAEAD(key Key) cipher.AEAD {
	block, err := aes.NewCipher(key[:])
	if err != nil {
		panic("seal: " + err.Error()) // only for a wrong key length, which the type excludes
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		panic("seal: " + err.Error()) // only for a block size other than AES's
	}
	return aead
}

// Sealer makes records. It is not safe for concurrent use.
type Sealer struct {
	// Set once.
	aead cipher.AEAD
	aad  []byte

	// Owned by the caller's goroutine.
	next  uint64
	spent bool // the last sequence number has been used
	nonce [nonceSize]byte
}

// NewSealer returns a sealer that numbers its records from 0. The context is
// authenticated with every record; the opener must be given the same.
func NewSealer(key Key, context string) *Sealer {
	return &Sealer{aead: newAEAD(key), aad: []byte(context)}
}

// Seal appends the record of plaintext to dst and returns the extended slice. It
// does not allocate when dst has room for len(plaintext)+[Overhead] more bytes.
// The plaintext must not overlap the spare room of dst. After 2^64 records it
// returns [ErrExhausted], and dst unchanged.
func (s *Sealer) Seal(dst, plaintext []byte) ([]byte, error) {
	if s.spent {
		return dst, ErrExhausted
	}
	seq := s.next
	if seq == math.MaxUint64 {
		s.spent = true
	} else {
		s.next++
	}
	binary.BigEndian.PutUint64(s.nonce[nonceSize-seqSize:], seq)
	dst = append(dst, s.nonce[nonceSize-seqSize:]...)
	return s.aead.Seal(dst, s.nonce[:], plaintext, s.aad), nil
}

// Opener checks and opens records. It is not safe for concurrent use.
type Opener struct {
	// Set once.
	aead    cipher.AEAD
	aad     []byte
	ordered bool

	// Owned by the caller's goroutine.
	window window
	next   uint64
	spent  bool
	nonce  [nonceSize]byte
}

// NewOpener returns an opener for a channel that may lose and reorder records: it
// accepts each record at most once, in any order within [Window].
func NewOpener(key Key, context string) *Opener {
	return &Opener{aead: newAEAD(key), aad: []byte(context)}
}

// NewOrderedOpener returns an opener for a reliable ordered channel: it accepts the
// records 0, 1, 2 … and nothing else.
func NewOrderedOpener(key Key, context string) *Opener {
	return &Opener{aead: newAEAD(key), aad: []byte(context), ordered: true}
}

// Open appends the plaintext of record to dst and returns the extended slice. It
// does not allocate when dst has room for len(record)-[Overhead] more bytes. The
// record must not overlap the spare room of dst.
//
// Errors are [ErrShort], [ErrForged], [ErrReplayed] or [ErrOutOfOrder]. A record
// that is refused leaves the opener as it was: forged records, however many,
// cannot make it refuse a real one.
func (o *Opener) Open(dst, record []byte) ([]byte, error) {
	return o.open(dst, record)
}

// openInPlace is Open with the plaintext written over the record, which is spoilt
// in any case.
func (o *Opener) openInPlace(record []byte) ([]byte, error) {
	if len(record) < Overhead {
		return nil, ErrShort
	}
	return o.open(record[seqSize:seqSize], record)
}

func (o *Opener) open(dst, record []byte) ([]byte, error) {
	if len(record) < Overhead {
		return dst, ErrShort
	}
	seq := binary.BigEndian.Uint64(record)
	if err := o.check(seq); err != nil {
		return dst, err
	}
	copy(o.nonce[nonceSize-seqSize:], record[:seqSize])
	out, err := o.aead.Open(dst, o.nonce[:], record[seqSize:], o.aad)
	if err != nil {
		return dst, ErrForged
	}
	o.accept(seq)
	return out, nil
}

func (o *Opener) check(seq uint64) error {
	if o.ordered {
		if o.spent || seq != o.next {
			return ErrOutOfOrder
		}
		return nil
	}
	if !o.window.fresh(seq) {
		return ErrReplayed
	}
	return nil
}

func (o *Opener) accept(seq uint64) {
	if !o.ordered {
		o.window.mark(seq)
		return
	}
	if seq == math.MaxUint64 {
		o.spent = true
		return
	}
	o.next++
}
