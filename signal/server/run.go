package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/signal/internal/ratelimit"
	"github.com/pairterm/pairterm/signal/internal/thin"
)

// Listen listens on a TCP address as --listen and --signal-listen take it:
// "host:port", ":port" for all addresses, or "" for all addresses and a port
// that is free.
func Listen(ctx context.Context, addr string) (net.Listener, error) {
	if addr == "" {
		addr = ":0"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listen for signaling: %w", err)
	}
	return l, nil
}

// Run serves the listeners, with TLS if the configuration has it, until ctx
// ends; then it shuts the server down in good order, as [Server.Shutdown] does
// within [Limits].Drain and a few seconds, and returns nil. It returns an
// error if a listener fails for good. In any case all listeners are closed and
// everything that Run started is gone when it returns.
//
// Beside the limits on WebSockets it limits connections before they are ones:
// their number in all and for each address but trusted proxies'; the time and size of a request. Half-open connections cost a few KiB for a
// few seconds.
func (s *Server) Run(ctx context.Context, listeners ...net.Listener) error {
	hs := &http.Server{
		Handler:           s,
		ReadHeaderTimeout: s.limits.Handshake,
		ReadTimeout:       s.limits.Handshake,
		WriteTimeout:      s.limits.Handshake,
		IdleTimeout:       s.limits.Handshake,
		MaxHeaderBytes:    8 << 10,
		TLSConfig:         s.config.TLS,
		Protocols:         new(http.Protocols),
		ErrorLog:          ErrorLog(s.log, s.config.FullAddresses),
	}
	hs.Protocols.SetHTTP1(true) // an HTTP/2 stream cannot become a WebSocket here

	guard := newGuard(s)
	g, gctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			var err error
			if s.config.TLS != nil {
				err = hs.ServeTLS(s.wrap(guard, l), "", "")
			} else {
				err = hs.Serve(s.wrap(guard, l))
			}
			if errors.Is(err, http.ErrServerClosed) {
				return nil
			}
			return fmt.Errorf("serve signaling on %s: %w", l.Addr(), err)
		})
	}
	g.Go(func() error {
		<-gctx.Done()
		end, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.limits.Drain+5*time.Second)
		defer cancel()
		// The listeners close first, so that whoever comes back reaches another
		// process, if there is one.
		for _, l := range listeners {
			_ = l.Close()
		}
		err := s.Shutdown(end)
		_ = hs.Close()
		if err != nil {
			s.log.Warn("connections were cut", "err", err)
		}
		return nil
	})
	if s.config.Gate != nil {
		g.Go(func() error { return s.watchGate(gctx) })
	}
	err := g.Wait()
	guard.wait()
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// guard limits connections that have not asked for anything yet.
type guard struct {
	s         *Server
	addresses *ratelimit.Table // of all but trusted proxies, and of whom they speak for
	open      sync.WaitGroup   // accepted connections

	mu  sync.Mutex
	now int // guarded by mu; open connections
}

func newGuard(s *Server) *guard {
	// Twice what the WebSockets of an address may be, for requests that become
	// none; what is held counts here as long as it is open.
	return &guard{s: s, addresses: &ratelimit.Table{
		Rate: Rate{PerSecond: 2 * s.limits.AddressRate.PerSecond, Burst: 2 * s.limits.AddressRate.Burst},
		Held: 2 * s.limits.AddressConnections,
		Size: s.limits.Addresses,
	}}
}

// wrap returns a listener whose connections are limited, and come from where
// a trusted proxy says.
func (s *Server) wrap(g *guard, l net.Listener) net.Listener {
	l = &guardedListener{Listener: l, g: g}
	if s.config.Proxies.Protocol {
		l = &proxyListener{Listener: l, proxies: &s.config.Proxies, timeout: s.limits.Handshake}
	}
	return l
}

// wait waits until all connections are closed.
func (g *guard) wait() { g.open.Wait() }

// admit counts a connection in, or reports that it is one too many.
func (g *guard) admit(c net.Conn) (net.Conn, bool) {
	g.mu.Lock()
	full := g.now >= g.s.limits.Connections+g.s.limits.Connections/4
	if !full {
		g.now++
	}
	g.mu.Unlock()
	if full {
		return nil, false
	}
	gc := &guardedConn{Conn: c, g: g}
	if addr := addrOf(c.RemoteAddr()); !g.s.config.Proxies.trusts(addr) && !gc.count(addr) {
		g.leave()
		return nil, false
	}
	g.open.Add(1)
	return gc, true
}

func (g *guard) leave() {
	g.mu.Lock()
	g.now--
	g.mu.Unlock()
}

type guardedListener struct {
	net.Listener
	g *guard
}

// Accept implements [net.Listener].
func (l *guardedListener) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			if !errors.Is(err, net.ErrClosed) {
				// Mostly no file descriptors are left. net/http tries again within
				// a second, and goes on.
				l.g.s.log.Warn("cannot accept connections", "err", err)
			}
			return nil, err
		}
		if gc, ok := l.g.admit(c); ok {
			thin.Set(c)
			return gc, nil
		}
		_ = c.Close()
	}
}

type guardedConn struct {
	net.Conn
	g *guard

	mu      sync.Mutex
	closed  bool   // guarded by mu
	release func() // guarded by mu; of the address that it counts for, nil: none
}

// count has the connection count for an address, once, or reports that it is
// one too many for that.
func (c *guardedConn) count(addr netip.Addr) bool {
	release, _, v := c.g.addresses.Acquire(addr, time.Now())
	if v != ratelimit.VerdictYes {
		return false
	}
	c.mu.Lock()
	closed := c.closed
	if !closed {
		c.release = release
	}
	c.mu.Unlock()
	if closed {
		release()
	}
	return !closed
}

// Close implements [net.Conn].
func (c *guardedConn) Close() error {
	err := c.Conn.Close()
	c.mu.Lock()
	first, release := !c.closed, c.release
	c.closed = true
	c.mu.Unlock()
	if !first {
		return err
	}
	if release != nil {
		release()
	}
	c.g.leave()
	c.g.open.Done()
	return err
}
