package peer

import (
	"context"
	"errors"
	"sync"
	"time"

	"golang.org/x/crypto/ssh"

	"github.com/pairterm/pairterm/keys"
	"github.com/pairterm/pairterm/peer/link"
	"github.com/pairterm/pairterm/peer/stream"
	"github.com/pairterm/pairterm/peer/tunnel"
)

// guest is one guest at the host, from its admission until it has left or its
// grace has passed; links come and go under it.
type guest[S any] struct {
	// Set once.
	host    *Host[S]
	id      tunnel.GuestID
	key     ssh.PublicKey
	comment string
	secret  []byte
	since   time.Time
	sender  *stream.Sender[S]
	input   GuestInput

	binds   chan *session   // links that were made, for run
	dismiss chan Goodbye    // why the guest is told to go, for run; holds one
	asks    chan historyAsk // holds the newest
	gone    chan struct{}   // closed when run has returned

	checking sync.Mutex // held while the host is asked whether it may stay, and that is applied; before sizing
	sizing   sync.Mutex // held while the role or the size is passed on to input
	told     [2]int     // the columns and rows that input knows of; guarded by sizing

	mu         sync.Mutex
	lost       time.Time     // guarded by mu; since when there is no link, zero while there is one
	role       keys.Role     // guarded by mu
	until      time.Time     // guarded by mu; when its grant ends, zero for never
	session    *session      // guarded by mu; the present one, or nil
	claimed    bool          // guarded by mu; there is a session, or one is about to be bound
	path       link.PathInfo // guarded by mu; of the last link that is gone
	fault      error         // guarded by mu; why there is no link, as far as reported
	cols, rows int           // guarded by mu; of the guest's window
}

func newGuest[S any](h *Host[S], p tunnel.Peer) *guest[S] {
	g := &guest[S]{
		host:    h,
		id:      p.Guest,
		key:     p.Key,
		comment: p.Comment,
		secret:  p.Secret,
		since:   time.Now(),
		binds:   make(chan *session),
		dismiss: make(chan Goodbye, 1),
		asks:    make(chan historyAsk, 1),
		gone:    make(chan struct{}),
		role:    p.Role,
	}
	g.sender = stream.NewSender(nil, h.cfg.Source, gate[S]{g}, stream.Config{
		OnStall: func(stalled bool) {
			if stalled {
				h.cfg.Pipes.Check()
			}
		},
	})
	g.input = h.cfg.NewInput(g.info(), g.sender.InputReady)
	return g
}

// info returns what is known of the guest.
func (g *guest[S]) info() GuestInfo {
	g.mu.Lock()
	defer g.mu.Unlock()
	i := GuestInfo{
		ID: g.id, Key: g.key, Comment: g.comment, Role: g.role, Since: g.since,
		Path: g.path, Linked: g.session != nil, Cols: g.cols, Rows: g.rows,
		Stats: g.sender.Stats(),
	}
	if g.session != nil {
		i.Path = g.session.link.Path()
	}
	return i
}

// lostAt is when the guest has lost its link, zero if it has one or is about to.
func (g *guest[S]) lostAt() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.lost
}

// unlinked notes that an attempt at a link failed, and reports whether that is news. A guest
// makes several at a time: those that another one has overtaken are none, and of those that
// fail alike the first one is.
func (g *guest[S]) unlinked(err error) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	noPath := func(err error) bool { return errors.Is(err, link.ErrNoPath) }
	if g.session != nil || g.fault != nil && (noPath(g.fault) || !noPath(err)) {
		return false
	}
	g.fault = err
	return true
}

// may reports whether the guest's role permits typing.
func (g *guest[S]) may() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.role == keys.RoleType
}

// setRole changes the guest's role, and tells it. With keys.RoleNone it sees
// and types nothing from this moment on, and is not told: it has to go.
func (g *guest[S]) setRole(role keys.Role) {
	g.sizing.Lock()
	defer g.sizing.Unlock()
	g.mu.Lock()
	changed, s := g.role != role, g.session
	g.role = role
	g.mu.Unlock()
	if !changed {
		return
	}
	select {
	case <-g.gone:
		return
	default:
	}
	g.resizeLocked()
	if role != keys.RoleType {
		g.input.Dropped()
	}
	switch {
	case s == nil:
	case role == keys.RoleNone:
		s.muted.Store(true)
	default:
		s.send(controlRole{role}) // when this fails, the next link's hello tells it
	}
}

// resize tells the input how large the guest's window is: not at all while nobody
// looks at it, or may only look.
func (g *guest[S]) resize() {
	g.sizing.Lock()
	defer g.sizing.Unlock()
	g.resizeLocked()
}

// resizeLocked is resize for callers that hold g.sizing.
func (g *guest[S]) resizeLocked() {
	g.mu.Lock()
	cols, rows := g.cols, g.rows
	if g.role != keys.RoleType || g.session == nil {
		cols, rows = 0, 0
	}
	g.mu.Unlock()
	if told := [2]int{cols, rows}; g.told != told {
		g.told = told
		g.input.Resize(cols, rows)
	}
}

// grantedUntil is when the guest's grant ends, zero for never.
func (g *guest[S]) grantedUntil() time.Time {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.until
}

// setUntil reports whether that is another time than before.
func (g *guest[S]) setUntil(t time.Time) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	changed := !g.until.Equal(t)
	g.until = t
	return changed
}

// part asks run to tell the guest to go. The first reason counts.
func (g *guest[S]) part(bye Goodbye) {
	select {
	case g.dismiss <- bye:
	default:
	}
}

// claim says that a link is about to be bound, and reports whether there was one
// before it.
func (g *guest[S]) claim() bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	was := g.claimed
	g.claimed = true
	return was
}

// bind gives run a link; false when the guest is gone.
func (g *guest[S]) bind(s *session) bool {
	select {
	case g.binds <- s:
		return true
	case <-g.gone:
		return false
	}
}

// run serves the guest until it leaves, is told to, its grace has passed
// without a link, or ctx ends.
func (g *guest[S]) run(ctx context.Context) {
	defer g.host.remove(g)
	defer func() {
		g.sizing.Lock()
		defer g.sizing.Unlock()
		close(g.gone)
		g.input.Close()
	}()
	sctx, cancel := context.WithCancel(ctx)
	var work sync.WaitGroup
	defer work.Wait()
	defer cancel()
	failed := make(chan error, 1)
	work.Go(func() { failed <- g.sender.Run(sctx) })
	work.Go(func() { g.tellHistory(sctx) })

	left := g.loop(sctx, &work, failed)
	left.Guest = g.info()
	g.setSession(nil)
	if left.Reason != 0 {
		g.host.observe(left)
	}
}

// loop is run's; it returns how the guest left, without a Reason if it had
// never joined.
func (g *guest[S]) loop(ctx context.Context, work *sync.WaitGroup, failed <-chan error) (left Left) {
	// A guest that never gets a link leaves when the search for one is over.
	grace := time.NewTimer(linkTimeout)
	defer grace.Stop()
	var (
		linkDone <-chan struct{}
		byes     = make(chan Goodbye, 1)
		joined   bool
	)
	for {
		select {
		case s := <-g.binds:
			grace.Stop()
			before := g.info().Path
			if s.moved {
				g.stay(ctx, work)
			}
			g.setSession(s)
			g.resize()                   // the guest tells its size only when that changes
			g.sender.Rebind(syncConn{s}) // closes the link before it
			linkDone = s.link.Done()
			work.Go(func() { g.receive(s, byes) })
			work.Go(func() { g.acceptBeside(ctx, s) })
			if role := g.info().Role; role == keys.RoleNone {
				s.muted.Store(true)
			} else {
				s.send(controlHello{role}) // if the link is gone already, Done says so
			}
			switch {
			case s.moved && joined:
				g.host.observe(Moved{g.info(), before})
			case joined:
				g.host.observe(Returned{g.info()})
			default:
				joined = true
				g.host.observe(Joined{g.info()})
			}
		case <-linkDone:
			linkDone = nil
			g.setSession(nil)
			g.resize()
			grace.Reset(ResumeGrace)
			g.host.observe(Lost{g.info()})
		case bye := <-byes: // whatever reason it gives, it left
			return Left{Reason: ReasonLeft, Text: keys.Printable(bye.Text)}
		case bye := <-g.dismiss:
			g.sayGoodbye(bye, linkDone)
			if !joined {
				return Left{}
			}
			return Left{Reason: bye.Reason}
		case err := <-failed:
			if ctx.Err() != nil {
				return Left{}
			}
			g.sayGoodbye(Goodbye{Reason: ReasonFailed, Text: err.Error()}, linkDone)
			return Left{Reason: ReasonFailed, Text: err.Error()}
		case <-grace.C:
			if !joined {
				return Left{}
			}
			return Left{Reason: ReasonLeft, Text: "the connection was lost and not made again"}
		case <-ctx.Done():
			return Left{}
		}
	}
}

// receive reads a session's control channel until the link ends.
func (g *guest[S]) receive(s *session, byes chan<- Goodbye) {
	_ = s.receive(func(m any) { // the link's end has its own signs
		switch m := m.(type) {
		case Goodbye:
			select {
			case byes <- m:
			default:
			}
		case controlBeside:
			s.handBeside(m)
		case controlAsk:
			g.ask(historyAsk{s, m.from})
		}
	})
	s.hangUp()
}

// sayGoodbye tells the guest to go and waits a moment until it has.
func (g *guest[S]) sayGoodbye(bye Goodbye, linkDone <-chan struct{}) {
	g.mu.Lock()
	s := g.session
	g.mu.Unlock()
	if s == nil || s.send(bye) != nil {
		return
	}
	patience := byeTimeout
	if g.sender.Stalled() {
		patience = silentByeTimeout
	}
	t := time.NewTimer(patience)
	defer t.Stop()
	select {
	case <-linkDone: // the guest closes the link when it has heard
	case <-t.C:
	}
}

// setSession makes s the present session, which may be nil, and closes the one
// before.
func (g *guest[S]) setSession(s *session) {
	g.mu.Lock()
	old := g.session
	if old != nil {
		g.path = old.link.Path()
	}
	g.session, g.claimed, g.lost = s, s != nil, time.Time{}
	if s == nil {
		g.lost = time.Now()
	} else {
		g.fault = nil
	}
	g.mu.Unlock()
	if old != nil && !old.staying.Load() {
		old.close()
	}
}

// gate passes a guest's input on as far as its role permits. Its methods are
// called by the sender's loop.
type gate[S any] struct{ g *guest[S] }

func (i gate[S]) Keys(p []byte) int {
	if !i.g.may() {
		i.g.input.Dropped()
		return len(p) // taken, and dropped
	}
	return i.g.input.Keys(p)
}

func (i gate[S]) Interrupt(p []byte) {
	if !i.g.may() {
		i.g.input.Dropped()
		return
	}
	i.g.input.Interrupt(p)
}

func (i gate[S]) Signals() bool { return i.g.input.Signals() }

func (i gate[S]) Resize(cols, rows int) {
	i.g.mu.Lock()
	i.g.cols, i.g.rows = cols, rows
	i.g.mu.Unlock()
	i.g.resize()
	i.g.host.observe(Resized{i.g.info()})
}
