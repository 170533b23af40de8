package server

import (
	"context"
	"errors"
	"os"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// hereGuest is the [guestEnd] of a guest whose connection is here.
type hereGuest struct {
	c    *conn
	room signal.Room
}

// mostPlaces is how many hosts a guest is tried with that are gone before they
// have heard of it.
const mostPlaces = 4

// serveGuest serves a guest that has a place to the end. If the host is gone
// before it has heard of the guest, it may be back, here or elsewhere.
func (s *Server) serveGuest(p *pipe, c *conn, room signal.Room, name string) {
	for places := 1; ; places++ {
		err := p.serve(name)
		if err == nil {
			return
		}
		bye := goodbyeFor(err)
		if errors.Is(err, errHostGone) && places < mostPlaces {
			next, code, wait := s.join(context.Background(), room, c)
			if p = next; p != nil {
				continue
			}
			bye = &signal.GoodbyeMsg{Code: code, Retry: wait}
		}
		if bye == nil {
			// The host is gone, or the guest; then this goes nowhere.
			bye = &signal.GoodbyeMsg{Code: signal.CodeNoRoom}
		}
		c.goodbye(bye)
		return
	}
}

// admit implements [guestEnd]: guests are asked for a proof, once, if anybody is.
func (g *hereGuest) admit(p *pipe, name string) error {
	if p.s.config.Gate == nil || !p.s.config.Gate.Guests {
		return nil
	}
	if g.c.person == nil {
		if _, _, err := p.s.challenge(g.c, name, true); err != nil {
			return err
		}
	}
	return p.s.keep(g.c, func(*signal.GoodbyeMsg) { p.finish(signal.ReasonRevoked, byServer) })
}

// ready implements [guestEnd].
func (g *hereGuest) ready(p *pipe) error {
	g.c.established.Store(true)
	if err := g.c.send(p.s.ready(g.room, p.s.limits.GuestIdle), nil); err != nil {
		return err
	}
	p.s.pipes.Add(1)
	p.s.latency[roleGuest].observe(time.Since(g.c.since))
	return nil
}

// read implements [guestEnd].
func (g *hereGuest) read(p *pipe) {
	handle := func(b []byte) error { return g.handle(p, b) }
	for {
		err := g.c.receive(g.deadline(p), signal.MaxMessage, handle)
		if err == nil {
			continue
		}
		switch {
		case errors.Is(err, signal.ErrMalformed):
			p.finish(signal.ReasonMalformed, byServer)
		case errors.Is(err, os.ErrDeadlineExceeded) && !time.Now().Before(p.ends):
			p.finish(signal.ReasonLifetime, byServer)
		case errors.Is(err, os.ErrDeadlineExceeded):
			p.finish(signal.ReasonIdle, byServer)
		default:
			p.finish(signal.ReasonLost, byGuest)
		}
		return
	}
}

// deadline is when the pipe ends if nothing happens.
func (g *hereGuest) deadline(p *pipe) time.Time {
	d := time.Now().Add(p.s.limits.GuestIdle)
	if d.After(p.ends) {
		return p.ends
	}
	return d
}

func (g *hereGuest) handle(p *pipe, b []byte) error {
	msg, err := signal.Decode(b)
	if err != nil {
		return err
	}
	switch m := msg.(type) {
	case *signal.DataMsg:
		if m.Pipe != 0 {
			return signal.ErrMalformed
		}
		return p.pass(b)
	case *signal.CloseMsg:
		if m.Pipe != 0 {
			return signal.ErrMalformed
		}
		p.finish(m.Reason, byGuest)
		return errGone
	}
	return signal.ErrMalformed
}

// send implements [guestEnd].
func (g *hereGuest) send(p *pipe, out []byte) error {
	_ = g.c.nc.SetReadDeadline(g.deadline(p)) // the pipe is not idle
	frame := make([]byte, 0, signal.DataHeader+min(len(out), signal.MaxPayload))
	for len(out) > 0 {
		chunk := out[:min(len(out), signal.MaxPayload)]
		frame = (&signal.DataMsg{Payload: chunk}).Append(frame[:0])
		if err := g.c.send(frame, nil); err != nil {
			return err
		}
		p.s.toGuest.Add(int64(len(chunk)))
		p.host.took(len(chunk))
		out = out[len(chunk):]
	}
	return nil
}

// close implements [guestEnd].
func (g *hereGuest) close(p *pipe) {
	p.s.ended[p.reason].Add(1)
	p.s.log.Debug("pipe ended", "room", short(g.room), "addr", p.s.shown(g.c.addr), "why", p.reason)
	if p.by == byGuest {
		g.c.goodbye(nil)
		return
	}
	g.c.goodbye(&signal.CloseMsg{Reason: p.reason})
}
