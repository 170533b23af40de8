package stream

import (
	"context"
	"errors"
	"net"
	"slices"
)

// Receiver is the guest's end. See the package comment.
type Receiver[S any] struct {
	e  endpoint
	in inputLog

	// Owned by the loop.
	log   outlog // of input: what of in is on its way
	taken uint64 // by the host's program
	stuck stuck
	view  view[S]
	echos []react // echo acknowledgements that are ahead of the output
}

// NewReceiver returns a Receiver that feeds sink from the host at the other end
// of conn, which may be nil until Rebind. The Receiver closes the links it was
// given.
func NewReceiver[S any](conn Conn, sink Sink[S], cfg Config) *Receiver[S] {
	r := &Receiver[S]{}
	r.e.init(conn, cfg, (*receiverSide[S])(r), guestProbe)
	r.view.e, r.view.sink = &r.e, sink
	return r
}

// Run feeds the sink and sends what is typed until ctx ends, and returns the
// error of ctx; or ErrProtocol, or ErrSink. The end of a link is not an end: Run
// waits for Rebind. It may be called once.
func (r *Receiver[S]) Run(ctx context.Context) error {
	defer func() {
		r.in.mu.Lock()
		r.in.closed = true
		r.in.releaseLocked()
		r.in.mu.Unlock()
	}()
	return r.e.run(ctx, nil)
}

// Rebind puts conn in the place of the present link, which is closed, and goes
// on over it at once. Whether that one stalls is found out anew.
func (r *Receiver[S]) Rebind(conn Conn) { r.e.rebind(conn) }

// SendKeys queues typed bytes, and returns the count of all bytes typed so far
// (see Config.OnEcho). It keeps no reference to p.
//
// It waits, until ctx ends or Run has ended (net.ErrClosed), while 8 MiB are
// queued: enough for any paste to be read at once, which matters because only
// then can a key that is typed behind it be seen. An interrupt (Ctrl-C or
// Ctrl-\, also in the encodings of extended keyboards) outside of a bracketed
// paste, with more than 2 KiB typed or pasted before it still on the way,
// overtakes: what has not been sent is dropped, a bracketed paste that is
// underway is closed by the host, and the interrupt goes next, past a full
// window of the host too.
func (r *Receiver[S]) SendKeys(ctx context.Context, p []byte) (typed uint64, err error) {
	l := &r.in
	for {
		l.mu.Lock()
		if l.closed {
			l.mu.Unlock()
			return 0, net.ErrClosed
		}
		p = l.typeLocked(p)
		typed = l.typed
		if len(p) == 0 {
			l.mu.Unlock()
			r.e.poke()
			return typed, nil
		}
		if l.space == nil {
			l.space = make(chan struct{})
		}
		space := l.space
		l.mu.Unlock()
		r.e.poke()
		select {
		case <-space:
		case <-ctx.Done():
			return typed, ctx.Err()
		}
	}
}

// SendResize queues the size of the guest's window in cells, from 1 to 65,535;
// it replaces one that was not sent yet, and need not wait for keys.
func (r *Receiver[S]) SendResize(cols, rows int) error {
	if cols < 1 || rows < 1 || cols > 1<<16-1 || rows > 1<<16-1 {
		return errors.New("stream: window size out of range")
	}
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	if r.in.closed {
		return net.ErrClosed
	}
	r.in.resizeLocked(uint16(cols), uint16(rows))
	r.e.poke()
	return nil
}

// Refresh asks the host for the whole present state.
func (r *Receiver[S]) Refresh() {
	r.e.mu.Lock()
	r.view.refresh = true
	r.e.mu.Unlock()
	r.e.poke()
}

// Undelivered is the number of typed bytes of which the host has not said that
// its program took them, without those that were given up for an interrupt.
// After Run has ended it is final: so many keys may not have arrived.
func (r *Receiver[S]) Undelivered() uint64 {
	r.in.mu.Lock()
	defer r.in.mu.Unlock()
	return r.in.open
}

// Stalled reports whether the host has been silent, as Config.OnStall tells.
func (r *Receiver[S]) Stalled() bool { return r.e.stalled.Load() }

// Stats returns the present figures.
func (r *Receiver[S]) Stats() Stats { return r.e.snapshot() }

// receiverSide is a Receiver as its loop sees it.
type receiverSide[S any] Receiver[S]

func (r *receiverSide[S]) accept(p *packet) (urgent bool, err error) {
	if p.seq == r.e.seen.largest {
		r.in.mu.Lock()
		r.in.signals = p.flags&flagSignals != 0
		r.in.mu.Unlock()
	}
	if p.hasKind(kindInput) {
		if p.received > r.log.next {
			r.e.tally.Malformed++
			return false, nil
		}
		r.log.ackTo(p.received)
		r.taken = max(r.taken, p.taken)
		r.in.mu.Lock()
		r.in.receivedLocked(r.log.acked)
		r.in.takenLocked(r.taken, r.e.cfg.OnEcho != nil)
		r.in.mu.Unlock()
	}
	if p.hasKind(kindBase) {
		r.view.forget(p.base)
	}
	for i := range p.n {
		c := &p.chunks[i]
		switch c.kind {
		case kindLog:
			r.view.chunk(c)
		case kindFrame:
			done, err := r.view.fragment(c)
			if err != nil {
				return false, err
			}
			urgent = urgent || done
		default:
			r.e.tally.Malformed++
		}
	}
	if p.hasKind(kindReacted) && p.reacted <= r.log.next {
		r.react(p.reacted, p.reactedHead)
	}
	r.serveEchos()
	return urgent, nil
}

// react keeps an echo acknowledgement until the output has come as far.
func (r *receiverSide[S]) react(pos, head uint64) {
	n := len(r.echos)
	if n > 0 && r.echos[n-1].pos >= pos {
		return
	}
	if n == maxReacts {
		n--
	}
	r.echos = append(r.echos[:n], react{pos: pos, head: head})
}

func (r *receiverSide[S]) serveEchos() {
	n := 0
	for n < len(r.echos) && r.view.has && r.view.pos >= r.echos[n].head {
		n++
	}
	if n == 0 {
		return
	}
	r.in.mu.Lock()
	typed, ok := r.in.reactedLocked(r.echos[n-1].pos)
	r.in.mu.Unlock()
	r.echos = slices.Delete(r.echos, 0, n)
	if ok && r.e.cfg.OnEcho != nil {
		r.e.cfg.OnEcho(typed)
	}
}

func (r *receiverSide[S]) flags() (f byte) {
	if r.view.needFull {
		f |= flagNeedFull
	}
	if r.e.cfg.OnEcho != nil {
		f |= flagWantReact
	}
	return f
}

func (r *receiverSide[S]) control(b []byte, _ bool) []byte {
	if pos, base, ok := r.view.state(); ok {
		b = appendPair(b, kindState, pos, base)
	}
	return b
}

func (r *receiverSide[S]) arrived(rec *record) {
	for _, sp := range rec.spans[:rec.n] {
		r.log.arrived(sp)
	}
}

func (r *receiverSide[S]) missing(rec *record) {
	for _, sp := range rec.spans[:rec.n] {
		r.log.missing(sp)
	}
}

func (r *receiverSide[S]) pending() bool { return !r.log.lost.empty() }
func (r *receiverSide[S]) patient() bool { return false }

func (r *receiverSide[S]) service() error {
	e := &r.e
	e.mu.Lock()
	refresh := r.view.refresh
	r.view.refresh = false
	e.mu.Unlock()
	if refresh {
		r.view.ask()
	}
	if e.conn == nil {
		return nil
	}
	if r.stuck.check(e, r.log.unacked() > 0 && r.log.lost.empty()) {
		r.log.redo()
	}
	for r.send(false) {
	}
	return nil
}

// repeat sends once more what is not acknowledged, if it fits a datagram.
func (r *receiverSide[S]) repeat() {
	if n := r.log.unacked(); r.e.conn != nil && n > 0 && n <= smallInput && r.e.unbuffered() {
		r.send(true)
	}
}

// smallInput is how much input is repeated in every datagram, in bytes.
const smallInput = 900

// send sends a datagram of input if there is something to send and room for it:
// all that is not acknowledged, as far as it fits. With again it sends what was
// sent before.
func (r *receiverSide[S]) send(again bool) bool {
	e, l := &r.e, &r.log
	r.in.mu.Lock()
	limit := r.taken + inputWindow
	fresh, urgent := r.in.readyLocked(limit)
	r.in.mu.Unlock()
	switch {
	case again:
		e.tally.Repeated++
	case !fresh && l.lost.empty():
		e.pace.idle(e.flight.bytes)
		return false
	case !urgent && !e.room(e.pace.window, l.unacked() <= smallInput):
		return false
	case !l.lost.empty():
		e.tally.Repeated++
	}
	e.begin()
	r.in.mu.Lock()
	if l.unacked() <= smallInput {
		l.lost.clear()
		if !again {
			r.in.extendLocked(e.left()-chunkOverhead-int(l.unacked()), limit)
			l.next = r.in.endLocked()
		}
		r.putLocked(span{l.acked, l.next})
	} else {
		if urgent {
			r.extendLocked(limit)
		}
		for !l.lost.empty() && r.putLocked(l.lost.s[0]) {
		}
		if l.lost.empty() {
			r.extendLocked(limit)
		}
	}
	r.in.mu.Unlock()
	if e.rec.n == 0 {
		return false
	}
	e.finish(true)
	if !again && l.unacked() <= smallInput {
		e.again()
	}
	return true
}

// extendLocked puts what is new and fits into the datagram.
func (r *receiverSide[S]) extendLocked(limit uint64) {
	from := r.log.next
	r.in.extendLocked(r.e.left()-chunkOverhead, limit)
	r.log.next = r.in.endLocked()
	r.putLocked(span{from, r.log.next})
}

// putLocked appends as much of the span to the datagram as fits, and reports
// whether that was all of it.
func (r *receiverSide[S]) putLocked(sp span) bool {
	e := &r.e
	n := min(sp.to-sp.from, uint64(max(0, e.left()-chunkOverhead)))
	if n == 0 || e.rec.n == maxChunks {
		return sp.from == sp.to
	}
	did := span{sp.from, sp.from + n}
	e.out = beginChunk(e.out, kindKeys, did.from, false)
	start := len(e.out)
	e.out = append(e.out, r.in.bytes[did.from-r.in.start:did.to-r.in.start]...)
	endChunk(e.out, start)
	e.rec.spans[e.rec.n] = did
	e.rec.n++
	r.log.lost.remove(did)
	return did == sp
}

func (r *receiverSide[S]) report(t *Stats) {
	t.Mode = ModeFrame
	if r.view.viaLog {
		t.Mode = ModeLog
	}
	t.Position = r.view.pos
	t.LogBytes, t.Frames, t.FullFrame = r.view.logBytes, r.view.frames, r.view.fullFrames
	r.in.mu.Lock()
	t.Unacked, t.Dropped = r.in.open, r.in.dropped
	r.in.mu.Unlock()
}
