package link

import (
	"encoding/binary"
	"net"

	"github.com/pion/transport/v2"
)

// STUN on the wire (RFC 8489 section 5).
const (
	stunHeaderSize = 20 // bytes: type, length, cookie, transaction
	stunCookie     = 0x2112A442
	stunMaxSize    = 1280 // bytes; checks and answers have about 100
	stunMaxAttrs   = 24   // ICE uses up to 8

	stunClassMask   = 0x0110
	stunMethodMask  = 0x3eef
	stunBinding     = 0x0001
	stunRequest     = 0x0000
	stunSuccess     = 0x0100
	stunError       = 0x0110
	stunIndication  = 0x0010
	stunMaxUsername = 513 // bytes, RFC 8489 section 14.3

	// TURN's methods, RFC 8656 section 17.
	turnAllocate         = 0x0003
	turnRefresh          = 0x0004
	turnData             = 0x0007
	turnCreatePermission = 0x0008
	turnChannelBind      = 0x0009

	stunMaxTURN    = maxPacket + 128 // bytes; a datagram and what TURN puts around it
	stunChangePort = 0x2             // flag of CHANGE-REQUEST, RFC 5780 section 7.2
)

// STUN attributes whose shape is checked (IANA stun-parameters).
const (
	attrMappedAddress      = 0x0001
	attrChangeRequest      = 0x0003
	attrUsername           = 0x0006
	attrMessageIntegrity   = 0x0008
	attrErrorCode          = 0x0009
	attrUnknownAttributes  = 0x000a
	attrChannelNumber      = 0x000c
	attrLifetime           = 0x000d
	attrXORPeerAddress     = 0x0012
	attrXORRelayedAddress  = 0x0016
	attrXORMappedAddress   = 0x0020
	attrPriority           = 0x0024
	attrUseCandidate       = 0x0025
	attrXORMappedAddressV0 = 0x8020 // of drafts; pion reads it as attrXORMappedAddress
	attrAlternateServer    = 0x8023
	attrFingerprint        = 0x8028
	attrICEControlled      = 0x8029
	attrICEControlling     = 0x802a
	attrResponseOrigin     = 0x802b
	attrOtherAddress       = 0x802c
)

// stunInfo is what a vetted STUN message is sorted by. Its slices point into the
// message.
type stunInfo struct {
	class       uint16 // stunRequest, stunSuccess or stunError
	transaction [12]byte
	username    []byte // nil without the attribute
	mapped      []byte // the value of XOR-MAPPED-ADDRESS, nil without it
	other       []byte // the value of OTHER-ADDRESS, nil without it
}

// looksLikeSTUN is pion's idea of what is a STUN message, which is broader than that
// of RFC 7983: every datagram for which it holds must pass vetSTUN, or be dropped.
func looksLikeSTUN(b []byte) bool {
	return len(b) >= stunHeaderSize && binary.BigEndian.Uint32(b[4:]) == stunCookie
}

// looksLikeDTLS goes by the first byte, RFC 7983 section 7.
func looksLikeDTLS(b []byte) bool {
	return len(b) >= 13 && b[0] >= 20 && b[0] <= 63
}

// vetSTUN reports whether pion may see a STUN message: a Binding request, success or
// error whose every attribute lies within the message, and has the size that its
// type demands.
//
// pion/stun v0.6 slices the values of attributes without looking at their length, so
// that one datagram with a short XOR-MAPPED-ADDRESS, from anybody, ends the process
// (GHSA-34rh-wp3j-6cxc). This is stricter than the decoder in every respect.
func vetSTUN(b []byte) (info stunInfo, ok bool) {
	if len(b) > stunMaxSize {
		return info, false
	}
	method, info, ok := walkSTUN(b)
	if !ok || method != stunBinding {
		return info, false
	}
	if info.class != stunRequest && info.class != stunSuccess && info.class != stunError {
		return info, false
	}
	return info, true
}

// walkSTUN goes through a message of any method, and reports whether all of it is as it
// must be.
func walkSTUN(b []byte) (method uint16, info stunInfo, ok bool) {
	if !looksLikeSTUN(b) || len(b)%4 != 0 {
		return 0, info, false
	}
	typ := binary.BigEndian.Uint16(b)
	if typ&0xc000 != 0 {
		return 0, info, false
	}
	method, info.class = typ&stunMethodMask, typ&stunClassMask
	if int(binary.BigEndian.Uint16(b[2:])) != len(b)-stunHeaderSize {
		return 0, info, false
	}
	copy(info.transaction[:], b[8:stunHeaderSize])

	rest := b[stunHeaderSize:]
	for n := 0; len(rest) > 0; n++ {
		if n == stunMaxAttrs || len(rest) < 4 {
			return 0, info, false
		}
		attr, size := binary.BigEndian.Uint16(rest), int(binary.BigEndian.Uint16(rest[2:]))
		padded := (size + 3) &^ 3
		if len(rest)-4 < padded {
			return 0, info, false
		}
		value := rest[4 : 4+size]
		if !vetAttr(attr, value) {
			return 0, info, false
		}
		switch attr {
		case attrUsername:
			info.username = value
		case attrXORMappedAddress:
			info.mapped = value
		case attrOtherAddress:
			info.other = value
		}
		rest = rest[4+padded:]
	}
	return method, info, true
}

// vetTURN reports whether the TURN client may see what a server says: channel data, or a
// message of one of the methods that it uses, with every attribute as it must be. What
// peers have sent is in there, and is vetted when it is out.
func vetTURN(b []byte) bool {
	if isChannelData(b) && !looksLikeSTUN(b) { // the client looks in that order
		return int(binary.BigEndian.Uint16(b[2:])) <= len(b)-4
	}
	method, info, ok := walkSTUN(b)
	if !ok {
		return false
	}
	switch method {
	case turnData:
		return info.class == stunIndication
	case stunBinding, turnAllocate, turnRefresh, turnCreatePermission, turnChannelBind:
		return info.class == stunSuccess || info.class == stunError
	}
	return false
}

func vetAttr(attr uint16, v []byte) bool {
	switch attr {
	case attrMappedAddress, attrXORMappedAddress, attrXORMappedAddressV0, attrXORPeerAddress,
		attrXORRelayedAddress, attrAlternateServer, attrResponseOrigin, attrOtherAddress:
		return len(v) == 8 && v[0] == 0 && v[1] == 1 || len(v) == 20 && v[0] == 0 && v[1] == 2
	case attrUsername:
		return len(v) <= stunMaxUsername
	case attrMessageIntegrity:
		return len(v) == 20
	case attrErrorCode:
		return len(v) >= 4
	case attrUnknownAttributes:
		return len(v)%2 == 0
	case attrPriority, attrFingerprint, attrChannelNumber, attrLifetime:
		return len(v) == 4
	case attrUseCandidate:
		return len(v) == 0
	case attrICEControlled, attrICEControlling:
		return len(v) == 8
	}
	return true
}

// guardedNet is the network that pion is given. The sockets that carry links are the
// mux's, which vets by itself; should pion open others, nothing that could hurt it
// comes through them either. Unlike pion's own, it reads the list of interfaces anew
// each time that it is asked.
type guardedNet struct {
	transport.Net
	fresh func() (transport.Net, error) // nil for a virtual network
}

// Interfaces reads the interfaces as they are now.
func (g guardedNet) Interfaces() ([]*transport.Interface, error) {
	if g.fresh == nil {
		return g.Net.Interfaces()
	}
	n, err := g.fresh()
	if err != nil {
		return nil, err
	}
	return n.Interfaces()
}

// ListenUDP implements [transport.Net].
func (g guardedNet) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	return guardUDP(g.Net.ListenUDP(network, laddr))
}

// DialUDP implements [transport.Net].
func (g guardedNet) DialUDP(network string, laddr, raddr *net.UDPAddr) (transport.UDPConn, error) {
	return guardUDP(g.Net.DialUDP(network, laddr, raddr))
}

func guardUDP(c transport.UDPConn, err error) (transport.UDPConn, error) {
	if err != nil {
		return nil, err
	}
	return guardedUDP{c}, nil
}

// ListenPacket implements [transport.Net].
func (g guardedNet) ListenPacket(network, address string) (net.PacketConn, error) {
	c, err := g.Net.ListenPacket(network, address)
	if err != nil {
		return nil, err
	}
	return guardedPacketConn{c}, nil
}

// harmless reports whether pion may see a datagram.
func harmless(b []byte) bool {
	if !looksLikeSTUN(b) {
		return true
	}
	_, ok := vetSTUN(b)
	return ok
}

type guardedPacketConn struct{ net.PacketConn }

func (c guardedPacketConn) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.PacketConn.ReadFrom(p)
		if err != nil || harmless(p[:n]) {
			return n, from, err
		}
	}
}

type guardedUDP struct{ transport.UDPConn }

func (c guardedUDP) Read(p []byte) (int, error) {
	for {
		n, err := c.UDPConn.Read(p)
		if err != nil || harmless(p[:n]) {
			return n, err
		}
	}
}

func (c guardedUDP) ReadFrom(p []byte) (int, net.Addr, error) {
	for {
		n, from, err := c.UDPConn.ReadFrom(p)
		if err != nil || harmless(p[:n]) {
			return n, from, err
		}
	}
}

func (c guardedUDP) ReadFromUDP(p []byte) (int, *net.UDPAddr, error) {
	for {
		n, from, err := c.UDPConn.ReadFromUDP(p)
		if err != nil || harmless(p[:n]) {
			return n, from, err
		}
	}
}

func (c guardedUDP) ReadMsgUDP(p, oob []byte) (n, oobn, flags int, from *net.UDPAddr, err error) {
	for {
		n, oobn, flags, from, err = c.UDPConn.ReadMsgUDP(p, oob)
		if err != nil || harmless(p[:n]) {
			return n, oobn, flags, from, err
		}
	}
}
