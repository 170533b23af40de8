package term

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

// What a guest has missed. While a guest gets frames instead of bytes, or its
// terminal shows something over the shared screen, rows leave the screen that
// never enter the terminal's scrollback. They are put there afterwards, when it
// has become quiet: the main screen is wiped, the rows are written, and the
// screen is drawn again behind them, all of it in one synchronized update. So
// that the order is kept, nothing enters the scrollback until then: the screen
// is painted over, not scrolled.
//
// The newest rows are in the guest's own model. The others are asked from the
// host. They travel as
//
//	version  1 byte, missedVersion
//	columns  2 bytes, big endian, as all numbers here
//	rows     2 bytes
//	end      8 bytes: how many rows had left the screen, with these
//	count    4 bytes: how many rows these are, the last ones before end
//	bytes    the rest: output that puts them into a terminal's scrollback
const (
	missedVersion = 1
	missedHeader  = 17

	// guestScrollback bounds the memory for rows in a guest's own model, in bytes:
	// what leaves the screen while a notice is shown, or while rows from the host
	// are under way.
	guestScrollback = 1 << 20

	// missedQuiet is how long there must have been no frame before rows are put
	// into the scrollback. It doubles, up to missedQuietMax, when the peace lasted
	// for less than missedPeace.
	missedQuiet    = 500 * time.Millisecond
	missedQuietMax = 16 * time.Second
	missedPeace    = 2 * time.Second
	// missedPatience is how long the host has to send what it was asked for, and
	// missedTries how often it is asked.
	missedPatience = 15 * time.Second
	missedTries    = 2
)

var errMissed = errors.New("term: malformed rows of scrollback")

// Scrollback returns what a Painter asked for: the rows that have left the
// shared screen since there had been from of them, at most so many of the
// newest, in at most limit bytes.
func (s *Shared) Scrollback(from uint64, rows, limit int) []byte {
	snap, _ := s.Mark()
	return appendMissed(nil, snap, from, rows, limit)
}

func appendMissed(dst []byte, snap *screen.Snapshot, from uint64, rows, limit int) []byte {
	end := snap.ScrollbackTotal()
	n := min(rows, snap.ScrollbackLen())
	if missed := end - min(from, end); missed < uint64(n) {
		n = int(missed)
	}
	cols, height := snap.Size()
	dst = append(dst, missedVersion)
	dst = binary.BigEndian.AppendUint16(dst, uint16(cols))
	dst = binary.BigEndian.AppendUint16(dst, uint16(height))
	dst = binary.BigEndian.AppendUint64(dst, end)
	for mark := len(dst); ; n /= 2 {
		dst = binary.BigEndian.AppendUint32(dst[:mark], uint32(n))
		if dst = snap.AppendScrollback(dst, n); len(dst) <= limit || n == 0 {
			return dst
		}
	}
}

// missed is rows that the host has sent.
type missed struct {
	size       Size
	start, end uint64
	output     []byte
}

func parseMissed(p []byte) (m missed, err error) {
	if len(p) < missedHeader || p[0] != missedVersion {
		return m, errMissed
	}
	m.size.Cols = int(binary.BigEndian.Uint16(p[1:]))
	m.size.Rows = int(binary.BigEndian.Uint16(p[3:]))
	m.end = binary.BigEndian.Uint64(p[5:])
	count := uint64(binary.BigEndian.Uint32(p[13:]))
	if m.size != m.size.Clamp() || count > m.end {
		return m, errMissed
	}
	m.start = m.end - count
	// They come from another machine, so nothing but what may be shown goes to
	// the terminal.
	m.output = newModel(m.size).Pass(nil, p[missedHeader:])
	return m, nil
}

// rows is what a Painter knows of the rows that have left the shared screen. All
// of them are counted, from when the session began.
type rows struct {
	left   uint64 // so many have left
	kept   uint64 // those before are in the terminal's scrollback, as far as they ever will be
	sure   uint64 // the same, as of what has been written to the terminal
	own    uint64 // those from here on were given to the model
	joined bool   // those from before the guest joined have been dealt with

	stirred  bool          // more may be missed soon: there was a frame, or the terminal was too slow
	restless time.Time     // when that was
	filled   time.Time     // when rows were put into the scrollback
	quiet    time.Duration // how long it must be quiet before the next time
	asked    time.Time     // when the host was asked for rows; zero: not since it was quiet
	tries    int           // how often it was asked since it was quiet
	got      *missed       // what it has sent
	ask      chan uint64   // holds what the host is to be asked for
}

// missing reports whether the terminal's scrollback is to get rows.
func (r *rows) missing() bool { return r.kept != r.left }

// skip notes that a frame was passed on, after which so many rows have left.
func (r *rows) skip(left uint64) {
	if r.left != left {
		r.left, r.own = left, left // the model was not given all of them
		r.kept = min(r.kept, left)
	}
}

// leap notes that the model was made anew. When it was made for another size,
// rows were wrapped anew and are counted otherwise; what is missing is about as
// much as before.
func (r *rows) leap(left uint64, resized bool) {
	if resized {
		r.kept = left - min(r.left-r.kept, left)
		r.sure, r.got = r.kept, nil
	}
	r.left, r.own = left, left
	r.kept = min(r.kept, left)
}

// written notes that what the terminal is to get has been taken to be written,
// and keeps account of how quiet it is.
func (r *rows) written(now time.Time) {
	r.sure = r.kept
	if !r.stirred {
		return
	}
	r.stirred = false
	first := r.restless.Before(r.filled)
	switch early := now.Sub(r.filled) < missedPeace; {
	case !r.asked.IsZero() || first && early:
		r.quiet = min(2*r.quiet, missedQuietMax)
	case first:
		r.quiet = missedQuiet
	}
	r.restless, r.asked, r.tries = now, time.Time{}, 0
}

// Missed returns a channel that receives when rows that have left the shared
// screen are to be asked from the host, for Scrollback: the number for
// Shared.Scrollback.
func (p *Painter) Missed() <-chan uint64 { return p.rows.ask }

// Scrollback takes what Shared.Scrollback returned: rows for the terminal's
// scrollback, which get there when nothing is in their way.
func (p *Painter) Scrollback(encoded []byte) error {
	m, err := parseMissed(encoded)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// Others are not what was asked for last.
	if p.rows.missing() && !p.rows.asked.IsZero() && m.size == p.view.shared && m.start >= p.rows.kept {
		p.rows.got = &m
		p.poke()
	}
	return nil
}

// ownRows is how many of the rows that have left last are in the model.
func (p *Painter) ownRows(snap *screen.Snapshot) uint64 {
	return min(p.rows.left-min(p.rows.own, p.rows.left), uint64(snap.ScrollbackLen()))
}

// fill appends what puts the rows that the terminal lacks into its scrollback,
// if that can and may be done now; covered says that something is shown over
// the screen. Otherwise it returns how long to wait, 0 for until something
// comes.
func (p *Painter) fill(dst []byte, snap *screen.Snapshot, covered bool, now time.Time) (_ []byte, done bool, wait time.Duration) {
	r := &p.rows
	if wait := r.restless.Add(r.quiet).Sub(now); wait > 0 {
		return dst, false, wait
	}
	own := p.ownRows(snap)
	switch {
	case r.kept >= r.left-own:
		if covered {
			return dst, false, 0 // there may be more when it has gone
		}
	case r.got != nil && r.got.end >= r.left-own:
		if r.got.end > r.left {
			return dst, false, 0 // the last ones are still on the screen
		}
	default:
		if wait := r.asked.Add(missedPatience).Sub(now); wait > 0 && r.got == nil {
			return dst, false, wait
		}
		if r.tries < missedTries {
			r.asked, r.got = now, nil
			r.tries++
			select {
			case <-r.ask: // not taken yet
			default:
			}
			r.ask <- r.kept
			return dst, false, missedPatience
		}
	}
	return p.fillNow(dst, snap, now), true, 0
}

// fillNow is fill with what there is, in an open synchronized update.
func (p *Painter) fillNow(dst []byte, snap *screen.Snapshot, now time.Time) []byte {
	r := &p.rows
	dst = append(dst, "\x18\x1b[?2026h"...)
	at := r.kept
	own := r.left - p.ownRows(snap)
	if got := r.got; got != nil && got.start >= at && got.end <= r.left && got.end >= own {
		dst = p.leaveOut(dst, got.start-at)
		dst = append(append(dst, got.output...), "\x1b\\"...)
		at = got.end
	}
	if own > at {
		dst = p.leaveOut(dst, own-at)
		at = own
	}
	dst = snap.AppendScrollback(dst, int(r.left-at))
	r.kept, r.sure = r.left, r.left
	r.joined, r.got, r.asked, r.tries, r.filled = true, nil, time.Time{}, 0, now
	return dst
}

// leaveOut appends what puts a row into the scrollback that tells of others
// that are not there. Those from before the guest joined are not missed.
func (p *Painter) leaveOut(dst []byte, n uint64) []byte {
	if n == 0 || !p.rows.joined {
		return dst
	}
	size := p.view.shared
	line := screen.New(size.Cols, size.Rows, screen.Options{})
	fmt.Fprintf(line, "\x1b[2m\x1b[?7l-- %d lines left out --\x1b[?7h\x1b[m", n)
	for range size.Rows {
		_, _ = line.Write([]byte("\r\n"))
	}
	return line.Snapshot().AppendScrollback(dst, 1)
}
