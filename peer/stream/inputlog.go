package stream

import (
	"slices"
	"sync"

	"github.com/pairterm/pairterm/term/paste"
)

const (
	// maxBacklog bounds what is typed and not sent, in bytes.
	maxBacklog = 8 << 20
	// maxItem is the largest piece of it, so that memory is given back while a
	// paste goes out.
	maxItem = 64 << 10
)

// inputLog is the guest's end of the log of input. What is typed waits in a
// backlog, as it is; only what goes out at once becomes part of the log. So an
// interrupt can still drop the rest of a paste.
type inputLog struct {
	mu sync.Mutex

	// Guarded by mu.
	backlog []item
	waiting int           // bytes of keys in backlog
	space   chan struct{} // closed when waiting fell; nil when nobody waits
	typed   uint64        // bytes ever typed
	logged  uint64        // of these, up to the end of the log, dropped ones included
	dropped uint64
	open    uint64 // bytes typed, not dropped, and not taken by the program
	tracker paste.Tracker
	signals bool // an interrupt is one at the host, and no key for its program
	closed  bool

	// The log from position start on: all that the host has not received.
	start uint64
	bytes []byte
	// Its events that the program has not taken, and those that OnEcho has not
	// been told of.
	untaken  []event
	unechoed []event
}

// item of the backlog.
type item struct {
	kind byte
	data []byte // owned
}

// event in the log.
type event struct {
	end   uint64 // position after it
	keys  int    // bytes of keys in it
	typed uint64 // bytes typed up to its end
}

// end is the position after the last event of the log.
func (l *inputLog) endLocked() uint64 { return l.start + uint64(len(l.bytes)) }

// typeLocked queues p, or as much of it as there is space for, and returns the
// rest.
func (l *inputLog) typeLocked(p []byte) (rest []byte) {
	for len(p) > 0 {
		if l.waiting >= maxBacklog {
			// Full. An interrupt that is in p, or comes later, is seen when there
			// is space again.
			return p
		}
		part := p[:min(len(p), maxBacklog-l.waiting)]
		at, n := len(part), 0
		if l.signals {
			at, n = findInterrupt(&l.tracker, part)
		} else {
			l.tracker.Feed(part)
		}
		l.keysLocked(part[:at])
		if n > 0 {
			l.interruptLocked(part[at : at+n])
		}
		p = p[at+n:]
	}
	return nil
}

func (l *inputLog) keysLocked(p []byte) {
	if len(p) == 0 {
		return
	}
	l.typed += uint64(len(p))
	l.open += uint64(len(p))
	l.waiting += len(p)
	for len(p) > 0 {
		n := len(l.backlog) - 1
		if n < 0 || l.backlog[n].kind != eventKeys || len(l.backlog[n].data) >= maxItem {
			l.backlog = append(l.backlog, item{kind: eventKeys})
			n++
		}
		it := &l.backlog[n]
		part := p[:min(len(p), maxItem-len(it.data))]
		it.data = append(it.data, part...)
		p = p[len(part):]
	}
}

func (l *inputLog) interruptLocked(key []byte) {
	if l.open <= bulk {
		l.keysLocked(key)
		return
	}
	l.backlog = slices.DeleteFunc(l.backlog, func(it item) bool { return it.kind != eventResize })
	l.backlog = append(l.backlog, item{eventInterrupt, slices.Clone(key)})
	l.dropped += uint64(l.waiting)
	l.open -= uint64(l.waiting)
	l.waiting = len(key)
	l.typed += uint64(len(key))
	l.open += uint64(len(key))
	l.releaseLocked()
}

func (l *inputLog) resizeLocked(cols, rows uint16) {
	data := appendResize(nil, cols, rows)[eventHeader:]
	l.backlog = slices.DeleteFunc(l.backlog, func(it item) bool { return it.kind == eventResize })
	// It need not wait for a paste.
	l.backlog = slices.Insert(l.backlog, 0, item{eventResize, data})
}

func (l *inputLog) releaseLocked() {
	if l.space != nil {
		close(l.space)
		l.space = nil
	}
}

// readyLocked reports whether the log can be extended up to limit, and whether
// by something that need not wait its turn on the link.
func (l *inputLog) readyLocked(limit uint64) (fresh, urgent bool) {
	if len(l.backlog) == 0 {
		return false, false
	}
	it := &l.backlog[0]
	if it.kind != eventKeys {
		limit += inputReserve
	}
	fresh = l.endLocked()+eventHeader+uint64(len(it.data)) <= limit || it.kind == eventKeys && l.endLocked()+eventHeader < limit
	return fresh, fresh && it.kind != eventKeys
}

// extendLocked moves events from the backlog to the end of the log, as far as
// they fit into room bytes and end at or before limit, and reports whether
// there were any. Events other than keys may use inputReserve bytes beyond.
func (l *inputLog) extendLocked(room int, limit uint64) bool {
	was := len(l.bytes)
	for len(l.backlog) > 0 {
		it := &l.backlog[0]
		end := l.endLocked()
		urgent := it.kind != eventKeys
		if urgent {
			limit += inputReserve
		}
		n := min(len(it.data), maxEvent, room-eventHeader)
		if end+eventHeader < limit {
			n = min(n, int(min(limit-end-eventHeader, maxEvent)))
		} else {
			n = 0
		}
		if urgent {
			limit -= inputReserve
			if n < len(it.data) {
				break
			}
		}
		if n <= 0 {
			break
		}
		l.bytes = appendEvent(l.bytes, it.kind, it.data[:n])
		room -= eventHeader + n
		ev := event{end: l.endLocked()}
		if it.kind != eventResize {
			ev.keys = n
			l.waiting -= n
			l.logged = l.typed - uint64(l.waiting)
		}
		ev.typed = l.logged
		l.untaken = append(l.untaken, ev)
		if n == len(it.data) {
			l.backlog[0] = item{}
			l.backlog = l.backlog[1:]
		} else {
			it.data = it.data[n:]
		}
	}
	if l.waiting < maxBacklog {
		l.releaseLocked()
	}
	if len(l.backlog) == 0 {
		l.backlog = nil
	}
	return len(l.bytes) > was
}

// receivedLocked forgets the log up to pos, which the host has.
func (l *inputLog) receivedLocked(pos uint64) {
	if pos <= l.start {
		return
	}
	l.bytes = l.bytes[pos-l.start:]
	if len(l.bytes) == 0 {
		l.bytes = nil
	}
	l.start = pos
}

// takenLocked notes that the program took the log up to pos.
func (l *inputLog) takenLocked(pos uint64, echo bool) {
	n := 0
	for n < len(l.untaken) && l.untaken[n].end <= pos {
		l.open -= uint64(l.untaken[n].keys)
		n++
	}
	if n == 0 {
		return
	}
	if echo {
		l.unechoed = append(l.unechoed, l.untaken[:n]...)
	}
	l.untaken = slices.Delete(l.untaken, 0, n)
}

// reactedLocked returns how many typed bytes the program reacted to when it did
// to the log up to pos.
func (l *inputLog) reactedLocked(pos uint64) (typed uint64, ok bool) {
	n := 0
	for n < len(l.unechoed) && l.unechoed[n].end <= pos {
		typed, ok = l.unechoed[n].typed, true
		n++
	}
	l.unechoed = slices.Delete(l.unechoed, 0, n)
	return typed, ok
}
