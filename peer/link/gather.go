package link

import (
	"context"
	"net/netip"
	"sync"
)

// gather finds our own addresses and queues them to be sent: those of the machine at
// once, those that STUN servers and port-mapping routers tell as the answers come.
func (s *setup) gather(ctx context.Context) {
	t := s.link.transport
	v, err := t.net.look()
	if err != nil {
		s.link.log.Debug("no own addresses", "err", err)
	}
	for rank, a := range v.addrs {
		if t.cfg.HidePrivate && IsPrivate(a) {
			continue
		}
		if port := s.link.mux.port(familyOf(a)); port != 0 {
			s.found(newCandidate(CandidateHost, CandidateUDP, netip.AddrPortFrom(a, port), rank))
		}
		if s.link.tcp != nil {
			if port := s.link.tcp.port(familyOf(a)); port != 0 {
				s.found(newCandidate(CandidateHost, CandidateTCP, netip.AddrPortFrom(a, port), rank))
			}
		}
	}
	if !s.link.dialed { // these lead to the port on which links are accepted
		for rank, a := range t.cfg.Public {
			s.found(newCandidate(CandidateSrflx, CandidateUDP, orPort(a, s.link.mux.port(familyOf(a.Addr()))), rank))
			if s.link.tcp != nil {
				s.found(newCandidate(CandidateSrflx, CandidateTCP, orPort(a, s.link.tcp.port(familyOf(a.Addr()))), rank))
			}
		}
	}
	var mapping sync.WaitGroup
	mapping.Go(func() { s.forwarded(ctx) })
	mapping.Go(func() { s.predict(ctx) })
	rank := 200 // after those and the mappings, which are there for this very purpose
	for _, m := range s.link.mux.recent() {
		s.outside(m.Mapped, rank)
		rank++
	}
	relays := make(chan struct{})
	s.running.Go(func() {
		defer close(relays)
		s.relay(ctx)
	})
	s.link.mux.mapAll(ctx, t.net.resolve, t.stun, func(m Mapping) {
		s.mu.Lock()
		s.mappings = append(s.mappings, m)
		s.mu.Unlock()
		if m.Err != nil {
			s.link.log.Debug("STUN", "server", m.Server, "err", m.Err)
			return
		}
		s.link.log.Debug("STUN", "server", m.Server, "mapped", m.Mapped, "rtt", m.RTT)
		s.outside(m.Mapped, rank)
		rank++
	})
	mapping.Wait()
	<-relays
	s.out <- EndOfCandidates{} // there is room
}

// outside offers an address at which a STUN server sees this machine, and ports there that
// were chosen for links to be accepted on: the router may forward these, whatever ports its
// NAT gives by itself. Somebody who forwards a port need not know the address.
func (s *setup) outside(a netip.AddrPort, rank int) {
	s.found(newCandidate(CandidateSrflx, CandidateUDP, a, rank))
	cfg := &s.link.transport.cfg
	if s.link.dialed || !a.Addr().Is4() {
		return
	}
	if cfg.Port != 0 {
		s.found(newCandidate(CandidateSrflx, CandidateUDP, netip.AddrPortFrom(a.Addr(), uint16(cfg.Port)), rank))
	}
	if s.link.tcp != nil && (cfg.Port != 0 || cfg.TCPPort != 0) {
		s.found(newCandidate(CandidateSrflx, CandidateTCP, netip.AddrPortFrom(a.Addr(), s.link.tcp.port(ipv4)), rank))
	}
}

// report tells the peer what the NATs in front of this machine do, for the case that there
// is no path. It holds up nothing.
func (s *setup) report(ctx context.Context) {
	r, err := s.link.transport.NAT(ctx)
	if err != nil {
		return // the link is up, or the search is over
	}
	s.tell(r)
	// A router that maps no ports is known by its silence, which takes longer.
	for {
		_, all, changed := s.link.mux.forwards.known()
		if all {
			break
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return
		}
	}
	if now, _ := s.link.transport.LastNAT(); now.PortMapping != r.PortMapping {
		s.tell(now)
	}
}

func (s *setup) tell(r NATReport) {
	s.mu.Lock()
	s.localNAT = &r
	s.mu.Unlock()
	s.out <- r // there is room
}

// orPort gives a with the port if it has none.
func orPort(a netip.AddrPort, port uint16) netip.AddrPort {
	if a.Port() != 0 {
		port = a.Port()
	}
	return netip.AddrPortFrom(a.Addr(), port)
}

// found queues one of our addresses, unless it is there already or there are too many.
func (s *setup) found(c Candidate) {
	if c.validate() != nil || s.link.transport.cfg.Paths.refusal(c) != "" {
		return // a mapping to nowhere, or what may not be used here
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.local) == maxCandidates {
		return
	}
	for _, have := range s.local {
		if have.Addr == c.Addr && have.Transport == c.Transport {
			return
		}
	}
	s.local = append(s.local, c)
	s.out <- c // there is room
	s.link.log.Debug("own candidate", "candidate", c)
}
