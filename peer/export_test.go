package peer

import (
	"context"

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

// Present is the path that others are held against.
func (g *Guest[S]) Present() link.PathInfo {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	return g.present(s)
}
