package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/nats-io/nats.go"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/server"
)

// How long things take.
const (
	beatEvery    = time.Second
	lostAfter    = 5 * time.Second        // without a word a replica counts as dead
	homeless     = 10 * time.Second       // hosts of a replica that is gone need to be back, at most
	askAgain     = 200 * time.Millisecond // meanwhile, who has a room
	askTimeout   = 2 * time.Second        // for an answer of who has a room
	probeEvery   = 100 * time.Millisecond // at most
	reclaimEvery = time.Minute            // of every room
	checkEvery   = 10 * time.Second       // which of them it is time for
	remembered   = time.Hour              // a replica that is gone, lest its old words count again

	// detachedRetry is when those are to come back who came while we were cut off.
	detachedRetry = time.Second
)

// What may wait to be handled. The loop is done with a message in
// microseconds; if it is kept from it, what does not fit is lost.
const backlog = 2048 // messages, of at most 16 KiB

// claimsAtOnce are repeated between two other messages: their echoes come back
// to the loop.
const claimsAtOnce = 64

// Options configure a [Cluster].
type Options struct {
	NATS

	// Name is the cluster's, and the first token of all its subjects. Default:
	// "pairterm".
	Name string

	// Secret is what all replicas have and nobody else; see the package comment.
	Secret []byte

	// Logger gets what happens; nil: nothing is logged.
	Logger *slog.Logger
}

// Cluster is one replica's [server.Cluster]. Its methods are safe for
// concurrent use.
type Cluster struct {
	// Set once.
	opts    Options
	keys    *keys
	log     *slog.Logger
	msgs    chan *nats.Msg // what NATS brings
	changed chan struct{}  // capacity 1: the connection came or went

	// Atomic.
	nc        atomic.Pointer[nats.Conn] // nil before Run
	connected atomic.Bool
	leaving   atomic.Bool
	counts    counts

	sending sync.Mutex // held while a message is sealed and sent, so that numbers go out in order

	mu       sync.Mutex
	rooms    map[string]*room  // guarded by mu; by subject
	pipes    map[id]*pipe      // guarded by mu
	queries  map[id]chan *held // guarded by mu; capacity 1, nil: nobody
	peers    map[id]*peer      // guarded by mu; also those that are gone
	echoed   time.Time         // guarded by mu; when a beat of our own last came back
	troubled time.Time         // guarded by mu; when hosts were last made to look for another replica
	probed   time.Time         // guarded by mu

	// Owned by the loop.
	online  bool    // what it knows of connected
	deaf    int     // beats that did not come back, one after another
	reclaim []*room // to be claimed again
	warned  map[string]time.Time
}

// peer is another replica. Its fields are guarded by Cluster.mu.
type peer struct {
	heard   time.Time // when last
	replays replays
	leaving bool
	gone    bool
}

// New makes a replica. It starts nothing.
func New(opts Options) (*Cluster, error) {
	if opts.Name == "" {
		opts.Name = DefaultName
	}
	if err := CheckName(opts.Name); err != nil {
		return nil, err
	}
	k, err := newKeys(opts.Name, opts.Secret)
	if err != nil {
		return nil, fmt.Errorf("keys of the cluster: %w", err)
	}
	c := &Cluster{
		opts:    opts,
		keys:    k,
		log:     opts.Logger,
		msgs:    make(chan *nats.Msg, backlog),
		changed: make(chan struct{}, 1),
		rooms:   make(map[string]*room),
		pipes:   make(map[id]*pipe),
		queries: make(map[id]chan *held),
		peers:   make(map[id]*peer),
		warned:  make(map[string]time.Time),
	}
	if c.log == nil {
		c.log = slog.New(slog.DiscardHandler)
	}
	c.log = c.log.With("cluster", opts.Name, "replica", k.self.short())
	return c, nil
}

// DefaultName is the name of a cluster that has no other.
const DefaultName = "pairterm"

// CheckName reports what is wrong with a cluster's name.
func CheckName(name string) error {
	if name == "" || len(name) > 64 {
		return fmt.Errorf("cluster name %.80q: want 1 to 64 characters", name)
	}
	for _, c := range []byte(name) {
		switch {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9', c == '-', c == '_':
		default:
			return fmt.Errorf("cluster name %q: want letters, digits, - and _", name)
		}
	}
	return nil
}

// Run is part of the cluster until ctx ends. It returns when everything that it
// started is gone; an error only if the options are of no use. End it after
// the server has shut down, so that its pipes may finish. Call it once.
func (c *Cluster) Run(ctx context.Context) error {
	nc, gone, err := c.connect(ctx)
	if err != nil {
		return fmt.Errorf("NATS: %w", err)
	}
	c.nc.Store(nc)
	defer func() {
		c.connected.Store(false)
		c.say(c.keys.beatSubject(), &beat{leaving: true})
		_ = nc.FlushTimeout(time.Second)
		nc.Close()
		<-gone
		c.detach()
	}()
	for _, subject := range []string{c.keys.beatSubject(), c.keys.replicaSubject(c.keys.self), c.keys.replicaSubject(c.keys.self) + ".*"} {
		if _, err := nc.ChanSubscribe(subject, c.msgs); err != nil {
			return fmt.Errorf("NATS: %w", err)
		}
	}
	c.mu.Lock()
	rooms := slices.Collect(maps.Values(c.rooms))
	c.mu.Unlock()
	for _, r := range rooms {
		c.listen(r) // entered before there was a connection
	}
	c.loop(ctx)
	return nil
}

// loop handles everything that comes, one after another.
func (c *Cluster) loop(ctx context.Context) {
	beats := time.NewTicker(beatEvery)
	defer beats.Stop()
	checks := time.NewTicker(checkEvery)
	defer checks.Stop()
	c.noteConnection()
	ready := make(chan struct{})
	close(ready)
	for {
		var claims chan struct{}
		if len(c.reclaim) > 0 {
			claims = ready
		}
		select {
		case m := <-c.msgs:
			c.handle(m)
		case <-claims:
			n := min(len(c.reclaim), claimsAtOnce)
			for _, r := range c.reclaim[:n] {
				c.claim(r)
			}
			c.reclaim = c.reclaim[n:]
		case <-c.changed:
			c.noteConnection()
		case <-beats.C:
			c.say(c.keys.beatSubject(), &beat{leaving: c.leaving.Load()})
			c.bury()
			c.checkEcho()
		case <-checks.C:
			c.reclaimOlderThan(reclaimEvery)
		case <-ctx.Done():
			return
		}
	}
}

// noteConnection acts on a connection that came or went.
func (c *Cluster) noteConnection() {
	online := c.connected.Load()
	if !online && !c.online {
		return
	}
	// If it was there before, it has gone and come back meanwhile.
	c.online = online
	c.detach()
	if online {
		c.say(c.keys.beatSubject(), &beat{leaving: c.leaving.Load()})
		c.reclaimOlderThan(0)
	}
}

// detach ends what goes over a connection that is gone.
func (c *Cluster) detach() {
	c.mu.Lock()
	pipes := slices.Collect(maps.Values(c.pipes))
	for _, q := range c.queries {
		answer(q, nil)
	}
	// The others may have been cut off as well: who was heard of says nothing now.
	for _, p := range c.peers {
		p.gone = true
	}
	c.echoed = time.Time{}
	if c.counts.connects.Load() > 1 {
		c.troubled = time.Now()
	}
	c.mu.Unlock()
	for _, p := range pipes {
		p.end(signal.ReasonLost)
	}
}

// say seals and sends a message; whether it arrives is another question.
func (c *Cluster) say(subject string, m message) { _ = c.send(subject, "", m) }

// send seals and sends a message. If it goes to nobody, NATS says so to the
// reply subject.
func (c *Cluster) send(subject, reply string, m message) error {
	nc := c.nc.Load()
	if nc == nil || !nc.IsConnected() {
		return errDetached
	}
	c.sending.Lock()
	defer c.sending.Unlock()
	b := c.keys.seal(subject, m)
	err := nc.PublishMsg(&nats.Msg{Subject: subject, Reply: reply, Data: b})
	if err == nil {
		c.counts.sent.Add(1)
		c.counts.sentBytes.Add(int64(len(b)))
	}
	return err
}

// tell sends a message about one of our pipes to the replica at its other end.
func (c *Cluster) tell(to id, p id, m message) error {
	return c.send(c.keys.replicaSubject(to), c.keys.tokenSubject(p), m)
}

// handle handles one message.
func (c *Cluster) handle(msg *nats.Msg) {
	c.counts.received.Add(1)
	inbox := c.keys.replicaSubject(c.keys.self)
	if text, ok := strings.CutPrefix(msg.Subject, inbox+"."); ok {
		// Only NATS has a word here.
		token, ok := parseID(text)
		if !ok || len(msg.Data) > 0 || msg.Header.Get("Status") != "503" {
			c.throwAway("forged", msg.Subject)
			return
		}
		c.nobody(token)
		return
	}
	sender, counter, m, err := c.keys.unseal(msg.Subject, msg.Data)
	switch {
	case errors.Is(err, errForged):
		c.throwAway("forged", msg.Subject)
		return
	case err != nil:
		c.throwAway("malformed", msg.Subject)
		return
	case sender == c.keys.self:
		c.echo(msg.Subject, m)
		return
	case !c.meet(sender, counter):
		c.throwAway("replayed", msg.Subject)
		return
	}
	if r := c.roomOf(msg.Subject); r != nil {
		c.handleRoom(r, sender, m)
		return
	}
	c.handleReplica(sender, m)
}

// handleRoom handles what comes for a room that is here.
func (c *Cluster) handleRoom(r *room, sender id, m message) {
	switch m := m.(type) {
	case *query:
		c.say(c.keys.replicaSubject(sender), &held{id: m.id, stamp: c.stampOf(r)})
	case *claim:
		c.contest(r, sender, m)
	case *join:
		c.accept(r, sender, m)
	default:
		c.throwAway("malformed", "")
	}
}

// handleReplica handles what comes for this replica, or for all. What comes for a
// room that is not here any more says nothing here.
func (c *Cluster) handleReplica(sender id, m message) {
	switch m := m.(type) {
	case *beat:
		c.beaten(sender, m)
	case *held:
		c.mu.Lock()
		if q := c.queries[m.id]; q != nil {
			answer(q, m)
		}
		c.mu.Unlock()
	case *accept:
		c.accepted(sender, m)
	case *refuse:
		if p := c.pipe(m.pipe); p != nil {
			p.answer(m.code, m.wait)
		}
	case *open:
		if p := c.pipeWith(m.pipe, sender); p != nil {
			p.other.Opened()
		}
	case *data:
		if p := c.pipeWith(m.pipe, sender); p != nil {
			p.deliver(m)
		}
	case *taken:
		if p := c.pipeWith(m.pipe, sender); p != nil {
			p.allow(m)
		}
	case *closed:
		if p := c.pipe(m.pipe); p != nil && p.isWith(sender) {
			p.closedBy(m)
		}
	}
}

// echo handles what was our own message.
func (c *Cluster) echo(subject string, m message) {
	if _, ok := m.(*beat); ok {
		c.mu.Lock()
		c.echoed = time.Now()
		c.mu.Unlock()
		return
	}
	r := c.roomOf(subject)
	if r == nil {
		return
	}
	switch m := m.(type) {
	case *claim:
		c.mu.Lock()
		r.hearLocked()
		c.mu.Unlock()
	case *join: // the room came here after it was asked for
		if p := c.pipe(m.pipe); p != nil {
			p.answer(signal.CodeNoRoom, 0)
		}
	}
}

// nobody acts on the news that nobody took a message.
func (c *Cluster) nobody(token id) {
	c.mu.Lock()
	q, p := c.queries[token], c.pipes[token]
	peer := c.peers[token]
	c.mu.Unlock()
	switch {
	case q != nil:
		answer(q, nil)
	case p != nil:
		if p.answer(signal.CodeNoRoom, 0) {
			return
		}
		if with, ok := p.with(); ok {
			c.lose(with, "nobody listens there")
		}
	case peer != nil:
		c.lose(token, "nobody listens there")
	}
}

// meet notes that a replica lives, and reports whether this message of it is new.
func (c *Cluster) meet(sender id, counter uint64) bool {
	c.mu.Lock()
	p := c.peers[sender]
	if p == nil {
		p = &peer{gone: true}
		c.peers[sender] = p
	}
	fresh := p.replays.fresh(counter)
	joined := fresh && p.gone
	if fresh {
		p.heard, p.gone = time.Now(), false
	}
	n := c.othersLocked()
	c.mu.Unlock()
	if joined {
		c.log.Info("replica joined", "who", sender.short(), "others", n)
		c.say(c.keys.replicaSubject(sender), &beat{leaving: c.leaving.Load()}) // so that it knows us
	}
	return fresh
}

// othersLocked is how many replicas there are beside this one.
func (c *Cluster) othersLocked() int {
	n := 0
	for _, p := range c.peers {
		if !p.gone {
			n++
		}
	}
	return n
}

func (c *Cluster) beaten(sender id, m *beat) {
	if !m.leaving {
		return
	}
	c.mu.Lock()
	p := c.peers[sender]
	first := p != nil && !p.leaving
	if first {
		p.leaving = true
		c.troubled = time.Now()
	}
	c.mu.Unlock()
	if first {
		c.log.Info("replica is leaving", "who", sender.short())
	}
}

// bury looks for replicas that were not heard of for too long.
func (c *Cluster) bury() {
	var dead []id
	c.mu.Lock()
	for i, p := range c.peers {
		switch silent := time.Since(p.heard); {
		case silent > remembered:
			delete(c.peers, i)
		case silent > lostAfter && !p.gone:
			dead = append(dead, i)
		}
	}
	c.mu.Unlock()
	for _, i := range dead {
		c.lose(i, "silent")
	}
}

// lose ends what there is with a replica that is gone.
func (c *Cluster) lose(who id, why string) {
	c.mu.Lock()
	p := c.peers[who]
	news := p != nil && !p.gone
	if news {
		p.gone = true
		if !p.leaving {
			c.troubled = time.Now()
		}
	}
	pipes := slices.Collect(maps.Values(c.pipes))
	n := c.othersLocked()
	c.mu.Unlock()
	pipes = slices.DeleteFunc(pipes, func(p *pipe) bool { return !p.isWith(who) })
	switch {
	case !news:
	case p.leaving:
		c.log.Info("replica left", "who", who.short(), "others", n)
	default:
		c.counts.lost.Add(1)
		c.log.Warn("replica lost", "who", who.short(), "why", why, "others", n, "pipes", len(pipes))
	}
	for _, pipe := range pipes {
		pipe.end(signal.ReasonLost)
	}
}

// probe finds out which replicas are gone: NATS says so at once. It does so only
// if nobody has just done it, and reports whether there is anybody to probe.
func (c *Cluster) probe() bool {
	var peers []id
	c.mu.Lock()
	for i, p := range c.peers {
		if !p.gone {
			peers = append(peers, i)
		}
	}
	due := time.Since(c.probed) >= probeEvery
	c.mu.Unlock()
	if due {
		for _, i := range peers {
			_ = c.tell(i, i, &beat{leaving: c.leaving.Load()})
		}
		c.mu.Lock()
		c.probed = time.Now() // not before it is done: who relies on it asks later
		c.mu.Unlock()
	}
	return len(peers) > 0
}

// inTrouble reports whether hosts may be on their way from one replica to
// another.
func (c *Cluster) inTrouble() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.troubled.IsZero() && time.Since(c.troubled) < homeless
}

// throwAway counts a message that is of no use, and says so, but not all the time.
func (c *Cluster) throwAway(why, subject string) {
	c.counts.refuse(why)
	if now := time.Now(); now.Sub(c.warned[why]) > time.Minute {
		c.warned[why] = now
		hint := "somebody else uses the subjects of this cluster"
		if why == "forged" {
			hint = "somebody without this cluster's secret uses its subjects: perhaps a replica with another --nats-secret-file or other credentials"
		}
		c.log.Warn("a message was thrown away", "why", why, "subject", subject, "hint", hint)
	}
}

// Origin implements [server.Cluster].
func (c *Cluster) Origin(a netip.Addr) server.Origin { return c.keys.origin(a) }

// Ready implements [server.Cluster]: what we say comes back to us, and so to
// others.
func (c *Cluster) Ready() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.connected.Load() && time.Since(c.echoed) < lostAfter
}

// checkEcho says so if nothing comes back over a connection that is there.
func (c *Cluster) checkEcho() {
	if !c.connected.Load() || c.Ready() {
		c.deaf = 0
		return
	}
	if c.deaf++; c.deaf == int(lostAfter/beatEvery) {
		c.log.Warn("connected to NATS, but what is sent does not come back: may this user publish and subscribe?", "subjects", c.keys.name+".>")
	}
}

// Leave implements [server.Cluster].
func (c *Cluster) Leave() bool {
	c.leaving.Store(true)
	c.say(c.keys.beatSubject(), &beat{leaving: true})
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, p := range c.peers {
		if !p.leaving && !p.gone {
			return c.connected.Load()
		}
	}
	return false
}
