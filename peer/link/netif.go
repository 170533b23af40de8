package link

import (
	"context"
	"fmt"
	"net"
	"net/netip"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"

	"github.com/pairterm/pairterm/peer/netchange"
)

// Loopback says when loopback addresses are offered to peers, and accepted from them.
type Loopback uint8

// When loopback addresses take part.
const (
	// LoopbackAuto: only while the machine has no other address, so that a host and a
	// guest on one machine without a network can meet.
	LoopbackAuto Loopback = iota
	// LoopbackAlways: beside all others.
	LoopbackAlways
	// LoopbackOnly: they and no others; the sockets listen nowhere else.
	LoopbackOnly
)

// network is what a transport knows of the machine's network, real or virtual.
type network struct {
	// Set once.
	guarded  guardedNet
	virtual  bool
	loopback Loopback
	resolve  resolver
}

// newNetwork uses the machine's network, or the given virtual one.
func newNetwork(n transport.Net, loopback Loopback) (*network, error) {
	if n != nil {
		nw := &network{guarded: guardedNet{Net: n}, virtual: true, loopback: loopback}
		nw.resolve = func(_ context.Context, f family, hostport string) (netip.AddrPort, error) {
			if f != ipv4 {
				return netip.AddrPort{}, net.UnknownNetworkError("udp6")
			}
			a, err := n.ResolveUDPAddr("udp4", hostport)
			if err != nil {
				return netip.AddrPort{}, err
			}
			ap := a.AddrPort()
			return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
		}
		return nw, nil
	}
	fresh := func() (transport.Net, error) { return stdnet.NewNet() }
	std, err := fresh()
	if err != nil {
		return nil, fmt.Errorf("reading the network interfaces: %w", err)
	}
	return &network{
		guarded:  guardedNet{Net: std, fresh: fresh},
		loopback: loopback,
		resolve:  resolveSystem,
	}, nil
}

// changes tells when the interfaces should be read again, until ctx is done.
func (nw *network) changes(ctx context.Context) <-chan struct{} {
	if nw.virtual {
		return netchange.Every(ctx, watchInterval)
	}
	return netchange.Notify(ctx, watchInterval)
}

// view is the machine's addresses at one moment.
type view struct {
	addrs  []netip.Addr // that peers may be offered, best first
	policy addrPolicy   // for the addresses of peers
}

// look reads the interfaces.
func (nw *network) look() (view, error) {
	ifs, err := nw.guarded.Interfaces()
	if err != nil {
		return view{}, fmt.Errorf("reading the network interfaces: %w", err)
	}
	var usual, loop []netip.Addr
	v := view{policy: addrPolicy{broadcasts: make(map[netip.Addr]struct{})}}
	for _, ifc := range ifs {
		addrs, err := ifc.Addrs()
		if err != nil || ifc.Flags&net.FlagUp == 0 {
			continue // an interface without addresses has nothing to offer
		}
		for _, a := range addrs {
			ipnet, ok := a.(*net.IPNet)
			if !ok {
				continue
			}
			ip, _ := netip.AddrFromSlice(ipnet.IP)
			ip = ip.Unmap()
			bits, _ := ipnet.Mask.Size()
			if b, ok := broadcast(ip, bits); ok && ifc.Flags&net.FlagBroadcast != 0 {
				v.policy.broadcasts[b] = struct{}{}
			}
			switch {
			case ip.IsLoopback():
				loop = append(loop, ip)
			case ip.IsGlobalUnicast() && (addrPolicy{}).refusal(ip) == "":
				usual = append(usual, ip)
			}
		}
	}
	switch {
	case nw.loopback == LoopbackOnly:
		v.addrs = loop
	case nw.loopback == LoopbackAlways || len(usual) == 0:
		v.addrs = append(usual, loop...)
	default:
		v.addrs = usual
	}
	for _, a := range v.addrs {
		v.policy.loopback = v.policy.loopback || a.IsLoopback()
	}
	return v, nil
}

// broadcast gives the directed broadcast address of an IPv4 network.
func broadcast(ip netip.Addr, bits int) (netip.Addr, bool) {
	if !ip.Is4() || bits <= 0 || bits >= 31 {
		return netip.Addr{}, false
	}
	b := ip.As4()
	for i := bits; i < 32; i++ {
		b[i/8] |= 0x80 >> (i % 8)
	}
	return netip.AddrFrom4(b), true
}

// primary gives the first address of each family.
func (nw *network) primary() [families]netip.Addr {
	var out [families]netip.Addr
	v, err := nw.look()
	if err != nil {
		return out
	}
	for _, a := range v.addrs {
		if f := familyOf(a); !out[f].IsValid() {
			out[f] = a
		}
	}
	return out
}

// listenUDP opens a socket in each family, on the same port where possible. Port 0
// picks one. One family may be missing; both may not.
func (nw *network) listenUDP(port int) ([families]udpSocket, int, error) {
	var (
		socks   [families]udpSocket
		granted int // the smaller receive buffer, in bytes
	)
	wildcard := [families]net.IP{net.IPv4zero, net.IPv6unspecified}
	if nw.loopback == LoopbackOnly {
		wildcard = [families]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	var firstErr error
	for f, name := range []string{"udp4", "udp6"} {
		if nw.virtual && family(f) == ipv6 {
			continue // pion's vnet has no IPv6
		}
		want := port
		if want == 0 && socks[ipv4] != nil {
			want = socks[ipv4].LocalAddr().(*net.UDPAddr).Port
		}
		c, err := nw.guarded.Net.ListenUDP(name, &net.UDPAddr{IP: wildcard[f], Port: want})
		if err != nil && port == 0 && want != 0 {
			c, err = nw.guarded.Net.ListenUDP(name, &net.UDPAddr{IP: wildcard[f]}) // taken in the other family
		}
		if err != nil {
			if firstErr == nil {
				firstErr = err
			}
			continue
		}
		if got := growBuffers(c); granted == 0 || got < granted {
			granted = got
		}
		socks[f] = asUDPSocket(c)
	}
	// A port that was asked for must be had in the family that nearly everyone uses.
	if socks[ipv4] == nil && (socks[ipv6] == nil || port != 0 && firstErr != nil) {
		if socks[ipv6] != nil {
			_ = socks[ipv6].Close() // nothing was sent
		}
		return socks, 0, firstErr
	}
	return socks, granted, nil
}

// asUDPSocket adapts sockets of virtual networks.
func asUDPSocket(c transport.UDPConn) udpSocket {
	if s, ok := c.(udpSocket); ok {
		return s
	}
	return virtualSocket{c}
}

type virtualSocket struct{ transport.UDPConn }

func (s virtualSocket) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	n, from, err := s.ReadFromUDP(b)
	if err != nil {
		return n, netip.AddrPort{}, err
	}
	return n, from.AddrPort(), nil
}

func (s virtualSocket) WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error) {
	return s.WriteTo(b, net.UDPAddrFromAddrPort(to))
}
