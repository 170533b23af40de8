package link

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/pion/webrtc/v3"
)

// retryInterval is how often the peer's addresses are tried anew. Pion gives up on one
// after seven unanswered checks, 1.4 s, and for good; but the other side of a NAT may
// just not have sent anything yet, or too much may have been lost.
const retryInterval = 1500 * time.Millisecond

// hopeWithin is how long an end that looks for another path waits for the peer to name an
// address, or all that it has, before it names its own.
const hopeWithin = 500 * time.Millisecond

const (
	// tcpDelay is the head start of UDP: it finds most paths by then, and TCP, which is
	// worse for keys under loss, need not be tried.
	tcpDelay = 300 * time.Millisecond

	// maxTCPTried bounds the addresses of the peer's to which TCP connections are opened,
	// once each from every address of ours: a peer may not have ports scanned.
	maxTCPTried = 8
)

// Dial sets up a link as the guest, to a peer that calls Accept with the other end of
// the signaler. It returns when both channels are open.
//
// Errors wrap [ErrNoPath] (a [*PathError], with what was tried), [ErrNoAnswer],
// [ErrHandshake], [ErrSignaling], [ErrProtocol], the error of ctx, or [net.ErrClosed].
//
// Each call opens sockets of its own, so several links to one host, set up at the same
// time or one after the other, keep apart.
func (t *Transport) Dial(ctx context.Context, sig Signaler) (*Link, error) {
	m, granted, err := t.takeMux()
	if err != nil {
		return nil, err
	}
	return t.connect(ctx, sig, m, nil, plan{dialed: true, window: windowFor(granted), paths: t.cfg.Paths, tcp: true, timeouts: t.cfg.Timeouts})
}

// plan is how a link is set up.
type plan struct {
	dialed   bool
	window   int // SCTP's receive window, in bytes
	paths    Paths
	tcp      bool           // whether the peer's TCP addresses are tried
	avoid    netip.AddrPort // where no path is wanted; may be invalid
	patience time.Duration  // how long a better path than the first one is waited for
	timeouts Timeouts
}

// Accept sets up a link as the host, see [Transport.Dial]. Call it only for peers that
// have proved who they are: they learn this machine's addresses. It gives [ErrBusy]
// while Config.MaxPending others are being set up.
func (t *Transport) Accept(ctx context.Context, sig Signaler) (*Link, error) {
	select {
	case t.pending <- struct{}{}:
		defer func() { <-t.pending }()
	default:
		return nil, ErrBusy
	}
	l, err := t.listen()
	if err != nil {
		return nil, err
	}
	return t.connect(ctx, sig, l.mux, l.tcp, plan{window: l.window, paths: t.cfg.Paths, timeouts: t.cfg.Timeouts})
}

// connect sets up a link over a mux, which it closes with the link if that dials.
func (t *Transport) connect(ctx context.Context, sig Signaler, m *mux, tcp *tcpMux, p plan) (*Link, error) {
	l, err := t.newLink(m, tcp, p)
	if err != nil {
		return nil, err
	}
	s := &setup{
		link:      l,
		plan:      p,
		sig:       sig,
		out:       make(chan Message, maxCandidates+4),
		described: make(chan struct{}),
		hopeful:   make(chan struct{}),
		relaying:  make(chan struct{}),
		failed:    make(chan error, 2),
		begin:     time.Now(),
	}
	if err := s.run(ctx); err != nil {
		l.fail(err)
		return nil, errors.Join(err, l.Close())
	}
	return l, nil
}

// newLink makes a link that can be torn down at any time, and leaves nothing behind if
// it cannot.
func (t *Transport) newLink(m *mux, tcp *tcpMux, p plan) (*Link, error) {
	dialed := p.dialed
	l := &Link{
		transport:   t,
		log:         t.log.With("link", t.numbered.Add(1)),
		dialed:      dialed,
		mux:         m,
		tcp:         tcp,
		pathChanged: make(chan struct{}, 1),
		connected:   make(chan struct{}),
		opened:      make(chan struct{}),
		done:        make(chan struct{}),
		gone:        make(chan struct{}),
		repeater:    newRepeater(),
	}
	setup := SetupActive
	if dialed {
		setup = SetupActPass
		l.answered = make(chan struct{}, 1)
	}
	local, cert, err := newIdentity(setup)
	l.local = local
	var v view
	if err == nil {
		v, err = t.net.look()
	}
	if err == nil {
		err = l.newPeerConnection(cert, p, v)
	}
	if err == nil {
		// From here on checks of the peer's wait for pion in the link's queue, however
		// early they come.
		hooks := connHooks{dialed: dialed, answered: l.answered, repeater: l.repeater}
		if !dialed {
			hooks.mayFollow = l.mayFollow
		}
		l.conns, err = m.prepare(local.Ufrag, hooks)
	}
	if err == nil && tcp != nil {
		err = tcp.prepare(local.Ufrag, v.addrs)
	}
	if err == nil {
		l.beEager()
		err = t.add(l)
	}
	if err != nil {
		l.end(err)
		l.dismantle()
		return nil, err
	}
	return l, nil
}

// setup is the exchange of descriptions and candidates that makes a link.
type setup struct {
	// Set once.
	link  *Link
	plan  plan
	sig   Signaler
	out   chan Message // to be sent; room for all there can be
	begin time.Time

	running sync.WaitGroup // goroutines that end with run

	described chan struct{} // closed when the peer's description has been applied
	hopeful   chan struct{} // closed when the peer has named an address to try
	relaying  chan struct{} // closed when the peer has said that it takes relayed paths
	failed    chan error    // room for one of each goroutine that may fail

	mu        sync.Mutex
	local     []Candidate
	remote    []Candidate
	relays    []*relay
	detours   []Candidate // the peer's addresses as reached over the relays
	relayErr  error       // why there is no relay, as far as known
	complete  bool        // the peer has named all its addresses
	agreed    bool        // the peer takes relayed paths
	peerRelay bool        // and has a server
	refused   int
	mappings  []Mapping
	localNAT  *NATReport // nil until known
	remoteNAT *NATReport // nil until the peer has told
}

// run returns when the channels are open, or why they will not be. All that it started
// has ended then, but for the link itself.
func (s *setup) run(ctx context.Context) error {
	sctx, cancel := context.WithCancel(ctx)
	wg := &s.running
	defer wg.Wait()
	defer cancel()

	s.out <- s.link.local
	if s.plan.paths == PathsAny {
		s.out <- Relaying{Server: len(s.link.transport.cfg.Relays) > 0}
	}
	if s.link.dialed {
		if err := s.offer(); err != nil {
			return err
		}
	}
	wg.Go(func() { s.send(sctx) })
	wg.Go(func() { s.receive(sctx) })
	wg.Go(func() { s.gather(sctx) })
	wg.Go(func() { s.report(sctx) })
	wg.Go(func() { s.retry(sctx) })
	if s.link.dialed {
		wg.Go(func() { s.hasten(sctx) })
	}
	err := s.wait(ctx)
	if err != nil {
		s.link.log.Debug("no link", "err", err)
	} else {
		s.link.only = s.onlyPath()
		s.link.log.Debug("link is up", "path", s.link.Path())
	}
	s.link.logPairs()
	return err
}

func (s *setup) wait(ctx context.Context) error {
	var (
		l         = s.link
		to        = s.plan.timeouts
		described = s.described
		connected = l.connected
	)
	timer := time.NewTimer(to.Path)
	defer timer.Stop()
	for {
		select {
		case <-l.opened:
			l.ensurePath()
			return nil
		case <-described:
			described = nil
			timer.Reset(to.Path)
		case <-connected:
			connected = nil
			timer.Reset(to.Handshake)
		case err := <-s.failed:
			return err
		case <-l.done:
			if err := l.Err(); !errors.Is(err, ErrPathLost) || connected == nil {
				return err
			}
			return s.noPath(nil)
		case <-ctx.Done():
			return s.late(described, connected, ctx.Err())
		case <-timer.C:
			return s.late(described, connected, nil)
		}
	}
}

// late says what was waited for in vain. The cause, if any, is the context's error.
func (s *setup) late(described, connected <-chan struct{}, cause error) error {
	took := time.Since(s.begin).Round(100 * time.Millisecond)
	switch {
	case errors.Is(cause, context.Canceled):
		return fmt.Errorf("setting up a link: %w", cause)
	case connected == nil:
		return join(fmt.Errorf("%w: encrypted connection over %v not established after %v", ErrHandshake, s.link.Path(), took), cause)
	case described != nil:
		return join(fmt.Errorf("%w after %v", ErrNoAnswer, took), cause)
	}
	return s.noPath(cause)
}

func join(err, cause error) error {
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

func (s *setup) noPath(cause error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	e := &PathError{
		Local:       s.local,
		Mappings:    s.mappings,
		NAT:         s.localNAT,
		PeerNAT:     s.remoteNAT,
		Relay:       s.relayErr,
		Paths:       s.plan.paths,
		RelaysThere: s.agreed,
		PeerRelay:   s.peerRelay,
		Refused:     s.refused,
		Elapsed:     time.Since(s.begin),
		Cause:       cause,
	}
	for _, c := range s.remote {
		a := Attempt{Candidate: c}
		if c.Transport == CandidateUDP {
			a.Sent, a.Received = s.link.mux.traffic(c.Addr)
		}
		e.Tried = append(e.Tried, a)
	}
	return e
}

// offer starts pion as the end that controls.
func (s *setup) offer() error {
	offer, err := s.link.pc.CreateOffer(nil)
	if err == nil {
		err = s.link.pc.SetLocalDescription(offer)
	}
	if err != nil {
		return fmt.Errorf("making an offer: %w", err)
	}
	return nil
}

// send sends the description and then the candidates, as they are found. Once the
// description is out, losing the signaling is for receive to judge: the candidates that
// got through may do.
func (s *setup) send(ctx context.Context) {
	for n := 0; ; n++ {
		var m Message
		select {
		case m = <-s.out:
		case <-ctx.Done():
			return
		}
		if err := s.sig.Send(ctx, m); err != nil {
			switch {
			case ctx.Err() != nil:
			case n == 0:
				s.failed <- fmt.Errorf("%w: sending: %w", ErrSignaling, err)
			default:
				s.link.log.Debug("signaling lost while sending", "err", err)
			}
			return
		}
		if n == 0 && s.plan.avoid.IsValid() {
			// The peer need not check addresses if it has none but the present one, which it
			// may be slow to say.
			hope := time.NewTimer(hopeWithin)
			select {
			case <-s.hopeful:
			case <-hope.C:
			case <-ctx.Done():
				hope.Stop()
				return
			}
			hope.Stop()
		}
	}
}

// receive applies what the peer sends.
func (s *setup) receive(ctx context.Context) {
	optional, ended := 0, false
	for n := 0; ; {
		m, err := s.sig.Recv(ctx)
		if err != nil {
			switch {
			case ctx.Err() != nil:
			case errors.Is(err, ErrProtocol):
				s.failed <- err
			case n == 0:
				s.failed <- fmt.Errorf("%w: receiving: %w", ErrSignaling, err)
			default: // what is known may do
				s.link.log.Debug("signaling lost while receiving", "err", err)
			}
			return
		}
		switch m := m.(type) {
		case NATReport:
			s.mu.Lock()
			s.remoteNAT = &m
			s.mu.Unlock()
			optional++
		case Relaying:
			s.mu.Lock()
			if !s.agreed {
				s.agreed, s.peerRelay = true, m.Server
				close(s.relaying)
			}
			s.mu.Unlock()
			optional++
		case Unknown:
			optional++
		default:
			if ended {
				err = fmt.Errorf("%w: %T after the end of candidates", ErrProtocol, m)
			} else if _, ended = m.(EndOfCandidates); !ended || n == 0 {
				err = s.apply(ctx, m, n)
			}
			n++
			if err == nil && ended {
				err = s.namedAll()
			}
		}
		if optional > maxOptional {
			err = fmt.Errorf("%w: more than %d optional messages", ErrProtocol, maxOptional)
		}
		if err != nil {
			s.failed <- err
			return
		}
	}
}

// onlyPath is Link.OnlyPath.
func (s *setup) onlyPath() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	used := s.link.Path().Remote
	for _, c := range s.remote {
		if c.Transport == CandidateUDP && c.Addr != used {
			return false
		}
	}
	// Beside another link the address in use there is not among them.
	return s.complete && !s.plan.avoid.IsValid()
}

// namedAll notes that the peer has named all its addresses. Where only another path than the
// present one will do, there has to be one among them.
func (s *setup) namedAll() error {
	s.mu.Lock()
	s.complete = true
	none := len(s.remote) == 0
	s.mu.Unlock()
	if none && s.plan.avoid.IsValid() {
		return s.noPath(nil)
	}
	return nil
}

// apply takes the nth message of the peer's. It checks everything again, since a
// Signaler need not have used ParseMessage.
func (s *setup) apply(ctx context.Context, m Message, n int) error {
	if m == nil {
		return fmt.Errorf("%w: no message", ErrProtocol)
	}
	if err := m.validate(); err != nil {
		return err
	}
	switch m := m.(type) {
	case Description:
		if n != 0 {
			return fmt.Errorf("%w: a second description", ErrProtocol)
		}
		return s.describe(m)
	case Candidate:
		if n == 0 {
			return fmt.Errorf("%w: a candidate before the description", ErrProtocol)
		}
		if n > maxCandidates {
			return fmt.Errorf("%w: more than %d candidates", ErrProtocol, maxCandidates)
		}
		return s.addCandidate(ctx, m)
	}
	return fmt.Errorf("%w: %T at position %d", ErrProtocol, m, n)
}

// describe tells pion who the peer is, which starts the checks.
func (s *setup) describe(d Description) error {
	l := s.link
	if (d.Setup == SetupActPass) == l.dialed {
		return fmt.Errorf("%w: both ends dial, or both accept", ErrProtocol)
	}
	if l.dialed {
		l.binding = binding(l.local, d)
		if err := l.pc.SetRemoteDescription(sessionDescription(webrtc.SDPTypeAnswer, d)); err != nil {
			return fmt.Errorf("applying the peer's description: %w", err)
		}
		close(s.described)
		return nil
	}
	l.binding = binding(d, l.local)
	if err := l.pc.SetRemoteDescription(sessionDescription(webrtc.SDPTypeOffer, d)); err != nil {
		return fmt.Errorf("applying the peer's description: %w", err)
	}
	answer, err := l.pc.CreateAnswer(nil)
	if err == nil {
		err = l.pc.SetLocalDescription(answer)
	}
	if err != nil {
		return fmt.Errorf("making an answer: %w", err)
	}
	close(s.described)
	return nil
}

// addCandidate takes an address of the peer's, if packets may be sent there.
func (s *setup) addCandidate(ctx context.Context, c Candidate) error {
	// The networks of this moment count: this machine may have joined one since.
	v, err := s.link.transport.net.look()
	if err != nil {
		return err
	}
	why := v.policy.refusal(c.Addr.Addr())
	if why == "" {
		why = s.plan.paths.refusal(c)
	}
	switch {
	case why != "":
	case c.Transport == CandidateTCP && s.link.dialed && !s.plan.tcp:
		why = "TCP"
	case c.Transport == CandidateUDP && c.Addr == s.plan.avoid:
		why = "the present path"
	}
	s.mu.Lock()
	tcp := 0
	for _, have := range s.remote {
		if have.Transport == CandidateTCP {
			tcp++
		}
	}
	if why == "" && c.Transport == CandidateTCP && tcp == maxTCPTried {
		why = "one TCP address too many"
	}
	if why != "" {
		s.refused++
		s.mu.Unlock()
		s.link.log.Debug("candidate refused", "candidate", c, "why", why)
		return nil
	}
	if s.remote = append(s.remote, c); len(s.remote) == 1 {
		close(s.hopeful)
	}
	relays := s.relays
	s.mu.Unlock()
	if c.Type == CandidateRelay {
		s.link.noteRelay(c.Addr)
	}
	for _, r := range relays {
		s.tryOver(r, c)
	}
	s.link.log.Debug("candidate of the peer", "candidate", c)
	if c.Transport == CandidateUDP {
		return s.try(c)
	}
	s.running.Go(func() {
		select {
		case <-time.After(tcpDelay):
		case <-s.link.connected:
			return
		case <-ctx.Done():
			return
		}
		if err := s.try(c); err != nil {
			s.link.log.Debug("trying a candidate late", "err", err)
		}
	})
	return nil
}

// try has pion check an address.
func (s *setup) try(c Candidate) error {
	if err := s.link.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.marshal(0)}); err != nil {
		return fmt.Errorf("adding the candidate %v: %w", c, err)
	}
	return nil
}

// relay asks the TURN servers of this end, if both ends want that and no direct path has
// been found soon. It returns when all have answered.
func (s *setup) relay(ctx context.Context) {
	servers := s.link.transport.cfg.Relays
	if s.plan.paths != PathsAny || len(servers) == 0 {
		return
	}
	delay := time.NewTimer(relayDelay)
	defer delay.Stop()
	for _, c := range []<-chan struct{}{s.relaying, s.described} {
		select {
		case <-c:
		case <-s.link.connected:
			return
		case <-ctx.Done():
			return
		}
	}
	select {
	case <-delay.C:
	case <-s.link.connected:
		return
	case <-ctx.Done():
		return
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for rank, server := range servers {
		wg.Go(func() {
			r, err := s.link.mux.relay(ctx, s.link.transport, server)
			if err != nil {
				s.link.log.Debug("no relay", "err", err)
				s.mu.Lock()
				s.relayErr = err
				s.mu.Unlock()
				return
			}
			s.found(newCandidate(CandidateRelay, CandidateUDP, r.addr, rank))
			s.mu.Lock()
			s.relays = append(s.relays, r)
			remote := s.remote
			s.mu.Unlock()
			for _, c := range remote {
				s.tryOver(r, c)
			}
		})
	}
}

// tryOver has pion check an address of the peer's over a relay. No server reaches private
// addresses but one that has such an address itself.
func (s *setup) tryOver(r *relay, c Candidate) {
	if c.Transport != CandidateUDP || familyOf(c.Addr.Addr()) != familyOf(r.addr.Addr()) ||
		IsPrivate(c.Addr.Addr()) && !IsPrivate(r.addr.Addr()) {
		return
	}
	a := s.link.mux.aliasOf(r, c.Addr, true)
	if a == nil {
		return
	}
	detour := newCandidate(CandidateRelay, CandidateUDP, a.addr, 0)
	s.mu.Lock()
	s.detours = append(s.detours, detour)
	s.mu.Unlock()
	if err := s.try(detour); err != nil {
		s.link.log.Debug("trying a candidate over a relay", "err", err)
	}
}

// retry has pion check the peer's addresses anew until one works.
func (s *setup) retry(ctx context.Context) {
	tick := time.NewTicker(retryInterval)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-tick.C:
		case <-s.link.connected:
			return
		case <-ctx.Done():
			return
		}
		s.mu.Lock()
		remote := slices.Concat(s.remote, s.detours)
		s.mu.Unlock()
		for _, c := range remote {
			if c.Transport != CandidateUDP {
				continue // a TCP connection is tried until the system gives up on it
			}
			if err := s.link.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: c.marshal(n)}); err != nil {
				s.link.log.Debug("trying a candidate anew", "candidate", c, "err", err)
			}
		}
	}
}

const (
	// hastenDelay lets pion see an answer before it is made to look for one.
	hastenDelay = time.Millisecond

	// maxHasten bounds how often pion is hastened, as each time it may repeat its checks,
	// of which it makes only seven for a pair.
	maxHasten = 2
)

// hasten has the dialing end's pion agree on a path as soon as one has been found.
//
// By itself it looks at what it found every 200 ms, or when a check arrives; but not if
// checks of the peer's came before the candidate that announces their source, as they
// do where signaling is slower than the direct path: then answers count for the wrong
// one of two entries for the address. A new candidate makes it look at once. The one
// here, for simultaneous open over TCP, which pion does not do, forms no pair with any
// UDP socket; nothing is ever sent to its address, which is reserved for documentation.
func (s *setup) hasten(ctx context.Context) {
	for n := 1; n <= maxHasten; n++ {
		select {
		case <-s.link.answered:
		case <-s.link.connected:
			return
		case <-ctx.Done():
			return
		}
		delay := time.NewTimer(hastenDelay)
		select {
		case <-delay.C:
		case <-ctx.Done():
			delay.Stop()
			return
		}
		line := fmt.Sprintf("candidate:0 1 tcp 1 192.0.2.1 %d typ host tcptype so", n)
		if err := s.link.pc.AddICECandidate(webrtc.ICECandidateInit{Candidate: line}); err != nil {
			s.link.log.Debug("hastening", "err", err)
		}
	}
}
