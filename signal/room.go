package signal

import (
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
)

const roomLabel = "pairterm room v1\x00"

// A Room is where one session's host and guests meet: a truncated hash of the
// host's session key. Knowing it lets one knock, nothing more.
type Room [16]byte

// Pin is the SHA-256 of a session key's SubjectPublicKeyInfo (RFC 8410), by
// which guests know their host.
func Pin(key ed25519.PublicKey) [32]byte {
	// The DER prefix of an Ed25519 SubjectPublicKeyInfo is constant:
	// SEQUENCE { SEQUENCE { OID 1.3.101.112 } BIT STRING }.
	spki := append([]byte{0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00}, key...)
	return sha256.Sum256(spki)
}

// RoomOf is the room of the session key with this pin:
// SHA-256("pairterm room v1" ‖ 0x00 ‖ pin), its first 16 bytes.
func RoomOf(pin [32]byte) Room {
	sum := sha256.Sum256(append([]byte(roomLabel), pin[:]...))
	return Room(sum[:len(Room{})])
}

// String is the room in 32 lower-case hexadecimal digits. [ParseRoom] is its inverse.
func (r Room) String() string { return hex.EncodeToString(r[:]) }

// ParseRoom parses what [Room.String] wrote, and nothing else.
func ParseRoom(s string) (Room, error) {
	var r Room
	if len(s) != 2*len(r) {
		return Room{}, fmt.Errorf("room %.40q: want %d hexadecimal digits", s, 2*len(r))
	}
	if _, err := hex.Decode(r[:], []byte(s)); err != nil || r.String() != s {
		return Room{}, fmt.Errorf("room %q: want lower-case hexadecimal digits", s)
	}
	return r, nil
}
