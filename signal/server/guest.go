package server

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"os"
	"sync"
	"time"

	"github.com/pairterm/pairterm/signal"
)

// side is who ended a pipe.
type side int

const (
	byServer side = iota // both ends are told
	byHost               // the guest is told
	byGuest              // the host is told
)

// pipe is a guest's connection, and its way to the host.
//
// Guest to host there is no queue: the goroutine that reads from the guest
// writes to the host, and waits while it cannot. Host to guest there is one,
// because the host's other guests must not wait; a second goroutine empties it.
type pipe struct {
	// Set once.
	s      *Server
	h      *host
	c      *conn // the guest's
	prefix netip.Addr
	ends   time.Time     // of its lifetime
	wake   chan struct{} // capacity 1: there is something in out
	ended  chan struct{} // closed by finish

	id uint32 // set by host.number, before the pipe is used

	// Owned by the reading goroutine.
	up int // bytes from the guest

	mu     sync.Mutex
	out    []byte        // guarded by mu; from the host, not yet sent
	down   int           // guarded by mu; bytes from the host
	over   bool          // guarded by mu; ended is closed
	reason signal.Reason // guarded by mu until ended is closed
	by     side          // likewise
}

func newPipe(h *host, c *conn, prefix netip.Addr) *pipe {
	return &pipe{
		s:      h.s,
		h:      h,
		c:      c,
		prefix: prefix,
		ends:   c.since.Add(h.s.limits.GuestLifetime),
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
}

// cancel gives back the place of a guest that never got its pipe.
func (p *pipe) cancel() {
	p.finish(signal.ReasonLost, byHost)
	p.h.served()
}

// finish ends the pipe, once. It does not block.
func (p *pipe) finish(reason signal.Reason, by side) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return
	}
	p.over = true
	p.reason, p.by = reason, by
	unsent := 0
	if by != byHost {
		unsent = p.s.limits.PipeBytes - p.down
	}
	p.mu.Unlock()
	p.h.forget(p, unsent)
	close(p.ended)
}

// serve serves a guest's connection from its upgrade to its end. The name is
// what the request's Host header said.
func (p *pipe) serve(name string) {
	defer p.h.served()
	err := p.open(name)
	if err != nil {
		p.finish(signal.ReasonLost, byHost)
		bye := goodbyeFor(err)
		if bye == nil {
			// The host is gone, or the guest; then this goes nowhere.
			bye = &signal.GoodbyeMsg{Code: signal.CodeNoRoom}
		}
		p.c.goodbye(bye)
		return
	}
	p.s.pipes.Add(1)
	p.s.latency[roleGuest].observe(time.Since(p.c.since))
	var wg sync.WaitGroup
	wg.Go(p.write)
	p.read()
	wg.Wait()
	p.s.ended[p.reason].Add(1)
	p.s.log.Debug("pipe ended", "room", short(p.h.room), "addr", p.s.shown(p.c.addr), "why", p.reason)
}

// open tells the host, and then the guest, that there is a pipe.
func (p *pipe) open(name string) error {
	if p.s.config.Gate != nil && p.s.config.Gate.Guests {
		if _, _, err := p.s.challenge(p.c, name, true); err != nil {
			return err
		}
		if err := p.s.keep(p.c, func(*signal.GoodbyeMsg) { p.finish(signal.ReasonRevoked, byServer) }); err != nil {
			return err
		}
	}
	if err := p.h.c.lock(p.ended); err != nil {
		return err
	}
	p.h.number(p)
	err := p.h.c.writeLocked((&signal.OpenMsg{Pipe: p.id, Source: p.h.sourceHash(p.prefix)}).Append(nil))
	p.h.c.unlock()
	if err != nil {
		return errGone
	}
	p.c.established.Store(true)
	if err := p.c.send(p.s.ready(p.h.room, p.s.limits.GuestIdle), nil); err != nil {
		p.tellHost(signal.ReasonLost)
		return err
	}
	return nil
}

// read passes on what the guest sends, until the pipe ends.
func (p *pipe) read() {
	for {
		err := p.c.receive(p.deadline(), signal.MaxMessage, p.handle)
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
func (p *pipe) deadline() time.Time {
	d := time.Now().Add(p.s.limits.GuestIdle)
	if d.After(p.ends) {
		return p.ends
	}
	return d
}

func (p *pipe) handle(b []byte) error {
	msg, err := signal.Decode(b)
	if err != nil {
		return err
	}
	switch m := msg.(type) {
	case *signal.DataMsg:
		if m.Pipe != 0 {
			return signal.ErrMalformed
		}
		if p.up += len(m.Payload); p.up > p.s.limits.PipeBytes {
			p.finish(signal.ReasonQuota, byServer)
			return errGone
		}
		return p.forward(b)
	case *signal.CloseMsg:
		if m.Pipe != 0 {
			return signal.ErrMalformed
		}
		p.finish(m.Reason, byGuest)
		return errGone
	}
	return signal.ErrMalformed
}

// forward sends a guest's encoded Data to the host, with the pipe's number in
// place of the guest's 0.
func (p *pipe) forward(b []byte) error {
	binary.BigEndian.PutUint32(b[1:], p.id)
	host := p.h.c
	if !host.tryLock() {
		// While we wait, b takes a whole buffer: it counts as queued.
		if p.s.queued.Add(signal.MaxMessage) > int64(p.s.limits.QueuedBytes) {
			p.s.queued.Add(-signal.MaxMessage)
			p.finish(signal.ReasonOverflow, byServer)
			return errGone
		}
		err := host.lock(p.ended)
		p.s.queued.Add(-signal.MaxMessage)
		if err != nil {
			return err
		}
	}
	defer host.unlock()
	if err := host.writeLocked(b); err != nil {
		return errGone
	}
	p.s.toHost.Add(int64(len(b) - signal.DataHeader))
	return nil
}

// queue queues what the host sent for the guest. It does not block.
func (p *pipe) queue(b []byte) {
	p.mu.Lock()
	switch {
	case p.over:
		p.mu.Unlock()
		return
	case p.down+len(b) > p.s.limits.PipeBytes:
		p.mu.Unlock()
		p.finish(signal.ReasonQuota, byServer)
		return
	case len(p.out)+len(b) > p.s.limits.PipeQueue:
		p.mu.Unlock()
		p.finish(signal.ReasonOverflow, byServer)
		return
	}
	if p.s.queued.Add(int64(len(b))) > int64(p.s.limits.QueuedBytes) {
		p.s.queued.Add(int64(-len(b)))
		p.mu.Unlock()
		p.finish(signal.ReasonOverflow, byServer)
		return
	}
	p.down += len(b)
	p.out = append(p.out, b...)
	p.mu.Unlock()
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// write empties the queue, and when the pipe has ended tells who has to know
// and closes the guest's connection.
func (p *pipe) write() {
	for over := false; !over; {
		select {
		case <-p.wake:
		case <-p.ended:
			over = true
		}
		if err := p.flush(); err != nil {
			p.finish(signal.ReasonLost, byGuest)
			break
		}
	}
	p.drop()
	<-p.ended
	if p.by != byHost {
		p.tellHost(p.reason)
	}
	if p.by == byGuest {
		p.c.goodbye(nil)
		return
	}
	p.c.goodbye(&signal.CloseMsg{Reason: p.reason})
}

// flush sends what is queued.
func (p *pipe) flush() error {
	p.mu.Lock()
	out := p.out
	p.out = nil
	p.mu.Unlock()
	if len(out) == 0 {
		return nil
	}
	defer p.s.queued.Add(int64(-len(out)))
	_ = p.c.nc.SetReadDeadline(p.deadline()) // the pipe is not idle
	frame := make([]byte, 0, signal.DataHeader+min(len(out), signal.MaxPayload))
	for sent := 0; sent < len(out); {
		chunk := out[sent:min(len(out), sent+signal.MaxPayload)]
		frame = (&signal.DataMsg{Payload: chunk}).Append(frame[:0])
		if err := p.c.send(frame, nil); err != nil {
			return err
		}
		sent += len(chunk)
		p.s.toGuest.Add(int64(len(chunk)))
	}
	return nil
}

// drop forgets what is queued and will not be sent.
func (p *pipe) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.queued.Add(int64(-len(p.out)))
	p.out = nil
}

func (p *pipe) tellHost(reason signal.Reason) {
	_ = p.h.c.send((&signal.CloseMsg{Pipe: p.id, Reason: reason}).Append(nil), nil)
}
