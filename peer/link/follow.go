package link

import (
	"net/netip"
	"time"

	"github.com/pion/ice/v2"
)

// shouldFollow decides, on a check that the peer has signed, whether the link moves to
// the pair of addresses on which it came. That is how a link survives that a laptop
// changes its network or a NAT its mapping: in about a second, without signaling.
//
// It moves when the address in use has been silent for one and a half keepalives, which
// it is not while the peer is still there. The accepting end besides insists that the
// new address has answered a check of ours, so that a guest cannot have a host flood
// somebody else's address; in pion the dialing end has no such answer to go by.
//
// Pion calls it within its own loop.
func (l *Link) shouldFollow(remote ice.Candidate, pair *ice.CandidatePair) bool {
	current := l.path.Load()
	if current == nil || pair == nil || current.TCP() {
		return false // a TCP connection cannot move
	}
	addr, err := netip.ParseAddr(remote.Address())
	if err != nil {
		return false
	}
	next := netip.AddrPortFrom(addr.Unmap(), uint16(remote.Port()))
	if next == current.key {
		return false
	}
	silence, heard := l.mux.silence(current.key)
	if heard && silence < l.transport.cfg.Timeouts.Keepalive*3/2 {
		return false
	}
	if !l.dialed && pair.ResponsesReceived() == 0 {
		return false
	}
	l.log.Debug("following the peer", "from", current.Remote, "to", next, "silence", silence)
	return true
}

// followAfter is how long the address in use has to be silent before the link moves.
func (l *Link) followAfter() time.Duration { return l.transport.cfg.Timeouts.Keepalive * 3 / 2 }

// mayFollow reports whether the link could move to an address from which its peer checks,
// and how long it would have to wait until it does.
func (l *Link) mayFollow(from netip.AddrPort) (wait time.Duration, ok bool) {
	current := l.path.Load()
	if current == nil || current.TCP() || from == current.Remote {
		return 0, false
	}
	if silence, heard := l.mux.silence(current.Remote); heard {
		wait = max(l.followAfter()-silence, 0)
	}
	return wait, true
}
