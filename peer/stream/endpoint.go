package stream

import (
	"sync"
	"sync/atomic"
	"time"
)

const (
	// maxBuffered is what a link may hold back, in bytes: a key waits behind it.
	maxBuffered = 8 << 10
	// bufferedPoll is how often a link that holds back more is asked again, at
	// first; each time the wait doubles, up to bufferedPollMax.
	bufferedPoll    = time.Millisecond
	bufferedPollMax = 64 * time.Millisecond

	// stallAfter is how long data may go unanswered before the link is said to
	// be stalled.
	stallAfter = 2 * time.Second

	// copyGap is the time between the copies of new data on a lossy link: a
	// burst of loss seldom lasts as long, and it is not felt.
	copyGap = 20 * time.Millisecond
	// smallGap is the time between datagrams that go beyond a full window.
	smallGap = 100 * time.Millisecond
	// Loss from which on new data is sent twice, and three times.
	lossTwice  = 0.01
	lossThrice = 0.10

	// An idle link is probed by the guest after guestProbe, each further time
	// half as long again, up to guestProbeMax; by the host only when the guest
	// does not.
	guestProbe    = 1200 * time.Millisecond
	guestProbeMax = 10 * time.Second
	hostProbe     = 5 * time.Second
)

// side is what differs between host and guest. Its methods are called by the
// loop.
type side interface {
	// accept handles what is in a datagram beside its header. It reports whether
	// to acknowledge at once.
	accept(p *packet) (urgent bool, err error)
	// flags returns the flags of a datagram that are the side's own.
	flags() byte
	// control appends the sections of the first group. With changed it is asked
	// for those that the peer may not know yet.
	control(b []byte, changed bool) []byte
	// arrived and missing tell the fate of a datagram's content.
	arrived(r *record)
	missing(r *record)
	// pending reports whether something is to be sent again.
	pending() bool
	// repeat sends once more what is unacknowledged, if it is little.
	repeat()
	// service sends what there is to be sent.
	service() error
	// patient reports that what there is to be sent waits for an answer or the next
	// deadline, and that more of it would change nothing.
	patient() bool
	// report completes the figures.
	report(*Stats)
}

// endpoint is what both ends have in common: the link, numbers and
// acknowledgements, timers, and the loop.
type endpoint struct {
	// Set once.
	cfg   Config
	side  side
	epoch time.Time
	inbox chan *inbound
	wake  chan struct{} // holds one
	ended chan struct{} // closed when Run has ended
	probe time.Duration // after this long without a sign of life the link is probed

	started, stalled atomic.Bool
	overrun          atomic.Uint64

	// Guarded by mu.
	mu       sync.Mutex
	replaced Conn // by Rebind; nil when there is none
	stats    Stats

	tasks sync.WaitGroup // readers and closers of links

	// Owned by the loop.
	conn       Conn
	generation uint32 // of conn
	now        time.Duration
	deadline   time.Duration // for the next wake-up; 0 for none
	flight     flight
	rtt        rttEstimator
	pace       pace

	seen     arrivals
	stamp    uint32 // newest timestamp received
	stampAt  time.Duration
	hasStamp bool
	owed     int           // datagrams to be acknowledged
	ackAt    time.Duration // when at the latest; 0 for never

	controlNow  uint32 // version of the control sections
	controlSent uint32 // the newest on its way or arrived
	controlGot  uint32 // the newest that arrived

	copies    int // of new data, still to be sent
	copyAt    time.Duration
	copiedAt  time.Duration // when the last one was sent
	probeAt   time.Duration
	probeWait time.Duration
	waitSince time.Duration // since when an answer has been due; 0 when none is
	heardAt   time.Duration // when the peer was last heard of
	sentAt    time.Duration // when data was last sent
	arrivedAt time.Duration // when the latest datagram that arrived was sent
	pollAt    time.Duration // when to ask Buffered again; 0 for no need
	pollWait  time.Duration

	out   []byte // the datagram being built
	rec   record
	tally Stats
}

func (e *endpoint) init(conn Conn, cfg Config, s side, probe time.Duration) {
	e.cfg, e.side, e.probe = cfg, s, probe
	e.epoch = time.Now()
	e.inbox = make(chan *inbound, maxInbox)
	e.wake = make(chan struct{}, 1)
	e.ended = make(chan struct{})
	e.replaced = conn
	e.flight, e.pace = newFlight(), newPace()
	e.probeWait = probe
	e.out = make([]byte, 0, MaxDatagram)
}

// clock is the time since epoch, and never 0.
func (e *endpoint) clock() time.Duration { return time.Since(e.epoch) + 1 }

// receive handles a datagram.
func (e *endpoint) receive(in *inbound) error {
	defer inbounds.Put(in)
	if in.n < 0 {
		if in.generation == e.generation {
			conn := e.conn
			e.tasks.Go(func() { conn.Close() })
			e.conn = nil
			e.stall(true)
		}
		return nil
	}
	e.tally.Received++
	e.tally.ReceivedBytes += uint64(in.n)
	var p packet
	if in.n > MaxDatagram || p.parse(in.buf[:in.n]) != nil {
		e.tally.Malformed++
		return nil
	}
	if p.flags&flagAck != 0 && p.largest >= e.flight.next {
		e.tally.Malformed++
		return nil
	}
	fresh, ordered := e.seen.add(p.seq)
	if in.generation == e.generation {
		e.heardAt = in.at
		if e.probeAt != 0 {
			e.probeAt = max(e.probeAt, e.now+e.probeWait)
		}
		if fresh && p.seq == e.seen.largest {
			e.stamp, e.stampAt, e.hasStamp = p.stamp, in.at, true
		}
		if fresh && p.flags&flagEcho != 0 {
			e.sample(time.Duration(micros(in.at)-p.echo) * time.Microsecond)
		}
	}
	if p.flags&flagAck != 0 {
		e.flight.acknowledge(p.largest, p.bits, e.arrived)
	}
	urgent, err := e.side.accept(&p)
	if err != nil {
		return err
	}
	if p.flags&flagWantAck != 0 {
		e.owed++
		if urgent || !ordered || e.owed >= ackEvery {
			e.ackAt = e.now
		} else if e.ackAt == 0 {
			e.ackAt = in.at + ackDelay
		}
	}
	return nil
}

func micros(t time.Duration) uint32 { return uint32(t / time.Microsecond) }

func (e *endpoint) sample(rtt time.Duration) {
	if rtt > maxRTT {
		return
	}
	e.rtt.sample(rtt)
	e.pace.sample(rtt, e.rtt.srtt, e.now)
}

// arrived is called for each own datagram that is newly acknowledged.
func (e *endpoint) arrived(r *record) {
	e.rtt.backoff = 0
	e.arrivedAt = max(e.arrivedAt, r.at)
	e.waitSince = 0
	if e.flight.bytes > 0 {
		e.waitSince = e.now
	}
	e.stall(false)
	if r.wantAck {
		e.pace.arrived(r, e.now, e.rtt.rttvar)
	}
	if r.control > e.controlGot {
		e.controlGot = r.control
	}
	e.side.arrived(r)
}

// missing is called for each own datagram that is taken for lost.
func (e *endpoint) missing(r *record) {
	e.tally.Lost++
	if r.control == e.controlSent && e.controlGot < r.control {
		e.controlSent = e.controlGot
	}
	e.side.missing(r)
}

func (e *endpoint) stall(is bool) {
	if e.stalled.Load() == is {
		return
	}
	e.stalled.Store(is)
	if e.cfg.OnStall != nil {
		e.cfg.OnStall(is)
	}
}

// until asks for a wake-up at t, if it is not 0.
func (e *endpoint) until(t time.Duration) {
	if t != 0 && (e.deadline == 0 || t < e.deadline) {
		e.deadline = t
	}
}

// patience is how long after it was sent a datagram that was overtaken is still
// waited for.
func (e *endpoint) patience() time.Duration { return e.rtt.srtt + e.rtt.reorderWindow() }

// timers handles what is due: losses, the retransmission timer, copies, stalls.
func (e *endpoint) timers() {
	if e.conn == nil {
		return
	}
	e.until(e.flight.detect(e.now, e.patience(), e.missing))
	if o := e.flight.oldest(); o != nil {
		if due := e.repeatAt(o); due <= e.now {
			e.expire(o.at)
		} else {
			e.until(due)
		}
	}
	if e.copies > 0 {
		if e.copyAt <= e.now {
			e.copies--
			e.copyAt = e.now + copyGap
			e.copiedAt = e.now
			e.side.repeat()
		}
		if e.copies > 0 {
			e.until(e.copyAt)
		}
	}
	if e.waitSince != 0 {
		if due := e.waitSince + stallAfter; due > e.now {
			e.until(due)
		} else {
			e.stall(true)
		}
	}
}

// repeatAt is when the oldest datagram in flight has not been acknowledged for
// too long.
func (e *endpoint) repeatAt(o *record) time.Duration {
	// The copies have their chance first, and so has what takes long to send.
	due := max(o.at, min(e.copiedAt, o.at+2*copyGap)) + e.rtt.timeout() + e.pace.drain(e.flight.bytes)
	if e.heardAt > o.at && e.rtt.backoff > 0 {
		// After a silence the link is there again.
		due = min(due, o.at+e.patience())
	}
	return due
}

// expire handles the retransmission timer of a datagram that was sent at a
// time.
func (e *endpoint) expire(sent time.Duration) {
	e.flight.expire(max(sent, e.now-e.patience()), e.missing)
	if !e.side.pending() {
		if e.arrivedAt > sent {
			return // later ones brought all that it had
		}
		e.probeAt = e.now
	}
	e.tally.Timeouts++
	e.rtt.backoff++
	e.pace.timeout(e.rtt.backoff)
}

// answer sends what no data carried: acknowledgements, control sections that
// changed, probes.
func (e *endpoint) answer() {
	if e.conn == nil {
		return
	}
	probing := e.probeAt != 0 && e.probeAt <= e.now
	if probing || e.controlSent != e.controlNow || e.ackAt != 0 && e.ackAt <= e.now {
		if !e.unbuffered() {
			e.until(e.pollAt)
			return
		}
		e.begin()
		e.finish(probing || e.controlSent != e.controlNow)
	}
	e.until(e.ackAt)
	e.until(e.probeAt)
}

// unbuffered reports whether the link took what it was given so far.
func (e *endpoint) unbuffered() bool {
	if e.pollAt > e.now {
		return false
	}
	if e.conn.Buffered() <= maxBuffered {
		e.pollAt, e.pollWait = 0, 0
		return true
	}
	e.pollWait = min(max(2*e.pollWait, bufferedPoll), bufferedPollMax)
	e.pollAt = e.now + e.pollWait
	e.pace.held = true
	return false
}

// room reports whether a datagram with data may be sent now, with at most limit
// bytes in flight. What is small need not wait for a full window: it may be a
// key after an outage, and a person's keys are few.
func (e *endpoint) room(limit int, small bool) bool {
	if e.conn == nil {
		return false
	}
	ok, at := e.pace.ready(e.now, e.flight.bytes, limit)
	if !ok && small {
		at = e.sentAt + smallGap
		ok = at <= e.now
	}
	if !ok {
		e.until(at)
		return false
	}
	if !e.unbuffered() {
		e.until(e.pollAt)
		return false
	}
	return true
}

// begin starts a datagram in e.out and e.rec: its header and control sections.
func (e *endpoint) begin() {
	h := header{flags: e.side.flags(), stamp: micros(e.clock()), seq: e.flight.next}
	if e.hasStamp {
		h.flags |= flagEcho
		h.echo = e.stamp + micros(e.now-e.stampAt)
		e.hasStamp = false
	}
	if e.seen.largest > 0 {
		h.flags |= flagAck
		h.largest, h.bits = e.seen.largest, e.seen.bits
	}
	e.out = h.append(e.out[:0])
	e.out = e.side.control(e.out, e.controlGot != e.controlNow)
	e.rec = record{control: e.controlNow}
}

// left is the number of bytes that fit into the datagram.
func (e *endpoint) left() int { return MaxDatagram - len(e.out) }

// finish sends the datagram.
func (e *endpoint) finish(wantAck bool) {
	r := &e.rec
	r.at, r.size, r.wantAck = e.now, len(e.out)+datagramOverhead, wantAck
	if wantAck {
		e.out[1] |= flagWantAck
		if e.waitSince == 0 {
			e.waitSince = e.now
			e.until(e.now + stallAfter)
		}
		if e.probeAt != 0 && e.probeAt <= e.now {
			e.probeWait = min(e.probeWait*3/2, max(guestProbeMax, e.probe))
		} else {
			e.probeWait = e.probe
		}
		e.probeAt = e.now + e.probeWait
		e.sentAt = e.now
		e.pace.sent(r, e.now, e.flight.bytes)
	}
	e.flight.add(r, e.missing)
	if wantAck {
		e.until(e.repeatAt(e.flight.oldest()))
	}
	e.controlSent = e.controlNow
	e.owed, e.ackAt = 0, 0
	e.tally.Sent++
	e.tally.SentBytes += uint64(len(e.out))
	// A link that cannot send loses this one; that it has ended, Recv tells.
	_ = e.conn.Send(e.out)
}

// again plans copies of data that was just sent, unless the link is silent: then
// no number of them helps.
func (e *endpoint) again() {
	if e.rtt.backoff > 2 {
		return
	}
	switch loss := e.flight.loss(); {
	case loss >= lossThrice:
		e.copies = 2
	case loss >= lossTwice:
		e.copies = 1
	default:
		return
	}
	e.copyAt = e.now + copyGap
	e.until(e.copyAt)
}

// stuck tells when a side waits for nothing: nothing is in flight, and yet the
// peer does not have all of it. It may have dropped what came before its turn.
type stuck struct{ at time.Duration }

// check is called with whether that is so now, and reports true when it has
// been for long enough to send everything again.
func (s *stuck) check(e *endpoint, is bool) bool {
	switch {
	case !is || e.flight.bytes > 0:
		s.at = 0
		return false
	case s.at == 0:
		s.at = e.now + 2*e.rtt.timeout()
	case s.at <= e.now:
		s.at = 0
		return true
	}
	e.until(s.at)
	return false
}

// change notes that the control sections have news that must arrive.
func (e *endpoint) change() { e.controlNow++ }
