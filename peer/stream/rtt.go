package stream

import "time"

const (
	initialTimeout = 300 * time.Millisecond
	minTimeout     = 50 * time.Millisecond
	maxTimeout     = time.Second

	// ackDelay is how long an acknowledgement waits for something to ride on:
	// longer than a shell takes to echo, shorter than anything that is felt.
	ackDelay = 5 * time.Millisecond
	// ackSlack is what the timer of the other side grants for it: the delay and
	// the scheduling around it.
	ackSlack = 2 * ackDelay
	// ackEvery is after how many datagrams an acknowledgement does not wait.
	ackEvery = 8

	// maxRTT is the longest round trip that is believed.
	maxRTT = 30 * time.Second
)

// rttEstimator is RFC 6298 with a lower floor and ceiling: a terminal cannot
// wait a second for its key.
type rttEstimator struct {
	srtt, rttvar time.Duration
	backoff      int // consecutive expiries of the timer
}

// sample takes a measured round trip, without the time that the peer waited.
func (e *rttEstimator) sample(rtt time.Duration) {
	if e.srtt == 0 {
		e.srtt, e.rttvar = max(rtt, 1), rtt/2
		return
	}
	e.rttvar += ((rtt - e.srtt).Abs() - e.rttvar) / 4
	e.srtt += (rtt - e.srtt) / 8
	e.srtt = max(e.srtt, 1)
}

// timeout is how long to wait for an acknowledgement. The first two expiries
// do not lengthen it: on a lossy link they are chance, not congestion.
func (e *rttEstimator) timeout() time.Duration {
	t := initialTimeout
	if e.srtt != 0 {
		t = max(e.srtt+4*e.rttvar+ackSlack, minTimeout)
	}
	return min(t<<max(0, min(e.backoff-2, 6)), maxTimeout)
}

// reorderWindow is how much later than the round trip a datagram may be
// acknowledged, when a later one already was, before it is taken for lost.
func (e *rttEstimator) reorderWindow() time.Duration {
	return max(e.srtt/8, 2*e.rttvar, time.Millisecond)
}
