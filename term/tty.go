package term

import (
	"errors"
	"io"
	"os"
	"sync"
	"time"
)

var (
	// ErrNotTerminal means that what should be a terminal is a file or a pipe.
	ErrNotTerminal = errors.New("not a terminal")

	// ErrRestored is returned for writes to a terminal that is not, or no
	// longer, in pairterm's hands.
	ErrRestored = errors.New("terminal has been given back")
)

// restorePatience is how long Restore waits for a terminal that takes no more
// output, before it goes on without having undone the modes.
const restorePatience = time.Second

// TTY is the user's own terminal: raw for the time of a session, and given
// back as it was found. It remembers which modes went through it, so it can
// undo them at any byte.
//
// All methods may be called from any goroutine at any time.
type TTY struct {
	// Set once.
	in, out  *os.File       // the caller's, whose settings are changed
	r        deadlineReader // what is read
	w        *os.File       // what is written to
	writer   io.Writer      // what writes to w, for one caller at a time
	owned    []io.Closer    // r and w where they are our own
	pollable bool           // writes to w take deadlines

	// Held while the terminal changes hands: raw, suspended, restored.
	hands  sync.Mutex
	saved  *settings // what Restore goes back to; nil if there is nothing to do
	keeper *Keeper

	// Guarded by mu, which is never held across I/O.
	mu      sync.Mutex
	state   ttyState
	changed chan struct{} // closed and replaced when state changes
	watch   *watcher
	closed  bool

	// turn is held (full) by whoever writes.
	turn chan struct{}
	// Guarded by turn.
	tracker modeTracker
}

type ttyState uint8

const (
	ttyCooked    ttyState = iota // the shell's: nothing is written
	ttyRaw                       // ours
	ttySuspended                 // the shell's for a while: writers wait
)

// deadlineReader is what a terminal is read through.
type deadlineReader interface {
	io.Reader
	SetReadDeadline(time.Time) error
}

// OpenTTY returns the terminal that in and out are. It changes nothing yet.
// It fails with ErrNotTerminal when one of them is none. The two files stay
// the caller's; Close does not close them.
//
// Where the system allows, the terminal is opened once more, so that reads
// and writes can be interrupted without a change to the description that the
// caller shares with other processes.
func OpenTTY(in, out *os.File) (*TTY, error) {
	if !IsTerminal(in) || !IsTerminal(out) {
		return nil, ErrNotTerminal
	}
	t := &TTY{
		in:      in,
		out:     out,
		changed: make(chan struct{}),
		turn:    make(chan struct{}, 1),
	}
	t.open()
	return t, nil
}

// Read reads what is typed. It returns os.ErrDeadlineExceeded when the
// deadline of SetReadDeadline has passed.
func (t *TTY) Read(p []byte) (int, error) { return t.r.Read(p) }

// SetReadDeadline sets when a Read, also one under way, gives up. The zero
// time means never.
func (t *TTY) SetReadDeadline(d time.Time) error { return t.r.SetReadDeadline(d) }

// Write writes to the terminal as it is. It blocks while the terminal takes
// nothing, until Restore or Interrupt. It fails with ErrRestored when the
// terminal is not raw. While the terminal is suspended it waits; what a
// suspension interrupts is lost, and the repaint that follows puts it right.
func (t *TTY) Write(p []byte) (int, error) {
	for {
		t.turn <- struct{}{}
		state, changed := t.current()
		if state == ttyRaw {
			break
		}
		<-t.turn
		if state == ttyCooked {
			return 0, ErrRestored
		}
		<-changed
	}
	defer func() { <-t.turn }()
	t.follow(p)
	n, err := t.writer.Write(p)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		switch state, _ := t.current(); state {
		case ttySuspended:
			return len(p), nil
		case ttyCooked:
			return n, ErrRestored
		}
	}
	return n, err
}

// SetWriteDeadline sets when a Write, also one under way, gives up with
// os.ErrDeadlineExceeded; the zero time means never. Raw and Restore reset it.
// It returns os.ErrNoDeadline where the system cannot interrupt writes.
func (t *TTY) SetWriteDeadline(d time.Time) error {
	if !t.pollable {
		return os.ErrNoDeadline
	}
	return t.w.SetWriteDeadline(d)
}

// follow notes what p changes in the terminal, and tells the keeper before
// the terminal sees it.
func (t *TTY) follow(p []byte) {
	before := t.tracker.modes
	t.tracker.track(p)
	if t.tracker.modes != before {
		t.keeper.undo(t.tracker.appendUndo(nil))
	}
}

func (t *TTY) current() (ttyState, <-chan struct{}) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.state, t.changed
}

// set changes the state and returns the one before.
func (t *TTY) set(state ttyState) ttyState {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.state
	t.state = state
	close(t.changed)
	t.changed = make(chan struct{})
	return before
}

// Raw takes the terminal: every key comes through as it is typed, nothing is
// echoed, output is not touched. It does nothing when the terminal is raw.
func (t *TTY) Raw() error {
	taken, err := t.take()
	if err != nil || !taken {
		return err
	}
	_, err = t.Write([]byte(pushTitle))
	return err
}

func (t *TTY) take() (taken bool, err error) {
	t.hands.Lock()
	defer t.hands.Unlock()
	if state, _ := t.current(); state == ttyRaw {
		return false, nil
	}
	saved, raw, err := t.makeRaw()
	if err != nil {
		return false, err
	}
	t.saved = saved
	t.keeper.raw(saved, raw)
	if t.pollable {
		_ = t.w.SetWriteDeadline(time.Time{})
	}
	t.set(ttyRaw)
	return true, nil
}

// Again makes the terminal raw once more if it should be: a shell that had it
// meanwhile may have changed its settings. It reports whether the terminal is
// raw now, in which case all of it has to be painted again.
func (t *TTY) Again() bool {
	suspended, ok := t.takeAgain()
	if ok && suspended {
		_, _ = t.Write([]byte(pushTitle))
	}
	return ok
}

func (t *TTY) takeAgain() (suspended, ok bool) {
	t.hands.Lock()
	defer t.hands.Unlock()
	state, _ := t.current()
	if state == ttyCooked {
		return false, false
	}
	_, raw, err := t.makeRaw()
	if err != nil {
		return false, false
	}
	t.keeper.raw(t.saved, raw)
	t.set(ttyRaw)
	return state == ttySuspended, true
}

// Restore gives the terminal back: all modes that were passed on are undone,
// and its settings are those that Raw found. Writers that are blocked return.
// It takes at most about two seconds, also when the terminal takes no output.
// It does nothing when the terminal is not raw, and it may be called any
// number of times, from deferred functions and signal handlers; a call
// returns when the terminal is back. A terminal that is gone is no error.
func (t *TTY) Restore() error {
	t.hands.Lock()
	defer t.hands.Unlock()
	if state, _ := t.current(); state == ttyCooked {
		return nil
	}
	return t.giveBack(ttyCooked)
}

// Suspend gives the terminal back for a while: Raw or Again takes it again,
// and writers wait until then. It does nothing when the terminal is not raw.
func (t *TTY) Suspend() error {
	t.hands.Lock()
	defer t.hands.Unlock()
	if state, _ := t.current(); state != ttyRaw {
		return nil
	}
	return t.giveBack(ttySuspended)
}

// giveBack undoes what was done to the terminal. The caller holds hands.
func (t *TTY) giveBack(state ttyState) error {
	before := t.set(state)
	if before == ttyRaw && t.mayTouch() {
		t.writeUndo()
		if err := t.restore(t.saved); err != nil && !isGone(err) {
			return err
		}
	}
	t.keeper.cooked()
	return nil
}

// writeUndo interrupts whoever writes and undoes the modes.
func (t *TTY) writeUndo() {
	if t.pollable {
		_ = t.w.SetWriteDeadline(time.Now().Add(-time.Second))
	}
	select {
	case t.turn <- struct{}{}:
	case <-time.After(restorePatience):
		return // a write that cannot be interrupted holds the terminal
	}
	undo := t.tracker.appendUndo(nil)
	t.tracker = modeTracker{}
	if t.pollable {
		_ = t.w.SetWriteDeadline(time.Now().Add(restorePatience))
		_, _ = t.writer.Write(undo)
		_ = t.w.SetWriteDeadline(time.Time{})
		<-t.turn
		return
	}
	written := make(chan struct{})
	go func() {
		_, _ = t.writer.Write(undo)
		<-t.turn
		close(written)
	}()
	select {
	case <-written:
	case <-time.After(restorePatience):
	}
}

// Resized returns a channel that receives when the terminal may have another
// size. It holds one notice: a burst of changes arrives as one. It is closed
// by Close.
func (t *TTY) Resized() <-chan struct{} {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.watch == nil {
		t.watch = newWatcher(t)
		if t.closed {
			t.watch.stop()
		}
	}
	return t.watch.resized
}

// Close restores the terminal and frees what the TTY holds. It ends the
// keeper. Reads and writes fail from then on.
func (t *TTY) Close() error {
	err := t.Restore()
	t.mu.Lock()
	if t.closed {
		t.mu.Unlock()
		return err
	}
	t.closed = true
	watch := t.watch
	t.mu.Unlock()
	if watch != nil {
		watch.stop()
	}
	t.hands.Lock()
	keeper := t.keeper
	t.keeper = nil
	t.hands.Unlock()
	keeper.close()
	for _, f := range t.owned {
		err = errors.Join(err, f.Close())
	}
	return err
}

// watcher tells of changes of size. Its goroutine belongs to the TTY.
type watcher struct {
	resized chan struct{}
	quit    chan struct{}
	done    chan struct{}
}

func newWatcher(t *TTY) *watcher {
	w := &watcher{
		resized: make(chan struct{}, 1),
		quit:    make(chan struct{}),
		done:    make(chan struct{}),
	}
	ready := make(chan struct{})
	go func() {
		defer close(w.done)
		defer close(w.resized)
		w.run(t, ready)
	}()
	<-ready
	return w
}

func (w *watcher) notify() {
	select {
	case w.resized <- struct{}{}:
	default:
	}
}

func (w *watcher) stop() {
	close(w.quit)
	<-w.done
}
