package server

import (
	"errors"
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

// pipe is what a guest and its host talk over. Either may be here or at
// another server; one of the two is here.
//
// Guest to host there is no queue: the goroutine that reads from the guest
// writes to the host, and waits while it cannot. Host to guest there is one,
// because the host's other guests must not wait; a second goroutine empties it.
type pipe struct {
	// Set once.
	s      *Server
	host   hostEnd
	guest  guestEnd
	origin Origin        // of the guest
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

// hostEnd is a pipe's way to its host: a *host, or an *awayHost.
type hostEnd interface {
	// open tells the host that there is a pipe; if it cannot, the host is gone.
	open(p *pipe) error
	// forward sends the host an encoded Data of the guest's, which it may change.
	// It waits while the host does not take it.
	forward(p *pipe, b []byte) error
	// took notes that the guest has taken n bytes.
	took(n int)
	// tell tells the host that the pipe has ended.
	tell(p *pipe, reason signal.Reason)
	// forget gives a pipe's place to others. The host, unless it knows, may go on
	// sending for a while, up to unsent bytes.
	forget(p *pipe, unsent int)
	// served notes that nothing more will be done for a pipe.
	served(p *pipe)
}

// guestEnd is a pipe's way to its guest: a *hereGuest, or an *awayGuest.
type guestEnd interface {
	// admit returns when the guest may have its pipe, or why it may not. The name
	// is what its request called the server.
	admit(p *pipe, name string) error
	// ready tells the guest that its pipe is open.
	ready(p *pipe) error
	// read passes on what the guest sends, until the pipe ends.
	read(p *pipe)
	// send sends the guest what the host sent, in pieces as it sees fit.
	send(p *pipe, out []byte) error
	// close tells the guest, unless it knows, why its pipe has ended.
	close(p *pipe)
}

func newPipe(s *Server, host hostEnd, guest guestEnd, origin Origin, ends time.Time) *pipe {
	return &pipe{
		s:      s,
		host:   host,
		guest:  guest,
		origin: origin,
		ends:   ends,
		wake:   make(chan struct{}, 1),
		ended:  make(chan struct{}),
	}
}

// cancel gives back the place of a guest that never got its pipe.
func (p *pipe) cancel() {
	p.finish(signal.ReasonLost, byHost)
	p.host.served(p)
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
	p.host.forget(p, unsent)
	close(p.ended)
}

// serve serves a guest that has a place to the end of its pipe, or returns why
// it got none. The name is what its request's Host header said.
func (p *pipe) serve(name string) error {
	defer p.host.served(p)
	if err := p.open(name); err != nil {
		p.finish(signal.ReasonLost, byHost)
		return err
	}
	var wg sync.WaitGroup
	wg.Go(p.write)
	p.guest.read(p)
	wg.Wait()
	return nil
}

// open tells the host, and then the guest, that there is a pipe.
func (p *pipe) open(name string) error {
	if err := p.guest.admit(p, name); err != nil {
		return err
	}
	if p.host.open(p) != nil {
		return errHostGone
	}
	if err := p.guest.ready(p); err != nil {
		p.host.tell(p, signal.ReasonLost)
		return err
	}
	return nil
}

// pass passes on an encoded Data of the guest's.
func (p *pipe) pass(b []byte) error {
	if p.up += len(b) - signal.DataHeader; p.up > p.s.limits.PipeBytes {
		p.finish(signal.ReasonQuota, byServer)
		return errGone
	}
	return p.host.forward(p, b)
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
	case len(p.out)+len(b) > p.s.limits.PipeQueue || !p.s.hold(len(b)):
		p.mu.Unlock()
		p.finish(signal.ReasonOverflow, byServer)
		return
	}
	p.down += len(b)
	p.out = append(p.out, b...)
	p.mu.Unlock()
	wake(p.wake)
}

// answered reports whether the host has said anything.
func (p *pipe) answered() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.down > 0
}

// hold notes that n bytes more wait for somebody, or reports that they are too
// many.
func (s *Server) hold(n int) bool {
	if s.queued.Add(int64(n)) > int64(s.limits.QueuedBytes) {
		s.queued.Add(int64(-n))
		return false
	}
	return true
}

// wake notifies whoever waits for c, whose capacity is 1.
func wake(c chan struct{}) {
	select {
	case c <- struct{}{}:
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
		p.host.tell(p, p.reason)
	}
	p.guest.close(p)
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
	return p.guest.send(p, out)
}

// drop forgets what is queued and will not be sent.
func (p *pipe) drop() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.s.queued.Add(int64(-len(p.out)))
	p.out = nil
}

// errHostGone is why a guest got no pipe although it had a place.
var errHostGone = errors.New("the host is gone")

// errGone is returned where a connection, or a pipe, ended meanwhile.
var errGone = errors.New("gone")
