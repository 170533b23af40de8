package cluster

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// What sending fails with.
var (
	errDetached = errors.New("cut off from NATS")
	errEnded    = errors.New("the pipe has ended")
)

// pipe is this replica's end of a pipe to another: a [server.ClusterPipe].
type pipe struct {
	// Set once.
	c     *Cluster
	id    id
	other server.ClusterEnd // who is told what comes; set by the loop at the host's side
	gone  chan struct{}     // closed when over
	told  chan outcome      // capacity 1, at the guest's side: the answer to the join
	grew  chan struct{}     // capacity 1: more may be sent

	mu      sync.Mutex
	peer    id     // guarded by mu; where the other end is, if known
	known   bool   // guarded by mu
	settled bool   // guarded by mu; the join was answered
	over    bool   // guarded by mu; gone is closed
	sent    uint64 // guarded by mu; bytes
	allowed uint64 // guarded by mu; bytes that sent may reach
	got     uint64 // guarded by mu; bytes
	taken   uint64 // guarded by mu; of those got
	granted uint64 // guarded by mu; taken, as far as the other end was told
}

// outcome is the answer to a join; code 0: accepted.
type outcome struct {
	code signal.Code
	wait time.Duration
}

func (c *Cluster) newPipe(i id, other server.ClusterEnd) *pipe {
	return &pipe{
		c:       c,
		id:      i,
		other:   other,
		gone:    make(chan struct{}),
		told:    make(chan outcome, 1),
		grew:    make(chan struct{}, 1),
		allowed: server.ClusterWindow,
	}
}

// Join implements [server.Cluster].
func (c *Cluster) Join(ctx context.Context, room signal.Room, origin server.Origin, end server.ClusterEnd) (server.ClusterPipe, signal.Code, time.Duration) {
	subject := c.keys.roomSubject(room)
	for probed := false; ; {
		p, o, count := c.join(ctx, subject, origin, end)
		if p != nil {
			c.counts.found.Add(1)
			return p, 0, 0
		}
		if o.code == signal.CodeNoRoom && ctx.Err() == nil {
			if !probed && c.probe() {
				// If a replica has just died we know when NATS has answered: what we
				// ask next it answers later.
				probed = true
				continue
			}
			if c.inTrouble() {
				select {
				case <-time.After(askAgain):
					continue
				case <-ctx.Done():
				}
			}
		}
		count.Add(1)
		return nil, o.code, o.wait
	}
}

// join asks once.
func (c *Cluster) join(ctx context.Context, subject string, origin server.Origin, end server.ClusterEnd) (*pipe, outcome, *counter) {
	p := c.newPipe(newID(), end)
	c.mu.Lock()
	c.pipes[p.id] = p
	c.mu.Unlock()
	if c.send(subject, c.keys.tokenSubject(p.id), &join{pipe: p.id, origin: origin}) != nil {
		c.forget(p)
		return nil, outcome{signal.CodeDetached, homeless / 10}, &c.counts.cut
	}
	late := time.NewTimer(askTimeout)
	defer late.Stop()
	var o outcome
	count := &c.counts.silent
	select {
	case o = <-p.told:
		switch o.code {
		case 0:
			return p, o, nil
		case signal.CodeNoRoom:
			count = &c.counts.absent
		case signal.CodeDetached:
			count = &c.counts.cut
		default:
			count = &c.counts.refused
		}
	case <-late.C:
		// Whoever has the room hangs, or is dead and NATS has not noticed.
		o.code = signal.CodeNoRoom
	case <-ctx.Done():
		o.code, count = signal.CodeNoRoom, &c.counts.gone
	}
	// An answer that comes now is answered with closed.
	p.Close(signal.ReasonLost)
	return nil, o, count
}

// accept acts on a guest of another replica's who wants into a room here.
func (c *Cluster) accept(r *room, sender id, m *join) {
	local := c.local(r)
	if local == nil {
		return
	}
	p := c.newPipe(m.pipe, nil)
	p.peer, p.known, p.settled = sender, true, true
	c.mu.Lock()
	_, again := c.pipes[m.pipe]
	if !again {
		c.pipes[m.pipe] = p
	}
	c.mu.Unlock()
	if again {
		return
	}
	other, code, wait := local.Reserve(m.origin, p)
	if code != 0 {
		c.forget(p)
		c.say(c.keys.replicaSubject(sender), &refuse{pipe: m.pipe, code: code, wait: wait})
		return
	}
	p.other = other
	_ = c.tell(sender, p.id, &accept{pipe: p.id})
}

// accepted acts on the news that there is a place.
func (c *Cluster) accepted(sender id, m *accept) {
	p := c.pipe(m.pipe)
	if p == nil || !p.bind(sender) {
		// We did not wait, or another replica was faster.
		c.say(c.keys.replicaSubject(sender), &closed{pipe: m.pipe, reason: signal.ReasonLost})
		return
	}
	p.answer(0, 0)
}

// bind notes where the other end is, and reports whether that is the only one.
func (p *pipe) bind(peer id) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.known || p.over {
		return p.known && p.peer == peer
	}
	p.peer, p.known = peer, true
	return true
}

// answer answers the join, once, and reports whether it did.
func (p *pipe) answer(code signal.Code, wait time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.settled {
		return false
	}
	p.settled = true
	p.told <- outcome{code, wait}
	return true
}

func (c *Cluster) pipe(i id) *pipe {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pipes[i]
}

// pipeWith is the pipe of that id with a replica, which is told if there is none.
func (c *Cluster) pipeWith(i, peer id) *pipe {
	if p := c.pipe(i); p != nil && p.isWith(peer) {
		return p
	}
	c.say(c.keys.replicaSubject(peer), &closed{pipe: i, reason: signal.ReasonLost})
	return nil
}

func (c *Cluster) forget(p *pipe) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pipes[p.id] == p {
		delete(c.pipes, p.id)
	}
}

func (p *pipe) isWith(peer id) bool {
	with, ok := p.with()
	return ok && with == peer
}

func (p *pipe) with() (id, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.peer, p.known
}

// Open implements [server.ClusterPipe].
func (p *pipe) Open() error {
	return p.c.tell(p.peer, p.id, &open{pipe: p.id})
}

// Send implements [server.ClusterPipe].
func (p *pipe) Send(b []byte, abort <-chan struct{}) error {
	for {
		p.mu.Lock()
		if p.over {
			p.mu.Unlock()
			return errEnded
		}
		if p.sent+uint64(len(b)) <= p.allowed {
			m := &data{pipe: p.id, offset: p.sent, bytes: b}
			p.sent += uint64(len(b))
			p.mu.Unlock()
			return p.c.tell(p.peer, p.id, m)
		}
		p.mu.Unlock()
		select {
		case <-p.grew:
		case <-p.gone:
		case <-abort:
			return errEnded
		}
	}
}

// Took implements [server.ClusterPipe].
func (p *pipe) Took(n int) {
	p.mu.Lock()
	p.taken += uint64(n)
	total := p.taken
	tell := !p.over && total-p.granted >= server.ClusterWindow/2
	if tell {
		p.granted = total
	}
	p.mu.Unlock()
	if tell {
		_ = p.c.tell(p.peer, p.id, &taken{pipe: p.id, total: total})
	}
}

// Close implements [server.ClusterPipe].
func (p *pipe) Close(reason signal.Reason) {
	if total, ok := p.finish(); ok && p.known {
		p.c.say(p.c.keys.replicaSubject(p.peer), &closed{pipe: p.id, reason: reason, total: total})
	}
}

// finish ends the pipe, once, and returns how much was sent.
func (p *pipe) finish() (sent uint64, ok bool) {
	p.mu.Lock()
	if p.over {
		p.mu.Unlock()
		return 0, false
	}
	p.over = true
	close(p.gone)
	sent = p.sent
	p.mu.Unlock()
	p.c.forget(p)
	return sent, true
}

// end ends the pipe, whose other end is gone, and says so.
func (p *pipe) end(reason signal.Reason) {
	p.answer(signal.CodeDetached, detachedRetry)
	if _, ok := p.finish(); ok && p.other != nil {
		p.other.Closed(reason)
	}
}

// deliver hands over bytes.
func (p *pipe) deliver(m *data) {
	p.mu.Lock()
	// Something was lost on the way, or the other end does not keep to the rules.
	wrong := m.offset != p.got || p.got+uint64(len(m.bytes))-p.granted > server.ClusterWindow
	if !wrong {
		p.got += uint64(len(m.bytes))
	}
	p.mu.Unlock()
	if wrong {
		p.Close(signal.ReasonLost)
		p.other.Closed(signal.ReasonLost)
		return
	}
	p.other.Deliver(m.bytes)
}

// allow notes how much the other end has taken.
func (p *pipe) allow(m *taken) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.total > p.sent || m.total+server.ClusterWindow < p.allowed {
		return
	}
	p.allowed = m.total + server.ClusterWindow
	select {
	case p.grew <- struct{}{}:
	default:
	}
}

// closedBy acts on the other end's last words.
func (p *pipe) closedBy(m *closed) {
	p.mu.Lock()
	reason := m.reason
	if m.total != p.got {
		reason = signal.ReasonLost
	}
	p.mu.Unlock()
	p.end(reason)
}
