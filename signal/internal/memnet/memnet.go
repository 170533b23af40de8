// Package memnet is a network of [net.Pipe]s for tests, which works inside a
// testing/synctest bubble: there a reader that waits for a real socket would
// keep the fake clock from going on.
//
// Unlike sockets its connections buffer nothing: a write waits for its reader.
package memnet

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"syscall"
)

// Net is a network. The zero value is empty and ready.
type Net struct {
	mu        sync.Mutex
	listeners map[string]*Listener // guarded by mu; by address
	port      uint16               // guarded by mu; of the last client
}

// Listen listens on an address "ip:port", which must be free.
func (n *Net) Listen(addr string) *Listener {
	l := &Listener{
		net:   n,
		addr:  netip.MustParseAddrPort(addr),
		conns: make(chan net.Conn),
		done:  make(chan struct{}),
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.listeners[addr] != nil {
		panic("memnet: " + addr + " is in use")
	}
	if n.listeners == nil {
		n.listeners = make(map[string]*Listener)
	}
	n.listeners[addr] = l
	return l
}

// DialFrom returns a dial function for a client at ip.
func (n *Net) DialFrom(ip string) func(ctx context.Context, network, addr string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		n.mu.Lock()
		l := n.listeners[addr]
		n.port++
		from := netip.AddrPortFrom(netip.MustParseAddr(ip), 10_000+n.port)
		n.mu.Unlock()
		refused := &net.OpError{Op: "dial", Net: network, Err: syscall.ECONNREFUSED}
		if l == nil {
			return nil, refused
		}
		client, server := net.Pipe()
		select {
		case l.conns <- &conn{Conn: server, local: l.addr, remote: from}:
			return &conn{Conn: client, local: from, remote: l.addr}, nil
		case <-l.done:
			return nil, refused
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// Listener implements [net.Listener].
type Listener struct {
	net   *Net
	addr  netip.AddrPort
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

// Accept implements [net.Listener].
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

// Close implements [net.Listener].
func (l *Listener) Close() error {
	l.once.Do(func() {
		l.net.mu.Lock()
		delete(l.net.listeners, l.addr.String())
		l.net.mu.Unlock()
		close(l.done)
	})
	return nil
}

// Addr implements [net.Listener].
func (l *Listener) Addr() net.Addr { return net.TCPAddrFromAddrPort(l.addr) }

type conn struct {
	net.Conn
	local, remote netip.AddrPort
}

func (c *conn) LocalAddr() net.Addr  { return net.TCPAddrFromAddrPort(c.local) }
func (c *conn) RemoteAddr() net.Addr { return net.TCPAddrFromAddrPort(c.remote) }
