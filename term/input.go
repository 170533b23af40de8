package term

import (
	"context"
	"errors"
	"os"
	"slices"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// Bounds of what is typed and not read by the program, in bytes.
const (
	guestInputLimit = 64 << 10
	localInputLimit = 1 << 20 // a large paste, without the terminal being stopped
	inputChunk      = 1024    // what one writer gets before the next one's turn
)

// Input is one typist's way into the shared terminal: the host's own keyboard
// or a guest. Each has a bounded queue of its own, so that none can hold up
// another; the host's own goes first, guests take turns.
//
// Its methods may be called from any goroutine, and none blocks. They satisfy
// the Input of package stream.
type Input struct {
	hub    *inputs
	limit  int
	typing atomic.Bool
	ready  func()
	resize func(Size)

	// Guarded by hub.mu.
	queue  []byte
	starve bool // Keys took less than it was offered
	closed bool
}

// InputOptions are what an Input is made of.
type InputOptions struct {
	// Typing lets what is typed through. Without it, it is thrown away.
	Typing bool
	// Ready is called when Keys, which took less than all, would take more. It
	// must return at once.
	Ready func()
	// Resize is called when the guest's window has changed. It must return at
	// once.
	Resize func(Size)
}

// SetTyping changes whether what is typed goes through.
func (in *Input) SetTyping(on bool) {
	in.typing.Store(on)
	if !on {
		in.hub.mu.Lock()
		in.queue = in.queue[:0]
		in.hub.mu.Unlock()
	}
}

// Keys takes typed bytes, and returns how many of them it took: less than all
// when the program does not read and too much is waiting already. It keeps no
// reference to p.
//
// A key that makes a signal (Ctrl-C, as the terminal is set) overtakes what
// waits before it, which is thrown away, as a terminal's driver would.
func (in *Input) Keys(p []byte) int {
	if !in.typing.Load() {
		return len(p)
	}
	return in.hub.take(in, p)
}

// Interrupt takes keys that were typed to stop what was typed before: what
// waits of it is thrown away. All of p is taken.
func (in *Input) Interrupt(p []byte) {
	if in.typing.Load() {
		in.hub.interrupt(in, p)
	}
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

// Close ends the input. What was typed before still arrives.
func (in *Input) Close() {
	in.hub.mu.Lock()
	defer in.hub.mu.Unlock()
	in.closed = true
	if len(in.queue) == 0 {
		in.hub.remove(in)
	}
}

// inputSink is what typed bytes go to; *process is one.
type inputSink interface {
	Write(p []byte) (int, error)
	SetWriteDeadline(time.Time) error
	interrupts() (keys [3]byte, ok bool)
	flushInput()
}

// inputs gathers what is typed and writes it to the program, which may not
// read it for as long as it likes.
type inputs struct {
	wake chan struct{} // holds one notice that there is something to write

	mu     sync.Mutex
	sink   inputSink // nil before the program runs
	local  *Input
	guests []*Input // in the order of their turns
	urgent []byte   // goes first
	flush  bool     // before it, what the program has not read is thrown away
	unread bool     // something was written since, and may not have been read
	flight *Input   // whose bytes are being written
	abort  bool     // the write under way was told to stop, for an interrupt
	drop   bool     // and its rest is to be thrown away
}

func newInputs() *inputs {
	h := &inputs{wake: make(chan struct{}, 1)}
	h.local = &Input{hub: h, limit: localInputLimit}
	h.local.typing.Store(true)
	return h
}

// add returns a new guest's input.
func (h *inputs) add(o InputOptions) *Input {
	in := &Input{hub: h, limit: guestInputLimit, ready: o.Ready, resize: o.Resize}
	in.typing.Store(o.Typing)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.guests = append(h.guests, in)
	return in
}

// remove forgets in. The caller holds mu.
func (h *inputs) remove(in *Input) {
	if i := slices.Index(h.guests, in); i >= 0 {
		h.guests = slices.Delete(h.guests, i, i+1)
	}
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
	rest := p
	if len(in.queue) > 0 || h.flight != nil || h.unread {
		var signals []byte
		if signals, rest = h.signalsLocked(p); len(signals) > 0 {
			h.overtakeLocked(in, signals)
			h.interruptLocked(in)
		}
	}
	n := min(len(rest), in.limit-len(in.queue))
	in.starve = n < len(rest)
	in.queue = append(in.queue, rest[:n]...)
	h.notify()
	return len(p) - len(rest) + n
}

// signalsLocked returns the keys in p that make signals, and what follows the last of
// them: all of p if there are none. What was typed before such a key and is not read yet
// is not lost here but by the terminal's driver, when it comes to the key.
func (h *inputs) signalsLocked(p []byte) (signals, rest []byte) {
	if h.sink == nil || !slices.ContainsFunc(p, func(c byte) bool { return c < 0x20 || c == 0x7f }) {
		return nil, p
	}
	keys, ok := h.sink.interrupts()
	if !ok {
		return nil, p
	}
	rest = p
	for i, c := range p {
		if c != 0 && slices.Contains(keys[:], c) {
			signals, rest = append(signals, c), p[i+1:]
		}
	}
	return signals, rest
}

func (h *inputs) interrupt(in *Input, p []byte) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if in.closed {
		return
	}
	h.overtakeLocked(in, p)
	if signals, _ := h.signalsLocked(p); len(signals) > 0 {
		h.interruptLocked(in)
	}
	h.notify()
}

// overtakeLocked puts p in front of everything, and throws away what waits of in.
func (h *inputs) overtakeLocked(in *Input, p []byte) {
	in.queue = in.queue[:0]
	if len(h.urgent)+len(p) <= guestInputLimit {
		h.urgent = append(h.urgent, p...)
	}
}

// interruptLocked makes way in the terminal's driver for a key that in typed: with its
// buffers full of what the program does not read, it would never come to the key.
func (h *inputs) interruptLocked(in *Input) {
	h.flush = true
	if h.flight != nil {
		h.abort = true
		h.drop = h.drop || h.flight == in
		_ = h.sink.SetWriteDeadline(time.Now().Add(-time.Second))
	}
}

// next returns the next bytes to write, in buf, and whose they are.
func (h *inputs) next(buf []byte) ([]byte, *Input) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if len(h.urgent) > 0 {
		n := copy(buf, h.urgent)
		h.urgent = h.urgent[n:]
		h.flight = h.local
		if h.flush && h.unread {
			h.sink.flushInput()
		}
		h.flush, h.unread = false, !h.flush
		return buf[:n], h.local
	}
	in := h.local
	if len(in.queue) == 0 {
		i := slices.IndexFunc(h.guests, func(in *Input) bool { return len(in.queue) > 0 })
		if i < 0 {
			return nil, nil
		}
		in = h.guests[i]
		h.guests = append(slices.Delete(h.guests, i, i+1), in)
	}
	n := copy(buf, in.queue)
	if n < len(in.queue) {
		n = wholeKeys(buf[:n])
	}
	in.queue = in.queue[n:]
	h.flight, h.unread = in, true
	return buf[:n], in
}

// wholeKeys returns how many bytes of p to write before another typist's, so
// that no key is torn apart: not in the middle of a rune, nor of what looks
// like a sequence.
func wholeKeys(p []byte) int {
	const longest = 32 // bytes of a key's sequence
	end := len(p)
	for i := end - 1; i >= max(1, end-longest); i-- {
		if p[i] == 0x1b {
			return i
		}
	}
	for i := end - 1; i >= max(1, end-utf8.UTFMax); i-- {
		if utf8.RuneStart(p[i]) {
			if !utf8.FullRune(p[i:]) {
				return i
			}
			break
		}
	}
	return end
}

// wrote ends the write that next began: rest was not taken. It reports whether
// to go on.
func (h *inputs) wrote(in *Input, rest []byte, err error) bool {
	h.mu.Lock()
	h.flight = nil
	aborted := h.abort && errors.Is(err, os.ErrDeadlineExceeded)
	if h.abort {
		_ = h.sink.SetWriteDeadline(time.Time{})
	}
	if aborted && !h.drop && len(rest) > 0 {
		in.queue = slices.Insert(in.queue, 0, rest...)
	}
	h.abort, h.drop = false, false
	var ready func()
	if in.starve && len(in.queue) <= in.limit/2 {
		in.starve = false
		ready = in.ready
	}
	if in.closed && len(in.queue) == 0 {
		h.remove(in)
	}
	h.mu.Unlock()
	if ready != nil {
		ready()
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
		p, in := h.next(buf)
		if in == nil {
			select {
			case <-h.wake:
				continue
			case <-ctx.Done():
				return
			}
		}
		n, err := sink.Write(p)
		if ctx.Err() != nil || !h.wrote(in, p[n:], err) {
			return
		}
	}
}
