package link

import (
	"context"
	"net/netip"
	"sync"
)

// PortMapper has routers forward ports to this machine. The Client of package portmap is
// one.
type PortMapper interface {
	// Map asks for a port, of udp4, udp6, tcp4 or tcp6, to be mapped until release is
	// called. Changed is told the external addresses whenever they change, and once, with
	// none, when there are none to be expected soon; and whether a router has answered.
	// Map never blocks; changed is called from another goroutine.
	Map(network string, port uint16, changed func(external []netip.AddrPort, answered bool)) (release func())
}

// forwards are the ports of a mux, and of the TCP mux beside it, that a router is asked to
// forward.
type forwards struct {
	mu      sync.Mutex
	ports   []*forward    // guarded by mu
	changed chan struct{} // guarded by mu; closed at the next change
}

// forward is one port.
type forward struct {
	transport CandidateTransport
	release   func()
	told      bool             // guarded by forwards.mu; what is known is known
	addrs     []netip.AddrPort // guarded by forwards.mu
}

// forward has a port of this machine mapped, until the forwards are released.
func (t *Transport) forward(fw *forwards, transport CandidateTransport, f family, port uint16) {
	if t.cfg.PortMapper == nil || t.cfg.Loopback == LoopbackOnly || t.cfg.Paths == PathsLAN || port == 0 {
		return
	}
	network := [...]string{CandidateUDP: "udp", CandidateTCP: "tcp"}[transport] + [...]string{ipv4: "4", ipv6: "6"}[f]
	p := &forward{transport: transport}
	fw.mu.Lock()
	defer fw.mu.Unlock()
	fw.ports = append(fw.ports, p)
	p.release = t.cfg.PortMapper.Map(network, port, func(external []netip.AddrPort, answered bool) {
		if network == "udp4" {
			t.SetPortMapping(portMappingOf(len(external) > 0, answered))
		}
		fw.mu.Lock()
		defer fw.mu.Unlock()
		p.told, p.addrs = true, external
		if fw.changed != nil {
			close(fw.changed)
			fw.changed = nil
		}
	})
}

func portMappingOf(made, answered bool) PortMapping {
	switch {
	case made:
		return PortMappingMade
	case answered:
		return PortMappingRefused
	}
	return PortMappingNone
}

// rankOfForwards is behind Config.Public and before what STUN servers tell.
const rankOfForwards = 100

// known gives the addresses that are known, whether that is all there will be for now, and
// what is closed when there are others.
func (fw *forwards) known() (candidates []Candidate, all bool, changed <-chan struct{}) {
	fw.mu.Lock()
	defer fw.mu.Unlock()
	all = true
	for _, p := range fw.ports {
		all = all && p.told
		for _, a := range p.addrs {
			if (addrPolicy{}).refusal(a.Addr()) == "" { // peers would refuse it
				candidates = append(candidates, newCandidate(CandidateSrflx, p.transport, a, rankOfForwards+len(candidates)))
			}
		}
	}
	if fw.changed == nil {
		fw.changed = make(chan struct{})
	}
	return candidates, all, fw.changed
}

// release gives the ports back.
func (fw *forwards) release() {
	fw.mu.Lock()
	ports := fw.ports
	fw.ports = nil
	fw.mu.Unlock()
	for _, p := range ports {
		p.release()
	}
}

// forwarded finds the addresses at which routers forward to this end, as they become
// known.
func (s *setup) forwarded(ctx context.Context) {
	for {
		candidates, all, changed := s.link.mux.forwards.known()
		for _, c := range candidates {
			if !s.link.transport.cfg.HidePrivate || !IsPrivate(c.Addr.Addr()) {
				s.found(c)
			}
		}
		if all {
			return
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
}
