package stream

import "time"

// Limits of what may be in flight, in bytes with datagramOverhead.
const (
	fullDatagram  = MaxDatagram + datagramOverhead
	minWindow     = 2 * fullDatagram
	initialWindow = 16 << 10
	maxWindow     = 256 << 10
)

const (
	// queueTarget is the queue, in time, that is accepted at the bottleneck. It
	// is also what keeps a fast path busy between acknowledgements.
	queueTarget = 10 * time.Millisecond
	// queueFull is the queue at which the start ends.
	queueFull = 25 * time.Millisecond
	// queueOver is the queue at which it is drained at once: the link became
	// slower, or is shared with somebody new.
	queueOver = 60 * time.Millisecond

	// retreat is what is left of the window after a round trip with a queue.
	retreat = 0.85

	// burst is how far the pacing may run ahead: finer than timers are.
	burst = time.Millisecond

	// maxLeave bounds the time between datagrams.
	maxLeave = 200 * time.Millisecond

	// maxDrain bounds what a full path adds to the retransmission timer.
	maxDrain = 500 * time.Millisecond

	minRTTWindow = 10 * time.Second
	rateRounds   = 10
	growthRounds = 3 // round trips without growth that end the start
	calmRounds   = 8 // round trips without a queue that double the steps
)

// pace decides how much may be in flight, and how fast it may leave. It watches
// the round trip without queues and the rate at which datagrams are delivered,
// as BBR does (draft-cardwell-iccrg-bbr-congestion-control). It starts by
// doubling, until the rate does not follow or a queue appears; from then on the
// window grows by steps while there is no queue and retreats by a share when
// there is one, which makes those that share a bottleneck come to equal shares
// of it. Loss alone does not slow it down, since on a bad radio link it means
// nothing; queues do, since they are what a person feels.
type pace struct {
	window int // bytes that may be in flight

	srtt time.Duration

	// The least round trip, in two halves of minRTTWindow.
	minRTT   [2]time.Duration
	minSince time.Duration

	// Delivery.
	delivered   uint64
	deliveredAt time.Duration
	firstAt     time.Duration // when the first datagram of the present flight left
	idleUntil   uint64        // up to this count of delivered, the source was the limit
	held        bool          // in this round the window or the pacing was the limit

	// The rate in bytes a second: the best of the last rounds at the limit.
	rates [rateRounds]float64
	slot  int

	// The present round trip.
	roundEnd   uint64 // ends when this much was delivered
	roundAt    time.Duration
	roundFrom  uint64
	roundMin   time.Duration // least round trip seen in it
	samples    int
	roundLimit bool // at its beginning, the path was the limit

	starting  bool // doubling
	bestRate  float64
	flat      int           // rounds without growth
	calm      int           // rounds at the limit without a queue
	nextLeave time.Duration // when the next datagram may leave
}

// rateMark is what a record keeps to measure the rate by.
type rateMark struct {
	delivered   uint64
	deliveredAt time.Duration
	firstAt     time.Duration
	idle        bool
}

func newPace() pace {
	return pace{window: initialWindow, starting: true}
}

// sent notes that r leaves now, with inFlight bytes before it.
func (p *pace) sent(r *record, now time.Duration, inFlight int) {
	if inFlight == 0 {
		p.firstAt, p.deliveredAt = now, now
	}
	r.rate = rateMark{p.delivered, p.deliveredAt, p.firstAt, p.idleUntil > p.delivered}
	if rate := p.leaveRate(); rate > 0 {
		p.nextLeave = max(p.nextLeave, now-burst) + min(time.Duration(float64(r.size)/rate*1e9), maxLeave)
	}
}

// ready reports whether a datagram may leave at now, with inFlight bytes before
// it; otherwise when to ask again, or 0 for after an acknowledgement.
func (p *pace) ready(now time.Duration, inFlight, limit int) (ok bool, at time.Duration) {
	if inFlight > 0 && inFlight+fullDatagram > limit {
		p.held = true
		return false, 0
	}
	if p.nextLeave > now+burst {
		p.held = true
		return false, p.nextLeave - burst
	}
	return true, 0
}

// idle notes that there is nothing more to send, with inFlight bytes under way.
func (p *pace) idle(inFlight int) {
	p.idleUntil = p.delivered + uint64(inFlight)
}

// rate is the estimate of what the path delivers, in bytes a second; 0 when
// there is none yet.
func (p *pace) rate() float64 {
	best := 0.0
	for _, r := range p.rates {
		best = max(best, r)
	}
	return best
}

// trusted reports whether rate is what the path can do, not only what it was
// asked to do.
func (p *pace) trusted() bool { return !p.starting }

// drain is how long the path takes to deliver n bytes, when that is known.
func (p *pace) drain(n int) time.Duration {
	if rate := p.rate(); rate > 0 && p.trusted() {
		return min(time.Duration(float64(n)/rate*1e9), maxDrain)
	}
	return 0
}

// leaveRate is the rate at which datagrams leave, 0 for no limit. The window is
// what limits; this only spreads it.
func (p *pace) leaveRate() float64 {
	switch {
	case p.srtt == 0:
		return 0
	case p.starting:
		return 2 * float64(p.window) / p.srtt.Seconds()
	}
	return 1.25 * float64(p.window) / p.srtt.Seconds()
}

// least is the round trip without queues.
func (p *pace) least() time.Duration {
	switch a, b := p.minRTT[0], p.minRTT[1]; {
	case a == 0:
		return b
	case b == 0:
		return a
	default:
		return min(a, b)
	}
}

// sample takes a measured round trip.
func (p *pace) sample(rtt, srtt, now time.Duration) {
	p.srtt = srtt
	if now-p.minSince > minRTTWindow/2 {
		p.minRTT[1], p.minRTT[0] = p.minRTT[0], 0
		p.minSince = now
	}
	if p.minRTT[0] == 0 || rtt < p.minRTT[0] {
		p.minRTT[0] = max(rtt, 1)
	}
	if p.samples == 0 || rtt < p.roundMin {
		p.roundMin = rtt
	}
	p.samples++
}

// arrived notes that r was delivered.
func (p *pace) arrived(r *record, now, rttvar time.Duration) {
	p.delivered += uint64(r.size)
	p.deliveredAt = now
	p.firstAt = max(p.firstAt, r.at)
	took := max(now-r.rate.deliveredAt, r.at-r.rate.firstAt)
	if took > 0 && took >= p.least() {
		rate := float64(p.delivered-r.rate.delivered) / took.Seconds()
		if !r.rate.idle || rate > p.rate() {
			p.rates[p.slot] = max(p.rates[p.slot], rate)
		}
	}
	if p.starting && (p.roundLimit || p.held) {
		p.window = min(p.window+r.size, maxWindow)
	}
	if r.rate.delivered >= p.roundEnd {
		p.round(now, rttvar)
	}
}

// round ends a round trip.
func (p *pace) round(now, rttvar time.Duration) {
	took := now - p.roundAt
	queue := time.Duration(0)
	if p.samples > 0 {
		queue = p.roundMin - p.least()
	}
	switch {
	case !p.roundLimit:
		// A round trip of waiting for the source says nothing about the path.
	case queue > queueOver && p.samples >= 4 && took > 0:
		p.starting = false
		p.fit(0.8 * float64(p.delivered-p.roundFrom) / took.Seconds())
	case p.starting:
		p.grow(queue, rttvar)
	default:
		p.cruise(queue, rttvar)
	}
	p.roundEnd, p.roundFrom, p.roundAt = p.delivered, p.delivered, now
	p.roundLimit, p.held = p.held, false
	p.samples = 0
}

// fit sets the window to what a path of that rate holds.
func (p *pace) fit(rate float64) {
	clear(p.rates[:])
	p.rates[p.slot] = rate
	p.setWindow(rate * (p.least() + queueTarget).Seconds())
}

func (p *pace) setWindow(n float64) {
	p.window = max(minWindow, min(int(n), maxWindow))
}

// grow ends a round trip at the limit while starting.
func (p *pace) grow(queue, rttvar time.Duration) {
	if rate := p.rate(); rate >= p.bestRate*1.25 {
		p.bestRate, p.flat = rate, 0
	} else {
		p.flat++
	}
	if queue > queueFull+p.doubt(rttvar) || p.flat >= growthRounds {
		p.starting, p.calm = false, 0
		p.fit(p.rate())
	}
}

// doubt is what jitter may have added to the least round trip of this round:
// nothing much when it is the least of many.
func (p *pace) doubt(rttvar time.Duration) time.Duration {
	return rttvar * time.Duration(max(0, 8-p.samples)) / 8
}

// cruise ends a round trip at the limit later on.
func (p *pace) cruise(queue, rttvar time.Duration) {
	if queue > queueTarget+p.doubt(rttvar) {
		p.calm = 0
		p.setWindow(float64(p.window) * retreat)
	} else {
		p.calm++
		step := float64(int(fullDatagram/2) << min(p.calm/calmRounds, 6))
		// Where a queue is short, loss is all that tells: what is in flight is
		// never much more than what arrives in the time.
		most := 1.5*p.rate()*(p.least()+queueTarget+rttvar).Seconds() + 2*fullDatagram
		p.setWindow(min(float64(p.window)+step, max(most, minWindow)))
	}
	p.slot = (p.slot + 1) % rateRounds
	p.rates[p.slot] = 0
}

// timeout notes the n-th consecutive expiry of the retransmission timer.
func (p *pace) timeout(n int) {
	switch {
	case n == 2:
		p.setWindow(float64(p.window) / 2)
	case n == 3:
		// The path is gone. When it comes back it is another one.
		p.setWindow(initialWindow / 4)
		p.starting, p.bestRate, p.flat = true, 0, 0
		clear(p.rates[:])
	}
}
