package server

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"time"
)

// Proxies are the machines in front of a server. What they say about where
// their clients come from counts for limits and logs; what anybody else says
// does not. The zero value trusts nobody.
type Proxies struct {
	// Trusted are the proxies' addresses. Their X-Forwarded-For header counts,
	// from its end to the first address that is not a proxy's itself.
	Trusted []netip.Prefix

	// Protocol says that every connection from them begins with a header of the
	// PROXY protocol, version 2. One that does not is closed: whether there is
	// one is not for a client to decide.
	Protocol bool
}

func (p *Proxies) trusts(a netip.Addr) bool {
	a = a.Unmap().WithZone("")
	for _, t := range p.Trusted {
		if t.Contains(a) {
			return true
		}
	}
	return false
}

// clientAddr is where a request comes from, invalid if that cannot be known.
func (p *Proxies) clientAddr(r *http.Request) netip.Addr {
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	if err != nil {
		return netip.Addr{} // not TCP; all such share one budget
	}
	client := ap.Addr().Unmap()
	hops := strings.Split(strings.Join(r.Header.Values("X-Forwarded-For"), ","), ",")
	for i := len(hops) - 1; i >= 0 && p.trusts(client); i-- {
		hop, ok := parseHop(hops[i])
		if !ok {
			break // whoever wrote this is the last that we know
		}
		client = hop
	}
	return client
}

// forwardedTLS reports whether the client speaks TLS, to us or to a proxy.
func (p *Proxies) forwardedTLS(r *http.Request) bool {
	if r.TLS != nil {
		return true
	}
	ap, err := netip.ParseAddrPort(r.RemoteAddr)
	return err == nil && p.trusts(ap.Addr()) && r.Header.Get("X-Forwarded-Proto") == "https"
}

// parseHop parses an address as proxies write it, some with a port.
func parseHop(s string) (netip.Addr, bool) {
	s = strings.TrimSpace(s)
	if ap, err := netip.ParseAddrPort(s); err == nil {
		return ap.Addr().Unmap(), true
	}
	a, err := netip.ParseAddr(strings.TrimSuffix(strings.TrimPrefix(s, "["), "]"))
	return a.Unmap().WithZone(""), err == nil
}

// addrOf is the address of a socket's other end, invalid if it has none.
func addrOf(a net.Addr) netip.Addr {
	if tcp, ok := a.(*net.TCPAddr); ok {
		return tcp.AddrPort().Addr().Unmap()
	}
	return netip.Addr{}
}

// proxyListener reads the PROXY header of connections from trusted proxies.
type proxyListener struct {
	net.Listener // a guardedListener
	proxies      *Proxies
	timeout      time.Duration // for the header
}

// Accept implements [net.Listener]. The header is read later, by whoever
// serves the connection.
func (l *proxyListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil || !l.proxies.trusts(addrOf(c.RemoteAddr())) {
		return c, err
	}
	return &proxyConn{guardedConn: c.(*guardedConn), timeout: l.timeout}, nil
}

// proxyConn is a connection that begins with a PROXY header.
type proxyConn struct {
	*guardedConn
	timeout time.Duration

	once   sync.Once
	remote net.Addr // set by header
	err    error    // set by header
}

// Read implements [net.Conn].
func (c *proxyConn) Read(b []byte) (int, error) {
	if c.once.Do(c.header); c.err != nil {
		return 0, c.err
	}
	return c.guardedConn.Read(b)
}

// RemoteAddr is the client's address, as the header says. It waits for the
// header.
func (c *proxyConn) RemoteAddr() net.Addr {
	c.once.Do(c.header)
	return c.remote
}

func (c *proxyConn) header() {
	c.remote = c.guardedConn.RemoteAddr()
	_ = c.SetReadDeadline(time.Now().Add(c.timeout))
	client, err := readProxyHeader(c.guardedConn)
	_ = c.SetReadDeadline(time.Time{})
	if err == nil && client.IsValid() {
		c.remote = net.TCPAddrFromAddrPort(client)
		if a := client.Addr(); !c.g.s.config.Proxies.trusts(a) && !c.count(a) {
			err = errTooMany
		}
	}
	if err != nil {
		c.err = err
		_ = c.Close()
	}
}

// The PROXY protocol, version 2, as of
// https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt, section 2.2.
const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	proxyLocal     = 0x20 // the proxy speaks for itself, for instance to see whether we live
	proxyProxy     = 0x21
	proxyTCP4      = 0x11
	proxyTCP6      = 0x21
	proxyMax       = 2048 // bytes after the fixed part: addresses, and extensions that are not looked at
)

// errTooMany is for clients that hold too many connections, or come too often.
var errTooMany = errors.New("too many connections from its address")

var errProxyHeader = errors.New("no PROXY protocol header, version 2")

// readProxyHeader reads a header and nothing beyond it. The address is invalid
// if the header names none.
func readProxyHeader(r io.Reader) (netip.AddrPort, error) {
	var fixed [len(proxySignature) + 4]byte
	if _, err := io.ReadFull(r, fixed[:]); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	command, family, n := fixed[12], fixed[13], int(binary.BigEndian.Uint16(fixed[14:]))
	if string(fixed[:12]) != proxySignature || command != proxyLocal && command != proxyProxy || n > proxyMax {
		return netip.AddrPort{}, errProxyHeader
	}
	rest := make([]byte, n)
	if _, err := io.ReadFull(r, rest); err != nil {
		return netip.AddrPort{}, fmt.Errorf("%w: %w", errProxyHeader, err)
	}
	// Source address, destination address, source port, destination port.
	switch {
	case command == proxyLocal:
		return netip.AddrPort{}, nil
	case family == proxyTCP4 && n >= 12:
		return netip.AddrPortFrom(netip.AddrFrom4([4]byte(rest)), binary.BigEndian.Uint16(rest[8:])), nil
	case family == proxyTCP6 && n >= 36:
		return netip.AddrPortFrom(netip.AddrFrom16([16]byte(rest)).Unmap(), binary.BigEndian.Uint16(rest[32:])), nil
	case family == proxyTCP4, family == proxyTCP6:
		return netip.AddrPort{}, errProxyHeader
	}
	return netip.AddrPort{}, nil // not TCP: the specification has us use the connection's own
}
