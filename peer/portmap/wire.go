package portmap

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"time"
)

// PCP and NAT-PMP share a port, and the place of the version, which tells them apart.
const (
	mapPort = 5351 // UDP, of the gateway

	versionNATPMP = 0
	versionPCP    = 2

	responseBit = 0x80 // of the opcode

	maxMessage = 1100 // bytes; RFC 6887 section 7
)

// Sizes and opcodes of PCP.
const (
	pcpHeaderSize = 24 // RFC 6887 section 7.1
	pcpMapSize    = 36 // RFC 6887 section 11.1, behind the header

	pcpAnnounce = 0 // RFC 6887 section 14.1
	pcpMap      = 1
)

// Sizes and opcodes of NAT-PMP.
const (
	natpmpMapRequestSize  = 12 // RFC 6886 section 3.3
	natpmpAddressSize     = 12 // RFC 6886 section 3.2
	natpmpMapResponseSize = 16
	natpmpErrorSize       = 8 // what every response has; RFC 6886 section 3.5

	natpmpAddress = 0
	natpmpMapUDP  = 1
	natpmpMapTCP  = 2
)

// Numbers of IP's protocols.
const (
	ipTCP = 6
	ipUDP = 17
)

// errMalformed reports a response that is none.
var errMalformed = errors.New("malformed response")

// pcpResult is a result code of PCP (RFC 6887 section 7.4).
type pcpResult uint8

// pcpUnsupportedVersion is the one result that is told apart.
const pcpUnsupportedVersion pcpResult = 1

// Error gives the result in the words of the RFC.
func (r pcpResult) Error() string {
	names := [...]string{"success", "unsupported version", "not authorized", "malformed request", "unsupported opcode",
		"unsupported option", "malformed option", "network failure", "no resources", "unsupported protocol",
		"user exceeded quota", "cannot provide external address", "address mismatch", "excessive remote peers"}
	if int(r) < len(names) {
		return "PCP: " + names[r]
	}
	return fmt.Sprintf("PCP: result %d", uint8(r))
}

// natpmpResult is a result code of NAT-PMP (RFC 6886 section 3.5).
type natpmpResult uint16

// Error gives the result in the words of the RFC.
func (r natpmpResult) Error() string {
	names := [...]string{"success", "unsupported version", "not authorized", "network failure", "out of resources", "unsupported opcode"}
	if int(r) < len(names) {
		return "NAT-PMP: " + names[r]
	}
	return fmt.Sprintf("NAT-PMP: result %d", uint16(r))
}

// pcpHeader is what all messages of PCP begin with:
//
//	request                   response
//	 1  version               1  version
//	 1  opcode                1  opcode, with the response bit
//	 2  reserved              1  reserved
//	                          1  result code
//	 4  lifetime, seconds     4  lifetime, seconds
//	16  client's address      4  epoch time, seconds
//	                         12  reserved
type pcpHeader struct {
	opcode   uint8
	result   pcpResult     // of responses
	lifetime time.Duration // of a mapping, or of an error; whole seconds
	epoch    uint32        // of responses: seconds since the server has lost its state
}

// pcpMapping is the data of the opcode MAP, the same in requests and responses:
//
//	12  nonce
//	 1  IP protocol
//	 3  reserved
//	 2  internal port
//	 2  external port, suggested or assigned
//	16  external address, IPv4 ones mapped into IPv6
type pcpMapping struct {
	nonce    [12]byte
	protocol uint8
	internal uint16
	external netip.AddrPort
}

// appendPCPRequest appends the header of a request.
func appendPCPRequest(b []byte, opcode uint8, lifetime time.Duration, client netip.Addr) []byte {
	b = append(b, versionPCP, opcode, 0, 0)
	b = binary.BigEndian.AppendUint32(b, seconds(lifetime))
	a := client.As16()
	return append(b, a[:]...)
}

// append appends the data of MAP.
func (m pcpMapping) append(b []byte) []byte {
	b = append(b, m.nonce[:]...)
	b = append(b, m.protocol, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, m.internal)
	b = binary.BigEndian.AppendUint16(b, m.external.Port())
	a := m.external.Addr().As16()
	return append(b, a[:]...)
}

// parsePCPResponse reads a response. The mapping is that of a successful or failed MAP,
// and nil for ANNOUNCE. Options behind it are ignored.
func parsePCPResponse(b []byte) (pcpHeader, *pcpMapping, error) {
	switch {
	case len(b) < pcpHeaderSize || len(b) > maxMessage || len(b)%4 != 0:
		return pcpHeader{}, nil, fmt.Errorf("%w of %d bytes", errMalformed, len(b))
	case b[0] != versionPCP || b[1]&responseBit == 0:
		return pcpHeader{}, nil, fmt.Errorf("%w: version %d, opcode %#x", errMalformed, b[0], b[1])
	}
	h := pcpHeader{
		opcode:   b[1] &^ responseBit,
		result:   pcpResult(b[3]),
		lifetime: time.Duration(binary.BigEndian.Uint32(b[4:])) * time.Second,
		epoch:    binary.BigEndian.Uint32(b[8:]),
	}
	switch {
	case h.opcode == pcpAnnounce:
		return h, nil, nil
	case h.opcode != pcpMap || len(b) < pcpHeaderSize+pcpMapSize:
		return pcpHeader{}, nil, fmt.Errorf("%w: opcode %d with %d bytes", errMalformed, h.opcode, len(b))
	}
	d := b[pcpHeaderSize:]
	addr := netip.AddrFrom16([16]byte(d[20:36])).Unmap()
	return h, &pcpMapping{
		nonce:    [12]byte(d[:12]),
		protocol: d[12],
		internal: binary.BigEndian.Uint16(d[16:]),
		external: netip.AddrPortFrom(addr, binary.BigEndian.Uint16(d[18:])),
	}, nil
}

// natpmpResponse is a response of NAT-PMP, about a mapping or about the external address:
//
//	mapping                         address
//	 1  version                      1  version
//	 1  opcode, with response bit    1  opcode, with response bit
//	 2  result code                  2  result code
//	 4  epoch time, seconds          4  epoch time, seconds
//	 2  internal port                4  external IPv4 address
//	 2  external port
//	 4  lifetime, seconds
type natpmpResponse struct {
	opcode             uint8
	result             natpmpResult
	epoch              uint32
	address            netip.Addr // of the opcode for it
	internal, external uint16     // of the opcodes of mappings
	lifetime           time.Duration
}

// appendNATPMPAddressRequest appends the question for the external address.
func appendNATPMPAddressRequest(b []byte) []byte { return append(b, versionNATPMP, natpmpAddress) }

// appendNATPMPMapRequest appends a request for a mapping:
//
//	1  version
//	1  opcode
//	2  reserved
//	2  internal port
//	2  external port, suggested
//	4  lifetime, seconds; 0 removes the mapping
func appendNATPMPMapRequest(b []byte, opcode uint8, internal, external uint16, lifetime time.Duration) []byte {
	b = append(b, versionNATPMP, opcode, 0, 0)
	b = binary.BigEndian.AppendUint16(b, internal)
	b = binary.BigEndian.AppendUint16(b, external)
	return binary.BigEndian.AppendUint32(b, seconds(lifetime))
}

// parseNATPMPResponse reads a response. Those that report a failure may end behind the
// epoch.
func parseNATPMPResponse(b []byte) (natpmpResponse, error) {
	switch {
	case len(b) < natpmpErrorSize || len(b) > maxMessage:
		return natpmpResponse{}, fmt.Errorf("%w of %d bytes", errMalformed, len(b))
	case b[0] != versionNATPMP || b[1]&responseBit == 0:
		return natpmpResponse{}, fmt.Errorf("%w: version %d, opcode %#x", errMalformed, b[0], b[1])
	}
	r := natpmpResponse{
		opcode: b[1] &^ responseBit,
		result: natpmpResult(binary.BigEndian.Uint16(b[2:])),
		epoch:  binary.BigEndian.Uint32(b[4:]),
	}
	switch {
	case r.result != 0:
	case r.opcode == natpmpAddress && len(b) >= natpmpAddressSize:
		r.address = netip.AddrFrom4([4]byte(b[8:12]))
	case (r.opcode == natpmpMapUDP || r.opcode == natpmpMapTCP) && len(b) >= natpmpMapResponseSize:
		r.internal = binary.BigEndian.Uint16(b[8:])
		r.external = binary.BigEndian.Uint16(b[10:])
		r.lifetime = time.Duration(binary.BigEndian.Uint32(b[12:])) * time.Second
	default:
		return natpmpResponse{}, fmt.Errorf("%w: opcode %d with %d bytes", errMalformed, r.opcode, len(b))
	}
	return r, nil
}

// seconds is a duration on the wire.
func seconds(d time.Duration) uint32 { return uint32(d / time.Second) }
