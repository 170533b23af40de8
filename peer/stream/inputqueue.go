package stream

import (
	"encoding/binary"
	"time"
)

const (
	// inputRate is how many typed bytes a second are given to the program of one
	// guest's, in the long run, and inputBurst how many at once. It is more than any
	// paste that means something, and keeps a guest that types without end from
	// taking a third of a core of the host.
	inputRate  = 2 << 20
	inputBurst = inputWindow
	// interruptCost is what an interrupt counts for, in bytes: it goes before everybody
	// else's keys, so there may be eight at once, and no more than 64 a second.
	interruptCost = inputRate / 64
)

// inputQueue is the host's end of the log of input: it puts the log together,
// and hands its events to the Input as fast as that takes them.
type inputQueue struct {
	in Input

	received uint64 // the log is complete up to here
	early    reorder

	// The log from position taken up to received.
	taken   uint64
	bytes   []byte
	given   int    // bytes of keys of the first event that were taken
	scanned uint64 // events up to here were looked at for interrupts

	spent   float64 // bytes of inputBurst that are not there, as of spentAt
	spentAt time.Duration

	blocked bool   // Keys took less than it was offered
	dropped uint64 // bytes of keys dropped for interrupts
}

// put adds a chunk of the log. The bytes beyond the window are not taken. It
// returns ErrProtocol when the log makes no sense.
func (q *inputQueue) put(pos uint64, p []byte) error {
	limit := q.taken + inputWindow + inputReserve
	if pos >= limit {
		return nil
	}
	p = p[:min(uint64(len(p)), limit-pos)]
	if pos > q.received {
		q.early.put(pos, false, p)
		return nil
	}
	q.extend(pos, p)
	for {
		e, ok := q.early.next(q.received)
		if !ok {
			break
		}
		q.extend(e.pos, e.data)
	}
	return q.scan()
}

func (q *inputQueue) extend(pos uint64, p []byte) {
	if skip := q.received - pos; skip < uint64(len(p)) {
		q.bytes = append(q.bytes, p[skip:]...)
		q.received += uint64(len(p)) - skip
	}
}

// eventAt returns the event at a position, when all of it is there.
func (q *inputQueue) eventAt(pos uint64) (kind byte, data []byte, ok bool, err error) {
	b := q.bytes[pos-q.taken:]
	if len(b) < eventHeader {
		return 0, nil, false, nil
	}
	n := int(binary.BigEndian.Uint16(b[1:]))
	if n > maxEvent {
		return 0, nil, false, ErrProtocol
	}
	if len(b) < eventHeader+n {
		return 0, nil, false, nil
	}
	kind, data = b[0], b[eventHeader:eventHeader+n]
	if !validEvent(kind, data) {
		return 0, nil, false, ErrProtocol
	}
	return kind, data, true, nil
}

// scan looks at new events. An interrupt drops the keys before it that were not
// taken: the guest has seen that they are more than a person types.
func (q *inputQueue) scan() error {
	for {
		kind, data, ok, err := q.eventAt(q.scanned)
		if !ok {
			return err
		}
		at := q.scanned
		q.scanned += eventHeader + uint64(len(data))
		if kind == eventInterrupt {
			q.drop(at)
		}
	}
}

// drop passes over the events up to pos, all but the last resize.
func (q *inputQueue) drop(pos uint64) {
	var size []byte
	for q.taken < pos {
		kind, data, _, _ := q.eventAt(q.taken)
		switch kind {
		case eventKeys:
			q.dropped += uint64(len(data) - q.given)
		case eventResize:
			size = data
		}
		q.take(len(data))
	}
	if size != nil {
		q.resize(size)
	}
	q.blocked = false
}

// take moves past the first event.
func (q *inputQueue) take(n int) {
	q.bytes = q.bytes[eventHeader+n:]
	if len(q.bytes) == 0 {
		q.bytes = nil
	}
	q.taken += eventHeader + uint64(n)
	q.given = 0
}

func (q *inputQueue) resize(data []byte) {
	q.in.Resize(int(binary.BigEndian.Uint16(data)), int(binary.BigEndian.Uint16(data[2:])))
}

// deliver hands events to the Input until there are none, it is full, or the guest has
// typed faster than it may; then it returns when to go on.
func (q *inputQueue) deliver(now time.Duration) (again time.Duration) {
	q.spent = max(0, q.spent-(now-q.spentAt).Seconds()*inputRate)
	q.spentAt = now
	for !q.blocked && q.taken < q.scanned {
		kind, data, _, _ := q.eventAt(q.taken)
		if over := q.spent - inputBurst; over >= 0 && kind != eventResize {
			return now + time.Millisecond + time.Duration(over/inputRate*float64(time.Second))
		}
		switch kind {
		case eventKeys:
			rest := data[q.given:]
			n := min(max(q.in.Keys(rest), 0), len(rest))
			q.given += n
			q.spent += float64(n)
			if n < len(rest) {
				q.blocked = true
				return 0
			}
		case eventInterrupt:
			q.in.Interrupt(data)
			q.spent += interruptCost
		case eventResize:
			q.resize(data)
		}
		q.take(len(data))
	}
	return 0
}
