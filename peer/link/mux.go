package link

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/time/rate"
)

const (
	// routeGrace is how long an address that is known to belong to a link stays with
	// it, counted from the last packet: only then can another link's checks claim it.
	routeGrace = 5 * time.Second

	// A link's peer may send from this many addresses at once, and from one more each
	// routeRefill. Networks are changed less often; and every new address costs pion
	// memory, and some packets sent there.
	routeBurst  = 2 * maxCandidates
	routeRefill = 30 * time.Second

	// A link may send so many datagrams, and so many more each second, to addresses that
	// its peer named and that have not answered. Sixteen addresses, some of them guessed,
	// checked five times a second are within that; and nobody is flooded by it.
	blindBurst = 3 * maxCandidates
	blindRate  = 80

	// goodbyeCopies is how many copies of a link's last records are sent.
	goodbyeCopies = 2

	// readRetry is the pause after a read error that does not say that the socket was
	// closed, such as a refusal by a firewall reported late.
	readRetry = 10 * time.Millisecond
)

// family is an address family, and an index.
type family int

const (
	ipv4 family = iota
	ipv6
	families
)

func familyOf(a netip.Addr) family {
	if a.Is4() {
		return ipv4
	}
	return ipv6
}

// udpSocket is what the mux needs of [*net.UDPConn].
type udpSocket interface {
	ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error)
	WriteToUDPAddrPort(b []byte, to netip.AddrPort) (int, error)
	LocalAddr() net.Addr
	Close() error
}

// muxCounters are shared by the muxes of a transport.
type muxCounters struct {
	malformed atomic.Uint64 // datagrams that looked like STUN and were not fit for pion
	strangers atomic.Uint64 // datagrams that belong to no link
	overflow  atomic.Uint64 // datagrams dropped because a link's queue was full
}

// mux spreads the datagrams of at most one socket per address family over links. It
// is the only reader of its sockets, vets what looks like STUN, and drops whatever
// belongs to no link.
//
// A check goes to the link whose user name fragment it carries. Other datagrams go
// to the link to which their source address belongs: the one that last received a
// check from there, except that an address which is in use stays where it is. So a
// guest cannot take over the traffic of another by naming the other's address.
//
// There is one local candidate a family, on a wildcard socket: the kernel picks the
// interface for each packet, and a link survives a change of the local address.
type mux struct {
	// Set once.
	socks    [families]udpSocket
	log      *slog.Logger
	counters *muxCounters
	primary  func() [families]netip.Addr // the addresses to show for the local candidates
	admits   func(netip.AddrPort) bool   // whether checks from there are heard
	owned    sync.WaitGroup              // goroutines that end with the mux
	forwards forwards                    // ports that routers are asked to forward here
	life     context.Context             // until Close
	endLife  context.CancelFunc

	mu      sync.Mutex
	conns   map[connKey]*muxConn
	routes  map[netip.AddrPort]*route
	queries map[[12]byte]chan<- stunAnswer
	relays  map[RelayServer]*relayCall
	aliases map[netip.AddrPort]*alias
	learned map[netip.AddrPort]learned   // by the server's address
	catches map[[12]byte]chan<- struct{} // requests that another mux of ours has thrown
	closed  bool

	lastAlias uint32
}

type connKey struct {
	ufrag string
	fam   family
}

// route is what the mux knows of a remote address.
type route struct {
	from  *net.UDPAddr // the address as pion wants it; set once
	heard atomic.Int64 // when a datagram for the owner last came, in ns since epoch

	// Guarded by mux.mu.
	owner     *muxConn   // who gets what is not a check
	confirmed bool       // the owner got a check from here, so the address is its peer's
	senders   []*muxConn // who sent there, and gets the answers to checks
	check     []byte     // the owner's peer's last check from here, see mux.remember

	sent, received atomic.Uint64 // datagrams
	repeating      atomic.Bool   // a check waits to be repeated
}

// epoch is what route.heard counts from; monotonic.
var epoch = time.Now()

func sinceEpoch() int64 { return int64(time.Since(epoch)) }

func newMux(socks [families]udpSocket, primary func() [families]netip.Addr, admits func(netip.AddrPort) bool, counters *muxCounters, log *slog.Logger) *mux {
	life, endLife := context.WithCancel(context.Background())
	return &mux{
		life:     life,
		endLife:  endLife,
		socks:    socks,
		log:      log,
		counters: counters,
		primary:  primary,
		admits:   admits,
		conns:    make(map[connKey]*muxConn),
		routes:   make(map[netip.AddrPort]*route),
		queries:  make(map[[12]byte]chan<- stunAnswer),
		learned:  make(map[netip.AddrPort]learned),
		relays:   make(map[RelayServer]*relayCall),
		aliases:  make(map[netip.AddrPort]*alias),
		catches:  make(map[[12]byte]chan<- struct{}),
	}
}

// start begins to read. Close ends it.
func (m *mux) start() {
	for _, s := range m.socks {
		if s != nil {
			m.owned.Go(func() { m.read(s) })
		}
	}
}

func (m *mux) read(s udpSocket) {
	buf := make([]byte, maxPacket+1) // one more, to notice what is too long
	for {
		n, from, err := s.ReadFromUDPAddrPort(buf)
		if err != nil {
			if errors.Is(err, net.ErrClosed) || errors.Is(err, io.EOF) || m.isClosed() {
				return
			}
			m.log.Debug("reading from a UDP socket", "err", err)
			time.Sleep(readRetry)
			continue
		}
		if n <= maxPacket && !isAlias(from.Addr().Unmap()) {
			m.inbound(buf[:n], netip.AddrPortFrom(from.Addr().Unmap(), from.Port()))
		}
	}
}

func (m *mux) isClosed() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.closed
}

// inbound sorts one datagram. It does not keep b.
func (m *mux) inbound(b []byte, from netip.AddrPort) {
	if !looksLikeSTUN(b) {
		if !looksLikeDTLS(b) {
			m.counters.strangers.Add(1)
			return
		}
		m.mu.Lock()
		r := m.routes[from]
		var owner *muxConn
		if r != nil {
			owner = r.owner
		}
		m.mu.Unlock()
		if owner == nil {
			m.counters.strangers.Add(1)
			return
		}
		m.deliver(owner, r, b, true)
		return
	}

	info, ok := vetSTUN(b)
	if !ok {
		m.counters.malformed.Add(1)
		return
	}
	if info.class == stunRequest {
		if cl, ok := m.claim(info.username, from); ok {
			m.deliver(cl.conn, cl.route, b, cl.owns)
			if cl.fresh && cl.conn.hooks.dialed {
				// The dialing end's pion only takes note of the first check from a new
				// address, and considers moving there at the second; which would be a
				// keepalive later.
				m.deliver(cl.conn, cl.route, b, cl.owns)
			}
			m.remember(cl, b, from)
			return
		}
		if !m.caught(info) {
			m.counters.strangers.Add(1)
		}
		return
	}
	m.answer(info, b, from)
}

// remember keeps a check from an address to which an accepted link may move, until the
// address has answered a check of ours. Pion considers moving only when a check comes,
// and then there has to be an answer already: so it is given the same check once more, and
// not before the address in use has been silent for long enough. The next one would come
// one or two keepalives later.
func (m *mux) remember(cl claim, b []byte, from netip.AddrPort) {
	if cl.conn.hooks.mayFollow == nil || !cl.owns {
		return
	}
	if _, ok := cl.conn.hooks.mayFollow(from); !ok {
		return
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if cl.route.owner == cl.conn {
		cl.route.check = bytes.Clone(b)
	}
}

// repeatCheck gives a link the check that remember has kept, one for an address at a time.
func (m *mux) repeatCheck(c *muxConn, r *route, check []byte, from netip.AddrPort) {
	wait, ok := c.hooks.mayFollow(from)
	if !ok || !r.repeating.CompareAndSwap(false, true) {
		return
	}
	time.AfterFunc(wait, func() {
		r.repeating.Store(false)
		c.queue.push(check, r.from) // dropped if the link has ended
	})
}

// caught notes a request that another mux of this machine has thrown here, and reports
// whether it is one.
func (m *mux) caught(info stunInfo) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.catches[info.transaction]
	if c == nil {
		return false
	}
	select {
	case c <- struct{}{}:
	default: // caught already
	}
	return true
}

// claim is the outcome of a check.
type claim struct {
	conn  *muxConn
	route *route
	owns  bool // the address is the conn's
	fresh bool // nothing was exchanged between the two before
}

// claim finds the link that a check from an address is for, and makes the address
// that link's if nobody else is using it.
func (m *mux) claim(username []byte, from netip.AddrPort) (claim, bool) {
	ufrag, _, found := bytes.Cut(username, []byte(":"))
	if !found || !m.admits(from) {
		return claim{}, false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.conns[connKey{string(ufrag), familyOf(from.Addr())}]
	if c == nil {
		return claim{}, false
	}
	r := m.routes[from]
	fresh := r == nil || !r.known(c)
	if fresh {
		if !c.fresh.Allow() {
			return claim{}, false
		}
		r = m.routeLocked(c, from)
	}
	inUse := r.confirmed && sinceEpoch()-r.heard.Load() < int64(routeGrace)
	if r.owner == c || !inUse {
		r.owner, r.confirmed = c, true
	}
	return claim{c, r, r.owner == c, fresh}, true
}

// answer gives the answer to a check, or to a question to a STUN server, to whoever
// asked: it goes by the address, and pion by the transaction.
func (m *mux) answer(info stunInfo, b []byte, from netip.AddrPort) {
	m.mu.Lock()
	if q := m.queries[info.transaction]; q != nil {
		m.mu.Unlock()
		if a, ok := parseSTUNAnswer(info, from); ok {
			select {
			case q <- a:
			default: // answered already
			}
		}
		return
	}
	r := m.routes[from]
	var (
		few   [4]*muxConn
		to    = few[:0]
		owner *muxConn
		check []byte
	)
	if r != nil {
		to, owner = append(to, r.senders...), r.owner
		check, r.check = r.check, nil
	}
	m.mu.Unlock()
	if len(to) == 0 {
		m.counters.strangers.Add(1)
	}
	for _, c := range to {
		m.deliver(c, r, b, c == owner)
		if c == owner && check != nil {
			m.repeatCheck(c, r, check, from)
		}
		select {
		case c.hooks.answered <- struct{}{}:
		default: // told already, or nobody wants to know
		}
	}
}

// deliver queues a datagram for a link. Only what is for the owner of the address
// keeps the address its own.
func (m *mux) deliver(c *muxConn, r *route, b []byte, owns bool) {
	now := sinceEpoch()
	if owns {
		r.heard.Store(now)
	}
	r.received.Add(1)
	c.heard.Store(now)
	c.bytesReceived.Add(uint64(len(b)))
	if !c.queue.push(b, r.from) {
		m.counters.overflow.Add(1)
	}
}

// known reports whether a conn has sent to or received from the address before.
func (r *route) known(c *muxConn) bool {
	for _, s := range r.senders {
		if s == c {
			return true
		}
	}
	return false
}

// routeLocked finds or makes the route of an address and enters c into it.
func (m *mux) routeLocked(c *muxConn, addr netip.AddrPort) *route {
	r := m.routes[addr]
	if r == nil {
		r = &route{from: net.UDPAddrFromAddrPort(addr)}
		m.routes[addr] = r
	}
	if r.owner == nil {
		r.owner = c
	}
	if !r.known(c) {
		r.senders = append(r.senders, c)
		c.routes = append(c.routes, addr)
	}
	return r
}

// GetListenAddresses gives pion one address for each family (ice.UDPMux).
func (m *mux) GetListenAddresses() []net.Addr {
	var out []net.Addr
	for f, a := range m.primary() {
		if s := m.socks[f]; s != nil && a.IsValid() {
			port := s.LocalAddr().(*net.UDPAddr).AddrPort().Port()
			out = append(out, net.UDPAddrFromAddrPort(netip.AddrPortFrom(a, port)))
		}
	}
	return out
}

// GetConn gives pion the conn for the family of addr of the link with the given user
// name fragment (ice.UDPMux).
func (m *mux) GetConn(ufrag string, addr net.Addr) (net.PacketConn, error) {
	ua, ok := addr.(*net.UDPAddr)
	if !ok {
		return nil, net.UnknownNetworkError(addr.Network())
	}
	local := ua.AddrPort()
	key := connKey{ufrag, familyOf(local.Addr().Unmap())}
	return m.open(key, ua, connHooks{})
}

// prepare makes a link's conns before pion asks for them: checks of the peer's wait
// there for pion, however early they come.
func (m *mux) prepare(ufrag string, hooks connHooks) ([]*muxConn, error) {
	var conns []*muxConn
	for _, addr := range m.GetListenAddresses() {
		ua := addr.(*net.UDPAddr)
		c, err := m.open(connKey{ufrag, familyOf(ua.AddrPort().Addr().Unmap())}, ua, hooks)
		if err != nil {
			return nil, err
		}
		conns = append(conns, c)
	}
	return conns, nil
}

// open finds or makes a conn.
func (m *mux) open(key connKey, local *net.UDPAddr, hooks connHooks) (*muxConn, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.closed {
		return nil, net.ErrClosed
	}
	if c := m.conns[key]; c != nil {
		return c, nil
	}
	c := &muxConn{
		mux:   m,
		key:   key,
		local: local,
		fresh: rate.NewLimiter(rate.Every(routeRefill), routeBurst),
		blind: rate.NewLimiter(blindRate, blindBurst),
		hooks: hooks,
	}
	c.queue.init()
	m.conns[key] = c
	return c, nil
}

// RemoveConnByUfrag closes a link's conns (ice.UDPMux).
func (m *mux) RemoveConnByUfrag(ufrag string) {
	for f := range families {
		m.mu.Lock()
		c := m.conns[connKey{ufrag, f}]
		m.mu.Unlock()
		if c != nil {
			_ = c.Close() // never fails
		}
	}
}

// silence is how long nothing was heard from an address, of which something was
// heard before.
func (m *mux) silence(addr netip.AddrPort) (time.Duration, bool) {
	m.mu.Lock()
	r := m.routes[addr]
	m.mu.Unlock()
	if r == nil {
		return 0, false
	}
	heard := r.heard.Load()
	return time.Duration(sinceEpoch() - heard), heard != 0
}

// traffic counts the datagrams to and from an address.
func (m *mux) traffic(addr netip.AddrPort) (sent, received uint64) {
	m.mu.Lock()
	r := m.routes[addr]
	m.mu.Unlock()
	if r == nil {
		return 0, 0
	}
	return r.sent.Load(), r.received.Load()
}

// Close closes the sockets and every conn, and waits for what the mux started.
func (m *mux) Close() error {
	m.endLife()
	m.forwards.release()
	m.mu.Lock()
	m.closed = true
	var conns []*muxConn
	for _, c := range m.conns {
		conns = append(conns, c)
	}
	m.mu.Unlock()
	for _, c := range conns {
		_ = c.Close() // never fails
	}
	var errs []error
	for _, s := range m.socks {
		if s != nil {
			if err := s.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
				errs = append(errs, err)
			}
		}
	}
	m.owned.Wait()
	return errors.Join(errs...)
}
