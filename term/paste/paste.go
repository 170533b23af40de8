// Package paste follows streams of keys through bracketed pastes (xterm ctlseqs,
// "Bracketed Paste Mode"), with which terminals tell programs what was pasted from what
// was typed.
package paste

import "bytes"

// A paste comes between these.
const (
	Begin = "\x1b[200~"
	End   = "\x1b[201~"
)

// Tracker follows a stream of keys and knows whether it is inside of a bracketed paste.
// Its zero value is at the beginning of a stream. It is not safe for concurrent use.
type Tracker struct {
	inside bool
	n      int  // bytes of a marker that were just seen
	end    bool // with n = 5: of End, not of Begin
}

// Inside reports whether a paste has begun and not ended.
func (t *Tracker) Inside() bool { return t.inside }

// Partial reports whether the last byte may belong to a marker that is not complete.
func (t *Tracker) Partial() bool { return t.n > 0 }

// Next moves on by one byte.
func (t *Tracker) Next(c byte) {
	switch {
	case t.n < 4 && c == Begin[t.n]:
		t.n++
	case t.n == 4 && (c == '0' || c == '1'):
		t.n, t.end = 5, c == '1'
	case t.n == 5 && c == '~':
		t.n, t.inside = 0, !t.end
	case c == Begin[0]:
		t.n = 1
	default:
		t.n = 0
	}
}

// Feed moves on by p.
func (t *Tracker) Feed(p []byte) {
	for len(p) > 0 {
		if t.n == 0 {
			i := bytes.IndexByte(p, Begin[0])
			if i < 0 {
				return
			}
			p = p[i:]
		}
		t.Next(p[0])
		p = p[1:]
	}
}

// Closing returns what ends the paste when the stream is cut here, also when the cut is
// inside of a marker.
func (t *Tracker) Closing() string {
	switch {
	case t.n >= 4 && !t.inside && (t.n == 4 || !t.end):
		return Begin[t.n:] + End
	case t.n >= 4 && (t.n == 4 || t.end):
		return End[t.n:]
	case t.inside:
		return End
	}
	return ""
}
