package link

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"time"
)

const (
	// tcpFirstFrame is how long a stranger's TCP connection may take to show that it
	// belongs to a link.
	tcpFirstFrame = 5 * time.Second

	maxTCPStrangers = 64  // connections that have not shown it yet
	maxTCPStreams   = 256 // connections in all
	maxTCPPerLink   = 4   // connections of one link to one local address

	// tcpBacklog is how many frames wait for a slow connection before more are dropped,
	// as a full link would.
	tcpBacklog = 256
)

// tcpMux accepts links over TCP (RFC 6544, passive candidates), framed as in RFC 4571.
// It takes the place of pion's own, which keeps connections with unknown user names
// for half a minute without any limit, and does not vet what it reads.
type tcpMux struct {
	// Set once.
	listeners [families]net.Listener
	log       *slog.Logger
	counters  *muxCounters
	admits    func(netip.AddrPort) bool // whether connections from there are taken
	strangers chan struct{}             // has a slot for each connection that has not shown whose it is
	streams   chan struct{}             // has a slot for each connection
	running   sync.WaitGroup

	mu     sync.Mutex
	conns  map[tcpKey]*tcpConn
	open   map[net.Conn]struct{}
	closed bool
}

type tcpKey struct {
	ufrag string
	local netip.Addr
}

// listenTCP listens on a TCP port in each family, 0 for the number of the UDP port. If
// nobody has asked for that number and it is taken, another one does. One family may be
// missing.
func (nw *network) listenTCP(port int, udp *mux, anyPort bool, log *slog.Logger, counters *muxCounters) (*tcpMux, error) {
	m := &tcpMux{
		log:       log,
		counters:  counters,
		admits:    udp.admits,
		strangers: make(chan struct{}, maxTCPStrangers),
		streams:   make(chan struct{}, maxTCPStreams),
		conns:     make(map[tcpKey]*tcpConn),
		open:      make(map[net.Conn]struct{}),
	}
	ips := [families]net.IP{net.IPv4zero, net.IPv6unspecified}
	if nw.loopback == LoopbackOnly {
		ips = [families]net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback}
	}
	if port == 0 {
		port = int(max(udp.port(ipv4), udp.port(ipv6)))
	} else {
		anyPort = false
	}
	var firstErr error
	for f, name := range []string{"tcp4", "tcp6"} {
		ln, err := nw.guarded.ListenTCP(name, &net.TCPAddr{IP: ips[f], Port: port})
		if err != nil && anyPort {
			ln, err = nw.guarded.ListenTCP(name, &net.TCPAddr{IP: ips[f]})
		}
		if err == nil {
			m.listeners[f] = ln
		} else if firstErr == nil {
			firstErr = err
		}
	}
	// As with UDP, a port that was asked for must be had in IPv4.
	if m.listeners[ipv4] == nil && (m.listeners[ipv6] == nil || !anyPort) {
		if ln := m.listeners[ipv6]; ln != nil {
			_ = ln.Close() // nobody was accepted
		}
		return nil, fmt.Errorf("opening TCP port %d: %w", port, firstErr)
	}
	for _, ln := range m.listeners {
		if ln != nil {
			m.running.Go(func() { m.accept(ln) })
		}
	}
	return m, nil
}

// port gives the port of a family's listener, or 0.
func (m *tcpMux) port(f family) uint16 {
	if m.listeners[f] == nil {
		return 0
	}
	return m.listeners[f].Addr().(*net.TCPAddr).AddrPort().Port()
}

func (m *tcpMux) accept(ln net.Listener) {
	for {
		c, err := ln.Accept()
		if err != nil {
			if m.isClosed() || errors.Is(err, net.ErrClosed) {
				return
			}
			m.log.Debug("accepting a TCP connection", "err", err)
			time.Sleep(readRetry) // such as too many open files
			continue
		}
		if !m.admit(c) {
			_ = c.Close() // nothing was said
			continue
		}
		m.running.Go(func() {
			defer m.dismiss(c)
			m.serve(c)
		})
	}
}

// admit takes a connection in, if there is room for strangers.
func (m *tcpMux) admit(c net.Conn) bool {
	from := c.RemoteAddr().(*net.TCPAddr).AddrPort()
	from = netip.AddrPortFrom(from.Addr().Unmap(), from.Port())
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed || !m.admits(from) {
		return false
	}
	select {
	case m.streams <- struct{}{}:
	default:
		return false
	}
	m.open[c] = struct{}{}
	return true
}

func (m *tcpMux) dismiss(c net.Conn) {
	_ = c.Close() // read errors have been dealt with
	m.mu.Lock()
	delete(m.open, c)
	m.mu.Unlock()
	<-m.streams
}

func (m *tcpMux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// serve reads a connection until it ends.
func (m *tcpMux) serve(c net.Conn) {
	r := bufio.NewReaderSize(c, 2+maxPacket)
	buf := make([]byte, maxPacket)
	first, conn := m.introduce(c, r, buf)
	if conn == nil {
		m.counters.strangers.Add(1)
		return
	}
	s := &tcpStream{conn: c, from: c.RemoteAddr().(*net.TCPAddr), out: make(chan []byte, tcpBacklog), done: make(chan struct{})}
	if !conn.attach(s) {
		return
	}
	defer conn.detach(s)
	writing := make(chan struct{})
	go func() {
		defer close(writing)
		s.write()
	}()
	defer func() {
		close(s.done)
		_ = c.Close() // unblocks the writer
		<-writing
	}()
	for frame := first; ; {
		if stun := looksLikeSTUN(frame); stun && !harmless(frame) {
			m.counters.malformed.Add(1)
		} else if (stun || looksLikeDTLS(frame)) && !conn.queue.push(frame, s.from) {
			m.counters.overflow.Add(1)
		}
		var err error
		if frame, err = readFrame(r, buf); err != nil {
			return
		}
	}
}

// introduce reads the first frame, which must be a check for a known link.
func (m *tcpMux) introduce(c net.Conn, r *bufio.Reader, buf []byte) ([]byte, *tcpConn) {
	select {
	case m.strangers <- struct{}{}:
		defer func() { <-m.strangers }()
	default:
		return nil, nil
	}
	if c.SetReadDeadline(time.Now().Add(tcpFirstFrame)) != nil {
		return nil, nil
	}
	frame, err := readFrame(r, buf)
	if err != nil || c.SetReadDeadline(time.Time{}) != nil {
		return nil, nil
	}
	info, ok := vetSTUN(frame)
	ufrag, _, found := bytes.Cut(info.username, []byte(":"))
	if !ok || info.class != stunRequest || !found {
		return nil, nil
	}
	local := c.LocalAddr().(*net.TCPAddr).AddrPort().Addr().Unmap().WithZone("")
	m.mu.Lock()
	defer m.mu.Unlock()
	return frame, m.conns[tcpKey{string(ufrag), local}]
}

// readFrame reads one frame into buf: a length in two bytes, and as many bytes.
func readFrame(r *bufio.Reader, buf []byte) ([]byte, error) {
	var header [2]byte
	if _, err := io.ReadFull(r, header[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(header[:]))
	if n > len(buf) {
		return nil, fmt.Errorf("%w: a frame of %d bytes", ErrProtocol, n)
	}
	_, err := io.ReadFull(r, buf[:n])
	return buf[:n], err
}

// GetConnByUfrag gives pion the conn of a link at one local address (ice.TCPMux).
func (m *tcpMux) GetConnByUfrag(ufrag string, _ bool, local net.IP) (net.PacketConn, error) {
	addr, ok := netip.AddrFromSlice(local)
	if !ok {
		return nil, net.InvalidAddrError(local.String())
	}
	addr = addr.Unmap()
	key := tcpKey{ufrag, addr}
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	if c := m.conns[key]; c != nil {
		return c, nil
	}
	port := m.port(familyOf(addr))
	if port == 0 {
		return nil, net.UnknownNetworkError("tcp")
	}
	c := &tcpConn{
		mux:     m,
		key:     key,
		local:   net.TCPAddrFromAddrPort(netip.AddrPortFrom(addr, port)),
		streams: make(map[netip.AddrPort]*tcpStream),
	}
	c.queue.init()
	m.conns[key] = c
	return c, nil
}

// prepare makes a link's conns before pion asks for them, see [mux.prepare].
func (m *tcpMux) prepare(ufrag string, addrs []netip.Addr) error {
	for _, a := range addrs {
		if m.port(familyOf(a)) == 0 {
			continue
		}
		if _, err := m.GetConnByUfrag(ufrag, a.Is6(), a.AsSlice()); err != nil {
			return err
		}
	}
	return nil
}

// RemoveConnByUfrag closes a link's conns (ice.TCPMux).
func (m *tcpMux) RemoveConnByUfrag(ufrag string) {
	m.mu.Lock()
	var conns []*tcpConn
	for key, c := range m.conns {
		if key.ufrag == ufrag {
			conns = append(conns, c)
		}
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // never fails
	}
}

// Close ends all connections and waits for their goroutines.
func (m *tcpMux) Close() error {
	m.mu.Lock()
	m.closed = true
	var conns []*tcpConn
	for _, c := range m.conns {
		conns = append(conns, c)
	}
	for c := range m.open {
		_ = c.Close() // its reader tells nobody
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // never fails
	}
	var errs []error
	for _, ln := range m.listeners {
		if ln != nil {
			errs = append(errs, ln.Close())
		}
	}
	m.running.Wait()
	return errors.Join(errs...)
}

// tcpStream is one TCP connection of a link.
type tcpStream struct {
	conn net.Conn
	from *net.TCPAddr
	out  chan []byte // frames with their headers
	done chan struct{}
}

func (s *tcpStream) write() {
	for {
		select {
		case b := <-s.out:
			if _, err := s.conn.Write(b); err != nil {
				_ = s.conn.Close() // ends the reader
				return
			}
		case <-s.done:
			return
		}
	}
}

// tcpConn is one link's view of one local address. Pion reads it as if it were a packet
// socket.
type tcpConn struct {
	// Set once.
	mux   *tcpMux
	key   tcpKey
	local *net.TCPAddr

	queue queue

	mu      sync.Mutex
	streams map[netip.AddrPort]*tcpStream
	gone    bool
}

func (c *tcpConn) attach(s *tcpStream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.gone || len(c.streams) == maxTCPPerLink {
		return false
	}
	c.streams[s.from.AddrPort()] = s
	return true
}

func (c *tcpConn) detach(s *tcpStream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s.from.AddrPort())
}

// ReadFrom implements [net.PacketConn].
func (c *tcpConn) ReadFrom(b []byte) (int, net.Addr, error) { return c.queue.pop(b) }

// WriteTo implements [net.PacketConn]. It never blocks: what a slow connection has no
// room for is dropped.
func (c *tcpConn) WriteTo(b []byte, to net.Addr) (int, error) {
	ta, ok := to.(*net.TCPAddr)
	if !ok || len(b) > maxPacket {
		return 0, net.UnknownNetworkError(to.Network())
	}
	c.mu.Lock()
	s, gone := c.streams[ta.AddrPort()], c.gone
	if s == nil {
		// Pion makes addresses of other lengths than the system's.
		ap := ta.AddrPort()
		s = c.streams[netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port())]
	}
	c.mu.Unlock()
	if gone || s == nil {
		return 0, io.ErrClosedPipe
	}
	frame := binary.BigEndian.AppendUint16(make([]byte, 0, 2+len(b)), uint16(len(b)))
	select {
	case s.out <- append(frame, b...):
	default:
		c.mux.counters.overflow.Add(1)
	}
	return len(b), nil
}

// Close implements [net.PacketConn]: it ends the link's connections to this address.
func (c *tcpConn) Close() error {
	c.mux.mu.Lock()
	if c.mux.conns[c.key] == c {
		delete(c.mux.conns, c.key)
	}
	c.mux.mu.Unlock()
	c.mu.Lock()
	c.gone = true
	for _, s := range c.streams {
		_ = s.conn.Close() // its reader tells nobody
	}
	c.mu.Unlock()
	c.queue.close()
	return nil
}

// LocalAddr implements [net.PacketConn].
func (c *tcpConn) LocalAddr() net.Addr { return c.local }

// SetDeadline does nothing, see [muxConn.SetDeadline].
func (c *tcpConn) SetDeadline(time.Time) error { return nil }

// SetReadDeadline does nothing, see [muxConn.SetDeadline].
func (c *tcpConn) SetReadDeadline(time.Time) error { return nil }

// SetWriteDeadline does nothing, see [muxConn.SetDeadline].
func (c *tcpConn) SetWriteDeadline(time.Time) error { return nil }
