//go:build darwin || freebsd

package portmap

import (
	"net"
	"net/netip"
	"strconv"
	"syscall"

	rib "golang.org/x/net/route"
)

// defaultGateway gives the gateway of the first default route of a family; an invalid
// address if there is none.
func defaultGateway(six bool) (netip.Addr, error) {
	af := syscall.AF_INET
	if six {
		af = syscall.AF_INET6
	}
	table, err := rib.FetchRIB(af, rib.RIBTypeRoute, 0)
	if err != nil {
		return netip.Addr{}, err
	}
	msgs, err := rib.ParseRIB(rib.RIBTypeRoute, table)
	if err != nil {
		return netip.Addr{}, err
	}
	for _, m := range msgs {
		m, ok := m.(*rib.RouteMessage)
		const want = syscall.RTF_UP | syscall.RTF_GATEWAY
		if !ok || m.Flags&want != want || len(m.Addrs) <= syscall.RTAX_NETMASK {
			continue
		}
		to, _ := address(m.Addrs[syscall.RTAX_DST])
		if !to.IsUnspecified() || !defaultMask(m.Addrs[syscall.RTAX_NETMASK]) {
			continue
		}
		if gw, ok := address(m.Addrs[syscall.RTAX_GATEWAY]); ok {
			return gw, nil
		}
	}
	return netip.Addr{}, nil
}

// address reads an address of a route.
func address(a rib.Addr) (netip.Addr, bool) {
	switch a := a.(type) {
	case *rib.Inet4Addr:
		return netip.AddrFrom4(a.IP), true
	case *rib.Inet6Addr:
		gw := netip.AddrFrom16(a.IP)
		if gw.IsLinkLocalUnicast() && a.ZoneID != 0 {
			zone := strconv.Itoa(a.ZoneID)
			if ifc, err := net.InterfaceByIndex(a.ZoneID); err == nil {
				zone = ifc.Name
			}
			gw = gw.WithZone(zone)
		}
		return gw, true
	}
	return netip.Addr{}, false
}

// defaultMask reports whether the mask of a route is that of the default route; a host
// route has none, and the kernel leaves zeros out.
func defaultMask(a rib.Addr) bool {
	mask, ok := address(a)
	return !ok || mask.IsUnspecified()
}
