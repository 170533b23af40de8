package server

import (
	"cmp"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
)

// maxLocalURLs is how many of its addresses a host puts into a ticket: each
// makes it longer, and the first ones are the likely ones.
const maxLocalURLs = 4

// LocalURLs returns ws URLs by which others may reach a server on l that runs
// on this machine, the likeliest first, four at most; see [Network.URLs].
func LocalURLs(l net.Listener) []string { return Network{}.URLs(l) }

// SelfURL returns the ws URL by which this machine reaches a server on l.
func SelfURL(l net.Listener) string {
	addr, port := bound(l)
	if addr.IsUnspecified() {
		// Also for [::], which is both: many containers can open such a socket
		// and yet have no [::1].
		addr = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	return wsURL(addr, port)
}

// Network is what a machine knows of its own network. Its fields are for
// tests; the zero value asks the system.
type Network struct {
	// Interfaces lists the interfaces that are up, with their addresses.
	Interfaces func() ([]Interface, error)
	// Source is the address from which this machine speaks to the Internet
	// over network "udp4" or "udp6"; invalid if it cannot.
	Source func(network string) netip.Addr
}

// Interface is a network interface.
type Interface struct {
	Name  string
	Addrs []netip.Addr
}

// URLs returns ws URLs of the addresses at which l may be reached. For a
// listener on one address that is it. For one on all addresses: the addresses
// that lead to the Internet first, then other private ones, VPNs (100.64/10,
// tunnels) and global IPv6; those of bridges for containers and virtual
// machines last; loopback only if there is nothing else. Link-local addresses
// mean nothing without a zone that only this machine knows, and are left out.
func (n Network) URLs(l net.Listener) []string {
	addr, port := bound(l)
	if !addr.IsUnspecified() {
		return []string{wsURL(addr, port)}
	}
	if n.Interfaces == nil {
		n.Interfaces = systemInterfaces
	}
	if n.Source == nil {
		n.Source = systemSource
	}
	type candidate struct {
		addr netip.Addr
		rank int
	}
	var candidates []candidate
	ifaces, err := n.Interfaces()
	if err != nil {
		ifaces = nil // some sandboxes forbid it; the sources below may still tell
	}
	only4 := addr.Is4()
	add := func(a netip.Addr, rank int) {
		a = a.Unmap().WithZone("")
		usable := a.IsValid() && !a.IsUnspecified() && !a.IsMulticast() && !a.IsLinkLocalUnicast()
		if !usable || only4 && !a.Is4() {
			return
		}
		for i := range candidates {
			if candidates[i].addr == a {
				candidates[i].rank = min(candidates[i].rank, rank)
				return
			}
		}
		candidates = append(candidates, candidate{a, rank})
	}
	for _, network := range []string{"udp4", "udp6"} {
		a := n.Source(network).Unmap()
		switch {
		case !a.IsValid(), a.IsLoopback():
		case a.Is4():
			add(a, 0)
		default:
			add(a, 1)
		}
	}
	hasSource6 := slices.ContainsFunc(candidates, func(c candidate) bool { return c.addr.Is6() })
	for _, i := range ifaces {
		for _, a := range i.Addrs {
			a = a.Unmap()
			if a.Is6() && a.IsGlobalUnicast() && !a.IsPrivate() && hasSource6 {
				continue // temporary and further addresses of the same networks lead nowhere new
			}
			add(a, rank(i.Name, a))
		}
	}
	slices.SortStableFunc(candidates, func(a, b candidate) int { return cmp.Compare(a.rank, b.rank) })
	if len(candidates) > 0 && candidates[0].rank < rankLoopback {
		candidates = slices.DeleteFunc(candidates, func(c candidate) bool { return c.rank == rankLoopback })
	}
	if len(candidates) == 0 {
		return []string{SelfURL(l)}
	}
	var urls []string
	for _, c := range candidates[:min(len(candidates), maxLocalURLs)] {
		urls = append(urls, wsURL(c.addr, port))
	}
	return urls
}

const (
	rankPrivate  = 2
	rankVPN      = 3
	rankGlobal6  = 4
	rankULA      = 5
	rankVirtual  = 6
	rankLoopback = 7
)

// sharedSpace is RFC 6598's, which VPNs like Tailscale take their addresses from.
var sharedSpace = netip.MustParsePrefix("100.64.0.0/10")

func rank(iface string, a netip.Addr) int {
	switch {
	case a.IsLoopback():
		return rankLoopback
	case hasAnyPrefix(iface, "docker", "br-", "veth", "virbr", "vmnet", "vboxnet", "cni", "flannel", "cali", "lxc", "lxdbr", "podman", "vEthernet"):
		return rankVirtual
	case sharedSpace.Contains(a), hasAnyPrefix(iface, "tun", "tap", "utun", "wg", "tailscale", "ppp", "zt"):
		return rankVPN
	case a.Is4():
		return rankPrivate
	case a.IsPrivate():
		return rankULA
	}
	return rankGlobal6
}

func hasAnyPrefix(s string, prefixes ...string) bool {
	return slices.ContainsFunc(prefixes, func(p string) bool { return strings.HasPrefix(s, p) })
}

// bound is the address that l listens on.
func bound(l net.Listener) (netip.Addr, uint16) {
	tcp, ok := l.Addr().(*net.TCPAddr)
	if !ok {
		return netip.IPv6Unspecified(), 0
	}
	ap := tcp.AddrPort()
	a := ap.Addr().Unmap()
	if !a.IsValid() {
		a = netip.IPv6Unspecified()
	}
	return a, ap.Port()
}

func wsURL(a netip.Addr, port uint16) string {
	host := net.JoinHostPort(a.WithZone("").String(), strconv.Itoa(int(port)))
	return "ws://" + host
}

func systemInterfaces() ([]Interface, error) {
	all, err := net.Interfaces()
	if err != nil {
		return nil, err
	}
	var up []Interface
	for _, i := range all {
		if i.Flags&net.FlagUp == 0 {
			continue
		}
		addrs, err := i.Addrs()
		if err != nil {
			continue // it went away meanwhile
		}
		iface := Interface{Name: i.Name}
		for _, a := range addrs {
			if ipnet, ok := a.(*net.IPNet); ok {
				if addr, ok := netip.AddrFromSlice(ipnet.IP); ok {
					iface.Addrs = append(iface.Addrs, addr.Unmap())
				}
			}
		}
		up = append(up, iface)
	}
	return up, nil
}

// systemSource asks the routing table: connecting a UDP socket sends nothing.
// The destinations are documentation addresses (RFC 5737, RFC 3849), which
// only a default route leads to.
func systemSource(network string) netip.Addr {
	dst := "192.0.2.1:9"
	if network == "udp6" {
		dst = "[2001:db8::1]:9"
	}
	c, err := net.Dial(network, dst)
	if err != nil {
		return netip.Addr{}
	}
	defer func() { _ = c.Close() }()
	if a, ok := c.LocalAddr().(*net.UDPAddr); ok {
		return a.AddrPort().Addr()
	}
	return netip.Addr{}
}
