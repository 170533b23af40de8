package link

import (
	"fmt"
	"net/netip"
)

// NATMapping is how a NAT picks the address and port from which a socket behind it is
// seen (RFC 4787 section 4.1).
type NATMapping uint8

// The kinds of mapping, as far as they can be told apart from outside.
const (
	// MappingUnknown: too few answers to tell.
	MappingUnknown NATMapping = iota
	// MappingNone: there is no NAT, the address is the machine's own.
	MappingNone
	// MappingEndpointIndependent: the same to whomever the socket speaks. Where only one
	// server was there to ask, it may be MappingAddressDependent.
	MappingEndpointIndependent
	// MappingAddressDependent: another for every address.
	MappingAddressDependent
	// MappingAddressPortDependent: another for every address and port, which is what
	// people call a symmetric NAT.
	MappingAddressPortDependent

	maxMapping = MappingAddressPortDependent
)

// String gives the kind in a word or two.
func (m NATMapping) String() string {
	switch m {
	case MappingUnknown:
		return "unknown"
	case MappingNone:
		return "none"
	case MappingEndpointIndependent:
		return "endpoint-independent"
	case MappingAddressDependent:
		return "address-dependent"
	case MappingAddressPortDependent:
		return "address- and port-dependent"
	}
	return fmt.Sprintf("NATMapping(%d)", uint8(m))
}

// Symmetric reports whether a peer sees another port than the one that STUN servers told.
func (m NATMapping) Symmetric() bool {
	return m == MappingAddressDependent || m == MappingAddressPortDependent
}

// NATFiltering is whom a NAT or a firewall lets in to a socket that has sent something
// (RFC 4787 section 5).
type NATFiltering uint8

// The kinds of filtering, as far as they can be told apart from outside.
const (
	// FilteringUnknown: the server cannot answer from another port, or did not.
	FilteringUnknown NATFiltering = iota
	// FilteringOpen: at least everybody at an address to which something was sent, from
	// any port; perhaps everybody.
	FilteringOpen
	// FilteringPortDependent: nobody but the address and port to which something was
	// sent.
	FilteringPortDependent

	maxFiltering = FilteringPortDependent
)

// String gives the kind in a word or two.
func (f NATFiltering) String() string {
	switch f {
	case FilteringUnknown:
		return "unknown"
	case FilteringOpen:
		return "open"
	case FilteringPortDependent:
		return "port-dependent"
	}
	return fmt.Sprintf("NATFiltering(%d)", uint8(f))
}

// Hairpin says whether a NAT lets two machines behind it meet at their outside addresses
// (RFC 4787 section 6).
type Hairpin uint8

// Whether there is hairpinning.
const (
	HairpinUnknown Hairpin = iota
	HairpinNo
	HairpinYes

	maxHairpin = HairpinYes
)

// String gives unknown, no or yes.
func (h Hairpin) String() string {
	switch h {
	case HairpinUnknown:
		return "unknown"
	case HairpinNo:
		return "no"
	case HairpinYes:
		return "yes"
	}
	return fmt.Sprintf("Hairpin(%d)", uint8(h))
}

// PortMapping is what is known of a router that maps ports on request.
type PortMapping uint8

// States of port mapping.
const (
	PortMappingUnknown PortMapping = iota // nobody has asked a router
	PortMappingNone                       // no router answered
	PortMappingRefused                    // a router answered, and maps no port
	PortMappingMade                       // a port is mapped

	maxPortMapping = PortMappingMade
)

// NAT is what is known of the way out of a machine in one address family.
type NAT struct {
	// Address: the machine has an address that is good for more than its own network: any
	// IPv4 address, but not an IPv6 address of a private or local network.
	Address bool
	// Asked: there was a STUN server to ask. Answered: one of them answered, so UDP passes.
	Asked, Answered bool

	Mapping   NATMapping
	Filtering NATFiltering
	Hairpin   Hairpin
	// Externals is how many different outside addresses were seen, ports not counted.
	Externals int
	// Preserved: the outside port was that of the socket each time.
	Preserved bool
	// Delta is the step between the outside ports of mappings made one after the other,
	// where Mapping is symmetric and the steps are alike; 0 where they are not, or unknown.
	Delta int

	// What follows is not told to peers.

	// External is the outside address of the first socket that asked; invalid if unknown.
	External netip.AddrPort
	// Ports are the outside ports of mappings made one right after the other.
	Ports []uint16
}

// String tells what is known in a line, for logs.
func (n NAT) String() string {
	if !n.Asked {
		return "not asked"
	}
	if !n.Answered {
		return "no answer"
	}
	s := fmt.Sprintf("mapping %v, filtering %v, hairpin %v, %d outside addresses", n.Mapping, n.Filtering, n.Hairpin, n.Externals)
	if n.Preserved {
		s += ", ports preserved"
	}
	if n.Delta != 0 {
		s += fmt.Sprintf(", ports in steps of %d", n.Delta)
	}
	return s
}

// NATReport is what is known of the way out of a machine. It is also the message with
// which the two ends of a link being set up tell each other.
type NATReport struct {
	V4, V6      NAT
	PortMapping PortMapping
}

// UDPBlocked reports whether STUN servers were asked and no answer came in any family.
func (r NATReport) UDPBlocked() bool {
	return (r.V4.Asked || r.V6.Asked) && !r.V4.Answered && !r.V6.Answered
}

// Known reports whether there is anything in it that only the network can tell.
func (r NATReport) Known() bool { return r.V4.Asked || r.V6.Asked }

// The encoding of a report: kind and version in front, see message.go.
//
//	twice, for IPv4 and IPv6
//	1  flags: address 1, asked 2, answered 4, preserved 8
//	1  mapping, 0–4
//	1  filtering, 0–2
//	1  hairpin, 0–2
//	1  externals
//	2  delta, two's complement
//	once
//	1  port mapping, 0–3
const (
	natFlagAddress = 1 << iota
	natFlagAsked
	natFlagAnswered
	natFlagPreserved

	natFlags   = natFlagAddress | natFlagAsked | natFlagAnswered | natFlagPreserved
	natSize    = 1 + 1 + 1 + 1 + 1 + 2
	reportSize = 2*natSize + 1

	// maxDelta bounds the steps that are worth guessing with.
	maxDelta = 64
)

func (n NAT) validate() error {
	if n.Mapping > maxMapping || n.Filtering > maxFiltering || n.Hairpin > maxHairpin ||
		n.Externals < 0 || n.Externals > 255 || n.Delta < -maxDelta || n.Delta > maxDelta {
		return fmt.Errorf("%w: NAT report %+v", ErrProtocol, n)
	}
	return nil
}

func (r NATReport) validate() error {
	if r.PortMapping > maxPortMapping {
		return fmt.Errorf("%w: port mapping %d", ErrProtocol, r.PortMapping)
	}
	if err := r.V4.validate(); err != nil {
		return err
	}
	return r.V6.validate()
}

// AppendBinary implements [Message].
func (r NATReport) AppendBinary(b []byte) ([]byte, error) {
	if err := r.validate(); err != nil {
		return b, err
	}
	b = append(b, kindNATReport, reportVersion)
	for _, n := range []NAT{r.V4, r.V6} {
		var flags byte
		for _, f := range []struct {
			set bool
			bit byte
		}{{n.Address, natFlagAddress}, {n.Asked, natFlagAsked}, {n.Answered, natFlagAnswered}, {n.Preserved, natFlagPreserved}} {
			if f.set {
				flags |= f.bit
			}
		}
		b = append(b, flags, byte(n.Mapping), byte(n.Filtering), byte(n.Hairpin), byte(n.Externals), byte(uint16(n.Delta)>>8), byte(n.Delta))
	}
	return append(b, byte(r.PortMapping)), nil
}

func parseNATReport(b []byte) (Message, bool) {
	if len(b) != 1+reportSize || b[0] != reportVersion {
		return nil, false
	}
	b = b[1:]
	var r NATReport
	for _, n := range []*NAT{&r.V4, &r.V6} {
		flags := b[0]
		if flags&^natFlags != 0 {
			return nil, false
		}
		*n = NAT{
			Address:   flags&natFlagAddress != 0,
			Asked:     flags&natFlagAsked != 0,
			Answered:  flags&natFlagAnswered != 0,
			Preserved: flags&natFlagPreserved != 0,
			Mapping:   NATMapping(b[1]),
			Filtering: NATFiltering(b[2]),
			Hairpin:   Hairpin(b[3]),
			Externals: int(b[4]),
			Delta:     int(int16(uint16(b[5])<<8 | uint16(b[6]))),
		}
		b = b[natSize:]
	}
	r.PortMapping = PortMapping(b[0])
	return r, true
}
