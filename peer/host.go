package peer

import (
	"context"
	"crypto/ed25519"
	"errors"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
)

// Limits of a host, where HostConfig does not say otherwise.
const (
	// DefaultMaxGuests is how many guests a host takes at once.
	DefaultMaxGuests = 64
	// ResumeGrace is how long a guest that has lost its link may come back
	// without a new proof. It covers a suspended laptop over lunch.
	ResumeGrace = time.Hour

	// maxPending bounds the handshakes under way, maxPendingSource those of one
	// origin as the signaling server tells them apart. One too many ends the oldest
	// of them, so that who stays silent cannot keep others out.
	maxPending       = 64
	maxPendingSource = 32
	// maxEvents bounds the events that wait for a slow observer.
	maxEvents = 256
	// observeTimeout bounds how long the end waits for an observer, in all.
	observeTimeout = time.Second
	// linkTimeout bounds the search for a direct path.
	linkTimeout = 20 * time.Second
	// maxExpiryWait is how long a grant may outlive its end while nobody looks.
	maxExpiryWait = time.Second
	// prepareEvery is how often the STUN servers are asked for those who knock.
	prepareEvery = 10 * time.Second
	// decideTimeout bounds a whole handshake, a person's word included.
	decideTimeout = 5 * time.Minute
	// drainTimeout bounds what guests may take to receive the shell's last words,
	// byeTimeout what they may take to answer a goodbye, and silentByeTimeout what one
	// may of whom nothing is heard: the person at the host waits for all of them.
	drainTimeout     = 2 * time.Second
	byeTimeout       = 2 * time.Second
	silentByeTimeout = 200 * time.Millisecond
)

// GuestInput takes what one guest does; see stream.Input. Its methods may be
// called from any goroutine, and but for Dropped only while the guest's role permits
// typing; when it does not any more, and while the guest has no link, Resize is called
// with zeros.
type GuestInput interface {
	stream.Input
	// Dropped says that the guest may not type, or did all the same: what it typed and
	// the program has not got is to be thrown away.
	Dropped()
	// Close says that the guest is gone. Nothing is called after it.
	Close()
}

// HostConfig says what a host shares, and with whom.
type HostConfig[S any] struct {
	// Key is the session key; the ticket pins it.
	Key ed25519.PrivateKey
	// Identity is the SSH key that the host proves to its guests, or nil.
	Identity keys.Identity
	// Authorize decides who may come in; see tunnel.Host. It must be safe for
	// concurrent use.
	Authorize func(ctx context.Context, offer tunnel.Offer, proven bool, hold func(text string) error) (tunnel.Grant, error)
	// Pipes are guests that knock, in practice a signal.Listener. Check is called when
	// this machine's addresses have changed, and when a guest has fallen silent, which may
	// be this end's network: then guests could not come back either. It must return at once.
	Pipes interface {
		Accept(ctx context.Context) (net.Conn, error)
		Check()
	}
	Transport *link.Transport
	Source    stream.Source[S]
	// NewInput returns what takes a guest's input. ready is to be called when
	// Keys may take more than it last did.
	NewInput func(guest GuestInfo, ready func()) GuestInput
	// Info is what a guest that was admitted is told about the session.
	Info func() Info
	// History returns what a guest asks for by AskHistory, at most MaxHistory bytes;
	// nil for nothing. It is sent beside the streams and never in front of them. It
	// must be safe for concurrent use, and may be nil.
	History func(from uint64) []byte
	// Observe is told of events, one at a time. It holds nobody up: events
	// that it is too slow for are dropped. It may be nil.
	Observe func(Event)
	// MaxGuests bounds the guests; 0 means DefaultMaxGuests.
	MaxGuests int
	// Log may be nil.
	Log *slog.Logger
}

// Host shares a stream.Source with guests. Its methods may be called
// concurrently.
type Host[S any] struct {
	// Set once.
	cfg    HostConfig[S]
	tunnel *tunnel.Host
	knocks *knockLimiter

	events chan Event    // for Observe
	ends   chan struct{} // holds one notice that a grant ends at another time
	beside chan struct{} // has a slot for each link being made beside another

	mu       sync.Mutex
	guests   map[tunnel.GuestID]*guest[S] // guarded by mu
	pending  []*handshake                 // guarded by mu; the oldest first
	prepared time.Time                    // guarded by mu; when the STUN servers were asked last
	ending   *Goodbye                     // guarded by mu; set when no more guests are taken
	running  sync.WaitGroup               // handshakes and guests
}

// handshake is a tunnel being set up.
type handshake struct {
	source uint64 // where it comes from
	cancel context.CancelFunc
}

// NewHost returns a host; Run makes it take guests.
func NewHost[S any](cfg HostConfig[S]) (*Host[S], error) {
	th, err := tunnel.NewHost(cfg.Key)
	if err != nil {
		return nil, err
	}
	if cfg.MaxGuests <= 0 {
		cfg.MaxGuests = DefaultMaxGuests
	}
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	h := &Host[S]{
		cfg:    cfg,
		tunnel: th,
		knocks: newKnockLimiter(),
		events: make(chan Event, maxEvents),
		beside: make(chan struct{}, maxBesideAtOnce),
		ends:   make(chan struct{}, 1),
		guests: map[tunnel.GuestID]*guest[S]{},
	}
	th.Identity = cfg.Identity
	th.Authorize = h.authorize
	th.Resume = h.resumable
	th.Info = func() []byte { return cfg.Info().append(nil) }
	return h, nil
}

// Run takes guests until ctx ends, and returns when all of them, and all that
// Run started, are gone. If Pipes ends earlier, guests that are there stay, and
// Run returns its error in the end. To part from guests politely call End
// before ending ctx.
func (h *Host[S]) Run(ctx context.Context) error {
	observed := make(chan struct{})
	go func() {
		defer close(observed)
		for e := range h.events {
			if h.cfg.Observe != nil {
				h.cfg.Observe(e)
			}
		}
	}()
	defer func() {
		close(h.events)
		select {
		case <-observed:
		case <-time.After(observeTimeout): // it is stuck, and no reason not to end
		}
	}()
	h.running.Go(func() { h.lookAround(ctx) })
	h.running.Go(func() {
		h.cfg.Transport.Watch(ctx, func() {
			h.cfg.Pipes.Check()
			h.roam()
		})
	})
	h.running.Go(func() { h.expire(ctx) })
	var err error
	for {
		var pipe net.Conn
		if pipe, err = h.cfg.Pipes.Accept(ctx); err != nil {
			break
		}
		hctx, cancel := context.WithTimeout(ctx, decideTimeout)
		k := h.knock(pipe, cancel)
		if k == nil {
			cancel()
			pipe.Close()
			continue
		}
		h.prepare(ctx)
		go func() {
			defer h.running.Done()
			t, err := h.tunnel.Accept(hctx, pipe)
			h.knocked(k)
			cancel()
			if err != nil {
				h.refused(err)
				return
			}
			h.serve(ctx, t)
		}()
	}
	<-ctx.Done()
	h.mu.Lock()
	if h.ending == nil { // nothing may be added to running from here on
		h.ending = &Goodbye{Reason: ReasonStopped}
	}
	h.mu.Unlock()
	h.running.Wait()
	if errors.Is(err, context.Cause(ctx)) || errors.Is(err, net.ErrClosed) {
		return nil
	}
	return err
}

// knock counts a handshake in, which cancel ends. It returns nil when the
// session ends.
func (h *Host[S]) knock(pipe net.Conn, cancel context.CancelFunc) *handshake {
	k := &handshake{cancel: cancel}
	if a, ok := pipe.RemoteAddr().(signal.Addr); ok {
		k.source = a.Source
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending != nil {
		return nil
	}
	same := func(o *handshake) bool { return o.source == k.source }
	siblings := 0
	for _, o := range h.pending {
		if same(o) {
			siblings++
		}
	}
	switch {
	case siblings >= maxPendingSource:
		h.dropLocked(slices.IndexFunc(h.pending, same))
	case len(h.pending) >= maxPending:
		h.dropLocked(0)
	}
	h.pending = append(h.pending, k)
	h.running.Add(1)
	return k
}

// dropLocked ends a handshake to make room for another.
func (h *Host[S]) dropLocked(i int) {
	h.pending[i].cancel()
	h.pending = slices.Delete(h.pending, i, i+1)
}

// knocked counts a handshake out.
func (h *Host[S]) knocked(k *handshake) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if i := slices.Index(h.pending, k); i >= 0 {
		h.pending = slices.Delete(h.pending, i, i+1)
	}
}

// serve makes a link over a tunnel and hands it to its guest.
func (h *Host[S]) serve(ctx context.Context, t *tunnel.Conn) {
	defer t.Close()
	g, err := h.guest(ctx, t)
	if err != nil {
		h.cfg.Log.Info("guest not taken", "err", err)
		return
	}
	lctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	s, err := h.link(lctx, t)
	if err != nil {
		if ctx.Err() == nil && g.unlinked(err) {
			h.observe(Fault{g.info(), err})
		} else {
			h.cfg.Log.Debug("an attempt at a link failed", "err", err)
		}
		return
	}
	// A guest makes several links side by side and takes one. Where it has one
	// already, it shows which by using it.
	if g.claim() {
		if err := s.await(lctx); err != nil {
			s.close()
			return
		}
	}
	if !g.bind(s) {
		s.close()
		return
	}
	// The guest closes the tunnel when its end of the link is open too; until then
	// it may wait for candidates.
	for err == nil {
		_, err = t.Recv(lctx)
	}
}

// link makes the link that the guest at the other end of t asks for.
func (h *Host[S]) link(ctx context.Context, t *tunnel.Conn) (*session, error) {
	l, err := h.cfg.Transport.Accept(ctx, signaler{t})
	if err != nil {
		return nil, err
	}
	s, err := newSession(l, t, hostEnd)
	if err != nil {
		l.Close()
		return nil, err
	}
	return s, nil
}

// refused reports a handshake that failed.
func (h *Host[S]) refused(err error) {
	var r *tunnel.RefusedError
	if !errors.As(err, &r) {
		h.cfg.Log.Debug("handshake failed", "err", err)
		return
	}
	if r.Code == tunnel.RefusedUnknown {
		return // a guest of an earlier session, who asked for nothing else
	}
	if suppressed, ok := h.knocks.allow(time.Now()); ok {
		h.observe(Knock{Offered: r.Offered, Code: r.Code, Suppressed: suppressed})
	}
}

// authorize adds the host's own limits to the configured decision.
func (h *Host[S]) authorize(ctx context.Context, offer tunnel.Offer, proven bool, hold func(string) error) (tunnel.Grant, error) {
	grant, err := h.cfg.Authorize(ctx, offer, proven, hold)
	if err != nil {
		return grant, err
	}
	if !proven {
		return grant, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending != nil {
		return tunnel.Grant{}, &tunnel.RefusedError{Code: tunnel.RefusedEnding, Text: "the session is ending"}
	}
	if !h.roomLocked(offer) {
		return tunnel.Grant{}, &tunnel.RefusedError{Code: tunnel.RefusedFull, Text: "the session has as many guests as it takes"}
	}
	return grant, nil
}

// roomLocked reports whether one more guest can be taken. One that has lost its
// link makes room for it: the one that has been away longest, of the same key
// if there is one.
func (h *Host[S]) roomLocked(offer tunnel.Offer) bool {
	if len(h.guests) < h.cfg.MaxGuests {
		return true
	}
	var away *guest[S]
	for _, g := range h.guests {
		if g.lostAt().IsZero() {
			continue
		}
		closer := away != nil && keys.Equal(g.key, offer.Key) && !keys.Equal(away.key, offer.Key)
		earlier := away != nil && keys.Equal(g.key, offer.Key) == keys.Equal(away.key, offer.Key) && g.lostAt().Before(away.lostAt())
		if away == nil || closer || earlier {
			away = g
		}
	}
	if away == nil {
		return false
	}
	delete(h.guests, away.id)
	away.part(Goodbye{Reason: ReasonLeft})
	return true
}

// prepare asks the STUN servers for the host's addresses while a guest proves its key,
// for who will be let in. The transport remembers the answers for a while, and nobody who
// knocks and knocks has them asked more often.
func (h *Host[S]) prepare(ctx context.Context) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending != nil || !h.prepared.IsZero() && time.Since(h.prepared) < prepareEvery {
		return
	}
	h.prepared = time.Now()
	h.running.Go(func() { // the handshake for which it is done holds running up
		ctx, cancel := context.WithTimeout(ctx, linkTimeout)
		defer cancel()
		if _, err := h.cfg.Transport.Mappings(ctx); err != nil {
			h.cfg.Log.Debug("no answer of a STUN server", "err", err)
		}
	})
	h.running.Go(func() { h.lookAround(ctx) })
}

// lookAround finds out what the NATs in front of the host do, for guests to whom no path
// will be found.
func (h *Host[S]) lookAround(ctx context.Context) {
	if _, err := h.cfg.Transport.NAT(ctx); err != nil {
		h.cfg.Log.Debug("NAT unknown", "err", err)
	}
}

// resumable is tunnel.Host's Resume. Who would not be let in any more is not
// let back in either.
func (h *Host[S]) resumable(id tunnel.GuestID) ([]byte, keys.Role, bool) {
	h.mu.Lock()
	g := h.guests[id]
	ending := h.ending != nil
	h.mu.Unlock()
	if g == nil || ending || !h.recheck(context.Background(), g) {
		return nil, 0, false
	}
	return g.secret, g.info().Role, true
}

// guest returns the guest at the other end of t, a new one unless it resumes.
func (h *Host[S]) guest(ctx context.Context, t *tunnel.Conn) (*guest[S], error) {
	p := t.Peer()
	if p.Resumed {
		h.mu.Lock()
		defer h.mu.Unlock()
		g := h.guests[p.Guest]
		if g == nil || h.ending != nil {
			return nil, errors.New("it left while it was coming back")
		}
		return g, nil
	}
	g := newGuest(h, p)
	h.mu.Lock()
	if h.ending != nil || !h.roomLocked(tunnel.Offer{Key: p.Key}) {
		h.mu.Unlock()
		g.input.Close()
		return nil, errors.New("no room for it any more")
	}
	h.guests[p.Guest] = g
	h.running.Add(1)
	h.mu.Unlock()
	go func() {
		defer h.running.Done()
		g.run(ctx)
	}()
	// The list may have changed while it was let in.
	h.recheck(ctx, g)
	return g, nil
}

// remove forgets a guest.
func (h *Host[S]) remove(g *guest[S]) {
	h.mu.Lock()
	delete(h.guests, g.id)
	h.mu.Unlock()
}

// observe passes an event on, or drops it when the observer is far behind.
func (h *Host[S]) observe(e Event) {
	level := slog.LevelInfo
	if _, ok := e.(Resized); ok {
		level = slog.LevelDebug
	}
	h.cfg.Log.Log(context.Background(), level, "session", "event", e)
	select {
	case h.events <- e:
	default:
	}
}

// all returns the guests, those who were admitted first in front.
func (h *Host[S]) all() []*guest[S] {
	h.mu.Lock()
	defer h.mu.Unlock()
	gs := make([]*guest[S], 0, len(h.guests))
	for _, g := range h.guests {
		gs = append(gs, g)
	}
	slices.SortFunc(gs, func(a, b *guest[S]) int { return a.since.Compare(b.since) })
	return gs
}

// Guests returns what is known of the guests, those who were admitted first in
// front.
func (h *Host[S]) Guests() []GuestInfo {
	var infos []GuestInfo
	for _, g := range h.all() {
		infos = append(infos, g.info())
	}
	return infos
}

// Recheck asks Authorize again about every guest: one who would not be let in
// any more is told to go, one whose role has changed gets the new one. Call it
// when the allowlist has changed; that a grant ends is seen without.
func (h *Host[S]) Recheck(ctx context.Context) {
	for _, g := range h.all() {
		h.recheck(ctx, g)
	}
}

// recheck is Recheck for one guest; it reports whether that may stay.
func (h *Host[S]) recheck(ctx context.Context, g *guest[S]) bool {
	g.checking.Lock()
	defer g.checking.Unlock()
	grant, err := h.cfg.Authorize(ctx, tunnel.Offer{Key: g.key, Comment: g.comment}, false, nil)
	if err != nil {
		g.setRole(keys.RoleNone)
		text := "this key is not on the host's list any more"
		var refused *tunnel.RefusedError
		if errors.As(err, &refused) && refused.Code == tunnel.RefusedExpired {
			text = "this key has expired"
		}
		g.part(Goodbye{Reason: ReasonRemoved, Text: text})
		return false
	}
	g.setRole(grant.Role)
	if g.setUntil(grant.Until) {
		select {
		case h.ends <- struct{}{}:
		default:
		}
	}
	return true
}

// expire rechecks guests when their grants end.
func (h *Host[S]) expire(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-h.ends:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		now, next := time.Now(), time.Time{}
		for _, g := range h.all() {
			until := g.grantedUntil()
			switch {
			case until.IsZero():
			case !until.After(now):
				h.recheck(ctx, g)
			case next.IsZero() || until.Before(next):
				next = until
			}
		}
		timer.Stop()
		if !next.IsZero() {
			// Long timers are not to be trusted: they stand still while a machine sleeps.
			timer.Reset(min(next.Sub(now), maxExpiryWait))
		}
	}
}

// End takes no more guests, waits until those who are linked have received all
// that the Source has, tells them bye, and waits until they are gone; all of it
// for a few seconds at most.
func (h *Host[S]) End(bye Goodbye) {
	h.mu.Lock()
	if h.ending == nil {
		h.ending = &bye
	}
	h.mu.Unlock()
	var leaving sync.WaitGroup
	for _, g := range h.all() {
		leaving.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), drainTimeout)
			defer cancel()
			if g.info().Linked && !g.sender.Stalled() {
				g.sender.Drain(ctx) // what it has not received by then is lost to it
			}
			g.part(bye)
			<-g.gone
		})
	}
	leaving.Wait()
}
