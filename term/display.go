package term

import (
	"context"
	"io"
	"sync"
	"sync/atomic"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

const (
	// noticeQuiet is how long a program must have been quiet before a notice
	// is put over its output again, and noticeImpatience how long a program
	// that is never quiet keeps it away.
	noticeQuiet      = 100 * time.Millisecond
	noticeImpatience = 500 * time.Millisecond

	// frameInterval is the least time between two pictures of a terminal that
	// is painted, rather than sent the output itself.
	frameInterval = 16 * time.Millisecond

	// heldPatience is how long a picture waits for a program that is in the
	// middle of drawing (synchronized output).
	heldPatience = 150 * time.Millisecond
)

// A display is the host's own terminal. While it has the size of the shared
// one it gets the program's output as it is. A notice is drawn over it when the
// program is quiet, and taken away before the next output, so that output
// always meets the screen that it was made for. With another size (a guest's
// window constrains the shared one) it is painted from the model.
type display struct {
	tty  io.Writer
	src  *source
	wake chan struct{} // holds one notice that there is something to draw
	gone atomic.Bool   // the terminal is

	// turn is held by whoever writes to the terminal, writes included: output
	// and notices take turns, and a terminal that stops stops both.
	turn sync.Mutex
	// Guarded by turn.
	direct bool      // output goes to the terminal as it is
	quiet  time.Time // since when there was no output, while it matters
	drawn  time.Time // when something was drawn last
	// While direct:
	uncover []byte // what takes away the notice; nil: there is none
	covered string // the notice
	wanted  bool   // a notice waits for more output
	// While not direct:
	shown *screen.Snapshot // what the terminal shows; nil: unknown
	bells uint64           // that the terminal has rung
	held  time.Time        // since when drawing waits for the program
	leave func()           // ends the subscription to the source

	// Guarded by mu, which is never held across I/O.
	mu      sync.Mutex
	view    view
	notices notices
	redraw  bool
}

func newDisplay(tty io.Writer, src *source, size Size) *display {
	return &display{
		tty:    tty,
		src:    src,
		wake:   make(chan struct{}, 1),
		direct: true,
		view:   view{window: size, shared: size},
	}
}

func (d *display) poke() {
	select {
	case d.wake <- struct{}{}:
	default:
	}
}

// put writes to the terminal. That it was given back, or is gone, shows elsewhere; the
// program goes on for its guests.
func (d *display) put(p []byte) {
	if len(p) > 0 {
		if _, err := d.tty.Write(p); err != nil && isGone(err) {
			d.gone.Store(true)
		}
	}
}

// begin moves what is on the terminal into its scrollback, so that it is as
// blank as the model, and shows the first words.
func (d *display) begin(banner string) {
	rows := d.currentView().window.Rows
	d.turn.Lock()
	d.put(scrollAway(nil, rows))
	d.turn.Unlock()
	d.output([]byte(banner))
}

// output takes output of the program: to the terminal first, then to the
// source.
func (d *display) output(p []byte) {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.direct {
		if d.uncover != nil {
			d.put(d.uncover)
			d.uncover = nil
			d.wanted = true
		}
		d.put(p)
	}
	d.src.append(p)
	if d.wanted {
		d.quiet = time.Now()
		d.poke()
	}
}

// answers reports whether the terminal answers what programs ask: it sees the
// questions while it gets the output as it is.
func (d *display) answers() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view.exact() && !d.gone.Load()
}

// notice shows text for a while.
func (d *display) notice(text string) {
	d.mu.Lock()
	d.notices.add(text)
	d.mu.Unlock()
	d.poke()
}

// status shows text until there is another.
func (d *display) status(text string) {
	d.mu.Lock()
	d.notices.setStatus(text)
	d.mu.Unlock()
	d.poke()
}

// repaint draws everything anew.
func (d *display) repaint() {
	d.mu.Lock()
	d.redraw = true
	d.mu.Unlock()
	d.poke()
}

// move moves the part of the shared screen that is shown, if it is a part.
func (d *display) move(dx, dy int) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.view.partial() {
		return false
	}
	d.view.move(dx, dy)
	d.poke()
	return true
}

// resize says how large the terminal and the shared screen are, and whether
// the latter has changed: then output is for the new size from here on.
func (d *display) resize(window, shared Size, changed bool) {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.mu.Lock()
	// A terminal that changes its size wraps and moves its lines by rules of its
	// own, and may fetch some from before the session: what it shows then is not
	// what guests see, and a notice is not where it was.
	d.redraw = d.redraw || !d.direct || d.uncover != nil || window != d.view.window
	d.view.window, d.view.shared = window, shared
	d.mu.Unlock()
	d.uncover = nil
	if changed {
		d.src.resize(shared)
	}
	d.poke()
}

// MapMouse is part of Mouse.
func (d *display) MapMouse(col, row int) (int, int, bool) {
	v := d.currentView()
	if v.exact() {
		return col, row, true
	}
	x, y, ok := v.locate(col-1, row-1)
	// Pixels cannot be mapped without the size of a cell.
	snap, _ := d.src.Mark()
	return x + 1, y + 1, ok && !snap.Mode(screen.ModeMousePixels)
}

// MouseUTF8 is part of Mouse.
func (d *display) MouseUTF8() bool {
	snap, _ := d.src.Mark()
	return snap.Mode(screen.ModeMouseUTF8)
}

// run draws what has to be drawn until ctx ends.
func (d *display) run(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			d.finish()
			return
		case <-d.wake:
		case <-timer.C:
		}
		if wait := d.draw(time.Now()); wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
	}
}

// finish leaves a screen to go on from.
func (d *display) finish() {
	d.turn.Lock()
	defer d.turn.Unlock()
	if d.leave != nil {
		d.leave()
	}
	if !d.direct {
		return
	}
	d.put(d.uncover)
	d.uncover = nil
	if snap := d.src.settle(); snap.Cursor().X > 0 && !snap.Alternate() {
		d.put([]byte("\r\n"))
	}
}

// draw draws what there is to draw, and returns after what time it has to be
// called again; 0 means not before there is something new.
func (d *display) draw(now time.Time) time.Duration {
	d.turn.Lock()
	defer d.turn.Unlock()
	d.mu.Lock()
	exact, redraw := d.view.exact(), d.redraw
	d.redraw = false
	d.mu.Unlock()
	if exact != d.direct || redraw {
		d.change(exact)
	}
	if d.direct {
		return d.cover(now)
	}
	return d.paint(now)
}

// change begins to pass output on as it is, or to paint, and draws everything.
func (d *display) change(exact bool) {
	snap := d.src.settle()
	switch {
	case !exact:
		d.direct, d.shown, d.wanted = false, nil, false
		d.bells = snap.Bells()
		if d.leave == nil {
			d.leave = d.src.Subscribe(d.wake)
		}
	case !d.direct && !snap.whole:
		// Painting goes on until the program is between two sequences.
	default:
		d.put(screen.AppendDiff(nil, nil, snap.Snapshot))
		d.direct, d.shown, d.wanted = true, nil, false
		d.uncover = nil
		if d.leave != nil {
			d.leave()
			d.leave = nil
		}
	}
}

// cover puts the notice that is due over the program's output.
func (d *display) cover(now time.Time) time.Duration {
	if d.uncover != nil {
		text, left := d.nextNotice(now)
		if text == d.covered {
			return left
		}
		d.put(d.uncover)
		d.uncover = nil
	}
	if d.wanted = d.hasNotice(); !d.wanted {
		return 0
	}
	if quiet := now.Sub(d.quiet); quiet < noticeQuiet && now.Sub(d.drawn) < noticeImpatience {
		return noticeQuiet - quiet
	}
	snap := d.src.settle()
	if !snap.whole {
		return 0 // not before more output
	}
	text, left := d.nextNotice(now)
	if text == "" {
		return 0
	}
	picture := compose(snap.Snapshot, d.currentView(), text)
	d.put(screen.AppendDiff(nil, snap.Snapshot, picture))
	d.uncover = screen.AppendDiff(nil, picture, snap.Snapshot)
	d.covered, d.drawn = text, now
	return left
}

// paint draws the shared screen in a window of another size.
func (d *display) paint(now time.Time) time.Duration {
	if wait := frameInterval - now.Sub(d.drawn); wait > 0 {
		return wait
	}
	if d.src.Held() {
		if d.held.IsZero() {
			d.held = now
		}
		if wait := heldPatience - now.Sub(d.held); wait > 0 {
			return wait
		}
	}
	d.held = time.Time{}
	snap, _ := d.src.Mark()
	d.mu.Lock()
	d.view.follow(snap.Cursor())
	d.mu.Unlock()
	text, left := d.nextNotice(now)
	v := d.currentView()
	picture := compose(snap, v, text)
	var dst []byte
	if d.shown == nil {
		dst, d.shown = startPainting(nil, v.window)
	}
	dst = screen.AppendDiff(dst, d.shown, picture)
	if bells := snap.Bells(); bells > d.bells {
		d.bells = bells
		dst = append(dst, '\a') // once, however many there were
	}
	d.put(dst)
	d.shown, d.drawn = picture, now
	return left
}

func (d *display) nextNotice(now time.Time) (text string, left time.Duration) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notices.text(now)
}

func (d *display) hasNotice() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.notices.pending()
}

func (d *display) currentView() view {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.view
}
