package portmap

import (
	"errors"
	"net"
	"net/netip"
)

// route is the way out of this machine in one address family.
type route struct {
	gateway netip.Addr // with a zone if it is a link-local one
	local   netip.Addr // our address: towards the gateway, for IPv6 towards the Internet
}

var (
	errNoGateway    = errors.New("no default gateway")
	errOddGateway   = errors.New("a default gateway that is no router's address")
	errNoGlobalAddr = errors.New("no global IPv6 address")
)

// findRoute finds the default gateway of a family, which is read anew each time.
func findRoute(six bool) (route, error) {
	gw, err := defaultGateway(six)
	if err != nil {
		return route{}, err
	}
	if !gw.IsValid() {
		return route{}, errNoGateway
	}
	// Connecting a UDP socket sends nothing, and tells which source address is used.
	to := netip.AddrPortFrom(gw, mapPort)
	if six {
		to = netip.AddrPortFrom(beyond, mapPort)
	}
	c, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		return route{}, err
	}
	defer c.Close()
	r := route{gw, c.LocalAddr().(*net.UDPAddr).AddrPort().Addr().Unmap()}
	bare := gw.WithZone("")
	switch {
	case bare.IsLoopback() || bare.IsUnspecified() || bare.IsMulticast() || bare == r.local || bare.Is4() == six:
		return route{}, errOddGateway
	case six && (!r.local.IsGlobalUnicast() || r.local.IsPrivate()):
		return route{}, errNoGlobalAddr
	}
	return r, nil
}

// beyond is an address that only the default route leads to; nothing is sent there.
var beyond = netip.MustParseAddr("2000::1")
