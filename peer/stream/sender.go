package stream

import (
	"context"
	"net"
	"slices"
	"time"
)

const (
	// reactTime is how long a program has to react to a key before the absence
	// of an echo means something (mosh's ECHO_TIMEOUT).
	reactTime = 50 * time.Millisecond
	maxReacts = 64
)

// Sender is the host's end for one guest. See the package comment.
type Sender[S any] struct {
	e   endpoint
	src Source[S]

	// Guarded by e.mu.
	drains []*drain
	ready  bool // InputReady was called

	// Owned by the loop.
	input     inputQueue
	hasInput  bool
	wantReact bool
	reacts    []react // input that was taken and not reported yet
	reacted   react
	toldTaken uint64 // how much of the input was told as taken, surely
	sentTaken uint64 // in the last datagram
	out       output[S]

	signals    bool          // what Input.Signals said
	askSignals time.Duration // when to ask it again
}

// drain is a call of Drain that waits.
type drain struct {
	target uint64
	done   chan struct{}
}

// react: input up to pos was taken at a time, which is then a position of the
// output.
type react struct {
	pos  uint64
	at   time.Duration
	head uint64
}

// NewSender returns a Sender that serves src to the guest at the other end of
// conn, and gives what it types to in. conn may be nil: then nothing happens
// before Rebind. The Sender closes the links it was given.
func NewSender[S any](conn Conn, src Source[S], in Input, cfg Config) *Sender[S] {
	s := &Sender[S]{src: src}
	s.e.init(conn, cfg, (*senderSide[S])(s), hostProbe)
	s.input.in = in
	s.out.init(&s.e, src)
	return s
}

// Run serves the guest until ctx ends, and returns the error of ctx, or until
// the guest breaks the protocol (ErrProtocol) or the Source has a state that is
// too large to send (ErrState). The end of a link is not an end: Run waits for
// Rebind. It may be called once.
func (s *Sender[S]) Run(ctx context.Context) error {
	notify := make(chan struct{}, 1)
	cancel := s.src.Subscribe(notify)
	defer cancel()
	return s.e.run(ctx, notify)
}

// Rebind puts conn in the place of the present link, which is closed, and goes
// on over it at once. Whether that one stalls is found out anew.
func (s *Sender[S]) Rebind(conn Conn) { s.e.rebind(conn) }

// Drain waits until the guest has acknowledged all that the Source had when it
// was called. It is for the last words of a shell. It returns the error of ctx,
// or net.ErrClosed when Run has ended.
func (s *Sender[S]) Drain(ctx context.Context) error {
	d := &drain{s.src.Head(), make(chan struct{})}
	s.e.mu.Lock()
	s.drains = append(s.drains, d)
	s.e.mu.Unlock()
	s.e.poke()
	defer func() {
		s.e.mu.Lock()
		s.drains = slices.DeleteFunc(s.drains, func(o *drain) bool { return o == d })
		s.e.mu.Unlock()
	}()
	select {
	case <-d.done:
		return nil
	case <-s.e.ended:
		return net.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

// InputReady says that Input.Keys may take more again.
func (s *Sender[S]) InputReady() {
	s.e.mu.Lock()
	s.ready = true
	s.e.mu.Unlock()
	s.e.poke()
}

// Stalled reports whether the guest has been silent, as Config.OnStall tells.
func (s *Sender[S]) Stalled() bool { return s.e.stalled.Load() }

// Stats returns the present figures.
func (s *Sender[S]) Stats() Stats { return s.e.snapshot() }

// senderSide is a Sender as its loop sees it.
type senderSide[S any] Sender[S]

func (s *senderSide[S]) accept(p *packet) (urgent bool, err error) {
	newest := p.seq == s.e.seen.largest
	if newest {
		s.wantReact = p.flags&flagWantReact != 0
	}
	if p.hasKind(kindState) && !s.out.acknowledge(p.state, p.stateBase) {
		s.e.tally.Malformed++
		return false, nil
	}
	if newest && p.flags&flagNeedFull != 0 {
		s.out.needFull()
	}
	for i := range p.n {
		c := &p.chunks[i]
		if c.kind != kindKeys {
			s.e.tally.Malformed++
			continue
		}
		s.hasInput = true
		if err := s.input.put(c.pos, c.data); err != nil {
			return false, err
		}
	}
	return false, nil
}

// signalsAge is for how long an answer of Input.Signals holds: it takes a system call, and
// in a flood there are thousands of datagrams a second.
const signalsAge = 20 * time.Millisecond

func (s *senderSide[S]) flags() (f byte) {
	if s.e.now >= s.askSignals {
		s.signals, s.askSignals = s.input.in.Signals(), s.e.now+signalsAge
	}
	if s.signals {
		f |= flagSignals
	}
	return f
}

func (s *senderSide[S]) control(b []byte, changed bool) []byte {
	if s.hasInput {
		b = appendPair(b, kindInput, s.input.received, s.input.taken)
		s.sentTaken = s.input.taken
	}
	if changed && s.reacted.pos > 0 {
		b = appendPair(b, kindReacted, s.reacted.pos, s.reacted.head)
	}
	if base, ok := s.out.oldestBase(); ok {
		b = appendBase(b, base)
	}
	return b
}

func (s *senderSide[S]) arrived(r *record) { s.out.arrived(r) }
func (s *senderSide[S]) missing(r *record) { s.out.missing(r) }
func (s *senderSide[S]) pending() bool     { return s.out.pending() }
func (s *senderSide[S]) repeat()           { s.out.repeat() }
func (s *senderSide[S]) patient() bool     { return s.out.patient }

func (s *senderSide[S]) service() error {
	s.serveDrains()
	s.e.until(s.input.deliver(s.e.now))
	// With acknowledgements it is told as it goes. When the program took
	// something later, the guest may be waiting to hear of it.
	if q := &s.input; q.taken-s.toldTaken >= inputWindow/4 || q.taken != s.sentTaken && q.taken == q.received && s.e.owed == 0 {
		s.toldTaken, s.sentTaken = q.taken, q.taken
		s.e.change()
	}
	s.serveReacts()
	return s.out.service()
}

func (s *senderSide[S]) serveDrains() {
	s.e.mu.Lock()
	defer s.e.mu.Unlock()
	if s.ready {
		s.ready, s.input.blocked = false, false
	}
	s.drains = slices.DeleteFunc(s.drains, func(d *drain) bool {
		done := s.out.has(d.target)
		if done {
			close(d.done)
		}
		return done
	})
}

// serveReacts keeps account of what the program has had time to react to.
func (s *senderSide[S]) serveReacts() {
	last := s.reacted.pos
	if n := len(s.reacts); n > 0 {
		last = s.reacts[n-1].pos
	}
	if s.wantReact && s.input.taken > last {
		if n := len(s.reacts); n == maxReacts {
			// The program has had longer for those than it is given.
			s.reacts[n-1] = react{pos: s.input.taken, at: s.e.now}
		} else {
			s.reacts = append(s.reacts, react{pos: s.input.taken, at: s.e.now})
		}
	}
	n := 0
	for n < len(s.reacts) && s.reacts[n].at+reactTime <= s.e.now {
		s.reacted = s.reacts[n]
		n++
	}
	if n > 0 {
		s.reacts = slices.Delete(s.reacts, 0, n)
		s.reacted.head = s.src.Head()
		s.e.change()
	}
	if len(s.reacts) > 0 {
		s.e.until(s.reacts[0].at + reactTime)
	}
}

func (s *senderSide[S]) report(t *Stats) {
	s.out.report(t)
	t.Dropped = s.input.dropped
}
