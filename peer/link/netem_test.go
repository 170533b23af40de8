package link_test

import (
	"net"
	"net/netip"
	"sync"
	"testing"

	"github.com/pion/transport/v2"
	"github.com/pion/transport/v2/stdnet"
)

// tapNet is the machine's network, with a hook on each datagram that leaves.
type tapNet struct {
	*stdnet.Net
	out func(b []byte) (pass bool) // set before use
}

func newTapNet(t testing.TB) *tapNet {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	return &tapNet{Net: n}
}

func (n *tapNet) ListenUDP(network string, laddr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, laddr)
	if err != nil {
		return nil, err
	}
	return &tapConn{c, n}, nil
}

// tapConn embeds the interface, so the link package uses the methods below.
type tapConn struct {
	transport.UDPConn
	net *tapNet
}

func (c *tapConn) WriteTo(b []byte, to net.Addr) (int, error) {
	if c.net.out != nil && !c.net.out(b) {
		return len(b), nil
	}
	return c.UDPConn.WriteTo(b, to)
}

// natBox stands between one guest and one host on loopback and changes the address of
// each in the eyes of the other.
type natBox struct {
	host netip.AddrPort // set by start

	wg sync.WaitGroup

	mu      sync.Mutex
	inside  *net.UDPConn   // the host, in the eyes of the guest
	outside *net.UDPConn   // the guest, in the eyes of the host
	guest   netip.AddrPort // where the guest really is
}

func newNATBox(t testing.TB) *natBox {
	t.Helper()
	n := &natBox{inside: listenLoopback(t), outside: listenLoopback(t)}
	t.Cleanup(func() {
		n.mu.Lock()
		_ = n.inside.Close()
		_ = n.outside.Close()
		n.mu.Unlock()
		n.wg.Wait()
	})
	return n
}

func listenLoopback(t testing.TB) *net.UDPConn {
	t.Helper()
	c, err := net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1)})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func udpAddr(c *net.UDPConn) netip.AddrPort { return c.LocalAddr().(*net.UDPAddr).AddrPort() }

// start forwards between the guest, whoever that is, and the host.
func (n *natBox) start(host netip.AddrPort) {
	n.host = host
	n.toHost(n.inside)
	n.toGuest(n.outside)
}

func (n *natBox) toHost(inside *net.UDPConn) {
	n.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			m, from, err := inside.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			n.guest = from
			out := n.outside
			n.mu.Unlock()
			_, _ = out.WriteToUDPAddrPort(buf[:m], n.host)
		}
	})
}

func (n *natBox) toGuest(outside *net.UDPConn) {
	n.wg.Go(func() {
		buf := make([]byte, 2048)
		for {
			m, _, err := outside.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			n.mu.Lock()
			guest, in := n.guest, n.inside
			n.mu.Unlock()
			_, _ = in.WriteToUDPAddrPort(buf[:m], guest)
		}
	})
}

// moveGuest gives the guest another address, as when its router restarts.
func (n *natBox) moveGuest(t testing.TB) netip.AddrPort {
	t.Helper()
	fresh := listenLoopback(t)
	n.mu.Lock()
	old := n.outside
	n.outside = fresh
	n.mu.Unlock()
	_ = old.Close()
	n.toGuest(fresh)
	return udpAddr(fresh)
}

// moveHost gives the host another address.
func (n *natBox) moveHost(t testing.TB) netip.AddrPort {
	t.Helper()
	fresh := listenLoopback(t)
	n.mu.Lock()
	old := n.inside
	n.inside = fresh
	n.mu.Unlock()
	_ = old.Close()
	n.toHost(fresh)
	return udpAddr(fresh)
}
