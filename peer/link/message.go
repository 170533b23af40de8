package link

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// The messages that travel between two ends that set up a link, inside their
// authenticated tunnel. Each is one message of the tunnel, so no lengths are needed
// but those of strings.
//
//	description            candidate                   end of candidates
//	1  kind, 1             1  kind, 2                  1  kind, 3
//	1  version, 1          1  type, 1–4
//	1  setup, 1–2          1  transport, 1–2
//	32 fingerprint         4  priority
//	1  length of ufrag     2  port
//	4–32 ufrag             4 or 16 address
//	1  length of pwd
//	22–64 pwd
//
//	NAT report             relaying
//	1  kind, 128           1  kind, 129
//	1  version, 1          1  flags: has a server 1
//	15 see nat.go
const (
	kindDescription     = 1
	kindCandidate       = 2
	kindEndOfCandidates = 3

	// Kinds from here on say nothing that a link needs: who does not know one ignores it.
	kindOptional  = 128
	kindNATReport = 128
	kindRelaying  = 129

	messageVersion = 1
	reportVersion  = 1

	// maxOptional bounds the optional messages of one link.
	maxOptional = 16

	// MaxMessageSize bounds the encoding of any message, in bytes.
	MaxMessageSize = 3 + 32 + 1 + maxUfrag + 1 + maxPwd

	// RFC 8839 section 5.4 allows 4 to 256 characters for the fragment and 22 to 256
	// for the password. Ours are 8 and 32 long.
	minUfrag, maxUfrag = 4, 32 // bytes
	minPwd, maxPwd     = 22, 64
)

// Message is what the two ends of a link being set up tell each other: a
// [Description] first, then [Candidate]s as they are found, then [EndOfCandidates]. A
// [NATReport] and [Relaying] may come at any time after the description.
type Message interface {
	// AppendBinary appends the encoding of a valid message to b, or returns the
	// reason why it is not valid.
	AppendBinary(b []byte) ([]byte, error)
	// validate reports why the message may not be sent or used.
	validate() error
}

// Unknown is a message that a later version sends, and that may be ignored.
type Unknown []byte

func (u Unknown) validate() error {
	if len(u) == 0 || len(u) > MaxMessageSize || u[0] < kindOptional || u[0] == kindNATReport || u[0] == kindRelaying {
		return fmt.Errorf("%w: no optional message", ErrProtocol)
	}
	return nil
}

// AppendBinary implements [Message].
func (u Unknown) AppendBinary(b []byte) ([]byte, error) {
	if err := u.validate(); err != nil {
		return b, err
	}
	return append(b, u...), nil
}

// Setup is the DTLS role that an end offers to take (RFC 4145, RFC 8842).
type Setup uint8

// The guest offers either role, the host takes the client's: that saves half a
// round trip, because in ICE the controlled end knows first that a path is agreed.
const (
	SetupActPass Setup = 1 // the dialing end
	SetupActive  Setup = 2 // the accepting end
)

// Description is everything an end must know of the other to talk to it, but for
// its addresses.
type Description struct {
	Setup       Setup
	Fingerprint [32]byte // SHA-256 of the DTLS certificate; no other hash can be expressed
	Ufrag, Pwd  string   // ICE credentials, RFC 8445 section 5.3
}

// EndOfCandidates says that no more candidates will come (RFC 8838 section 8.2).
type EndOfCandidates struct{}

func (d Description) validate() error {
	switch {
	case d.Setup != SetupActPass && d.Setup != SetupActive:
		return fmt.Errorf("%w: unknown DTLS role %d", ErrProtocol, d.Setup)
	case len(d.Ufrag) < minUfrag || len(d.Ufrag) > maxUfrag || !iceChars(d.Ufrag):
		return fmt.Errorf("%w: ICE user name fragment %.40q", ErrProtocol, d.Ufrag)
	case len(d.Pwd) < minPwd || len(d.Pwd) > maxPwd || !iceChars(d.Pwd):
		return fmt.Errorf("%w: ICE password of %d bytes", ErrProtocol, len(d.Pwd))
	}
	return nil
}

// iceChars reports whether s consists of the characters that RFC 8839 section 5.1
// calls ice-char. No line break, space or colon is among them.
func iceChars(s string) bool {
	for i := range len(s) {
		c := s[i]
		if (c < 'a' || c > 'z') && (c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != '+' && c != '/' {
			return false
		}
	}
	return true
}

// AppendBinary implements [Message].
func (d Description) AppendBinary(b []byte) ([]byte, error) {
	if err := d.validate(); err != nil {
		return b, err
	}
	b = append(b, kindDescription, messageVersion, byte(d.Setup))
	b = append(b, d.Fingerprint[:]...)
	b = append(b, byte(len(d.Ufrag)))
	b = append(b, d.Ufrag...)
	b = append(b, byte(len(d.Pwd)))
	return append(b, d.Pwd...), nil
}

// AppendBinary implements [Message].
func (c Candidate) AppendBinary(b []byte) ([]byte, error) {
	if err := c.validate(); err != nil {
		return b, err
	}
	b = append(b, kindCandidate, byte(c.Type), byte(c.Transport))
	b = binary.BigEndian.AppendUint32(b, c.Priority)
	b = binary.BigEndian.AppendUint16(b, c.Addr.Port())
	return append(b, c.Addr.Addr().AsSlice()...), nil
}

func (EndOfCandidates) validate() error { return nil }

// AppendBinary implements [Message].
func (EndOfCandidates) AppendBinary(b []byte) ([]byte, error) {
	return append(b, kindEndOfCandidates), nil
}

// Relaying says that an end takes relayed paths, if there is no direct one. Nothing is
// relayed unless both ends say so.
type Relaying struct {
	Server bool // it has a TURN server
}

func (Relaying) validate() error { return nil }

// AppendBinary implements [Message].
func (r Relaying) AppendBinary(b []byte) ([]byte, error) {
	if r.Server {
		return append(b, kindRelaying, 1), nil
	}
	return append(b, kindRelaying, 0), nil
}

// ParseMessage decodes a message and checks that it is valid. Errors wrap
// [ErrProtocol].
func ParseMessage(b []byte) (Message, error) {
	if len(b) == 0 {
		return nil, fmt.Errorf("%w: empty message", ErrProtocol)
	}
	var (
		m  Message
		ok bool
	)
	switch kind, body := b[0], b[1:]; kind {
	case kindDescription:
		m, ok = parseDescription(body)
	case kindCandidate:
		m, ok = parseCandidate(body)
	case kindEndOfCandidates:
		m, ok = EndOfCandidates{}, len(body) == 0
	case kindNATReport:
		m, ok = parseNATReport(body)
	case kindRelaying:
		ok = len(body) == 1 && body[0] <= 1
		m = Relaying{Server: ok && body[0] == 1}
	default:
		if kind >= kindOptional && len(b) <= MaxMessageSize {
			return Unknown(append([]byte(nil), b...)), nil
		}
		return nil, fmt.Errorf("%w: unknown message kind %d", ErrProtocol, kind)
	}
	if !ok {
		return nil, fmt.Errorf("%w: malformed message of kind %d", ErrProtocol, b[0])
	}
	if err := m.validate(); err != nil {
		return nil, err
	}
	return m, nil
}

func parseDescription(b []byte) (Message, bool) {
	var d Description
	if len(b) < 2+len(d.Fingerprint) || b[0] != messageVersion {
		return nil, false
	}
	d.Setup = Setup(b[1])
	b = b[2+copy(d.Fingerprint[:], b[2:]):]
	var ok bool
	if d.Ufrag, b, ok = parseString(b); !ok {
		return nil, false
	}
	if d.Pwd, b, ok = parseString(b); !ok {
		return nil, false
	}
	return d, len(b) == 0
}

func parseString(b []byte) (s string, rest []byte, ok bool) {
	if len(b) == 0 || len(b)-1 < int(b[0]) {
		return "", nil, false
	}
	n := 1 + int(b[0])
	return string(b[1:n]), b[n:], true
}

func parseCandidate(b []byte) (Message, bool) {
	const fixed = 1 + 1 + 4 + 2
	if len(b) < fixed {
		return nil, false
	}
	addr, ok := netip.AddrFromSlice(b[fixed:])
	return Candidate{
		Type:      CandidateType(b[0]),
		Transport: CandidateTransport(b[1]),
		Priority:  binary.BigEndian.Uint32(b[2:]),
		Addr:      netip.AddrPortFrom(addr, binary.BigEndian.Uint16(b[6:])),
	}, ok
}
