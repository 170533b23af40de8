package term

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"time"

	"github.com/pairterm/pairterm/term/screen"
)

const (
	// maxUnwritten is how many bytes of output may wait for the guest's
	// terminal. One that is slower gets the newest screen instead.
	maxUnwritten = 256 << 10

	// leavePatience is how long leaving waits for the terminal.
	leavePatience = 500 * time.Millisecond
)

// A Painter shows a shared terminal on a guest's. It satisfies the Sink of
// package stream for *screen.Snapshot, and holds the guest's model of the
// shared screen.
//
// While the guest's window has the size of the shared screen, its terminal
// gets the host's output as it is, less what asks a terminal for an answer.
// Otherwise it is painted from the model: all of the screen with its edge
// marked, or the part of it around the cursor. Either way it has the modes that
// the host's programs have chosen, so that keys and the mouse are sent as they
// expect.
//
// None of its methods but Run waits for the terminal: when it is slow, it is
// shown less often. All methods may be called from any goroutine at any time.
type Painter struct {
	tty     guestTerminal
	wake    chan struct{} // holds one notice that there is something to write
	resized chan struct{} // holds one notice that the window has another size

	mu      sync.Mutex
	model   *screen.Screen
	begun   bool // the first state has come
	rows    rows
	view    view
	notices notices

	// What the terminal shows when unwritten has been written: while live, what
	// the model shows, and output is added to unwritten as it comes.
	live      bool
	unwritten []byte
	scratch   []byte
	shown     *screen.Snapshot // while not live; nil: unknown
	mains     bool             // something was drawn on the terminal's main screen
	bells     uint64           // that the terminal has rung
	drawn     time.Time        // when something was painted last
	held      time.Time        // since when painting waits for the program
}

// guestTerminal is what a Painter needs of a terminal; *TTY is one.
type guestTerminal interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(time.Time) error
	Size() (Size, error)
	Resized() <-chan struct{}
}

// NewPainter returns a Painter for the terminal t, which should be raw while
// Run runs.
func NewPainter(t *TTY) *Painter { return newPainter(t) }

func newPainter(t guestTerminal) *Painter {
	size, _ := t.Size()
	return &Painter{
		tty:     t,
		wake:    make(chan struct{}, 1),
		resized: make(chan struct{}, 1),
		model:   newModel(DefaultSize),
		view:    view{window: size, shared: DefaultSize},
		rows:    rows{quiet: missedQuiet, ask: make(chan uint64, 1)},
	}
}

func (p *Painter) poke() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

// Log takes output of the shared terminal.
func (p *Painter) Log(_ uint64, output []byte) {
	p.mu.Lock()
	p.pass(output)
	p.mu.Unlock()
	p.poke()
}

// pass gives output to the model, and to the terminal if it is live.
func (p *Painter) pass(output []byte) {
	before := p.model.ScrollbackTotal()
	if !p.live {
		// The model has to know at any time what it would have let through.
		p.scratch = p.model.Pass(p.scratch[:0], output)
		p.rows.left += p.model.ScrollbackTotal() - before
		return
	}
	p.unwritten = p.model.Pass(p.unwritten, output)
	n := p.model.ScrollbackTotal() - before
	p.rows.left += n
	p.rows.kept += n
	if len(p.unwritten) > maxUnwritten {
		p.suspend()
	}
}

// suspend ends live output. What the terminal shows is not known then.
func (p *Painter) suspend() {
	p.live, p.shown = false, nil
	p.unwritten = nil
	if r := &p.rows; r.kept != r.sure {
		r.kept, r.stirred = r.sure, true
	}
}

// halt ends live output at a picture that is known.
func (p *Painter) halt(at *screen.Snapshot) {
	if p.live {
		p.live, p.shown, p.bells = false, at, at.Bells()
	}
}

// Frame takes what turns the state from into the state at pos, and returns
// that.
func (p *Painter) Frame(from *screen.Snapshot, _, _ uint64, frame []byte) (*screen.Snapshot, error) {
	size, scrolled, output, err := parseFrame(frame)
	if err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	defer p.poke()
	present := p.model.Snapshot()
	if from == present && p.view.shared == size {
		// The usual case: what turns the model turns the terminal as well.
		p.pass(output)
		p.rows.skip(scrolled)
	} else {
		resized := p.view.shared != size
		p.halt(present)
		p.leap(from, size, output)
		p.rows.leap(scrolled, resized && p.begun)
	}
	if p.rows.missing() {
		p.halt(p.model.Snapshot())
		p.rows.stirred = p.begun
	}
	if !p.begun {
		p.begun = true
		p.rows.joined = scrolled == 0
	}
	return p.model.Snapshot(), nil
}

// leap brings the model to the state that output makes of from. The terminal
// does not go by way of from.
func (p *Painter) leap(from *screen.Snapshot, size Size, output []byte) {
	if p.view.shared != size {
		p.view.shared = size
		p.view.clamp()
		p.suspend()
	}
	var fromSize Size
	if from != nil {
		fromSize.Cols, fromSize.Rows = from.Size()
	}
	if fromSize != size || size != modelSize(p.model) {
		p.model = screen.New(size.Cols, size.Rows, screen.Options{ScrollbackBytes: guestScrollback})
	}
	if fromSize == size {
		p.scratch = screen.AppendDiff(p.scratch[:0], p.model.Snapshot(), from)
		_, _ = p.model.Write(p.scratch)
	}
	p.scratch = p.model.Pass(p.scratch[:0], output)
}

func newModel(size Size) *screen.Screen {
	return screen.New(size.Cols, size.Rows, screen.Options{ScrollbackBytes: -1})
}

func modelSize(s *screen.Screen) Size {
	cols, rows := s.Size()
	return Size{Cols: cols, Rows: rows}
}

// Mark returns the present state.
func (p *Painter) Mark() *screen.Snapshot {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.model.Snapshot()
}

// Notice shows a line of text over the shared screen for some seconds.
func (p *Painter) Notice(text string) {
	p.mu.Lock()
	p.notices.add(text)
	p.mu.Unlock()
	p.poke()
}

// Status shows a line of text until another, or none, takes its place.
// Notices go before it.
func (p *Painter) Status(text string) {
	p.mu.Lock()
	p.notices.setStatus(text)
	p.mu.Unlock()
	p.poke()
}

// Repaint draws everything anew, for when something else has written to the
// terminal.
func (p *Painter) Repaint() {
	p.mu.Lock()
	p.suspend()
	p.mu.Unlock()
	p.poke()
}

// MoveView moves the part of the shared screen that is shown, by steps of half
// of it to the right and down, and reports whether only a part is shown. It
// stays there until FollowCursor.
func (p *Painter) MoveView(dx, dy int) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.view.partial() {
		return false
	}
	p.view.move(dx, dy)
	p.poke()
	return true
}

// FollowCursor shows the part of the shared screen around the cursor again.
func (p *Painter) FollowCursor() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view.pinned {
		p.view.pinned = false
		p.poke()
	}
}

// Sizes returns the sizes of the guest's window and of the shared screen.
func (p *Painter) Sizes() (window, shared Size) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view.window, p.view.shared
}

// Resized returns a channel that receives when the window has another size; see
// Sizes. It holds one notice: a burst of changes arrives as one.
func (p *Painter) Resized() <-chan struct{} { return p.resized }

// MapMouse is part of Mouse.
func (p *Painter) MapMouse(col, row int) (int, int, bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view.exact() {
		return col, row, true
	}
	x, y, ok := p.view.locate(col-1, row-1)
	// Pixels cannot be mapped without the size of a cell.
	return x + 1, y + 1, ok && !p.model.Snapshot().Mode(screen.ModeMousePixels)
}

// MouseUTF8 is part of Mouse.
func (p *Painter) MouseUTF8() bool { return p.Mark().Mode(screen.ModeMouseUTF8) }

// Run keeps the terminal up to date until ctx ends. Then it leaves the main
// screen with the cursor below what is on it, and returns nil; the modes are
// for TTY.Restore to undo. It returns an error when the terminal is gone.
func (p *Painter) Run(ctx context.Context) error {
	// A write that is blocked must not hold up the end.
	stop := context.AfterFunc(ctx, func() {
		_ = p.tty.SetWriteDeadline(time.Now().Add(leavePatience))
	})
	defer stop()
	timer := time.NewTimer(0)
	defer timer.Stop()
	resized := p.tty.Resized()
	p.resize()
	var buf []byte
	for ctx.Err() == nil {
		var wait time.Duration
		buf, wait = p.next(buf[:0], time.Now())
		if len(buf) > 0 {
			if _, err := p.tty.Write(buf); err != nil {
				if errors.Is(err, ErrRestored) {
					return nil
				}
				if ctx.Err() == nil {
					return err
				}
			}
			if cap(buf) > maxUnwritten {
				buf = nil
			}
			continue
		}
		if wait > 0 {
			timer.Reset(wait)
		} else {
			timer.Stop()
		}
		select {
		case <-ctx.Done():
		case <-p.wake:
		case <-timer.C:
		case _, ok := <-resized:
			if !ok {
				return nil
			}
			p.resize()
		}
	}
	return p.leave()
}

// resize follows the size of the guest's window.
func (p *Painter) resize() {
	size, err := p.tty.Size()
	if err != nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if size == p.view.window {
		return
	}
	p.view.window = size
	select {
	case p.resized <- struct{}{}:
	default:
	}
	p.view.clamp()
	// Terminals move their lines about when their size changes.
	p.suspend()
}

// next appends what is to be written now, and returns how long to wait, if
// there is nothing, before it is called again; 0 means until something comes.
func (p *Painter) next(dst []byte, now time.Time) ([]byte, time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.begun {
		return dst, 0
	}
	dst = append(dst, p.unwritten...)
	p.unwritten = p.unwritten[:0]
	p.rows.written(now)
	text, left := p.notices.text(now)
	if p.live {
		if text == "" {
			return dst, left
		}
		p.halt(p.model.Snapshot())
	}
	painted, wait := p.paint(dst, text, now)
	if len(painted) == len(dst) && (wait == 0 || left > 0 && left < wait) {
		wait = left
	}
	return painted, wait
}

// paint appends what brings the terminal to the present picture.
func (p *Painter) paint(dst []byte, text string, now time.Time) ([]byte, time.Duration) {
	snap := p.model.Snapshot()
	if wait := frameInterval - now.Sub(p.drawn); wait > 0 {
		return dst, wait
	}
	if p.model.Synchronized() && p.shown != nil {
		if p.held.IsZero() {
			p.held = now
		}
		if wait := heldPatience - now.Sub(p.held); wait > 0 {
			return dst, wait
		}
	}
	p.held = time.Time{}
	p.view.follow(snap.Cursor())
	exact := p.view.exact()
	mark := len(dst)
	if exact && !p.mains {
		p.mains = true
		dst = scrollAway(dst, p.view.window.Rows)
	}
	missing := exact && p.rows.missing()
	var wait time.Duration
	if missing && p.model.InGround() {
		var done bool
		if dst, done, wait = p.fill(dst, snap, text != "", now); done {
			missing, p.shown = false, nil
		}
	}
	if exact && text == "" && !missing && p.model.InGround() {
		dst = screen.AppendDiff(dst, p.shown, snap)
		p.live, p.shown = true, nil
	} else {
		picture := compose(snap, p.view, text)
		if p.shown == nil && !exact {
			dst, p.shown = startPainting(dst, p.view.window)
		}
		if exact {
			dst = screen.AppendDiffInPlace(dst, p.shown, picture)
		} else {
			dst = screen.AppendDiff(dst, p.shown, picture)
		}
		p.shown = picture
		if bells := snap.Bells(); bells > p.bells {
			dst = append(dst, '\a') // once, however many there were
		}
	}
	p.bells = snap.Bells()
	if len(dst) > mark {
		p.drawn = now
	}
	return dst, wait
}

// leave takes the cursor to where the guest's shell may go on.
func (p *Painter) leave() error {
	p.mu.Lock()
	var dst []byte
	if p.begun {
		snap := p.model.Snapshot()
		dst = append(dst, p.unwritten...)
		switch {
		case !p.view.exact():
			dst = append(dst, "\x1b\\\x1b[?1049l"...)
		case snap.Alternate():
			dst = append(dst, "\x1b\\\x1b[?1049l\x1b7\x1b[r\x1b8\r\n\x1b[J"...)
		case p.rows.missing():
			dst = screen.AppendDiff(p.fillNow(dst, snap, time.Now()), nil, snap)
			dst = appendBelow(append(dst, "\x1b\\"...), snap)
		case !p.live:
			// Take away the notice.
			dst = screen.AppendDiff(dst, p.shown, snap)
			fallthrough
		default:
			dst = appendBelow(append(dst, "\x1b\\"...), snap)
		}
	}
	p.mu.Unlock()
	_ = p.tty.SetWriteDeadline(time.Now().Add(leavePatience))
	_, err := p.tty.Write(dst)
	_ = p.tty.SetWriteDeadline(time.Time{})
	if err != nil && !isGone(err) {
		return nil // it was restored already, or takes no more
	}
	return err
}

// appendBelow moves the cursor to the line below the last one that has text.
func appendBelow(dst []byte, snap *screen.Snapshot) []byte {
	_, rows := snap.Size()
	last := snap.Cursor().Y
	for y := rows - 1; y > last; y-- {
		if len(snap.AppendRow(nil, y)) > 0 {
			last = y
			break
		}
	}
	dst = append(dst, "\x1b[?6l\x1b[r\x1b["...)
	dst = strconv.AppendInt(dst, int64(last+1), 10)
	return append(dst, ";1H\r\n"...)
}
