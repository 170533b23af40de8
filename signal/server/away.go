package server

import (
	"context"
	"sync"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// awayHost is the [hostEnd] of a host at another server.
type awayHost struct {
	s    *Server
	way  ClusterPipe   // set before the pipe is served
	told chan struct{} // closed when the host has been told of the pipe
	once sync.Once     // for told
}

// open implements [hostEnd].
func (h *awayHost) open(p *pipe) error {
	if err := h.way.Open(); err != nil {
		return err
	}
	late := time.NewTimer(p.s.limits.Message)
	defer late.Stop()
	select {
	case <-h.told:
		return nil
	case <-p.ended:
	case <-late.C:
	}
	return errGone
}

// forward implements [hostEnd].
func (h *awayHost) forward(p *pipe, b []byte) error {
	return h.way.Send(b[signal.DataHeader:], p.ended)
}

// took implements [hostEnd].
func (h *awayHost) took(n int) { h.way.Took(n) }

// tell implements [hostEnd].
func (h *awayHost) tell(_ *pipe, reason signal.Reason) { h.way.Close(reason) }

// forget implements [hostEnd]: the places are at the other server.
func (h *awayHost) forget(*pipe, int) {}

// served implements [hostEnd].
func (h *awayHost) served(p *pipe) {
	h.way.Close(signal.ReasonLost)
	h.s.mu.Lock()
	delete(h.s.away, p)
	h.s.mu.Unlock()
}

// fromHost is told what comes from a host at another server.
type fromHost struct {
	p *pipe
	h *awayHost
}

// Opened implements [ClusterEnd].
func (e *fromHost) Opened() { e.h.once.Do(func() { close(e.h.told) }) }

// Deliver implements [ClusterEnd].
func (e *fromHost) Deliver(b []byte) { e.p.queue(b) }

// Closed implements [ClusterEnd].
func (e *fromHost) Closed(reason signal.Reason) { e.p.finish(reason, byHost) }

// awayGuest is the [guestEnd] of a guest at another server, and the
// [ClusterEnd] that is told what comes from there. Here there is a queue from
// guest to host, which the guest's server fills only as far as the host takes
// what is in it.
type awayGuest struct {
	// Set once.
	p      *pipe
	way    ClusterPipe
	opened chan struct{} // closed when the guest has been let in
	wake   chan struct{} // capacity 1: there is something in in, or it is closed

	mu     sync.Mutex
	in     []byte        // guarded by mu; from the guest, not yet sent
	isOpen bool          // guarded by mu; opened is closed
	closed bool          // guarded by mu; nothing more comes
	reason signal.Reason // guarded by mu; why
}

// Opened implements [ClusterEnd].
func (g *awayGuest) Opened() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.isOpen {
		g.isOpen = true
		close(g.opened)
	}
}

// Deliver implements [ClusterEnd].
func (g *awayGuest) Deliver(b []byte) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if isEnded(g.p.ended) || g.closed {
		return
	}
	if !g.p.s.hold(len(b)) {
		g.closed, g.reason = true, signal.ReasonOverflow
		g.p.finish(signal.ReasonOverflow, byServer)
		return
	}
	g.in = append(g.in, b...)
	wake(g.wake)
}

// Closed implements [ClusterEnd].
func (g *awayGuest) Closed(reason signal.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if !g.closed {
		g.closed, g.reason = true, reason
	}
	wake(g.wake)
}

// admit implements [guestEnd]: the guest's server asks who it is, if anybody
// does.
func (g *awayGuest) admit(p *pipe, _ string) error {
	l := &p.s.limits
	late := time.NewTimer(l.Handshake + l.Proof)
	defer late.Stop()
	for {
		select {
		case <-g.opened:
			return nil
		case <-g.wake:
			if g.leftEarly() {
				return errGone
			}
		case <-p.ended:
			return errGone
		case <-late.C:
			return errGone
		}
	}
}

// leftEarly reports whether the guest has gone without having been let in.
func (g *awayGuest) leftEarly() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.closed && !g.isOpen
}

// ready implements [guestEnd]: the guest's server is told, and tells the guest.
func (g *awayGuest) ready(*pipe) error { return g.way.Open() }

// take takes what came from the guest, and tells whether that was all and why.
func (g *awayGuest) take() (in []byte, closed bool, reason signal.Reason) {
	g.mu.Lock()
	defer g.mu.Unlock()
	in, g.in = g.in, nil
	return in, g.closed, g.reason
}

// read implements [guestEnd].
func (g *awayGuest) read(p *pipe) {
	defer g.drop()
	// The guest's server minds how long a pipe may last, and be idle. It may be
	// wrong about it only if it is stuck.
	late := time.NewTimer(time.Until(p.ends))
	defer late.Stop()
	wake(g.wake) // admit may have taken the last one
	for {
		select {
		case <-g.wake:
		case <-p.ended:
			return
		case <-late.C:
			p.finish(signal.ReasonLifetime, byServer)
			return
		}
		in, closed, reason := g.take()
		err := g.forward(p, in)
		switch {
		case err != nil:
			p.finish(signal.ReasonLost, byGuest)
			return
		case closed:
			p.finish(reason, byGuest)
			return
		}
	}
}

// forward passes on what was taken.
func (g *awayGuest) forward(p *pipe, in []byte) error {
	if len(in) == 0 {
		return nil
	}
	defer func() { p.s.queued.Add(int64(-len(in))) }() // what is left
	frame := make([]byte, 0, signal.DataHeader+min(len(in), signal.MaxPayload))
	for len(in) > 0 {
		chunk := in[:min(len(in), signal.MaxPayload)]
		frame = (&signal.DataMsg{Payload: chunk}).Append(frame[:0])
		if err := p.pass(frame); err != nil {
			return err
		}
		p.s.queued.Add(int64(-len(chunk)))
		g.way.Took(len(chunk))
		in = in[len(chunk):]
	}
	return nil
}

// drop forgets what will not be sent; nothing more is queued.
func (g *awayGuest) drop() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.closed = true
	g.p.s.queued.Add(int64(-len(g.in)))
	g.in = nil
}

// send implements [guestEnd].
func (g *awayGuest) send(p *pipe, out []byte) error {
	for len(out) > 0 {
		chunk := out[:min(len(out), signal.MaxPayload)]
		// A pipe's last words are sent when it has ended: only time aborts.
		ctx, cancel := context.WithTimeout(p.s.cut, p.s.limits.Message)
		err := g.way.Send(chunk, ctx.Done())
		cancel()
		if err != nil {
			return err
		}
		out = out[len(chunk):]
	}
	return nil
}

// refuse is for a guest that gets no pipe.
func (g *awayGuest) refuse() {
	g.drop()
	g.way.Close(signal.ReasonLost)
}

// close implements [guestEnd].
func (g *awayGuest) close(p *pipe) { g.way.Close(p.reason) }

func isEnded(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}
