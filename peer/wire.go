package peer

import (
	"errors"
	"fmt"

	"golang.org/x/crypto/cryptobyte"

	"github.com/pairterm/pairterm/keys"
)

// The messages of the control channel, which is reliable and ordered: whatever
// is not a key and not the screen. Each is a type byte and fields; integers
// are big endian, text is UTF-8 behind a length of one byte (s8) or two (s16).
// Guest and host are G and H.
//
//	hello    H→G  role 1            the link is in use; the tunnel is not needed any more
//	role     H→G  role 1            the guest's role has changed
//	goodbye  both reason 1, status 4 (two's complement), text s16
//	ask      G→H  from 8            the guest has missed history, from there on
//	history  H→G  last 1 (0 or 1), and the rest: a piece of what it has missed, in
//	              the form that the application gives it, compressed (RFC 1951)
//	beside   both attempt 1, and the rest: a message of a link being set up beside
//	              this one, as package link encodes it; nothing if the guest has given up
//	roam     H→G  0 1               the host's network has changed; there may be a better path
//
// And what a host says of itself in the tunnel, once a guest is admitted
// (tunnel.Peer.Info):
//
//	info          version 1, cols 2, rows 2, user s8, host s8, session s8, title s16
const (
	typeHello   = 1
	typeRole    = 2
	typeGoodbye = 3
	typeHistory = 4
	typeAsk     = 5
	typeBeside  = 16
	typeRoam    = 17

	infoVersion = 1

	// maxControl bounds a control message, in bytes.
	maxControl = 4 << 10
)

// Reason says why a session ended for a guest, or a guest left.
type Reason uint8

// Reasons are part of the protocol; their values never change.
const (
	ReasonLeft    Reason = 1 // the guest detached
	ReasonEnded   Reason = 2 // the shared shell ended, with a status
	ReasonStopped Reason = 3 // the host stopped sharing
	ReasonRemoved Reason = 4 // the guest's key was taken off the list, or it was told to go
	ReasonFailed  Reason = 5 // something went wrong, see the text
)

// String returns the reason in words for people.
func (r Reason) String() string {
	switch r {
	case ReasonLeft:
		return "left"
	case ReasonEnded:
		return "the shell ended"
	case ReasonStopped:
		return "the host stopped sharing"
	case ReasonRemoved:
		return "the host took the key off its list"
	case ReasonFailed:
		return "the session failed"
	}
	return fmt.Sprintf("reason %d", uint8(r))
}

// Goodbye is the last thing that one end says to the other.
type Goodbye struct {
	Reason Reason
	// Status is the shell's exit status with ReasonEnded.
	Status int
	// Text says more, for people; it is untrusted.
	Text string
}

// Info is what a host says of itself to a guest that it has admitted. Its texts are
// untrusted: print them with keys.Printable.
type Info struct {
	Cols, Rows int    // of the shared terminal
	User, Host string // who shares it, and on which machine
	Session    string // the session's name, if it has one
	Title      string // the terminal's title
}

// controlAsk asks for HostConfig.History.
type controlAsk struct{ from uint64 }

// controlHistory is a piece of HostConfig.History, compressed.
type controlHistory struct {
	last  bool
	piece string
}

// controlBeside is a message of a link that is being set up beside the one on which it
// comes.
type controlBeside struct {
	attempt uint8
	message string
}

type controlRoam struct{}
type controlHello struct{ role keys.Role }
type controlRole struct{ role keys.Role }

var (
	errMalformed = errors.New("malformed message")
	errUnknown   = errors.New("unknown control message")
)

// appendControl appends the encoding of m: a controlHello, controlRole,
// controlAsk, controlHistory, controlBeside, controlRoam or Goodbye.
func appendControl(dst []byte, m any) []byte {
	b := cryptobyte.NewBuilder(dst)
	switch m := m.(type) {
	case controlHello:
		b.AddUint8(typeHello)
		b.AddUint8(uint8(m.role))
	case controlRole:
		b.AddUint8(typeRole)
		b.AddUint8(uint8(m.role))
	case Goodbye:
		b.AddUint8(typeGoodbye)
		b.AddUint8(uint8(m.Reason))
		b.AddUint32(uint32(int32(m.Status)))
		addText16(b, m.Text)
	case controlAsk:
		b.AddUint8(typeAsk)
		b.AddUint64(m.from)
	case controlHistory:
		b.AddUint8(typeHistory)
		var last uint8
		if m.last {
			last = 1
		}
		b.AddUint8(last)
		b.AddBytes([]byte(m.piece))
	case controlBeside:
		b.AddUint8(typeBeside)
		b.AddUint8(m.attempt)
		b.AddBytes([]byte(m.message))
	case controlRoam:
		b.AddUint8(typeRoam)
		b.AddUint8(0)
	default:
		panic(fmt.Sprintf("peer: no control message %T", m))
	}
	return b.BytesOrPanic()
}

// parseControl decodes what appendControl encodes, and nothing else.
func parseControl(p []byte) (any, error) {
	s := cryptobyte.String(p)
	var kind, v uint8
	if !s.ReadUint8(&kind) {
		return nil, errMalformed
	}
	if kind == typeAsk {
		var from uint64
		if !s.ReadUint64(&from) || !s.Empty() {
			return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
		}
		return controlAsk{from}, nil
	}
	if !s.ReadUint8(&v) {
		return nil, errMalformed
	}
	switch kind {
	case typeHello, typeRole:
		role := keys.Role(v)
		if !s.Empty() || (role != keys.RoleView && role != keys.RoleType) {
			return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
		}
		if kind == typeHello {
			return controlHello{role}, nil
		}
		return controlRole{role}, nil
	case typeBeside:
		return controlBeside{attempt: v, message: string(s)}, nil
	case typeRoam:
		if v != 0 || !s.Empty() {
			return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
		}
		return controlRoam{}, nil
	case typeGoodbye:
		var status uint32
		var text cryptobyte.String
		if !s.ReadUint32(&status) || !s.ReadUint16LengthPrefixed(&text) || !s.Empty() {
			return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
		}
		return Goodbye{Reason: Reason(v), Status: int(int32(status)), Text: string(text)}, nil
	}
	if kind == typeHistory {
		if v > 1 {
			return nil, fmt.Errorf("%w of type %d", errMalformed, kind)
		}
		return controlHistory{last: v == 1, piece: string(s)}, nil
	}
	return nil, fmt.Errorf("%w %d", errUnknown, kind)
}

// append appends the encoding of i; texts that are too long are cut.
func (i Info) append(dst []byte) []byte {
	b := cryptobyte.NewBuilder(dst)
	b.AddUint8(infoVersion)
	b.AddUint16(uint16(i.Cols))
	b.AddUint16(uint16(i.Rows))
	addText8(b, i.User)
	addText8(b, i.Host)
	addText8(b, i.Session)
	addText16(b, i.Title)
	return b.BytesOrPanic()
}

// parseInfo decodes an Info. Fields that a later version adds at the end are
// ignored.
func parseInfo(p []byte) (Info, error) {
	s := cryptobyte.String(p)
	var version uint8
	var cols, rows uint16
	var user, host, session, title cryptobyte.String
	if !s.ReadUint8(&version) || version < infoVersion ||
		!s.ReadUint16(&cols) || !s.ReadUint16(&rows) ||
		!s.ReadUint8LengthPrefixed(&user) || !s.ReadUint8LengthPrefixed(&host) ||
		!s.ReadUint8LengthPrefixed(&session) || !s.ReadUint16LengthPrefixed(&title) {
		return Info{}, fmt.Errorf("%w: session information", errMalformed)
	}
	return Info{
		Cols: int(cols), Rows: int(rows),
		User: string(user), Host: string(host), Session: string(session), Title: string(title),
	}, nil
}

// maxText bounds a text of an s16 field, so that a message stays within
// maxControl.
const maxText = 1024

func addText8(b *cryptobyte.Builder, s string) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s[:min(len(s), 255)])) })
}

func addText16(b *cryptobyte.Builder, s string) {
	b.AddUint16LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes([]byte(s[:min(len(s), maxText)])) })
}
