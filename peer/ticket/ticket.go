// Package ticket encodes where to meet a host and whom to expect there.
//
// A ticket is one word of lower-case letters and digits, so that a double
// click selects all of it and no shell needs it quoted. It holds no secret:
// it names the signaling servers at which the host can be met and pins the
// host's session key, and posting it lets nobody in. [Parse] and
// [Ticket.String] are inverses.
//
// # Text form
//
//	"pt" version body
//
// where version is one digit, now 1, and body is base32 (RFC 4648 section 6,
// lower case, without padding, unused bits zero) of
//
//	length   1  of the whole binary form, this byte and the checksum included
//	pin     32  SHA-256 of the session key's SubjectPublicKeyInfo
//	places   n  one or more, see below
//	check    4  CRC-32C, big endian, of "pt", version and all bytes before it
//
// A place is a kind byte and what the kind says:
//
//	1: ws:// at an IPv4 address     4 address, 2 port (big endian)
//	2: ws:// at an IPv6 address    16 address, 2 port (big endian)
//	3: wss:// at a name             1 length, then host[:port][/path]
//	4: ws:// at a name              1 length, then host[:port][/path]
package ticket

import (
	"crypto/sha256"
	"encoding/base32"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/pairterm/pairterm/signal"
)

// Errors that [Parse] wraps; every one of them has its own remedy.
var (
	// ErrNotTicket: the text does not look like a ticket at all.
	ErrNotTicket = errors.New("not a ticket")
	// ErrTruncated: the beginning of a ticket, its end is missing.
	ErrTruncated = errors.New("the ticket is cut off")
	// ErrMistyped: the checksum or the structure does not hold.
	ErrMistyped = errors.New("the ticket is mistyped")
	// ErrNewer: made by a later version of pairterm.
	ErrNewer = errors.New("the ticket was made by a newer pairterm")
)

// MaxPlaces is how many signaling servers a ticket may name.
const MaxPlaces = 8

const (
	prefix  = "pt"
	version = '1'

	pinSize   = sha256.Size
	checkSize = 4
	minSize   = 1 + pinSize + checkSize
	maxSize   = 255 // the length byte's reach
)

const (
	placeIPv4 = iota + 1
	placeIPv6
	placeTLS
	placePlain
)

var (
	encoding   = base32.NewEncoding("abcdefghijklmnopqrstuvwxyz234567").WithPadding(base32.NoPadding)
	castagnoli = crc32.MakeTable(crc32.Castagnoli)
)

// Ticket says where to meet a host and which session key it must prove.
type Ticket struct {
	// Pin is the SHA-256 of the session key's SubjectPublicKeyInfo.
	Pin [pinSize]byte
	// Signal lists the signaling servers, at least one, best first, as URLs
	// with scheme ws or wss in the form that Normalize gives.
	Signal []string
}

// New returns a ticket for pin and the given signaling URLs, which are
// normalized. It fails for a URL that a ticket cannot carry, and when there
// are none, more than [MaxPlaces], or more text than fits.
func New(pin [pinSize]byte, signal ...string) (Ticket, error) {
	t := Ticket{Pin: pin}
	for _, s := range signal {
		u, err := Normalize(s)
		if err != nil {
			return Ticket{}, err
		}
		if !slices.Contains(t.Signal, u) {
			t.Signal = append(t.Signal, u)
		}
	}
	if len(t.Signal) == 0 {
		return Ticket{}, errors.New("a ticket needs a signaling server")
	}
	if len(t.Signal) > MaxPlaces {
		return Ticket{}, fmt.Errorf("a ticket holds at most %d signaling servers, not %d", MaxPlaces, len(t.Signal))
	}
	if n := len(t.appendBody(nil)) + checkSize; n > maxSize {
		return Ticket{}, fmt.Errorf("the signaling URLs are too long for a ticket, by %d bytes", n-maxSize)
	}
	return t, nil
}

// Normalize returns the one form of a signaling URL that tickets use: that of
// signal.ParseURL without a default port, with addresses in their canonical form. A zone,
// which means nothing on another machine, is refused.
func Normalize(s string) (string, error) {
	full, err := signal.ParseURL(s)
	if err != nil {
		return "", err
	}
	u, err := url.Parse(full)
	if err != nil {
		return "", fmt.Errorf("signaling URL %q: %w", s, err)
	}
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if a, err := netip.ParseAddr(host); err == nil {
		if a.Zone() != "" {
			return "", fmt.Errorf("signaling URL %q: an address with a zone means nothing on another machine", s)
		}
		host = a.Unmap().String()
	}
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	if port != "" {
		p, err := netip.ParseAddrPort("0.0.0.0:" + port)
		if err != nil || p.Port() == 0 {
			return "", fmt.Errorf("signaling URL %q: %q is not a port", s, port)
		}
		if !(u.Scheme == "ws" && p.Port() == 80) && !(u.Scheme == "wss" && p.Port() == 443) {
			host = fmt.Sprintf("%s:%d", host, p.Port())
		}
	}
	out := u.Scheme + "://" + host + strings.TrimRight(u.EscapedPath(), "/")
	for _, r := range out {
		if r <= ' ' || r > unicode.MaxASCII || r == 0x7f {
			return "", fmt.Errorf("signaling URL %q: only ASCII may be used", s)
		}
	}
	return out, nil
}

// appendBody appends the binary form without its checksum. The length byte
// counts the checksum too.
func (t Ticket) appendBody(b []byte) []byte {
	start := len(b)
	b = append(b, 0)
	b = append(b, t.Pin[:]...)
	for _, s := range t.Signal {
		b = appendPlace(b, s)
	}
	b[start] = byte(len(b) - start + checkSize)
	return b
}

func appendPlace(b []byte, s string) []byte {
	rest, tls := strings.CutPrefix(s, "wss://")
	if tls {
		b = append(b, placeTLS, byte(len(rest)))
		return append(b, rest...)
	}
	rest = strings.TrimPrefix(s, "ws://")
	if ap, err := netip.ParseAddrPort(rest); err == nil && ap.String() == rest {
		kind := byte(placeIPv4)
		if ap.Addr().Is6() {
			kind = placeIPv6
		}
		b = append(b, kind)
		b = append(b, ap.Addr().AsSlice()...)
		return binary.BigEndian.AppendUint16(b, ap.Port())
	}
	b = append(b, placePlain, byte(len(rest)))
	return append(b, rest...)
}

// String returns the ticket's text form. It is meant for tickets that New or
// Parse returned.
func (t Ticket) String() string {
	head := prefix + string(version)
	body := t.appendBody(nil)
	body = binary.BigEndian.AppendUint32(body, checksum(body))
	return head + encoding.EncodeToString(body)
}

func checksum(body []byte) uint32 {
	c := crc32.Checksum([]byte(prefix+string(version)), castagnoli)
	return crc32.Update(c, castagnoli, body)
}

// Parse reads a ticket. White space anywhere in it, which terminals and mail
// programs put in, and upper case are forgiven. The errors wrap ErrNotTicket,
// ErrTruncated, ErrMistyped or ErrNewer. It caps what it reads before it
// allocates.
func Parse(s string) (Ticket, error) {
	// A version 1 ticket has at most 411 characters; be generous with space.
	if len(s) > 4096 {
		return Ticket{}, fmt.Errorf("%w: %d characters are too many", ErrNotTicket, len(s))
	}
	s = strings.Map(func(r rune) rune {
		if unicode.IsSpace(r) {
			return -1
		}
		return unicode.ToLower(r)
	}, s)
	rest, ok := strings.CutPrefix(s, prefix)
	if !ok || !alphanumeric(rest) || (rest != "" && (rest[0] < '0' || rest[0] > '9')) {
		return Ticket{}, fmt.Errorf("%w: a ticket is one word of letters and digits that begins with %q", ErrNotTicket, prefix+string(version))
	}
	if rest == "" {
		return Ticket{}, ErrTruncated
	}
	switch {
	case rest[0] > version:
		return Ticket{}, fmt.Errorf("%w (ticket version %c, this pairterm knows %c)", ErrNewer, rest[0], version)
	case rest[0] < version:
		return Ticket{}, fmt.Errorf("%w: there is no ticket version %c", ErrMistyped, rest[0])
	}
	text := rest[1:]
	if len(text) < 2 {
		return Ticket{}, ErrTruncated
	}
	length, err := encoding.DecodeString(text[:2])
	if err != nil && len(length) == 0 {
		return Ticket{}, fmt.Errorf("%w: %q is not one of its characters", ErrMistyped, badCharacter(text))
	}
	want := encoding.EncodedLen(int(length[0]))
	switch {
	case int(length[0]) < minSize:
		return Ticket{}, fmt.Errorf("%w, near its beginning", ErrMistyped)
	case len(text) < want:
		return Ticket{}, fmt.Errorf("%w: it has %d characters of %d", ErrTruncated, len(s), len(s)-len(text)+want)
	case len(text) > want:
		return Ticket{}, fmt.Errorf("%w: it has %d characters, %d too many", ErrMistyped, len(s), len(text)-want)
	}
	body, err := encoding.DecodeString(text)
	if err != nil {
		return Ticket{}, fmt.Errorf("%w: %q is not one of its characters", ErrMistyped, badCharacter(text))
	}
	n := len(body) - checkSize
	if checksum(body[:n]) != binary.BigEndian.Uint32(body[n:]) || encoding.EncodeToString(body) != text {
		return Ticket{}, fmt.Errorf("%w: its checksum does not match", ErrMistyped)
	}
	t := Ticket{Pin: [pinSize]byte(body[1:])}
	for p := body[1+pinSize : n]; len(p) > 0; {
		var u string
		if u, p, err = cutPlace(p); err != nil {
			return Ticket{}, fmt.Errorf("%w: %w", ErrMistyped, err)
		}
		t.Signal = append(t.Signal, u)
	}
	// A ticket with a sound checksum that New would not have made is somebody's
	// own work; hold it to the same rules.
	made, err := New(t.Pin, t.Signal...)
	if err != nil {
		return Ticket{}, fmt.Errorf("%w: %w", ErrMistyped, err)
	}
	if made.String() != s {
		return Ticket{}, fmt.Errorf("%w: it is not in its one proper form", ErrMistyped)
	}
	return made, nil
}

// cutPlace takes one place off p.
func cutPlace(p []byte) (string, []byte, error) {
	short := errors.New("a place is incomplete")
	size := 0
	switch p[0] {
	case placeIPv4:
		size = 4
	case placeIPv6:
		size = 16
	case placeTLS, placePlain:
		if len(p) < 2 || len(p) < 2+int(p[1]) {
			return "", nil, short
		}
		scheme := "wss://"
		if p[0] == placePlain {
			scheme = "ws://"
		}
		end := 2 + int(p[1])
		return scheme + string(p[2:end]), p[end:], nil
	default:
		return "", nil, fmt.Errorf("place kind %d is unknown", p[0])
	}
	if len(p) < 1+size+2 {
		return "", nil, short
	}
	addr, _ := netip.AddrFromSlice(p[1 : 1+size])
	ap := netip.AddrPortFrom(addr, binary.BigEndian.Uint16(p[1+size:]))
	return "ws://" + ap.String(), p[1+size+2:], nil
}

func alphanumeric(s string) bool {
	for _, c := range []byte(s) {
		if (c < '0' || c > '9') && (c < 'a' || c > 'z') {
			return false
		}
	}
	return true
}

// badCharacter returns the first character of s that base32 does not use.
func badCharacter(s string) string {
	for _, c := range []byte(s) {
		if (c < '2' || c > '7') && (c < 'a' || c > 'z') {
			return string(c)
		}
	}
	return ""
}
