package link

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/pion/turn/v2"
)

const (
	// relayDelay is how long a direct path is looked for before a TURN server is asked.
	relayDelay = 700 * time.Millisecond
	// relayTimeout bounds how long a server may take to answer.
	relayTimeout = 8 * time.Second
	// drainTimeout bounds how long the last words over a relay may take to leave.
	drainTimeout = 300 * time.Millisecond
	// maxRelays bounds the servers that are asked.
	maxRelays = 4
	// maxAliases bounds the addresses with which one relay speaks.
	maxAliases = 4 * maxCandidates
	// aliasBacklog is how many datagrams wait for the server's permission to send to one
	// of them, or for a slow connection to the server.
	aliasBacklog = 128
)

// relay is an address on a TURN server, at which a mux can be reached and from which it
// can send. Pion knows nothing of it: it sees the peers at the other end of a relay at
// aliases, addresses that exist nowhere else, and the mux sends over the relay what goes
// there. So pion needs no sockets for it, all that comes is vetted as what comes
// directly is, and one relay serves all links of a mux.
type relay struct {
	// Set once.
	mux    *mux
	server RelayServer
	addr   netip.AddrPort // on the server
	conn   turnConn
	client *turn.Client
	pc     net.PacketConn // the relayed socket

	senders sync.WaitGroup // one for each alias
	closing sync.Once
	done    chan struct{} // closed when the relay is of no use any more

	// Guarded by mux.mu.
	aliases map[netip.AddrPort]*alias // by the peer's address
	gone    bool                      // no more aliases are made
}

// alias stands for a peer's address, as reached over a relay.
type alias struct {
	relay *relay
	addr  netip.AddrPort // what pion sees
	peer  netip.AddrPort
	out   chan []byte
	named bool // by the peer of a link; guarded by mux.mu
}

// relayCall is the making of a relay, which several links may wait for.
type relayCall struct {
	done  chan struct{}
	relay *relay
	err   error
}

// isAlias reports whether an address is one of those that only aliases have. They are
// refused as candidates, and dropped as sources.
func isAlias(a netip.Addr) bool { return reserved.Contains(a) || discard.Contains(a) }

// relay gives the relay on a server, and makes it if there is none.
func (m *mux) relay(ctx context.Context, t *Transport, server RelayServer) (*relay, error) {
	m.mu.Lock()
	if m.closed {
		m.mu.Unlock()
		return nil, net.ErrClosed
	}
	call := m.relays[server]
	if call == nil {
		call = &relayCall{done: make(chan struct{})}
		m.relays[server] = call
		m.owned.Go(func() {
			call.relay, call.err = m.makeRelay(t, server)
			if call.err != nil {
				m.mu.Lock()
				delete(m.relays, server)
				m.mu.Unlock()
			}
			close(call.done)
		})
	}
	m.mu.Unlock()
	select {
	case <-call.done:
		return call.relay, call.err
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (m *mux) makeRelay(t *Transport, server RelayServer) (*relay, error) {
	ctx, cancel := context.WithTimeout(m.life, relayTimeout)
	defer cancel()
	conn, err := t.net.dialTURN(ctx, server, t.relayTLS)
	if err != nil {
		return nil, fmt.Errorf("TURN server %v: %w", server, err)
	}
	r := &relay{mux: m, server: server, conn: conn, done: make(chan struct{}), aliases: make(map[netip.AddrPort]*alias)}
	username, password := t.cfg.RelayCredentials.at(time.Now())
	r.client, err = turn.NewClient(&turn.ClientConfig{
		// The socket knows where the server is.
		TURNServerAddr: "192.0.2.1:3478",
		Conn:           turnSocket{conn},
		Username:       username,
		Password:       password,
		Net:            t.net.guarded,
		LoggerFactory:  pionLogs{m.log},
	})
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TURN server %v: %w", server, err), conn.Close())
	}
	stop := context.AfterFunc(ctx, r.abandon)
	m.owned.Go(r.readServer)
	r.pc, err = r.client.Allocate()
	stopped := stop()
	if err == nil && !stopped {
		err = ctx.Err()
	}
	if err != nil {
		r.abandon()
		if ctx.Err() != nil {
			err = fmt.Errorf("no answer: %w", context.DeadlineExceeded)
		}
		return nil, fmt.Errorf("TURN server %v: %w", server, err)
	}
	addr := r.pc.LocalAddr().(*net.UDPAddr).AddrPort()
	r.addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
	m.log.Debug("relay", "server", server, "address", r.addr)
	m.owned.Go(r.readPeers)
	m.owned.Go(func() {
		select {
		case <-m.life.Done():
		case <-r.done:
		}
		r.close()
	})
	return r, nil
}

// abandon ends what the client waits for, and the connection to the server.
func (r *relay) abandon() {
	r.client.Close()
	_ = r.conn.Close() // nobody listens any more
}

// close sends what is still to be sent, gives the address on the server back, and ends
// what the relay has started.
func (r *relay) close() {
	m := r.mux
	m.mu.Lock()
	if call := m.relays[r.server]; call != nil && call.relay == r {
		delete(m.relays, r.server)
	}
	for _, a := range r.aliases {
		delete(m.aliases, a.addr)
		close(a.out)
	}
	clear(r.aliases)
	r.gone = true
	m.mu.Unlock()
	// Those that wait for the server are not waited for.
	patience := time.AfterFunc(drainTimeout, r.abandon)
	r.senders.Wait()
	patience.Stop()
	_ = r.pc.Close() // says so to the server, and does not wait
	r.abandon()
}

func (r *relay) fail() { r.closing.Do(func() { close(r.done) }) }

// readServer hands the client what the server says.
func (r *relay) readServer() {
	defer r.fail()
	buf := make([]byte, stunMaxTURN)
	for {
		n, err := r.conn.read(buf)
		if err != nil {
			r.mux.log.Debug("TURN connection ended", "server", r.server, "err", err)
			r.client.Close() // it may be waiting for an answer
			return
		}
		if !vetTURN(buf[:n]) {
			r.mux.counters.malformed.Add(1)
			continue
		}
		if _, err := r.client.HandleInbound(buf[:n], turnServerAddr); err != nil {
			r.mux.log.Debug("TURN message", "server", r.server, "err", err)
		}
	}
}

// readPeers hands the mux what peers have sent to the relay.
func (r *relay) readPeers() {
	m := r.mux
	buf := make([]byte, stunMaxTURN)
	for {
		n, from, err := r.pc.ReadFrom(buf)
		if err != nil {
			return
		}
		peer := from.(*net.UDPAddr).AddrPort()
		a := m.aliasOf(r, netip.AddrPortFrom(peer.Addr().Unmap(), peer.Port()), false)
		if a == nil || n > maxPacket {
			continue
		}
		m.inbound(buf[:n], a.addr)
		m.dropUnused(a)
	}
}

// aliasOf finds or makes the alias for a peer's address, nil if there are too many. One
// that was named stays, others only if a link gets something from there.
func (m *mux) aliasOf(r *relay, peer netip.AddrPort, named bool) *alias {
	primary := m.primary()
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := r.aliases[peer]; a != nil {
		a.named = a.named || named
		return a
	}
	if r.gone || m.closed || len(r.aliases) == maxAliases {
		return nil
	}
	m.lastAlias++
	a := &alias{relay: r, peer: peer, named: named, out: make(chan []byte, aliasBacklog)}
	if primary[ipv4].IsValid() {
		b := reserved.Addr().As4()
		binary.BigEndian.PutUint32(b[:], binary.BigEndian.Uint32(b[:])+m.lastAlias%(1<<27))
		a.addr = netip.AddrPortFrom(netip.AddrFrom4(b), 1)
	} else {
		b := discard.Addr().As16()
		binary.BigEndian.PutUint32(b[12:], m.lastAlias)
		a.addr = netip.AddrPortFrom(netip.AddrFrom16(b), 1)
	}
	r.aliases[peer] = a
	m.aliases[a.addr] = a
	to := net.UDPAddrFromAddrPort(peer)
	r.senders.Go(func() {
		for b := range a.out {
			// The first time it waits for the server's permission.
			if _, err := r.pc.WriteTo(b, to); err != nil {
				m.log.Debug("sending over a relay", "to", peer, "err", err)
			}
		}
	})
	return a
}

// behind gives the relay and the peer's address for which an alias stands.
func (m *mux) behind(addr netip.AddrPort) (relay, peer netip.AddrPort, ok bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	a := m.aliases[addr]
	if a == nil {
		return relay, peer, false
	}
	return a.relay.addr, a.peer, true
}

// dropUnused forgets an alias that is nobody's: a stranger's.
func (m *mux) dropUnused(a *alias) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.routes[a.addr] == nil && a.relay.aliases[a.peer] == a && !a.named {
		delete(a.relay.aliases, a.peer)
		delete(m.aliases, a.addr)
		close(a.out)
	}
}

// send sends a datagram from the socket of a family, or over a relay. It does not keep b.
func (m *mux) send(f family, b []byte, to netip.AddrPort) (int, error) {
	if !isAlias(to.Addr()) {
		return m.socks[f].WriteToUDPAddrPort(b, to)
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if a := m.aliases[to]; a != nil {
		select {
		case a.out <- append([]byte(nil), b...):
		default:
			m.counters.overflow.Add(1)
		}
	}
	return len(b), nil
}

// turnServerAddr is the server as the client knows it.
var turnServerAddr = &net.UDPAddr{IP: net.IPv4(192, 0, 2, 1), Port: turnPort}

// turnSocket is the connection to a server as the client wants it. The client does not
// read from it.
type turnSocket struct{ turnConn }

func (s turnSocket) ReadFrom([]byte) (int, net.Addr, error) { return 0, nil, net.ErrClosed }

func (s turnSocket) WriteTo(b []byte, _ net.Addr) (int, error) { return len(b), s.write(b) }

func (s turnSocket) LocalAddr() net.Addr              { return &net.UDPAddr{IP: net.IPv4zero} }
func (s turnSocket) SetDeadline(time.Time) error      { return nil }
func (s turnSocket) SetReadDeadline(time.Time) error  { return nil }
func (s turnSocket) SetWriteDeadline(time.Time) error { return nil }
