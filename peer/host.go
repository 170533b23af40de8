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
	// origin as the signaling server tells them apart.
	maxPending       = 32
	maxPendingSource = 6
	// linkTimeout bounds the search for a direct path.
	linkTimeout = 20 * time.Second
	// decideTimeout bounds a whole handshake, a person's word included.
	decideTimeout = 5 * time.Minute
	// drainTimeout bounds what guests may take to receive the shell's last words,
	// byeTimeout what they may take to answer a goodbye.
	drainTimeout = 2 * time.Second
	byeTimeout   = 2 * time.Second
)

// GuestInput takes what one guest does; see stream.Input. Its methods may be
// called from any goroutine, and only while the guest's role permits typing;
// when it does not any more, Resize is called with zeros.
type GuestInput interface {
	stream.Input
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
	Authorize func(ctx context.Context, offer tunnel.Offer, proven bool, hold func(text string) error) (keys.Role, error)
	// Pipes are guests that knock, in practice a signal.Listener.
	Pipes interface {
		Accept(ctx context.Context) (net.Conn, error)
	}
	Transport *link.Transport
	Source    stream.Source[S]
	// NewInput returns what takes a guest's input. ready is to be called when
	// Keys may take more than it last did.
	NewInput func(guest GuestInfo, ready func()) GuestInput
	// Info is what a guest that was admitted is told about the session.
	Info func() Info
	// Observe is told of events, one at a time; it must return soon. It may
	// be nil.
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

	observing sync.Mutex // held while Observe runs

	mu      sync.Mutex
	guests  map[tunnel.GuestID]*guest[S] // guarded by mu
	pending map[uint64]int               // guarded by mu; handshakes by origin
	ending  *Goodbye                     // guarded by mu; set when no more guests are taken
	running sync.WaitGroup               // handshakes and guests
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
		cfg:     cfg,
		tunnel:  th,
		knocks:  newKnockLimiter(),
		guests:  map[tunnel.GuestID]*guest[S]{},
		pending: map[uint64]int{},
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
	var err error
	for {
		var pipe net.Conn
		if pipe, err = h.cfg.Pipes.Accept(ctx); err != nil {
			break
		}
		source, ok := h.knock(pipe)
		if !ok {
			pipe.Close()
			continue
		}
		go func() {
			defer h.knocked(source)
			h.serve(ctx, pipe)
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

// knock counts a handshake in, unless there are too many.
func (h *Host[S]) knock(pipe net.Conn) (source uint64, ok bool) {
	if a, ok := pipe.RemoteAddr().(signal.Addr); ok {
		source = a.Source
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	total := 0
	for _, n := range h.pending {
		total += n
	}
	if h.ending != nil || total >= maxPending || h.pending[source] >= maxPendingSource {
		return 0, false
	}
	h.pending[source]++
	h.running.Add(1)
	return source, true
}

// knocked counts a handshake out.
func (h *Host[S]) knocked(source uint64) {
	h.mu.Lock()
	if h.pending[source]--; h.pending[source] == 0 {
		delete(h.pending, source)
	}
	h.mu.Unlock()
	h.running.Done()
}

// serve runs a handshake, and hands the link that comes out of it to its guest.
func (h *Host[S]) serve(ctx context.Context, pipe net.Conn) {
	hctx, cancel := context.WithTimeout(ctx, decideTimeout)
	t, err := h.tunnel.Accept(hctx, pipe)
	cancel()
	if err != nil {
		h.refused(err)
		return
	}
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
		h.observe(Fault{g.info(), err})
		return
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
func (h *Host[S]) authorize(ctx context.Context, offer tunnel.Offer, proven bool, hold func(string) error) (keys.Role, error) {
	role, err := h.cfg.Authorize(ctx, offer, proven, hold)
	if err != nil {
		return role, err
	}
	if !proven {
		h.prepare(ctx)
		return role, nil
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.ending != nil:
		return 0, &tunnel.RefusedError{Code: tunnel.RefusedEnding, Text: "the session is ending"}
	case len(h.guests) >= h.cfg.MaxGuests:
		return 0, &tunnel.RefusedError{Code: tunnel.RefusedFull, Text: "the session has as many guests as it takes"}
	}
	return role, nil
}

// prepare asks the STUN servers for the host's addresses while a guest who will
// probably be let in proves its key. The transport remembers the answers for
// a while.
func (h *Host[S]) prepare(ctx context.Context) {
	h.running.Go(func() { // the handshake that calls holds running up
		ctx, cancel := context.WithTimeout(ctx, linkTimeout)
		defer cancel()
		if _, err := h.cfg.Transport.Mappings(ctx); err != nil {
			h.cfg.Log.Debug("no answer of a STUN server", "err", err)
		}
	})
}

// resumable is tunnel.Host's Resume.
func (h *Host[S]) resumable(id tunnel.GuestID) ([]byte, keys.Role, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	g := h.guests[id]
	if g == nil || h.ending != nil {
		return nil, 0, false
	}
	return g.secret, g.info().Role, true
}

// guest returns the guest at the other end of t, a new one unless it resumes.
func (h *Host[S]) guest(ctx context.Context, t *tunnel.Conn) (*guest[S], error) {
	p := t.Peer()
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ending != nil {
		return nil, net.ErrClosed
	}
	if p.Resumed {
		g := h.guests[p.Guest]
		if g == nil {
			return nil, errors.New("it left while it was coming back")
		}
		return g, nil
	}
	g := newGuest(h, p)
	h.guests[p.Guest] = g
	h.running.Add(1)
	go func() {
		defer h.running.Done()
		g.run(ctx)
	}()
	return g, nil
}

// remove forgets a guest.
func (h *Host[S]) remove(g *guest[S]) {
	h.mu.Lock()
	delete(h.guests, g.id)
	h.mu.Unlock()
}

// observe passes an event on.
func (h *Host[S]) observe(e Event) {
	h.cfg.Log.Info("session", "event", e)
	if h.cfg.Observe == nil {
		return
	}
	h.observing.Lock()
	defer h.observing.Unlock()
	h.cfg.Observe(e)
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
// when the allowlist has changed.
func (h *Host[S]) Recheck(ctx context.Context) {
	for _, g := range h.all() {
		role, err := h.cfg.Authorize(ctx, tunnel.Offer{Key: g.key, Comment: g.comment}, false, nil)
		if err != nil {
			g.part(Goodbye{Reason: ReasonRemoved, Text: "this key is not on the host's list any more"})
			continue
		}
		g.setRole(role)
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
			if g.info().Linked {
				g.sender.Drain(ctx) // what it has not received by then is lost to it
			}
			g.part(bye)
			<-g.gone
		})
	}
	leaving.Wait()
}
