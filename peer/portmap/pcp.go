package portmap

import (
	"context"
	"errors"
	"net/netip"
	"sync"
	"time"
)

// clock follows the epoch time of a server, and counts how often it lost its mappings.
type clock struct {
	mu    sync.Mutex
	epoch epoch  // guarded by mu
	lives uint64 // guarded by mu
}

// observe takes the epoch time of a response and gives the life that the server is in.
func (c *clock) observe(value uint32) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.epoch.observe(value, time.Now()) {
		c.lives++
	}
	return c.lives
}

// pcpServer is a gateway that speaks PCP.
type pcpServer struct {
	route route
	port  uint16
	clock clock
}

// errOtherVersion reports a server that answers in another protocol on the same port.
var errOtherVersion = errors.New("the router speaks another version")

// openPCP finds out whether the gateway speaks PCP.
func openPCP(ctx context.Context, r route, port uint16) (*pcpServer, error) {
	s := &pcpServer{route: r, port: port}
	if _, err := s.announce(ctx); err != nil {
		return nil, err
	}
	return s, nil
}

func (s *pcpServer) protocol() Protocol { return PCP }

func (s *pcpServer) detail() string { return "" }

// announce asks for the epoch time and gives the life that the server is in.
func (s *pcpServer) announce(ctx context.Context) (life uint64, err error) {
	question := appendPCPRequest(nil, pcpAnnounce, 0, s.route.local)
	err = s.route.ask(ctx, s.port, question, func(b []byte) (bool, error) {
		h, _, err := s.parse(b)
		if err != nil || h.opcode != pcpAnnounce {
			return false, err
		}
		// A refusal to announce is an answer in PCP, too.
		life = s.clock.observe(h.epoch)
		return true, nil
	})
	return life, err
}

// parse is parsePCPResponse, and knows the answers of servers of another version.
func (s *pcpServer) parse(b []byte) (pcpHeader, *pcpMapping, error) {
	if len(b) >= natpmpErrorSize && b[0] < versionPCP {
		return pcpHeader{}, nil, errOtherVersion
	}
	h, m, err := parsePCPResponse(b)
	if err == nil && h.result == pcpUnsupportedVersion {
		err = errOtherVersion
	}
	return h, m, err
}

// add asks for a mapping, or for more time for it.
func (s *pcpServer) add(ctx context.Context, want request) (grant, error) {
	return s.request(ctx, want, lifetime)
}

// remove gives a mapping back.
func (s *pcpServer) remove(ctx context.Context, want request, _ grant) error {
	_, err := s.request(ctx, want, 0)
	return err
}

func (s *pcpServer) request(ctx context.Context, want request, life time.Duration) (grant, error) {
	m := pcpMapping{nonce: want.nonce, protocol: want.protocol(), internal: want.port, external: want.suggested}
	if !m.external.IsValid() {
		m.external = netip.AddrPortFrom(s.route.local.Unmap(), want.port)
		if s.route.local.Is4() {
			m.external = netip.AddrPortFrom(netip.IPv4Unspecified(), want.port)
		}
	}
	if life == 0 { // RFC 6887 section 15.1
		m.external = netip.AddrPortFrom(netip.IPv6Unspecified(), 0)
		if s.route.local.Is4() {
			m.external = netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
		}
	}
	var g grant
	question := m.append(appendPCPRequest(nil, pcpMap, life, s.route.local))
	err := s.route.ask(ctx, s.port, question, func(b []byte) (bool, error) {
		h, got, err := s.parse(b)
		if err != nil {
			return false, err
		}
		if got == nil || got.nonce != m.nonce || got.protocol != m.protocol || got.internal != m.internal {
			return false, nil
		}
		g = grant{external: got.external, lifetime: h.lifetime, life: s.clock.observe(h.epoch)}
		if h.result != 0 {
			return true, &refusedError{h.result, h.lifetime}
		}
		return true, nil
	})
	return g, err
}

// check asks whether the server has lost its mappings since the grant; its address
// cannot change without that (RFC 6887 section 8.5).
func (s *pcpServer) check(ctx context.Context, _ request, g grant) (held bool, err error) {
	life, err := s.announce(ctx)
	return err != nil || life == g.life, err
}
