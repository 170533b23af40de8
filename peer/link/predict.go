package link

import (
	"context"
	"net/netip"
	"sync"
)

// maxPredicted bounds the outside ports that are guessed. The peer sends a check to each.
const maxPredicted = 12

// predict offers the outside ports from which the checks of this link may come, where the
// NAT takes another port for each destination, but in steps that are alike. The peer's NAT
// or firewall lets those checks in if the peer has written there.
//
// The mapping towards the peer was made, or will be, shortly before or after that of a
// socket that asks now; how many of others' lie between nobody knows.
func (s *setup) predict(ctx context.Context) {
	t := s.link.transport
	r, err := t.NAT(ctx)
	if err != nil || !r.V4.Mapping.Symmetric() || r.V4.Delta == 0 {
		return
	}
	m, _, err := t.openMux(0)
	if err != nil {
		return
	}
	defer m.Close()
	var (
		mu  sync.Mutex
		now netip.AddrPort
	)
	ctx, enough := context.WithCancel(ctx)
	defer enough()
	m.mapAll(ctx, t.net.resolve, t.stun, func(a Mapping) {
		mu.Lock()
		defer mu.Unlock()
		if a.Err == nil && a.Mapped.Addr().Is4() {
			now = a.Mapped // the last one to be made is the first to be told, or nearly so
			enough()
		}
	})
	mu.Lock()
	defer mu.Unlock()
	if !now.IsValid() {
		return
	}
	for rank, a := range predictions(now, r.V4.Delta) {
		s.found(newCandidate(CandidateSrflx, CandidateUDP, a, 300+rank))
	}
}

// predictions are the ports around one, in steps of delta, those that are likeliest first.
func predictions(now netip.AddrPort, delta int) []netip.AddrPort {
	var out []netip.AddrPort
	for step := 1; len(out) < maxPredicted && step <= maxPredicted; step++ {
		for _, k := range []int{step, -step} {
			// NATs stay clear of the ports below.
			if port := int(now.Port()) + k*delta; port >= 1024 && port <= 65535 && len(out) < maxPredicted {
				out = append(out, netip.AddrPortFrom(now.Addr(), uint16(port)))
			}
		}
	}
	return out
}
