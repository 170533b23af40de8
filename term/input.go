package term

import (
	"bytes"
	"context"
	"errors"
	"iter"
	"os"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/pairterm/pairterm/term/paste"
)

// Bounds of what is typed and not read by the program, in bytes.
const (
	guestInputLimit = 64 << 10
	localInputLimit = 8 << 20 // a large paste, without the keys after it having to wait
	inputChunk      = 1024    // what one writer gets before the next one's turn
)

// tornPatience is how long at most nobody else's keys are written while the rest of one is
// due: a paste comes in pieces, which end anywhere. A plain Escape looks like the beginning
// of one, too.
const tornPatience = 30 * time.Millisecond

// maxClosed is how many inputs that are closed are kept until the program has read what was
// typed. Of more only a paste is ended.
const maxClosed = 32

// interruptRoom is how much more than its limit an input takes for an Interrupt that is
// none, in bytes.
const interruptRoom = 2 << 10

// cutPatience is the silence after which what somebody types is not the rest of a paste
// any more.
const cutPatience = 5 * time.Second

// Input is one typist's way into the shared terminal: the host's own keyboard
// or a guest. Each has a bounded queue of its own, so that none can hold up
// another; the host's own goes first, guests take turns.
//
// Its methods may be called from any goroutine, and none blocks. They satisfy
// the Input of package stream.
type Input struct {
	hub    *inputs
	limit  int
	ready  func()
	resize func(Size)

	// Guarded by hub.mu.
	queue   []byte
	starve  bool // Keys took less than it was offered
	closed  bool
	literal bool          // the last key typed has the driver take the next one as it is
	paste   paste.Tracker // of what was written
	// Not nil: the beginning of a paste is lost, and its rest is thrown away. It follows
	// what is typed; cutAt is when something of it was.
	cut   *paste.Tracker
	cutAt time.Time
}

// InputOptions are what an Input is made of.
type InputOptions struct {
	// Ready is called when Keys, which took less than all, would take more. It
	// must return at once.
	Ready func()
	// Resize is called when the guest's window has changed. It must return at
	// once.
	Resize func(Size)
}

// Keys takes typed bytes, and returns how many of them it took: less than all
// when the program does not read and too much is waiting already. It keeps no
// reference to p.
//
// A key that makes a signal (Ctrl-C, as the terminal is set) overtakes what
// waits before it, which is thrown away, as a terminal's driver would.
func (in *Input) Keys(p []byte) int {
	return in.hub.take(in, p)
}

// Interrupt takes keys that were typed to stop what was typed before: where they make
// signals, what waits of it is thrown away. It takes all of p.
func (in *Input) Interrupt(p []byte) { in.hub.interrupt(in, p) }

// Dropped says that what is typed does not come here for now. What waits is thrown away, and
// a paste that lacks its end is ended.
func (in *Input) Dropped() {
	in.hub.mu.Lock()
	if in.closed {
		in.hub.mu.Unlock()
		return
	}
	in.queue, in.cut, in.literal = in.queue[:0], nil, false
	in.closePasteLocked()
	starved := in.starve
	in.starve = false
	in.hub.mu.Unlock()
	in.hub.notify()
	if starved && in.ready != nil {
		in.ready()
	}
}

// Signals reports whether Ctrl-C makes a signal on the terminal now, instead of being a key
// for the program to read.
func (in *Input) Signals() bool {
	in.hub.mu.Lock()
	defer in.hub.mu.Unlock()
	return in.hub.signalsLocked().has(0x03)
}

// Resize says how large the guest's window is.
func (in *Input) Resize(cols, rows int) {
	if in.resize != nil {
		in.resize(Size{Cols: cols, Rows: rows}.Clamp())
	}
}

// onReady sets what is called when Keys would take more.
func (in *Input) onReady(f func()) {
	in.hub.mu.Lock()
	defer in.hub.mu.Unlock()
	in.ready = f
}

// Close ends the input. What was typed before still arrives, unless a crowd that has left
// waits to be read, and a paste that lacks its end is ended.
func (in *Input) Close() {
	in.hub.mu.Lock()
	defer in.hub.mu.Unlock()
	if in.hub.closedLocked() >= maxClosed {
		in.queue = nil
	}
	in.closePasteLocked()
	in.closed = true
	in.hub.removeClosedLocked()
	in.hub.notify()
}

// inputSink is what typed bytes go to; *process is one.
type inputSink interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(time.Time) error
	// signals returns the keys that make signals on the terminal now.
	signals() signalKeys
	flushInput()
}

// signalKeys are keys that a terminal's driver makes signals of; 0 stands for none.
type signalKeys struct {
	keys    [3]byte // VINTR, VQUIT, VSUSP
	literal byte    // VLNEXT: the driver takes the key after it as it is
}

// inputs gathers what is typed and writes it to the program, which may not
// read it for as long as it likes.
type inputs struct {
	wake chan struct{} // holds one notice that there is something to write

	mu      sync.Mutex
	sink    inputSink // nil before the program runs
	local   *Input
	guests  []*Input // in the order of their turns
	urgent  []byte   // goes first
	flush   bool     // before it, what the program has not read is thrown away
	unread  bool     // something was written since, and may not have been read
	front   Input    // stands for whose urgent is
	flight  *Input   // whose bytes are being written
	writing []byte   // these
	torn    *Input   // who was written last, up to somewhere within a key
	tornKey []byte   // as much of that as was written
	tornAt  time.Time
	abort   bool // the write under way was told to stop, for an interrupt
	drop    bool // and its rest is to be thrown away
}

func newInputs() *inputs {
	h := &inputs{wake: make(chan struct{}, 1)}
	h.local = &Input{hub: h, limit: localInputLimit}
	return h
}

// add returns a new guest's input.
func (h *inputs) add(o InputOptions) *Input {
	in := &Input{hub: h, limit: guestInputLimit, ready: o.Ready, resize: o.Resize}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests = append(h.guests, in)
	return in
}

// closedLocked returns how many inputs are closed, and wait for the program to read.
func (h *inputs) closedLocked() (n int) {
	for _, in := range h.guests {
		if in.closed {
			n++
		}
	}
	return n
}

// removeClosedLocked forgets inputs that are closed and of which nothing waits.
func (h *inputs) removeClosedLocked() {
	h.guests = slices.DeleteFunc(h.guests, func(in *Input) bool {
		return in.closed && len(in.queue) == 0 && in != h.flight
	})
}

func (h *inputs) notify() {
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// take queues what in typed.
func (h *inputs) take(in *Input, p []byte) int {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.closed {
		return len(p)
	}
	offered := len(p)
	keys := h.signalsInLocked(p)
	signals, rest := keys.split(p, in.literal)
	if in.cut != nil {
		if len(signals) == len(p) || time.Since(in.cutAt) > cutPatience {
			in.cut = nil // nobody pastes those alone, or so slowly
		} else {
			p = in.skipPaste(p)
			signals, rest = keys.split(p, in.literal)
		}
	}
	literal := in.literal
	if len(signals) > 0 {
		literal = false
		h.interruptLocked(in, signals)
	}
	n := len(rest)
	if room := max(in.limit-len(in.queue), 0); n > room {
		n = wholeKeys(rest[:room])
	}
	in.literal = keys.literalAfter(rest[:n], literal)
	in.starve = n < len(rest)
	in.queue = append(in.queue, rest[:n]...)
	h.notify()
	return offered - len(rest) + n
}

// cutPaste throws away the rest of a paste, if what was written ends within it, or within
// what may begin one.
func (in *Input) cutPaste() {
	if t := in.paste; in.cut == nil && (t.Inside() || t.Partial()) {
		in.cut, in.paste = &t, paste.Tracker{}
		in.queue = in.skipPaste(in.queue)
	}
}

// skipPaste throws away what p has of a paste that is cut, and returns what comes after it.
func (in *Input) skipPaste(p []byte) []byte {
	in.cutAt = time.Now()
	for i, c := range p {
		switch {
		case in.cut.Inside():
			if in.cut.Next(c); !in.cut.Inside() {
				in.cut = nil
				return p[i+1:]
			}
		case in.cut.Partial() && c != paste.Begin[0]:
			in.cut.Next(c)
		default: // no paste has begun
			in.cut = nil
			return p
		}
	}
	if in.cut.Inside() {
		return nil
	}
	return p
}

// closePasteLocked ends a paste that is open after all that waits.
func (in *Input) closePasteLocked() {
	end := in.paste
	if in.hub.flight == in {
		end.Feed(in.hub.writing)
	}
	end.Feed(in.queue)
	in.queue = append(in.queue, end.Closing()...)
}

// signalsLocked returns the keys that make signals.
func (h *inputs) signalsLocked() signalKeys {
	if h.sink == nil {
		return signalKeys{}
	}
	return h.sink.signals()
}

// signalsInLocked returns the keys that make signals, if any of them may be in p.
func (h *inputs) signalsInLocked(p []byte) signalKeys {
	if !slices.ContainsFunc(p, func(c byte) bool { return c < 0x20 || c == 0x7f }) {
		return signalKeys{}
	}
	return h.signalsLocked()
}

func (k signalKeys) has(c byte) bool { return c != 0 && slices.Contains(k.keys[:], c) }

// split returns the keys in p that make signals, and what follows the last of them: all of
// p if there are none. What was typed before such a key and is not read yet is not lost
// here but by the terminal's driver, when it comes to the key.
func (k signalKeys) split(p []byte, literal bool) (signals, rest []byte) {
	rest = p
	for i, c := range p {
		switch {
		case literal:
			literal = false
		case c != 0 && c == k.literal:
			literal = true
		case k.has(c):
			signals, rest = append(signals, c), p[i+1:]
		}
	}
	return signals, rest
}

// literalAfter reports whether the driver takes as it is what comes after p.
func (k signalKeys) literalAfter(p []byte, literal bool) bool {
	for _, c := range p {
		literal = !literal && c != 0 && c == k.literal
	}
	return literal
}

func (h *inputs) interrupt(in *Input, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.closed {
		return
	}
	in.literal = false
	signals, rest := h.signalsInLocked(p).split(p, false)
	if len(signals) > 0 {
		h.interruptLocked(in, signals)
	} else {
		// They are keys to the program by now, and the rest of a paste before them is lost.
		in.cut = nil
		in.closePasteLocked()
	}
	if len(in.queue)+len(rest) <= in.limit+interruptRoom {
		in.queue = append(in.queue, rest...)
	}
	h.notify()
}

// interruptLocked puts keys that make signals, which in typed, in front of everything, and
// throws away what waits of in. The same key many times in a row is as good as once: so is
// a signal that a program has not looked at.
//
// It makes way for them in the terminal's driver, too: with its buffers full of what the
// program does not read, it would never come to the keys. What is lost there may be the
// beginning of somebody else's paste, whose rest must not be taken for something typed.
func (h *inputs) interruptLocked(in *Input, signals []byte) {
	in.queue, in.paste, in.cut = in.queue[:0], paste.Tracker{}, nil
	for _, c := range signals {
		if n := len(h.urgent); n == 0 || h.urgent[n-1] != c && n < guestInputLimit {
			h.urgent = append(h.urgent, c)
		}
	}
	h.flush = true
	for other := range h.allLocked() {
		if other != in && other != h.flight {
			other.cutPaste()
		}
	}
	if h.flight != nil {
		h.abort = true
		h.drop = h.drop || h.flight == in
		_ = h.sink.SetWriteDeadline(time.Now().Add(-time.Second))
	}
}

// allLocked returns all inputs.
func (h *inputs) allLocked() iter.Seq[*Input] {
	return func(yield func(*Input) bool) {
		for i := -1; i < len(h.guests); i++ {
			in := h.local
			if i >= 0 {
				in = h.guests[i]
			}
			if !yield(in) {
				return
			}
		}
	}
}

// next returns the next bytes to write, in buf, and whose they are: nobody's if there is
// nothing to write, or nothing before wait has passed.
func (h *inputs) next(buf []byte) (p []byte, in *Input, wait time.Duration) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.urgent) > 0 {
		n := copy(buf, h.urgent)
		h.urgent = h.urgent[n:]
		h.flight, h.writing = &h.front, buf[:n]
		if h.flush && h.unread {
			h.sink.flushInput()
		}
		h.flush, h.unread = false, !h.flush
		return buf[:n], &h.front, 0
	}
	if in = h.turnLocked(); in == nil {
		return nil, nil, 0
	}
	if h.torn != nil && in != h.torn {
		if wait := tornPatience - time.Since(h.tornAt); wait > 0 {
			return nil, nil, wait
		}
	}
	if i := slices.Index(h.guests, in); i >= 0 {
		h.guests = append(slices.Delete(h.guests, i, i+1), in)
	}
	n := copy(buf, in.queue)
	if n < len(in.queue) {
		n = wholeKeys(buf[:n])
	}
	in.queue = in.queue[n:]
	h.flight, h.writing, h.unread = in, buf[:n], true
	return buf[:n], in, 0
}

// tearLocked notes whether p, which was written for in, ends within a key.
func (h *inputs) tearLocked(in *Input, p []byte) {
	before := h.torn
	if before == in {
		p = append(h.tornKey, p...)
	}
	h.torn, h.tornKey = nil, nil
	if n := halfKey(p); n > 0 {
		h.torn, h.tornKey = in, bytes.Clone(p[len(p)-n:])
		if before != in { // others wait for one half after another no longer
			h.tornAt = time.Now()
		}
	}
}

// turnLocked returns whose turn it is, nil if nothing waits: theirs of whom half a key was
// written, the host's, and then that guest's who has waited longest.
func (h *inputs) turnLocked() *Input {
	if in := h.torn; in != nil && len(in.queue) > 0 && time.Since(h.tornAt) < tornPatience {
		return in
	}
	if len(h.local.queue) > 0 {
		return h.local
	}
	if i := slices.IndexFunc(h.guests, func(in *Input) bool { return len(in.queue) > 0 }); i >= 0 {
		return h.guests[i]
	}
	return nil
}

// wholeKeys returns how many bytes of p to take or write before something else, so that
// no key is torn apart. Of a p that is but a part of a key it is all.
func wholeKeys(p []byte) int {
	if n := halfKey(p); n < len(p) {
		return len(p) - n
	}
	return len(p)
}

// halfKey returns how many bytes at the end of p are a part of a key: of a rune, or of a
// sequence.
func halfKey(p []byte) int {
	const longest = 32 // bytes of a key's sequence
	p = p[max(0, len(p)-longest):]
	if i := bytes.LastIndexByte(p, 0x1b); i >= 0 && !wholeSequence(p[i:]) {
		return len(p) - i
	}
	for n := 1; n <= min(utf8.UTFMax, len(p)); n++ {
		if tail := p[len(p)-n:]; utf8.RuneStart(tail[0]) {
			if utf8.FullRune(tail) {
				return 0
			}
			return n
		}
	}
	return 0
}

// wholeSequence reports whether a sequence, which begins p with its only Escape, is all
// there. Escape itself, the key, counts as the beginning of one.
func wholeSequence(p []byte) bool {
	switch {
	case len(p) < 2:
		return false
	case p[1] == 'O': // SS3
		return len(p) > 2
	case p[1] == '[' && len(p) > 2 && p[2] == 'M': // a mouse's, with three bytes after it
		return len(p) > 5
	case p[1] == '[': // CSI
		return slices.ContainsFunc(p[2:], func(c byte) bool { return c >= 0x40 && c <= 0x7e })
	}
	return true // a key with Alt
}

// wrote ends the write that next began: n bytes were taken. It reports whether to go on.
func (h *inputs) wrote(n int, err error) bool {
	h.mu.Lock()
	in, done, rest := h.flight, h.writing[:n], h.writing[n:]
	aborted := h.abort && errors.Is(err, os.ErrDeadlineExceeded)
	if h.abort {
		_ = h.sink.SetWriteDeadline(time.Time{})
	}
	if !aborted {
		rest = nil
	}
	switch {
	case h.drop: // and what it was the middle of
		h.torn = nil
	case in == &h.front:
		h.torn = nil
		h.urgent = slices.Insert(h.urgent, 0, rest...)
	default:
		h.tearLocked(in, done)
		in.paste.Feed(done)
		in.queue = slices.Insert(in.queue, 0, rest...)
		if h.abort {
			in.cutPaste()
		}
	}
	h.flight, h.writing, h.abort, h.drop = nil, nil, false, false
	var ready []func()
	for in := range h.allLocked() {
		if in.starve && len(in.queue) <= in.limit/2 {
			in.starve = false
			ready = append(ready, in.ready)
		}
	}
	h.removeClosedLocked()
	h.mu.Unlock()
	for _, f := range ready {
		if f != nil {
			f()
		}
	}
	return err == nil || aborted
}

// open sets what is typed to.
func (h *inputs) open(sink inputSink) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.sink = sink
}

// run writes what is typed until ctx ends, or until the sink is closed, which
// ends a write under way. open was called before.
func (h *inputs) run(ctx context.Context) {
	sink := h.sink
	buf := make([]byte, inputChunk)
	for {
		p, in, wait := h.next(buf)
		if in == nil {
			var patience <-chan time.Time
			if wait > 0 {
				patience = time.After(wait)
			}
			select {
			case <-h.wake:
			case <-patience:
			case <-ctx.Done():
				return
			}
			continue
		}
		n, err := sink.Write(p)
		if ctx.Err() != nil || !h.wrote(n, err) {
			return
		}
	}
}
