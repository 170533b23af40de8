package portmap

import (
	"errors"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/windows"
)

// maxAdapters bounds the description of the adapters, in bytes.
const maxAdapters = 1 << 20

// defaultGateway gives the gateway of a family of the adapter with the lowest metric; an
// invalid address if there is none.
func defaultGateway(six bool) (netip.Addr, error) {
	family := uint32(windows.AF_INET)
	if six {
		family = windows.AF_INET6
	}
	const flags = windows.GAA_FLAG_INCLUDE_GATEWAYS | windows.GAA_FLAG_SKIP_ANYCAST |
		windows.GAA_FLAG_SKIP_MULTICAST | windows.GAA_FLAG_SKIP_DNS_SERVER
	size := uint32(16 << 10) // as its documentation advises
	for {
		buf := make([]byte, size)
		first := (*windows.IpAdapterAddresses)(unsafe.Pointer(&buf[0]))
		err := windows.GetAdaptersAddresses(family, flags, 0, first, &size)
		switch {
		case err == nil:
			return bestAdapter(first, six), nil
		case errors.Is(err, windows.ERROR_NO_DATA):
			return netip.Addr{}, nil
		case !errors.Is(err, windows.ERROR_BUFFER_OVERFLOW) || int(size) <= len(buf) || size > maxAdapters:
			return netip.Addr{}, err
		}
	}
}

func bestAdapter(a *windows.IpAdapterAddresses, six bool) netip.Addr {
	var (
		best   netip.Addr
		metric uint32
	)
	for ; a != nil; a = a.Next {
		if a.OperStatus != windows.IfOperStatusUp {
			continue
		}
		m := a.Ipv4Metric
		if six {
			m = a.Ipv6Metric
		}
		for g := a.FirstGatewayAddress; g != nil; g = g.Next {
			gw, ok := netip.AddrFromSlice(g.Address.IP())
			if gw = gw.Unmap(); !ok || gw.Is4() == six || best.IsValid() && m >= metric {
				continue
			}
			if gw.IsLinkLocalUnicast() && six {
				gw = gw.WithZone(strconv.Itoa(int(a.Ipv6IfIndex)))
			}
			best, metric = gw, m
		}
	}
	return best
}
