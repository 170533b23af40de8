package peer

import (
	"context"
	"time"

	"github.com/pairterm/pairterm/peer/link"
)

// SpareLink makes another link beside the present one, and does not use it.
func (g *Guest[S]) SpareLink(ctx context.Context) (hangUp func(), err error) {
	s, err := g.attempt(ctx, func(Stage) {})
	if err != nil {
		return nil, err
	}
	return s.close, nil
}

// CutLink ends the guest's present link as if the network had.
func (g *Guest[S]) CutLink() {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	s.close()
}

// SetAbsence changes how long the host may be absent; it is for before Run.
func (g *Guest[S]) SetAbsence(d time.Duration) { g.absence = d }

// MaxPendingSource is how many handshakes of one origin a host has under way.
const MaxPendingSource = maxPendingSource

// Pending is how many handshakes are under way.
func (h *Host[S]) Pending() int {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.pending)
}

// NewKnockLimiter decides which knocks the person at the host sees.
func NewKnockLimiter() (allow func(now time.Time) (suppressed int, ok bool)) {
	return newKnockLimiter().allow
}

// Present is the path that others are held against.
func (g *Guest[S]) Present() link.PathInfo {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	return g.present(s)
}
