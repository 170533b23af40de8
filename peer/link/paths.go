package link

import (
	"fmt"
	"net/netip"
)

// Paths says which paths links may take.
type Paths uint8

// The choices.
const (
	// PathsDirect: any from machine to machine.
	PathsDirect Paths = iota
	// PathsLAN: only those between addresses of private networks, and on one machine.
	// Packets from elsewhere are dropped, STUN servers are not asked.
	PathsLAN
	// PathsAny: also over a TURN server, which relays, as long as there is no direct one.
	PathsAny
)

var pathsNames = [...]string{PathsDirect: "direct", PathsLAN: "lan", PathsAny: "any"}

// String gives direct, lan or any.
func (p Paths) String() string {
	if int(p) < len(pathsNames) {
		return pathsNames[p]
	}
	return fmt.Sprintf("Paths(%d)", uint8(p))
}

// ParsePaths is the inverse of [Paths.String].
func ParsePaths(s string) (Paths, error) {
	for p, name := range pathsNames {
		if s == name {
			return Paths(p), nil
		}
	}
	return 0, fmt.Errorf("%q is none of lan, direct and any", s)
}

// admits reports whether packets may be exchanged with an address.
func (p Paths) admits(addr netip.AddrPort) bool {
	a := addr.Addr()
	return p != PathsLAN || a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast()
}

// refusal says why a candidate, of either end's, may not be used, or gives the empty
// string.
func (p Paths) refusal(c Candidate) string {
	switch {
	case !p.admits(c.Addr):
		return "not an address of a private network"
	case c.Type == CandidateRelay && p != PathsAny:
		return "a relay"
	}
	return ""
}

// sharedSpace is what carriers number their customers from (RFC 6598), and some VPNs.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

// IsPrivate reports whether an address tells something of the network behind the one
// that everybody can see.
func IsPrivate(a netip.Addr) bool {
	return a.IsPrivate() || a.IsLoopback() || a.IsLinkLocalUnicast() || sharedSpace.Contains(a)
}

// CheckPublic reports why no peer could reach an address of Config.Public. Addresses of
// private networks are fine: a VPN may forward too.
func CheckPublic(a netip.AddrPort) error {
	addr := a.Addr()
	if !addr.IsValid() || addr.Is4In6() || addr.Zone() != "" {
		return fmt.Errorf("%v is not the address of a machine", a)
	}
	if why := (addrPolicy{}).refusal(addr); why != "" {
		return fmt.Errorf("nobody can be reached at %v: %s", addr, why)
	}
	return nil
}
