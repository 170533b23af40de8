package stream

import (
	"slices"
	"time"
)

const (
	// frameGap is the time between frames, at least: 60 a second.
	frameGap = time.Second / 60
	// maxHeld is how long frames wait for a half-drawn state.
	maxHeld = 150 * time.Millisecond
	// maxFrames bounds the frames that are not acknowledged. Each keeps a state.
	maxFrames = 6

	// While the log is sent, a state to base later frames on is remembered at
	// most every markGap, and maxMarks of them before one is acknowledged.
	markGap  = 100 * time.Millisecond
	maxMarks = 3

	// modelPoll is when to look again for a state that lags behind the log.
	modelPoll = 2 * time.Millisecond

	// startFrames is what may be in flight of frames on a path that is not known
	// yet, in bytes.
	startFrames = 4 << 10

	// smallFrame is the number of fragments of a frame that is worth sending
	// again and again on a lossy link, when no newer one is about to follow.
	smallFrame = 8
)

// base is a state that the guest has, or may come to have.
type base[S any] struct {
	ok    bool // it has
	mark  bool // it is on the way of the log, not the result of a frame
	pos   uint64
	state S
}

// outFrame is a frame that the guest may still need.
type outFrame struct {
	number uint64
	pos    uint64
	flags  byte
	base   uint64
	data   []byte
	parts  []part
	unsent int // the first that was never sent
	lost   int // number of those that are lost
	here   int // number of those that arrived
}

// part is a fragment of a frame.
type part struct {
	flying uint8 // datagrams with it whose fate is open
	here   bool  // it arrived
}

// arrived notes that fragment i arrived, in a datagram that was taken for lost if
// late.
func (f *outFrame) arrived(i int, late bool) {
	p := &f.parts[i]
	if !late {
		p.flying--
	}
	if p.here {
		return
	}
	if late && p.flying == 0 {
		f.lost--
	}
	p.here = true
	f.here++
}

func (f *outFrame) missing(i int) {
	p := &f.parts[i]
	if p.flying--; p.flying == 0 && !p.here {
		f.lost++
	}
}

// sent notes that fragment i leaves.
func (f *outFrame) sent(i int) {
	p := &f.parts[i]
	if i == f.unsent {
		f.unsent++
	} else if p.flying == 0 && !p.here {
		f.lost--
	}
	p.flying++
}

// firstLost is the first fragment to be sent again.
func (f *outFrame) firstLost() int {
	return slices.IndexFunc(f.parts[:f.unsent], func(p part) bool { return p.flying == 0 && !p.here })
}

// redo makes all that was sent to be sent again. Nothing of it is in flight.
func (f *outFrame) redo() {
	f.lost, f.here = f.unsent, 0
	clear(f.parts)
}

// frames is the part of output that deals with frames, and with the states that
// they are based on.
type frames[S any] struct {
	full   bool // the next frame is to be made from nothing
	base   base[S]
	bases  []base[S] // later ones that the guest may have, by position
	markAt time.Duration

	live     []*outFrame // oldest first
	number   uint64
	cutAt    time.Duration // when the last one was cut
	lastSize int           // and what it takes on the way, in bytes
	heldFrom time.Duration // since when a cut has been held up; 0 when not

	cuts, fullCuts uint64
	scratch        []byte
}

// newest returns the newest frame that the guest may need, or nil.
func (f *frames[S]) newest() *outFrame {
	if n := len(f.live); n > 0 {
		return f.live[n-1]
	}
	return nil
}

// repairs returns the oldest frame of which something is to be sent again.
func (f *frames[S]) repairs() *outFrame {
	for _, l := range f.live {
		if l.lost > 0 {
			return l
		}
	}
	return nil
}

// promote notes that the guest, at position pos, holds the state at position
// held as its newest base.
func (f *frames[S]) promote(pos, held uint64) {
	f.bases = slices.DeleteFunc(f.bases, func(b base[S]) bool {
		if b.pos == held && (!f.base.ok || held >= f.base.pos) {
			f.base = b
			f.base.ok = true
		}
		// The guest has passed it by, or has it.
		return b.pos < pos || b.pos == held
	})
}

// settle forgets frames that the guest does not need any more: those of the
// past, and those that are there.
func (f *frames[S]) settle(pos uint64) {
	f.live = slices.DeleteFunc(f.live, func(l *outFrame) bool {
		return l.pos < pos || l.pos == pos && (l.flags&frameBased != 0 || l.here == len(l.parts))
	})
}

// oldestBase is the position of the oldest base that a frame may refer to.
func (f *frames[S]) oldestBase() (pos uint64, ok bool) {
	if !f.base.ok {
		return 0, false
	}
	pos = f.base.pos
	for _, l := range f.live {
		if l.flags&frameBased != 0 {
			pos = min(pos, l.base)
		}
	}
	return pos, true
}

func (f *frames[S]) isMark(pos uint64) bool {
	return slices.ContainsFunc(f.bases, func(b base[S]) bool { return b.mark && b.pos == pos })
}

// nextMark returns the first position after pos where the guest is to remember
// its state.
func (f *frames[S]) nextMark(pos uint64) (uint64, bool) {
	for _, b := range f.bases {
		if b.mark && b.pos > pos {
			return b.pos, true
		}
	}
	return 0, false
}

// mark chooses a position of the log that is still to be sent, to be the base
// of later frames.
func (o *output[S]) mark() {
	marks := 0
	for _, b := range o.bases {
		if b.mark {
			marks++
		}
	}
	if o.e.now-o.markAt < markGap || marks >= maxMarks {
		return
	}
	last := o.base.pos
	if n := len(o.bases); n > 0 {
		last = o.bases[n-1].pos
	}
	if state, pos := o.src.Mark(); pos >= o.frontier && pos > last {
		o.bases = append(o.bases, base[S]{mark: true, pos: pos, state: state})
		o.markAt = o.e.now
	}
}

// needFull begins anew, for a guest that cannot go on from what it has.
func (o *output[S]) needFull() {
	for _, l := range o.live {
		if l.flags&frameBased == 0 && l.here < len(l.parts) {
			return // it is on its way
		}
	}
	o.full = true
	o.base = base[S]{}
	o.bases, o.live = nil, nil
	o.toFrames()
}

// sendFrame sends a fragment of the newest frame, or cuts a new one.
func (o *output[S]) sendFrame(head uint64) (sent bool, err error) {
	e := o.e
	if f := o.newest(); f != nil && f.unsent < len(f.parts) {
		// All of it was allowed when it was cut; now it is only spread in time.
		if !e.room(e.pace.window+len(f.data), false) {
			return false, nil
		}
		o.sendPart(f, f.unsent)
		if f.unsent == len(f.parts) && len(f.parts) <= smallFrame {
			e.again()
		}
		return true, nil
	}
	if head <= o.frontier && !o.full {
		e.pace.idle(e.flight.bytes)
		return false, nil
	}
	if len(o.live) >= maxFrames {
		e.pace.held = true
		return false, nil
	}
	if !e.room(o.frameWindow(), false) {
		return false, nil
	}
	if due := o.cutAt + frameGap; o.cutAt != 0 && due > e.now {
		e.until(due)
		return false, nil
	}
	if o.src.Held() {
		if o.heldFrom == 0 {
			o.heldFrom = e.now
		}
		if due := o.heldFrom + maxHeld; due > e.now {
			e.until(due)
			return false, nil
		}
	}
	state, pos := o.src.Mark()
	if pos < o.frontier || pos == o.frontier && !o.full {
		e.until(e.now + modelPoll)
		return false, nil
	}
	o.heldFrom = 0
	return true, o.cutFrame(state, pos)
}

// frameWindow is what may be in flight when a frame is cut, in bytes, so that
// one like the last fits the window: a newer state is worth more than a full
// queue. With nothing in flight, a frame may always be cut.
func (o *output[S]) frameWindow() int {
	window := o.e.pace.window
	if !o.e.pace.trusted() {
		window = min(window, max(startFrames, int(2*o.e.pace.rate()*o.e.pace.least().Seconds())))
	}
	return window - o.lastSize + fullDatagram
}

// cutFrame makes a frame for the state at pos.
func (o *output[S]) cutFrame(state S, pos uint64) error {
	f := &outFrame{pos: pos}
	var from S
	if o.base.ok && !o.full {
		f.flags, f.base, from = frameBased, o.base.pos, o.base.state
	} else {
		o.fullCuts++
	}
	o.scratch = o.src.AppendDiff(o.scratch[:0], from, state)
	if len(o.scratch) > maxState {
		return ErrState
	}
	if packed, ok := deflate(o.scratch, o.e.pace.rate()); ok {
		f.flags |= frameDeflated
		f.data = packed
	} else {
		f.data = slices.Clone(o.scratch)
	}
	if len(f.data) > maxFrame {
		return ErrState
	}
	if cap(o.scratch) > maxScratch {
		o.scratch = nil
	}
	f.parts = make([]part, fragments(len(f.data)))
	o.number++
	f.number = o.number
	o.cuts++
	o.cutAt, o.frontier, o.full = o.e.now, pos, false
	o.lastSize = len(f.data) + len(f.parts)*datagramOverhead
	o.live = append(o.live, f)
	o.bases = append(o.bases, base[S]{pos: pos, state: state})
	return nil
}

// maxScratch is the size of a buffer that is kept between frames.
const maxScratch = 64 << 10

func (o *output[S]) sendPart(f *outFrame, i int) {
	e := o.e
	e.begin()
	at := i * fragmentSize
	e.out = appendFragment(e.out, &chunk{
		frame: f.number, pos: f.pos, flags: f.flags, base: f.base,
		total: len(f.data), index: i, data: f.data[at : at+fragmentLen(len(f.data), i)],
	})
	e.rec.frame, e.rec.fragment = f, i
	f.sent(i)
	e.finish(true)
}

// repeatFrame sends what has not arrived of a small frame once more, unless a
// newer one will.
func (o *output[S]) repeatFrame(f *outFrame) {
	if len(f.parts) > smallFrame || f.unsent < len(f.parts) || o.mode == ModeFrame && o.src.Head() > f.pos {
		return
	}
	for i, p := range f.parts {
		if !p.here {
			o.e.tally.Repeated++
			o.sendPart(f, i)
		}
	}
}
