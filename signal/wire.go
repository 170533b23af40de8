package signal

import (
	"crypto/ed25519"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// This file is the whole wire format.
//
// Client and server speak over one WebSocket each (RFC 6455), subprotocol
// [Subprotocol], no compression. Every WebSocket message is binary and holds
// exactly one of the messages below: a type byte, then the body. Integers are
// big-endian. There is no padding and nothing optional, so a message has one
// encoding only: whatever decodes, encodes to the same bytes again.
//
//	GET {base}/v1/host            a host: many pipes over one WebSocket
//	GET {base}/v1/join/{room}     a guest: exactly one pipe, numbered 0
//
// A host's connection:
//
//	server → Challenge            a fresh nonce
//	client → Offer                only if the challenge asks for a proof, like
//	server → Choice               all three: which of the keys it is to be
//	client → Prove
//	client → Register             the session key, its signature
//	server → Ready                from here on the room is open
//	server → Open                 a guest came: a new pipe
//	both   ⇄ Data, Close          on any open pipe
//	server → Goodbye              nothing new will come; see there
//
// A guest's connection:
//
//	server → Challenge            only if the server asks guests for a proof
//	client → Offer
//	server → Choice
//	client → Prove
//	server → Ready                the pipe is open
//	both   ⇄ Data, Close          on pipe 0
//
// Instead of Ready a server may say Goodbye. What it can refuse before it
// answers the upgrade, it refuses in HTTP: the status code is for people and
// proxies, [HeaderCode] carries the [Code] and Retry-After the wait. Every
// answer of a signaling server has [HeaderServer], which lists the versions
// of this format that it speaks.
//
// To stay registered a client sends WebSocket pings; a server forgets a host
// from which it has heard nothing for [ReadyMsg].Idle.
const (
	// Subprotocol names this format, and its version, in the WebSocket handshake.
	Subprotocol = "pairterm.signal.v1"

	// Version is this format's entry in [HeaderServer].
	Version = "v1"

	// HeaderServer is the HTTP response header by which a client tells a
	// signaling server from any other: a comma-separated list of versions.
	HeaderServer = "Pairterm-Signal"

	// HeaderCode is the HTTP response header with the [Code], in decimal, of a
	// request that was refused before the upgrade.
	HeaderCode = "Pairterm-Signal-Code"

	// PathHost and PathJoin are appended to the server's base URL; PathJoin is
	// followed by the room.
	PathHost = "/v1/host"
	PathJoin = "/v1/join/"
)

// Sizes, in bytes.
const (
	MaxMessage  = 16 << 10                    // one message, type byte included
	DataHeader  = 1 + 4                       // of a Data: type, pipe
	MaxPayload  = MaxMessage - DataHeader     // of a Data
	MaxName     = 1 + 253 + 1 + len(":65535") // of a server name, brackets included
	MaxProof    = 4 << 10                     // of a Prove: an SSHSIG by an RSA key of 8,192 bits fits
	MaxOffers   = 16                          // keys in an Offer
	MaxOffer    = 12 << 10                    // one Offer
	MaxProve    = 1 + 2 + MaxName + MaxProof  // one Prove
	MaxRegister = registerMin + MaxName       // one Register
	MaxText     = 200                         // of a Goodbye
	maxSTUN     = 2                           // ports of a STUN hint
	nonceLen    = 32                          // of a Challenge
	registerMin = 1 + 32 + 16 + 64            // type, key, instance, signature
	readyMin    = 1 + 16 + 2 + 4 + 4 + 4 + 1  // type, room, guests, idle, lifetime, pipe bytes, n
	proveBit    = 1 << 0                      // of a Challenge's flags
)

// What goes before what is hashed or signed, so that nothing made for one
// purpose serves another.
const (
	registerLabel = "pairterm signal register v1\x00"
	proveLabel    = "pairterm signal prove v1\x00"
)

// The type byte. Those with the high bit set come only from a server.
const (
	typeRegister  = 0x01
	typeProve     = 0x02
	typeOffer     = 0x03
	typeData      = 0x10
	typeClose     = 0x11
	typeChallenge = 0x81
	typeReady     = 0x82
	typeOpen      = 0x83
	typeGoodbye   = 0x84
	typeChoice    = 0x85
)

// ErrMalformed is wrapped by every error of [Decode].
var ErrMalformed = errors.New("malformed signaling message")

// A Message is one of *ChallengeMsg, *OfferMsg, *ChoiceMsg, *ProveMsg, *RegisterMsg, *ReadyMsg, *OpenMsg, *DataMsg,
// *CloseMsg and *GoodbyeMsg.
type Message interface {
	// Append appends the encoded message to b.
	Append(b []byte) []byte
}

// ChallengeMsg opens a host's connection, and a guest's where the server asks
// guests for a proof. It does not name the server: a client signs the name
// that it dialled, never one that it was told.
//
//	type   [1]byte  0x81
//	flags  [1]byte  bit 0: a proof is asked for; others 0
//	nonce  [32]byte fresh and random for every connection
type ChallengeMsg struct {
	Prove bool
	Nonce [nonceLen]byte
}

// OfferMsg tells a server that asks for a proof which keys the client could
// give it with, the preferred first. As with SSH, whoever knows somebody's public
// key can so find out whether the server knows it too.
//
//	type    [1]byte  0x03
//	keys    [1]byte  n, 1..16
//	length  [2]byte  n times, followed by:
//	key     [1..]byte  a public key or certificate in SSH's wire format (RFC 4253, section 6.6)
type OfferMsg struct {
	Keys [][]byte
}

// ChoiceMsg is which of the offered keys the server wants the proof of: the
// first that may use it. If there is none it says Goodbye instead.
//
//	type    [1]byte  0x85
//	index   [1]byte  counts from 0
type ChoiceMsg struct {
	Index uint8
}

// ProveMsg shows that a person may use this server: an SSHSIG signature
// (OpenSSH's PROTOCOL.sshsig), binary, over [ProveInput] in [ProveNamespace],
// by the chosen key, or by the key that the chosen certificate certifies.
//
//	type    [1]byte  0x02
//	length  [2]byte  of the name
//	name    [1..261]byte  [ServerName] of the URL that was dialled
//	proof   [1..4096]byte
type ProveMsg struct {
	Name  string
	Proof []byte
}

// RegisterMsg asks for the room of a session key.
//
//	type       [1]byte  0x01
//	key        [32]byte Ed25519 public key of the session
//	instance   [16]byte random, one for each running host; see [CodeSuperseded]
//	signature  [64]byte Ed25519, over [RegisterInput]
//	name       [1..261]byte [ServerName] of the URL that was dialled
type RegisterMsg struct {
	Key       [ed25519.PublicKeySize]byte
	Instance  [16]byte
	Signature [ed25519.SignatureSize]byte
	Name      string
}

// RegisterInput is what a host signs to register:
//
//	"pairterm signal register v1" ‖ 0x00 ‖ server name ‖ nonce [32] ‖ instance [16]
//
// The server name is [ServerName] of the URL that the host dialled, never one
// that it was told. The fresh nonce keeps a signature from being used twice,
// the name keeps one server from using it at another.
func RegisterInput(serverName string, nonce [nonceLen]byte, instance [16]byte) []byte {
	b := append([]byte(registerLabel), serverName...)
	b = append(b, nonce[:]...)
	return append(b, instance[:]...)
}

// ProveNamespace is the SSHSIG namespace of a [ProveMsg].
const ProveNamespace = "signal.v1@pairterm"

// ProveInput is what a [ProveMsg] is about:
//
//	"pairterm signal prove v1" ‖ 0x00 ‖ server name ‖ nonce [32]
//
// The server name and the fresh nonce keep a proof from being used twice, or by
// one server at another.
func ProveInput(serverName string, nonce [nonceLen]byte) []byte {
	b := append([]byte(proveLabel), serverName...)
	return append(b, nonce[:]...)
}

// ReadyMsg says that the room is open (to a host) or that the pipe is (to a guest).
//
//	type       [1]byte  0x82
//	room       [16]byte
//	guests     [2]byte  most pipes that the room may have at once
//	idle       [4]byte  milliseconds without a word after which a host, or a pipe, is closed
//	lifetime   [4]byte  milliseconds that a pipe may last at most
//	pipeBytes  [4]byte  payload that a pipe may carry in each direction
//	ports      [1]byte  n, 0..2
//	port       [2]byte  n times: UDP port that answers STUN, not 0
//	host       [0..253]byte  host name or address of the STUN server; empty: the one dialled
type ReadyMsg struct {
	Room      Room
	Guests    uint16
	Idle      time.Duration // whole milliseconds, like Lifetime
	Lifetime  time.Duration
	PipeBytes uint32
	STUNPorts []uint16
	STUNHost  string // only if there are ports
}

// OpenMsg tells a host of a new guest.
//
//	type    [1]byte  0x83
//	pipe    [4]byte  counts up from 1, never used again on this connection
//	source  [8]byte  a keyed hash of where the guest comes from (an IPv4 address or an IPv6 /64):
//	                 equal for equal origins as long as the connection lasts, and says nothing else
type OpenMsg struct {
	Pipe   uint32
	Source uint64
}

// DataMsg carries bytes of a pipe. How they are cut into messages means nothing.
//
//	type     [1]byte  0x10
//	pipe     [4]byte  0 on a guest's connection
//	payload  [1..16379]byte
type DataMsg struct {
	Pipe    uint32
	Payload []byte
}

// CloseMsg ends a pipe in both directions, after what was sent before it.
//
//	type    [1]byte  0x11
//	pipe    [4]byte  0 on a guest's connection
//	reason  [1]byte  a [Reason]
type CloseMsg struct {
	Pipe   uint32
	Reason Reason
}

// GoodbyeMsg refuses what was asked for, or, after Ready, announces that the
// server is about to end the connection. Nothing new will come (no Open), open
// pipes may still finish until the server closes the WebSocket.
//
//	type   [1]byte   0x84
//	code   [1]byte   a [Code]
//	retry  [4]byte   milliseconds to wait before another try; 0: as the client sees fit
//	text   [0..200]byte  UTF-8, printable, for people; may be empty
type GoodbyeMsg struct {
	Code  Code
	Retry time.Duration // whole milliseconds
	Text  string
}

// A Code says why a server refused or ended a connection. Clients must expect
// codes that they do not know.
type Code uint8

// The codes.
const (
	CodeInternal     Code = 1  // the server is at fault
	CodeProtocol     Code = 2  // malformed, oversized or out of order
	CodeTimeout      Code = 3  // silent for too long
	CodeRateLimited  Code = 4  // too much from this address, or for this room
	CodeServerFull   Code = 5  // no room for another connection
	CodeShuttingDown Code = 6  // this process ends; come back in Retry
	CodeNoRoom       Code = 7  // no host is registered there
	CodeRoomFull     Code = 8  // the room has as many guests as it may have
	CodeBadSignature Code = 9  // of a Register
	CodeWrongServer  Code = 10 // the server does not go by the name that was dialled
	CodeNotAllowed   Code = 11 // this server does not serve this host, or this person
	CodeReplaced     Code = 12 // another instance registered with the same session key
	CodeSuperseded   Code = 13 // the same instance registered again, over another connection
	CodeDetached     Code = 14 // the server cannot reach those that it works with, one of which may know better
)

// A Reason says why a pipe ended. Clients must expect reasons that they do
// not know.
type Reason uint8

// The reasons.
const (
	ReasonDone      Reason = 0 // the other side closed it
	ReasonLost      Reason = 1 // the other side's connection to the server is gone
	ReasonOverflow  Reason = 2 // the receiver read too slowly
	ReasonQuota     Reason = 3 // more bytes than a pipe may carry
	ReasonIdle      Reason = 4 // silent for too long
	ReasonLifetime  Reason = 5 // open for too long
	ReasonRefused   Reason = 6 // the host takes no more guests now
	ReasonShutdown  Reason = 7 // the server ends
	ReasonMalformed Reason = 8 // the other side broke the protocol
	ReasonRevoked   Reason = 9 // the guest may no longer use the server
)

// Append implements [Message].
func (m *ChallengeMsg) Append(b []byte) []byte {
	var flags byte
	if m.Prove {
		flags |= proveBit
	}
	b = append(b, typeChallenge, flags)
	return append(b, m.Nonce[:]...)
}

// Append implements [Message].
func (m *OfferMsg) Append(b []byte) []byte {
	b = append(b, typeOffer, byte(len(m.Keys)))
	for _, k := range m.Keys {
		b = binary.BigEndian.AppendUint16(b, uint16(len(k)))
		b = append(b, k...)
	}
	return b
}

// Append implements [Message].
func (m *ChoiceMsg) Append(b []byte) []byte { return append(b, typeChoice, m.Index) }

// Append implements [Message].
func (m *ProveMsg) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint16(append(b, typeProve), uint16(len(m.Name)))
	b = append(b, m.Name...)
	return append(b, m.Proof...)
}

// Append implements [Message].
func (m *RegisterMsg) Append(b []byte) []byte {
	b = append(b, typeRegister)
	b = append(b, m.Key[:]...)
	b = append(b, m.Instance[:]...)
	b = append(b, m.Signature[:]...)
	return append(b, m.Name...)
}

// Append implements [Message].
func (m *ReadyMsg) Append(b []byte) []byte {
	b = append(b, typeReady)
	b = append(b, m.Room[:]...)
	b = binary.BigEndian.AppendUint16(b, m.Guests)
	b = appendMillis(b, m.Idle)
	b = appendMillis(b, m.Lifetime)
	b = binary.BigEndian.AppendUint32(b, m.PipeBytes)
	b = append(b, byte(len(m.STUNPorts)))
	for _, p := range m.STUNPorts {
		b = binary.BigEndian.AppendUint16(b, p)
	}
	return append(b, m.STUNHost...)
}

// Append implements [Message].
func (m *OpenMsg) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeOpen), m.Pipe)
	return binary.BigEndian.AppendUint64(b, m.Source)
}

// Append implements [Message].
func (m *DataMsg) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeData), m.Pipe)
	return append(b, m.Payload...)
}

// Append implements [Message].
func (m *CloseMsg) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, typeClose), m.Pipe)
	return append(b, byte(m.Reason))
}

// Append implements [Message].
func (m *GoodbyeMsg) Append(b []byte) []byte {
	b = appendMillis(append(b, typeGoodbye, byte(m.Code)), m.Retry)
	return append(b, m.Text...)
}

// Decode decodes one message. It accepts exactly what Append can produce of
// values within the documented limits; its errors wrap [ErrMalformed]. A
// *DataMsg, *OfferMsg or *ProveMsg shares memory with b.
func Decode(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty", ErrMalformed)
	}
	if len(b) > MaxMessage {
		return nil, fmt.Errorf("%w: %d bytes, more than %d", ErrMalformed, len(b), MaxMessage)
	}
	body := b[1:]
	switch b[0] {
	case typeData:
		if len(b) <= DataHeader {
			return nil, badLength(b)
		}
		return &DataMsg{Pipe: binary.BigEndian.Uint32(body), Payload: body[4:]}, nil
	case typeClose:
		if len(body) != 4+1 {
			return nil, badLength(b)
		}
		return &CloseMsg{Pipe: binary.BigEndian.Uint32(body), Reason: Reason(body[4])}, nil
	case typeOpen:
		if len(body) != 4+8 {
			return nil, badLength(b)
		}
		return &OpenMsg{Pipe: binary.BigEndian.Uint32(body), Source: binary.BigEndian.Uint64(body[4:])}, nil
	case typeRegister:
		if len(b) <= registerMin {
			return nil, badLength(b)
		}
		m := &RegisterMsg{
			Key:       [32]byte(body[:32]),
			Instance:  [16]byte(body[32:48]),
			Signature: [64]byte(body[48:112]),
			Name:      string(body[112:]),
		}
		if !validName(m.Name) {
			return nil, fmt.Errorf("%w: register with name %.80q", ErrMalformed, m.Name)
		}
		return m, nil
	case typeProve:
		if len(body) < 2 {
			return nil, badLength(b)
		}
		name, proof := body[2:], []byte(nil)
		if n := int(binary.BigEndian.Uint16(body)); n < len(name) {
			name, proof = name[:n], name[n:]
		}
		if len(proof) == 0 || len(proof) > MaxProof {
			return nil, badLength(b)
		}
		if !validName(string(name)) {
			return nil, fmt.Errorf("%w: prove with name %.80q", ErrMalformed, name)
		}
		return &ProveMsg{Name: string(name), Proof: proof}, nil
	case typeOffer:
		return decodeOffer(b)
	case typeChoice:
		if len(body) != 1 {
			return nil, badLength(b)
		}
		if body[0] >= MaxOffers {
			return nil, fmt.Errorf("%w: choice %d", ErrMalformed, body[0])
		}
		return &ChoiceMsg{Index: body[0]}, nil
	case typeChallenge:
		if len(body) != 1+nonceLen {
			return nil, badLength(b)
		}
		if body[0]&^proveBit != 0 {
			return nil, fmt.Errorf("%w: challenge with unknown flags %#x", ErrMalformed, body[0])
		}
		return &ChallengeMsg{Prove: body[0]&proveBit != 0, Nonce: [nonceLen]byte(body[1:])}, nil
	case typeReady:
		return decodeReady(b)
	case typeGoodbye:
		if len(body) < 1+4 || len(body) > 1+4+MaxText {
			return nil, badLength(b)
		}
		text := string(body[5:])
		if !printable(text) {
			return nil, fmt.Errorf("%w: goodbye whose text is not printable", ErrMalformed)
		}
		return &GoodbyeMsg{Code: Code(body[0]), Retry: millis(body[1:]), Text: text}, nil
	}
	return nil, fmt.Errorf("%w: unknown type %#x", ErrMalformed, b[0])
}

func decodeOffer(b []byte) (Message, error) {
	if len(b) < 2 || len(b) > MaxOffer {
		return nil, badLength(b)
	}
	n, rest := int(b[1]), b[2:]
	if n == 0 || n > MaxOffers {
		return nil, fmt.Errorf("%w: offer of %d keys", ErrMalformed, n)
	}
	m := &OfferMsg{Keys: make([][]byte, n)}
	for i := range m.Keys {
		if len(rest) < 2 {
			return nil, badLength(b)
		}
		size := int(binary.BigEndian.Uint16(rest))
		if rest = rest[2:]; size == 0 || size > len(rest) {
			return nil, badLength(b)
		}
		m.Keys[i], rest = rest[:size:size], rest[size:]
	}
	if len(rest) > 0 {
		return nil, badLength(b)
	}
	return m, nil
}

func decodeReady(b []byte) (Message, error) {
	if len(b) < readyMin {
		return nil, badLength(b)
	}
	m := &ReadyMsg{
		Room:      Room(b[1:17]),
		Guests:    binary.BigEndian.Uint16(b[17:]),
		Idle:      millis(b[19:]),
		Lifetime:  millis(b[23:]),
		PipeBytes: binary.BigEndian.Uint32(b[27:]),
	}
	n, rest := int(b[readyMin-1]), b[readyMin:]
	if n > maxSTUN || len(rest) < 2*n {
		return nil, fmt.Errorf("%w: ready with %d STUN ports", ErrMalformed, n)
	}
	for i := range n {
		port := binary.BigEndian.Uint16(rest[2*i:])
		if port == 0 {
			return nil, fmt.Errorf("%w: ready with STUN port 0", ErrMalformed)
		}
		m.STUNPorts = append(m.STUNPorts, port)
	}
	m.STUNHost = string(rest[2*n:])
	if m.STUNHost != "" && (n == 0 || !validHost(m.STUNHost)) {
		return nil, fmt.Errorf("%w: ready with STUN host %.80q", ErrMalformed, m.STUNHost)
	}
	return m, nil
}

func badLength(b []byte) error {
	return fmt.Errorf("%w: type %#x with a length of %d bytes", ErrMalformed, b[0], len(b))
}

// appendMillis saturates: a limit of a hundred days is sent as 49 days.
func appendMillis(b []byte, d time.Duration) []byte {
	ms := max(0, min(d.Milliseconds(), int64(^uint32(0))))
	return binary.BigEndian.AppendUint32(b, uint32(ms))
}

func millis(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint32(b)) * time.Millisecond
}

// printable reports whether s can be shown on a terminal as it is.
func printable(s string) bool {
	if !utf8.ValidString(s) {
		return false
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return false
		}
	}
	return true
}

// validName reports whether s can be what [ServerName] returns.
func validName(s string) bool {
	return s != "" && len(s) <= MaxName && onlyHostBytes(s, ":[]") && ServerName(s) == s
}

// validHost reports whether s can be a host name or an address.
func validHost(s string) bool {
	return len(s) <= 253 && onlyHostBytes(s, ":")
}

func onlyHostBytes(s, extra string) bool {
	for i := range len(s) {
		c := s[i]
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '.', c == '-', c == '_':
		case strings.IndexByte(extra, c) >= 0:
		default:
			return false
		}
	}
	return true
}
