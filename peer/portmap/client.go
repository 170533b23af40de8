package portmap

import (
	"context"
	"crypto/rand"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/pairterm/pairterm/peer/netchange"
)

// Config is how a [Client] works. The zero value is usable.
type Config struct {
	// Observe is told of each change of a mapping, one at a time, and must return soon.
	// It may be nil.
	Observe func(Mapping)
	// Logger gets what goes on, at debug level. Default: nothing.
	Logger *slog.Logger

	net network // in tests
}

// network is what a client knows of the machine's network.
type network struct {
	findRoute func(six bool) (route, error)
	// changes tells when to find it again; an own findRoute is asked every interval.
	changes           func(ctx context.Context, interval time.Duration) <-chan struct{}
	mapPort, ssdpPort uint16
	// openersOf gives how the servers of a gateway are found.
	openersOf func(r route) []opener
}

func (n network) withDefaults() network {
	n.changes = netchange.Every
	if n.findRoute == nil {
		n.findRoute, n.changes = findRoute, netchange.Notify
	}
	if n.mapPort == 0 {
		n.mapPort = mapPort
	}
	if n.ssdpPort == 0 {
		n.ssdpPort = ssdpPort
	}
	if n.openersOf == nil {
		n.openersOf = n.openers
	}
	return n
}

// Mapping is what became of one port.
type Mapping struct {
	// Network is udp4, udp6, tcp4 or tcp6.
	Network string
	// Port is ours.
	Port uint16
	// External is where the router takes what it forwards to Port; invalid while there
	// is no mapping.
	External netip.AddrPort
	// Protocol is by which it was asked for; 0 while there is no mapping.
	Protocol Protocol
	// Err says why there is none.
	Err error
}

// DoubleNAT reports whether another NAT is in front of the router; see [DoubleNAT].
func (m Mapping) DoubleNAT() bool { return DoubleNAT(m.External.Addr()) }

// String gives the mapping for people.
func (m Mapping) String() string {
	switch {
	case !m.External.IsValid() && m.Err != nil:
		return m.Network + ": none: " + m.Err.Error()
	case !m.External.IsValid():
		return m.Network + ": none"
	case m.DoubleNAT():
		return m.Network + " " + m.External.String() + " by " + m.Protocol.String() +
			", of little use: the router itself is behind another NAT"
	}
	return m.Network + " " + m.External.String() + " by " + m.Protocol.String()
}

// Client keeps ports mapped. Its methods may be called concurrently.
type Client struct {
	// Set once.
	cfg   Config
	net   network
	log   *slog.Logger
	sites [2]*site // of IPv4 and IPv6

	observing sync.Mutex // serializes Observe

	mu     sync.Mutex
	wanted []*mapping    // guarded by mu, in the order of the calls of Map
	doubt  chan struct{} // guarded by mu; closed and replaced by Check
}

// mapping is one port that is wanted.
type mapping struct {
	client  *Client
	request request // but suggested
	changed func(external []netip.AddrPort, answered bool)

	mu       sync.Mutex
	told     bool    // guarded by mu; changed was called
	answered bool    // guarded by mu; as last told
	released bool    // guarded by mu; changed may not be called any more
	state    Mapping // guarded by mu
}

// New returns a client. It starts nothing; [Client.Run] does.
func New(cfg Config) *Client {
	c := &Client{cfg: cfg, net: cfg.net.withDefaults(), log: cfg.Logger, doubt: make(chan struct{})}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	for i := range c.sites {
		c.sites[i] = &site{client: c, six: i == 1, wake: make(chan struct{}, 1)}
	}
	return c
}

// Run maps the ports that are wanted until ctx is done. It then takes the mappings away,
// for which the router has a second, and returns when all that it started is gone.
func (c *Client) Run(ctx context.Context) error {
	var g errgroup.Group
	for _, s := range c.sites {
		g.Go(func() error {
			s.run(ctx)
			return nil
		})
	}
	return g.Wait()
}

// Map asks for a port to be mapped until release is called, or Run ends. The network is
// udp4, udp6, tcp4 or tcp6; of an IPv6 one the firewall is asked to let packets in.
// Changed is told the external addresses whenever they change, and once, with none,
// when there are none to be expected soon; and whether a router has answered at all. It is
// called from another goroutine, must return soon and not call release, and is not called
// any more once release has returned. Map never blocks.
func (c *Client) Map(network string, port uint16, changed func(external []netip.AddrPort, answered bool)) (release func()) {
	m := &mapping{client: c, changed: changed, request: request{network: network, port: port}}
	_, _ = rand.Read(m.request.nonce[:]) // never fails
	m.state = Mapping{Network: network, Port: port}
	c.mu.Lock()
	c.wanted = append(c.wanted, m)
	c.mu.Unlock()
	c.wake(m)
	return sync.OnceFunc(func() {
		m.mu.Lock()
		m.released = true
		m.mu.Unlock()
		c.mu.Lock()
		c.wanted = slices.DeleteFunc(c.wanted, func(o *mapping) bool { return o == m })
		c.mu.Unlock()
		c.wake(m)
	})
}

// Check has the client make sure that the mappings and the way out of this machine are as
// they were. Call it when there is reason for doubt: a peer has fallen silent, addresses
// have changed. By itself it would notice within half a minute. Check never blocks.
func (c *Client) Check() {
	c.mu.Lock()
	defer c.mu.Unlock()
	close(c.doubt)
	c.doubt = make(chan struct{})
}

// doubted is closed at the next call of Check.
func (c *Client) doubted() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.doubt
}

// wake has the site of a mapping look at what is wanted.
func (c *Client) wake(m *mapping) {
	s := c.sites[0]
	if m.six() {
		s = c.sites[1]
	}
	select {
	case s.wake <- struct{}{}:
	default: // woken already
	}
}

// Mappings gives the state of the ports that are wanted.
func (c *Client) Mappings() []Mapping {
	c.mu.Lock()
	wanted := slices.Clone(c.wanted)
	c.mu.Unlock()
	var out []Mapping
	for _, m := range wanted {
		m.mu.Lock()
		out = append(out, m.state)
		m.mu.Unlock()
	}
	return out
}

func (m *mapping) six() bool { return strings.HasSuffix(m.request.network, "6") }

// set notes a new state and passes it on.
func (m *mapping) set(p Protocol, external netip.AddrPort, err error) {
	m.mu.Lock()
	before := m.state
	m.state.Protocol, m.state.External, m.state.Err = p, external, err
	state := m.state
	moved := before.External != external
	answered := external.IsValid() || isRefusal(err)
	if !m.released && (moved || !m.told || answered != m.answered) {
		m.told, m.answered = true, answered
		var addrs []netip.AddrPort
		if external.IsValid() {
			addrs = append(addrs, external)
		}
		m.changed(addrs, answered)
	}
	m.mu.Unlock()
	if before.String() == state.String() {
		return
	}
	m.client.log.Debug("port mapping", "port", m.request, "state", state)
	if observe := m.client.cfg.Observe; observe != nil {
		m.client.observing.Lock()
		defer m.client.observing.Unlock()
		observe(state)
	}
}
