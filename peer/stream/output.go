package stream

import "time"

const (
	// maxBehind is how many bytes of the log may wait to be sent before the
	// guest is served frames: nobody reads so much, and on a fast link sending
	// it would cost the host more than the screen is worth.
	maxBehind = 256 << 10
	// maxBehindTime is how long a byte of the log may wait.
	maxBehindTime = 50 * time.Millisecond
	// maxFlightTime is how long a log may take to send, in excess of the round
	// trip, when the rate of the path is known.
	maxFlightTime = 100 * time.Millisecond

	// A guest that gets frames has caught up when what the source printed in
	// caughtUpTime after the last one is no more than the path carries in that
	// time, and than caughtUpBytes; or is no more than one datagram.
	caughtUpTime  = 10 * time.Millisecond
	caughtUpBytes = 64 << 10

	// smallOutput is what is worth sending again and again on a lossy link, in
	// bytes: an echo, not a screen.
	smallOutput = 900
)

// output sends the state of a Source to a guest: as a log while the guest keeps
// up, else as frames. It is owned by the loop.
type output[S any] struct {
	e   *endpoint
	src Source[S]

	mode     Mode
	acked    uint64 // the guest has the state at this position
	frontier uint64 // nothing beyond was sent

	log outlog // in ModeLog; begins where the newest frame ended

	// A position that had not been sent at a time, to see how long bytes wait.
	behind   uint64
	behindAt time.Duration

	stuck stuck

	patient bool // see side

	frames[S]

	logBytes uint64
}

func (o *output[S]) init(e *endpoint, src Source[S]) {
	o.e, o.src = e, src
	o.full = true
}

// has reports whether the guest has the state at pos.
func (o *output[S]) has(pos uint64) bool { return o.base.ok && o.acked >= pos }

// acknowledge handles the guest's position and the newest base it holds. It
// reports false when they cannot be.
func (o *output[S]) acknowledge(pos, base uint64) bool {
	if pos > o.frontier {
		return false
	}
	o.promote(pos, base)
	if pos > o.acked {
		o.acked = pos
		o.settle(pos)
		if o.mode == ModeLog {
			o.log.ackTo(min(pos, o.log.next))
		}
	}
	return true
}

func (o *output[S]) arrived(r *record) {
	if r.frame != nil {
		r.frame.arrived(r.fragment, r.state == recordLost)
		o.settle(o.acked)
	}
	if o.mode == ModeLog {
		for _, sp := range r.spans[:r.n] {
			o.log.arrived(sp)
		}
	}
}

func (o *output[S]) missing(r *record) {
	if r.frame != nil {
		r.frame.missing(r.fragment)
	}
	if o.mode == ModeLog {
		for _, sp := range r.spans[:r.n] {
			o.log.missing(sp)
		}
	}
}

// pending reports whether something is to be sent again.
func (o *output[S]) pending() bool { return !o.log.lost.empty() || o.repairs() != nil }

func (o *output[S]) service() error {
	if o.patient = o.e.conn == nil; o.patient {
		return nil
	}
	o.unstick()
	head := o.src.Head()
	o.choose(head)
	for {
		sent, err := o.send(head)
		if err != nil {
			return err
		}
		if !sent {
			break
		}
	}
	// The end of what holds a frame up may come with the next byte.
	o.patient = o.mode == ModeFrame && head > o.frontier && o.heldFrom == 0
	return nil
}

// unstick sends again what arrived and was not accepted.
func (o *output[S]) unstick() {
	f := o.newest()
	complete := f == nil || f.unsent == len(f.parts)
	if !o.stuck.check(o.e, complete && !o.pending() && (f != nil || o.acked != o.frontier || !o.base.ok)) {
		return
	}
	switch {
	case f != nil:
		f.redo()
	case o.mode == ModeFrame || !o.base.ok:
		o.needFull()
	}
	if o.mode == ModeLog {
		o.log.redo()
	}
}

// choose decides between log and frames.
func (o *output[S]) choose(head uint64) {
	e := o.e
	if o.mode == ModeFrame && !o.caughtUp(head) {
		return
	}
	if head <= o.log.next {
		o.behind = 0
		return
	}
	if o.behind == 0 || o.log.next >= o.behind {
		o.behind, o.behindAt = head, e.now
	}
	waiting := head - o.log.next
	tooMuch := waiting > maxBehind || e.now-o.behindAt > maxBehindTime
	if rate := e.pace.rate(); !tooMuch && e.pace.trusted() && waiting > smallOutput {
		flight := float64(waiting) + float64(e.flight.bytes)
		tooMuch = flight/rate > (e.pace.least() + maxFlightTime).Seconds()
	}
	if tooMuch {
		o.toFrames()
	} else {
		e.until(o.behindAt + maxBehindTime + 1)
	}
}

// caughtUp goes back to the log when a frame brought, or will bring, the guest
// close to head.
func (o *output[S]) caughtUp(head uint64) bool {
	at := o.acked
	switch f := o.newest(); {
	case o.full, f == nil && !o.base.ok, f != nil && f.unsent < len(f.parts):
		return false
	case f != nil:
		at = f.pos
	}
	if due := o.cutAt + caughtUpTime; due > o.e.now {
		// It is too early to tell.
		if head > at {
			o.e.until(due)
		}
		return false
	}
	near := max(smallOutput, min(uint64(o.e.pace.rate()*caughtUpTime.Seconds()), caughtUpBytes))
	if !o.e.pace.trusted() {
		near = max(near, uint64(o.e.pace.window/8)) // it has not met its limit yet
	}
	if at != o.frontier || at > head || head-at > near {
		return false
	}
	if _, ok := o.src.Since(nil, at, 0); !ok {
		return false
	}
	o.mode = ModeLog
	o.log.reset(at)
	o.behind = 0
	return true
}

func (o *output[S]) toFrames() {
	o.mode = ModeFrame
	o.log.reset(o.frontier)
	o.e.copies = 0
}

// send sends one datagram, if there is something to send and room for it.
func (o *output[S]) send(head uint64) (sent bool, err error) {
	e := o.e
	if f := o.repairs(); f != nil {
		if !e.room(e.pace.window, false) {
			return false, nil
		}
		e.tally.Repeated++
		o.sendPart(f, f.firstLost())
		return true, nil
	}
	if o.mode == ModeLog {
		if head <= o.log.next && o.log.lost.empty() {
			e.pace.idle(e.flight.bytes)
			return false, nil
		}
		if !e.room(e.pace.window, head-o.log.acked <= smallOutput) {
			return false, nil
		}
		if o.sendLog(head) {
			return true, nil
		}
		// The source cannot give these bytes any more.
		o.toFrames()
	}
	return o.sendFrame(head)
}

// sendLog sends a datagram with parts of the log: all that is not acknowledged,
// when that is little and the link loses, else what was lost and what is new.
func (o *output[S]) sendLog(head uint64) bool {
	e, l := o.e, &o.log
	if head > l.next {
		o.mark()
	}
	e.begin()
	if !l.lost.empty() {
		e.tally.Repeated++
	}
	if head-l.acked <= smallOutput && e.flight.loss() >= lossTwice {
		o.put(span{l.acked, head})
	} else {
		for !l.lost.empty() && o.put(l.lost.s[0]) {
		}
		if l.lost.empty() {
			o.put(span{l.next, head})
		}
	}
	if e.rec.n == 0 {
		return false
	}
	e.finish(true)
	if l.unacked() <= smallOutput {
		e.again()
	}
	return true
}

// put appends as much of the span to the datagram as fits, in chunks that begin
// where bases are to be remembered. It reports whether it did all of it.
func (o *output[S]) put(sp span) bool {
	e := o.e
	for sp.from < sp.to {
		n := min(sp.to-sp.from, uint64(max(0, e.left()-chunkOverhead)))
		if cut, ok := o.nextMark(sp.from); ok {
			n = min(n, cut-sp.from)
		}
		if n == 0 || e.rec.n == maxChunks {
			return false
		}
		was := len(e.out)
		e.out = beginChunk(e.out, kindLog, sp.from, o.isMark(sp.from))
		start := len(e.out)
		out, ok := o.src.Since(e.out, sp.from, int(n))
		if !ok || len(out) == start || len(out) > start+int(n) {
			e.out = e.out[:was]
			return false
		}
		e.out = out
		endChunk(e.out, start)
		did := span{sp.from, sp.from + uint64(len(out)-start)}
		e.rec.spans[e.rec.n] = did
		e.rec.n++
		o.log.lost.remove(did)
		o.log.next = max(o.log.next, did.to)
		o.frontier = max(o.frontier, did.to)
		o.logBytes += did.to - did.from
		sp.from = did.to
	}
	return true
}

// repeat sends once more what is not acknowledged, if it is little.
func (o *output[S]) repeat() {
	e, l := o.e, &o.log
	if e.conn == nil || !e.unbuffered() {
		return
	}
	if f := o.newest(); f != nil {
		o.repeatFrame(f)
	}
	if n := l.unacked(); o.mode == ModeLog && n > 0 && n <= smallOutput {
		e.begin()
		o.put(span{l.acked, l.next})
		if e.rec.n > 0 {
			e.tally.Repeated++
			e.finish(true)
		}
	}
}

func (o *output[S]) report(t *Stats) {
	t.Mode = o.mode
	t.Position = o.acked
	t.Unacked = o.frontier - min(o.acked, o.frontier)
	t.LogBytes = o.logBytes
	t.Frames, t.FullFrame = o.cuts, o.fullCuts
}
