package stream

import "slices"

// span is the half-open range of positions [from, to).
type span struct{ from, to uint64 }

// spanSet is a set of positions, as sorted, disjoint spans with gaps between
// them. The zero value is empty.
type spanSet struct{ s []span }

// maxSpans bounds a spanSet. Honest traffic stays far below: it is about the
// number of losses in one window.
const maxSpans = 128

func (s *spanSet) empty() bool { return len(s.s) == 0 }

func (s *spanSet) clear() { s.s = s.s[:0] }

// add puts sp into the set.
func (s *spanSet) add(sp span) {
	if sp.from >= sp.to {
		return
	}
	// [i, j) are the spans that touch sp.
	i, _ := slices.BinarySearchFunc(s.s, sp.from, func(e span, from uint64) int {
		if e.to < from {
			return -1
		}
		return 1
	})
	j := i
	for j < len(s.s) && s.s[j].from <= sp.to {
		sp.from = min(sp.from, s.s[j].from)
		sp.to = max(sp.to, s.s[j].to)
		j++
	}
	if i == j {
		s.s = slices.Insert(s.s, i, sp)
		return
	}
	s.s[i] = sp
	s.s = slices.Delete(s.s, i+1, j)
}

// remove takes sp out of the set.
func (s *spanSet) remove(sp span) {
	if sp.from >= sp.to {
		return
	}
	for i := 0; i < len(s.s); i++ {
		e := s.s[i]
		switch {
		case e.to <= sp.from:
		case e.from >= sp.to:
			return
		case e.from < sp.from && e.to > sp.to:
			s.s[i].to = sp.from
			s.s = slices.Insert(s.s, i+1, span{sp.to, e.to})
			return
		case e.from < sp.from:
			s.s[i].to = sp.from
		case e.to > sp.to:
			s.s[i].from = sp.to
		default:
			s.s = slices.Delete(s.s, i, i+1)
			i--
		}
	}
}

// removeAll takes all of other out of the set.
func (s *spanSet) removeAll(other *spanSet) {
	if s.empty() {
		return
	}
	for _, e := range other.s {
		s.remove(e)
	}
}

// outlog is the state of repetition of a log that is sent in chunks: which of
// it is acknowledged, on its way, or to be sent again. It holds positions, not
// bytes.
type outlog struct {
	acked  uint64  // the peer has everything before
	next   uint64  // nothing from here on was ever sent
	lost   spanSet // in [acked, next): to be sent again
	sacked spanSet // in [acked, next): arrived, behind a gap
}

// reset begins anew at pos, with nothing on its way.
func (o *outlog) reset(pos uint64) {
	o.acked, o.next = pos, pos
	o.lost.clear()
	o.sacked.clear()
}

// ackTo handles the cumulative acknowledgement pos ≤ next.
func (o *outlog) ackTo(pos uint64) {
	if pos > o.acked {
		o.acked = pos
		o.lost.remove(span{0, pos})
		o.sacked.remove(span{0, pos})
	}
}

// arrived notes that a datagram with sp arrived.
func (o *outlog) arrived(sp span) {
	sp.from = max(sp.from, o.acked)
	sp.to = min(sp.to, o.next)
	// Beyond the bound the peer will be sent a few bytes twice.
	if len(o.sacked.s) < maxSpans {
		o.sacked.add(sp)
	}
	o.lost.remove(sp)
}

// missing notes that a datagram with sp is taken for lost.
func (o *outlog) missing(sp span) {
	sp.from = max(sp.from, o.acked)
	sp.to = min(sp.to, o.next)
	o.lost.add(sp)
	o.lost.removeAll(&o.sacked)
	if n := len(o.lost.s); n > maxSpans {
		o.lost.add(span{o.lost.s[n-2].from, o.lost.s[n-1].to})
	}
}

// redo marks all that is not acknowledged as to be sent again, including what
// seemed to have arrived.
func (o *outlog) redo() {
	o.sacked.clear()
	o.lost.add(span{o.acked, o.next})
}

// unacked is the number of bytes on their way.
func (o *outlog) unacked() uint64 { return o.next - o.acked }
