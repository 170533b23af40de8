package link

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pion/transport/v2"
)

// Signaler carries the messages of one link being set up, in order and without loss,
// to the other end and back. The tunnel below it must be authenticated and
// confidential: the fingerprints in it are what the link's authenticity rests on.
//
// Send and Recv are each called by one goroutine at a time. Both must return soon
// after ctx is done, and must not tear a message apart when they do. Once Dial or
// Accept has returned, messages of that link may still arrive; they are to be dropped.
type Signaler interface {
	Send(ctx context.Context, m Message) error
	Recv(ctx context.Context) (Message, error)
}

// Timeouts say when a silent path counts as what. A zero value means its default.
type Timeouts struct {
	// Keepalive is how often the dialing end probes a silent path; the accepting end
	// answers, and probes by itself only after twice that. So an idle link costs one
	// datagram each way in that time. After one and a half times Keepalive without a word
	// a link follows its peer to another address. Default 1.5 s.
	Keepalive time.Duration
	// Disconnected is the silence after which the path is in doubt. Default 5 s.
	Disconnected time.Duration
	// Lost is how much more silence ends the link with [ErrPathLost]. Default 25 s.
	Lost time.Duration
	// Path is how long to look for a path once the peer's description is there, and how
	// long to wait for that. Default 12 s.
	Path time.Duration
	// Handshake is how long DTLS and SCTP may take on a path that was found. Default
	// 20 s: under 29 % loss each way the slowest tenth took 18.
	Handshake time.Duration
}

func (t Timeouts) withDefaults() Timeouts {
	for _, d := range []struct {
		value *time.Duration
		def   time.Duration
	}{
		{&t.Keepalive, 1500 * time.Millisecond},
		{&t.Disconnected, 5 * time.Second},
		{&t.Lost, 25 * time.Second},
		{&t.Path, 12 * time.Second},
		{&t.Handshake, 20 * time.Second},
	} {
		if *d.value <= 0 {
			*d.value = d.def
		}
	}
	return t
}

// Config is how a [Transport] works. The zero value is usable.
type Config struct {
	// Port is the UDP port on which links are accepted; 0 picks one. Links that are
	// dialed have ports of their own.
	Port int
	// TCPPort is the TCP port on which links are accepted, if TCP is set; 0 is the number
	// of the UDP port.
	TCPPort int
	// STUN are the servers, as host:port, that are asked for our address as seen from
	// outside.
	STUN []string
	// TCP accepts links over TCP too, and tries TCP addresses when dialing.
	TCP bool
	// Public are addresses at which a router or a cloud forwards to this machine, for UDP
	// and, with TCP, for TCP too; they are offered before all others that are not the
	// machine's own. Port 0 stands for the port on which links are accepted. See
	// [CheckPublic].
	Public []netip.AddrPort
	// Relays are the TURN servers to ask, with PathsAny, when no direct path has been found
	// soon; at most four. RelayCredentials are for all of them.
	Relays           []RelayServer
	RelayCredentials RelayCredentials
	// Paths says which paths links may take.
	Paths Paths
	// HidePrivate keeps addresses of private networks from peers. A peer in the same one
	// may see them all the same, on the packets that come from there.
	HidePrivate bool
	// PortMapper, if not nil, is asked to have routers forward Port, and the ports of
	// links that are dialed. Nothing waits for it.
	PortMapper PortMapper
	// Loopback says when loopback addresses take part.
	Loopback Loopback
	// MaxPending bounds the links being accepted at one time; beyond it Accept gives
	// [ErrBusy]. Each costs about 100 KB and 10 goroutines. Default 64.
	MaxPending int
	Timeouts   Timeouts
	// Logger gets what goes on, at debug level and below, pion's own messages
	// included. Default: nothing.
	Logger *slog.Logger
	// Net replaces the machine's network, in tests.
	Net transport.Net
}

// Transport sets up links. It owns the sockets on which links are accepted, one for
// each address family, shared by all. Its methods may be called concurrently.
type Transport struct {
	// Set once.
	cfg      Config
	log      *slog.Logger
	net      *network
	stun     []string
	counters muxCounters
	numbered atomic.Int32  // links, for the log
	relayTLS *tls.Config   // for TURN servers, in tests
	pending  chan struct{} // has a slot for each link being accepted

	portMapping atomic.Uint32 // a PortMapping

	running sync.WaitGroup  // links, from their making until they are torn down; discoveries
	life    context.Context // until Close
	endLife context.CancelFunc

	mu       sync.Mutex
	closed   bool
	listener *listener
	prepared *prepared // for the next Dial; nil if there is none
	links    map[*Link]struct{}

	nat natState
}

// listener is what accepted links share.
type listener struct {
	mux    *mux
	tcp    *tcpMux // nil without TCP
	window int     // SCTP's receive window for its links, in bytes
}

// NewTransport checks a configuration. It opens no socket and starts nothing; the
// first [Transport.Listen], Accept or Dial does.
func NewTransport(cfg Config) (*Transport, error) {
	if cfg.Port < 0 || cfg.Port > 65535 {
		return nil, fmt.Errorf("port %d is not between 0 and 65535", cfg.Port)
	}
	if cfg.TCPPort < 0 || cfg.TCPPort > 65535 {
		return nil, fmt.Errorf("TCP port %d is not between 0 and 65535", cfg.TCPPort)
	}
	for _, a := range cfg.Public {
		if err := CheckPublic(a); err != nil {
			return nil, err
		}
	}
	if len(cfg.Relays) > maxRelays {
		return nil, fmt.Errorf("%d TURN servers, at most %d", len(cfg.Relays), maxRelays)
	}
	if cfg.MaxPending <= 0 {
		cfg.MaxPending = 64
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	cfg.Timeouts = cfg.Timeouts.withDefaults()
	t := &Transport{
		cfg:     cfg,
		log:     cfg.Logger,
		pending: make(chan struct{}, cfg.MaxPending),
		links:   make(map[*Link]struct{}),
	}
	for _, s := range cfg.STUN {
		hostport, err := parseSTUNServer(s)
		if err != nil {
			return nil, err
		}
		if cfg.Paths != PathsLAN { // an address as seen from outside is of no use there
			t.stun = append(t.stun, hostport)
		}
	}
	var err error
	t.net, err = newNetwork(cfg.Net, cfg.Loopback)
	t.life, t.endLife = context.WithCancel(context.Background())
	return t, err
}

// Listen opens the sockets for links to be accepted, if that has not been done, and
// gives the addresses at which this machine may be reached there, as far as it knows
// them itself. An error names the port that could not be had.
func (t *Transport) Listen() ([]netip.AddrPort, error) {
	l, err := t.listen()
	if err != nil {
		return nil, err
	}
	v, err := t.net.look()
	if err != nil {
		return nil, err
	}
	var out []netip.AddrPort
	for _, a := range v.addrs {
		if port := l.mux.port(familyOf(a)); port != 0 {
			out = append(out, netip.AddrPortFrom(a, port))
		}
	}
	return out, nil
}

func (t *Transport) listen() (*listener, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, net.ErrClosed
	}
	if t.listener != nil {
		return t.listener, nil
	}
	m, _, err := t.openLinkMux(t.cfg.Port)
	if err != nil {
		return nil, err
	}
	l := &listener{mux: m, window: smallWindow}
	if t.cfg.TCP {
		if l.tcp, err = t.net.listenTCP(t.cfg.TCPPort, m, t.cfg.Port == 0, t.log, &t.counters); err != nil {
			return nil, errors.Join(err, m.Close())
		}
		for f := range families {
			t.forward(&m.forwards, CandidateTCP, f, l.tcp.port(f))
		}
	}
	t.listener = l
	return l, nil
}

// openMux opens sockets and reads them. It gives the receive buffer that was granted.
func (t *Transport) openMux(port int) (*mux, int, error) {
	return t.openMuxFor(port, t.cfg.Paths.admits)
}

// openMuxFor does so for peers at addresses for which admits holds.
func (t *Transport) openMuxFor(port int, admits func(netip.AddrPort) bool) (*mux, int, error) {
	socks, granted, err := t.net.listenUDP(port)
	if err != nil {
		return nil, 0, fmt.Errorf("opening UDP port %d: %w", port, err)
	}
	m := newMux(socks, t.net.primary, admits, &t.counters, t.log)
	m.start()
	return m, granted, nil
}

// openLinkMux is openMux for links, so that their port is to be reached from outside.
func (t *Transport) openLinkMux(port int) (*mux, int, error) {
	m, granted, err := t.openMux(port)
	if err != nil {
		return nil, 0, err
	}
	for f := range families {
		t.forward(&m.forwards, CandidateUDP, f, m.port(f))
	}
	return m, granted, nil
}

// prepared is what a Dial to come will use.
type prepared struct {
	mux     *mux
	granted int
}

// Prepare opens the sockets of the next Dial and asks the STUN servers already, which
// saves that Dial a round trip to them, and begins what [Transport.NAT] does. It returns
// at once, and nothing is lost by calling it in vain. A second call before the Dial does
// nothing.
func (t *Transport) Prepare() error {
	if _, err := t.startNAT(); err != nil {
		return err
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	switch {
	case t.closed:
		return net.ErrClosed
	case t.prepared != nil:
		return nil
	}
	m, granted, err := t.openLinkMux(0)
	if err != nil {
		return err
	}
	t.prepared = &prepared{m, granted}
	m.owned.Go(func() { m.mapAll(m.life, t.net.resolve, t.stun, func(Mapping) {}) })
	return nil
}

// takeMux gives the sockets that were prepared, or new ones.
func (t *Transport) takeMux() (*mux, int, error) {
	t.mu.Lock()
	p := t.prepared
	t.prepared = nil
	t.mu.Unlock()
	if p != nil {
		return p.mux, p.granted, nil
	}
	return t.openLinkMux(0)
}

// Mappings asks every STUN server for the address of the sockets on which links are
// accepted, as seen from outside. Different answers of different servers, or different
// ports of one, mean a NAT whose mappings depend on the destination. It takes until the
// last server has answered, at most about 8 s, or until ctx is done. Links accepted in
// the 25 s that follow are set up sooner, by a round trip to the servers.
func (t *Transport) Mappings(ctx context.Context) ([]Mapping, error) {
	l, err := t.listen()
	if err != nil {
		return nil, err
	}
	var out []Mapping
	l.mux.mapAll(ctx, t.net.resolve, t.stun, func(m Mapping) { out = append(out, m) })
	return out, nil
}

// TransportStats counts what never reached a link, since the start.
type TransportStats struct {
	Malformed uint64 // datagrams that looked like STUN and were not fit to be decoded
	Strangers uint64 // datagrams that belong to no link
	Overflow  uint64 // datagrams dropped because a link did not keep up
}

// Stats gives the counters.
func (t *Transport) Stats() TransportStats {
	return TransportStats{
		Malformed: t.counters.malformed.Load(),
		Strangers: t.counters.strangers.Load(),
		Overflow:  t.counters.overflow.Load(),
	}
}

// add registers a link so that Close finds it.
func (t *Transport) add(l *Link) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return net.ErrClosed
	}
	t.links[l] = struct{}{}
	t.running.Add(1)
	return nil
}

// remove undoes add once a link is torn down.
func (t *Transport) remove(l *Link) {
	t.mu.Lock()
	delete(t.links, l)
	t.mu.Unlock()
	t.running.Done()
}

// Close closes every link, those being set up included, and the sockets, and waits
// until all that was started has ended. Links close at the same time, so it takes no
// longer than the slowest, see [Link.Close]. Later calls do nothing.
func (t *Transport) Close() error {
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		t.running.Wait()
		return nil
	}
	t.closed = true
	t.endLife()
	l, p := t.listener, t.prepared
	for link := range t.links {
		link.fail(net.ErrClosed)
	}
	t.mu.Unlock()

	t.running.Wait()
	var errs []error
	if p != nil {
		errs = append(errs, p.mux.Close())
	}
	if l != nil {
		errs = append(errs, l.mux.Close())
		if l.tcp != nil {
			errs = append(errs, l.tcp.Close())
		}
	}
	return errors.Join(errs...)
}

// port gives the port of a family's socket, or 0.
func (m *mux) port(f family) uint16 {
	if m.socks[f] == nil {
		return 0
	}
	return m.socks[f].LocalAddr().(*net.UDPAddr).AddrPort().Port()
}
