package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/peer/ticket"
	"github.com/pairterm/pairterm/peer/tunnel"
	"github.com/pairterm/pairterm/signal"
)

// How a guest goes about its links.
const (
	// meetWithin is how long it may take to reach the host and again until that
	// has answered, and raceAfter how long a link may then take to open, before
	// another attempt is made beside it: under heavy loss a handshake that had bad
	// luck waits for timers of seconds, TCP's as well as SCTP's. Where the host was
	// reached sooner, its answer is expected sooner, within a time of which
	// meetAtLeast is the least.
	meetWithin  = 700 * time.Millisecond
	meetAtLeast = 250 * time.Millisecond
	raceAfter   = time.Second
	// maxRacers bounds the attempts side by side.
	maxRacers = 4
	// noPathPatience is how long the attempts beside one that has found no path may go on.
	// They are younger, but look for the same thing, and people are to be told within 15 s.
	noPathPatience = 1500 * time.Millisecond
	// replaceWithin is for how long an attempt that times out is replaced.
	replaceWithin = 15 * time.Second
	// mostCut is how many attempts are replaced at once because a signaling server
	// went away under them: of several, another one has the host already, or soon.
	mostCut = 3
	// absence is how long a guest that has lost its link believes a server that
	// says that the host is not there, or a machine that refuses connections.
	absence = 15 * time.Second
	// firstRetry and lastRetry bound the waits between attempts to come back.
	firstRetry = 250 * time.Millisecond
	lastRetry  = 5 * time.Second
	// leaveTimeout is how long a guest that leaves waits for its last keys to arrive.
	leaveTimeout = time.Second
	// waitRetry is the wait between looks for a host that is not there yet.
	waitRetry = 2 * time.Second
)

// ErrHostGone reports that the link was lost and the host is not at any of its
// signaling servers any more.
var ErrHostGone = errors.New("the host is gone")

// Stage is how far a guest has come on its way to a link.
type Stage int

// The stages, in their order.
const (
	StageSignaling   Stage = iota // looking for the host at its signaling servers
	StageMeeting                  // setting up the tunnel to the host
	StageAuthorizing              // proving a key
	StageHeld                     // the person at the host is being asked
	StageLinking                  // let in; looking for a direct path
	StageLinked                   // there is a link
)

// String returns the stage in words for a person.
func (s Stage) String() string {
	switch s {
	case StageSignaling:
		return "signaling"
	case StageMeeting:
		return "meeting the host"
	case StageAuthorizing:
		return "proving your key"
	case StageHeld:
		return "waiting for the host's word"
	case StageLinking:
		return "authorised, finding a path"
	case StageLinked:
		return "connected"
	}
	return fmt.Sprintf("stage %d", int(s))
}

// Status is what a guest knows of its connection.
type Status struct {
	Linked  bool
	Path    link.PathInfo // of the present or last link
	Stalled bool          // nothing heard for two seconds though something should have been
	Retry   error         // why the last attempt to come back failed, nil for none
}

// GuestConfig says whom a guest joins, and what it does with what it gets.
type GuestConfig[S any] struct {
	Ticket ticket.Ticket
	// Identities are the keys that may be offered, in this order.
	Identities []keys.Identity
	// HostKeys, if not nil, is the list of which the host must prove a key.
	HostKeys *keys.List
	// Signal adjusts how signaling servers are dialled; nil is fine.
	Signal *signal.Options
	// Link configures the links; without STUN servers, those that the signaling server tells
	// are asked.
	Link link.Config
	Sink stream.Sink[S]
	// Software names this program and its version to the host.
	Software string
	// Wait makes Connect wait until the host is there.
	Wait bool
	// OnWait is told why the host is not there, each time that Connect has looked in
	// vain; it must return soon, and may be nil. OnStage is not told of StageSignaling
	// any more then, which begins anew every two seconds.
	OnWait func(why error)
	// OnStage is told how far Connect has come. OnStatus is told when the state
	// of the link changes after that, OnRole when the host has changed the
	// guest's role, OnEcho see stream.Config. All must return soon, and may
	// be nil.
	OnStage  func(Stage)
	OnStatus func(Status)
	OnRole   func(keys.Role)
	OnEcho   func(typed uint64)
	// OnHistory gets what AskHistory asked for. It must return soon, and may be nil.
	OnHistory func([]byte)
	// Log may be nil.
	Log *slog.Logger
}

// Guest joins a Host. Connect, then Run; the other methods may be called
// concurrently.
type Guest[S any] struct {
	// Set once.
	cfg      GuestConfig[S]
	room     signal.Room
	receiver *stream.Receiver[S]
	absence  time.Duration  // the constant, but in tests
	stalls   chan bool      // whether the receiver is stalled; holds the latest
	proving  chan struct{}  // holds a token while no attempt is proving a key
	ending   sync.WaitGroup // what nobody waits for before Close: tunnels and attempts that are over

	mu        sync.Mutex
	transport *link.Transport    // guarded by mu; nil until the first tunnel is there
	resume    *tunnel.Resumption // guarded by mu; nil until the host has let us in
	host      tunnel.Peer        // guarded by mu; as of the first tunnel
	role      keys.Role          // guarded by mu
	session   *session           // guarded by mu; the present one, or nil
	status    Status             // guarded by mu
}

// NewGuest returns a guest; nothing is started.
func NewGuest[S any](cfg GuestConfig[S]) *Guest[S] {
	if cfg.Log == nil {
		cfg.Log = slog.New(slog.DiscardHandler)
	}
	g := &Guest[S]{
		cfg:     cfg,
		absence: absence,
		room:    signal.RoomOf(cfg.Ticket.Pin),
		stalls:  make(chan bool, 1),
		proving: make(chan struct{}, 1),
	}
	g.proving <- struct{}{}
	g.receiver = stream.NewReceiver(nil, cfg.Sink, stream.Config{
		OnStall: func(stalled bool) {
			select {
			case <-g.stalls:
			default:
			}
			select {
			case g.stalls <- stalled:
			default: // Run has put the same there meanwhile
			}
		},
		OnEcho: cfg.OnEcho,
	})
	return g
}

// Host is what the host proved and said of itself. It is valid after Connect.
func (g *Guest[S]) Host() (tunnel.Peer, Info) {
	g.mu.Lock()
	defer g.mu.Unlock()
	info, _ := parseInfo(g.host.Info) // checked in open
	return g.host, info
}

// Role is what the guest may do now.
func (g *Guest[S]) Role() keys.Role {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.role
}

// Status is what is known of the connection now.
func (g *Guest[S]) Status() Status {
	g.mu.Lock()
	defer g.mu.Unlock()
	s := g.status
	if g.session != nil {
		s.Path = g.session.link.Path()
	}
	return s
}

// Stats are the receiver's figures.
func (g *Guest[S]) Stats() stream.Stats { return g.receiver.Stats() }

// SendKeys sends what was typed; see stream.Receiver.SendKeys.
func (g *Guest[S]) SendKeys(ctx context.Context, p []byte) (typed uint64, err error) {
	return g.receiver.SendKeys(ctx, p)
}

// SendResize tells the host the size of the guest's window, in cells.
func (g *Guest[S]) SendResize(cols, rows int) error { return g.receiver.SendResize(cols, rows) }

// Undelivered is how many typed bytes the host has not taken; final after Run.
func (g *Guest[S]) Undelivered() uint64 { return g.receiver.Undelivered() }

// Close ends what Connect has made. It is needed when Run is not called.
func (g *Guest[S]) Close() {
	g.setSession(nil)
	g.mu.Lock()
	t := g.transport
	g.mu.Unlock()
	if t != nil {
		t.Close()
	}
	g.ending.Wait()
}

// stage reports progress.
func (g *Guest[S]) stage(s Stage) {
	g.cfg.Log.Debug("joining", "stage", s)
	if g.cfg.OnStage != nil {
		g.cfg.OnStage(s)
	}
}

// Connect meets the host and makes the first link. Errors: those of
// signal.DialAny, tunnel.Guest.Dial and link.Transport.Dial, and ctx's.
func (g *Guest[S]) Connect(ctx context.Context) error {
	progress := g.stage
	for {
		s, err := g.race(ctx, progress)
		if err == nil {
			g.setSession(s)
			g.stage(StageLinked)
			return nil
		}
		if !g.cfg.Wait || !absent(err) {
			return err
		}
		g.cfg.Log.Debug("waiting for the host", "err", err)
		if g.cfg.OnWait != nil {
			g.cfg.OnWait(err)
		}
		progress = func(s Stage) {
			if s != StageSignaling {
				g.stage(s)
			}
		}
		select {
		case <-time.After(waitRetry):
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// absent reports whether err shows that the host is not there now, though it may be later.
func absent(err error) bool {
	return errors.Is(err, signal.ErrNoRoom) || errors.Is(err, signal.ErrUnreachable) ||
		errors.Is(err, signal.ErrShuttingDown) || errors.Is(err, signal.ErrDetached) || errors.Is(err, signal.ErrRateLimited)
}

// gone reports whether err is evidence that the host has left, rather than that the
// guest's own network is down.
func gone(err error) bool {
	return errors.Is(err, signal.ErrNoRoom) || errors.Is(err, syscall.ECONNREFUSED)
}

// Run feeds the sink and keeps the session going over new links until the host
// says goodbye, which it returns. Errors: ErrHostGone, a *tunnel.RefusedError
// when the host does not know the guest any more, those of the streams. ctx
// ends it at once, without a goodbye; see Leave.
func (g *Guest[S]) Run(ctx context.Context) (Goodbye, error) {
	defer g.Close()
	ctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	failed := make(chan error, 1)
	work.Go(func() { failed <- g.receiver.Run(ctx) })

	byes := make(chan Goodbye, 1)
	var looking search
	better := make(chan *session)
	use := func(s *session) {
		if s.moved {
			g.stay(ctx, &work)
		}
		g.setSession(s)
		g.receiver.Rebind(syncConn{s})
		work.Go(func() { g.receive(s, byes) })
		work.Go(func() { g.improve(ctx, s, better) })
	}
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	if s == nil {
		return Goodbye{}, errors.New("peer: Run before Connect")
	}
	use(s)
	for {
		select {
		case s := <-better:
			if looking.results != nil {
				looking.cancel()
			}
			use(s)
		case bye := <-byes:
			return bye, nil
		case err := <-failed:
			return Goodbye{}, err
		case stalled := <-g.stalls:
			g.setStatus(func(s *Status) { s.Stalled = stalled })
			switch {
			case stalled && looking.results == nil:
				looking = g.look(ctx, &work)
			case !stalled && looking.results != nil:
				looking.cancel() // the link moves again by itself
			}
		case r := <-looking.results:
			looking.cancel()
			looking = search{}
			switch {
			case r.session != nil:
				use(r.session)
			case g.receiver.Stalled() && r.err != nil && !errors.Is(r.err, context.Canceled):
				return Goodbye{}, r.err
			case g.receiver.Stalled():
				select { // stalled again while the search was being called off
				case g.stalls <- true:
				default:
				}
			default: // nobody is looking any more, in vain or otherwise
				g.setStatus(func(s *Status) { s.Retry = nil })
			}
		}
	}
}

// Leave waits a moment until what was typed has arrived, tells the host that the
// guest goes, and waits a moment for that to arrive, too. The caller ends Run's
// ctx next.
func (g *Guest[S]) Leave() {
	deadline := time.Now().Add(leaveTimeout)
	for g.Undelivered() > 0 && !g.receiver.Stalled() && time.Now().Before(deadline) {
		time.Sleep(5 * time.Millisecond) // the streams tell nobody when they are through
	}
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	if s == nil || s.send(Goodbye{Reason: ReasonLeft}) != nil {
		return
	}
	t := time.NewTimer(byeTimeout / 4)
	defer t.Stop()
	select {
	case <-s.link.Done(): // the host closes the link when it has heard
	case <-t.C:
	}
}

// receive reads a session's control channel until the link ends.
func (g *Guest[S]) receive(s *session, byes chan<- Goodbye) {
	var history historyReader
	err := s.receive(func(m any) {
		switch m := m.(type) {
		case Goodbye:
			select {
			case byes <- m:
			default:
			}
		case controlHistory:
			p, complete, err := history.add(m)
			switch {
			case err != nil:
				g.cfg.Log.Debug("history not taken", "err", err)
				s.hangUp()
			case complete && g.cfg.OnHistory != nil:
				g.cfg.OnHistory(p)
			}
		case controlHello:
			g.setRole(m.role)
		case controlRole:
			g.setRole(m.role)
		case controlBeside:
			s.handBeside(m)
		case controlRoam:
			select {
			case s.roam <- struct{}{}:
			default: // told already
			}
		}
	})
	g.cfg.Log.Debug("control channel ended", "err", err)
	s.hangUp()
}

func (g *Guest[S]) setRole(role keys.Role) {
	g.mu.Lock()
	changed := g.role != role
	g.role = role
	g.mu.Unlock()
	if changed && g.cfg.OnRole != nil {
		g.cfg.OnRole(role)
	}
}

// setSession makes s the present session, which may be nil, and hangs up the
// one before.
func (g *Guest[S]) setSession(s *session) {
	g.mu.Lock()
	old := g.session
	g.session = s
	g.mu.Unlock()
	if old != nil && old != s && !old.staying.Load() {
		old.hangUp()
	}
	g.setStatus(func(st *Status) {
		st.Linked, st.Retry = s != nil, nil
		if s != nil {
			st.Path, st.Stalled = s.link.Path(), false
		}
	})
}

// setStatus changes the status and reports it if it has changed.
func (g *Guest[S]) setStatus(change func(*Status)) {
	g.mu.Lock()
	before := g.status
	change(&g.status)
	after := g.status
	g.mu.Unlock()
	if after != before && g.cfg.OnStatus != nil {
		g.cfg.OnStatus(after)
	}
}

// attemptResult is the outcome of a search for a link.
type attemptResult struct {
	session *session
	err     error
	took    time.Duration
}

// search is a search for a new link under way, or none.
type search struct {
	results chan attemptResult // holds the one result; nil for no search
	cancel  context.CancelFunc
}

// look begins a search for a new link.
func (g *Guest[S]) look(ctx context.Context, work *sync.WaitGroup) search {
	ctx, cancel := context.WithCancel(ctx)
	s := search{make(chan attemptResult, 1), cancel}
	work.Go(func() { s.results <- g.comeBack(ctx) })
	return s
}

// comeBack looks for a new link until there is one, the host is known to be
// gone, or ctx ends.
func (g *Guest[S]) comeBack(ctx context.Context) attemptResult {
	var missing time.Time // since when the host has been reported absent
	for wait := firstRetry; ; wait = min(2*wait, lastRetry) {
		s, err := g.race(ctx, nil)
		if err == nil {
			return attemptResult{session: s}
		}
		var refused *tunnel.RefusedError
		switch {
		case ctx.Err() != nil:
			return attemptResult{err: context.Canceled}
		case errors.As(err, &refused) || errors.Is(err, tunnel.ErrWrongHost):
			return attemptResult{err: err}
		case !gone(err):
			missing = time.Time{}
		case missing.IsZero():
			missing = time.Now()
		case time.Since(missing) >= g.absence:
			return attemptResult{err: fmt.Errorf("%w: %w", ErrHostGone, err)}
		}
		if !missing.IsZero() { // looks once more when the time is over, not seconds later
			wait = min(wait, g.absence-time.Since(missing))
		}
		g.cfg.Log.Info("no new link", "err", err)
		g.setStatus(func(s *Status) { s.Retry = err })
		select {
		case <-time.After(wait):
		case <-ctx.Done():
			return attemptResult{err: context.Canceled}
		}
	}
}

// race makes a link. When one takes long it tries another beside it; the first
// one that opens is taken, and the others are called off. Progress, which may
// be nil, is told how far the first attempt has come. A person is asked once,
// however many attempts there are.
func (g *Guest[S]) race(ctx context.Context, progress func(Stage)) (*session, error) {
	ctx, cancel := context.WithCancel(ctx)
	var racers sync.WaitGroup
	results := make(chan attemptResult)
	defer func() {
		cancel()
		g.ending.Go(func() {
			racers.Wait()
			close(results)
		})
		g.ending.Go(func() {
			for r := range results { // a second winner
				if r.session != nil {
					r.session.hangUp()
				}
			}
		})
	}()
	stages := make(chan Stage)
	running := 0
	start := func(first bool) {
		running++
		racers.Go(func() {
			begin := time.Now()
			s, err := g.attempt(ctx, func(s Stage) {
				if first && progress != nil {
					progress(s)
				}
				select {
				case stages <- s:
				case <-ctx.Done():
				}
			})
			results <- attemptResult{s, err, time.Since(begin)}
		})
	}
	began, cut := time.Now(), 0
	start(true)
	next := time.NewTimer(meetWithin)
	defer next.Stop()
	again := meetWithin
	var (
		worst  error
		enough <-chan time.Time // set when one of them has found no path
	)
	for {
		select {
		case s := <-stages:
			switch s {
			case StageMeeting:
				// The tunnel takes as many round trips as the way to it did.
				if took := max(2*time.Since(began), meetAtLeast); running == 1 && took < again {
					again = took
					next.Reset(again)
				}
			case StageAuthorizing, StageHeld:
				next.Stop() // it takes as long as a person takes
			case StageLinking:
				again = raceAfter
				next.Reset(again)
			}
		case <-next.C:
			if running < maxRacers && enough == nil {
				start(false)
			}
			next.Reset(again)
		case <-enough:
			return nil, worst
		case r := <-results:
			running--
			if r.err == nil {
				return r.session, nil
			}
			if enough == nil && errors.Is(r.err, link.ErrNoPath) {
				next.Stop() // no more of them
				t := time.NewTimer(noPathPatience)
				defer t.Stop()
				enough = t.C
			}
			if worst == nil || forgotten(worst) || errors.Is(r.err, link.ErrNoPath) {
				worst = r.err
			}
			// At first that says nothing of the guest: the host may not have noted yet that it
			// let another attempt in, which goes on; or it has given up before us, for the
			// reason that the others ended.
			unknown := progress != nil && forgotten(r.err)
			switch {
			case unknown && running > 0:
			case unknown:
				return nil, worst
			case final(r.err):
				return nil, r.err
			case r.took >= raceAfter && timedOut(r.err) && enough == nil && time.Since(began) < replaceWithin && ctx.Err() == nil:
				start(false)
			case serverLost(r.err) && running == 0 && cut < mostCut && ctx.Err() == nil:
				cut++
				start(false)
			case running == 0:
				return nil, worst
			}
		}
	}
}

// final reports whether err will not be another at the next attempt.
func final(err error) bool {
	var (
		refused *tunnel.RefusedError
		proof   *proofError
	)
	return errors.As(err, &refused) || errors.As(err, &proof) ||
		errors.Is(err, tunnel.ErrWrongHost) || errors.Is(err, tunnel.ErrHostKey)
}

// forgotten reports whether the host does not know the guest any more.
func forgotten(err error) bool {
	var refused *tunnel.RefusedError
	return errors.As(err, &refused) && refused.Code == tunnel.RefusedUnknown
}

// timedOut reports whether an attempt had the bad luck that another may not have.
func timedOut(err error) bool {
	return errors.Is(err, tunnel.ErrSilent) || errors.Is(err, link.ErrHandshake) || errors.Is(err, link.ErrNoAnswer) ||
		errors.Is(err, os.ErrDeadlineExceeded) || errors.Is(err, context.DeadlineExceeded)
}

// serverLost reports whether an attempt failed because the guest's or the host's
// signaling server went away in the middle of it.
func serverLost(err error) bool {
	var closed *signal.PipeError
	return errors.Is(err, signal.ErrLost) ||
		errors.As(err, &closed) && (closed.Reason == signal.ReasonLost || closed.Reason == signal.ReasonShutdown)
}

// onceProved is an identity whose failure to make a proof ends all attempts.
type onceProved struct{ keys.Identity }

func (i onceProved) Sign(ctx context.Context, namespace string, message []byte) ([]byte, error) {
	proof, err := i.Identity.Sign(ctx, namespace, message)
	if err != nil {
		return nil, &proofError{err}
	}
	return proof, nil
}

// proofError is why no proof could be made. Another attempt would ask the person
// once more.
type proofError struct{ err error }

func (e *proofError) Error() string { return e.err.Error() }
func (e *proofError) Unwrap() error { return e.err }

// attempt goes all the way from the signaling server to a link.
func (g *Guest[S]) attempt(ctx context.Context, progress func(Stage)) (*session, error) {
	progress(StageSignaling)
	pipe, info, err := signal.DialAny(ctx, g.cfg.Ticket.Signal, g.room, g.cfg.Signal)
	if err != nil {
		return nil, err
	}
	progress(StageMeeting)
	transport, err := g.linkTransport(info.STUN)
	if err == nil {
		err = transport.Prepare() // it asks the STUN servers meanwhile
	}
	if err != nil {
		pipe.Close()
		return nil, err
	}
	t, err := g.open(ctx, pipe, progress)
	if err != nil {
		return nil, err
	}
	// To close it takes a round trip through the server, or many.
	defer g.ending.Go(func() { t.Close() })
	progress(StageLinking)
	ctx, cancel := context.WithTimeout(ctx, linkTimeout)
	defer cancel()
	l, err := transport.Dial(ctx, signaler{t})
	if err != nil {
		return nil, err
	}
	s, err := newSession(l, t, guestEnd)
	if err != nil {
		l.Close()
		return nil, err
	}
	return s, nil
}

// open sets up the tunnel. A guest that the host knows comes back without a
// proof, and if the host does not know it any more that is an error: its
// streams could not go on.
func (g *Guest[S]) open(ctx context.Context, pipe net.Conn, progress func(Stage)) (*tunnel.Conn, error) {
	g.mu.Lock()
	resume := g.resume
	g.mu.Unlock()
	tg := &tunnel.Guest{
		Pin:           g.cfg.Ticket.Pin,
		HostKeys:      g.cfg.HostKeys,
		Software:      g.cfg.Software,
		OnAuthorizing: func(keys.Identity) { progress(StageAuthorizing) },
		OnHold:        func(string) { progress(StageHeld) },
	}
	var proving bool
	defer func() {
		if proving {
			g.proving <- struct{}{}
		}
	}()
	if resume == nil {
		tg.Eager = len(g.cfg.Identities) == 1 && keys.Immediate(g.cfg.Identities[0])
		for _, id := range g.cfg.Identities {
			tg.Identities = append(tg.Identities, onceProved{id})
		}
		// Of the attempts side by side one makes a proof. The others wait for what
		// comes of it, and then need none.
		tg.Instead = func(ctx context.Context) (*tunnel.Resumption, error) {
			select {
			case <-g.proving:
			case <-ctx.Done():
				return nil, context.Cause(ctx)
			}
			g.mu.Lock()
			defer g.mu.Unlock()
			if g.resume != nil {
				g.proving <- struct{}{}
				return g.resume, nil
			}
			proving = true
			return nil, nil
		}
	}
	t, err := tg.Dial(ctx, pipe, resume)
	if err != nil {
		return nil, err
	}
	p := t.Peer()
	if _, err := parseInfo(p.Info); err != nil {
		t.Close()
		return nil, err
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.resume == nil {
		g.resume, g.host = &tunnel.Resumption{Guest: p.Guest, Secret: p.Secret}, p
		g.role = p.Role // later ones come with the link's hello
	}
	return t, nil
}

// linkTransport returns the transport, made with the first STUN servers heard of.
func (g *Guest[S]) linkTransport(stun []string) (*link.Transport, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.transport == nil {
		cfg := g.cfg.Link
		if len(cfg.STUN) == 0 {
			cfg.STUN = stun
		}
		t, err := link.NewTransport(cfg)
		if err != nil {
			return nil, err
		}
		g.transport = t
	}
	return g.transport, nil
}
