package link

import (
	"context"
	"net/netip"
	"slices"
	"time"
)

const (
	// besidePatience is how long DialBeside waits for the best path of those that work.
	besidePatience = 700 * time.Millisecond
	// besidePath is how long it looks for one at all.
	besidePath = 2500 * time.Millisecond

	// watchInterval is how often the list of interfaces is read where the system does not
	// tell of changes.
	watchInterval = 2 * time.Second
)

// DialBeside sets up another link to a peer to which there is one, as [Transport.Dial]
// does, over a path other than the present one: a direct one, and UDP unless the present
// one is relayed. Nobody waits for it, so of the paths that work within a short time the
// best is taken. Whether it is the better one is for the caller to see: [PathInfo.Better].
func (t *Transport) DialBeside(ctx context.Context, sig Signaler, present PathInfo) (*Link, error) {
	var avoid netip.AddrPort
	if present.rank() == rankUDP {
		avoid = present.Remote
	}
	m, granted, err := t.openMuxFor(0, func(a netip.AddrPort) bool { return t.cfg.Paths.admits(a) && a != avoid })
	if err != nil {
		return nil, err
	}
	if !avoid.IsValid() { // so much the better is what a router may make possible
		for f := range families {
			t.forward(&m.forwards, CandidateUDP, f, m.port(f))
		}
	}
	p := plan{
		dialed:   true,
		window:   windowFor(granted),
		paths:    t.cfg.Paths,
		avoid:    avoid,
		tcp:      present.Relayed(),
		patience: besidePatience,
		timeouts: t.cfg.Timeouts,
	}
	if p.paths == PathsAny {
		p.paths = PathsDirect
	}
	p.timeouts.Path = min(p.timeouts.Path, besidePath)
	return t.connect(ctx, sig, m, nil, p)
}

// windowFor gives SCTP's receive window for a socket's receive buffer.
func windowFor(granted int) int {
	if granted < socketBuffer {
		return smallWindow
	}
	return largeWindow
}

// Watch calls changed each time that this machine's addresses are others than before,
// until ctx is done or the transport closed.
func (t *Transport) Watch(ctx context.Context, changed func()) {
	news := t.net.changes(ctx)
	last := t.addrs()
	for {
		select {
		case <-news:
		case <-ctx.Done():
			return
		case <-t.life.Done():
			return
		}
		if now := t.addrs(); !slices.Equal(now, last) {
			last = now
			changed()
		}
	}
}

// addrs are this machine's addresses, in their order.
func (t *Transport) addrs() []netip.Addr {
	v, err := t.net.look()
	if err != nil {
		return nil
	}
	slices.SortFunc(v.addrs, netip.Addr.Compare)
	return v.addrs
}
