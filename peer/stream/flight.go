package stream

import "time"

// record remembers a datagram that was sent.
type record struct {
	seq     uint64
	at      time.Duration // when it was sent
	size    int           // bytes, with datagramOverhead
	state   recordState
	wantAck bool

	// Its content, for repetition.
	spans    [maxChunks]span // of the log, or of the log of input
	n        int
	frame    *outFrame
	fragment int
	control  uint32 // version of the control sections

	rate rateMark
}

type recordState uint8

const (
	recordAcked recordState = iota
	recordInFlight
	recordLost
)

// datagramOverhead is what lower layers add to a datagram, in bytes, for
// reckoning with the rate of a link.
const datagramOverhead = 120

// flight is the set of datagrams whose fate is open, or was decided lately.
type flight struct {
	recs    []record // ring; number seq is at seq & (len-1)
	low     uint64   // the first that is held
	next    uint64   // the next to be sent
	largest uint64   // the largest that was acknowledged
	bytes   int      // in flight, of datagrams that want acknowledgements
	recent  average  // share that is lost, of about the last 24
	lasting average  // and of the last 150
}

// average is an exponential moving average of shares.
type average float64

func (a *average) add(x, weight float64) { *a += average((x - float64(*a)) * weight) }

const (
	recentWeight  = 1.0 / 24
	lastingWeight = 1.0 / 150
)

// loss is the share of datagrams that do not arrive, 0 to 1: quick to rise,
// slow to fall.
func (f *flight) loss() float64 { return float64(max(f.recent, f.lasting)) }

// fate adds to the measurement of loss: 1 for lost, 0 for arrived.
func (f *flight) fate(x float64) {
	f.recent.add(x, recentWeight)
	f.lasting.add(x, lastingWeight)
}

// maxFlight bounds the records; it is more than a full window of datagrams.
const maxFlight = 512

func newFlight() flight {
	return flight{recs: make([]record, 32), low: 1, next: 1}
}

func (f *flight) at(seq uint64) *record { return &f.recs[seq&uint64(len(f.recs)-1)] }

// add keeps a record, and gives it its number. When the ring is full the oldest
// one is given up first.
func (f *flight) add(r *record, lost func(*record)) {
	if int(f.next-f.low) == len(f.recs) {
		if len(f.recs) < maxFlight {
			f.grow()
		} else {
			if o := f.at(f.low); o.state == recordInFlight {
				f.lose(o, lost)
			}
			f.low++
		}
	}
	r.seq, r.state = f.next, recordInFlight
	f.next++
	*f.at(r.seq) = *r
	if r.wantAck {
		f.bytes += r.size
	}
}

func (f *flight) grow() {
	recs := make([]record, 2*len(f.recs))
	for seq := f.low; seq < f.next; seq++ {
		recs[seq&uint64(len(recs)-1)] = *f.at(seq)
	}
	f.recs = recs
}

func (f *flight) lose(r *record, lost func(*record)) {
	r.state = recordLost
	if r.wantAck {
		f.bytes -= r.size
	}
	f.fate(1)
	lost(r)
}

// acknowledge handles an acknowledgement, calling acked for each datagram that
// it newly covers, in ascending order; those that were taken for lost are still
// marked so. It reports false for one of datagrams
// that were never sent.
func (f *flight) acknowledge(largest, bits uint64, acked func(*record)) bool {
	if largest >= f.next {
		return false
	}
	for i := uint64(64); i > 0; i-- {
		if bits&(1<<(i-1)) != 0 && largest > i {
			f.ackOne(largest-i, acked)
		}
	}
	f.ackOne(largest, acked)
	return true
}

func (f *flight) ackOne(seq uint64, acked func(*record)) {
	if seq < f.low {
		return
	}
	r := f.at(seq)
	if r.state == recordAcked {
		return
	}
	if r.state == recordInFlight {
		if r.wantAck {
			f.bytes -= r.size
		}
		f.fate(0)
	} else {
		// It was only late: take the reckoning back.
		f.recent = max(0, f.recent-recentWeight)
		f.lasting = max(0, f.lasting-lastingWeight)
	}
	acked(r)
	r.state, r.frame = recordAcked, nil
	f.largest = max(f.largest, seq)
}

// detect calls lost for datagrams that were overtaken: a later one is
// acknowledged, and patience has passed. It returns when the next one will be,
// or 0.
func (f *flight) detect(now, patience time.Duration, lost func(*record)) (next time.Duration) {
	f.trim(now)
	for seq := f.low; seq < f.largest; seq++ {
		r := f.at(seq)
		if r.state != recordInFlight {
			continue
		}
		if due := r.at + patience; due > now {
			return due
		}
		f.lose(r, lost)
	}
	return 0
}

// oldest returns the first datagram in flight that wants an acknowledgement.
func (f *flight) oldest() *record {
	if f.bytes == 0 {
		return nil
	}
	for seq := f.low; seq < f.next; seq++ {
		if r := f.at(seq); r.state == recordInFlight && r.wantAck {
			return r
		}
	}
	return nil
}

// expire calls lost for all datagrams in flight that were sent at or before t
// and want an acknowledgement: of the others none is due.
func (f *flight) expire(t time.Duration, lost func(*record)) {
	for seq := f.low; seq < f.next; seq++ {
		if r := f.at(seq); r.state == recordInFlight && r.wantAck && r.at <= t {
			f.lose(r, lost)
		}
	}
}

// abandon gives up all that is in flight without taking it for loss.
func (f *flight) abandon(lost func(*record)) {
	recent, lasting := f.recent, f.lasting
	f.expire(1<<62, lost)
	f.recent, f.lasting = recent, lasting
	f.low = f.next
}

// trim forgets what was decided. Lost ones are kept for a while: they may only
// be late.
func (f *flight) trim(now time.Duration) {
	for ; f.low < f.next; f.low++ {
		switch r := f.at(f.low); {
		case r.state == recordInFlight:
			return
		case r.state == recordLost && now-r.at < 2*time.Second:
			return
		}
	}
}

// arrivals is what was received, for acknowledging it.
type arrivals struct {
	largest uint64
	bits    uint64 // bit i: largest-1-i
}

// add notes number seq. fresh is false for a duplicate, or for one so old that
// it cannot be told; ordered is true for the next in line.
func (a *arrivals) add(seq uint64) (fresh, ordered bool) {
	switch {
	case seq > a.largest:
		shift := seq - a.largest
		ordered = shift == 1
		a.bits <<= shift
		if a.largest > 0 && shift <= 64 {
			a.bits |= 1 << (shift - 1)
		}
		a.largest = seq
		return true, ordered
	case seq == a.largest || a.largest-seq > 64:
		return false, false
	}
	bit := uint64(1) << (a.largest - seq - 1)
	fresh = a.bits&bit == 0
	a.bits |= bit
	return fresh, false
}
