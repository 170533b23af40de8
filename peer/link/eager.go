package link

import (
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// eagerDelays are when datagrams of a link's set-up are sent again. SCTP's handshake has
// a retransmission timeout of 1 s that doubles, and pion no setting for that: under 29 %
// loss each way that made the median set-up 2.5 s instead of 1.0 s. With these copies
// a datagram is lost in one of forty cases instead of one of three.
//
// DTLS drops copies of records it has seen (RFC 6347 section 4.1.2.6), and ICE answers
// to checks it no longer waits for, so that nothing above notices.
var eagerDelays = [...]time.Duration{30 * time.Millisecond, 100 * time.Millisecond}

const (
	// eagerGrace is how long the copies go on once the channels are open at this end: the
	// other may still wait for our last datagram.
	eagerGrace = 1500 * time.Millisecond

	// eagerQueue bounds the datagrams waiting to be copied. A set-up has about forty.
	eagerQueue = 128
)

// repeater sends copies of datagrams, for one link.
type repeater struct {
	wake chan struct{}

	mu   sync.Mutex
	jobs []repeat // by time
	done bool
}

// repeat is a datagram to be sent again.
type repeat struct {
	at   time.Time
	conn *muxConn
	to   netip.AddrPort
	data []byte
}

func newRepeater() *repeater { return &repeater{wake: make(chan struct{}, 1)} }

// add plans the copies of a datagram that has just been sent. It copies b.
func (r *repeater) add(c *muxConn, b []byte, to netip.AddrPort) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done || len(r.jobs)+len(eagerDelays) > eagerQueue {
		return
	}
	data := slices.Clone(b)
	for _, d := range eagerDelays {
		job := repeat{now.Add(d), c, to, data}
		i, _ := slices.BinarySearchFunc(r.jobs, job, func(a, b repeat) int { return a.at.Compare(b.at) })
		r.jobs = slices.Insert(r.jobs, i, job)
	}
	select {
	case r.wake <- struct{}{}:
	default: // awake already
	}
}

// run sends the copies until ctx is done.
func (r *repeater) run(ctx context.Context) {
	defer func() {
		r.mu.Lock()
		r.jobs, r.done = nil, true
		r.mu.Unlock()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-r.wake:
		case <-timer.C:
		case <-ctx.Done():
			return
		}
		for {
			job, wait := r.next()
			if wait > 0 {
				timer.Reset(wait)
			}
			if job.conn == nil {
				break
			}
			job.conn.resend(job.data, job.to)
		}
	}
}

// next takes the job that is due, or gives the time until one is, 0 if there is none.
func (r *repeater) next() (repeat, time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.jobs) == 0 {
		return repeat{}, 0
	}
	job := r.jobs[0]
	if wait := time.Until(job.at); wait > 0 {
		return repeat{}, wait
	}
	r.jobs = r.jobs[1:]
	return job, 0
}

// beEager sends copies until the channels have been open for a while, or the link ends.
func (l *Link) beEager() {
	ctx, cancel := context.WithCancel(context.Background())
	l.owned.Go(func() { l.repeater.run(ctx) })
	l.owned.Go(func() {
		defer cancel()
		select {
		case <-l.opened:
		case <-l.done:
			return
		}
		grace := time.NewTimer(eagerGrace)
		defer grace.Stop()
		select {
		case <-grace.C:
		case <-l.done:
		}
	})
}
