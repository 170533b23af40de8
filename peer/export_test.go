package peer

// CutLink ends the guest's present link as if the network had.
func (g *Guest[S]) CutLink() {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	s.close()
}
