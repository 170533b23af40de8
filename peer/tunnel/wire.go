package tunnel

import (
	"errors"
	"fmt"
	"io"

	"golang.org/x/crypto/cryptobyte"
)

// The messages inside the TLS connection. Each is a frame:
//
//	type     1
//	length   3  of the payload, big endian, at most MaxPayload
//	payload  n
//
// and its payload is made of big-endian integers and of strings of bytes
// with a length of one byte (s8) or two (s16) before them. Guest and host are
// G and H.
//
//	hello      G→H  version 2, software s8, guest s8 (0 or 16 bytes), mac s8 (0 or 32),
//	                keys s16 of { blob s16, comment s8 }
//	challenge  H→G  index 1 (into hello's keys)
//	hold       H→G  text s8 (shown while a person decides)
//	proof      G→H  sshsig s16
//	resume     G→H  guest 16, mac 32 (in place of a proof)
//	welcome    H→G  resumed 1 (0 or 1), role 1, guest 16, mac s8 (0 or 32),
//	                key s16, comment s8, sshsig s16, info s16
//	refusal    H→G  code 1, text s16
//	data       both payload for the layer above
const (
	typeHello     = 1
	typeChallenge = 2
	typeHold      = 3
	typeProof     = 4
	typeWelcome   = 5
	typeRefusal   = 6
	typeResume    = 7
	typeData      = 16
)

// Version is the version of this protocol, sent in the hello. The ALPN name
// changes only with a version that cannot even read the other's hello.
const Version = 1

const (
	// MaxPayload bounds a frame's payload, in bytes. The largest real one is
	// a hello that offers many RSA keys and certificates.
	MaxPayload = 32 << 10
	// MaxKeys bounds the keys that a hello offers.
	MaxKeys = 32

	frameHeader = 4
	macSize     = 32
	// helloOverhead is what a hello has beside its keys, at most, in bytes.
	helloOverhead = 2 + 1 + 255 + 1 + 16 + 1 + macSize + 2
)

// GuestID names a guest to its host across reconnections. It is no secret.
type GuestID [16]byte

type offeredKey struct {
	Blob    []byte // ssh.PublicKey.Marshal
	Comment string
}

type hello struct {
	Version  uint16
	Software string
	Guest    []byte // a GuestID to resume, or empty
	MAC      []byte
	Keys     []offeredKey
}

type challenge struct{ Index uint8 }

type hold struct{ Text string }

type proof struct{ Signature []byte }

type resume struct {
	Guest GuestID
	MAC   [macSize]byte
}

type welcome struct {
	Resumed bool
	Role    uint8
	Guest   GuestID
	MAC     []byte
	Key     []byte // the host's own key, empty if it has none
	Comment string
	Proof   []byte
	Info    []byte
}

type refusal struct {
	Code RefusalCode
	Text string
}

type data struct{ Payload []byte }

// message is one of the structs above.
type message interface {
	kind() uint8
	marshal(b *cryptobyte.Builder)
}

func (hello) kind() uint8     { return typeHello }
func (challenge) kind() uint8 { return typeChallenge }
func (hold) kind() uint8      { return typeHold }
func (proof) kind() uint8     { return typeProof }
func (resume) kind() uint8    { return typeResume }
func (welcome) kind() uint8   { return typeWelcome }
func (refusal) kind() uint8   { return typeRefusal }
func (data) kind() uint8      { return typeData }

func s8(b *cryptobyte.Builder, p []byte) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func s16(b *cryptobyte.Builder, p []byte) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(p) })
}

func (m hello) marshal(b *cryptobyte.Builder) {
	b.AddUint16(m.Version)
	s8(b, []byte(m.Software))
	s8(b, m.Guest)
	s8(b, m.MAC)
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) {
		for _, k := range m.Keys {
			s16(b, k.Blob)
			s8(b, []byte(k.Comment))
		}
	})
}

func (m challenge) marshal(b *cryptobyte.Builder) { b.AddUint8(m.Index) }
func (m hold) marshal(b *cryptobyte.Builder)      { s8(b, []byte(m.Text)) }
func (m proof) marshal(b *cryptobyte.Builder)     { s16(b, m.Signature) }

func (m resume) marshal(b *cryptobyte.Builder) {
	b.AddBytes(m.Guest[:])
	b.AddBytes(m.MAC[:])
}

func (m welcome) marshal(b *cryptobyte.Builder) {
	var resumed uint8
	if m.Resumed {
		resumed = 1
	}
	b.AddUint8(resumed)
	b.AddUint8(m.Role)
	b.AddBytes(m.Guest[:])
	s8(b, m.MAC)
	s16(b, m.Key)
	s8(b, []byte(m.Comment))
	s16(b, m.Proof)
	s16(b, m.Info)
}

func (m refusal) marshal(b *cryptobyte.Builder) {
	b.AddUint8(uint8(m.Code))
	s16(b, []byte(m.Text))
}

func (m data) marshal(b *cryptobyte.Builder) { b.AddBytes(m.Payload) }

var errMalformed = errors.New("malformed message")

// reader reads the fields of a payload and remembers whether all were there.
type reader struct {
	s  cryptobyte.String
	ok bool
}

func (r *reader) u8() (v uint8)     { r.ok = r.ok && r.s.ReadUint8(&v); return v }
func (r *reader) u16() (v uint16)   { r.ok = r.ok && r.s.ReadUint16(&v); return v }
func (r *reader) fixed(dst []byte)  { r.ok = r.ok && r.s.CopyBytes(dst) }
func (r *reader) require(cond bool) { r.ok = r.ok && cond }
func (r *reader) s8() (v cryptobyte.String) {
	r.ok = r.ok && r.s.ReadUint8LengthPrefixed(&v)
	return v
}

func (r *reader) s16() (v cryptobyte.String) {
	r.ok = r.ok && r.s.ReadUint16LengthPrefixed(&v)
	return v
}

// parseMessage decodes a payload. What it returns refers to p's memory. Every
// message that it accepts marshals to the same bytes again.
func parseMessage(kind uint8, p []byte) (message, error) {
	r := &reader{s: p, ok: true}
	var m message
	switch kind {
	case typeHello:
		h := hello{Version: r.u16(), Software: string(r.s8()), Guest: r.s8(), MAC: r.s8()}
		r.require(len(h.Guest) == 0 || len(h.Guest) == len(GuestID{}))
		r.require(len(h.MAC) == 0 || len(h.MAC) == macSize)
		keys := &reader{s: r.s16(), ok: true}
		for keys.ok && !keys.s.Empty() {
			h.Keys = append(h.Keys, offeredKey{Blob: keys.s16(), Comment: string(keys.s8())})
			keys.require(len(h.Keys) <= MaxKeys)
		}
		r.require(keys.ok)
		m = h
	case typeChallenge:
		m = challenge{Index: r.u8()}
	case typeHold:
		m = hold{Text: string(r.s8())}
	case typeProof:
		m = proof{Signature: r.s16()}
	case typeResume:
		var v resume
		r.fixed(v.Guest[:])
		r.fixed(v.MAC[:])
		m = v
	case typeWelcome:
		var w welcome
		resumed := r.u8()
		r.require(resumed <= 1)
		w.Resumed = resumed == 1
		w.Role = r.u8()
		r.fixed(w.Guest[:])
		w.MAC = r.s8()
		r.require(len(w.MAC) == 0 || len(w.MAC) == macSize)
		w.Key, w.Comment, w.Proof, w.Info = r.s16(), string(r.s8()), r.s16(), r.s16()
		m = w
	case typeRefusal:
		m = refusal{Code: RefusalCode(r.u8()), Text: string(r.s16())}
	case typeData:
		return data{Payload: p}, nil
	default:
		return nil, fmt.Errorf("unknown message type %d", kind)
	}
	if !r.ok || !r.s.Empty() {
		return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
	}
	return m, nil
}

// appendFrame appends m's frame to dst.
func appendFrame(dst []byte, m message) ([]byte, error) {
	b := cryptobyte.NewBuilder(dst)
	b.AddUint8(m.kind())
	b.AddUint24LengthPrefixed(m.marshal)
	out, err := b.Bytes()
	if err != nil {
		return nil, fmt.Errorf("message of type %d: %w", m.kind(), err)
	}
	if n := len(out) - len(dst) - frameHeader; n > MaxPayload {
		return nil, fmt.Errorf("message of type %d has %d bytes, more than %d", m.kind(), n, MaxPayload)
	}
	return out, nil
}

// readMessage reads one frame from r. It allocates no more than MaxPayload.
func readMessage(r io.Reader) (message, error) {
	var h [frameHeader]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := int(h[1])<<16 | int(h[2])<<8 | int(h[3])
	if n > MaxPayload {
		return nil, fmt.Errorf("a message of %d bytes is too long", n)
	}
	p := make([]byte, n)
	if _, err := io.ReadFull(r, p); err != nil {
		if err == io.EOF {
			err = io.ErrUnexpectedEOF
		}
		return nil, err
	}
	return parseMessage(h[0], p)
}

// truncate cuts s to n bytes; names and comments are cut, never refused.
func truncate(s string, n int) string {
	if len(s) > n {
		s = s[:n]
	}
	return s
}
