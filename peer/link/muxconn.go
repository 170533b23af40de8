package link

import (
	"io"
	"net"
	"net/netip"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

// connHooks tie a conn to its link. All may be left out.
type connHooks struct {
	dialed   bool
	answered chan<- struct{} // gets a value when an answer to a check has come
	repeater *repeater       // sends copies
	// mayFollow is [Link.mayFollow], for links that are accepted.
	mayFollow func(from netip.AddrPort) (wait time.Duration, ok bool)
}

// muxConn is one link's view of one socket. Pion reads it as if it were alone.
type muxConn struct {
	// Set once.
	mux   *mux
	key   connKey
	local *net.UDPAddr
	fresh *rate.Limiter // of addresses not seen before
	blind *rate.Limiter // of datagrams to addresses from which nothing has come yet

	hooks connHooks

	queue queue

	heard                    atomic.Int64 // when a datagram last came, in ns since epoch
	bytesSent, bytesReceived atomic.Uint64

	// Set when the link ends: its last records are sent several times, for nobody will
	// repeat them, and without DTLS's goodbye the peer waits for its timeouts.
	insisting atomic.Bool

	// Guarded by mux.mu.
	routes []netip.AddrPort // whose routes name this conn
	last   struct {         // the route last sent to
		addr netip.AddrPort
		r    *route
	}
	gone bool
}

// ReadFrom implements [net.PacketConn].
func (c *muxConn) ReadFrom(b []byte) (int, net.Addr, error) { return c.queue.pop(b) }

// WriteTo implements [net.PacketConn]. Closed conns give [io.ErrClosedPipe], by which
// pion tells that from a network that is not there at the moment.
func (c *muxConn) WriteTo(b []byte, to net.Addr) (int, error) {
	ua, ok := to.(*net.UDPAddr)
	if !ok {
		return 0, net.UnknownNetworkError(to.Network())
	}
	addr := ua.AddrPort()
	addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	m := c.mux
	m.mu.Lock()
	if c.gone || m.closed {
		m.mu.Unlock()
		return 0, io.ErrClosedPipe
	}
	if c.last.r == nil || c.last.addr != addr {
		c.last.addr, c.last.r = addr, m.routeLocked(c, addr)
	}
	r := c.last.r
	m.mu.Unlock()
	if r.received.Load() == 0 && !c.blind.Allow() {
		return len(b), nil // as if it were lost: the check will be repeated
	}
	// Checks go to addresses that nothing is known of, so those are not copied before
	// something was heard from there.
	if c.hooks.repeater != nil && (looksLikeDTLS(b) || r.received.Load() > 0) {
		c.hooks.repeater.add(c, b, addr)
	}
	if c.insisting.Load() && looksLikeDTLS(b) {
		for range goodbyeCopies {
			_, _ = c.write(b, addr, r) // it is but a copy
		}
	}
	return c.write(b, addr, r)
}

func (c *muxConn) write(b []byte, addr netip.AddrPort, r *route) (int, error) {
	n, err := c.mux.send(c.key.fam, b, addr)
	if err == nil {
		r.sent.Add(1)
		c.bytesSent.Add(uint64(n))
	}
	return n, err
}

// resend sends a copy, if the conn is still there.
func (c *muxConn) resend(b []byte, addr netip.AddrPort) {
	m := c.mux
	m.mu.Lock()
	r := m.routes[addr]
	ok := r != nil && !c.gone && !m.closed
	m.mu.Unlock()
	if ok {
		_, _ = c.write(b, addr, r) // it is but a copy
	}
}

// Close implements [net.PacketConn]: it forgets the conn and its addresses.
func (c *muxConn) Close() error {
	m := c.mux
	m.mu.Lock()
	if !c.gone {
		c.gone = true
		delete(m.conns, c.key)
		for _, addr := range c.routes {
			m.forgetLocked(c, addr)
		}
	}
	m.mu.Unlock()
	c.queue.close()
	return nil
}

func (m *mux) forgetLocked(c *muxConn, addr netip.AddrPort) {
	r := m.routes[addr]
	for i, s := range r.senders {
		if s == c {
			r.senders = append(r.senders[:i:i], r.senders[i+1:]...)
			break
		}
	}
	if r.owner == c {
		r.owner, r.confirmed = nil, false
	}
	if len(r.senders) == 0 {
		delete(m.routes, addr)
	}
}

// LocalAddr implements [net.PacketConn].
func (c *muxConn) LocalAddr() net.Addr { return c.local }

// SetDeadline does nothing: pion sets deadlines only to unblock reads before it
// closes, and Close does that.
func (c *muxConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see [muxConn.SetDeadline].
func (c *muxConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see [muxConn.SetDeadline].
func (c *muxConn) SetWriteDeadline(time.Time) error { return nil }
