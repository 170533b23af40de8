package cluster

import (
	"bytes"
	"cmp"
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// room is a room that is here. Its fields are guarded by Cluster.mu but for
// those set once.
type room struct {
	// Set once.
	subject string
	echoed  chan struct{} // closed when our claim has come back: it reaches whoever listens

	sub      *nats.Subscription              // nil: not yet
	locals   map[server.ClusterRoom]struct{} // registrations that have entered and not left
	instance [16]byte                        // of the last one
	stamp    uint64                          // of our claim; 0: not claimed yet
	claimed  time.Time                       // when last
	heard    bool                            // echoed is closed
	gone     bool                            // given up or left
}

// Enter implements [server.Cluster].
func (c *Cluster) Enter(ctx context.Context, at signal.Room, instance [16]byte, local server.ClusterRoom) (leave func()) {
	subject := c.keys.roomSubject(at)
	c.mu.Lock()
	r := c.rooms[subject]
	if r == nil {
		r = &room{subject: subject, echoed: make(chan struct{}), locals: make(map[server.ClusterRoom]struct{})}
		c.rooms[subject] = r
	}
	r.locals[local] = struct{}{}
	r.instance = instance
	fresh := r.stamp == 0
	c.mu.Unlock()
	leave = sync.OnceFunc(func() { c.leave(r, local) })

	ctx, cancel := context.WithTimeout(ctx, askTimeout)
	defer cancel()
	var before uint64
	if fresh {
		before = c.ask(ctx, subject)
	}
	c.mu.Lock()
	r.stamp = max(uint64(time.Now().UnixMilli()), r.stamp+1, before+1)
	c.mu.Unlock()
	c.listen(r)
	c.claim(r)
	if c.connected.Load() {
		select {
		case <-r.echoed:
		case <-ctx.Done():
		}
	}
	return leave
}

// ask returns the stamp of whoever has a room, 0 if nobody is known to.
func (c *Cluster) ask(ctx context.Context, subject string) uint64 {
	q, ch := &query{id: newID()}, make(chan *held, 1)
	c.mu.Lock()
	c.queries[q.id] = ch
	c.mu.Unlock()
	defer func() {
		c.mu.Lock()
		delete(c.queries, q.id)
		c.mu.Unlock()
	}()
	if c.send(subject, c.keys.tokenSubject(q.id), q) != nil {
		return 0
	}
	select {
	case h := <-ch:
		if h != nil {
			return h.stamp
		}
	case <-ctx.Done():
	}
	return 0
}

// answer answers a query, once.
func answer(ch chan *held, h *held) {
	select {
	case ch <- h:
	default:
	}
}

// listen subscribes to what is said about a room, unless it is done.
func (c *Cluster) listen(r *room) {
	nc := c.nc.Load()
	c.mu.Lock()
	done := nc == nil || r.sub != nil || r.gone
	c.mu.Unlock()
	if done {
		return
	}
	sub, err := nc.ChanSubscribe(r.subject, c.msgs)
	if err != nil {
		c.log.Warn("cannot listen for guests of a room", "why", err)
		return
	}
	c.mu.Lock()
	keep := r.sub == nil && !r.gone
	if keep {
		r.sub = sub
	}
	c.mu.Unlock()
	if !keep {
		_ = sub.Unsubscribe()
	}
}

// claim says that a room is here.
func (c *Cluster) claim(r *room) {
	c.mu.Lock()
	m := &claim{stamp: r.stamp, instance: r.instance}
	gone := r.gone || r.stamp == 0
	r.claimed = time.Now()
	c.mu.Unlock()
	if !gone {
		c.say(r.subject, m)
	}
}

// reclaimOlderThan has the loop repeat the claims that were not for so long.
func (c *Cluster) reclaimOlderThan(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.reclaim = c.reclaim[:0:0]
	for _, r := range c.rooms {
		if time.Since(r.claimed) >= d {
			c.reclaim = append(c.reclaim, r)
		}
	}
}

// contest acts on another replica's claim to a room that is here: the greater
// one holds.
func (c *Cluster) contest(r *room, sender id, m *claim) {
	c.mu.Lock()
	if r.gone {
		c.mu.Unlock()
		return
	}
	ours := cmp.Or(cmp.Compare(r.stamp, m.stamp), bytes.Compare(c.keys.self[:], sender[:])) > 0
	var sub *nats.Subscription
	var locals []server.ClusterRoom
	if !ours {
		sub = c.forgetLocked(r)
		locals = slices.Collect(maps.Keys(r.locals))
	}
	c.mu.Unlock()
	if ours {
		c.claim(r)
		return
	}
	c.counts.yielded.Add(1)
	if sub != nil {
		_ = sub.Unsubscribe()
	}
	for _, l := range locals {
		l.Yield(m.instance)
	}
}

// leave is for one registration that leaves.
func (c *Cluster) leave(r *room, local server.ClusterRoom) {
	c.mu.Lock()
	delete(r.locals, local)
	var sub *nats.Subscription
	if len(r.locals) == 0 && !r.gone {
		sub = c.forgetLocked(r)
	}
	c.mu.Unlock()
	if sub != nil {
		_ = sub.Unsubscribe()
	}
}

// forgetLocked forgets a room, and returns what to unsubscribe from.
func (c *Cluster) forgetLocked(r *room) *nats.Subscription {
	r.gone = true
	r.hearLocked()
	delete(c.rooms, r.subject)
	sub := r.sub
	r.sub = nil
	return sub
}

// hearLocked ends the wait for the echo.
func (r *room) hearLocked() {
	if !r.heard {
		r.heard = true
		close(r.echoed)
	}
}

func (c *Cluster) roomOf(subject string) *room {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.rooms[subject]
}

// local is a registration in a room that is here, nil if the last one is leaving.
func (c *Cluster) local(r *room) server.ClusterRoom {
	c.mu.Lock()
	defer c.mu.Unlock()
	for l := range r.locals {
		return l
	}
	return nil
}

func (c *Cluster) stampOf(r *room) uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return r.stamp
}
