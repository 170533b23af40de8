package link

import (
	"fmt"
	"net/netip"
)

// maxCandidates bounds how many candidates either side offers, and accepts.
const maxCandidates = 32

// CandidateType is how a candidate's address came to be known (RFC 8445 section
// 5.1.1).
type CandidateType uint8

// The types of candidates.
const (
	CandidateHost  CandidateType = 1 // an address of the machine itself
	CandidateSrflx CandidateType = 2 // the address in front of its NAT, as seen by a STUN server or set by a port mapping
	CandidatePrflx CandidateType = 3 // an address from which checks arrived without having been announced
	CandidateRelay CandidateType = 4 // an address on a TURN server
)

// String gives the token of RFC 8839.
func (t CandidateType) String() string {
	switch t {
	case CandidateHost:
		return "host"
	case CandidateSrflx:
		return "srflx"
	case CandidatePrflx:
		return "prflx"
	case CandidateRelay:
		return "relay"
	}
	return fmt.Sprintf("CandidateType(%d)", uint8(t))
}

// preference is the type preference of RFC 8445 section 5.1.2.2.
func (t CandidateType) preference() uint32 {
	switch t {
	case CandidateHost:
		return 126
	case CandidatePrflx:
		return 110
	case CandidateSrflx:
		return 100
	}
	return 0
}

// CandidateTransport is the transport protocol of a candidate.
type CandidateTransport uint8

// The transports of candidates.
const (
	CandidateUDP CandidateTransport = 1
	CandidateTCP CandidateTransport = 2 // passive TCP (RFC 6544): the address listens
)

// Candidate is an address at which an end may be reached.
type Candidate struct {
	Type      CandidateType
	Transport CandidateTransport
	Priority  uint32 // RFC 8445 section 5.1.2; higher is tried first
	Addr      netip.AddrPort
}

// tcpPenalty is taken off the type preference of TCP candidates, so that UDP wins
// wherever both work.
const tcpPenalty = 27

// newCandidate computes the priority from the type and from rank, which orders
// candidates of the same type: 0 is the best.
func newCandidate(typ CandidateType, tr CandidateTransport, addr netip.AddrPort, rank int) Candidate {
	pref := typ.preference()
	if tr == CandidateTCP {
		pref -= min(pref, tcpPenalty)
	}
	local := uint32(65535 - min(rank, 65535))
	return Candidate{
		Type:      typ,
		Transport: tr,
		Priority:  pref<<24 | local<<8 | 255, // 256 minus the component, which is 1
		Addr:      addr,
	}
}

// Network gives udp4, udp6, tcp4 or tcp6.
func (c Candidate) Network() string {
	proto, version := "udp", "6"
	if c.Transport == CandidateTCP {
		proto = "tcp"
	}
	if c.Addr.Addr().Unmap().Is4() {
		version = "4"
	}
	return proto + version
}

// String gives the type, network and address, for people.
func (c Candidate) String() string {
	return c.Type.String() + " " + c.Network() + " " + c.Addr.String()
}

// validate checks what can be checked without knowing anything of the machine.
// netip.Addr cannot hold a name, so mDNS and DNS names cannot be expressed.
func (c Candidate) validate() error {
	a := c.Addr.Addr()
	switch {
	case c.Type < CandidateHost || c.Type > CandidateRelay:
		return fmt.Errorf("%w: unknown candidate type %d", ErrProtocol, c.Type)
	case c.Transport != CandidateUDP && c.Transport != CandidateTCP:
		return fmt.Errorf("%w: unknown candidate transport %d", ErrProtocol, c.Transport)
	case c.Priority == 0 || c.Priority > 1<<31-1: // RFC 8445 section 5.1.2
		return fmt.Errorf("%w: candidate priority %d", ErrProtocol, c.Priority)
	case !a.IsValid() || a.Is4In6() || a.Zone() != "":
		return fmt.Errorf("%w: candidate address %q", ErrProtocol, a)
	case c.Addr.Port() == 0:
		return fmt.Errorf("%w: candidate without a port", ErrProtocol)
	}
	return nil
}

// marshal gives the candidate-attribute of RFC 8839 section 5.1, which pion parses.
// Only numbers, addresses and fixed words are in it. A retry above 0 makes it a
// different candidate in pion's eyes, so that pion checks the address anew.
func (c Candidate) marshal(retry int) string {
	proto, suffix := "udp", ""
	typ := c.Type.String()
	if c.Transport == CandidateTCP {
		// Pion dials passive candidates of the type host only.
		proto, typ, suffix = "tcp", CandidateHost.String(), " tcptype passive"
	}
	if retry > 0 {
		typ = CandidatePrflx.String()
		suffix = fmt.Sprintf(" raddr 0.0.0.0 rport %d", retry)
	}
	return fmt.Sprintf("candidate:%d 1 %s %d %s %d typ %s%s",
		c.Type, proto, c.Priority, c.Addr.Addr(), c.Addr.Port(), typ, suffix)
}

// addrPolicy decides which addresses of a peer may be sent packets.
type addrPolicy struct {
	loopback   bool                    // loopback addresses may be used
	broadcasts map[netip.Addr]struct{} // directed broadcast addresses of our networks
}

// metadata are the addresses at which clouds serve credentials to their own machines,
// besides the link-local ones, which are refused as a whole.
var metadata = map[netip.Addr]struct{}{
	netip.MustParseAddr("100.100.100.200"): {}, // Alibaba Cloud
	netip.MustParseAddr("192.0.0.192"):     {}, // Oracle Cloud
	netip.MustParseAddr("168.63.129.16"):   {}, // Azure
	netip.MustParseAddr("fd00:ec2::254"):   {}, // AWS
	netip.MustParseAddr("fd20:ce::254"):    {}, // Google Cloud
}

var (
	thisNetwork = netip.MustParsePrefix("0.0.0.0/8")   // RFC 1122
	reserved    = netip.MustParsePrefix("240.0.0.0/4") // RFC 1112, with the limited broadcast address
	discard     = netip.MustParsePrefix("100::/64")    // RFC 6666

	// disguises are IPv6 networks whose addresses stand for IPv4 addresses, any of them:
	// what is refused there must not be had here.
	disguises = []netip.Prefix{
		netip.MustParsePrefix("64:ff9b::/96"),    // NAT64, RFC 6052
		netip.MustParsePrefix("64:ff9b:1::/48"),  // NAT64, RFC 8215
		netip.MustParsePrefix("2002::/16"),       // 6to4, RFC 3056
		netip.MustParsePrefix("2001::/32"),       // Teredo, RFC 4380
		netip.MustParsePrefix("::/96"),           // IPv4-compatible, RFC 4291 section 2.5.5.1
		netip.MustParsePrefix("::ffff:0:0:0/96"), // IPv4-translated, RFC 2765
	}
)

// refusal says why no packet may be sent to an address that a peer named, or gives
// the empty string.
func (p addrPolicy) refusal(a netip.Addr) string {
	_, isMetadata := metadata[a]
	_, isBroadcast := p.broadcasts[a]
	switch {
	case a.IsUnspecified() || thisNetwork.Contains(a):
		return "unspecified address"
	case a.IsLoopback() && !p.loopback:
		return "loopback address"
	case a.IsMulticast():
		return "multicast address"
	case a.IsLinkLocalUnicast():
		return "link-local address" // 169.254.169.254 is one
	case reserved.Contains(a) || isBroadcast:
		return "broadcast or reserved address"
	case isMetadata:
		return "cloud metadata address"
	case discard.Contains(a):
		return "address that discards"
	case inDisguise(a):
		return "IPv4 address in disguise"
	}
	return ""
}

// inDisguise reports whether an IPv6 address stands for an IPv4 address. In ISATAP's the
// lower half says so (RFC 5214 section 6.1).
func inDisguise(a netip.Addr) bool {
	if a.Is4() || a.IsLoopback() {
		return false
	}
	for _, p := range disguises {
		if p.Contains(a) {
			return true
		}
	}
	b := a.As16()
	return a.Is4In6() || b[8]&^2 == 0 && b[9] == 0 && b[10] == 0x5e && b[11] == 0xfe
}
