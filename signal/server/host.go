package server

import (
	"context"
	"crypto/ed25519"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/pairterm/pairterm/signal"
	"github.com/pairterm/pairterm/signal/internal/ratelimit"
)

// What a registered host may send beside the bytes of its pipes: pings, and
// messages for pipes that have ended, which cost strayCost and their length.
// Data that crosses with the end of its pipe can be much more, as much as
// fills the buffers between the host and here; it is free as far as the pipe
// might have carried it.
const strayCost = 256 // bytes

var strayRate = Rate{PerSecond: 16 << 10, Burst: 1 << 20} // bytes

// host is a registered host: a room, and the pipes of its guests.
//
// Its own goroutine only reads. It never waits for a guest, whose data it puts
// into a bounded queue, nor for the host to take something, so that a host
// that is busy writing cannot deadlock with us. What the host is sent, the
// guests' goroutines write, one after another; a host that does not read makes
// its own guests wait, and is cut off.
type host struct {
	// Set once.
	s        *Server
	c        *conn
	room     signal.Room
	instance [16]byte
	serial   uint64        // of this registration, for sourceHash
	drained  chan struct{} // closed when draining and all guests are served

	mu       sync.Mutex
	stray    ratelimit.Bucket   // guarded by mu
	crossing int64              // guarded by mu; bytes that may still come for pipes that have ended
	pipes    map[*pipe]struct{} // guarded by mu; also those that are not open yet
	guests   map[uint32]*pipe   // guarded by mu; those of pipes that are open, by id
	lastPipe uint32             // guarded by mu
	serving  int                // guarded by mu; guests whose last words may not be said yet
	joins    ratelimit.Bucket   // guarded by mu
	draining bool               // guarded by mu; no more guests
	depart   func()             // guarded by mu; takes the room from the cluster's, may be nil
}

// serveHost serves a host's connection from its upgrade to its end. The name
// is what the request's Host header said.
func (s *Server) serveHost(c *conn, name string) {
	h, err := s.registerHost(c, name)
	if err != nil {
		s.log.Info("host refused", append(c.attrs(), "why", s.shownError(err))...)
		c.goodbye(goodbyeFor(err))
		return
	}
	log := s.log.With(append(c.attrs(), "room", short(h.room))...)
	log.Info("host registered")
	s.latency[roleHost].observe(time.Since(c.since))
	err = h.serve()
	h.close()
	if bye := goodbyeFor(err); bye != nil {
		c.goodbye(bye)
	}
	log.Info("host left", "why", s.shownError(err), "after", time.Since(c.since).Round(time.Millisecond))
}

// refusal is an error whose goodbye a client is told.
type refusal struct {
	code signal.Code
	text string // printable ASCII
	wait time.Duration
}

func (r *refusal) Error() string {
	if r.text == "" {
		return r.code.String()
	}
	return r.code.String() + ": " + r.text
}

// goodbyeFor is what to tell the client whose connection failed with err; nil
// if it is the connection itself that failed.
func goodbyeFor(err error) signal.Message {
	var r *refusal
	switch {
	case errors.As(err, &r):
		return &signal.GoodbyeMsg{Code: r.code, Retry: r.wait, Text: r.text[:min(len(r.text), signal.MaxText)]}
	case errors.Is(err, signal.ErrMalformed):
		return &signal.GoodbyeMsg{Code: signal.CodeProtocol}
	case errors.Is(err, os.ErrDeadlineExceeded):
		return &signal.GoodbyeMsg{Code: signal.CodeTimeout}
	}
	return nil
}

// checkName fails if this server does not go by the name that a client says it
// dialled; host is what the client's request said.
func (s *Server) checkName(dialled, host string) error {
	if len(s.names) == 0 {
		if dialled == host {
			return nil
		}
		return &refusal{code: signal.CodeWrongServer, text: "asked for as another than " + dialled}
	}
	bare := dialled
	if i := strings.LastIndexByte(dialled, ':'); i > strings.LastIndexByte(dialled, ']') {
		bare = dialled[:i]
	}
	if slices.Contains(s.names, dialled) || slices.Contains(s.names, bare) {
		return nil
	}
	return &refusal{code: signal.CodeWrongServer, text: "use the name " + s.names[0]}
}

func (s *Server) registerHost(c *conn, name string) (*host, error) {
	nonce, deadline, err := s.challenge(c, name, s.config.Gate != nil)
	if err != nil {
		return nil, err
	}
	msg, err := c.receiveMessage(deadline, signal.MaxRegister)
	if err != nil {
		return nil, err
	}
	reg, ok := msg.(*signal.RegisterMsg)
	if !ok {
		return nil, &refusal{code: signal.CodeProtocol, text: "not registered yet"}
	}
	if err := s.checkName(reg.Name, name); err != nil {
		return nil, err
	}
	key := ed25519.PublicKey(reg.Key[:])
	if !ed25519.Verify(key, signal.RegisterInput(reg.Name, nonce, reg.Instance), reg.Signature[:]) {
		return nil, &refusal{code: signal.CodeBadSignature}
	}
	room := signal.RoomOf(signal.Pin(key))
	if s.config.AllowHost != nil && !s.config.AllowHost(room) {
		return nil, &refusal{code: signal.CodeNotAllowed}
	}
	h := &host{
		s:        s,
		c:        c,
		room:     room,
		instance: reg.Instance,
		drained:  make(chan struct{}),
	}
	c.onPing = func() bool {
		_ = c.nc.SetReadDeadline(time.Now().Add(s.limits.HostIdle))
		return h.takeStray(nil)
	}
	// Whoever finds the room from now on writes only when it is Ready.
	if err := c.lock(nil); err != nil {
		return nil, err
	}
	defer c.unlock()
	if err := s.enter(h); err != nil {
		return nil, err
	}
	if s.config.Cluster != nil {
		h.enterCluster(deadline)
	}
	if err := s.keep(c, func(bye *signal.GoodbyeMsg) { h.leave(bye, 0) }); err != nil {
		h.close()
		return nil, err
	}
	c.established.Store(true)
	if err := c.writeLocked(s.ready(room, s.limits.HostIdle)); err != nil {
		h.close()
		return nil, err
	}
	s.registrations.Add(1)
	return h, nil
}

// ready is the encoded Ready for a room.
func (s *Server) ready(room signal.Room, idle time.Duration) []byte {
	m := &signal.ReadyMsg{
		Room:      room,
		Guests:    uint16(min(s.limits.Guests, 1<<16-1)),
		Idle:      idle,
		Lifetime:  s.limits.GuestLifetime,
		PipeBytes: uint32(min(s.limits.PipeBytes, 1<<32-1)),
		STUNPorts: s.config.STUN.Ports,
	}
	if len(m.STUNPorts) > 0 {
		m.STUNHost = s.config.STUN.Host
	}
	return m.Append(nil)
}

// enter puts h into its room. Who was there before, which can only be a holder
// of the same session key, has to leave.
func (s *Server) enter(h *host) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return &refusal{code: signal.CodeShuttingDown}
	}
	old := s.rooms[h.room]
	if old == nil && len(s.rooms) >= s.limits.Rooms {
		return &refusal{code: signal.CodeServerFull}
	}
	s.serial++
	h.serial = s.serial
	s.rooms[h.room] = h
	s.returning.comeLocked(h.room)
	if old != nil {
		s.wg.Add(1) // not zero: h's own connection counts
		go func() {
			defer s.wg.Done()
			old.leaveTo(h.instance)
		}()
	}
	return nil
}

// leaveTo leaves the room to another registration with the same session key.
func (h *host) leaveTo(instance [16]byte) {
	bye, drain := &signal.GoodbyeMsg{Code: signal.CodeReplaced}, time.Duration(0)
	if h.instance == instance {
		// A host that came back before we noticed that it was gone, or that
		// knows us under two names: what it has begun there may finish. What it has not
		// begun it may never have heard of, and those guests had better knock again.
		bye.Code, drain = signal.CodeSuperseded, h.s.limits.Drain
		h.dropUnanswered()
	}
	h.leave(bye, drain)
}

// enterCluster makes the room known to the other servers.
func (h *host) enterCluster(deadline time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), deadline)
	defer cancel()
	depart := h.s.config.Cluster.Enter(ctx, h.room, h.instance, h)
	h.mu.Lock()
	h.depart = depart
	draining := h.draining
	h.mu.Unlock()
	if draining {
		depart()
	}
}

// serve reads until the connection ends, and returns why.
func (h *host) serve() error {
	for {
		if err := h.c.receive(time.Now().Add(h.s.limits.HostIdle), signal.MaxMessage, h.handle); err != nil {
			return err
		}
	}
}

// handle acts on one message of the host's. It must not block.
func (h *host) handle(b []byte) error {
	msg, err := signal.Decode(b)
	if err != nil {
		return err
	}
	switch m := msg.(type) {
	case *signal.DataMsg:
		if p := h.pipe(m.Pipe); p != nil {
			p.queue(m.Payload)
			return nil
		}
	case *signal.CloseMsg:
		if p := h.pipe(m.Pipe); p != nil {
			p.finish(m.Reason, byHost)
			return nil
		}
	default:
		return fmt.Errorf("%w: unexpected %T", signal.ErrMalformed, msg)
	}
	if !h.takeStray(b) {
		return &refusal{code: signal.CodeRateLimited}
	}
	return nil
}

// takeStray reports whether the host may still send a message, or a ping,
// that is for no open pipe.
func (h *host) takeStray(b []byte) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if n := int64(len(b) - signal.DataHeader); n > 0 && n <= h.crossing {
		h.crossing -= n
		return true
	}
	return h.stray.Take(time.Now(), strayRate, float64(strayCost+len(b)))
}

func (h *host) pipe(id uint32) *pipe {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.guests[id]
}

// reserve makes a place for a guest, or says why there is none and for how
// long. Its pipe must end when it says.
func (h *host) reserve(guest guestEnd, origin Origin, ends time.Time) (*pipe, signal.Code, time.Duration) {
	l := &h.s.limits
	now := time.Now()
	h.mu.Lock()
	defer h.mu.Unlock()
	switch {
	case h.draining:
		return nil, signal.CodeNoRoom, 0
	case len(h.pipes) >= l.Guests:
		return nil, signal.CodeRoomFull, 0
	}
	same := 0
	for p := range h.pipes {
		if p.origin == origin {
			same++
		}
	}
	if same >= l.AddressGuests || !h.joins.Take(now, l.RoomRate, 1) {
		return nil, signal.CodeRateLimited, h.joins.Wait(now, l.RoomRate, 1)
	}
	p := newPipe(h.s, h, guest, origin, ends)
	if h.pipes == nil {
		h.pipes = make(map[*pipe]struct{})
		h.guests = make(map[uint32]*pipe)
	}
	h.pipes[p] = struct{}{}
	h.serving++
	h.s.guests.Add(1)
	return p, 0, 0
}

// open implements [hostEnd].
func (h *host) open(p *pipe) error {
	if err := h.c.lock(p.ended); err != nil {
		return err
	}
	defer h.c.unlock()
	if !h.number(p) {
		return errGone
	}
	if h.c.writeLocked((&signal.OpenMsg{Pipe: p.id, Source: h.sourceHash(p.origin)}).Append(nil)) != nil {
		return errGone
	}
	return nil
}

// forward implements [hostEnd]; the pipe's number takes the place of the
// guest's 0.
func (h *host) forward(p *pipe, b []byte) error {
	binary.BigEndian.PutUint32(b[1:], p.id)
	if !h.c.tryLock() {
		// While we wait, b takes a whole buffer: it counts as queued.
		if !h.s.hold(signal.MaxMessage) {
			p.finish(signal.ReasonOverflow, byServer)
			return errGone
		}
		err := h.c.lock(p.ended)
		h.s.queued.Add(-signal.MaxMessage)
		if err != nil {
			return err
		}
	}
	defer h.c.unlock()
	if err := h.c.writeLocked(b); err != nil {
		return errGone
	}
	h.s.toHost.Add(int64(len(b) - signal.DataHeader))
	return nil
}

// took implements [hostEnd].
func (h *host) took(int) {}

// tell implements [hostEnd].
func (h *host) tell(p *pipe, reason signal.Reason) {
	_ = h.c.send((&signal.CloseMsg{Pipe: p.id, Reason: reason}).Append(nil), nil)
}

// served implements [hostEnd].
func (h *host) served(*pipe) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.serving--
	h.checkDrainedLocked()
}

func (h *host) checkDrainedLocked() {
	if h.draining && h.serving == 0 {
		close(h.drained)
	}
}

// number gives a reserved pipe its id: from now on the host may use it. It
// must be called with the turn to write held, so that ids go out in order, and
// none after a goodbye. It reports whether it is not too late.
func (h *host) number(p *pipe) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.pipes[p]; !ok || h.draining {
		return false
	}
	h.lastPipe++
	p.id = h.lastPipe
	h.guests[p.id] = p
	return true
}

// forget implements [hostEnd].
func (h *host) forget(p *pipe, unsent int) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if _, ok := h.pipes[p]; !ok {
		return
	}
	delete(h.pipes, p)
	if h.guests[p.id] == p {
		delete(h.guests, p.id)
		h.crossing += int64(unsent)
	}
	h.s.guests.Add(-1)
}

// sourceHash is a guest's origin as its host may know it.
func (h *host) sourceHash(origin Origin) uint64 {
	b := append(make([]byte, 0, 64), h.s.sourceKey[:]...)
	b = binary.BigEndian.AppendUint64(b, h.serial)
	sum := sha256.Sum256(append(b, origin[:]...))
	return binary.BigEndian.Uint64(sum[:])
}

// leave says goodbye and closes the connection when the pipes are done or
// drain has passed.
func (h *host) leave(bye *signal.GoodbyeMsg, drain time.Duration) {
	h.stopJoins()
	h.c.s.refused[bye.Code].Add(1)
	if h.c.send(bye.Append(nil), nil) == nil && drain > 0 {
		t := time.NewTimer(drain)
		defer t.Stop()
		select {
		case <-h.drained:
		case <-h.c.gone:
		case <-t.C:
		}
	}
	h.c.goodbye(nil)
}

// dropUnanswered ends the pipes over which the host has not said anything.
func (h *host) dropUnanswered() {
	h.mu.Lock()
	var unanswered []*pipe
	for p := range h.pipes {
		if !p.answered() {
			unanswered = append(unanswered, p)
		}
	}
	h.mu.Unlock()
	for _, p := range unanswered {
		p.finish(signal.ReasonLost, byHost)
	}
}

// stopJoins lets nobody else in.
func (h *host) stopJoins() {
	h.mu.Lock()
	depart := h.depart
	if !h.draining {
		h.draining = true
		h.checkDrainedLocked()
	}
	h.mu.Unlock()
	if depart != nil {
		depart()
	}
}

// close leaves the room, unless another holds it already, and ends all pipes.
func (h *host) close() {
	h.stopJoins()
	h.s.mu.Lock()
	if h.s.rooms[h.room] == h {
		delete(h.s.rooms, h.room)
	}
	closing := h.s.closing
	h.s.mu.Unlock()

	h.mu.Lock()
	pipes := make([]*pipe, 0, len(h.pipes))
	for p := range h.pipes {
		pipes = append(pipes, p)
	}
	h.mu.Unlock()
	reason := signal.ReasonLost
	if closing {
		reason = signal.ReasonShutdown
	}
	for _, p := range pipes {
		p.finish(reason, byHost)
	}
}

// short is a room as the log shows it: enough to tell rooms apart, not to knock.
func short(r signal.Room) string { return r.String()[:8] }
